//! The fields that say what a cache did: in which form, and for whom.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request};
use http_body_util::Empty;
use larder::policy::{Peers, TrustedPeer};
use larder::store::PurgeTarget;
use larder::{CachePolicyExt, ServerTiming, StandardPolicy, XCache};
use tower::{Layer, ServiceExt};

use crate::support::bench::read;
use crate::support::{Bench, Origin, Reply, Seen, cache_builder, settle};

const SECRET: &str = "3f9c0a";

/// What an answer says of caches.
fn told(seen: &Seen) -> Vec<&str> {
    let names = ["cache-status", "x-cache", "x-cache-hits", "x-served-by", "server-timing"];
    names.into_iter().filter(|name| seen.fields.contains_key(*name)).collect()
}

#[tokio::test]
async fn fields_about_the_cache_are_only_for_requests_with_the_debug_token() {
    for form in [XCache::CloudFront, XCache::Fastly] {
        let builder = cache_builder()
            .debug_token(SECRET)
            .key_in_cache_status(true)
            .server_timing(ServerTiming::always())
            .x_cache(form);
        let reply = Reply::cc("four", "max-age=60")
            .field("etag", "\"a\"")
            .field("cache-status", "shield; hit")
            .field("x-cache", "HIT");
        let bench = Bench::with(builder, [reply]);
        let (debug, condition) = (("larder-debug", SECRET), ("if-none-match", "\"a\""));
        // A miss, a hit, a 304, and what passes.
        for (method, path, fields) in [
            (Method::GET, "/", &[][..]),
            (Method::GET, "/", &[]),
            (Method::GET, "/", &[condition]),
            (Method::OPTIONS, "/", &[]),
        ] {
            let seen = bench.send(method.clone(), path, fields).await;
            assert_eq!(told(&seen), [""; 0], "{method} {fields:?}");
        }
        for (method, path, fields) in [
            (Method::GET, "/b", &[debug][..]),
            (Method::GET, "/b", &[debug]),
            (Method::GET, "/b", &[debug, condition]),
            (Method::OPTIONS, "/b", &[debug]),
        ] {
            let seen = bench.send(method.clone(), path, fields).await;
            let more = if form == XCache::Fastly { 5 } else { 3 };
            assert_eq!(told(&seen).len(), more, "{method} {fields:?} {seen:?}");
        }
        let seen = bench.get_with("/b", &[debug]).await;
        assert_eq!(
            seen.cache_status(),
            "shield; hit, larder; hit; ttl=60; key=\"http://example.com/b\"",
            "what a cache nearer to the origin has said, too"
        );
    }
}

#[tokio::test]
async fn a19_a_wrong_debug_token_is_none_and_the_inner_service_sees_neither() {
    let bench = Bench::with(cache_builder().debug_token(SECRET), [Reply::cc("four", "no-store")]);
    let double = [("larder-debug", SECRET), ("larder-debug", SECRET)];
    for shown in ["", "1", "3f9c0", "3f9c0a1", "3F9C0A", "3f9c0a, 3f9c0a"] {
        let seen = bench.get_with("/", &[("larder-debug", shown)]).await;
        assert_eq!(told(&seen), [""; 0], "{shown:?}");
        assert!(!bench.origin.last().headers.contains_key("larder-debug"), "{shown:?}");
    }
    assert_eq!(told(&bench.get_with("/", &double).await), [""; 0]);
    assert_eq!(told(&bench.get_with("/", &double[..1]).await), ["cache-status"]);
    assert!(!bench.origin.last().headers.contains_key("larder-debug"));
    // Without a secret, there is none to guess.
    let bench = Bench::with(cache_builder().debug_token(""), [Reply::cc("four", "no-store")]);
    assert_eq!(told(&bench.get_with("/", &[("larder-debug", "")]).await), [""; 0]);
}

#[tokio::test]
async fn a19_the_debug_token_of_one_layer_is_replaced_while_it_runs() {
    let builder = cache_builder().debug_token(SECRET);
    let bench = Bench::with(builder.clone(), [Reply::cc("four", "no-store")]);
    let other = Bench::with(builder, [Reply::cc("four", "no-store")]);
    let is_told = async |bench: &Bench, shown| {
        bench.get_with("/x", &[("larder-debug", shown)]).await.field("cache-status").is_some()
    };
    assert!(bench.handle.set_debug_token("another secret"));
    assert!(!is_told(&bench, SECRET).await && is_told(&bench, "another secret").await);
    assert!(is_told(&other, SECRET).await, "a layer of its own");
    assert!(bench.handle.set_debug_token(""));
    assert!(!is_told(&bench, "another secret").await && !is_told(&bench, "").await);
    // Where nobody has to show a secret, there is none to replace.
    let open = Bench::with(cache_builder(), [Reply::cc("four", "no-store")]);
    assert!(!open.handle.set_debug_token(SECRET) && is_told(&open, "").await);
}

#[tokio::test]
async fn nobody_is_told_anything_with_a_debug_token_where_cache_status_is_switched_off() {
    let builder = cache_builder().debug_token(SECRET).cache_status(false);
    let bench = Bench::with(builder, [Reply::cc("four", "max-age=60")]);
    for _ in 0..2 {
        assert_eq!(told(&bench.get_with("/", &[("larder-debug", SECRET)]).await), [""; 0]);
        assert_eq!(told(&bench.get("/").await), [""; 0]);
    }
}

#[tokio::test]
async fn fa6_other_caches_of_the_owner_need_no_debug_token() {
    let form = |form| {
        let peers = Peers::new().token(HeaderName::from_static("x-peer"), "secret");
        let policy = StandardPolicy::default().with_peers(peers);
        cache_builder().debug_token(SECRET).server_timing(ServerTiming::always()).x_cache(form).policy(policy)
    };
    for (of_x_cache, more) in [(XCache::CloudFront, 3), (XCache::Fastly, 5)] {
        let bench = Bench::with(form(of_x_cache), [Reply::cc("four", "max-age=60")]);
        // A miss, a hit, and what passes. The policy recognises a peer by a field that is gone then.
        for method in [Method::GET, Method::GET, Method::OPTIONS] {
            let of_peer = bench.send(method.clone(), "/", &[("x-peer", "secret")]).await;
            assert_eq!(told(&of_peer).len(), more, "{method} {of_peer:?}");
            let forged = bench.send(method.clone(), "/", &[("x-peer", "guess")]).await;
            assert_eq!(told(&forged), [""; 0], "{method}");
        }
        let mut request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
        request.extensions_mut().insert(TrustedPeer::new());
        let known = read(bench.cache.clone().oneshot(request).await.unwrap()).await;
        assert_eq!(told(&known).len(), more, "a layer in front of the cache has recognised it");
    }
}

/// `X-Cache` and `X-Cache-Hits`.
fn lists(fields: &HeaderMap) -> (&str, &str) {
    let text = |name: &str| {
        let lines: Vec<_> = fields.get_all(name).iter().collect();
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        lines[0].to_str().unwrap()
    };
    (text("x-cache"), text("x-cache-hits"))
}

#[tokio::test]
async fn cs2_each_cache_adds_its_members_to_the_lists_of_fastly() {
    let form = |name: &str| cache_builder().name(name).x_cache(XCache::Fastly).build();
    let (edge_layer, shield) = (form("edge"), form("shield"));
    let origin = Origin::new([Reply::cc("four", "max-age=60").field("etag", "\"a\"")]);
    let edge = edge_layer.layer(shield.layer(origin));
    let get = async |path: &str| {
        let request = Request::get(format!("http://example.com{path}")).body(Empty::<Bytes>::new()).unwrap();
        read(edge.clone().oneshot(request).await.unwrap()).await.fields
    };
    let seen = get("/").await;
    assert_eq!(lists(&seen), ("MISS, MISS", "0, 0"));
    assert_eq!(seen["x-served-by"], "shield, edge");
    assert_eq!(lists(&get("/").await), ("MISS, HIT", "0, 1"), "the edge has kept what the shield said");
    assert_eq!(lists(&get("/").await), ("MISS, HIT", "0, 2"));
    edge_layer.handle().purge_target(&PurgeTarget::All).await.unwrap();
    assert_eq!(lists(&get("/").await), ("HIT, MISS", "1, 0"));
    assert_eq!(lists(&get("/").await), ("HIT, HIT", "1, 1"), "counted from the fetch");
    assert_eq!(lists(&get("/other").await), ("MISS, MISS", "0, 0"), "each key by itself");
}

#[tokio::test]
async fn cs2_hits_are_counted_of_what_is_stored_whoever_gets_to_know() {
    let builder = cache_builder().debug_token(SECRET).x_cache(XCache::Fastly);
    let bench = Bench::with(builder, [Reply::cc("four", "max-age=60, stale-while-revalidate=600")]);
    let debug = [("larder-debug", SECRET)];
    for _ in 0..6 {
        assert_eq!(told(&bench.get("/").await), [""; 0]); // a miss, and five hits
    }
    assert_eq!(lists(&bench.get_with("/", &debug).await.fields), ("HIT", "6"));
    bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
    bench.get("/").await;
    assert_eq!(lists(&bench.get_with("/", &debug).await.fields), ("HIT", "1"), "another object");
    // One that was fetched in the background, which nobody got.
    bench.later(61);
    assert_eq!(lists(&bench.get_with("/", &debug).await.fields), ("HIT", "2"));
    settle().await;
    assert_eq!(lists(&bench.get_with("/", &debug).await.fields), ("HIT", "1"));
    assert_eq!(bench.origin.calls(), 3);
}

#[tokio::test]
async fn cs2_what_passes_is_a_miss_to_fastly_and_what_stands_in_a_hit() {
    let builder = cache_builder().x_cache(XCache::Fastly);
    let bench =
        Bench::with(builder, [Reply::cc("four", "max-age=60, stale-if-error=600").field("etag", "\"a\"")]);
    assert_eq!(lists(&bench.send(Method::OPTIONS, "/", &[]).await.fields), ("MISS", "0"));
    assert_eq!(lists(&bench.get("/").await.fields), ("MISS", "0"));
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "max-age=60, stale-if-error=600").status(304)));
    assert_eq!(lists(&bench.get("/").await.fields), ("MISS", "0"), "validated");
    bench.later(61);
    bench.origin.not_modified(Some(Reply::cc("", "no-store").status(503)));
    assert_eq!(lists(&bench.get("/").await.fields), ("HIT", "1"), "stands in");
    let seen = bench.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((seen.status.as_u16(), lists(&seen.fields)), (304, ("HIT", "2")));
}
