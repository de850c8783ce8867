//! What is put is found again, whole and in its order.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::fixtures::{
    content, contents, fill, head, here, key_of, look_up, put, response, sure, timed, trailers,
};
use crate::entry::{Payload, StoredResponse};
use crate::store::{PutOutcome, Store};

/// A store has nothing that nobody has put.
pub async fn an_empty_store_finds_nothing<S: Store>(store: &S) {
    assert!(look_up(store, &here()).await.variants.is_empty());
}

/// Content, trailers, fields, terms of reuse and groups come back as they were.
pub async fn what_is_put_is_found_as_it_was<S: Store>(store: &S) {
    fill(store, &here(), "content", "text/html").await;
    let lookup = look_up(store, &here()).await;
    let [stored] = &*lookup.variants else {
        panic!("one response was put, {} are found", lookup.variants.len())
    };
    let (put, got) = (response("content", "text/html"), &stored.response);
    assert_eq!(content(store, &here(), stored).await, "content", "content");
    assert_eq!(got.payload().trailers(), Some(&trailers()), "trailers");
    assert_eq!(got.head().headers(), put.head().headers(), "fields");
    assert_eq!(got.head().reuse(), put.head().reuse(), "terms of reuse");
    assert_eq!(got.head().status(), put.head().status(), "status");
    assert_eq!(got.head().part, put.head().part, "extent");
    assert!(got.head().groups().eq(put.head().groups()), "groups");
    assert_eq!(stored.expired, None, "nothing was purged");
}

/// Further parts of a key count, one by one.
pub async fn keys_that_differ_in_any_part_are_different<S: Store>(store: &S) {
    let with_part = here().with("part", b"1");
    fill(store, &here(), "plain", "x").await;
    fill(store, &with_part, "part", "x").await;
    assert_eq!(contents(store, &here()).await, ["plain"]);
    assert_eq!(contents(store, &with_part).await, ["part"]);
    for other in [here().with("part", b"2"), here().with("p", b"art1"), key_of("http://example.com/news/")] {
        assert!(look_up(store, &other).await.variants.is_empty(), "{other:?} is another key");
    }
}

/// From none to some hundred thousand bytes, if the store takes so many.
pub async fn content_of_any_length_is_kept_whole<S: Store>(store: &S) {
    let most = store.limits().max_object;
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000].into_iter().filter(|&length| length <= most) {
        let bytes: Bytes = (0..length).map(|at| (at % 251) as u8).collect();
        let fence = look_up(store, &here()).await.fence;
        let written = put(store, &here(), response(bytes.clone(), "x"), fence).await;
        assert_eq!(written, PutOutcome::Stored, "{length} bytes, of {most} at most");
        let lookup = look_up(store, &here()).await;
        let [stored] = &*lookup.variants else { panic!("{length} bytes are not found") };
        assert!(content(store, &here(), stored).await == bytes, "{length} bytes are not what was put");
    }
}

/// One byte more than [`StoreLimits::max_object`](crate::store::StoreLimits::max_object); tried up to 64 MiB.
pub async fn content_that_is_too_large_is_refused<S: Store>(store: &S) {
    let most = store.limits().max_object;
    let Some(length) = usize::try_from(most).ok().filter(|&most| most <= 64 << 20).map(|most| most + 1)
    else {
        return;
    };
    fill(store, &here(), "small", "x").await;
    let fence = look_up(store, &here()).await.fence;
    let written = put(store, &here(), response(vec![b'x'; length], "x"), fence).await;
    assert_eq!(written, PutOutcome::TooLarge, "{length} bytes, of {most} at most");
    assert_eq!(contents(store, &here()).await, ["small"], "nothing was changed");
}

/// Responses that other fields select live side by side.
pub async fn variants_are_kept_apart_and_found_the_newest_first<S: Store>(store: &S) {
    fill(store, &here(), "html", "text/html").await;
    fill(store, &here(), "json", "application/json").await;
    fill(store, &here(), "text", "text/plain").await;
    assert_eq!(contents(store, &here()).await, ["text", "json", "html"]);
}

/// And comes to the front.
pub async fn a_response_replaces_the_one_with_its_selecting_fields<S: Store>(store: &S) {
    fill(store, &here(), "html", "text/html").await;
    fill(store, &here(), "json", "application/json").await;
    fill(store, &here(), "new html", "text/html").await;
    assert_eq!(contents(store, &here()).await, ["new html", "json"]);
}

/// A request looks through all variants, and clients choose how many there are.
pub async fn the_number_of_variants_is_bounded<S: Store>(store: &S) {
    /// More than that are too many for a request to look through.
    const MOST: usize = 1_000;
    let most = store.limits().max_variants;
    assert!(most <= MOST, "{most} variants of one key are too many to look through");
    for number in 0..most + 3 {
        fill(store, &here(), "content", &format!("text/{number}")).await;
    }
    let lookup = look_up(store, &here()).await;
    assert!(lookup.variants.len() <= most, "{} variants, of {most} at most", lookup.variants.len());
    let newest = head(&format!("text/{}", most + 2)).reuse().selecting.clone();
    let found = lookup.variants.first().map(|stored| &stored.response.head().reuse().selecting);
    assert_eq!(found, Some(&newest), "the oldest are dropped, not the newest");
}

/// An identity stands for one response and one head of it: else a freshening could be of another.
pub async fn no_identity_is_given_twice<S: Store>(store: &S) {
    let mut known = HashSet::new();
    for round in 0..8 {
        fill(store, &here(), "content", "text/html").await;
        fill(store, &key_of("http://example.com/other"), "content", "text/html").await;
        for key in [here(), key_of("http://example.com/other")] {
            for stored in look_up(store, &key).await.variants.iter() {
                assert!(known.insert(stored.id), "round {round}: {:?} is given twice", stored.id);
            }
        }
    }
}

/// By its date, or by its call ([`StoredResponse::is_older_than`]).
pub async fn an_older_response_does_not_replace_a_newer_one<S: Store>(store: &S) {
    let fence = look_up(store, &here()).await.fence;
    for (content, generated, asked, expected) in [
        ("first", 10, 10, PutOutcome::Stored),
        ("older by its date", 9, 20, PutOutcome::Superseded),
        ("older by its call", 10, 9, PutOutcome::Superseded),
        ("as new", 10, 10, PutOutcome::Stored),
        ("newer by its call", 10, 11, PutOutcome::Stored),
        ("newer by its date", 11, 0, PutOutcome::Stored),
    ] {
        let response = StoredResponse::new(timed(generated, asked), Payload::from_bytes(content.into()));
        assert_eq!(put(store, &here(), response, fence).await, expected, "{content}");
    }
    assert_eq!(contents(store, &here()).await, ["newer by its date"]);
}

/// The head is all that changes.
pub async fn a_freshened_head_keeps_its_content<S: Store>(store: &S) {
    fill(store, &here(), "content", "text/html").await;
    let before = look_up(store, &here()).await;
    let mut fresh = head("text/html");
    fresh.reuse.lifetime = Duration::from_secs(999);
    let written = sure(store.freshen(&here(), before.variants[0].id, fresh, before.fence).await);
    assert_eq!(written, PutOutcome::Stored, "the response is still there");
    let after = look_up(store, &here()).await;
    assert_eq!(after.variants[0].response.head().reuse().lifetime, Duration::from_secs(999));
    assert_eq!(after.variants[0].response.payload().trailers(), Some(&trailers()), "trailers");
    assert_eq!(contents(store, &here()).await, ["content"]);
}

/// Compare and swap.
pub async fn only_what_is_still_there_is_freshened<S: Store>(store: &S) {
    fill(store, &here(), "content", "text/html").await;
    let before = look_up(store, &here()).await;
    let (key, id) = (here(), before.variants[0].id);
    let freshen = |id| store.freshen(&key, id, head("text/html"), before.fence);
    assert_eq!(sure(freshen(id).await), PutOutcome::Stored);
    assert_eq!(sure(freshen(id).await), PutOutcome::Superseded, "it has been freshened before");
    let id = look_up(store, &here()).await.variants[0].id;
    fill(store, &here(), "newer", "text/html").await;
    assert_eq!(sure(freshen(id).await), PutOutcome::Superseded, "a newer response came first");
    assert_eq!(contents(store, &here()).await, ["newer"]);
}

/// What holds for responses holds for what is said of them.
pub async fn an_older_304_freshens_nothing<S: Store>(store: &S) {
    let fence = look_up(store, &here()).await.fence;
    let response = StoredResponse::new(timed(11, 10), Payload::from_bytes("content".into()));
    assert_eq!(put(store, &here(), response, fence).await, PutOutcome::Stored);
    let id = look_up(store, &here()).await.variants[0].id;
    let key = here();
    let freshen = |generated| store.freshen(&key, id, timed(generated, 0), fence);
    assert_eq!(sure(freshen(10).await), PutOutcome::Superseded, "an older one");
    assert_eq!(sure(freshen(12).await), PutOutcome::Stored, "a newer one");
}
