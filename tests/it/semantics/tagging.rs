//! Entity tags that the cache generates (RFC 9110 8.8.3; FE1).

use http::Method;
use larder::Tagging;

use crate::support::bench::read;
use crate::support::{Bench, Reply, Stage, Step, cache_builder, settle};

#[tokio::test]
async fn fe1_the_first_answer_has_a_weak_tag_with_the_length() {
    let bench = Bench::new([Reply::cc("pantry", "max-age=60")]);
    let first = bench.get("/").await;
    let tag = first.field("etag").unwrap();
    assert!(tag.starts_with("W/\"6-") && tag.ends_with('"'), "{tag}");
    assert_eq!(bench.get("/").await.field("etag"), Some(tag));
}

#[tokio::test]
async fn fe1_the_first_answer_can_be_a_304() {
    let bench = Bench::new([Reply::cc("pantry", "max-age=60")]);
    let tag = bench.get("/a").await.field("etag").unwrap().to_owned();
    let seen = bench.get_with("/b", &[("if-none-match", &tag)]).await;
    assert_eq!(seen.status, 304);
    seen.told("larder; fwd=uri-miss; stored; ttl=60").has_body("");
}

/// The beginning of small content may come a moment after its head, and the rest with it.
#[tokio::test(start_paused = true)]
async fn fe1_the_first_answer_has_a_tag_if_that_does_not_delay_it() {
    for cache_control in ["max-age=60", "private"] {
        // How much of two frames and the end comes after the head in one go.
        for (there, is_tagged) in [(3, true), (1, false)] {
            let case = format!("{cache_control}, {there} of 3");
            let stage = Stage::new();
            let client = stage.get("/");
            settle().await;
            let call = stage.origin.call(0);
            call.head(&[("cache-control", cache_control), ("content-length", "6")]);
            settle().await;
            assert!(client.is_waiting(), "{case}");
            let steps = [Step::frame("pan"), Step::frame("try"), Step::End];
            call.steps(&steps[..there]);
            let response = client.response().await;
            assert_eq!(response.headers().contains_key("etag"), is_tagged, "{case}");
            call.steps(&steps[there..]);
            read(response).await.has_body("pantry");
            if cache_control == "max-age=60" {
                let hit = stage.get("/").seen().await;
                assert!(hit.is_hit() && hit.field("etag").unwrap().starts_with("W/\"6-"), "{case}");
            }
        }
    }
}

/// It can be that the client has it already.
#[tokio::test(start_paused = true)]
async fn fe1_a_conditional_request_waits_for_the_tag() {
    let tag =
        Bench::new([Reply::cc("pantry", "max-age=60")]).get("/").await.field("etag").unwrap().to_owned();
    for cache_control in ["max-age=60", "private"] {
        let stage = Stage::new();
        let client = stage.get_with("/", &[("if-none-match", &tag)]);
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[("cache-control", cache_control), ("content-length", "6")]).frame("pan");
        tokio::time::sleep(std::time::Duration::from_millis(900)).await;
        assert!(client.is_waiting(), "{cache_control}");
        call.frame("try").end();
        assert_eq!(client.seen().await.has_body("").status, 304, "{cache_control}");
    }
}

/// Nothing has to be made of the content then.
#[tokio::test(start_paused = true)]
async fn a_condition_on_the_origins_own_tag_is_answered_from_the_head_alone() {
    for cache_control in ["max-age=60", "private"] {
        let stage = Stage::new();
        let client = stage.get_with("/", &[("if-none-match", "\"1\"")]);
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[("cache-control", cache_control), ("content-length", "6"), ("etag", "\"1\"")])
            .frame("pan");
        assert_eq!(client.seen().await.has_body("").status, 304, "{cache_control}");
    }
}

#[tokio::test]
async fn fe1_private_responses_are_tagged() {
    let bench = Bench::new([Reply::cc("mine", "private, max-age=60")]);
    let tag = bench.get("/").await.has_body("mine").field("etag").unwrap().to_owned();
    let seen = bench.get_with("/", &[("if-none-match", &tag)]).await;
    assert_eq!(seen.status, 304);
    assert_eq!(seen.field("cache-control"), Some("private, max-age=60"));
    seen.told("larder; fwd=uri-miss; detail=\"private\"");
    assert_eq!(bench.origin.calls(), 2);
}

#[tokio::test]
async fn fe1_an_existing_tag_is_kept() {
    for tag in ["\"own\"", "W/\"own\"", "own"] {
        let bench = Bench::new([Reply::cc("x", "max-age=60").field("etag", tag)]);
        assert_eq!(bench.get("/").await.field("etag"), Some(tag));
        assert_eq!(bench.get("/").await.field("etag"), Some(tag));
    }
}

#[tokio::test]
async fn errors_no_store_and_private_streams_get_no_tag() {
    let cases = [
        Reply::cc("x", "no-store"),
        Reply::cc("x", "max-age=60").status(404),
        Reply::cc("x", "max-age=60").status(201),
        Reply::cc("", "private").frames(&["a", "b"]),
    ];
    for reply in cases {
        let bench = Bench::new([reply.clone()]);
        for _ in 0..2 {
            assert_eq!(bench.get("/").await.field("etag"), None, "{reply:?}");
        }
    }
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    assert_eq!(bench.send(Method::POST, "/", &[]).await.field("etag"), None);
    let bench = Bench::with(cache_builder().without_tagging(), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    assert_eq!(bench.get("/").await.field("etag"), None);
}

#[tokio::test]
async fn a_stored_stream_has_a_tag_from_its_second_answer_on() {
    let bench = Bench::new([Reply::cc("", "max-age=60").frames(&["pan", "try"])]);
    assert_eq!(bench.get("/").await.field("etag"), None);
    let hit = bench.get("/").await.told("larder; hit; ttl=60");
    let whole = Bench::new([Reply::cc("pantry", "max-age=60")]).get("/").await;
    assert_eq!(hit.field("etag"), whole.field("etag"));
}

#[tokio::test]
async fn the_limit_for_small_content_is_settable() {
    let reply = || Reply::cc("0123456789", "private");
    for (limit, tagged) in [(10, true), (9, false)] {
        let layer = cache_builder().tagging(Tagging::weak().small(limit));
        let seen = Bench::with(layer, [reply()]).get("/").await.has_body("0123456789");
        assert_eq!(seen.field("etag").is_some(), tagged, "{limit}");
    }
}

#[cfg(feature = "blake3")]
#[tokio::test]
async fn a_strong_tag_meets_if_none_match_and_if_match() {
    let layer = cache_builder().tagging(Tagging::strong());
    let bench = Bench::with(layer, [Reply::cc("pantry", "max-age=60")]);
    let tag = bench.get("/").await.field("etag").unwrap().to_owned();
    assert!(tag.starts_with("\"6-") && tag.len() == 36, "{tag}");
    assert_eq!(bench.get_with("/", &[("if-none-match", &tag)]).await.status, 304);
    assert_eq!(bench.get_with("/", &[("if-match", &tag)]).await.status, 200);
}

/// Two contents of one length with one weak tag: the bytes of the first lane of FNV-1a collide, and all else is the same.
fn forged(index: usize) -> String {
    let hex =
        ["76272f46272c31342d325d6535753f5f2b2236457e27", "7624255d6521307c2a357428323336473c2628445a23"]
            [index];
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|start| u8::from_str_radix(&hex[start..start + 2], 16).unwrap())
        .collect();
    let words: Vec<_> = bytes.chunks(8).collect();
    String::from_utf8(words.join(&[b'.'; 88][..])).unwrap()
}

#[tokio::test]
async fn a05_a_forged_fnv_tag_never_passes_for_a_strong_one() {
    let bench = Bench::new([Reply::cc(&forged(0), "max-age=60"), Reply::cc(&forged(1), "max-age=60")]);
    let first = bench.get("/").await.has_body(&forged(0));
    let tag = first.field("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/"), "weak: {tag}");
    bench.later(61);
    let swapped = bench.get("/").await.has_body(&forged(1));
    assert_eq!(swapped.field("etag"), Some(tag.as_str()), "the tags collide, which is why they are weak");
    // A weak tag is no ground for If-Match, nor to splice ranges.
    assert_eq!(bench.get_with("/", &[("if-match", &tag)]).await.status, 412);
    let range = [("range", "bytes=0-3"), ("if-range", &tag)];
    let whole = bench.get_with("/", &range).await.has_body(&forged(1));
    assert_eq!(whole.status, 200);
}

#[cfg(feature = "blake3")]
#[tokio::test]
async fn a05_strong_tags_reveal_forged_content() {
    let layer = cache_builder().tagging(Tagging::strong());
    let bench =
        Bench::with(layer, [Reply::cc(&forged(0), "max-age=60"), Reply::cc(&forged(1), "max-age=60")]);
    let tag = bench.get("/").await.field("etag").unwrap().to_owned();
    bench.later(61);
    bench.get_with("/", &[("if-none-match", &tag)]).await.has_body(&forged(1));
}

#[tokio::test]
async fn a_tag_is_the_same_whatever_the_frames_of_its_content() {
    let whole = Bench::new([Reply::cc("abcdef", "max-age=60")]);
    let split = Bench::new([Reply::cc("", "max-age=60").frames(&["ab", "", "cdef"])]);
    split.get("/").await;
    assert_eq!(split.get("/").await.field("etag"), whole.get("/").await.field("etag"));
}
