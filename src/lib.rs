//! An HTTP cache as a [tower] layer: RFC 9111 in one `.layer(...)`.
//!
//! In front of a service it is a correct shared cache: it stores what may be stored, reuses it for every request that
//! may have it, gives responses entity tags and answers conditional requests with 304. Around an HTTP client it is a
//! caching reverse proxy; the example `origin_proxy` is one.
//!
//! ```
//! use axum::{Router, routing::get};
//! use larder::CacheLayer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let app: Router = Router::new()
//!     .route("/", get(|| async { ([("cache-control", "max-age=60")], "Hello") }))
//!     .layer(CacheLayer::default());
//!
//! use tower::ServiceExt;
//! let request = || http::Request::get("http://example.com/").body(axum::body::Body::empty()).unwrap();
//! let miss = app.clone().oneshot(request()).await.unwrap();
//! assert_eq!(miss.headers()["cache-status"], "larder; fwd=uri-miss; stored; ttl=60");
//! let hit = app.oneshot(request()).await.unwrap();
//! assert_eq!(hit.headers()["cache-status"], "larder; hit; ttl=60");
//! # });
//! ```
//!
//! # Where to start
//!
//! | who | door |
//! |---|---|
//! | adds the layer | [`CacheLayer`]; [`QueryLayer`] where QUERY, or a POST that is a query, is to be cached, too |
//! | serves films, archives and other large files | [`SliceLayer`], around the cache |
//! | tunes what is cached | [`CachePolicy`], [`StandardPolicy`] |
//! | keeps responses somewhere else | [`Store`], `store::conformance`, [`store::record`] |
//! | finds out why a page was or was not cached | `Cache-Status`, [`semantics::cache_status`], [`Observer`] |
//!
//! # Who gets what
//!
//! By default nothing is shared between people unless the response says that it may be: a request with
//! `Cookie` or `Authorization`, and a response with `Set-Cookie`, is stored and reused only where the response
//! is `public` or has `s-maxage` (for cookies, a targeted lifetime will do), or where the key holds the credential.
//! [`StandardPolicy::rfc9111`] is RFC 9111 to the letter, which knows of `Authorization` only.
//!
//! Nor does one client choose what everybody gets: by default no request can force a stored response to be replaced, and
//! an error that a client can provoke by its fields is not stored. If your service trusts fields such as
//! `X-Forwarded-Host`, see [`StandardPolicy::strip_unkeyed`].
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `admin` | no | a service to operate a cache, and its page: `admin` |
//! | `axum` | yes | reads axum's `OriginalUri`, so that nested routers key by the URI the client asked for |
//! | `blake3` | no | strong entity tags: `Tagging::strong()` |
//! | `conformance` | no | for tests: the contract of stores (`store::conformance`), and a store with faults (`store::chaos`) |
//! | `disk` | no | responses in a folder, across restarts: `store::DiskStore`; needs Rust 1.90 |
//! | `metrics` | no | counters, gauges and histograms, by the facade of that name: `MetricsObserver` |
//! | `redis` | no | responses shared by a fleet, in Redis or Valkey: `store::RedisStore` |
//! | `redis-tls` | no | the same by TLS: `rediss://` |
//! | `serde` | no | policies of CloudFront from the JSON of its API: `policy::cloudfront` |
//! | `tracing` | no | events and spans, by the facade of that name: `TracingObserver` |
//! | `viewer` | no | fields that tell of a request's client: its device, address and country: `ViewerLayer` |
//!
//! Without `axum`, do not put one layer (or one store) into several routers nested under different prefixes: axum
//! strips the prefix, and the routers would share entries. A layer around the outermost router is safe either way.
//!
//! # Limits
//!
//! The content of a response that is larger than [`store::StoreLimits::max_object`] passes through and is not stored, except in
//! slices, with a [`SliceLayer`];
//! with [`StandardPolicy::partial`], the same bound holds for all parts of one representation together.
//! Answers to QUERY are stored only behind a [`QueryLayer`], for content of up to [`QueryLayer::max_content`] bytes.
//! Requests share a call only where there is a tokio runtime; [`FillLimits`] bounds what goes on at one time,
//! [`BodyLimits`] what clients that read slowly may hold (by default a client that takes nothing for a minute is cut
//! off), and [`CallLimits`], by option, the calls of the inner service.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

// Where a request enters, and the way that it takes.
mod body;
mod collapse;
mod error_pages;
mod fetch;
mod handle;
mod layer;
mod observe;
mod query_layer;
mod respond;
mod service;
mod shared;
mod slice;
// What users plug in, and operate with.
#[cfg(feature = "admin")]
pub mod admin;
pub mod policy;
pub mod store;
#[cfg(feature = "viewer")]
pub mod viewer;
// What all of these stand on.
mod entry;
mod error;
mod limits;
mod runtime;
#[cfg(all(test, shuttle))]
mod schedules;
pub mod semantics;

pub use body::CacheBody;
pub use entry::key::{CacheKey, KeyError, KeyParts, ShownPart, ShownValue};
pub use entry::{Fields, HeadParts, InvalidEntry, Part, Payload, ResponseHead, StoredResponse};
pub use error::{BodyError, StoreError};
pub use error_pages::{ErrorPages, ErrorPagesFuture, ErrorPagesLayer};
pub use handle::CacheHandle;
pub use handle::explain::{ExplainedCall, ExplainedStep, Explanation};
pub use handle::inspect::{InspectedKey, InspectedVariant, Inspection};
pub use handle::target::PurgeError;
pub use layer::{CacheBuilder, CacheLayer};
pub use limits::calls::CallLimits;
pub use limits::held::BodyLimits;
pub use limits::{FillLimits, FillStatistics};
#[cfg(feature = "metrics")]
pub use observe::metrics::{MetricsBuilder, MetricsObserver};
#[cfg(feature = "tracing")]
pub use observe::tracing::TracingObserver;
pub use observe::{Event, FailedBy, InvalidatedBy, Observer, ServerTiming, XCache};
pub use policy::{
    CachePolicy, CachePolicyExt, Delivery, ForwardReason, PolicyData, PolicyExchange, Reason, RequestAction,
    StandardPolicy, Terms, VaryRule,
};
pub use query_layer::{QueryBody, QueryFuture, QueryLayer, QueryService};
pub use runtime::clock::{Clock, ClockHand};
pub use semantics::cache_control::{CacheControl, CacheControlField, InvalidDirective};
pub use semantics::cache_status::Outcome;
pub use semantics::hint::CacheHint;
pub use semantics::outcome_kind::OutcomeKind;
pub use service::CacheService;
pub use service::future::ResponseFuture;
pub use shared::Tagging;
pub use slice::{JoinedBody, SliceBody, SliceFuture, SliceLayer, SliceService};
pub use store::{BoxStore, MemoryStore, PurgeReceipt, Store};
#[cfg(feature = "viewer")]
pub use viewer::ViewerLayer;

/// The code of the documents, compiled and run.
#[cfg(all(
    doctest,
    feature = "admin",
    feature = "axum",
    feature = "conformance",
    feature = "metrics",
    feature = "viewer"
))]
mod documents {
    #[doc = include_str!("../docs/ADMIN.md")]
    struct Admin;
    #[cfg(feature = "disk")]
    #[doc = include_str!("../docs/DISK.md")]
    struct Disk;
    #[cfg(feature = "redis")]
    #[doc = include_str!("../docs/FLEET.md")]
    struct Fleet;
    #[doc = include_str!("../docs/GUIDE.md")]
    struct Guide;
    #[doc = include_str!("../docs/FROM_CLOUDFRONT.md")]
    struct FromCloudFront;
    #[doc = include_str!("../docs/FROM_FASTLY.md")]
    struct FromFastly;
    #[doc = include_str!("../docs/FROM_NGINX_AND_VARNISH.md")]
    struct FromNginxAndVarnish;
    #[doc = include_str!("../docs/KEYS.md")]
    struct Keys;
    #[doc = include_str!("../docs/LARGE.md")]
    struct Large;
    #[doc = include_str!("../docs/LIFETIMES.md")]
    struct Lifetimes;
    #[doc = include_str!("../docs/PURGING.md")]
    struct Purging;
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/RECIPES.md")]
    struct Recipes;
    #[doc = include_str!("../docs/SHIELDING.md")]
    struct Shielding;
    #[cfg(all(feature = "metrics", feature = "tracing"))]
    #[doc = include_str!("../docs/WATCHING.md")]
    struct Watching;
    #[doc = include_str!("../docs/WHY.md")]
    struct Why;
}
