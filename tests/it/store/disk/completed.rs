//! Content that changes on the disk beyond what is checked before the head is sent: the origin completes it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use larder::CacheLayer;
use tower::Layer;

use super::{HIT, Node, Place, is, large};
use crate::support::{Reply, wire};

/// In the file, with its checksum.
const BLOCK: usize = 65_536 + 8;

/// Changes a bit of a block of the only content.
fn damage(place: &Place, block: usize) {
    let path = place.contents().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[block * BLOCK + 77] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What an origin answers to the request for a part.
fn part(body: &str, first: usize, last: usize) -> Reply {
    let range = format!("bytes {first}-{last}/{}", body.len());
    Reply::cc(&body[first..=last], "max-age=60")
        .status(206)
        .field("etag", "\"1\"")
        .field("content-range", &range)
}

#[tokio::test]
async fn f11_content_that_has_changed_in_a_later_block_is_completed_from_the_origin_and_removed() {
    let body = large().repeat(2);
    // Four blocks are read at one time, the first four before the head is sent.
    for (block, at) in [(4, 4), (5, 4), (7, 4), (8, 8), (9, 8)] {
        let place = Place::new();
        let node = Node::open(&place).await;
        node.fill("/large", &body).await;
        damage(&place, block);
        let first = at * 65_536;
        node.bench.origin.then(part(&body, first, body.len() - 1));
        is(node.get("/large").await, &body).told(HIT);
        let asked = node.bench.origin.last().headers;
        assert_eq!(asked["range"], format!("bytes={first}-"));
        assert_eq!(asked["if-range"], "\"1\"");
        assert_eq!(place.contents(), [] as [PathBuf; 0], "it was removed");
        node.fetch("/large", &body).await.told("larder; fwd=miss; stored; ttl=60");
        node.hits("/large", &body).await;
        assert_eq!(node.bench.origin.calls(), 3);
    }
}

#[tokio::test]
async fn f11_the_rest_of_a_range_is_completed_from_the_origin() {
    let body = large().repeat(2);
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/large", &body).await;
    damage(&place, 6);
    node.bench.origin.then(part(&body, 5 * 65_536, 590_000));
    let seen = node.bench.get_with("/large", &[("range", "bytes=70000-590000")]).await;
    let seen = is(seen, &body[70_000..=590_000]).told(HIT);
    assert_eq!((seen.status.as_u16(), seen.field("content-range")), (206, Some("bytes 70000-590000/600000")));
    assert_eq!(node.bench.origin.last().headers["range"], "bytes=327680-590000");
}

#[tokio::test]
async fn f11_content_that_the_origin_has_replaced_meanwhile_ends_with_an_error() {
    let body = large().repeat(2);
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/large", &body).await;
    damage(&place, 9);
    node.bench.origin.then(Reply::cc("new", "max-age=60").field("etag", "\"2\""));
    let seen = node.get("/large").await.told(HIT);
    assert!(seen.broken && seen.body == body[..8 * 65_536], "{} bytes", seen.body.len());
    is(node.get("/large").await, "new").told("larder; fwd=miss; stored; ttl=60");
}

#[tokio::test]
async fn f11_a_range_reads_its_own_blocks_and_no_others() {
    let body = large().repeat(2);
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/large", &body).await;
    [0, 1, 8].into_iter().for_each(|block| damage(&place, block));
    for (first, last) in [(2 * 65_536, 2 * 65_536), (2 * 65_536, 3 * 65_536 - 1), (131_072, 8 * 65_536 - 1)] {
        let range = format!("bytes={first}-{last}");
        let seen = node.bench.get_with("/large", &[("range", &range)]).await;
        assert_eq!(is(seen, &body[first..=last]).told(HIT).status, 206);
    }
    assert_eq!((node.bench.origin.calls(), place.contents().len()), (1, 1));
    // What is checked before the head goes out is a miss at once.
    node.bench.origin.then(Reply::cc(&body, "no-store"));
    let seen = is(node.bench.get_with("/large", &[("range", "bytes=131071-131072")]).await, &body);
    assert_eq!(seen.status, 200);
    assert_eq!(place.contents().len(), 0);
}

/// What a file server answers: all of it, or what `Range` asks for if `If-Range` lets it.
fn served(file: &Bytes, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let field = |name: &str| asked.get(name).map(|value| value.to_str().unwrap());
    let response = Response::builder().header("etag", "\"film\"").header("cache-control", "max-age=600");
    let range = field("range").filter(|_| field("if-range").is_none_or(|tag| tag == "\"film\""));
    let Some(first) = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')) else {
        return response.body(file.clone().into()).unwrap();
    };
    let first: usize = first.parse().unwrap();
    response
        .status(206)
        .header("content-range", format!("bytes {first}-{}/{}", file.len() - 1, file.len()))
        .body(file.slice(first..).into())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_clients_of_a_real_server_get_all_of_a_film_of_which_a_block_has_changed_on_the_disk() {
    let film: Bytes = (0..8_u32 << 20).map(|at| (at / 7 % 251) as u8).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let origin = {
        let (film, asked) = (film.clone(), Arc::clone(&asked));
        tower::service_fn(move |request: Request<Incoming>| {
            let response = served(&film, request.headers());
            asked.lock().unwrap().push(request.headers().clone());
            async { Ok::<_, std::convert::Infallible>(response) }
        })
    };
    let place = Place::new();
    let store = place.builder().open().await.unwrap();
    let layer = CacheLayer::builder(store.clone()).build();
    let proxy = wire::serve(layer.layer(origin)).await;
    let get = async || {
        let (head, body) = wire::get_bytes(proxy, "/film", &[]).await;
        while layer.handle().fills().fills > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(head.headers["content-length"], film.len().to_string());
        assert!(body == film, "{} bytes", body.len());
        head.headers["cache-status"].to_str().unwrap().to_owned()
    };
    while place.contents().is_empty() {
        get().await;
    }
    asked.lock().unwrap().clear();
    damage(&place, 83);
    assert_eq!(get().await, "larder; hit; ttl=600");
    let requests = std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0]["range"], format!("bytes={}-", 80 * 65_536));
    assert_eq!(requests[0]["if-range"], "\"film\"");
    assert_eq!(get().await, "larder; fwd=miss; stored; ttl=600");
}
