//! `Via` (RFC 9110 7.6.3): the protocol version in which this proxy received a message, then its name.

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Version};

use crate::node_name::NodeName;

/// Adds this proxy's member to a message that was received in this version.
pub fn add(headers: &mut HeaderMap, name: NodeName, received: Version) {
    append(headers, header::VIA, name.via(received));
}

/// Adds the member that is missing if the proxy itself made the response. A response from the origin has got its member
/// before it was stored.
pub fn complete(headers: &mut HeaderMap, name: NodeName) {
    if !headers.contains_key(header::VIA) {
        add(headers, name, Version::HTTP_11);
    }
}

/// Appends a member to a list field, in one line.
pub fn append(headers: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    if !headers.contains_key(&name) {
        headers.insert(name, member.clone());
        return;
    }
    let lines: Vec<_> =
        headers.get_all(&name).into_iter().chain([member]).map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b", "[..])) {
        headers.insert(name, joined);
    }
}
