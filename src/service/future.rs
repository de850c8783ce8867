//! The future of a response: there already, on its way past the cache, or being worked on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response};
use pin_project_lite::pin_project;
use tower::Service;
use tower::util::Oneshot;

use crate::body::CacheBody;
use crate::body::incoming::{self, Incoming};
use crate::fetch::InnerService;
use crate::limits::calls::CallPermit;
use crate::observe::{Answer, RequestReport};
use crate::policy::RequestPolicy;
use crate::semantics::cache_status::Forwarding;
use crate::semantics::validation;
use crate::service::tag_only::{TagOnly, Tagged};
use crate::shared::Shared;
use crate::store::Store;

pin_project! {
    /// The future that [`CacheService`](crate::CacheService) returns. A hit in memory is ready at once.
    pub struct ResponseFuture<I, Q, S>
    where
        I: Service<Request<Q>>,
    {
        #[pin]
        kind: Kind<I, Q, S>,
    }
}

type BoxFuture<E> = Pin<Box<dyn Future<Output = Result<Response<CacheBody>, E>> + Send>>;

pin_project! {
    #[project = KindProjection]
    enum Kind<I, Q, S>
    where
        I: Service<Request<Q>>,
    {
        Boxed { future: BoxFuture<I::Error> },
        Pass {
            #[pin]
            future: Oneshot<I, Request<Q>>,
            passed: Passed<S>,
        },
        Plain {
            #[pin]
            future: Oneshot<I, Request<Q>>,
        },
        Ready { response: Option<Response<CacheBody>> },
        Tag {
            #[pin]
            future: Oneshot<I, Request<Q>>,
            exchange: Option<TagOnly<S>>,
        },
    }
}

/// What is known of a request that goes past the cache.
struct Passed<S> {
    forwarding: Forwarding,
    is_conditional: bool,
    method: Method,
    policy: RequestPolicy,
    report: RequestReport,
    shared: Arc<Shared<S>>,
}

impl<I, Q, S> ResponseFuture<I, Q, S>
where
    I: Service<Request<Q>>,
{
    pub(crate) fn ready(response: Response<CacheBody>) -> Self {
        Self { kind: Kind::Ready { response: Some(response) } }
    }

    /// The inner service's answer as it is.
    pub(crate) fn plain(inner: I, request: Request<Q>) -> Self {
        Self { kind: Kind::Plain { future: Oneshot::new(inner, request) } }
    }

    pub(crate) fn pass(
        inner: I,
        request: Request<Q>,
        shared: Arc<Shared<S>>,
        forwarding: Forwarding,
        policy: RequestPolicy,
        report: RequestReport,
    ) -> Self {
        let is_conditional = validation::is_conditional(request.headers());
        let method = request.method().clone();
        let future = Oneshot::new(inner, request);
        Self {
            kind: Kind::Pass {
                future,
                passed: Passed { forwarding, is_conditional, method, policy, report, shared },
            },
        }
    }

    /// The inner service's answer with an entity tag.
    pub(super) fn tag(inner: I, request: Request<Q>, exchange: TagOnly<S>) -> Self {
        let (future, exchange) = (Oneshot::new(inner, request), Some(exchange));
        Self { kind: Kind::Tag { future, exchange } }
    }

    pub(crate) fn boxed(
        future: impl Future<Output = Result<Response<CacheBody>, I::Error>> + Send + 'static,
    ) -> Self {
        Self { kind: Kind::Boxed { future: Box::pin(future) } }
    }
}

impl<I, Q, S> Future for ResponseFuture<I, Q, S>
where
    I: InnerService<Q>,
    S: Store,
{
    type Output = Result<Response<CacheBody>, I::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.as_mut().project().kind.project() {
            KindProjection::Boxed { future } => future.as_mut().poll(cx),
            KindProjection::Pass { future, passed } => {
                let response = ready!(future.poll(cx));
                let Passed { forwarding, is_conditional, method, policy, report, shared } = passed;
                let report = std::mem::take(report);
                let response = match response {
                    Ok(response) => incoming::received(response, method, CallPermit::default()),
                    Err(error) => {
                        report.failed(&error);
                        return Poll::Ready(Err(error));
                    }
                };
                let answer = shared.core.pass_on(response, method, *is_conditional, forwarding.clone());
                Poll::Ready(Ok(report.answered(&shared.core.reporter, policy, answer)))
            }
            KindProjection::Plain { future } => {
                let response = ready!(future.poll(cx))?;
                let plain = |body| CacheBody::plain(Incoming::new(body, None, CallPermit::default()));
                Poll::Ready(Ok(response.map(plain)))
            }
            KindProjection::Ready { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // Polled again after it was ready, which a caller must not do.
                None => Poll::Pending,
            },
            KindProjection::Tag { future, exchange } => {
                let response = ready!(future.poll(cx));
                let Some(exchange) = exchange.take() else {
                    return Poll::Pending; // polled again, too
                };
                let response = match response {
                    Ok(response) => response,
                    Err(error) => {
                        exchange.failed(&error);
                        return Poll::Ready(Err(error));
                    }
                };
                match exchange.answer(response, CallPermit::default()) {
                    Tagged::Answer(answer) => Poll::Ready(Ok(answer)),
                    Tagged::Awaited(awaited) => {
                        self.set(Self::boxed(async { Ok(awaited.answer().await) }));
                        self.poll(cx)
                    }
                }
            }
        }
    }
}

pin_project! {
    /// Reports an answer when it is there. An `async` block would have room for the future of the answer twice.
    pub(super) struct Reported<F, S> {
        #[pin]
        pub(super) answer: F,
        pub(super) policy: RequestPolicy,
        pub(super) report: RequestReport,
        pub(super) shared: Arc<Shared<S>>,
    }
}

impl<F, S, E> Future for Reported<F, S>
where
    F: Future<Output = Result<Answer, E>>,
    E: 'static,
{
    type Output = Result<Response<CacheBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        let report = std::mem::take(this.report);
        Poll::Ready(match answer {
            Ok(answer) => Ok(report.answered(&this.shared.core.reporter, this.policy, answer)),
            Err(error) => {
                report.failed(&error);
                Err(error)
            }
        })
    }
}

impl<I, Q, S> std::fmt::Debug for ResponseFuture<I, Q, S>
where
    I: Service<Request<Q>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
