//! Stores that keep content elsewhere: what is opened, when, and what follows if it is gone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Empty;
use larder::store::{GuardLimits, PurgeTarget};
use larder::{
    CacheBuilder, CacheHandle, CacheLayer, CacheService, Clock, ClockHand, Event, MemoryStore, StandardPolicy,
};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::elsewhere::{Elsewhere, Fault};
use crate::support::stepped::Stepped;
use crate::support::{Origin, Reply, Seen, Step, settle};

struct Rig {
    cache: CacheService<Origin, Elsewhere>,
    clock: ClockHand,
    handle: CacheHandle<Elsewhere>,
    origin: Origin,
    store: Elsewhere,
}

impl Rig {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(StandardPolicy::default(), replies)
    }

    fn with(policy: StandardPolicy, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::over(Elsewhere::default(), policy, replies)
    }

    fn over(store: Elsewhere, policy: StandardPolicy, replies: impl IntoIterator<Item = Reply>) -> Self {
        let (clock, hand) = Clock::manual();
        let origin = Origin::new(replies);
        let builder: CacheBuilder<Elsewhere> = CacheLayer::builder(store.clone());
        let layer = builder.policy(policy).clock(clock).build();
        Self { cache: layer.layer(origin.clone()), clock: hand, handle: layer.handle(), origin, store }
    }

    fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn get(&self, path: &str) -> Seen {
        self.send(Method::GET, path, &[]).await
    }

    async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        self.send(Method::GET, path, fields).await
    }

    async fn try_send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Option<Seen> {
        let request = Request::builder().method(method).uri(format!("http://example.com{path}"));
        let mut request = request.body(Empty::<Bytes>::new()).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let response = self.cache.clone().call(request).await.ok()?;
        Some(read(response).await)
    }

    async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Seen {
        self.try_send(method, path, fields).await.expect("the origin answers")
    }
}

/// Of more than one frame, and with a different byte at each place of a hundred.
fn content() -> String {
    (0..25).map(|line| format!("{line:02}").repeat(50)).collect()
}

fn tagged(body: &str) -> Reply {
    Reply::cc(body, "max-age=60").field("etag", "\"1\"")
}

const HIT: &str = "larder; hit; ttl=60";
const FILLED: &str = "larder; fwd=miss; stored; ttl=60";

#[tokio::test]
async fn a_hit_opens_the_content_once_and_sends_it_with_its_trailers() {
    for store in [Elsewhere::default(), Elsewhere::waiting()] {
        let reply = Reply::cc("", "max-age=60").frames(&[&content()]).trailer("x-trailer", "1");
        let rig = Rig::over(store, StandardPolicy::default(), [reply]);
        rig.get("/").await;
        assert_eq!(rig.store.opened(), [], "what was received needs no store");
        let seen = rig.get("/").await.has_body(&content()).told(HIT);
        assert!(!seen.broken && seen.trailers.unwrap()["x-trailer"] == "1");
        assert_eq!((rig.store.opened(), rig.origin.calls()), (vec![None], 1));
    }
}

#[tokio::test]
async fn answers_without_content_open_nothing() {
    let rig = Rig::new([tagged(&content())]);
    rig.get("/").await;
    for (method, fields, status) in [
        (Method::HEAD, &[][..], 200),
        (Method::HEAD, &[("range", "bytes=0-9")], 200),
        (Method::GET, &[("if-none-match", "\"1\"")], 304),
        (Method::GET, &[("if-match", "\"2\"")], 412),
        (Method::GET, &[("range", "bytes=9000-")], 416),
    ] {
        let seen = rig.send(method, "/", fields).await;
        assert_eq!((seen.status.as_u16(), seen.body.as_str()), (status, ""), "{fields:?}");
    }
    assert_eq!((rig.store.opened(), rig.origin.calls()), (vec![], 1));
}

#[tokio::test]
async fn only_the_bytes_of_a_range_are_opened_and_several_ranges_one_by_one() {
    let rig = Rig::new([tagged(&content())]);
    rig.get("/").await;
    let seen = rig.get_with("/", &[("range", "bytes=100-1499")]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (206, &content()[100..1_500]));
    assert_eq!(seen.field("content-range"), Some("bytes 100-1499/2500"));
    assert_eq!(rig.store.opened(), [Some((100, 1_499))]);
    let seen = rig.get_with("/", &[("range", "bytes=0-9, 2490-")]).await;
    assert_eq!(seen.status, 206);
    for part in ["bytes 0-9/2500\r\n\r\n0000000000\r\n", "bytes 2490-2499/2500\r\n\r\n2424242424\r\n"] {
        assert!(seen.body.contains(part), "{seen:?}");
    }
    assert_eq!(rig.store.opened(), [Some((0, 9)), Some((2_490, 2_499))]);
    // Of another version than the client has, it gets the whole.
    let seen = rig.get_with("/", &[("range", "bytes=0-9"), ("if-range", "\"2\"")]).await;
    assert_eq!((seen.status.as_u16(), rig.store.opened()), (200, vec![None]));
    seen.has_body(&content());
}

#[tokio::test]
async fn ranges_too_large_for_a_multipart_answer_get_the_whole() {
    let heads = MemoryStore::builder().capacity(64 << 20).max_object(16 << 20).build();
    let rig = Rig::over(Elsewhere::of(heads), StandardPolicy::default(), [tagged(&"x".repeat(9 << 20))]);
    rig.get("/").await;
    let seen = rig.get_with("/", &[("range", "bytes=0-4194303, 4194304-")]).await;
    assert_eq!((seen.status.as_u16(), seen.body.len(), rig.store.opened()), (200, 9 << 20, vec![None]));
    let seen = rig.get_with("/", &[("range", "bytes=0-9, 4194304-")]).await;
    assert_eq!((seen.status.as_u16(), rig.store.opened().len()), (206, 2));
    assert_eq!(rig.origin.calls(), 1);
}

#[tokio::test]
async fn a_response_whose_content_is_gone_is_a_miss() {
    for fault in [Fault::Gone, Fault::Fails] {
        let rig = Rig::new([tagged("old")]);
        rig.get("/").await;
        rig.store.set_fault(fault);
        rig.origin.then(tagged("new"));
        let seen = rig.get("/").await.has_body("new").told(FILLED);
        assert_eq!(seen.field("age"), None, "{fault:?}");
        let asked = rig.origin.last();
        assert!(!asked.headers.contains_key("if-none-match"), "what is gone is not validated");
        // It is asked for no more often than it is opened in vain: for the client, and by the leader of the call.
        assert!(rig.store.opened().len() <= 2, "{fault:?}");
        rig.store.set_fault(Fault::None);
        rig.get("/").await.has_body("new").told(HIT);
        assert_eq!(rig.origin.calls(), 2);
    }
}

#[tokio::test]
async fn a_variant_whose_content_is_gone_leaves_other_variants_alone() {
    let reply = |body: &str| tagged(body).field("vary", "x-kind");
    let rig = Rig::new([reply("a")]);
    rig.get_with("/", &[("x-kind", "a")]).await;
    rig.origin.then(reply("b"));
    rig.get_with("/", &[("x-kind", "b")]).await;
    rig.store.set_fault(Fault::Gone);
    rig.origin.then(reply("new b"));
    rig.get_with("/", &[("x-kind", "b")]).await.has_body("new b").told(FILLED);
    rig.store.set_fault(Fault::None);
    rig.get_with("/", &[("x-kind", "a")]).await.has_body("a").told(HIT);
}

#[tokio::test]
async fn only_if_cached_gets_504_if_the_content_is_gone() {
    let rig = Rig::new([tagged("x")]);
    rig.get("/").await;
    rig.store.set_fault(Fault::Gone);
    let seen = rig.get_with("/", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((seen.status.as_u16(), rig.origin.calls()), (504, 1));
}

#[tokio::test]
async fn content_that_breaks_off_never_ends_cleanly_and_is_gone_afterwards() {
    // Without a validator by which the rest could be asked for.
    let reply = || Reply::cc(&content(), "max-age=60");
    for fault in [Fault::Breaks, Fault::Short] {
        for (fields, expected) in [(&[][..], &content()[..1_250]), (&[("range", "bytes=0-9")], "00000")] {
            let rig = Rig::new([reply()]);
            rig.get("/").await;
            rig.store.set_fault(fault);
            let seen = rig.get_with("/", fields).await;
            assert!(seen.broken && seen.body == expected, "{fault:?}: {seen:?}");
            assert_eq!(rig.origin.calls(), 1);
            rig.store.opened();
            rig.get("/").await.has_body(&content()).told(FILLED);
            assert_eq!((rig.store.opened(), rig.origin.calls()), (vec![], 2), "it is not opened again");
        }
        // Several ranges are read before anything is sent.
        let rig = Rig::new([reply()]);
        rig.get("/").await;
        rig.store.set_fault(fault);
        let seen = rig.get_with("/", &[("range", "bytes=0-9, 20-29")]).await;
        assert!(!seen.broken && rig.origin.calls() == 2, "{fault:?}: {seen:?}");
    }
}

#[tokio::test]
async fn a_validation_opens_the_content_before_the_origin_is_asked() {
    let rig = Rig::new([tagged("old")]);
    rig.get("/").await;
    rig.later(61);
    rig.origin.then(Reply::cc("", "max-age=60").status(304).field("etag", "\"1\""));
    let seen = rig.get("/").await.has_body("old");
    seen.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!((rig.store.opened(), rig.origin.calls()), (vec![None], 2));
    // A 304 for the client itself, and a HEAD, need none.
    for (method, fields) in [(Method::GET, &[("if-none-match", "\"1\"")][..]), (Method::HEAD, &[])] {
        rig.later(61);
        rig.origin.then(Reply::cc("", "max-age=60").status(304).field("etag", "\"1\""));
        rig.send(method, "/", fields).await;
        assert_eq!(rig.store.opened(), []);
    }
}

#[tokio::test]
async fn a_validation_sends_no_tag_of_content_that_nobody_has_opened() {
    let rig = Rig::new([tagged("a").field("vary", "x-kind")]);
    rig.get_with("/", &[("x-kind", "a")]).await;
    rig.later(61);
    rig.origin.then(Reply::cc("b", "max-age=60").field("etag", "\"2\""));
    rig.get_with("/", &[("x-kind", "a")]).await;
    rig.later(61);
    rig.origin.then(Reply::cc("", "max-age=60").status(304).field("etag", "\"2\""));
    rig.get_with("/", &[("x-kind", "a")]).await.has_body("b");
    assert_eq!(rig.origin.last().headers["if-none-match"], "\"2\"");
}

#[tokio::test]
async fn a_response_whose_content_is_gone_is_fetched_and_not_validated() {
    let rig = Rig::new([tagged("old")]);
    rig.get("/").await;
    rig.later(61);
    rig.store.set_fault(Fault::Gone);
    rig.origin.then(tagged("new"));
    rig.get("/").await.has_body("new").told(FILLED);
    assert!(!rig.origin.last().headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn a_stale_response_stands_in_for_an_error_while_its_content_is_there() {
    let policy = || StandardPolicy::default().stale_if_error(Duration::from_secs(600));
    let rig = Rig::with(policy(), [tagged("old")]);
    rig.get("/").await;
    rig.later(61);
    rig.origin.then(Reply::refused());
    rig.get("/").await.has_body("old").told("larder; fwd=stale; ttl=-1; detail=\"stale-if-error\"");
    assert_eq!(rig.store.opened(), [None]);
    rig.store.set_fault(Fault::Gone);
    rig.origin.then(Reply::refused());
    assert!(rig.try_send(Method::GET, "/", &[]).await.is_none(), "nothing stands in");
}

#[tokio::test]
async fn a_background_validation_does_not_open_the_content_of_a_stale_answer() {
    let rig = Rig::new([Reply::cc("old", "max-age=60, stale-while-revalidate=60").field("etag", "\"1\"")]);
    rig.get("/").await;
    rig.later(61);
    rig.origin.then(Reply::cc("", "max-age=60").status(304).field("etag", "\"1\""));
    rig.get("/").await.has_body("old");
    settle().await;
    assert_eq!((rig.store.opened(), rig.origin.calls()), (vec![None], 2));
    rig.get("/").await.has_body("old").told(HIT);
}

#[tokio::test]
async fn a_part_with_remote_content_is_completed() {
    let whole = content();
    let rig = Rig::with(StandardPolicy::rfc9111(), []);
    let part = |range: std::ops::Range<usize>| {
        let field = format!("bytes {}-{}/2500", range.start, range.end - 1);
        tagged(&whole[range]).status(206).field("content-range", &field)
    };
    rig.origin.then(part(0..1_000));
    rig.get_with("/", &[("range", "bytes=0-999")]).await;
    let seen = rig.get_with("/", &[("range", "bytes=10-19")]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (206, &whole[10..20]));
    assert_eq!((rig.store.opened(), rig.origin.calls()), (vec![Some((10, 19))], 1));
    rig.origin.then(part(1_000..2_500));
    rig.get("/").await.has_body(&whole);
    assert_eq!(rig.origin.last().headers["range"], "bytes=1000-");
    rig.get("/").await.has_body(&whole);
    assert_eq!(rig.origin.calls(), 2);
    // Another part of the same representation is joined with what is kept.
    rig.origin.then(part(0..1_000));
    rig.get_with("/two", &[("range", "bytes=0-999")]).await;
    rig.origin.then(part(1_500..2_500));
    rig.get_with("/two", &[("range", "bytes=1500-2499")]).await;
    let seen = rig.get_with("/two", &[("range", "bytes=0-9, 1500-1509")]).await;
    assert!(seen.is_hit() && seen.body.contains(&whole[1_500..1_510]), "{seen:?}");
}

#[tokio::test]
async fn a_part_whose_content_is_gone_is_not_completed() {
    let rig = Rig::with(StandardPolicy::rfc9111(), []);
    rig.origin.then(tagged("0123456789").status(206).field("content-range", "bytes 0-9/20"));
    rig.get_with("/", &[("range", "bytes=0-9")]).await;
    rig.store.set_fault(Fault::Gone);
    rig.origin.then(tagged("01234567890123456789"));
    rig.get("/").await.has_body("01234567890123456789").told(FILLED);
    assert!(!rig.origin.last().headers.contains_key("range"));
}

#[tokio::test]
async fn a_response_of_another_query_is_opened_under_its_own_key() {
    let reply = tagged("x").field("no-vary-search", "params=(\"utm\")");
    let rig = Rig::new([reply]);
    rig.get("/?utm=1").await;
    rig.get("/?utm=2").await.has_body("x").told(HIT);
    assert_eq!(rig.store.opened(), [None]);
    rig.store.set_fault(Fault::Gone);
    rig.origin.then(tagged("y"));
    rig.get("/?utm=3").await.has_body("y");
}

#[tokio::test]
async fn a_soft_purge_with_an_end_makes_a_response_stale_and_then_removes_it() {
    let rig = Rig::with(
        StandardPolicy::default().stale_if_error(Duration::from_secs(600)),
        [Reply::cc("old", "max-age=3600").field("etag", "\"1\"")],
    );
    let target = PurgeTarget::uri("http://example.com/");
    rig.get("/").await;
    rig.handle.soft_purge_targets_for(&[target], Duration::from_secs(60)).await.unwrap();
    rig.later(59);
    rig.origin.then(Reply::refused());
    rig.get("/").await.has_body("old").told("larder; fwd=stale; ttl=-59; detail=\"stale-if-error\"");
    rig.later(1);
    rig.origin.then(Reply::refused());
    assert!(rig.try_send(Method::GET, "/", &[]).await.is_none(), "it is gone, and stands in for nothing");
    assert!(!rig.origin.last().headers.contains_key("if-none-match"), "nor is it validated");
    rig.origin.then(Reply::cc("new", "max-age=3600"));
    rig.get("/").await.has_body("new").told("larder; fwd=uri-miss; stored; ttl=3600");
}

/// One leads, and waits for the origin; the other waits for it.
async fn herd_on_stale(fault: Fault) -> (Stepped, Elsewhere, [tokio::task::JoinHandle<Seen>; 2]) {
    let (clock, hand) = Clock::manual();
    let (origin, store) = (Stepped::default(), Elsewhere::waiting());
    let layer = CacheLayer::builder(store.clone()).clock(clock).build();
    let cache = layer.layer(origin.clone());
    let ask = || {
        let request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
        let mut cache = cache.clone();
        tokio::spawn(async move { read(cache.call(request).await.unwrap()).await })
    };
    let fields = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
    origin.script(&[Step::head(200, &fields), Step::frame("old"), Step::End]);
    ask().await.unwrap();
    origin.script(&[]);
    hand.advance(Duration::from_secs(61));
    let clients = [ask(), ask()];
    settle().await;
    assert_eq!((origin.calls(), store.opened()), (2, vec![None]));
    store.set_fault(fault);
    origin.call(1).steps(&[Step::head(304, &fields), Step::End]);
    settle().await;
    (origin, store, clients)
}

#[tokio::test(start_paused = true)]
async fn each_client_of_one_validation_opens_the_content_for_itself() {
    let (origin, store, clients) = herd_on_stale(Fault::None).await;
    for client in clients {
        client.await.unwrap().has_body("old");
    }
    assert_eq!((origin.calls(), store.opened()), (2, vec![None]), "and one was opened before the call");
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_content_is_gone_after_a_shared_validation_calls_the_origin() {
    let (origin, _, clients) = herd_on_stale(Fault::Gone).await;
    assert_eq!(origin.calls(), 3, "the follower has nothing to read");
    let fields = [("cache-control", "max-age=60")];
    origin.call(2).steps(&[Step::head(200, &fields), Step::frame("new"), Step::End]);
    let mut bodies = Vec::new();
    for client in clients {
        bodies.push(client.await.unwrap().body);
    }
    bodies.sort_unstable();
    assert_eq!(bodies, ["new", "old"], "what the leader has opened is there");
}

#[tokio::test(start_paused = true)]
async fn the_stale_answer_of_a_latency_budget_is_opened_before_the_call() {
    let policy = StandardPolicy::default()
        .stale_if_error(Duration::from_secs(600))
        .latency_budget(Some(Duration::from_millis(100)));
    let rig = Rig::with(policy, [tagged("old")]);
    rig.get("/").await;
    rig.later(61);
    rig.origin.then(tagged("new").after(Duration::from_secs(1)));
    let seen = rig.get("/").await.has_body("old");
    assert!(seen.cache_status().contains("latency-budget"), "{seen:?}");
    assert_eq!(rig.store.opened(), [None]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.get("/").await.has_body("new");
}

/// A cache whose store fails at once after one failure, what its store has failed to do, and what it reports.
fn watched(
    store: &Elsewhere,
    content: &str,
) -> (CacheService<Origin, Elsewhere>, CacheHandle<Elsewhere>, Arc<Mutex<Vec<String>>>) {
    let failures = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&failures);
    let layer = CacheLayer::builder(store.clone())
        .guard_limits(GuardLimits::new().failures(1))
        .observer(move |event: &Event<'_>| {
            if let Event::StoreFailed { error, .. } = event {
                log.lock().unwrap().push(error.to_string());
            }
        })
        .build();
    (layer.layer(Origin::new([tagged(content)])), layer.handle(), failures)
}

#[tokio::test]
async fn opened_content_that_breaks_off_is_reported_once_and_opens_no_circuit() {
    let half = "the store failed to read content: the response body ended after 1250 of the 2500 bytes of its Content-Length";
    for (fault, range, expected) in [
        (Fault::Breaks, "", "the store failed to read content: the response body failed: scripted"),
        (Fault::Short, "", half),
        // Several ranges are taken into memory before the head goes out: a miss, and reported all the same.
        (
            Fault::Breaks,
            "bytes=0-9,20-29",
            "the store failed to read content: the response body failed: scripted",
        ),
        (Fault::None, "", ""),
    ] {
        let store = Elsewhere::waiting();
        let (mut cache, handle, failures) = watched(&store, &content());
        let mut get = async |range: &str| {
            let mut request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
            if !range.is_empty() {
                request.headers_mut().insert("range", HeaderValue::from_str(range).unwrap());
            }
            read(cache.call(request).await.unwrap()).await
        };
        get("").await;
        store.set_fault(fault);
        let is_broken = get(range).await.broken;
        assert_eq!(is_broken, fault != Fault::None && range.is_empty(), "{fault:?} {range}");
        let seen = std::mem::take(&mut *failures.lock().unwrap());
        assert_eq!(seen, Vec::from_iter((!expected.is_empty()).then_some(expected)), "{fault:?} {range}");
        // The contract lets content break off that was removed meanwhile, so the store is called as before, for other content.
        store.set_fault(Fault::None);
        get("").await;
        store.opened();
        assert!(get("").await.is_hit() && store.opened().len() == 1, "{fault:?} {range}");
        handle.purge_target(&PurgeTarget::All).await.unwrap();
    }
}
