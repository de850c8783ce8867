//! What is purged is gone or stale.

use std::time::Duration;

use super::fixtures::{
    group_targets, here, key_of, key_targets, purged_at, response, targets, ungrouped, until,
};
use super::fleet::Fleet;
use super::subject::{Nodes, Subject};
use crate::entry::key::CacheKey;
use crate::store::{Expired, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome, Store};

/// By every kind of target. What is fetched afterwards is found.
pub async fn a_purge_removes_what_its_target_names<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.fill(&here(), "old", "x").await;
                fleet.finds(&here(), &["old"], "it was put").await;
                fleet.invalidate(&target, PurgeMode::Remove).await;
                fleet.finds_nothing(&here(), &format!("{target:?} removes")).await;
                fleet.fill(&here(), "new", "x").await;
                fleet.finds(&here(), &["new"], &format!("{target:?} is over")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// What the reader finds is stale as is expected, and nothing else is there.
async fn finds_expired<N: Nodes>(fleet: &Fleet<'_, N>, expected: Option<Expired>, why: &str) {
    let check = |lookup: &Lookup| {
        let expired: Vec<_> = lookup.variants.iter().map(|stored| stored.expired).collect();
        match expired == [expected] {
            true => Ok(()),
            false => Err(format!("{expired:?}, not {expected:?}: {why}")),
        }
    };
    fleet.look_up_until(&here(), check).await;
}

/// By every kind of target: it is still there, and says since when it is stale.
pub async fn a_soft_purge_makes_stale_what_its_target_names<N: Nodes>(subject: &Subject<'_, N>) {
    let mode = PurgeMode::Expire(purged_at());
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.fill(&here(), "old", "x").await;
                fleet.finds(&here(), &["old"], "it was put").await;
                fleet.invalidate(&target, mode).await;
                let expired = Expired::new(purged_at(), None);
                finds_expired(fleet, Some(expired), &format!("{target:?} makes stale")).await;
                fleet.finds(&here(), &["old"], &format!("{target:?} leaves it there")).await;
                fleet.invalidate(&target, PurgeMode::Remove).await;
                fleet.finds_nothing(&here(), &format!("{target:?} removes what it had expired")).await;
            }
        })
        .await;
}

/// What was expired is replaced, wherever the newer response comes from.
pub async fn what_is_asked_for_after_a_soft_purge_is_fresh<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way_of_replacing(async |fleet| {
            for target in targets() {
                fleet.fill(&here(), "old", "x").await;
                fleet.finds(&here(), &["old"], "it was put").await;
                fleet.invalidate(&target, PurgeMode::Expire(purged_at())).await;
                fleet.fill(&here(), "fresh", "x").await;
                fleet.finds(&here(), &["fresh"], &format!("{target:?} is over")).await;
                finds_expired(fleet, None, &format!("{target:?} is over")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// By every kind of target: since when it is stale, and from when on it is gone.
pub async fn an_expiry_with_an_end_says_so<N: Nodes>(subject: &Subject<'_, N>) {
    let expected = Expired::new(purged_at(), Some(purged_at() + Duration::from_secs(60)));
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.fill(&here(), "old", "x").await;
                fleet.finds(&here(), &["old"], "it was put").await;
                fleet.invalidate(&target, until(60)).await;
                finds_expired(fleet, Some(expected), &format!("{target:?}")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// It is stale since the first of them, and gone from the earliest end on, in whatever order they come.
pub async fn soft_purges_add_up<N: Nodes>(subject: &Subject<'_, N>) {
    let soft = PurgeMode::Expire(purged_at());
    let end = |seconds| Some(Expired::new(purged_at(), Some(purged_at() + Duration::from_secs(seconds))));
    subject
        .each_way(async |fleet| {
            for (modes, expected) in [
                (&[soft, until(60)][..], end(60)),
                (&[until(60), soft], end(60)),
                (&[until(60), until(90)], end(60)),
                (&[until(90), until(60)], end(60)),
            ] {
                fleet.fill(&here(), "old", "x").await;
                for (mode, target) in modes.iter().zip([PurgeTarget::tag("news"), PurgeTarget::Key(here())]) {
                    fleet.invalidate(&target, *mode).await;
                }
                finds_expired(fleet, expected, &format!("{modes:?}")).await;
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
            // Many of one target, of which a store may not keep every one: the end holds.
            fleet.fill(&here(), "old", "x").await;
            fleet.invalidate(&PurgeTarget::Key(here()), until(60)).await;
            for _ in 0..100 {
                fleet.invalidate_now(&PurgeTarget::Key(here()), soft).await;
            }
            finds_expired(fleet, end(60), "no end is forgotten").await;
        })
        .await;
}

/// Each of them, and each by any of its names.
pub async fn one_call_purges_many_targets<N: Nodes>(subject: &Subject<'_, N>) {
    let keys: Vec<_> = (0..8).map(|number| key_of(&format!("http://host-{number}.example/"))).collect();
    subject
        .each_way(async |fleet| {
            for mode in [PurgeMode::Remove, PurgeMode::Expire(purged_at())] {
                for key in &keys {
                    fleet.fill_with(key, ungrouped("content", "x")).await;
                }
                let named: Vec<_> = keys.iter().map(|key| PurgeTarget::Uri(key.uri().into())).collect();
                fleet.invalidate_all(&named, mode).await;
                for (number, key) in keys.iter().enumerate() {
                    fleet.finds_nothing_fresh(key, &format!("{mode:?}, target {number}")).await;
                }
            }
        })
        .await;
}

/// As a list of a thousand from an invalidation, of which the last counts as well as the first.
pub async fn one_call_purges_a_thousand_targets<N: Nodes>(subject: &Subject<'_, N>) {
    const COUNT: usize = 1_000;
    let key = |number: usize| key_of(&format!("http://example.com/{number}"));
    let named: Vec<_> = (0..COUNT).map(|number| PurgeTarget::Uri(key(number).uri().into())).collect();
    subject
        .each_way(async |fleet| {
            let some = [0, 1, 499, 998, 999].map(key);
            for key in &some {
                fleet.fill_with(key, ungrouped("content", "x")).await;
            }
            fleet.fill(&here(), "another", "x").await;
            fleet.invalidate_all(&named, PurgeMode::Remove).await;
            for key in &some {
                fleet.finds_nothing(key, &format!("{key:?} is one of {COUNT} targets")).await;
            }
            if subject.capabilities.exact_purges {
                fleet.finds(&here(), &["another"], "it is none of them").await;
            }
        })
        .await;
}

/// It is no purge, and no failure.
pub async fn a_purge_of_no_targets_changes_nothing<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            fleet.fill(&here(), "content", "x").await;
            let number = fleet.invalidate_all_now(&[], PurgeMode::Remove).await;
            assert_eq!(number, PurgeNumber::default(), "the number of no purge");
            fleet.finds(&here(), &["content"], "nothing was purged").await;
        })
        .await;
}

/// Whichever node purges. The same purge again has the same effect and another number, as has one of several targets, or of
/// nothing that is there.
pub async fn each_purge_has_a_greater_number_than_those_before<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            fleet.fill(&here(), "content", "x").await;
            let mut last = PurgeNumber::default();
            let all = targets();
            let calls = all.iter().flat_map(|target| [std::slice::from_ref(target); 2]).chain([&all[..]]);
            for mode in [PurgeMode::Expire(purged_at()), PurgeMode::Remove] {
                for (turn, targets) in calls.clone().enumerate() {
                    let node = if turn.is_multiple_of(2) { fleet.purger() } else { fleet.reader() };
                    let number = super::fleet::sure(node.invalidate(targets, mode).await);
                    assert!(number > last, "{number} after {last}: {targets:?}");
                    last = number;
                }
                fleet.finds_nothing_fresh(&here(), &format!("{mode:?}")).await;
            }
            fleet.finds_nothing(&here(), "it was purged").await;
        })
        .await;
}

/// A URI names what is stored under it for whomever.
pub async fn a_purge_of_a_uri_reaches_keys_with_further_parts<N: Nodes>(subject: &Subject<'_, N>) {
    let key = here().with("user", b"1");
    subject
        .each_way(async |fleet| {
            for target in key_targets().into_iter().filter(|target| !matches!(target, PurgeTarget::Key(_))) {
                fleet.fill(&key, "old", "x").await;
                fleet.invalidate(&target, PurgeMode::Remove).await;
                fleet.finds_nothing(&key, &format!("{target:?} reaches {key:?}")).await;
            }
        })
        .await;
}

/// The key of a whole names its slices too ([`CacheKey::whole`](crate::CacheKey::whole)), whichever are there; that of a slice, the
/// slice alone.
pub async fn a_purge_of_a_key_reaches_its_slices<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for whole in [here(), here().with("user", b"1")] {
                let slices = [whole.clone().for_slice(1, 1024), whole.clone().for_slice(7, 2048)];
                let fill = async || {
                    for key in slices.iter().chain([&whole]) {
                        fleet.fill(key, "content", "x").await;
                        fleet.finds(key, &["content"], "it was put").await;
                    }
                };
                for mode in [PurgeMode::Remove, PurgeMode::Expire(purged_at())] {
                    fill().await;
                    fleet.invalidate(&PurgeTarget::Key(whole.clone()), mode).await;
                    for key in slices.iter().chain([&whole]) {
                        fleet
                            .finds_nothing_fresh(key, &format!("{key:?} is {whole:?} or a slice of it"))
                            .await;
                    }
                    let (_expected, fence) = fleet.expect(&slices[0]).await;
                    fleet.invalidate(&PurgeTarget::Key(whole.clone()), mode).await;
                    let is_purged = fleet.is_purged(&slices[0], fence, PurgeScope::Key).await;
                    assert!(is_purged, "{mode:?} of {whole:?} concerns a slice that is on its way");
                }
                fill().await;
                fleet.invalidate(&PurgeTarget::Key(slices[0].clone()), PurgeMode::Remove).await;
                fleet.finds_nothing(&slices[0], "its own key was purged").await;
                if subject.capabilities.exact_purges {
                    fleet.finds(&slices[1], &["content"], "another slice was purged").await;
                    fleet.finds(&whole, &["content"], "a slice of it was purged").await;
                    fleet.invalidate(&PurgeTarget::Key(whole.with("other", b"")), PurgeMode::Remove).await;
                    fleet.finds(&slices[1], &["content"], "another key was purged").await;
                }
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// What a middleware has rewritten is stored under both URIs ([`CacheKey::uris`](crate::CacheKey::uris)).
pub async fn a_purge_reaches_either_uri_of_a_key<N: Nodes>(subject: &Subject<'_, N>) {
    let key = here().rewritten_to(b"http://inner.example/tenant/1");
    let targets = [
        PurgeTarget::Uri(here().uri().into()),
        PurgeTarget::host("example.com"),
        PurgeTarget::host("inner.example"),
        PurgeTarget::path("/tenant/1"),
        PurgeTarget::path_prefix("/tenant/"),
        PurgeTarget::prefix("http://inner.example/tenant/"),
        PurgeTarget::uri("http://inner.example/tenant/1"),
    ];
    subject
        .each_way(async |fleet| {
            for target in &targets {
                fleet.fill(&key, "content", "x").await;
                fleet.finds(&key, &["content"], &format!("before {target:?}")).await;
                fleet.invalidate(target, PurgeMode::Remove).await;
                fleet.finds_nothing(&key, &format!("{target:?} removes")).await;
            }
        })
        .await;
}

/// Fills these keys in turn with responses in the group `news` or in none, purges, and looks which of them are left.
async fn reaches<N: Nodes>(
    subject: &Subject<'_, N>,
    target: &PurgeTarget,
    keys: &[(CacheKey, Option<&str>, bool)],
) {
    subject
        .each_way(async |fleet| {
            for mode in [PurgeMode::Expire(purged_at()), PurgeMode::Remove] {
                for (key, group, _) in keys {
                    let response = match group {
                        Some(group) => super::fixtures::grouped("content", group),
                        None => ungrouped("content", "x"),
                    };
                    fleet.fill_with(key, response).await;
                    fleet.finds(key, &["content"], "it was put").await;
                }
                fleet.invalidate(target, mode).await;
                for (key, _, is_named) in keys {
                    let why = format!("{target:?}, {mode:?}, {key:?}");
                    match (is_named, mode) {
                        (true, PurgeMode::Remove) => fleet.finds_nothing(key, &why).await,
                        (true, _) => fleet.finds_nothing_fresh(key, &why).await,
                        (false, _) if subject.capabilities.exact_purges => {
                            fleet.finds(key, &["content"], &why).await;
                        }
                        (false, _) => {}
                    }
                }
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// In every origin, and no response without it.
pub async fn a_tag_reaches_every_response_that_has_it<N: Nodes>(subject: &Subject<'_, N>) {
    let keys = [
        (key_of("http://one.example/a"), Some("http://one.example news"), true),
        (key_of("https://two.example/b?x=1"), Some("https://two.example news"), true),
        (key_of("http://one.example/c").with("user", b"1"), Some("http://one.example news"), true),
        (key_of("http://one.example/d"), Some("http://one.example sport"), false),
        (key_of("http://one.example/news"), None, false),
    ];
    reaches(subject, &PurgeTarget::tag("news"), &keys).await;
}

/// And what has the same name in another origin stays.
pub async fn a_group_reaches_every_response_of_its_origin<N: Nodes>(subject: &Subject<'_, N>) {
    let keys = [
        (key_of("http://one.example/a"), Some("http://one.example news"), true),
        (key_of("http://one.example/b?x=1"), Some("http://one.example news"), true),
        (key_of("http://two.example/a"), Some("http://two.example news"), false),
        (key_of("http://one.example/d"), None, false),
    ];
    reaches(subject, &PurgeTarget::group("http://one.example", "news"), &keys).await;
}

/// Everything below it, whatever the query and the further parts.
pub async fn a_prefix_reaches_everything_below_it<N: Nodes>(subject: &Subject<'_, N>) {
    let keys = [
        (key_of("http://one.example/shop/"), None, true),
        (key_of("http://one.example/shop/a/b/c?x=1"), None, true),
        (key_of("http://one.example/shop/a").with("user", b"1"), Some("http://one.example news"), true),
        (key_of("http://one.example/shopping"), None, false),
        (key_of("http://one.example/"), None, false),
        (key_of("http://two.example/shop/a"), None, false),
    ];
    reaches(subject, &PurgeTarget::prefix("http://one.example/shop/"), &keys).await;
}

/// On every host.
pub async fn a_path_prefix_reaches_everything_below_it_on_every_host<N: Nodes>(subject: &Subject<'_, N>) {
    let keys = [
        (key_of("http://one.example/shop/a"), None, true),
        (key_of("https://two.example/shop/b?x=1"), None, true),
        (key_of("http://one.example/shopping"), None, false),
        (key_of("http://one.example/a/shop/a"), None, false),
    ];
    reaches(subject, &PurgeTarget::path_prefix("/shop/"), &keys).await;
}

/// Under either scheme.
pub async fn a_host_reaches_everything_on_it<N: Nodes>(subject: &Subject<'_, N>) {
    let keys = [
        (key_of("http://one.example/"), None, true),
        (key_of("https://one.example/a/b?x=1"), None, true),
        (key_of("http://one.example/c").with("user", b"1"), Some("http://one.example news"), true),
        (key_of("http://www.one.example/"), None, false),
        (key_of("http://one.example:8080/"), None, false),
        (key_of("http://two.example/"), None, false),
    ];
    reaches(subject, &PurgeTarget::host("one.example"), &keys).await;
}

/// Whatever it is.
pub async fn a_purge_of_all_reaches_everything<N: Nodes>(subject: &Subject<'_, N>) {
    let keys = [
        (key_of("http://one.example/"), None, true),
        (key_of("https://two.example/a/b?x=1"), Some("https://two.example news"), true),
        (here().with("user", b"1"), None, true),
    ];
    reaches(subject, &PurgeTarget::All, &keys).await;
}

/// By every kind of target: a purge of what one variant has reaches that one alone, unless it names the key.
pub async fn a_purge_reaches_the_variants_that_it_names<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.fill_with(&here(), ungrouped("in no group", "text/html")).await;
                fleet.fill(&here(), "grouped", "application/json").await;
                fleet.finds(&here(), &["grouped", "in no group"], "they were put").await;
                fleet.invalidate(&target, PurgeMode::Remove).await;
                let is_of_key = !group_targets().contains(&target);
                match is_of_key {
                    true => fleet.finds_nothing(&here(), &format!("{target:?}")).await,
                    false if subject.capabilities.exact_purges => {
                        fleet.finds(&here(), &["in no group"], &format!("{target:?}")).await;
                    }
                    false => {}
                }
                fleet.invalidate(&PurgeTarget::All, PurgeMode::Remove).await;
            }
        })
        .await;
}

/// Names that are much alike are not the same.
pub async fn a_purge_leaves_alone_what_it_does_not_name<N: Nodes>(subject: &Subject<'_, N>) {
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
    subject
        .each_way(async |fleet| {
            fleet.fill(&here(), "content", "x").await;
            for other in &others {
                fleet.invalidate(other, PurgeMode::Remove).await;
                fleet.finds(&here(), &["content"], &format!("{other:?}")).await;
            }
            fleet.invalidate_all(&others, PurgeMode::Remove).await;
            fleet.finds(&here(), &["content"], "all of them in one call").await;
        })
        .await;
}

/// Strangers purge what does not exist, by unsafe requests; and as many prefixes as are known exactly.
pub async fn many_purges_of_nothing_hit_nothing<N: Nodes>(subject: &Subject<'_, N>) {
    const MANY: usize = 2_000;
    subject
        .each_way_of_purging(async |fleet| {
            fleet.fill(&here(), "stored", "x").await;
            let (expected, fence) = fleet.expect(&here()).await;
            for number in 0..MANY {
                let prefix = PurgeTarget::prefix(format!("http://{number}.example/x"));
                let nothing = [
                    PurgeTarget::group("http://example.com", &number.to_string()),
                    PurgeTarget::host(format!("{number}.example")),
                    PurgeTarget::Key(here().with("part", &number.to_le_bytes())),
                    PurgeTarget::prefix(format!("http://{number}.example/")),
                    PurgeTarget::tag(number.to_string()),
                    PurgeTarget::tag_any_case(number.to_string()),
                    PurgeTarget::uri(format!("http://example.com/{number}")),
                ];
                let mut nothing = nothing.to_vec();
                nothing.extend((number < subject.capabilities.exact_prefixes).then_some(prefix));
                fleet.invalidate_all_now(&nothing, PurgeMode::Remove).await;
            }
            fleet.finds(&here(), &["stored"], &format!("none of {MANY} purges names it")).await;
            if expected.fence().is_some() {
                let key = here().with("part", b"");
                let written = fleet.put(&key, ungrouped("content", "x"), fence).await;
                let why = format!("none of {MANY} purges names what was on its way");
                assert_eq!(written, PutOutcome::Stored, "{why}");
            }
        })
        .await;
}

/// Hard or soft, by every kind of target; with a guard ([`Store::expect`]) or without.
pub async fn a_purge_is_seen_by_purged_since<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for mode in [PurgeMode::Remove, PurgeMode::Expire(purged_at()), until(60)] {
                for target in targets() {
                    let before = fleet.look_up_to_fill(&here()).await.fence;
                    let (_expected, guarded) = fleet.expect(&here()).await;
                    fleet.invalidate(&target, mode).await;
                    for fence in [before, guarded, Default::default()] {
                        let any_group = fleet.is_purged(&here(), fence, PurgeScope::KeyOrAnyGroup).await;
                        assert!(any_group, "{target:?}, {mode:?} may concern the key");
                        if !group_targets().contains(&target) {
                            let of_key = fleet.is_purged(&here(), fence, PurgeScope::Key).await;
                            assert!(of_key, "{target:?}, {mode:?} concerns the key");
                        }
                    }
                }
            }
        })
        .await;
}

/// What a purge has removed does not come back by another one, of something else.
pub async fn what_was_purged_stays_away<N: Nodes>(subject: &Subject<'_, N>) {
    subject
        .each_way(async |fleet| {
            for target in targets() {
                fleet.fill_with(&here(), response("old", "x")).await;
                fleet.invalidate(&target, PurgeMode::Remove).await;
                fleet.invalidate_now(&target, PurgeMode::Expire(purged_at())).await;
                fleet.invalidate_now(&PurgeTarget::uri("http://other.example/"), PurgeMode::Remove).await;
                for turn in 0..3 {
                    fleet.finds_nothing(&here(), &format!("{target:?}, look-up {turn}")).await;
                    fleet.fill(&key_of("http://other.example/"), "another", "x").await;
                }
            }
        })
        .await;
}
