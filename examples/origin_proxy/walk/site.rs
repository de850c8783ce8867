//! The origin of the walk, and proxies before it, all by one clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use http::{HeaderValue, Uri, header};
use larder::{BoxStore, CacheLayer, CachePolicy, Clock, ClockHand, MemoryStore, QueryLayer, XCache};
use tower::Layer;

use crate::edge::{Edge, Settings};
use crate::host::Host;
use crate::limits::Limits;
use crate::local_reply::Manner;
use crate::node_name::NodeName;
use crate::policy::{Beside, Current};
use crate::reasons::{self, Reasons};
use crate::slices::SliceOptions;
use crate::store::Handle;
use crate::upstream::Upstream;
use crate::upstreams::{Care, Upstreams};
use crate::viewer::Viewer;
use crate::{origin, proxy, serve, tls};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub struct Site {
    clock: Clock,
    pub hand: ClockHand,
    pub origin: Uri,
}

/// A proxy that runs.
pub struct Proxy {
    pub address: SocketAddr,
    pub cache: Handle,
}

impl Site {
    /// Starts the origin.
    pub async fn start() -> Result<Self, String> {
        let listener = serve::listen(LOOPBACK).await?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (clock, hand) = clock();
        let router = dated(origin::router(), clock.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let origin = format!("http://{address}").parse().map_err(|_| "the origin has a URL")?;
        Ok(Self { clock, hand, origin })
    }

    /// Starts a proxy with a store of its own.
    pub async fn proxy(
        &self,
        policy: impl CachePolicy,
        x_cache: XCache,
        viewer: Viewer,
    ) -> Result<Proxy, String> {
        let listener = serve::listen(LOOPBACK).await?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let cache = CacheLayer::builder(BoxStore::new(MemoryStore::default()))
            .policy(reasons::told(policy))
            .x_cache(x_cache)
            .clock(self.clock.clone())
            .build();
        let (host, limits, name) = (Host::Client, Limits::default(), NodeName::default());
        let id = HeaderValue::from_static("larder-walk");
        let (origin, timeout) = (self.origin.clone(), Duration::from_secs(10));
        let tls = tls::config(std::slice::from_ref(&origin), None)?;
        let upstreams = Upstreams::new(None, [origin], Care::default());
        let upstream =
            Upstream::new(Arc::clone(&upstreams), &tls, host, (id.clone(), name), timeout, &limits);
        let handle = cache.handle();
        let cache = QueryLayer::new().layer(cache.layer(Reasons(upstream)));
        let cache = SliceOptions::default().layer().layer(cache);
        let (fields, stall) = (limits.fields, limits.timeouts.stall);
        let current = Current::new(Beside::default());
        let manner = Manner { is_discreet: false, is_listed: x_cache == XCache::Fastly, name };
        let settings = Settings { current, fields, host, id, manner, peers: None, stall, upstreams, viewer };
        proxy::spawn(listener, Edge::new(cache, settings));
        Ok(Proxy { address, cache: handle })
    }
}

/// A clock that stands still at this second. The walk moves it, so that no row depends on the machine's speed, or waits.
fn clock() -> (Clock, ClockHand) {
    let (clock, hand) = Clock::manual();
    let now = Clock::system().now().duration_since(UNIX_EPOCH).unwrap_or_default();
    hand.set_back(Duration::MAX); // to 1970
    hand.advance(Duration::from_secs(now.as_secs()));
    (clock, hand)
}

/// The origin with the same clock: the age of a response counts from its `Date`.
fn dated(router: Router, clock: Clock) -> Router {
    router.layer(map_response(move |mut response: Response| {
        let date = httpdate::fmt_http_date(clock.now());
        response.headers_mut().extend(HeaderValue::try_from(date).map(|date| (header::DATE, date)));
        std::future::ready(response)
    }))
}
