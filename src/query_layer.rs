//! Requests whose content is part of what is asked: QUERY (RFC 10008).
//!
//! [`QueryLayer`] is wrapped around the cache. It reads the content of QUERY requests, gives it to the cache as part of
//! the key, and returns it to the inner service.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::{Method, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::body::length::into_bytes;
use crate::entry::key::KeyParts;

/// Lets the cache inside it store the answers to QUERY requests (RFC 10008).
///
/// QUERY is safe, and its answers can be stored like those to GET, but its content is part of what is asked. This layer
/// reads content of up to [`QueryLayer::max_content`] bytes, which becomes part of the key, together with
/// `Content-Type`, `Content-Encoding` and `Content-Language`. Larger content is forwarded as it arrives, and its answer
/// is not stored. Requests with other methods are not changed.
///
/// The inner service gets a [`QueryBody`] instead of the request body. Without this layer, the cache forwards QUERY
/// requests and stores nothing.
///
/// ```
/// use axum::{Router, routing::any};
/// use larder::{CacheLayer, QueryLayer};
///
/// let app: Router = Router::new()
///     .route("/search", any(|| async { ([("cache-control", "max-age=60")], "found") }))
///     .layer(CacheLayer::default())
///     .layer(QueryLayer::new());
/// ```
#[derive(Clone, Debug)]
pub struct QueryLayer {
    max_content: usize,
}

impl QueryLayer {
    /// Reads content of up to 16 KiB.
    pub fn new() -> Self {
        Self { max_content: 16 * 1024 }
    }

    /// The most bytes of content that are read and kept in a key; default 16 KiB.
    #[must_use]
    pub fn max_content(mut self, bytes: usize) -> Self {
        self.max_content = bytes;
        self
    }
}

impl Default for QueryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for QueryLayer {
    type Service = QueryService<S>;

    fn layer(&self, inner: S) -> QueryService<S> {
        QueryService { inner, max_content: self.max_content }
    }
}

/// The service that [`QueryLayer`] makes.
#[derive(Clone, Debug)]
pub struct QueryService<S> {
    inner: S,
    max_content: usize,
}

impl<S, Q> Service<Request<Q>> for QueryService<S>
where
    S: Service<Request<QueryBody<Q>>> + Clone + Send + 'static,
    S::Future: Send,
    Q: Body + Send + 'static,
    Q::Data: Send,
    Q::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueryFuture<S::Future, S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let kind = if *request.method() == Method::QUERY {
            // The instance that is ready is called; its clone stays for the next request.
            let inner = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, inner);
            let max_content = self.max_content;
            let future = async move {
                let (mut parts, body) = request.into_parts();
                let taken = TakenIn::from(body, max_content).await;
                if matches!(taken.end, End::Whole(_)) {
                    let further = parts.extensions.remove::<KeyParts>().unwrap_or_default();
                    parts.extensions.insert(further.content(taken.content.clone()));
                }
                inner.call(Request::from_parts(parts, QueryBody { kind: BodyKind::TakenIn { taken } })).await
            };
            Kind::Query { future: Box::pin(future) }
        } else {
            let direct = |body| QueryBody { kind: BodyKind::Direct { body } };
            Kind::Direct { future: self.inner.call(request.map(direct)) }
        };
        QueryFuture { kind }
    }
}

pin_project! {
    /// The future that [`QueryService`] returns.
    pub struct QueryFuture<F, R, E> {
        #[pin]
        kind: Kind<F, R, E>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, R, E> {
        Direct { #[pin] future: F },
        Query { future: Pin<Box<dyn Future<Output = Result<R, E>> + Send>> },
    }
}

impl<F, R, E> Future for QueryFuture<F, R, E>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = Result<R, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<R, E>> {
        match self.project().kind.project() {
            KindProjection::Direct { future } => future.poll(cx),
            KindProjection::Query { future } => future.as_mut().poll(cx),
        }
    }
}

/// Content as far as it was read.
struct TakenIn<Q: Body> {
    content: Bytes,
    end: End<Q>,
}

enum End<Q: Body> {
    Failed(Option<Q::Error>),
    /// There is more, which is forwarded as it arrives.
    Open(Pin<Box<Q>>),
    Whole(Option<HeaderMap>),
}

impl<Q: Body> TakenIn<Q> {
    async fn from(body: Q, max_content: usize) -> Self {
        let mut body = Box::pin(body);
        let mut content = BytesMut::new();
        let end = loop {
            let to_come = body.size_hint().lower();
            if content.len() as u64 + to_come > max_content as u64 {
                break End::Open(body);
            }
            match body.frame().await.transpose().map(|frame| frame.map(|frame| into_bytes(frame).into_data()))
            {
                Ok(None) => break End::Whole(None),
                Ok(Some(Ok(data))) => content.extend_from_slice(&data),
                Ok(Some(Err(frame))) => break End::Whole(frame.into_trailers().ok()),
                Err(error) => break End::Failed(Some(error)),
            }
        };
        Self { content: content.freeze(), end }
    }
}

pin_project! {
    /// The request body that [`QueryService`] passes on: the one that it received or, for a QUERY, the bytes that it
    /// has read, and the rest.
    pub struct QueryBody<Q>
    where
        Q: Body,
    {
        #[pin]
        kind: BodyKind<Q>,
    }
}

pin_project! {
    #[project = BodyKindProjection]
    enum BodyKind<Q>
    where
        Q: Body,
    {
        Direct { #[pin] body: Q },
        TakenIn { taken: TakenIn<Q> },
    }
}

impl<Q: Body> Body for QueryBody<Q> {
    type Data = Bytes;
    type Error = Q::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Q::Error>>> {
        let taken = match self.project().kind.project() {
            BodyKindProjection::Direct { body } => return poll_bytes(body, cx),
            BodyKindProjection::TakenIn { taken } => taken,
        };
        if !taken.content.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut taken.content)))));
        }
        match &mut taken.end {
            End::Failed(error) => Poll::Ready(error.take().map(Err)),
            End::Open(rest) => poll_bytes(rest.as_mut(), cx),
            End::Whole(trailers) => {
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Direct { body } => body.is_end_stream(),
            BodyKind::TakenIn { taken } => {
                taken.content.is_empty()
                    && match &taken.end {
                        End::Failed(error) => error.is_none(),
                        End::Open(rest) => rest.is_end_stream(),
                        End::Whole(trailers) => trailers.is_none(),
                    }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let taken = match &self.kind {
            BodyKind::Direct { body } => return body.size_hint(),
            BodyKind::TakenIn { taken } => taken,
        };
        let length = taken.content.len() as u64;
        match &taken.end {
            End::Whole(None) => SizeHint::with_exact(length),
            End::Failed(_) | End::Whole(Some(_)) => {
                let mut hint = SizeHint::new();
                hint.set_lower(length);
                hint
            }
            End::Open(rest) => {
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(length + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(length + upper);
                }
                hint
            }
        }
    }
}

fn poll_bytes<Q: Body>(
    body: Pin<&mut Q>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, Q::Error>>> {
    body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(into_bytes)))
}

impl<Q: Body + Default> Default for QueryBody<Q> {
    fn default() -> Self {
        Self { kind: BodyKind::Direct { body: Q::default() } }
    }
}

impl<Q: Body> std::fmt::Debug for QueryBody<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryBody").finish_non_exhaustive()
    }
}

impl<F, R, E> std::fmt::Debug for QueryFuture<F, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryFuture").finish_non_exhaustive()
    }
}
