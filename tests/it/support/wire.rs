//! Real HTTP over loopback.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::Seen;
use super::bench::read;
use super::stores::at_rest;

pub type HttpClient<B> = Client<HttpConnector, B>;

pub fn client<B>() -> HttpClient<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

/// For servers that speak HTTP/2 without TLS.
pub fn http2_client<B>() -> HttpClient<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// Serves an axum router; gives its address. It ends with the test's runtime.
pub async fn serve_router(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// Serves any tower service that takes what hyper gives.
pub async fn serve<S, B>(service: S) -> SocketAddr
where
    S: tower::Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// `streams` requests for a URL over each of so many connections of HTTP/2 to each of the addresses, all of which are sent before the
/// first answer is waited for. The connections are there when this returns; what it gives are all answers.
pub async fn herds(
    addresses: &[SocketAddr],
    connections: usize,
    streams: usize,
    url: &'static str,
) -> impl Future<Output = Vec<(http::response::Parts, Bytes)>> {
    let connect = async |address: SocketAddr| {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) =
            http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let clients = addresses.iter().flat_map(|address| (0..connections).map(|_| connect(*address)));
    let clients = join_all(clients).await;
    let asked = clients.iter().flat_map(|client| (0..streams).map(|_| ask(client.clone(), url)));
    join_all(asked.collect::<Vec<_>>())
}

async fn ask(
    mut client: http2::SendRequest<Empty<Bytes>>,
    url: &'static str,
) -> (http::response::Parts, Bytes) {
    let request = Request::get(url).body(Empty::new()).unwrap();
    let (parts, body) = client.send_request(request).await.unwrap().into_parts();
    (parts, body.collect().await.unwrap().to_bytes())
}

/// The head and the bytes of an answer.
pub async fn get_bytes(
    address: SocketAddr,
    path: &str,
    fields: &[(&str, &str)],
) -> (http::response::Parts, Bytes) {
    let mut request = Request::get(format!("http://{address}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = client().request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    at_rest().await;
    (parts, bytes)
}

pub async fn get(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Seen {
    let mut request = Request::get(format!("http://{address}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = client().request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    read(response).await
}
