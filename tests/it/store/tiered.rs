//! A near tier before a far store: what is near costs no waiting, and nothing that was purged comes back from it.

use std::time::Duration;

use larder::store::conformance::{Capabilities, Nodes, Subject, check_all};
use larder::store::{TierLimits, TieredStore};
use larder::{BoxStore, MemoryStore};

use crate::support::elsewhere::Elsewhere;
use crate::support::fleet::{FarNode, Shared};

type Tier = TieredStore<MemoryStore, FarNode>;

fn tier_over(shared: &Shared, limits: TierLimits) -> Tier {
    TieredStore::following(MemoryStore::default(), FarNode::of(shared), limits)
}

const BOUND: Duration = Duration::from_millis(250);

/// Two nodes, each with a tier of its own.
#[derive(Default)]
struct Tiers {
    limits: TierLimits,
    shared: Shared,
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
fn promises() -> Capabilities {
    Capabilities::all().durable(false).statistics(false)
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
