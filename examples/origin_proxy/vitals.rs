//! Whether the process lives, and whether it is a good one to send clients to: for the probes of a load balancer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;

use crate::stop::Draining;
use crate::upstreams::Upstreams;

/// Whether it is ready for clients.
const READY: &str = "/health";

/// Whether it answers at all. A failing origin is no reason to start the process again.
const LIVE: &str = "/health/live";

/// What probes are told of.
#[derive(Clone)]
pub struct Vitals {
    pub draining: Draining,
    pub upstreams: Arc<Upstreams>,
}

impl Vitals {
    /// The answer to a probe; `None` for another request.
    pub fn answer(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let (status, text) = match path {
            _ if path != READY && path != LIVE => return None,
            _ if !matches!(*method, Method::GET | Method::HEAD) => (StatusCode::METHOD_NOT_ALLOWED, ""),
            READY if self.draining.has_begun() => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            READY if self.upstreams.are_sick() => {
                (StatusCode::SERVICE_UNAVAILABLE, "every upstream is sick\n")
            }
            _ => (StatusCode::OK, "ok\n"),
        };
        let mut response = Response::new(Full::from(if *method == Method::HEAD { "" } else { text }));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            fields.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        Some(response)
    }
}
