//! The caching reverse proxy: a server, the cache, and a client of the origin.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Uri};
use larder::{CacheLayer, CachePolicy, MemoryStore, QueryLayer, StandardPolicy};
use tokio::net::TcpListener;
use tower::Layer;

use crate::args::{Profile, ProxyOptions};
use crate::edge::Edge;
use crate::host::Host;
use crate::serve;
use crate::upstream::Upstream;

/// Runs the proxy alone until it is interrupted.
pub async fn run(options: ProxyOptions) -> Result<(), String> {
    let policy = match options.profile {
        Profile::Careful => StandardPolicy::default(),
        Profile::Rfc9111 => StandardPolicy::rfc9111(),
    };
    // No proxy that could be believed stands in front of this one; its own fields are added behind the cache.
    let policy = policy.strip_unkeyed(true);
    let store = MemoryStore::builder().capacity(options.memory).max_object(options.max_object).build();
    let listener = serve::listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("larder: http://{address} before {}", options.upstream);
    let edge = edge(address, options.upstream, options.host, options.timeout, store, policy);
    serve::serve(listener, edge, options.drain, serve::interrupted()).await;
    Ok(())
}

/// The proxy as a service.
pub fn edge(
    address: SocketAddr,
    origin: Uri,
    host: Host,
    timeout: Duration,
    store: MemoryStore,
    policy: impl CachePolicy,
) -> Edge {
    let id = id(address);
    let cache = CacheLayer::new(store).policy(policy).x_cache(true);
    let upstream = Upstream::new(origin.clone(), host, id.clone(), timeout);
    Edge { cache: QueryLayer::new().layer(cache.layer(upstream)), host, id, origin }
}

/// Serves the proxy in the background; it ends with the process.
pub fn spawn(listener: TcpListener, edge: Edge) {
    tokio::spawn(serve::serve(listener, edge, serve::DRAIN, std::future::pending()));
}

/// A name that no other proxy has: chains of them are no loop.
fn id(address: SocketAddr) -> HeaderValue {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(address);
    HeaderValue::from_str(&format!("larder-{random:016x}")).unwrap_or(HeaderValue::from_static("larder"))
}
