//! Validators that two codings of one page share, as frameworks give them: a client that puts bytes together by them
//! never gets those of two codings.

use std::time::Duration;

use larder::StandardPolicy;

use crate::support::{Bench, Reply, Seen, cache_builder};

const TAG: &str = "\"x\"";
const MODIFIED: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

fn plain(tag: &str) -> Reply {
    Reply::cc("0123456789", "max-age=60").field("vary", "accept-encoding").field("etag", tag)
}

fn gzip(tag: &str) -> Reply {
    Reply::cc("abcdefghij", "max-age=60")
        .field("vary", "accept-encoding")
        .field("content-encoding", "gzip")
        .field("etag", tag)
}

async fn ask(bench: &Bench, accepts: &str, fields: &[(&str, &str)]) -> Seen {
    let fields = [&[("accept-encoding", accepts)], fields].concat();
    bench.get_with("/", &fields).await
}

/// The status and content of an answer to a request for the first two bytes.
async fn range(bench: &Bench, accepts: &str, if_range: Option<&str>) -> (u16, String) {
    let if_range = if_range.map(|validator| ("if-range", validator));
    let fields: Vec<_> = [("range", "bytes=0-1")].into_iter().chain(if_range).collect();
    let seen = ask(bench, accepts, &fields).await.told("larder; hit; ttl=60");
    (seen.status.as_u16(), seen.body)
}

fn whole(content: &str) -> (u16, String) {
    (200, content.to_owned())
}

fn part(content: &str) -> (u16, String) {
    (206, content.to_owned())
}

/// A cache that holds these for `gzip` and for `identity`.
async fn holding(gzip: Option<Reply>, plain: Option<Reply>) -> Bench {
    let replies: Vec<_> = gzip.clone().into_iter().chain(plain.clone()).collect();
    let bench = Bench::new(replies);
    for (reply, accepts) in [(gzip, "gzip"), (plain, "identity")] {
        if reply.is_some() {
            ask(&bench, accepts, &[]).await;
        }
    }
    bench
}

#[tokio::test]
async fn va3_content_in_a_negotiated_coding_under_an_origins_strong_tag_is_sent_whole() {
    // The client may have got the beginning as a range of the plain content, which no framework codes.
    let bench = holding(Some(gzip(TAG)), None).await;
    for if_range in [None, Some(TAG), Some("\"y\"")] {
        assert_eq!(range(&bench, "gzip", if_range).await, whole("abcdefghij"), "{if_range:?}");
    }
    let several = ask(&bench, "gzip", &[("range", "bytes=0-1, 4-5")]).await;
    assert_eq!((several.status.as_u16(), several.body.as_str()), (200, "abcdefghij"));
    let beyond = ask(&bench, "gzip", &[("range", "bytes=99-")]).await;
    assert_eq!((beyond.status.as_u16(), beyond.body.as_str()), (200, "abcdefghij"));
    assert_eq!(bench.origin.calls(), 1);
}

#[tokio::test]
async fn va3_a_tag_that_is_on_two_stored_codings_counts_as_weak_for_both() {
    let bench = holding(Some(gzip(TAG)), Some(plain(TAG))).await;
    for if_range in [None, Some(TAG)] {
        assert_eq!(range(&bench, "gzip", if_range).await, whole("abcdefghij"), "{if_range:?}");
        assert_eq!(range(&bench, "identity", if_range).await, whole("0123456789"), "{if_range:?}");
    }
    // It stays as it is, and a 304 by it is the right one.
    let not_modified = ask(&bench, "identity", &[("if-none-match", TAG)]).await;
    assert_eq!((not_modified.status.as_u16(), not_modified.field("etag")), (304, Some(TAG)));
    assert_eq!(bench.origin.calls(), 2);
}

#[tokio::test]
async fn va3_codings_with_a_tag_each_leave_the_plain_content_its_ranges() {
    let bench = holding(Some(gzip("\"x-gzip\"")), Some(plain(TAG))).await;
    assert_eq!(range(&bench, "identity", Some(TAG)).await, part("01"));
    assert_eq!(range(&bench, "identity", Some("\"x-gzip\"")).await, whole("0123456789"));
    let weakened = holding(Some(gzip("W/\"x\"")), Some(plain(TAG))).await;
    assert_eq!(range(&weakened, "identity", Some(TAG)).await, part("01"));
    assert_eq!(range(&weakened, "gzip", None).await, part("ab"));
    assert_eq!(range(&weakened, "gzip", Some("W/\"x\"")).await, whole("abcdefghij"));
}

#[tokio::test]
async fn va3_plain_content_without_a_known_coding_has_ranges() {
    let bench = holding(None, Some(plain(TAG))).await;
    assert_eq!(range(&bench, "identity", Some(TAG)).await, part("01"));
}

#[tokio::test]
async fn va3_a_coding_that_is_not_negotiated_has_ranges() {
    // As a file that is stored compressed.
    let file = Reply::cc("abcdefghij", "max-age=60").field("content-encoding", "gzip").field("etag", TAG);
    let bench = holding(Some(file), None).await;
    assert_eq!(range(&bench, "gzip", Some(TAG)).await, part("ab"));
}

#[tokio::test]
async fn va3_a_date_of_two_codings_joins_no_ranges() {
    let dated = |reply: Reply| {
        let mut reply = reply.field("last-modified", MODIFIED);
        reply.fields.retain(|(name, _)| name != "etag");
        reply
    };
    let builder = || cache_builder().without_tagging();
    let bench = Bench::with(builder(), [dated(gzip("")), dated(plain(""))]);
    ask(&bench, "gzip", &[]).await;
    for if_range in [None, Some(MODIFIED)] {
        assert_eq!(range(&bench, "gzip", if_range).await, whole("abcdefghij"), "{if_range:?}");
    }
    ask(&bench, "identity", &[]).await;
    for if_range in [None, Some(MODIFIED)] {
        assert_eq!(range(&bench, "identity", if_range).await, whole("0123456789"), "{if_range:?}");
    }
    let alone = Bench::with(builder(), [dated(plain(""))]);
    ask(&alone, "identity", &[]).await;
    assert_eq!(range(&alone, "identity", Some(MODIFIED)).await, part("01"));
    // A weak tag does not make the date one of this coding.
    let weakened = Bench::new([gzip("W/\"x\"").field("last-modified", MODIFIED)]);
    ask(&weakened, "gzip", &[]).await;
    assert_eq!(range(&weakened, "gzip", Some(MODIFIED)).await, whole("abcdefghij"));
}

#[tokio::test]
async fn va3_the_rest_of_another_coding_is_not_asked_for() {
    let bench = holding(Some(gzip(TAG)), None).await;
    bench.origin.then(plain(TAG));
    // What the client has of this tag is gzip, which it does not accept any more.
    let seen = ask(&bench, "identity", &[("range", "bytes=4-"), ("if-range", TAG)]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (200, "0123456789"));
    let sent = bench.origin.last().headers;
    assert_eq!((sent.get("range"), sent.get("if-range")), (None, None));
    // Of another tag nobody knows that.
    let bench = holding(Some(gzip(TAG)), None).await;
    ask(&bench, "identity", &[("range", "bytes=4-"), ("if-range", "\"y\"")]).await;
    assert!(bench.origin.last().headers.contains_key("range"));
}

/// These bytes of ten, under one tag.
fn bytes(range: &str, body: &str) -> Reply {
    Reply::cc(body, "max-age=60")
        .status(206)
        .field("content-range", &format!("bytes {range}/10"))
        .field("etag", TAG)
        .field("vary", "accept-encoding")
}

#[tokio::test(start_paused = true)]
async fn ra2_parts_in_two_codings_are_not_joined() {
    for coding in ["identity", "gzip"] {
        let policy = cache_builder().policy(StandardPolicy::default().partial(true));
        let late = |reply: Reply, seconds| reply.after(Duration::from_secs(seconds));
        let second = bytes("2-3", "cd").field("content-encoding", "gzip");
        let first = bytes("0-1", "ab").field("content-encoding", coding);
        let bench = Bench::with(policy, [late(first, 1), late(second, 2)]);
        // Neither of them completes the other one.
        let range = async |range| ask(&bench, "gzip", &[("range", range)]).await;
        tokio::join!(range("bytes=0-1"), range("bytes=2-3"));
        bench.origin.then(Reply::refused());
        let fields = [("accept-encoding", "gzip"), ("range", "bytes=0-3")];
        let both = bench.try_send(http::Method::GET, "/", &fields).await;
        assert_eq!(
            both.ok().map(|seen| seen.body),
            (coding == "gzip").then(|| "abcd".to_owned()),
            "{coding}"
        );
    }
}

#[tokio::test]
async fn ra2_a_part_is_not_completed_in_another_coding() {
    let policy = cache_builder().policy(StandardPolicy::default().partial(true));
    let rest = bytes("5-9", "fghij").field("content-encoding", "gzip");
    let bench = Bench::with(policy, [bytes("0-4", "01234"), rest, plain(TAG)]);
    ask(&bench, "gzip", &[("range", "bytes=0-4")]).await;
    // As every 206 that does not fit.
    let seen =
        ask(&bench, "gzip", &[]).await.told("larder; fwd=partial; fwd-status=206; detail=\"unfit-part\"");
    assert_eq!(seen.status, 502);
    let seen = ask(&bench, "gzip", &[]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (200, "0123456789"));
}

#[tokio::test]
async fn ra2_a_206_that_leaves_out_the_coding_completes_a_part() {
    // RFC 9110 15.3.7.1.
    let policy = cache_builder().policy(StandardPolicy::default().partial(true));
    let first = bytes("0-4", "abcde").field("content-encoding", "gzip");
    let bench = Bench::with(policy, [first, bytes("5-9", "fghij")]);
    ask(&bench, "gzip", &[("range", "bytes=0-4")]).await;
    let seen = ask(&bench, "gzip", &[]).await;
    assert_eq!((seen.status.as_u16(), seen.body.as_str()), (200, "abcdefghij"));
    assert_eq!(seen.field("content-encoding"), Some("gzip"));
}
