//! Values as bytes: numbers are little-endian, and what has a length comes after it, so that no two values have one form.

use std::time::Duration;

/// The length of what is absent.
const ABSENT: u32 = u32::MAX;

/// What is absent has no bytes but these; nothing that is written comes near this length.
pub(crate) fn put(target: &mut Vec<u8>, bytes: Option<&[u8]>) {
    let length = bytes.map_or(ABSENT, |bytes| u32::try_from(bytes.len()).unwrap_or(ABSENT - 1));
    target.extend_from_slice(&length.to_le_bytes());
    target.extend_from_slice(bytes.unwrap_or_default());
}

pub(crate) fn put_count(target: &mut Vec<u8>, count: usize) {
    target.extend_from_slice(&u32::try_from(count).unwrap_or(ABSENT).to_le_bytes());
}

/// `u64` seconds and `u32` nanoseconds.
pub(crate) fn put_duration(target: &mut Vec<u8>, duration: Duration) {
    target.extend_from_slice(&duration.as_secs().to_le_bytes());
    target.extend_from_slice(&duration.subsec_nanos().to_le_bytes());
}

/// Reads what was written. Nothing is allocated by what a length says before that much is known to be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn duration(&mut self) -> Option<Duration> {
        let (seconds, nanoseconds) = (self.u64()?, self.u32()?);
        (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds))
    }

    /// `Some(None)` for what is absent.
    pub(crate) fn optional(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.u32()?;
        if length == ABSENT {
            return Some(None);
        }
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(Some(bytes))
    }

    /// Whether the next value is absent. If so, it is read.
    pub(crate) fn is_absent(&mut self) -> bool {
        let rest = self.0.strip_prefix(&ABSENT.to_le_bytes());
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.optional().flatten()
    }

    /// As many values as a count says. Each takes a byte at least.
    pub(crate) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.u32()?).ok().filter(|count| *count <= self.0.len())?;
        (0..count).map(|_| read(self)).collect()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_are_read_as_they_were_written(number: u64, values: Vec<Option<Vec<u8>>>) {
            let mut bytes = number.to_le_bytes().to_vec();
            put_count(&mut bytes, values.len());
            values.iter().for_each(|value| put(&mut bytes, value.as_deref()));
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.u64(), Some(number));
            let read = reader.list(Reader::optional).expect("a list");
            prop_assert!(read.iter().map(|value| value.map(<[u8]>::to_vec)).eq(values));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a23_a_list_with_too_large_a_count_is_refused(bytes: Vec<u8>) {
            let read = Reader(&bytes).list(Reader::bytes);
            prop_assert!(read.is_none_or(|read| read.len() * 4 + 4 <= bytes.len()));
        }
    }
}
