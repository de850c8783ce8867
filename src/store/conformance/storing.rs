//! What is put is found again, whole and in its order.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::fixtures::{bytes, head, here, key_of, response, timed, trailers};
use super::fleet::{Fleet, sure};
use super::subject::{Nodes, Subject};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, StoredResponse};
use crate::store::{Lookup, PutOutcome, Store};

/// Content above which a store without a smaller limit is not tried.
pub(super) const MOST_TRIED: u64 = 64 << 20;

/// A store has nothing that nobody has put.
pub async fn an_empty_store_finds_nothing<N: Nodes>(subject: &Subject<'_, N>) {
    subject.each_way(async |fleet| fleet.finds_nothing(&here(), "nobody has put anything").await).await;
}

/// Content, trailers, fields, terms of reuse and groups come back as they were.
pub async fn what_is_put_is_found_as_it_was<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            fleet.fill(&here(), "content", "text/html").await;
            fleet.finds(&here(), &["content"], "it was put").await;
            let lookup = fleet.look_up(&here()).await;
            let (put, stored) = (response("content", "text/html"), &lookup.variants[0]);
            let got = &stored.response;
            assert_eq!(got.payload().trailers(), Some(&trailers()), "trailers");
            assert_eq!(got.head().headers(), put.head().headers(), "fields");
            assert_eq!(got.head().reuse(), put.head().reuse(), "terms of reuse");
            assert_eq!(got.head().status(), put.head().status(), "status");
            assert_eq!(got.head().part, put.head().part, "extent");
            assert!(got.head().groups().eq(put.head().groups()), "groups");
            assert_eq!(stored.expired, None, "nothing was purged");
        })
        .await;
}

/// Further parts of a key count, one by one.
pub async fn keys_that_differ_in_any_part_are_different<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let with_part = here().with("part", b"1");
            fleet.fill(&here(), "plain", "x").await;
            fleet.fill(&with_part, "part", "x").await;
            fleet.finds(&here(), &["plain"], "of the key without parts").await;
            fleet.finds(&with_part, &["part"], "of the key with a part").await;
            let others =
                [here().with("part", b"2"), here().with("p", b"art1"), key_of("http://example.com/news/")];
            for other in others {
                fleet.finds_nothing(&other, &format!("{other:?} is another key")).await;
            }
        })
        .await;
}

/// From none to some hundred thousand bytes, if the store takes so many.
pub async fn content_of_any_length_is_kept_whole<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let most = fleet.limits().max_object;
            for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
                let key = here().with("length", &length.to_string().into_bytes());
                if length as u64 <= most {
                    is_kept_whole(fleet, &key, bytes(length)).await;
                }
            }
        })
        .await;
}

/// As much as [`StoreLimits::max_object`](crate::store::StoreLimits::max_object) says; tried up to 64 MiB.
pub async fn content_as_large_as_the_limit_is_kept_whole<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let most = fleet.limits().max_object.min(MOST_TRIED);
            is_kept_whole(fleet, &here(), bytes(usize::try_from(most).unwrap_or_default())).await;
        })
        .await;
}

async fn is_kept_whole<N: Nodes>(fleet: &Fleet<'_, N>, key: &CacheKey, bytes: Bytes) {
    let length = bytes.len();
    let fence = fleet.look_up_to_fill(key).await.fence;
    let written = fleet.put(key, response(bytes.clone(), "x"), fence).await;
    let most = fleet.limits().max_object;
    assert_eq!(written, PutOutcome::Stored, "{length} bytes, of {most} at most");
    let lookup = fleet
        .look_up_until(key, |lookup| match lookup.variants.len() {
            1 => Ok(()),
            _ => Err(format!("{length} bytes are not found")),
        })
        .await;
    let content = fleet.content(key, &lookup.variants[0]).await;
    assert!(content == bytes, "{length} bytes are not what was put");
}

/// One byte more than [`StoreLimits::max_object`](crate::store::StoreLimits::max_object); tried up to 64 MiB.
pub async fn content_that_is_too_large_is_refused<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let most = fleet.limits().max_object;
            if most > MOST_TRIED {
                return;
            }
            let length = usize::try_from(most).unwrap_or_default() + 1;
            fleet.fill(&here(), "small", "x").await;
            let fence = fleet.look_up_to_fill(&here()).await.fence;
            let written = fleet.put(&here(), response(vec![b'x'; length], "x"), fence).await;
            assert_eq!(written, PutOutcome::TooLarge, "{length} bytes, of {most} at most");
            fleet.finds(&here(), &["small"], "nothing was changed").await;
        })
        .await;
}

/// Responses that other fields select live side by side.
pub async fn variants_are_kept_apart_and_found_the_newest_first<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            fleet.fill(&here(), "html", "text/html").await;
            fleet.fill(&here(), "json", "application/json").await;
            fleet.fill(&here(), "text", "text/plain").await;
            fleet.finds(&here(), &["text", "json", "html"], "the newest first").await;
        })
        .await;
}

/// And comes to the front.
pub async fn a_response_replaces_the_one_with_its_selecting_fields<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            fleet.fill(&here(), "html", "text/html").await;
            fleet.fill(&here(), "json", "application/json").await;
            fleet.finds(&here(), &["json", "html"], "the newest first").await;
            fleet.fill(&here(), "new html", "text/html").await;
            fleet.finds(&here(), &["new html", "json"], "one is replaced").await;
        })
        .await;
}

/// A request looks through all variants, and clients choose how many there are.
pub async fn the_number_of_variants_is_bounded<N: Nodes>(subject: &Subject<'_, N>) {
    /// More than that are too many for a request to look through.
    const MOST: usize = 1_000;
    subject
        .each_way(async |fleet| {
            let most = fleet.limits().max_variants;
            assert!(most <= MOST, "{most} variants of one key are too many to look through");
            for number in 0..most + 3 {
                fleet.fill(&here(), "content", &format!("text/{number}")).await;
            }
            let newest = head(&format!("text/{}", most + 2)).reuse().selecting.clone();
            let check = |lookup: &Lookup| {
                let found = lookup.variants.first().map(|stored| &stored.response.head().reuse().selecting);
                match lookup.variants.len() {
                    count if count > most => Err(format!("{count} variants, of {most} at most")),
                    _ if found != Some(&newest) => Err("the oldest are dropped, not the newest".to_owned()),
                    _ => Ok(()),
                }
            };
            fleet.look_up_until(&here(), check).await;
        })
        .await;
}

/// An identity stands for one response and one head of it: else a freshening could be of another.
pub async fn no_identity_is_given_twice<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            let mut known = HashSet::new();
            let keys = [here(), key_of("http://example.com/other")];
            for round in ["0", "1", "2", "3", "4", "5", "6", "7"] {
                for key in &keys {
                    fleet.fill(key, round, "text/html").await;
                }
                for key in &keys {
                    fleet.finds(key, &[round], "the last that was put").await;
                    for stored in fleet.look_up(key).await.variants.iter() {
                        assert!(known.insert(stored.id), "round {round}: {:?} is given twice", stored.id);
                    }
                }
            }
        })
        .await;
}

/// By its date, or by its call ([`StoredResponse::is_older_than`]).
pub async fn an_older_response_does_not_replace_a_newer_one<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            let fence = fleet.look_up_to_fill(&here()).await.fence;
            for (content, generated, asked, expected) in [
                ("first", 10, 10, PutOutcome::Stored),
                ("older by its date", 9, 20, PutOutcome::Superseded),
                ("older by its call", 10, 9, PutOutcome::Superseded),
                ("as new", 10, 10, PutOutcome::Stored),
                ("newer by its call", 10, 11, PutOutcome::Stored),
                ("newer by its date", 11, 0, PutOutcome::Stored),
            ] {
                let payload = Payload::from_bytes(content.into());
                let response = StoredResponse::new(timed(generated, asked), payload);
                assert_eq!(fleet.put(&here(), response, fence).await, expected, "{content}");
            }
            fleet.finds(&here(), &["newer by its date"], "the newest").await;
        })
        .await;
}

/// Nodes ask for the same at one time: what one of them was told first does not replace what the other has stored.
pub async fn an_older_response_of_one_node_does_not_replace_a_newer_one_of_another<N: Nodes>(
    subject: &Subject<'_, N>,
) {
    subject
        .each_way(async |fleet| {
            let (by_one, by_other) = (fleet.reader(), fleet.filler());
            let fence = fleet.look_up_to_fill(&here()).await.fence;
            let of = |content: &'static str, asked| {
                StoredResponse::new(timed(10, asked), Payload::from_bytes(content.into()))
            };
            let other_fence = fleet.look_up(&here()).await.fence;
            let newer = sure(by_one.put(&here(), of("newer", 20), other_fence).await);
            assert_eq!(newer, PutOutcome::Stored);
            let older = sure(by_other.put(&here(), of("older", 10), fence).await);
            assert_eq!(older, PutOutcome::Superseded, "an older one of another node");
            fleet.finds(&here(), &["newer"], "the newer one stays").await;
        })
        .await;
}

/// The head is all that changes.
pub async fn a_freshened_head_keeps_its_content<N: Nodes>(subject: &Subject<'_, N>) {
    const LIFETIME: Duration = Duration::from_secs(999);
    subject
        .each_way_of_replacing(async |fleet| {
            fleet.fill(&here(), "content", "text/html").await;
            fleet.finds(&here(), &["content"], "it was put").await;
            let (id, fence) = fleet.id_to_freshen(&here()).await;
            let mut fresh = head("text/html");
            fresh.reuse.lifetime = LIFETIME;
            let written = fleet.freshen(&here(), id, fresh, fence).await;
            assert_eq!(written, PutOutcome::Stored, "the response is still there");
            let check = |lookup: &Lookup| match lookup.variants.first() {
                Some(stored) if stored.response.head().reuse().lifetime == LIFETIME => Ok(()),
                found => Err(format!("{found:?} does not have the new head")),
            };
            let after = fleet.look_up_until(&here(), check).await;
            assert_eq!(after.variants[0].response.payload().trailers(), Some(&trailers()), "trailers");
            fleet.finds(&here(), &["content"], "only the head is new").await;
        })
        .await;
}

/// Compare and swap.
pub async fn only_what_is_still_there_is_freshened<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            fleet.fill(&here(), "content", "text/html").await;
            let (id, fence) = fleet.id_to_freshen(&here()).await;
            let key = here();
            let freshen = |id| fleet.freshen(&key, id, head("text/html"), fence);
            assert_eq!(freshen(id).await, PutOutcome::Stored);
            assert_eq!(freshen(id).await, PutOutcome::Superseded, "it has been freshened before");
            let (id, _) = fleet.id_to_freshen(&key).await;
            fleet.fill(&here(), "newer", "text/html").await;
            assert_eq!(freshen(id).await, PutOutcome::Superseded, "a newer response came first");
            fleet.finds(&here(), &["newer"], "it was not freshened").await;
        })
        .await;
}

/// What holds for responses holds for what is said of them.
pub async fn an_older_304_freshens_nothing<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let response = StoredResponse::new(timed(11, 10), Payload::from_bytes("content".into()));
            fleet.fill_with(&here(), response).await;
            let (id, fence) = fleet.id_to_freshen(&here()).await;
            let key = here();
            let freshen = |generated| fleet.freshen(&key, id, timed(generated, 0), fence);
            assert_eq!(freshen(10).await, PutOutcome::Superseded, "an older one");
            assert_eq!(freshen(12).await, PutOutcome::Stored, "a newer one");
        })
        .await;
}

/// Where the store counts at all.
pub async fn what_is_held_is_counted<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            let before = fleet.filler().statistics();
            fleet.fill(&here(), "content", "x").await;
            let after = fleet.filler().statistics();
            assert_eq!(after.entries, before.entries + 1, "keys held");
            assert!(after.bytes > before.bytes, "{} bytes are held, before {}", after.bytes, before.bytes);
        })
        .await;
}
