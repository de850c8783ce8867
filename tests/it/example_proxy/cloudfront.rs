//! The profile `cloudfront` from files: what the walk shows, by any client; AWS's JSON in its forms; and what is wrong with it.

use crate::example_proxy::process::{Proxy, SampleOrigin, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, Message};
use crate::support::{WallClock, wire};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/origin_proxy/cloudfront.json");
const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/origin_proxy/viewer.mmdb");

/// The answer to what `curl -i -H 'Authorization: user:USER' PROXY/PATH` sends.
fn curl(proxy: &Proxy, path: &str, user: &str) -> Message {
    let mut client = Client::of(proxy);
    let address = proxy.address;
    client.send(&format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAuthorization: user:{user}\r\n\r\n"
    ));
    client.next()
}

#[test]
fn cf2_the_rows_of_the_walk_come_by_curl_through_a_proxy_with_the_same_policies() {
    let origin = SampleOrigin::start();
    let arguments = ["--profile", "cloudfront", "--policy", SAMPLE, "--geo-db", DATABASE];
    let proxy = Proxy::before(&origin.url, &arguments);
    for (path, user, x_cache, content) in [
        ("/account", "one", "Miss", "user: one\ntab: overview\nviewer: desktop in NZ\n"),
        ("/account", "one", "Hit", "user: one\ntab: overview\nviewer: desktop in NZ\n"),
        ("/account", "two", "Miss", "user: two\ntab: overview\nviewer: desktop in NZ\n"),
        ("/account", "two", "Hit", "user: two\ntab: overview\nviewer: desktop in NZ\n"),
        ("/account?tab=orders", "one", "Miss", "user: one\ntab: orders\nviewer: desktop in NZ\n"),
        ("/account/balance", "one", "Miss", "user: one\nbalance: 42\n"),
        ("/account/balance", "one", "RefreshHit", "user: one\nbalance: 42\n"),
    ] {
        let answer = curl(&proxy, path, user).is("HTTP/1.1 200 OK", content);
        let answer = answer.has(&format!("\r\nx-cache: {x_cache} from larder\r\n"));
        match x_cache {
            "Miss" => answer.has("\r\ncache-status: larder; fwd=uri-miss; stored; ttl="),
            "Hit" => answer.has("\r\ncache-status: larder; hit; ttl="),
            _ => answer.has("\r\ncache-status: larder; fwd=stale; fwd-status=304; stored; ttl=0\r\n"),
        };
    }
    curl(&proxy, "/me", "one").has("\r\ncache-status: larder; fwd=uri-miss; detail=\"private\"\r\n");
    curl(&proxy, "/account", "nobody").has("\r\nx-cache: Error from larder\r\n");
}

#[test]
fn cf2_a_minimum_of_a_second_keeps_what_has_to_be_validated_by_curl() {
    let origin = SampleOrigin::start();
    // More than a second, so that no machine is too slow.
    let text = std::fs::read_to_string(SAMPLE).unwrap().replace("\"MinTTL\": 0", "\"MinTTL\": 600");
    let policy = TempFile::new("json", text);
    let proxy = Proxy::before(&origin.url, &["--policy", policy.name()]);
    curl(&proxy, "/account/balance", "one").has("\r\ncache-status: larder; fwd=uri-miss; stored; ttl=");
    curl(&proxy, "/account/balance", "one").has("\r\nx-cache: Hit from larder\r\n");
}

#[test]
fn cf9_check_policy_prints_a_distribution() {
    let output = run(&["check-policy", SAMPLE, "--key-header", "X-Team"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in [
        "profile cloudfront",
        "in every key, by option: x-team",
        "    cache policy private-dynamic-content",
        "        lifetimes: at least 0 s, by default 0 s, at most 86400 s",
        "        key: headers authorization x-team, cookies none, query all, Accept-Encoding as gzip and br",
        "    origin request policy forward-all",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    assert!(said.contains("warning: default: goes to the origin and is not in the key"), "{said}");
}

#[test]
fn cf9_what_is_wrong_with_awss_json_is_reported_with_its_line_path_and_reason() {
    let sample = std::fs::read_to_string(SAMPLE).unwrap();
    for (text, arguments, said) in [
        (
            sample.replace("\"DefaultTTL\"", "\"DefautTTL\""),
            &[][..],
            "FILE:7: CachePolicy.CachePolicyConfig.DefautTTL: unknown key 'DefautTTL'; did you mean 'DefaultTTL'?",
        ),
        (
            sample.replace("\"MinTTL\": 0", "\"MinTTL\": -1"),
            &[],
            "FILE:6: CachePolicy.CachePolicyConfig.MinTTL: ",
        ),
        (sample.replace("whitelist\"", "blacklist\""), &[], "FILE:12: CachePolicy.CachePolicyConfig."),
        ("{".to_owned(), &[], "FILE:1: "),
        ("{}".to_owned(), &[], "FILE:1: "),
        (
            sample.clone(),
            &["--profile", "default"],
            "FILE: this is AWS's JSON, which is for the profile cloudfront and not for default",
        ),
        (sample.clone(), &["--profile", "fastly"], "FILE: this is AWS's JSON"),
        (
            sample.clone(),
            &["--key-header", "Cookie"],
            "FILE: --key-header cookie: CloudFront has no such field",
        ),
    ] {
        for ending in ["json", "conf"] {
            let file = TempFile::new(ending, &text);
            let output = run(&[&["check-policy", file.name()], arguments].concat());
            let text = String::from_utf8(output.stderr).unwrap().replace(file.name(), "FILE");
            assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
            assert!(text.starts_with(said), "{said}\n{text}");
        }
    }
    for (text, said) in [
        (
            "[default]\ncache_policy = 'CachingOptimised'",
            "FILE:2: unknown managed cache policy 'CachingOptimised'; did you mean 'CachingOptimized'?",
        ),
        (
            "[default]\norigin_request_policy = 'AllViewers'",
            "FILE:2: unknown managed origin request policy 'AllViewers'; did you mean 'AllViewer'?",
        ),
        (
            "[default]\ncache_policy = 1",
            "FILE:2: invalid type: integer `1`, expected the name of a managed policy",
        ),
        (
            "[default.cache_policy]\nName = 'x'\nMinTTL = 0\nMaxTL = 1",
            "FILE:4: unknown key 'MaxTL'; did you mean 'MaxTTL'?",
        ),
        ("[default]\nerror_caching_min_ttl = { 4xx = 1 }", "FILE:2: '4xx' is not a status"),
        (
            "[default]\nstale_if_error = 1",
            "FILE:2: 'stale_if_error' is a key of profile default and rfc9111, and this is cloudfront",
        ),
    ] {
        let file = TempFile::new("toml", text);
        let output = run(&["check-policy", file.name(), "--profile", "cloudfront"]);
        let text = String::from_utf8(output.stderr).unwrap().replace(file.name(), "FILE");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with(said), "{said}\n{text}");
    }
}

#[tokio::test]
async fn cf8_behaviors_in_toml_have_policies_by_name_or_in_awss_words() {
    let origin = SampleOrigin::start();
    let policy = TempFile::new(
        "toml",
        r#"
        profile = "cloudfront"
        [default]
        cache_policy = "UseOriginCacheControlHeaders-QueryStrings"
        origin_request_policy = "AllViewer"
        [[behavior]]
        match = "/slow"
        cache_policy = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
        [[behavior]]
        match = "/asset/*"
        cache_policy = "CachingOptimized"
        [[behavior]]
        match = "/flaky"
        error_caching_min_ttl = { "503" = "1m" }
        [[behavior]]
        match = "/account"
        [behavior.cache_policy]
        Name = "by-team"
        MinTTL = 0
        [behavior.cache_policy.ParametersInCacheKeyAndForwardedToOrigin]
        EnableAcceptEncodingGzip = false
        HeadersConfig = { HeaderBehavior = "whitelist", Headers = ["Authorization"] }
        CookiesConfig = { CookieBehavior = "none" }
        QueryStringsConfig = { QueryStringBehavior = "none" }
        [[behavior]]
        match = "/time"
        bypass = "clock"
        "#,
    );
    let proxy = Proxy::before(&origin.url, &["--policy", policy.name(), "--key-header", "X-Team"]);
    let one = ("authorization", "user:one");
    let clock = WallClock::start();
    for (path, fields, told) in [
        ("/slow", &[][..], "larder; fwd=bypass; detail=\"caching-disabled\""),
        ("/asset/a.css?x", &[], "larder; fwd=uri-miss; stored; ttl=31536000"),
        ("/asset/a.css?y", &[], "larder; hit; ttl=31536000"),
        ("/asset/a.css", &[("x-team", "b")], "larder; fwd=uri-miss; stored; ttl=31536000"),
        ("/flaky", &[("x-fail", "503")], "larder; fwd=uri-miss; stored; ttl=60"),
        ("/account?tab=a", &[one], "larder; fwd=uri-miss; stored; ttl=30"),
        ("/account?tab=b", &[one], "larder; hit; ttl=30"),
        ("/account", &[one, ("x-team", "b")], "larder; fwd=uri-miss; stored; ttl=30"),
        ("/time", &[], "larder; fwd=bypass; detail=\"clock\""),
    ] {
        let seen = wire::get(proxy.address, path, fields).await;
        clock.told(seen.cache_status(), told);
    }
}

#[tokio::test]
async fn cf4_a_cache_policy_comes_without_an_origin_request_policy_unless_one_is_named_beside_it() {
    let echo =
        axum::routing::any(|headers: http::HeaderMap| async move { format!("{:?}", headers.get("x-note")) });
    let origin = wire::serve_router(axum::Router::new().fallback(echo)).await;
    let policy = TempFile::new(
        "toml",
        r#"
        profile = "cloudfront"
        [[behavior]]
        match = "/alone"
        cache_policy = "CachingOptimized"
        [[behavior]]
        match = "/beside"
        cache_policy = "CachingOptimized"
        origin_request_policy = "AllViewer"
        [[behavior]]
        match = "/kept"
        cache_options = true
        "#,
    );
    let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
    for (path, is_forwarded) in [("/alone", false), ("/beside", true), ("/kept", true), ("/default", true)] {
        let seen = wire::get(proxy.address, path, &[("x-note", "1")]).await;
        assert_eq!(seen.body.contains('1'), is_forwarded, "{path}: {}", seen.body);
    }
}

#[tokio::test]
async fn cf8_behaviors_for_different_hosts_share_nothing() {
    let echo = axum::routing::any(|headers: http::HeaderMap| async move {
        ([("cache-control", "max-age=600")], format!("{:?}", headers.get("host")))
    });
    let origin = wire::serve_router(axum::Router::new().fallback(echo)).await;
    let policy = TempFile::new(
        "toml",
        r#"
        profile = "cloudfront"
        [default]
        cache_policy = "CachingOptimized"
        origin_request_policy = "AllViewer"
        [[behavior]]
        match = { host = "a.example", path = "/img/*" }
        [[behavior]]
        match = { host = "a.example" }
        [[behavior]]
        match = { host = ["b.example", "*.b.example"] }
        "#,
    );
    let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
    for path in ["/x", "/img/x"] {
        for host in ["a.example", "www.b.example", "c.example"] {
            for is_hit in [false, true] {
                let seen = wire::get(proxy.address, path, &[("host", host)]).await;
                assert_eq!(seen.is_hit(), is_hit, "{host} {path}");
                assert_eq!(seen.body, format!("Some({host:?})"));
            }
        }
        // One distribution has them all.
        assert!(wire::get(proxy.address, path, &[("host", "b.example")]).await.is_hit());
    }
}

#[tokio::test]
async fn a_file_of_this_profile_has_the_terms_that_any_policy_can_have() {
    let say = axum::routing::any(|uri: http::Uri| async move {
        let status = if uri.path() == "/teapot" { 418 } else { 200 };
        let kind = if uri.path() == "/types/video" { "video/mp4" } else { "text/plain" };
        let fields =
            [("cache-control", "max-age=30"), ("content-type", kind), ("x-secret", "s"), ("vary", "x-lang")];
        (http::StatusCode::from_u16(status).unwrap(), fields, "content")
    });
    let origin = wire::serve_router(axum::Router::new().fallback(say)).await;
    let policy = TempFile::new(
        "toml",
        r#"
        profile = "cloudfront"
        [default]
        status_lifetimes = { "418" = { exactly = "2h" } }
        response = { remove_fields = "x-secret" }
        [[behavior]]
        match = "/browser"
        browser_lifetime = "1d"
        [[behavior]]
        match = "/admission"
        admission = { after = 2 }
        [[behavior]]
        match = "/types/*"
        only_types = "text/*"
        [[behavior]]
        match = "/none/*"
        without_types = "text/*"
        [[behavior]]
        match = "/large"
        max_body = 6
        [[behavior]]
        match = "/small"
        min_body = 8
        [[behavior]]
        match = "/vary"
        vary = { "x-lang" = "bypass" }
        [[behavior]]
        match = "/variants"
        max_variants = 1
        [[behavior]]
        match = "/long"
        lifetime = { at_least = "1h" }
        "#,
    );
    let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
    let clock = WallClock::start();
    let stored = "larder; fwd=uri-miss; stored; ttl=30";
    for (path, told) in [
        ("/x", stored),
        ("/x", "larder; hit; ttl=30"),
        ("/teapot", "larder; fwd=uri-miss; stored; ttl=7200"),
        ("/browser", stored),
        ("/admission", "larder; fwd=uri-miss; detail=\"admission\""),
        ("/admission", stored),
        ("/types/text", stored),
        ("/types/video", "larder; fwd=uri-miss; detail=\"content-type\""),
        ("/none/text", "larder; fwd=uri-miss; detail=\"content-type\""),
        ("/large", "larder; fwd=uri-miss; detail=\"too-large\""),
        ("/small", "larder; fwd=uri-miss; detail=\"too-small\""),
        ("/vary", "larder; fwd=uri-miss; detail=\"vary-bypass\""),
        ("/long", "larder; fwd=uri-miss; stored; ttl=3600"),
    ] {
        let seen = wire::get(proxy.address, path, &[("x-lang", "de")]).await;
        clock.told(seen.cache_status(), told);
        let control = if path == "/browser" { "max-age=86400" } else { "max-age=30" };
        assert_eq!(seen.field("cache-control"), Some(control), "{path}");
        assert_eq!(seen.field("x-secret"), None, "{path}");
    }
}
