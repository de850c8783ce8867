//! What a client meets first and last: what can't be forwarded is refused, errors become answers, and what belongs
//! to the client's connection ends here.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Either;
use hyper::body::Incoming;
use larder::semantics::fields::{list, remove_hop_by_hop};
use larder::{CacheService, QueryService};
use tower::Service;

use crate::content::Content;
use crate::host::{self, Host};
use crate::own::{self, AnswerBody};
use crate::serve::Open;
use crate::upstream::{CDN_LOOP, Upstream};
use crate::{hops, location, upgrade, via};

/// The cache before the origin, as a server sees it: it never fails.
#[derive(Clone)]
pub struct Edge {
    pub cache: QueryService<CacheService<Upstream>>,
    /// The most fields that a request may have.
    pub fields: usize,
    pub host: Host,
    pub id: HeaderValue,
    pub origin: Uri,
    /// How long content of a request may not come on.
    pub stall: Duration,
}

impl Edge {
    /// The answer to a request that does not reach the cache. What it changes in one that does is for the origin.
    fn refusal(&self, request: &mut Request<Incoming>) -> Option<Response<AnswerBody>> {
        let refused = |status, detail| Some(own::error(status, &format!("larder; detail=\"{detail}\"")));
        // HTTP/1 requests of more fields do not get here.
        if count(request.headers()) > self.fields {
            return refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too-many-fields");
        }
        if !host::is_valid(request) {
            return refused(StatusCode::BAD_REQUEST, "invalid-host");
        }
        // RFC 8586: our own name in the list means that the request has been here before.
        if list(request.headers(), &CDN_LOOP).any(|member| {
            let id = member.split(|&byte| byte == b';').next().unwrap_or_default();
            id.trim_ascii() == self.id.as_bytes()
        }) {
            return refused(StatusCode::LOOP_DETECTED, "loop");
        }
        // A reverse proxy is no tunnel.
        if request.method() == Method::CONNECT {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "connect");
        }
        hops::count_down(request)
    }
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(mut response) = self.refusal(&mut request) {
            via::complete(response.headers_mut());
            return Box::pin(std::future::ready(Ok(response)));
        }
        // Neither is for the cache, which keeps requests for as long as it validates in the background.
        let open = request.extensions_mut().remove::<Open>();
        let switch = hyper::upgrade::on(&mut request);
        let protocols = upgrade::asked(&request);
        let forward = forward(request.method(), protocols.is_some());
        let client = host::of(&request).filter(|_| self.host == Host::Upstream);
        tidy(request.headers_mut(), protocols);
        let request = request.map(|body| Content::new(body, self.stall));
        let (answer, origin) = (self.cache.call(request), self.origin.clone());
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(response) => response.map(Either::Left),
                Err(error) => {
                    let cache_status = format!("larder; fwd={forward}; detail=\"{}\"", error.detail());
                    own::error(error.status(), &cache_status)
                }
            };
            let protocols = response.headers_mut().remove(header::UPGRADE);
            remove_hop_by_hop(response.headers_mut());
            if let Some(protocols) =
                protocols.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS)
            {
                upgrade::insert(response.headers_mut(), protocols);
                upgrade::tunnel(switch, hyper::upgrade::on(&mut response), open);
            }
            if let Some(client) = client {
                location::rewrite(response.headers_mut(), &origin, &client);
            }
            via::complete(response.headers_mut());
            Ok(response)
        })
    }
}

/// The fields of a request. Cookies count as one: HTTP/2 may split them (RFC 9113 8.2.3).
fn count(headers: &HeaderMap) -> usize {
    let crumbs = headers.get_all(header::COOKIE).into_iter().count();
    headers.len() - crumbs.saturating_sub(1)
}

/// Why a request that failed was forwarded, in the words of RFC 9211 2.2.
fn forward(method: &Method, is_upgrade: bool) -> &'static str {
    let is_looked_up = *method == Method::GET || *method == Method::HEAD || *method == Method::QUERY;
    match is_looked_up {
        false => "method",
        true if is_upgrade => "bypass",
        true => "miss",
    }
}

/// What the origin will not see must not select what is stored: fields that `Connection` nominates go before
/// the cache looks. Cookies, which HTTP/2 may split, are one line again (RFC 9113 8.2.3).
fn tidy(headers: &mut HeaderMap, protocols: Option<HeaderValue>) {
    // It tells the cache that there is content; the client of the origin makes its own.
    let coding = headers.get(header::TRANSFER_ENCODING).cloned();
    remove_hop_by_hop(headers);
    headers.extend(coding.map(|coding| (header::TRANSFER_ENCODING, coding)));
    // It tells the cache, and the client of the origin, that this is a handshake.
    headers.extend(protocols.map(|protocols| (header::UPGRADE, protocols)));
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookie);
    }
}
