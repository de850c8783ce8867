//! How targets of purges are written: as items of a list for operators to give, and as text for them to read.

use std::fmt;

use http::Uri;
use thiserror::Error;

use super::PurgeTarget;
use crate::semantics::groups;
use crate::semantics::uri::is_scheme;

/// The longest item of a list.
const LONGEST: usize = 4_000;
/// The longest tag.
const LONGEST_TAG: usize = 256;

/// Why an item of an invalidation list names nothing ([`PurgeTarget::from_invalidation`]).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidItem {
    /// It has neither a path nor a tag.
    #[error(
        "'{0}' is no path, URL or tag; write /path, /path* or * for every host, https://host/path or https://host/path* \
         for one, or #tag"
    )]
    Form(String),
    /// A character that no URL has as it is.
    #[error("'{0}' has a character that no URL has; percent-encode it as the request's target is")]
    NotEncoded(String),
    /// A URL whose path is missing before `*`, or whose authority no key has.
    #[error("'{0}' is no URL of a host; write https://host/path, or https://host/* for all of it")]
    Host(String),
    /// A tag that no field can hold.
    #[error("'{0}' is no tag; one has 1 to 256 visible ASCII characters and no comma")]
    Tag(String),
    /// More than 4,000 characters.
    #[error("an item of {0} characters; the most are 4,000")]
    TooLong(usize),
}

impl PurgeTarget {
    /// What an item of an invalidation list names, as CloudFront's `CreateInvalidation` takes them, and URLs of one host besides:
    ///
    /// | item | target |
    /// |---|---|
    /// | `*`, `/*` | [`PurgeTarget::All`] |
    /// | `/images/*`, `/images*` | [`PurgeTarget::PathPrefix`]: on whatever host |
    /// | `/images/1.png`, `/search?q=1` | [`PurgeTarget::Path`]: on whatever host, and with this query only |
    /// | `https://example.com/images/*` | [`PurgeTarget::Prefix`] |
    /// | `https://example.com/images/1.png` | [`PurgeTarget::Uri`] |
    /// | `#tag` | [`PurgeTarget::TagAnyCase`] |
    ///
    /// A `*` stands for zero or more characters at the end of a path or URL; elsewhere it means itself. Case matters, except in
    /// a scheme, a host and a tag. Where queries are not in the key, an item with a query means what all queries share.
    ///
    /// ```
    /// use larder::store::PurgeTarget;
    /// let items = ["/images/*", "/index.html", "#news", "https://example.com/a*b"];
    /// let targets: Vec<_> = items.into_iter().map(PurgeTarget::from_invalidation).collect::<Result<_, _>>()?;
    /// assert_eq!(targets[0], PurgeTarget::path_prefix("/images/"));
    /// assert_eq!(targets[1], PurgeTarget::path("/index.html"));
    /// assert_eq!(targets[2], PurgeTarget::tag_any_case("news"));
    /// assert_eq!(targets[3], PurgeTarget::uri("https://example.com/a*b"));
    /// let error = PurgeTarget::from_invalidation("images/*").unwrap_err();
    /// assert!(error.to_string().starts_with("'images/*' is no path, URL or tag"));
    /// # Ok::<(), larder::store::InvalidItem>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where nothing stored could be meant.
    pub fn from_invalidation(item: &str) -> Result<Self, InvalidItem> {
        let own = || item.to_owned();
        // Counted only where it can matter.
        if item.len() > LONGEST && item.chars().count() > LONGEST {
            return Err(InvalidItem::TooLong(item.chars().count()));
        }
        if let Some(tag) = item.strip_prefix('#') {
            return if is_tag(tag) { Ok(Self::tag_any_case(tag)) } else { Err(InvalidItem::Tag(own())) };
        }
        let (rest, is_prefix) = match item.strip_suffix('*') {
            Some(rest) => (rest, true),
            None => (item, false),
        };
        if is_prefix && matches!(rest, "" | "/") {
            return Ok(Self::All);
        }
        let authority = rest.split_once("://");
        if !rest.starts_with('/') && authority.is_none_or(|(scheme, _)| !is_scheme(scheme.as_bytes())) {
            return Err(InvalidItem::Form(own()));
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(InvalidItem::NotEncoded(own()));
        }
        let Some((_, after)) = authority.filter(|_| !rest.starts_with('/')) else {
            // What a request's target can't be, nothing is stored under.
            rest.parse::<Uri>().map_err(|_| InvalidItem::NotEncoded(own()))?;
            return Ok(if is_prefix { Self::path_prefix(rest) } else { Self::path(rest) });
        };
        let has_path = after.contains('/');
        let is_host = rest.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        if !is_host || (is_prefix && !has_path) {
            return Err(InvalidItem::Host(own()));
        }
        Ok(if is_prefix { Self::prefix(rest) } else { Self::uri(rest) })
    }
}

/// One that `CacheTagConfig` and `Cache-Tag` can name.
fn is_tag(tag: &str) -> bool {
    (1..=LONGEST_TAG).contains(&tag.len())
        && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
        && groups::is_tag(tag)
}

/// For logs and people: where [`PurgeTarget::from_invalidation`] reads a form, that form, otherwise a word and what it is about.
/// Control characters are escaped, so a target is one line.
///
/// ```
/// use larder::store::PurgeTarget;
/// assert_eq!(PurgeTarget::path_prefix("/images/").to_string(), "/images/*");
/// assert_eq!(PurgeTarget::tag_any_case("news").to_string(), "#news");
/// assert_eq!(PurgeTarget::tag("news").to_string(), "tag news");
/// assert_eq!(PurgeTarget::group("https://example.com", "news").to_string(), "group https://example.com news");
/// ```
impl fmt::Display for PurgeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Group(group) => write!(f, "group {}", Line(group.as_bytes())),
            Self::Host(authority) => write!(f, "host {}", Line(authority.as_bytes())),
            Self::Key(key) => {
                write!(f, "key {}", Line(key.uri()))?;
                if key.is_uri_only() { Ok(()) } else { f.write_str(" and its parts") }
            }
            Self::Path(target) | Self::Uri(target) => Line(target).fmt(f),
            Self::PathPrefix(prefix) | Self::Prefix(prefix) => write!(f, "{}*", Line(prefix)),
            Self::Tag(tag) => write!(f, "tag {}", Line(tag.as_bytes())),
            Self::TagAnyCase(tag) => write!(f, "#{}", Line(tag.as_bytes())),
        }
    }
}

/// Text that stays on its line.
struct Line<'a>(&'a [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in String::from_utf8_lossy(self.0).chars() {
            if char.is_control() { char.escape_debug().fmt(f)? } else { char.fmt(f)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entry::key::CacheKey;

    #[track_caller]
    fn reads(item: &str, target: &PurgeTarget) {
        assert_eq!(PurgeTarget::from_invalidation(item).as_ref(), Ok(target), "{item}");
    }

    #[track_caller]
    fn refuses(item: &str, error: fn(String) -> InvalidItem) {
        assert_eq!(PurgeTarget::from_invalidation(item), Err(error(item.to_owned())), "{item:?}");
    }

    #[test]
    fn cf6_items_of_an_invalidation_list_are_read_as_cloudfront_reads_them() {
        let (path, prefix) =
            (|path: &str| PurgeTarget::path(path), |path: &str| PurgeTarget::path_prefix(path));
        for item in ["*", "/*"] {
            reads(item, &PurgeTarget::All);
        }
        reads("/images/*", &prefix("/images/"));
        reads("/images*", &prefix("/images"));
        reads("/logo.*", &prefix("/logo."));
        reads("/a.jpg?x=1", &path("/a.jpg?x=1"));
        reads("/a.jpg?*", &prefix("/a.jpg?"));
        reads("/dir", &path("/dir"));
        reads("/dir/", &path("/dir/"));
        reads("/Dir", &path("/Dir"));
        reads("/", &path("/"));
        // Only the last character is a wildcard.
        reads("/a*b", &path("/a*b"));
        reads("/*/b", &path("/*/b"));
        reads("/a**", &prefix("/a*"));
        reads("/a*b*", &prefix("/a*b"));
        reads("/%C3%A9t%C3%A9", &path("/%C3%A9t%C3%A9"));
        reads("/a?u=http://b/", &path("/a?u=http://b/"));
        reads("//a", &path("//a"));
    }

    #[test]
    fn cf6_items_with_a_host_mean_that_host_only() {
        reads("https://a/x*", &PurgeTarget::prefix("https://a/x"));
        reads("https://a/*", &PurgeTarget::prefix("https://a/"));
        reads("HTTP://A:80/x?y", &PurgeTarget::uri("HTTP://A:80/x?y"));
        reads("https://a", &PurgeTarget::uri("https://a"));
        // Another host may begin like this one.
        for item in ["https://a*", "https://*", "https://", "https:///x", "https://a b/x*x"] {
            assert!(PurgeTarget::from_invalidation(item).is_err(), "{item}");
        }
        refuses("https://a*", InvalidItem::Host);
    }

    #[test]
    fn cf12_items_with_a_hash_are_tags_in_any_case() {
        reads("#news", &PurgeTarget::tag_any_case("news"));
        reads("#a*", &PurgeTarget::tag_any_case("a*"));
        reads("#https://a/b", &PurgeTarget::tag_any_case("https://a/b"));
        reads(&format!("#{}", "x".repeat(256)), &PurgeTarget::tag_any_case("x".repeat(256)));
        for item in ["#", "#a,b", "#a b", "#\u{e9}", "#a\n", &format!("#{}", "x".repeat(257))] {
            refuses(item, InvalidItem::Tag);
        }
    }

    #[test]
    fn b15_items_that_can_name_nothing_are_refused() {
        for item in ["", "images/*", "index.html", "example.com/x", "://a/", "1:/", "?x", "tag:x", "/ "] {
            assert!(PurgeTarget::from_invalidation(item).is_err(), "{item}");
        }
        for item in ["/\u{e9}", "/a b", "/a#b", "/a\r\nb", "/a\0", "https://a/\u{e9}*"] {
            refuses(item, InvalidItem::NotEncoded);
        }
        let long = |characters: usize| format!("/{}", "x".repeat(characters - 1));
        reads(&long(4_000), &PurgeTarget::path(long(4_000)));
        assert_eq!(PurgeTarget::from_invalidation(&long(4_001)), Err(InvalidItem::TooLong(4_001)));
    }

    #[test]
    fn targets_are_shown_on_one_line_each() {
        let key = CacheKey::from_uri(&Uri::from_static("http://a/x")).expect("a key");
        for (target, shown) in [
            (PurgeTarget::host("a:81"), "host a:81"),
            (PurgeTarget::Key(key.clone()), "key http://a/x"),
            (PurgeTarget::Key(key.with("user", b"secret")), "key http://a/x and its parts"),
            (PurgeTarget::tag("a\nb"), "tag a\\nb"),
            (PurgeTarget::Prefix(b"http://a/'\xff\n"[..].into()), "http://a/'\u{fffd}\\n*"),
        ] {
            assert_eq!(target.to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn cf6_what_is_read_is_shown_as_it_was_written(item in "[/#*a-c:?%.é ]{0,12}|https?://a[/*?b]{0,6}") {
            if let Ok(target) = PurgeTarget::from_invalidation(&item) {
                let all = target == PurgeTarget::All;
                prop_assert_eq!(target.to_string(), if all { "*" } else { &*item });
            }
        }
    }
}
