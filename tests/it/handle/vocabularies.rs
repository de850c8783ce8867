//! `Surrogate-Key`, `Cache-Tag` and `Cache-Groups` in one store.

use larder::policy::cloudfront::{CachePolicyConfig, Distribution};
use larder::policy::{Fastly, Policies};
use larder::store::PurgeTarget;
use larder::{CachePolicy, StandardPolicy};

use crate::support::{Bench, Reply, cache_builder};

/// Each row of the table names responses in its own way.
fn policy() -> impl CachePolicy {
    let name = http::HeaderName::from_static("cache-tag");
    let distribution = Distribution::new(CachePolicyConfig::caching_optimized()).cache_tag_header(name);
    Policies::new(StandardPolicy::default())
        .path("/fastly/*", Fastly::new())
        .path("/cloudfront/*", distribution)
}

/// Host, path, and the field that names the response.
const PAGES: [(&str, &str, (&str, &str)); 9] = [
    ("a", "/fastly/0", ("surrogate-key", "news Sport")),
    ("a", "/cloudfront/1", ("cache-tag", "News, sport")),
    ("a", "/groups/2", ("cache-groups", "\"news\"")),
    ("b", "/groups/3", ("cache-groups", "\"news\"")),
    // A name that looks like the group of another origin.
    ("a", "/groups/4", ("cache-groups", "\"http://b news\"")),
    // Tags that look like an origin, like a path, and like each other's fields.
    ("a", "/fastly/5", ("surrogate-key", "http://b /groups/3 #news")),
    ("a", "/cloudfront/6", ("cache-tag", "http://b, http://b news")),
    ("a", "/fastly/7", ("cache-tag", "news")),
    ("a", "/cloudfront/8", ("surrogate-key", "news")),
];

#[tokio::test]
async fn fa4_tags_of_three_vocabularies_share_one_index_and_are_not_mixed_up() {
    let group = |origin: &str, name: &str| PurgeTarget::group(origin, name);
    let purges: &[(PurgeTarget, &[usize])] = &[
        // A tag is a name in whatever field: a group has it in every origin. By CloudFront's profile it has no case, and what
        // else has the tag can't be told apart.
        (PurgeTarget::tag("news"), &[0, 1, 2, 3]),
        (PurgeTarget::tag("NEWS"), &[0, 1, 2, 3]),
        (PurgeTarget::tag("Sport"), &[0, 1]),
        (PurgeTarget::tag("sport"), &[0, 1]),
        (PurgeTarget::tag_any_case("NEWS"), &[0, 1, 2, 3]),
        (PurgeTarget::tag_any_case("sport"), &[0, 1]),
        (PurgeTarget::from_invalidation("#news").unwrap(), &[0, 1, 2, 3]),
        // A group is that of one origin, whatever the scheme, and in no other field.
        (group("http://a", "news"), &[2]),
        (group("http://b", "news"), &[3]),
        (group("https://a", "news"), &[2]),
        (group("http://a", "News"), &[]),
        (group("http://a", "Sport"), &[]),
        (group("http://a", "http://b news"), &[4]),
        (PurgeTarget::tag("http://b news"), &[4]),
        (PurgeTarget::tag_any_case("HTTP://B NEWS"), &[4]),
        // A bare name is a tag.
        (PurgeTarget::Group("news".into()), &[0, 1, 2, 3]),
        (PurgeTarget::tag("http://b"), &[5, 6]),
        (PurgeTarget::Group("http://b".into()), &[5, 6]),
        (PurgeTarget::tag("/groups/3"), &[5]),
        (PurgeTarget::tag("#news"), &[5]),
        // What is no tag, and a path that is one, too.
        (PurgeTarget::tag("ne"), &[]),
        (PurgeTarget::tag(""), &[]),
        (PurgeTarget::path("/groups/3"), &[3]),
        (PurgeTarget::uri("http://b"), &[]),
    ];
    for (target, gone) in purges {
        for is_soft in [false, true] {
            let bench = Bench::with(cache_builder().policy(policy()), [Reply::cc("x", "max-age=60")]);
            for (host, path, (name, value)) in PAGES {
                bench.origin.then(Reply::cc("x", "max-age=60").field(name, value));
                bench.get_with(path, &[("host", host)]).await;
                assert!(bench.get_with(path, &[("host", host)]).await.is_hit(), "{path}");
            }
            let handle = &bench.handle;
            if is_soft { handle.soft_purge_target(target).await } else { handle.purge_target(target).await }
                .unwrap();
            let mut missing = Vec::new();
            for (at, (host, path, _)) in PAGES.into_iter().enumerate() {
                if !bench.get_with(path, &[("host", host)]).await.is_hit() {
                    missing.push(at);
                }
            }
            assert_eq!(missing, *gone, "{target}, soft: {is_soft}");
        }
    }
}
