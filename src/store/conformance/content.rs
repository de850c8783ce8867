//! Content that a store has elsewhere, and content that it takes while it comes. Stores that have neither pass.

use std::ops::ControlFlow;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::fixtures::{bytes, head, here, key_of, purged_at, response, targets, timed, trailers};
use super::fleet::{Fleet, sure};
use super::storing::MOST_TRIED;
use super::subject::{Nodes, Subject};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, StoredResponse};
use crate::semantics::range::ByteRange;
use crate::store::{BeginOutcome, ContentWriter, Fence, Lookup, PurgeMode, PurgeTarget, PutOutcome, Store};

/// A response of so many bytes, if the store takes them and keeps them apart from the head: as the reader finds it.
async fn remote<N: Nodes>(fleet: &Fleet<'_, N>, length: usize) -> Option<(RemoteContent, Bytes)> {
    let bytes = bytes(length);
    let fence = fleet.look_up_to_fill(&here()).await.fence;
    if fleet.put(&here(), response(bytes.clone(), "x"), fence).await != PutOutcome::Stored {
        return None;
    }
    let is_there = |lookup: &Lookup| match lookup.variants.len() {
        1 => Ok(()),
        _ => Err("what was put is not found".to_owned()),
    };
    let lookup = fleet.look_up_until(&here(), is_there).await;
    lookup.variants[0].response.payload().as_remote().map(|remote| (remote, bytes))
}

/// No byte more, and none less.
pub async fn ranges_of_remote_content_are_opened_exactly<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            const LENGTH: usize = 200_000;
            let Some((remote, bytes)) = remote(fleet, LENGTH).await else {
                return;
            };
            assert_eq!(remote.length, LENGTH as u64);
            assert!(
                fleet.opened(&here(), remote, None).await.is_some_and(|content| content == bytes),
                "the whole"
            );
            for (first, last) in
                [(0, 0), (0, 9), (65_535, 65_536), (1_000, 150_000), (199_999, 199_999), (0, 199_999)]
            {
                let range = ByteRange { first: first as u64, last: last as u64 };
                let content = fleet.opened(&here(), remote, Some(range)).await;
                assert!(
                    content.is_some_and(|content| content == bytes[first..=last]),
                    "bytes {first} to {last}"
                );
            }
        })
        .await;
}

/// It is no error: it costs a miss.
pub async fn content_that_is_not_there_is_not_opened<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let never = RemoteContent::new(u128::MAX - 7, 10);
            assert!(fleet.opened(&here(), never, None).await.is_none(), "what was never there");
        })
        .await;
}

/// A purge may take content from who reads it, but it never ends half-way as if it were whole.
pub async fn content_is_read_to_its_end_or_breaks_when_it_is_purged_meanwhile<N: Nodes>(
    subject: &Subject<'_, N>,
) {
    subject
        .each_way(async |fleet| {
            let Some((remote, bytes)) = remote(fleet, 200_000).await else {
                return;
            };
            let body = sure(fleet.reader().open(&here(), remote, None).await);
            fleet.invalidate(&targets()[0], PurgeMode::Remove).await;
            let Some(body) = body else { panic!("what was found a moment ago is gone") };
            if let Ok(content) = body.collect().await {
                assert!(content.to_bytes() == bytes, "it ends cleanly and is not whole");
            }
        })
        .await;
}

/// Readers that have the old head read the same content.
pub async fn a_freshened_head_keeps_its_remote_content<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            let Some((remote, bytes)) = remote(fleet, 100_000).await else {
                return;
            };
            let (id, fence) = fleet.id_to_freshen(&here()).await;
            let written = fleet.freshen(&here(), id, head("x"), fence).await;
            assert_eq!(written, PutOutcome::Stored);
            let by_old_head = fleet.opened(&here(), remote, None).await;
            assert!(by_old_head.is_some_and(|content| content == bytes), "by the head from before");
            let lookup = fleet.look_up(&here()).await;
            assert!(fleet.content(&here(), &lookup.variants[0]).await == bytes, "by the new head");
        })
        .await;
}

/// What begins a stream, where the store takes any.
async fn begin<N: Nodes>(
    fleet: &Fleet<'_, N>,
    length: Option<u64>,
    fence: Fence,
) -> Option<Box<dyn ContentWriter>> {
    if !fleet.limits().takes_streams {
        return None;
    }
    Some(begin_under(fleet, &here(), length, fence).await)
}

async fn begin_under<N: Nodes>(
    fleet: &Fleet<'_, N>,
    key: &CacheKey,
    length: Option<u64>,
    fence: Fence,
) -> Box<dyn ContentWriter> {
    match sure(fleet.filler().begin(key, length, fence).await) {
        BeginOutcome::Writer(writer) => writer,
        other => panic!("a store that takes streams answers {other:?}"),
    }
}

async fn write(writer: &mut Box<dyn ContentWriter>, data: &'static str) {
    let written = sure(writer.write(Bytes::from_static(data.as_bytes())).await);
    assert_eq!(written, ControlFlow::Continue(()), "{data}");
}

/// [`StoreLimits::takes_streams`](crate::store::StoreLimits::takes_streams) says what `begin` does.
pub async fn a_store_without_streams_asks_for_whole_content<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            if !fleet.limits().takes_streams {
                let fence = fleet.look_up_to_fill(&here()).await.fence;
                let begun = sure(fleet.filler().begin(&here(), None, fence).await);
                assert!(matches!(begun, BeginOutcome::PutWhole), "{begun:?}");
            }
        })
        .await;
}

/// And not before. The length need not be known.
pub async fn a_stream_is_found_once_it_is_committed<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            for length in [Some(11), None] {
                if length.is_none() {
                    fleet.fill(&here(), "before", "x").await;
                }
                let (_expected, fence) = fleet.expect(&here()).await;
                let Some(mut writer) = begin(fleet, length, fence).await else {
                    return;
                };
                for data in ["one ", "two ", "six"] {
                    write(&mut writer, data).await;
                    let found = fleet.contents(&here()).await;
                    assert!(
                        found.iter().all(|found| found == "before"),
                        "nobody reads half of it: {found:?}"
                    );
                }
                assert_eq!(fleet.commit(writer, head("x"), Some(trailers())).await, PutOutcome::Stored);
                fleet.finds(&here(), &["one two six"], "it was committed").await;
                let lookup = fleet.look_up(&here()).await;
                assert_eq!(lookup.variants[0].response.payload().trailers(), Some(&trailers()));
            }
        })
        .await;
}

/// Neither of its own, nor of what was there before.
pub async fn a_stream_that_is_dropped_leaves_nothing<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            fleet.fill(&here(), "before", "x").await;
            let (_expected, fence) = fleet.expect(&here()).await;
            let Some(mut writer) = begin(fleet, Some(8), fence).await else {
                return;
            };
            write(&mut writer, "half").await;
            drop(writer);
            fleet.finds(&here(), &["before"], "the stream was dropped").await;
        })
        .await;
}

/// Of two responses under one key, and of one under another key.
pub async fn streams_at_one_time_do_not_mix<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            if !fleet.limits().takes_streams {
                return;
            }
            let other = key_of("http://example.com/other");
            let mut writers = Vec::new();
            for (key, accept) in [(here(), "x"), (here(), "y"), (other.clone(), "x")] {
                let (expected, fence) = fleet.expect(&key).await;
                writers.push((begin_under(fleet, &key, None, fence).await, accept, expected));
            }
            for round in [["x1 ", "y1 ", "other1 "], ["x2", "y2", "other2"]] {
                for ((writer, ..), data) in writers.iter_mut().zip(round) {
                    write(writer, data).await;
                }
            }
            for (writer, accept, _expected) in writers.into_iter().rev() {
                assert_eq!(fleet.commit(writer, head(accept), None).await, PutOutcome::Stored, "{accept}");
            }
            fleet.finds(&here(), &["x1 x2", "y1 y2"], "the newest first").await;
            fleet.finds(&other, &["other1 other2"], "of another key").await;
        })
        .await;
}

/// As where it is put ([`an_older_response_does_not_replace_a_newer_one`]).
///
/// [`an_older_response_does_not_replace_a_newer_one`]: super::storing::an_older_response_does_not_replace_a_newer_one
pub async fn a_stream_of_an_older_response_does_not_replace_a_newer_one<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let (_expected, fence) = fleet.expect(&here()).await;
            let Some(mut writer) = begin(fleet, None, fence).await else {
                return;
            };
            write(&mut writer, "older").await;
            let newer = StoredResponse::new(timed(11, 10), Payload::from_bytes("newer".into()));
            assert_eq!(fleet.put(&here(), newer, fence).await, PutOutcome::Stored);
            assert_eq!(fleet.commit(writer, timed(10, 9), None).await, PutOutcome::Superseded);
            fleet.finds(&here(), &["newer"], "the stream was of an older one").await;
        })
        .await;
}

/// It is refused, or found as stale.
pub async fn a_stream_that_is_overtaken_by_a_soft_purge_is_never_fresh<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let (_expected, fence) = fleet.expect(&here()).await;
                let Some(mut writer) = begin(fleet, None, fence).await else {
                    return;
                };
                write(&mut writer, "old").await;
                fleet.invalidate_now(&target, PurgeMode::Expire(purged_at())).await;
                fleet.commit(writer, head("x"), None).await;
                fleet.finds_nothing_fresh(&here(), &format!("{target:?}")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// By every kind of target, whenever it comes.
pub async fn a_stream_that_is_overtaken_by_a_purge_is_refused<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                let (_expected, fence) = fleet.expect(&here()).await;
                let Some(mut writer) = begin(fleet, None, fence).await else {
                    return;
                };
                write(&mut writer, "old").await;
                fleet.invalidate_now(&target, PurgeMode::Remove).await;
                let written = fleet.commit(writer, head("x"), None).await;
                fleet.assert_refused(written, &format!("{target:?}"));
                fleet.finds_nothing(&here(), &format!("{target:?}")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// At the latest when it is committed; tried up to 64 MiB.
pub async fn a_stream_that_is_too_large_is_refused<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let most = fleet.limits().max_object;
            if !fleet.limits().takes_streams || most > MOST_TRIED {
                return;
            }
            let (_expected, fence) = fleet.expect(&here()).await;
            for length in [Some(most + 1), None] {
                let mut writer = match sure(fleet.filler().begin(&here(), length, fence).await) {
                    BeginOutcome::Refused(PutOutcome::TooLarge) => continue,
                    BeginOutcome::Writer(writer) => writer,
                    other => panic!("{length:?} bytes, of {most} at most: {other:?}"),
                };
                let mut left = most + 1;
                let outcome = loop {
                    let piece = left.min(65_536);
                    left -= piece;
                    let data = Bytes::from(vec![b'x'; usize::try_from(piece).unwrap_or_default()]);
                    match sure(writer.write(data).await) {
                        ControlFlow::Break(outcome) => break outcome,
                        ControlFlow::Continue(()) if left == 0 => {
                            break fleet.commit(writer, head("x"), None).await;
                        }
                        ControlFlow::Continue(()) => {}
                    }
                };
                assert_eq!(outcome, PutOutcome::TooLarge, "{length:?} bytes, of {most} at most");
                fleet.finds_nothing(&here(), "it was refused").await;
            }
        })
        .await;
}
