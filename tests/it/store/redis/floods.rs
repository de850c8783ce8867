//! Purges of what nobody has stored (A33): they cost a fleet nothing, and no purge is lost for that.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use http::Method;
use larder::CacheKey;
use larder::store::{Fence, PurgeMode, PurgeTarget, PutOutcome, RedisStore, Store, TierLimits, TieredStore};
use larder::{MemoryStore, StoredResponse};

use super::{HIT, Node, config, namespace};
use crate::support::Reply;
use crate::support::servers::{Answer, Cluster, Kind, Server, ask_any, eventually, ok};

fn key(path: &str) -> CacheKey {
    CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap()
}

fn uri(path: &str) -> PurgeTarget {
    PurgeTarget::uri(format!("http://example.com{path}"))
}

/// A namespace on servers, and what is in the keys of its log.
struct Place {
    namespace: String,
    ports: Vec<u16>,
    url: String,
}

impl Place {
    fn on(server: &Server) -> Self {
        Self { namespace: namespace(), ports: vec![server.port], url: server.url() }
    }

    fn node(&self) -> Node {
        Node::new(config(&self.url).namespace(&self.namespace))
    }

    fn nodes(&self) -> [Node; 2] {
        [self.node(), self.node()]
    }

    fn name(&self, key: &str) -> String {
        format!("{{{}.1}}:{key}", self.namespace)
    }

    fn ask(&self, command: &str, key: &str, more: &[&str]) -> Answer {
        let name = self.name(key);
        let words: Vec<_> = [command, &name].iter().chain(more).map(|word| word.as_bytes()).collect();
        ask_any(&self.ports, &words)
    }

    /// What the log and what was announced to it take.
    fn bytes(&self) -> i64 {
        let of = |key: &str| {
            let name = self.name(key);
            match ask_any(&self.ports, &[b"MEMORY", b"USAGE", name.as_bytes()]) {
                Answer::Number(bytes) => bytes,
                _ => 0,
            }
        };
        ["n", "l", "s", "g", "u", "m0", "m1", "m2", "m3"].map(of).iter().sum()
    }

    /// An unsafe request.
    async fn post(&self, node: &Node, path: &str) {
        node.bench.origin.then(Reply::new("done"));
        node.bench.send(Method::POST, path, &[]).await;
    }

    /// How many purges are in the log.
    fn logged(&self) -> i64 {
        self.ask("XLEN", "l", &[]).number()
    }
}

/// How many unsafe requests there are: `LARDER_POSTS`, or as many as a run of all tests has time for.
fn posts() -> usize {
    std::env::var("LARDER_POSTS").map_or(3_000, |posts| posts.parse().unwrap())
}

/// With `LARDER_POSTS=400000` it takes more than twice as many as a node knows exactly, and says what it has measured.
async fn flood(place: &Place) {
    const OBJECTS: usize = 200;
    let [one, other] = place.nodes();
    let object = |number: usize| format!("/object/{number}");
    for number in 0..OBJECTS / 2 {
        one.fill(&object(number), "x").await;
    }
    for node in [&one, &other] {
        node.bench.origin.then(Reply::cc("x", "max-age=60"));
    }
    let before = other.health().commands;
    let begun = std::time::Instant::now();
    let post = async |number: usize| {
        one.bench.send(Method::POST, &format!("/{number}"), &[]).await;
        // What is stored meanwhile is of use, too. A fill during which a purge shares a place with it is in vain.
        let every = posts() / (OBJECTS / 2);
        if number.is_multiple_of(every) && number / every < OBJECTS / 2 {
            let path = object(OBJECTS / 2 + number / every);
            while !other.get(&path).await.is_hit() {}
        }
    };
    stream::iter(0..posts()).for_each_concurrent(128, post).await;
    let took = begun.elapsed();
    for number in 0..OBJECTS {
        for node in [&one, &other] {
            node.get(&object(number)).await.has_body("x").told(HIT);
        }
    }
    let logged = place.logged();
    assert!(logged <= i64::try_from(posts() / 1_000).unwrap(), "{logged} entries");
    let bytes = place.bytes();
    assert!(bytes < 4 << 20, "{bytes} bytes");
    println!(
        "{} unsafe requests in {took:?}: {logged} entries of the log, {bytes} bytes, {} commands by the other node",
        posts(),
        other.health().commands - before,
    );
    // And none of that is in the way of a purge.
    for number in [0, OBJECTS - 1] {
        place.post(&other, &object(number)).await;
        assert!(!one.get(&object(number)).await.is_hit(), "{number}");
    }
    assert_eq!(place.logged(), logged + 2);
}

#[tokio::test]
async fn a33_a_flood_of_unsafe_requests_for_what_nobody_has_stored_leaves_all_that_is_stored() {
    for kind in Kind::ALL {
        flood(&Place::on(&Server::start(kind))).await;
    }
}

#[tokio::test]
async fn a33_a_flood_over_a_cluster_leaves_all_that_is_stored() {
    let cluster = Cluster::shared();
    flood(&Place { namespace: namespace(), ports: cluster.ports(), url: cluster.url() }).await;
}

async fn stored(node: &Node, path: &str) -> (StoredResponse, Fence) {
    let found = node.store.get(&key(path)).await.unwrap();
    (found.variants[0].response.clone(), found.fence)
}

#[tokio::test]
async fn a33_a_purge_that_is_not_in_the_log_reaches_what_is_on_its_way() {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        let place = Place::on(&server);
        let [one, other] = place.nodes();
        one.fill("/other", "x").await;
        let (response, _) = stored(&one, "/other").await;
        let before = one.store.get(&key("/")).await.unwrap().fence;
        other.store.invalidate(&[uri("/")], PurgeMode::Remove).await.unwrap();
        assert_eq!(place.logged(), 0, "nothing was under it");
        let put = async |fence| one.store.put(&key("/"), response.clone(), fence).await.unwrap();
        assert_eq!(put(before).await, PutOutcome::Superseded);
        let after = one.store.get(&key("/")).await.unwrap().fence;
        assert_eq!(put(after).await, PutOutcome::Stored);
        // Now there is something.
        other.store.invalidate(&[uri("/")], PurgeMode::Remove).await.unwrap();
        assert_eq!(place.logged(), 1);
        assert!(one.store.get(&key("/")).await.unwrap().variants.is_empty());
        other.get("/other").await.told(HIT);
    }
}

#[tokio::test]
async fn a33_a_purge_of_a_query_is_in_the_log_where_a_stored_response_answers_for_others() {
    let server = Server::start(Kind::Redis);
    let place = Place::on(&server);
    let [one, other] = place.nodes();
    let reply = |body: &str| Reply::cc(body, "max-age=60").field("no-vary-search", "params=(\"utm\")");
    one.bench.origin.then(reply("old"));
    one.get("/a?x=1").await.has_body("old");
    assert!(one.get("/a?x=1&utm=2").await.has_body("old").is_hit());
    place.post(&other, "/a?x=1&utm=2").await;
    assert_eq!(place.logged(), 1);
    one.bench.origin.then(reply("new"));
    one.get("/a?x=1&utm=2").await.has_body("new");
}

/// Whatever is lost of what was announced, it is found out by the purge that would have needed it.
#[tokio::test]
async fn f17_without_any_one_of_the_keys_of_announcements_no_purge_is_missed() {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        for lost in ["g", "u", "m0"] {
            let place = Place::on(&server);
            let [one, other] = place.nodes();
            one.fill("/", "old").await;
            other.get("/").await.has_body("old").told(HIT);
            place.post(&other, "/unknown").await;
            assert_eq!(place.ask("DEL", lost, &[]).number(), 1, "{lost}");
            place.post(&other, "/").await;
            for node in [&one, &other, &place.node()] {
                node.fill("/", "new").await;
                node.purge(PurgeTarget::All).await.unwrap();
            }
            // And all goes on.
            one.fill("/", "newest").await;
            other.get("/").await.has_body("newest").told(HIT);
            let logged = place.logged();
            place.post(&other, "/unknown").await;
            assert_eq!(place.logged(), logged, "{lost}");
        }
    }
}

/// As in a Cluster when the primary with the log is lost, and its replica has not got the last announcement: the record is elsewhere.
#[tokio::test]
async fn f17_what_was_announced_to_a_primary_that_was_lost_is_gone() {
    for kind in [Kind::Redis, Kind::Old] {
        let more: &[&str] = if kind == Kind::Redis { &["--enable-debug-command", "yes"] } else { &[] };
        let server = Server::with(kind, more);
        let place = Place::on(&server);
        let [one, other] = place.nodes();
        let far = RedisStore::new(config(&place.url).namespace(&place.namespace)).unwrap();
        let limits = TierLimits::new().bound(Duration::from_secs(60));
        let tier = TieredStore::following(MemoryStore::default(), far, limits);
        one.fill("/kept", "kept").await;
        let keys = ["n", "g", "m0"];
        let replicated = keys.map(|name| place.ask("DUMP", name, &[]).bytes().unwrap());
        one.fill("/", "old").await;
        other.get("/").await.has_body("old").told(HIT);
        while tier.try_get(&key("/")).is_none_or(|found| found.variants.is_empty()) {
            tier.get(&key("/")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The replica takes over.
        for (name, bytes) in keys.into_iter().zip(&replicated) {
            let name = place.name(name);
            let words = [b"RESTORE".as_slice(), name.as_bytes(), b"0", bytes, b"REPLACE"];
            ok(&ask_any(&place.ports, &words));
        }
        ok(&server.ask(&["DEBUG", "CHANGE-REPL-ID"]));
        place.post(&other, "/").await;
        assert_eq!(place.logged(), 0, "nobody knows that there was something");
        for node in [&one, &other, &place.node()] {
            assert!(node.store.get(&key("/")).await.unwrap().variants.is_empty());
            assert_eq!(stored(node, "/kept").await.0.payload().len(), 4, "that was replicated");
        }
        eventually("the near tier was to read of it", || {
            tier.try_get(&key("/")).is_none_or(|found| found.variants.is_empty())
        });
        // What was asked for before that is not stored, as a purge of it may be lost, too; everything else is.
        one.fill("/", "new").await;
        other.get("/").await.has_body("new").told(HIT);
        place.post(&other, "/").await;
        one.fill("/", "newer").await;
    }
}

#[tokio::test]
async fn a33_what_is_near_before_it_is_far_is_announced_before_that() {
    let server = Server::start(Kind::Redis);
    let place = Place::on(&server);
    let other = place.node();
    other.fill("/other", "x").await;
    let (response, _) = stored(&other, "/other").await;
    let limits = TierLimits::new().bound(Duration::from_secs(60)).far_in_background(true);
    let far = RedisStore::new(config(&place.url).namespace(&place.namespace)).unwrap();
    let tier = TieredStore::following(MemoryStore::default(), far, limits);
    while !tier.is_near_open() {
        tier.get(&key("/")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let fence = tier.get(&key("/")).await.unwrap().fence;
    assert_eq!(tier.put(&key("/"), response.clone(), fence).await.unwrap(), PutOutcome::Stored);
    // The task that puts it far has not run yet: there is one thread, and nothing was waited for since.
    assert!(tier.try_get(&key("/")).is_some_and(|found| found.variants.len() == 1), "it is near");
    assert_eq!(place.ask("HGET", "g", &["o0"]).text(), "8", "four bits for each of two URIs");
    other.store.invalidate(&[uri("/")], PurgeMode::Remove).await.unwrap();
    assert_eq!(place.logged(), 1);
    // And what was purged meanwhile is not near either.
    let before = tier.get(&key("/late")).await.unwrap().fence;
    other.store.invalidate(&[uri("/late")], PurgeMode::Remove).await.unwrap();
    assert_eq!(tier.put(&key("/late"), response, before).await.unwrap(), PutOutcome::Superseded);
    assert!(tier.try_get(&key("/late")).is_none_or(|found| found.variants.is_empty()));
}

#[tokio::test]
async fn purges_of_one_node_at_one_time_share_a_call_and_each_gets_its_own_number() {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        let place = Place::on(&server);
        let [one, other] = place.nodes();
        for path in 0..100 {
            one.fill(&format!("/{path}"), "x").await;
        }
        one.fill("/kept", "x").await;
        one.purge(PurgeTarget::tag("other")).await.unwrap();
        let (before, logged) = (one.health().commands, place.logged());
        let purge = async |path: usize| {
            one.store.invalidate(&[uri(&format!("/{path}"))], PurgeMode::Remove).await.unwrap()
        };
        let numbers = join_all((0..200).map(purge)).await;
        assert_eq!(one.health().commands - before, 1, "for all of them");
        assert!(numbers.is_sorted_by(|one, next| one < next), "in the order in which they came: {numbers:?}");
        assert_eq!(place.logged() - logged, 100, "those of what was stored");
        for path in 0..100 {
            assert!(other.store.get(&key(&format!("/{path}"))).await.unwrap().variants.is_empty(), "{path}");
        }
        other.get("/kept").await.told(HIT);
    }
}

#[tokio::test]
async fn purges_that_share_a_call_fail_together_and_are_made_again() {
    let server = Server::start(Kind::Old);
    let place = Place::on(&server);
    let [one, other] = place.nodes();
    one.fill("/", "old").await;
    one.fill("/1", "old").await;
    server.set("maxmemory", "1");
    let targets = [uri("/"), uri("/1")];
    let purges =
        targets.iter().map(|target| one.store.invalidate(std::slice::from_ref(target), PurgeMode::Remove));
    assert!(join_all(purges).await.iter().all(Result::is_err));
    assert_eq!(one.health().purges_to_repeat, 2);
    server.set("maxmemory", "0");
    while one.health().purges_to_repeat > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    other.fill("/", "new").await;
    other.fill("/1", "new").await;
}

#[tokio::test]
async fn records_are_spread_over_as_many_connections_as_are_asked_for() {
    for kind in Kind::ALL {
        let server = Server::start(kind);
        let namespace = namespace();
        let node =
            |count| Node::new(config(&server.url()).namespace(&namespace).chunk(16 << 10).connections(count));
        let [one, many] = [1, 4].map(node);
        let content = "x".repeat(50_000);
        for path in 0..64 {
            many.fill(&format!("/{path}"), &content).await;
        }
        for path in 0..64 {
            one.get(&format!("/{path}")).await.has_body(&content).told(HIT);
        }
        assert_eq!((one.health().connections, many.health().connections), (1, 4));
        many.purge(PurgeTarget::tag("news")).await.unwrap();
        one.fill("/0", "new").await;
        many.get("/0").await.has_body("new").told(HIT);
        assert_eq!(many.health().connections, 4);
    }
}

#[tokio::test]
async fn a23_a_chunk_in_which_a_byte_has_changed_is_never_served() {
    let server = Server::start(Kind::Redis);
    let namespace = namespace();
    let node = Node::new(config(&server.url()).namespace(&namespace).chunk(64 << 10));
    let content = "0123456789".repeat(20_000);
    node.fill("/large", &content).await;
    let (response, _) = stored(&node, "/large").await;
    let content_of = response.payload().as_remote().unwrap();
    let names = server.ask(&["KEYS", &format!("{namespace}.1:b*")]).list();
    let range = |first, last| Some(larder::semantics::range::ByteRange { first, last });
    let open = async |range| node.store.open(&key("/large"), content_of, range).await.unwrap().is_some();
    for number in 0..4_u64 {
        let name = names.iter().map(|name| name.clone().text());
        let name = name.into_iter().find(|name| name.ends_with(&format!(":{number}"))).unwrap();
        let first = number * (64 << 10);
        let (before, in_block) = (first + 100, first + 3_000);
        assert!(open(range(before, in_block)).await, "{number}");
        let byte = server.ask(&["GETRANGE", &name, "2000", "2000"]).text();
        server.ask(&["SETRANGE", &name, "2000", if byte == "x" { "y" } else { "x" }]);
        assert!(!open(range(before, in_block)).await, "{number}: the range has it");
        assert!(!open(range(before, before)).await, "{number}: its block is not as it was");
        let is_last = number == 3;
        if !is_last {
            assert!(open(range(first + 20_000, first + 20_100)).await, "{number}: another block");
        }
    }
    // The first chunk is read before the client is answered.
    node.fetch("/large", &content.replace('0', "o")).await;
}
