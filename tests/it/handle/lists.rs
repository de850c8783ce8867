//! Items of an invalidation list, as operators write them.

use larder::policy::{KeyRules, QueryRules};
use larder::store::PurgeTarget;
use larder::{CachePolicy, PurgeError, StandardPolicy};

use crate::support::{Bench, Reply, cache_builder};

const PAGES: [(&str, &str); 8] = [
    ("a", "/images/1"),
    ("a", "/images"),
    ("a", "/images/1?w=2"),
    ("b", "/images/1"),
    ("b", "/Images/1"),
    ("b", "/a*b"),
    ("a", "/a-b"),
    ("aa", "/"),
];

/// Which pages an item takes away.
async fn gone(policy: impl CachePolicy, item: &str) -> Result<Vec<usize>, PurgeError> {
    let reply = Reply::cc("x", "max-age=60").field("cache-groups", "\"News\"");
    let bench = Bench::with(cache_builder().policy(policy), [reply]);
    for (host, path) in PAGES {
        bench.get_with(path, &[("host", host)]).await;
    }
    bench.handle.purge_target(&PurgeTarget::from_invalidation(item).expect(item)).await?;
    let mut gone = Vec::new();
    for (at, (host, path)) in PAGES.into_iter().enumerate() {
        let only = [("host", host), ("cache-control", "only-if-cached")];
        if !bench.get_with(path, &only).await.is_hit() {
            gone.push(at);
        }
    }
    Ok(gone)
}

#[tokio::test]
async fn cf6_an_item_of_a_list_takes_away_what_it_names_and_nothing_else() {
    let all: Vec<_> = (0..PAGES.len()).collect();
    for (item, expected) in [
        ("*", &all[..]),
        ("/*", &all),
        ("#news", &all),
        ("/images/*", &[0, 2, 3]),
        ("/images*", &[0, 1, 2, 3]),
        ("/images/1", &[0, 3]),
        ("/images/1?w=2", &[2]),
        ("/images/1?*", &[2]),
        ("/images/", &[]),
        ("/Images/*", &[4]),
        ("/a*b", &[5]),
        ("/", &[7]),
        ("http://a/*", &[0, 1, 2, 6]),
        ("HTTP://A:80/images/*", &[0, 2]),
        ("http://a/images/1", &[0]),
        ("http://aa", &[7]),
        // A server in front may have ended TLS.
        ("https://a/*", &[0, 1, 2, 6]),
        ("https://a:8443/*", &[]),
        ("#new", &[]),
    ] {
        assert_eq!(gone(StandardPolicy::default(), item).await.unwrap(), expected, "{item}");
    }
}

#[tokio::test]
async fn cf6_an_item_with_a_query_means_what_all_queries_share_where_they_are_not_in_the_key() {
    let rules = KeyRules::new().query(QueryRules::none());
    for (item, expected) in [
        ("/images/1", &[0, 2, 3][..]),
        ("/images/1?w=3", &[0, 2, 3]),
        ("http://a/images/1?w=3", &[0, 2]),
        ("http://a/images/1?*", &[0, 2]),
    ] {
        let policy = StandardPolicy::default().key(rules.clone());
        assert_eq!(gone(policy, item).await.unwrap(), expected, "{item}");
    }
}

#[tokio::test]
async fn b15_an_item_whose_host_no_key_has_is_an_error() {
    let error = gone(StandardPolicy::default(), "https://user@a/x").await.unwrap_err();
    assert!(matches!(error, PurgeError::NoKey(_)), "{error}");
}
