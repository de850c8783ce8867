//! Entity tags on answers that are not stored: `CacheBuilder::tag_only`.

mod calls;
mod hooks;
mod reports;

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::{Empty, Full};
use larder::semantics::etag::{TagKind, Tagger};
use larder::{QueryLayer, Tagging};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::{Bench, Reply, Stage, Step, cache_builder, settle};

fn tagging(replies: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(cache_builder().tag_only(), replies)
}

/// The weak tag of some content.
fn tag(content: &str) -> String {
    let mut tagger = Tagger::new(TagKind::Fnv1a);
    tagger.update(content.as_bytes());
    tagger.finish().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn fe1_a_layer_that_stores_nothing_answers_a_condition_by_its_own_tag() {
    let bench = tagging([Reply::cc("x", "max-age=60")]);
    let first = bench.get("/").await.has_body("x");
    let tag = first.field("etag").unwrap();
    assert_eq!(tag, self::tag("x"));
    let seen = bench.get_with("/", &[("if-none-match", tag)]).await.has_body("");
    assert_eq!((seen.status, bench.origin.calls()), (StatusCode::NOT_MODIFIED, 2));
    assert_eq!((seen.field("etag"), seen.field("cache-control")), (Some(tag), Some("max-age=60")));
    // What the client sends reaches an origin that may know its own tags.
    assert_eq!(bench.origin.last().headers["if-none-match"], tag);
    assert_eq!(bench.handle.statistics().entries, 0);
    bench.origin.then(Reply::new("").status(304).field("etag", "\"own\""));
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"own\"")]).await.status, 304);
}

#[tokio::test]
async fn fe1_only_small_answers_to_get_that_may_be_kept_and_have_no_tag_get_one() {
    let long = "x".repeat(65_537);
    let cases = [
        (Reply::new("x"), true),
        (Reply::new(""), true),
        (Reply::cc("x", "private"), true),
        (Reply::cc("x", "no-cache"), true),
        (Reply::new("x").status(203), true),
        (Reply::new(&long[1..]), true),
        (Reply::new(&long), false),
        (Reply::cc("x", "no-store"), false),
        (Reply::cc("x", "max-age=60, No-Store"), false),
        (Reply::new("x").field("cdn-cache-control", "no-store"), false),
        (Reply::cc("x", "no-store").field("cdn-cache-control", "max-age=60"), true),
        (Reply::new("x").status(201), false),
        (Reply::new("x").status(206), false),
        (Reply::new("x").status(404), false),
        (Reply::new("").status(204), false),
        (Reply::new("").frames(&["a", "b"]), false),
    ];
    for (reply, is_tagged) in cases {
        let bench = tagging([reply.clone()]);
        let (first, second) = (bench.get("/").await, bench.get("/").await);
        assert_eq!(first.field("etag").is_some(), is_tagged, "{:?}", reply.fields);
        assert_eq!(first.field("etag"), second.field("etag"));
        assert_eq!(first.body.len(), reply.frames.iter().map(Bytes::len).sum::<usize>());
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            assert_eq!(bench.send(method, "/", &[]).await.field("etag"), None);
        }
    }
    for own in ["\"own\"", "W/\"own\"", "own"] {
        assert_eq!(tagging([Reply::new("x").field("etag", own)]).get("/").await.field("etag"), Some(own));
    }
    let untagged = Bench::with(cache_builder().tag_only().without_tagging(), [Reply::new("x")]);
    assert_eq!(untagged.get("/").await.has_body("x").field("etag"), None);
}

#[tokio::test]
async fn conditions_are_evaluated_on_successful_answers() {
    const MODIFIED: &str = "Tue, 01 Sep 2020 00:00:00 GMT";
    const LATER: &str = "Wed, 02 Sep 2020 00:00:00 GMT";
    const EARLIER: &str = "Mon, 31 Aug 2020 00:00:00 GMT";
    let own = || Reply::new("x").field("etag", "\"own\"").field("last-modified", MODIFIED);
    let dated = || Reply::new("x").field("last-modified", MODIFIED);
    let generated = tag("x");
    let listed = format!("\"a\", {generated}");
    // RFC 9110 13.1.
    let cases: [(Reply, &[(&str, &str)], u16); 18] = [
        (dated(), &[("if-none-match", &generated)], 304),
        (dated(), &[("if-none-match", &listed)], 304),
        (dated(), &[("if-none-match", "\"a\"")], 200),
        (dated(), &[("if-none-match", "*")], 304),
        (dated(), &[("if-none-match", "\"a\""), ("if-modified-since", LATER)], 200),
        (dated(), &[("if-modified-since", LATER)], 304),
        (dated(), &[("if-modified-since", EARLIER)], 200),
        (dated(), &[("if-unmodified-since", LATER)], 200),
        (dated(), &[("if-unmodified-since", EARLIER)], 412),
        // A weak tag never matches strongly.
        (dated(), &[("if-match", &generated)], 412),
        (dated(), &[("if-match", "*")], 200),
        (own(), &[("if-match", "\"own\"")], 200),
        (own(), &[("if-match", "\"a\", \"b\"")], 412),
        (own(), &[("if-none-match", "W/\"own\"")], 304),
        (own().status(404), &[("if-none-match", "\"own\"")], 404),
        (own().status(404), &[("if-match", "\"a\"")], 404),
        // A range is the origin's to cut, and so is what it says to conditions.
        (own(), &[("if-none-match", "\"own\""), ("range", "bytes=0-0")], 200),
        (own().status(206), &[("if-range", &generated), ("range", "bytes=0-0")], 206),
    ];
    for (reply, fields, status) in cases {
        for method in [Method::GET, Method::HEAD] {
            if method == Method::HEAD
                && fields
                    .iter()
                    .any(|(name, value)| *name == "range" || *value == generated || *value == listed)
            {
                continue; // it has no generated tag
            }
            let bench = tagging([reply.clone()]);
            let seen = bench.send(method.clone(), "/", fields).await;
            assert_eq!(seen.status.as_u16(), status, "{method} {fields:?}");
            let has_content = method == Method::GET && !matches!(status, 304 | 412);
            assert_eq!(seen.body, if has_content { "x" } else { "" }, "{method} {fields:?}");
            // The origin sees them too.
            for (name, value) in fields {
                assert_eq!(bench.origin.last().headers[*name], value);
            }
        }
    }
}

#[tokio::test]
async fn a_304_has_the_fields_that_were_sent_for_this_client() {
    let reply = Reply::cc("x", "private")
        .field("age", "7")
        .field("set-cookie", "a=b")
        .field("content-type", "text/plain")
        .field("last-modified", "Tue, 01 Sep 2020 00:00:00 GMT")
        .field("vary", "accept");
    let seen = tagging([reply]).get_with("/", &[("if-none-match", &tag("x"))]).await;
    let mut names: Vec<_> = seen.fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["age", "cache-control", "etag", "set-cookie", "vary"]);
}

/// There is no later answer to have the tag.
#[tokio::test(start_paused = true)]
async fn small_content_is_waited_for_up_to_a_second() {
    for (delay, is_tagged) in [(0, true), (900, true), (1100, false)] {
        let stage = Stage::with(cache_builder().tag_only());
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(&[("cache-control", "max-age=60"), ("content-length", "6")]).frame("pan");
        tokio::time::sleep(Duration::from_millis(delay)).await;
        assert_eq!(client.is_waiting(), delay < 1000, "{delay}");
        let response = client.response();
        let response = if is_tagged {
            call.frame("try").end();
            response.await
        } else {
            let response = response.await;
            call.frame("try").end();
            response
        };
        let seen = read(response).await.has_body("pantry");
        assert_eq!(seen.field("etag").map(str::to_owned), is_tagged.then(|| tag("pantry")), "{delay}");
        assert!(!seen.broken, "{delay}");
    }
}

#[tokio::test]
async fn content_is_waited_for_where_there_is_no_runtime() {
    let stage = Stage::with(cache_builder().tag_only());
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    stage.origin.script(&[Step::head(200, &[("content-length", "6")]), Step::frame("pan")]);
    let mut cache = stage.cache.clone();
    let answered = std::thread::spawn(move || {
        let mut answer = Box::pin(cache.call(request));
        assert!(answer.as_mut().now_or_never().is_none());
        stage.origin.call(0).frame("try").end();
        answer.now_or_never().expect("the content is whole").unwrap()
    });
    let seen = read(answered.join().unwrap()).await.has_body("pantry");
    assert_eq!(seen.field("etag"), Some(&*tag("pantry")));
}

#[tokio::test]
async fn large_content_and_streams_pass_frame_by_frame() {
    for fields in [&[][..], &[("content-length", "100000")]] {
        let stage = Stage::with(cache_builder().tag_only());
        let client = stage.get("/");
        settle().await;
        let call = stage.origin.call(0);
        call.head(fields).frame("pan");
        let mut body = client.body().await;
        assert_eq!(body.next().await.as_deref(), Some("pan"), "{fields:?}");
        call.frame("try");
        assert_eq!(body.next().await.as_deref(), Some("try"), "{fields:?}");
    }
}

/// Content of several blocks is read, counted and taken away as that of a cache is.
#[tokio::test]
async fn content_of_any_length_is_tagged_where_the_limit_says_so() {
    let long = "x".repeat(150_000);
    for (limit, is_tagged) in [(150_000, true), (149_999, false)] {
        let layer = cache_builder().tag_only().tagging(Tagging::weak().small(limit));
        let length = long.len().to_string();
        let reply =
            Reply::new("").frames(&[&long[..70_000], &long[70_000..]]).field("content-length", &length);
        let seen = Bench::with(layer, [reply]).get("/").await.has_body(&long);
        assert_eq!(seen.field("etag").map(str::to_owned), is_tagged.then(|| tag(&long)), "{limit}");
    }
}

#[tokio::test]
async fn trailers_follow_tagged_content() {
    let seen = tagging([Reply::new("x").trailer("x-sum", "1")]).get("/").await.has_body("x");
    assert_eq!(seen.trailers.unwrap()["x-sum"], "1");
    assert_eq!(seen.fields["etag"], tag("x"));
}

#[tokio::test]
async fn content_that_breaks_or_is_not_as_long_as_declared_ends_in_an_error() {
    let x = || Reply::new("").frames(&["pan"]);
    for reply in [
        x().field("content-length", "3").failing(),
        x().field("content-length", "6"),
        x().field("content-length", "2"),
        x().field("content-length", "100000"),
        x().failing(),
    ] {
        let bench = tagging([reply.clone()]);
        for fields in [&[][..], &[("if-none-match", "\"other\"")]] {
            let seen = bench.get_with("/", fields).await;
            assert!(seen.broken && seen.status == 200, "{reply:?}");
            assert_eq!(seen.field("etag"), None, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_a_502() {
    let bench = tagging([Reply::new("").status(304).field("etag", "\"a\"")]);
    assert_eq!(bench.get("/").await.status, 502);
    for tag in ["\"a\"", "\"b\""] {
        assert_eq!(bench.get_with("/", &[("if-match", tag)]).await.status, 502);
    }
    assert_eq!(bench.get_with("/", &[("if-none-match", "\"a\"")]).await.status, 304);
}

#[tokio::test]
async fn what_contradicts_itself_about_length_is_repaired() {
    let reply = Reply::new("x").field("content-length", "1").field("transfer-encoding", "chunked");
    let seen = tagging([reply]).get("/").await.has_body("x");
    assert_eq!((seen.field("content-length"), seen.field("etag")), (None, Some(&*tag("x"))));
}

#[tokio::test]
async fn the_answer_to_a_query_whose_content_is_known_gets_a_tag() {
    let layer = cache_builder().tag_only();
    let layer = layer.build();
    let plain = layer.layer(always(Reply::new("found")));
    let known = QueryLayer::new().layer(layer.layer(always(Reply::new("found"))));
    let request =
        || Request::builder().method(Method::QUERY).uri("/").body(Full::<Bytes>::from("a=b")).unwrap();
    let seen = read(known.clone().call(request()).await.unwrap()).await.has_body("found");
    assert_eq!(seen.field("etag"), Some(&*tag("found")));
    assert_eq!(read(plain.clone().call(request()).await.unwrap()).await.field("etag"), None);
}

#[cfg(feature = "blake3")]
#[tokio::test]
async fn strong_tags_match_strongly() {
    let layer = cache_builder().tagging(Tagging::strong()).tag_only();
    let bench = Bench::with(layer, [Reply::new("x")]);
    let tag = bench.get("/").await.field("etag").unwrap().to_owned();
    assert!(tag.starts_with("\"1-") && tag.len() == 36, "{tag}");
    assert_eq!(bench.get_with("/", &[("if-match", &tag)]).await.status, 200);
    assert_eq!(bench.get_with("/", &[("if-none-match", &tag)]).await.status, 304);
}
