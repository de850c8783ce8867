//! What is purged is gone or stale, and no purge is lost to a fetch under way.

use std::cell::Cell;
use std::pin::Pin;
use std::time::Duration;

use http::HeaderValue;

use super::fixtures::{
    contents, expect, fill, group_targets, head, here, invalidate, is_purged, key_of, key_targets, look_up,
    purged_at, put, response, sure, targets, together, ungrouped, until, yield_now,
};
use crate::entry::{Payload, ResponseHead, StoredResponse};
use crate::store::{
    Expired, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome, Store,
};

/// Whether nothing that a look-up has found passes for fresh.
fn is_stale(lookup: &Lookup) -> bool {
    lookup.variants.iter().all(|stored| stored.expired.is_some())
}

/// By every kind of target. What is fetched afterwards is found.
pub async fn a_purge_removes_what_its_target_names<S: Store>(store: &S) {
    for target in targets() {
        fill(store, &here(), "old", "x").await;
        invalidate(store, &target, PurgeMode::Remove).await;
        assert!(look_up(store, &here()).await.variants.is_empty(), "{target:?} removes");
        fill(store, &here(), "new", "x").await;
        assert_eq!(contents(store, &here()).await, ["new"], "{target:?} is over");
    }
}

/// By every kind of target: it is still there, and says since when it is stale.
pub async fn a_soft_purge_makes_stale_what_its_target_names<S: Store>(store: &S) {
    for target in targets() {
        fill(store, &here(), "old", "x").await;
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        let after = look_up(store, &here()).await;
        let expired: Vec<_> = after.variants.iter().map(|stored| stored.expired).collect();
        assert_eq!(expired, [Some(Expired::new(purged_at(), None))], "{target:?} makes stale");
        assert_eq!(contents(store, &here()).await, ["old"], "{target:?} leaves it there");
        fill(store, &here(), "fresh", "x").await;
        assert_eq!(look_up(store, &here()).await.variants[0].expired, None, "{target:?} is over");
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        invalidate(store, &target, PurgeMode::Remove).await;
        let removed = look_up(store, &here()).await;
        assert!(removed.variants.is_empty(), "{target:?} removes what it had expired");
    }
}

/// By every kind of target: since when it is stale, and from when on it is gone.
pub async fn an_expiry_with_an_end_says_so<S: Store>(store: &S) {
    for target in targets() {
        fill(store, &here(), "old", "x").await;
        invalidate(store, &target, until(60)).await;
        let expected = Expired::new(purged_at(), Some(purged_at() + Duration::from_secs(60)));
        let after = look_up(store, &here()).await;
        let expired: Vec<_> = after.variants.iter().map(|stored| stored.expired).collect();
        assert_eq!(expired, [Some(expected)], "{target:?}");
        fill(store, &here(), "fresh", "x").await;
        assert_eq!(look_up(store, &here()).await.variants[0].expired, None, "{target:?} is over");
    }
}

/// It is stale since the first of them, and gone from the earliest end on, in whatever order they come.
pub async fn soft_purges_add_up<S: Store>(store: &S) {
    let soft = PurgeMode::Expire(purged_at());
    let end = |seconds| Some(purged_at() + Duration::from_secs(seconds));
    for (modes, expected) in [
        (&[soft, until(60)][..], end(60)),
        (&[until(60), soft], end(60)),
        (&[until(60), until(90)], end(60)),
        (&[until(90), until(60)], end(60)),
    ] {
        fill(store, &here(), "old", "x").await;
        for (mode, target) in modes.iter().zip([PurgeTarget::tag("news"), PurgeTarget::Key(here())]) {
            invalidate(store, &target, *mode).await;
        }
        let after = look_up(store, &here()).await;
        let expired = after.variants.first().and_then(|stored| stored.expired);
        assert_eq!(expired, Some(Expired::new(purged_at(), expected)), "{modes:?}");
        invalidate(store, &PurgeTarget::All, PurgeMode::Remove).await;
    }
    // Many of one target, of which a store may not keep every one: the end holds.
    fill(store, &here(), "old", "x").await;
    invalidate(store, &PurgeTarget::Key(here()), until(60)).await;
    for _ in 0..100 {
        invalidate(store, &PurgeTarget::Key(here()), soft).await;
    }
    let after = look_up(store, &here()).await;
    let expired = after.variants.first().and_then(|stored| stored.expired);
    assert_eq!(expired.and_then(|expired| expired.until), end(60), "no end is forgotten");
}

/// Each of them.
pub async fn one_call_purges_many_targets<S: Store>(store: &S) {
    let keys: Vec<_> = (0..8).map(|number| key_of(&format!("http://host-{number}.example/"))).collect();
    for mode in [PurgeMode::Remove, PurgeMode::Expire(purged_at())] {
        for key in &keys {
            let fence = look_up(store, key).await.fence;
            put(store, key, ungrouped("content", "x"), fence).await;
        }
        let named: Vec<_> = keys.iter().map(|key| PurgeTarget::Uri(key.uri().into())).collect();
        sure(store.invalidate(&named, mode).await);
        for (number, key) in keys.iter().enumerate() {
            assert!(is_stale(&look_up(store, key).await), "{mode:?}, target {number}");
        }
    }
}

/// It is no purge, and no failure.
pub async fn a_purge_of_no_targets_changes_nothing<S: Store>(store: &S) {
    fill(store, &here(), "content", "x").await;
    let number = sure(store.invalidate(&[], PurgeMode::Remove).await);
    assert_eq!(number, PurgeNumber::default(), "the number of no purge");
    assert_eq!(contents(store, &here()).await, ["content"]);
}

/// The same purge again has the same effect and another number, as has one of several targets, or of nothing that is there.
pub async fn each_purge_has_a_greater_number_than_those_before<S: Store>(store: &S) {
    fill(store, &here(), "content", "x").await;
    let mut last = PurgeNumber::default();
    let all = targets();
    let calls = all.iter().flat_map(|target| [std::slice::from_ref(target); 2]).chain([&all[..]]);
    for mode in [PurgeMode::Expire(purged_at()), PurgeMode::Remove] {
        for targets in calls.clone() {
            let number = sure(store.invalidate(targets, mode).await);
            assert!(number > last, "{number} after {last}: {targets:?}");
            last = number;
        }
        assert!(is_stale(&look_up(store, &here()).await), "{mode:?}");
    }
    assert!(look_up(store, &here()).await.variants.is_empty());
}

/// A URI names what is stored under it for whomever.
pub async fn a_purge_of_a_uri_reaches_keys_with_further_parts<S: Store>(store: &S) {
    let key = here().with("user", b"1");
    for target in key_targets().into_iter().filter(|target| !matches!(target, PurgeTarget::Key(_))) {
        fill(store, &key, "old", "x").await;
        invalidate(store, &target, PurgeMode::Remove).await;
        assert!(look_up(store, &key).await.variants.is_empty(), "{target:?} reaches {key:?}");
    }
}

/// What a middleware has rewritten is stored under both URIs ([`CacheKey::uris`](crate::CacheKey::uris)).
pub async fn a_purge_reaches_either_uri_of_a_key<S: Store>(store: &S) {
    let key = here().rewritten_to(b"http://inner.example/tenant/1");
    for target in [
        PurgeTarget::Uri(here().uri().into()),
        PurgeTarget::host("example.com"),
        PurgeTarget::host("inner.example"),
        PurgeTarget::path("/tenant/1"),
        PurgeTarget::path_prefix("/tenant/"),
        PurgeTarget::prefix("http://inner.example/tenant/"),
        PurgeTarget::uri("http://inner.example/tenant/1"),
    ] {
        fill(store, &key, "content", "x").await;
        assert_eq!(contents(store, &key).await, ["content"], "{target:?}");
        invalidate(store, &target, PurgeMode::Remove).await;
        assert!(look_up(store, &key).await.variants.is_empty(), "{target:?} removes");
    }
}

/// Names that are much alike are not the same.
pub async fn a_purge_leaves_alone_what_it_does_not_name<S: Store>(store: &S) {
    let others = [
        PurgeTarget::group("http://example.com", "new"),
        PurgeTarget::group("http://example.com", "News"),
        PurgeTarget::group("http://example.org", "news"),
        PurgeTarget::Group("news".into()),
        PurgeTarget::host("example.co"),
        PurgeTarget::host("example.com:8080"),
        PurgeTarget::host("com"),
        PurgeTarget::host("http://example.com"),
        PurgeTarget::Key(here().with("part", b"")),
        PurgeTarget::Key(key_of("http://example.com/news/today?page=2")),
        PurgeTarget::path("/news/today"),
        PurgeTarget::path("/news/"),
        PurgeTarget::path_prefix("/new/"),
        PurgeTarget::path_prefix("/today"),
        PurgeTarget::path_prefix("news/"),
        PurgeTarget::prefix("http://example.com/news/tomorrow"),
        PurgeTarget::prefix("https://example.com/"),
        PurgeTarget::prefix("/news/"),
        PurgeTarget::tag("new"),
        PurgeTarget::tag("News"),
        PurgeTarget::tag("http://example.com news"),
        PurgeTarget::tag_any_case("new"),
        PurgeTarget::tag_any_case("http://example.com news"),
        PurgeTarget::uri("http://example.com/news/today"),
    ];
    fill(store, &here(), "content", "x").await;
    for other in &others {
        invalidate(store, other, PurgeMode::Remove).await;
        assert_eq!(contents(store, &here()).await, ["content"], "{other:?}");
    }
    sure(store.invalidate(&others, PurgeMode::Remove).await);
    assert_eq!(contents(store, &here()).await, ["content"], "all of them in one call");
}

/// Strangers purge what does not exist, by unsafe requests.
pub async fn many_purges_of_nothing_hit_nothing<S: Store>(store: &S) {
    const MANY: usize = 2_000;
    fill(store, &here(), "stored", "x").await;
    let (expected, fence) = expect(store, &here()).await;
    for number in 0..MANY {
        let nothing = [
            PurgeTarget::group("http://example.com", &number.to_string()),
            PurgeTarget::host(format!("{number}.example")),
            PurgeTarget::Key(here().with("part", &number.to_le_bytes())),
            PurgeTarget::prefix(format!("http://{number}.example/x")),
            PurgeTarget::prefix(format!("http://{number}.example/")),
            PurgeTarget::tag(number.to_string()),
            PurgeTarget::tag_any_case(number.to_string()),
            PurgeTarget::uri(format!("http://example.com/{number}")),
        ];
        sure(store.invalidate(&nothing, PurgeMode::Remove).await);
    }
    assert_eq!(contents(store, &here()).await, ["stored"], "none of {MANY} purges names it");
    if expected.fence().is_some() {
        let key = here().with("part", b"");
        let written = put(store, &key, ungrouped("content", "x"), fence).await;
        assert_eq!(written, PutOutcome::Stored, "none of {MANY} purges names what was on its way");
    }
}

/// A response is refused that was asked for before a purge.
async fn is_refused<S: Store>(store: &S, target: &PurgeTarget, before: Fence, whose: &str) {
    let written = put(store, &here(), response("old", "x"), before).await;
    assert_eq!(written, PutOutcome::Superseded, "{target:?} came after {whose}");
    assert!(look_up(store, &here()).await.variants.is_empty(), "{target:?} came after {whose}");
}

/// By every kind of target.
pub async fn a_fence_of_get_stands_before_later_purges<S: Store>(store: &S) {
    for target in targets() {
        let before = sure(store.get(&here()).await).fence;
        invalidate(store, &target, PurgeMode::Remove).await;
        is_refused(store, &target, before, "the fence of get").await;
    }
}

/// By every kind of target, where the store answers at once.
pub async fn a_fence_of_try_get_stands_before_later_purges<S: Store>(store: &S) {
    for target in targets() {
        let Some(before) = store.try_get(&here()).map(|lookup| lookup.fence) else {
            continue;
        };
        invalidate(store, &target, PurgeMode::Remove).await;
        is_refused(store, &target, before, "the fence of try_get").await;
    }
}

/// It is what a request has whose look-up has failed.
pub async fn the_default_fence_stands_before_all_purges<S: Store>(store: &S) {
    for target in targets() {
        invalidate(store, &target, PurgeMode::Remove).await;
        is_refused(store, &target, Fence::default(), "the default fence").await;
    }
}

/// It is refused, or stored and stale.
pub async fn what_was_asked_for_before_a_soft_purge_is_never_fresh<S: Store>(store: &S) {
    for target in targets() {
        let before = look_up(store, &here()).await.fence;
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        put(store, &here(), response("old", "x"), before).await;
        assert!(is_stale(&look_up(store, &here()).await), "{target:?}");
        invalidate(store, &PurgeTarget::All, PurgeMode::Remove).await;
    }
}

/// Two calls, one from before a soft purge and one from after it: whichever lands last, what was asked for after it stays.
pub async fn an_old_response_does_not_replace_a_newer_one_after_a_soft_purge<S: Store>(store: &S) {
    for target in targets() {
        let (_early, before) = expect(store, &here()).await;
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        let (_late, after) = expect(store, &here()).await;
        assert_eq!(put(store, &here(), response("new", "x"), after).await, PutOutcome::Stored, "{target:?}");
        put(store, &here(), response("old", "x"), before).await;
        assert_eq!(contents(store, &here()).await, ["new"], "{target:?}");
        assert_eq!(look_up(store, &here()).await.variants[0].expired, None, "{target:?}");
        invalidate(store, &PurgeTarget::All, PurgeMode::Remove).await;
    }
}

/// The 304 is about what was asked for before the purge.
pub async fn a_freshening_from_before_a_soft_purge_leaves_it_stale<S: Store>(store: &S) {
    for target in targets() {
        fill(store, &here(), "content", "x").await;
        let (_expected, before) = expect(store, &here()).await;
        let id = look_up(store, &here()).await.variants[0].id;
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        sure(store.freshen(&here(), id, head("x"), before).await);
        assert!(is_stale(&look_up(store, &here()).await), "{target:?}");
        invalidate(store, &PurgeTarget::All, PurgeMode::Remove).await;
    }
}

/// Hard or soft, by every kind of target; with a guard ([`Store::expect`]) or without.
pub async fn a_purge_is_seen_by_purged_since<S: Store>(store: &S) {
    for mode in [PurgeMode::Remove, PurgeMode::Expire(purged_at()), until(60)] {
        for target in targets() {
            let before = look_up(store, &here()).await.fence;
            let (_expected, guarded) = expect(store, &here()).await;
            invalidate(store, &target, mode).await;
            for fence in [before, guarded, Fence::default()] {
                let any_group = is_purged(store, &here(), fence, PurgeScope::KeyOrAnyGroup).await;
                assert!(any_group, "{target:?}, {mode:?} may concern the key");
                if !group_targets().contains(&target) {
                    let of_key = is_purged(store, &here(), fence, PurgeScope::Key).await;
                    assert!(of_key, "{target:?}, {mode:?} concerns the key");
                }
            }
        }
    }
}

/// Whether or not it concerned anything that was stored, and whatever else was expected.
pub async fn a_purge_is_remembered_for_what_is_on_its_way<S: Store>(store: &S) {
    for target in targets() {
        for is_stored in [false, true] {
            if is_stored {
                fill(store, &here(), "stored", "x").await;
            }
            let (expected, fence) = expect(store, &here()).await;
            let another = expect(store, &here()).await;
            invalidate(store, &target, PurgeMode::Remove).await;
            assert!(look_up(store, &here()).await.variants.is_empty(), "{target:?} removes what is stored");
            drop(another);
            invalidate(store, &PurgeTarget::uri("http://example.com/other"), PurgeMode::Remove).await;
            invalidate(store, &PurgeTarget::tag("other"), PurgeMode::Remove).await;
            let (_late, late_fence) = expect(store, &here()).await;
            let written = put(store, &here(), response("old", "x"), fence).await;
            assert_eq!(written, PutOutcome::Superseded, "{target:?} came while it was on its way");
            drop(expected);
            let written = put(store, &here(), response("new", "x"), late_fence).await;
            assert_eq!(written, PutOutcome::Stored, "{target:?} came before it was asked for");
            assert_eq!(contents(store, &here()).await, ["new"], "{target:?}");
        }
        let (_expected, fence) = expect(store, &here()).await;
        invalidate(store, &target, PurgeMode::Expire(purged_at())).await;
        put(store, &here(), response("old", "y"), fence).await;
        assert!(is_stale(&look_up(store, &here()).await), "{target:?}: on its way at a soft purge");
        invalidate(store, &PurgeTarget::All, PurgeMode::Remove).await;
    }
}

/// What is stored may say that it answers for other queries, so a purge of one of these is about it, too.
pub async fn a_purge_of_another_query_is_remembered_for_what_is_on_its_way<S: Store>(store: &S) {
    let another = key_of("http://example.com/news/today?page=2");
    let (expected, fence) = expect(store, &here()).await;
    invalidate(store, &PurgeTarget::Uri(another.uri().into()), PurgeMode::Remove).await;
    let plain = head("x");
    let mut headers = plain.headers();
    headers.insert("no-vary-search", HeaderValue::from_static("params"));
    let answers_for_others = ResponseHead::new(plain.status(), &headers, plain.reuse().clone());
    let old = StoredResponse::new(answers_for_others, Payload::from_bytes("old".into()));
    let written = put(store, &here(), old, fence).await;
    drop(expected);
    if written == PutOutcome::Stored {
        let fence = look_up(store, &here()).await.variants[0].fence;
        let is_purged = is_purged(store, &another, fence, PurgeScope::Key).await;
        assert!(is_purged, "purged while it was on its way");
    }
    fill(store, &here(), "no more than itself", "x").await;
    assert_eq!(contents(store, &here()).await, ["no more than itself"]);
}

/// Fills of what changes, each change followed by a purge. Once that has returned, nothing older is fresh.
pub async fn fills_and_purges_at_one_time_leave_nothing_old<S: Store>(store: &S) {
    const FILLS: usize = 6;
    let (version, promised) = (&Cell::new(0), &Cell::new(0));
    let is_new = async || {
        let least = promised.get();
        let lookup = sure(store.get(&here()).await);
        for stored in lookup.variants.iter().filter(|stored| stored.expired.is_none()) {
            let made = stored.response.head().reuse().lifetime.as_secs();
            assert!(made >= least, "version {made} is fresh after a purge of all before {least}");
        }
    };
    let fill = async |number: usize| {
        for turn in 0..6 {
            let (_expected, fence) = expect(store, &here()).await;
            let mut head = head(if (number + turn).is_multiple_of(2) { "x" } else { "y" });
            head.reuse.lifetime = Duration::from_secs(version.get());
            for _ in 0..(number + turn) % 4 {
                yield_now().await;
            }
            let response = StoredResponse::new(head, Payload::from_bytes("content".into()));
            sure(store.put(&here(), response, fence).await);
            is_new().await;
        }
    };
    let change = async || {
        for (turn, target) in targets().iter().enumerate() {
            version.set(version.get() + 1);
            let changed = version.get();
            let mode =
                if turn.is_multiple_of(2) { PurgeMode::Remove } else { PurgeMode::Expire(purged_at()) };
            invalidate(store, target, mode).await;
            promised.set(changed);
            is_new().await;
            for _ in 0..turn % 3 {
                yield_now().await;
            }
        }
    };
    let fills = (0..FILLS).map(|number| Box::pin(fill(number)) as Pin<Box<dyn Future<Output = ()> + '_>>);
    let change: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(change());
    together(fills.chain(std::iter::once(change))).await;
    is_new().await;
}
