//! A policy that is counted beside the one in force, and POSTs that are queries.

use axum::Router;
use axum::routing::any;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;

use crate::example_proxy::process::{Proxy, run};
use crate::support::bench::read;
use crate::support::file::TempFile;
use crate::support::raw::GUARD;
use crate::support::{Seen, WallClock, wire};

/// Answers with the method and the path, storable for a minute unless the path says otherwise.
async fn origin() -> String {
    let answer = |method: Method, uri: Uri, headers: HeaderMap| async move {
        let control = if uri.path() == "/private" { "private" } else { "max-age=60" };
        let mine = headers.contains_key("authorization");
        ([("cache-control", control)], format!("{method} {} {mine}", uri.path()))
    };
    format!("http://{}", wire::serve_router(Router::new().fallback(any(answer))).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_counted_and_never_acted_on() {
    let origin = origin().await;
    let candidate = TempFile::new("toml", "profile = 'rfc9111'\n[[behavior]]\nmatch = '/b'\nbypass = 'b'");
    let policy = TempFile::new("toml", "");
    for with_policy in [true, false] {
        candidate.write("profile = 'rfc9111'\n[[behavior]]\nmatch = '/b'\nbypass = 'b'");
        let of_policy = ["--policy", policy.name()];
        let of_policy = if with_policy { &of_policy[..] } else { &[] };
        let arguments = [of_policy, &["--candidate", candidate.name()]].concat();
        let (proxy, lines) = Proxy::with_lines(&origin, &arguments);
        let clock = WallClock::start();
        // A cookie keeps answers from being shared, in the policy in force and not in the candidate.
        for _ in 0..3 {
            let seen = wire::get(proxy.address, "/a", &[("cookie", "a=1")]).await;
            seen.told("larder; fwd=uri-miss; detail=\"cookie\"");
        }
        wire::get(proxy.address, "/private", &[]).await.told("larder; fwd=uri-miss; detail=\"private\"");
        for told in ["larder; fwd=uri-miss; stored; ttl=60", "larder; hit; ttl=60"] {
            clock.told(wire::get(proxy.address, "/b", &[]).await.cache_status(), told);
        }
        let next = || {
            let line = tokio::task::block_in_place(|| lines.recv_timeout(GUARD).unwrap());
            line.replace(policy.name(), "POLICY").replace(candidate.name(), "FILE")
        };
        let counted = "larder: the candidate FILE: 2 hits instead of 1 (2 gained, 1 lost) of 6 requests; \
                       2 bypassed; answers stored: 1; not stored: private 1";
        proxy.signal("HUP");
        let reads = if with_policy { "the policy is that of POLICY and " } else { "" };
        let reads = format!("larder: {reads}the candidate is that of FILE now");
        assert_eq!((next(), next()), (counted.to_owned(), reads.clone()));
        // The counts begin anew. One that is wrong changes nothing.
        wire::get(proxy.address, "/private", &[]).await;
        let none = "larder: the candidate FILE: 0 hits instead of 0 (0 gained, 0 lost) of 1 requests; \
                    0 bypassed; answers stored: 0; not stored: private 1";
        candidate.write("[default]\nimmutabel = true");
        proxy.signal("HUP");
        let stays =
            "larder: the policy stays as it was: FILE:2: unknown key 'immutabel'; did you mean 'immutable'?";
        let mut both = [next(), next()];
        both.sort();
        assert_eq!(both, [none, stays]);
        // At the end, too.
        proxy.signal("TERM");
        assert_eq!(next(), none);
        assert!(proxy.ends_well());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_without_a_profile_has_that_of_the_option() {
    let origin = origin().await;
    for (profile, file, hits) in [
        ("rfc9111", "", "1 hits instead of 1"),
        ("default", "", "0 hits instead of 0"),
        ("default", "profile = 'rfc9111'", "1 hits instead of 0"),
        ("rfc9111", "profile = 'default'", "0 hits instead of 1"),
    ] {
        let candidate = TempFile::new("toml", file);
        let (proxy, lines) =
            Proxy::with_lines(&origin, &["--candidate", candidate.name(), "--profile", profile]);
        for _ in 0..2 {
            wire::get(proxy.address, "/a", &[("cookie", "a=1")]).await;
        }
        proxy.signal("TERM");
        let line = tokio::task::block_in_place(|| lines.recv_timeout(GUARD).unwrap());
        assert!(line.contains(&format!(": {hits} (")), "{profile} {file} {line}");
    }
}

#[test]
fn what_is_wrong_with_a_candidate_is_reported_at_the_start() {
    let candidate = TempFile::new("toml", "[default]\nimmutabel = true");
    let output = run(&["proxy", "--upstream=http://127.0.0.1:1", "--candidate", candidate.name()]);
    let said = String::from_utf8(output.stderr).unwrap().replace(candidate.name(), "FILE");
    assert_eq!(
        (output.status.code(), &*said),
        (Some(2), "origin_proxy: FILE:2: unknown key 'immutabel'; did you mean 'immutable'?\n")
    );
}

async fn post(proxy: &Proxy, content: &'static str) -> Seen {
    let request = Request::post(format!("http://{}/graphql", proxy.address));
    let request = request.header("content-type", "application/json");
    let request = request.body(Full::<bytes::Bytes>::from(content)).unwrap();
    read(wire::client().request(request).await.unwrap()).await
}

#[tokio::test]
async fn a_post_is_stored_by_option_if_it_is_certainly_a_graphql_query() {
    let origin = origin().await;
    const QUERY: &str = r#"{"query": "{ hero { name } }"}"#;
    const OTHER: &str = r#"{"query": "{ villain { name } }"}"#;
    const MUTATION: &str = r#"{"query": "mutation { hero { name } }"}"#;
    let clock = WallClock::start();
    for (arguments, rows) in [
        (&[][..], &[(QUERY, "larder; fwd=method"), (QUERY, "larder; fwd=method")][..]),
        (
            &["--graphql"],
            &[
                (QUERY, "larder; fwd=uri-miss; stored; ttl=60"),
                (QUERY, "larder; hit; ttl=60"),
                (OTHER, "larder; fwd=uri-miss; stored; ttl=60"),
                (MUTATION, "larder; fwd=method"),
                (QUERY, "larder; fwd=uri-miss; stored; ttl=60"),
            ],
        ),
    ] {
        let proxy = Proxy::before(&origin, arguments);
        for (content, told) in rows {
            let seen = post(&proxy, content).await.has_body("POST /graphql false");
            clock.told(seen.cache_status(), told);
        }
    }
}
