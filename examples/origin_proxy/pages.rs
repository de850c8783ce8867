//! Pages in the place of errors. What the proxy says itself of an origin that fails is an error like the origin's own.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body_util::Either;
use larder::ErrorPagesLayer;
use tower::{Layer, Service, ServiceExt};

use crate::content::RequestContent;
use crate::edge::Cache;
use crate::local_reply::{self, ResponseBody};
use crate::upstream_error::UpstreamError;

pub type PagedFuture = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

/// The cache's response, or a page. `forward` says why a request that fails was forwarded.
pub fn answer(
    pages: &ErrorPagesLayer,
    cache: Cache,
    request: Request<RequestContent>,
    forward: &'static str,
) -> PagedFuture {
    let service = pages.layer(Answering { cache, forward });
    Box::pin(async move {
        match service.oneshot(request).await {
            Ok(response) => response,
            Err(refused) => local_reply::failed(&refused, forward),
        }
    })
}

/// The cache as a service that fails only where a limit of this proxy refuses a call: a page would be one more.
#[derive(Clone)]
struct Answering {
    cache: Cache,
    forward: &'static str,
}

impl Service<Request<RequestContent>> for Answering {
    type Response = Response<ResponseBody>;
    type Error = UpstreamError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, UpstreamError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(())) // so is the cache
    }

    fn call(&mut self, request: Request<RequestContent>) -> Self::Future {
        let (called, forward) = (self.cache.call(request), self.forward);
        Box::pin(async move {
            match called.await {
                Ok(response) => Ok(response.map(Either::Left)),
                Err(refused @ UpstreamError::Busy) => Err(refused),
                Err(error) => Ok(local_reply::failed(&error, forward)),
            }
        })
    }
}
