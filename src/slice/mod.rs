//! Large media in slices: a wrapper around the cache that asks it for ranges of one size, and joins them for the client.
//!
//! Invariant: all bytes of one answer are of one representation, by its strong validator. An answer that can't be ended so ends
//! with an error.

mod answer;
mod joined;
mod request;
mod transfer;

use std::fmt;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, request as http_request};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceExt};

use self::answer::Made;
pub use self::joined::JoinedBody;
pub use self::request::SliceBody;
use self::transfer::Transfer;
use crate::entry::key::KeyParts;
use crate::entry::slice::{SliceAnswer, SliceRequest};
use crate::error::BoxError;
use crate::semantics::fields::RequestFields;
use crate::semantics::framing;
use crate::semantics::range::begins_at;

/// The smallest slices, and the largest.
const SIZES: RangeInclusive<u64> = (if cfg!(shuttle) { 8 } else { 1024 })..=1024 * 1024 * 1024;

/// Lets the cache inside it store large responses in slices, so that a range of a large file costs no more than the slices that
/// it touches, and no file is too large for the store.
///
/// A GET or HEAD becomes requests for ranges of [`SliceLayer::size`] bytes. Each of them goes through the cache: it is stored,
/// shared, validated and purged like any response, whether or not the policy stores parts
/// ([`StandardPolicy::partial`](crate::StandardPolicy::partial)). The layer joins what it gets to a 200, a 206 or a
/// `multipart/byteranges`, and asks for one slice at a time, and the next one in advance.
///
/// All slices of an answer have one strong validator (RFC 9110 8.8.1). If the representation changes while it is sent, the
/// answer ends with an error, and its slices are purged. Where the origin has no ranges, no strong validator, or nothing that
/// may be stored, the client's request is sent as it is, and for half a minute no slice is asked for.
///
/// The inner service gets a [`SliceBody`] instead of the request body, clients a [`JoinedBody`] instead of the response body.
/// It must be the cache, or layers around it that leave extensions of requests and responses alone. There is a guide: "Large
/// media".
///
/// ```
/// use axum::{Router, routing::get};
/// use larder::{CacheLayer, SliceLayer};
///
/// let app: Router = Router::new()
///     .route("/film.mp4", get(|| async { "..." }))
///     .layer(CacheLayer::default())
///     .layer(SliceLayer::new().when(|request| request.uri.path().ends_with(".mp4")));
/// # let _ = app;
/// ```
#[derive(Clone)]
pub struct SliceLayer {
    config: Arc<Config>,
}

type When = dyn Fn(&http_request::Parts) -> bool + Send + Sync;

#[derive(Clone)]
struct Config {
    size: u64,
    when: Option<Arc<When>>,
}

impl SliceLayer {
    /// Slices of 1 MiB, of every GET and HEAD.
    pub fn new() -> Self {
        Self { config: Arc::new(Config { size: 1024 * 1024, when: None }) }
    }

    /// Bytes in a slice; default 1 MiB, and between 1 KiB and 1 GiB in any case.
    ///
    /// A slice has to fit into the store ([`StoreLimits::max_object`](crate::store::StoreLimits::max_object)). All nodes over one
    /// store, and caches that stand one behind the other, do best with one size: slices of another size are other entries.
    #[must_use]
    pub fn size(self, bytes: u64) -> Self {
        self.with(|config| config.size = bytes.clamp(*SIZES.start(), *SIZES.end()))
    }

    /// Says which requests are answered in slices; default every GET and HEAD that has no content.
    ///
    /// A request that finds nothing goes to the origin with `Range` and for the first slice only, so small dynamic pages have
    /// nothing to gain. What is no larger than a slice, and what comes without a range, is stored as a whole in any case.
    ///
    /// ```
    /// use larder::SliceLayer;
    /// let layer = SliceLayer::new().size(4 * 1024 * 1024).when(|request| request.uri.path().starts_with("/media/"));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn when(self, is_sliced: impl Fn(&http_request::Parts) -> bool + Send + Sync + 'static) -> Self {
        self.with(|config| config.when = Some(Arc::new(is_sliced)))
    }

    fn with(mut self, edit: impl FnOnce(&mut Config)) -> Self {
        edit(Arc::make_mut(&mut self.config));
        self
    }
}

impl Config {
    fn slices<Q: Body>(&self, request: &http_request::Parts, body: &Q) -> bool {
        let is_read = request.method == Method::GET || request.method == Method::HEAD;
        if !is_read || !self.when.as_ref().is_none_or(|when| when(request)) {
            return false;
        }
        let fields = RequestFields::of(&request.headers);
        let (least, is_end) = (body.size_hint().lower(), body.is_end_stream());
        !fields.upgrade && !framing::request_has_content(request.version, fields.content, least, is_end)
    }

    /// The slice with which an answer begins.
    fn first(&self, request: &http_request::Parts) -> SliceRequest {
        let begins_at = if request.method == Method::HEAD { 0 } else { begins_at(&request.headers) };
        SliceRequest { index: begins_at / self.size, joins: None, size: self.size }
    }
}

impl Default for SliceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SliceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceLayer").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for SliceLayer {
    type Service = SliceService<S>;

    fn layer(&self, inner: S) -> SliceService<S> {
        SliceService { config: Arc::clone(&self.config), inner }
    }
}

/// The service that [`SliceLayer`] makes.
#[derive(Clone, Debug)]
pub struct SliceService<S> {
    config: Arc<Config>,
    inner: S,
}

impl<S, Q, B> Service<Request<Q>> for SliceService<S>
where
    S: Service<Request<SliceBody<Q>>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Q: Body + Send + 'static,
    B: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<JoinedBody<B>>;
    type Error = S::Error;
    type Future = SliceFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        if !self.config.slices(&parts, &body) {
            let request = Request::from_parts(parts, SliceBody::of(body));
            return SliceFuture { kind: Kind::Direct { future: self.inner.call(request) } };
        }
        // The instance that is ready is called; its clone stays for the next request.
        let inner = self.inner.clone();
        let mut first = std::mem::replace(&mut self.inner, inner.clone());
        let asked = self.config.first(&parts);
        let future = async move {
            let request = Request::from_parts(asking(&parts, asked.clone()), SliceBody::nothing());
            let mut response = first.call(request).await?;
            let found = match response.extensions_mut().remove() {
                None => return Ok(response.map(JoinedBody::direct)),
                Some(SliceAnswer::Slice(found)) => Some(found),
                Some(SliceAnswer::Whole) => None,
            };
            if let Some(found) = found {
                let template = parts.clone();
                let further = inner.clone();
                let ask = move |asked| {
                    let request = Request::from_parts(asking(&template, asked), SliceBody::nothing());
                    let response = further.clone().oneshot(request);
                    Box::pin(async move { response.await.ok() }) as joined::Asking<B>
                };
                let transfer = Transfer::new(asked, &response, found);
                if let Made::Answer(answer) = transfer.answer(&parts, response, Box::new(ask)) {
                    return Ok(*answer);
                }
            } else {
                drop(response); // nobody waits for what is left of it
            }
            let response = inner.oneshot(Request::from_parts(parts, SliceBody::of(body))).await?;
            Ok(response.map(JoinedBody::direct))
        };
        SliceFuture { kind: Kind::Sliced { future: Box::pin(future) } }
    }
}

/// A client's request as one for a slice.
fn asking(request: &http_request::Parts, asked: SliceRequest) -> http_request::Parts {
    let mut request = request.clone();
    let further = request.extensions.remove::<KeyParts>().unwrap_or_default();
    request.extensions.insert(further.slice(asked));
    request
}

pin_project! {
    /// The future that [`SliceService`] returns.
    pub struct SliceFuture<F, B, E>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<F, B, E>,
    }
}

type Sliced<B, E> = Pin<Box<dyn Future<Output = Result<Response<JoinedBody<B>>, E>> + Send>>;

pin_project! {
    #[project = KindProjection]
    enum Kind<F, B, E>
    where
        B: Body,
    {
        Direct { #[pin] future: F },
        Sliced { future: Sliced<B, E> },
    }
}

impl<F, B, E> Future for SliceFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<JoinedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Direct { future } => {
                future.poll(cx).map(|answer| answer.map(|response| response.map(JoinedBody::direct)))
            }
            KindProjection::Sliced { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, B: Body, E> fmt::Debug for SliceFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceFuture").finish_non_exhaustive()
    }
}
