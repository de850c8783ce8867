//! The future of a response: there already, on its way past the cache, or being worked on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;
use tower::util::Oneshot;

use crate::body::CacheBody;
use crate::entry::key::CacheKey;
use crate::error::BoxError;
use crate::limits::calls::CallPermit;
use crate::observe::CacheStatusWriter;
use crate::semantics::cache_status::Outcome;
use crate::semantics::validation;
use crate::shared::Core;

type Answer<B, E> = Result<Response<CacheBody<B>>, E>;

pin_project! {
    /// The future that [`CacheService`](crate::CacheService) returns. A hit in memory is ready at once.
    pub struct ResponseFuture<S, Q, B>
    where
        S: Service<Request<Q>>,
    {
        #[pin]
        kind: Kind<S, Q, B>,
        told_key: Option<Box<CacheKey>>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<S, Q, B>
    where
        S: Service<Request<Q>>,
    {
        Boxed { future: Pin<Box<dyn Future<Output = Answer<B, S::Error>> + Send>> },
        Pass {
            #[pin]
            future: Oneshot<S, Request<Q>>,
            core: Arc<Core>,
            is_conditional: bool,
            method: Method,
            outcome: Outcome,
        },
        Ready { response: Option<Response<CacheBody<B>>> },
    }
}

impl<S, Q, B> ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
{
    pub(crate) fn ready(response: Response<CacheBody<B>>) -> Self {
        let response = Some(response);
        Self { kind: Kind::Ready { response }, told_key: None }
    }

    pub(crate) fn pass(inner: S, request: Request<Q>, core: Arc<Core>, outcome: Outcome) -> Self {
        let is_conditional = validation::is_conditional(request.headers());
        let method = request.method().clone();
        let future = Oneshot::new(inner, request);
        Self { kind: Kind::Pass { future, core, is_conditional, method, outcome }, told_key: None }
    }

    /// Tells a key in the answer.
    pub(crate) fn telling(mut self, key: Option<Box<CacheKey>>) -> Self {
        self.told_key = key;
        self
    }

    pub(crate) fn boxed(future: impl Future<Output = Answer<B, S::Error>> + Send + 'static) -> Self {
        let future = Box::pin(future);
        Self { kind: Kind::Boxed { future }, told_key: None }
    }
}

impl<S, Q, B> Future for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Answer<B, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.kind.poll(cx));
        if let (Some(key), Ok(response)) = (this.told_key.take(), &mut answer) {
            CacheStatusWriter::tell_key(key.uri(), response.headers_mut());
        }
        Poll::Ready(answer)
    }
}

impl<S, Q, B> Kind<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<B, S::Error>> {
        match self.project() {
            KindProjection::Boxed { future } => future.as_mut().poll(cx),
            KindProjection::Pass { future, core, is_conditional, method, outcome } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(core.pass_on(
                    response,
                    method,
                    *is_conditional,
                    outcome,
                    CallPermit::default(),
                )))
            }
            KindProjection::Ready { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // Polled again after it was ready, which a caller must not do.
                None => Poll::Pending,
            },
        }
    }
}

impl<S, Q, B> std::fmt::Debug for ResponseFuture<S, Q, B>
where
    S: Service<Request<Q>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
