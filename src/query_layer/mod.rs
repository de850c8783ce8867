//! Requests whose content is part of what is asked: QUERY (RFC 10008), and a POST that is a query.
//!
//! [`QueryLayer`] is wrapped around the cache. It reads the content of such requests, gives it to the cache as part of
//! the key, and returns it to the inner service.

mod document;
mod graphql;
mod json;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::body::length::into_bytes;
use crate::entry::key::KeyParts;
use crate::semantics::unkeyed::names_method;

/// Lets the cache inside it store the answers to QUERY requests (RFC 10008).
///
/// QUERY is safe, and its answers can be stored like those to GET, but its content is part of what is asked. This layer
/// reads content of up to [`QueryLayer::max_content`] bytes, which becomes part of the key, together with
/// `Content-Type`, `Content-Encoding` and `Content-Language`. Larger content is forwarded as it arrives, and its answer
/// is not stored; nor is the answer to content with trailers. Requests with other methods are not changed.
///
/// By option, a POST that is a query is treated like a QUERY: see [`QueryLayer::post`] and [`QueryLayer::graphql`].
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
    reader: Reader,
}

impl QueryLayer {
    /// Reads content of up to 16 KiB, of QUERY only.
    pub fn new() -> Self {
        Self { reader: Reader { is_query: None, max_content: 16 * 1024 } }
    }

    /// Treats a POST as a query if it is certainly a GraphQL query ([`QueryLayer::is_graphql_query`]): for
    /// [`QueryLayer::post`].
    ///
    /// ```
    /// use axum::{Router, routing::post};
    /// use larder::{CacheLayer, QueryLayer};
    ///
    /// let app: Router = Router::new()
    ///     .route("/graphql", post(|| async { ([("cache-control", "max-age=60")], "{}") }))
    ///     .layer(CacheLayer::default())
    ///     .layer(QueryLayer::new().graphql());
    /// ```
    #[must_use]
    pub fn graphql(self) -> Self {
        self.post(Self::is_graphql_query)
    }

    /// Whether the content of a POST is certainly a GraphQL query, or a list of queries, and nothing else: JSON
    /// (`application/json`) in which every `query` is a document whose operations are all queries, or such a document itself
    /// (`application/graphql`).
    ///
    /// Everything else is taken for a mutation: a document with a mutation or a subscription, whatever `operationName` says;
    /// a persisted query, of which there is only a hash or an id; content that is coded or malformed, has a member twice or
    /// one that nobody knows; and a request with parameters in its URI, since some servers read the operation there.
    pub fn is_graphql_query(request: &request::Parts, content: &Bytes) -> bool {
        graphql::is_query(request, content)
    }

    /// The most bytes of content that are read and kept in a key; default 16 KiB.
    #[must_use]
    pub fn max_content(mut self, bytes: usize) -> Self {
        self.reader.max_content = bytes;
        self
    }

    /// Says which POSTs are queries, that is, read and change nothing: their answers are stored by the rules that hold for a
    /// QUERY, under a key with the content, and they invalidate nothing. The inner service still gets a POST; a
    /// [`CachePolicy`](crate::CachePolicy) sees the method QUERY. By default, no POST is one.
    ///
    /// The closure gets the request and its complete content. Say `false` in doubt: every other POST is forwarded as it is,
    /// and its success invalidates what is stored for its URI, stored queries included. So is a POST with content that is
    /// larger than [`QueryLayer::max_content`], broken or followed by trailers, and one with a field that names another
    /// method (such as `X-HTTP-Method-Override`). RFC 9110 9.3.3 does not let a cache know all this by itself.
    ///
    /// ```
    /// use larder::QueryLayer;
    /// // JSON-RPC, by names of its methods.
    /// let layer = QueryLayer::new().post(|request, content| {
    ///     request.uri.path() == "/rpc" && content.starts_with(br#"{"jsonrpc":"2.0","method":"get"#)
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn post<F>(mut self, is_query: F) -> Self
    where
        F: Fn(&request::Parts, &Bytes) -> bool + Send + Sync + 'static,
    {
        self.reader.is_query = Some(Arc::new(is_query));
        self
    }
}

/// What of which requests is read.
#[derive(Clone)]
struct Reader {
    /// Which POSTs are queries; none without it.
    is_query: Option<Arc<IsQuery>>,
    max_content: usize,
}

type IsQuery = dyn Fn(&request::Parts, &Bytes) -> bool + Send + Sync;

impl Reader {
    fn reads(&self, method: &Method) -> bool {
        *method == Method::QUERY || (*method == Method::POST && self.is_query.is_some())
    }

    /// Puts the content of a query into the key.
    fn add_content(&self, request: &mut request::Parts, content: &Bytes) {
        let is_post = request.method == Method::POST;
        if is_post && !self.is_query_by_post(request, content) {
            return;
        }
        let further = request.extensions.remove::<KeyParts>().unwrap_or_default();
        let content = content.clone();
        let further = if is_post { further.content_of_post(content) } else { further.content(content) };
        request.extensions.insert(further);
    }

    fn is_query_by_post(&self, request: &request::Parts, content: &Bytes) -> bool {
        let is_another_method = request.headers.keys().any(names_method);
        !is_another_method && self.is_query.as_ref().is_some_and(|is_query| is_query(request, content))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut reader = f.debug_struct("Reader");
        reader.field("max_content", &self.max_content).field("reads_post", &self.is_query.is_some()).finish()
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
        QueryService { inner, reader: self.reader.clone() }
    }
}

/// The service that [`QueryLayer`] makes.
#[derive(Clone, Debug)]
pub struct QueryService<S> {
    inner: S,
    reader: Reader,
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
        let kind = if self.reader.reads(request.method()) {
            // The instance that is ready is called; its clone stays for the next request.
            let inner = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, inner);
            let reader = self.reader.clone();
            let future = async move {
                let (mut parts, body) = request.into_parts();
                let taken = TakenIn::from(body, reader.max_content).await;
                if matches!(taken.end, End::Whole(None)) {
                    reader.add_content(&mut parts, &taken.content);
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
    /// The request body that [`QueryService`] passes on: the one that it received or, where it reads the content, the bytes
    /// that it has read, and the rest.
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
