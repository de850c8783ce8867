//! The caching reverse proxy: a server, the cache, and a client of the origin.

use std::net::SocketAddr;

use http::HeaderValue;
use larder::{CacheLayer, CallLimits, MemoryStore, QueryLayer};
use tokio::net::TcpListener;
use tower::Layer;

use crate::args::ProxyOptions;
use crate::edge::{Edge, Settings};
use crate::limits::Limits;
use crate::policy::{Current, Loaded};
use crate::reasons::Reasons;
use crate::stop::Stop;
use crate::upstream::Upstream;
use crate::{policy, serve, tls};

/// Runs the proxy alone until it is interrupted.
pub async fn run(options: ProxyOptions) -> Result<(), String> {
    let loaded = options.policy.load().map_err(|error| error.to_string())?;
    loaded.warn();
    let Loaded { beside, policy, .. } = loaded;
    let current = Current::new(beside);
    let viewer = options.viewer.viewer()?;
    let tls = tls::config(&options.upstream, options.upstream_ca.as_deref())?;
    let store = MemoryStore::builder().capacity(options.memory).max_object(options.max_object).build();
    let calls = CallLimits::new().total(options.limits.max_calls).wait(options.limits.call_wait);
    let cache = CacheLayer::builder(store).policy(policy).x_cache(true).call_limits(calls);
    let cache = match options.server_timing.clone() {
        Some(timing) => cache.server_timing(timing),
        None => cache,
    };
    // By its outcome, a page that a file names, now or later, tells the cache's own limits from the origin's errors.
    let cache = cache.outcome_in_extensions(true).build();
    let listener = serve::listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stop = Stop::by_signal()?;
    #[cfg(unix)]
    policy::on_signal(options.policy.clone(), cache.handle(), current.clone())?;
    println!("larder: http://{address} before {}", options.upstream);
    let ProxyOptions { drain, graphql, host, limits, timeout, upstream: origin, .. } = options;
    let id = id(address);
    let cache = cache.layer(Reasons(Upstream::new(origin.clone(), &tls, host, id.clone(), timeout, &limits)));
    let queries = QueryLayer::new().max_content(limits.query);
    let queries = if graphql { queries.graphql() } else { queries };
    let cache = queries.layer(cache);
    let (fields, stall) = (limits.fields, limits.timeouts.stall);
    let settings = Settings { current: current.clone(), fields, host, id, origin, stall, viewer };
    serve::serve(listener, Edge::new(cache, settings), limits, drain, stop).await;
    current.print_counts();
    Ok(())
}

/// Serves the proxy in the background; it ends with the process.
pub fn spawn(listener: TcpListener, edge: Edge) {
    tokio::spawn(serve::serve(listener, edge, Limits::default(), serve::DRAIN, Stop::never()));
}

/// A name that no other proxy has: a chain of these proxies is no loop.
fn id(address: SocketAddr) -> HeaderValue {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(address);
    HeaderValue::from_str(&format!("larder-{random:016x}")).unwrap_or(HeaderValue::from_static("larder"))
}
