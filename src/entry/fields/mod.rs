//! The fields of a response as they are kept: one block, which nobody writes to.
//!
//! An answer gets a map whose values are in a block of its own, so that two answers from one entry have no reference
//! count in common: every core that serves the entry would write to that.

mod answer;
mod block;
mod known;
mod template;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};
use smallvec::SmallVec;

pub(crate) use self::answer::Purpose;
use self::block::block;
use crate::semantics::freshness::{number_text, number_value};

/// Field lines, in the order in which they are given.
///
/// ```text
/// bytes: names of all lines | values of all lines | texts of those that have one
/// name:  u8 known name, or 0xff | varint length | text
/// value: varint 4 * length of the text   + 0   the next text
///               4 * length of the text   + 1   the same, and it is sensitive
///               4 * number below 10,000  + 2
/// ```
#[derive(Clone)]
pub(crate) struct FieldLines {
    bytes: Box<[u8]>,
    /// No other lines have it, except clones.
    id: u64,
    /// Where the values begin.
    values: u32,
    /// Where the texts begin.
    texts: u32,
}

const UNKNOWN_NAME: u8 = 0xff;

/// Bytes in the making.
type Buffer = SmallVec<[u8; 64]>;

#[derive(Clone, Copy)]
enum Name<'a> {
    Known(&'static HeaderName),
    Other(&'a str),
}

impl<'a> Name<'a> {
    fn as_str(self) -> &'a str {
        match self {
            Self::Known(name) => name.as_str(),
            Self::Other(name) => name,
        }
    }

    fn is(self, other: &HeaderName) -> bool {
        match self {
            Self::Known(name) => name == other,
            Self::Other(name) => name == other.as_str(),
        }
    }

    /// `None` for what is no name, which nothing is that was one.
    fn parsed(self) -> Option<HeaderName> {
        match self {
            Self::Known(name) => Some(name.clone()),
            Self::Other(name) => HeaderName::from_lowercase(name.as_bytes()).ok(),
        }
    }
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Text { text: &'a [u8], is_sensitive: bool },
}

impl<'a> Value<'a> {
    fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Number(number) => number_text(number).unwrap_or_default().as_bytes(),
            Self::Text { text, .. } => text,
        }
    }

    /// What of it is in the block of an answer.
    fn text(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Text { text, .. } => text,
        }
    }

    /// The value, of which the text is the next in `block`; `None` for what is none, which nothing is that was one.
    #[inline]
    fn parsed(self, block: &mut Bytes) -> Option<HeaderValue> {
        match self {
            Self::Number(number) => number_value(number),
            Self::Text { text, is_sensitive } => {
                let mut value = HeaderValue::from_maybe_shared(block.split_to(text.len())).ok()?;
                if is_sensitive {
                    value.set_sensitive(true);
                }
                Some(value)
            }
        }
    }
}

impl FieldLines {
    pub(crate) fn of<'a>(fields: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Self {
        let (mut names, mut values) = (Buffer::new(), Buffer::new());
        let mut texts = SmallVec::<[&[u8]; 24]>::new();
        for (name, value) in fields {
            match known::name_id(name) {
                Some(id) => names.push(id),
                None => {
                    names.push(UNKNOWN_NAME);
                    put_varint(&mut names, name.as_str().len());
                    names.extend_from_slice(name.as_str().as_bytes());
                }
            }
            let text = value.as_bytes();
            let code = if value.is_sensitive() {
                4 * text.len() + 1
            } else if let Some(number) = small_number(text) {
                4 * number + 2
            } else {
                4 * text.len()
            };
            if code % 4 < 2 {
                texts.push(text);
            }
            put_varint(&mut values, code);
        }
        let end = names.len() + values.len();
        let length = end + texts.iter().map(|text| text.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&names);
        bytes.extend_from_slice(&values);
        texts.iter().for_each(|text| bytes.extend_from_slice(text));
        // A map has at most 32,768 lines, so neither is cut.
        let [values, texts] = [names.len(), end].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        Self { bytes: bytes.into_boxed_slice(), id: new_id(), values, texts }
    }

    fn names(&self) -> &[u8] {
        &self.bytes[..self.values as usize]
    }

    fn values(&self) -> Values<'_> {
        let (codes, texts) = self.bytes[self.values as usize..].split_at((self.texts - self.values) as usize);
        Values { codes, texts }
    }

    fn lines(&self) -> impl Iterator<Item = (Name<'_>, Value<'_>)> {
        Names(self.names()).zip(self.values())
    }

    pub(crate) fn view(&self) -> Fields<'_> {
        Fields { lines: self }
    }

    /// Bytes of heap memory held.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len()
    }

    /// A map of the fields that are kept by their name, with room for more.
    pub(crate) fn to_map(&self, keeps: impl Fn(&str) -> bool, room: usize) -> HeaderMap {
        let kept = || self.lines().filter(|(name, _)| keeps(name.as_str()));
        let (count, length) =
            kept().fold((0, 0), |(count, length), (_, value)| (count + 1, length + value.text().len()));
        let mut block = block(length, kept().map(|(_, value)| value.text()));
        let mut map = HeaderMap::with_capacity(count + room);
        for (name, value) in kept() {
            if let (Some(name), Some(value)) = (name.parsed(), value.parsed(&mut block)) {
                map.append(name, value);
            }
        }
        map
    }
}

/// The same lines, in the same order.
impl PartialEq for FieldLines {
    fn eq(&self, other: &Self) -> bool {
        (&self.bytes, self.values, self.texts) == (&other.bytes, other.values, other.texts)
    }
}

impl Eq for FieldLines {}

/// Like the map.
impl fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_map(|_| true, 0).fmt(f)
    }
}

struct Names<'a>(&'a [u8]);

impl<'a> Iterator for Names<'a> {
    type Item = Name<'a>;

    #[inline]
    fn next(&mut self) -> Option<Name<'a>> {
        let (&id, rest) = self.0.split_first()?;
        self.0 = rest;
        if let Some(name) = known::name(id) {
            return Some(Name::Known(name));
        }
        let length = take_varint(&mut self.0)?;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Name::Other(std::str::from_utf8(name).ok()?))
    }
}

struct Values<'a> {
    codes: &'a [u8],
    texts: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        let code = take_varint(&mut self.codes)?;
        let number = code / 4;
        Some(match code % 4 {
            2 => Value::Number(number as u64),
            kind => {
                let (text, rest) = self.texts.split_at_checked(number)?;
                self.texts = rest;
                Value::Text { text, is_sensitive: kind == 1 }
            }
        })
    }
}

/// The fields of a stored response, to be read. A field of several lines is there several times.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    lines: &'a FieldLines,
}

impl<'a> Fields<'a> {
    /// The value of the first line of a field.
    #[inline]
    pub fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// The values of all lines of a field.
    pub fn get_all(self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.lines.lines().filter(move |(own, _)| own.is(name)).map(|(_, value)| value.as_bytes())
    }

    /// Whether there is such a field.
    pub fn contains(self, name: &HeaderName) -> bool {
        Names(self.lines.names()).any(|own| own.is(name))
    }

    /// Names, in lower case, and values.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.lines.lines().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.fmt(f)
    }
}

fn new_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A number below 10,000 in its only form.
fn small_number(text: &[u8]) -> Option<usize> {
    if text.len() > 4 || text.is_empty() || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| usize::from(byte - b'0'));
    text.iter().try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))
}

fn put_varint(bytes: &mut Buffer, number: usize) {
    let mut rest = number;
    while rest >= 0x80 {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

#[inline]
fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}
