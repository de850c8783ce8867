//! Which content is stored, by its size and its type.

use http::header;

use crate::policy::{Pattern, PolicyExchange, Selection, Terms};
use crate::semantics::storing::NotStored;

/// Which content is stored, by its size and its `Content-Type`. [`StandardPolicy`](crate::StandardPolicy) has switches of the same
/// names; any other policy gets them by [`CachePolicyExt::content_limits`](crate::CachePolicyExt::content_limits).
///
/// ```
/// use larder::policy::ContentLimits;
/// let limits = ContentLimits::new().max_body(1 << 20).without_types(["video/*", "audio/*"]);
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentLimits {
    max: u64,
    min: u64,
    types: Selection,
}

impl Default for ContentLimits {
    fn default() -> Self {
        Self { max: u64::MAX, min: 0, types: Selection::All }
    }
}

impl ContentLimits {
    /// Any content.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes of content that are stored, if that is less than the store takes
    /// ([`StoreLimits::max_object`](crate::store::StoreLimits::max_object)). What is larger passes (`detail="too-large"`).
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max = bytes;
        self
    }

    /// The fewest bytes of content that are stored. What is smaller passes (`detail="too-small"`); if nobody knows its length
    /// until it has ended, the store does not get it then.
    #[must_use]
    pub fn min_body(mut self, bytes: u64) -> Self {
        self.min = bytes;
        self
    }

    /// Stores only content of these types, such as `text/*`: `Content-Type` without parameters, in any case. What has another
    /// one, or none, passes (`detail="content-type"`). Replaces [`ContentLimits::without_types`].
    #[must_use]
    pub fn only_types<'a>(mut self, types: impl IntoIterator<Item = &'a str>) -> Self {
        self.types = Selection::AllowList(patterns(types));
        self
    }

    /// Stores no content of these types, such as `video/*` (`detail="content-type"`). Replaces [`ContentLimits::only_types`].
    #[must_use]
    pub fn without_types<'a>(mut self, types: impl IntoIterator<Item = &'a str>) -> Self {
        self.types = Selection::AllExcept(patterns(types));
        self
    }

    /// Sets the limits of a response.
    pub fn apply(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        terms.max_body = terms.max_body.min(self.max);
        terms.min_body = terms.min_body.max(self.min);
        if self.types != Selection::All {
            let mut types = exchange.response.headers.get_all(header::CONTENT_TYPE).into_iter().peekable();
            let is_admitted = match types.peek() {
                None => self.types.admits(""),
                Some(_) => types.all(|line| self.types.admits(media_type(line.as_bytes()))),
            };
            if !is_admitted {
                terms.store = terms.store.and(Err(NotStored::Type));
            }
        }
    }
}

fn patterns<'a>(types: impl IntoIterator<Item = &'a str>) -> Vec<Pattern> {
    types.into_iter().map(|kind| Pattern::new(kind.trim().to_ascii_lowercase())).collect()
}

/// The type without parameters, in lower case (RFC 9110 8.3.1).
pub(super) fn media_type(line: &[u8]) -> Vec<u8> {
    let kind = line.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_compared_without_parameters_and_case() {
        for (line, expected) in [
            ("text/html", "text/html"),
            ("Text/HTML; charset=utf-8", "text/html"),
            (" video/mp4 ;x", "video/mp4"),
            ("", ""),
            (";", ""),
        ] {
            assert_eq!(media_type(line.as_bytes()), expected.as_bytes(), "{line:?}");
        }
        assert_eq!(patterns([" Video/* "]), [Pattern::new("video/*")]);
    }
}
