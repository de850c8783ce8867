//! The URIs of a request, and the authority of each.

use std::borrow::Cow;

use http::header;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Uri};

use super::KeyError;

/// The URIs of a request.
pub(super) struct Targets<'a> {
    /// The URI that the client asked for, or the one that a policy gives.
    pub(super) asked: Cow<'a, Uri>,
    /// The URI that a middleware has rewritten it to, if that does not follow from nesting.
    pub(super) rewritten: Option<&'a Uri>,
}

/// The URI with which the request arrived at the cache, in its extensions. It distinguishes a URI that a policy has set
/// from one that a middleware has set.
#[cfg(feature = "axum")]
#[derive(Clone)]
struct OnEntry(Uri);

/// Remembers the URI of an arriving request.
#[cfg(feature = "axum")]
#[inline(always)] // most requests have nothing to remember
pub(crate) fn enter(request: &mut Parts) {
    if request.extensions.get::<axum::extract::OriginalUri>().is_some() {
        request.extensions.insert(OnEntry(request.uri.clone()));
    }
}

#[cfg(not(feature = "axum"))]
pub(crate) fn enter(_: &mut Parts) {}

/// Removes it from a forwarded request: further inside, the URI may change again.
#[cfg(feature = "axum")]
pub(super) fn leave(request: &mut Parts) {
    request.extensions.remove::<OnEntry>();
}

#[cfg(not(feature = "axum"))]
pub(super) fn leave(_: &mut Parts) {}

/// Does something to every URI of a request: its own, the one that the client asked for, and the one with which it arrived.
pub(crate) fn each_uri(request: &mut Parts, mut edit: impl FnMut(&mut Uri)) {
    edit(&mut request.uri);
    #[cfg(feature = "axum")]
    {
        if let Some(axum::extract::OriginalUri(original)) = request.extensions.get_mut() {
            edit(original);
        }
        if let Some(OnEntry(uri)) = request.extensions.get_mut() {
            edit(uri);
        }
    }
}

/// Whether this is true of the query of any of these URIs.
#[cfg(not(feature = "axum"))]
pub(super) fn any_query(request: &Parts, is_true: impl Fn(&str) -> bool) -> bool {
    request.uri.query().is_some_and(is_true)
}

/// Whether this is true of the query of any of these URIs. Those that have the query of the request's own are not asked again.
#[cfg(feature = "axum")]
pub(super) fn any_query(request: &Parts, is_true: impl Fn(&str) -> bool) -> bool {
    let own = request.uri.query();
    let original = request.extensions.get().and_then(|axum::extract::OriginalUri(uri)| uri.query());
    let on_entry = request.extensions.get().and_then(|OnEntry(uri)| uri.query());
    let others = [original, on_entry].into_iter().filter(|query| *query != own);
    std::iter::once(own).chain(others).flatten().any(is_true)
}

impl<'a> Targets<'a> {
    fn one(asked: &'a Uri) -> Self {
        Self { asked: Cow::Borrowed(asked), rewritten: None }
    }

    #[cfg(not(feature = "axum"))]
    pub(super) fn of(request: &'a Parts) -> Self {
        Self::one(&request.uri)
    }

    /// `Router::nest` strips its prefix from the URI. With the rest as key, two routers would share entries. With
    /// axum's `OriginalUri` alone as key, requests that a middleware rewrites by a field would share entries.
    #[cfg(feature = "axum")]
    #[inline]
    pub(super) fn of(request: &'a Parts) -> Self {
        let present = &request.uri;
        let Some(axum::extract::OriginalUri(original)) = request.extensions.get() else {
            return Self::one(present);
        };
        let on_entry = request.extensions.get().map_or(present, |OnEntry(uri)| uri);
        let nested = request.extensions.get::<axum::extract::NestedPath>();
        let nested = nested.map(axum::extract::NestedPath::as_str);
        match (nested_below(original, on_entry, nested), present == on_entry) {
            (Some(_), true) => Self::one(original),
            (None, true) => Self { asked: Cow::Borrowed(original), rewritten: Some(present) },
            // A policy's own.
            (prefix, false) => {
                let prefix = prefix.unwrap_or_default();
                Self { asked: below(prefix, present, original), rewritten: None }
            }
        }
    }
}

/// The URI that the client asked for, or that a policy gives.
pub(crate) fn asked_uri(request: &Parts) -> Cow<'_, Uri> {
    Targets::of(request).asked
}

/// The path of [`asked_uri`]: as sent, without the query.
#[inline]
pub(crate) fn asked_path(request: &Parts) -> Cow<'_, str> {
    match Targets::of(request).asked {
        Cow::Borrowed(uri) => Cow::Borrowed(uri.path()),
        Cow::Owned(uri) => Cow::Owned(uri.path().to_owned()),
    }
}

/// The host that the client asked for, as sent and without a port; `None` where there is none, or none that is clear.
pub(crate) fn host_of(request: &Parts) -> Option<&str> {
    let uri = sent_uri(request);
    let authority = std::str::from_utf8(authority(uri, request).ok()?).ok()?;
    let end = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
    Some(&authority[..end.unwrap_or(authority.len())]).filter(|host| !host.is_empty())
}

/// The authority that the client asked for, as keys spell it; `None` where there is none.
///
/// # Errors
///
/// As [`CacheKey::of`](super::CacheKey::of).
pub(crate) fn authority_of(request: &Parts) -> Result<Option<Cow<'_, str>>, KeyError> {
    let uri = sent_uri(request);
    let scheme = scheme(uri, request)?;
    let authority = authority(uri, request)?;
    let authority = std::str::from_utf8(authority).map_err(|_| KeyError::Authority)?;
    let authority = settled(authority, scheme).map_or(Cow::Borrowed(authority), Cow::Owned);
    Ok(Some(authority).filter(|authority| !authority.is_empty()))
}

#[cfg(feature = "axum")]
fn sent_uri(request: &Parts) -> &Uri {
    let original = request.extensions.get();
    original.map_or(
        &request.uri,
        |axum::extract::OriginalUri(uri)| if uri.authority().is_some() { uri } else { &request.uri },
    )
}

#[cfg(not(feature = "axum"))]
fn sent_uri(request: &Parts) -> &Uri {
    &request.uri
}

/// The prefix that nesting has stripped from `original`; `None` if anything else differs. `nested` is axum's path of
/// the nested router, with the names of parameters.
#[cfg(feature = "axum")]
fn nested_below<'a>(original: &'a Uri, present: &Uri, nested: Option<&str>) -> Option<&'a str> {
    let is_same = original.scheme() == present.scheme()
        && original.authority() == present.authority()
        && original.query() == present.query();
    let (whole, rest) = (original.path(), present.path());
    let segments = |path: &str| path.split('/').filter(|segment| !segment.is_empty()).count();
    let is_nested = |prefix: &&str| nested.is_none_or(|nested| segments(nested) == segments(prefix));
    // A router nested at `/a` sees `/` of `/a`.
    let root = || (rest == "/" && nested.is_some()).then_some(whole);
    whole.strip_suffix(rest).or_else(root).filter(is_nested).filter(|_| is_same)
}

/// Puts a URI below a prefix, and gives it the origin of `original` if it names none.
#[cfg(feature = "axum")]
fn below<'a>(prefix: &str, uri: &'a Uri, original: &Uri) -> Cow<'a, Uri> {
    if prefix.is_empty() && (uri.authority().is_some() || original.authority().is_none()) {
        return Cow::Borrowed(uri);
    }
    let mut parts = uri.clone().into_parts();
    if parts.authority.is_none() {
        (parts.scheme, parts.authority) = (original.scheme().cloned(), original.authority().cloned());
    }
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    parts.path_and_query = format!("{prefix}{path}").parse().ok();
    // A prefix of a path, and a path, make a path.
    Uri::from_parts(parts).map_or(Cow::Borrowed(uri), Cow::Owned)
}

/// The kind of a byte in an authority: part of a name, a delimiter, or forbidden (RFC 3986 3.2.2, 3.2.3). The kinds are
/// bits, so that one pass finds all kinds that an authority has.
const NAME: u8 = 0;
const MARK: u8 = 1;
const FORBIDDEN: u8 = 2;

static HOST_BYTES: [u8; 256] = {
    let mut kinds = [FORBIDDEN; 256];
    let mut byte = 0u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b':' | b'[' | b']' => MARK,
            b'.' | b'-' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b';' | b'=' => NAME,
            byte if byte.is_ascii_alphanumeric() => NAME,
            _ => FORBIDDEN,
        };
        byte += 1;
    }
    kinds
};

/// Whether colons and brackets are where they may be: `host[:port]`, with an IPv6 address in brackets. Nobody can say
/// which part of `fe80::80` is the port.
fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    !host.contains(['[', ']']) && port.strip_prefix(':').map_or(port.is_empty(), is_port)
}

/// The code that accepted the connection says the scheme, by an [`http::uri::Scheme`] in the request's extensions: a
/// client may write any scheme into its target. Without an extension, the target's scheme counts, otherwise `http`.
#[inline]
pub(super) fn scheme<'a>(uri: &'a Uri, request: &'a Parts) -> Result<&'a Scheme, KeyError> {
    match (request.extensions.get::<Scheme>(), uri.scheme()) {
        (Some(accepted), Some(named)) if accepted != named => Err(KeyError::Scheme),
        // `http` reads `://a/` as a URI.
        (None, Some(named)) if named.as_str().is_empty() => Err(KeyError::Scheme),
        (Some(scheme), _) | (None, Some(scheme)) => Ok(scheme),
        (None, None) => Ok(&Scheme::HTTP),
    }
}

/// Gives a forwarded request the authority that its key holds: in lower case, without a default port. Otherwise an
/// origin that writes it into links would give everybody the spelling of one client. A request without a key stays
/// unchanged.
pub(crate) fn settle_authority(request: &mut Parts) {
    if is_settled(request) {
        return;
    }
    let (Ok(scheme), Ok(_)) = (scheme(&request.uri, request).cloned(), authority(&request.uri, request))
    else {
        return;
    };
    let host = request.headers.get(header::HOST).and_then(|host| settled(host.to_str().ok()?, &scheme));
    if let Some(host) = host.and_then(|host| HeaderValue::try_from(host).ok()) {
        request.headers.insert(header::HOST, host);
    }
    settle_uri(&mut request.uri, &scheme);
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions.get_mut() {
        settle_uri(original, &scheme);
    }
}

/// Whether every authority of the request is in lower case and has no port, as in most requests.
fn is_settled(request: &Parts) -> bool {
    let is_plain =
        |authority: &[u8]| !authority.iter().any(|byte| *byte == b':' || byte.is_ascii_uppercase());
    let is_plain_uri =
        |uri: &Uri| uri.authority().is_none_or(|authority| is_plain(authority.as_str().as_bytes()));
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions.get()
        && !is_plain_uri(original)
    {
        return false;
    }
    let host = request.headers.get(header::HOST);
    is_plain_uri(&request.uri) && host.is_none_or(|host| is_plain(host.as_bytes()))
}

fn settle_uri(uri: &mut Uri, scheme: &Scheme) {
    let settled = uri.authority().and_then(|authority| settled(authority.as_str(), scheme));
    if let Some(Ok(authority)) = settled.map(|authority| authority.parse()) {
        let mut parts = uri.clone().into_parts();
        parts.authority = Some(authority);
        // With another authority it is a URI still.
        if let Ok(settled) = Uri::from_parts(parts) {
            *uri = settled;
        }
    }
}

/// The authority as keys have it; `None` if it is spelled that way already.
fn settled(authority: &str, scheme: &Scheme) -> Option<String> {
    let bare = &authority[..without_default_port(authority.as_bytes(), scheme).len()];
    let is_spelled_so = bare.len() == authority.len() && !bare.bytes().any(|byte| byte.is_ascii_uppercase());
    (!is_spelled_so).then(|| bare.to_ascii_lowercase())
}

/// RFC 9110 7.2: the URI's authority, or `Host`; if both are present, they have to agree.
pub(super) fn authority<'a>(uri: &'a Uri, request: &'a Parts) -> Result<&'a [u8], KeyError> {
    let mut lines = request.headers.get_all(header::HOST).into_iter();
    let host = lines.next();
    if lines.next().is_some() {
        return Err(KeyError::Authority);
    }
    let host = host.map(HeaderValue::as_bytes);
    let named = uri.authority().map(|named| named.as_str().as_bytes());
    let authority = match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => {
            return Err(KeyError::Authority);
        }
        (Some(authority), _) | (None, Some(authority)) => authority,
        // HTTP/1.1 demands a Host; HTTP/1.0 and services without a wire have none.
        (None, None) => b"",
    };
    if is_authority(authority) { Ok(authority) } else { Err(KeyError::Authority) }
}

/// Whether it is `host[:port]`, or nothing.
#[inline]
pub(super) fn is_authority(text: &[u8]) -> bool {
    match text.iter().fold(NAME, |kinds, byte| kinds | HOST_BYTES[usize::from(*byte)]) {
        NAME => true,
        MARK => std::str::from_utf8(text).is_ok_and(is_host_and_port),
        _ => false,
    }
}

#[inline]
pub(super) fn without_default_port<'a>(authority: &'a [u8], scheme: &Scheme) -> &'a [u8] {
    let port: &[u8] = if *scheme == Scheme::HTTPS {
        b":443"
    } else if *scheme == Scheme::HTTP {
        b":80"
    } else {
        return authority;
    };
    let bare = authority.strip_suffix(port).unwrap_or(authority);
    bare.strip_suffix(b":").unwrap_or(bare)
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use super::*;
    use crate::entry::key::CacheKey;
    use axum::extract::OriginalUri;
    use http::Request;

    /// The URIs in the key of a request that was for `original`, comes in for `present`, and for which a policy asks by
    /// `policys`.
    #[track_caller]
    fn check(original: &str, present: &str, policys: Option<&str>, expected: &[&str]) {
        let uri = |text: &str| text.parse::<Uri>().expect("a URI");
        let (mut request, ()) = Request::get(present).body(()).expect("a request").into_parts();
        if request.uri.authority().is_none() {
            request.headers.insert(header::HOST, http::HeaderValue::from_static("a"));
        }
        request.extensions.insert(OriginalUri(uri(original)));
        for is_entered in [false, true] {
            if is_entered {
                enter(&mut request);
            }
            if let Some(policys) = policys.filter(|_| is_entered) {
                request.uri = uri(policys);
            } else if policys.is_some() {
                continue;
            }
            let key = CacheKey::of(&request).expect("a key");
            let uris: Vec<_> = key.uris().map(|uri| std::str::from_utf8(uri).expect("ASCII")).collect();
            assert_eq!(uris, expected, "{original} {present} {policys:?}");
        }
    }

    #[test]
    fn a13_a_request_below_a_nested_router_is_keyed_by_its_original_uri() {
        check("/x?q", "/x?q", None, &["http://a/x?q"]);
        check("/api/x?q", "/x?q", None, &["http://a/api/x?q"]);
        check("/api/", "/", None, &["http://a/api/"]);
        check("http://b/api/x", "http://b/x", None, &["http://b/api/x"]);
    }

    #[test]
    fn b13_a_key_holds_the_rewritten_uri_and_the_original_one() {
        check("/x", "/x?tenant=b", None, &["http://a/x", "http://a/x?tenant=b"]);
        check("/x?q", "/x", None, &["http://a/x?q", "http://a/x"]);
        check("/x", "/b/x", None, &["http://a/x", "http://a/b/x"]);
        check("/x", "/y", None, &["http://a/x", "http://a/y"]);
        check("http://b/x", "http://c/x", None, &["http://b/x", "http://c/x"]);
    }

    #[test]
    fn b13_a_policys_uri_replaces_that_of_the_request() {
        check("/x?b&a", "/x?b&a", Some("/x?a&b"), &["http://a/x?a&b"]);
        check("/api/x?b&a", "/x?b&a", Some("/x?a&b"), &["http://a/api/x?a&b"]);
        check("/x?b&a", "/x?b&a&tenant=1", Some("/x?a&b&tenant=1"), &["http://a/x?a&b&tenant=1"]);
        // Where the policy names no origin, the request's counts.
        check("http://b/api/x?2&1", "http://b/x?2&1", Some("/x?1&2"), &["http://b/api/x?1&2"]);
        check("http://b/x?2&1", "http://b/x?2&1", Some("/x?1&2"), &["http://b/x?1&2"]);
    }
}
