//! What an invalidation is aimed at, and what it does.

use std::fmt;
use std::time::SystemTime;

use crate::entry::key::CacheKey;

/// What an invalidation is aimed at.
///
/// URIs, prefixes and authorities are spelled as in keys (see [`CacheKey::uri`]): scheme and host in lower case, no default
/// port. A [`CacheHandle`](crate::CacheHandle) spells them so, and refuses what no key can match.
///
/// ```
/// use larder::store::PurgeTarget;
/// assert_eq!(PurgeTarget::tag("news"), PurgeTarget::Tag("news".into()));
/// let images = PurgeTarget::prefix("https://example.com/images/");
/// let article = PurgeTarget::uri(&http::Uri::from_static("https://example.com/article/7"));
/// # let _ = (images, article);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeTarget {
    /// Everything.
    All,
    /// Every response in a group, by its full name: those of `Cache-Groups` are in the scope of their origin (see
    /// [`groups::scoped`](crate::semantics::groups::scoped)). A [`CacheHandle`](crate::CacheHandle) takes a name without
    /// an origin for a [`PurgeTarget::Tag`].
    Group(Box<str>),
    /// Every response whose key has a URI with this authority, `host` or `host:port`, whatever its scheme.
    Host(Box<str>),
    /// Every response under one key.
    Key(CacheKey),
    /// Every response whose key has a URI with a path that starts with these bytes, whatever scheme and host. The query
    /// counts as part of the path. They start with `/`.
    PathPrefix(Box<[u8]>),
    /// Every response whose key has a URI that starts with these bytes (see [`CacheKey::uris`]).
    Prefix(Box<[u8]>),
    /// Every response in a group of this name, whatever its origin (see [`groups::tag`](crate::semantics::groups::tag)).
    Tag(Box<str>),
    /// [`PurgeTarget::Tag`], whatever the case of ASCII letters.
    TagAnyCase(Box<str>),
    /// Every response whose key has this URI, whatever its other parts (see [`CacheKey::uris`]).
    Uri(Box<[u8]>),
}

impl PurgeTarget {
    /// The group `name` of one origin, such as `https://example.com`.
    pub fn group(origin: &str, name: &str) -> Self {
        Self::Group(format!("{origin} {name}").into())
    }

    /// All of one authority, such as `example.com` or `example.com:8080`.
    pub fn host(authority: impl Into<Box<str>>) -> Self {
        Self::Host(authority.into())
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

/// What an invalidation does.
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
