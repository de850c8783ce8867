//! A service, requests for it, and the runtime that it is measured on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use larder::CacheKey;
use tokio::runtime::{Builder, Runtime};
use tower::Service;

/// One worker, and this thread, which waits for it or does what is measured without waiting.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The service: a page of six fields, at once or after a while.
#[derive(Clone)]
pub struct Pages {
    pub content: Bytes,
    pub delay: Duration,
}

impl Pages {
    pub fn of(kib: usize) -> Self {
        Self { content: vec![b'x'; kib * 1024].into(), delay: Duration::ZERO }
    }
}

impl Service<Request<Empty<Bytes>>> for Pages {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let response = Response::builder()
            .header("content-type", "text/html; charset=utf-8")
            .header("content-length", self.content.len())
            .header("cache-control", "max-age=3600")
            .header("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\"")
            .header("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT")
            .header("vary", "accept-encoding")
            .body(Full::new(self.content.clone()))
            .unwrap();
        let delay = self.delay;
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(response)
        })
    }
}

pub fn request(path: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("host", HeaderValue::from_static("www.example.com"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("accept-encoding", HeaderValue::from_static("gzip, br"));
    headers.insert("user-agent", HeaderValue::from_static("bench/1.0"));
    request
}

/// That of a request for the path.
pub fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://www.example.com{path}").parse().unwrap()).unwrap()
}
