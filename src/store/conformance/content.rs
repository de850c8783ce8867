//! Content that a store has elsewhere, and content that it takes while it comes. Stores that have neither pass.

use std::ops::ControlFlow;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::fixtures::{
    content, contents, expect, fill, head, here, invalidate, key_of, look_up, opened, purged_at, put,
    response, sure, targets, timed, trailers,
};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, RemoteContent, StoredResponse};
use crate::semantics::range::ByteRange;
use crate::store::{BeginOutcome, ContentWriter, Fence, PurgeMode, PurgeTarget, PutOutcome, Store};

/// A response of so many bytes, if the store takes them and keeps them apart from the head.
async fn remote<S: Store>(store: &S, length: usize) -> Option<(RemoteContent, Bytes)> {
    let bytes: Bytes = (0..length).map(|at| (at % 251) as u8).collect();
    let fence = look_up(store, &here()).await.fence;
    if put(store, &here(), response(bytes.clone(), "x"), fence).await != PutOutcome::Stored {
        return None;
    }
    let lookup = look_up(store, &here()).await;
    let [stored] = &*lookup.variants else { panic!("what was put is not found") };
    stored.response.payload().as_remote().map(|remote| (remote, bytes))
}

/// No byte more, and none less.
pub async fn ranges_of_remote_content_are_opened_exactly<S: Store>(store: &S) {
    const LENGTH: usize = 200_000;
    let Some((remote, bytes)) = remote(store, LENGTH).await else {
        return;
    };
    assert_eq!(remote.length, LENGTH as u64);
    assert!(opened(store, &here(), remote, None).await.is_some_and(|content| content == bytes), "the whole");
    for (first, last) in
        [(0, 0), (0, 9), (65_535, 65_536), (1_000, 150_000), (199_999, 199_999), (0, 199_999)]
    {
        let range = ByteRange { first: first as u64, last: last as u64 };
        let content = opened(store, &here(), remote, Some(range)).await;
        assert!(content.is_some_and(|content| content == bytes[first..=last]), "bytes {first} to {last}");
    }
}

/// It is no error: it costs a miss.
pub async fn content_that_is_not_there_is_not_opened<S: Store>(store: &S) {
    let never = RemoteContent::new(u128::MAX - 7, 10);
    assert!(opened(store, &here(), never, None).await.is_none(), "what was never there");
}

/// A purge may take content from who reads it, but it never ends half-way as if it were whole.
pub async fn content_is_read_to_its_end_or_breaks_when_it_is_purged_meanwhile<S: Store>(store: &S) {
    let Some((remote, bytes)) = remote(store, 200_000).await else {
        return;
    };
    let body = sure(store.open(&here(), remote, None).await);
    invalidate(store, &targets()[0], PurgeMode::Remove).await;
    let Some(body) = body else { panic!("what was found a moment ago is gone") };
    if let Ok(content) = body.collect().await {
        assert!(content.to_bytes() == bytes, "it ends cleanly and is not whole");
    }
}

/// Readers that have the old head read the same content.
pub async fn a_freshened_head_keeps_its_remote_content<S: Store>(store: &S) {
    let Some((remote, bytes)) = remote(store, 100_000).await else {
        return;
    };
    let lookup = look_up(store, &here()).await;
    let written = sure(store.freshen(&here(), lookup.variants[0].id, head("x"), lookup.fence).await);
    assert_eq!(written, PutOutcome::Stored);
    let by_old_head = opened(store, &here(), remote, None).await;
    assert!(by_old_head.is_some_and(|content| content == bytes), "by the head from before");
    let lookup = look_up(store, &here()).await;
    assert!(content(store, &here(), &lookup.variants[0]).await == bytes, "by the new head");
}

/// What begins a stream, where the store takes any.
async fn begin<S: Store>(store: &S, length: Option<u64>, fence: Fence) -> Option<Box<dyn ContentWriter>> {
    if !store.limits().takes_streams {
        return None;
    }
    Some(begin_under(store, &here(), length, fence).await)
}

async fn begin_under<S: Store>(
    store: &S,
    key: &CacheKey,
    length: Option<u64>,
    fence: Fence,
) -> Box<dyn ContentWriter> {
    match sure(store.begin(key, length, fence).await) {
        BeginOutcome::Writer(writer) => writer,
        other => panic!("a store that takes streams answers {other:?}"),
    }
}

async fn write(writer: &mut Box<dyn ContentWriter>, data: &'static str) {
    let written = sure(writer.write(Bytes::from_static(data.as_bytes())).await);
    assert_eq!(written, ControlFlow::Continue(()), "{data}");
}

/// [`StoreLimits::takes_streams`](crate::store::StoreLimits::takes_streams) says what `begin` does.
pub async fn a_store_without_streams_asks_for_whole_content<S: Store>(store: &S) {
    if !store.limits().takes_streams {
        let fence = look_up(store, &here()).await.fence;
        let begun = sure(store.begin(&here(), None, fence).await);
        assert!(matches!(begun, BeginOutcome::PutWhole), "{begun:?}");
    }
}

/// And not before. The length need not be known.
pub async fn a_stream_is_found_once_it_is_committed<S: Store>(store: &S) {
    for length in [Some(11), None] {
        let (_expected, fence) = expect(store, &here()).await;
        let Some(mut writer) = begin(store, length, fence).await else {
            return;
        };
        let before = contents(store, &here()).await;
        for data in ["one ", "two ", "six"] {
            write(&mut writer, data).await;
            assert_eq!(contents(store, &here()).await, before, "nobody reads half of it");
        }
        assert_eq!(sure(writer.commit(head("x"), Some(trailers())).await), PutOutcome::Stored);
        assert_eq!(contents(store, &here()).await, ["one two six"]);
        let lookup = look_up(store, &here()).await;
        assert_eq!(lookup.variants[0].response.payload().trailers(), Some(&trailers()));
    }
}

/// Neither of its own, nor of what was there before.
pub async fn a_stream_that_is_dropped_leaves_nothing<S: Store>(store: &S) {
    fill(store, &here(), "before", "x").await;
    let (_expected, fence) = expect(store, &here()).await;
    let Some(mut writer) = begin(store, Some(8), fence).await else {
        return;
    };
    write(&mut writer, "half").await;
    drop(writer);
    assert_eq!(contents(store, &here()).await, ["before"]);
}

/// Of two responses under one key, and of one under another key.
pub async fn streams_at_one_time_do_not_mix<S: Store>(store: &S) {
    if !store.limits().takes_streams {
        return;
    }
    let other = key_of("http://example.com/other");
    let mut writers = Vec::new();
    for (key, accept) in [(here(), "x"), (here(), "y"), (other.clone(), "x")] {
        let (expected, fence) = expect(store, &key).await;
        writers.push((begin_under(store, &key, None, fence).await, accept, expected));
    }
    for round in [["x1 ", "y1 ", "other1 "], ["x2", "y2", "other2"]] {
        for ((writer, ..), data) in writers.iter_mut().zip(round) {
            write(writer, data).await;
        }
    }
    for (writer, accept, _expected) in writers.into_iter().rev() {
        assert_eq!(sure(writer.commit(head(accept), None).await), PutOutcome::Stored, "{accept}");
    }
    assert_eq!(contents(store, &here()).await, ["x1 x2", "y1 y2"]);
    assert_eq!(contents(store, &other).await, ["other1 other2"]);
}

/// As where it is put ([`an_older_response_does_not_replace_a_newer_one`]).
///
/// [`an_older_response_does_not_replace_a_newer_one`]: super::storing::an_older_response_does_not_replace_a_newer_one
pub async fn a_stream_of_an_older_response_does_not_replace_a_newer_one<S: Store>(store: &S) {
    let (_expected, fence) = expect(store, &here()).await;
    let Some(mut writer) = begin(store, None, fence).await else {
        return;
    };
    write(&mut writer, "older").await;
    let newer = StoredResponse::new(timed(11, 10), Payload::from_bytes("newer".into()));
    assert_eq!(put(store, &here(), newer, fence).await, PutOutcome::Stored);
    assert_eq!(sure(writer.commit(timed(10, 9), None).await), PutOutcome::Superseded);
    assert_eq!(contents(store, &here()).await, ["newer"]);
}

/// It is refused, or found as stale.
pub async fn a_stream_that_is_overtaken_by_a_soft_purge_is_never_fresh<S: Store>(store: &S) {
    for target in targets() {
        let (_expected, fence) = expect(store, &here()).await;
        let Some(mut writer) = begin(store, None, fence).await else {
            return;
        };
        write(&mut writer, "old").await;
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        sure(writer.commit(head("x"), None).await);
        let found = look_up(store, &here()).await;
        assert!(found.variants.iter().all(|stored| stored.expired.is_some()), "{target:?}");
        invalidate(store, &PurgeTarget::All, PurgeMode::Remove).await;
    }
}

/// By every kind of target, whenever it comes.
pub async fn a_stream_that_is_overtaken_by_a_purge_is_refused<S: Store>(store: &S) {
    for target in targets() {
        let (_expected, fence) = expect(store, &here()).await;
        let Some(mut writer) = begin(store, None, fence).await else {
            return;
        };
        write(&mut writer, "old").await;
        invalidate(store, &target, PurgeMode::Remove).await;
        let written = sure(writer.commit(head("x"), None).await);
        assert_eq!(written, PutOutcome::Superseded, "{target:?}");
        assert!(look_up(store, &here()).await.variants.is_empty(), "{target:?}");
    }
}

/// At the latest when it is committed; tried up to 64 MiB.
pub async fn a_stream_that_is_too_large_is_refused<S: Store>(store: &S) {
    let most = store.limits().max_object;
    if !store.limits().takes_streams || most > 64 << 20 {
        return;
    }
    let (_expected, fence) = expect(store, &here()).await;
    for length in [Some(most + 1), None] {
        let mut writer = match sure(store.begin(&here(), length, fence).await) {
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
                ControlFlow::Continue(()) if left == 0 => break sure(writer.commit(head("x"), None).await),
                ControlFlow::Continue(()) => {}
            }
        };
        assert_eq!(outcome, PutOutcome::TooLarge, "{length:?} bytes, of {most} at most");
        assert!(look_up(store, &here()).await.variants.is_empty());
    }
}
