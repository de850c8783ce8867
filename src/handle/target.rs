//! Checks what a purge names: a target that nothing stored can match is an error, not a success that removes nothing.

use http::Uri;
use http::uri::Scheme;
use thiserror::Error;

use crate::entry::key::{self, CacheKey};
use crate::error::StoreError;
use crate::semantics::groups;
use crate::semantics::uri::is_scheme;
use crate::store::PurgeTarget;

/// Why a purge has not taken effect, or not for sure.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// A URI that no request could be stored under.
    #[error("nothing is stored under '{0}': the authority of a key is host[:port], without user information")]
    NoKey(String),
    /// A URI or a prefix that does not begin with a scheme: keys hold absolute URIs.
    #[error(
        "'{0}' is not absolute; say scheme and host, as in http://example.com/path (http:///path for what was asked \
         for without a host, as PurgeTarget::Uri or PurgeTarget::Prefix)"
    )]
    NotAbsolute(String),
    /// A path, or a prefix of paths, that does not begin with a slash.
    #[error("'{0}' is not a path; it begins with '/', as in /images/")]
    NotAPath(String),
    /// The store failed: what was to go may still be there.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a URI names a scheme and a host.
pub(crate) fn absolute(uri: &Uri) -> Result<(), PurgeError> {
    match (uri.scheme(), uri.authority()) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err(PurgeError::NotAbsolute(uri.to_string())),
    }
}

/// The target, spelled as keys are.
///
/// # Errors
///
/// Where no key could match it.
pub(crate) fn checked(target: &PurgeTarget) -> Result<PurgeTarget, PurgeError> {
    Ok(match target {
        // A bare name is a policy's own tag, or that of a group in whatever origin.
        PurgeTarget::Group(group) => match group.split_once(' ') {
            Some((origin, name)) if groups::tag(group) != &**group => {
                PurgeTarget::Group(format!("{} {name}", spelled_origin(origin)?).into())
            }
            _ => PurgeTarget::Tag(group.clone()),
        },
        PurgeTarget::Host(authority) => PurgeTarget::Host(spelled_authority(authority)?),
        PurgeTarget::Path(path) | PurgeTarget::PathPrefix(path) if !path.starts_with(b"/") => {
            return Err(PurgeError::NotAPath(String::from_utf8_lossy(path).into_owned()));
        }
        PurgeTarget::Prefix(prefix) => PurgeTarget::Prefix(spelled(prefix)?),
        PurgeTarget::Uri(uri) => PurgeTarget::Uri(spelled_uri(uri)?),
        PurgeTarget::All
        | PurgeTarget::Key(_)
        | PurgeTarget::Path(_)
        | PurgeTarget::PathPrefix(_)
        | PurgeTarget::Tag(_)
        | PurgeTarget::TagAnyCase(_) => target.clone(),
    })
}

/// The target as the policy spells it in keys, as far as the key of a GET says: that of the URI, of the prefix as far as it is a
/// path, or of the root of the host or origin.
pub(crate) fn spelled_by(key_of: impl Fn(Uri) -> Option<CacheKey>, target: &PurgeTarget) -> Vec<PurgeTarget> {
    // Those of the policy alone.
    let uris = |uri: &[u8]| -> Vec<Box<[u8]>> {
        let uri = Uri::try_from(uri).ok();
        let plain = uri.as_ref().and_then(|uri| CacheKey::from_uri(uri).ok());
        let key = uri.and_then(&key_of);
        let of_policy = |uri: &&[u8]| plain.as_ref().is_none_or(|plain| plain.uri() != *uri);
        key.iter().flat_map(CacheKey::uris).filter(of_policy).map(Box::from).collect()
    };
    match target {
        PurgeTarget::Group(group) => {
            let Some((origin, name)) = group.split_once(' ') else {
                return Vec::new();
            };
            let scoped = |uri: Box<[u8]>| PurgeTarget::Group(groups::scoped(&uri, name));
            uris(format!("{origin}/").as_bytes()).into_iter().map(scoped).collect()
        }
        PurgeTarget::Host(authority) => {
            let roots = ["http", "https"].map(|scheme| uris(format!("{scheme}://{authority}/").as_bytes()));
            let host =
                |uri: Box<[u8]>| Some(PurgeTarget::host(authority_of(std::str::from_utf8(&uri).ok()?)?));
            roots.into_iter().flatten().filter_map(host).collect()
        }
        PurgeTarget::Path(path) => {
            // Of whatever host: a policy that spells paths by the host has to say so itself.
            let uris = uris(&[b"http://host.invalid", &**path].concat());
            uris.iter()
                .filter_map(|uri| path_of(uri))
                .filter(|own| *own != &**path)
                .map(|own| PurgeTarget::Path(own.into()))
                .collect()
        }
        PurgeTarget::Prefix(prefix) => {
            let path = prefix.split(|&byte| byte == b'?').next().unwrap_or_default();
            let has_path = path.iter().filter(|&&byte| byte == b'/').count() > 2;
            let spelled = if has_path { uris(path) } else { Vec::new() };
            spelled.into_iter().map(PurgeTarget::Prefix).collect()
        }
        PurgeTarget::Uri(uri) => uris(uri).into_iter().map(PurgeTarget::Uri).collect(),
        _ => Vec::new(),
    }
}

/// The same target under the other one of the schemes `http` and `https`, where it names one of them.
pub(crate) fn by_other_scheme(target: &PurgeTarget) -> Option<PurgeTarget> {
    Some(match target {
        PurgeTarget::Group(group) => {
            let group = String::from_utf8(other_scheme(group.as_bytes())?).ok()?;
            PurgeTarget::Group(group.into())
        }
        PurgeTarget::Prefix(prefix) => PurgeTarget::Prefix(other_scheme(prefix)?.into()),
        PurgeTarget::Uri(uri) => PurgeTarget::Uri(other_scheme(uri)?.into()),
        _ => return None,
    })
}

/// The same URI under the other scheme.
pub(crate) fn uri_by_other_scheme(uri: &Uri) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let (other, default) = match parts.scheme.as_ref()? {
        scheme if *scheme == Scheme::HTTP => (Scheme::HTTPS, ":80"),
        scheme if *scheme == Scheme::HTTPS => (Scheme::HTTP, ":443"),
        _ => return None,
    };
    parts.scheme = Some(other);
    // Neither has the default port of the other one.
    let authority = parts.authority.as_ref()?.as_str();
    if let Some(bare) = authority.strip_suffix(default) {
        parts.authority = Some(bare.parse().ok()?);
    }
    Uri::from_parts(parts).ok()
}

/// In the spelling of keys, which leaves out default ports.
fn other_scheme(uri: &[u8]) -> Option<Vec<u8>> {
    let (other, rest) = match (uri.strip_prefix(b"http://"), uri.strip_prefix(b"https://")) {
        (Some(rest), _) => (&b"https://"[..], rest),
        (_, Some(rest)) => (&b"http://"[..], rest),
        _ => return None,
    };
    Some([other, rest].concat())
}

/// The authority of a key's URI.
fn authority_of(uri: &str) -> Option<&str> {
    uri.split_once("://")?.1.split('/').next()
}

/// The path and query of a key's URI.
fn path_of(uri: &[u8]) -> Option<&[u8]> {
    let mut slashes = uri.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.nth(2).map(|path| &uri[path..])
}

/// The URI of the key of a request for `uri`.
fn spelled_uri(uri: &[u8]) -> Result<Box<[u8]>, PurgeError> {
    let spelled = spelled(uri)?;
    let text = || String::from_utf8_lossy(uri).into_owned();
    // The key of a request without a host has a URI that can't be parsed.
    if spelled.windows(4).any(|four| four == b":///") {
        return Ok(spelled);
    }
    let uri = Uri::try_from(uri).map_err(|_| PurgeError::NoKey(text()))?;
    let key = CacheKey::of(&key::get(uri)).map_err(|_| PurgeError::NoKey(text()))?;
    Ok(key.uri().into())
}

/// An authority as keys have it, under whatever scheme. No port is left out, since none is the default one of every scheme.
fn spelled_authority(authority: &str) -> Result<Box<str>, PurgeError> {
    let uri = format!("larder://{authority}/");
    let spelled = Uri::try_from(&uri).ok().and_then(|uri| CacheKey::of(&key::get(uri)).ok());
    let spelled = spelled.as_ref().map(|key| String::from_utf8_lossy(key.uri()).into_owned());
    let spelled = spelled.as_deref().and_then(|uri| uri.strip_prefix("larder://")?.strip_suffix('/'));
    match spelled {
        Some(spelled) if !spelled.contains('/') => Ok(spelled.into()),
        _ => Err(PurgeError::NoKey(authority.to_owned())),
    }
}

fn spelled_origin(origin: &str) -> Result<String, PurgeError> {
    let uri = spelled_uri(origin.as_bytes())?;
    let uri = String::from_utf8_lossy(&uri);
    match uri.strip_suffix('/') {
        Some(origin) if origin.matches('/').count() == 2 => Ok(origin.to_owned()),
        _ => Err(PurgeError::NoKey(origin.to_owned())),
    }
}

/// An absolute URI, or the beginning of one, with scheme and host in lower case and without a default port.
fn spelled(uri: &[u8]) -> Result<Box<[u8]>, PurgeError> {
    let scheme = uri.windows(3).position(|three| three == b"://").filter(|&length| length > 0);
    let Some(scheme) = scheme.filter(|&length| is_scheme(&uri[..length])) else {
        return Err(PurgeError::NotAbsolute(String::from_utf8_lossy(uri).into_owned()));
    };
    let host = scheme + 3;
    let path = uri[host..].iter().position(|&byte| byte == b'/').map(|length| host + length);
    let mut spelled = uri.to_vec();
    let authority = uri[host..].iter().position(|&byte| matches!(byte, b'/' | b'?' | b'#'));
    spelled[..authority.map_or(uri.len(), |length| host + length)].make_ascii_lowercase();
    let port: &[u8] = match &spelled[..scheme] {
        b"http" => b":80",
        b"https" => b":443",
        _ => b"",
    };
    let end = path.unwrap_or(uri.len());
    if !port.is_empty() && spelled[host..end].ends_with(port) {
        // Keys leave it out. Without a path it may be the beginning of another port, which would be meant, too.
        spelled.drain(end - port.len()..end);
        if path.is_none() {
            spelled.push(b'/');
        }
    }
    Ok(spelled.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefix: &str, expected: Option<&str>) {
        let spelled = spelled(prefix.as_bytes()).ok();
        let spelled = spelled.as_deref().map(|spelled| std::str::from_utf8(spelled).expect("ASCII"));
        assert_eq!(spelled, expected, "{prefix}");
    }

    #[test]
    fn b15_uris_and_origins_are_normalised_like_keys() {
        let uri = |uri: &str| spelled_uri(uri.as_bytes()).ok().map(|uri| String::from_utf8(uri.into()));
        let of = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(uri("HTTP://A"), of("http://a/"));
        assert_eq!(uri("http://a:80"), of("http://a/"));
        assert_eq!(uri("http://a:/x"), of("http://a/x"));
        assert_eq!(uri("http://a?q=X"), of("http://a/?q=X"));
        assert_eq!(uri("http://a/x#y"), of("http://a/x"));
        assert_eq!(uri("http:///x"), of("http:///x"));
        assert_eq!(uri("http://u@a/x"), None);
        assert_eq!(uri("/x"), None);
        assert_eq!(spelled_origin("HTTP://A:80").ok().as_deref(), Some("http://a"));
        assert_eq!(spelled_origin("http://a/").ok().as_deref(), Some("http://a"));
        assert!(spelled_origin("http://a/x").is_err());
        assert_eq!(spelled_authority("EXAMPLE.com:80").ok().as_deref(), Some("example.com:80"));
        assert_eq!(spelled_authority("[::1]").ok().as_deref(), Some("[::1]"));
        for authority in ["", "a/x", "http://a", "u@a", "a b"] {
            assert!(spelled_authority(authority).is_err(), "{authority:?}");
        }
    }

    #[test]
    fn b15_prefixes_are_absolute_and_normalised_like_keys() {
        check("http://a/x", Some("http://a/x"));
        check("HTTP://Example.COM/Images/", Some("http://example.com/Images/"));
        check("http://exam", Some("http://exam"));
        check("http://a:80/x", Some("http://a/x"));
        check("https://a:443/x", Some("https://a/x"));
        check("https://a:80/x", Some("https://a:80/x"));
        check("http://a:80", Some("http://a/"));
        check("http://a:8", Some("http://a:8"));
        check("http:///x", Some("http:///x"));
        for prefix in ["", "/images/", "example.com/images/", "://a/", "a/http://b/"] {
            check(prefix, None);
        }
    }
}
