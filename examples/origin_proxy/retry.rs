//! A request is sent once more if the origin has closed its connection before reading it.
//!
//! An origin may close an idle connection at any time, also while a request is on its way (RFC 9112 9.3.1). The
//! client then reads the end of the connection instead of a response, and cannot know whether the request was read.
//! So only an idempotent request (RFC 9110 9.2.2) without content is repeated, and only if the connection had
//! answered another request before and not a byte came for this one. It is sent over a new connection, since the other
//! ones in the pool may be closed as well.

use http::{Extensions, Method, Request};
use hyper_util::client::legacy::Error;

use crate::traffic::Traffic;

/// Whether a request may be sent once more, if it carries no content.
pub fn is_repeatable<B>(request: &Request<B>) -> bool {
    matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The same request with another body.
pub fn copy<B, C>(request: &Request<B>, body: C) -> Request<C> {
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

/// Whether the connection had answered before, and not a byte came for the request that failed.
pub fn was_closed_meanwhile(error: &Error) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    !error.is_connect() && extras.get::<Traffic>().is_some_and(Traffic::is_unanswered)
}
