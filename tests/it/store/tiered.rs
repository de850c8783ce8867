//! A near tier before a far store: what is near costs no waiting, and nothing that was purged comes back from it.

use std::time::Duration;

use larder::store::conformance::{Capabilities, Nodes, Subject, check_all};
use larder::store::{Lookup, PurgeMode, PurgeTarget, PutOutcome, Store, TierLimits, TieredStore};
use larder::{BoxStore, MemoryStore};

use crate::support::elsewhere::Elsewhere;
use crate::support::fleet::{FarNode, Shared};
use crate::support::logs::{key, response_with};
use crate::support::{Bench, CacheLayer, Reply};

pub type Tier = TieredStore<MemoryStore, FarNode>;

fn tier_over(shared: &Shared, limits: TierLimits) -> Tier {
    TieredStore::following(MemoryStore::default(), FarNode::of(shared), limits)
}

pub const BOUND: Duration = Duration::from_millis(250);

/// Two nodes, each with a tier of its own.
#[derive(Default)]
pub struct Tiers {
    pub limits: TierLimits,
    pub shared: Shared,
}

impl Nodes for Tiers {
    type Store = Tier;

    async fn open(&self) -> [Tier; 2] {
        [(); 2].map(|()| tier_over(&self.shared, self.limits.clone()))
    }
}

/// Two nodes without tiers.
#[derive(Default)]
struct Fars(Shared);

impl Nodes for Fars {
    type Store = FarNode;

    async fn open(&self) -> [FarNode; 2] {
        [(); 2].map(|()| FarNode::of(&self.0))
    }
}

/// What no store of these tests has.
pub fn promises() -> Capabilities {
    Capabilities::all().durable(false).durable_fences(false).statistics(false)
}

#[tokio::test(start_paused = true)]
async fn a_store_of_records_over_a_log_keeps_the_contract() {
    check_all(&Subject::new(async || Fars::default()).capabilities(promises()).operations(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_tier_over_a_store_of_its_own_keeps_the_contract() {
    let limits = [
        TierLimits::new(),
        TierLimits::new().promote_at(2),
        TierLimits::new().near_object(1_000),
        TierLimits::new().far_in_background(true),
    ];
    for limits in limits {
        let near = || MemoryStore::builder().capacity(16 << 20).build();
        let memory = async || TieredStore::new(near(), MemoryStore::default(), limits.clone());
        check_all(&Subject::new(memory).capabilities(promises()).operations(100)).await;
    }
    let elsewhere =
        async || TieredStore::new(MemoryStore::default(), Elsewhere::waiting(), TierLimits::new());
    check_all(&Subject::new(elsewhere).capabilities(promises()).operations(100)).await;
    let boxed = async || {
        let tier = TieredStore::new(MemoryStore::default(), MemoryStore::default(), TierLimits::new());
        TieredStore::new(MemoryStore::default(), BoxStore::new(tier), TierLimits::new())
    };
    check_all(&Subject::new(boxed).capabilities(promises()).operations(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_tier_over_a_store_that_nodes_share_keeps_the_contract() {
    let promises = promises().staleness(BOUND).shared_replacements(false).exact_outcomes(false);
    for limits in [TierLimits::new(), TierLimits::new().promote_at(2)] {
        let tiers = async || Tiers { limits: limits.clone(), shared: Shared::default() };
        check_all(&Subject::new(tiers).capabilities(promises).operations(100)).await;
    }
}

pub const URI: &str = "http://a/x";
const OTHER: &str = "http://a/y";

/// Whole turns of all tasks, without time.
pub async fn turns() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Time goes by as a follower sees it: it polls every 100 ms.
pub async fn pass(time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(Duration::from_millis(10));
        tokio::time::advance(step).await;
        turns().await;
        left -= step;
    }
}

/// Two nodes that follow the log.
pub async fn nodes(limits: &TierLimits) -> (Shared, Tier, Tier) {
    let shared = Shared::default();
    let tiers = [(); 2].map(|()| tier_over(&shared, limits.clone()));
    turns().await;
    let [one, other] = tiers;
    assert!(one.is_near_open() && other.is_near_open());
    (shared, one, other)
}

async fn fill<S: Store>(store: &S, uri: &str, content: &str, second: u64) -> PutOutcome {
    let fence = store.get(&key(uri)).await.unwrap().fence;
    store.put(&key(uri), response_with(&[], content, second), fence).await.unwrap()
}

pub fn contents(lookup: &Lookup) -> Vec<String> {
    let content = |response: &larder::StoredResponse| response.payload().to_bytes().unwrap().to_vec();
    lookup.variants.iter().map(|stored| String::from_utf8(content(&stored.response)).unwrap()).collect()
}

/// What is found without waiting.
pub fn near<S: Store>(store: &S, uri: &str) -> Option<String> {
    store.try_get(&key(uri)).and_then(|lookup| contents(&lookup).pop())
}

/// What is found by waiting.
pub async fn found<S: Store>(store: &S, uri: &str) -> Option<String> {
    contents(&store.get(&key(uri)).await.unwrap()).pop()
}

async fn purge<S: Store>(store: &S, uri: &str) {
    store.invalidate(&[PurgeTarget::uri(uri)], PurgeMode::Remove).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_one_node_has_stored_is_near_there_and_comes_near_on_another_when_it_is_asked_for() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    assert_eq!(fill(&one, URI, "content", 1).await, PutOutcome::Stored);
    assert_eq!((near(&one, URI), near(&other, URI)), (Some("content".into()), None));
    assert_eq!(found(&other, URI).await, Some("content".into()));
    assert_eq!(near(&other, URI), Some("content".into()));
}

#[tokio::test(start_paused = true)]
async fn a_purge_on_one_node_empties_the_near_tier_of_another_as_soon_as_it_is_in_the_log() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    for uri in [URI, OTHER] {
        fill(&one, uri, "content", 1).await;
        found(&other, uri).await;
    }
    purge(&one, URI).await;
    assert_eq!(near(&one, URI), None);
    turns().await; // no time goes by
    assert_eq!((near(&other, URI), near(&other, OTHER)), (None, Some("content".into())));
    assert_eq!((found(&one, URI).await, found(&other, URI).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_answers_from_its_near_tier_no_longer_than_the_bound() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    fill(&one, URI, "content", 1).await;
    found(&other, URI).await;
    other.far().link.cut();
    pass(Duration::from_millis(100)).await;
    assert_eq!(near(&other, URI), Some("content".into()), "it was proven whole a moment ago");
    purge(&one, URI).await;
    pass(BOUND).await;
    assert_eq!(near(&other, URI), None);
    assert!(other.get(&key(URI)).await.is_err());
    other.far().link.mend();
    pass(Duration::from_secs(1)).await;
    assert!(other.is_near_open());
    assert_eq!((near(&other, URI), found(&other, URI).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn f17_nothing_that_was_purged_comes_back_from_a_near_tier_whatever_the_log_has_lost_meanwhile() {
    let losses: [(&str, fn(&Shared)); 6] = [
        ("nothing", |_| {}),
        ("entries that were trimmed", |shared| shared.log.trim(0)),
        ("all of it", |shared| shared.log.restart()),
        ("its table, and entries", |shared| {
            shared.log.drop_table();
            shared.log.trim(0);
        }),
        ("its table", |shared| shared.log.drop_table()),
        ("an entry that its own node knows", |shared| shared.log.lose(1)),
    ];
    for (loss, lose) in losses {
        let (shared, one, other) = nodes(&TierLimits::new()).await;
        fill(&one, URI, "content", 1).await;
        found(&other, URI).await;
        other.far().link.cut();
        pass(BOUND * 2).await;
        purge(&one, URI).await;
        lose(&shared);
        pass(Duration::from_secs(1)).await;
        other.far().link.mend();
        pass(Duration::from_secs(2)).await;
        assert!(one.is_near_open() && other.is_near_open(), "{loss}");
        assert_eq!((near(&one, URI), near(&other, URI)), (None, None), "{loss}");
        assert_eq!((found(&one, URI).await, found(&other, URI).await), (None, None), "{loss}");
        assert_eq!(fill(&other, URI, "new", 2).await, PutOutcome::Stored, "{loss}");
        assert_eq!(
            (near(&other, URI), found(&one, URI).await),
            (Some("new".into()), Some("new".into())),
            "{loss}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn f17_a_purge_that_another_node_has_heard_of_stays_in_effect_when_the_log_and_its_own_node_have_lost_it()
 {
    let (shared, one, other) = nodes(&TierLimits::new()).await;
    fill(&one, URI, "content", 1).await;
    found(&other, URI).await;
    purge(&one, URI).await;
    turns().await;
    drop(one);
    shared.log.lose(1);
    pass(Duration::from_secs(1)).await;
    let third = tier_over(&shared, TierLimits::new());
    assert_eq!((near(&other, URI), found(&other, URI).await, found(&third, URI).await), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn f10_a_purge_that_may_not_have_arrived_is_an_error_and_takes_effect_here_at_once_and_there_later() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    fill(&one, URI, "content", 1).await;
    found(&other, URI).await;
    one.far().link.cut();
    let purged = one.invalidate(&[PurgeTarget::uri(URI)], PurgeMode::Remove).await;
    assert!(purged.is_err());
    assert_eq!((near(&one, URI), near(&other, URI)), (None, Some("content".into())));
    one.far().link.mend();
    pass(Duration::from_secs(2)).await;
    assert_eq!((near(&other, URI), found(&other, URI).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_response_comes_near_on_the_hit_that_was_asked_for() {
    let (_, one, other) = nodes(&TierLimits::new().promote_at(3)).await;
    fill(&one, URI, "content", 1).await;
    assert_eq!(near(&one, URI), None);
    for is_near in [false, false, true] {
        assert_eq!(found(&other, URI).await, Some("content".into()));
        assert_eq!(near(&other, URI).is_some(), is_near);
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_is_too_large_for_the_near_tier_stays_far_and_what_it_replaces_goes() {
    let (_, one, _) = nodes(&TierLimits::new().near_object(5)).await;
    fill(&one, URI, "small", 1).await;
    assert_eq!(near(&one, URI), Some("small".into()));
    fill(&one, URI, "large.", 2).await;
    assert_eq!((near(&one, URI), found(&one, URI).await), (None, Some("large.".into())));
    assert_eq!(near(&one, URI), None);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_answered_from_the_near_tier_for_its_lifetime_there() {
    let limits = TierLimits::new().near_lifetime(Duration::from_secs(10));
    let (_, one, other) = nodes(&limits).await;
    fill(&one, URI, "old", 1).await;
    found(&other, URI).await;
    fill(&one, URI, "new", 2).await;
    pass(Duration::from_secs(9)).await;
    assert_eq!(near(&other, URI), Some("old".into()));
    pass(Duration::from_secs(1)).await;
    assert_eq!((near(&other, URI), found(&other, URI).await), (None, Some("new".into())));
    assert_eq!(near(&other, URI), Some("new".into()));
}

#[tokio::test(start_paused = true)]
async fn what_goes_far_in_the_background_is_near_at_once() {
    let (shared, one, other) = nodes(&TierLimits::new().far_in_background(true)).await;
    let plain = FarNode::of(&shared);
    assert_eq!(fill(&one, URI, "content", 1).await, PutOutcome::Stored);
    assert_eq!((near(&one, URI), found(&plain, URI).await), (Some("content".into()), None));
    assert_eq!(found(&one, URI).await, Some("content".into()), "also for whoever waits");
    turns().await;
    assert_eq!(
        (found(&plain, URI).await, found(&other, URI).await),
        (Some("content".into()), Some("content".into()))
    );
    // A purge that comes before it has arrived.
    fill(&one, OTHER, "content", 1).await;
    purge(&other, OTHER).await;
    turns().await;
    assert_eq!((near(&one, OTHER), found(&one, OTHER).await, found(&other, OTHER).await), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_freshened_near_is_freshened_far() {
    let (shared, one, other) = nodes(&TierLimits::new()).await;
    let plain = FarNode::of(&shared);
    fill(&one, URI, "content", 1).await;
    for (node, second) in [(&one, 2), (&other, 3)] {
        let lookup = node.get(&key(URI)).await.unwrap();
        let head = response_with(&[], "", second).head().clone();
        let freshened = node.freshen(&key(URI), lookup.variants[0].id, head.clone(), lookup.fence).await;
        assert_eq!(freshened.unwrap(), PutOutcome::Stored);
        for lookup in [node.try_get(&key(URI)).unwrap(), plain.get(&key(URI)).await.unwrap()] {
            assert_eq!(contents(&lookup), ["content"]);
            assert_eq!(lookup.variants[0].response.head().reuse(), head.reuse(), "{second}");
        }
    }
}

#[test]
fn a_tier_that_was_made_outside_of_a_runtime_begins_to_follow_in_one_and_again_in_the_next() {
    let shared = Shared::default();
    let tier = tier_over(&shared, TierLimits::new());
    for _ in 0..2 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            assert_eq!(near(&tier, URI), None);
            turns().await;
            assert!(tier.is_near_open());
            pass(BOUND * 4).await;
            assert!(tier.is_near_open());
        });
    }
}

fn bench(tier: &Tier, replies: impl IntoIterator<Item = Reply>) -> Bench {
    Bench::with(CacheLayer::builder(BoxStore::new(tier.clone())), replies)
}

#[tokio::test(start_paused = true)]
async fn a_variant_that_only_another_node_has_fetched_is_a_hit() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    let reply = |language| Reply::cc(language, "max-age=60").field("vary", "accept-language");
    let (one, other) = (bench(&one, [reply("de"), reply("en")]), bench(&other, [Reply::new("unasked")]));
    let ask = async |bench: &Bench, language| bench.get_with("/", &[("accept-language", language)]).await;
    assert!(!ask(&one, "de").await.is_hit());
    assert!(ask(&other, "de").await.has_body("de").is_hit());
    assert!(!ask(&one, "en").await.is_hit());
    // Near, there is only the other one.
    assert!(ask(&other, "en").await.has_body("en").is_hit());
    assert_eq!((one.origin.calls(), other.origin.calls()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_another_node_has_fetched_again_is_served_instead_of_what_is_stale_near() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    let reply = |content| Reply::cc(content, "max-age=10");
    let (one, other) = (bench(&one, [reply("old"), reply("new")]), bench(&other, [Reply::new("unasked")]));
    one.get("/").await;
    assert!(other.get("/").await.has_body("old").is_hit());
    one.later(11);
    other.later(11);
    one.get("/").await.has_body("new");
    assert!(other.get("/").await.has_body("new").is_hit());
    assert_eq!((one.origin.calls(), other.origin.calls()), (2, 0));
}
