//! The contract of [`Store`] as a test that every store can run.
//!
//! Each rule is a function whose name says it. It gets an empty store and panics where the store breaks the rule. A test can
//! call one of them; [`check_all`] runs all.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use larder::MemoryStore;
//! use larder::store::conformance::{self, Capabilities};
//!
//! conformance::check_all(async || MemoryStore::default(), Capabilities::all()).await;
//! conformance::purging::one_call_purges_many_targets(&MemoryStore::default()).await;
//! # });
//! ```

pub mod content;
pub mod purging;
pub mod storing;

mod fixtures;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

#[cfg(all(test, shuttle))]
pub(crate) use self::fixtures::{here, response, targets};

use self::content::*;
use self::purging::*;
use self::storing::*;
use super::Store;

/// What a store promises beyond what every store has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A purge hits nothing but what its target names. A store that keeps coarse stamps of purges may hit more.
    pub exact_purges: bool,
}

impl Capabilities {
    /// Everything.
    pub fn all() -> Self {
        Self { exact_purges: true }
    }

    /// Sets [`Capabilities::exact_purges`].
    #[must_use]
    pub fn exact_purges(mut self, are_exact: bool) -> Self {
        self.exact_purges = are_exact;
        self
    }
}

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

/// Runs every rule, each on an empty store from `make`.
///
/// # Panics
///
/// When the store breaks the contract of [`Store`]; the message names each rule that it breaks, and says how.
pub async fn check_all<S: Store>(make: impl AsyncFn() -> S, capabilities: Capabilities) {
    let violations = violations(make, capabilities).await;
    let list: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "the store breaks rules of its contract:\n{}", list.join("\n"));
}

/// The rules that a store breaks, each tried on an empty store from `make`.
pub async fn violations<S: Store>(make: impl AsyncFn() -> S, capabilities: Capabilities) -> Vec<Violation> {
    let mut violations = Vec::new();
    macro_rules! run {
        ($($rule:ident $(if $needs:ident)?,)+) => { $(
            if true $(&& capabilities.$needs)? {
                let store = make().await;
                violations.extend(violation(stringify!($rule), $rule(&store)).await);
            }
        )+ };
    }
    run! {
        // Storing.
        an_empty_store_finds_nothing,
        what_is_put_is_found_as_it_was,
        keys_that_differ_in_any_part_are_different,
        content_of_any_length_is_kept_whole,
        content_that_is_too_large_is_refused,
        variants_are_kept_apart_and_found_the_newest_first,
        a_response_replaces_the_one_with_its_selecting_fields,
        the_number_of_variants_is_bounded,
        no_identity_is_given_twice,
        an_older_response_does_not_replace_a_newer_one,
        a_freshened_head_keeps_its_content,
        only_what_is_still_there_is_freshened,
        an_older_304_freshens_nothing,
        // Purging.
        a_purge_removes_what_its_target_names,
        a_soft_purge_makes_stale_what_its_target_names,
        an_expiry_with_an_end_says_so,
        soft_purges_add_up,
        one_call_purges_many_targets,
        a_purge_of_no_targets_changes_nothing,
        each_purge_has_a_greater_number_than_those_before,
        a_purge_of_a_uri_reaches_keys_with_further_parts,
        a_purge_reaches_either_uri_of_a_key,
        a_purge_leaves_alone_what_it_does_not_name if exact_purges,
        many_purges_of_nothing_hit_nothing if exact_purges,
        a_fence_of_get_stands_before_later_purges,
        a_fence_of_try_get_stands_before_later_purges,
        the_default_fence_stands_before_all_purges,
        what_was_asked_for_before_a_soft_purge_is_never_fresh,
        an_old_response_does_not_replace_a_newer_one_after_a_soft_purge,
        a_freshening_from_before_a_soft_purge_leaves_it_stale,
        a_purge_is_seen_by_purged_since,
        a_purge_is_remembered_for_what_is_on_its_way,
        a_purge_of_another_query_is_remembered_for_what_is_on_its_way,
        fills_and_purges_at_one_time_leave_nothing_old,
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
    }
    violations
}

/// Runs a rule to its end or its panic.
async fn violation(rule: &'static str, run: impl Future<Output = ()>) -> Option<Violation> {
    let mut run = pin!(run);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
        Ok(poll) => poll.map(|()| None),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Some(Violation { rule, message: message.unwrap_or_else(|| "a panic".to_owned()) }))
        }
    })
    .await
}
