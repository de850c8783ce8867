//! Which request fields select responses, field by field, and how many variants a key has.

use http::{Method, header};
use larder::policy::{VaryField, VaryRules};
use larder::{CachePolicyExt, StandardPolicy, VaryRule};

use crate::support::{Bench, Reply, cache_builder};

fn device() -> VaryField {
    VaryField::class(|agent| if agent.contains("Mobile") { "Mobile" } else { "Desktop" })
}

fn varying(on: &str) -> Reply {
    Reply::cc("x", "max-age=60").field("vary", on)
}

#[tokio::test]
async fn kx3_each_field_selects_as_sent_normalised_not_at_all_or_keeps_the_response_out() {
    let policy = StandardPolicy::default()
        .vary(header::USER_AGENT, device())
        .vary(header::ACCEPT_LANGUAGE, VaryField::lower_case())
        .vary(header::REFERER, VaryField::Ignored)
        .vary(header::ORIGIN, VaryField::Bypass);
    let bench = Bench::with(
        cache_builder().policy(policy),
        [varying("user-agent, accept-language, referer, accept")],
    );
    let phone =
        [("user-agent", "phone Mobile/7"), ("accept-language", "DE"), ("referer", "a"), ("accept", "x")];
    bench.get_with("/", &phone).await;
    // The service gets what is compared.
    let sent = bench.origin.last().headers;
    assert_eq!(
        (&sent["user-agent"], &sent["accept-language"], &sent["referer"]),
        (&"Mobile".parse().unwrap(), &"de".parse().unwrap(), &"a".parse().unwrap())
    );
    for (field, value, is_hit) in [
        (0, "other Mobile/8", true),
        (1, "de", true),
        (2, "b", true),
        (3, "y", false),
        (0, "none", false),
        (1, "en", false),
    ] {
        let mut fields = phone;
        fields[field].1 = value;
        assert_eq!(bench.get_with("/", &fields).await.is_hit(), is_hit, "{value}");
    }
    bench.origin.then(varying("Origin, accept"));
    bench.get("/origin").await.told("larder; fwd=uri-miss; detail=\"vary-bypass\"");
    bench.origin.then(varying("*"));
    bench.get("/star").await.told("larder; fwd=uri-miss; detail=\"vary\"");
    // An unsafe request keeps its fields.
    bench.send(Method::POST, "/", &phone).await;
    assert_eq!(bench.origin.last().headers["user-agent"], "phone Mobile/7");
}

#[tokio::test]
async fn kx3_rules_about_vary_go_with_any_policy_and_the_later_one_of_a_field_counts() {
    let ignoring =
        VaryRules::new().vary(header::REFERER, VaryField::Bypass).vary(header::REFERER, VaryField::Ignored);
    let only = StandardPolicy::default().map_terms(|_, terms| {
        terms.vary = VaryRule::Only(vec![header::REFERER, header::ACCEPT]);
    });
    let bench = Bench::with(
        cache_builder().policy(only.vary_rules(ignoring)),
        [varying("referer, accept, user-agent")],
    );
    let fields = [("referer", "a"), ("accept", "x"), ("user-agent", "1")];
    bench.get_with("/", &fields).await;
    for (at, is_hit) in [(0, true), (1, false), (2, true)] {
        let mut fields = fields;
        fields[at].1 = "other";
        assert_eq!(bench.get_with("/", &fields).await.is_hit(), is_hit, "{at}");
    }
    // Where nothing is stored, the service gets the normal form all the same.
    let layer =
        cache_builder().tag_only().policy(StandardPolicy::default().vary(header::USER_AGENT, device()));
    let tag_only = Bench::with(layer, [Reply::new("x")]);
    tag_only.get_with("/", &[("user-agent", "x")]).await;
    assert_eq!(tag_only.origin.last().headers["user-agent"], "Desktop");
}

#[tokio::test]
async fn a18_variants_beyond_the_cap_are_not_stored_and_drive_nothing_out() {
    let policy = StandardPolicy::default().max_variants(3);
    let bench =
        Bench::with(cache_builder().policy(policy), [varying("accept-language").field("etag", "\"a\"")]);
    let ask = async |language: &str| bench.get_with("/", &[("accept-language", language)]).await;
    for language in ["a", "b", "c"] {
        assert!(ask(language).await.cache_status().contains("; stored"), "{language}");
    }
    for number in 0..100 {
        let seen = ask(&format!("flood-{number}")).await;
        seen.told("larder; fwd=vary-miss; detail=\"too-many-variants\"");
    }
    for language in ["a", "b", "c"] {
        assert!(ask(language).await.is_hit(), "{language}");
    }
    // What is there already is renewed, and what is stale makes room.
    bench.later(61);
    bench.origin.not_modified(Some(Reply::new("").status(304)));
    ask("a").await.told("larder; fwd=stale; fwd-status=304; stored; ttl=60");
    bench.origin.not_modified(None);
    ask("b").await.told("larder; fwd=stale; stored; ttl=60");
    ask("new").await.told("larder; fwd=vary-miss; stored; ttl=60");
    ask("one more").await.told("larder; fwd=vary-miss; detail=\"too-many-variants\"");
    // Other keys have variants of their own.
    bench.get_with("/other", &[("accept-language", "x")]).await.told("larder; fwd=uri-miss; stored; ttl=60");
}

#[tokio::test]
async fn a18_without_a_cap_the_store_bounds_the_variants_of_a_key() {
    let bench = Bench::new([varying("accept-language")]);
    for number in 0..200 {
        bench.get_with("/", &[("accept-language", &*format!("x-{number}"))]).await;
    }
    let mut hits = 0;
    for number in 0..200 {
        let only = [("accept-language", &*format!("x-{number}")), ("cache-control", "only-if-cached")];
        hits += usize::from(bench.get_with("/", &only).await.is_hit());
    }
    assert!((1..=64).contains(&hits), "{hits}");
}
