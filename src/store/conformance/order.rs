//! Purges against what is on its way: in whatever order both come, nothing from before a purge is fresh after it.

use std::cell::Cell;
use std::pin::Pin;
use std::time::Duration;

use http::HeaderValue;

use super::fixtures::{head, here, key_of, purged_at, response, targets, together};
use super::fleet::{Fleet, sure};
use super::subject::{Nodes, Subject};
use crate::entry::{Payload, ResponseHead, StoredResponse};
use crate::runtime::yield_now;
use crate::store::{Fence, PurgeMode, PurgeScope, PurgeTarget, PutOutcome, Store};

/// A response is refused that was asked for before a purge.
async fn is_refused<N: Nodes>(fleet: &Fleet<'_, N>, target: &PurgeTarget, before: Fence, whose: &str) {
    let why = format!("{target:?} came after {whose}");
    let written = fleet.put(&here(), response("old", "x"), before).await;
    fleet.assert_refused(written, &why);
    fleet.finds_nothing(&here(), &why).await;
}

/// By every kind of target.
pub async fn a_fence_of_get_stands_before_later_purges<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let before = sure(fleet.filler().get(&here()).await).fence;
                fleet.invalidate_now(&target, PurgeMode::Remove).await;
                is_refused(fleet, &target, before, "the fence of get").await;
            }
        })
        .await;
}

/// By every kind of target, where the store answers at once.
pub async fn a_fence_of_try_get_stands_before_later_purges<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let Some(before) = fleet.filler().try_get(&here()).map(|lookup| lookup.fence) else {
                    continue;
                };
                fleet.invalidate_now(&target, PurgeMode::Remove).await;
                is_refused(fleet, &target, before, "the fence of try_get").await;
            }
        })
        .await;
}

/// It is what a request has whose look-up has failed.
pub async fn the_default_fence_stands_before_all_purges<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.invalidate_now(&target, PurgeMode::Remove).await;
                is_refused(fleet, &target, Fence::default(), "the default fence").await;
            }
        })
        .await;
}

/// The call, its answer's write, and a purge, in each order; by every kind of target.
pub async fn a_put_and_a_purge_in_any_order_leave_nothing_old<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let purge = async || fleet.invalidate_now(&target, PurgeMode::Remove).await;
                // The call, the write, the purge.
                let (expected, fence) = fleet.expect(&here()).await;
                fleet.put(&here(), response("old", "x"), fence).await;
                purge().await;
                fleet.finds_nothing(&here(), &format!("{target:?} after the write")).await;
                drop(expected);
                // The call, the purge, the write, and the same write again.
                let (expected, fence) = fleet.expect(&here()).await;
                purge().await;
                for time in ["first", "second"] {
                    let written = fleet.put(&here(), response("old", "x"), fence).await;
                    let why = format!("{target:?} between call and {time} write");
                    fleet.assert_refused(written, &why);
                    fleet.finds_nothing(&here(), &why).await;
                }
                drop(expected);
                // The purge, the call, the write: while an older call is under way, too.
                let older = fleet.expect(&here()).await;
                fleet.invalidate(&target, PurgeMode::Remove).await;
                let (expected, fence) = fleet.expect(&here()).await;
                let written = fleet.put(&here(), response("new", "x"), fence).await;
                assert_eq!(written, PutOutcome::Stored, "{target:?} before the call");
                fleet.finds(&here(), &["new"], &format!("{target:?} before the call")).await;
                let written = fleet.put(&here(), response("old", "x"), older.1).await;
                fleet.assert_refused(written, &format!("{target:?} after the older call"));
                fleet.finds(&here(), &["new"], &format!("{target:?} after the older call")).await;
                drop((expected, older));
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// The validation, the write of its 304, and a purge, in each order; by every kind of target.
pub async fn a_freshening_and_a_purge_in_any_order_leave_nothing_old<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let purge = async || fleet.invalidate_now(&target, PurgeMode::Remove).await;
                // The validation, the write, the purge.
                fleet.fill(&here(), "old", "x").await;
                let (expected, fence) = fleet.expect(&here()).await;
                let (id, _) = fleet.id_to_freshen(&here()).await;
                let written = fleet.freshen(&here(), id, head("x"), fence).await;
                assert_eq!(written, PutOutcome::Stored, "{target:?}: nothing was purged yet");
                purge().await;
                fleet.finds_nothing(&here(), &format!("{target:?} after the write")).await;
                drop(expected);
                // The validation, the purge, the write.
                fleet.invalidate(&target, PurgeMode::Remove).await;
                fleet.fill(&here(), "old", "x").await;
                let (expected, fence) = fleet.expect(&here()).await;
                let (id, _) = fleet.id_to_freshen(&here()).await;
                purge().await;
                let written = fleet.freshen(&here(), id, head("x"), fence).await;
                fleet.assert_refused(written, &format!("{target:?} between validation and write"));
                fleet.finds_nothing(&here(), &format!("{target:?} between validation and write")).await;
                drop(expected);
                // The purge, another response, the write: a 304 for what is gone.
                fleet.invalidate(&target, PurgeMode::Remove).await;
                fleet.fill(&here(), "new", "x").await;
                let (_expected, fence) = fleet.expect(&here()).await;
                let written = fleet.freshen(&here(), id, head("x"), fence).await;
                assert_eq!(written, PutOutcome::Superseded, "{target:?}: another response is there");
                fleet.finds(&here(), &["new"], &format!("{target:?} before it was put")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// It is refused, or stored and stale.
pub async fn what_was_asked_for_before_a_soft_purge_is_never_fresh<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let before = fleet.look_up_to_fill(&here()).await.fence;
                fleet.invalidate_now(&target, PurgeMode::Expire(purged_at())).await;
                fleet.put(&here(), response("old", "x"), before).await;
                fleet.finds_nothing_fresh(&here(), &format!("{target:?}")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// Two calls, one from before a soft purge and one from after it: whichever lands last, what was asked for after it stays.
pub async fn an_old_response_does_not_replace_a_newer_one_after_a_soft_purge<N: Nodes>(
    subject: &Subject<'_, N>,
) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let (_early, before) = fleet.expect(&here()).await;
                fleet.invalidate(&target, PurgeMode::Expire(purged_at())).await;
                let (_late, after) = fleet.expect(&here()).await;
                let written = fleet.put(&here(), response("new", "x"), after).await;
                assert_eq!(written, PutOutcome::Stored, "{target:?}");
                fleet.put(&here(), response("old", "x"), before).await;
                fleet.finds(&here(), &["new"], &format!("{target:?}")).await;
                let found = fleet.look_up(&here()).await;
                assert_eq!(found.variants[0].expired, None, "{target:?}");
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// The 304 is about what was asked for before the purge.
pub async fn a_freshening_from_before_a_soft_purge_leaves_it_stale<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.fill(&here(), "content", "x").await;
                let (_expected, before) = fleet.expect(&here()).await;
                let (id, _) = fleet.id_to_freshen(&here()).await;
                fleet.invalidate_now(&target, PurgeMode::Expire(purged_at())).await;
                fleet.freshen(&here(), id, head("x"), before).await;
                fleet.finds_nothing_fresh(&here(), &format!("{target:?}")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// The origin has said something newer that is not stored, for one. What a soft purge has made stale stays so.
pub async fn a_response_is_freshened_with_its_own_fence<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            for is_purged in [false, true] {
                fleet.fill(&here(), "content", "x").await;
                // So that its fence is not that of what is asked for now.
                if subject.capabilities.exact_purges {
                    let other = PurgeTarget::uri("http://example.com/other");
                    fleet.invalidate_now(&other, PurgeMode::Remove).await;
                }
                if is_purged {
                    fleet.invalidate(&PurgeTarget::All, PurgeMode::Expire(purged_at())).await;
                }
                let found = fleet.look_up_to_fill(&here()).await;
                let Some(stored) = found.variants.first() else { panic!("it was stored a moment ago") };
                let mut outdated = head("x");
                outdated.reuse.outdated = true;
                let written = fleet.freshen(&here(), stored.id, outdated, stored.fence).await;
                assert_eq!(written, PutOutcome::Stored, "with its own fence");
                fleet
                    .look_up_until(&here(), |lookup| match lookup.variants.first() {
                        Some(stored) if !stored.response.head().reuse().outdated => {
                            Err("it has its old head".to_owned())
                        }
                        Some(stored) if stored.expired.is_some() != is_purged => {
                            Err(format!("it is not as the soft purge has left it: {:?}", stored.expired))
                        }
                        Some(_) => Ok(()),
                        None => Err("it is gone".to_owned()),
                    })
                    .await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// Whether or not it concerned anything that was stored, and whatever else was expected.
pub async fn a_purge_is_remembered_for_what_is_on_its_way<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                for is_stored in [false, true] {
                    if is_stored {
                        fleet.fill(&here(), "stored", "x").await;
                    }
                    let (expected, fence) = fleet.expect(&here()).await;
                    let another = fleet.expect(&here()).await;
                    fleet.invalidate(&target, PurgeMode::Remove).await;
                    fleet.finds_nothing(&here(), &format!("{target:?} removes what is stored")).await;
                    drop(another);
                    let others = [PurgeTarget::uri("http://example.com/other"), PurgeTarget::tag("other")];
                    for other in others {
                        fleet.invalidate_now(&other, PurgeMode::Remove).await;
                    }
                    let (_late, late_fence) = fleet.expect(&here()).await;
                    let written = fleet.put(&here(), response("old", "x"), fence).await;
                    fleet.assert_refused(written, &format!("{target:?} came while it was on its way"));
                    fleet.finds_nothing(&here(), &format!("{target:?} came while it was on its way")).await;
                    drop(expected);
                    let written = fleet.put(&here(), response("new", "x"), late_fence).await;
                    assert_eq!(written, PutOutcome::Stored, "{target:?} came before it was asked for");
                    fleet.finds(&here(), &["new"], &format!("{target:?}")).await;
                    fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
                }
                let (_expected, fence) = fleet.expect(&here()).await;
                fleet.invalidate_now(&target, PurgeMode::Expire(purged_at())).await;
                fleet.put(&here(), response("old", "y"), fence).await;
                fleet.finds_nothing_fresh(&here(), &format!("{target:?}: on its way at a soft purge")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// What is stored may say that it answers for other queries, so a purge of one of these is about it, too.
pub async fn a_purge_of_another_query_is_remembered_for_what_is_on_its_way<N: Nodes>(
    subject: &Subject<'_, N>,
) {
    let another = key_of("http://example.com/news/today?page=2");
    let plain = head("x");
    let mut headers = plain.headers();
    headers.insert("no-vary-search", HeaderValue::from_static("params"));
    let answers_for_others = ResponseHead::new(plain.status(), &headers, plain.reuse().clone());
    subject
        .each_way(async |fleet| {
            let (expected, fence) = fleet.expect(&here()).await;
            fleet.invalidate(&PurgeTarget::Uri(another.uri().into()), PurgeMode::Remove).await;
            let old = StoredResponse::new(answers_for_others.clone(), Payload::from_bytes("old".into()));
            let written = fleet.put(&here(), old, fence).await;
            drop(expected);
            if written == PutOutcome::Stored
                && let Some(stored) = fleet.look_up_to_fill(&here()).await.variants.first()
            {
                let is_purged = fleet.is_purged(&another, stored.fence, PurgeScope::Key).await;
                assert!(is_purged, "purged while it was on its way");
            }
            fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            fleet.fill(&here(), "no more than itself", "x").await;
            fleet.finds(&here(), &["no more than itself"], "nothing was purged since").await;
        })
        .await;
}

/// Fills of what changes, each change followed by a purge. Once that has returned, nothing older is fresh.
pub async fn fills_and_purges_at_one_time_leave_nothing_old<N: Nodes>(subject: &Subject<'_, N>) {
    const FILLS: usize = 6;
    subject
        .each_way(async |fleet| {
            let (version, promised) = (&Cell::new(0), &Cell::new(0));
            let is_new = async || {
                let least = promised.get();
                let is_new = |lookup: &crate::store::Lookup| {
                    let fresh = lookup.variants.iter().filter(|stored| stored.expired.is_none());
                    let oldest = fresh.map(|stored| stored.response.head().reuse().lifetime.as_secs()).min();
                    match oldest {
                        Some(made) if made < least => {
                            Err(format!("version {made} is fresh after a purge of all before {least}"))
                        }
                        _ => Ok(()),
                    }
                };
                fleet.until_meanwhile(async || is_new(&sure(fleet.reader().get(&here()).await))).await;
            };
            let fill = async |number: usize| {
                for turn in 0..6 {
                    let (_expected, fence) = fleet.expect(&here()).await;
                    let mut head = head(if (number + turn).is_multiple_of(2) { "x" } else { "y" });
                    head.reuse.lifetime = Duration::from_secs(version.get());
                    for _ in 0..(number + turn) % 4 {
                        yield_now().await;
                    }
                    let response = StoredResponse::new(head, Payload::from_bytes("content".into()));
                    fleet.put(&here(), response, fence).await;
                    is_new().await;
                }
            };
            let change = async || {
                for (turn, target) in targets().iter().enumerate() {
                    version.set(version.get() + 1);
                    let changed = version.get();
                    let is_hard = turn.is_multiple_of(2);
                    let mode = if is_hard { PurgeMode::Remove } else { PurgeMode::Expire(purged_at()) };
                    fleet.invalidate_now(target, mode).await;
                    promised.set(changed);
                    is_new().await;
                    for _ in 0..turn % 3 {
                        yield_now().await;
                    }
                }
            };
            let fills =
                (0..FILLS).map(|number| Box::pin(fill(number)) as Pin<Box<dyn Future<Output = ()> + '_>>);
            let change: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(change());
            together(fills.chain(std::iter::once(change))).await;
            is_new().await;
        })
        .await;
}
