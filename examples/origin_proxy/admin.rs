//! The admin service on a listener of its own, with endpoints for probes, which need no token.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use larder::admin::{Admin, AdminAct, AdminService, TokenError, UpstreamState, Watch};
use larder::store::DiskStore;
use larder::{BoxStore, CacheBuilder, CacheLayer, MetricsObserver, Store};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use rustls::ClientConfig;
use tower::Service;

use crate::admin_warm::{self, Warming};
use crate::client::Client;
use crate::limits::Limits;
use crate::local_reply::Manner;
use crate::policy::{self, Current, Source};
use crate::purge_edges::PurgeEdges;
use crate::say::say;
use crate::serve::{self, BoxError, Entrance};
use crate::stop::Stop;
use crate::store::{Handle, disk_metrics};
use crate::store_link::{self, StoreLink};
use crate::upstreams::{Node, Upstreams};
use crate::vitals::Vitals;

/// The most connections: clients need the descriptors.
const MOST_CONNECTIONS: usize = 128;

/// How many more there may be for probes.
const SPARE: usize = 8;

/// The upper bounds of histograms of times, in seconds: from a fast hit to a slow origin.
const SECONDS: &[f64] =
    &[0.00001, 0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The upper bounds of histograms of sizes, in bytes.
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// How often the recorder sums up what histograms have got. It keeps each value until then, or until somebody reads the metrics.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the options say of it.
#[derive(Clone)]
pub struct AdminOptions {
    pub listen: SocketAddr,
    pub token_file: PathBuf,
}

impl AdminOptions {
    /// The tokens: the lines of the file.
    ///
    /// # Errors
    ///
    /// One sentence: the file can't be read, or has no token, or what is none. It says nothing of what the file has.
    pub fn tokens(&self) -> Result<Vec<String>, String> {
        let wrong =
            |why: &dyn std::fmt::Display| format!("--admin-token-file {}: {why}", self.token_file.display());
        let text = std::fs::read_to_string(&self.token_file)
            .map_err(|error| wrong(&format_args!("can't be read: {error}")))?;
        let mut tokens = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (number, token) in lines.filter(|(_, line)| !line.is_empty()) {
            // For nothing but to find out whether it is one.
            drop(
                Admin::new(CacheLayer::default().handle(), token)
                    .map_err(|error| wrong(&format_args!("line {}: {error}", number + 1)))?,
            );
            tokens.push(token.to_owned());
        }
        if tokens.is_empty() { Err(wrong(&TokenError::Short)) } else { Ok(tokens) }
    }
}

/// What observes the cache for the admin service.
pub struct Observers {
    metrics: MetricsObserver,
    rendered: PrometheusHandle,
    watch: Watch,
}

impl Observers {
    pub fn new() -> Result<Self, String> {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES));
        // A recorder of its own, which nothing else writes to.
        let recorder = builder.map_err(|error| error.to_string())?.build_recorder();
        let metrics = MetricsObserver::with_recorder(&recorder);
        Ok(Self { metrics, rendered: recorder.handle(), watch: Watch::new() })
    }

    pub fn observing(&self, cache: CacheBuilder<BoxStore>) -> CacheBuilder<BoxStore> {
        cache.observer(self.metrics.clone()).observer(self.watch.clone())
    }
}

/// What the admin service operates.
pub struct Operated {
    pub current: Current,
    /// What is stored in a folder, if anything is.
    pub disk: Option<DiskStore>,
    /// The admin services of proxies that ask this one.
    pub edges: Vec<http::Uri>,
    pub handle: Handle,
    pub limits: Limits,
    pub observers: Observers,
    pub policy: Source,
    /// Where the store is, if other proxies share it.
    pub store: Option<StoreLink>,
    pub tls: Arc<ClientConfig>,
    pub vitals: Vitals,
    pub warming: Warming,
    /// Whether URLs are warmed for edges, too.
    pub warms_for_peers: bool,
}

/// Serves it in the background, as long as the process lives: also while the proxy drains. The tokens are those that the options
/// have named.
pub async fn spawn(options: AdminOptions, tokens: &[String], operated: Operated) -> Result<(), String> {
    let Operated {
        current,
        disk,
        edges,
        handle,
        limits,
        observers,
        policy,
        store,
        tls,
        vitals,
        warming,
        warms_for_peers,
    } = operated;
    let Observers { metrics, rendered, watch } = observers;
    let (of_metrics, of_health) = (handle.clone(), Arc::clone(&vitals.upstreams));
    let upstreams = Arc::clone(&vitals.upstreams);
    let metrics_of_store = store.clone();
    let metrics_of_disk = disk.clone();
    tokio::spawn(keep_up(rendered.clone()));
    let first = tokens.first().map_or("", String::as_str);
    let admin = Admin::new(handle.clone(), first)
        .map_err(|error| error.to_string())?
        .watch(watch)
        .warm(warming, admin_warm::request)
        .warm_for_peers(warms_for_peers)
        .audit(audit)
        .upstreams(move || upstreams.iter().map(Node::state).collect())
        .metrics(move || {
            of_metrics.record(&metrics);
            let of_store = metrics_of_store.as_ref().map(|store| store_link::metrics(&store.state()));
            let of_disk = metrics_of_disk.as_ref().map(|disk| disk_metrics(disk.statistics()));
            rendered.render()
                + &health_metrics(&of_health)
                + &of_store.unwrap_or_default()
                + &of_disk.unwrap_or_default()
        });
    let admin = match disk {
        None => admin,
        Some(disk) => admin.disk(move || disk.statistics()),
    };
    let admin = match store {
        None => admin,
        Some(store) => admin.store(move || store.state()),
    };
    let admin = match policy.file.clone() {
        None => admin,
        Some(file) => {
            let read = file.clone();
            admin.policy(
                move || {
                    let wrong = |error| format!("--policy {}: can't be read: {error}", read.display());
                    std::fs::read_to_string(&read).map_err(wrong)
                },
                move |text| policy::replace(&policy, &file, text, &handle, &current),
            )
        }
    };
    let admin = admin.build();
    set_tokens(&admin, tokens)?;
    let listener = serve::listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let connections = limits.connections.min(MOST_CONNECTIONS);
    // One address, from which nobody reads, keeps nobody else out.
    let connections_per_address = connections.div_ceil(2);
    let limits = Limits { connections, connections_per_address, spare_connections: SPARE, ..limits };
    let service = Probed { service: PurgeEdges::new(admin.clone(), edges, &tls), vitals };
    // Nothing of it is cached.
    let manner = Manner { is_discreet: true, ..Manner::default() };
    let entrance = Entrance { listener, manner, tls: None };
    tokio::spawn(serve::serve(entrance, service, limits, serve::DRAIN, Stop::never()));
    #[cfg(unix)]
    crate::hang_up::on_hang_up("the admin tokens stay as they were: ", move || {
        set_tokens(&admin, &options.tokens()?)?;
        Ok(format!("the admin tokens are those of {}", options.token_file.display()))
    })?;
    // Whoever reads that may send SIGHUP.
    println!("larder: admin at http://{address}");
    Ok(())
}

/// Says on standard error what was done, and for whom.
fn audit(act: &AdminAct<'_>) {
    match act.extensions.get::<Client>() {
        Some(client) => say(format_args!("admin, {}: {act}", client.address())),
        None => say(format_args!("admin: {act}")),
    }
}

/// Which upstreams are well, in the text format of Prometheus.
fn health_metrics(upstreams: &Upstreams) -> String {
    const NAME: &str = "larder_upstream_healthy";
    let mut text = format!("# HELP {NAME} Whether an upstream is thought to be well\n# TYPE {NAME} gauge\n");
    for UpstreamState { is_healthy, url, .. } in upstreams.iter().map(Node::state) {
        // A URI has no character that would end the label.
        text += &format!("{NAME}{{upstream=\"{url}\"}} {}\n", u8::from(is_healthy));
    }
    text
}

fn set_tokens(admin: &AdminService<BoxStore>, tokens: &[String]) -> Result<(), String> {
    admin.set_tokens(tokens.iter().map(String::as_str)).map_err(|error| error.to_string())
}

/// Keeps the memory of the recorder bounded while nobody reads the metrics.
async fn keep_up(recorder: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        recorder.run_upkeep();
    }
}

/// The service as a server sees it, and the answers to probes.
#[derive(Clone)]
struct Probed<S> {
    service: S,
    vitals: Vitals,
}

impl<S, B> HyperService<Request<Incoming>> for Probed<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if let Some(answer) = self.vitals.answer(request.method(), request.uri().path()) {
            return Box::pin(std::future::ready(Ok(answer.map(Either::Right))));
        }
        if request.extensions().get().is_some_and(Client::is_spare) {
            return Box::pin(std::future::ready(Ok(busy().map(Either::Right))));
        }
        let mut service = self.service.clone();
        // The admin service is always ready.
        Box::pin(async move { Ok(service.call(request).await?.map(Either::Left)) })
    }
}

/// There is no room for more than probes.
fn busy() -> Response<Full<Bytes>> {
    let text = "{\"error\":\"connections\",\"message\":\"there are as many connections as there may be\",\
                \"help\":\"close some of them, or ask again\"}\n";
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
        (header::CONTENT_TYPE, "application/json"),
        (header::RETRY_AFTER, "1"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
