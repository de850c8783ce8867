//! Stored content that breaks off while it is sent: the rest comes from the origin, or the answer ends with an error.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use http::request::Parts;
use larder::policy::{CachePolicy, ForwardReason, PolicyData};
use larder::store::{GuardLimits, PurgeTarget};
use larder::{BoxStore, CallLimits, Event, RequestAction, StandardPolicy};

use crate::support::elsewhere::{Elsewhere, Ending, Fault};
use crate::support::{Bench, CacheBuilder, CacheLayer, Reply, Seen, Stage, Step, settle};

const HIT: &str = "larder; hit; ttl=60";
const MISS: &str = "larder; fwd=miss; stored; ttl=60";

/// Of three frames, with other bytes at each place.
fn content() -> String {
    (0..500).map(|number| format!("{number:04};")).collect()
}

fn whole() -> Reply {
    Reply::cc(&content(), "max-age=60").field("etag", "\"1\"")
}

/// These bytes of the content, as an origin sends them.
fn part(first: usize, last: usize) -> Reply {
    let range = format!("bytes {first}-{last}/2500");
    Reply::cc(&content()[first..=last], "max-age=60")
        .status(206)
        .field("etag", "\"1\"")
        .field("content-range", &range)
}

struct Rig {
    bench: Bench,
    store: Elsewhere,
}

impl Rig {
    fn new(store: Elsewhere, change: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        let builder = change(CacheLayer::builder(BoxStore::new(store.clone())));
        Self { bench: Bench::with(builder, []), store }
    }

    /// A reply is stored, and its content is to break off when it is sent next.
    async fn stored(reply: Reply, fault: Fault) -> Self {
        let rig = Self::new(Elsewhere::default(), |builder| builder);
        rig.store(reply, fault).await;
        rig
    }

    async fn store(&self, reply: Reply, fault: Fault) {
        self.bench.origin.then(reply);
        self.bench.get("/").await;
        self.store.set_fault(fault);
    }

    /// What a client gets while the origin has this to say.
    async fn get(&self, fields: &[(&str, &str)], reply: Reply) -> Seen {
        self.bench.origin.then(reply);
        self.bench.get_with("/", fields).await
    }

    /// The fields of the last request to the origin, and how many there were.
    fn asked(&self, name: &str) -> (Option<String>, usize) {
        let value =
            self.bench.origin.last().headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (value, self.bench.origin.calls())
    }

    /// What broke off is not served again.
    async fn is_replaced(&self) {
        self.store.set_fault(Fault::None);
        let calls = self.bench.origin.calls();
        self.get(&[], whole()).await.told(MISS).has_body(&content());
        self.get(&[], whole()).await.told(HIT).has_body(&content());
        assert_eq!(self.bench.origin.calls(), calls + 1);
    }
}

const BROKEN: Fault = Fault::At(1_200, Ending::Error);

#[tokio::test]
async fn content_that_breaks_off_at_any_byte_goes_on_from_the_origin_and_is_replaced() {
    for ending in [Ending::Clean, Ending::Error] {
        for at in [0, 1, 999, 1_000, 1_001, 2_000, 2_499] {
            let rig = Rig::stored(whole(), Fault::At(at, ending)).await;
            let seen = rig.get(&[], part(at, 2_499)).await.told(HIT).has_body(&content());
            assert!(!seen.broken && seen.status == 200, "{at}");
            assert_eq!(seen.field("content-length"), Some("2500"));
            assert_eq!(rig.asked("range"), (Some(format!("bytes={at}-")), 2));
            assert_eq!(rig.asked("if-range").0.as_deref(), Some("\"1\""));
            rig.is_replaced().await;
        }
    }
    let rig = Rig::stored(whole(), Fault::At(2_500, Ending::Clean)).await;
    rig.get(&[], Reply::refused()).await.told(HIT).has_body(&content());
    assert_eq!(rig.bench.origin.calls(), 1, "nothing is missing");
}

#[tokio::test]
async fn the_rest_is_asked_for_with_the_clients_own_fields_and_without_its_conditions() {
    let rig = Rig::stored(whole(), BROKEN).await;
    let fields = [
        ("accept-language", "de"),
        ("user-agent", "a"),
        ("if-none-match", "\"2\""),
        ("if-modified-since", "Tue, 01 Sep 2020 00:00:00 GMT"),
    ];
    rig.get(&fields, part(1_200, 2_499)).await.told(HIT).has_body(&content());
    let asked = rig.bench.origin.last();
    assert_eq!((asked.method, asked.uri.path()), (Method::GET, "/"));
    for (name, expected) in [
        ("accept-language", Some("de")),
        ("user-agent", Some("a")),
        ("if-modified-since", None),
        ("if-none-match", None),
        ("if-range", Some("\"1\"")),
        ("range", Some("bytes=1200-")),
    ] {
        assert_eq!(asked.headers.get(name).map(|value| value.to_str().unwrap()), expected, "{name}");
    }
}

#[tokio::test]
async fn of_a_range_the_rest_of_that_range_is_asked_for() {
    for (range, at, asked, rest) in [
        ("bytes=100-1999", 500, "bytes=600-1999", (600, 1_999)),
        ("bytes=100-", 500, "bytes=600-", (600, 2_499)),
        ("bytes=-100", 10, "bytes=2410-", (2_410, 2_499)),
        ("bytes=0-0", 0, "bytes=0-0", (0, 0)),
    ] {
        let rig = Rig::stored(whole(), Fault::At(at, Ending::Error)).await;
        let fields = [("range", range), ("if-range", "\"1\"")];
        let seen = rig.get(&fields, part(rest.0, rest.1)).await.told(HIT);
        let first = rest.0 - at;
        assert_eq!((seen.status.as_u16(), seen.broken), (206, false), "{range}");
        assert!(seen.body == content()[first..=rest.1], "{range}");
        assert_eq!(rig.asked("range").0.as_deref(), Some(asked));
        rig.is_replaced().await;
    }
}

#[tokio::test]
async fn of_a_stored_part_the_rest_of_what_is_wanted_is_asked_for() {
    let policy = StandardPolicy::rfc9111();
    let rig = Rig::new(Elsewhere::default(), |builder| builder.policy(policy));
    for (first, last) in [(100, 299), (500, 1_499)] {
        rig.get(&[("range", &format!("bytes={first}-{last}"))], part(first, last)).await;
    }
    rig.store.set_fault(Fault::At(100, Ending::Error));
    let seen = rig.get(&[("range", "bytes=600-999")], part(700, 999)).await.told(HIT);
    assert!(!seen.broken && seen.body == content()[600..1_000], "{seen:?}");
    assert_eq!(
        (rig.asked("range"), rig.asked("if-range").0),
        ((Some("bytes=700-999".into()), 3), Some("\"1\"".into()))
    );
    // The part is gone.
    rig.get(&[("range", "bytes=600-999")], part(600, 999)).await;
    assert_eq!(rig.asked("range"), (Some("bytes=600-999".into()), 4));
}

/// What an origin may say to a request for the rest from byte 1,200 on that is no such rest.
fn strangers() -> Vec<(&'static str, Reply)> {
    let rest = content()[1_200..].to_owned();
    let other = |change: fn(&mut Vec<(String, String)>)| {
        let mut reply = part(1_200, 2_499);
        change(&mut reply.fields);
        reply
    };
    let with = |name: &'static str, value: &'static str| {
        let mut reply = part(1_200, 2_499);
        reply.fields.retain(|(own, _)| own != name);
        if value.is_empty() { reply } else { reply.field(name, value) }
    };
    let mut unknown = part(1_200, 2_499);
    unknown.frames = vec![rest.clone().into()];
    vec![
        ("the whole", whole()),
        ("a new version", Reply::cc("new", "max-age=60").field("etag", "\"2\"")),
        ("another tag", with("etag", "\"2\"")),
        ("a weak tag", with("etag", "W/\"1\"")),
        ("no tag", with("etag", "")),
        ("two ranges", other(|fields| fields.push(("content-range".into(), "bytes 0-1/2500".into())))),
        ("no range", with("content-range", "")),
        ("a longer representation", with("content-range", "bytes 1200-2499/2501")),
        ("an unknown length", with("content-range", "bytes 1200-2499/*")),
        ("another beginning", with("content-range", "bytes 1201-2500/2500")),
        ("an earlier beginning", part(1_199, 2_499)),
        ("an earlier end", part(1_200, 2_498)),
        (
            "several ranges",
            with("content-range", "").field("content-type", "multipart/byteranges; boundary=x"),
        ),
        ("another coding", part(1_200, 2_499).field("content-encoding", "gzip")),
        ("another status", part(1_200, 2_499).status(200)),
        ("unsatisfiable", Reply::new("").status(416).field("content-range", "bytes */1000")),
        ("not modified", Reply::new("").status(304).field("etag", "\"1\"")),
        ("gone", Reply::cc("gone", "max-age=60").status(404)),
        ("an error", Reply::new("error").status(503)),
        ("nothing", Reply::refused()),
    ]
}

#[tokio::test]
async fn what_is_not_the_rest_of_the_same_representation_ends_the_answer_with_an_error() {
    for (what, reply) in strangers() {
        let rig = Rig::stored(whole(), BROKEN).await;
        let seen = rig.get(&[], reply).await.told(HIT);
        assert!(seen.broken && seen.body == content()[..1_200], "{what}: {seen:?}");
        assert_eq!(rig.bench.origin.calls(), 2, "{what}: once");
        rig.is_replaced().await;
    }
}

#[tokio::test]
async fn a_rest_that_does_not_come_to_its_end_ends_the_answer_with_an_error() {
    let cut = |length: usize| {
        let mut reply = part(1_200, 2_499).frames(&[&content()[1_200..1_200 + length]]);
        reply.fields.retain(|(name, _)| name != "content-length");
        reply
    };
    let longer = part(1_200, 2_499).frames(&[&content()[1_200..], "?"]);
    for (what, reply, most) in
        [("short", cut(700), 1_900), ("failing", cut(700).failing(), 1_900), ("long", longer, 2_500)]
    {
        let rig = Rig::stored(whole(), BROKEN).await;
        let seen = rig.get(&[], reply).await.told(HIT);
        assert!(seen.broken && content().starts_with(&seen.body), "{what}: {seen:?}");
        assert!((1_200..=most).contains(&seen.body.len()), "{what}: {} bytes", seen.body.len());
        assert_eq!(rig.bench.origin.calls(), 2, "{what}: it is not asked again");
        rig.is_replaced().await;
    }
}

#[tokio::test]
async fn content_that_has_more_than_it_should_have_is_not_completed() {
    let rig = Rig::stored(whole(), Fault::At(1_200, Ending::Overrun)).await;
    let seen = rig.get(&[], part(1_200, 2_499)).await.told(HIT);
    assert!(seen.broken && seen.body == content()[..1_200]);
    assert_eq!(rig.bench.origin.calls(), 1);
    rig.is_replaced().await;
}

#[tokio::test]
async fn a_date_completes_content_that_has_no_tag_of_its_own_if_it_is_strong() {
    for (age, told, is_whole) in
        [(-61, true, true), (-3_600, true, true), (-61, false, false), (0, true, false)]
    {
        let rig = Rig::new(Elsewhere::default(), |builder| builder);
        let (date, modified) = (rig.bench.date(0), rig.bench.date(age));
        let reply =
            Reply::cc(&content(), "max-age=60").field("date", &date).field("last-modified", &modified);
        rig.store(reply, BROKEN).await;
        let mut rest = part(1_200, 2_499).field("date", &date);
        rest.fields.retain(|(name, _)| name != "etag");
        let rest = if told { rest.field("last-modified", &modified) } else { rest };
        let seen = rig.get(&[], rest).await;
        assert!(seen.field("etag").is_some(), "the cache's own, which no origin knows");
        assert_eq!((seen.broken, seen.body == content()), (!is_whole, is_whole), "{age} {told}");
        if age < 0 {
            assert_eq!(rig.asked("if-range"), (Some(modified), 2));
        } else {
            assert_eq!(rig.bench.origin.calls(), 1);
        }
    }
}

#[tokio::test]
async fn without_a_strong_validator_of_this_coding_the_origin_is_not_asked() {
    let tagged = |tag: &str| Reply::cc(&content(), "max-age=60").field("etag", tag);
    for (what, reply) in [
        ("none", Reply::cc(&content(), "max-age=60")),
        ("weak", tagged("W/\"1\"")),
        ("no tag", tagged("1")),
        ("coded", tagged("\"1\"").field("vary", "accept-encoding").field("content-encoding", "gzip")),
        ("an error", tagged("\"1\"").status(404)),
    ] {
        let rig = Rig::new(Elsewhere::default(), |builder| builder);
        let fields = [("accept-encoding", "gzip")];
        rig.get(&fields, reply).await;
        rig.store.set_fault(BROKEN);
        let seen = rig.get(&fields, part(1_200, 2_499)).await;
        assert!(seen.is_hit() && seen.broken && seen.body == content()[..1_200], "{what}: {seen:?}");
        assert_eq!(rig.bench.origin.calls(), 1, "{what}");
    }
}

/// Of a coding, the date is that of the plain content.
#[tokio::test]
async fn the_date_of_a_coding_completes_nothing() {
    let rig = Rig::new(Elsewhere::default(), |builder| builder);
    let (date, modified) = (rig.bench.date(0), rig.bench.date(-3_600));
    let reply = Reply::cc(&content(), "max-age=60").field("date", &date).field("last-modified", &modified);
    let coded = reply.field("content-encoding", "gzip").field("vary", "accept-encoding");
    let fields = [("accept-encoding", "gzip")];
    rig.get(&fields, coded).await;
    rig.store.set_fault(BROKEN);
    let seen = rig.get(&fields, part(1_200, 2_499).field("last-modified", &modified)).await;
    assert!(seen.is_hit() && seen.broken && rig.bench.origin.calls() == 1, "{seen:?}");
}

#[tokio::test]
async fn where_two_codings_share_a_validator_the_origin_is_not_asked() {
    let rig = Rig::new(Elsewhere::default(), |builder| builder);
    let reply = |kind: &str| whole().field("vary", "x-kind").field("content-encoding", kind);
    rig.get(&[("x-kind", "a")], reply("a")).await;
    rig.get(&[("x-kind", "b")], reply("b")).await;
    rig.store.set_fault(BROKEN);
    let seen = rig.get(&[("x-kind", "a")], part(1_200, 2_499)).await;
    assert!(seen.is_hit() && seen.broken && rig.bench.origin.calls() == 2, "{seen:?}");
}

#[tokio::test]
async fn a_client_that_wants_nothing_from_the_origin_gets_an_error() {
    let rig = Rig::stored(whole(), BROKEN).await;
    let seen = rig.get(&[("cache-control", "only-if-cached")], part(1_200, 2_499)).await.told(HIT);
    assert!(seen.broken && seen.body == content()[..1_200]);
    assert_eq!(rig.bench.origin.calls(), 1);
    let seen = rig.get(&[("cache-control", "only-if-cached")], whole()).await;
    assert_eq!((seen.status.as_u16(), rig.bench.origin.calls()), (504, 1), "it is gone");
}

#[tokio::test]
async fn several_ranges_are_read_before_the_head_is_sent_so_they_are_a_miss() {
    let rig = Rig::stored(whole(), Fault::At(5, Ending::Error)).await;
    let seen = rig.get(&[("range", "bytes=0-9,20-29")], whole()).await;
    assert!(!seen.broken && seen.status == 206 && seen.body.contains(&content()[20..30]), "{seen:?}");
    let (range, calls) = rig.asked("if-range");
    assert_eq!((range, calls), (None, 2));
}

#[tokio::test]
async fn trailers_are_those_of_the_stored_response() {
    let reply = Reply::cc("", "max-age=60")
        .frames(&[&content()])
        .field("etag", "\"1\"")
        .trailer("x-trailer", "stored");
    let rig = Rig::stored(reply, BROKEN).await;
    let rest = part(1_200, 2_499).trailer("x-trailer", "of the rest");
    let seen = rig.get(&[], rest).await.told(HIT).has_body(&content());
    assert!(!seen.broken && seen.trailers.unwrap()["x-trailer"] == "stored");
}

/// A stage on which content of 2,500 bytes is stored that breaks off at byte 1,200, and the body of its answer so far.
async fn broken_off(builder: impl FnOnce(CacheBuilder) -> CacheBuilder) -> (Stage, crate::support::Reading) {
    let store = Elsewhere::default();
    let stage = Stage::with(builder(CacheLayer::builder(BoxStore::new(store.clone()))));
    let fields = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
    stage.fill("/", &[Step::head(200, &fields), Step::frame(content()), Step::End]).await;
    store.set_fault(BROKEN);
    let mut body = stage.get("/").body().await;
    assert_eq!(body.take(), 1_200);
    settle().await;
    (stage, body)
}

fn head_of_rest() -> Step {
    let fields = [("etag", "\"1\""), ("content-range", "bytes 1200-2499/2500")];
    Step::head(206, &fields)
}

#[tokio::test(start_paused = true)]
async fn the_origin_is_asked_when_the_client_wants_more_and_read_no_further_than_the_client_reads() {
    let (stage, mut body) = broken_off(|builder| builder).await;
    assert_eq!(stage.origin.calls(), 2, "the client waits for the rest");
    let call = stage.origin.call(1);
    assert_eq!(call.field("range"), Some("bytes=1200-"));
    call.step(head_of_rest());
    settle().await;
    assert_eq!(body.next().await, None);
    for (number, at) in (1_200..2_500).step_by(100).enumerate() {
        call.frame(&content()[at..at + 100]);
        settle().await;
        assert_eq!(call.taken(), number * 100, "before the client asks");
        assert_eq!(body.next().await.as_deref(), Some(&content()[at..at + 100]));
    }
    call.end();
    assert_eq!(body.next().await.as_deref(), Some("<end>"));
    settle().await;
    assert!(!call.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_the_call_for_the_rest_with_it() {
    for has_head in [false, true] {
        let (stage, mut body) = broken_off(|builder| builder).await;
        let call = stage.origin.call(1);
        if has_head {
            call.step(head_of_rest()).frame("x".repeat(100));
            assert_eq!(body.take(), 100);
        }
        assert!(call.is_open());
        drop(body);
        settle().await;
        assert!(!call.is_open(), "{has_head}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_call_for_the_rest_counts_among_all_calls() {
    let limits = CallLimits::new().total(1).wait(Duration::from_secs(5));
    for is_freed in [true, false] {
        let store = Elsewhere::default();
        let builder = CacheLayer::builder(BoxStore::new(store.clone())).call_limits(limits.clone());
        let stage = Stage::with(builder);
        let fields = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
        stage.fill("/", &[Step::head(200, &fields), Step::frame(content()), Step::End]).await;
        store.set_fault(BROKEN);
        let other = stage.get("/other");
        settle().await;
        let mut body = stage.get("/").body().await;
        assert_eq!((body.take(), stage.origin.calls()), (1_200, 2));
        if is_freed {
            stage.origin.call(1).steps(&[Step::head(200, &[]), Step::frame("other"), Step::End]);
            other.seen().await.has_body("other");
            settle().await;
            assert_eq!(body.next().await, None);
            stage.origin.call(2).steps(&[head_of_rest(), Step::frame(&content()[1_200..]), Step::End]);
            assert_eq!(body.next().await.as_deref(), Some(&content()[1_200..]));
        } else {
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(body.next().await.as_deref(), Some("<error>"));
            assert_eq!(stage.origin.calls(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_left_alone_after_a_failure_is_not_asked() {
    let store = Elsewhere::default();
    let policy = StandardPolicy::default()
        .stale_if_error(Duration::from_secs(600))
        .rest_after_failure(Duration::from_secs(10));
    let stage = Stage::with(CacheLayer::builder(BoxStore::new(store.clone())).policy(policy));
    let fields = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
    stage.fill("/", &[Step::head(200, &fields), Step::frame(content()), Step::End]).await;
    store.set_fault(BROKEN);
    let mut body = stage.get("/").body().await;
    assert_eq!(body.next().await.map(|frame| frame.len()), Some(1_000));
    store.set_fault(Fault::None);
    stage.later(61);
    let stale = stage.get("/");
    settle().await;
    stage.origin.call(1).step(Step::Refuse);
    assert!(stale.seen().await.cache_status().contains("stale-if-error"));
    assert_eq!((body.take(), body.next().await.as_deref()), (200, Some("<error>")));
    assert_eq!(stage.origin.calls(), 2);
}

/// What is reported of resumptions.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<String>>>);

impl Reports {
    fn observed(&self, builder: CacheBuilder) -> CacheBuilder {
        let Self(reports) = self.clone();
        builder.observer(move |event: &Event<'_>| {
            let report = match event {
                Event::Fetched { forward, is_background: false, status, .. } => {
                    format!("fetched {} {status:?}", forward.as_str())
                }
                Event::Resumed { at, key, succeeded, .. } => {
                    format!("resumed {} at {at}: {succeeded}", String::from_utf8_lossy(key.uri()))
                }
                Event::StoreFailed { error, .. } => error.to_string(),
                Event::BodyEnded { bytes, is_whole, .. } => format!("{bytes} bytes, {is_whole}"),
                _ => return,
            };
            reports.lock().unwrap().push(report);
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn what_broke_off_and_what_came_of_it_is_reported() {
    const BROKE: &str = "the store failed to read content: the response body failed: scripted";
    for (reply, call, resumed, ended) in [
        (part(1_200, 2_499), "fetched partial Some(206)", "true", "2500 bytes, true"),
        (whole(), "fetched partial Some(200)", "false", "1200 bytes, false"),
        (Reply::refused(), "fetched partial None", "false", "1200 bytes, false"),
    ] {
        let reports = Reports::default();
        let rig = Rig::new(Elsewhere::default(), |builder| reports.observed(builder));
        rig.store(whole(), BROKEN).await;
        reports.take();
        rig.get(&[], reply).await;
        let resumed = format!("resumed http://example.com/ at 1200: {resumed}");
        assert_eq!(reports.take(), [BROKE, call, &resumed, ended]);
    }
}

#[tokio::test(start_paused = true)]
async fn content_of_a_store_that_cannot_be_reached_is_completed_and_is_there_afterwards() {
    let limits = || GuardLimits::new().content(Duration::from_secs(3)).failures(100);
    for (store, ending) in [(Elsewhere::default(), Ending::Unreachable), (Elsewhere::waiting(), Ending::Hang)]
    {
        let rig = Rig::new(store, |builder| builder.guard_limits(limits()));
        rig.store(whole(), Fault::At(1_200, ending)).await;
        let seen = rig.get(&[], part(1_200, 2_499)).await.told(HIT).has_body(&content());
        assert!(!seen.broken && rig.bench.origin.calls() == 2, "{ending:?}");
        rig.store.set_fault(Fault::None);
        rig.get(&[], Reply::refused()).await.told(HIT).has_body(&content());
    }
}

#[tokio::test]
async fn content_that_broke_off_is_gone_for_requests_with_content_alone_and_other_variants_stay() {
    let rig = Rig::new(Elsewhere::default(), |builder| builder);
    let reply =
        |body: &str, tag: &str| Reply::cc(body, "max-age=60").field("etag", tag).field("vary", "x-kind");
    let kind = |kind: &'static str| [("x-kind", kind)];
    rig.get(&kind("a"), reply(&content(), "\"1\"")).await;
    rig.get(&kind("b"), reply("b", "\"2\"")).await;
    rig.store.set_fault(BROKEN);
    rig.get(&kind("a"), part(1_200, 2_499)).await.told(HIT).has_body(&content());
    rig.store.set_fault(Fault::None);
    rig.get(&kind("b"), Reply::refused()).await.told(HIT).has_body("b");
    rig.bench.send(Method::HEAD, "/", &kind("a")).await.told(HIT);
    rig.get(&kind("a"), reply("new", "\"3\"")).await.told(MISS).has_body("new");
    // A purge, too, is as ever.
    rig.bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
    rig.get(&kind("a"), reply("newer", "\"4\"")).await.has_body("newer");
}

/// Adds a field of its own to what is forwarded, and says why it is.
#[derive(Clone, Default)]
struct Forwarding(StandardPolicy);

impl CachePolicy for Forwarding {
    fn request(&self, request: &mut Parts, data: &mut PolicyData) -> RequestAction {
        self.0.request(request, data)
    }

    fn forward(&self, request: &mut Parts, reason: &ForwardReason<'_>) {
        request.headers.insert("x-forward", reason.forward.as_str().parse().unwrap());
    }
}

#[tokio::test]
async fn the_policy_has_its_say_on_the_call_for_the_rest() {
    let rig = Rig::new(Elsewhere::default(), |builder| builder.policy(Forwarding::default()));
    rig.store(whole(), BROKEN).await;
    rig.get(&[], part(1_200, 2_499)).await.has_body(&content());
    assert_eq!(rig.asked("x-forward"), (Some("partial".into()), 2));
    assert_eq!(rig.asked("range").0.as_deref(), Some("bytes=1200-"));
}
