//! Partial content (RFC 9111 3.3, 3.4; RA2): parts are stored, combined and completed, and never answer for the whole.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use larder::{Clock, StandardPolicy};
use proptest::prelude::*;
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::{Bench, CacheService, Reply, Seen, cache_builder, cache_builder_over, settle};

fn part(range: &str, body: &str) -> Reply {
    Reply::cc(body, "max-age=60").status(206).field("content-range", range).field("etag", "\"a\"")
}

async fn range(bench: &Bench, range: &str) -> Seen {
    bench.get_with("/", &[("range", range)]).await
}

#[tokio::test]
async fn ra2_a_part_answers_for_the_ranges_that_it_holds() {
    let bench = Bench::rfc9111([part("bytes 5-9/10", "56789")]);
    range(&bench, "bytes=-5").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("56789");
    for (asked, body, told) in [
        ("bytes=-5", "56789", "bytes 5-9/10"),
        ("bytes=6-8", "678", "bytes 6-8/10"),
        ("bytes=6-", "6789", "bytes 6-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
    ] {
        let seen = range(&bench, asked).await.told("larder; hit; ttl=60").has_body(body);
        assert_eq!((seen.status.as_u16(), seen.field("content-range")), (206, Some(told)), "{asked}");
        assert_eq!(seen.field("content-length"), Some(body.len().to_string().as_str()));
    }
    let seen = range(&bench, "bytes=5-6,9-9").await.told("larder; hit; ttl=60");
    assert!(seen.field("content-type").unwrap().starts_with("multipart/byteranges"), "{seen:?}");
    assert_eq!(range(&bench, "bytes=10-").await.told("larder; hit; ttl=60").status, 416);
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn ra2_by_default_no_parts_are_stored() {
    let bench = Bench::new([part("bytes 5-9/10", "56789")]);
    for _ in 0..2 {
        range(&bench, "bytes=-5").await.told("larder; fwd=uri-miss; detail=\"partial\"");
    }
    let layer = cache_builder().policy(StandardPolicy::default().partial(true));
    let bench = Bench::with(layer, [part("bytes 5-9/10", "56789")]);
    range(&bench, "bytes=-5").await;
    range(&bench, "bytes=-5").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn ra2_a_part_never_passes_for_the_whole() {
    // Without a strong validator nothing can be put to it, and a whole is fetched as a whole.
    for fields in [&[][..], &[("etag", "W/\"a\"")]] {
        let mut reply = Reply::cc("56789", "max-age=60").status(206).field("content-range", "bytes 5-9/10");
        for (name, value) in fields {
            reply = reply.field(name, value);
        }
        let bench = Bench::rfc9111([reply, Reply::cc("0123456789", "max-age=60")]);
        range(&bench, "bytes=-5").await;
        let whole = bench.get("/").await.told("larder; fwd=partial; stored; ttl=60").has_body("0123456789");
        assert_eq!(whole.status, 200);
        for name in ["range", "if-none-match"] {
            assert!(!bench.origin.last().headers.contains_key(name), "{name}");
        }
        range(&bench, "bytes=-5").await.told("larder; hit; ttl=60").has_body("56789");
    }
}

#[tokio::test]
async fn ra2_a_get_completes_a_stored_part() {
    let bench =
        Bench::rfc9111([part("bytes 0-4/10", "01234").field("x-old", "1"), part("bytes 5-9/10", "56789")]);
    range(&bench, "bytes=0-4").await;
    let whole = bench.get("/").await.told("larder; fwd=partial; fwd-status=206; stored; ttl=60");
    let whole = whole.has_body("0123456789");
    assert_eq!((whole.status.as_u16(), whole.field("content-length")), (200, Some("10")));
    assert_eq!((whole.field("content-range"), whole.field("x-old")), (None, Some("1")));
    let sent = bench.origin.last().headers;
    assert_eq!(sent["range"], "bytes=5-");
    assert_eq!(sent["if-range"], "\"a\"");
    // It is whole now.
    bench.get("/").await.told("larder; hit; ttl=60").has_body("0123456789");
    range(&bench, "bytes=3-6").await.told("larder; hit; ttl=60").has_body("3456");
    assert_eq!(bench.origin.calls(), 2);
}

#[tokio::test]
async fn ra2_only_the_missing_bytes_are_requested() {
    let bench = Bench::rfc9111([
        part("bytes 0-1/10", "01"),
        part("bytes 6-7/10", "67"),
        part("bytes 2-5/10", "2345"),
        part("bytes 8-9/10", "89"),
    ]);
    range(&bench, "bytes=0-1").await;
    // Nothing of it is there, so it is asked for as it is, and put to the other.
    range(&bench, "bytes=6-7").await.told("larder; fwd=partial; stored; ttl=60");
    assert_eq!(bench.origin.last().headers["range"], "bytes=6-7");
    range(&bench, "bytes=0-1").await.told("larder; hit; ttl=60").has_body("01");
    let seen = range(&bench, "bytes=1-6").await.has_body("123456");
    assert_eq!((seen.status.as_u16(), seen.field("content-range")), (206, Some("bytes 1-6/10")));
    assert_eq!(bench.origin.last().headers["range"], "bytes=2-5");
    range(&bench, "bytes=0-7").await.told("larder; hit; ttl=60").has_body("01234567");
    bench.get("/").await.has_body("0123456789");
    assert_eq!(bench.origin.last().headers["range"], "bytes=8-");
    assert_eq!(bench.origin.calls(), 4);
}

#[tokio::test]
async fn ra2_a_changed_representation_replaces_the_parts() {
    let new = || Reply::cc("abcdefghij", "max-age=60").field("etag", "\"b\"");
    let bench = Bench::rfc9111([part("bytes 0-4/10", "01234"), new()]);
    range(&bench, "bytes=0-4").await;
    bench.get("/").await.told("larder; fwd=partial; stored; ttl=60").has_body("abcdefghij");
    range(&bench, "bytes=0-4").await.told("larder; hit; ttl=60").has_body("abcde");
    // A part of another representation stands alone.
    let bench = Bench::rfc9111([
        part("bytes 0-4/10", "01234"),
        new().status(206).field("content-range", "bytes 0-9/10"),
    ]);
    range(&bench, "bytes=0-4").await;
    range(&bench, "bytes=3-8").await.told("larder; fwd=partial; stored; ttl=60").has_body("abcdefghij");
    bench.get("/").await.told("larder; hit; ttl=60").has_body("abcdefghij");
}

#[tokio::test]
async fn ra2_a_206_that_does_not_fit_is_not_combined() {
    for (range_told, tag, body) in [
        ("bytes 6-9/10", "\"a\"", "6789"),
        ("bytes 5-9/10", "\"b\"", "56789"),
        ("bytes 5-9/11", "\"a\"", "56789"),
    ] {
        let odd =
            Reply::cc(body, "max-age=60").status(206).field("content-range", range_told).field("etag", tag);
        let bench =
            Bench::rfc9111([part("bytes 0-4/10", "01234"), odd, Reply::cc("0123456789", "max-age=60")]);
        range(&bench, "bytes=0-4").await;
        let seen = bench.get("/").await.told("larder; fwd=partial; fwd-status=206; detail=\"unfit-part\"");
        assert_eq!(seen.status, 502, "{range_told} {tag}");
        // The next one does not fall for it again.
        bench.get("/").await.told("larder; fwd=partial; stored; ttl=60").has_body("0123456789");
        assert!(!bench.origin.last().headers.contains_key("range"));
    }
}

#[tokio::test]
async fn ra2_a_completion_that_is_answered_without_content_fails_once() {
    for status in [304, 412, 416] {
        let odd = Reply::new("").status(status);
        let bench =
            Bench::rfc9111([part("bytes 0-4/10", "01234"), odd, Reply::cc("0123456789", "max-age=60")]);
        range(&bench, "bytes=0-4").await;
        assert_eq!(bench.get("/").await.status, 502, "{status}");
        bench.get("/").await.told("larder; fwd=partial; stored; ttl=60").has_body("0123456789");
    }
}

#[tokio::test]
async fn ra2_a_completing_206_need_not_repeat_last_modified() {
    let dated =
        |range: &str, body: &str| Reply::cc(body, "max-age=60").status(206).field("content-range", range);
    let modified = "Tue, 01 Sep 2026 00:00:00 GMT";
    let bench = Bench::rfc9111([
        dated("bytes 0-4/10", "01234").field("last-modified", modified),
        dated("bytes 5-9/10", "56789"),
    ]);
    range(&bench, "bytes=0-4").await;
    let seen = bench.get("/").await.has_body("0123456789");
    assert_eq!((seen.status.as_u16(), seen.field("last-modified")), (200, Some(modified)));
    assert_eq!(bench.origin.last().headers["if-range"], modified);
}

#[tokio::test]
async fn ra2_a_part_longer_or_shorter_than_its_content_range_is_not_stored() {
    for body in ["01234", "0123456789EXTRA"] {
        let lying = part("bytes 0-9/10", body).frames(&[body]);
        let bench = Bench::rfc9111([lying, Reply::cc("0123456789", "max-age=60")]);
        range(&bench, "bytes=0-").await;
        bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60").has_body("0123456789");
    }
    let honest = part("bytes 0-9/10", "0123456789").frames(&["01234", "56789"]);
    let bench = Bench::rfc9111([honest]);
    range(&bench, "bytes=0-").await;
    bench.get("/").await.told("larder; hit; ttl=60").has_body("0123456789");
}

#[tokio::test]
async fn ra2_a_206_to_a_clients_if_range_is_not_stored() {
    // Such a 206 need not have the fields of the whole.
    let bench = Bench::rfc9111([part("bytes 0-9/10", "0123456789")]);
    let sent = [("range", "bytes=0-"), ("if-range", "\"a\"")];
    bench.get_with("/", &sent).await.told("larder; fwd=uri-miss; detail=\"partial\"");
    bench.get("/").await.told("larder; fwd=uri-miss; detail=\"partial\"");
}

#[tokio::test(start_paused = true)]
async fn ra2_combined_parts_are_in_the_groups_of_both() {
    let grouped = part("bytes 0-4/10", "01234").field("cache-groups", "\"g\"");
    let (soon, later) = (Duration::from_millis(5), Duration::from_millis(10));
    let bench = Bench::rfc9111([grouped.after(soon), part("bytes 5-9/10", "56789").after(later)]);
    // Side by side, so that neither knows of the other.
    let (one, other) = tokio::join!(range(&bench, "bytes=0-4"), range(&bench, "bytes=5-9"));
    assert!(!one.is_hit() && !other.is_hit());
    range(&bench, "bytes=3-6").await.told("larder; hit; ttl=60").has_body("3456");
    bench.origin.then(Reply::new("").field("cache-group-invalidation", "\"g\""));
    bench.send(http::Method::POST, "/other", &[]).await;
    bench.origin.then(Reply::cc("0123456789", "max-age=60"));
    let seen = range(&bench, "bytes=0-9").await;
    assert!(!seen.is_hit(), "{seen:?}");
}

#[tokio::test]
async fn a14_a_part_beyond_the_bound_is_stored_alone() {
    let bench = Bench::rfc9111([]);
    for number in 0..400 {
        let at = 2 * number;
        bench.origin.then(part(&format!("bytes {at}-{at}/1000"), "x"));
        range(&bench, &format!("bytes={at}-{at}")).await.has_body("x");
    }
    range(&bench, "bytes=798-798").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn a15_the_validation_of_a_stale_part_does_not_fetch_the_whole() {
    for tag in [Some("\"a\""), None] {
        let one = |tag: Option<&str>| {
            let reply =
                Reply::cc("0", "max-age=60").status(206).field("content-range", "bytes 0-0/1073741824");
            tag.into_iter().fold(reply, |reply, tag| reply.field("etag", tag))
        };
        let bench = Bench::rfc9111([one(tag), one(tag.map(|_| "\"b\""))]);
        range(&bench, "bytes=0-0").await;
        bench.later(61);
        let seen = range(&bench, "bytes=0-0").await.told("larder; fwd=stale; stored; ttl=60").has_body("0");
        assert_eq!(seen.status, 206);
        let sent = bench.origin.last().headers;
        assert_eq!(sent["range"], "bytes=0-0");
        assert_eq!(sent.get("if-none-match").map(|tag| tag.to_str().unwrap()), tag);
        range(&bench, "bytes=0-0").await.told("larder; hit; ttl=60");
    }
}

#[tokio::test(start_paused = true)]
async fn ra2_a_stale_replayed_206_is_validated_in_the_background() {
    let several =
        Reply::cc("--b\r\n..", "max-age=60, stale-while-revalidate=60").status(206).field("etag", "\"a\"");
    let bench = Bench::rfc9111([several]);
    range(&bench, "bytes=0-0,9-9").await;
    bench.later(61);
    let fresh = Reply::new("").status(304).field("cache-control", "max-age=60").field("etag", "\"a\"");
    bench.origin.then(fresh);
    assert!(range(&bench, "bytes=0-0,9-9").await.is_hit());
    settle().await;
    assert_eq!(bench.origin.calls(), 2);
    range(&bench, "bytes=0-0,9-9").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn ra2_parts_of_two_representations_are_not_combined() {
    let other = part("bytes 5-6/10", "fg").field("etag", "\"b\"");
    let other =
        Reply { fields: other.fields.into_iter().filter(|(_, value)| value != "\"a\"").collect(), ..other };
    let bench = Bench::rfc9111([part("bytes 0-4/10", "01234"), other, part("bytes 4-5/10", "ef")]);
    range(&bench, "bytes=0-4").await;
    // An origin that does not mind `If-Range`.
    range(&bench, "bytes=5-6").await.told("larder; fwd=partial; stored; ttl=60").has_body("fg");
    range(&bench, "bytes=4-5").await.told("larder; fwd=partial; stored; ttl=60").has_body("ef");
}

#[tokio::test]
async fn ra2_a_completion_that_breaks_breaks_the_answer() {
    for reply in
        [part("bytes 5-9/10", "567").failing(), part("bytes 5-9/10", "567"), part("bytes 5-9/10", "567890")]
    {
        let bench = Bench::rfc9111([part("bytes 0-4/10", "01234"), reply, part("bytes 5-9/10", "56789")]);
        range(&bench, "bytes=0-4").await;
        let seen = bench.get("/").await;
        assert!(seen.broken, "{seen:?}");
        bench
            .get("/")
            .await
            .told("larder; fwd=partial; fwd-status=206; stored; ttl=60")
            .has_body("0123456789");
    }
}

#[tokio::test]
async fn ra2_a_stale_part_is_validated_together_with_the_range() {
    let bench = Bench::rfc9111([part("bytes 5-9/10", "56789")]);
    range(&bench, "bytes=-5").await;
    bench.later(61);
    bench.origin.then(Reply::new("").status(304).field("etag", "\"a\"").field("cache-control", "max-age=60"));
    let seen = range(&bench, "bytes=6-7").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!(seen.has_body("67").status, 206);
    // With the range: if it does not hold any more, its like is enough.
    let sent = bench.origin.last().headers;
    assert_eq!(sent["if-none-match"], "\"a\"");
    assert_eq!(sent["range"], "bytes=6-7");
    range(&bench, "bytes=6-7").await.told("larder; hit; ttl=60").has_body("67");
    // Its tag is no condition for who asks for the whole and gets it without a completion.
    bench.origin.then(Reply::cc("0123456789", "max-age=60").field("etag", "\"a\""));
    bench.get("/").await.has_body("0123456789");
    assert!(!bench.origin.last().headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn ra2_a_206_that_cannot_be_cut_answers_only_the_same_range() {
    let several = Reply::cc("--b\r\n..", "max-age=60")
        .status(206)
        .field("content-type", "multipart/byteranges; boundary=b");
    let unknown = part("bytes 0-1/*", "01");
    let contradictory = part("bytes 4-9/10", "01234");
    for (asked, reply) in [("bytes=0-0,9-9", several), ("bytes=0-1", unknown), ("bytes=-5", contradictory)] {
        let bench = Bench::rfc9111([reply.clone(), Reply::cc("0123456789", "max-age=60")]);
        let first = range(&bench, asked).await.told("larder; fwd=uri-miss; stored; ttl=60");
        let second = range(&bench, asked).await.told("larder; hit; ttl=60");
        assert_eq!((first.status, &first.body), (second.status, &second.body));
        for name in ["content-range", "content-type", "etag"] {
            assert_eq!(first.field(name), second.field(name), "{name}");
        }
        // Any other request is forwarded.
        bench.get("/").await.has_body("0123456789");
        range(&bench, "bytes=3-4").await.told("larder; hit; ttl=60").has_body("34");
    }
}

#[tokio::test]
async fn ra2_a_206_to_a_request_without_range_is_not_stored() {
    let bench = Bench::rfc9111([part("bytes 0-4/10", "01234")]);
    for _ in 0..2 {
        bench.get("/").await.told("larder; fwd=uri-miss; detail=\"partial\"");
    }
}

#[tokio::test]
async fn ra2_variants_have_parts_of_their_own() {
    let in_language = |language: &'static str, body: &'static str| {
        part("bytes 0-4/10", body).field("vary", "accept").field("etag", language)
    };
    let bench = Bench::rfc9111([in_language("\"1\"", "01234"), in_language("\"2\"", "abcde")]);
    let ask = async |accept| bench.get_with("/", &[("accept", accept), ("range", "bytes=0-1")]).await;
    ask("x").await.told("larder; fwd=uri-miss; stored; ttl=60");
    ask("y").await.told("larder; fwd=vary-miss; stored; ttl=60");
    ask("x").await.told("larder; hit; ttl=60").has_body("01");
    ask("y").await.told("larder; hit; ttl=60").has_body("ab");
}

#[tokio::test]
async fn a15_a_range_of_large_content_costs_no_more_than_the_range() {
    let layer = cache_builder_over(larder::MemoryStore::builder().max_object(100).build());
    let layer = layer.policy(StandardPolicy::rfc9111());
    let bench = Bench::with(layer, [part("bytes 0-0/1073741824", "0")]);
    for number in 0..50 {
        let path = format!("/?rnd={number}");
        bench.get_with(&path, &[("range", "bytes=0-0")]).await.has_body("0");
        assert_eq!(bench.origin.last().headers["range"], "bytes=0-0");
    }
    assert!(bench.handle.statistics().bytes < 100_000);
    // More than may be stored is never put together.
    let piece = "x".repeat(80);
    bench.origin.then(part("bytes 0-79/1000", &piece));
    range(&bench, "bytes=0-79").await;
    bench.origin.then(part("bytes 80-159/1000", &piece));
    range(&bench, "bytes=80-159").await;
    range(&bench, "bytes=80-159").await.told("larder; hit; ttl=60").has_body(&piece);
}

/// An origin of one resource, whose content is another one in each version, that knows ranges.
#[derive(Clone)]
struct Ranging {
    version: Arc<Mutex<usize>>,
}

const LENGTH: usize = 24;

fn content(version: usize) -> String {
    (0..LENGTH).map(|at| char::from(b'A' + ((at * 7 + version * 11) % 26) as u8)).collect()
}

fn fields(version: usize) -> [(header::HeaderName, String); 2] {
    [(header::ETAG, format!("\"{version}\"")), (header::CACHE_CONTROL, "max-age=30".into())]
}

/// The one range that a request asks for, from a byte that exists on.
fn asked(sent: &HeaderMap) -> Option<(usize, usize)> {
    let (first, last) = sent.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() { LENGTH - 1 } else { last.parse().ok()? };
    Some((first.parse().ok()?, last.min(LENGTH - 1)))
}

impl<Q> Service<Request<Q>> for Ranging {
    type Response = Response<Full<Bytes>>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let version = *self.version.lock().unwrap();
        let (tag, whole) = (format!("\"{version}\""), content(version));
        let sent = request.headers();
        let is_named = |name| sent.get(name).is_some_and(|value: &HeaderValue| value == tag.as_str());
        let may_cut = !sent.contains_key(header::IF_RANGE) || is_named(header::IF_RANGE);
        let range = if may_cut { asked(sent) } else { None };
        let (status, told, body) = if is_named(header::IF_NONE_MATCH) {
            (304, None, String::new())
        } else {
            match range {
                Some((first, last)) => {
                    let told = format!("bytes {first}-{last}/{LENGTH}");
                    (206, Some(told), whole[first..=last].to_owned())
                }
                None => (200, None, whole),
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields(version).into_iter().chain(told.map(|told| (header::CONTENT_RANGE, told)))
        {
            response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
        }
        ready(Ok(response))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Change,
    Get(Option<(usize, usize)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1u64..40).prop_map(Step::Advance),
        1 => Just(Step::Change),
        12 => (0..LENGTH, 0..LENGTH).prop_map(|(a, b)| Step::Get(Some((a.min(b), a.max(b))))),
        2 => Just(Step::Get(None)),
    ]
}

async fn fetch(cache: &CacheService<Ranging>, range: Option<(usize, usize)>) -> Seen {
    let mut request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
    if let Some((first, last)) = range {
        let value = HeaderValue::from_str(&format!("bytes={first}-{last}")).unwrap();
        request.headers_mut().insert(header::RANGE, value);
    }
    read(cache.clone().call(request).await.unwrap()).await
}

/// What was got is, byte for byte, what was asked for, of the version that its tag names.
fn check(seen: &Seen, range: Option<(usize, usize)>) -> Result<(), TestCaseError> {
    let tag: HeaderMap = seen.fields.clone();
    let version: usize = tag[header::ETAG].to_str().unwrap().trim_matches('"').parse().unwrap();
    let whole = content(version);
    let expected = match range {
        Some((first, last)) if seen.status == 206 => {
            let told = format!("bytes {first}-{last}/{LENGTH}");
            prop_assert_eq!(seen.field("content-range"), Some(told.as_str()));
            &whole[first..=last]
        }
        _ => {
            prop_assert_eq!(seen.status, 200);
            prop_assert_eq!(seen.field("content-range"), None);
            &whole[..]
        }
    };
    prop_assert_eq!(&seen.body, expected);
    prop_assert!(!seen.broken);
    Ok(())
}

proptest! {
    #![proptest_config(crate::support::cases(400))]

    #[test]
    fn ra2_no_answer_mixes_versions_or_misplaces_a_byte(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let version = Arc::new(Mutex::new(0));
            let (clock, hand) = Clock::manual();
            let layer = cache_builder().policy(StandardPolicy::rfc9111()).clock(clock).build();
            let cache = layer.layer(Ranging { version: Arc::clone(&version) });
            for step in steps {
                match step {
                    Step::Advance(seconds) => hand.advance(Duration::from_secs(seconds)),
                    Step::Change => *version.lock().unwrap() += 1,
                    Step::Get(range) => check(&fetch(&cache, range).await, range)?,
                }
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}
