//! How often a hit, a 304 and a tagged answer allocate.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use larder::{CacheBody, CacheBuilder, StandardPolicy, Tagging};
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
    measure_by(StandardPolicy::default(), fields)
}

fn measure_by(policy: StandardPolicy, fields: &[(&str, &str)]) -> (u64, Response<CacheBody>) {
    let origin = Origin::new([eight_fields()]);
    let builder = CacheBuilder::default().clock(larder::Clock::manual().0).policy(policy);
    let mut cache = builder.build().layer(origin);
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
fn kx7_a_hit_with_a_date_of_its_own_allocates_no_more() {
    let policy = StandardPolicy::default().browser_lifetime(std::time::Duration::from_secs(60));
    let (count, answer) = measure_by(policy, &[]);
    assert!(answer.headers().contains_key("date") && !answer.headers().contains_key("age"));
    assert!(count <= 3, "{count} allocations");
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

/// What answers from memory with as few allocations as a service can: two fields, one frame.
#[derive(Clone)]
struct Page(Bytes);

impl<Q> Service<Request<Q>> for Page {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Q>) -> Self::Future {
        let mut response = Response::new(Full::new(self.0.clone()));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
        response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache"));
        std::future::ready(Ok(response))
    }
}

/// The answer of a service to a request, and the allocations until all of its content is there.
fn answered<S, B>(mut service: S, fields: &[(&str, &str)]) -> (u64, Response<Bytes>)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let mut answer = || {
        let request = request(fields);
        alloc::during(|| {
            let response = service.call(request).now_or_never().expect("it is ready at once").unwrap();
            let (parts, body) = response.into_parts();
            let mut body = std::pin::pin!(body);
            let frame = body.frame().now_or_never().expect("its content is there");
            let content = frame.map(|frame| frame.unwrap().into_data().ok().unwrap()).unwrap_or_default();
            assert!(body.is_end_stream());
            Response::from_parts(parts, content)
        })
    };
    // The thread learns how to load a policy.
    drop(answer());
    answer()
}

/// What `tag_only` adds: the box of a body that may have to be waited for, and the tag.
#[test]
fn a_tagged_answer_allocates_twice_more_than_a_bare_one() {
    let page = || Page(Bytes::from_static(&[b'x'; 1024]));
    let layer = || CacheBuilder::default().tag_only();
    let (bare, _) = answered(page(), &[]);
    let taggings = [
        ("weak", Tagging::weak()),
        #[cfg(feature = "blake3")]
        ("strong", Tagging::strong()),
    ];
    for (name, tagging) in taggings {
        let (count, answer) = answered(layer().tagging(tagging).build().layer(page()), &[]);
        assert_eq!((answer.headers().len(), answer.body().len()), (3, 1024));
        assert_eq!(count - bare, 2, "{name}");
        // The client's conditions are kept until the content is there: a box, a map (two), and the share of a value. What
        // the 304 does not have of the fields is listed to be removed.
        let tag = answer.headers()["etag"].to_str().unwrap();
        let (count, answer) =
            answered(layer().tagging(tagging).build().layer(page()), &[("if-none-match", tag)]);
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(count - bare, 7, "{name}");
    }
    let (count, answer) = answered(layer().without_tagging().build().layer(page()), &[]);
    assert!(!answer.headers().contains_key("etag"));
    assert_eq!(count - bare, 1);
}

#[test]
fn the_counter_counts_allocations() {
    let (count, _) = alloc::during(|| (vec![1], Box::new(2)));
    assert_eq!(count, 2);
}
