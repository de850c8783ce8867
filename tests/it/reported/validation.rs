//! Reported faults: which conditions are sent, and what a 304 may change (B1, B2, B7).

use http::Method;

use crate::support::stores::at_rest;
use crate::support::{Bench, Reply, settle};

const GZIP: [(&str, &str); 1] = [("accept-encoding", "gzip")];
const IDENTITY: [(&str, &str); 1] = [("accept-encoding", "identity")];
const COOKIE: [(&str, &str); 1] = [("cookie", "session=1")];

/// Content in gzip, as far as the cache can tell.
fn gzip(cache_control: &str, tag: &str) -> Reply {
    Reply::cc("gzip", cache_control).field("content-encoding", "gzip").field("etag", tag)
}

fn plain(cache_control: &str, tag: &str) -> Reply {
    Reply::cc("plain", cache_control).field("etag", tag)
}

fn not_modified(tag: &str) -> Reply {
    Reply::new("").status(304).field("etag", tag)
}

#[tokio::test]
async fn b01_a_request_for_another_coding_sends_no_condition() {
    let vary = |reply: Reply| reply.field("vary", "accept-encoding");
    for (age, tag) in [(0, "W/\"v1\""), (61, "W/\"v1\""), (0, "\"v1\""), (61, "\"v1\"")] {
        for bench in [Bench::new([]), Bench::rfc9111([])] {
            bench.origin.then(vary(gzip("max-age=60", tag)));
            bench.get_with("/", &GZIP).await.has_body("gzip");
            bench.later(age);
            bench.origin.then(vary(plain("max-age=60", tag)));
            bench.origin.not_modified(Some(Reply::new("").status(304)));
            for fields in [&IDENTITY[..], &[]] {
                let seen = bench.get_with("/", fields).await.has_body("plain");
                assert_eq!(seen.field("content-encoding"), None);
                bench.get_with("/", fields).await.has_body("plain");
            }
            assert!(!bench.origin.last().headers.contains_key("if-none-match"));
        }
    }
}

#[tokio::test]
async fn b01_a_tag_that_the_origin_weakens_for_one_coding_affects_no_other_request() {
    let vary = |reply: Reply| reply.field("vary", "accept-encoding");
    for cache_control in ["max-age=60", "max-age=0"] {
        let bench = Bench::new([vary(gzip(cache_control, "W/\"x\""))]);
        bench.get_with("/", &GZIP).await.has_body("gzip");
        // It answers 304 with the strong tag to whoever sends either.
        bench.origin.then(vary(plain(cache_control, "\"x\"")));
        bench.origin.not_modified(None);
        bench.get_with("/", &IDENTITY).await.has_body("plain");
        assert_eq!(bench.send(Method::HEAD, "/", &[]).await.status, 200);
        bench.get_with("/", &COOKIE).await.has_body("plain");
        // The one whose tag was weakened is freshened all the same.
        bench.later(61);
        bench.origin.then(vary(not_modified("\"x\"")).field("cache-control", "max-age=60"));
        let seen = bench.get_with("/", &GZIP).await.has_body("gzip");
        assert_eq!(seen.cache_status(), "larder; fwd=stale; fwd-status=304; stored; ttl=60");
        assert_eq!(bench.origin.last().headers["if-none-match"], "W/\"x\"");
    }
}

#[tokio::test]
async fn b01_a_request_with_credentials_is_not_sent_with_a_stored_tag() {
    for (name, value) in [("cookie", "session=1"), ("authorization", "Bearer x")] {
        for age in [0, 61] {
            let bench = Bench::new([plain("max-age=60", "W/\"v1\"")]);
            bench.get("/").await.has_body("plain");
            bench.later(age);
            bench.origin.then(Reply::cc("one's own", "private").field("etag", "W/\"v1\""));
            bench.origin.not_modified(Some(Reply::new("").status(304)));
            let person = [(name, value)];
            bench.get_with("/", &person).await.has_body("one's own");
            assert!(!bench.origin.last().headers.contains_key("if-none-match"), "{name}");
            // The person's own condition is answered on what the origin gives.
            let known = [(name, value), ("if-none-match", "W/\"v1\"")];
            assert_eq!(bench.get_with("/", &known).await.status, 304);
        }
    }
}

#[tokio::test]
async fn b01_the_selected_response_is_validated_by_its_own_tag() {
    let vary = |reply: Reply| reply.field("vary", "accept-encoding");
    let bench = Bench::new([vary(plain("max-age=60", "\"v1\"")), vary(gzip("max-age=60", "\"v2\""))]);
    bench.get_with("/", &IDENTITY).await.has_body("plain");
    bench.get_with("/", &GZIP).await.has_body("gzip");
    bench.later(61);
    bench.origin.then(vary(not_modified("\"v1\"")));
    bench.get_with("/", &IDENTITY).await.has_body("plain");
    assert_eq!(bench.origin.last().headers["if-none-match"], "\"v1\"");
}

/// Two stored responses that match a request with `x: 1`: a newer one with the tag `"2"` by `Vary`, and an older one
/// because it has none.
async fn two_that_match(tag_of_older: &str) -> Bench {
    let bench = Bench::heeding([]);
    let (older, newer) = (bench.date(-30), bench.date(0));
    bench.origin.then(Reply::cc("older", "max-age=60").field("etag", tag_of_older).field("date", &older));
    bench.get_with("/", &[("x", "0")]).await;
    let newer = Reply::cc("newer", "max-age=60").field("date", &newer).field("vary", "x");
    bench.origin.then(newer.field("etag", "\"2\""));
    bench.get_with("/", &[("x", "1"), ("cache-control", "no-cache")]).await.has_body("newer");
    bench.later(61);
    bench
}

#[tokio::test]
async fn b01_weak_tags_of_other_responses_are_not_sent() {
    let bench = two_that_match("W/\"1\"").await;
    bench.origin.then(not_modified("\"2\"").field("cache-control", "max-age=60"));
    bench.get_with("/", &[("x", "1")]).await.has_body("newer");
    assert_eq!(bench.origin.last().headers["if-none-match"], "\"2\"");
}

#[tokio::test]
async fn b01_strong_tags_of_other_matching_responses_are_sent() {
    let bench = two_that_match("\"1\"").await;
    bench.origin.then(not_modified("\"1\"").field("cache-control", "max-age=60"));
    bench.get_with("/", &[("x", "1")]).await.has_body("older");
    assert_eq!(bench.origin.last().headers["if-none-match"], "\"2\", \"1\"");
    assert!(bench.get_with("/", &[("x", "1")]).await.has_body("older").is_hit());
}

#[tokio::test]
async fn b01_a_response_that_the_request_does_not_accept_is_not_validated() {
    let bench = Bench::new([plain("max-age=60", "\"v1\"").field("content-type", "text/html")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(Reply::cc("{}", "max-age=60").field("content-type", "application/json"));
    bench.get_with("/", &[("accept", "application/json")]).await.has_body("{}");
    assert!(!bench.origin.last().headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn b01_coded_content_without_vary_is_served_to_requests_that_accept_it() {
    for tag in ["\"same\"", "W/\"same\""] {
        for bench in [Bench::new([]), Bench::rfc9111([])] {
            bench.origin.then(gzip("max-age=60", tag));
            bench.get_with("/", &GZIP).await.has_body("gzip");
            assert!(bench.get_with("/", &[("accept-encoding", "br, gzip")]).await.is_hit());
            assert!(bench.get_with("/", &[("accept-encoding", "*")]).await.is_hit());
            bench.origin.then(plain("max-age=60", tag));
            bench.get_with("/", &IDENTITY).await.has_body("plain");
            assert!(!bench.origin.last().headers.contains_key("if-none-match"));
            // What has no coding suits everybody.
            for fields in [&IDENTITY[..], &[], &[("accept-encoding", "gzip;q=0")]] {
                assert!(bench.get_with("/", fields).await.has_body("plain").is_hit());
            }
        }
    }
}

#[tokio::test]
async fn b01_an_unknown_coding_follows_vary_alone() {
    let bench = Bench::new([Reply::cc("x", "max-age=60").field("content-encoding", "sdch")]);
    bench.get("/").await;
    assert!(bench.get_with("/", &IDENTITY).await.has_body("x").is_hit());
}

#[tokio::test(start_paused = true)]
async fn b01_a_herd_that_does_not_accept_the_leaders_coding_makes_one_call_of_its_own() {
    use crate::support::{Stage, Step};
    let fresh = ("cache-control", "max-age=60");
    let stage = Stage::new();
    let leader = stage.get_with("/", &GZIP);
    settle().await;
    let herd = stage.herd(20, &IDENTITY);
    settle().await;
    stage.origin.call(0).head(&[fresh, ("content-encoding", "gzip")]).frame("gzip").end();
    leader.seen().await.has_body("gzip");
    settle().await;
    stage.origin.call(1).steps(&[Step::head(200, &[fresh]), Step::frame("plain"), Step::End]);
    for client in herd {
        client.seen().await.has_body("plain");
    }
    assert_eq!(stage.origin.calls(), 2);
}

#[tokio::test]
async fn b01_a_304_for_a_tag_that_was_not_sent_gives_502_and_ends_conditions() {
    for bench in [Bench::new([]), Bench::rfc9111([])] {
        bench.origin.then(plain("max-age=60", "\"v1\""));
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(not_modified("\"strange\"").field("x-new", "1"));
        let seen = bench.get("/").await.told("larder; fwd=stale; fwd-status=304; detail=\"unexpected-304\"");
        assert_eq!((seen.status.as_u16(), seen.body.as_str()), (502, ""));
        assert_eq!(bench.origin.last().headers["if-none-match"], "\"v1\"");
        bench.origin.then(plain("max-age=60", "\"v2\""));
        bench.get("/").await.has_body("plain").told("larder; fwd=stale; stored; ttl=60");
        assert!(!bench.origin.last().headers.contains_key("if-none-match"));
    }
}

#[tokio::test]
async fn b01_a_client_gets_the_304_that_meets_its_own_condition() {
    let bench = Bench::new([plain("max-age=60", "\"v1\"")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(not_modified("\"strange\""));
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"strange\"")]).await.status, 304);
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"other\"")]).await.status, 502);
    // By a date, where the 304 has none that would say otherwise.
    let dated = [("if-modified-since", "Mon, 21 Sep 2026 14:00:00 GMT")];
    assert_eq!(bench.get_with("/", &dated).await.status, 304);
}

#[tokio::test]
async fn b02_a_304_that_forbids_storing_withdraws_the_stored_response() {
    for (name, value) in [
        ("cache-control", "private"),
        ("cache-control", "no-store"),
        ("cache-control", "max-age=60, no-store"),
        ("cache-control", "\"malformed"),
        ("vary", "*"),
        ("set-cookie", "session=1"),
    ] {
        let stale = "max-age=60, stale-while-revalidate=600, stale-if-error=600";
        let bench = Bench::new([plain(stale, "\"v1\"")]);
        bench.get("/").await;
        bench.later(1000);
        bench.origin.then(not_modified("\"v1\"").field(name, value));
        let seen = bench.get("/").await.has_body("plain");
        assert_eq!(seen.status, 200, "who was validated gets the answer");
        bench.origin.then(Reply::cc("another", "private"));
        let other = bench.get_with("/", &[("cache-control", "max-stale")]).await.has_body("another");
        assert_eq!(other.cache_status(), "larder; fwd=uri-miss; detail=\"private\"", "{name}: {value}");
        assert!(!bench.origin.last().headers.contains_key("if-none-match"));
    }
}

#[tokio::test]
async fn b02_a_background_304_that_forbids_storing_withdraws_the_stored_response() {
    for forbidden in ["private", "no-store"] {
        let bench = Bench::new([plain("max-age=60, stale-while-revalidate=600", "\"v1\"")]);
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(not_modified("\"v1\"").field("cache-control", forbidden));
        assert!(bench.get("/").await.has_body("plain").is_hit());
        until_calls(&bench, 2).await;
        bench.origin.then(Reply::cc("another", "private"));
        bench.get("/").await.has_body("another");
    }
}

#[tokio::test]
async fn b02_a_clients_no_store_does_not_hide_that_a_304_forbids_storing() {
    let bench = Bench::new([plain("max-age=60, stale-while-revalidate=600", "\"v1\"")]);
    bench.get("/").await;
    bench.later(700);
    bench.origin.then(not_modified("\"v1\"").field("cache-control", "private"));
    bench.get_with("/", &[("cache-control", "no-store")]).await.has_body("plain");
    bench.origin.then(Reply::cc("another", "private"));
    bench.get_with("/", &[("cache-control", "max-stale")]).await.has_body("another");
    // While one that forbids nothing leaves it in use, whoever asks.
    let bench = Bench::new([plain("max-age=60", "\"v1\"")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(not_modified("\"v1\""));
    bench.get_with("/", &[("cache-control", "no-store")]).await.has_body("plain");
    assert!(bench.get_with("/", &[("cache-control", "max-stale")]).await.has_body("plain").is_hit());
}

#[tokio::test]
async fn b02_the_response_to_a_head_that_forbids_storing_withdraws_the_stored_one() {
    let bench = Bench::new([plain("max-age=60", "\"v1\"").field("content-length", "5")]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.then(
        Reply::new("").field("etag", "\"v1\"").field("content-length", "5").field("cache-control", "private"),
    );
    assert_eq!(bench.send(Method::HEAD, "/", &[]).await.status, 200);
    bench.origin.then(Reply::cc("another", "private"));
    bench.get_with("/", &[("cache-control", "max-stale")]).await.has_body("another");
}

#[tokio::test]
async fn b02_the_response_to_a_head_about_other_content_withdraws_the_stored_one() {
    let stale = "max-age=60, stale-while-revalidate=600, stale-if-error=600";
    for fields in [&[("etag", "\"v2\"")][..], &[]] {
        for age in [0, 61] {
            let bench = Bench::heeding([plain(stale, "\"v1\"")]);
            bench.get("/").await;
            bench.later(age);
            let news = Reply::cc("", "private").frames(&[]);
            bench.origin.then(fields.iter().fold(news, |news, (name, value)| news.field(name, value)));
            bench.send(Method::HEAD, "/", &[("cache-control", "no-cache")]).await;
            bench.origin.then(Reply::cc("another", "private"));
            bench.get_with("/", &[("cache-control", "max-stale")]).await.has_body("another");
        }
    }
}

#[tokio::test]
async fn b02_a_304_with_a_narrower_vary_does_not_widen_reuse() {
    let english = [("accept-language", "en")];
    let bench = Bench::new([plain("max-age=60", "\"v1\"").field("vary", "accept-language, x")]);
    bench.get_with("/", &english).await;
    bench.later(61);
    bench.origin.then(not_modified("\"v1\"").field("cache-control", "max-age=60").field("vary", "x"));
    let seen = bench.get_with("/", &english).await.has_body("plain");
    let vary: Vec<_> = seen.fields.get_all("vary").into_iter().collect();
    assert_eq!(vary, ["x", "accept-language"]);
    assert!(bench.get_with("/", &english).await.is_hit());
    bench.origin.then(Reply::cc("deutsch", "max-age=60"));
    bench.get_with("/", &[("accept-language", "de")]).await.has_body("deutsch");
}

#[tokio::test]
async fn b07_a_304_to_an_unconditional_request_is_answered_with_502() {
    let unasked = || Reply::new("").status(304).field("etag", "\"x\"");
    let reason = "detail=\"unexpected-304\"";
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
        let bench = Bench::new([unasked()]);
        let seen = bench.send(method.clone(), "/", &[]).await;
        assert_eq!((seen.status.as_u16(), seen.body.as_str()), (502, ""), "{method}");
        assert!(seen.cache_status().ends_with(reason), "{seen:?}");
    }
    // A client that has asked gets it, if it may mean it: on a miss the cache leaves the condition out.
    let bench = Bench::new([unasked()]);
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"x\"")]).await.status, 304);
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"y\"")]).await.status, 502);
    let (tag, post) = ([("if-none-match", "\"x\"")], Method::POST);
    assert_eq!(bench.send(post, "/", &tag).await.status, 304);
    // Nothing that is stored has a validator of the origin's.
    let bench = Bench::new([Reply::cc("english", "max-age=60").field("vary", "accept-language")]);
    bench.get_with("/", &[("accept-language", "en")]).await;
    bench.origin.then(Reply::new("").status(304));
    let seen = bench.get_with("/", &[("accept-language", "de")]).await.has_body("");
    assert_eq!(seen.status, 502);
}

#[tokio::test]
async fn b07_a_status_above_599_replaces_no_good_response() {
    for status in [600, 799, 999] {
        let bench = Bench::new([plain("max-age=60, stale-if-error=600", "\"v1\"")]);
        bench.get("/").await;
        bench.later(61);
        bench.origin.then(Reply::cc("bad", "max-age=60").status(status));
        let seen = bench.get("/").await.has_body("plain");
        assert!(seen.cache_status().ends_with("detail=\"stale-if-error\""), "{seen:?}");
        bench.later(600);
        bench.get("/").await.has_body("bad").told("larder; fwd=stale; detail=\"status\"");
        bench.origin.then(not_modified("\"v1\"").field("cache-control", "max-age=60"));
        bench.get("/").await.has_body("plain");
    }
}

/// Lets what goes on in the background finish.
pub async fn until_calls(bench: &Bench, calls: usize) {
    for _ in 0..10_000 {
        if bench.origin.calls() >= calls {
            break;
        }
        at_rest().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.origin.calls(), calls);
    // What comes of the last call, in a store that takes its time.
    for _ in 0..3 {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        at_rest().await;
    }
}
