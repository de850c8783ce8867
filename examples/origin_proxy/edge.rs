//! The first and the last step of a request: what cannot be forwarded is refused, errors become responses, and what
//! belongs to the client's connection ends here.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::Service as HyperService;
use hyper::upgrade::OnUpgrade;
use larder::semantics::fields::{list, remove_hop_by_hop};
use larder::{BoxStore, CacheService, QueryService, SliceService};
use pin_project_lite::pin_project;
use tower::Service;

use crate::client::Client;
use crate::content::RequestContent;
use crate::host::{self, Host};
use crate::local_reply::{self, Manner, ResponseBody};
use crate::location::Named;
use crate::pages::{self, PagedFuture};
use crate::peers::{self, PEER, PeerTokens};
use crate::policy::{Current, Profile};
use crate::reasons::Reasons;
use crate::serve::DrainGuard;
use crate::upstream::{CDN_LOOP, Upstream};
use crate::upstreams::Upstreams;
use crate::viewer::Viewer;
use crate::{location, max_forwards, upgrade, via};

/// Slices are asked for as a client would ask for them.
pub type Cache = SliceService<QueryService<CacheService<Reasons<Upstream>, BoxStore>>>;

/// The cache in front of the origin, as a server sees it: it never fails.
#[derive(Clone)]
pub struct Edge {
    cache: Cache,
    settings: Arc<Settings>,
}

pub struct Settings {
    pub current: Current,
    /// The most fields that a request may have.
    pub fields: usize,
    pub host: Host,
    pub id: HeaderValue,
    pub manner: Manner,
    pub peers: Option<PeerTokens>,
    /// How long the client may take to send more of its request's content.
    pub stall: Duration,
    pub upstreams: Arc<Upstreams>,
    pub viewer: Viewer,
}

impl Edge {
    pub fn new(cache: Cache, settings: Settings) -> Self {
        Self { cache, settings: Arc::new(settings) }
    }

    /// The response to a request that does not reach the cache. What this changes in one that does is for the origin.
    fn refusal<B>(
        &self,
        request: &mut Request<B>,
        present: &Present,
        is_peer: bool,
    ) -> Option<Response<ResponseBody>> {
        let name = self.settings.manner.name;
        let refused = |status, detail| Some(local_reply::error(status, &name.with_detail(detail)));
        let more = if is_peer { peers::MORE_FIELDS } else { 0 };
        // HTTP/1 requests of more fields do not get here, where there are no peers.
        if has_more_fields(request.headers(), self.settings.fields + more) {
            return refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-fields");
        }
        if !host::is_valid(request) {
            return refused(StatusCode::BAD_REQUEST, "invalid-host");
        }
        // RFC 8586: our own name in the list means that the request has been here before.
        let is_own = |member: &[u8]| {
            let id = member.split(|&byte| byte == b';').next().unwrap_or_default();
            id.trim_ascii() == self.settings.id.as_bytes()
        };
        if present.cdn_loop && list(request.headers(), &CDN_LOOP).any(is_own) {
            return refused(StatusCode::LOOP_DETECTED, "loop");
        }
        // A reverse proxy is no tunnel.
        if request.method() == Method::CONNECT {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "connect");
        }
        max_forwards::count_down(request, name)
    }

    /// A request with the mark of another proxy, whoever has made it, and whether it was one of ours. The mark ends here.
    fn unmarked<B>(&self, request: Request<B>) -> (Request<B>, bool) {
        let (mut parts, body) = request.into_parts();
        let is_peer = self.settings.peers.as_ref().is_some_and(|peers| peers.recognise(&mut parts));
        parts.headers.remove(PEER);
        (Request::from_parts(parts, body), is_peer)
    }
}

impl HyperService<Request<Incoming>> for Edge {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = EdgeFuture;

    fn call(&self, request: Request<Incoming>) -> EdgeFuture {
        self.answer(request, false, |body| RequestContent::new(body, self.settings.stall))
    }
}

impl Edge {
    /// Answers a request. It is one of another proxy of ours where that is known already, or where it shows the token.
    pub fn answer<B>(
        &self,
        mut request: Request<B>,
        mut is_peer: bool,
        content: impl FnOnce(B) -> RequestContent,
    ) -> EdgeFuture {
        let present = Present::of(request.headers());
        if present.peer {
            let has_mark;
            (request, has_mark) = self.unmarked(request);
            is_peer |= has_mark;
        }
        let of_clients = self.settings.manner;
        // As the cache does, which reports to peers.
        let manner = Manner { is_discreet: of_clients.is_discreet && !is_peer, ..of_clients };
        if let Some(response) = self.refusal(&mut request, &present, is_peer) {
            return EdgeFuture { manner, kind: Kind::Refused { response: Some(response) } };
        }
        let protocols = if present.connection { upgrade::asked(&request) } else { None };
        // Not for the cache, which keeps requests for as long as it validates in the background.
        let client = hyper::upgrade::on(&mut request);
        let guard = |request: &Request<_>| request.extensions().get().and_then(Client::drain_guard);
        let switch = protocols.is_some().then(|| Switch { client, guard: guard(&request) });
        let rewrite = match self.settings.host {
            Host::Client => None,
            Host::Upstream => Named::by(&request).map(|named| (named, Arc::clone(&self.settings))),
        };
        let current = self.settings.current.get();
        tidy(request.headers_mut(), &present, protocols, current.profile, is_peer);
        let (mut parts, body) = request.into_parts();
        let viewer = &self.settings.viewer;
        // What an edge says of its client is better than what could be said of the edge.
        if !is_peer && (viewer.is_on || current.profile == Profile::CloudFront) {
            viewer.layer.apply(&mut parts);
        }
        let request = Request::from_parts(parts, content(body));
        let finish = Finish { rewrite, switch };
        let mut cache = self.cache.clone();
        let kind = match current.pages.as_ref().filter(|_| !is_peer) {
            Some(pages) => Kind::Paged { future: pages::answer(pages, manner.name, cache, request), finish },
            // The cache is always ready.
            None => Kind::Cached { future: cache.call(request), finish },
        };
        EdgeFuture { manner, kind }
    }
}

pin_project! {
    /// The response to a client. A hit is there when the future is polled for the first time.
    pub struct EdgeFuture {
        manner: Manner,
        #[pin]
        kind: Kind,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind {
        Cached { #[pin] future: <Cache as Service<Request<RequestContent>>>::Future, finish: Finish },
        Paged { future: PagedFuture, finish: Finish },
        Refused { response: Option<Response<ResponseBody>> },
    }
}

impl Future for EdgeFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.kind.project() {
            KindProjection::Cached { future, finish } => match ready!(future.poll(cx)) {
                Ok(response) => finish.response(response.map(Either::Left)),
                Err(failure) => local_reply::failed(this.manner.name, &failure),
            },
            KindProjection::Paged { future, finish } => finish.response(ready!(future.as_mut().poll(cx))),
            KindProjection::Refused { response } => match response.take() {
                Some(response) => response,
                // Polled again after it was ready, which a caller must not do.
                None => return Poll::Pending,
            },
        };
        via::complete(response.headers_mut(), this.manner.name);
        if this.manner.is_listed {
            local_reply::as_member(response.headers_mut());
        }
        if this.manner.is_discreet {
            local_reply::hide(&mut response);
        }
        Poll::Ready(Ok(response))
    }
}

/// What is to be done with the cache's response.
struct Finish {
    /// The client's name for the origin, where references to the origin are rewritten.
    rewrite: Option<(Named, Arc<Settings>)>,
    switch: Option<Switch>,
}

/// A client that asks for a switch of protocols.
struct Switch {
    client: OnUpgrade,
    guard: Option<Arc<DrainGuard>>,
}

impl Finish {
    fn response(&mut self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        let is_switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocols = if is_switched { response.headers_mut().remove(header::UPGRADE) } else { None };
        remove_hop_by_hop(response.headers_mut());
        if let (Some(protocols), Some(switch)) = (protocols, self.switch.take()) {
            upgrade::insert(response.headers_mut(), protocols);
            upgrade::tunnel(switch.client, hyper::upgrade::on(&mut response), switch.guard);
        }
        if let Some((client, settings)) = &self.rewrite {
            location::rewrite(response.headers_mut(), &settings.upstreams, client);
        }
        response
    }
}

/// Which fields a request has, of those that many requests do not have. One pass costs less than looking each of them up.
#[derive(Default)]
struct Present {
    /// Fields of a CDN's own.
    cdn: bool,
    cdn_loop: bool,
    connection: bool,
    cookie: bool,
    /// The mark of another proxy of ours.
    peer: bool,
    transfer_encoding: bool,
}

impl Present {
    fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "cdn-loop" => present.cdn_loop = true,
                "connection" => present.connection = true,
                "cookie" => present.cookie = true,
                "larder-peer" => present.peer = true,
                "transfer-encoding" => present.transfer_encoding = true,
                name => present.cdn |= is_of_cdn(name),
            }
        }
        present
    }
}

/// Whether a field is one that CloudFront or Fastly adds, such as `CloudFront-Viewer-Country` and `Fastly-Client-IP`. An origin
/// that has been behind one of them may believe it, and no client has a say in that. To many servers, `_` is the same as `-`.
/// The profile `fastly` removes those of Fastly itself, since it knows its peers.
fn is_of_cdn(name: &str) -> bool {
    let rest = name.strip_prefix("cloudfront").or_else(|| name.strip_prefix("fastly"));
    rest.is_some_and(|rest| rest.starts_with(['-', '_']))
}

const FASTLY: &str = "fastly-";

/// Whether a request has more fields. Cookies count as one: HTTP/2 may split them (RFC 9113 8.2.3).
fn has_more_fields(headers: &HeaderMap, most: usize) -> bool {
    let crumbs = || headers.get_all(header::COOKIE).into_iter().count();
    headers.len() > most && headers.len() - crumbs().saturating_sub(1) > most
}

/// A field that the origin does not get must not select a stored response: fields that `Connection` nominates are
/// removed before the cache looks, and those that only a CDN may set unless another proxy of ours has sent them. Cookies, which HTTP/2 may split, are one line again (RFC 9113 8.2.3).
fn tidy(
    headers: &mut HeaderMap,
    present: &Present,
    protocols: Option<HeaderValue>,
    profile: Profile,
    is_peer: bool,
) {
    // This field shows the cache that there is content. The client of the origin makes its own.
    let coding = if present.transfer_encoding { headers.remove(header::TRANSFER_ENCODING) } else { None };
    remove_hop_by_hop(headers);
    if present.cdn && !is_peer {
        let is_removed = |name: &&HeaderName| {
            is_of_cdn(name.as_str()) && !(name.as_str().starts_with(FASTLY) && profile == Profile::Fastly)
        };
        let names: Vec<_> = headers.keys().filter(is_removed).cloned().collect();
        names.iter().for_each(|name| _ = headers.remove(name));
    }
    if let Some(coding) = coding {
        headers.insert(header::TRANSFER_ENCODING, coding);
    }
    // This field shows the cache, and the client of the origin, that the request is a handshake.
    if let Some(protocols) = protocols {
        headers.insert(header::UPGRADE, protocols);
    }
    if present.cookie && headers.get_all(header::COOKIE).into_iter().nth(1).is_some() {
        let crumbs: Vec<_> = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
        if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            headers.insert(header::COOKIE, cookie);
        }
    }
}
