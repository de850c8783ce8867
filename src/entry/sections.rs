//! Sections of what is written down: each has a number, and says whether a reader that does not know it may go on.
//!
//! ```text
//! u8   number, and 128 if the whole that it belongs to can't be used without knowing the section
//! u32  length | bytes
//! ```
//!
//! Numbers ascend, and each comes once at most. A later version adds sections under higher numbers. It never changes what is in
//! one that exists.

use super::InvalidEntry;
use crate::semantics::bytes::Reader;

/// Set in the number of a section without which the rest can't be used.
pub(crate) const NEEDED: u8 = 128;

/// The sections with numbers below `N`. Where there is another, it can be done without.
pub(crate) struct Sections<'a, const N: usize>([Option<&'a [u8]>; N]);

impl<'a, const N: usize> Sections<'a, N> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, InvalidEntry> {
        let (mut reader, mut sections, mut last) = (Reader(bytes), [None; N], 0);
        while !reader.is_empty() {
            let (tag, section) = next_section(&mut reader)?;
            let number = tag & !NEEDED;
            if number <= last {
                return Err(InvalidEntry::Sections);
            }
            last = number;
            match sections.get_mut(usize::from(number)) {
                Some(place) => *place = Some(section),
                None if is_needed(tag) => return Err(InvalidEntry::Version),
                None => {}
            }
        }
        Ok(Self(sections))
    }

    /// What a section says, all of it. `invalid` where it says something else.
    pub(crate) fn optional<T>(
        &self,
        tag: u8,
        invalid: InvalidEntry,
        read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
    ) -> Result<Option<T>, InvalidEntry> {
        let section = self.0.get(usize::from(tag & !NEEDED)).copied().flatten();
        section.map(|section| exactly(section, read).ok_or(invalid)).transpose()
    }

    /// [`Sections::optional`] for a section that has to be there.
    pub(crate) fn present<T>(
        &self,
        tag: u8,
        invalid: InvalidEntry,
        read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
    ) -> Result<T, InvalidEntry> {
        self.optional(tag, invalid, read)?.ok_or(InvalidEntry::Sections)
    }
}

fn exactly<'a, T>(section: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Option<T>) -> Option<T> {
    let mut reader = Reader(section);
    read(&mut reader).filter(|_| reader.is_empty())
}

pub(crate) fn is_needed(tag: u8) -> bool {
    tag & NEEDED != 0
}

/// The next section, with the number as it is written.
pub(crate) fn next_section<'a>(reader: &mut Reader<'a>) -> Result<(u8, &'a [u8]), InvalidEntry> {
    let section = reader.u8().and_then(|tag| Some((tag, reader.bytes()?)));
    section.ok_or(InvalidEntry::Truncated)
}

/// A section of what `write` appends. It is shorter than 4 GiB if all that is written in the end is.
pub(crate) fn put_section(target: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    target.push(tag);
    let at = target.len();
    target.extend_from_slice(&[0; 4]);
    write(target);
    let length = u32::try_from(target.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(place) = target.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sections: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, section) in sections {
            put_section(&mut bytes, *tag, |target| target.extend_from_slice(section));
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<[Option<u16>; 2], InvalidEntry> {
        let sections = Sections::<3>::read(bytes)?;
        let section = |tag| sections.optional(tag, InvalidEntry::Part, Reader::u16);
        Ok([section(NEEDED | 1)?, section(2)?])
    }

    #[test]
    fn sections_are_found_by_number_and_unknown_ones_are_skipped_unless_they_are_needed() {
        assert_eq!(read(&written(&[(129, &[7, 0]), (2, &[8, 0])])), Ok([Some(7), Some(8)]));
        assert_eq!(read(&written(&[(2, &[8, 0]), (3, b"new"), (90, b"")])), Ok([None, Some(8)]));
        assert_eq!(read(&written(&[(2, &[8, 0]), (NEEDED | 3, b"new")])), Err(InvalidEntry::Version));
        assert_eq!(read(b""), Ok([None, None]));
    }

    #[test]
    fn sections_out_of_order_twice_cut_short_or_too_long_are_refused() {
        for sections in [&[(2, &[8, 0][..]), (129, &[7, 0])][..], &[(2, &[8, 0]), (2, &[8, 0])], &[(0, b"")]]
        {
            assert_eq!(read(&written(sections)), Err(InvalidEntry::Sections));
        }
        for section in [&b"1"[..], b"123", b""] {
            assert_eq!(read(&written(&[(2, section)])), Err(InvalidEntry::Part));
        }
        let bytes = written(&[(2, b"12")]);
        for length in 1..bytes.len() {
            assert_eq!(read(&bytes[..length]), Err(InvalidEntry::Truncated));
        }
        assert_eq!(read(&[2, 255, 255, 255, 255, 0]), Err(InvalidEntry::Truncated));
        let sections =
            Sections::<3>::read(b"").map(|sections| sections.present(1, InvalidEntry::Part, Reader::u8));
        assert_eq!(sections, Ok(Err(InvalidEntry::Sections)));
    }
}
