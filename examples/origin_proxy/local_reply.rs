//! Responses that the proxy makes itself.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{Either, Full};
use larder::{CacheBody, JoinedBody};

use crate::node_name::NodeName;
use crate::reasons::Failure;

/// The body of a response: the cache's, or the proxy's own.
pub type ResponseBody = Either<JoinedBody<CacheBody>, Full<Bytes>>;

/// What the proxy says of an answer of its own, for the access log.
#[derive(Clone)]
pub struct Reported(pub Box<str>);

/// How answers of the proxy's own say what it did.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// Not at all: only whoever shows the debug token gets to know, and other proxies of ours.
    pub is_discreet: bool,
    /// By an `X-Cache` that is a list.
    pub is_listed: bool,
    pub name: NodeName,
}

impl Manner {
    /// The `X-Cache` of an error.
    pub fn of_error(self) -> &'static str {
        if self.is_listed { MISS } else { ERROR }
    }
}

const ERROR: &str = "Error from larder";
const GENERATED: &str = "GeneratedResponse from larder";
/// In a list, where there is no other word.
const MISS: &str = "MISS";

/// Gives a response that the proxy has made itself the `X-Cache` of a list, in Fastly's words.
pub fn as_member(headers: &mut HeaderMap) {
    if headers.get("x-cache").is_some_and(|word| word == ERROR || word == GENERATED) {
        headers.insert("x-cache", HeaderValue::from_static(MISS));
    }
}

/// An error without content. `cache_status` says how the request was handled (RFC 9211).
pub fn error(status: StatusCode, cache_status: &str) -> Response<ResponseBody> {
    let mut response = answer(status, ERROR, cache_status, Bytes::new());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What the proxy of this name says of an origin that fails.
pub fn failed(name: NodeName, Failure { forward, why }: &Failure) -> Response<ResponseBody> {
    let forward = forward.map(|forward| format!("; fwd={}", forward.as_str())).unwrap_or_default();
    error(why.status(), &format!("{}{forward}; detail=\"{}\"", name.as_str(), why.detail()))
}

/// The response to a request that ends at this proxy.
pub fn generated(cache_status: &str, content: impl Into<Bytes>) -> Response<ResponseBody> {
    answer(StatusCode::OK, GENERATED, cache_status, content.into())
}

fn answer(
    status: StatusCode,
    x_cache: &'static str,
    cache_status: &str,
    content: Bytes,
) -> Response<ResponseBody> {
    let length = HeaderValue::from(content.len());
    let mut response = Response::new(Either::Right(Full::new(content)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-cache", HeaderValue::from_static(x_cache));
    if let Ok(cache_status) = HeaderValue::from_str(cache_status) {
        headers.insert("cache-status", cache_status);
    }
    headers.insert(header::CONTENT_LENGTH, length);
    response.extensions_mut().insert(Reported(cache_status.into()));
    response
}

/// Takes away what an answer of the proxy's own says of the cache: that is only for whoever shows the debug token, which only the
/// cache looks at.
pub fn hide<B>(response: &mut Response<B>) {
    if response.extensions().get::<Reported>().is_some() {
        response.headers_mut().remove("cache-status");
        response.headers_mut().remove("x-cache");
    }
}
