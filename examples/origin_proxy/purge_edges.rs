//! One purge for a shield and its edges: what is purged at the shield is then purged at each edge.
//!
//! The order matters. An edge that is purged first may ask the shield again and get what is still stored there. So the admin service
//! of the shield answers first, and a request that it refuses goes no further. Each edge gets the same request, with the token of
//! whoever sent it, so all have the same token.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, request};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder::semantics::fields::remove_hop_by_hop;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::{BoxError, Service};

use crate::connector::Connector;
use crate::upstream_error::UpstreamError;

/// How long an edge may take. Whoever purges waits for it.
const WAIT: Duration = Duration::from_secs(5);

/// The most bytes of content that a request may have, as for the admin service.
const MOST_CONTENT: usize = 1 << 20;

/// The admin service of a shield, which repeats purges at edges.
#[derive(Clone)]
pub struct PurgeEdges<A> {
    admin: A,
    edges: Arc<[Uri]>,
    sender: Client<Connector, Full<Bytes>>,
}

/// What became of a purge at one edge.
struct Purged {
    edge: String,
    outcome: Result<StatusCode, String>,
}

impl<A> PurgeEdges<A> {
    /// `edges` are the URLs of their admin services.
    pub fn new(admin: A, edges: impl IntoIterator<Item = Uri>, tls: &Arc<ClientConfig>) -> Self {
        let sender = Client::builder(TokioExecutor::new()).build(Connector::new(WAIT, None, tls));
        Self { admin, edges: edges.into_iter().collect(), sender }
    }

    /// Sends a purge to all edges at once.
    async fn purge(&self, request: &request::Parts, content: &Bytes) -> Vec<Purged> {
        let mut calls = JoinSet::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let (sender, copy) = (self.sender.clone(), addressed(request, content, edge));
            calls.spawn(async move {
                let answer = match copy {
                    Some(copy) => timeout(WAIT, sender.request(copy)).await,
                    None => return (index, Err("the request can't be sent there".to_owned())),
                };
                let outcome = match answer {
                    Ok(Ok(answer)) if answer.status().is_success() => Ok(answer.status()),
                    Ok(Ok(answer)) => Err(format!("it answers {}", answer.status())),
                    Ok(Err(error)) => Err(UpstreamError::from(error).to_string().replace("the origin", "it")),
                    Err(_) => Err("it does not answer in time".to_owned()),
                };
                (index, outcome)
            });
        }
        let mut outcomes: Vec<_> = self.edges.iter().map(|_| Err("it was not asked".to_owned())).collect();
        while let Some(called) = calls.join_next().await {
            if let Ok((index, outcome)) = called {
                outcomes[index] = outcome;
            }
        }
        let named = self.edges.iter().map(ToString::to_string);
        named.zip(outcomes).map(|(edge, outcome)| Purged { edge, outcome }).collect()
    }
}

/// Whether a request to the admin service purges something.
fn is_purge(request: &request::Parts) -> bool {
    let path = request.uri.path();
    let is_of_fastly = || {
        let mut segments = path.split('/').skip(1);
        segments.next() == Some("service")
            && segments.next().is_some()
            && matches!(segments.next(), Some("purge" | "purge_all"))
    };
    let is_route =
        || path == "/purge" || path.starts_with("/purge/") || path == "/invalidation" || is_of_fastly();
    request.method.as_str() == "PURGE" || (request.method == Method::POST && is_route())
}

/// The same request to the admin service of an edge.
fn addressed(request: &request::Parts, content: &Bytes, edge: &Uri) -> Option<Request<Full<Bytes>>> {
    // PURGE may name its URL as its target, which the admin service takes as a path as well.
    let target = match request.uri.authority() {
        Some(_) => format!("/{}", request.uri).parse().ok()?,
        None => request.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
    };
    let mut uri = edge.clone().into_parts();
    uri.path_and_query = Some(target);
    let mut copy = Request::new(Full::new(content.clone()));
    (*copy.method_mut(), *copy.uri_mut()) = (request.method.clone(), Uri::from_parts(uri).ok()?);
    let mut headers: HeaderMap = request.headers.clone();
    remove_hop_by_hop(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    *copy.headers_mut() = headers;
    Some(copy)
}

impl<A, B, Q> Service<Request<Q>> for PurgeEdges<A>
where
    A: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send,
    Q: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // so is the admin service
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let mut this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(content) = Limited::new(body, MOST_CONTENT).collect().await else {
                let help = "send less, in several requests";
                return Ok(refused("content", "the content is longer than 1 MiB, or broke off", help));
            };
            let content = content.to_bytes();
            let own = this.admin.call(Request::from_parts(parts.clone(), Full::new(content.clone()))).await?;
            if this.edges.is_empty() || !is_purge(&parts) || !own.status().is_success() {
                return Ok(own.map(Either::Left));
            }
            let edges = this.purge(&parts, &content).await;
            let (head, body) = own.into_parts();
            let own = body.collect().await.map(|own| own.to_bytes()).unwrap_or_default();
            Ok(reported(head, own, &edges))
        })
    }
}

fn refused<B>(error: &str, message: &str, help: &str) -> Response<Either<B, Full<Bytes>>> {
    let text = json!({ "error": error, "message": message, "help": help }).to_string() + "\n";
    let mut response = Response::new(Either::Right(Full::new(text.into())));
    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The shield's own answer, with what became of the purge at the edges where it has room for that; an error if one of them has not
/// done it.
fn reported<B>(
    mut head: http::response::Parts,
    own: Bytes,
    edges: &[Purged],
) -> Response<Either<B, Full<Bytes>>> {
    let done = edges.iter().map(|Purged { edge, outcome }| match outcome {
        Ok(status) => json!({ "edge": edge, "status": status.as_u16() }),
        Err(why) => json!({ "edge": edge, "error": why }),
    });
    let done = Value::from(done.collect::<Vec<_>>());
    let failed = edges.iter().filter_map(|Purged { edge, outcome }| Some((edge, outcome.as_ref().err()?)));
    let failed: Vec<_> = failed.map(|(edge, why)| format!("{edge} ({why})")).collect();
    let mut value: Value = serde_json::from_slice(&own).unwrap_or(Value::Null);
    let content = if failed.is_empty() {
        match value.as_object_mut() {
            // Fastly's answer to several keys has nothing but keys.
            Some(members) if members.contains_key("status") => {
                members.insert("edges".to_owned(), done);
                Bytes::from(value.to_string() + "\n")
            }
            _ => own,
        }
    } else {
        head.status = StatusCode::BAD_GATEWAY;
        let message = format!("purged here, but not at {}", failed.join(", "));
        let help = "purge once more when these edges can be reached; it does no harm elsewhere";
        let all =
            json!({ "error": "edges", "message": message, "help": help, "edges": done, "purged": value });
        Bytes::from(all.to_string() + "\n")
    };
    head.headers.insert(header::CONTENT_LENGTH, content.len().into());
    Response::from_parts(head, Either::Right(Full::new(content)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request as AxumRequest;
    use tower::service_fn;

    use super::*;
    use crate::tls;

    /// What each node was asked, in order.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        fn add(&self, node: &str, request: &request::Parts, content: &[u8]) {
            let token = request.headers.get("authorization").and_then(|token| token.to_str().ok());
            let content = String::from_utf8_lossy(content);
            let line =
                format!("{node}: {} {} {} {content}", request.method, request.uri, token.unwrap_or("-"));
            self.0.lock().unwrap().push(line);
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    /// An edge that answers with this status.
    async fn edge(name: &'static str, status: u16, log: &Log) -> Uri {
        let log = log.clone();
        let answer = move |request: AxumRequest| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                log.add(name, &parts, &to_bytes(body, MOST_CONTENT).await.unwrap());
                StatusCode::from_u16(status).unwrap()
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        uri.parse().unwrap()
    }

    /// What a shield with these edges answers, if its own service gives this.
    async fn ask(
        log: &Log,
        edges: &[Uri],
        (method, target, content): (&str, &str, &str),
        (status, own): (u16, &'static str),
    ) -> (u16, String) {
        let (log, method) = (log.clone(), method.parse::<Method>().unwrap());
        let admin = service_fn(move |request: Request<Full<Bytes>>| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                log.add("shield", &parts, &body.collect().await.unwrap().to_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(Full::from(own)).unwrap())
            }
        });
        let mut service = PurgeEdges::new(admin, edges.iter().cloned(), &tls::config(edges, None).unwrap());
        let request = Request::builder().method(method).uri(target).header("authorization", "Bearer x");
        let request = request.body(Full::<Bytes>::from(content.to_owned())).unwrap();
        let (head, body) = service.call(request).await.unwrap().into_parts();
        let content = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(content.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn fa9_a_purge_goes_to_the_shield_first_and_then_to_each_edge() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await, edge("two", 200, &log).await];
        let (order, ok) = ("{\"tag\":\"news\"}", "{\"status\":\"ok\",\"number\":7}");
        let (status, text) = ask(&log, &edges, ("POST", "/purge", order), (200, ok)).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &value["number"]), (200, &json!(7)));
        let done = edges.each_ref().map(|edge| json!({ "edge": edge.to_string(), "status": 200 }));
        assert_eq!(value["edges"], json!(done));
        let mut asked = log.take();
        assert_eq!(asked.remove(0), format!("shield: POST /purge Bearer x {order}"));
        asked.sort_unstable();
        assert_eq!(asked, ["one", "two"].map(|node| format!("{node}: POST /purge Bearer x {order}")));
    }

    #[tokio::test]
    async fn fa9_an_edge_that_has_not_purged_is_named_and_the_others_have() {
        let log = Log::default();
        // Nobody listens at this one.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let away: Uri = format!("http://{}/", socket.local_addr().unwrap()).parse().unwrap();
        let edges = [edge("one", 200, &log).await, away, edge("two", 403, &log).await];
        let (status, text) = ask(&log, &edges, ("POST", "/purge", "{}"), (200, "{\"status\":\"ok\"}")).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &value["purged"]), (502, &json!({ "status": "ok" })));
        assert_eq!(value["edges"][0]["status"], 200);
        let why = |index: usize| value["edges"][index]["error"].as_str().unwrap().to_owned();
        assert!(why(1).starts_with("it can't be reached"), "{text}");
        assert_eq!(why(2), "it answers 403 Forbidden");
        let message = value["message"].as_str().unwrap();
        assert!(message.contains(&edges[1].to_string()) && message.contains(&edges[2].to_string()));
        assert!(!message.contains(&edges[0].to_string()), "{message}");
        assert_eq!(log.take().len(), 3);
    }

    #[tokio::test]
    async fn fa9_what_the_shield_refuses_and_what_is_no_purge_goes_no_further() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await];
        for (asked, own) in [
            (("POST", "/purge", "{}"), (401, "{\"error\":\"token\"}")),
            (("GET", "/stats", ""), (200, "{\"status\":\"ok\"}")),
            (("POST", "/warm", "{}"), (200, "{}")),
            (("GET", "/invalidation/1", ""), (200, "{}")),
            (("PUT", "/policy", "x"), (200, "{}")),
        ] {
            assert_eq!(ask(&log, &edges, asked, own).await, (own.0, own.1.to_owned()), "{asked:?}");
            assert_eq!(log.take().len(), 1, "{asked:?}");
        }
    }

    #[tokio::test]
    async fn fa5_every_form_of_a_purge_reaches_the_edges() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await];
        for ((method, target), sent) in [
            (("PURGE", "http://a.example/x?y"), "/http://a.example/x?y"),
            (("PURGE", "/http://a.example/x"), "/http://a.example/x"),
            (("POST", "/purge/a.example/x"), "/purge/a.example/x"),
            (("POST", "/service/1/purge"), "/service/1/purge"),
            (("POST", "/service/1/purge/key"), "/service/1/purge/key"),
            (("POST", "/service/1/purge_all"), "/service/1/purge_all"),
            (("POST", "/invalidation"), "/invalidation"),
        ] {
            // An answer that has no room for more stays as it is.
            let own = (200, "{\"a\":\"1\",\"b\":\"2\"}");
            assert_eq!(ask(&log, &edges, (method, target, "c"), own).await, (200, own.1.to_owned()));
            assert_eq!(log.take()[1], format!("one: {method} {sent} Bearer x c"));
        }
    }

    #[tokio::test]
    async fn content_without_end_is_refused() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await];
        let content = "x".repeat(MOST_CONTENT + 1);
        let (status, text) = ask(&log, &edges, ("POST", "/purge", &content), (200, "{}")).await;
        assert!(status == 413 && text.contains("longer than 1 MiB"), "{status} {text}");
        assert!(log.take().is_empty());
    }
}
