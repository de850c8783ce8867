//! A service to operate a cache: purges, what is stored and why, statistics, and a page for people.

mod access;
mod answer;
mod audit;
mod bypass;
mod call;
mod cloudfront;
mod events;
mod fastly;
mod how;
mod invalidations;
mod live;
mod look;
mod page;
mod policy;
mod purge;
mod routes;
mod state;
mod stats;
mod store_state;
mod upstreams;
mod warm;
mod warmer;
mod watch;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, Uri};
use http_body::Body;
use tower::{Service, ServiceExt};

pub use self::access::TokenError;
use self::access::Tokens;
pub use self::answer::{AdminBody, LARDER_ADMIN};
pub use self::audit::AdminAct;
use self::audit::Audit;
use self::invalidations::Invalidations;
pub use self::purge::purged_url;
pub use self::state::PolicyFault;
use self::state::{PolicySource, State};
pub use self::store_state::StoreState;
pub use self::upstreams::UpstreamState;
use self::warmer::Warmer;
pub use self::watch::Watch;
use crate::error::BoxError;
use crate::handle::CacheHandle;
use crate::store::{MemoryStore, Store, StoreStatistics};

/// Sets up an [`AdminService`].
///
/// ```
/// use axum::Router;
/// use larder::CacheBuilder;
/// use larder::admin::{Admin, Watch};
///
/// # fn token() -> String { "0123456789abcdef".into() }
/// let watch = Watch::new();
/// let layer = CacheBuilder::default().observer(watch.clone()).build();
/// let admin = Admin::new(layer.handle(), &token())?.watch(watch).build();
/// let app: Router = Router::new()
///     // .route(...)
///     .layer(layer)
///     .nest_service("/cache", admin); // after the layer: nothing of it is cached
/// # Ok::<(), larder::admin::TokenError>(())
/// ```
#[must_use = "`build` makes the service"]
pub struct Admin<S = MemoryStore> {
    state: State<S>,
}

impl<S: Store> Admin<S> {
    /// A service for the layer of this handle, for whoever has the token: 16 to 1,024 visible ASCII characters.
    ///
    /// # Errors
    ///
    /// [`TokenError`], where the token is not 16 to 1,024 visible ASCII characters: without one, there is no service.
    pub fn new(handle: CacheHandle<S>, token: &str) -> Result<Self, TokenError> {
        let tokens = Tokens::new(token)?;
        let invalidations = Arc::new(Invalidations::default());
        let state = State {
            audit: Audit::default(),
            disk: None,
            handle,
            invalidations,
            metrics: None,
            policy: None,
            store: None,
            tokens,
            upstreams: None,
            warmer: None,
            warms_for_peers: true,
            watch: None,
        };
        Ok(Self { state })
    }

    /// Who is told of what changes something or was to (each request but GET and HEAD), and of requests with a wrong token or from
    /// another site: of these, once in ten seconds at most, with their number. Default nobody. With the feature `tracing`, the same are
    /// events of the target `larder`: INFO, or WARN for those that were refused.
    ///
    /// ```
    /// use larder::CacheLayer;
    /// use larder::admin::Admin;
    /// let admin = Admin::new(CacheLayer::default().handle(), "0123456789abcdef")?.audit(|act| eprintln!("cache: {act}"));
    /// # let _ = admin.build();
    /// # Ok::<(), larder::admin::TokenError>(())
    /// ```
    pub fn audit(mut self, tell: impl Fn(&AdminAct<'_>) + Send + Sync + 'static) -> Self {
        self.state.audit = Audit::by(tell);
        self
    }

    /// Makes the service.
    pub fn build(self) -> AdminService<S> {
        AdminService { state: Arc::new(self.state) }
    }

    /// What `GET /metrics` answers, in the text format of Prometheus: as a recorder of the crate `metrics` renders it. Default
    /// none.
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.state.metrics = Some(Arc::new(render));
        self
    }

    /// How `GET /policy` reads the text of the policy, and how `PUT /policy` replaces it: where it came from a file. What it gives is
    /// told to whoever asked for the text or sent it: warnings, or what is wrong. Default neither.
    pub fn policy(
        mut self,
        read: impl Fn() -> Result<String, String> + Send + Sync + 'static,
        replace: impl Fn(&str) -> Result<Vec<String>, PolicyFault> + Send + Sync + 'static,
    ) -> Self {
        self.state.policy = Some(PolicySource::new(read, replace));
        self
    }

    /// What `GET /stats` says of a store on disk behind another one, whose counts are not those of the cache. Default nothing.
    ///
    /// ```
    /// use larder::admin::Admin;
    /// use larder::store::{Store, StoreStatistics};
    /// # use larder::{CacheLayer, MemoryStore};
    /// # let disk = MemoryStore::default();
    /// let admin = Admin::new(CacheLayer::default().handle(), "0123456789abcdef")?.disk(move || disk.statistics());
    /// # let _ = admin.build();
    /// # Ok::<(), larder::admin::TokenError>(())
    /// ```
    pub fn disk(mut self, statistics: impl Fn() -> StoreStatistics + Send + Sync + 'static) -> Self {
        self.state.disk = Some(Box::new(statistics));
        self
    }

    /// What `GET /stats` says of the servers of a store outside of the process. Default nothing.
    ///
    /// ```
    /// use larder::CacheLayer;
    /// use larder::admin::{Admin, StoreState};
    /// # let redis_health = || (7, 1, false, 0);
    /// let admin = Admin::new(CacheLayer::default().handle(), "0123456789abcdef")?.store(move || {
    ///     let (commands, connections, is_open, purges_to_repeat) = redis_health(); // `RedisStore::health`
    ///     let (is_healthy, name) = (!is_open, "redis://10.0.0.7".to_owned());
    ///     StoreState { commands, connections, is_healthy, is_near_open: None, name, purges_to_repeat }
    /// });
    /// # let _ = admin.build();
    /// # Ok::<(), larder::admin::TokenError>(())
    /// ```
    pub fn store(mut self, state: impl Fn() -> StoreState + Send + Sync + 'static) -> Self {
        self.state.store = Some(Box::new(state));
        self
    }

    /// What `GET /stats` says of the servers behind the cache. Default nothing.
    pub fn upstreams(mut self, states: impl Fn() -> Vec<UpstreamState> + Send + Sync + 'static) -> Self {
        self.state.upstreams = Some(Box::new(states));
        self
    }

    /// How `POST /warm` asks for a URL: by a service with the cache in it, and requests as clients would send them. Default not at
    /// all.
    ///
    /// What is stored under another key than that of clients' requests warms nothing. So the service has the layers that clients'
    /// requests pass before the cache, and `request` makes what the server would: with the scheme that keys have. Behind a server
    /// that takes TLS that is `http`, whatever is asked for, as where the URI is a path and `Host` has the rest.
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::get};
    /// use larder::CacheLayer;
    /// use larder::admin::Admin;
    ///
    /// let layer = CacheLayer::default();
    /// let app: Router = Router::new().route("/", get(|| async { "Hello" })).layer(layer.clone());
    /// // As an HTTP/1.1 server would read it: a path, and a host.
    /// let request = |uri: &http::Uri| {
    ///     let host = uri.authority().map_or("", |authority| authority.as_str());
    ///     let path = uri.path_and_query().map_or("/", |path| path.as_str());
    ///     http::Request::get(path).header("host", host).body(Body::empty()).unwrap_or_default()
    /// };
    /// let admin = Admin::new(layer.handle(), "0123456789abcdef")?.warm(app.clone(), request).build();
    /// # let _ = admin;
    /// # Ok::<(), larder::admin::TokenError>(())
    /// ```
    pub fn warm<W, F, Q, B>(mut self, service: W, request: F) -> Self
    where
        W: Service<Request<Q>, Response = Response<B>, Future: Send, Error: fmt::Display + Send>
            + Clone
            + Send
            + Sync
            + 'static,
        F: Fn(&Uri) -> Request<Q> + Send + Sync + 'static,
        Q: Send + 'static,
        B: Body<Data: Send, Error: Send> + Send + 'static,
    {
        self.state.warmer = Some(Warmer::new(move |visit| {
            let answer = service.clone().oneshot(visit.with(request(&visit.uri)));
            Box::pin(async move { warmer::read(answer.await.map_err(|error| error.to_string())?).await })
        }));
        self
    }

    /// Whether `POST /warm` asks also as another cache of the same owner, where the policy keeps apart what those get
    /// ([`CachePolicyExt::with_peers`](crate::CachePolicyExt::with_peers)); default yes. An edge, which no other cache asks, says no.
    /// Who sends `peer` in an order decides for that order.
    pub fn warm_for_peers(mut self, is_on: bool) -> Self {
        self.state.warms_for_peers = is_on;
        self
    }

    /// What the service knows of what has happened: the clone of an observer of the layer. Default nothing, so that there are no
    /// numbers of requests.
    pub fn watch(mut self, watch: Watch) -> Self {
        self.state.watch = Some(watch);
        self
    }
}

impl<S> fmt::Debug for Admin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Operates a cache over HTTP, for whoever has its token. Made by [`Admin`]; cheap to clone, and always ready.
///
/// | request | what |
/// |---|---|
/// | `GET /` | a page for people, which asks for the token |
/// | `PURGE url` | purges what is stored for a URL: the request's own, or the one that its path is (`/https://example.com/x`) |
/// | `POST /purge` | JSON: `url`, `urls`, `tag`, `tags`, `prefix`, `host`, `items` (as in an invalidation list), `all`; `soft`, `soft_for` (seconds) |
/// | `POST /purge/{url}`, `POST /service/{id}/purge`, `.../purge/{key}`, `.../purge_all` | as Fastly's API has them, with `Surrogate-Key`, `Fastly-Soft-Purge` and its answers |
/// | `POST /invalidation`, `GET /invalidation/{id}` | CloudFront's invalidation lists: `CallerReference`, `Paths.Items` with `/path*` and `#tag` |
/// | `GET /inspect?url=`, `GET /explain?url=` | what is stored for a request ([`CacheHandle::inspect`]), and what would happen to it ([`CacheHandle::explain`]); with `&method=` and any number of `&header=Name:value`; `&peer=1` for what another cache of the same owner gets |
/// | `GET /stats`, `GET /hot`, `GET /live` | numbers, the keys with the most hits and misses, and events as they happen (server-sent events): by a [`Watch`] |
/// | `GET /metrics` | what [`Admin::metrics`] renders |
/// | `POST /warm` | JSON: `urls`, `at_one_time`, `headers` (`["Name: value"]`), `peer`: asks for them by [`Admin::warm`] |
/// | `POST /bypass?for=60`, `GET /bypass`, `DELETE /bypass` | development mode: for so many seconds every request is forwarded |
/// | `GET /policy`, `PUT /policy` | the text of the policy, by [`Admin::policy`] |
///
/// The token comes as `Authorization: Bearer` or as `Fastly-Key`, and [`AdminService::set_tokens`] replaces it; without one, the answer is 401, with a wrong one 403. Requests by
/// pages of other sites are refused whatever they have, there are no CORS fields, and no answer may be kept. Nothing else of a request
/// grants access: no address, and no field of a proxy. Errors are JSON: `error` (a word), `message`, `help`. Each answer has the field
/// [`LARDER_ADMIN`].
///
/// It speaks HTTP and no TLS: a token that crosses a network needs a TLS server around this service.
pub struct AdminService<S = MemoryStore> {
    state: Arc<State<S>>,
}

impl<S> AdminService<S> {
    /// Replaces the token, for this service and its clones: whoever has one of these is let in from now on, and nobody else. With the
    /// old one and the new one among them, a token is replaced without a gap.
    ///
    /// ```
    /// use larder::CacheLayer;
    /// use larder::admin::Admin;
    /// let admin = Admin::new(CacheLayer::default().handle(), "0123456789abcdef")?.build();
    /// admin.set_tokens(["fedcba9876543210", "0123456789abcdef"])?;
    /// assert!(admin.set_tokens(["short"]).is_err());
    /// # Ok::<(), larder::admin::TokenError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TokenError`], where one of them is not a token, or there is none at all. Then nothing has changed.
    pub fn set_tokens<'a>(&self, tokens: impl IntoIterator<Item = &'a str>) -> Result<(), TokenError> {
        self.state.tokens.replace(tokens)
    }
}

impl<S> Clone for AdminService<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<S> fmt::Debug for AdminService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminService").finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for AdminService<S>
where
    S: Store,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<AdminBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = Arc::clone(&self.state);
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        Box::pin(async move { Ok(routes::answer(state, parts, body).await.response(is_head)) })
    }
}
