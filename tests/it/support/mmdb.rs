//! Writes databases in MaxMind's format, version 2.0, as small as tests need them.
//!
//! ```text
//! search tree: nodes of two records of 24, 28 or 32 bits each, which name a node, nothing (the count of nodes), or
//!     a place in the data (that count + 16 + the place)
//! 16 zero bytes | data | "\xab\xcd\xefMaxMind.com" | metadata, a map
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a record is made of.
#[derive(Clone, Debug)]
pub enum Value {
    Double(f64),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
    Text(String),
    U16(u16),
    U32(u32),
    U64(u64),
}

pub fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub fn map(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Map(entries.into_iter().collect())
}

/// Names in English.
pub fn named(name: &str) -> Value {
    map([("en", text(name))])
}

/// A database to be written.
#[derive(Clone, Debug)]
pub struct Mmdb {
    bits: u16,
    ip_version: u16,
    kind: &'static str,
    /// Bits of a network, and its record.
    networks: Vec<(Vec<bool>, Value)>,
}

/// A record of a node.
#[derive(Clone, Copy)]
enum Place {
    Data(usize),
    Node(usize),
    Nothing,
}

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

impl Mmdb {
    /// For addresses of both kinds.
    pub fn new(kind: &'static str) -> Self {
        Self { bits: 24, ip_version: 6, kind, networks: Vec::new() }
    }

    /// Bits of a record: 24, 28 or 32.
    pub fn bits(self, bits: u16) -> Self {
        Self { bits, ..self }
    }

    /// Only for IPv4 addresses; said before the networks.
    pub fn v4_only(self) -> Self {
        Self { ip_version: 4, ..self }
    }

    pub fn network(mut self, network: &str, record: Value) -> Self {
        let (address, length) = network.split_once('/').unwrap();
        let (whole, before) = match address.parse::<IpAddr>().unwrap() {
            IpAddr::V4(address) => {
                let before = if self.ip_version == 6 { 96 } else { 0 };
                (u128::from(u32::from(address)) << 96 >> before, before)
            }
            IpAddr::V6(address) => (u128::from(address), 0),
        };
        let length = before + length.parse::<usize>().unwrap();
        let bits = (0..length).map(|bit| whole >> (127 - bit) & 1 == 1).collect();
        self.networks.push((bits, record));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut data = Data::default();
        let mut networks: Vec<_> =
            self.networks.iter().map(|(bits, record)| (bits, data.record(record))).collect();
        // A network within another one comes after that.
        networks.sort_by_key(|(bits, _)| bits.len());
        let mut tree = vec![[Place::Nothing; 2]];
        for (bits, place) in networks {
            insert(&mut tree, bits, place);
        }
        let mut bytes = Vec::new();
        for node in &tree {
            let [left, right] = node.map(|place| match place {
                Place::Data(place) => tree.len() + 16 + place,
                Place::Node(node) => node,
                Place::Nothing => tree.len(),
            });
            let (left, right) = (u32::try_from(left).unwrap(), u32::try_from(right).unwrap());
            match self.bits {
                24 => {
                    bytes.extend_from_slice(&left.to_be_bytes()[1..]);
                    bytes.extend_from_slice(&right.to_be_bytes()[1..]);
                }
                28 => {
                    bytes.extend_from_slice(&left.to_be_bytes()[1..]);
                    // The highest four bits of both.
                    bytes.push((left >> 24 << 4 | right >> 24) as u8);
                    bytes.extend_from_slice(&right.to_be_bytes()[1..]);
                }
                _ => {
                    bytes.extend_from_slice(&left.to_be_bytes());
                    bytes.extend_from_slice(&right.to_be_bytes());
                }
            }
        }
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&data.bytes);
        bytes.extend_from_slice(MARKER);
        let mut metadata = Data::default();
        metadata.record(&map([
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(1_790_000_000)),
            ("database_type", text(self.kind)),
            ("description", named("made by a test")),
            ("ip_version", Value::U16(self.ip_version)),
            ("languages", Value::List(vec![text("en")])),
            ("node_count", Value::U32(u32::try_from(tree.len()).unwrap())),
            ("record_size", Value::U16(self.bits)),
        ]));
        bytes.extend_from_slice(&metadata.bytes);
        bytes
    }
}

fn insert(tree: &mut Vec<[Place; 2]>, bits: &[bool], place: usize) {
    let (last, way) = bits.split_last().unwrap();
    let mut node = 0;
    for bit in way {
        let found = tree[node][usize::from(*bit)];
        node = match found {
            Place::Node(next) => next,
            // The network around it goes on beside it.
            Place::Data(_) | Place::Nothing => {
                tree.push([found; 2]);
                let next = tree.len() - 1;
                tree[node][usize::from(*bit)] = Place::Node(next);
                next
            }
        };
    }
    tree[node][usize::from(*last)] = Place::Data(place);
}

/// The section of data. A text that is there already is pointed to.
#[derive(Default)]
struct Data {
    bytes: Vec<u8>,
    texts: BTreeMap<String, usize>,
}

impl Data {
    /// Where the record begins.
    fn record(&mut self, value: &Value) -> usize {
        let place = self.bytes.len();
        self.put(value);
        place
    }

    fn put(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.put_text(text),
            Value::Double(number) => self.put_sized(3, &number.to_be_bytes()),
            Value::U16(number) => self.put_number(5, &number.to_be_bytes()),
            Value::U32(number) => self.put_number(6, &number.to_be_bytes()),
            Value::U64(number) => self.put_number(9, &number.to_be_bytes()),
            Value::List(members) => {
                self.control(11, members.len());
                members.iter().for_each(|member| self.put(member));
            }
            Value::Map(entries) => {
                self.control(7, entries.len());
                for (name, value) in entries {
                    self.put_text(name);
                    self.put(value);
                }
            }
        }
    }

    fn put_text(&mut self, text: &str) {
        match self.texts.get(text) {
            // A pointer of 19 bits, less 2,048.
            Some(place) if *place >= 2048 => {
                let short = place - 2048;
                self.bytes.extend([1 << 5 | 1 << 3 | (short >> 16) as u8, (short >> 8) as u8, *place as u8]);
            }
            Some(place) => self.bytes.extend([1 << 5 | (place >> 8) as u8, *place as u8]),
            None => {
                self.texts.insert(text.to_owned(), self.bytes.len());
                self.put_sized(2, text.as_bytes());
            }
        }
    }

    /// Without leading zeros.
    fn put_number(&mut self, kind: u8, bytes: &[u8]) {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        self.put_sized(kind, &bytes[start..]);
    }

    fn put_sized(&mut self, kind: u8, payload: &[u8]) {
        self.control(kind, payload.len());
        self.bytes.extend_from_slice(payload);
    }

    /// Three bits of kind, or zeros and a byte, and five bits of size, or what is above them.
    fn control(&mut self, kind: u8, size: usize) {
        let (in_byte, after) = match size {
            0..29 => (size, None),
            29..285 => (29, Some(size - 29)),
            _ => panic!("no test needs {size}"),
        };
        let first = if kind < 8 { kind << 5 } else { 0 };
        self.bytes.push(first | in_byte as u8);
        if kind >= 8 {
            self.bytes.push(kind - 7);
        }
        self.bytes.extend(after.map(|size| size as u8));
    }
}
