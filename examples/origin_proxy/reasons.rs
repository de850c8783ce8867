//! Why the cache has forwarded a request, for the answer that the proxy gives where there is none of the origin.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use larder::semantics::reuse::Forward;
use larder::{CachePolicy, CachePolicyExt, FailedBy};
use pin_project_lite::pin_project;
use thiserror::Error;
use tower::Service;

use crate::upstream_error::UpstreamError;

/// Among the extensions of a request that is forwarded.
#[derive(Clone, Copy)]
struct Reason(Forward);

/// A policy that says why a request is forwarded, for [`Reasons`].
pub fn told(policy: impl CachePolicy) -> impl CachePolicy {
    policy.on_forward(|request, reason| _ = request.extensions.insert(Reason(reason.forward)))
}

/// Why there is no response from the origin, and why it was asked, as far as the policy has said so.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct Failure {
    pub forward: Option<Forward>,
    pub why: UpstreamError,
}

/// Who is to blame, for observers.
pub fn failed_by(Failure { why, .. }: &Failure) -> FailedBy {
    match why {
        UpstreamError::Content(_) | UpstreamError::Stalled => FailedBy::Client,
        why => FailedBy::Service(why.detail()),
    }
}

/// The way to the origin, which says with a failure why a request had been forwarded.
#[derive(Clone)]
pub struct Reasons<S>(pub S);

impl<S, B> Service<Request<B>> for Reasons<S>
where
    S: Service<Request<B>, Error = UpstreamError>,
{
    type Response = S::Response;
    type Error = Failure;
    type Future = ReasonsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0.poll_ready(cx).map_err(|why| Failure { forward: None, why })
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let forward = request.extensions().get::<Reason>().map(|reason| reason.0);
        ReasonsFuture { forward, future: self.0.call(request) }
    }
}

pin_project! {
    pub struct ReasonsFuture<F> {
        forward: Option<Forward>,
        #[pin]
        future: F,
    }
}

impl<F, R> Future for ReasonsFuture<F>
where
    F: Future<Output = Result<R, UpstreamError>>,
{
    type Output = Result<R, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let forward = *this.forward;
        Poll::Ready(ready!(this.future.poll(cx)).map_err(|why| Failure { forward, why }))
    }
}
