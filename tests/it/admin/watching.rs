//! What the admin service knows of what has happened.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use larder::store::chaos::StoreCall;
use larder::store::{PurgeMode, PurgeTarget};
use larder::{BoxStore, CacheLayer, MemoryStore};
use serde_json::{Value, json};
use tower::Service;

use super::{BEARER, Desk};
use crate::observe::metrics::documented_hit_ratio;
use crate::support::stores::flaky;
use crate::support::{Reply, alloc, settle};

#[tokio::test]
async fn requests_are_counted_by_outcome_reason_and_time() {
    let desk = Desk::new([Reply::cc("twelve bytes", "max-age=60")]);
    desk.bench.get("/x").await;
    for _ in 0..3 {
        desk.bench.get("/x").await;
    }
    desk.bench.later(10);
    desk.bench.origin.then(Reply::cc("x", "private"));
    desk.bench.get("/y").await;
    desk.bench.origin.then(Reply::refused());
    assert!(desk.bench.try_send(Method::GET, "/z", &[]).await.is_err());
    desk.ask("POST", "/purge", "{\"tag\": \"x\"}").await.ok();
    let json = desk.ask("GET", "/stats", "").await.ok();
    let watch = &json["watch"];
    assert_eq!(watch["hit_ratio"], json!(0.5), "{json}");
    let totals = &watch["totals"];
    assert_eq!((&totals["requests"], &totals["hits"], &totals["errors"]), (&json!(6), &json!(3), &json!(1)));
    assert_eq!((&totals["cache_bytes"], &totals["origin_bytes"]), (&json!(36), &json!(13)));
    assert_eq!((&watch["outcomes"]["hit"], &watch["outcomes"]["miss"]), (&json!(3), &json!(2)), "{json}");
    assert_eq!(watch["outcomes"]["error"], 1, "{json}");
    assert_eq!(watch["reasons"], json!({"private": 1, "service-failed": 1, "uri-miss": 1}), "{json}");
    assert_eq!((&watch["purges"], &watch["latency"]["hit"]["count"]), (&json!(1), &json!(3)));
    assert_eq!(json["store"]["entries"], 1, "{json}");
    let points = watch["series"]["points"].as_array().unwrap();
    let columns = watch["series"]["columns"].as_array().unwrap();
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let of = |name: &str| points.iter().map(|point| point[at(name)].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((of("requests"), of("hits")), (vec![4, 2], vec![3, 0]));
    let one = desk.ask("GET", "/stats?points=1", "").await.ok();
    assert_eq!(one["watch"]["series"]["points"].as_array().unwrap().len(), 1);
    desk.ask("GET", "/stats?points=0", "").await.refused(400, "invalid");
}

#[tokio::test(start_paused = true)]
async fn the_hit_ratio_is_that_of_the_dashboard() {
    let desk = Desk::new([Reply::cc("four", "max-age=60, stale-if-error=600")]);
    desk.bench.get("/x").await;
    desk.bench.get("/x").await;
    // What stands in for a failure comes from storage.
    desk.bench.later(61);
    desk.bench.origin.then(Reply::refused());
    assert_eq!(desk.bench.get("/x").await.status, 200);
    // What is none of the cache's business says nothing of it.
    desk.bench.origin.then(Reply::new("posted"));
    desk.bench.try_send(Method::POST, "/y", &[]).await.unwrap();
    // Nor does a client that leaves.
    desk.bench.origin.then(Reply::new("late").after(Duration::from_secs(1)));
    drop(tokio::time::timeout(Duration::ZERO, desk.bench.get("/never")).await);
    let watch = &desk.ask("GET", "/stats", "").await.ok()["watch"];
    let outcomes = &watch["outcomes"];
    assert_eq!(
        (&outcomes["hit"], &outcomes["stale"], &outcomes["bypass"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let totals = &watch["totals"];
    assert_eq!(outcomes["abandoned"], 1, "{watch}");
    assert_eq!((&totals["hits"], &totals["bypassed"]), (&json!(2), &json!(1)), "{watch}");
    let of = |word: &str| outcomes[word].as_u64().unwrap();
    let all: u64 = outcomes.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(totals["requests"], all - of("abandoned"), "{watch}");
    let asked = (all - of("abandoned") - of("bypass")) as f64;
    assert_eq!(watch["hit_ratio"], json!(2.0 / asked), "{watch}");
    // As the documented query has it: its two sums are over these outcomes.
    let query = documented_hit_ratio();
    let [hits, others] = ["{outcome=~\"", "{outcome!~\""].map(|start| {
        let words = query.split(start).nth(1).unwrap().split('"').next().unwrap();
        words.split('|').map(of).sum::<u64>()
    });
    assert_eq!(watch["hit_ratio"], json!(hits as f64 / (all - others) as f64), "{watch}");
}

#[tokio::test]
async fn the_keys_with_the_most_hits_and_misses_are_known() {
    let desk = Desk::new([Reply::cc("x", "max-age=60")]);
    for _ in 0..5 {
        desk.bench.get("/hot").await;
    }
    desk.bench.origin.then(Reply::cc("x", "no-store"));
    for _ in 0..4 {
        desk.bench.get("/never").await;
    }
    desk.bench.get("/once").await;
    // No rule of the cache would make these hits.
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    for _ in 0..6 {
        desk.bench.send(Method::POST, "/form", &[]).await;
        desk.bench.get_with("/socket", &upgrade).await;
    }
    desk.bench.origin.then(Reply::refused());
    for _ in 0..6 {
        assert!(desk.bench.try_send(Method::GET, "/broken", &[]).await.is_err());
    }
    let json = desk.ask("GET", "/hot", "").await.ok();
    let of = |list: &str| -> Vec<(String, u64)> {
        let pair = |key: &Value| (key["url"].as_str().unwrap().to_owned(), key["count"].as_u64().unwrap());
        json[list].as_array().unwrap().iter().map(pair).collect()
    };
    assert_eq!(of("hits"), [("http://example.com/hot".to_owned(), 4)]);
    assert_eq!(of("misses")[0], ("http://example.com/never".to_owned(), 4));
    assert_eq!(of("misses").len(), 3);
    let one = desk.ask("GET", "/hot?n=1", "").await.ok();
    assert_eq!(one["misses"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_stands_in_is_a_hit_among_the_keys_as_in_the_numbers() {
    let desk = Desk::new([Reply::cc("x", "max-age=60, stale-if-error=600")]);
    desk.bench.get("/x").await;
    desk.bench.later(61);
    for _ in 0..2 {
        desk.bench.origin.then(Reply::refused());
        assert_eq!(desk.bench.get("/x").await.status, 200);
    }
    let json = desk.ask("GET", "/hot", "").await.ok();
    assert_eq!((&json["hits"][0]["count"], &json["misses"][0]["count"]), (&json!(2), &json!(1)), "{json}");
    assert_eq!(desk.ask("GET", "/stats", "").await.ok()["watch"]["totals"]["hits"], 2);
}

/// With a reader who reads nothing, on one thread, so that nobody else frees what was allocated here.
#[tokio::test]
async fn a19_all_that_is_known_of_requests_has_less_than_5_mib_whatever_they_are_like() {
    let desk = Desk::new([Reply::cc("x", "public, max-age=36000")]);
    let request = Request::get("/live").header(BEARER.0, BEARER.1).body(Empty::<Bytes>::new()).unwrap();
    let reader = desk.admin.clone().call(request).await.unwrap();
    let long = "\"'{}".repeat(500);
    // More keys than are counted, in two windows.
    for window in 0..2 {
        for number in 0..1_500 {
            for _ in 0..2 {
                desk.bench.get(&format!("/{window}/{number}/{long}")).await;
            }
        }
        desk.bench.later(660);
    }
    // Methods that clients make up, as fast as they are shown.
    let method = Method::from_bytes(&[b'X'; 50_000]).unwrap();
    for number in 0..100 {
        desk.bench.send(method.clone(), &format!("/{number}/{long}"), &[]).await;
        desk.bench.later(u64::from(number % 20 == 0));
    }
    let Desk { admin, bench, watch } = desk;
    drop((admin, bench));
    settle().await;
    let before = alloc::live();
    drop((watch, reader));
    let weight = before - alloc::live();
    assert!((4 << 20..5 << 20).contains(&weight), "{weight}");
}

/// The next event of a live stream.
async fn next(body: &mut larder::admin::AdminBody) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_seen_live_with_its_reason() {
    let desk = Desk::new([Reply::cc("x", "max-age=60")]);
    let live = |desk: &Desk| {
        let request = Request::get("/live").header(BEARER.0, BEARER.1).body(Empty::<Bytes>::new()).unwrap();
        desk.admin.clone().call(request)
    };
    let response = live(&desk).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await, ": live\n\n");
    desk.bench.get("/x?%3Cscript%3E=1").await;
    let event = next(&mut body).await;
    let json: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap().trim_end()).unwrap();
    assert_eq!(json["url"], "http://example.com/x?%3Cscript%3E=1");
    assert_eq!(
        (&json["outcome"], &json["reason"], &json["status"]),
        (&json!("miss"), &json!("uri-miss"), &json!(200))
    );
    let (method, shown) = ("M".repeat(100), "M".repeat(32));
    desk.bench.send(Method::from_bytes(method.as_bytes()).unwrap(), "/x", &[]).await;
    let event = next(&mut body).await;
    assert!(event.contains(&format!("\"method\":\"{shown}\"")), "{event}");
    // Of very many, a few are shown.
    for _ in 0..1_000 {
        desk.bench.get("/x?%3Cscript%3E=1").await;
    }
    let mut shown = 0;
    while tokio::time::timeout(Duration::from_secs(1), next(&mut body)).await.is_ok() {
        shown += 1;
    }
    assert!((1..=20).contains(&shown), "{shown}");
    // A stream without events says that it is alive.
    let quiet = tokio::time::timeout(Duration::from_secs(20), next(&mut body)).await.unwrap();
    assert_eq!(quiet, ": quiet\n\n");
    // Readers are bounded, and leave their place when they go.
    let mut readers = Vec::new();
    for _ in 0..15 {
        readers.push(live(&desk).await.unwrap());
    }
    assert_eq!(live(&desk).await.unwrap().status(), 503);
    drop(readers);
    settle().await;
    assert_eq!(live(&desk).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_purge_is_counted_where_somebody_has_purged_and_it_has_taken_effect() {
    let desk = Desk::new([Reply::cc("x", "max-age=60")]);
    let purges = async |desk: &Desk| desk.ask("GET", "/stats", "").await.ok()["watch"]["purges"].clone();
    for _ in 0..3 {
        desk.bench.send(http::Method::POST, "/x", &[]).await;
    }
    assert_eq!(purges(&desk).await, 0, "a client changes what it likes");
    desk.ask("POST", "/purge", "{\"all\": true}").await.ok();
    desk.bench.handle.follow(&[PurgeTarget::All], PurgeMode::Remove).await.unwrap();
    assert_eq!(purges(&desk).await, 2);
    let store = BoxStore::new(flaky(MemoryStore::default(), |op, _| op == StoreCall::Invalidate));
    let desk = Desk::with(CacheLayer::builder(store), [Reply::cc("x", "max-age=60")], |admin| admin);
    desk.ask("POST", "/purge", "{\"all\": true}").await.refused(503, "store");
    assert_eq!(purges(&desk).await, 0);
}
