//! The caching reverse proxy: a server, the cache, and a client of the origin.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::Scheme;
use larder::{CacheLayer, CallLimits, QueryLayer, XCache};
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tower::Layer;

use crate::access_log::{AccessLog, Logged};
use crate::admin::{AdminOptions, Observers, Operated};
use crate::admin_warm::Warming;
use crate::args::ProxyOptions;
use crate::client_tls::ClientTls;
use crate::debug_token::DebugToken;
use crate::edge::{Edge, Settings};
use crate::limits::Limits;
use crate::local_reply::Manner;
use crate::node_name::NodeName;
use crate::peers::PeerTokens;
use crate::policy::{Current, Loaded, Profile};
use crate::reasons::{self, Reasons};
use crate::serve::Entrance;
use crate::stop::Stop;
use crate::store::Opened;
use crate::upstream::Upstream;
use crate::upstreams::{Care, Upstreams};
use crate::viewer::Viewer;
use crate::vitals::Vitals;
use crate::{admin, check_health, config, policy, serve, service_manager, tls};

/// What the files have that options name.
struct Files {
    /// The tokens of the admin service.
    admin: Option<Vec<String>>,
    /// The token of those to whom it is reported what the cache did; none for everybody.
    debug: Option<DebugToken>,
    loaded: Loaded,
    peers: Option<PeerTokens>,
    tls: Option<ClientTls>,
    upstream_tls: Arc<ClientConfig>,
    viewer: Viewer,
}

impl Files {
    fn read(options: &ProxyOptions) -> Result<Self, String> {
        let others = [options.servers(), options.edges.clone()].concat();
        Ok(Self {
            admin: options.admin.as_ref().map(AdminOptions::tokens).transpose()?,
            debug: options.debug_token_file.clone().map(DebugToken::load).transpose()?,
            loaded: options.policy.load().map_err(|error| error.to_string())?,
            peers: options.peer_token_file.clone().map(PeerTokens::load).transpose()?,
            tls: options.tls.clone().map(ClientTls::load).transpose()?,
            upstream_tls: tls::config(&others, options.upstream_ca.as_deref())?,
            viewer: options.viewer.viewer()?,
        })
    }
}

/// Runs the proxy alone until it is interrupted.
pub async fn run(options: ProxyOptions) -> Result<(), String> {
    let Files { admin: tokens, debug, loaded, peers, tls, upstream_tls, viewer } = Files::read(&options)?;
    loaded.warn();
    let Loaded { beside, policy, .. } = loaded;
    let current = Current::new(beside);
    let Opened { kept, leases, store } = options.store.open().await?;
    let calls = CallLimits::new().total(options.limits.max_calls).wait(options.limits.call_wait);
    // Where there are several proxies, each has a member in a list. The form does not change while the process runs.
    let is_listed = peers.is_some() || current.get().profile == Profile::Fastly;
    let x_cache = if is_listed { XCache::Fastly } else { XCache::CloudFront };
    let cache = CacheLayer::builder(store)
        .name(options.name.as_str())
        .policy(policy)
        .x_cache(x_cache)
        .call_limits(calls)
        .errors(reasons::failed_by);
    let cache = match options.server_timing.clone() {
        Some(timing) => cache.server_timing(timing),
        None => cache,
    };
    let cache = match leases {
        Some(leases) => cache.leases(leases),
        None => cache,
    };
    let observers = Observers::new()?;
    let cache = if options.admin.is_some() { observers.observing(cache) } else { cache };
    let manner = Manner { is_discreet: debug.is_some(), is_listed, name: options.name };
    let cache = match &debug {
        Some(debug) => debug.limit(cache),
        None => cache,
    };
    let log = AccessLog::open(&options.access_log, options.name)?;
    // By its outcome, a page that a file names, now or later, tells the cache's own limits from the origin's errors.
    let cache = cache.outcome_in_extensions(true).build();
    let listener = serve::listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let stop = Stop::by_signal()?;
    #[cfg(unix)]
    policy::on_signal(
        options.policy.clone(),
        cache.handle(),
        current.clone(),
        tls.is_some() || peers.is_some() || log.is_some() || tokens.is_some() || debug.is_some(),
    )?;
    #[cfg(unix)]
    if let Some(tls) = tls.clone() {
        let reload =
            move || tls.reload().map(|file| format!("the certificate is that of {}", file.display()));
        crate::hang_up::on_hang_up("the certificate stays as it was: ", reload)?;
    }
    #[cfg(unix)]
    if let Some(peers) = peers.clone() {
        let reload =
            move || peers.reload().map(|file| format!("the peer tokens are those of {}", file.display()));
        crate::hang_up::on_hang_up("the peer tokens stay as they were: ", reload)?;
    }
    #[cfg(unix)]
    if let Some(debug) = debug.clone() {
        let handle = cache.handle();
        let reload = move || {
            debug.reload(&handle).map(|file| format!("the debug token is that of {}", file.display()))
        };
        crate::hang_up::on_hang_up("the debug token stays as it was: ", reload)?;
    }
    #[cfg(unix)]
    if let Some(log) = log.clone() {
        let reopen = move || log.reopen().map(|file| format!("the access log is that of {file}"));
        crate::hang_up::on_hang_up("the access log stays as it was: ", reopen)?;
    }
    let shield = options.shield.clone().zip(peers.clone());
    let care = Care { is_checked: options.health.is_some(), most_calls: options.limits.calls_per_upstream };
    let upstreams = Upstreams::new(shield, options.upstreams.iter().cloned(), care);
    if let Some(check) = &options.health {
        check_health::watch(&upstreams, check, &upstream_tls);
    }
    // Whoever asks another proxy, and purges none, is asked by clients alone.
    let is_shield = options.shield.is_none() || !options.edges.is_empty();
    let names: Vec<_> = options.servers().iter().map(ToString::to_string).collect();
    let scheme = if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    println!("larder: {scheme}://{address} before {}", names.join(", "));
    kept.report();
    let ProxyOptions {
        admin, drain, edges, graphql, host, mut limits, name, policy, slices, timeout, ..
    } = options;
    let id = id(name, address);
    let origin =
        Upstream::new(Arc::clone(&upstreams), &upstream_tls, host, (id.clone(), name), timeout, &limits);
    let (handle, fills) = (cache.handle(), cache.handle());
    let queries = QueryLayer::new().max_content(limits.query);
    let queries = if graphql { queries.graphql() } else { queries };
    let cache = slices.layer().layer(queries.layer(cache.layer(Reasons(origin))));
    let admin_limits = limits;
    let (fields, stall) = (limits.fields, limits.timeouts.stall);
    if peers.is_some() {
        // Who has sent a request is known only when all of its fields are.
        limits.fields += crate::peers::MORE_FIELDS;
    }
    let settings = Settings {
        current: current.clone(),
        fields,
        host,
        id,
        manner,
        peers: peers.clone(),
        stall,
        upstreams: Arc::clone(&upstreams),
        viewer,
    };
    let (entrance, edge) = (Entrance { listener, manner, tls }, Edge::new(cache, settings));
    if let Some((admin, tokens)) = admin.zip(tokens) {
        let operated = Operated {
            current: current.clone(),
            disk: kept.disk.clone(),
            edges,
            handle,
            limits: admin_limits,
            observers,
            policy,
            store: kept.link.clone(),
            tls: upstream_tls,
            vitals: Vitals { draining: stop.draining(), upstreams },
            warming: Warming { debug, edge: edge.clone(), peers, scheme },
            warms_for_peers: is_shield,
        };
        admin::spawn(admin, &tokens, operated).await?;
    }
    service_manager::ready();
    match log {
        None => serve::serve(entrance, edge, limits, drain, stop).await,
        Some(log) => {
            serve::serve(entrance, Logged::new(edge, log.clone()), limits, drain, stop).await;
            log.flush();
        }
    }
    kept.end(|| fills.fills()).await;
    current.print_counts();
    Ok(())
}

/// Prints what was understood of a file of options and of the files that it names, or what is wrong with one of them; whether
/// the proxy would start.
pub fn check(file: &Path) -> bool {
    let checked = config::merged(Some(file), Vec::new()).and_then(|given| {
        let options = ProxyOptions::of(&given)?;
        let files = Files::read(&options)?;
        options.access_log.check()?;
        options.store.check()?;
        Ok((given, files.loaded.understood))
    });
    match checked {
        Ok((given, policy)) => {
            given.iter().for_each(|given| println!("{given}"));
            print!("\n{policy}");
            true
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

/// Serves the proxy in the background; it ends with the process.
pub fn spawn(listener: TcpListener, edge: Edge) {
    tokio::spawn(serve::serve(listener.into(), edge, Limits::default(), serve::DRAIN, Stop::never()));
}

/// A name that no other proxy has: a chain of these proxies is no loop.
fn id(name: NodeName, address: SocketAddr) -> HeaderValue {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(address);
    let id = HeaderValue::from_str(&format!("{}-{random:016x}", name.as_str()));
    id.unwrap_or(HeaderValue::from_static("larder"))
}
