//! Purges, validations and newer responses that arrive while a response is fetched (F8, F9, F15).

use std::time::Duration;

use http::Uri;
use larder::store::PurgeTarget;

use crate::support::{CacheHandle, Stage, Step, settle};

const HEAD: [(&str, &str); 3] =
    [("cache-control", "max-age=60"), ("cache-groups", "\"g\""), ("etag", "\"a\"")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    All,
    Group,
    Host,
    Key,
    Path,
    PathPrefix,
    Prefix,
    Tag,
    TagAnyCase,
    Uri,
}

const ALL: [By; 10] = [
    By::All,
    By::Group,
    By::Host,
    By::Key,
    By::Path,
    By::PathPrefix,
    By::Prefix,
    By::Tag,
    By::TagAnyCase,
    By::Uri,
];

async fn purge(handle: &CacheHandle, by: By, is_soft: bool) {
    let target = match by {
        By::All => PurgeTarget::All,
        By::Group => PurgeTarget::Group("http://example.com g".into()),
        By::Key => {
            let request = http::Request::get("http://example.com/").body(()).unwrap();
            PurgeTarget::Key(larder::CacheKey::of(&request.into_parts().0).unwrap())
        }
        By::Host => PurgeTarget::host("example.com"),
        By::Path => PurgeTarget::path("/"),
        By::PathPrefix => PurgeTarget::path_prefix("/"),
        By::Tag => PurgeTarget::tag("g"),
        By::TagAnyCase => PurgeTarget::tag_any_case("G"),
        By::Prefix => PurgeTarget::Prefix(b"http://example.com/"[..].into()),
        By::Uri => {
            let uri = Uri::from_static("http://example.com/");
            if is_soft { handle.soft_purge(&uri).await } else { handle.purge(&uri).await }.unwrap();
            return;
        }
    };
    if is_soft { handle.soft_purge_target(&target).await } else { handle.purge_target(&target).await }
        .unwrap();
}

/// After how many steps of the old answer the purge comes, and after how many the new answer is there.
async fn purge_against_fill(
    by: By,
    is_soft: bool,
    purged_at: usize,
    renewed_at: usize,
    length: Option<&str>,
) {
    let case = format!("{by:?}, soft: {is_soft}, purged at {purged_at}, renewed at {renewed_at}, {length:?}");
    let stage = Stage::new();
    let fields: Vec<_> = HEAD.into_iter().chain(length.map(|length| ("content-length", length))).collect();
    let steps = [Step::head(200, &fields), Step::frame("o"), Step::frame("l"), Step::frame("d"), Step::End];
    let leader = stage.get("/");
    settle().await;
    let follower = stage.get("/");
    settle().await;
    let old = stage.origin.call(0);
    let mut later = Vec::new();
    for at in 0..=steps.len() {
        if at == purged_at {
            purge(&stage.handle, by, is_soft).await;
            later = stage.herd(5, &[]);
            settle().await;
            assert_eq!(stage.origin.calls(), 2, "{case}: asked after the purge, in one call");
        }
        if at == renewed_at {
            let new = [("cache-control", "max-age=60"), ("cache-groups", "\"g\""), ("etag", "\"b\"")];
            stage.origin.call(1).head(&new).frame("n").frame("ew").end();
            settle().await;
        }
        if let Some(step) = steps.get(at) {
            old.step(step.clone());
            settle().await;
        }
    }
    for client in [leader, follower] {
        let seen = client.seen().await;
        assert_eq!((&*seen.body, seen.broken), ("old", false), "{case}: asked before the purge");
    }
    for client in later {
        let seen = client.seen().await;
        assert_eq!((&*seen.body, seen.broken), ("new", false), "{case}");
    }
    let seen = stage.get_with("/", &[("cache-control", "only-if-cached")]).seen().await;
    assert!(seen.is_hit() && seen.body == "new", "{case}: {seen:?}");
    assert_eq!(stage.origin.calls(), 2, "{case}");
}

#[tokio::test(start_paused = true)]
async fn f08_a_purge_reaches_a_response_in_flight() {
    for by in ALL {
        for purged_at in 0..=5 {
            for renewed_at in purged_at..=5 {
                for length in [None, Some("3")] {
                    purge_against_fill(by, false, purged_at, renewed_at, length).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f08_a_soft_purge_reaches_a_response_in_flight() {
    for by in ALL {
        for purged_at in 0..=5 {
            for renewed_at in purged_at..=5 {
                for length in [None, Some("3")] {
                    purge_against_fill(by, true, purged_at, renewed_at, length).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f08_a_call_that_a_purge_does_not_name_is_still_shared() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    stage.handle.purge(&Uri::from_static("http://example.com/other")).await.unwrap();
    stage.handle.purge_target(&PurgeTarget::Prefix(b"http://example.com/o"[..].into())).await.unwrap();
    let follower = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.calls(), 1);
    stage.origin.call(0).head(&HEAD).frame("x").end();
    leader.seen().await.has_body("x");
    follower.seen().await.has_body("x");
    assert!(stage.get("/").seen().await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn f08_an_unsafe_request_reaches_a_response_in_flight() {
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    stage.origin.call(0).head(&HEAD).frame("ol");
    settle().await;
    stage.origin.script(&[Step::head(204, &[]), Step::End]);
    stage.send(http::Method::PUT, "/", &[]).seen().await;
    stage.origin.script(&[Step::head(200, &HEAD), Step::frame("new"), Step::End]);
    stage.get("/").seen().await.has_body("new");
    stage.origin.call(0).frame("d").end();
    leader.seen().await.has_body("old");
    assert!(stage.get("/").seen().await.has_body("new").is_hit());
}

/// `x` with the tag `"a"`, stale, and one who validates it.
async fn validating(cache_control: &str) -> (Stage, crate::support::stepped::Client) {
    let stage = Stage::heeding();
    let head = Step::head(200, &[("cache-control", cache_control), ("etag", "\"a\"")]);
    stage.fill("/", &[head, Step::frame("old"), Step::End]).await;
    stage.later(61);
    let client = stage.get("/");
    settle().await;
    assert_eq!(stage.origin.call(1).field("if-none-match"), Some("\"a\""));
    (stage, client)
}

fn holds() -> Step {
    Step::head(304, &[("cache-control", "max-age=60"), ("etag", "\"a\"")])
}

fn newer(frame: &str) -> [Step; 3] {
    [Step::head(200, &[("cache-control", "max-age=60"), ("etag", "\"b\"")]), Step::frame(frame), Step::End]
}

#[tokio::test(start_paused = true)]
async fn f09_a_304_after_a_newer_200_changes_nothing() {
    for background in [false, true] {
        let directives = if background { "max-age=60, stale-while-revalidate=600" } else { "max-age=60" };
        let (stage, validator) = validating(directives).await;
        // Another one, who wants what is newest, has waited long enough.
        let impatient = stage.get_with("/", &[("cache-control", "no-cache")]);
        settle().await;
        assert_eq!(stage.origin.calls(), 2, "one validation at a time");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(stage.origin.calls(), 3);
        stage.origin.call(2).steps(&newer("new"));
        impatient.seen().await.has_body("new");
        stage.origin.call(1).step(holds()).end();
        settle().await;
        validator.seen().await.has_body("old");
        let seen = stage.get("/").seen().await.has_body("new");
        assert!(seen.is_hit() && seen.field("etag") == Some("\"b\""), "{seen:?}");
        assert_eq!(stage.origin.calls(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn f09_a_purge_between_a_validation_and_its_304_holds() {
    for background in [false, true] {
        for is_soft in [false, true] {
            let directives = if background { "max-age=60, stale-while-revalidate=600" } else { "max-age=60" };
            let (stage, validator) = validating(directives).await;
            let follower = stage.get_with("/", &[("cache-control", "no-cache")]);
            settle().await;
            purge(&stage.handle, By::Uri, is_soft).await;
            // A validation behind is one at a time; `no-cache` wants an answer.
            let later = stage.get_with("/", &[("cache-control", "no-cache")]);
            settle().await;
            assert_eq!(stage.origin.calls(), 3, "behind: {background}, soft: {is_soft}");
            stage.origin.call(1).step(holds()).end();
            settle().await;
            validator.seen().await.has_body("old");
            follower.seen().await.has_body("old");
            let unvalidated = stage.get_with("/", &[("cache-control", "only-if-cached")]).seen().await;
            assert!(
                !unvalidated.cache_status().contains("ttl=60"),
                "behind: {background}, soft: {is_soft}: {unvalidated:?}"
            );
            stage.origin.call(2).steps(&newer("new"));
            later.seen().await.has_body("new");
            assert!(stage.get("/").seen().await.has_body("new").is_hit());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn f09_requests_that_wait_for_a_validation_share_the_background_validation() {
    let (stage, served_stale) = validating("max-age=60, stale-while-revalidate=600").await;
    served_stale.seen().await.has_body("old");
    let herd = [stage.herd(10, &[]), stage.herd(10, &[("cache-control", "no-cache")])];
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    stage.origin.call(1).step(holds()).end();
    for client in herd.into_iter().flatten() {
        client.seen().await.has_body("old");
    }
    assert!(stage.get("/").seen().await.told("larder; hit; ttl=60").is_hit());
}

#[tokio::test(start_paused = true)]
async fn f15_a_failed_validation_is_answered_with_the_stand_in_for_all() {
    for failure in [Step::head(503, &[("cache-control", "max-age=60")]), Step::head(500, &[]), Step::Refuse] {
        let (stage, validator) = validating("max-age=60, stale-if-error=600").await;
        let followers = stage.herd(10, &[]);
        settle().await;
        stage.origin.call(1).step(failure.clone()).end();
        for client in followers.into_iter().chain([validator]) {
            let seen = client.seen().await.has_body("old");
            assert_eq!(seen.status, 200);
            assert!(seen.cache_status().contains("stale-if-error"), "{failure:?} {seen:?}");
        }
        assert_eq!(stage.origin.calls(), 2, "{failure:?}: one has asked for all");
        // What is stored is still good.
        let again = stage.get("/");
        settle().await;
        stage.origin.call(2).step(holds()).end();
        again.seen().await.has_body("old").told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    }
}

#[tokio::test(start_paused = true)]
async fn f15_without_stale_if_error_each_gets_the_failure_and_the_good_response_stays() {
    let (stage, validator) = validating("max-age=60").await;
    let followers = stage.herd(10, &[]);
    settle().await;
    let failure = [Step::head(503, &[("cache-control", "max-age=60")]), Step::frame("bad"), Step::End];
    stage.origin.script(&failure);
    stage.origin.call(1).steps(&failure);
    for client in followers.into_iter().chain([validator]) {
        assert_eq!(client.seen().await.has_body("bad").status, 503);
    }
    stage.origin.script(&[holds(), Step::End]);
    stage.get("/").seen().await.has_body("old").told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
}
