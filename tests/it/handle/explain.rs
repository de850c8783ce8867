//! What the handle says would happen to a request is what happens to it.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use larder::policy::{Bypass, KeyRules, Peers, Policies, QueryRules, TrustedPeer};
use larder::semantics::cache_status::Outcome;
use larder::{
    CachePolicy, CachePolicyExt, CallLimits, ExplainedCall, Explanation, KeyParts, ShownValue, StandardPolicy,
};
use proptest::prelude::*;

use crate::support::leasing::Fleet;
use crate::support::{Bench, Reply, Seen, Stage, Step, cache_builder, cases, settle};

pub fn request(method: Method, path: &str, fields: &[(&str, &str)]) -> Parts {
    let (mut parts, ()) = Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
    if !fields.iter().any(|(name, _)| *name == "host") {
        parts.headers.insert("host", HeaderValue::from_static("example.com"));
    }
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        parts.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    parts
}

/// What an explanation says that `Cache-Status` will have.
fn told(explanation: &Explanation) -> String {
    let outcome = explanation.outcome.as_ref().expect("the layer caches");
    outcome.render("larder", None).to_str().unwrap().to_owned()
}

/// Asks for an explanation, sends the request, and fails where the two differ.
async fn check(bench: &Bench, method: Method, path: &str, fields: &[(&str, &str)]) -> (Explanation, Seen) {
    let asked = request(method.clone(), path, fields);
    let before = bench.origin.calls();
    let explained = bench.handle.explain(&asked).await;
    settle().await;
    assert_eq!(bench.origin.calls(), before, "an explanation fetches nothing");
    let again = bench.handle.explain(&asked).await;
    assert_eq!(told(&again), told(&explained), "an explanation changes nothing");
    assert_eq!((again.call, &again.steps), (explained.call, &explained.steps));

    let seen = bench.send(method, path, fields).await;
    settle().await;
    let status = seen.cache_status().to_owned();
    let context = format!("{path} {fields:?} {status}\n{explained:#?}");
    let calls = bench.origin.calls() - before;
    match explained.outcome.as_ref().expect("the layer caches") {
        Outcome::Hit { .. } | Outcome::Unsatisfiable => {
            assert_eq!(status, told(&explained), "{context}");
            assert_eq!(Some(seen.status), explained.status, "{context}");
        }
        Outcome::Forwarded(forwarding) => {
            let member = format!("larder; fwd={}", forwarding.forward.as_str());
            assert!(status == member || status.starts_with(&format!("{member};")), "{context}");
            if let Some(detail) = &forwarding.detail {
                assert!(told(&explained).ends_with(&status[member.len()..]), "{detail:?} {context}");
            }
            assert_eq!(explained.status, None, "{context}");
        }
        other => panic!("{other:?}"),
    }
    match explained.call {
        ExplainedCall::None => assert_eq!(calls, 0, "{context}"),
        ExplainedCall::Background => assert_eq!(calls, 1, "{context}"),
        ExplainedCall::Foreground { is_conditional, .. } => {
            assert!(calls >= 1, "{context}");
            let own = ["if-none-match", "if-modified-since"];
            let asked = bench.origin.last();
            let by_client = fields.iter().any(|(name, _)| own.contains(name));
            if explained.key.is_some() && !by_client && calls == 1 {
                let sent = own.iter().any(|name| asked.headers.contains_key(*name));
                assert_eq!(sent, is_conditional, "{context}");
            }
        }
        other => panic!("{other:?}"),
    }
    (explained, seen)
}

fn says(explanation: &Explanation, name: &str, word: &str) -> bool {
    explanation.steps.iter().any(|step| step.name == name && step.finding.contains(word))
}

#[tokio::test]
async fn a_miss_and_a_hit_are_explained_as_they_happen() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("etag", "\"a\"")]);
    let (miss, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!(told(&miss), "larder; fwd=uri-miss");
    assert!(says(&miss, "store", "nothing is stored"), "{miss:?}");
    assert_eq!(miss.call, ExplainedCall::Foreground { is_conditional: false });
    let (hit, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!((told(&hit).as_str(), hit.call), ("larder; hit; ttl=60", ExplainedCall::None));
    assert!(says(&hit, "variant", "200, 0 s old, lifetime 60 s, fresh: it is for this request"), "{hit:?}");
    let (fits, _) = check(&bench, Method::GET, "/x", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(fits.status.unwrap(), 304);
    let (range, _) = check(&bench, Method::GET, "/x", &[("range", "bytes=0-0")]).await;
    assert_eq!(range.status.unwrap(), 206);
    check(&bench, Method::HEAD, "/x", &[]).await;
    bench.later(61);
    let (stale, seen) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!(stale.call, ExplainedCall::Foreground { is_conditional: true });
    assert!(says(&stale, "decision", "stale"), "{stale:?} {seen:?}");
    let (refused, _) = check(&bench, Method::GET, "/y", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((refused.status.unwrap().as_u16(), refused.call), (504, ExplainedCall::None));
}

#[tokio::test]
async fn a_bypass_says_its_reason_and_an_unsafe_method_what_it_invalidates() {
    let policy = Policies::new(StandardPolicy::default()).path("/admin/*", Bypass::new("admin"));
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    let (bypass, _) = check(&bench, Method::GET, "/admin/x", &[]).await;
    assert!(says(&bypass, "policy", "bypasses the cache: admin"), "{bypass:?}");
    check(&bench, Method::GET, "/x", &[]).await;
    let (post, _) = check(&bench, Method::POST, "/x", &[]).await;
    assert!(says(&post, "answer", "http://example.com/x"), "{post:?}");
    check(&bench, Method::DELETE, "/admin/x", &[]).await;
    check(&bench, Method::OPTIONS, "/x", &[]).await;
    check(&bench, Method::GET, "/x", &[("connection", "upgrade"), ("upgrade", "websocket")]).await;
    check(&bench, Method::GET, "/x", &[]).await;
}

#[tokio::test]
async fn a_stale_answer_and_its_background_validation_are_foreseen() {
    let bench = Bench::new([Reply::cc("x", "max-age=10, stale-while-revalidate=60, stale-if-error=600")]);
    check(&bench, Method::GET, "/x", &[]).await;
    bench.later(20);
    let (stale, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!(stale.call, ExplainedCall::Background);
    assert_eq!(told(&stale), "larder; hit; ttl=-10; detail=\"stale-while-revalidate\"");
    bench.later(100);
    let (stands_in, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert!(says(&stands_in, "decision", "stale-if-error"), "{stands_in:?}");
}

#[tokio::test]
async fn a_validation_that_rests_after_a_failure_or_is_under_way_is_not_foreseen_once_more() {
    let lifetime = "max-age=10, stale-while-revalidate=600";
    let bench = Bench::new([Reply::cc("x", lifetime)]);
    check(&bench, Method::GET, "/x", &[]).await;
    bench.later(20);
    bench.origin.then(Reply::new("").status(500));
    let (due, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!(due.call, ExplainedCall::Background);
    let (rests, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!(rests.call, ExplainedCall::None);
    assert!(says(&rests, "call", "has just failed, and is left alone for a while"), "{rests:?}");
    bench.later(61);
    let (due, _) = check(&bench, Method::GET, "/x", &[]).await;
    assert_eq!(due.call, ExplainedCall::Background);

    let stage = Stage::new();
    let head = [("cache-control", lifetime)];
    stage.fill("/", &[Step::head(200, &head), Step::frame("x"), Step::End]).await;
    stage.later(20);
    let stale = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    let explained = stage.handle.explain(&request(Method::GET, "/", &[])).await;
    assert_eq!(explained.call, ExplainedCall::None);
    assert!(says(&explained, "call", "a validation in the background is under way already"), "{explained:?}");
    assert!(stale.seen().await.is_hit());
    stage.origin.call(1).step(Step::head(200, &head)).frame("y").end();
}

#[tokio::test]
async fn a_request_that_would_wait_for_the_call_of_another_one_makes_none() {
    let stage = Stage::new();
    let first = stage.get("/");
    settle().await;
    let asked = request(Method::GET, "/", &[]);
    let explained = stage.handle.explain(&asked).await;
    assert_eq!(explained.call, ExplainedCall::Shared);
    assert!(says(&explained, "call", "it waits for that answer"), "{explained:?}");
    assert_eq!(told(&explained), "larder; fwd=uri-miss");
    let second = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    // A purge of something else changes nothing, and whoever comes after one of it asks for himself.
    let purge = async |path: &str| {
        let uri = format!("http://example.com{path}").parse().unwrap();
        stage.handle.purge(&uri).await.unwrap();
        stage.handle.explain(&asked).await
    };
    assert_eq!(purge("/other").await.call, ExplainedCall::Shared);
    let outdated = purge("/").await;
    assert_eq!(outdated.call, ExplainedCall::Foreground { is_conditional: false });
    assert!(says(&outdated, "call", "was made before a purge"), "{outdated:?}");
    let third = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    for call in 0..2 {
        stage.origin.call(call).head(&[("cache-control", "max-age=60")]).frame("x").end();
    }
    for client in [first, second, third] {
        client.seen().await;
    }
}

#[tokio::test]
async fn where_nodes_share_their_calls_it_is_said_that_another_one_may_make_this_one() {
    let fleet = Fleet::of(2);
    let first = fleet.nodes[0].get("/");
    settle().await;
    let asked = fleet.desk.asked();
    let asks = async |method: Method, fields: &[(&str, &str)]| {
        fleet.nodes[1].handle.explain(&request(method, "/", fields)).await
    };
    let shares = |explained: &Explanation| {
        let is_unknown = explained.unknown.iter().any(|what| what.contains("has the lease of this call"));
        assert_eq!(says(explained, "call", "nodes share their calls by leases"), is_unknown);
        is_unknown
    };
    let explained = asks(Method::GET, &[]).await;
    assert_eq!(explained.call, ExplainedCall::Shared, "it looks up who has the lease");
    assert!(says(&explained, "lease", "another node has the lease") && !shares(&explained), "{explained:?}");
    assert_eq!(fleet.desk.asked(), asked, "an explanation asks for no lease");
    // Whose answer is for nobody else asks for none.
    assert!(!shares(&asks(Method::DELETE, &[]).await));
    let stale_while_revalidate = ("cache-control", "max-age=60, stale-while-revalidate=60");
    fleet.origin.call(0).head(&[stale_while_revalidate]).frame("x").end();
    first.seen().await;
    assert!(!shares(&asks(Method::GET, &[]).await), "a hit needs no call");
    fleet.later(61);
    let explained = asks(Method::GET, &[]).await;
    assert_eq!(explained.call, ExplainedCall::Background);
    assert!(shares(&explained), "{explained:?}");
}

#[tokio::test(start_paused = true)]
async fn where_as_many_calls_are_under_way_as_may_be_the_explanation_says_what_comes_of_it() {
    let limits = CallLimits::new().total(1).wait(Duration::from_secs(3));
    let stage = Stage::with(cache_builder().call_limits(limits));
    for (path, control) in
        [("/in", "max-age=10, stale-if-error=600"), ("/swr", "max-age=10, stale-while-revalidate=600")]
    {
        stage
            .fill(path, &[Step::head(200, &[("cache-control", control)]), Step::frame("x"), Step::End])
            .await;
    }
    stage.later(20);
    let free = stage.handle.explain(&request(Method::GET, "/cold", &[])).await;
    assert!(!says(&free, "call", "as many calls"), "{free:?}");
    let busy = stage.get("/busy");
    settle().await;
    let calls = stage.origin.calls();
    for (method, path) in [(Method::GET, "/cold"), (Method::POST, "/cold"), (Method::OPTIONS, "/cold")] {
        let explained = stage.handle.explain(&request(method.clone(), path, &[])).await;
        assert!(matches!(explained.call, ExplainedCall::Foreground { .. }), "{method} {explained:?}");
        assert!(says(&explained, "call", "it waits up to 3 s"), "{method} {explained:?}");
        assert!(explained.unknown.iter().any(|line| line.contains("a call ends in time")), "{explained:?}");
        assert_eq!(stage.send(method, path, &[]).seen().await.status, 503);
    }
    for (path, expected) in [
        ("/in", "larder; fwd=stale; ttl=-10; detail=\"call-limit\""),
        ("/swr", "larder; hit; ttl=-10; detail=\"stale-while-revalidate\""),
    ] {
        let explained = stage.handle.explain(&request(Method::GET, path, &[])).await;
        assert_eq!(
            (explained.call, explained.status.unwrap().as_u16()),
            (ExplainedCall::None, 200),
            "{path}"
        );
        assert!(says(&explained, "call", "as many calls"), "{explained:?}");
        let seen = stage.get(path).seen().await;
        assert_eq!(seen.cache_status(), told(&explained));
        assert_eq!(seen.cache_status(), expected);
    }
    settle().await;
    assert_eq!(stage.origin.calls(), calls);
    stage.origin.call(calls - 1).head(&[("cache-control", "no-store")]).end();
    busy.seen().await;
}

#[tokio::test]
async fn what_a_layer_in_front_would_add_to_the_key_is_said_to_be_unknown() {
    #[derive(Clone)]
    struct User(&'static str);
    let rules = KeyRules::new().identity("user", |extensions| Some(extensions.get::<User>()?.0));
    let builder = cache_builder().policy(StandardPolicy::default().key(rules));
    let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
    let mut asked = request(Method::GET, "/x", &[]);
    let explained = bench.handle.explain(&asked).await;
    assert!(explained.unknown.iter().any(|line| line.contains("identity \"user\"")), "{explained:?}");
    assert!(explained.unknown.iter().any(|line| line.contains("layers in front")), "{explained:?}");
    asked.extensions.insert(User("alice"));
    asked.extensions.insert(KeyParts::new().with("experiment", "b"));
    let explained = bench.handle.explain(&asked).await;
    assert!(!explained.unknown.iter().any(|line| line.contains("user")), "{explained:?}");
    let values: Vec<_> = explained.parts.iter().map(|part| (&*part.name, part.value.clone())).collect();
    let experiment = ShownValue::Text("b".to_owned());
    assert_eq!(values, [("user", ShownValue::Hidden), ("experiment", experiment)]);
    let query = bench.handle.explain(&request(Method::from_bytes(b"QUERY").unwrap(), "/x", &[])).await;
    assert!(query.unknown.iter().any(|line| line.contains("QueryLayer")), "{query:?}");
}

#[tokio::test]
async fn a_layer_that_is_off_or_stores_nothing_says_so() {
    for builder in [cache_builder().enabled(false), cache_builder().tag_only()] {
        let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
        let explained = bench.handle.explain(&request(Method::GET, "/x", &[])).await;
        assert!(explained.outcome.is_none() && explained.steps.len() == 1, "{explained:?}");
    }
}

/// What the origin sends, and what clients ask for, in one number each: indices into these.
const REPLIES: [&[(&str, &str)]; 12] = [
    &[("cache-control", "max-age=30")],
    &[("cache-control", "max-age=30"), ("etag", "\"a\"")],
    &[("cache-control", "max-age=10, stale-while-revalidate=20")],
    &[("cache-control", "max-age=10, stale-if-error=100"), ("etag", "\"b\"")],
    &[("cache-control", "no-cache"), ("etag", "\"c\"")],
    &[("cache-control", "no-store")],
    &[("cache-control", "private, max-age=30")],
    &[("cache-control", "max-age=30"), ("vary", "accept-language")],
    &[("cache-control", "max-age=30"), ("vary", "*")],
    &[("cache-control", "public, max-age=30, must-revalidate"), ("set-cookie", "a=b")],
    &[("cache-control", "max-age=30"), ("no-vary-search", "params=(\"utm\")")],
    &[("cache-control", "max-age=0"), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
];
const FIELDS: [&[(&str, &str)]; 14] = [
    &[],
    &[],
    &[("accept-language", "de")],
    &[("accept-language", "en")],
    &[("cache-control", "no-cache")],
    &[("cache-control", "max-age=5")],
    &[("cache-control", "only-if-cached")],
    &[("cache-control", "max-stale=20")],
    &[("cache-control", "no-store")],
    &[("cookie", "id=1")],
    &[("authorization", "Basic x")],
    &[("range", "bytes=0-0")],
    &[("if-none-match", "\"a\"")],
    &[("upgrade", "websocket"), ("connection", "upgrade")],
];
const PATHS: [&str; 4] = ["/a", "/b?utm=1&x=2", "/b?utm=2&x=2", "/admin"];
const METHODS: [&str; 6] = ["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"];

fn policies(index: usize) -> Box<dyn CachePolicy> {
    let standard = StandardPolicy::default();
    match index {
        0 => Box::new(standard),
        1 => Box::new(StandardPolicy::rfc9111().client_directives(true)),
        2 => Box::new(Policies::new(standard).path("/admin", Bypass::new("admin"))),
        3 => Box::new(standard.key(KeyRules::new().query(QueryRules::all().sorted()).cookies(["id"]))),
        4 => Box::new(standard.refresh_ahead(Some(Duration::from_secs(5)))),
        _ => Box::new(standard.partial(true).head_as_get(true)),
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn an_explanation_agrees_with_what_then_happens(
        policy in 0usize..6,
        steps in prop::collection::vec(
            (0usize..12, 0usize..14, 0usize..4, 0usize..6, prop_oneof![3 => Just(0u64), 2 => 1u64..40], 0u8..12),
            1..25,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let explained = Bench::with(cache_builder().policy(policies(policy)), [Reply::new("x")]);
            let control = Bench::with(cache_builder().policy(policies(policy)), [Reply::new("x")]);
            for (reply, fields, path, method, later, purge) in steps {
                for bench in [&explained, &control] {
                    let reply = REPLIES[reply].iter().fold(Reply::new("content"), |reply, (name, value)| {
                        reply.field(name, value)
                    });
                    bench.origin.then(reply);
                    bench.origin.not_modified((purge % 2 == 0).then(|| Reply::new("").status(304)));
                    bench.later(later);
                    let uri = format!("http://example.com{}", PATHS[path]).parse().unwrap();
                    match purge {
                        0 => drop(bench.handle.purge(&uri).await.unwrap()),
                        1 => drop(bench.handle.soft_purge(&uri).await.unwrap()),
                        _ => {}
                    }
                }
                let (method, path, fields) = (METHODS[method].parse().unwrap(), PATHS[path], FIELDS[fields]);
                let (_, seen) = check(&explained, Method::clone(&method), path, fields).await;
                // To have been explained makes no difference.
                let plain = control.send(method, path, fields).await;
                settle().await;
                assert_eq!(seen.cache_status(), plain.cache_status());
                assert_eq!(explained.origin.calls(), control.origin.calls());
            }
        });
    }
}

proptest! {
    #![proptest_config(cases(100))]
    #[test]
    fn an_explanation_agrees_with_what_happens_where_the_origin_fails_and_the_cache_rests(
        steps in prop::collection::vec(
            (any::<bool>(), 0usize..5, 0usize..2, prop_oneof![4 => Just(0u64), 2 => 1u64..4, 1 => 4u64..40]),
            1..25,
        ),
    ) {
        const REPLIES: [&str; 5] = [
            "max-age=10, stale-while-revalidate=40",
            "max-age=0, stale-while-revalidate=40",
            "max-age=5, stale-if-error=100",
            "max-age=5, stale-while-revalidate=10, stale-if-error=100",
            "max-age=30",
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let policy = StandardPolicy::default().refresh_ahead(Some(Duration::from_secs(5)));
            let bench = Bench::with(cache_builder().policy(policy), [Reply::new("x")]);
            for (fails, reply, path, later) in steps {
                let reply = Reply::cc("content", REPLIES[reply]).field("etag", "\"a\"");
                bench.origin.then(if fails { Reply::new("").status(500) } else { reply });
                bench.origin.not_modified(fails.then(|| Reply::new("").status(500)));
                bench.later(later);
                // Once more, without time between.
                for _ in 0..2 {
                    check(&bench, Method::GET, PATHS[path], &[]).await;
                }
            }
        });
    }
}

#[tokio::test]
async fn fa9_what_another_cache_would_get_is_explained_beside_what_a_client_would() {
    let peer = HeaderName::from_static("x-peer");
    let policy = StandardPolicy::default().with_peers(Peers::new().token(peer, "secret"));
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/x", &[("x-peer", "secret")]).await;
    let explained = check(&bench, Method::GET, "/y", &[("x-peer", "forged")]).await.0;
    assert_eq!(told(explained.as_peer.as_ref().expect("kept apart")), "larder; fwd=uri-miss");

    let asked = request(Method::GET, "/x", &[]);
    let explained = bench.handle.explain(&asked).await;
    let of_peer = explained.as_peer.as_ref().expect("kept apart");
    assert_eq!(
        (told(&explained), told(of_peer)),
        ("larder; fwd=uri-miss".into(), "larder; hit; ttl=60".into())
    );
    let said = explained.steps.last().unwrap();
    assert_eq!(said.name, "peers");
    assert!(said.finding.ends_with("would be larder; hit; ttl=60"), "{said}");
    // Nothing is known of the layers in front of the cache, whoever asks.
    assert_eq!(explained.unknown[0], of_peer.unknown[0]);

    let mut marked = asked.clone();
    marked.extensions.insert(TrustedPeer::new());
    let explained = bench.handle.explain(&marked).await;
    assert_eq!((told(&explained).as_str(), explained.as_peer.is_none()), ("larder; hit; ttl=60", true));
    // Who knows the secret is a peer anyway.
    let known = request(Method::GET, "/x", &[("x-peer", "secret")]);
    let explained = bench.handle.explain(&known).await;
    assert_eq!((told(&explained).as_str(), explained.as_peer.is_none()), ("larder; hit; ttl=60", true));
}

#[tokio::test]
async fn what_depends_on_content_is_said_to_be_unknown() {
    let unknown = async |bench: &Bench, method: Method, fields: &[(&str, &str)]| {
        bench.handle.explain(&request(method, "/x", fields)).await.unknown.join("; ")
    };
    let says = |unknown: &str, word: &str| unknown.contains(word);
    let caching = Bench::new([Reply::cc("x", "max-age=60")]);
    assert!(says(&unknown(&caching, Method::POST, &[]).await, "by which a QueryLayer may take a POST"));
    assert!(says(&unknown(&caching, Method::QUERY, &[]).await, "the content, which a QueryLayer"));
    assert!(!says(&unknown(&caching, Method::PUT, &[]).await, "QueryLayer"));
    // A layer that stores nothing knows nothing of an answer's tag before it has the answer.
    let tagging = Bench::with(cache_builder().tag_only(), [Reply::cc("x", "max-age=60")]);
    let plain = unknown(&tagging, Method::GET, &[]).await;
    assert!(says(&plain, "whether the answer gets an entity tag") && !says(&plain, "condition"), "{plain}");
    assert!(says(&unknown(&tagging, Method::GET, &[("if-none-match", "\"a\"")]).await, "304 or 412"));
    assert!(!says(&unknown(&tagging, Method::POST, &[]).await, "tag"), "only what is read has one");
    assert_eq!(tagging.origin.calls(), 0);
}
