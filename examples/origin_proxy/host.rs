//! The authority that a client asks for: `Host`, or what the target names (RFC 9110 7.2, RFC 9112 3.2).

use std::net::Ipv6Addr;

use http::header::{self, HeaderMap};
use http::uri::Scheme;
use http::{HeaderValue, Request, Version, request};

/// Which `Host` the origin gets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The one that the client asked for.
    Client,
    /// The origin's own.
    Upstream,
}

/// Whether the request names its authority correctly. Otherwise RFC 9112 3.2 requires a 400.
pub fn is_valid<B>(request: &Request<B>) -> bool {
    let mut lines = request.headers().get_all(header::HOST).into_iter();
    let host = lines.next();
    if lines.next().is_some() || host.is_some_and(|host| !is_authority(host.as_bytes())) {
        return false;
    }
    let target = request.uri().authority().map(|authority| authority.as_str());
    if target.is_some_and(|target| !is_authority(target.as_bytes())) {
        return false;
    }
    match (request.version(), target, host) {
        (Version::HTTP_09 | Version::HTTP_10, ..) => true,
        (Version::HTTP_11, _, host) => host.is_some(),
        // RFC 9113 8.3.1: a Host that names another entity than `:authority` makes a request malformed.
        (_, Some(target), Some(host)) => {
            let scheme = request.extensions().get().unwrap_or(&Scheme::HTTP);
            normalized(target.as_bytes(), scheme) == normalized(host.as_bytes(), scheme)
        }
        (_, target, host) => target.is_some() || host.is_some(),
    }
}

/// The authority that the client asked for: where the target names one, `Host` does not count (RFC 9112 3.2.2).
/// An HTTP/1.0 client may name none.
pub fn of<B>(request: &Request<B>) -> Option<HeaderValue> {
    let target = request.uri().authority().and_then(|target| HeaderValue::from_str(target.as_str()).ok());
    target.or_else(|| field(request.headers()))
}

/// The name in that authority, in lower case and without a port.
pub fn name(request: &request::Parts) -> String {
    let target = request.uri.authority().map(|target| target.as_str());
    let field = || request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = target.or_else(field).unwrap_or_default();
    let name = match authority.rfind([':', ']']) {
        Some(colon) if authority.as_bytes()[colon] == b':' => &authority[..colon],
        _ => authority,
    };
    name.to_ascii_lowercase()
}

fn field(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(header::HOST).cloned()
}

/// An authority in the form that is compared: in lower case, without the default port of its scheme.
pub fn normalized(authority: &[u8], scheme: &Scheme) -> Vec<u8> {
    let port: &[u8] = if *scheme == Scheme::HTTPS { b":443" } else { b":80" };
    let short = authority.strip_suffix(port).unwrap_or(authority);
    short.strip_suffix(b":").unwrap_or(short).to_ascii_lowercase()
}

/// `host[:port]` with a name, an IPv4 address or a bracketed IPv6 address. RFC 3986 lets a registered name have
/// other characters, such as commas; no host that is asked for by HTTP has them, and origins read them differently.
/// An empty one, which RFC 9110 has for targets without an authority, does not say which site is meant.
fn is_authority(authority: &[u8]) -> bool {
    let find = |byte| authority.iter().position(|&other| other == byte);
    let (is_host, port) = match (authority.strip_prefix(b"["), find(b']')) {
        (Some(_), Some(end)) => {
            let address = std::str::from_utf8(&authority[1..end]);
            (address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()), &authority[end + 1..])
        }
        _ => {
            let (name, port) = authority.split_at(find(b':').unwrap_or(authority.len()));
            (is_name(name), port)
        }
    };
    is_host && is_port(port)
}

fn is_name(name: &[u8]) -> bool {
    let mut is_label = false;
    for byte in name {
        match byte {
            b'.' if is_label => is_label = false,
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') => is_label = true,
            _ => return false,
        }
    }
    // One dot at the end is that of the root.
    is_label || name.len() > 1
}

/// Nothing, or a colon and a number; the number may be missing (RFC 3986 3.2.3).
fn is_port(port: &[u8]) -> bool {
    match port.strip_prefix(b":") {
        None => port.is_empty(),
        Some(digits) => {
            digits.iter().all(u8::is_ascii_digit)
                && digits
                    .iter()
                    .try_fold(0u16, |port, digit| port.checked_mul(10)?.checked_add((digit - b'0').into()))
                    .is_some()
        }
    }
}
