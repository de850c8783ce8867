//! What an invalidation is aimed at, and what it does.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use crate::entry::key::CacheKey;
use crate::semantics::groups;

/// What an invalidation is aimed at.
///
/// URIs, prefixes and authorities are spelled as in keys (see [`CacheKey::uri`]): scheme and host in lower case, no default
/// port. A [`CacheHandle`](crate::CacheHandle) spells them so, and refuses what no key can match.
///
/// A store that meets a target that it does not know purges more, never less (see [`Store`](crate::Store)).
///
/// ```
/// use larder::store::PurgeTarget;
/// assert_eq!(PurgeTarget::tag("news"), PurgeTarget::Tag("news".into()));
/// let images = PurgeTarget::prefix("https://example.com/images/");
/// let article = PurgeTarget::uri(&http::Uri::from_static("https://example.com/article/7"));
/// # let _ = (images, article);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeTarget {
    /// Everything.
    All,
    /// Every response in a group, by its full name: those of `Cache-Groups` are in the scope of their origin (see
    /// [`groups::scoped`]). A [`CacheHandle`](crate::CacheHandle) takes a name without
    /// an origin for a [`PurgeTarget::Tag`].
    Group(Box<str>),
    /// Every response whose key has a URI with this authority, `host` or `host:port`, whatever its scheme.
    Host(Box<str>),
    /// Every response under one key, and where that is the key of a whole, under those of its slices ([`CacheKey::whole`]).
    Key(CacheKey),
    /// Every response whose key has a URI with exactly this path and query, whatever scheme and host. It starts with `/`.
    Path(Box<[u8]>),
    /// Every response whose key has a URI with a path that starts with these bytes, whatever scheme and host. The query
    /// counts as part of the path. They start with `/`.
    PathPrefix(Box<[u8]>),
    /// Every response whose key has a URI that starts with these bytes (see [`CacheKey::uris`]).
    Prefix(Box<[u8]>),
    /// Every response in a group of this name, whatever its origin (see [`groups::tag`]).
    Tag(Box<str>),
    /// [`PurgeTarget::Tag`], whatever the case of ASCII letters.
    TagAnyCase(Box<str>),
    /// Every response whose key has this URI, whatever its other parts (see [`CacheKey::uris`]).
    Uri(Box<[u8]>),
}

/// Each target once, where it comes first.
pub(crate) fn distinct(mut targets: Vec<PurgeTarget>) -> Vec<PurgeTarget> {
    if targets.len() > 1 {
        let mut seen = HashSet::with_capacity(targets.len());
        let are_first: Vec<_> = targets.iter().map(|target| seen.insert(target)).collect();
        let mut are_first = are_first.into_iter();
        targets.retain(|_| are_first.next() == Some(true));
    }
    targets
}

impl PurgeTarget {
    /// Whether it names a response under a key, in these groups ([`ResponseHead::groups`](crate::ResponseHead::groups)): for
    /// stores that look at what they have. It says nothing of the past: whether the response was there when the target was
    /// purged is the store's affair.
    ///
    /// ```
    /// use larder::CacheKey;
    /// use larder::store::PurgeTarget;
    /// let key = CacheKey::from_uri(&"https://example.com/images/1?size=2".parse().unwrap()).unwrap();
    /// assert!(PurgeTarget::prefix("https://example.com/images/").names(&key, []));
    /// assert!(PurgeTarget::tag("image").names(&key, ["https://example.com image"]));
    /// assert!(!PurgeTarget::uri("https://example.com/images/1").names(&key, []));
    /// ```
    pub fn names<'a>(&self, key: &CacheKey, groups: impl IntoIterator<Item = &'a str>) -> bool {
        let mut groups = groups.into_iter();
        let mut uris = key.uris();
        match self {
            Self::All => true,
            Self::Group(group) => groups.any(|own| own == &**group),
            Self::Host(authority) => uris.any(|uri| split(uri).0 == authority.as_bytes()),
            Self::Key(purged) => key == purged || key.whole() == Some(purged.as_bytes()),
            Self::Path(path) => path.starts_with(b"/") && uris.any(|uri| split(uri).1 == &**path),
            Self::PathPrefix(prefix) => {
                prefix.starts_with(b"/") && uris.any(|uri| split(uri).1.starts_with(prefix))
            }
            // A key's URI begins with a scheme.
            Self::Prefix(prefix) => uris.any(|uri| uri.starts_with(prefix)),
            Self::Tag(tag) => groups.any(|own| groups::tag(own) == &**tag),
            Self::TagAnyCase(tag) => groups.any(|own| groups::tag(own).eq_ignore_ascii_case(tag)),
            Self::Uri(uri) => uris.any(|own| own == &**uri),
        }
    }

    /// The group `name` of one origin, such as `https://example.com`.
    pub fn group(origin: &str, name: &str) -> Self {
        Self::Group(format!("{origin} {name}").into())
    }

    /// All of one authority, such as `example.com` or `example.com:8080`.
    pub fn host(authority: impl Into<Box<str>>) -> Self {
        Self::Host(authority.into())
    }

    /// One path with its query, on whatever host.
    pub fn path(path: impl fmt::Display) -> Self {
        Self::Path(path.to_string().into_bytes().into())
    }

    /// All paths, on whatever host, that begin like this.
    pub fn path_prefix(prefix: impl fmt::Display) -> Self {
        Self::PathPrefix(prefix.to_string().into_bytes().into())
    }

    /// All absolute URIs that begin like this.
    pub fn prefix(prefix: impl fmt::Display) -> Self {
        Self::Prefix(prefix.to_string().into_bytes().into())
    }

    /// The tag `name`, in whatever origin.
    pub fn tag(name: impl Into<Box<str>>) -> Self {
        Self::Tag(name.into())
    }

    /// The tag `name` in whatever origin and case.
    pub fn tag_any_case(name: impl Into<Box<str>>) -> Self {
        Self::TagAnyCase(name.into())
    }

    /// One absolute URI.
    pub fn uri(uri: impl fmt::Display) -> Self {
        Self::Uri(uri.to_string().into_bytes().into())
    }
}

/// The authority of a key's URI, and the path with the query.
pub(super) fn split(uri: &[u8]) -> (&[u8], &[u8]) {
    const SEPARATOR: &[u8] = b"://";
    let start = uri.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
    let rest = &uri[start.map_or(0, |start| start + SEPARATOR.len())..];
    rest.split_at(rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len()))
}

/// What an invalidation does. A store that meets a mode that it does not know removes (see [`Store`](crate::Store)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeMode {
    /// Soft: stale from the given time on.
    Expire(SystemTime),
    /// Soft, with an end: stale from `at` on, and gone from `until` on.
    ExpireUntil {
        /// From when on what is concerned is stale.
        at: SystemTime,
        /// From when on it is gone.
        until: SystemTime,
    },
    /// Hard: gone.
    Remove,
}

/// Which purges concern a response under a key ([`Store::purged_since`](crate::Store::purged_since)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeScope {
    /// Those of the key, its URIs, their prefixes and hosts, and of everything.
    Key,
    /// Those, and those of any group or tag: the response's own are not known yet.
    KeyOrAnyGroup,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [&str; 2] = ["http://a News", "http://a b c"];

    fn key(uri: &str) -> CacheKey {
        // A request without an authority has an empty one in its key.
        let target = uri.strip_prefix("http:///").map_or(uri.to_owned(), |path| format!("/{path}"));
        CacheKey::from_uri(&target.parse().expect("a URI")).expect("a key")
    }

    #[track_caller]
    fn check(target: &PurgeTarget, expected: &[&str]) {
        let keys = ["http://a/x", "http://a/x/y?q", "https://a/x", "http://a:81/x", "http://b/", "http:///x"];
        let named = |uri: &&str| target.names(&key(uri), GROUPS);
        assert_eq!(keys.into_iter().filter(named).collect::<Vec<_>>(), expected, "{target:?}");
        let own = key("http://own/");
        let rewritten: Vec<_> = keys
            .into_iter()
            .filter(|uri| target.names(&own.clone().rewritten_to(uri.as_bytes()), []))
            .collect();
        match target {
            PurgeTarget::Group(_)
            | PurgeTarget::Key(_)
            | PurgeTarget::Tag(_)
            | PurgeTarget::TagAnyCase(_) => {
                assert!(rewritten.is_empty(), "{target:?}");
            }
            _ => assert_eq!(rewritten, expected, "{target:?}"),
        }
    }

    #[test]
    fn each_purge_target_matches_its_own_keys_only() {
        let all = ["http://a/x", "http://a/x/y?q", "https://a/x", "http://a:81/x", "http://b/", "http:///x"];
        check(&PurgeTarget::All, &all);
        check(&PurgeTarget::host("a"), &["http://a/x", "http://a/x/y?q", "https://a/x"]);
        check(&PurgeTarget::host("a:81"), &["http://a:81/x"]);
        check(&PurgeTarget::host(""), &["http:///x"]);
        check(&PurgeTarget::path("/x"), &["http://a/x", "https://a/x", "http://a:81/x", "http:///x"]);
        check(&PurgeTarget::path("/x/y?q"), &["http://a/x/y?q"]);
        check(&PurgeTarget::path("/x/y"), &[]);
        check(&PurgeTarget::path(""), &[]);
        check(&PurgeTarget::path_prefix("/x/y?"), &["http://a/x/y?q"]);
        check(&PurgeTarget::path_prefix("x"), &[]);
        check(&PurgeTarget::prefix("http://a/x"), &["http://a/x", "http://a/x/y?q"]);
        check(&PurgeTarget::prefix("/x"), &[]);
        check(&PurgeTarget::uri("http://a/x/y?q"), &["http://a/x/y?q"]);
        check(&PurgeTarget::uri("http://a/x/y"), &[]);
        let key = key("http://a/x");
        check(&PurgeTarget::Key(key.clone()), &["http://a/x"]);
        check(&PurgeTarget::Key(key.with("further", b"1")), &[]);
    }

    #[test]
    fn a_group_is_matched_whole_or_by_its_tag() {
        let key = key("http://a/x");
        for (target, expected) in [
            (PurgeTarget::group("http://a", "News"), true),
            (PurgeTarget::group("http://b", "News"), false),
            (PurgeTarget::Group("News".into()), false),
            (PurgeTarget::tag("News"), true),
            (PurgeTarget::tag("news"), false),
            (PurgeTarget::tag("b c"), true),
            (PurgeTarget::tag_any_case("nEWS"), true),
            (PurgeTarget::tag_any_case("new"), false),
        ] {
            assert_eq!(target.names(&key, GROUPS), expected, "{target:?}");
            assert!(!target.names(&key, []), "{target:?}");
        }
    }
}
