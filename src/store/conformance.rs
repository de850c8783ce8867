//! What every store must do, as a test that any store can run.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use larder::MemoryStore;
//! larder::store::conformance::check(MemoryStore::default).await;
//! # });
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Expected, Expired, Fence, Lookup, PurgeMode, PurgeScope, PurgeTarget, PutOutcome, Store};
use crate::entry::key::{self, CacheKey};
use crate::entry::pieces::Pieces;
use crate::entry::{Payload, ResponseHead, StoredResponse};
use crate::semantics::Rules;
use crate::semantics::reuse::Reuse;
use crate::semantics::vary::Selecting;

/// Runs every check, each on an empty store from `make`.
///
/// # Panics
///
/// When the store breaks the contract of [`Store`]; the message says how.
pub async fn check<S: Store>(make: impl Fn() -> S) {
    gives_back_what_was_put(&make()).await;
    tells_keys_apart(&make()).await;
    keeps_variants(&make()).await;
    freshens_what_is_still_there(&make()).await;
    keeps_the_newer_word(&make()).await;
    for target in targets() {
        purges(&make(), &target).await;
        expires(&make(), &target).await;
        refuses_what_was_fetched_before_a_purge(&make(), &target).await;
        remembers_a_purge_for_what_is_on_its_way(&make(), &target).await;
    }
    remembers_a_purge_of_another_query(&make()).await;
    purges_of_nothing_concern_nothing(&make()).await;
    purges_nothing_else(&make()).await;
    purges_by_either_uri(&make()).await;
}

/// A cache group in the scope of its origin.
const GROUP: &str = "http://example.com news";

fn key_of(uri: &'static str) -> CacheKey {
    match CacheKey::of(&key::get(http::Uri::from_static(uri))) {
        Ok(key) => key,
        Err(error) => panic!("{uri} is a key's URI: {error}"),
    }
}

pub(crate) fn here() -> CacheKey {
    key_of("http://example.com/news/today?page=1")
}

/// Everything by which a response under [`here`] can be purged.
pub(crate) fn targets() -> [PurgeTarget; 6] {
    [
        PurgeTarget::All,
        PurgeTarget::Group(GROUP.into()),
        PurgeTarget::Key(here()),
        PurgeTarget::Prefix(b"http://example.com/news/"[..].into()),
        PurgeTarget::Tag("news".into()),
        PurgeTarget::Uri(here().uri().into()),
    ]
}

/// A response in the group, with content, selected by the field `accept`.
pub(crate) fn response(content: &'static str, accept: &'static str) -> StoredResponse {
    let (mut vary, mut request) = (HeaderMap::new(), HeaderMap::new());
    vary.insert("vary", HeaderValue::from_static("accept"));
    request.insert("accept", HeaderValue::from_static(accept));
    let time = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", HeaderValue::from_static("1"));
    let mut reuse = Reuse::new(time, time, Duration::from_secs(60));
    reuse.initial_age = Duration::from_secs(7);
    reuse.selecting = Selecting::of(&vary, &request, &Rules::default()).unwrap_or_default();
    reuse.stale_while_revalidate = Duration::from_secs(5);
    let mut head = ResponseHead::new(StatusCode::OK, vary, reuse);
    head.groups = Box::new([GROUP.into()]);
    StoredResponse::new(
        head,
        Payload::new(Pieces::of(Bytes::from_static(content.as_bytes())), Some(trailers)),
    )
}

/// [`response`] in no group.
fn ungrouped(content: &'static str, accept: &'static str) -> StoredResponse {
    let mut response = response(content, accept);
    if let Some(head) = std::sync::Arc::get_mut(&mut response.head) {
        head.groups = Box::default();
    }
    response
}

async fn look_up<S: Store>(store: &S, key: &CacheKey) -> Lookup {
    let waited = match store.get(key).await {
        Ok(lookup) => lookup,
        Err(error) => panic!("get failed: {error}"),
    };
    if let Some(at_once) = store.try_get(key) {
        assert_eq!(contents(&at_once), contents(&waited), "try_get and get agree");
    }
    waited
}

async fn put<S: Store>(store: &S, key: &CacheKey, response: StoredResponse, fence: Fence) -> PutOutcome {
    match store.put(key, response, fence).await {
        Ok(write) => write,
        Err(error) => panic!("put failed: {error}"),
    }
}

async fn fill<S: Store>(store: &S, key: &CacheKey, content: &'static str, accept: &'static str) {
    let fence = look_up(store, key).await.fence;
    assert_eq!(put(store, key, response(content, accept), fence).await, PutOutcome::Stored);
}

async fn invalidate<S: Store>(store: &S, target: &PurgeTarget, how: PurgeMode) {
    if let Err(error) = store.invalidate(std::slice::from_ref(target), how).await {
        panic!("invalidate failed: {error}");
    }
}

async fn is_purged<S: Store>(store: &S, key: &CacheKey, since: Fence, scope: PurgeScope) -> bool {
    match store.purged_since(key, since, scope).await {
        Ok(is_purged) => is_purged,
        Err(error) => panic!("purged_since failed: {error}"),
    }
}

fn contents(lookup: &Lookup) -> Vec<String> {
    let content = |stored: &super::Stored| {
        String::from_utf8_lossy(&stored.response.payload().to_bytes().unwrap_or_default()).into_owned()
    };
    lookup.variants.iter().map(content).collect()
}

fn purged_at() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_100)
}

async fn gives_back_what_was_put<S: Store>(store: &S) {
    assert!(look_up(store, &here()).await.variants.is_empty(), "an empty store has nothing");
    fill(store, &here(), "content", "text/html").await;
    let lookup = look_up(store, &here()).await;
    let [stored] = &*lookup.variants else { panic!("one response was put") };
    let (put, got) = (response("content", "text/html"), &stored.response);
    assert_eq!(got.payload().to_bytes(), put.payload().to_bytes(), "content");
    assert_eq!(got.payload().trailers(), put.payload().trailers(), "trailers");
    assert_eq!(got.head().headers(), put.head().headers(), "fields");
    assert_eq!(got.head().reuse(), put.head().reuse(), "terms of reuse");
    assert_eq!(got.head().status(), put.head().status(), "status");
    assert_eq!(got.head().part, put.head().part, "extent");
    assert!(got.head().groups().eq(put.head().groups()), "groups");
    assert_eq!(stored.expired, None, "nothing was purged");
}

async fn tells_keys_apart<S: Store>(store: &S) {
    let with_part = here().with("part", b"1");
    fill(store, &here(), "plain", "x").await;
    fill(store, &with_part, "part", "x").await;
    assert_eq!(contents(&look_up(store, &here()).await), ["plain"]);
    assert_eq!(contents(&look_up(store, &with_part).await), ["part"]);
    let nothing = look_up(store, &here().with("part", b"2")).await;
    assert!(nothing.variants.is_empty(), "another part is another key");
}

async fn keeps_variants<S: Store>(store: &S) {
    fill(store, &here(), "html", "text/html").await;
    fill(store, &here(), "json", "application/json").await;
    assert_eq!(contents(&look_up(store, &here()).await), ["json", "html"], "the newest first");
    fill(store, &here(), "new html", "text/html").await;
    let lookup = look_up(store, &here()).await;
    assert_eq!(contents(&lookup), ["new html", "json"], "the same selecting fields replace");
}

async fn freshens_what_is_still_there<S: Store>(store: &S) {
    fill(store, &here(), "content", "text/html").await;
    let before = look_up(store, &here()).await;
    let old = &before.variants[0];
    let mut fresh = response("content", "text/html");
    if let Some(head) = std::sync::Arc::get_mut(&mut fresh.head) {
        head.reuse.lifetime = Duration::from_secs(999);
    }
    let key = here();
    let freshen = |id| store.freshen(&key, id, fresh.head().clone(), before.fence);
    assert!(matches!(freshen(old.id).await, Ok(PutOutcome::Stored)), "the response is still there");
    let after = look_up(store, &here()).await;
    assert_eq!(after.variants[0].response.head().reuse().lifetime, Duration::from_secs(999));
    assert_eq!(contents(&after), ["content"], "the content is the old one");
    assert!(matches!(freshen(old.id).await, Ok(PutOutcome::Superseded)), "it has been freshened before");
    fill(store, &here(), "newer", "text/html").await;
    let stale_id = after.variants[0].id;
    assert!(matches!(freshen(stale_id).await, Ok(PutOutcome::Superseded)), "a newer response came first");
    assert_eq!(contents(&look_up(store, &here()).await), ["newer"]);
}

async fn keeps_the_newer_word<S: Store>(store: &S) {
    // Asked for and generated at these seconds, all before any had come in.
    let timed = |content, generated: u64, asked: u64| {
        let mut response = response(content, "x");
        if let Some(head) = std::sync::Arc::get_mut(&mut response.head) {
            let at = |second| head.reuse.date + Duration::from_secs(second);
            (head.reuse.generated, head.reuse.request_time) = (at(generated), at(asked));
            head.reuse.response_time = at(30);
        }
        response
    };
    let fence = look_up(store, &here()).await.fence;
    for (content, generated, asked, expected) in [
        ("first", 10, 10, PutOutcome::Stored),
        ("older by its date", 9, 20, PutOutcome::Superseded),
        ("older by its call", 10, 9, PutOutcome::Superseded),
        ("as new", 10, 10, PutOutcome::Stored),
        ("newer by its call", 10, 11, PutOutcome::Stored),
        ("newer by its date", 11, 0, PutOutcome::Stored),
    ] {
        let written = put(store, &here(), timed(content, generated, asked), fence).await;
        assert_eq!(written, expected, "{content}");
    }
    let newest = look_up(store, &here()).await;
    assert_eq!(contents(&newest), ["newer by its date"]);
    let (key, of) = (here(), newest.variants[0].id);
    let freshened =
        |generated| store.freshen(&key, of, timed("newer by its date", generated, 0).head().clone(), fence);
    assert!(matches!(freshened(10).await, Ok(PutOutcome::Superseded)), "a 304 that is older");
    assert!(matches!(freshened(12).await, Ok(PutOutcome::Stored)), "a 304 that is newer");
}

async fn purges_by_either_uri<S: Store>(store: &S) {
    let key = here().rewritten_to(b"http://example.com/tenant/1");
    for target in [
        PurgeTarget::Uri(here().uri().into()),
        PurgeTarget::Uri(b"http://example.com/tenant/1"[..].into()),
        PurgeTarget::Prefix(b"http://example.com/tenant/"[..].into()),
    ] {
        fill(store, &key, "content", "x").await;
        assert_eq!(contents(&look_up(store, &key).await), ["content"], "{target:?}");
        invalidate(store, &target, PurgeMode::Remove).await;
        assert!(look_up(store, &key).await.variants.is_empty(), "{target:?} removes");
    }
}

async fn purges<S: Store>(store: &S, target: &PurgeTarget) {
    fill(store, &here(), "content", "x").await;
    invalidate(store, target, PurgeMode::Remove).await;
    let after = look_up(store, &here()).await;
    assert!(after.variants.is_empty(), "{target:?} removes");
    fill(store, &here(), "content", "x").await;
    assert_eq!(contents(&look_up(store, &here()).await), ["content"], "{target:?} is over");
}

async fn expires<S: Store>(store: &S, target: &PurgeTarget) {
    fill(store, &here(), "content", "x").await;
    invalidate(store, target, PurgeMode::Expire(purged_at())).await;
    let after = look_up(store, &here()).await;
    let expired: Vec<_> = after.variants.iter().map(|stored| stored.expired).collect();
    assert_eq!(expired, [Some(Expired::new(purged_at(), None))], "{target:?} makes stale");
    fill(store, &here(), "fresh", "x").await;
    let refilled = look_up(store, &here()).await;
    assert_eq!(refilled.variants[0].expired, None, "{target:?} is over");
    invalidate(store, target, PurgeMode::Expire(purged_at())).await;
    invalidate(store, target, PurgeMode::Remove).await;
    let removed = look_up(store, &here()).await;
    assert!(removed.variants.is_empty(), "{target:?} removes what it had expired");
}

async fn refuses_what_was_fetched_before_a_purge<S: Store>(store: &S, target: &PurgeTarget) {
    let before = look_up(store, &here()).await.fence;
    invalidate(store, target, PurgeMode::Remove).await;
    let written = put(store, &here(), response("old", "x"), before).await;
    assert_eq!(written, PutOutcome::Superseded, "{target:?} came after the fence");
    assert!(look_up(store, &here()).await.variants.is_empty(), "{target:?}");
    // The default fence stands before every purge.
    let written = put(store, &here(), response("old", "x"), Fence::default()).await;
    assert_eq!(written, PutOutcome::Superseded, "{target:?} came after the default fence");
    assert!(is_purged(store, &here(), before, PurgeScope::KeyOrAnyGroup).await, "{target:?} touches the key");
    // A soft purge: refused, or stored and stale.
    let before = look_up(store, &here()).await.fence;
    invalidate(store, target, PurgeMode::Expire(purged_at())).await;
    put(store, &here(), response("old", "x"), before).await;
    let after = look_up(store, &here()).await;
    let stale = after.variants.iter().all(|stored| stored.expired.is_some());
    assert!(stale, "{target:?}: fetched before a soft purge, it is never fresh");
}

async fn expect<S: Store>(store: &S) -> (Expected, Fence) {
    let fence = look_up(store, &here()).await.fence;
    let expected = store.expect(&here());
    let fence = expected.fence().unwrap_or(fence);
    (expected, fence)
}

async fn remembers_a_purge_for_what_is_on_its_way<S: Store>(store: &S, target: &PurgeTarget) {
    // Whether or not there was anything stored that it concerned, and whoever else was waiting for the same.
    for is_stored in [false, true] {
        if is_stored {
            fill(store, &here(), "stored", "x").await;
        }
        let (expected, fence) = expect(store).await;
        let another = expect(store).await;
        invalidate(store, target, PurgeMode::Remove).await;
        assert!(look_up(store, &here()).await.variants.is_empty(), "{target:?} removes what is stored");
        drop(another);
        invalidate(store, &PurgeTarget::Uri(b"http://example.com/other"[..].into()), PurgeMode::Remove).await;
        invalidate(store, &PurgeTarget::Tag("other".into()), PurgeMode::Remove).await;
        assert!(
            is_purged(store, &here(), fence, PurgeScope::KeyOrAnyGroup).await,
            "{target:?}: it may be concerned"
        );
        let (_late, late_fence) = expect(store).await;
        let written = put(store, &here(), response("old", "x"), fence).await;
        assert_eq!(written, PutOutcome::Superseded, "{target:?} came while it was on its way");
        drop(expected);
        let written = put(store, &here(), response("new", "x"), late_fence).await;
        assert_eq!(written, PutOutcome::Stored, "{target:?} came before it was asked for");
        assert_eq!(contents(&look_up(store, &here()).await), ["new"], "{target:?}");
    }
    let (_expected, fence) = expect(store).await;
    invalidate(store, target, PurgeMode::Expire(purged_at())).await;
    put(store, &here(), response("old", "y"), fence).await;
    let after = look_up(store, &here()).await;
    let stale = after.variants.iter().all(|stored| stored.expired.is_some());
    assert!(stale, "{target:?}: on its way at a soft purge, it is never fresh");
}

/// What is stored may say that it answers for other queries, so a purge of one of these is about it, too.
async fn remembers_a_purge_of_another_query<S: Store>(store: &S) {
    let another = key_of("http://example.com/news/today?page=2");
    let (expected, fence) = expect(store).await;
    invalidate(store, &PurgeTarget::Uri(another.uri().into()), PurgeMode::Remove).await;
    let mut answers_for_others = response("old", "x");
    if let Some(head) = std::sync::Arc::get_mut(&mut answers_for_others.head) {
        let mut headers = head.headers();
        headers.insert("no-vary-search", HeaderValue::from_static("params"));
        *head = ResponseHead::new(StatusCode::OK, headers, head.reuse().clone());
    }
    let written = put(store, &here(), answers_for_others, fence).await;
    drop(expected);
    if written == PutOutcome::Stored {
        let lookup = look_up(store, &here()).await;
        let fence = lookup.variants[0].fence;
        assert!(is_purged(store, &another, fence, PurgeScope::Key).await, "purged while it was on its way");
    }
    fill(store, &here(), "no more than itself", "x").await;
    assert_eq!(contents(&look_up(store, &here()).await), ["no more than itself"]);
}

async fn purges_of_nothing_concern_nothing<S: Store>(store: &S) {
    const MANY: usize = 2_000;
    fill(store, &here(), "stored", "x").await;
    let (expected, fence) = expect(store).await;
    for number in 0..MANY {
        for target in [
            PurgeTarget::Group(format!("http://example.com {number}").into()),
            PurgeTarget::Key(here().with("part", &number.to_le_bytes())),
            PurgeTarget::Prefix(format!("http://{number}.example/").into_bytes().into()),
            PurgeTarget::Tag(number.to_string().into()),
            PurgeTarget::Uri(format!("http://example.com/{number}").into_bytes().into()),
        ] {
            invalidate(store, &target, PurgeMode::Remove).await;
        }
    }
    assert_eq!(contents(&look_up(store, &here()).await), ["stored"], "none of {MANY} purges names it");
    if expected.fence().is_some() {
        let key = here().with("part", b"");
        let written = put(store, &key, ungrouped("content", "x"), fence).await;
        assert_eq!(written, PutOutcome::Stored, "none of {MANY} purges names what was on its way");
    }
}

async fn purges_nothing_else<S: Store>(store: &S) {
    let others = [
        PurgeTarget::Group("http://example.com new".into()),
        PurgeTarget::Group("http://example.com News".into()),
        PurgeTarget::Group("http://example.org news".into()),
        PurgeTarget::Group("news".into()),
        PurgeTarget::Tag("new".into()),
        PurgeTarget::Tag("News".into()),
        PurgeTarget::Tag("http://example.com news".into()),
        PurgeTarget::Key(here().with("part", b"")),
        PurgeTarget::Key(key_of("http://example.com/news/today?page=2")),
        PurgeTarget::Prefix(b"http://example.com/news/tomorrow"[..].into()),
        PurgeTarget::Prefix(b"https://example.com/"[..].into()),
        PurgeTarget::Uri(b"http://example.com/news/today"[..].into()),
    ];
    fill(store, &here(), "content", "x").await;
    for other in others {
        invalidate(store, &other, PurgeMode::Remove).await;
        assert_eq!(contents(&look_up(store, &here()).await), ["content"], "{other:?}");
    }
}
