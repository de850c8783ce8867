//! URLs that are asked for so that they are stored: as clients, or edges, would ask for them, and by the same way through the proxy.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use larder::policy::TrustedPeer;
use tower::Service;

use crate::content::RequestContent;
use crate::debug_token::DebugToken;
use crate::edge::{Edge, EdgeFuture};
use crate::local_reply::ResponseBody;
use crate::peers::PeerTokens;

/// The way that requests of clients take, for those that nobody has sent.
#[derive(Clone)]
pub struct Warming {
    /// The answers say what the cache did, whoever else may not know.
    pub debug: Option<DebugToken>,
    pub edge: Edge,
    pub peers: Option<PeerTokens>,
    /// That of the listener, which all keys of clients have: behind a TLS server, it is `http` for a site of `https`.
    pub scheme: Scheme,
}

/// A request as an HTTP/1.1 client writes it.
pub fn request(uri: &Uri) -> Request<RequestContent> {
    let mut request = Request::new(RequestContent::default());
    let host = uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok());
    request.headers_mut().extend(host.map(|host| (header::HOST, host)));
    *request.uri_mut() = uri.clone();
    request
}

impl Warming {
    /// The scheme under which the URL is stored.
    fn scheme(&self, uri: &Uri, is_peer: bool) -> Scheme {
        match &self.peers {
            Some(peers) if is_peer => peers.scheme(uri.scheme().cloned().unwrap_or(Scheme::HTTP)),
            _ => self.scheme.clone(),
        }
    }
}

impl Service<Request<RequestContent>> for Warming {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = EdgeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // so is the edge
    }

    fn call(&mut self, mut request: Request<RequestContent>) -> EdgeFuture {
        let is_peer = request.extensions().get::<TrustedPeer>().is_some();
        let scheme = self.scheme(request.uri(), is_peer);
        let mut uri = request.uri().clone().into_parts();
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        uri.scheme = Some(scheme.clone());
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(scheme);
        if let Some(debug) = &self.debug {
            debug.show(request.headers_mut());
        }
        self.edge.answer(request, is_peer, std::convert::identity)
    }
}
