//! What a stored response is found by.

mod bytes;
mod compose;
mod edit;
mod parts;
mod shown;
mod site;
mod target;

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use http::request::Parts;
use http::{HeaderValue, Uri, Version};
use smallvec::SmallVec;
use thiserror::Error;

use self::target::{Targets, authority, scheme, without_default_port};

pub(crate) use self::edit::{Edited, restore};
pub use self::parts::KeyParts;
pub(crate) use self::parts::{as_query, is_query_by_post};
pub(crate) use self::shown::is_secret;
pub use self::shown::{ShownPart, ShownValue};
pub(crate) use self::site::{EncodedPart, Site};
pub(crate) use self::target::{
    asked_path, asked_uri, authority_of, each_uri, enter, host_of, settle_authority,
};

/// The key under which responses are stored: the target URI, and further parts that a policy adds.
///
/// Keys are equal when all their parts are, byte for byte. The URI is `scheme://authority/path?query` with scheme and
/// host in lower case and without a default port; path and query are kept as received, never decoded. The method is not
/// part of it.
///
/// ```
/// use http::Request;
/// use larder::CacheKey;
/// let (parts, ()) = Request::get("http://Example.com:80/a?b=%2F").body(()).unwrap().into_parts();
/// let key = CacheKey::of(&parts).unwrap();
/// assert_eq!(key.uri(), b"http://example.com/a?b=%2F");
/// ```
#[derive(PartialEq, Eq, Hash)]
pub struct CacheKey {
    // u32 length of the URI | URI | for each further part: u8 kind | u32 length of name | name | u32 length
    // of value, or ABSENT | value. Integers are little-endian. Lengths come first, so that no two lists
    // of parts have one encoding.
    bytes: SmallVec<[u8; INLINE]>,
}

/// All bytes at once: what is derived copies one by one.
impl Clone for CacheKey {
    fn clone(&self) -> Self {
        Self { bytes: SmallVec::from_slice(&self.bytes) }
    }
}

/// What a further part is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A policy's own.
    Part = 0,
    /// A request field, one line of it.
    Field = 1,
    /// The URI that the inner service sees, where that is another one.
    Rewritten = 2,
    /// The target is `*`, not the path `/*` (RFC 9112 3.2.4).
    Asterisk = 3,
    /// A cookie of a name.
    Cookie = 4,
    /// Who asks.
    Identity = 5,
    /// The origin in the URI is a policy's, not one that a client has asked for: by its name, one of [`ORIGINS`].
    Origin = 6,
    /// A slice of the representation, and the size of its slices.
    Slice = 7,
}

/// What policies make of origins: leave out the host, the scheme or both, or name a site.
const ORIGINS: [&str; 4] = [ANY_HOST, ANY_SCHEME, ANY_ORIGIN, SITE];
const ANY_HOST: &str = "any-host";
const ANY_ORIGIN: &str = "any";
const ANY_SCHEME: &str = "any-scheme";
const SITE: &str = "site";

/// Most keys fit here, so that making one for a look-up does not allocate.
const INLINE: usize = 112;

const ABSENT: u32 = u32::MAX;

/// Why a request has no key. It is forwarded and nothing is stored.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The request names two authorities, or one that is not `host[:port]`: caches and origins differ on
    /// which to believe (RFC 9110 7.2).
    #[error("the request's authority is ambiguous")]
    Authority,
    /// What a policy gave as a query is none: it has bytes that the query of a URI cannot have.
    #[error("the query is not valid")]
    Query,
    /// The target names another scheme than the one by which the request was accepted, or an empty one.
    #[error("the request's target names another scheme than the connection has")]
    Scheme,
    /// The URI is too long to be a key.
    #[error("the request's URI is too long")]
    TooLong,
}

impl KeyError {
    /// Each of them.
    pub const ALL: &'static [Self] = &[Self::Authority, Self::Query, Self::Scheme, Self::TooLong];

    /// What `Cache-Status` says of it, as `detail`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "ambiguous-authority",
            Self::Query => "invalid-query",
            Self::Scheme => "other-scheme",
            Self::TooLong => "uri-too-long",
        }
    }
}

impl CacheKey {
    /// The key of a request's target URI.
    ///
    /// The scheme is that of an [`http::uri::Scheme`] in the request's extensions, put there by the code that accepted
    /// the connection; without one it is the URI's, otherwise `http`. The authority is that of the URI or of the `Host`
    /// field; a request with neither has an empty one. Requests are forwarded with the authority in the form that is
    /// keyed. With the feature `axum`, the URI is the one that the client asked for, also below a nested router. If a
    /// middleware has rewritten it to something other than what nesting leaves, both URIs are in the key, and a purge
    /// of either reaches what is stored. If a policy gives the request another URI, to normalise it, that URI counts
    /// instead, below the prefix of the nested router.
    ///
    /// # Errors
    ///
    /// [`KeyError::Authority`] when URI and `Host` contradict each other, `Host` occurs twice, or the
    /// authority has user information or is not `host[:port]`. [`KeyError::Scheme`] when the URI names another scheme
    /// than the extensions.
    pub fn of(request: &Parts) -> Result<Self, KeyError> {
        Self::of_targets(request, absolute)
    }

    /// [`CacheKey::of`] where the scheme, the authority or both are left out: the scheme `any`, and an empty authority,
    /// stand for all. A part tells the key from that of a client which asks for just these.
    pub(crate) fn of_any(request: &Parts, origin: AnyOrigin) -> Result<Self, KeyError> {
        let mut key = Self::of_targets(request, |uri, request| absolute_of_any(uri, request, origin))?;
        if let Some(name) = origin.name() {
            key.push(Kind::Origin, name, None);
        }
        Ok(key)
    }

    fn of_targets(
        request: &Parts,
        absolute: impl Fn(&Uri, &Parts) -> Result<SmallVec<[u8; INLINE]>, KeyError>,
    ) -> Result<Self, KeyError> {
        let Targets { asked, rewritten } = Targets::of(request);
        let key = Self { bytes: absolute(&asked, request)? };
        match rewritten {
            None => Ok(key),
            Some(rewritten) => Ok(key.rewritten_to(Self { bytes: absolute(rewritten, request)? }.uri())),
        }
    }

    /// Whether the URI and the fields of a request agree about its origin.
    ///
    /// # Errors
    ///
    /// As [`CacheKey::of`].
    pub(crate) fn check_origin(request: &Parts) -> Result<(), KeyError> {
        let Targets { asked, rewritten } = Targets::of(request);
        for uri in std::iter::once(&*asked).chain(rewritten) {
            scheme(uri, request)?;
            authority(uri, request)?;
        }
        Ok(())
    }

    /// The same key with the URI that the inner service sees added.
    #[must_use]
    pub(crate) fn rewritten_to(mut self, uri: &[u8]) -> Self {
        self.push(Kind::Rewritten, "", Some(uri));
        self
    }

    /// The same key with another URI.
    #[must_use]
    pub(crate) fn with_uri(self, uri: &[u8]) -> Self {
        let further = &self.bytes[4 + self.uri().len()..];
        let length = u32::try_from(uri.len()).unwrap_or(ABSENT - 1).to_le_bytes();
        let mut bytes = SmallVec::with_capacity(4 + uri.len() + further.len());
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(uri);
        bytes.extend_from_slice(further);
        Self { bytes }
    }

    fn push(&mut self, kind: Kind, name: &str, value: Option<&[u8]>) {
        self.push_part(kind as u8, name.as_bytes(), value);
    }

    fn push_part(&mut self, kind: u8, name: &[u8], value: Option<&[u8]>) {
        // No field or name comes near 4 GiB; only the length prefix of a longer one would be wrong.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(ABSENT - 1).to_le_bytes();
        let of_value = value.map_or(ABSENT.to_le_bytes(), length);
        let parts: [&[u8]; 5] = [&[kind], &length(name), name, &of_value, value.unwrap_or_default()];
        let total = parts.iter().map(|part| part.len()).sum();
        // In one piece: a `SmallVec` that grows piece by piece costs more than the rest of a part.
        let mut short = [0; 64];
        if let Some(piece) = short.get_mut(..total) {
            copy(piece, parts);
            self.bytes.extend_from_slice(piece);
        } else {
            self.bytes.extend_from_slice(&parts.concat());
        }
    }

    /// The further parts: kind, name, value.
    fn parts(&self) -> impl Iterator<Item = (u8, &[u8], Option<&[u8]>)> {
        let mut rest = self.bytes.get(4 + self.uri().len()..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (&kind, after) = rest.split_first()?;
            let (name, after) = split_length(after)?;
            let (value, after) = match split_length(after) {
                Some((value, after)) => (Some(value), after),
                None => (None, after.get(4..)?),
            };
            rest = after;
            Some((kind, name, value))
        })
    }

    /// The target URI, with which purges by URI and by prefix compare.
    pub fn uri(&self) -> &[u8] {
        split_length(&self.bytes).map(|(uri, _)| uri).unwrap_or_default()
    }

    /// The URI to which a middleware outside the cache has rewritten the request, if the key holds both. Purges compare
    /// with this one as well.
    pub fn rewritten_uri(&self) -> Option<&[u8]> {
        self.parts().find(|(kind, ..)| *kind == Kind::Rewritten as u8).and_then(|(_, _, uri)| uri)
    }

    /// [`CacheKey::uri`], and [`CacheKey::rewritten_uri`] if there is one.
    pub fn uris(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.uri()).chain(self.rewritten_uri())
    }

    /// Whether the key has no part except the URI.
    pub fn is_uri_only(&self) -> bool {
        self.is_uri_of(self.bytes.len())
    }

    /// Whether so many of its bytes are those of the URI and no others.
    fn is_uri_of(&self, length: usize) -> bool {
        length == 4 + self.uri().len()
    }

    /// [`CacheKey::as_bytes`] of the key of the whole, where this is the key of a slice ([`SliceLayer`](crate::SliceLayer)). A purge
    /// of that key takes the slice as well.
    ///
    /// The first slice has the key of the whole itself.
    pub fn whole(&self) -> Option<&[u8]> {
        if self.is_uri_only() {
            return None;
        }
        // It is the last part.
        let length =
            self.parts().last().filter(|(kind, ..)| *kind == Kind::Slice as u8).map(length_of_part)?;
        self.bytes.get(..self.bytes.len().checked_sub(length)?)
    }

    /// Whether the key of the whole of which this is a slice has no part except the URI.
    pub(crate) fn is_slice_of_uri_only(&self) -> bool {
        self.whole().is_some_and(|whole| self.is_uri_of(whole.len()))
    }

    /// All parts in their encoding, which is unique to this key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory held, the value itself included.
    pub(crate) fn weight(&self) -> usize {
        let heap = if self.bytes.spilled() { self.bytes.capacity() } else { 0 };
        size_of::<Self>() + heap
    }
}

/// Shows the URI; further parts may hold credentials.
impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = f.debug_tuple("CacheKey");
        key.field(&String::from_utf8_lossy(self.uri()));
        if !self.is_uri_only() {
            key.field(&format_args!(".."));
        }
        key.finish()
    }
}

/// How many bytes a part has in the encoding.
fn length_of_part((_, name, value): (u8, &[u8], Option<&[u8]>)) -> usize {
    1 + 4 + name.len() + 4 + value.map_or(0, <[u8]>::len)
}

/// Gives keys short names for memories that a client can fill: a key may be as long as a URI. Seeded, so that nobody
/// can choose keys with the same name; two keys that share one by chance cost a fetch, and leak nothing.
#[derive(Default)]
pub(crate) struct KeyNames([RandomState; 2]);

impl KeyNames {
    pub(crate) fn of(&self, key: &CacheKey) -> u128 {
        let [high, low] = self.0.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        (high << 64) | low
    }
}

/// The prefix and the parts, which have `length` bytes, in one piece. Written in place to keep look-ups cheap: a
/// `SmallVec` that grows part by part costs more than the rest of a key.
#[inline(always)] // the length of the prefix and of most parts is known where it is called
fn concat<const N: usize>(prefix: &[u8; 4], parts: [&[u8]; N], length: usize) -> SmallVec<[u8; INLINE]> {
    fn prefixed<const N: usize>(target: &mut [u8], prefix: &[u8; 4], parts: [&[u8]; N]) {
        let (head, rest) = target.split_at_mut(4);
        head.copy_from_slice(prefix);
        copy(rest, parts);
    }
    if 4 + length <= INLINE {
        let mut bytes = [0; INLINE];
        prefixed(&mut bytes, prefix, parts);
        SmallVec::from_buf_and_len(bytes, 4 + length)
    } else {
        let mut bytes = vec![0; 4 + length];
        prefixed(&mut bytes, prefix, parts);
        SmallVec::from_vec(bytes)
    }
}

/// Copies parts one after the other to the beginning of `target`, which has room for them.
#[inline(always)]
fn copy<const N: usize>(target: &mut [u8], parts: [&[u8]; N]) {
    let mut rest = target;
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
}

/// Reads a length and splits off that many bytes; `None` if there are too few.
fn split_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// A URI in absolute form after its length, with scheme and host in lower case and without a default port; then a mark
/// that distinguishes `*` from `/*`.
fn absolute(uri: &Uri, request: &Parts) -> Result<SmallVec<[u8; INLINE]>, KeyError> {
    let scheme = scheme(uri, request)?;
    let authority = without_default_port(authority(uri, request)?, scheme);
    spelled(scheme.as_str(), authority, uri)
}

/// What a key leaves out of the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnyOrigin {
    pub(crate) host: bool,
    pub(crate) scheme: bool,
}

impl AnyOrigin {
    /// The scheme of keys that leave it out. It has no default port, so `a` and `a:80` stay different (A37).
    pub(crate) const SCHEME: &'static str = "any";

    fn name(self) -> Option<&'static str> {
        match (self.host, self.scheme) {
            (false, false) => None,
            (true, false) => Some(ANY_HOST),
            (false, true) => Some(ANY_SCHEME),
            (true, true) => Some(ANY_ORIGIN),
        }
    }
}

fn absolute_of_any(
    uri: &Uri,
    request: &Parts,
    origin: AnyOrigin,
) -> Result<SmallVec<[u8; INLINE]>, KeyError> {
    let scheme = scheme(uri, request)?;
    let authority = without_default_port(authority(uri, request)?, scheme);
    let scheme = if origin.scheme { AnyOrigin::SCHEME } else { scheme.as_str() };
    spelled(scheme, if origin.host { b"" } else { authority }, uri)
}

#[inline(always)] // of every request
fn spelled(scheme: &str, authority: &[u8], uri: &Uri) -> Result<SmallVec<[u8; INLINE]>, KeyError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let slash = if path.starts_with('/') { "" } else { "/" };
    let parts: [&[u8]; 5] = [scheme.as_bytes(), b"://", authority, slash.as_bytes(), path.as_bytes()];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let prefix = u32::try_from(length).map_err(|_| KeyError::TooLong)?.to_le_bytes();
    let mut bytes = concat(&prefix, parts, length);
    // Scheme and host compare in any case; schemes are in lower case already.
    let host = 4 + scheme.len() + 3;
    bytes[host..host + authority.len()].make_ascii_lowercase();
    if slash == "/" && path == "*" {
        let mut key = CacheKey { bytes };
        key.push(Kind::Asterisk, "", None);
        return Ok(key.bytes);
    }
    Ok(bytes)
}

/// Removes from a forwarded request what is for this cache only.
pub(crate) fn leave(request: &mut Parts) {
    target::leave(request);
    edit::forget(request);
    parts::leave(request);
}

/// The absolute form of a request's target URI, which a key's URI spells in lower case.
pub(crate) fn absolute_uri(request: &Parts) -> Option<Uri> {
    let key = CacheKey::of(request).ok()?;
    Uri::try_from(key.uri()).ok().filter(|uri| uri.authority().is_some())
}

/// A GET for a URI, with no field except `Host`: what a policy makes its key of. It has `Host` because a policy may set a
/// URI that is a path only.
pub(crate) fn get(uri: Uri) -> Parts {
    let mut request = http::Request::new(());
    let host = uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    request.headers_mut().extend(host.map(|host| (http::header::HOST, host)));
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    request.into_parts().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::{self, HeaderMap};
    use http::uri::Scheme;
    use proptest::prelude::*;

    fn parts(uri: &str, host: &[&'static str]) -> Parts {
        let (mut parts, ()) = Request::get(uri).body(()).expect("a request").into_parts();
        for line in host {
            parts.headers.append(header::HOST, HeaderValue::from_static(line));
        }
        parts
    }

    #[track_caller]
    fn check(uri: &str, host: &[&'static str], expected: Result<&str, KeyError>) {
        let key = CacheKey::of(&parts(uri, host));
        let read = key.as_ref().map(|key| std::str::from_utf8(key.uri()).expect("ASCII"));
        assert_eq!(read, expected.as_ref().copied(), "{uri} {host:?}");
    }

    #[test]
    fn a01_keys_distinguish_hosts_and_schemes() {
        check("/x", &["a"], Ok("http://a/x"));
        check("/x", &["b"], Ok("http://b/x"));
        check("/x", &["A:80"], Ok("http://a/x"));
        check("/x", &["a:"], Ok("http://a/x"));
        check("/x", &["a:8080"], Ok("http://a:8080/x"));
        check("http://A/x", &[], Ok("http://a/x"));
        check("http://a:80/x", &["a:80"], Ok("http://a/x"));
        check("https://a:443/x", &[], Ok("https://a/x"));
        check("https://a:80/x", &[], Ok("https://a:80/x"));
        check("/x", &["[::1]:80"], Ok("http://[::1]/x"));
        check("/x", &[], Ok("http:///x"));
        check("http://a", &[], Ok("http://a/"));
        check("*", &["a"], Ok("http://a/*"));
        check("/x", &["[fe80::80]"], Ok("http://[fe80::80]/x"));
        check("/x", &[":80"], Ok("http:///x"));
        let mut secure = parts("/x", &["a:443"]);
        secure.extensions.insert(Scheme::HTTPS);
        assert_eq!(CacheKey::of(&secure).expect("a key").uri(), b"https://a/x");
    }

    #[test]
    fn a02_a_request_with_contradicting_authorities_has_no_key() {
        let ambiguous = Err(KeyError::Authority);
        check("http://a/x", &["b"], ambiguous);
        check("http://a:80/x", &["a"], ambiguous);
        check("/x", &["a", "b"], ambiguous);
        check("/x", &["a", "a"], ambiguous);
        check("/x", &["user@a"], ambiguous);
        check("/x", &["a/b"], ambiguous);
        check("/x", &["a b"], ambiguous);
        check("/x", &["a?b"], ambiguous);
        check("http://u:p@a/x", &[], ambiguous);
        check("http://A/x", &["a"], Ok("http://a/x"));
        for host in ["fe80::80", "a:80:80", "a:b", "[::1", "::1]", "a[::1]", "[::1]80", "[::1]:x", "[[::1]"] {
            check("/x", &[host], ambiguous);
        }
    }

    #[test]
    fn a38_the_scheme_of_a_key_is_that_of_the_connection() {
        let of = |uri: &str, accepted: Option<Scheme>| {
            let mut request = parts(uri, &["a"]);
            request.extensions.extend(
                accepted
                    .map(|scheme| {
                        let mut extensions = http::Extensions::new();
                        extensions.insert(scheme);
                        extensions
                    })
                    .unwrap_or_default(),
            );
            CacheKey::of(&request).map(|key| String::from_utf8_lossy(key.uri()).into_owned())
        };
        let (http, https) = (|| Some(Scheme::HTTP), || Some(Scheme::HTTPS));
        assert_eq!(of("/x", http()).as_deref(), Ok("http://a/x"));
        assert_eq!(of("/x", https()).as_deref(), Ok("https://a/x"));
        assert_eq!(of("http://a/x", http()).as_deref(), Ok("http://a/x"));
        assert_eq!(of("HTTPS://a/x", https()).as_deref(), Ok("https://a/x"));
        assert_eq!(of("https://a/x", http()), Err(KeyError::Scheme));
        assert_eq!(of("http://a/x", https()), Err(KeyError::Scheme));
        assert_eq!(of("gopher://a/x", http()), Err(KeyError::Scheme));
        assert_eq!(of("://a/x", http()), Err(KeyError::Scheme));
        assert_eq!(of("://a/x", None), Err(KeyError::Scheme));
        // Without a word from there, the target's.
        assert_eq!(of("https://a/x", None).as_deref(), Ok("https://a/x"));
        assert_eq!(of("/x", None).as_deref(), Ok("http://a/x"));
    }

    #[test]
    fn a37_asterisk_form_and_an_asterisk_path_have_different_keys() {
        let of = |uri| CacheKey::of(&parts(uri, &["a"])).expect("a key");
        assert_ne!(of("*"), of("/*"));
        assert_eq!(of("*"), of("*"));
        // A purge of either reaches both.
        assert_eq!(of("*").uri(), of("/*").uri());
    }

    /// What the inner service sees of the authority: `Host`, and the URI.
    #[track_caller]
    fn check_settled(uri: &str, host: &[&'static str], accepted: Scheme, expected: (Option<&str>, &str)) {
        let mut request = parts(uri, host);
        request.extensions.insert(accepted);
        let before = CacheKey::of(&request);
        settle_authority(&mut request);
        let seen = request.headers.get(header::HOST).map(|host| host.to_str().expect("ASCII"));
        assert_eq!((seen, &*request.uri.to_string()), expected, "{uri} {host:?}");
        assert_eq!(CacheKey::of(&request), before, "{uri} {host:?}");
    }

    #[test]
    fn a37_a_forwarded_request_has_the_authority_of_the_key() {
        let (http, https) = (|| Scheme::HTTP, || Scheme::HTTPS);
        for (host, plain, secure) in [
            ("s.test", "s.test", "s.test"),
            ("S.Test", "s.test", "s.test"),
            ("s.test:80", "s.test", "s.test:80"),
            ("s.test:443", "s.test:443", "s.test"),
            ("s.test:", "s.test", "s.test"),
            ("s.test:8080", "s.test:8080", "s.test:8080"),
            ("S.test.:80", "s.test.", "s.test.:80"),
            ("[::1]:80", "[::1]", "[::1]:80"),
            ("[2001:DB8::80]", "[2001:db8::80]", "[2001:db8::80]"),
            ("", "", ""),
            (":80", "", ":80"),
        ] {
            check_settled("/x?y", &[host], http(), (Some(plain), "/x?y"));
            check_settled("/x?y", &[host], https(), (Some(secure), "/x?y"));
        }
        // Absolute form, and HTTP/2 with or without a `Host`.
        check_settled("http://S.test:80/x?y", &["s.TEST:80"], http(), (Some("s.test"), "http://s.test/x?y"));
        check_settled("http://S.test:80/x?y", &[], http(), (None, "http://s.test/x?y"));
        check_settled("https://s.test:443/", &[], https(), (None, "https://s.test/"));
        check_settled("http://[::1]:80/", &[], http(), (None, "http://[::1]/"));
        check_settled("*", &["S.test"], http(), (Some("s.test"), "*"));
        // What has no key goes as it came.
        check_settled("http://S.test/", &["t.test:80"], http(), (Some("t.test:80"), "http://S.test/"));
        check_settled("/", &["S.test:80", "T.test"], http(), (Some("S.test:80"), "/"));
        check_settled(
            "https://S.test:80/",
            &["S.test:80"],
            http(),
            (Some("S.test:80"), "https://S.test:80/"),
        );
        check_settled("/", &["fe80::80"], http(), (Some("fe80::80"), "/"));
    }

    #[test]
    fn a12_paths_are_not_decoded() {
        check("/account;.css", &["a"], Ok("http://a/account;.css"));
        check("/static/..%2faccount", &["a"], Ok("http://a/static/..%2faccount"));
        check("/static/..%2Faccount", &["a"], Ok("http://a/static/..%2Faccount"));
        check("/a%00b", &["a"], Ok("http://a/a%00b"));
        check("/a//b/../c?utm=a;cb=x&d=%41", &["a"], Ok("http://a/a//b/../c?utm=a;cb=x&d=%41"));
        check("/x?", &["a"], Ok("http://a/x?"));
    }

    #[test]
    fn replacing_the_uri_keeps_the_other_parts_of_a_key() {
        let of = |uri| CacheKey::of(&parts(uri, &["a"])).expect("a key").with("x", b"1");
        let long = format!("/{}", "x".repeat(200));
        assert_eq!(of("/one").with_uri(b"http://a/two?b"), of("/two?b"));
        assert_eq!(of("/one").with_uri(format!("http://a{long}").as_bytes()), of(&long));
        assert_eq!(of(&long).with_uri(b"http://a/"), of("/"));
    }

    #[test]
    fn ra4_a_key_of_a_slice_knows_that_of_the_whole() {
        let plain = CacheKey::of(&parts("/x", &["a"])).expect("a key");
        for whole in [plain.clone(), plain.clone().with("x", b"1"), plain.clone().with_absent("x")] {
            let slice = whole.clone().for_slice(7, 1024);
            assert_eq!((whole.whole(), slice.whole()), (None, Some(whole.as_bytes())));
            assert_eq!(slice.is_slice_of_uri_only(), whole.is_uri_only());
            assert_eq!(slice.with_in_whole("y", b"2"), whole.clone().with("y", b"2").for_slice(7, 1024));
            assert_eq!(whole.clone().with_in_whole("y", b"2"), whole.with("y", b"2"));
        }
        assert_eq!(plain.with("", b"1*1024").whole(), None, "a part is no slice, whatever it says");
    }

    #[test]
    fn a_key_knows_which_credentials_it_holds() {
        let mut request = parts("/me", &["a"]);
        request.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("user:one"));
        let plain = CacheKey::of(&request).expect("a key");
        let keyed = plain.clone().with_field(&header::AUTHORIZATION, &request.headers);
        assert!(plain.is_uri_only() && !plain.keyed_credentials(&request.headers).authorization);
        assert!(!keyed.is_uri_only() && keyed.keyed_credentials(&request.headers).authorization);
        assert_eq!(plain.uri(), keyed.uri());
        assert_ne!(plain, keyed);
        let shown = format!("{keyed:?}");
        assert!(shown.contains("http://a/me") && !shown.contains("user:one"), "{shown}");
    }

    #[test]
    fn b11_a_key_part_named_like_a_credential_is_no_credential() {
        let mut request = parts("/me", &["a"]);
        request.headers.insert(header::COOKIE, HeaderValue::from_static("1"));
        let plain = CacheKey::of(&request).expect("a key");
        let field = plain.clone().with_field(&header::COOKIE, &request.headers);
        let part = plain.clone().with("cookie", b"1");
        assert!(
            field.keyed_credentials(&request.headers).cookie
                && !part.keyed_credentials(&request.headers).cookie
        );
        assert_ne!(field, part);
        assert_ne!(field.as_bytes(), part.as_bytes());
        let absent = plain.with_field(&header::AUTHORIZATION, &request.headers).with("x", b"1");
        assert!(
            absent.keyed_credentials(&request.headers).authorization
                && !absent.keyed_credentials(&request.headers).cookie
        );
    }

    fn key_of(uri: &str, list: &[(String, Option<Vec<u8>>)]) -> CacheKey {
        let mut key = CacheKey::of(&parts(uri, &["a"])).expect("a key");
        for (name, value) in list {
            key.push(Kind::Part, name, value.as_deref());
        }
        key
    }

    proptest! {
        #[test]
        fn a03_distinct_parts_make_distinct_keys(
            one: Vec<(String, Option<Vec<u8>>)>,
            other: Vec<(String, Option<Vec<u8>>)>,
            path in "/[a-z]{0,3}",
            other_path in "/[a-z]{0,3}",
        ) {
            let same = one == other && path == other_path;
            prop_assert_eq!(key_of(&path, &one) == key_of(&other_path, &other), same);
        }

        #[test]
        fn b11_keys_are_equal_exactly_if_their_bytes_are(
            one in prop::collection::vec((prop::bool::ANY, 0usize..3, prop::option::of("[a-b]{0,2}")), 0..4),
            other in prop::collection::vec((prop::bool::ANY, 0usize..3, prop::option::of("[a-b]{0,2}")), 0..4),
        ) {
            let names = [header::AUTHORIZATION, header::COOKIE, header::ACCEPT];
            let make = |list: &[(bool, usize, Option<String>)]| {
                let key = CacheKey::of(&parts("/x", &["a"])).expect("a key");
                list.iter().fold(key, |key, (is_field, name, value)| {
                    let (name, value) = (&names[*name], value.as_deref());
                    if !is_field {
                        return key.with(name.as_str(), value.unwrap_or_default().as_bytes());
                    }
                    let mut headers = HeaderMap::new();
                    let value = value.map(|value| HeaderValue::from_str(value).expect("a value"));
                    headers.extend(value.map(|value| (name.clone(), value)));
                    key.with_field(name, &headers)
                })
            };
            let keyed = |list: &[(bool, usize, Option<String>)], at: usize| {
                list.iter().any(|(is_field, name, _)| *is_field && *name == at)
            };
            let (first, second) = (make(&one), make(&other));
            prop_assert_eq!(first == second, first.as_bytes() == second.as_bytes());
            let told = first.keyed_credentials(&HeaderMap::new());
            prop_assert_eq!((told.authorization, told.cookie), (keyed(&one, 0), keyed(&one, 1)));
        }

        #[test]
        fn a03_moving_a_byte_between_parts_makes_another_key(a in "[a-c]{0,4}", b in "[a-c]{0,4}", c in "[a-c]{0,4}") {
            let split = |parts: [&str; 2]| {
                key_of("/", &[("x".into(), Some(parts[0].into())), ("x".into(), Some(parts[1].into()))])
            };
            let (ab, bc) = (format!("{a}{b}"), format!("{b}{c}"));
            let same = ab == a && bc == c || b.is_empty();
            prop_assert_eq!(split([&ab, &c]) == split([&a, &bc]), same);
        }
    }
}
