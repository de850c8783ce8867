//! Pages in the place of errors: [`ErrorPagesLayer`].

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceExt};

use crate::entry::key::{KeyParts, each_uri};
use crate::policy::cloudfront::Distribution;
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::cache_status::{CACHE_STATUS, Detail, Forwarding, Outcome, X_CACHE};
use crate::semantics::validation::remove_conditions;

/// Answers with a page in the place of an error: the content at another path of the same service, under the status of the error
/// or another one. CloudFront calls this custom error responses.
///
/// Wrapped around a cache, the page is stored and answered like anything else that is asked for. So it is made by a second
/// request, with the fields and the extensions of the first, but without its content, its conditions and its range.
///
/// ```
/// use axum::{Router, routing::get};
/// use http::{Request, StatusCode, uri::PathAndQuery};
/// use larder::{CacheBuilder, ErrorPagesLayer};
/// use tower::{Layer, ServiceExt};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let app = Router::new().route("/404.html", get(|| async { "There is nothing here." }));
/// let pages = ErrorPagesLayer::new()
///     .page(StatusCode::NOT_FOUND, PathAndQuery::from_static("/404.html"));
/// // The cache reports what pages need to know.
/// let app = app.layer(CacheBuilder::default().outcome_in_extensions(true).build());
/// // Around the router: `Router::layer` would be inside of it, where a route knows of no other one.
/// let app = pages.layer(app);
///
/// let request = Request::get("http://example.com/lost").body(axum::body::Body::empty()).unwrap();
/// let answer = app.oneshot(request).await.unwrap();
/// assert_eq!(answer.status(), StatusCode::NOT_FOUND);
/// assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await.unwrap(), "There is nothing here.");
/// # });
/// ```
///
/// Errors of GET and HEAD are replaced; see [`ErrorPagesLayer::all_methods`]. The page comes with its own fields, except for
/// those that say how long an answer may be stored and what caches did: these are the error's. A page that is for one person
/// (`private`, `no-cache`, `no-store`, or a `Set-Cookie`) keeps its own, beside an error's directives that are as strict. It has neither validators nor ranges,
/// for a client would take them for those of what it has asked for. Where the page is no success, the error goes out as it is;
/// and so does what the cache refuses by itself, because of its limits
/// ([`CallLimits`](crate::CallLimits)) or `only-if-cached`, as long as
/// [`CacheBuilder::outcome_in_extensions`](crate::CacheBuilder::outcome_in_extensions) is on, by which that is known.
/// Where the inner service returns `Err`, this layer passes it on.
#[derive(Clone, Default)]
pub struct ErrorPagesLayer {
    has_all_methods: bool,
    pages: Arc<Vec<Page>>,
}

#[derive(Clone, Debug)]
struct Page {
    path: PathAndQuery,
    replaces: StatusCode,
    status: StatusCode,
}

impl ErrorPagesLayer {
    /// Replaces nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces errors with this status by the content at a path, under the same status.
    #[must_use]
    pub fn page(self, error: StatusCode, path: PathAndQuery) -> Self {
        self.page_as(error, path, error)
    }

    /// Replaces errors with this status by the content at a path, under another status: 200 for a page that finds out by
    /// itself what to show. A status that is neither 200 nor an error (4xx, 5xx) says something else about content: such a page
    /// goes out under the status of the error.
    #[must_use]
    pub fn page_as(mut self, error: StatusCode, path: PathAndQuery, status: StatusCode) -> Self {
        let has_page = status == StatusCode::OK || status.is_client_error() || status.is_server_error();
        let status = if has_page { status } else { error };
        let pages = Arc::make_mut(&mut self.pages);
        pages.retain(|page| page.replaces != error);
        pages.push(Page { path, replaces: error, status });
        self
    }

    /// Whether no error is replaced.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Whether errors of other methods than GET and HEAD are replaced, too; default false, because their clients are rarely
    /// people who look at a page.
    #[must_use]
    pub fn all_methods(mut self, on: bool) -> Self {
        self.has_all_methods = on;
        self
    }
}

/// The custom error responses of a distribution that have a page.
impl From<&Distribution> for ErrorPagesLayer {
    fn from(distribution: &Distribution) -> Self {
        distribution.custom_error_responses().iter().fold(Self::new(), |layer, response| {
            match response.page.clone() {
                Some((path, status)) => layer.page_as(response.error_code, path, status),
                None => layer,
            }
        })
    }
}

impl fmt::Debug for ErrorPagesLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorPagesLayer").field("pages", &self.pages).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ErrorPagesLayer {
    type Service = ErrorPages<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ErrorPages { inner, layer: self.clone() }
    }
}

/// The service that [`ErrorPagesLayer`] makes.
#[derive(Clone, Debug)]
pub struct ErrorPages<S> {
    inner: S,
    layer: ErrorPagesLayer,
}

impl<S, Q, B> Service<Request<Q>> for ErrorPages<S>
where
    S: Service<Request<Q>, Response = Response<B>, Future: Send, Error: Send> + Clone + Send + 'static,
    Q: Default + Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ErrorPagesFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let may_be_replaced =
            self.layer.has_all_methods || matches!(parts.method, Method::GET | Method::HEAD);
        let replace = may_be_replaced.then(|| {
            let (inner, layer, parts) = (self.inner.clone(), self.layer.clone(), parts.clone());
            let replace = move |answer: Response<B>| match layer.page_for(&answer) {
                None => Replaced::Not(answer),
                Some(page) => {
                    let (request, status) = (page.request(parts), page.status);
                    Replaced::By(Box::pin(async move {
                        match inner.oneshot(request).await {
                            Ok(page) if page.status().is_success() => Ok(composed(answer, page, status)),
                            // There is no page.
                            _ => Ok(answer),
                        }
                    }))
                }
            };
            Box::new(replace) as Replace<B, S::Error>
        });
        // The clone need not be ready.
        let clone = self.inner.clone();
        let call = mem::replace(&mut self.inner, clone).call(Request::from_parts(parts, body));
        ErrorPagesFuture { call, page: None, replace }
    }
}

impl ErrorPagesLayer {
    /// The page that replaces an answer, where there is one.
    fn page_for<B>(&self, answer: &Response<B>) -> Option<&Page> {
        let page = self.pages.iter().find(|page| page.replaces == answer.status())?;
        let is_of_limits = answer.extensions().get().is_some_and(|outcome| {
            let detail = match outcome {
                Outcome::Forwarded(Forwarding { detail, .. }) => detail,
                Outcome::Unsatisfiable => return true,
                Outcome::Hit { .. } => return false,
            };
            *detail == Some(Detail::CallLimit)
        });
        (!is_of_limits).then_some(page)
    }
}

impl Page {
    /// The request for it, made of the one that has brought the error.
    fn request<Q: Default>(&self, mut parts: Parts) -> Request<Q> {
        if parts.method != Method::HEAD {
            parts.method = Method::GET;
        }
        each_uri(&mut parts, |uri| {
            let mut of_page = mem::take(uri).into_parts();
            of_page.path_and_query = Some(self.path.clone());
            // With another path it is a URI still.
            *uri = Uri::from_parts(of_page).unwrap_or_else(|_| Uri::from(self.path.clone()));
        });
        remove_conditions(&mut parts.headers);
        let is_of_content = |name: &&HeaderName| {
            name.as_str().starts_with("content-")
                || matches!(
                    **name,
                    header::EXPECT | header::TRAILER | header::TRANSFER_ENCODING | header::UPGRADE
                )
        };
        let of_content: Vec<_> = parts.headers.keys().filter(is_of_content).cloned().collect();
        for name in of_content {
            parts.headers.remove(name);
        }
        if parts.extensions.get().is_some_and(KeyParts::has_content) {
            parts.extensions.remove::<KeyParts>();
        }
        Request::from_parts(parts, Q::default())
    }
}

/// What of a page's fields is true of the page only.
const OF_PAGE: [HeaderName; 3] = [header::ACCEPT_RANGES, header::ETAG, header::LAST_MODIFIED];

/// What is true of the answer whatever its content is: what caches did, and what a client can do about it.
static OF_ERROR: [HeaderName; 7] = [
    header::AGE,
    header::ALLOW,
    header::DATE,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    CACHE_STATUS,
    X_CACHE,
];

/// Whether a field says how long an answer may be stored: by anybody, or by the caches that it is for (RFC 9213).
fn is_of_storing(name: &HeaderName) -> bool {
    matches!(*name, header::CACHE_CONTROL | header::EXPIRES | header::PRAGMA)
        || name.as_str() == "surrogate-control"
        || name.as_str().ends_with("-cache-control")
}

/// Whether `Cache-Control` says that others may not have it, or not without asking.
fn is_restricted(headers: &HeaderMap) -> bool {
    let directives = ResponseDirectives::of(headers);
    directives.no_store || directives.private || directives.no_cache || directives.unstored().next().is_some()
}

/// A page in the place of an error.
fn composed<B>(error: Response<B>, page: Response<B>, status: StatusCode) -> Response<B> {
    let (error, _) = error.into_parts();
    let (mut parts, content) = page.into_parts();
    parts.status = status;
    parts.extensions = error.extensions;
    OF_PAGE.iter().chain(&OF_ERROR).for_each(|name| drop(parts.headers.remove(name)));
    for name in OF_ERROR.iter().chain([&header::VARY]) {
        take_over(&error.headers, &mut parts.headers, name);
    }
    // The stricter word counts, or a cache in front gives a page to everybody that is for one person.
    if !is_restricted(&parts.headers) && !parts.headers.contains_key(header::SET_COOKIE) {
        let of_page: Vec<_> = parts.headers.keys().filter(|name| is_of_storing(name)).cloned().collect();
        of_page.iter().for_each(|name| drop(parts.headers.remove(name)));
        let of_error = error.headers.keys().filter(|name| is_of_storing(name));
        of_error.for_each(|name| take_over(&error.headers, &mut parts.headers, name));
    } else if is_restricted(&error.headers) {
        take_over(&error.headers, &mut parts.headers, &header::CACHE_CONTROL);
    }
    Response::from_parts(parts, content)
}

fn take_over(from: &HeaderMap, to: &mut HeaderMap, name: &HeaderName) {
    for line in from.get_all(name) {
        to.append(name, line.clone());
    }
}

type Replace<B, E> = Box<dyn FnOnce(Response<B>) -> Replaced<B, E> + Send>;

type PageFuture<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

/// What becomes of an answer.
enum Replaced<B, E> {
    By(PageFuture<B, E>),
    Not(Response<B>),
}

pin_project! {
    /// The answer of [`ErrorPages`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ErrorPagesFuture<F, B, E> {
        #[pin]
        call: F,
        page: Option<PageFuture<B, E>>,
        replace: Option<Replace<B, E>>,
    }
}

impl<F, B, E> Future for ErrorPagesFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(page) = this.page {
            return page.as_mut().poll(cx);
        }
        let answer = ready!(this.call.poll(cx))?;
        let replaced = match this.replace.take() {
            None => Replaced::Not(answer),
            Some(replace) => replace(answer),
        };
        match replaced {
            Replaced::Not(answer) => Poll::Ready(Ok(answer)),
            Replaced::By(page) => this.page.insert(page).as_mut().poll(cx),
        }
    }
}

impl<F, B, E> fmt::Debug for ErrorPagesFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorPagesFuture").finish_non_exhaustive()
    }
}
