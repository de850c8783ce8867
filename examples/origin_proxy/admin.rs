//! The admin service on a listener of its own, with a health endpoint that needs no token.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use larder::admin::{Admin, Watch};
use larder::{CacheBuilder, CacheHandle, CacheLayer, MetricsObserver};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustls::ClientConfig;
use tower::Service;

use crate::content::RequestContent;
use crate::edge::Cache;
use crate::limits::Limits;
use crate::policy::{self, Current, Source};
use crate::purge_edges::PurgeEdges;
use crate::serve::{self, BoxError};
use crate::stop::Stop;

/// Where health is asked for.
const HEALTH: &str = "/health";

/// The most connections: clients need the descriptors.
const MOST_CONNECTIONS: usize = 64;

/// What the options say of it.
#[derive(Clone)]
pub struct AdminOptions {
    pub listen: SocketAddr,
    pub token_file: PathBuf,
}

impl AdminOptions {
    /// The token: the first line of the file.
    ///
    /// # Errors
    ///
    /// One sentence: the file can't be read, or has no token. It says nothing of what the file has.
    pub fn token(&self) -> Result<String, String> {
        let wrong =
            |why: &dyn std::fmt::Display| format!("--admin-token-file {}: {why}", self.token_file.display());
        let text = std::fs::read_to_string(&self.token_file)
            .map_err(|error| wrong(&format_args!("can't be read: {error}")))?;
        let token = text.lines().next().unwrap_or_default().trim();
        // For nothing but to find out whether it is one.
        drop(Admin::new(CacheLayer::default().handle(), token).map_err(|error| wrong(&error))?);
        Ok(token.to_owned())
    }
}

/// What observes the cache for the admin service.
pub struct Observers {
    metrics: MetricsObserver,
    rendered: PrometheusHandle,
    watch: Watch,
}

impl Observers {
    pub fn new() -> Self {
        // A recorder of its own, which nothing else writes to.
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = MetricsObserver::with_recorder(&recorder);
        Self { metrics, rendered: recorder.handle(), watch: Watch::new() }
    }

    pub fn observing(&self, cache: CacheBuilder) -> CacheBuilder {
        cache.observer(self.metrics.clone()).observer(self.watch.clone())
    }
}

/// What the admin service operates.
pub struct Operated {
    pub cache: Cache,
    pub current: Current,
    /// The admin services of proxies that ask this one.
    pub edges: Vec<http::Uri>,
    pub handle: CacheHandle,
    pub limits: Limits,
    pub observers: Observers,
    pub policy: Source,
    pub tls: Arc<ClientConfig>,
}

/// Serves it in the background, as long as the process lives: also while the proxy drains.
pub async fn spawn(options: &AdminOptions, token: &str, operated: Operated) -> Result<(), String> {
    let Operated { cache, current, edges, handle, limits, observers, policy, tls } = operated;
    let Observers { metrics, rendered, watch } = observers;
    let of_metrics = handle.clone();
    let request = |uri: &http::Uri| {
        let mut request = Request::new(RequestContent::default());
        let host = uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
        request.headers_mut().extend(host.map(|host| (header::HOST, host)));
        *request.uri_mut() = uri.clone();
        request
    };
    let admin = Admin::new(handle.clone(), token)
        .map_err(|error| error.to_string())?
        .watch(watch)
        .warm(cache, request)
        .metrics(move || {
            of_metrics.record(&metrics);
            rendered.render()
        });
    let admin = match policy.file.clone() {
        None => admin,
        Some(file) => {
            let read = file.clone();
            admin.policy(
                move || {
                    std::fs::read_to_string(&read).unwrap_or_else(|error| format!("can't be read: {error}"))
                },
                move |text| replace(&policy, &file, text, &handle, &current),
            )
        }
    };
    let listener = serve::listen(options.listen).await?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("larder: admin at http://{address}");
    let connections = limits.connections.min(MOST_CONNECTIONS);
    let limits = Limits { connections, connections_per_address: connections, ..limits };
    let service = Entrance(PurgeEdges::new(admin.build(), edges, &tls));
    tokio::spawn(serve::serve(listener.into(), service, limits, serve::DRAIN, Stop::never()));
    Ok(())
}

/// Replaces the policy and its file, if the text is a policy.
fn replace(
    source: &Source,
    file: &Path,
    text: &str,
    handle: &CacheHandle,
    current: &Current,
) -> Result<(), String> {
    // In the same folder and with the same ending: that it is JSON, and what it names beside it, may depend on that.
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let new = file.with_file_name(format!(".new-{name}"));
    let written =
        std::fs::write(&new, text).map_err(|error| format!("{} can't be written: {error}", new.display()));
    let loaded = written.and_then(|()| {
        let source = Source { file: Some(new.clone()), ..source.clone() };
        source
            .load()
            .map_err(|error| error.to_string().replace(&*new.to_string_lossy(), &file.to_string_lossy()))
    });
    let replaced = loaded.and_then(|loaded| {
        std::fs::rename(&new, file)
            .map_err(|error| format!("{} can't be replaced: {error}", file.display()))?;
        Ok(loaded)
    });
    match replaced {
        Ok(loaded) => {
            policy::apply(loaded, handle, current);
            Ok(())
        }
        Err(error) => {
            drop(std::fs::remove_file(&new)); // it may not be there
            Err(error)
        }
    }
}

/// The service as a server sees it, and the health of the process.
#[derive(Clone)]
struct Entrance<S>(S);

impl<S, B> HyperService<Request<Incoming>> for Entrance<S>
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
        if request.uri().path() == HEALTH {
            return Box::pin(std::future::ready(Ok(health(request.method()))));
        }
        let mut service = self.0.clone();
        // The admin service is always ready.
        Box::pin(async move { Ok(service.call(request).await?.map(Either::Left)) })
    }
}

/// That the process answers; nothing else of it.
fn health<B>(method: &Method) -> Response<Either<B, Full<Bytes>>> {
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let (status, text) =
        if is_read { (StatusCode::OK, "ok\n") } else { (StatusCode::METHOD_NOT_ALLOWED, "") };
    let content = if *method == Method::HEAD { "" } else { text };
    let mut response = Response::new(Either::Right(Full::from(content)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if !is_read {
        fields.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
