//! What an operator sees of what is stored.

use std::time::Duration;

use http::Method;
use larder::policy::{KeyRules, Peers, TrustedPeer};
use larder::store::PurgeTarget;
use larder::{CacheKey, CachePolicy, CachePolicyExt, PolicyData, RequestAction, ShownValue, StandardPolicy};

use super::explain::request;
use crate::support::{Bench, Reply, cache_builder};

fn text(text: &str) -> ShownValue {
    ShownValue::Text(text.to_owned())
}

#[tokio::test]
async fn all_variants_of_a_uri_are_shown_with_what_selects_them() {
    let reply = |body: &str| Reply::cc(body, "max-age=60, stale-if-error=7").field("vary", "accept-language");
    let bench = Bench::new([reply("one"), reply("three")]);
    bench.get_with("/x", &[("accept-language", "de")]).await;
    bench.later(10);
    bench.get_with("/x", &[("accept-language", "en")]).await;
    let found = bench.handle.inspect(&request(Method::GET, "/x", &[("accept-language", "de")])).await;
    assert_eq!(found.keys.len(), 1, "{found:?}");
    let key = &found.keys[0];
    assert!(key.is_of_request && !key.failed && key.parts.is_empty(), "{key:?}");
    assert_eq!(key.key.uri(), b"http://example.com/x");
    let [en, de] = &key.variants[..] else { panic!("{key:?}") };
    assert_eq!((en.selected, de.selected), (false, true));
    assert_eq!(de.selecting, [("accept-language".to_owned(), text("de"))]);
    assert_eq!((de.age, de.lifetime, de.ttl), (Some(Duration::from_secs(10)), Duration::from_secs(60), 50));
    assert_eq!((de.stale_if_error, de.size, de.status.as_u16()), (Some(Duration::from_secs(7)), 3, 200));
    assert_eq!((en.size, en.ttl), (5, 60));
    bench.handle.soft_purge_target(&PurgeTarget::All).await.unwrap();
    let found = bench.handle.inspect(&request(Method::GET, "/x", &[])).await;
    assert!(found.keys[0].variants.iter().all(|variant| variant.expired.is_some() && variant.ttl <= 0));
    bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
    let found = bench.handle.inspect(&request(Method::GET, "/x", &[])).await;
    assert!(found.keys[0].variants.is_empty());
}

#[tokio::test]
async fn a19_no_secret_of_a_stored_response_is_shown() {
    let reply = Reply::cc("x", "public, max-age=60")
        .field("set-cookie", "session=secret")
        .field("x-auth-token", "secret")
        .field("vary", "authorization, accept-language")
        .field("cache-groups", "\"news\"")
        .field("content-type", "text/plain");
    let policy = StandardPolicy::default().key(KeyRules::new().cookies(["id"]));
    let bench = Bench::with(cache_builder().policy(policy), [reply]);
    let fields = [("authorization", "Basic secret"), ("cookie", "id=secret")];
    bench.get_with("/x", &fields).await;
    let found = bench.handle.inspect(&request(Method::GET, "/x", &fields)).await;
    let shown = format!("{found:?}");
    assert!(!shown.contains("=secret") && !shown.contains("\"secret") && !shown.contains("Basic"), "{shown}");
    let of_request = found.keys.iter().find(|key| key.is_of_request).unwrap();
    let variant = &of_request.variants[0];
    let field =
        |name: &str| variant.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
    assert_eq!(field("set-cookie"), Some(ShownValue::Hidden));
    assert_eq!(field("x-auth-token"), Some(ShownValue::Hidden));
    assert_eq!(field("content-type"), Some(text("text/plain")));
    assert_eq!(variant.tags, ["http://example.com news"]);
    let selecting: Vec<_> = variant.selecting.iter().map(|(name, value)| (&**name, value.clone())).collect();
    assert_eq!(selecting, [("accept-language", ShownValue::Absent), ("authorization", ShownValue::Hidden)]);
    assert_eq!(of_request.parts[0].value, ShownValue::Hidden, "{of_request:?}");
}

#[tokio::test]
async fn a_request_that_bypasses_the_cache_is_looked_up_by_its_uri() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    bench.get("/x").await;
    let post = bench.handle.inspect(&request(Method::POST, "/x", &[])).await;
    assert_eq!(post.keys[0].variants.len(), 1, "{post:?}");
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let bypass = bench.handle.inspect(&request(Method::GET, "/x", &upgrade)).await;
    assert_eq!(bypass.keys[0].variants.len(), 1, "{bypass:?}");
}

#[tokio::test]
async fn fa9_what_is_kept_for_other_caches_is_shown_and_said_to_be_theirs() {
    let peer = http::HeaderName::from_static("x-peer");
    let policy = StandardPolicy::default().with_peers(Peers::new().token(peer, "secret"));
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    bench.get_with("/x", &[("x-peer", "secret")]).await;
    let client = request(Method::GET, "/x", &[]);
    let mut marked = client.clone();
    marked.extensions.insert(TrustedPeer::new());
    let forged = request(Method::GET, "/x", &[("x-peer", "guess"), ("larder-peer", "")]);
    for (asked, first_is_for_peers) in [(client, false), (marked, true), (forged, false)] {
        let found = bench.handle.inspect(&asked).await;
        let [first, second] = &found.keys[..] else { panic!("{found:?}") };
        assert_eq!((first.is_of_request, second.is_of_request), (true, false));
        assert_eq!((first.is_for_peers, second.is_for_peers), (first_is_for_peers, !first_is_for_peers));
        for key in &found.keys {
            assert_eq!(key.variants.len(), usize::from(key.is_for_peers), "{key:?}");
            assert!(key.variants.iter().all(|variant| variant.selected), "{key:?}");
            assert_eq!(key.key.uri(), b"http://example.com/x");
        }
    }
}

/// Keeps responses under a key that only its hook `spellings` knows beforehand, as a policy that divides clients by what they
/// have bought.
struct Divided;

impl CachePolicy for Divided {
    fn request(&self, request: &mut http::request::Parts, _: &mut PolicyData) -> RequestAction {
        match (CacheKey::of(request), request.headers.contains_key("x-member")) {
            (Ok(key), true) => RequestAction::Cache(key.with("tier", b"member")),
            _ => RequestAction::of(request),
        }
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        match target {
            PurgeTarget::Key(key) => vec![PurgeTarget::Key(key.clone().with("tier", b"member"))],
            _ => Vec::new(),
        }
    }
}

#[tokio::test]
async fn what_is_stored_under_another_spelling_of_the_policy_is_shown() {
    let bench = Bench::with(cache_builder().policy(Divided), [Reply::cc("x", "max-age=60")]);
    let asked = request(Method::GET, "/x", &[]);
    assert_eq!(bench.handle.inspect(&asked).await.keys.len(), 1, "nothing is there");
    bench.get_with("/x", &[("x-member", "1")]).await;
    let found = bench.handle.inspect(&asked).await;
    let [own, spelled] = &found.keys[..] else { panic!("{found:?}") };
    assert!(own.is_of_request && own.variants.is_empty() && !own.is_for_peers, "{own:?}");
    assert!(!spelled.is_of_request && !spelled.is_for_peers, "{spelled:?}");
    assert_eq!((spelled.variants.len(), &spelled.parts[0].value), (1, &text("member")));
}
