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
use crate::node_name::NodeName;
use crate::reasons::Failure;
use crate::upstream_error::UpstreamError;

pub type PagedFuture = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

/// The cache's response, or a page. `name` is what the proxy is called.
pub fn answer(
    pages: &ErrorPagesLayer,
    name: NodeName,
    cache: Cache,
    request: Request<RequestContent>,
) -> PagedFuture {
    let service = pages.layer(Answering { cache, name });
    Box::pin(async move {
        match service.oneshot(request).await {
            Ok(response) => response,
            Err(refused) => local_reply::failed(name, &refused),
        }
    })
}

/// The cache as a service that fails only where a limit of this proxy refuses a call: a page would be one more.
#[derive(Clone)]
struct Answering {
    cache: Cache,
    name: NodeName,
}

impl Service<Request<RequestContent>> for Answering {
    type Response = Response<ResponseBody>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(())) // so is the cache
    }

    fn call(&mut self, request: Request<RequestContent>) -> Self::Future {
        let (called, name) = (self.cache.call(request), self.name);
        Box::pin(async move {
            match called.await {
                Ok(response) => Ok(response.map(Either::Left)),
                Err(refused @ Failure { why: UpstreamError::Busy, .. }) => Err(refused),
                Err(failure) => Ok(local_reply::failed(name, &failure)),
            }
        })
    }
}
