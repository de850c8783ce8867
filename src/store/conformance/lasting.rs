//! What time, an end of the nodes, and faults of what keeps the bytes do to what is stored.

use std::cell::Cell;
use std::time::Duration;

use super::fixtures::{head, here, purged_at, response, targets};
use super::fleet::{Fleet, content_of, sure};
use super::subject::{Nodes, Subject};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, ResponseHead, StoredResponse};
use crate::runtime::clock::Clock;
use crate::store::{Fence, PurgeMode, PurgeNumber, PurgeTarget, Store};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Received so long ago, by the system's clock.
fn received(ago: Duration, change: impl FnOnce(&mut ResponseHead)) -> StoredResponse {
    let mut head = head("x");
    let then = Clock::system().now() - ago;
    (head.reuse.date, head.reuse.generated) = (then, then);
    (head.reuse.request_time, head.reuse.response_time) = (then, then);
    change(&mut head);
    StoredResponse::new(head, Payload::from_bytes("content".into()))
}

/// It can still be validated, or stand in for an error: a store that has an end for each response does not take the end of its
/// freshness lifetime for that. Nor does any lifetime overflow that, nor a clock that is set back.
pub async fn what_is_stale_is_kept<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for (number, response) in [
                received(Duration::ZERO, |head| head.reuse.lifetime = Duration::ZERO),
                received(HOUR, |head| head.reuse.stale_if_error = Some(DAY)),
                received(HOUR, |head| head.reuse.stale_while_revalidate = DAY),
                received(Duration::ZERO, |head| head.reuse.lifetime = Duration::from_secs(u64::MAX)),
                received(Duration::ZERO, |head| {
                    head.reuse.response_time += DAY;
                    head.reuse.date += DAY;
                }),
            ]
            .into_iter()
            .enumerate()
            {
                let key = here().with("number", &number.to_le_bytes());
                let why = format!("{:?} is of use", response.head().reuse());
                fleet.fill_with(&key, response).await;
                fleet.finds(&key, &["content"], &why).await;
            }
        })
        .await;
}

/// [`what_is_stale_is_kept`], and the end of the lifetime passes while it is stored. A store that reads no clock is not kept waiting.
pub async fn what_is_stored_outlives_its_freshness_lifetime<N: Nodes>(subject: &Subject<'_, N>) {
    if subject.capabilities.reads_no_clock {
        return;
    }
    let nodes = subject.make().await;
    let fleet = Fleet::of(subject, nodes.open().await);
    let short = received(Duration::ZERO, |head| {
        head.reuse.lifetime = Duration::from_secs(1);
        head.reuse.stale_if_error = Some(HOUR);
    });
    fleet.fill_with(&here(), short).await;
    subject.wait(Duration::from_secs(3)).await;
    fleet.finds(&here(), &["content"], "it is stale, and may stand in for an error").await;
}

/// With its variants.
pub async fn what_is_stored_is_there_after_reopening<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .around_reopening(
            async |fleet| {
                fleet.fill(&here(), "html", "text/html").await;
                fleet.fill(&here(), "json", "application/json").await;
                fleet.fill(&here().with("part", b""), "another", "x").await;
            },
            async |_| {},
            async |fleet| {
                fleet.finds(&here(), &["json", "html"], "the store was opened again").await;
                fleet.finds(&here().with("part", b""), &["another"], "the store was opened again").await;
                let lookup = fleet.look_up(&here()).await;
                let (put, got) = (response("json", "application/json"), &lookup.variants[0].response);
                assert_eq!(got.head(), put.head(), "its head");
                assert_eq!(lookup.variants[0].expired, None, "nothing was purged");
            },
        )
        .await;
}

/// By every kind of target; whatever else is forgotten.
pub async fn what_was_purged_is_gone_after_reopening<N: Nodes>(subject: &Subject<'_, N>) {
    for mode in [PurgeMode::Remove, PurgeMode::Expire(purged_at())] {
        for target in targets() {
            subject
                .around_reopening(
                    async |fleet| {
                        fleet.fill(&here(), "old", "x").await;
                        fleet.invalidate(&target, mode).await;
                    },
                    async |_| {},
                    async |fleet| {
                        let why = format!("{mode:?} of {target:?}, and the store was opened again");
                        match mode {
                            PurgeMode::Remove => fleet.finds_nothing(&here(), &why).await,
                            _ => fleet.finds_nothing_fresh(&here(), &why).await,
                        }
                    },
                )
                .await;
        }
    }
}

/// What was stored before the store was opened again is purged like all the rest.
pub async fn a_purge_after_reopening_reaches_what_is_older<N: Nodes>(subject: &Subject<'_, N>) {
    for target in targets() {
        subject
            .around_reopening(
                async |fleet| fleet.fill(&here(), "old", "x").await,
                async |_| {},
                async |fleet| {
                    fleet.invalidate(&target, PurgeMode::Remove).await;
                    fleet.finds_nothing(&here(), &format!("{target:?} removes")).await;
                    fleet.fill(&here(), "new", "x").await;
                    fleet.finds(&here(), &["new"], &format!("{target:?} is over")).await;
                },
            )
            .await;
    }
}

/// A node may have gone on with a call while the store was closed. What that brings was asked for before the purge, whenever that
/// came; where the store can't be sure of that, it refuses the result.
pub async fn a_fence_from_before_reopening_stands_before_later_purges<N: Nodes>(subject: &Subject<'_, N>) {
    for (target, is_closed_first) in
        targets().into_iter().flat_map(|target| [(target.clone(), false), (target, true)])
    {
        let fence = Cell::new(Fence::default());
        let why = match is_closed_first {
            true => format!("{target:?} after the store was opened again is later than the fence"),
            false => format!("{target:?} is later than the fence, and the store was opened again"),
        };
        subject
            .around_reopening(
                async |fleet| {
                    // So that the purge concerns something.
                    fleet.fill(&here(), "older", "x").await;
                    fence.set(fleet.look_up_to_fill(&here()).await.fence);
                    if !is_closed_first {
                        fleet.invalidate(&target, PurgeMode::Remove).await;
                    }
                },
                async |_| {},
                async |fleet| {
                    if is_closed_first {
                        fleet.invalidate(&target, PurgeMode::Remove).await;
                    }
                    let outcome = fleet.put(&here(), response("old", "x"), fence.get()).await;
                    // Who has just opened the store may know of a purge as late as another node does.
                    if subject.capabilities.staleness.is_zero() {
                        fleet.assert_refused(outcome, &why);
                    }
                    fleet.finds_nothing(&here(), &why).await;
                },
            )
            .await;
    }
}

/// Whoever has kept the number of a purge can tell which purges came after it.
pub async fn a_purge_after_reopening_has_a_greater_number<N: Nodes>(subject: &Subject<'_, N>) {
    let last = Cell::new(PurgeNumber::default());
    subject
        .around_reopening(
            async |fleet| {
                fleet.fill(&here(), "old", "x").await;
                for target in targets() {
                    last.set(fleet.invalidate(&target, PurgeMode::Remove).await);
                }
            },
            async |_| {},
            async |fleet| {
                let number = fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
                let last = last.get();
                assert!(number > last, "{number} after {last}, and the store was opened again in between");
            },
        )
        .await;
}

/// Changes of bytes as faults make them.
fn damages(bytes: &[u8], another: &[u8]) -> Vec<Vec<u8>> {
    /// So many places, from the first to the last.
    const PLACES: usize = 64;
    let place = |number: usize| number * bytes.len().saturating_sub(1) / (PLACES - 1);
    let flipped = |number: usize| {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = bytes.get_mut(place(number)) {
            *byte ^= 1 << (number % 8);
        }
        bytes
    };
    let cut = |number: usize| bytes[..place(number)].to_vec();
    let zeroed = |number: usize| {
        let mut bytes = bytes.to_vec();
        let (start, end) = (place(number), (place(number) + 512).min(bytes.len()));
        bytes[start..end].fill(0);
        bytes
    };
    let whole = [Vec::new(), vec![0xff; 64], [bytes, b"more"].concat(), another.to_vec()];
    (0..PLACES).flat_map(|number| [flipped(number), cut(number), zeroed(number)]).chain(whole).collect()
}

fn damaged(number: usize) -> CacheKey {
    here().with("damaged", &number.to_le_bytes())
}

/// Where the bytes can be had ([`Nodes::bytes`]): bits flip, the end or a piece is lost, another key's record is in the place of
/// one. What is found is as it was put; otherwise nothing is, or the look-up fails. What is asked for then is stored again.
pub async fn a_bad_record_is_a_miss_and_is_replaced<N: Nodes>(subject: &Subject<'_, N>) {
    const CONTENT: &str = "content";
    let count = damages(&[0], &[]).len();
    subject
        .around_reopening(
            async |fleet| {
                for number in 0..count {
                    fleet.fill(&damaged(number), "json", "application/json").await;
                    fleet.fill(&damaged(number), CONTENT, "x").await;
                }
                fleet.fill(&here(), "another", "x").await;
            },
            async |nodes| {
                let another = nodes.bytes(&here()).await.unwrap_or_default();
                for number in 0..count {
                    let key = damaged(number);
                    if let Some(bytes) = nodes.bytes(&key).await {
                        let damage = damages(&bytes, &another).swap_remove(number);
                        nodes.overwrite(&key, damage).await;
                    }
                }
            },
            async |fleet| {
                let known = [response(CONTENT, "x"), response("json", "application/json")];
                for number in 0..count {
                    let key = damaged(number);
                    let found = fleet.reader().get(&key).await;
                    for stored in found.iter().flat_map(|lookup| lookup.variants.iter()) {
                        let was_put = known.iter().find(|put| put.head() == stored.response.head());
                        let put = was_put.and_then(|put| put.payload().to_bytes());
                        let content = content_of(fleet.reader(), &key, stored).await;
                        assert!(put.is_some(), "damage {number}: a head is found that was not put");
                        assert!(
                            content.is_none() || content == put,
                            "damage {number}: other content is found"
                        );
                        let trailers = stored.response.payload().trailers();
                        assert_eq!(trailers, known[0].payload().trailers(), "damage {number}");
                    }
                    let fence =
                        sure(fleet.filler().get(&key).await.or_else(|_| Ok(Default::default()))).fence;
                    sure(fleet.filler().put(&key, response("new", "x"), fence).await);
                    if !fleet.sees_replacements() {
                        continue;
                    }
                    let lookup = sure(fleet.reader().get(&key).await);
                    let first = lookup.variants.first();
                    let Some(first) = first else { panic!("damage {number}: nothing can be stored there") };
                    let content = content_of(fleet.reader(), &key, first).await;
                    assert!(
                        content.is_some_and(|content| content == "new"),
                        "damage {number}: not what was put"
                    );
                }
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
                for number in 0..count {
                    fleet.finds_nothing(&damaged(number), "all was purged").await;
                }
            },
        )
        .await;
}
