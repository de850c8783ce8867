//! What nodes share, what that costs, and what is in the servers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use larder::CacheKey;
use larder::store::record::RecordNames;
use larder::store::{PurgeTarget, RedisConfig, Store};

use super::{HIT, Node, config, namespace};
use crate::support::Reply;
use crate::support::servers::{Answer, Cluster, Kind, Server, ask_any};

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

fn two_nodes(url: &str) -> [Node; 2] {
    let namespace = namespace();
    [(); 2].map(|()| Node::new(config(url).namespace(&namespace)))
}

async fn share(url: &str) {
    let [one, other] = two_nodes(url);
    for target in [
        PurgeTarget::All,
        PurgeTarget::host("example.com"),
        PurgeTarget::path("/a"),
        PurgeTarget::path_prefix("/"),
        PurgeTarget::prefix("http://example.com/"),
        PurgeTarget::uri("http://example.com/a"),
        PurgeTarget::Key(key("/a")),
    ] {
        one.fill("/a", "from one").await;
        other.get("/a").await.has_body("from one").told(HIT);
        other.purge(target.clone()).await.unwrap();
        one.fill("/a", "from the origin").await;
        one.purge(target).await.unwrap();
    }
}

#[tokio::test]
async fn what_one_node_stores_the_others_serve_and_what_one_purges_is_gone_for_all() {
    for kind in Kind::ALL {
        share(&Server::start(kind).url()).await;
    }
    share(&Cluster::shared().url()).await;
}

#[tokio::test]
async fn look_ups_of_one_moment_are_sent_together_and_one_that_is_alone_at_once() {
    let server = Server::start(Kind::Redis);
    let [node, _] = two_nodes(&server.url());
    for path in 0..64 {
        node.fill(&format!("/{path}"), "x").await;
    }
    let before = node.health().commands;
    node.get("/0").await.told(HIT);
    assert_eq!(node.health().commands - before, 1, "the record with the state of the log");
    let before = node.health().commands;
    let seen =
        join_all((0..64).map(|path| node.store.get(Box::leak(Box::new(key(&format!("/{path}"))))))).await;
    assert!(seen.into_iter().all(|lookup| lookup.unwrap().variants.len() == 1));
    assert_eq!(
        node.health().commands - before,
        3,
        "the first one alone, and 63 by two commands of 32 at most"
    );
    assert_eq!(node.health().connections, 1);
}

#[tokio::test]
async fn large_content_is_in_chunks_in_the_slot_of_its_record() {
    let cluster = Cluster::shared();
    let namespace = namespace();
    let config =
        || config(&cluster.url()).namespace(&namespace).chunk(64 << 10).keep(Duration::from_secs(3_600));
    let (one, other) = (Node::new(config()), Node::new(config()));
    let content: String = (0..20_000).map(|line| format!("{line:09}\n")).collect();
    one.fill("/large", &content).await;
    other.get("/large").await.has_body(&content).told(HIT);
    let seen = other.bench.get_with("/large", &[("range", "bytes=65530-131079")]).await;
    assert_eq!((seen.status.as_u16(), &*seen.body), (206, &content[65_530..=131_079]));

    let slot = RecordNames::new(&namespace).slot(&key("/large"));
    let mut chunks = Vec::new();
    for server in &cluster.primaries {
        let pattern = format!("{namespace}.1:b{slot}*");
        chunks.extend(server.ask(&["KEYS", &pattern]).list().into_iter().map(Answer::text));
    }
    assert_eq!(chunks.len(), 4, "of 200,000 bytes: {chunks:?}");
    let names = [chunks, vec![RecordNames::new(&namespace).of(&key("/large"))]].concat();
    let of_key = |words: [&str; 2], name: &str| {
        let words = [words[0].as_bytes(), words[1].as_bytes(), name.as_bytes()];
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        ask_any(&cluster.ports(), &words)
    };
    let slots = names.iter().map(|name| of_key(["CLUSTER", "KEYSLOT"], name).number());
    let slots: Vec<_> = slots.collect();
    assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
    for name in &names {
        // A minute of freshness, an hour of use after that, and a minute for those who read when that is over.
        let left = of_key(["PTTL", ""], name).number();
        assert!((3_000_000..=3_720_000).contains(&left), "{name}: {left} ms");
    }
    // Without one of them, it is a miss.
    of_key(["UNLINK", ""], &names[0]);
    of_key(["UNLINK", ""], &names[1]);
    of_key(["UNLINK", ""], &names[2]);
    of_key(["UNLINK", ""], &names[3]);
    let seen = other.fetch("/large", "new").await;
    assert_eq!(seen.cache_status(), "larder; fwd=miss; stored; ttl=60");
}

#[tokio::test]
async fn content_beyond_the_limit_passes_and_leaves_nothing() {
    let server = Server::start(Kind::Redis);
    let node = Node::new(config(&server.url()).max_object(100_000).chunk(16 << 10));
    let content = "x".repeat(100_001);
    node.fetch("/", &content).await;
    // Where the length is not known before it has come in.
    node.bench.origin.then(Reply::cc("", "max-age=60").frames(&[&content[..60_000], &content[60_000..]]));
    node.get("/frames").await.has_body(&content);
    node.store.get(&key("/")).await.unwrap();
    let left = || server.ask(&["KEYS", "larder.1:*"]).list().len();
    crate::support::servers::eventually("chunks were to go", || left() == 0);
}

#[tokio::test]
async fn a23_what_is_no_record_is_a_miss_and_is_written_over() {
    let server = Server::start(Kind::Redis);
    let node = Node::new(config(&server.url()));
    let name = RecordNames::new("larder").of(&key("/a"));
    node.fill("/a", "right").await;
    let whole = server.ask(&["GET", &name]).bytes().unwrap();
    for bad in [Vec::new(), vec![0; 16], b"something else".to_vec(), whole[..whole.len() - 1].to_vec(), {
        let mut changed = whole.clone();
        changed[20] ^= 1;
        changed
    }] {
        assert_eq!(server.ask_bytes(&[b"SET", name.as_bytes(), &bad]), Answer::Text(b"OK".to_vec()));
        node.fill("/a", "right").await;
        node.get("/a").await.has_body("right").told(HIT);
    }
    server.ask(&["DEL", &name]);
    server.ask(&["LPUSH", &name, "a list"]);
    node.fill("/a", "right").await;
    node.get("/a").await.told(HIT);
}

#[tokio::test]
async fn namespaces_databases_and_secrets_are_apart() {
    let server = Server::start(Kind::Redis);
    let of = |change: fn(RedisConfig) -> RedisConfig| Node::new(change(config(&server.url())));
    let nodes = [
        of(|config| config),
        of(|config| config.namespace("other")),
        of(|config| config.secret([1; 16])),
        of(|config| config.database(3)),
    ];
    for (number, node) in nodes.iter().enumerate() {
        node.fill("/", &number.to_string()).await;
    }
    for (number, node) in nodes.iter().enumerate() {
        node.get("/").await.has_body(&number.to_string()).told(HIT);
    }
    nodes[1].purge(PurgeTarget::All).await.unwrap();
    nodes[0].get("/").await.told(HIT);
    nodes[3].get("/").await.told(HIT);
    nodes[1].fill("/", "1").await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_no_chunks() {
    let server = Server::start(Kind::Redis);
    let node = Node::new(config(&server.url()).chunk(16 << 10));
    let fence = node.store.get(&key("/")).await.unwrap().fence;
    let larder::store::BeginOutcome::Writer(mut writer) =
        node.store.begin(&key("/"), None, fence).await.unwrap()
    else {
        panic!("it takes streams");
    };
    let written = writer.write(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
    assert!(written.is_continue());
    let chunks = || server.ask(&["KEYS", "larder.1:b*"]).list().len();
    assert_eq!(chunks(), 6);
    drop(writer);
    while chunks() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn variants_of_one_key_are_shared_and_replaced_one_by_one() {
    let server = Server::start(Kind::Valkey);
    let [one, other] = two_nodes(&server.url());
    for (node, language) in [(&one, "de"), (&other, "en"), (&one, "fr")] {
        node.bench.origin.then(Reply::cc(language, "max-age=60").field("vary", "accept-language"));
        node.bench.get_with("/", &[("accept-language", language)]).await.has_body(language);
    }
    for node in [&one, &other] {
        for language in ["de", "en", "fr"] {
            let seen = node.bench.get_with("/", &[("accept-language", language)]).await;
            seen.has_body(language).told(HIT);
        }
    }
}
