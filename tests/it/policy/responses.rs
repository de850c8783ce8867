//! Responses that a policy edits before they are judged.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use larder::policy::{Policies, ResponseRules, TagField};
use larder::store::PurgeTarget;
use larder::{
    CacheControl, CacheKey, CachePolicy, CachePolicyExt, HeadParts, MemoryStore, StandardPolicy, Store, Terms,
};

use crate::reported::validation::until_calls;
use crate::support::stores::{at_rest, cache_builder_over};
use crate::support::{Bench, Reply, Stage, cache_builder, settle};

fn rules() -> ResponseRules {
    ResponseRules::new()
}

fn with(rules: ResponseRules) -> impl CachePolicy {
    StandardPolicy::default().response_rules(rules)
}

fn bench(rules: ResponseRules, reply: Reply) -> Bench {
    Bench::with(cache_builder().policy(with(rules)), [reply])
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is stored for a path of a bench over this store.
fn stored(store: &MemoryStore, path: &str) -> HeadParts {
    let uri = format!("http://example.com{path}").parse().unwrap();
    let found = store.try_get(&CacheKey::from_uri(&uri).unwrap()).expect("it answers at once");
    found.variants.first().expect("it is stored").response.head().to_parts()
}

#[tokio::test]
async fn kx2_cache_control_is_edited_before_it_is_judged_and_everybody_gets_it_so() {
    let public = rules()
        .remove_directives(["private", "no-store"])
        .set_directives(CacheControl::new().public().max_age(seconds(60)));
    let reply = Reply::cc("x", "private, no-store, no-transform").field("etag", "\"a\"");
    let bench = bench(public, reply);
    for told in ["fwd=uri-miss; stored", "hit"] {
        let seen = bench.get_with("/", &[("cookie", "a=b")]).await;
        assert_eq!(seen.field("cache-control"), Some("no-transform, public, max-age=60"));
        seen.told(&format!("larder; {told}; ttl=60"));
    }
    // A 304 without the field leaves the origin's, and one with it is edited, too.
    for control in [None, Some("private, max-age=5"), None] {
        bench.later(61);
        let not_modified = Reply::new("").status(304);
        bench.origin.not_modified(Some(match control {
            None => not_modified,
            Some(control) => not_modified.field("cache-control", control),
        }));
        let seen = bench.get("/").await;
        assert!(seen.field("cache-control").unwrap().ends_with("public, max-age=60"), "{seen:?}");
        seen.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    }
    // Without the rules, the origin's own word counts again: the latest one.
    bench.handle.set_policy(StandardPolicy::default());
    bench.later(61);
    bench.origin.not_modified(Some(Reply::new("").status(304)));
    let seen = bench.get("/").await.told("larder; fwd=stale; fwd-status=304; ttl=5; detail=\"private\"");
    assert_eq!(seen.field("cache-control"), Some("private, max-age=5"));
}

#[tokio::test]
async fn kx2_what_is_for_this_cache_only_no_client_sees() {
    let here = || rules().cache_control(CacheControl::new().max_age(seconds(60))).for_this_cache_only();
    let bench = bench(here(), Reply::cc("x", "no-store, private"));
    for told in ["fwd=uri-miss; stored", "hit"] {
        let seen = bench.get("/").await;
        assert_eq!(seen.field("cache-control"), Some("no-store, private"));
        seen.told(&format!("larder; {told}; ttl=60"));
    }
    // Also where the field is taken away, or there was none; and what comes after that is for everybody.
    for (rules, reply, control) in [
        (
            rules().remove_directives(["max-age"]).for_this_cache_only(),
            Reply::cc("x", "max-age=5"),
            Some("max-age=5"),
        ),
        (here(), Reply::new("x"), None),
        (
            here().set_directives(CacheControl::new().max_age(seconds(60))),
            Reply::new("x"),
            Some("max-age=60"),
        ),
        (
            here().set_directives(CacheControl::new().public()),
            Reply::cc("x", "no-store"),
            Some("max-age=60, public"),
        ),
    ] {
        let bench = self::bench(rules, reply);
        for _ in 0..2 {
            assert_eq!(bench.get("/").await.field("cache-control"), control);
        }
    }
}

#[tokio::test]
async fn kx2_a_set_cookie_that_is_stripped_reaches_nobody_and_is_never_stored() {
    let store = MemoryStore::default();
    let reply = Reply::cc("x", "max-age=60").field("set-cookie", "a=b").field("etag", "\"a\"");
    let layer = cache_builder_over(store.clone()).policy(with(rules().strip_set_cookie()));
    let bench = Bench::with(layer, [reply]);
    for told in ["fwd=uri-miss; stored", "hit"] {
        let seen = bench.get("/").await.told(&format!("larder; {told}; ttl=60"));
        assert_eq!(seen.field("set-cookie"), None);
    }
    let check_stored = || {
        let HeadParts { headers, stripped, .. } = stored(&store, "/");
        assert!(!headers.contains_key("set-cookie") && !stripped.contains_key("set-cookie"));
    };
    check_stored();
    bench.later(61);
    bench.origin.not_modified(Some(Reply::new("").status(304).field("set-cookie", "c=d")));
    let seen = bench.get("/").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!(seen.field("set-cookie"), None);
    check_stored();
    // Where nothing is stored, and where there is nothing to store in; but not where the cache has no say.
    bench.origin.not_modified(None);
    bench.origin.then(Reply::cc("x", "no-store").field("set-cookie", "a=b"));
    assert_eq!(bench.get("/other").await.field("set-cookie"), None);
    let tag_only = cache_builder().tag_only().policy(with(rules().strip_set_cookie()));
    let tag_only = Bench::with(tag_only, [Reply::new("x").field("set-cookie", "a=b")]);
    assert_eq!(tag_only.get("/").await.field("set-cookie"), None);
    assert_eq!(bench.send(Method::POST, "/", &[]).await.field("set-cookie"), Some("a=b"));
    // `private="set-cookie"` of the origin changes nothing.
    let named = Reply::cc("x", "max-age=60, private=\"set-cookie\"").field("set-cookie", "a=b");
    assert_eq!(self::bench(rules().strip_set_cookie(), named).get("/").await.field("set-cookie"), None);
}

#[tokio::test]
async fn kx2_a_set_cookie_for_the_first_client_is_for_nobody_else() {
    let store = MemoryStore::default();
    let first = || with(rules().set_cookie_for_first_client());
    let reply = || Reply::cc("x", "max-age=60").field("set-cookie", "a=b").field("etag", "\"a\"");
    let bench = Bench::with(cache_builder_over(store.clone()).policy(first()), [reply()]);
    let seen = bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
    assert_eq!(seen.field("set-cookie"), Some("a=b"));
    assert_eq!(bench.get("/").await.told("larder; hit; ttl=60").field("set-cookie"), None);
    let HeadParts { headers, stripped, .. } = stored(&store, "/");
    assert!(!headers.contains_key("set-cookie") && !stripped.contains_key("set-cookie"));
    // Whose request has brought the 304 gets its cookie.
    bench.later(61);
    bench.origin.not_modified(Some(Reply::new("").status(304).field("set-cookie", "c=d")));
    assert_eq!(bench.get("/").await.field("set-cookie"), Some("c=d"));
    assert_eq!(bench.get("/").await.field("set-cookie"), None);
    // A HEAD, a condition and a stream, each the first.
    bench.origin.not_modified(None);
    assert_eq!(bench.send(Method::HEAD, "/head", &[]).await.field("set-cookie"), Some("a=b"));
    let conditional = bench.get_with("/conditional", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((conditional.status.as_u16(), conditional.field("set-cookie")), (304, Some("a=b")));
    for path in ["/head", "/conditional"] {
        assert_eq!(bench.get(path).await.told("larder; hit; ttl=60").field("set-cookie"), None);
    }

    let stage = Stage::with(cache_builder().policy(first()));
    let clients = [stage.get("/"), stage.get("/")];
    settle().await;
    let fields = [("cache-control", "max-age=60"), ("set-cookie", "a=b")];
    stage.origin.call(0).head(&fields).frame("x");
    settle().await;
    let late = stage.get("/");
    settle().await;
    stage.origin.call(0).frame("y").end();
    let mut cookies = Vec::new();
    for client in clients.into_iter().chain([late]) {
        cookies.push(client.seen().await.field("set-cookie").map(str::to_owned));
    }
    // One of the two whose requests came together leads; over a store that takes its time, it may be either.
    assert_eq!(cookies.pop(), Some(None), "who came late");
    assert_eq!(cookies.iter().flatten().collect::<Vec<_>>(), ["a=b"]);
    assert_eq!(stage.origin.calls(), 1);
}

#[tokio::test]
async fn kx2_members_of_vary_are_stripped_for_everybody() {
    let rules = rules().strip_vary([header::USER_AGENT]);
    let bench =
        bench(rules, Reply::cc("x", "max-age=60").field("vary", "user-agent, accept").field("etag", "\"a\""));
    let ask = async |agent, accept| bench.get_with("/", &[("user-agent", agent), ("accept", accept)]).await;
    assert_eq!(ask("1", "a").await.field("vary"), Some("accept"));
    assert_eq!(ask("2", "a").await.told("larder; hit; ttl=60").field("vary"), Some("accept"));
    assert!(!ask("1", "b").await.is_hit());
    bench.later(61);
    bench.origin.not_modified(Some(Reply::new("").status(304)));
    ask("3", "a").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert!(ask("4", "a").await.is_hit());
}

#[tokio::test]
async fn kx2_tags_are_derived_from_fields_paths_and_types_and_purged_by_a_handle() {
    let rules = rules()
        .tags_from(HeaderName::from_static("cache-tag"))
        .tags_from(TagField::spaced(HeaderName::from_static("surrogate-key")).shown())
        .tag_paths("/img/*", "images")
        .tag_types("Image/*", "pictures")
        .edit(|exchange, edits| {
            if let Some(id) = exchange.request.uri.path().strip_prefix("/img/") {
                edits.tag(format!("image:{id}"));
            }
        });
    let reply = Reply::cc("x", "max-age=60")
        .field("cache-tag", "one, two words,,")
        .field("cache-tag", "three")
        .field("surrogate-key", "four  five")
        .field("content-type", "image/PNG; x=y")
        .field("etag", "\"a\"");
    let bench = bench(rules, reply);
    let tags = ["one", "two words", "three", "four", "five", "images", "pictures", "image:7"];
    for is_freshened in [false, true] {
        for tag in tags {
            let seen = bench.get("/img/7").await;
            assert_eq!((seen.field("cache-tag"), seen.field("surrogate-key")), (None, Some("four  five")));
            if is_freshened {
                bench.later(61);
                bench.origin.not_modified(Some(Reply::new("").status(304)));
                bench.get("/img/7").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
                bench.origin.not_modified(None);
            }
            bench.handle.purge_target(&PurgeTarget::tag("two")).await.unwrap();
            assert!(bench.get("/img/7").await.is_hit(), "{tag}");
            bench.handle.purge_target(&PurgeTarget::tag(tag)).await.unwrap();
            assert!(!bench.get("/img/7").await.is_hit(), "{tag}");
            bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a20_tags_of_requests_do_not_count_and_those_of_responses_are_bounded() {
    let tag_field = || rules().tags_from(HeaderName::from_static("x-tags"));
    let tagged = |tags: &str| Reply::cc("x", "max-age=60").field("x-tags", tags);
    let bench = bench(tag_field(), tagged("mine"));
    bench.get_with("/", &[("x-tags", "theirs"), ("cache-groups", "\"theirs\"")]).await;
    bench.handle.purge_target(&PurgeTarget::tag("theirs")).await.unwrap();
    assert!(bench.get("/").await.is_hit());
    let numbers = |count: usize| (0..count).map(|tag| tag.to_string()).collect::<Vec<_>>().join(",");
    for (tags, told) in [
        (numbers(Terms::MAX_GROUPS), "stored; ttl=60"),
        (numbers(Terms::MAX_GROUPS + 1), "detail=\"too-many-groups\""),
        ("x,".repeat(500_000), "detail=\"too-many-groups\""),
        ("x".repeat(1 << 20), "detail=\"too-many-groups\""),
        ("a\tb".to_owned(), "detail=\"bad-tag\""),
        ("ü".to_owned(), "detail=\"bad-tag\""),
        ("http://victim.example news".to_owned(), "detail=\"bad-tag\""),
        (",, ,".to_owned(), "stored; ttl=60"),
    ] {
        let bench = self::bench(tag_field(), tagged(&tags));
        let seen = bench.get("/").await.told(&format!("larder; fwd=uri-miss; {told}"));
        assert_eq!(seen.field("x-tags"), None);
    }
}

#[tokio::test]
async fn kx2_rules_compose_with_each_other_and_with_any_policy() {
    let minute = || rules().set_directives(CacheControl::new().max_age(seconds(60)));
    let hour = || rules().set_directives(CacheControl::new().max_age(seconds(3600)));
    let standard = StandardPolicy::default().jitter(0).stale_while_revalidate(seconds(100));
    let table = Policies::new(standard.clone())
        .path("/both/*", standard.clone().response_rules(hour().and(minute())))
        // The outer one comes first, so the inner one has the last word.
        .path("/nested/*", standard.clone().response_rules(minute()).response_rules(hour()))
        .path("/browser/*", standard.clone().browser_lifetime(seconds(5)).response_rules(minute()))
        .path(
            "/hinted/*",
            standard.clone().response_rules(rules().edit(|exchange, edits| {
                assert!(exchange.response.headers.contains_key("etag"));
                edits.set(header::CACHE_CONTROL, HeaderValue::from_static("private"));
            })),
        )
        .path(
            "/fields/*",
            standard.clone().response_rules(
                rules()
                    .set_field(header::CACHE_CONTROL, HeaderValue::from_static("max-age=7"))
                    .remove_field(header::EXPIRES)
                    .remove_field(header::ETAG),
            ),
        );
    let bench = Bench::with(
        cache_builder().policy(table),
        [Reply::new("x").field("expires", "0").field("etag", "\"a\"")],
    );
    for (path, ttl, control) in [
        ("/both/", 60, "max-age=60"),
        ("/nested/", 60, "max-age=60"),
        ("/browser/", 60, "max-age=5"),
        ("/fields/", 7, "max-age=7"),
    ] {
        for told in ["fwd=uri-miss; stored", "hit"] {
            let seen = bench.get(path).await;
            assert_eq!(seen.field("cache-control"), Some(control), "{path}");
            assert_eq!(seen.field("etag") == Some("\"a\""), path != "/fields/");
            seen.told(&format!("larder; {told}; ttl={ttl}"));
        }
    }
    // What the policy wrapped keeps: a stale window, in the background of which the rules count too.
    bench.later(70);
    bench.get("/both/").await.told("larder; hit; ttl=-10; detail=\"stale-while-revalidate\"");
    until_calls(&bench, 5).await;
    bench.get("/both/").await.told("larder; hit; ttl=60");
    bench.get("/hinted/").await.told("larder; fwd=uri-miss; detail=\"private\"");
}

#[tokio::test]
async fn kx2_the_response_hook_sees_the_edited_response_and_the_one_that_came() {
    let policy = StandardPolicy::default()
        .map_terms(|exchange, terms| {
            assert_eq!(exchange.response.headers["x-own"], "edited");
            assert_eq!(exchange.received.headers["x-own"], "as it came");
            assert_eq!(terms.lifetime, seconds(60));
        })
        .response_rules(
            rules()
                .set_field(HeaderName::from_static("x-own"), HeaderValue::from_static("edited"))
                .cache_control(CacheControl::new().max_age(seconds(60))),
        );
    let reply = Reply::cc("x", "no-store").field("x-own", "as it came");
    let bench = Bench::with(cache_builder().policy(policy), [reply]);
    for _ in 0..2 {
        assert_eq!(bench.get("/").await.field("x-own"), Some("edited"));
    }
}

#[tokio::test]
async fn kx2_a_candidate_that_is_only_asked_sees_the_response_as_it_came() {
    let edited = rules().cache_control(CacheControl::new().no_store());
    let policy = StandardPolicy::default().response_rules(edited).report_only(StandardPolicy::default());
    let report = policy.report();
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"no-store\"");
    assert_eq!(report.counts().stored, 1);
}

/// What nobody is to get is not kept for a validation after which another policy, or the same for another request, would
/// give it away.
#[tokio::test]
async fn kx2_what_is_not_stored_does_not_come_back_with_a_304() {
    let store = MemoryStore::new();
    let policy = StandardPolicy::default().map_terms(|exchange, terms| {
        if !exchange.request.headers.contains_key("x-keep") {
            terms.strip.extend(["set-cookie", "x-user", "connection"].map(HeaderName::from_static));
            terms.strip.extend(["x-hop", "x-seen", "x-own"].map(HeaderName::from_static));
            terms.unstored.extend(["set-cookie", "x-user"].map(HeaderName::from_static));
            terms.replace.push((HeaderName::from_static("x-set"), HeaderValue::from_static("ours")));
            terms.unstored.push(HeaderName::from_static("x-set"));
        }
    });
    let reply = Reply::cc("x", "public, max-age=60, private=\"x-own\"").field("etag", "\"a\"");
    let reply = reply.field("set-cookie", "sid=alice").field("x-user", "alice").field("x-set", "alice");
    let reply = reply.field("connection", "x-hop, x-left").field("x-hop", "1").field("x-left", "1");
    let reply = reply.field("x-own", "alice").field("x-seen", "1");
    let bench = Bench::with(cache_builder_over(store.clone()).policy(policy), [reply]);
    let seen = bench.get("/a").await;
    seen.told("larder; fwd=uri-miss; stored; ttl=60");
    at_rest().await;
    let head = format!("{:?}", stored(&store, "/a"));
    assert!(!head.contains("alice") && !head.contains("x-hop") && !head.contains("x-left"), "{head}");
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "public, max-age=60").status(304).field("etag", "\"a\"")));
    for told in ["fwd=stale; fwd-status=304; stored", "hit"] {
        let seen = bench.get_with("/a", &[("x-keep", "1")]).await;
        for name in ["set-cookie", "x-user", "x-hop", "x-left", "x-own", "x-set"] {
            assert_eq!(seen.field(name), None, "{told} {name}");
        }
        // What was only stripped is given by a policy that does not.
        assert_eq!(seen.field("x-seen"), Some("1"), "{told}");
        seen.told(&format!("larder; {told}; ttl=60"));
        at_rest().await;
    }
}

#[tokio::test]
async fn kx2_what_is_removed_for_everybody_is_removed_for_the_first_client_too() {
    let rules = rules().set_cookie_for_first_client().strip_set_cookie();
    let bench = bench(rules, Reply::cc("x", "public, max-age=60").field("set-cookie", "sid=1"));
    for told in ["larder; fwd=uri-miss; stored; ttl=60", "larder; hit; ttl=60"] {
        assert_eq!(bench.get("/").await.told(told).field("set-cookie"), None);
        at_rest().await;
    }
    let rules = ResponseRules::new()
        .remove_directives(["private", "max-age"])
        .for_this_cache_only()
        .remove_field(header::CACHE_CONTROL);
    let bench = self::bench(rules, Reply::cc("x", "private, max-age=60"));
    assert_eq!(bench.get("/").await.field("cache-control"), None);
}
