//! Selecting fields as bytes.
//!
//! ```text
//! u32 count | names of registered codings, where `Accept-Encoding` is not among the fields
//! u32 count | fields: name | value, or absent | u8 0, or what it says (`accept/written.rs`)
//! ```
//!
//! Names and values have a `u32` with their length before them; 0xffffffff is that of an absent one. Integers are
//! little-endian.

use std::collections::BTreeSet;

use http::HeaderValue;
use http::header::{self, HeaderName};

use super::{Field, LONGEST, Selecting};
use crate::semantics::accept::Meaning;
use crate::semantics::bytes::{Reader, put, put_count};
use crate::semantics::coding::Coded;

impl Selecting {
    /// The selecting fields as bytes, for stores that write responses down.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::semantics::Rules;
    /// use larder::semantics::vary::Selecting;
    /// let (mut response, mut request) = (HeaderMap::new(), HeaderMap::new());
    /// response.insert("vary", "accept-language".parse().unwrap());
    /// request.insert("accept-language", "de, en".parse().unwrap());
    /// let selecting = Selecting::of(&response, &request, &Rules::default()).unwrap();
    /// assert_eq!(Selecting::from_bytes(&selecting.to_bytes()), Some(selecting));
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// What [`Selecting::to_bytes`] has written; `None` where nothing is written so.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Self::read(&mut reader).filter(|_| reader.is_empty())
    }

    pub(crate) fn write(&self, target: &mut Vec<u8>) {
        let codings = self.coded.as_ref().map_or(&[][..], |coded| coded.names());
        put_count(target, codings.len());
        codings.iter().for_each(|coding| put(target, Some(coding)));
        put_count(target, self.fields.len());
        for field in &self.fields {
            put(target, Some(field.name.as_str().as_bytes()));
            put(target, field.value.as_deref());
            match &field.meaning {
                None => target.push(0),
                Some(meaning) => meaning.write(target),
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let codings = reader.list(Reader::bytes)?;
        let coded = if codings.is_empty() { None } else { Some(Box::new(Coded::of_names(&codings)?)) };
        let fields = reader.list(Field::read)?;
        let is_negotiated = fields.iter().any(|field| field.name == header::ACCEPT_ENCODING);
        let length: usize =
            fields.iter().filter_map(|field| field.value.as_ref()).map(|value| value.len()).sum();
        // `Range` may come on top of what `Vary` names.
        let is_short = length <= 2 * LONGEST;
        let names: BTreeSet<_> = fields.iter().map(|field| field.name.as_str()).collect();
        let is_valid = is_short && !(is_negotiated && coded.is_some()) && names.len() == fields.len();
        is_valid.then(|| Self { coded, fields: fields.into_boxed_slice() })
    }
}

impl Field {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let name = HeaderName::from_lowercase(reader.bytes()?).ok()?;
        let value = reader.optional()?;
        if value.is_some_and(|value| HeaderValue::from_bytes(value).is_err()) {
            return None;
        }
        let meaning = match reader.u8()? {
            0 => None,
            kind => Some(Meaning::read(kind, reader)?),
        };
        let is_its_own = meaning.as_ref().is_none_or(|meaning| {
            let own = if meaning.is_of_codings() { header::ACCEPT_ENCODING } else { header::ACCEPT_LANGUAGE };
            name == own
        });
        is_its_own.then(|| Self { meaning: meaning.map(Box::new), name, value: value.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::Rules;
    use crate::semantics::accept::{Codings, Languages};
    use crate::semantics::tests::any_value;
    use http::header::HeaderMap;
    use proptest::prelude::*;

    prop_compose! {
        fn any_selecting()(
            vary in prop::sample::subsequence(vec!["accept-encoding", "accept-language", "accept", "x-a"], 0..4),
            has_vary: bool,
            coding in prop::sample::subsequence(vec!["gzip", "br", "sdch", "x-compress"], 0..3),
            language in prop::option::of("[a-zA-Z-]{1,5}(, [a-z]{2})?"),
            encodings in prop::collection::vec(prop_oneof![
                "(gzip|br|x-gzip|\\*|zstd)(;q=0\\.[0-9]{1,3})?(, ?(br|identity|deflate);q=1)?".prop_map(
                    |line| HeaderValue::from_str(&line).expect("a value")
                ),
                any_value(),
            ], 0..3),
            languages in prop::collection::vec(prop_oneof![
                "(en|de|fr|\\*)(;q=0\\.[0-9])?(, (es|it))?".prop_map(
                    |line| HeaderValue::from_str(&line).expect("a value")
                ),
                any_value(),
            ], 0..3),
            other in prop::collection::vec(any_value(), 0..3),
            rules in prop_oneof![
                Just(Codings::AsSent), Just(Codings::Negotiated), Just(Codings::known(["br", "gzip", "X-Compress"])),
                Just(Codings::one_of(["gzip", "br"])), Just(Codings::cloudfront(["br", "gzip"])),
                Just(Codings::fastly(["br", "gzip"])),
            ],
            is_negotiated: bool,
            has_range: bool,
        ) -> Selecting {
            let (mut response, mut request) = (HeaderMap::new(), HeaderMap::new());
            if has_vary {
                response.insert(header::VARY, HeaderValue::from_str(&vary.join(", ")).expect("a value"));
            }
            response.insert(header::CONTENT_ENCODING, HeaderValue::from_str(&coding.join(", ")).expect("a value"));
            let language = language.map(|language| HeaderValue::from_str(&language).expect("a value"));
            response.extend(language.map(|language| (header::CONTENT_LANGUAGE, language)));
            for (name, lines) in [
                (header::ACCEPT_ENCODING, encodings),
                (header::ACCEPT_LANGUAGE, languages),
                (HeaderName::from_static("x-a"), other),
            ] {
                for line in lines {
                    request.append(&name, line);
                }
            }
            request.insert(header::RANGE, HeaderValue::from_static("bytes=0-1,2-3"));
            let languages = if is_negotiated { Languages::Negotiated } else { Languages::AsSent };
            let rules = Rules { codings: rules, languages, ..Rules::default() };
            let selecting = Selecting::of(&response, &request, &rules).expect("a Vary that can match");
            if has_range { selecting.with_field(&request, header::RANGE) } else { selecting }
        }
    }

    proptest! {
        #[test]
        fn a23_selecting_fields_are_restored_from_their_bytes(selecting in any_selecting()) {
            let bytes = selecting.to_bytes();
            let read = Selecting::from_bytes(&bytes).expect("bytes of selecting fields");
            prop_assert_eq!(&read, &selecting);
            // Equal by meaning is not enough: the values are compared with what a request has sent.
            prop_assert_eq!(read.to_bytes(), bytes);
        }

        #[test]
        fn a23_selecting_fields_that_are_read_from_bytes_have_these_bytes(
            selecting in any_selecting(), at: prop::sample::Index, bits: u8, cut: prop::sample::Index,
        ) {
            let mut bytes = selecting.to_bytes();
            let cut = Selecting::from_bytes(&bytes[..cut.index(bytes.len())]);
            prop_assert_eq!(cut, None);
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            if let Some(read) = Selecting::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }

        #[test]
        fn a23_arbitrary_bytes_are_refused_or_give_selecting_fields(bytes: Vec<u8>) {
            if let Some(read) = Selecting::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }
}
