//! Policies composed of others, and keys that do not have the request's URI: what they reach, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header, request};
use http_body_util::Empty;
use larder::store::PurgeTarget;
use larder::{
    CachePolicy, CachePolicyExt, Delivery, ForwardReason, KeyParts, PolicyData, PolicyExchange,
    RequestAction, StandardPolicy, Terms, VaryRule,
};
use tower::Service;

use crate::support::bench::{Seen, read};
use crate::support::{Bench, Reply, cache_builder, settle};

const FRESH: &str = "max-age=60";

/// Keys without the query; and what is not a GET bypasses the cache where `bypasses`.
fn without_query(bypasses: bool) -> impl CachePolicy {
    StandardPolicy::default().map_request(move |request, action| match action {
        _ if bypasses && request.method != Method::GET => RequestAction::bypass("mine"),
        RequestAction::Cache(key) => RequestAction::Cache(key.with_query(None).unwrap()),
        action => action,
    })
}

async fn ask(bench: &Bench, method: Method, path: &str, parts: Option<KeyParts>) -> Seen {
    let mut request = Request::builder().method(method).uri(format!("http://example.com{path}"));
    if let Some(parts) = parts {
        request = request.extension(parts);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    read(bench.cache.clone().call(request).await.unwrap()).await
}

#[tokio::test]
async fn an_unsafe_request_invalidates_what_the_policy_stores_for_its_uri() {
    for bypasses in [false, true] {
        let group = Reply::cc("x", FRESH).field("cache-groups", "\"news\"");
        let bench = Bench::with(cache_builder().policy(without_query(bypasses)), [group]);
        bench.get("/x?1").await;
        assert!(bench.get("/x?2").await.is_hit(), "the query is not in the key");
        bench.send(Method::POST, "/x?1", &[]).await;
        assert!(!bench.get("/x?2").await.is_hit(), "{bypasses}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsafe_request_invalidates_by_the_policy_of_the_moment_of_its_answer() {
    let late = Reply::cc("x", FRESH).after(Duration::from_secs(1));
    let bench = Bench::with(cache_builder(), [late, Reply::cc("x", FRESH)]);
    let request = Request::post("http://example.com/x?1").body(Empty::<Bytes>::new()).unwrap();
    let mut cache = bench.cache.clone();
    let post = tokio::spawn(async move { read(cache.call(request).await.unwrap()).await });
    settle().await;
    bench.handle.set_policy(without_query(false));
    bench.get("/x?1").await;
    assert!(bench.get("/x?1").await.is_hit());
    post.await.unwrap();
    assert!(!bench.get("/x?1").await.is_hit());
}

#[tokio::test]
async fn an_unsafe_request_invalidates_groups_of_the_origin_in_the_keys() {
    // Two hosts have one content.
    let policy = StandardPolicy::default().map_request(|request, action| match action {
        _ if request.method == Method::POST => RequestAction::bypass("mine"),
        RequestAction::Cache(key) => {
            let uri =
                String::from_utf8(key.uri().into()).unwrap().replace("//example.com/", "//www.example.com/");
            RequestAction::Cache(larder::CacheKey::from_uri(&uri.parse().unwrap()).unwrap())
        }
        action => action,
    });
    let page = || Reply::cc("x", FRESH).field("cache-groups", "\"news\"");
    let done = Reply::new("").field("cache-group-invalidation", "\"news\"");
    let bench = Bench::with(cache_builder().policy(policy), [page(), done, page()]);
    bench.get("/page").await;
    assert!(bench.get("/page").await.is_hit());
    bench.send(Method::POST, "/other", &[]).await;
    assert!(!bench.get("/page").await.is_hit());
}

#[tokio::test]
async fn a_purge_of_a_target_reaches_what_the_policy_stores_for_its_uri() {
    let bench = Bench::with(cache_builder().policy(without_query(false)), [Reply::cc("x", FRESH)]);
    bench.get("/x?1").await;
    bench.handle.purge_target(&PurgeTarget::uri("http://example.com/x?1")).await.unwrap();
    assert!(!bench.get("/x?1").await.is_hit());
    let both = [PurgeTarget::tag("none"), PurgeTarget::uri("http://EXAMPLE.com:80/x?2")];
    bench.handle.soft_purge_targets(&both).await.unwrap();
    assert!(!bench.get("/x?1").await.is_hit());
}

#[tokio::test]
async fn the_answer_to_a_post_is_stored_for_the_key_parts_of_its_request() {
    let answer = Reply::cc("tenant 1 only", FRESH).field("content-location", "/report");
    let bench =
        Bench::with(cache_builder().policy(StandardPolicy::rfc9111()), [answer, Reply::cc("public", FRESH)]);
    let tenant = || Some(KeyParts::new().with("tenant", "1"));
    ask(&bench, Method::POST, "/report", tenant()).await.has_body("tenant 1 only");
    assert!(!ask(&bench, Method::GET, "/report", None).await.has_body("public").is_hit());
    assert!(ask(&bench, Method::GET, "/report", tenant()).await.has_body("tenant 1 only").is_hit());
}

#[tokio::test]
async fn an_identity_of_a_layer_in_front_keeps_private_pages_apart() {
    let replies = [Reply::cc("one's", "private, max-age=60"), Reply::cc("two's", "private, max-age=60")];
    let policy = StandardPolicy::default().private_by_key(true);
    let bench = Bench::with(cache_builder().policy(policy), replies);
    let user = |id: &'static str| Some(KeyParts::new().identity("user", id));
    for _ in 0..2 {
        // By a client certificate, for example: the request has no credential among its fields.
        ask(&bench, Method::GET, "/me", user("1")).await.has_body("one's");
        ask(&bench, Method::GET, "/me", user("2")).await.has_body("two's");
    }
    assert_eq!(bench.origin.calls(), 2);
    ask(&bench, Method::GET, "/me", None).await.told("larder; fwd=uri-miss; detail=\"private\"");
}

#[tokio::test]
async fn a_rule_about_vary_gives_nobody_a_coding_that_it_does_not_accept() {
    let gzip =
        || Reply::cc("zipped", FRESH).field("vary", "accept-language").field("content-encoding", "gzip");
    for rule in [VaryRule::AsSent, VaryRule::Ignore, VaryRule::Only(vec![header::ACCEPT_LANGUAGE])] {
        let policy = StandardPolicy::default().map_terms({
            let rule = rule.clone();
            move |_, terms| terms.vary = rule.clone()
        });
        let bench = Bench::with(cache_builder().policy(policy), [gzip(), Reply::cc("plain", FRESH)]);
        bench.get_with("/", &[("accept-encoding", "gzip")]).await.has_body("zipped");
        bench.get("/").await.has_body("plain").told("larder; fwd=vary-miss; stored; ttl=60");
        assert!(bench.get_with("/", &[("accept-encoding", "gzip")]).await.is_hit(), "{rule:?}");
    }
}

#[tokio::test]
async fn a_policy_gets_its_requests_edited_and_keeps_its_switches() {
    struct Tenant(HeaderValue);
    let policy = StandardPolicy::default()
        .private_by_key(true)
        .key_field(header::AUTHORIZATION)
        .before_request(|request, data| {
            if let Some(tenant) = request.headers.remove("x-tenant") {
                data.insert(Arc::new(Tenant(tenant)));
            }
        })
        .on_forward(|request, reason| {
            if let Some(tenant) = reason.data::<Arc<Tenant>>() {
                request.headers.insert("x-seen-by", tenant.0.clone());
            }
        });
    // What a pointer to a policy does is what the policy does.
    let policy: Box<dyn CachePolicy> = Box::new(policy);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "private, max-age=60")]);
    let fields = [("authorization", "a"), ("x-tenant", "t")];
    bench.get_with("/", &fields).await;
    assert!(bench.get_with("/", &[("authorization", "a"), ("x-tenant", "other")]).await.is_hit());
    let seen = bench.origin.last().headers;
    assert!(!seen.contains_key("x-tenant"));
    assert_eq!(seen["x-seen-by"], "t");
}

/// Removes the field by which requests are left to it, stores nothing, and marks what it delivers.
struct Other;

impl CachePolicy for Other {
    fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
        request.headers.remove("x-tenant");
        RequestAction::of(request)
    }

    fn response(&self, _: &PolicyExchange<'_>, terms: &mut Terms) {
        terms.refuse("mine");
    }

    fn forward(&self, request: &mut request::Parts, _: &ForwardReason<'_>) {
        request.headers.insert("x-other", HeaderValue::from_static("1"));
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        delivery.headers.insert("x-by", HeaderValue::from_static("other"));
    }
}

#[tokio::test]
async fn a_request_is_left_to_another_policy_as_a_whole() {
    let policy = StandardPolicy::default().when(|request| request.headers.contains_key("x-tenant"), Other);
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", FRESH)]);
    for _ in 0..2 {
        let seen = bench.get_with("/", &[("x-tenant", "1")]).await;
        assert_eq!(seen.field("x-by"), Some("other"));
        seen.told("larder; fwd=uri-miss; detail=\"mine\"");
        assert!(bench.origin.last().headers.contains_key("x-other"));
    }
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
}
