//! A block of bytes that one answer has for itself.

use bytes::Bytes;

/// The parts one after the other, `length` bytes together. One allocation where they are short: the reference count is
/// with the bytes then.
#[inline]
pub(super) fn block<'a>(length: usize, parts: impl Iterator<Item = &'a [u8]>) -> Bytes {
    match length {
        0 => Bytes::new(),
        1..=128 => short::<128>(length, parts),
        129..=256 => short::<256>(length, parts),
        257..=512 => short::<512>(length, parts),
        513..=1024 => short::<1024>(length, parts),
        1025..=2048 => short::<2048>(length, parts),
        _ => {
            let mut bytes = Vec::with_capacity(length);
            parts.for_each(|part| bytes.extend_from_slice(part));
            bytes.into()
        }
    }
}

struct Short<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> AsRef<[u8]> for Short<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[inline]
fn short<'a, const N: usize>(length: usize, parts: impl Iterator<Item = &'a [u8]>) -> Bytes {
    let mut bytes = [0; N];
    let mut rest = &mut bytes[..length];
    for part in parts {
        let Some((here, after)) = std::mem::take(&mut rest).split_at_mut_checked(part.len()) else {
            break;
        };
        here.copy_from_slice(part);
        rest = after;
    }
    Bytes::from_owner(Short { bytes, length })
}
