//! What somebody else writes into the keys of the store (A23, A28): nothing that was purged is served, and requests are answered.

use std::time::Duration;

use larder::store::{LeaseAnswer, LeaseEnd, LeaseName, Leases, PurgeTarget, RedisStore};
use larder::{BoxStore, CacheKey, CacheLayer, FillLimits};

use super::{HIT, Node, config, namespace};
use crate::support::servers::{Answer, Kind, Server};
use crate::support::{Bench, Reply};

/// What is found in place of the counter, the log, or the table of purges: commands, with `KEY` for the name.
const HOSTILE: &[&[&[&str]]] = &[
    &[&["SET", "KEY", ""]],
    &[&["SET", "KEY", "something else"]],
    &[&["SET", "KEY", "0:0:0"]],
    &[&["SET", "KEY", "1:1:18446744073709551615"]],
    &[&["SET", "KEY", "ffffffffffffffffff:99999999999999999999:99999999999999999999"]],
    &[&["SADD", "KEY", "x"]],
    &[&["RPUSH", "KEY", "x"]],
    &[&["HSET", "KEY", "i", "something else"]],
    &[&["HSET", "KEY", "i", "1", "ar", "something else"]],
    &[&["HSET", "KEY", "i", "1", "ar", "99999999999999999999"]],
    &[&["HSET", "KEY", "", ""]],
    &[&["XADD", "KEY", "1-0", "x", "y"]],
    &[&["XADD", "KEY", "1-7", "p", "0", "t", "x"]],
    &[&["XADD", "KEY", "18446744073709551615-0", "p", "18446744073709551615", "t", ""]],
    &[&["XADD", "KEY", "5-0", "p", "9", "t", "x"], &["XADD", "KEY", "7-0", "p", "3", "t", "x"]],
];

#[tokio::test]
async fn a23_whatever_is_found_in_place_of_the_log_of_purges_nothing_comes_back_and_requests_are_answered() {
    let server = Server::start(Kind::Redis);
    for (name, hostile) in
        ["n", "l", "s"].iter().flat_map(|name| HOSTILE.iter().map(move |hostile| (name, hostile)))
    {
        let namespace = namespace();
        let node = || Node::new(config(&server.url()).namespace(&namespace));
        let (one, other) = (node(), node());
        one.fill("/", "old").await;
        other.get("/").await.has_body("old").told(HIT);
        other.purge(PurgeTarget::tag("news")).await.unwrap();
        let key = format!("{{{namespace}.1}}:{name}");
        server.ask(&["DEL", &key]);
        for command in *hostile {
            let words: Vec<_> =
                command.iter().map(|word| if *word == "KEY" { &key } else { *word }).collect();
            let answer = server.ask(&words);
            assert!(!matches!(answer, Answer::Error(_)), "{answer:?}");
        }
        for asked in [node(), other, one] {
            asked.bench.origin.then(Reply::cc("new", "max-age=60"));
            for _ in 0..2 {
                assert_eq!(asked.get("/").await.body, "new", "{name} {hostile:?}");
            }
            // It succeeds, or says that it does not.
            let purged = asked.purge(PurgeTarget::tag("other")).await;
            drop(purged);
        }
        // Without what was written, all is well again.
        for name in ["n", "l", "s"] {
            server.ask(&["DEL", &format!("{{{namespace}.1}}:{name}")]);
        }
        let (one, other) = (node(), node());
        one.fill("/other", "stored").await;
        other.get("/other").await.has_body("stored").told(HIT);
        other.purge(PurgeTarget::All).await.unwrap();
        one.fill("/other", "stored again").await;
    }
}

#[tokio::test]
async fn a23_an_entry_that_somebody_else_has_added_to_the_log_keeps_nobody_from_reading_it() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let node = || Node::new(config(&server.url()).namespace(&namespace));
    let (one, other) = (node(), node());
    one.purge(PurgeTarget::tag("first")).await.unwrap();
    one.fill("/", "stored").await;
    other.get("/").await.has_body("stored").told(HIT);
    let added = server.ask(&["XADD", &format!("{{{namespace}.1}}:l"), "*", "x", "y"]);
    assert!(!matches!(added, Answer::Error(_)), "{added:?}");
    one.purge(PurgeTarget::tag("second")).await.unwrap();
    other.get("/").await.has_body("stored").told(HIT);
}

#[tokio::test]
async fn a23_chunks_that_somebody_else_has_written_never_make_content_that_ends_cleanly() {
    let server = Server::start(Kind::Redis);
    let content = "0123456789".repeat(10_000);
    for hostile in [
        &["DEL", "KEY"][..],
        &["SET", "KEY", ""],
        &["SET", "KEY", "short"],
        &["LPUSH", "KEY", "a list"],
        &["SETRANGE", "KEY", "1000000", "far beyond the end"],
    ] {
        let namespace = namespace();
        let node = || Node::new(config(&server.url()).namespace(&namespace).chunk(16 << 10));
        let (one, other) = (node(), node());
        one.fill("/", &content).await;
        other.get("/").await.has_body(&content).told(HIT);
        let mut chunks: Vec<_> = server.ask(&["KEYS", &format!("{namespace}.1:b*")]).list();
        assert_eq!(chunks.len(), 7);
        for chunk in chunks.drain(..).map(Answer::text) {
            let whole = server.ask(&["GET", &chunk]).bytes().unwrap();
            if hostile[0] == "LPUSH" {
                server.ask(&["DEL", &chunk]);
            }
            let words: Vec<_> =
                hostile.iter().map(|word| if *word == "KEY" { &chunk } else { *word }).collect();
            let answer = server.ask(&words);
            assert!(!matches!(answer, Answer::Error(_)), "{answer:?}");
            // A node remembers what has broken off.
            let reader = node();
            reader.bench.origin.then(Reply::cc("of the origin", "no-store"));
            let seen = reader.get("/").await;
            // What follows the end of a chunk is none of its bytes.
            let is_whole = hostile[0] == "SETRANGE" && seen.body == content;
            assert!(seen.broken || seen.body == "of the origin" || is_whole, "{hostile:?} {chunk}: {seen:?}");
            server.ask(&["DEL", &chunk]);
            server.ask_bytes(&[b"SET", chunk.as_bytes(), &whole]);
        }
        other.get("/").await.has_body(&content).told(HIT);
    }
}

#[tokio::test]
async fn a23_whatever_is_found_in_place_of_leases_requests_are_answered_without_waiting_for_nobody() {
    let server = Server::start(Kind::Redis);
    let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
    for hostile in [
        &["SET", "KEY", "a lease without an end"][..],
        &["SET", "KEY", "f"],
        &["SET", "KEY", "n"],
        &["LPUSH", "KEY", "x"],
    ] {
        let namespace = namespace();
        let store = || RedisStore::new(config(&server.url()).namespace(&namespace)).unwrap();
        let (one, other) = (store(), store());
        let LeaseAnswer::Granted(lease) = one.leases().ask(LeaseName::new(&key)).await.unwrap() else {
            panic!("nobody else asks");
        };
        let names = ["w", "c"].map(|kind| {
            let found = server.ask(&["KEYS", &format!("{namespace}.1:{kind}*")]).list();
            found.into_iter().next().expect("it is there").text()
        });
        // Of a node that ends without giving it back.
        drop(one);
        std::mem::forget(lease);
        for name in [&names[0], &names[1], &format!("{{{namespace}.1}}:d")] {
            server.ask(&["DEL", name]);
            let words: Vec<_> =
                hostile.iter().map(|word| if *word == "KEY" { name } else { *word }).collect();
            let answer = server.ask(&words);
            assert!(!matches!(answer, Answer::Error(_)), "{answer:?}");
            let leases = other.leases().time(Duration::from_secs(60));
            let builder = CacheLayer::builder(BoxStore::new(other.clone())).leases(leases.clone());
            let builder = builder.fill_limits(FillLimits::new().wait(Duration::from_secs(600)));
            let bench = Bench::with(builder, [Reply::cc("answered", "no-store")]);
            // Who waits for nobody waits for longer than this test takes.
            let asked = tokio::time::timeout(Duration::from_secs(20), bench.get("/"));
            asked.await.expect("an answer").has_body("answered");
            assert_eq!(bench.origin.calls(), 1);
            if let Ok(LeaseAnswer::Granted(lease)) = leases.ask(LeaseName::new(&key)).await {
                lease.end(LeaseEnd::Over);
            }
        }
    }
}
