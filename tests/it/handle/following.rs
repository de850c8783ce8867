//! Purges that another node, a log or a CDN in front follows by their events.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Uri};
use larder::policy::{KeyRules, QueryRules};
use larder::store::{Purge, PurgeMode, PurgeTarget};
use larder::{Event, InvalidatedBy, StandardPolicy};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{Bench, Reply, cache_builder};

type Purged = (Vec<PurgeTarget>, PurgeMode);

/// A node whose purges come out of a channel, except those that it follows itself.
fn node(policy: StandardPolicy, reply: Reply) -> (Bench, UnboundedReceiver<Purged>) {
    let (purges, received) = unbounded_channel();
    let observer = hands_on(purges);
    (Bench::with(cache_builder().policy(policy).observer(observer), [reply]), received)
}

fn hands_on(purges: UnboundedSender<Purged>) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
    move |event| {
        if let Event::Invalidated { by, mode, targets, .. } = event
            && *by != InvalidatedBy::Peer
        {
            purges.send((targets.to_vec(), *mode)).unwrap();
        }
    }
}

/// Hands on what has come, each node's to the other one, until nothing is left. How many purges that took.
async fn settle(nodes: &mut [(Bench, UnboundedReceiver<Purged>); 2]) -> usize {
    let mut count = 0;
    while let Some((to, (targets, mode))) =
        (0..2).find_map(|from| Some((1 - from, nodes[from].1.try_recv().ok()?)))
    {
        let purge = Purge::from_bytes(&Purge::new(targets, mode).to_bytes()).unwrap();
        nodes[to].0.handle.follow(&purge.targets, purge.mode).await.unwrap();
        count += 1;
        assert!(count < 100, "purges go round");
    }
    count
}

fn pages(policy: &StandardPolicy) -> [(Bench, UnboundedReceiver<Purged>); 2] {
    [0, 1].map(|_| node(policy.clone(), Reply::cc("x", "max-age=60").field("cache-groups", "\"news\"")))
}

async fn are_stored(nodes: &[(Bench, UnboundedReceiver<Purged>); 2]) -> [bool; 2] {
    let only = [("cache-control", "only-if-cached")];
    let mut stored = [false; 2];
    for ((bench, _), stored) in nodes.iter().zip(&mut stored) {
        *stored = bench.get_with("/a?x=1", &only).await.is_hit();
    }
    stored
}

#[tokio::test]
async fn kx8_a_purge_in_either_node_takes_effect_in_the_other_one_and_does_not_come_back() {
    let uri = PurgeTarget::uri("http://example.com/a?x=1");
    let all_kinds = [
        PurgeTarget::All,
        PurgeTarget::group("http://example.com", "news"),
        PurgeTarget::host("example.com"),
        PurgeTarget::path("/a?x=1"),
        PurgeTarget::path_prefix("/a"),
        PurgeTarget::prefix("http://example.com/a"),
        PurgeTarget::tag("news"),
        PurgeTarget::tag_any_case("NEWS"),
        uri,
    ];
    let rules = KeyRules::new;
    for rules in [rules(), rules().query(QueryRules::none()), rules().any_host(), rules().any_scheme()] {
        let policy = StandardPolicy::default().key(rules);
        for target in &all_kinds {
            for (from, is_soft) in [(0, false), (1, false), (0, true)] {
                let mut nodes = pages(&policy);
                for (bench, _) in &nodes {
                    bench.get("/a?x=1").await;
                }
                assert_eq!(are_stored(&nodes).await, [true; 2]);
                let handle = &nodes[from].0.handle;
                if is_soft {
                    handle.soft_purge_target(target).await
                } else {
                    handle.purge_target(target).await
                }
                .unwrap();
                assert_eq!(settle(&mut nodes).await, 1, "{target}");
                assert_eq!(are_stored(&nodes).await, [false; 2], "{target} from {from}, soft: {is_soft}");
            }
        }
    }
}

#[tokio::test]
async fn kx8_what_an_unsafe_request_invalidates_goes_in_the_other_node_too() {
    let mut nodes = pages(&StandardPolicy::default());
    for (bench, _) in &nodes {
        bench.get("/a?x=1").await;
    }
    nodes[0].0.origin.then(Reply::new("").field("cache-group-invalidation", "\"news\""));
    nodes[0].0.send(Method::POST, "/elsewhere", &[]).await;
    assert_eq!(are_stored(&nodes).await, [false, true]);
    assert_eq!(settle(&mut nodes).await, 1);
    assert_eq!(are_stored(&nodes).await, [false; 2]);
}

#[tokio::test]
async fn kx8_a_soft_purge_that_is_followed_keeps_the_time_and_the_end_that_it_had() {
    let reply = || Reply::cc("x", "max-age=60, stale-if-error=600");
    let mut nodes = [0, 1].map(|_| node(StandardPolicy::default(), reply()));
    for (bench, _) in &nodes {
        bench.get("/").await;
    }
    let uri = Uri::from_static("http://example.com/");
    nodes[0].0.handle.soft_purge_for(&uri, Duration::from_secs(30)).await.unwrap();
    // The message takes its time.
    nodes[1].0.later(20);
    settle(&mut nodes).await;
    let ask = async || {
        nodes[1].0.origin.then(Reply::new("").status(503));
        nodes[1].0.get("/").await
    };
    ask().await.told("larder; fwd=stale; fwd-status=503; ttl=-20; detail=\"stale-if-error\"");
    nodes[1].0.later(10);
    assert_eq!(ask().await.status, 503, "30 s after the purge, not after the message");
}

#[tokio::test]
async fn kx8_an_audit_log_has_a_line_for_each_purge() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let builder = cache_builder().observer(move |event: &Event<'_>| {
        if let Event::Invalidated { by, mode, number, succeeded, targets, .. } = event {
            let how = if *mode == PurgeMode::Remove { "hard" } else { "soft" };
            let targets: Vec<_> = targets.iter().map(PurgeTarget::to_string).collect();
            let line = format!("{number} {by:?} {how} succeeded={succeeded} {}", targets.join(", "));
            log.lock().unwrap().push(line);
        }
    });
    let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    bench.handle.purge_targets(&[PurgeTarget::tag("a"), PurgeTarget::path_prefix("/b/")]).await.unwrap();
    bench.send(Method::POST, "/", &[]).await;
    bench.handle.follow(&[PurgeTarget::All], PurgeMode::Expire(bench.clock.now())).await.unwrap();
    let lines: Vec<_> = std::mem::take(&mut *lines.lock().unwrap());
    let without_numbers: Vec<_> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        without_numbers,
        [
            "Handle hard succeeded=true tag a, /b/*",
            "UnsafeRequest hard succeeded=true http://example.com/",
            "Peer soft succeeded=true *",
        ]
    );
}
