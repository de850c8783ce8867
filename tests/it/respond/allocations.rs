//! How often a hit and a 304 allocate.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use larder::{CacheBody, CacheBuilder};
use tower::{Layer, Service};

use crate::support::alloc;
use crate::support::origin::{Origin, Refused, Reply};

/// A response with eight fields of the origin's.
fn eight_fields() -> Reply {
    Reply::cc("x", "max-age=600")
        .field("content-type", "text/html; charset=utf-8")
        .field("content-language", "en")
        .field("date", "Mon, 21 Sep 2026 14:13:20 GMT")
        .field("etag", "\"a\"")
        .field("last-modified", "Mon, 21 Sep 2026 14:00:00 GMT")
        .field("server", "origin")
        .field("x-request-id", "1234")
}

type Answer = Result<Response<CacheBody>, Refused>;

fn request(fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get("/articles/some-article?page=2").header("host", "www.example.com");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

/// The answer to a request after one that filled the cache, and the allocations within the layer. The
/// request is made before and the answer dropped after.
fn measure(fields: &[(&str, &str)]) -> (u64, Response<CacheBody>) {
    let origin = Origin::new([eight_fields()]);
    let mut cache = CacheBuilder::default().clock(larder::Clock::manual().0).build().layer(origin);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // The first one fills the cache; then the thread learns what it answers with often.
        for _ in 0..4 {
            let answer: Answer = cache.call(request(fields)).await;
            drop(answer);
        }
        let request = request(fields);
        let (count, answer) = alloc::during(|| cache.call(request).now_or_never());
        let answer: Answer = answer.expect("a hit is ready at once");
        (count, answer.unwrap())
    })
}

#[test]
fn a_hit_allocates_at_most_three_times() {
    let (count, answer) = measure(&[]);
    assert!(answer.headers()["cache-status"].to_str().unwrap().contains("hit"));
    assert!(answer.headers().len() >= 10, "{:?}", answer.headers());
    assert!(count <= 3, "{count} allocations");
    println!("a hit: {count} allocations");
}

#[test]
fn a_hit_of_coded_content_without_vary_allocates_no_more() {
    let origin = Origin::new([eight_fields().field("content-encoding", "gzip")]);
    let mut cache = CacheBuilder::default().clock(larder::Clock::manual().0).build().layer(origin);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let coded = || request(&[("accept-encoding", "deflate, gzip, br, zstd")]);
        for _ in 0..4 {
            let answer: Answer = cache.call(coded()).await;
            drop(answer);
        }
        let request = coded();
        let (count, answer) = alloc::during(|| cache.call(request).now_or_never());
        let answer: Answer = answer.expect("a hit is ready at once");
        assert!(answer.unwrap().headers()["cache-status"].to_str().unwrap().contains("hit"));
        assert!(count <= 3, "{count} allocations");
    });
}

#[test]
fn a_304_allocates_at_most_three_times() {
    let (count, answer) = measure(&[("if-none-match", "\"a\"")]);
    assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
    assert!(count <= 3, "{count} allocations");
    println!("a 304: {count} allocations");
}

#[test]
fn the_counter_counts_allocations() {
    let (count, _) = alloc::during(|| (vec![1], Box::new(2)));
    assert_eq!(count, 2);
}
