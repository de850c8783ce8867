//! QUERY (RFC 10008), and a POST that is a query: the content of the request is part of the key.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::any;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use larder::policy::Policies;
use larder::{CachePolicyExt, Clock, QueryLayer, RequestAction, StandardPolicy};
use tower::ServiceExt;

use crate::support::bench::read;
use crate::support::{CacheLayer, Seen, cache_builder, cache_layer, settle};

/// Answers with what it was asked, and counts.
struct Echo {
    app: Router,
    calls: Arc<AtomicUsize>,
    methods: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Default)]
struct EchoState {
    calls: Arc<AtomicUsize>,
    methods: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    fn new(layer: QueryLayer) -> Self {
        Self::with(layer, cache_layer(), &[("cache-control", "max-age=60")])
    }

    fn with(layer: QueryLayer, cache: CacheLayer, fields: &'static [(&'static str, &'static str)]) -> Self {
        let state = EchoState::default();
        let echo = async move |State(state): State<EchoState>, request: Request<Body>| {
            state.calls.fetch_add(1, Ordering::SeqCst);
            let conditions = request.headers().contains_key("if-none-match");
            let method = format!("{}{}", request.method(), if conditions { " with conditions" } else { "" });
            state.methods.lock().unwrap().push(method);
            let Ok(content) = axum::body::to_bytes(request.into_body(), 1 << 20).await else {
                return StatusCode::BAD_REQUEST.into_response();
            };
            let mut response = content.into_response();
            for (name, value) in fields {
                response.headers_mut().insert(*name, HeaderValue::from_static(value));
            }
            response
        };
        let app = Router::new().route("/", any(echo)).with_state(state.clone());
        Self { app: app.layer(cache).layer(layer), calls: state.calls, methods: state.methods }
    }

    async fn post(&self, kind: &str, content: &'static str) -> Seen {
        self.send(Method::POST, &[("content-type", kind)], content).await
    }

    /// The methods that the service has seen since the latest question.
    fn methods(&self) -> Vec<String> {
        std::mem::take(&mut self.methods.lock().unwrap())
    }

    async fn send(&self, method: Method, fields: &[(&str, &str)], content: impl Into<Body>) -> Seen {
        let mut request = Request::builder().method(method).uri("http://example.com/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(content.into()).unwrap();
        read(self.app.clone().oneshot(request).await.unwrap()).await
    }

    async fn query(&self, kind: &str, content: &'static str) -> Seen {
        self.send(Method::QUERY, &[("content-type", kind)], content).await
    }
}

#[tokio::test]
async fn qy_the_content_is_part_of_the_key() {
    let echo = Echo::new(QueryLayer::new());
    echo.query("text/plain", "a").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("a");
    echo.query("text/plain", "a").await.told("larder; hit; ttl=60").has_body("a");
    echo.query("text/plain", "b").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("b");
    echo.query("application/json", "a").await.told("larder; fwd=uri-miss; stored; ttl=60");
    let coded = [("content-type", "text/plain"), ("content-encoding", "x")];
    echo.send(Method::QUERY, &coded, "a").await.told("larder; fwd=uri-miss; stored; ttl=60");
    echo.query("text/plain", "a").await.told("larder; hit; ttl=60");
    // Neither the other way round.
    echo.send(Method::GET, &[], "").await.told("larder; fwd=uri-miss; stored; ttl=60");
    echo.query("text/plain", "").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(echo.calls.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn qy_content_in_pieces_or_of_unknown_length_makes_the_same_key() {
    let echo = Echo::new(QueryLayer::new());
    let pieces = |list: [&'static str; 2]| Body::from_stream(stream::iter(list.map(Ok::<_, std::io::Error>)));
    echo.send(Method::QUERY, &[], pieces(["on", "e"])).await.has_body("one");
    echo.send(Method::QUERY, &[], pieces(["o", "ne"])).await.told("larder; hit; ttl=60").has_body("one");
    echo.send(Method::QUERY, &[], "one").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn qy_large_content_is_forwarded_as_it_comes() {
    let echo = Echo::new(QueryLayer::new().max_content(4));
    for _ in 0..2 {
        let pieces = stream::iter(["abc", "def", "g"].map(Ok::<_, std::io::Error>));
        for content in [Body::from("abcdefg"), Body::from_stream(pieces)] {
            let seen = echo.send(Method::QUERY, &[], content).await;
            seen.told("larder; fwd=method").has_body("abcdefg");
        }
    }
    echo.query("", "abcd").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn qy_content_that_breaks_reaches_the_service_as_broken() {
    let echo = Echo::new(QueryLayer::new());
    let broken = stream::iter([Ok("ab"), Err(std::io::Error::other("broke"))]);
    let seen = echo.send(Method::QUERY, &[], Body::from_stream(broken)).await;
    assert_eq!(seen.status, 400, "{seen:?}");
    echo.query("", "ab").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("ab");
}

#[tokio::test]
async fn qy_conditions_are_answered_from_storage_and_a_post_invalidates() {
    let echo = Echo::new(QueryLayer::new());
    let first = echo.query("", "a").await;
    let tag = first.field("etag").expect("a generated tag").to_owned();
    let again = echo.send(Method::QUERY, &[("content-type", ""), ("if-none-match", &tag)], "a").await;
    assert_eq!(again.status, 304);
    // Ranges are GET's (RFC 9110 14.2).
    let ranged = echo.send(Method::QUERY, &[("content-type", ""), ("range", "bytes=0-0")], "a").await;
    assert_eq!(ranged.told("larder; hit; ttl=60").status, 200);
    echo.send(Method::POST, &[], "x").await.told("larder; fwd=method");
    echo.query("", "a").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn qy_without_the_layer_nothing_is_stored() {
    let app = Router::new().route("/", any(async || ([("cache-control", "max-age=60")], "x")));
    let app = app.layer(cache_layer());
    for _ in 0..2 {
        let request =
            Request::builder().method(Method::QUERY).uri("http://example.com/").body(Body::from("q"));
        let seen = read(app.clone().oneshot(request.unwrap()).await.unwrap()).await;
        seen.told("larder; fwd=method");
    }
}

/// Content with trailers, which are not in the key.
fn with_trailers(content: &'static str) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", HeaderValue::from_static("1"));
    let frames = [Frame::data(Bytes::from_static(content.as_bytes())), Frame::trailers(trailers)];
    Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, std::io::Error>))))
}

#[tokio::test]
async fn a11_content_with_trailers_is_forwarded_and_not_stored() {
    let echo = Echo::new(reading());
    for method in [Method::QUERY, Method::POST] {
        for _ in 0..2 {
            let seen = echo.send(method.clone(), &[], with_trailers("read")).await;
            seen.told("larder; fwd=method").has_body("read");
        }
    }
}

/// POSTs whose content begins with `read` are queries.
fn reading() -> QueryLayer {
    QueryLayer::new().post(|_, content| content.starts_with(b"read"))
}

const STORED: &str = "larder; fwd=uri-miss; stored; ttl=60";
const HIT: &str = "larder; hit; ttl=60";

#[tokio::test]
async fn qy_a_post_that_is_a_query_is_stored_by_its_content_and_stays_a_post() {
    let echo = Echo::new(reading());
    echo.post("text/plain", "read a").await.told(STORED).has_body("read a");
    echo.post("text/plain", "read a").await.told(HIT).has_body("read a");
    echo.post("text/plain", "read b").await.told(STORED).has_body("read b");
    echo.post("text/json", "read a").await.told(STORED);
    let coded = [("content-type", "text/plain"), ("content-encoding", "x")];
    echo.send(Method::POST, &coded, "read a").await.told(STORED);
    // It is neither the QUERY nor the GET.
    echo.query("text/plain", "read a").await.told(STORED);
    echo.send(Method::GET, &[], "").await.told(STORED);
    echo.post("text/plain", "read a").await.told(HIT);
    let methods: Vec<_> = ["POST", "POST", "POST", "POST", "QUERY", "GET"].map(str::to_owned).into();
    assert_eq!(echo.methods(), methods);
}

#[tokio::test]
async fn qy_every_other_post_is_forwarded_and_invalidates_what_is_stored_for_its_uri() {
    let large = "read and more than is read";
    let broken = || Body::from_stream(stream::iter([Ok("read"), Err(std::io::Error::other("broke"))]));
    for (what, fields, content) in [
        ("a mutation", &[][..], Body::from("write")),
        ("too large", &[], Body::from(large)),
        (
            "too large in pieces",
            &[],
            Body::from_stream(stream::iter([Ok::<_, std::io::Error>("read a"), Ok(large)])),
        ),
        ("with trailers", &[], with_trailers("read")),
        ("another method", &[("x-http-method-override", "PUT")], Body::from("read")),
        ("the original method", &[("x-original-method", "PUT")], Body::from("read")),
        ("another method, in disguise", &[("x_method_override", "PUT")], Body::from("read")),
    ] {
        let echo = Echo::new(reading().max_content(8));
        echo.post("", "read a").await;
        echo.query("", "q").await;
        echo.send(Method::POST, fields, content).await.told("larder; fwd=method");
        echo.post("", "read a").await.told(STORED);
        echo.query("", "q").await.told(STORED);
        assert_eq!(echo.methods(), ["POST", "QUERY", "POST", "POST", "QUERY"], "{what}");
    }
    let echo = Echo::new(reading());
    let seen = echo.send(Method::POST, &[], broken()).await;
    assert_eq!(seen.status, 400);
}

#[tokio::test]
async fn qy_a_post_that_is_a_query_invalidates_nothing() {
    let echo = Echo::new(reading());
    echo.send(Method::GET, &[], "").await.told(STORED);
    echo.post("", "read a").await.told(STORED);
    echo.post("", "read b").await.told(STORED);
    echo.send(Method::GET, &[], "").await.told(HIT);
    echo.post("", "read a").await.told(HIT);
}

#[tokio::test]
async fn qy_a_purge_of_a_uri_reaches_the_queries_that_were_posted_there() {
    let layer = cache_layer();
    let handle = layer.handle();
    let echo = Echo::with(reading(), layer, &[("cache-control", "max-age=60")]);
    echo.post("", "read a").await.told(STORED);
    handle.purge(&"http://example.com/".parse().unwrap()).await.unwrap();
    echo.post("", "read a").await.told(STORED);
}

#[tokio::test]
async fn qy_the_rules_of_storing_hold_for_a_post_that_is_a_query() {
    let echo = Echo::with(reading(), cache_layer(), &[("cache-control", "no-store")]);
    echo.post("", "read a").await.told("larder; fwd=uri-miss; detail=\"no-store\"");
    let echo = Echo::new(reading());
    let cookie = [("cookie", "a=1")];
    echo.send(Method::POST, &cookie, "read a").await.told("larder; fwd=uri-miss; detail=\"cookie\"");
    let upgrade = [("connection", "upgrade"), ("upgrade", "x")];
    echo.send(Method::POST, &upgrade, "read a").await.told("larder; fwd=bypass; detail=\"upgrade\"");
    // Conditions are answered from storage, ranges are GET's.
    let first = echo.post("", "read b").await;
    let tag = first.field("etag").expect("a generated tag").to_owned();
    let again = echo.send(Method::POST, &[("content-type", ""), ("if-none-match", &tag)], "read b").await;
    assert_eq!(again.status, 304);
    let ranged = echo.send(Method::POST, &[("content-type", ""), ("range", "bytes=0-0")], "read b").await;
    assert_eq!(ranged.told(HIT).status, 200);
    assert!(echo.methods().iter().all(|method| method == "POST"));
}

#[tokio::test]
async fn qy_a_stale_answer_to_a_post_is_fetched_anew_and_not_validated() {
    // RFC 9110 13.1.2: a POST whose `If-None-Match` fails gets 412.
    let fields = &[("cache-control", "max-age=60, stale-while-revalidate=60"), ("etag", "\"a\"")];
    let (clock, hand) = Clock::manual();
    let echo = Echo::with(reading(), cache_builder().clock(clock).build(), fields);
    echo.post("", "read a").await;
    hand.advance(Duration::from_secs(61));
    let stale = echo.post("", "read a").await;
    stale.told("larder; hit; ttl=-1; detail=\"stale-while-revalidate\"").has_body("read a");
    settle().await;
    crate::support::stores::at_rest().await;
    echo.post("", "read a").await.told(HIT);
    hand.advance(Duration::from_secs(200));
    echo.post("", "read a").await.told("larder; fwd=stale; stored; ttl=60");
    assert_eq!(echo.methods(), ["POST"; 3], "in the background, and in front");
    // A QUERY may have conditions.
    echo.query("", "q").await;
    hand.advance(Duration::from_secs(200));
    echo.query("", "q").await;
    assert_eq!(echo.methods(), ["QUERY", "QUERY with conditions"]);
}

#[tokio::test]
async fn qy_requests_with_one_content_share_a_call() {
    let calls = Arc::new(AtomicUsize::new(0));
    let slow = async |State(calls): State<Arc<AtomicUsize>>, content: Bytes| {
        calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        ([("cache-control", "max-age=60")], content)
    };
    let app = Router::new().route("/", any(slow)).with_state(Arc::clone(&calls));
    let app = app.layer(cache_layer()).layer(reading());
    let ask = |content: &'static str| {
        let request = Request::post("http://example.com/").body(Body::from(content)).unwrap();
        let app = app.clone();
        tokio::spawn(async move { read(app.oneshot(request).await.unwrap()).await })
    };
    let asked: Vec<_> =
        (0..10).map(|number| ask(if number % 2 == 0 { "read a" } else { "read b" })).collect();
    for (number, answer) in asked.into_iter().enumerate() {
        let answer = answer.await.unwrap();
        assert_eq!(answer.body, if number % 2 == 0 { "read a" } else { "read b" });
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn qy_a_policy_sees_a_query_and_the_service_a_post() {
    let policy = Policies::new(StandardPolicy::default().query(["page"]))
        .method(Method::POST, larder::policy::Bypass::new("post"))
        .when(|request| request.headers.contains_key("x-bypass"), larder::policy::Bypass::new("mine"));
    let policy = policy.map_request(|request, action| match action {
        RequestAction::Cache(key) => {
            RequestAction::Cache(key.with("method", request.method.as_str().as_bytes()))
        }
        bypass => bypass,
    });
    let echo =
        Echo::with(reading(), cache_builder().policy(policy).build(), &[("cache-control", "max-age=60")]);
    echo.post("", "read a").await.told(STORED);
    echo.post("", "read a").await.told(HIT);
    echo.post("", "write").await.told("larder; fwd=bypass; detail=\"post\"");
    echo.post("", "read a").await.told(STORED);
    // A query that bypasses the cache changes nothing.
    echo.send(Method::POST, &[("x-bypass", "1")], "read a").await.told("larder; fwd=bypass; detail=\"mine\"");
    echo.post("", "read a").await.told(HIT);
    assert_eq!(echo.methods(), ["POST"; 4]);
}

#[tokio::test]
async fn qy_a_layer_that_stores_nothing_tags_the_answer_to_a_query() {
    for (cache, has_tag) in [(cache_builder().tag_only(), true), (cache_builder().enabled(false), false)] {
        let echo = Echo::with(reading(), cache.build(), &[]);
        let seen = echo.post("", "read a").await;
        assert_eq!((seen.body.as_str(), seen.field("etag").is_some()), ("read a", has_tag));
        echo.post("", "write").await.has_body("write");
        assert_eq!(echo.methods(), ["POST", "POST"]);
    }
}

#[tokio::test]
async fn qy_a_layer_within_itself_lets_a_post_pass() {
    let layer = cache_layer();
    let app = Router::new()
        .route("/", any(async |method: Method| ([("cache-control", "max-age=60")], method.to_string())));
    let app = app.layer(layer.clone()).layer(layer).layer(reading());
    for told in [STORED, HIT] {
        let request = Request::post("http://example.com/").body(Body::from("read")).unwrap();
        let seen = read(app.clone().oneshot(request).await.unwrap()).await;
        assert!(seen.cache_status().starts_with(told.split(';').next().unwrap()), "{seen:?}");
        seen.has_body("POST");
    }
}

#[tokio::test]
async fn qy_graphql_queries_are_stored_and_mutations_invalidate_them() {
    let echo = Echo::new(QueryLayer::new().graphql());
    let json = "application/json";
    let query = r#"{"query":"query Q($id:ID){ product(id:$id){ name } }","variables":{"id":"7"}}"#;
    echo.post(json, query).await.told(STORED);
    echo.post(json, query).await.told(HIT).has_body(query);
    let other = r#"{"query":"query Q($id:ID){ product(id:$id){ name } }","variables":{"id":"8"}}"#;
    echo.post(json, other).await.told(STORED);
    let batch = r#"[{"query":"{a}"},{"query":"{b}"}]"#;
    echo.post(json, batch).await.told(STORED);
    for mutation in [
        r#"{"query":"mutation { rename(id: 7) { name } }"}"#,
        r#"[{"query":"{a}"},{"query":"mut\u0061tion{b}"}]"#,
        r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"ab"}}}"#,
    ] {
        echo.post(json, query).await;
        echo.post(json, query).await.told(HIT);
        echo.post(json, mutation).await.told("larder; fwd=method");
        echo.post(json, query).await.told(STORED);
    }
    echo.post("text/plain", query).await.told("larder; fwd=method");
}

#[test]
fn a_document_that_is_deep_and_long_takes_time_in_proportion_to_its_length() {
    // In the square of it, this would take minutes.
    let half = 1 << 18;
    let document = format!("{}({}", "{".repeat(half), "1 ".repeat(half / 2));
    let request = Request::post("/graphql").header("content-type", "application/graphql").body(()).unwrap();
    assert!(!QueryLayer::is_graphql_query(&request.into_parts().0, &Bytes::from(document)));
}
