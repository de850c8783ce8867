//! Many requests for one key whose answers cannot all be shared (A34): a few calls at a time. Bounds on calls (A35).

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
use larder::{CallLimits, FillLimits, StandardPolicy};
use tower::{Layer, Service};

use crate::support::{Answer, Client, Seen, Stage, Step, cache_builder, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
/// So many wait.
const HERD: usize = 300;
/// So many go at a time once two calls were in vain.
const FEW: usize = 8;

fn page() -> [Step; 3] {
    [Step::head(200, &[FRESH]), Step::frame("page"), Step::End]
}

/// Lets the origin answer what is under way with what `reply` gives, again and again, until nobody waits. The most calls
/// that were under way at one time.
async fn drive(stage: &Stage, herd: &[Client], mut reply: impl FnMut(usize) -> Vec<Step>) -> usize {
    let (mut answered, mut most) = (0, 0);
    settle().await;
    while herd.iter().any(Client::is_waiting) {
        let calls = stage.origin.calls_from(answered);
        assert!(!calls.is_empty(), "they wait for something");
        most = most.max(calls.len());
        for call in calls {
            call.steps(&reply(answered));
            answered += 1;
        }
        settle().await;
    }
    most
}

async fn seen(herd: Vec<Client>) -> Vec<Seen> {
    let mut all = Vec::new();
    for client in herd {
        all.push(client.seen().await);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a34_one_odd_request_ahead_of_a_herd_costs_one_more_call() {
    let odd = [
        Step::head(400, &[]),
        Step::head(405, &[("cache-control", "no-store")]),
        Step::head(406, &[("cache-control", "private")]),
        Step::head(431, &[("cache-control", "max-age=60"), ("vary", "*")]),
        Step::head(500, &[]),
        Step::head(503, &[("cache-control", "no-store"), ("retry-after", "1")]),
        Step::head(200, &[]),
        Step::head(302, &[("location", "/elsewhere")]),
        Step::head(200, &[FRESH, ("set-cookie", "session=1")]),
        Step::head(302, &[FRESH, ("set-cookie", "session=1")]),
        Step::Refuse,
        Step::Panic,
    ];
    for odd in odd {
        for is_stale in [false, true] {
            let stage = Stage::new();
            if is_stale {
                stage.fill("/", &page()).await;
                stage.later(100);
            }
            let before = stage.origin.calls();
            let leader = stage.get_with("/", &[("accept", "cow")]);
            settle().await;
            let herd = stage.herd(HERD, &[]);
            settle().await;
            assert_eq!(stage.origin.calls() - before, 1);
            stage.origin.call(before).step(odd.clone()).end();
            settle().await;
            assert_eq!(stage.origin.calls() - before, 2, "{odd:?}");
            stage.origin.call(before + 1).steps(&page());
            for client in herd {
                client.seen().await.has_body("page");
            }
            drop(leader.answer().await);
            assert_eq!(stage.origin.calls() - before, 2, "{odd:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a34_ten_odd_requests_ahead_of_a_herd_do_not_release_it_on_the_origin() {
    for (field, error) in [
        (("accept", "cow"), Step::head(406, &[("cache-control", "no-store")])),
        (("x-http-method-override", "PUT"), Step::head(405, &[("cache-control", "private")])),
        (("x-long", "x"), Step::head(431, &[])),
        (("cookie", "user=1"), Step::head(200, &[("cache-control", "private")])),
        (("cookie", "user=1"), Step::head(200, &[FRESH])),
        (("authorization", "Basic eA=="), Step::head(200, &[("cache-control", "no-store")])),
    ] {
        let stage = Stage::new();
        let odd: Vec<_> = (0..10).map(|_| stage.get_with("/", &[field])).collect();
        let herd = stage.herd(HERD, &[]);
        let (mut answered, mut most) = (0, 0);
        settle().await;
        while herd.iter().any(Client::is_waiting) {
            let calls = stage.origin.calls_from(answered);
            most = most.max(calls.len());
            for call in calls {
                match call.field(field.0) {
                    Some(_) => call.step(error.clone()).frame("odd").end(),
                    None => call.steps(&page()),
                };
                answered += 1;
            }
            settle().await;
        }
        // Those with credentials may all go, for theirs is nobody else's.
        assert!(most <= 10 + FEW, "{field:?}: {most}");
        for client in herd {
            client.seen().await.has_body("page");
        }
        drop(odd);
    }
}

#[tokio::test(start_paused = true)]
async fn a34_a_head_and_the_herd_after_it_share_one_call() {
    let policy = StandardPolicy::default().head_as_get(true);
    for has_length in [false, true] {
        let stage = Stage::with(cache_builder().policy(policy.clone()));
        let head = stage.send(Method::HEAD, "/", &[]);
        settle().await;
        let herd = stage.herd(HERD, &[]);
        settle().await;
        let length = has_length.then_some(("content-length", "200000"));
        let fields: Vec<_> = [FRESH].into_iter().chain(length).collect();
        stage.origin.call(0).head(&fields).frame("x".repeat(200_000)).end();
        for client in herd {
            assert_eq!(client.seen().await.body.len(), 200_000);
        }
        assert!(stage.get("/").seen().await.is_hit(), "stored, for it was wanted");
        assert_eq!(stage.origin.calls(), 1);
        assert_eq!(head.seen().await.body.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a34_a_herd_on_errors_makes_a_few_calls_at_a_time() {
    let failures = [
        Step::head(503, &[]),
        Step::head(404, &[]),
        Step::head(405, &[]),
        Step::head(503, &[("cache-control", "no-store")]),
        Step::head(302, &[("location", "/elsewhere")]),
        Step::head(204, &[]),
        Step::head(200, &[FRESH, ("set-cookie", "session=1")]),
        Step::Refuse,
    ];
    for failure in failures {
        let stage = Stage::new();
        let herd = stage.herd(HERD, &[]);
        let most = drive(&stage, &herd, |_| vec![failure.clone(), Step::End]).await;
        assert_eq!(most, FEW, "{failure:?}");
        assert_eq!(stage.origin.calls(), HERD, "{failure:?}: each has its own answer");
    }
    let few = cache_builder().fill_limits(FillLimits::new().retries(2));
    let stage = Stage::with(few);
    let herd = stage.herd(HERD, &[]);
    assert_eq!(drive(&stage, &herd, |_| vec![Step::head(503, &[]), Step::End]).await, 2);
}

/// Frameworks tag everything.
#[tokio::test(start_paused = true)]
async fn a34_a_herd_on_a_response_that_is_never_fresh_shares_one_validation() {
    for (status, fields) in [
        (404, &[("etag", "\"1\"")][..]),
        (200, &[("etag", "\"1\"")]),
        (200, &[("etag", "\"1\""), ("cache-control", "no-cache")]),
        (200, &[("etag", "\"1\""), ("content-length", "4")]),
    ] {
        a_herd_shares_one_validation(status, fields).await;
    }
}

async fn a_herd_shares_one_validation(status: u16, fields: &[(&str, &str)]) {
    let stage = Stage::new();
    let herd = stage.herd(HERD, &[]);
    let mut conditions = 0;
    settle().await;
    for number in 0..2 {
        let call = stage.origin.call(number);
        conditions += usize::from(call.field("if-none-match").is_some());
        match call.field("if-none-match") {
            Some(_) => call.step(Step::head(304, &fields[..fields.len().min(2)])).end(),
            None => call.step(Step::head(status, fields)).frame("page").end(),
        };
        settle().await;
    }
    assert_eq!((stage.origin.calls(), conditions), (2, 1), "{status} {fields:?}");
    for client in herd {
        assert_eq!(client.seen().await.has_body("page").status.as_u16(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn a34_the_first_good_answer_is_shared_by_all_who_still_wait() {
    let stage = Stage::new();
    let herd = stage.herd(HERD, &[]);
    let reply = |call: usize| if call < 12 { vec![Step::head(503, &[]), Step::End] } else { page().to_vec() };
    assert_eq!(drive(&stage, &herd, reply).await, FEW);
    assert!(stage.origin.calls() <= 2 + 3 * FEW);
    let good = seen(herd).await.into_iter().filter(|seen| seen.status == 200).count();
    assert_eq!(good, HERD - 12);
}

#[tokio::test(start_paused = true)]
async fn a34_a_herd_on_an_answer_that_forbids_sharing_makes_its_calls_at_once() {
    for head in [
        Step::head(200, &[("cache-control", "no-store")]),
        Step::head(200, &[("cache-control", "private")]),
        Step::head(200, &[FRESH, ("vary", "*")]),
        Step::head(404, &[("cache-control", "no-store")]),
        Step::head(200, &[]),
        Step::head(200, &[("set-cookie", "session=1")]),
    ] {
        let stage = Stage::new();
        let herd = stage.herd(HERD, &[]);
        let reply = |_| vec![head.clone(), Step::End];
        let most = drive(&stage, &herd, reply).await;
        // What one request may have drawn is believed when it comes twice.
        let Step::Head(status, fields) = &head else { unreachable!() };
        let says_so = *status == 200 && fields.iter().any(|(name, _)| name == "cache-control");
        assert_eq!(most, HERD - if says_so { 1 } else { 2 }, "{head:?}");
        // And that is remembered.
        let before = stage.origin.calls();
        let herd = stage.herd(10, &[]);
        settle().await;
        assert_eq!(stage.origin.calls() - before, 10, "{head:?}");
        drop(herd);
    }
}

#[tokio::test(start_paused = true)]
async fn a34_followers_that_have_waited_too_long_share_one_further_call() {
    let stage = Stage::new();
    let herd = stage.herd(HERD, &[]);
    for calls in 1..=4 {
        tokio::time::sleep(Duration::from_millis(4_900)).await;
        assert_eq!(stage.origin.calls(), calls);
        tokio::time::sleep(Duration::from_millis(101)).await;
        assert_eq!(stage.origin.calls(), calls + 1);
    }
    // The page takes longer than anybody waits, and still its first answer is for all.
    stage.origin.call(0).steps(&page());
    settle().await;
    let waiting = herd.iter().filter(|client| client.is_waiting()).count();
    assert_eq!(waiting, 4, "those who have made the later calls");
    assert!(stage.get("/").seen().await.has_body("page").is_hit());
    for call in stage.origin.calls_from(1) {
        call.steps(&page());
    }
    assert!(seen(herd).await.iter().all(|seen| seen.body == "page"));
}

#[tokio::test(start_paused = true)]
async fn a34_a_slow_queue_is_widened_and_later_so_if_the_origin_fails() {
    let mut widest = Vec::new();
    for status in [404, 503] {
        let stage = Stage::new();
        let herd = stage.herd(HERD, &[]);
        settle().await;
        let (mut answered, mut most, mut first_wider) = (0, 0, None);
        let begun = tokio::time::Instant::now();
        while herd.iter().any(Client::is_waiting) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let calls = stage.origin.calls_from(answered);
            most = most.max(calls.len());
            if calls.len() > FEW {
                first_wider.get_or_insert(begun.elapsed().as_secs());
            }
            for call in calls {
                call.step(Step::head(status, &[])).end();
                answered += 1;
            }
            settle().await;
        }
        assert!(most < HERD / 2, "{status}: {most}");
        widest.push((most, first_wider));
    }
    let [(gone, soon), (busy, later)] = widest[..] else { unreachable!() };
    assert!(gone > FEW && busy <= gone, "{gone} {busy}");
    assert!(soon > Some(5) && later.is_none_or(|later| later > 20), "{soon:?} {later:?}");
}

#[tokio::test(start_paused = true)]
async fn a34_by_option_an_error_answers_all_who_waited_for_it() {
    let sharing = || cache_builder().fill_limits(FillLimits::new().share_errors(true));
    for (status, fields, is_shared) in [
        (503, &[][..], true),
        (503, &[("content-length", "5")], true),
        (404, &[], true),
        (404, &[("content-length", "5")], true),
        (405, &[], false),
        (503, &[("cache-control", "no-store")], false),
        (503, &[("cache-control", "private")], false),
        (404, &[("vary", "accept-language")], false),
        (503, &[("set-cookie", "session=1")], false),
    ] {
        let stage = Stage::with(sharing());
        let herd = stage.herd(HERD, &[]);
        let with_cookie = stage.get_with("/", &[("cookie", "user=1")]);
        settle().await;
        let error = || vec![Step::head(status, fields), Step::frame("error"), Step::End];
        stage.origin.call(0).steps(&error());
        settle().await;
        // Who has credentials asks for itself.
        assert_eq!(stage.origin.calls(), 2, "{status} {fields:?}");
        let answered = herd.iter().filter(|client| !client.is_waiting()).count();
        assert_eq!(answered, if is_shared { HERD } else { 1 }, "{status} {fields:?}");
        if is_shared {
            let mut collapsed = 0;
            for client in herd {
                let seen = client.seen().await.has_body("error");
                assert_eq!(seen.status, status);
                collapsed += usize::from(seen.cache_status().contains("; collapsed"));
                assert!(!seen.cache_status().contains("; stored"), "{}", seen.cache_status());
            }
            assert_eq!(collapsed, HERD - 1, "all but the one that made the call");
        }
        assert_eq!(stage.handle.statistics().entries, 0);
        with_cookie.leave();
    }
}

#[tokio::test(start_paused = true)]
async fn a34_an_error_that_cloudfront_does_not_keep_answers_nobody_else_if_it_says_so() {
    for (cache_control, is_shared) in [("max-age=60", true), ("private", false), ("no-store", false)] {
        let limits = FillLimits::new().share_errors(true);
        let policy = Distribution::new(CachePolicyConfig::use_origin_cache_control_headers());
        let stage = Stage::with(cache_builder().fill_limits(limits).policy(policy));
        let herd = stage.herd(HERD, &[]);
        settle().await;
        let head = Step::head(520, &[("cache-control", cache_control)]);
        stage.origin.call(0).steps(&[head, Step::frame("error"), Step::End]);
        settle().await;
        let answered = herd.iter().filter(|client| !client.is_waiting()).count();
        assert_eq!(answered, if is_shared { HERD } else { 1 }, "{cache_control}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_a_failed_leader_reports_that_it_is_collapsed() {
    const SIE: (&str, &str) = ("cache-control", "max-age=60, stale-if-error=600");
    for failure in [Step::Refuse, Step::head(503, &[])] {
        let stage = Stage::new();
        stage.fill("/", &[Step::head(200, &[SIE]), Step::frame("old"), Step::End]).await;
        stage.later(100);
        let herd = stage.herd(10, &[]);
        settle().await;
        stage.origin.call(1).step(failure.clone()).end();
        let status = if matches!(failure, Step::Head(..)) { " fwd-status=503;" } else { "" };
        let mut followers = 0;
        for seen in seen(herd).await {
            let follows = seen.cache_status().contains("; collapsed");
            followers += usize::from(follows);
            let collapsed = if follows { " collapsed;" } else { "" };
            let expected =
                format!("larder; fwd=stale;{status}{collapsed} ttl=-40; detail=\"stale-if-error\"");
            seen.has_body("old").told(&expected);
        }
        assert_eq!((stage.origin.calls(), followers), (2, 9), "{failure:?}");
    }
}

fn bounded(limits: CallLimits) -> Stage {
    Stage::with(cache_builder().call_limits(limits))
}

#[tokio::test(start_paused = true)]
async fn a35_the_number_of_all_calls_is_bounded() {
    let stage = bounded(CallLimits::new().total(4));
    let mut clients: HashMap<_, _> = (0..8)
        .map(|number| format!("/{number}"))
        .map(|path| {
            let client = stage.get(&path);
            (path, client)
        })
        .collect();
    settle().await;
    // What bypasses the cache counts, too.
    clients.insert("/post".to_owned(), stage.send(Method::POST, "/post", &[]));
    clients.insert("/options".to_owned(), stage.send(Method::OPTIONS, "/options", &[]));
    settle().await;
    assert_eq!(stage.origin.open(), 4);
    // A call is under way until its content has come in.
    let first = stage.origin.call(0);
    first.head(&[("cache-control", "no-store")]).frame("x");
    settle().await;
    assert_eq!(stage.origin.calls(), 4);
    let reading = clients.remove(first.request.uri.path()).unwrap().reading();
    first.end();
    reading.await.unwrap().has_body("x");
    settle().await;
    assert_eq!(stage.origin.calls(), 5, "the next one");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let made = stage.origin.calls_from(1).into_iter();
    let made: Vec<_> = made.map(|call| clients.remove(call.request.uri.path()).unwrap()).collect();
    assert_eq!((made.len(), clients.len()), (4, 5));
    for client in clients.into_values() {
        let seen = client.seen().await;
        assert_eq!((seen.status.as_u16(), seen.field("retry-after")), (503, Some("5")), "{seen:?}");
        assert!(seen.cache_status().ends_with("detail=\"call-limit\""), "{}", seen.cache_status());
    }
    assert_eq!(stage.origin.calls(), 5);
    // Hits need no call, and who leaves gives back its leave.
    drop(made);
}

#[tokio::test(start_paused = true)]
async fn a35_a_call_ends_when_its_content_is_received_even_if_nobody_reads_it() {
    let stage = bounded(CallLimits::new().total(1));
    for head in [
        &[("cache-control", "no-store"), ("content-length", "4")][..],
        &[FRESH],
        &[FRESH, ("content-length", "4")],
    ] {
        let unread = stage.get("/");
        settle().await;
        let call = stage.origin.calls_from(0).pop().unwrap();
        call.head(head).frame("page").end();
        let body = unread.body().await;
        settle().await;
        let before = stage.origin.calls();
        let next = stage.get("/next");
        settle().await;
        assert_eq!(stage.origin.calls(), before + 1, "{head:?}");
        // An abandoned call would go on.
        stage.origin.call(before).head(&[("cache-control", "no-store")]).end();
        next.seen().await;
        drop(body);
        stage.later(100);
    }
}

#[tokio::test(start_paused = true)]
async fn a35_followers_wait_no_longer_than_their_leader_waits_for_its_call_permit() {
    let stage = bounded(CallLimits::new().total(1).wait(Duration::from_secs(3)));
    let hung = stage.get("/hung");
    settle().await;
    let herd = stage.herd(HERD, &[]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut collapsed = 0;
    for client in herd {
        assert!(!client.is_waiting());
        let seen = client.seen().await;
        assert_eq!(seen.status.as_u16(), 503);
        collapsed += usize::from(seen.cache_status().contains("; collapsed;"));
    }
    assert_eq!(collapsed, HERD - 1);
    hung.leave();
}

#[tokio::test(start_paused = true)]
async fn a35_a_layer_nested_in_itself_needs_one_call_permit() {
    let stage = bounded(CallLimits::new().total(1));
    let layer = cache_builder().call_limits(CallLimits::new().total(1)).build();
    let mut nested = layer.layer(layer.layer(stage.origin.clone()));
    for method in [Method::GET, Method::OPTIONS, Method::POST] {
        stage.origin.script(&page());
        let request = http::Request::builder().method(method.clone()).uri("http://a.example/");
        let answer = nested.call(request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap());
        let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
        assert_eq!(answer.expect("it waits for nobody").unwrap().status(), 200, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a35_the_number_of_calls_for_one_key_is_bounded() {
    let stage = bounded(CallLimits::new().per_key(2).wait(Duration::from_secs(1)));
    // Ranges are not collapsed.
    let range = |path: &str| stage.get_with(path, &[("range", "bytes=0-1")]);
    let same: Vec<_> = (0..5).map(|_| range("/a")).collect();
    let other = range("/b");
    settle().await;
    assert_eq!(stage.origin.open(), 3);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = same.iter().filter(|client| !client.is_waiting()).count();
    assert_eq!(refused, 3);
    same.into_iter().for_each(Client::leave);
    settle().await;
    assert_eq!(stage.origin.open(), 1, "who leaves makes room");
    other.leave();
}

#[tokio::test(start_paused = true)]
async fn a35_beyond_the_bound_a_stale_response_is_served_if_allowed() {
    const SIE: (&str, &str) = ("cache-control", "max-age=60, stale-if-error=600");
    const SWR: (&str, &str) = ("cache-control", "max-age=60, stale-while-revalidate=600");
    let stage = bounded(CallLimits::new().total(1));
    for (path, head) in [("/sie", SIE), ("/swr", SWR)] {
        stage.fill(path, &[Step::head(200, &[head]), Step::frame("old"), Step::End]).await;
    }
    stage.later(100);
    let hung = stage.get("/hung");
    settle().await;
    let before = stage.origin.calls();
    for (path, expected) in [
        ("/sie", "larder; fwd=stale; ttl=-40; detail=\"call-limit\""),
        ("/swr", "larder; hit; ttl=-40; detail=\"stale-while-revalidate\""),
    ] {
        let client = stage.get(path);
        settle().await;
        assert!(!client.is_waiting(), "{path}");
        client.seen().await.has_body("old").told(expected);
    }
    settle().await;
    assert_eq!(stage.origin.calls(), before, "nor is it validated behind");
    hung.leave();
}

#[tokio::test(start_paused = true)]
async fn a35_a_head_sent_as_a_get_reads_no_content_that_cannot_be_stored() {
    let policy = || StandardPolicy::default().head_as_get(true);
    for (head, most) in [
        (&[("cache-control", "no-store")][..], 0),
        (&[FRESH, ("content-length", "10000000000")], 0),
        // Its length is found out.
        (&[FRESH], 512 * 1024),
    ] {
        let stage = Stage::with(cache_builder().policy(policy()));
        let client = stage.send(Method::HEAD, "/", &[]);
        settle().await;
        let call = stage.origin.call(0);
        call.head(head).step(Step::Endless(bytes::Bytes::from(vec![0; 16 * 1024])));
        let Answer::Response(response) = client.answer().await else { panic!("no answer") };
        assert_eq!(response.status(), 200);
        settle().await;
        assert!(call.taken() <= most, "{head:?}: {}", call.taken());
        assert_eq!(stage.origin.open(), 0, "{head:?}");
    }
}
