//! The conformance suite for stores: correct stores pass it, and for each flawed one it names the rule that is broken.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use larder::store::conformance;
use larder::store::conformance::concurrency::what_is_done_at_one_time_is_as_if_done_in_one_order;
use larder::store::conformance::{Capabilities, Nodes, Subject, Violation, check_all, violations};
use larder::store::{GuardLimits, Guarded};
use larder::{BoxStore, MemoryStore};

use crate::support::elsewhere::Elsewhere;
use crate::support::naive::{Flaw, Naive};
use crate::support::records::{self, Server};

async fn keeps_the_contract<N: Nodes>(make: impl AsyncFn() -> N) {
    check_all(&Subject::new(make).operations(200)).await;
}

/// On several threads.
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_store_keeps_the_contract() {
    check_all(&Subject::new(async || MemoryStore::default())).await;
    let subject = Subject::new(async || MemoryStore::default());
    what_is_done_at_one_time_is_as_if_done_in_one_order(&subject).await;
    keeps_the_contract(async || {
        MemoryStore::builder().capacity(4 << 20).max_object(1 << 20).max_variants(3).build()
    })
    .await;
}

#[tokio::test]
async fn a_boxed_or_shared_store_keeps_the_contract() {
    keeps_the_contract(async || BoxStore::new(MemoryStore::default())).await;
    keeps_the_contract(async || Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn a_guarded_store_keeps_the_contract() {
    keeps_the_contract(async || Arc::new(Guarded::new(Elsewhere::waiting(), GuardLimits::new()))).await;
}

#[tokio::test]
async fn stores_that_keep_content_elsewhere_keep_the_contract() {
    for store in [Elsewhere::default, Elsewhere::waiting] {
        keeps_the_contract(async || store()).await;
    }
    keeps_the_contract(async || Naive::default()).await;
    keeps_the_contract(async || BoxStore::new(Naive::default())).await;
}

const ONE_ORDER: &str = "what_is_done_at_one_time_is_as_if_done_in_one_order";

/// Which rules a store with a flaw breaks.
async fn broken_by(flaw: Flaw) -> Vec<&'static str> {
    let subject = Subject::new(async || Naive::with(flaw)).operations(20);
    let violations = violations(&subject.capabilities(Capabilities::all().reads_no_clock(false))).await;
    violations.iter().map(|violation| violation.rule).collect()
}

/// The same without what finds many flaws, but depends on who is first.
async fn broken_one_by_one(flaw: Flaw) -> Vec<&'static str> {
    broken_by(flaw).await.into_iter().filter(|rule| *rule != ONE_ORDER).collect()
}

#[tokio::test(start_paused = true)]
async fn each_flaw_of_a_store_is_found_and_named_and_each_rule_finds_one() {
    let mut found = BTreeSet::new();
    for (flaw, rules) in [
        (
            Flaw::BreaksOffWhenPurgedWithoutAnError,
            &["content_is_read_to_its_end_or_breaks_when_it_is_purged_meanwhile"][..],
        ),
        (Flaw::FenceOfTryGetIsFromTheFuture, &["a_fence_of_try_get_stands_before_later_purges"]),
        (Flaw::DropsAfterLifetime, &["what_is_stored_outlives_its_freshness_lifetime"]),
        (Flaw::DropsWhatIsNeverFresh, &["what_is_stale_is_kept"]),
        (Flaw::ForgetsEnds, &["an_expiry_with_an_end_says_so", "soft_purges_add_up"]),
        (
            Flaw::FreshenIgnoresFence,
            &[
                "a_freshening_and_a_purge_in_any_order_leave_nothing_old",
                "a_freshening_from_before_a_soft_purge_leaves_it_stale",
                "a_response_is_freshened_with_its_own_fence",
            ],
        ),
        (
            Flaw::FreshensAnything,
            &[
                "only_what_is_still_there_is_freshened",
                "a_freshening_and_a_purge_in_any_order_leave_nothing_old",
            ],
        ),
        (Flaw::KeepsAllVariants, &["the_number_of_variants_is_bounded"]),
        (
            Flaw::OldReplacesNewAfterSoftPurge,
            &["an_old_response_does_not_replace_a_newer_one_after_a_soft_purge"],
        ),
        (
            Flaw::OldReplacesNewer,
            &[
                "an_older_response_does_not_replace_a_newer_one",
                "an_older_response_of_one_node_does_not_replace_a_newer_one_of_another",
                "an_older_304_freshens_nothing",
                "a_stream_of_an_older_response_does_not_replace_a_newer_one",
            ],
        ),
        (Flaw::MixesStreams, &["streams_at_one_time_do_not_mix"]),
        (
            Flaw::NumbersPurgesAlike,
            &[
                "each_purge_has_a_greater_number_than_those_before",
                "a_purge_after_reopening_has_a_greater_number",
            ],
        ),
        (Flaw::OpensRangesShort, &["ranges_of_remote_content_are_opened_exactly"]),
        (
            Flaw::PurgesTheFirstTargetOnly,
            &["one_call_purges_many_targets", "one_call_purges_a_thousand_targets"],
        ),
        (
            Flaw::TakesWhatIsTooLarge,
            &["content_that_is_too_large_is_refused", "a_stream_that_is_too_large_is_refused"],
        ),
        (
            Flaw::StreamsForgetTheirFence,
            &[
                "a_stream_that_is_overtaken_by_a_soft_purge_is_never_fresh",
                "a_stream_that_is_overtaken_by_a_purge_is_refused",
            ],
        ),
        (Flaw::KeysSpareSlices, &["a_purge_of_a_key_reaches_its_slices"]),
        (Flaw::UriSparesFurtherParts, &["a_purge_of_a_uri_reaches_keys_with_further_parts"]),
    ] {
        let broken = broken_one_by_one(flaw).await;
        assert_eq!(broken, rules, "{flaw:?}");
        found.extend(broken);
    }
    // Some break more than one rule, of which this is the one that names it.
    macro_rules! breaks {
        ($($flaw:ident: $room:ident::$rule:ident,)+) => { $(
            let subject = Subject::new(async || Naive::with(Flaw::$flaw)).operations(500);
            let outcome = AssertUnwindSafe(conformance::$room::$rule(&subject)).catch_unwind().await;
            assert!(outcome.is_err(), "{:?} keeps the rule {}", Flaw::$flaw, stringify!($rule));
            found.insert(stringify!($rule));
        )+ };
    }
    breaks! {
        AllSparesOtherHosts: purging::a_purge_of_all_reaches_everything,
        CountsNothing: storing::what_is_held_is_counted,
        CutsContent: storing::content_of_any_length_is_kept_whole,
        DefaultFenceIsFromTheFuture: order::the_default_fence_stands_before_all_purges,
        FenceOfGetIsFromTheFuture: order::a_fence_of_get_stands_before_later_purges,
        FenceOfGetIsFromTheFuture: order::fills_and_purges_at_one_time_leave_nothing_old,
        FenceOfGetIsFromTheFuture: order::a_put_and_a_purge_in_any_order_leave_nothing_old,
        FindsWhatNobodyPut: storing::an_empty_store_finds_nothing,
        ForgetsPurgesButTheLast: order::a_purge_is_remembered_for_what_is_on_its_way,
        FreshensWithOtherContent: content::a_freshened_head_keeps_its_remote_content,
        FreshensWithoutSwap: concurrency::what_is_done_at_one_time_is_as_if_done_in_one_order,
        GroupsAreInEveryOrigin: purging::a_group_reaches_every_response_of_its_origin,
        GroupsAreInEveryOrigin: purging::a_purge_leaves_alone_what_it_does_not_name,
        GroupsPurgeTheKey: purging::a_purge_reaches_the_variants_that_it_names,
        HostsHaveASchemeEach: purging::a_purge_removes_what_its_target_names,
        HostsSpareOthers: purging::a_host_reaches_everything_on_it,
        KeepsDroppedStreams: content::a_stream_that_is_dropped_leaves_nothing,
        KeepsWhatIsReplaced: storing::a_response_replaces_the_one_with_its_selecting_fields,
        KeysAreUris: storing::keys_that_differ_in_any_part_are_different,
        KnowsOneUri: purging::a_purge_reaches_either_uri_of_a_key,
        LastPurgeCounts: purging::what_was_purged_stays_away,
        LosesTrailers: storing::a_freshened_head_keeps_its_content,
        LosesTrailers: storing::what_is_put_is_found_as_it_was,
        ManyPurgesPurgeAll: purging::many_purges_of_nothing_hit_nothing,
        NoTargetsMeanAll: purging::a_purge_of_no_targets_changes_nothing,
        OldestComesFirst: storing::variants_are_kept_apart_and_found_the_newest_first,
        OpensAnything: content::content_that_is_not_there_is_not_opened,
        PathPrefixesAreOfOneHost: purging::a_path_prefix_reaches_everything_below_it_on_every_host,
        PrefixesSpareFurtherParts: purging::a_prefix_reaches_everything_below_it,
        RefusesTheLimit: storing::content_as_large_as_the_limit_is_kept_whole,
        RefusesOwnFences: order::a_response_is_freshened_with_its_own_fence,
        ReusesIdentities: storing::no_identity_is_given_twice,
        SaysItTakesNoStreams: content::a_store_without_streams_asks_for_whole_content,
        SeesNoPurges: purging::a_purge_is_seen_by_purged_since,
        SeesNoPurges: order::a_purge_of_another_query_is_remembered_for_what_is_on_its_way,
        ShowsStreamsBeforeTheirEnd: content::a_stream_is_found_once_it_is_committed,
        SoftPurgesLast: purging::what_is_asked_for_after_a_soft_purge_is_fresh,
        SoftPurgesRemove: purging::a_soft_purge_makes_stale_what_its_target_names,
        SoftPurgesSpareWhatIsOnItsWay: order::what_was_asked_for_before_a_soft_purge_is_never_fresh,
        TagsAreOfOneOrigin: purging::a_tag_reaches_every_response_that_has_it,
        TagsHaveACase: purging::a_purge_removes_what_its_target_names,
    }
    // The rest is found between two nodes.
    found.extend(BETWEEN_NODES.iter().flat_map(|(_, rules)| *rules));
    let never: Vec<_> = rules().into_iter().filter(|rule| !found.contains(&**rule)).collect();
    assert!(never.is_empty(), "no flaw breaks these rules: {never:?}");
}

/// What is wrong between nodes or while none of them is there, and the rule that finds it.
const BETWEEN_NODES: [(records::Flaw, &[&str]); 5] = [
    (
        records::Flaw::CountsAnew,
        &[
            "a_fence_from_before_reopening_stands_before_later_purges",
            "a_purge_after_reopening_has_a_greater_number",
        ],
    ),
    (
        records::Flaw::ForgetsPurges,
        &[
            "what_was_purged_is_gone_after_reopening",
            "a_fence_from_before_reopening_stands_before_later_purges",
            "a_purge_after_reopening_has_a_greater_number",
        ],
    ),
    (records::Flaw::ForgetsRecords, &["what_is_stored_is_there_after_reopening"]),
    (
        records::Flaw::SparesWhatIsOlder,
        &[
            "what_was_purged_is_gone_after_reopening",
            "a_purge_after_reopening_reaches_what_is_older",
            "a_fence_from_before_reopening_stands_before_later_purges",
        ],
    ),
    (records::Flaw::TakesRecordsOfOtherKeys, &["a_bad_record_is_a_miss_and_is_replaced"]),
];

fn late(knows_after: Duration) -> impl AsyncFn() -> Server {
    async move || Server { knows_after, ..Server::default() }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_two_nodes_are_connected_to_keeps_the_contract() {
    keeps_the_contract(async || Server::default()).await;
    // As do nodes that know late of each other's purges, and say so.
    let bound = Duration::from_millis(250);
    let subject = Subject::new(late(bound)).operations(200);
    check_all(&subject.capabilities(Capabilities::all().staleness(bound))).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_know_later_of_purges_than_they_say_break_the_contract() {
    let rule = "a_purge_removes_what_its_target_names";
    for (knows_after, promised) in [(1, 0), (300, 250)] {
        let subject = Subject::new(late(Duration::from_millis(knows_after))).operations(50);
        let promised = Capabilities::all().staleness(Duration::from_millis(promised));
        let violations = violations(&subject.capabilities(promised)).await;
        let violation = violations.iter().find(|violation| violation.rule == rule);
        let message = &violation.expect("it is broken").message;
        assert!(message.starts_with("read by another node: 1 responses are found"), "{message}");
        assert!(violations.iter().any(|violation| violation.rule == ONE_ORDER), "{violations:?}");
    }
}

#[tokio::test]
async fn each_flaw_of_what_is_between_nodes_is_found_and_named() {
    for (flaw, rules) in BETWEEN_NODES {
        let subject = Subject::new(async || Server { flaw, ..Server::default() }).operations(20);
        let broken: Vec<_> = violations(&subject).await.iter().map(|violation| violation.rule).collect();
        assert_eq!(broken, rules, "{flaw:?}");
    }
    let flaw = records::Flaw::PurgesStayOnTheirNode;
    let subject = Subject::new(async || Server { flaw, ..Server::default() }).operations(200);
    let violations = violations(&subject).await;
    let by_another = |violation: &&Violation| violation.message.contains("another node: ");
    let rules: Vec<_> = violations.iter().filter(by_another).map(|violation| violation.rule).collect();
    for rule in [
        "a_purge_removes_what_its_target_names",
        "a_soft_purge_makes_stale_what_its_target_names",
        "a_fence_of_get_stands_before_later_purges",
        "a_put_and_a_purge_in_any_order_leave_nothing_old",
        "a_freshening_and_a_purge_in_any_order_leave_nothing_old",
    ] {
        assert!(rules.contains(&rule), "{rule}: {violations:?}");
    }
    for rule in ["each_purge_has_a_greater_number_than_those_before", ONE_ORDER] {
        assert!(violations.iter().any(|violation| violation.rule == rule), "{rule}: {violations:?}");
    }
}

#[tokio::test]
#[should_panic(expected = "the_number_of_variants_is_bounded: ")]
async fn the_suite_names_the_rule_that_a_store_breaks() {
    keeps_the_contract(async || Naive::with(Flaw::KeepsAllVariants)).await;
}

#[tokio::test]
async fn a_store_with_coarse_purges_passes_if_it_says_so() {
    use larder::store::{PurgeMode, PurgeNumber, PurgeTarget, Store};

    use crate::support::forward::forward;

    /// Every purge is one of everything.
    #[derive(Clone)]
    struct Coarse(Arc<MemoryStore>);
    impl Store for Coarse {
        forward!(0: try_get, get, open, expect, put, begin, freshen, purged_since, limits, statistics);
        async fn invalidate(
            &self,
            targets: &[PurgeTarget],
            mode: PurgeMode,
        ) -> Result<PurgeNumber, larder::StoreError> {
            let all = [PurgeTarget::All];
            self.0.invalidate(if targets.is_empty() { &[] } else { &all }, mode).await
        }
    }
    let coarse = || Subject::new(async || Coarse(Arc::default())).operations(50);
    check_all(&coarse().capabilities(Capabilities::all().exact_purges(false))).await;
    let broken = violations(&coarse()).await;
    let broken: Vec<_> = broken.iter().map(|violation| violation.rule).collect();
    assert!(broken.contains(&"a_purge_leaves_alone_what_it_does_not_name"), "{broken:?}");
}

fn source(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/conformance");
    std::fs::read_to_string(folder.join(file)).unwrap()
}

/// The names of all rules.
fn rules() -> Vec<String> {
    let files = ["concurrency.rs", "content.rs", "lasting.rs", "order.rs", "purging.rs", "storing.rs"];
    let rules = files.map(|file| {
        let source = source(file);
        let rules =
            source.split("pub async fn ").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned());
        rules.collect::<Vec<_>>()
    });
    rules.concat()
}

#[test]
fn every_rule_is_run_by_check_all() {
    let listed = source("mod.rs");
    for rule in rules() {
        assert!(listed.contains(&format!("        {rule}")), "{rule} is not in the list");
    }
}
