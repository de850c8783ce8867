//! One purge for a shield and its edges: what is purged at the shield is then purged at each edge.
//!
//! The order matters. An edge that is purged first may ask the shield again and get what is still stored there. So the admin service
//! of the shield answers first, and a request that it refuses goes no further. Each edge gets the same purge, with the token of
//! whoever sent it, so all have the same token.
//!
//! Before the token goes anywhere, the edge is asked without it whether an admin service answers there: a wrong address may be that of a
//! listener for clients, which would take the token to its origin, and whose 200 says nothing about purges.
//!
//! A copy names its purge, so that proxies that are each other's edges don't send it around for ever.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use larder::admin::{LARDER_ADMIN, purged_url};
use larder::semantics::fields::remove_hop_by_hop;
use pin_project_lite::pin_project;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::{BoxError, Service};

use crate::connector::Connector;
use crate::upstream_error::UpstreamError;

/// How long an edge may take. Whoever sends a purge waits for it.
const WAIT: Duration = Duration::from_secs(5);

/// The field by which a proxy knows a purge that it has repeated already.
const PURGE_ID: HeaderName = HeaderName::from_static("larder-purge-id");
/// How many purges are known: more than are on their way at one time.
const MOST_IDS: usize = 1_024;
/// The longest name of a purge.
const LONGEST_ID: usize = 64;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The admin service of a shield, which repeats purges at edges.
#[derive(Clone)]
pub struct PurgeEdges<A> {
    admin: A,
    edges: Arc<[Uri]>,
    ids: Arc<Ids>,
    sender: Sender,
}

type Sender = Client<Connector, Full<Bytes>>;

/// What became of a purge at one edge.
struct Purged {
    edge: String,
    outcome: Result<StatusCode, String>,
}

impl<A> PurgeEdges<A> {
    /// `edges` are the URLs of their admin services.
    pub fn new(admin: A, edges: impl IntoIterator<Item = Uri>, tls: &Arc<ClientConfig>) -> Self {
        let sender = Client::builder(TokioExecutor::new()).build(Connector::new(WAIT, None, tls));
        Self { admin, edges: edges.into_iter().collect(), ids: Arc::default(), sender }
    }

    /// Sends a purge to all edges at once.
    async fn purge(&self, request: &request::Parts, content: &Bytes, id: &HeaderValue) -> Vec<Purged> {
        let mut calls = JoinSet::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let (sender, copy) = (self.sender.clone(), addressed(request, content.clone(), edge, id));
            let edge = edge.clone();
            calls.spawn(async move {
                let outcome = match copy {
                    Some(copy) => timeout(WAIT, repeated(&sender, &edge, copy)).await,
                    None => return (index, Err("the request can't be sent there".to_owned())),
                };
                (index, outcome.unwrap_or_else(|_| Err("it does not answer in time".to_owned())))
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

/// What an edge answers to a copy of a purge, which it gets only if it shows without the token that it is an admin service.
async fn repeated(sender: &Sender, edge: &Uri, copy: Request<Full<Bytes>>) -> Result<StatusCode, String> {
    let mut question = Request::new(Full::default());
    (*question.method_mut(), *question.uri_mut()) = (Method::HEAD, edge.clone());
    status_of(sender, question).await?;
    match status_of(sender, copy).await? {
        status if status.is_success() => Ok(status),
        status => Err(format!("it answers {status}")),
    }
}

/// The status with which an admin service answers; an error where something else does.
async fn status_of(sender: &Sender, request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
    let answer = sender.request(request).await;
    let answer =
        answer.map_err(|error| UpstreamError::from(error).to_string().replace("the origin", "it"))?;
    match answer.headers().contains_key(LARDER_ADMIN) {
        true => Ok(answer.status()),
        false => Err("what answers there is not an admin service of larder".to_owned()),
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

/// The same purge for the admin service of an edge.
fn addressed(
    request: &request::Parts,
    content: Bytes,
    edge: &Uri,
    id: &HeaderValue,
) -> Option<Request<Full<Bytes>>> {
    let (method, target) = if request.method.as_str() == "PURGE" {
        // The target and `Host` of a copy are the edge's own, so its path names what goes.
        (Method::POST, format!("/purge/{}", purged_url(request)?).parse().ok()?)
    } else {
        (request.method.clone(), request.uri.path_and_query().cloned()?)
    };
    let mut uri = edge.clone().into_parts();
    uri.path_and_query = Some(target);
    let mut copy = Request::new(Full::new(content));
    (*copy.method_mut(), *copy.uri_mut()) = (method, Uri::from_parts(uri).ok()?);
    let mut headers: HeaderMap = request.headers.clone();
    remove_hop_by_hop(&mut headers);
    // The client that sends the copy says to whom it goes. A page of the shield is another site at the edge.
    for name in [header::CONTENT_LENGTH, header::HOST, header::ORIGIN, SEC_FETCH_SITE] {
        headers.remove(name);
    }
    headers.insert(PURGE_ID, id.clone());
    *copy.headers_mut() = headers;
    Some(copy)
}

impl<A, B, Q> Service<Request<Q>> for PurgeEdges<A>
where
    A: Service<Request<Read<Q>>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    Q: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // so is the admin service
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, body) = request.into_parts();
        if self.edges.is_empty() || !is_purge(&parts) {
            let own = self.admin.call(Request::from_parts(parts, Read { body, copied: None }));
            return Box::pin(async move { Ok(own.await?.map(Either::Left)) });
        }
        // In a task: a purge goes to all nodes, also where its client leaves.
        let carried_out = tokio::spawn(self.clone().carry_out(parts, body));
        Box::pin(async move {
            match carried_out.await {
                Ok(answer) => Ok(answer),
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => std::future::pending().await, // the process ends
                },
            }
        })
    }
}

impl<A> PurgeEdges<A> {
    /// One purge, at this node and then at its edges.
    async fn carry_out<B, Q>(mut self, parts: request::Parts, body: Q) -> Response<Either<B, Full<Bytes>>>
    where
        A: Service<Request<Read<Q>>, Response = Response<B>, Error = Infallible>,
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        // Only the admin service reads: what it does not want to read is read by nobody.
        let copied = Copied::default();
        let body = Read { body, copied: Some(copied.clone()) };
        let own = match self.admin.call(Request::from_parts(parts.clone(), body)).await {
            Ok(own) => own,
            Err(never) => match never {},
        };
        if !own.status().is_success() {
            return own.map(Either::Left);
        }
        let Some(id) = self.ids.first_seen(&parts.headers) else {
            return own.map(Either::Left);
        };
        let edges = self.purge(&parts, &copied.take(), &id).await;
        let (head, body) = own.into_parts();
        let own = body.collect().await.map(|own| own.to_bytes()).unwrap_or_default();
        reported(head, own, &edges)
    }
}

/// The content of a request as somebody else has read it.
#[derive(Clone, Default)]
struct Copied(Arc<Mutex<BytesMut>>);

impl Copied {
    fn add(&self, data: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
    }

    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).freeze()
    }
}

pin_project! {
    /// The content of a request, of which a copy is made while it is read.
    pub struct Read<Q> {
        #[pin]
        body: Q,
        copied: Option<Copied>,
    }
}

impl<Q: Body<Data = Bytes>> Body for Read<Q> {
    type Data = Bytes;
    type Error = Q::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Q::Error>>> {
        let this = self.project();
        let polled = ready!(this.body.poll_frame(cx));
        if let (Some(Ok(frame)), Some(copied)) = (&polled, this.copied) {
            frame.data_ref().into_iter().for_each(|data| copied.add(data));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The purges that this process has repeated of late. Of proxies that name each other as edges, each repeats one once.
#[derive(Default)]
struct Ids(Mutex<VecDeque<HeaderValue>>);

impl Ids {
    /// The name of a purge that has not been repeated here: the one that it came with, or a new one.
    fn first_seen(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let given = headers.get(PURGE_ID).filter(|id| id.len() <= LONGEST_ID);
        if given.is_some_and(|id| known.contains(id)) {
            return None;
        }
        // A random number: each state has keys of its own.
        let new = || HeaderValue::from(RandomState::new().hash_one(SystemTime::now()));
        let id = given.cloned().unwrap_or_else(new);
        if known.len() >= MOST_IDS {
            known.pop_front();
        }
        known.push_back(id.clone());
        Some(id)
    }
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
    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request as AxumRequest;
    use axum::response::IntoResponse;
    use tokio::sync::Notify;
    use tower::service_fn;

    use super::*;
    use crate::tls;

    /// What each node was asked, in order.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>, Arc<Notify>);

    impl Log {
        fn add(&self, node: &str, request: &request::Parts, content: &[u8]) {
            let token = request.headers.get("authorization").and_then(|token| token.to_str().ok());
            let content = String::from_utf8_lossy(content);
            if node != "shield" {
                assert_ne!(request.headers["host"], "own.example", "it is the edge's");
                assert!(!request.headers.contains_key("origin"), "{:?}", request.headers);
                let is_question = request.method == Method::HEAD;
                assert_ne!(request.headers.contains_key(PURGE_ID), is_question, "{:?}", request.headers);
            }
            let line =
                format!("{node}: {} {} {} {content}", request.method, request.uri, token.unwrap_or("-"));
            self.0.lock().unwrap().push(line);
            self.1.notify_one();
        }

        /// The first line, as soon as there is one.
        async fn next(&self) -> String {
            self.1.notified().await;
            self.take().remove(0)
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    /// An edge that answers with this status.
    async fn edge(name: &'static str, status: u16, log: &Log) -> Uri {
        node(name, status, true, log).await
    }

    /// Something that answers with this status.
    async fn node(name: &'static str, status: u16, is_admin: bool, log: &Log) -> Uri {
        let log = log.clone();
        let answer = move |request: AxumRequest| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                let is_question = parts.method == Method::HEAD;
                if is_question && is_admin {
                    assert!(!parts.headers.contains_key("authorization"), "{:?}", parts.headers);
                    return (StatusCode::UNAUTHORIZED, [(LARDER_ADMIN, "1")]).into_response();
                }
                log.add(name, &parts, &to_bytes(body, 1_000).await.unwrap());
                let status = StatusCode::from_u16(status).unwrap();
                if is_admin {
                    (status, [(LARDER_ADMIN, "1")]).into_response()
                } else {
                    status.into_response()
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        uri.parse().unwrap()
    }

    /// The services of shields with these edges, whose own services give this.
    fn shield(
        log: &Log,
        edges: &[Uri],
        (status, own): (u16, &'static str),
    ) -> PurgeEdges<
        impl Service<
            Request<Read<Full<Bytes>>>,
            Response = Response<Full<Bytes>>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static,
    > {
        let log = log.clone();
        let admin = service_fn(move |request: Request<Read<Full<Bytes>>>| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                log.add("shield", &parts, &body.collect().await.unwrap().to_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(Full::from(own)).unwrap())
            }
        });
        PurgeEdges::new(admin, edges.iter().cloned(), &tls::config(edges, None).unwrap())
    }

    /// What such a shield answers.
    async fn ask(
        log: &Log,
        edges: &[Uri],
        (method, target, content): (&str, &str, &str),
        own: (u16, &'static str),
    ) -> (u16, String) {
        let method = method.parse::<Method>().unwrap();
        let request = Request::builder().method(method).uri(target).header("authorization", "Bearer x");
        let request = request.header("host", "own.example").header("origin", "http://own.example");
        let request = request.body(Full::<Bytes>::from(content.to_owned())).unwrap();
        let (head, body) = shield(log, edges, own).call(request).await.unwrap().into_parts();
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
    async fn a19_what_is_not_an_admin_service_gets_no_token_and_has_not_purged() {
        let log = Log::default();
        let edges = [node("clients", 200, false, &log).await, edge("two", 200, &log).await];
        let (status, text) = ask(&log, &edges, ("POST", "/purge", "{}"), (200, "{\"status\":\"ok\"}")).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &value["edges"][1]["status"]), (502, &json!(200)));
        assert_eq!(value["edges"][0]["error"], "what answers there is not an admin service of larder");
        let mut asked = log.take();
        asked.sort_unstable();
        let expected =
            ["clients: HEAD / - ", "shield: POST /purge Bearer x {}", "two: POST /purge Bearer x {}"];
        assert_eq!(asked, expected);
    }

    #[tokio::test]
    async fn fa9_a_purge_whose_client_leaves_reaches_the_edges() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await];
        let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (arrives, goes_on) = (Arc::clone(&arrived), Arc::clone(&go_on));
        let admin = service_fn(move |_: Request<Read<Full<Bytes>>>| {
            let (arrives, goes_on) = (Arc::clone(&arrives), Arc::clone(&goes_on));
            async move {
                arrives.notify_one();
                goes_on.notified().await;
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}")))
            }
        });
        let mut shield = PurgeEdges::new(admin, edges.iter().cloned(), &tls::config(&edges, None).unwrap());
        let answer = shield.call(Request::post("/purge").body(Full::<Bytes>::default()).unwrap());
        let client = tokio::spawn(answer);
        arrived.notified().await;
        client.abort();
        assert!(client.await.is_err());
        go_on.notify_one();
        let asked = log.next().await;
        assert_eq!(asked, "one: POST /purge - ");
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
            (("PURGE", "http://a.example/x?y"), "/purge/http://a.example/x?y"),
            (("PURGE", "/http://a.example/x"), "/purge/http://a.example/x"),
            // As HTTP/2 has it, or a client that takes this for a proxy.
            (("PURGE", "http://own.example/https://a.example/x?y"), "/purge/https://a.example/x?y"),
            (("PURGE", "/x?to=http://b/"), "/purge/own.example/x?to=http://b/"),
            (("POST", "http://own.example/purge"), "/purge"),
            (("POST", "http://own.example/service/1/purge_all?x"), "/service/1/purge_all?x"),
            (("POST", "/purge/a.example/x"), "/purge/a.example/x"),
            (("POST", "/service/1/purge"), "/service/1/purge"),
            (("POST", "/service/1/purge/key"), "/service/1/purge/key"),
            (("POST", "/service/1/purge_all"), "/service/1/purge_all"),
            (("POST", "/invalidation"), "/invalidation"),
        ] {
            // An answer that has no room for more stays as it is.
            let own = (200, "{\"a\":\"1\",\"b\":\"2\"}");
            assert_eq!(ask(&log, &edges, (method, target, "c"), own).await, (200, own.1.to_owned()));
            assert_eq!(log.take()[1], format!("one: POST {sent} Bearer x c"), "{method} {target}");
        }
    }

    #[tokio::test]
    async fn a_purge_that_comes_back_goes_no_further() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await];
        let mut shield = shield(&log, &edges, (200, "{\"status\":\"ok\"}"));
        let mut ask = async |id: Option<&HeaderValue>| {
            let request = Request::post("/purge").body(Full::<Bytes>::default()).unwrap();
            let mut request = request;
            request.headers_mut().extend(id.map(|id| (PURGE_ID, id.clone())));
            let answer = shield.call(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            log.take().len()
        };
        let [first, second] = ["1", "2"].map(HeaderValue::from_static);
        assert_eq!((ask(Some(&first)).await, ask(Some(&first)).await), (2, 1));
        assert_eq!((ask(Some(&second)).await, ask(Some(&first)).await), (2, 1));
        // A purge without a name is a new one each time.
        assert_eq!((ask(None).await, ask(None).await), (2, 2));
        for number in 10..MOST_IDS + 10 {
            assert_eq!(ask(Some(&HeaderValue::from(number))).await, 2);
        }
        assert_eq!(ask(Some(&first)).await, 2, "no more than so many are known");
    }

    /// Content that nobody may ask for.
    struct Untouched;

    impl Body for Untouched {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("the content is read")
        }
    }

    #[tokio::test]
    async fn a19_what_the_shield_refuses_by_its_head_is_not_read() {
        let log = Log::default();
        let edges = [edge("one", 200, &log).await];
        let admin = service_fn(|_: Request<Read<Untouched>>| async {
            Ok::<_, Infallible>(Response::builder().status(401).body(Full::<Bytes>::default()).unwrap())
        });
        for edges in [&edges[..], &[]] {
            let mut service = PurgeEdges::new(admin, edges.to_vec(), &tls::config(edges, None).unwrap());
            let answer = service.call(Request::post("/purge").body(Untouched).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 401);
        }
        assert!(log.take().is_empty());
    }
}
