//! The contract of [`Store`](super::Store) as a test that every store can run (feature `conformance`).
//!
//! Each rule is a function whose name says it. It makes empty stores, opens each of them for two nodes ([`Nodes`]), and panics
//! where the store breaks the rule: where one node does everything, or where one of storing, purging and reading is done by the
//! other node. A test can call one of them; [`check_all`] runs all.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use larder::MemoryStore;
//! use larder::store::conformance::{Subject, check_all, purging};
//!
//! let subject = Subject::new(async || MemoryStore::default()).operations(50);
//! check_all(&subject).await;
//! purging::one_call_purges_many_targets(&subject).await;
//! # });
//! ```

pub mod concurrency;
pub mod content;
pub mod lasting;
pub mod order;
pub mod purging;
pub mod storing;

mod capabilities;
mod fixtures;
mod fleet;
mod history;
mod subject;

use std::fmt;

pub use self::capabilities::Capabilities;
pub use self::subject::{Nodes, Subject};

#[cfg(all(test, shuttle))]
pub(crate) use self::fixtures::{here, response, targets};

use self::concurrency::*;
use self::content::*;
use self::fleet::caught;
use self::lasting::*;
use self::order::*;
use self::purging::*;
use self::storing::*;

/// A rule of the contract that a store breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The name of the rule, which is that of its function.
    pub rule: &'static str,
    /// How the store breaks it.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.message)
    }
}

/// Runs every rule, each on empty stores.
///
/// # Panics
///
/// When the store breaks the contract of [`Store`](super::Store); the message names each rule that it breaks, and says how.
pub async fn check_all<N: Nodes>(subject: &Subject<'_, N>) {
    let violations = violations(subject).await;
    let list: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "the store breaks rules of its contract:\n{}", list.join("\n"));
}

/// The rules that a store breaks, each tried on empty stores.
pub async fn violations<N: Nodes>(subject: &Subject<'_, N>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let promises = subject.capabilities;
    macro_rules! run {
        ($($rule:ident $(if $needs:ident)?,)+) => { $(
            if true $(&& promises.$needs)? {
                if let Err(message) = caught($rule(subject)).await {
                    violations.push(Violation { rule: stringify!($rule), message });
                }
            }
        )+ };
    }
    run! {
        // Storing.
        an_empty_store_finds_nothing,
        what_is_put_is_found_as_it_was,
        keys_that_differ_in_any_part_are_different,
        content_of_any_length_is_kept_whole,
        content_as_large_as_the_limit_is_kept_whole,
        content_that_is_too_large_is_refused,
        variants_are_kept_apart_and_found_the_newest_first,
        a_response_replaces_the_one_with_its_selecting_fields,
        the_number_of_variants_is_bounded,
        no_identity_is_given_twice,
        an_older_response_does_not_replace_a_newer_one,
        an_older_response_of_one_node_does_not_replace_a_newer_one_of_another,
        a_freshened_head_keeps_its_content,
        only_what_is_still_there_is_freshened,
        an_older_304_freshens_nothing,
        what_is_held_is_counted if statistics,
        // Purging.
        a_purge_removes_what_its_target_names,
        a_soft_purge_makes_stale_what_its_target_names,
        what_is_asked_for_after_a_soft_purge_is_fresh,
        an_expiry_with_an_end_says_so,
        soft_purges_add_up,
        one_call_purges_many_targets,
        one_call_purges_a_thousand_targets,
        a_purge_of_no_targets_changes_nothing,
        each_purge_has_a_greater_number_than_those_before,
        a_purge_of_a_key_reaches_its_slices,
        a_purge_of_a_uri_reaches_keys_with_further_parts,
        a_purge_reaches_either_uri_of_a_key,
        a_tag_reaches_every_response_that_has_it,
        a_group_reaches_every_response_of_its_origin,
        a_prefix_reaches_everything_below_it,
        a_path_prefix_reaches_everything_below_it_on_every_host,
        a_host_reaches_everything_on_it,
        a_purge_of_all_reaches_everything,
        a_purge_reaches_the_variants_that_it_names,
        a_purge_leaves_alone_what_it_does_not_name if exact_purges,
        many_purges_of_nothing_hit_nothing if exact_purges,
        a_purge_is_seen_by_purged_since,
        what_was_purged_stays_away,
        // Purges against what is on its way.
        a_fence_of_get_stands_before_later_purges,
        a_fence_of_try_get_stands_before_later_purges,
        the_default_fence_stands_before_all_purges,
        a_put_and_a_purge_in_any_order_leave_nothing_old,
        a_freshening_and_a_purge_in_any_order_leave_nothing_old,
        what_was_asked_for_before_a_soft_purge_is_never_fresh,
        an_old_response_does_not_replace_a_newer_one_after_a_soft_purge,
        a_freshening_from_before_a_soft_purge_leaves_it_stale,
        a_response_is_freshened_with_its_own_fence,
        a_purge_is_remembered_for_what_is_on_its_way,
        a_purge_of_another_query_is_remembered_for_what_is_on_its_way,
        fills_and_purges_at_one_time_leave_nothing_old,
        // All of that at one time.
        what_is_done_at_one_time_is_as_if_done_in_one_order,
        // Content that is elsewhere or on its way.
        ranges_of_remote_content_are_opened_exactly,
        content_that_is_not_there_is_not_opened,
        content_is_read_to_its_end_or_breaks_when_it_is_purged_meanwhile,
        a_freshened_head_keeps_its_remote_content,
        a_store_without_streams_asks_for_whole_content,
        a_stream_is_found_once_it_is_committed,
        a_stream_that_is_dropped_leaves_nothing,
        streams_at_one_time_do_not_mix,
        a_stream_of_an_older_response_does_not_replace_a_newer_one,
        a_stream_that_is_overtaken_by_a_soft_purge_is_never_fresh,
        a_stream_that_is_overtaken_by_a_purge_is_refused,
        a_stream_that_is_too_large_is_refused,
        // Time, an end of the nodes, and faults of what keeps the bytes.
        what_is_stale_is_kept,
        what_is_stored_outlives_its_freshness_lifetime,
        what_is_stored_is_there_after_reopening if durable,
        what_was_purged_is_gone_after_reopening,
        a_purge_after_reopening_reaches_what_is_older,
        a_fence_from_before_reopening_stands_before_later_purges if durable_fences,
        a_purge_after_reopening_has_a_greater_number if durable_fences,
        a_bad_record_is_a_miss_and_is_replaced,
    }
    violations
}
