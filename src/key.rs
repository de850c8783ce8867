//! What a stored response is found by.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::Scheme;
use http::{Uri, Version};
use smallvec::SmallVec;
use thiserror::Error;

use crate::semantics::CredentialKinds;

/// The key under which responses are stored: the target URI, and further parts that a policy adds.
///
/// Keys are equal when all their parts are, byte for byte. The URI is
/// `scheme://authority/path?query` with scheme and host in lower case and without a default port; path and
/// query are taken as they came, never decoded. The method is not part of it.
///
/// ```
/// use http::Request;
/// use larder::CacheKey;
/// let (parts, ()) = Request::get("http://Example.com:80/a?b=%2F").body(()).unwrap().into_parts();
/// let key = CacheKey::of(&parts).unwrap();
/// assert_eq!(key.uri(), b"http://example.com/a?b=%2F");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CacheKey {
    // u32 length of the URI | URI | for each further part: u32 length of name | name | u32 length
    // of value, or ABSENT | value. Integers are little-endian. Lengths come first, so that no two lists
    // of parts have one encoding.
    bytes: SmallVec<[u8; INLINE]>,
    keyed: Keyed,
}

/// Most keys fit here, so that making one for a look-up does not allocate.
const INLINE: usize = 96;

const ABSENT: u32 = u32::MAX;

/// Part of the key only to answer for it: it follows from `bytes`.
type Keyed = (bool, bool);

/// Why a request has no key. It is forwarded and nothing is stored.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The request names two authorities, or one that is not `host[:port]`: caches and origins differ on
    /// which to believe (RFC 9110 7.2).
    #[error("the request's authority is ambiguous")]
    Authority,
    /// The URI is too long to be a key.
    #[error("the request's URI is too long")]
    TooLong,
}

impl KeyError {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "ambiguous-authority",
            Self::TooLong => "uri-too-long",
        }
    }
}

impl CacheKey {
    /// The key of a request's target URI.
    ///
    /// The scheme is the URI's, else that of an [`http::uri::Scheme`] in the request's extensions, else
    /// `http`. The authority is the URI's or the `Host` field's; a request with neither has an empty one.
    /// With the feature `axum`, the URI is the one that the client asked for, also below a nested router.
    ///
    /// # Errors
    ///
    /// [`KeyError::Authority`] when URI and `Host` contradict each other, `Host` occurs twice, or the
    /// authority has user information or other characters that no host name has.
    pub fn of(request: &Parts) -> Result<Self, KeyError> {
        let uri = original_uri(request);
        let scheme = match uri.scheme() {
            Some(scheme) => scheme,
            None => request.extensions.get().unwrap_or(&Scheme::HTTP),
        };
        let authority = authority(uri, request)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = without_default_port(authority, scheme);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let parts = [scheme.as_str(), "://", authority, slash, path];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let prefix = u32::try_from(length).map_err(|_| KeyError::TooLong)?.to_le_bytes();
        let mut bytes = concat(&prefix, parts, length);
        // Scheme and host compare in any case; schemes are in lower case already.
        let host = 4 + scheme.as_str().len() + 3;
        bytes[host..host + authority.len()].make_ascii_lowercase();
        Ok(Self { bytes, keyed: Keyed::default() })
    }

    /// The same with another URI.
    #[must_use]
    pub(crate) fn with_uri(self, uri: &[u8]) -> Self {
        let further = &self.bytes[4 + self.uri().len()..];
        let length = u32::try_from(uri.len()).unwrap_or(ABSENT - 1).to_le_bytes();
        let mut bytes = SmallVec::with_capacity(4 + uri.len() + further.len());
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(uri);
        bytes.extend_from_slice(further);
        Self { bytes, ..self }
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.push(name, Some(value));
        self
    }

    /// Adds a request field, its lines one by one, or the fact that it is absent. A key with
    /// `Authorization` or `Cookie` holds that credential: what is stored under it is one user's.
    #[must_use]
    pub fn with_field(mut self, name: &HeaderName, headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(name).into_iter().peekable();
        if lines.peek().is_none() {
            self.push(name.as_str(), None);
        }
        for line in lines {
            self.push(name.as_str(), Some(line.as_bytes()));
        }
        self.keyed.0 |= *name == header::AUTHORIZATION;
        self.keyed.1 |= *name == header::COOKIE;
        self
    }

    fn push(&mut self, name: &str, value: Option<&[u8]>) {
        // No field or name comes near 4 GiB; one that did would only be cut in the key's length prefix.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(ABSENT - 1).to_le_bytes();
        self.bytes.extend_from_slice(&length(name.as_bytes()));
        self.bytes.extend_from_slice(name.as_bytes());
        match value {
            None => self.bytes.extend_from_slice(&ABSENT.to_le_bytes()),
            Some(value) => {
                self.bytes.extend_from_slice(&length(value));
                self.bytes.extend_from_slice(value);
            }
        }
    }

    /// The target URI: what purges by URI and by prefix compare with.
    pub fn uri(&self) -> &[u8] {
        let [a, b, c, d, rest @ ..] = self.bytes.as_slice() else {
            return &[];
        };
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        rest.get(..length).unwrap_or_default()
    }

    /// Whether the key has nothing but the URI.
    pub fn is_uri_only(&self) -> bool {
        self.bytes.len() == 4 + self.uri().len()
    }

    /// All parts in their encoding, which is unique to this key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which credentials of the request the key holds.
    pub fn keyed_credentials(&self) -> CredentialKinds {
        let (authorization, cookie) = self.keyed;
        CredentialKinds { authorization, cookie }
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

/// Gives keys short names for memories that a client can fill: a key may be as long as a URI. Seeded, so that nobody
/// can choose keys with one name; two that have one by chance cost a fetch, and show nobody anything.
#[derive(Default)]
pub(crate) struct KeyNames([RandomState; 2]);

impl KeyNames {
    pub(crate) fn of(&self, key: &CacheKey) -> u128 {
        let [high, low] = self.0.each_ref().map(|hasher| u128::from(hasher.hash_one(key)));
        (high << 64) | low
    }
}

/// The prefix and the parts, which have `length` bytes, in one piece. Written into place for look-ups' sake:
/// a `SmallVec` that grows part by part costs more than the rest of a key.
fn concat(prefix: &[u8; 4], parts: [&str; 5], length: usize) -> SmallVec<[u8; INLINE]> {
    fn copy(target: &mut [u8], prefix: &[u8; 4], parts: [&str; 5]) {
        let (head, mut rest) = target.split_at_mut(4);
        head.copy_from_slice(prefix);
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part.as_bytes());
            rest = after;
        }
    }
    if 4 + length <= INLINE {
        let mut bytes = [0; INLINE];
        copy(&mut bytes, prefix, parts);
        SmallVec::from_buf_and_len(bytes, 4 + length)
    } else {
        let mut bytes = vec![0; 4 + length];
        copy(&mut bytes, prefix, parts);
        SmallVec::from_vec(bytes)
    }
}

#[cfg(feature = "axum")]
pub(crate) fn original_uri(request: &Parts) -> &Uri {
    // `Router::nest` strips its prefix from the URI; keyed by the rest, two routers would share entries.
    request.extensions.get::<axum::extract::OriginalUri>().map_or(&request.uri, |original| &original.0)
}

#[cfg(not(feature = "axum"))]
pub(crate) fn original_uri(request: &Parts) -> &Uri {
    &request.uri
}

/// Bytes of `host[:port]` (RFC 3986 3.2.2, 3.2.3).
static HOST_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        allowed[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'.' | b'-'
                    | b'_'
                    | b'~'
                    | b':'
                    | b'['
                    | b']'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            );
        byte += 1;
    }
    allowed
};

/// RFC 9110 7.2: the URI's authority, or `Host`; where both are there they agree.
fn authority<'a>(uri: &'a Uri, request: &'a Parts) -> Result<&'a str, KeyError> {
    let mut lines = request.headers.get_all(header::HOST).into_iter();
    let host = lines.next();
    if lines.next().is_some() {
        return Err(KeyError::Authority);
    }
    let host =
        host.map(|host| std::str::from_utf8(host.as_bytes())).transpose().map_err(|_| KeyError::Authority)?;
    let named = uri.authority().map(http::uri::Authority::as_str);
    let authority = match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => {
            return Err(KeyError::Authority);
        }
        (Some(authority), _) | (None, Some(authority)) => authority,
        // HTTP/1.1 demands a Host; HTTP/1.0 and services without a wire have none.
        (None, None) => "",
    };
    if !authority.bytes().all(|byte| HOST_BYTES[usize::from(byte)]) {
        return Err(KeyError::Authority);
    }
    Ok(authority)
}

fn without_default_port<'a>(authority: &'a str, scheme: &Scheme) -> &'a str {
    let port = if *scheme == Scheme::HTTPS {
        ":443"
    } else if *scheme == Scheme::HTTP {
        ":80"
    } else {
        return authority;
    };
    let bare = authority.strip_suffix(port).unwrap_or(authority);
    bare.strip_suffix(':').unwrap_or(bare)
}

/// The absolute form of a request's target URI, which a key's URI spells in lower case.
pub(crate) fn absolute_uri(request: &Parts) -> Option<Uri> {
    let key = CacheKey::of(request).ok()?;
    Uri::try_from(key.uri()).ok().filter(|uri| uri.authority().is_some())
}

/// A GET for another URI of the same origin, without fields: what a policy makes its key of.
pub(crate) fn get(uri: Uri) -> Parts {
    let mut request = http::Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    request.into_parts().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};
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
    fn a01_hosts_and_schemes_are_told_apart() {
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
        let mut secure = parts("/x", &["a:443"]);
        secure.extensions.insert(Scheme::HTTPS);
        assert_eq!(CacheKey::of(&secure).expect("a key").uri(), b"https://a/x");
    }

    #[test]
    fn a02_contradicting_authorities_have_no_key() {
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
    fn another_uri_keeps_the_other_parts() {
        let of = |uri| CacheKey::of(&parts(uri, &["a"])).expect("a key").with("x", b"1");
        let long = format!("/{}", "x".repeat(200));
        assert_eq!(of("/one").with_uri(b"http://a/two?b"), of("/two?b"));
        assert_eq!(of("/one").with_uri(format!("http://a{long}").as_bytes()), of(&long));
        assert_eq!(of(&long).with_uri(b"http://a/"), of("/"));
    }

    #[test]
    fn credentials_in_the_key() {
        let mut request = parts("/me", &["a"]);
        request.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("user:one"));
        let plain = CacheKey::of(&request).expect("a key");
        let keyed = plain.clone().with_field(&header::AUTHORIZATION, &request.headers);
        assert!(plain.is_uri_only() && !plain.keyed_credentials().authorization);
        assert!(!keyed.is_uri_only() && keyed.keyed_credentials().authorization);
        assert_eq!(plain.uri(), keyed.uri());
        assert_ne!(plain, keyed);
        let shown = format!("{keyed:?}");
        assert!(shown.contains("http://a/me") && !shown.contains("user:one"), "{shown}");
    }

    fn key_of(uri: &str, list: &[(String, Option<Vec<u8>>)]) -> CacheKey {
        let mut key = CacheKey::of(&parts(uri, &["a"])).expect("a key");
        for (name, value) in list {
            key.push(name, value.as_deref());
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
