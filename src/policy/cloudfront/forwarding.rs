//! What the origin gets to see of a request.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Uri};

use super::key::{KeyedCodings, admitted_query, is_cloudfronts, sorted_cookies};
use super::names::{CachePolicyConfig, ForwardedHeaders, OriginRequestPolicyConfig};
use crate::entry::key::each_uri;
use crate::policy::Selection;
use crate::semantics::unkeyed::UnkeyedFields;

/// What of a request goes to the origin: what is in the key, and what the origin request policy adds.
#[derive(Clone, Debug)]
pub(super) struct ForwardPlan {
    codings: KeyedCodings,
    pub(super) cookies: [Selection; 2],
    keyed: Vec<HeaderName>,
    headers: ForwardedHeaders,
    query: [Selection; 2],
    unkeyed: UnkeyedFields,
}

/// What does not depend on the behavior.
pub(super) struct ForwardBy<'a> {
    /// Whether CloudFront's own fields are more than a client's word.
    pub(super) is_believed: bool,
    /// Whether parameters of signatures are not part of its query.
    pub(super) is_signed: bool,
    /// Whether the answer may be stored. It is for the client alone where the request is forwarded without being looked up.
    pub(super) may_be_stored: bool,
    pub(super) origin_host: Option<&'a Authority>,
    pub(super) origin_scheme: Option<&'a Scheme>,
}

impl ForwardPlan {
    pub(super) fn of(
        policy: &CachePolicyConfig,
        origin: Option<&OriginRequestPolicyConfig>,
        strips_unkeyed: bool,
    ) -> Self {
        let none = OriginRequestPolicyConfig::new();
        let origin = origin.unwrap_or(&none);
        let mut unkeyed = UnkeyedFields::default();
        unkeyed.strip(strips_unkeyed);
        let codings = KeyedCodings { brotli: policy.brotli, gzip: policy.gzip };
        Self {
            codings,
            cookies: [policy.cookies.0.clone(), origin.cookies.0.clone()],
            keyed: policy.headers.0.clone(),
            headers: origin.headers.0.clone(),
            query: [policy.query_strings.0.clone(), origin.query_strings.0.clone()],
            unkeyed,
        }
    }

    /// Whether any cookie goes to the origin.
    pub(super) fn has_cookies(&self) -> bool {
        self.cookies.iter().any(|names| *names != Selection::None)
    }

    fn admits_cookie(&self, name: &str) -> bool {
        self.cookies.iter().any(|names| names.admits(name))
    }

    fn admits_parameter(&self, name: &str) -> bool {
        self.query.iter().any(|names| names.admits(name))
    }

    /// Whether a field of a GET, HEAD or QUERY goes to the origin by the policies, which name or admit it. What they say of
    /// `Cookie` is not said here.
    pub(super) fn admits(&self, name: &HeaderName) -> bool {
        self.admits_of(true, name)
    }

    fn admits_of(&self, is_read: bool, name: &HeaderName) -> bool {
        if is_always_removed(name) || *name == header::COOKIE {
            return false;
        }
        if self.keyed.contains(name) {
            return true;
        }
        // What is CloudFront's own is no field of a client.
        let is_viewers = || !(is_cloudfronts(name) || is_read && self.unkeyed.strips(name));
        match &self.headers {
            ForwardedHeaders::None => false,
            ForwardedHeaders::AllowList(names) => names.contains(name),
            ForwardedHeaders::AllViewer(own) => own.contains(name) || is_viewers(),
            ForwardedHeaders::AllExcept(names) => !names.contains(name) && is_viewers(),
        }
    }

    /// Whether `Accept-Encoding` goes to the origin in its normal form.
    pub(super) fn normalises_codings(&self) -> bool {
        self.codings.any()
    }

    /// Leaves in a request the cookies that go to the origin, by name. The others are nobody's business.
    pub(super) fn edit_cookies(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(header::COOKIE) {
            return;
        }
        let line = if self.has_cookies() {
            let admitted = sorted_cookies(headers, |name| self.admits_cookie(name));
            let pairs: Vec<_> =
                admitted.into_iter().map(|(name, value)| [name.as_bytes(), value].join(&b'=')).collect();
            HeaderValue::from_bytes(&pairs.join(&b"; "[..])).ok().filter(|line| !line.is_empty())
        } else {
            None
        };
        match line {
            Some(line) => drop(headers.insert(header::COOKIE, line)),
            None => drop(headers.remove(header::COOKIE)),
        }
    }

    /// Makes of a request what the origin gets to see.
    pub(super) fn edit(&self, request: &mut Parts, by: &ForwardBy<'_>) {
        self.edit_query(request, by.is_signed);
        self.edit_cookies(&mut request.headers);
        let method = &request.method;
        let is_read = is_read(method) || (*method == Method::OPTIONS && by.may_be_stored);
        let goes = |name: &HeaderName| {
            let goes_anyway = match *name {
                header::AUTHORIZATION => !is_read && *method != Method::OPTIONS,
                // Who answers in the origin's place must not answer for all (RFC 9110 7.6.2).
                header::MAX_FORWARDS => return !by.may_be_stored,
                header::UPGRADE => is_websocket(&request.headers),
                header::COOKIE | header::HOST | header::ACCEPT_ENCODING => true,
                _ if is_always_removed(name) => false,
                _ if is_cloudfronts(name) && !by.is_believed => return false,
                _ => {
                    is_fixed(name)
                        || (!by.may_be_stored && is_of_content(name))
                        || (*method == Method::QUERY && is_keyed_with_content(name))
                        || is_of_websocket(name, &request.headers)
                }
            };
            goes_anyway || self.admits_of(is_read, name)
        };
        let gone: Vec<_> = request.headers.keys().filter(|name| !goes(name)).cloned().collect();
        for name in gone {
            request.headers.remove(name);
        }
        if self.codings.any() {
            self.codings.normalise(request.version, &mut request.headers);
        } else if !self.admits(&header::ACCEPT_ENCODING) {
            request.headers.remove(header::ACCEPT_ENCODING);
        }
        if !self.admits(&header::USER_AGENT) {
            request.headers.insert(header::USER_AGENT, USER_AGENT);
        }
        if !self.admits(&header::HOST) {
            settle_host(request, by.origin_host);
        }
        if let Some(scheme) = self.scheme(&request.headers, by) {
            settle_scheme(request, &scheme);
        }
    }

    /// The scheme that the origin gets to see; `None` for the client's own. The key does not tell the schemes apart, unless by
    /// CloudFront's own field.
    fn scheme(&self, headers: &HeaderMap, by: &ForwardBy<'_>) -> Option<Scheme> {
        if by.origin_scheme.is_some() || !by.may_be_stored {
            return by.origin_scheme.cloned();
        }
        let is_keyed = by.is_believed && self.keyed.contains(&FORWARDED_PROTO);
        let keyed = headers.get(FORWARDED_PROTO).filter(|_| is_keyed);
        Some(if keyed.is_some_and(|keyed| keyed == "https") { Scheme::HTTPS } else { Scheme::HTTP })
    }

    fn edit_query(&self, request: &mut Parts, is_signed: bool) {
        each_uri(request, |uri| {
            let Some(query) = uri.query() else {
                return;
            };
            let admitted = admitted_query(query, is_signed, |name| self.admits_parameter(name));
            if admitted.as_deref() == Some(query) {
                return;
            }
            let path = match admitted {
                None => uri.path().to_owned(),
                Some(query) => format!("{}?{query}", uri.path()),
            };
            let mut parts = uri.clone().into_parts();
            parts.path_and_query = PathAndQuery::try_from(path).ok();
            // A path with a part of its query is one.
            if let Ok(edited) = Uri::from_parts(parts) {
                *uri = edited;
            }
        });
    }
}

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("cloudfront-forwarded-proto");

const USER_AGENT: HeaderValue = HeaderValue::from_static("larder");

/// Gives a request the host of the origin in the place of that which the client asked for. Where nobody has said it, there is
/// none, and an HTTP client fills in its own.
fn settle_host(request: &mut Parts, host: Option<&Authority>) {
    let value = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    match value {
        Some(value) => drop(request.headers.insert(header::HOST, value)),
        None => drop(request.headers.remove(header::HOST)),
    }
    each_uri(request, |uri| {
        if uri.authority().is_none() {
            return;
        }
        let mut parts = std::mem::take(uri).into_parts();
        parts.authority = host.cloned();
        if host.is_none() {
            parts.scheme = None;
        }
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        if let Ok(settled) = Uri::from_parts(parts) {
            *uri = settled;
        }
    });
}

/// Gives a request this scheme wherever it can name one.
fn settle_scheme(request: &mut Parts, scheme: &Scheme) {
    request.extensions.insert(scheme.clone());
    each_uri(request, |uri| {
        if uri.scheme().is_none_or(|own| own == scheme) {
            return;
        }
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(scheme.clone());
        // With another scheme it is a URI still.
        if let Ok(settled) = Uri::from_parts(parts) {
            *uri = settled;
        }
    });
}

/// Whether a method reads what its target gives. Of others `Authorization` goes to the origin.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::QUERY)
}

/// What no policy can forward. Many services take `_` for `-`.
fn is_always_removed(name: &HeaderName) -> bool {
    let name = name.as_str();
    let dashed = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) };
    matches!(
        &*dashed,
        "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "upgrade"
            | "x-forwarded-proto"
            | "x-real-ip"
    ) || dashed.starts_with("x-edge-")
        || dashed.starts_with("x-amz-cf-")
}

/// What goes to the origin without being named: what belongs to the connection, to the way of the request, and to the cache's
/// own calls, which ask for parts and whether something is still valid.
fn is_fixed(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "cdn-loop"
            | "connection"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "keep-alive"
            | "range"
            | "transfer-encoding"
            | "via"
            | "x-forwarded-for"
    )
}

/// What says how the content of a request is read.
fn is_of_content(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("content-") || matches!(name, "digest" | "repr-digest")
}

/// What of that is in the key together with the content, and its length.
fn is_keyed_with_content(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_ENCODING | header::CONTENT_LANGUAGE | header::CONTENT_LENGTH | header::CONTENT_TYPE
    )
}

pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What a WebSocket is opened by.
fn is_of_websocket(name: &HeaderName, headers: &HeaderMap) -> bool {
    name.as_str().starts_with("sec-websocket-") && is_websocket(headers)
}
