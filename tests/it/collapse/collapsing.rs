//! Requests that share one call, and requests that must not share it. The origin's steps are released by hand.

use std::time::Duration;

use http::Method;
use larder::{FillLimits, StandardPolicy, policy};

use crate::support::stepped::Call;
use crate::support::{Stage, Step, cache_builder, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const TAG: (&str, &str) = ("etag", "\"a\"");
const COLLAPSED: &str = "larder; fwd=uri-miss; stored; collapsed; ttl=60";

/// One whole answer.
fn whole(fields: &[(&str, &str)], content: &str) -> Vec<Step> {
    vec![Step::head(200, fields), Step::frame(content), Step::End]
}

/// A stage with `x` stored under `/`, tagged and stale.
async fn stale(cache_control: &str) -> Stage {
    let stage = Stage::new();
    stage.fill("/", &whole(&[("cache-control", cache_control), TAG], "x")).await.has_body("x");
    stage.later(61);
    stage
}

fn not_modified(call: &Call) {
    call.step(Step::head(304, &[FRESH, TAG])).end();
}

#[tokio::test(start_paused = true)]
async fn a_hundred_misses_make_one_call() {
    for length in [None, Some(("content-length", "10"))] {
        let stage = Stage::new();
        let herd = stage.herd(100, &[]);
        settle().await;
        assert_eq!((stage.origin.calls(), stage.handle.fills().waiting), (1, 99));
        let fields: Vec<_> = [FRESH].into_iter().chain(length).collect();
        stage.origin.call(0).head(&fields).frame("hello").frame("world").end();
        let mut collapsed = 0;
        for client in herd {
            let seen = client.seen().await.has_body("helloworld");
            assert!(!seen.broken);
            collapsed += usize::from(seen.cache_status() == COLLAPSED);
            if seen.cache_status() != COLLAPSED {
                seen.told("larder; fwd=uri-miss; stored; ttl=60");
            }
        }
        assert_eq!((collapsed, stage.handle.fills().collapsed), (99, 99));
        assert!(stage.get("/").seen().await.has_body("helloworld").is_hit());
        assert_eq!((stage.origin.calls(), stage.handle.fills().waiting), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_joins_a_stream_gets_it_from_the_first_byte() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).frame("one");
    let mut leader = leader.body().await;
    assert_eq!(leader.next().await.as_deref(), Some("one"));
    call.frame("two");
    assert_eq!(leader.next().await.as_deref(), Some("two"));
    let response = stage.get("/").response().await;
    assert_eq!(response.headers()["cache-status"], COLLAPSED);
    let mut follower = stage.get("/").body().await;
    assert_eq!(follower.next().await.as_deref(), Some("onetwo"), "small frames are held as one");
    assert_eq!(follower.next().await, None);
    call.frame("three").end();
    assert_eq!(follower.next().await.as_deref(), Some("three"));
    assert_eq!(follower.next().await.as_deref(), Some("<end>"));
    assert_eq!(leader.next().await.as_deref(), Some("three"));
    assert_eq!((leader.next().await.as_deref(), stage.origin.calls()), (Some("<end>"), 1));
}

#[tokio::test(start_paused = true)]
async fn the_variants_of_a_cold_key_are_fetched_once_each_and_in_parallel() {
    let stage = Stage::new();
    let languages = ["en", "de", "fr"];
    let herd: Vec<_> = (0..30)
        .map(|number| {
            let language = languages[number % 3];
            (language, stage.get_with("/", &[("accept-language", language)]))
        })
        .collect();
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    let head = [FRESH, ("vary", "accept-language")];
    stage.origin.call(0).head(&head);
    settle().await;
    assert_eq!((stage.origin.calls(), stage.origin.open()), (3, 3), "side by side");
    for call in stage.origin.calls_from(1) {
        call.head(&head);
    }
    settle().await;
    // Who comes now finds its variant's call, whichever it asks for first.
    let late = languages.map(|language| (language, stage.get_with("/", &[("accept-language", language)])));
    settle().await;
    for call in stage.origin.calls_from(0) {
        call.frame(call.field("accept-language").unwrap()).end();
    }
    for (language, client) in herd.into_iter().chain(late) {
        let seen = client.seen().await.has_body(language);
        assert_eq!(seen.field("vary"), Some("accept-language"));
    }
    assert_eq!(stage.origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn variants_of_a_known_key_do_not_wait_for_each_other() {
    let stage = Stage::new();
    let head = [FRESH, ("vary", "accept-language")];
    stage.fill("/", &whole(&head, "any")).await;
    let _en = stage.herd(10, &[("accept-language", "en")]);
    let _de = stage.herd(10, &[("accept-language", "de")]);
    settle().await;
    assert_eq!(stage.origin.open(), 2);
}

#[tokio::test(start_paused = true)]
async fn a06_followers_of_an_unshareable_answer_get_none_of_it_and_call_at_once() {
    let heads: [&[(&str, &str)]; 4] = [
        &[("cache-control", "no-store")],
        &[("cache-control", "private, max-age=60")],
        &[("cache-control", "private, max-age=60"), ("content-length", "6")],
        &[FRESH, ("vary", "*")],
    ];
    for head in heads {
        let stage = Stage::new();
        let leader = stage.get("/");
        settle().await;
        let followers = stage.herd(100, &[]);
        settle().await;
        assert_eq!(stage.origin.calls(), 1, "{head:?}");
        stage.origin.call(0).head(head).frame("sec");
        settle().await;
        // All have gone, while the leader's content is still on its way, and none waits for another.
        assert_eq!((stage.origin.calls(), stage.origin.open()), (101, 101), "{head:?}");
        assert!(followers.iter().all(|follower| follower.is_waiting()), "{head:?}");
        for (number, call) in stage.origin.calls_from(1).into_iter().enumerate() {
            call.head(head).frame(format!("own{number:03}")).end();
        }
        let mut bodies = Vec::new();
        for follower in followers {
            let seen = follower.seen().await;
            assert!(seen.cache_status().contains("; collapsed=?0"), "{head:?} {seen:?}");
            assert!(seen.body.starts_with("own"), "{head:?} {seen:?}");
            bodies.push(seen.body);
        }
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 100, "{head:?}: each its own");
        stage.origin.call(0).frame("ret").end();
        leader.seen().await.has_body("secret");
        assert_eq!((stage.handle.fills().collapsed, stage.handle.statistics().entries), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn f07_a_key_without_shareable_answers_is_remembered_for_a_bounded_time() {
    let stage = Stage::new();
    stage.fill("/", &whole(&[("cache-control", "no-store")], "x")).await;
    for (seconds, calls) in [(0, 100), (29, 100), (2, 1)] {
        stage.later(seconds);
        let before = stage.origin.calls();
        let herd = stage.herd(100, &[]);
        settle().await;
        assert_eq!(stage.origin.calls() - before, calls, "{seconds} s later");
        for client in herd {
            client.leave();
        }
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn fa7_hit_for_pass_lasts_as_long_as_the_policy_says() {
    let ten = Duration::from_secs(10);
    let switched = |policy: StandardPolicy| cache_builder().policy(policy);
    for (builder, herds) in [
        (switched(StandardPolicy::default().pass_for(ten)), vec![(0, 50), (9, 50), (2, 1)]),
        (switched(StandardPolicy::default().pass_for(Duration::ZERO)), vec![(0, 1)]),
        (cache_builder().policy(policy::Fastly::new()), vec![(0, 50), (119, 50), (2, 1)]),
        (
            cache_builder().policy(policy::from_fn(move |_, terms| terms.pass_for = ten)),
            vec![(0, 50), (9, 50), (2, 1)],
        ),
    ] {
        let stage = Stage::with(builder);
        stage.fill("/", &whole(&[("cache-control", "no-store")], "x")).await;
        for (seconds, calls) in herds {
            stage.later(seconds);
            let before = stage.origin.calls();
            let herd = stage.herd(50, &[]);
            settle().await;
            assert_eq!(stage.origin.calls() - before, calls, "{seconds} s later");
            for client in herd {
                client.leave();
            }
            settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a06_the_answer_to_a_leader_with_credentials_is_not_shared() {
    for credential in [("cookie", "user=1"), ("authorization", "Basic eA==")] {
        let stage = Stage::new();
        let leader = stage.get_with("/", &[credential]);
        settle().await;
        let (plain, others) = (stage.herd(50, &[]), stage.herd(50, &[("cookie", "user=2")]));
        settle().await;
        assert_eq!(stage.origin.calls(), 1);
        stage.origin.call(0).head(&[FRESH]).frame("hers").end();
        let told = format!("larder; fwd=uri-miss; detail=\"{}\"", credential.0);
        leader.seen().await.has_body("hers").told(&told);
        settle().await;
        // One for all that are nobody in particular, one for each of the others.
        assert_eq!((stage.origin.calls(), stage.origin.open()), (52, 51), "{credential:?}");
        for call in stage.origin.calls_from(1) {
            call.head(&[FRESH]).frame(call.field("cookie").unwrap_or("nobody")).end();
        }
        for client in plain {
            client.seen().await.has_body("nobody");
        }
        for client in others {
            client.seen().await.has_body("user=2");
        }
        // Among those with credentials nobody waits for a while; the rest do.
        stage.handle.purge_target(&larder::store::PurgeTarget::All).await.unwrap();
        let before = stage.origin.calls();
        let _herds = [stage.herd(10, &[credential]), stage.herd(10, &[])];
        settle().await;
        assert_eq!(stage.origin.calls() - before, 11, "{credential:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a06_by_default_followers_with_cookies_do_not_share_an_unmarked_answer() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(100, &[("cookie", "user=1")]);
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    stage.origin.call(0).head(&[FRESH]).frame("nobody");
    settle().await;
    assert_eq!(stage.origin.open(), 101);
    for call in stage.origin.calls_from(1) {
        call.head(&[FRESH]).frame("user=1").end();
    }
    for follower in followers {
        follower.seen().await.has_body("user=1");
    }
    stage.origin.call(0).end();
    leader.seen().await.has_body("nobody");
    // Where it says so itself, it is.
    let stage = Stage::new();
    let herd = stage.herd(10, &[("cookie", "user=1")]);
    settle().await;
    stage.origin.call(0).head(&[("cache-control", "public, max-age=60")]).frame("all").end();
    for client in herd {
        client.seen().await.has_body("all");
    }
    assert_eq!(stage.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a06_vary_cookie_gives_each_session_its_own_answer() {
    let stage = Stage::with(cache_builder().policy(StandardPolicy::rfc9111()));
    let cookies = ["user=0", "user=1", "user=2", "user=3"];
    let herd: Vec<_> = (0..40)
        .map(|number| (cookies[number % 4], stage.get_with("/", &[("cookie", cookies[number % 4])])))
        .collect();
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    stage.origin.call(0).head(&[FRESH, ("vary", "cookie")]);
    settle().await;
    assert_eq!(stage.origin.open(), 4);
    for call in stage.origin.calls_from(1) {
        call.head(&[FRESH, ("vary", "cookie")]);
    }
    for call in stage.origin.calls_from(0) {
        call.frame(call.field("cookie").unwrap()).end();
    }
    for (cookie, client) in herd {
        client.seen().await.has_body(cookie);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_validations_make_one_conditional_call() {
    for cache_control in ["max-age=60", "max-age=60, no-cache", "max-age=60, must-revalidate"] {
        let stage = stale(cache_control).await;
        let herd = stage.herd(100, &[]);
        settle().await;
        assert_eq!(stage.origin.calls(), 2, "{cache_control}");
        assert_eq!(stage.origin.call(1).field("if-none-match"), Some("\"a\""));
        stage.origin.call(1).step(Step::head(304, &[("cache-control", cache_control), TAG])).end();
        for client in herd {
            let seen = client.seen().await.has_body("x");
            assert!(seen.cache_status().starts_with("larder; fwd=stale; "), "{seen:?}");
        }
        assert_eq!(stage.handle.fills().collapsed, 99, "{cache_control}");
    }
    // A new response is shared as it streams.
    let stage = stale("max-age=60").await;
    let herd = stage.herd(100, &[]);
    settle().await;
    stage.origin.call(1).head(&[FRESH, TAG]).frame("n").frame("ew").end();
    for client in herd {
        client.seen().await.has_body("new");
    }
    assert_eq!(stage.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a27_a_flood_of_reloads_makes_one_call() {
    let stage = Stage::heeding();
    stage.fill("/", &whole(&[FRESH, TAG], "x")).await;
    stage.later(1);
    let mut flood = Vec::new();
    for field in [("cache-control", "no-cache"), ("cache-control", "max-age=0"), ("pragma", "no-cache")] {
        flood.extend(stage.herd(100, &[field]));
    }
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    not_modified(&stage.origin.call(1));
    for client in flood {
        client.seen().await.has_body("x");
    }
    assert_eq!(stage.handle.fills().collapsed, 299);
}

#[tokio::test(start_paused = true)]
async fn a_reload_does_not_share_a_call_that_began_before_it() {
    let stage = Stage::heeding();
    let leader = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).frame("old");
    let mut leader = leader.body().await;
    assert_eq!(leader.next().await.as_deref(), Some("old"));
    stage.later(30);
    let reloads = stage.herd(10, &[("cache-control", "no-cache")]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2, "one call for all of them");
    stage.origin.call(1).head(&[FRESH]).frame("new").end();
    for reload in reloads {
        reload.seen().await.has_body("new");
    }
    call.end();
    assert_eq!(leader.next().await.as_deref(), Some("<end>"));
}

#[tokio::test(start_paused = true)]
async fn a36_a_reload_that_the_policy_ignores_shares_the_open_call() {
    let reload = ("cache-control", "no-cache");
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, ("content-length", "3")]).frame("o");
    let mut leader = leader.body().await;
    assert_eq!(leader.next().await.as_deref(), Some("o"));
    let reloads = stage.herd(10, &[reload]);
    // Its answer is made of the whole, for which it waits as any other one does.
    let conditional = stage.get_with("/", &[reload, ("if-none-match", "\"z\"")]);
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    assert!(conditional.is_waiting());
    call.frame("ld").end();
    for client in reloads.into_iter().chain([conditional]) {
        client.seen().await.has_body("old");
    }
    assert_eq!(stage.origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn f02_a_follower_waits_for_a_bounded_time() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(10, &[]);
    tokio::time::sleep(std::time::Duration::from_millis(4_990)).await;
    assert_eq!(stage.origin.calls(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!((stage.origin.calls(), stage.handle.fills().waiting), (2, 9), "one more, for all of them");
    stage.origin.call(1).head(&[FRESH]).frame("second").end();
    let mut leaders = 0;
    for follower in followers {
        let seen = follower.seen().await.has_body("second");
        let leads = seen.cache_status().contains("collapsed=?0");
        leaders += usize::from(leads);
        let collapsed = if leads { "collapsed=?0" } else { "collapsed" };
        seen.told(&format!("larder; fwd=uri-miss; stored; {collapsed}; ttl=60"));
    }
    assert_eq!(leaders, 1, "one has made the second call");
    assert!(leader.is_waiting(), "it has only itself to wait for");
    assert!(stage.get("/").seen().await.is_hit());
    stage.origin.call(0).head(&[FRESH]).frame("late").end();
    leader.seen().await.has_body("late");
    // The limit is the user's to set.
    let limits = FillLimits::new().wait(std::time::Duration::from_millis(100));
    let stage = Stage::with(cache_builder().fill_limits(limits));
    let _herd = stage.herd(2, &[]);
    tokio::time::sleep(std::time::Duration::from_millis(110)).await;
    assert_eq!(stage.origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_the_answer_to_its_own_method_and_conditions() {
    for length in [None, Some(("content-length", "3"))] {
        let stage = Stage::new();
        let leader = stage.get("/");
        settle().await;
        let head = stage.send(Method::HEAD, "/", &[]);
        let known = stage.get_with("/", &[("if-none-match", "\"a\"")]);
        let unknown = stage.get_with("/", &[("if-none-match", "\"b\"")]);
        let failed = stage.get_with("/", &[("if-match", "\"b\"")]);
        settle().await;
        assert_eq!(stage.origin.calls(), 1);
        let fields: Vec<_> = [FRESH, TAG].into_iter().chain(length).collect();
        stage.origin.call(0).head(&fields).frame("all").end();
        let head = head.seen().await.has_body("").told(COLLAPSED);
        assert_eq!((head.status.as_u16(), head.field("etag")), (200, Some("\"a\"")));
        let known = known.seen().await.has_body("").told(COLLAPSED);
        assert_eq!((known.status.as_u16(), known.field("etag")), (304, Some("\"a\"")));
        assert_eq!(unknown.seen().await.has_body("all").status, 200);
        assert_eq!(failed.seen().await.has_body("").status, 412);
        leader.seen().await.has_body("all");
        assert_eq!(stage.origin.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_followers_directives_are_respected() {
    for (directive, age, shares) in [
        ("max-age=10", "0", true),
        ("max-age=10", "11", false),
        ("min-fresh=30", "0", true),
        ("min-fresh=30", "31", false),
        ("min-fresh=61", "0", false),
        ("max-stale=5", "62", true),
        ("max-stale=1", "62", false),
        ("no-store", "0", false),
    ] {
        let stage = Stage::heeding();
        let leader = stage.get("/");
        settle().await;
        let follower = stage.get_with("/", &[("cache-control", directive)]);
        settle().await;
        let fields = [FRESH, TAG, ("age", age)];
        stage.origin.call(0).head(&fields).frame("shared").end();
        leader.seen().await.has_body("shared");
        settle().await;
        assert_eq!(stage.origin.calls(), if shares { 1 } else { 2 }, "{directive}, age {age}");
        for own in stage.origin.calls_from(1) {
            own.head(&fields).frame("own").end();
        }
        follower.seen().await.has_body(if shares { "shared" } else { "own" });
    }
    // Who wants nothing but what is stored does not wait.
    let stage = Stage::heeding();
    let _leader = stage.get("/");
    settle().await;
    assert_eq!(stage.get_with("/", &[("cache-control", "only-if-cached")]).seen().await.status, 504);
}

#[tokio::test(start_paused = true)]
async fn a07_a_leaders_conditions_range_and_method_do_not_affect_followers() {
    for (method, fields, own) in [
        (Method::GET, [("if-none-match", "\"a\"")], (304, "")),
        (Method::GET, [("if-match", "\"b\"")], (412, "")),
        (Method::GET, [("range", "bytes=0-1")], (206, "01")),
        (Method::HEAD, [("range", "bytes=0-1")], (200, "")),
        (Method::HEAD, [("if-none-match", "\"a\"")], (304, "")),
    ] {
        for length in [None, Some(("content-length", "10"))] {
            let stage = Stage::new();
            let leader = stage.send(method.clone(), "/", &fields);
            settle().await;
            let followers = stage.herd(20, &[]);
            settle().await;
            let whole: Vec<_> = [FRESH, TAG].into_iter().chain(length).collect();
            for call in stage.origin.calls_from(0) {
                assert_eq!((call.request.method.as_str(), call.field("if-none-match")), ("GET", None));
                if call.field("range").is_some() {
                    let part = [FRESH, TAG, ("content-range", "bytes 0-1/10")];
                    call.step(Step::head(206, &part)).frame("01").end();
                } else {
                    call.head(&whole).frame("0123456789").end();
                }
            }
            for follower in followers {
                let seen = follower.seen().await.has_body("0123456789");
                assert_eq!((seen.status.as_u16(), seen.broken), (200, false), "{method} {fields:?}");
            }
            let leader = leader.seen().await;
            assert_eq!((leader.status.as_u16(), &*leader.body), own, "{method} {fields:?}");
            let is_range = fields[0].0 == "range";
            assert_eq!(stage.origin.calls(), if is_range { 2 } else { 1 }, "{method} {fields:?}");
        }
    }
    // An origin that answers as it likes.
    for status in [206, 304] {
        let stage = Stage::new();
        let _leader = stage.get("/");
        settle().await;
        let followers = stage.herd(5, &[]);
        settle().await;
        stage.origin.script(&whole(&[FRESH], "whole"));
        stage
            .origin
            .call(0)
            .step(Step::head(status, &[("cache-control", "public, max-age=60")]))
            .frame("odd")
            .end();
        for follower in followers {
            assert_eq!(follower.seen().await.has_body("whole").status, 200, "{status}");
        }
    }
}

/// A part, or a 304 by a tag that is made of the content, can't be the answer before the content is there.
#[tokio::test(start_paused = true)]
async fn a_follower_that_needs_the_whole_of_small_content_waits_for_it() {
    let tag = "W/\"6-b2316fe1d9023834\"";
    for (fields, status, body) in [(("range", "bytes=0-1"), 206, "pa"), (("if-none-match", tag), 304, "")] {
        let stage = stale("max-age=60").await;
        let leader = stage.get("/");
        settle().await;
        let followers = stage.herd(50, &[fields]);
        settle().await;
        let call = stage.origin.call(1);
        call.head(&[FRESH, ("content-length", "6")]).frame("pan");
        settle().await;
        assert!(followers.iter().all(|follower| follower.is_waiting()), "{fields:?}");
        call.frame("try").end();
        leader.seen().await.has_body("pantry");
        for follower in followers {
            assert_eq!(follower.seen().await.has_body(body).status, status, "{fields:?}");
        }
        assert_eq!(stage.origin.calls(), 2, "{fields:?}");
    }
}

/// After that, what can be shared is shared as it comes; a part can't.
#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_the_whole_content_for_a_bounded_time() {
    for (fields, calls) in [(("if-none-match", "\"z\""), 2), (("range", "bytes=0-1"), 12)] {
        let stage = stale("max-age=60").await;
        let leader = stage.get("/");
        settle().await;
        let followers = stage.herd(10, &[fields]);
        settle().await;
        let call = stage.origin.call(1);
        call.head(&[FRESH, ("content-length", "6")]).frame("pan");
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        assert_eq!(stage.origin.calls(), calls, "{fields:?}");
        let begun = followers.iter().filter(|follower| !follower.is_waiting()).count();
        assert_eq!(begun, if calls == 2 { 10 } else { 0 }, "{fields:?}");
        drop(leader);
    }
}

/// No tag will be made, or none is asked for, or storage could not give the answer.
#[tokio::test(start_paused = true)]
async fn a_follower_that_would_wait_in_vain_does_not_wait_for_the_whole() {
    let none_match = ("if-none-match", "\"z\"");
    let since = ("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT");
    let reload = ("cache-control", "no-cache");
    for (layer, status, fields, calls) in [
        (cache_builder().without_tagging(), 200, &[none_match][..], 1),
        (cache_builder(), 404, &[none_match], 1),
        (cache_builder(), 200, &[since], 1),
        (cache_builder().policy(StandardPolicy::rfc9111()), 200, &[none_match, reload], 1),
    ] {
        let stage = Stage::with(layer);
        let leader = stage.get("/");
        settle().await;
        let clients = [leader, stage.get_with("/", fields)];
        settle().await;
        let call = stage.origin.call(0);
        call.step(Step::head(status, &[FRESH, ("content-length", "6")])).frame("pan");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert!(clients.iter().all(|client| !client.is_waiting()), "{status} {fields:?}");
        assert_eq!(stage.origin.calls(), calls, "{status} {fields:?}");
    }
}

/// However many calls it has waited for before that one.
#[tokio::test(start_paused = true)]
async fn a_follower_finds_the_response_that_it_waited_for() {
    const LENGTH: (&str, &str) = ("content-length", "6");
    const LANGUAGE: (&str, &str) = ("vary", "accept-language");
    let french = ("accept-language", "fr");
    let stage = Stage::new();
    let mut others = vec![stage.get_with("/", &[("cookie", "a=b")])];
    settle().await;
    others.push(stage.get_with("/", &[("accept-language", "en")]));
    settle().await;
    others.push(stage.get_with("/", &[french]));
    settle().await;
    let waiting = stage.herd(10, &[french, ("if-none-match", "\"z\"")]);
    settle().await;
    // A leader with credentials, another variant, and the right one.
    stage.origin.call(0).head(&[FRESH, LENGTH]).frame("cookie").end();
    settle().await;
    stage.origin.call(1).head(&[FRESH, LENGTH, LANGUAGE]).frame("eng").frame("lis").end();
    settle().await;
    stage.origin.call(2).head(&[FRESH, LENGTH, LANGUAGE]).frame("fra");
    settle().await;
    stage.origin.call(2).frame("nce").end();
    for client in waiting {
        client.seen().await.has_body("france");
    }
    assert_eq!(stage.origin.calls(), 3);
    assert_eq!(stage.handle.fills().collapsed, 10);
}
