//! The caching reverse proxy: a server, the cache, and a client of the origin.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use larder::{CacheLayer, CallLimits, MemoryStore, QueryLayer, ViewerLayer};
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tower::Layer;

use crate::args::ProxyOptions;
use crate::edge::{Edge, Settings};
use crate::limits::Limits;
use crate::policy::{Loaded, Profile};
use crate::stop::Stop;
use crate::upstream::Upstream;
use crate::{policy, serve, tls};

/// Runs the proxy alone until it is interrupted.
pub async fn run(mut options: ProxyOptions) -> Result<(), String> {
    let Loaded { policy, profile, .. } = options.policy.load().map_err(|error| error.to_string())?;
    options.viewer.is_on |= profile == Profile::CloudFront;
    let viewer = options.viewer.layer()?;
    let store = MemoryStore::builder().capacity(options.memory).max_object(options.max_object).build();
    let tls = tls::config(&options.upstream, options.upstream_ca.as_deref())?;
    let listener = serve::listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stop = Stop::by_signal()?;
    let calls = CallLimits::new().total(options.limits.max_calls).wait(options.limits.call_wait);
    let cache = CacheLayer::builder(store).policy(policy).x_cache(true).call_limits(calls).build();
    #[cfg(unix)]
    policy::on_signal(options.policy.clone(), cache.handle())?;
    println!("larder: http://{address} before {}", options.upstream);
    let edge = edge(address, &options, &tls, viewer, &cache);
    serve::serve(listener, edge, options.limits, options.drain, stop).await;
    Ok(())
}

/// The proxy as a service.
fn edge(
    address: SocketAddr,
    options: &ProxyOptions,
    tls: &Arc<ClientConfig>,
    viewer: Option<ViewerLayer>,
    cache: &CacheLayer,
) -> Edge {
    let id = id(address);
    let ProxyOptions { host, limits, timeout, ref upstream, .. } = *options;
    let cache = cache.layer(Upstream::new(upstream.clone(), tls, host, id.clone(), timeout, &limits));
    let cache = QueryLayer::new().max_content(limits.query).layer(cache);
    let (fields, stall) = (limits.fields, limits.timeouts.stall);
    Edge::new(cache, Settings { fields, host, id, origin: upstream.clone(), stall, viewer })
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
