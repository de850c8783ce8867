//! What handlers tell the cache about their responses.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use larder::policy::{Fastly, Lifetimes};
use larder::semantics::freshness::LifetimeSource;
use larder::semantics::storing::NotStored;
use larder::store::PurgeTarget;
use larder::{CacheHint, CachePolicy, CachePolicyExt, StandardPolicy, Terms};
use tower::Service;

use crate::reported::validation::until_calls;
use crate::support::{Bench, Reply, cache_builder};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn minute() -> CacheHint {
    CacheHint::new().lifetime(seconds(60))
}

fn hinted(hint: CacheHint) -> Reply {
    Reply::new("x").extension(hint)
}

#[tokio::test]
async fn kx11_a_hint_outweighs_the_fields_and_leaves_them_as_they_are() {
    for (reply, hint, told) in [
        (Reply::new("x"), minute(), "stored; ttl=60"),
        (Reply::cc("x", "no-store"), minute(), "stored; ttl=60"),
        (Reply::cc("x", "no-cache, max-age=5"), minute(), "stored; ttl=60"),
        (Reply::cc("x", "s-maxage=5"), minute(), "stored; ttl=60"),
        (Reply::cc("x", "max-age=5").field("cdn-cache-control", "max-age=7"), minute(), "stored; ttl=60"),
        (Reply::new("x").field("expires", "0"), minute(), "stored; ttl=60"),
        (Reply::cc("x", "must-understand, no-store").status(299), minute(), "stored; ttl=60"),
        // What it does not say is left to the fields.
        (Reply::cc("x", "max-age=5"), CacheHint::new().tag("a"), "stored; ttl=5"),
        (Reply::cc("x", "private"), minute(), "detail=\"private\""),
        (Reply::cc("x", "private"), minute().public(), "stored; ttl=60"),
        (Reply::cc("x", "max-age=5"), CacheHint::new().no_store(), "detail=\"hint\""),
        (Reply::cc("x", "max-age=5, must-understand"), CacheHint::new().no_store(), "detail=\"hint\""),
        (Reply::new("x"), minute().no_store(), "detail=\"hint\""),
        (Reply::new("x").field("set-cookie", "a=b"), minute(), "detail=\"set-cookie\""),
        (Reply::new("x").field("set-cookie", "a=b"), minute().public(), "stored; ttl=60"),
        (Reply::cc("x", "max-age=5, \""), minute(), "detail=\"malformed-cache-control\""),
        (Reply::cc("x", "max-age=5, \""), minute().public(), "stored; ttl=60"),
        (Reply::new("x").field("vary", "*"), minute(), "detail=\"vary\""),
        // Errors: the bound of the policy, and what a request can draw.
        (Reply::new("x").status(404), CacheHint::new().lifetime(seconds(3600)), "stored; ttl=300"),
        (Reply::new("x").status(400), minute(), "detail=\"drawn-error\""),
    ] {
        let bench = Bench::new([reply.clone().extension(hint.clone())]);
        let seen = bench.get("/").await;
        let control = reply.fields.iter().find(|(name, _)| name == "cache-control");
        assert_eq!(seen.field("cache-control"), control.map(|(_, value)| &**value));
        seen.told(&format!("larder; fwd=uri-miss; {told}"));
        assert_eq!(bench.get("/").await.is_hit(), told.starts_with("stored"), "{reply:?} {hint:?}");
    }
}

#[tokio::test]
async fn kx11_a_hint_says_whether_people_with_cookies_share() {
    let cookie = [("cookie", "session=1")];
    for (hint, is_hit) in [(minute(), false), (minute().public(), true)] {
        let bench = Bench::new([hinted(hint)]);
        bench.get("/").await;
        assert_eq!(bench.get_with("/", &cookie).await.is_hit(), is_hit);
        assert_eq!(bench.get_with("/", &[("authorization", "a")]).await.is_hit(), is_hit);
    }
    // What the fields say of sharing stays.
    let bench = Bench::new([Reply::cc("x", "s-maxage=5").extension(minute())]);
    bench.get("/").await;
    assert!(bench.get_with("/", &cookie).await.is_hit());
}

#[tokio::test]
async fn kx11_a_hint_gives_stale_windows() {
    let hint = minute().stale_while_revalidate(seconds(10)).stale_if_error(seconds(100));
    let bench = Bench::new([Reply::cc("x", "must-revalidate").extension(hint)]);
    bench.get("/").await;
    bench.later(65);
    bench.get("/").await.told("larder; hit; ttl=-5; detail=\"stale-while-revalidate\"");
    until_calls(&bench, 2).await;
    bench.later(100);
    bench.origin.then(Reply::refused());
    bench.get("/").await.told("larder; fwd=stale; ttl=-40; detail=\"stale-if-error\"");
}

#[tokio::test]
async fn kx11_tags_of_a_hint_are_purged_by_a_handle_whatever_the_host() {
    let bench = Bench::new([hinted(minute().tag("product:42").tags(["all", ""]))]);
    for purged in ["product:42", "all"] {
        for host in ["a.example", "b.example"] {
            bench.get_with("/", &[("host", host)]).await;
            assert!(bench.get_with("/", &[("host", host)]).await.is_hit());
        }
        bench.handle.purge_target(&PurgeTarget::tag("other")).await.unwrap();
        assert!(bench.get_with("/", &[("host", "a.example")]).await.is_hit());
        bench.handle.purge_target(&PurgeTarget::tag(purged)).await.unwrap();
        for host in ["a.example", "b.example"] {
            assert!(!bench.get_with("/", &[("host", host)]).await.is_hit(), "{purged} {host}");
        }
        bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
    }
}

#[tokio::test]
async fn a20_tags_that_nobody_could_purge_by_and_too_many_of_them_keep_a_response_out() {
    let many = |count: usize| (0..count).map(|tag| tag.to_string()).collect::<Vec<_>>();
    for (tags, told) in [
        (vec!["a\nb".to_owned()], "detail=\"bad-tag\""),
        (vec!["a\0".to_owned()], "detail=\"bad-tag\""),
        (vec!["http://a.example news".to_owned()], "detail=\"bad-tag\""),
        (vec!["http://a.example/news".to_owned(), "two words".to_owned(), "ü".to_owned()], "stored; ttl=60"),
        (vec![String::new()], "stored; ttl=60"),
        (many(Terms::MAX_GROUPS), "stored; ttl=60"),
        (many(Terms::MAX_GROUPS + 1), "detail=\"too-many-groups\""),
        (vec!["x".repeat(Terms::MAX_GROUP_BYTES + 1)], "detail=\"too-many-groups\""),
        (vec!["x".repeat(1 << 20); 16], "detail=\"too-many-groups\""),
    ] {
        let bench = Bench::new([hinted(minute().tags(tags.clone()))]);
        bench.get("/").await.told(&format!("larder; fwd=uri-miss; {told}"));
    }
}

#[tokio::test]
async fn a20_a_policy_that_lifts_another_refusal_does_not_lift_that_of_a_tag() {
    async fn refused(policy: impl CachePolicy, code: u16) {
        let reply = Reply::new("x").status(code).extension(CacheHint::new().tag("a\nb"));
        let bench = Bench::with(cache_builder().policy(policy), [reply]);
        bench.get("/").await.told("larder; fwd=uri-miss; detail=\"bad-tag\"");
    }
    let lifting = |refusal: NotStored| {
        StandardPolicy::default().map_terms(move |_, terms| {
            if terms.store == Err(refusal) {
                terms.store = Ok(());
            }
            terms.fresh_for(seconds(9));
        })
    };
    refused(lifting(NotStored::Status), 500).await;
    refused(lifting(NotStored::DrawnError), 405).await;
    refused(StandardPolicy::default().status_lifetime(500, seconds(9)), 500).await;
    refused(StandardPolicy::default().status_lifetime(405, seconds(9)), 405).await;
    refused(Fastly::new().cacheable(500), 500).await;
    refused(Fastly::new().lifetimes(Lifetimes::new().status_lifetime(500, seconds(9))), 500).await;
}

#[tokio::test]
async fn a20_no_client_gets_the_hint_or_can_give_one() {
    let seen = async |bench: &Bench, method: Method, extension: Option<CacheHint>| {
        let mut request = Request::builder().method(method).uri("http://example.com/");
        if let Some(hint) = extension {
            request = request.extension(hint);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        bench.cache.clone().call(request).await.unwrap()
    };
    let bypass = StandardPolicy::default().map_request(|_, _| larder::RequestAction::bypass("mine"));
    for layer in [
        cache_builder(),
        cache_builder().policy(StandardPolicy::rfc9111()),
        cache_builder().policy(bypass),
        cache_builder().tag_only(),
        cache_builder().tag_only().policy(larder::policy::from_fn(|_, _| {})),
        cache_builder().call_limits(larder::CallLimits::new().total(9)),
    ] {
        let reply = hinted(minute().tag("a")).field("content-location", "/").extension(7_u8);
        let bench = Bench::with(layer, [reply]);
        for method in [Method::GET, Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::GET] {
            let response = seen(&bench, method.clone(), None).await;
            assert!(response.extensions().get::<CacheHint>().is_none(), "{method}");
            crate::support::bench::read(response).await;
        }
        // Other extensions are the service's own.
        let response = seen(&bench, Method::OPTIONS, None).await;
        assert_eq!(response.extensions().get(), Some(&7_u8));
    }
    // A hint on a request says nothing, nor does a field of any name.
    let bench = Bench::new([Reply::cc("x", "max-age=5").field("cache-hint", "tag=a")]);
    seen(&bench, Method::GET, Some(minute())).await;
    crate::support::stores::at_rest().await;
    bench
        .get_with("/", &[("cache-groups", "\"a\""), ("surrogate-key", "a")])
        .await
        .told("larder; hit; ttl=5");
    bench.handle.purge_target(&PurgeTarget::tag("a")).await.unwrap();
    assert!(bench.get("/").await.is_hit());
}

#[tokio::test]
async fn a_layer_inside_itself_leaves_the_hint_to_the_outer_pass() {
    use tower::Layer;
    let origin = crate::support::Origin::new([hinted(minute())]);
    let (clock, _hand) = larder::Clock::manual();
    let layer = cache_builder().clock(clock).build();
    let mut cache = layer.layer(layer.layer(origin));
    let request = || Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
    let response = cache.call(request()).await.unwrap();
    assert!(response.extensions().get::<CacheHint>().is_none());
    let seen = crate::support::bench::read(response).await;
    assert!(seen.cache_status().ends_with("larder; fwd=uri-miss; stored; ttl=60"), "{seen:?}");
}

#[tokio::test]
async fn kx11_a_304_freshens_by_its_hint_and_leaves_what_that_does_not_say() {
    let first = hinted(minute().tag("a").stale_if_error(seconds(9))).field("etag", "\"a\"");
    let not_modified = || Reply::new("").status(304);
    for (reply, ttl, a, b) in [
        (not_modified(), 60, true, false),
        (not_modified().extension(CacheHint::new().lifetime(seconds(30))), 30, true, false),
        (not_modified().extension(CacheHint::new().tag("b")), 60, false, true),
    ] {
        let bench = Bench::new([first.clone()]);
        bench.get("/").await;
        for _ in 0..2 {
            bench.later(61);
            bench.origin.not_modified(Some(reply.clone()));
            let told = format!("larder; fwd=stale; fwd-status=304; stored; ttl={ttl}");
            bench.get("/").await.told(&told);
        }
        for (tag, is_there) in [("a", a), ("b", b)] {
            bench.get("/").await;
            bench.handle.purge_target(&PurgeTarget::tag(tag)).await.unwrap();
            assert_eq!(bench.get("/").await.is_hit(), !is_there, "{ttl} {tag}");
        }
    }
    // It may also say that it is not stored any more.
    let bench = Bench::new([first.clone()]);
    bench.get("/").await;
    bench.later(61);
    bench.origin.not_modified(Some(not_modified().extension(CacheHint::new().no_store())));
    bench.get("/").await.has_body("x").told("larder; fwd=stale; fwd-status=304; ttl=60; detail=\"hint\"");
    bench.origin.not_modified(None);
    bench.get("/").await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn kx11_hints_count_in_background_validations_and_for_stored_answers_to_a_post() {
    let bench = Bench::new([hinted(minute().stale_while_revalidate(seconds(60)))]);
    bench.get("/").await;
    bench.later(70);
    bench.origin.then(hinted(CacheHint::new().lifetime(seconds(30)).tag("new")));
    assert!(bench.get("/").await.is_hit());
    until_calls(&bench, 2).await;
    bench.get("/").await.told("larder; hit; ttl=30");
    bench.handle.purge_target(&PurgeTarget::tag("new")).await.unwrap();
    assert!(!bench.get("/").await.is_hit());

    let bench = Bench::rfc9111([hinted(minute()).field("content-location", "/")]);
    bench.send(Method::POST, "/", &[]).await;
    bench.get("/").await.told("larder; hit; ttl=60");
}

#[tokio::test]
async fn kx11_the_policy_comes_after_the_hint_and_has_the_last_word() {
    let policy = StandardPolicy::default().default_lifetime(seconds(5)).map_terms(|exchange, terms| {
        assert_eq!((terms.source, terms.lifetime), (LifetimeSource::Hint, seconds(60)));
        assert_eq!(terms.groups, [Box::<str>::from("a")]);
        match exchange.request.uri.path() {
            "/shorter" => terms.lifetime = seconds(1),
            "/not" => terms.refuse("mine"),
            "/untagged" => terms.groups.clear(),
            _ => {}
        }
    });
    let bench = Bench::with(cache_builder().policy(policy), [hinted(minute().tag("a"))]);
    for (path, told) in [
        ("/", "stored; ttl=60"),
        ("/shorter", "stored; ttl=1"),
        ("/not", "detail=\"mine\""),
        ("/untagged", "stored; ttl=60"),
    ] {
        bench.get(path).await.told(&format!("larder; fwd=uri-miss; {told}"));
    }
    bench.handle.purge_target(&PurgeTarget::tag("a")).await.unwrap();
    assert!(bench.get("/untagged").await.is_hit() && !bench.get("/").await.is_hit());
}

#[tokio::test]
async fn kx11_a_handler_of_axum_returns_a_hint_through_layers_of_tower_http() {
    use axum::Router;
    use axum::routing::get;
    use tower_http::compression::CompressionLayer;
    use tower_http::set_header::SetResponseHeaderLayer;
    use tower_http::trace::TraceLayer;

    let (clock, _hand) = larder::Clock::manual();
    let layer = cache_builder().clock(clock).build();
    let handle = layer.handle();
    let no_store = http::HeaderValue::from_static("no-store");
    let page = "a page that is long enough to be compressed, a page that is long enough to be compressed";
    let app = Router::new()
        .route(
            "/",
            get(async move || {
                (minute().tag("product:42"), CacheHint::new().tag("more"), [("vary", "x")], page)
            }),
        )
        .layer(SetResponseHeaderLayer::overriding(http::header::CACHE_CONTROL, no_store))
        .layer(TraceLayer::new_for_http())
        .layer(CompressionLayer::new())
        .layer(layer);
    let ask = async || {
        let request = Request::get("http://example.com/").header("accept-encoding", "gzip");
        let request = request.body(axum::body::Body::empty()).unwrap();
        let response = app.clone().call(request).await.unwrap();
        assert!(response.extensions().get::<CacheHint>().is_none());
        let (parts, body) = response.into_parts();
        axum::body::to_bytes(body, 1 << 20).await.unwrap();
        crate::support::stores::at_rest().await;
        assert_eq!(parts.headers["content-encoding"], "gzip");
        assert_eq!(parts.headers["cache-control"], "no-store");
        parts.headers["cache-status"].to_str().unwrap().to_owned()
    };
    for tag in ["product:42", "more"] {
        assert_eq!(ask().await, "larder; fwd=uri-miss; stored; ttl=60");
        assert_eq!(ask().await, "larder; hit; ttl=60");
        handle.purge_target(&PurgeTarget::tag(tag)).await.unwrap();
    }
}
