//! Responses that a policy keeps in one level of a tier alone.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use larder::policy::Policies;
use larder::store::conformance::{Nodes, Subject, check_all};
use larder::store::{
    Fence, Levels, Lookup, PurgeMode, PurgeTarget, PutOutcome, Store, StoredId, TierLimits, TieredStore,
    Variants,
};
use larder::{
    BoxStore, CacheKey, HeadParts, MemoryStore, ResponseHead, StandardPolicy, StoreError, StoredResponse,
};

use super::tiered::{BOUND, Tier, Tiers, URI, contents, found, near, nodes, pass, promises, turns};
use crate::support::elsewhere::Elsewhere;
use crate::support::fleet::FarNode;
use crate::support::forward::forward;
use crate::support::logs::{key, response_with};
use crate::support::{Bench, CacheLayer, Reply};

/// A head for these levels.
fn kept_in(head: &ResponseHead, levels: Levels) -> ResponseHead {
    let mut parts: HeadParts = head.to_parts();
    parts.levels = levels;
    ResponseHead::from_parts(parts).unwrap()
}

fn response_in(levels: Levels, content: &str, second: u64) -> StoredResponse {
    let response = response_with(&[], content, second);
    StoredResponse::new(kept_in(response.head(), levels), response.payload().clone())
}

async fn fill<S: Store>(store: &S, levels: Levels, content: &str, second: u64) -> PutOutcome {
    let fence = store.get(&key(URI)).await.unwrap().fence;
    store.put(&key(URI), response_in(levels, content, second), fence).await.unwrap()
}

/// Gives what is found a head for these levels.
async fn freshen<S: Store>(store: &S, levels: Levels, second: u64) -> PutOutcome {
    let lookup = store.get(&key(URI)).await.unwrap();
    let head = response_in(levels, "", second).head().clone();
    store.freshen(&key(URI), lookup.variants[0].id, head, lookup.fence).await.unwrap()
}

async fn empty(store: &MemoryStore) {
    store.invalidate(&[PurgeTarget::All], PurgeMode::Remove).await.unwrap();
}

fn second(lookup: &Lookup) -> u64 {
    let since = lookup.variants[0].response.head().reuse().response_time;
    since.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_far_alone_never_comes_near() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    assert_eq!(fill(&one, Levels::Both, "old", 1).await, PutOutcome::Stored);
    assert_eq!(near(&one, URI), Some("old".into()));
    assert_eq!(fill(&one, Levels::Far, "new", 2).await, PutOutcome::Stored);
    for node in [&one, &other] {
        assert_eq!((near(node, URI), found(node, URI).await), (None, Some("new".into())));
        assert_eq!(near(node, URI), None, "it was found");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_near_alone_is_on_its_own_node_only_and_purges_of_all_nodes_reach_it() {
    for limits in
        [TierLimits::new(), TierLimits::new().promote_at(3), TierLimits::new().far_in_background(true)]
    {
        let (shared, one, other) = nodes(&limits).await;
        let plain = FarNode::of(&shared);
        assert_eq!(fill(&one, Levels::Near, "content", 1).await, PutOutcome::Stored);
        turns().await;
        assert_eq!(
            (near(&one, URI), found(&one, URI).await),
            (Some("content".into()), Some("content".into()))
        );
        assert_eq!((found(&plain, URI).await, found(&other, URI).await), (None, None));
        other.invalidate(&[PurgeTarget::uri(URI)], PurgeMode::Remove).await.unwrap();
        turns().await;
        assert_eq!((near(&one, URI), found(&one, URI).await), (None, None));
        // One that was asked for before a purge.
        let fence = one.get(&key(URI)).await.unwrap().fence;
        other.invalidate(&[PurgeTarget::uri(URI)], PurgeMode::Remove).await.unwrap();
        let put = one.put(&key(URI), response_in(Levels::Near, "purged", 2), fence).await.unwrap();
        turns().await;
        // Whether the log is known to have the purge by then or not.
        assert!(put != PutOutcome::TooLarge && near(&one, URI).is_none() && found(&one, URI).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_near_alone_is_stored_while_the_far_store_fails() {
    let (_, one, _) = nodes(&TierLimits::new()).await;
    let fence = one.get(&key(URI)).await.unwrap().fence;
    one.far().link.cut();
    let put = one.put(&key(URI), response_in(Levels::Near, "content", 1), fence).await.unwrap();
    assert_eq!((put, near(&one, URI)), (PutOutcome::Stored, Some("content".into())));
}

#[tokio::test(start_paused = true)]
async fn what_a_response_near_alone_replaces_far_is_not_served_after_it_has_left() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    fill(&one, Levels::Both, "old", 1).await;
    found(&other, URI).await;
    assert_eq!(fill(&one, Levels::Near, "new", 2).await, PutOutcome::Stored);
    assert_eq!((near(&one, URI), found(&one, URI).await), (Some("new".into()), Some("new".into())));
    assert_eq!(near(&other, URI), Some("old".into()), "no purge has taken it away");
    empty(one.near()).await;
    let lookup = one.get(&key(URI)).await.unwrap();
    assert_eq!(contents(&lookup), ["old"]);
    let reuse = lookup.variants[0].response.head().reuse();
    assert_eq!((reuse.outdated, reuse.lifetime), (true, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_response_near_alone_does_not_stand_before_a_newer_one_that_is_far() {
    let (_, one, other) = nodes(&TierLimits::new()).await;
    let late = one.get(&key(URI)).await.unwrap().fence;
    // Fresh, or it would be replaced by whatever comes.
    let fresh = |levels, content, second| {
        let response = response_in(levels, content, second);
        let mut parts = response.head().to_parts();
        parts.reuse.lifetime = Duration::from_secs(60);
        StoredResponse::new(ResponseHead::from_parts(parts).unwrap(), response.payload().clone())
    };
    let fence = other.get(&key(URI)).await.unwrap().fence;
    other.put(&key(URI), fresh(Levels::Both, "newer", 3), fence).await.unwrap();
    let put = one.put(&key(URI), fresh(Levels::Near, "older", 2), late).await.unwrap();
    assert_eq!((put, near(&one, URI)), (PutOutcome::Superseded, None));
    assert_eq!(found(&one, URI).await, Some("newer".into()));
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_near_is_none_for_what_is_nowhere_else() {
    let (_, one, _) = nodes(&TierLimits::new().near_lifetime(Duration::from_secs(10))).await;
    fill(&one, Levels::Near, "content", 1).await;
    pass(Duration::from_secs(11)).await;
    assert_eq!(near(&one, URI), Some("content".into()));
}

#[tokio::test(start_paused = true)]
async fn a_response_near_alone_that_the_near_store_does_not_take_is_stored_nowhere() {
    let (shared, one, _) = nodes(&TierLimits::new().near_object(5)).await;
    assert_eq!(fill(&one, Levels::Near, "large.", 1).await, PutOutcome::TooLarge);
    assert_eq!((found(&one, URI).await, found(&FarNode::of(&shared), URI).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_validation_changes_which_levels_keep_a_response_and_moves_no_content() {
    // The levels before and after; whether the new head is near and far, as of which second.
    for (before, after, is_near, is_far) in [
        (Levels::Near, Levels::Near, Some(2), None),
        (Levels::Near, Levels::Both, Some(2), Some(2)),
        (Levels::Near, Levels::Far, None, Some(2)),
        (Levels::Both, Levels::Near, Some(2), Some(1)),
        (Levels::Both, Levels::Far, None, Some(2)),
        (Levels::Far, Levels::Far, None, Some(2)),
        (Levels::Far, Levels::Near, None, Some(2)),
        (Levels::Far, Levels::Both, None, Some(2)),
    ] {
        let (shared, one, _) = nodes(&TierLimits::new()).await;
        let plain = FarNode::of(&shared);
        fill(&one, before, "content", 1).await;
        assert_eq!(freshen(&one, after, 2).await, PutOutcome::Stored, "{before:?} {after:?}");
        let near = one.try_get(&key(URI)).map(|lookup| second(&lookup));
        let far = Some(plain.get(&key(URI)).await.unwrap()).filter(|lookup| !lookup.variants.is_empty());
        assert_eq!((near, far.map(|lookup| second(&lookup))), (is_near, is_far), "{before:?} {after:?}");
        let lookup = one.get(&key(URI)).await.unwrap();
        assert_eq!(
            (contents(&lookup), second(&lookup)),
            (vec!["content".to_owned()], 2),
            "{before:?} {after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_near_alone_goes_far_when_it_is_validated_though_the_far_store_has_what_it_replaced() {
    let (shared, one, _) = nodes(&TierLimits::new()).await;
    fill(&one, Levels::Both, "old", 1).await;
    fill(&one, Levels::Near, "new", 2).await;
    assert_eq!(freshen(&one, Levels::Both, 3).await, PutOutcome::Stored);
    assert_eq!(near(&one, URI), Some("new".into()));
    let far = FarNode::of(&shared).get(&key(URI)).await.unwrap();
    assert_eq!((contents(&far), second(&far)), (vec!["new".to_owned()], 3));
}

/// A store whose responses are all kept in these levels.
#[derive(Clone)]
struct Kept<S> {
    levels: Levels,
    store: Arc<S>,
}

impl<S: Store> Kept<S> {
    fn new(store: S, levels: Levels) -> Self {
        Self { levels, store: Arc::new(store) }
    }
}

/// With the heads that were put.
fn as_put(found: Lookup) -> Lookup {
    let variants = found.variants.iter().cloned().map(|mut stored| {
        let head = kept_in(stored.response.head(), Levels::Both);
        stored.response = StoredResponse::new(head, stored.response.payload().clone());
        stored
    });
    Lookup::new(found.fence, Variants::new(variants))
}

impl<S: Store> Store for Kept<S> {
    forward!(store: open, expect, begin, purged_since, invalidate, limits, statistics);

    fn try_get(&self, key: &CacheKey) -> Option<Lookup> {
        self.store.try_get(key).map(as_put)
    }

    async fn get(&self, key: &CacheKey) -> Result<Lookup, StoreError> {
        self.store.get(key).await.map(as_put)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: StoredResponse,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        let head = kept_in(response.head(), self.levels);
        self.store.put(key, StoredResponse::new(head, response.payload().clone()), fence).await
    }

    async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> Result<PutOutcome, StoreError> {
        self.store.freshen(key, of, kept_in(&head, self.levels), fence).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_keeps_the_contract_with_all_responses_in_one_level() {
    for levels in [Levels::Far, Levels::Near] {
        let tier = async || {
            let near = MemoryStore::builder().capacity(16 << 20).build();
            Kept::new(TieredStore::new(near, MemoryStore::default(), TierLimits::new()), levels)
        };
        check_all(&Subject::new(tier).capabilities(promises()).operations(100)).await;
    }
    let promises = promises().staleness(BOUND).shared_replacements(false).exact_outcomes(false);
    let tiers = async || FarAlone(Tiers::default());
    check_all(&Subject::new(tiers).capabilities(promises).operations(100)).await;
}

struct FarAlone(Tiers);

impl Nodes for FarAlone {
    type Store = Kept<Tier>;

    async fn open(&self) -> [Self::Store; 2] {
        self.0.open().await.map(|tier| Kept::new(tier, Levels::Far))
    }
}

/// What is under `/near/` is kept near alone, and what is under `/far/` far alone.
fn by_path(tier: &Tier, replies: impl IntoIterator<Item = Reply>) -> Bench {
    let standard = StandardPolicy::default();
    let policy = Policies::new(standard.clone())
        .path("/far/*", standard.clone().levels(Levels::Far))
        .path("/near/*", standard.levels(Levels::Near));
    Bench::with(CacheLayer::builder(BoxStore::new(tier.clone())).policy(policy), replies)
}

#[tokio::test(start_paused = true)]
async fn a_policy_says_which_levels_keep_a_response() {
    const FILLED: &str = "larder; fwd=uri-miss; stored; ttl=60";
    const HIT: &str = "larder; hit; ttl=60";
    let (_, one_tier, other_tier) = nodes(&TierLimits::new()).await;
    let replies = || (0..3).map(|_| Reply::cc("x", "max-age=60").field("cache-groups", "\"news\""));
    let (one, other) = (by_path(&one_tier, replies()), by_path(&other_tier, replies()));
    let of_site = |path: &str| format!("http://example.com{path}");
    for (path, of_other, is_near) in [("/x", HIT, true), ("/far/x", HIT, false), ("/near/x", FILLED, true)] {
        one.get(path).await.told(FILLED);
        one.get(path).await.told(HIT);
        other.get(path).await.told(of_other);
        for tier in [&one_tier, &other_tier] {
            assert_eq!(near(tier, &of_site(path)).is_some(), is_near, "{path}");
        }
    }
    let shown = async |bench: &Bench, path: &str| {
        let request = crate::handle::explain::request(Method::GET, path, &[]);
        let levels = bench.handle.inspect(&request).await.keys[0].variants[0].levels;
        let steps = bench.handle.explain(&request).await.steps;
        (levels, steps.into_iter().find(|step| step.name == "variant").unwrap().finding)
    };
    let said = |levels| format!("200, 0 s old, lifetime 60 s, fresh{levels}: it is for this request");
    assert_eq!(shown(&one, "/x").await, (Levels::Both, said("")));
    assert_eq!(shown(&other, "/far/x").await, (Levels::Far, said(", kept far alone")));
    assert_eq!(shown(&one, "/near/x").await, (Levels::Near, said(", kept near alone")));
    // A purge of one node reaches all of them.
    one.handle.purge_target(&PurgeTarget::tag("news")).await.unwrap();
    turns().await;
    for path in ["/x", "/far/x", "/near/x"] {
        assert!(!other.get(path).await.is_hit(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_validation_of_what_is_near_alone_stays_near() {
    let (shared, tier, _) = nodes(&TierLimits::new()).await;
    let fresh = Reply::cc("x", "max-age=60").field("etag", "\"1\"");
    let not_modified = Reply::cc("", "max-age=60").status(304).field("etag", "\"1\"");
    let bench = by_path(&tier, [fresh, not_modified]);
    bench.get("/near/x").await;
    bench.later(61);
    bench.get("/near/x").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    bench.get("/near/x").await.told("larder; hit; ttl=60");
    assert_eq!(found(&FarNode::of(&shared), "http://example.com/near/x").await, None);
}

#[tokio::test]
async fn content_that_is_kept_near_alone_comes_whole_where_the_far_store_takes_pieces() {
    let streamed = |levels, in_flight| {
        let far = Elsewhere::default();
        let tier = Arc::new(TieredStore::new(MemoryStore::default(), far.clone(), TierLimits::new()));
        let policy = StandardPolicy::default().levels(levels);
        let limits = larder::FillLimits::new().in_flight(in_flight);
        let layer = CacheLayer::builder(BoxStore::new(Arc::clone(&tier))).policy(policy).fill_limits(limits);
        (Bench::with(layer, [Reply::cc(&"x".repeat(200_000), "max-age=60")]), tier, far)
    };
    let key = key("http://example.com/x");
    for (levels, is_near) in [(Levels::Both, false), (Levels::Near, true)] {
        let (bench, tier, far) = streamed(levels, 64 << 20);
        bench.get("/x").await.told("larder; fwd=uri-miss; stored; ttl=60");
        bench.get("/x").await.told("larder; hit; ttl=60");
        let near = tier.near().try_get(&key).unwrap().variants;
        let far = far.get(&key).await.unwrap().variants;
        assert_eq!(
            (near.iter().any(|stored| !stored.response.payload().is_remote()), far.is_empty()),
            (is_near, is_near)
        );
    }
    // It is no larger than what one fill keeps in memory.
    let (bench, _, _) = streamed(Levels::Near, 1 << 20);
    bench.get("/x").await.told("larder; fwd=uri-miss; detail=\"too-large\"");
}
