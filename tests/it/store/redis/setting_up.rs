//! Users, encryption, Sentinel, replicas, and what the set-up lets fear.

use std::time::Duration;

use larder::store::{
    LeaseAnswer, LeaseEnd, LeaseName, LeaseState, Leases, PurgeTarget, RedisAdvice, RedisConfig, RedisStore,
    Store, TierLimits, TieredStore,
};
use larder::{CacheKey, MemoryStore, PurgeError};
#[cfg(feature = "redis-tls")]
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{HIT, Node, config, namespace};
use crate::support::Reply;
#[cfg(feature = "redis-tls")]
use crate::support::file::TempFile;
use crate::support::servers::{Answer, Kind, Server, Watched, eventually, ok};

fn key() -> CacheKey {
    CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap()
}

/// What is heard of a server with these arguments, until as much has come as there is to hear.
async fn advice_about(arguments: &[&str], expected: &[RedisAdvice]) {
    let server = Server::with(Kind::Redis, arguments);
    let (heard, mut advice) = tokio::sync::mpsc::unbounded_channel();
    let node = Node::new(config(&server.url()).on_advice(move |advice| drop(heard.send(advice.clone()))));
    node.fill("/", "x").await;
    for expected in expected {
        assert_eq!(advice.recv().await.as_ref(), Some(expected));
    }
    node.get("/").await.told(HIT);
    drop(node);
    assert_eq!(advice.recv().await, None, "it is said once");
}

#[tokio::test]
async fn a_bad_set_up_is_warned_of_once() {
    advice_about(&[], &[RedisAdvice::NoMemoryLimit, RedisAdvice::NoReplica]).await;
    advice_about(&["--maxmemory", "100mb"], &[RedisAdvice::NoEviction, RedisAdvice::NoReplica]).await;
    let random = RedisAdvice::EvictionPolicy("allkeys-random".to_owned());
    let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-random"];
    advice_about(&arguments, &[random, RedisAdvice::NoReplica]).await;
    let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lfu"];
    advice_about(&arguments, &[RedisAdvice::NoReplica]).await;
}

/// The rights that docs/FLEET.md names, in its words.
fn rights_of_the_guide() -> Vec<String> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FLEET.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, rest) = guide.split_once("ACL SETUSER cache on >secret ").unwrap();
    let (rights, _) = rest.split_once("```").unwrap();
    rights.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn a28_a_user_with_the_rights_that_are_named_is_enough() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::start(kind);
        let rights = rights_of_the_guide();
        let user = ["ACL", "SETUSER", "cache", "on", ">secret"].into_iter();
        ok(&server.ask(&user.chain(rights.iter().map(String::as_str)).collect::<Vec<_>>()));
        let of = |namespace: &str| {
            let url = format!("redis://cache:secret@127.0.0.1:{}", server.port);
            Node::new(config(&url).namespace(namespace).chunk(16 << 10))
        };
        let (one, other) = (of("shop"), of("shop"));
        let content = "x".repeat(100_000);
        one.fill("/", &content).await;
        other.get("/").await.has_body(&content).told(HIT);
        other.purge(PurgeTarget::tag("news")).await.unwrap();
        one.fill("/", "new").await;
        // Leases, and a node that waits for one.
        let (of_key, leases) = (key(), [&one, &other].map(|node| node.store.leases()));
        let name = LeaseName::new(&of_key);
        let LeaseAnswer::Granted(lease) = leases[0].ask(name).await.unwrap() else { panic!("it is free") };
        assert_eq!(leases[1].look(name).await.unwrap(), LeaseState::Held);
        let LeaseAnswer::Held(held) = leases[1].ask(name).await.unwrap() else { panic!("it is held") };
        lease.end(LeaseEnd::Over);
        assert_eq!(held.await, LeaseEnd::Over);
        // What follows the log.
        let follower = TieredStore::following(MemoryStore::default(), other.store.clone(), TierLimits::new());
        while !follower.is_near_open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // In another namespace, it may do nothing.
        let error = of("news").store.get(&key()).await.unwrap_err().to_string();
        assert!(error.contains("the server refuses"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_one_are_told() {
    let server = Server::with(Kind::Redis, &["--requirepass", "secret"]);
    let of = |account: &str| {
        let config = config(&format!("redis://{account}127.0.0.1:{}", server.port));
        RedisStore::new(config).unwrap()
    };
    of(":secret@").get(&key()).await.unwrap();
    let error = of(":wrong@").get(&key()).await.unwrap_err().to_string();
    assert!(error.contains("WRONGPASS") || error.to_lowercase().contains("password"), "{error}");
    let error = of("").get(&key()).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("auth"), "{error}");
}

#[tokio::test]
async fn a_purge_that_too_few_replicas_have_is_an_error() {
    let primary = Server::with(Kind::Redis, &["--repl-diskless-sync-delay", "0"]);
    let namespace = namespace();
    let of = |config: RedisConfig| Node::new(config.namespace(&namespace));
    let waiting = of(config(&primary.url()).wait_for_replicas(1, Duration::from_millis(20)));
    let other = of(config(&primary.url()));
    other.fill("/", "old").await;
    let purged = waiting.purge(PurgeTarget::tag("news")).await;
    let Err(PurgeError::Store(error)) = purged else { panic!("{purged:?}") };
    assert!(error.to_string().contains("0 replicas have the purge, of 1"), "{error}");
    other.fill("/", "new").await; // where it is, it is in effect
    let port = primary.port.to_string();
    let replica = Server::with(Kind::Redis, &["--replicaof", "127.0.0.1", &port]);
    let is_up = || replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up");
    eventually("a replica was waited for", is_up);
    let patient = of(config(&primary.url()).wait_for_replicas(1, Duration::from_secs(20)));
    patient.purge(PurgeTarget::tag("news")).await.unwrap();
    other.fill("/", "newer").await;
}

#[tokio::test]
async fn with_sentinel_the_store_goes_on_at_the_replica_that_takes_over() {
    let mut watched = Watched::start();
    let namespace = namespace();
    let [one, other] = [(); 2].map(|()| Node::new(config(&watched.url()).namespace(&namespace)));
    one.fill("/", "before").await;
    other.purge(PurgeTarget::tag("other")).await.unwrap();
    let has_it = || watched.replica.ask(&["XLEN", &format!("{{{namespace}.1}}:l")]) == Answer::Number(1);
    eventually("the replica was to have the purge", has_it);
    watched.primary.kill();
    for (node, path) in [(&one, "/1"), (&other, "/2")] {
        node.bench.origin.then(Reply::cc("after", "max-age=60"));
        let back = async {
            while !node.get(path).await.is_hit() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), back).await.expect("the replica takes over");
    }
    other.get("/").await.has_body("before").told(HIT);
    other.purge(PurgeTarget::tag("news")).await.unwrap();
    one.fill("/", "after").await;
}

#[cfg(feature = "redis-tls")]
#[tokio::test]
async fn a_connection_is_encrypted_and_the_server_has_to_show_who_it_is() {
    let authority = KeyPair::generate().unwrap();
    let mut of_authority = CertificateParams::default();
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = of_authority.self_signed(&authority).unwrap().pem();
    let key_pair = KeyPair::generate().unwrap();
    let of_server = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let issuer = Issuer::new(of_authority, authority);
    let certificate = TempFile::new("pem", of_server.signed_by(&key_pair, &issuer).unwrap().pem());
    let key_file = TempFile::new("pem", key_pair.serialize_pem());
    let port = crate::support::servers::free_port().to_string();
    let (certificate, key_file) = (certificate.path(), key_file.path());
    let [certificate, key_file] = [certificate, key_file].map(|path| path.to_str().unwrap());
    let arguments = [
        ["--tls-port", &port],
        ["--tls-cert-file", certificate],
        ["--tls-key-file", key_file],
        ["--tls-ca-cert-file", certificate],
        ["--tls-auth-clients", "no"],
    ];
    let _server = Server::with(Kind::Redis, arguments.as_flattened());
    let of = |config: RedisConfig| RedisStore::new(config).unwrap();
    let url = format!("rediss://localhost:{port}");
    let trusting = config(&url).root_certificates(root.as_bytes());
    let node = Node::new(trusting);
    node.fill("/", "x").await;
    node.get("/").await.told(HIT);
    // Nobody that browsers trust has signed it.
    let error = of(config(&url)).get(&key()).await.unwrap_err().to_string();
    assert!(error.contains("certificate") || error.contains("UnknownIssuer"), "{error}");
    let error =
        RedisStore::new(config(&url).root_certificates(b"-----BEGIN CERTIFICATE-----\nx")).unwrap_err();
    assert!(error.to_string().starts_with("the certificates can't be read"), "{error}");
}
