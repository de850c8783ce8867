//! `Max-Forwards` (RFC 9110 7.6.2): how many intermediaries may forward an OPTIONS or TRACE request.

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Request, Response};

use crate::local_reply::{self, ResponseBody};
use crate::node_name::NodeName;

const DETAIL: &str = "max-forwards";

/// Every method passes through the proxy; these are the defined ones (RFC 9110 9.3, RFC 5789, RFC 10008).
const ALLOWED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, TRACE, PATCH, QUERY");

/// RFC 9110 9.3.8: fields that must not be in the answer to a TRACE.
const SENSITIVE: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// Decrements the number of a request. A request that may go no further is answered.
pub fn count_down<B>(request: &mut Request<B>, name: NodeName) -> Option<Response<ResponseBody>> {
    if request.method() != Method::OPTIONS && request.method() != Method::TRACE {
        return None;
    }
    match left(request.headers())? {
        0 if request.method() == Method::TRACE => Some(trace(request, &name.with_detail(DETAIL))),
        0 => Some(options(&name.with_detail(DETAIL))),
        left => {
            request.headers_mut().insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
            None
        }
    }
}

/// `None` if there is no number. A number beyond the largest that is supported counts as that one.
fn left(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(header::MAX_FORWARDS).into_iter();
    let number = lines.next()?.to_str().ok()?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && lines.next().is_none()).then(|| number.parse().unwrap_or(u64::MAX))
}

fn options(told: &str) -> Response<ResponseBody> {
    let mut response = local_reply::generated(told, "");
    response.headers_mut().insert(header::ALLOW, ALLOWED);
    response
}

/// The request's head as it was received.
fn trace<B>(request: &Request<B>, told: &str) -> Response<ResponseBody> {
    let mut head = format!("{} {} {:?}\r\n", request.method(), request.uri(), request.version()).into_bytes();
    for (name, value) in request.headers() {
        if !SENSITIVE.contains(name) {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
    }
    head.extend_from_slice(b"\r\n");
    let mut response = local_reply::generated(told, head);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}
