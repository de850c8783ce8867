//! Hints as bytes.
//!
//! ```text
//! u8 flags: 1 public, 2 no-store
//! browser lifetime, lifetime, stale-if-error, stale-while-revalidate: each u8 0, or 1 | u64 seconds | u32 nanoseconds
//! u32 count | tags, each u32 length | text
//! ```
//!
//! Integers are little-endian.

use std::time::Duration;

use super::CacheHint;
use crate::semantics::bytes::{Reader, put, put_count, put_duration};

const PUBLIC: u8 = 1;
const NO_STORE: u8 = 2;

impl CacheHint {
    /// The hint as bytes, for stores that write responses down.
    ///
    /// ```
    /// use larder::CacheHint;
    /// let hint = CacheHint::new().public().tag("product:42");
    /// assert_eq!(CacheHint::from_bytes(&hint.to_bytes()), Some(hint));
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self {
            browser_lifetime,
            is_public,
            lifetime,
            no_store,
            stale_if_error,
            stale_while_revalidate,
            tags,
        } = self;
        let mut bytes = vec![if *is_public { PUBLIC } else { 0 } | if *no_store { NO_STORE } else { 0 }];
        for duration in [browser_lifetime, lifetime, stale_if_error, stale_while_revalidate] {
            bytes.push(duration.is_some().into());
            duration.iter().for_each(|duration| put_duration(&mut bytes, *duration));
        }
        put_count(&mut bytes, tags.len());
        tags.iter().for_each(|tag| put(&mut bytes, Some(tag.as_bytes())));
        bytes
    }

    /// What [`CacheHint::to_bytes`] has written; `None` where nothing is written so.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let flags = reader.u8().filter(|flags| *flags <= PUBLIC | NO_STORE)?;
        let mut duration = || optional_duration(&mut reader);
        let (browser_lifetime, lifetime) = (duration()?, duration()?);
        let (stale_if_error, stale_while_revalidate) = (duration()?, duration()?);
        let tags = reader.list(|reader| std::str::from_utf8(reader.bytes()?).ok().map(Into::into))?;
        let (is_public, no_store) = (flags & PUBLIC != 0, flags & NO_STORE != 0);
        let hint = Self {
            browser_lifetime,
            is_public,
            lifetime,
            no_store,
            stale_if_error,
            stale_while_revalidate,
            tags,
        };
        reader.is_empty().then_some(hint)
    }
}

/// `Some(None)` for none.
fn optional_duration(reader: &mut Reader<'_>) -> Option<Option<Duration>> {
    match reader.u8()? {
        0 => Some(None),
        1 => reader.duration().map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_hint()(
            [is_public, no_store]: [bool; 2],
            [browser_lifetime, lifetime, stale_if_error, stale_while_revalidate] in any::<[Option<Duration>; 4]>(),
            tags in prop::collection::vec(any::<String>(), 0..4),
        ) -> CacheHint {
            let tags = tags.into_iter().map(Into::into).collect();
            CacheHint { browser_lifetime, is_public, lifetime, no_store, stale_if_error, stale_while_revalidate, tags }
        }
    }

    proptest! {
        #[test]
        fn a_hint_is_read_as_it_was_written(hint in any_hint(), more: u8) {
            let mut bytes = hint.to_bytes();
            prop_assert_eq!(CacheHint::from_bytes(&bytes), Some(hint));
            for length in 0..bytes.len() {
                prop_assert_eq!(CacheHint::from_bytes(&bytes[..length]), None);
            }
            bytes.push(more);
            prop_assert_eq!(CacheHint::from_bytes(&bytes), None);
        }

        #[test]
        fn a23_reading_any_bytes_as_a_hint_never_panics(bytes: Vec<u8>) {
            let read = CacheHint::from_bytes(&bytes);
            prop_assert!(read.is_none_or(|hint| hint.to_bytes() == bytes));
        }
    }
}
