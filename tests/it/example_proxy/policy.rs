//! Policies from files and options: what a file may say, what is wrong with it, what outweighs what, and SIGHUP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use http::{HeaderMap, Uri};

use crate::example_proxy::process::{Proxy, SampleOrigin, run};
use crate::support::file::TempFile;
use crate::support::raw::GUARD;
use crate::support::{WallClock, wire};

fn toml(text: &str) -> TempFile {
    TempFile::new("toml", text)
}

/// Answers with the path and the user that are asked for, storable for a minute.
fn origin() -> Router {
    let answer = |uri: Uri, headers: HeaderMap| async move {
        let user = headers.get("x-user").map_or("nobody", |user| user.to_str().unwrap());
        ([("cache-control", "max-age=60")], format!("{} for {user}", uri.path()))
    };
    Router::new().fallback(any(answer))
}

async fn proxy(policy: &TempFile, arguments: &[&str]) -> Proxy {
    let origin = wire::serve_router(origin()).await;
    Proxy::before(&format!("http://{origin}"), &[&["--policy", policy.name()], arguments].concat())
}

/// What `check-policy` says of a text: the exit status and its output.
pub fn check(text: &str, arguments: &[&str]) -> (i32, String) {
    let file = toml(text);
    let output = run(&[&["check-policy", file.name()], arguments].concat());
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code().unwrap(), String::from_utf8(said).unwrap().replace(file.name(), "FILE"))
}

#[test]
fn check_policy_prints_what_it_understood() {
    let text = r#"
        profile = "rfc9111"
        [default]
        stale_if_error = "10m"
        codings = ["br", "gzip"]
        heuristic = { percent = 20 }
        max_error_lifetime = false
        [[behavior]]
        match = "/admin/*"
        bypass = "admin"
        [[behavior]]
        match = { path = ["/img/*", "*.png"], host = "Static.Example.com", method = "GET" }
        latency_budget = 2
        immutable = true
        key = { query = { ignore_trackers = true }, cookies = ["a", "b*"], host = false }
        levels = "far"
        lifetime = { at_least = "1h" }
    "#;
    let expected = "\
profile rfc9111
in every key, by option: x-user
every request:
    codings                  br, gzip
    heuristic                percent 20
    max_error_lifetime       no
    stale_if_error           10m
behavior 1, path /admin/*:
    bypass                   admin
behavior 2, method GET, host static.example.com, path /img/* or *.png:
    immutable                yes
    key                      cookies a, b*; host no; query ignore_trackers yes
    latency_budget           2s
    levels                   far
    lifetime                 at_least 1h
";
    assert_eq!(check(text, &["--key-header", "X-User"]), (0, expected.to_owned()));
    assert_eq!(check("", &[]), (0, "profile default\nevery request:\n    as the profile says\n".to_owned()));
}

fn root(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_sample_is_understood_and_so_are_the_documents() {
    let sample = std::fs::read_to_string(root("examples/origin_proxy/policy.toml")).unwrap();
    let (status, said) = check(&sample, &[]);
    assert!(status == 0 && said.contains("behavior 3, path /article/*:"), "{said}");
    let document = std::fs::read_to_string(root("docs/POLICY.md")).unwrap();
    let blocks: Vec<_> =
        document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        let (status, said) = check(block, &[]);
        assert_eq!(status, 0, "{block}\n{said}");
    }
}

#[test]
fn every_key_of_a_policy_file_is_in_the_documents() {
    let section = std::fs::read_to_string(root("examples/origin_proxy/policy/section.rs")).unwrap();
    let document = std::fs::read_to_string(root("docs/POLICY.md")).unwrap();
    let fields = section.split("pub struct Section {").nth(1).unwrap().split("\n}\n").next().unwrap();
    let keys = fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let keys: Vec<_> = keys.filter(|key| *key != "matcher").collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in &keys {
        assert!(document.contains(&format!("\n| `{key}` |")), "docs/POLICY.md has no row for {key}");
        // Each is in one list of profiles.
        let lists = section.split("pub const KEYS").nth(1).unwrap();
        assert_eq!(lists.matches(&format!("\"{key}\"")).count(), 1, "{key}");
    }
    // So is every key of its tables.
    for table in ["key.rs", "response.rs"] {
        let source = std::fs::read_to_string(root(&format!("examples/origin_proxy/policy/{table}"))).unwrap();
        let fields = source.split("Section {").nth(1).unwrap().split("\n}\n").next().unwrap();
        let names: Vec<_> = fields.lines().filter_map(|line| line.trim().split_once(": Option<")).collect();
        assert!(names.len() > 8, "{table}: {names:?}");
        for (name, _) in names {
            assert!(document.contains(&format!("\n| `{name}` |")), "docs/POLICY.md has no row for {name}");
        }
    }
    // What is said to belong to some profiles is a key.
    let lists = section.split("pub const KEYS").nth(1).unwrap();
    for name in lists.split('"').skip(1).step_by(2) {
        assert!(keys.contains(&name), "{name} is not a key");
    }
}

/// The switches of a policy, read from its source.
fn switches(folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(root(folder)).unwrap().map(|file| file.unwrap().path());
    switches_of(&files.map(|file| std::fs::read_to_string(file).unwrap()).collect::<String>())
}

fn switches_of(source: &str) -> Vec<String> {
    let methods = source.split("    #[must_use]\n    pub fn ").skip(1);
    methods.map(|method| method.split(['(', '<']).next().unwrap().to_owned()).collect()
}

#[test]
fn a_policy_file_has_every_switch_of_the_policies() {
    let read = |path: &str| std::fs::read_to_string(root(path)).unwrap();
    let tables = ["section", "key", "response"].map(|name| format!("examples/origin_proxy/policy/{name}.rs"));
    let tables: String = tables.iter().map(|path| read(path)).collect();
    let rules = [
        "cloudfront/distribution",
        "key/mod",
        "key/query",
        "response/content_limits",
        "response/lifetimes",
        "response/rules/mod",
        "response/vary_rules",
    ];
    let rules = rules.map(|name| switches_of(&read(&format!("src/policy/{name}.rs"))));
    for (switches, least) in rules.iter().zip([10, 10, 4, 4, 6, 12, 2]) {
        assert!(switches.len() >= least, "{switches:?}");
    }
    let policies = ["src/policy/standard", "src/policy/fastly"].map(switches).concat();
    assert!(policies.len() > 50, "{policies:?}");
    for switch in policies.into_iter().chain(rules.concat()) {
        let key = match &*switch {
            "any_host" => "host",
            "any_scheme" => "scheme",
            "custom_error_response" => "error_pages",
            "forward_field" => "forward_fields",
            "header" => "headers",
            "ignore" => "except",
            "key_field" => "key",
            "lifetime_for" => "lifetime",
            "remove_field" => "remove_fields",
            "set_field" => "set_fields",
            "status_lifetime" => "status_lifetimes",
            // For tests, and for what only a program can say.
            "and" | "class" | "edit" | "identity" | "jitter_seeded" | "part" | "peers" => continue,
            // What the proxy, a behavior or an option says.
            "behavior" | "key_header" | "name" | "origin_host" | "origin_scheme" | "trust_viewer_headers" => {
                continue;
            }
            switch => switch,
        };
        let has = |form: &str| tables.contains(&format!("    {form}{key}: Option<"));
        assert!(has("") || has("pub "), "a file has no key for {switch}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_reported_with_its_line_and_the_reason() {
    for (text, said) in [
        ("profil = 'x'", "FILE:1: unknown key 'profil'; did you mean 'profile'?"),
        ("profile = 'rfc911'", "FILE:1: unknown value 'rfc911'; did you mean 'rfc9111'?"),
        ("profile = 1", "FILE:1: "),
        ("\n\n[defaults]", "FILE:3: unknown key 'defaults'; did you mean 'default'?"),
        (
            "[default]\nstale_if_eror = 1",
            "FILE:2: unknown key 'stale_if_eror'; did you mean 'stale_if_error'?",
        ),
        ("[default]\nheuristic = { percnt = 1 }", "FILE:2: unknown key 'percnt'; did you mean 'percent'?"),
        ("[default]\nmatch = '/x'", "FILE:2: 'match' is for a [[behavior]]; [default] is for every request"),
        ("\n[[behavior]]\nbypass = 'x'", "FILE:2: a [[behavior]] needs 'match', which says what it is for"),
        ("[[behavior]]\nmatch = {}", "FILE:2: nothing is named here; 'host', 'method' and 'path' can be"),
        ("[[behavior]]\nmatch = { paht = '/x' }", "FILE:2: unknown key 'paht'; did you mean 'path'?"),
        ("[[behavior]]\nmatch = ['/x', 'a/b']", "FILE:2: 'a/b' matches no path; they begin with /"),
        ("[[behavior]]\nmatch = { method = 'get' }", "FILE:2: 'get' is not a method; one looks like GET"),
        (
            "[default]\n\nstale_if_error = '1 year'",
            "FILE:3: '1 year' is not a time; one looks like 90s or 1h30m",
        ),
        ("[default]\nstale_if_error = -1", "FILE:2: '-1' is not a time; it is below 0"),
        ("[default.key]\nheaders = ['a b']", "FILE:2: 'a b' can't be the name of a field"),
        (
            "[default.response]\nset_directives = 'max-age'",
            "FILE:2: 'max-age' is not a directive; max-age has a number",
        ),
        (
            "[default.response]\ncache_control = 'public=1'",
            "FILE:2: 'public=1' is not a directive here; public has no value",
        ),
        ("[default.response]\ncache_control = 'a b'", "FILE:2: 'a b' is not a directive: "),
        ("[default.response]\nset_fields = { 'a b' = 'x' }", "FILE:2: 'a b' can't be the name of a field"),
        (
            "[default.response]\nstrip_varry = 'x'",
            "FILE:2: unknown key 'strip_varry'; did you mean 'strip_vary'?",
        ),
        ("[default]\nvary = { a = 'ignore' }", "FILE:2: unknown value 'ignore'; did you mean 'ignored'?"),
        ("[default.key]\nqeury = 'all'", "FILE:2: unknown key 'qeury'; did you mean 'query'?"),
        (
            "[default.key]\nquery = { only = 'a', except = 'b' }",
            "FILE:2: 'only' and 'except' exclude each other",
        ),
        ("[default.key]\nquery = { sortd = true }", "FILE:2: unknown key 'sortd'; did you mean 'sorted'?"),
        ("[default.key]\ncookies = { exept = 'a' }", "FILE:2: unknown key 'exept'; did you mean 'except'?"),
        ("[default.key]\nhost = 'a b'", "FILE:2: 'a b' is not a host; one looks like www.example.com"),
        (
            "[default]\nbypass = 'No, never'",
            "FILE:2: 'No, never' is not a reason; it is a word of a-z, 0-9 and -",
        ),
        (
            "profile = 'rfc9111'\n[default]\ndefault_ttl = 1",
            "FILE:3: 'default_ttl' is a key of profile fastly, and this is rfc9111",
        ),
        (
            "profile = 'fastly'\n[[behavior]]\nmatch = '/'\nstale_if_error = 1",
            "FILE:4: 'stale_if_error' is a key of profile default and rfc9111, and this is fastly",
        ),
        ("[default]\nstatus_lifetimes = { 4x = 1 }", "FILE:2: '4x' is not a status: "),
        ("[default]\nlifetime = { exact = 1 }", "FILE:2: unknown value 'exact'; did you mean 'exactly'?"),
        ("[default]\nlifetime = 'long'", "FILE:2: 'long' is not a time; one looks like 90s or 1h30m"),
        ("[default]\njitter = 101", "FILE:2: '101' is more than 100 percent"),
        ("[default]\nmax_body = '1 kilo'", "FILE:2: '1 kilo' is not a size; one looks like 64MiB"),
        ("profile = 'fastly'\n[default]\ncacheable_success = false", "FILE:3: this is 'true', or left out"),
        ("profile = 'fastly'\n[default]\ncacheable = [404, 42]", "FILE:3: '42' is not a status"),
        ("profile = 'fastly'\n[default]\nshort_errors = { lifetime = 1 }", "FILE:3: missing field `stale`"),
        ("[default]\nimmutable = 'yes'", "FILE:2: invalid type: string \"yes\", expected a boolean"),
        ("[default]\nimmutable = true\nimmutable = false", "FILE:3: duplicate key"),
        ("[default]\nimmutable = ", "FILE:2: "),
        ("[default", "FILE:1: unclosed table, expected `]`"),
    ] {
        let (status, text) = check(text, &[]);
        assert_eq!(status, 1, "{text}");
        assert!(text.starts_with(said) && text.lines().count() == 1, "{said}\n{text}");
    }
    for (arguments, status, said) in [
        (&["check-policy", "/no/such.toml"][..], 1, "/no/such.toml: can't be read: "),
        (&["check-policy", "/"], 1, "/: can't be read: "),
        (&["check-policy"], 2, "origin_proxy: check-policy needs FILE"),
        (&["check-policy", "/a", "/b"], 2, "origin_proxy: '/b' is an argument too many"),
        (&["check-policy", "/a", "--listen", "x"], 2, "origin_proxy: there is no option 'listen' here"),
        (&["check-policy", "/a", "--profile", "x"], 2, "origin_proxy: there is no profile 'x'"),
        (
            &["check-policy", "/a", "--key-header", "a b"],
            2,
            "origin_proxy: 'a b' can't be the name of a field",
        ),
        (
            &["proxy", "--upstream=http://127.0.0.1:1", "--policy", "/no/such.toml"],
            2,
            "origin_proxy: /no/such.toml: can't be read",
        ),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert!(text.starts_with(said) && text.lines().count() == 1, "{said}\n{text}");
    }
}

#[tokio::test]
async fn the_first_behavior_that_matches_a_request_counts_and_keeps_what_it_does_not_change() {
    let policy = toml(
        r#"
        [default]
        credentials = "rfc9111"
        [[behavior]]
        match = "/a/*"
        key = { headers = ["x-user"] }
        [[behavior]]
        match = "/a/b/*"
        bypass = "never"
        [[behavior]]
        match = { host = "*.Example.com", path = ["/c", "/d"] }
        bypass = "host"
        [[behavior]]
        match = { method = "HEAD", path = "/e" }
        bypass = "head"
        "#,
    );
    let proxy = proxy(&policy, &[]).await;
    let clock = WallClock::start();
    // Cookies do not matter, as is said for all.
    let users = [[("x-user", "one"), ("cookie", "a=1")], [("x-user", "two"), ("cookie", "a=2")]];
    for (path, keyed) in [("/a/b/x", true), ("/x", false)] {
        for user in users {
            let seen = wire::get(proxy.address, path, &user).await;
            let expected = if keyed || user[0].1 == "one" { user[0].1 } else { "one" };
            assert_eq!(seen.body, format!("{path} for {expected}"));
        }
        for user in users {
            assert!(wire::get(proxy.address, path, &user).await.is_hit(), "{path}");
        }
    }
    for (path, host, bypassed) in [
        ("/c", "www.EXAMPLE.com:8080", true),
        ("/d", "www.example.com", true),
        ("/c", "example.com", false),
        ("/f", "www.example.com", false),
    ] {
        let seen = wire::get(proxy.address, path, &[("host", host)]).await;
        let told = if bypassed {
            "larder; fwd=bypass; detail=\"host\""
        } else {
            "larder; fwd=uri-miss; stored; ttl=60"
        };
        clock.told(seen.cache_status(), told);
    }
    for (method, told) in
        [("GET", "larder; fwd=uri-miss; stored; ttl=60"), ("HEAD", "larder; fwd=bypass; detail=\"head\"")]
    {
        let request = http::Request::builder().method(method).uri(format!("http://{}/e", proxy.address));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let answer = wire::client().request(request).await.unwrap();
        clock.told(crate::support::bench::read(answer).await.cache_status(), told);
    }
}

#[tokio::test]
async fn what_bypasses_the_cache_goes_to_the_origin_as_all_else_does() {
    let echo = any(|headers: HeaderMap| async move { format!("{headers:?}") });
    let origin = wire::serve_router(Router::new().fallback(echo)).await;
    let policy = toml("[[behavior]]\nmatch = '/x'\nbypass = 'x'");
    let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
    for path in ["/x", "/y"] {
        let fields = [("x-original-url", "/evil"), ("x-forwarded-proto", "https")];
        let seen = wire::get(proxy.address, path, &fields).await;
        assert!(!seen.body.contains("evil") && !seen.body.contains("https"), "{}", seen.body);
    }
}

#[tokio::test]
async fn a20_what_a_client_says_of_proxies_in_front_has_no_effect_in_any_profile() {
    let echo = any(|headers: HeaderMap| async move {
        let fields: String =
            headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        ([("cache-control", "max-age=60"), ("vary", "x-forwarded-host, cloudfront-viewer-country")], fields)
    });
    let origin = wire::serve_router(Router::new().fallback(echo)).await;
    for profile in ["cloudfront", "default", "rfc9111", "fastly"] {
        let proxy = Proxy::before(&format!("http://{origin}"), &["--profile", profile]);
        let forged = [
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "evil"),
            ("x-forwarded-port", "evil"),
            ("x-original-url", "/evil"),
            ("x_forwarded_host", "evil"),
            ("forwarded", "host=evil"),
            ("cloudfront-viewer-country", "evil"),
            ("cloudfront-forwarded-proto", "evil"),
            ("cloudfront-is-mobile-viewer", "evil"),
            ("fastly-client-ip", "evil"),
            ("fastly-ssl", "evil"),
            ("fastly-ff", "evil"),
            ("fastly-debug", "evil"),
            ("cloudfront_viewer_country", "evil"),
            ("cloudfront-viewer_country", "evil"),
            ("fastly_client_ip", "evil"),
            ("fastly_ff", "evil"),
        ];
        let seen = wire::get(proxy.address, "/x", &forged).await;
        assert!(!seen.body.contains("evil"), "{profile}: {}", seen.body);
        assert!(seen.body.contains(&format!("x-forwarded-host: {}\n", proxy.address)), "{}", seen.body);
        // Nor do they select: whoever sends none gets the same.
        assert!(wire::get(proxy.address, "/x", &[]).await.is_hit(), "{profile}");
        let request = http::Request::post(format!("http://{}/x", proxy.address));
        let request = forged
            .iter()
            .filter(|(name, _)| name.starts_with(['c', 'f']))
            .fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = wire::client()
            .request(request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap())
            .await
            .unwrap();
        let seen = crate::support::bench::read(answer).await;
        assert!(!seen.body.contains("fastly") && !seen.body.contains("cloudfront"), "{}", seen.body);
    }
}

/// What a Fastly service does: Surrogate-Control outweighs all else, and is for caches only.
#[tokio::test]
async fn fa1_the_profile_fastly_heeds_surrogate_control_and_keeps_it_from_clients() {
    let surrogate = any(|uri: Uri| async move {
        let control = if uri.path() == "/private" { "private" } else { "no-store" };
        let fields =
            [("cache-control", control), ("surrogate-control", "max-age=3600"), ("surrogate-key", "a b")];
        (fields, "content")
    });
    let origin = wire::serve_router(Router::new().fallback(surrogate)).await;
    let classic = toml("profile = 'fastly'\n[[behavior]]\nmatch = '/classic'\nno_store_counts = false");
    let proxy =
        Proxy::before(&format!("http://{origin}"), &["--policy", classic.name(), "--key-header", "x-user"]);
    let clock = WallClock::start();
    for (path, told) in [
        ("/x", "larder; fwd=uri-miss; detail=\"no-store\""),
        ("/private", "larder; fwd=uri-miss; detail=\"private\""),
        ("/classic", "larder; fwd=uri-miss; stored; ttl=3600"),
    ] {
        for user in ["one", "two"] {
            let seen = wire::get(proxy.address, path, &[("x-user", user)]).await;
            clock.told(seen.cache_status(), told);
            assert_eq!((seen.field("surrogate-control"), seen.field("surrogate-key")), (None, None));
        }
    }
    let seen = wire::get(proxy.address, "/classic", &[("x-user", "two")]).await;
    clock.told(seen.cache_status(), "larder; hit; ttl=3600");
    assert_eq!((seen.field("surrogate-control"), seen.field("surrogate-key")), (None, None));
}

#[tokio::test]
async fn options_outweigh_the_file_and_the_file_the_profile() {
    let cookie = [("cookie", "a=1")];
    // By default, a cookie keeps an answer from being shared; by RFC 9111, it does not.
    for (file, arguments, is_shared) in [
        ("", &[][..], false),
        ("profile = 'rfc9111'", &[], true),
        ("", &["--profile", "rfc9111"], true),
        ("profile = 'rfc9111'", &["--profile", "default"], false),
        ("profile = 'default'", &["--profile", "rfc9111"], true),
        ("profile = 'rfc9111'\n[default]\ncredentials = 'explicit'", &[], false),
        ("[default]\ncredentials = 'explicit'", &["--profile", "rfc9111"], false),
        ("[default]\ncredentials = 'rfc9111'", &["--profile", "default"], true),
    ] {
        let proxy = proxy(&toml(file), arguments).await;
        wire::get(proxy.address, "/x", &cookie).await;
        assert_eq!(wire::get(proxy.address, "/x", &cookie).await.is_hit(), is_shared, "{file} {arguments:?}");
    }
    // What the file keys stays keyed.
    let keyed =
        toml("[default]\nkey = { headers = ['x-user'] }\n[[behavior]]\nmatch = '/b'\nimmutable = false");
    let proxy = proxy(&keyed, &["--key-header", "X-Team", "--key-header", "x-forwarded-host"]).await;
    for path in ["/a", "/b"] {
        for fields in [
            [("x-user", "one"), ("x-team", "a"), ("x-forwarded-host", "a")],
            [("x-user", "two"), ("x-team", "a"), ("x-forwarded-host", "a")],
            [("x-user", "one"), ("x-team", "b"), ("x-forwarded-host", "a")],
            [("x-user", "one"), ("x-team", "a"), ("x-forwarded-host", "b")],
        ] {
            for hit in [false, true] {
                assert_eq!(wire::get(proxy.address, path, &fields).await.is_hit(), hit, "{path} {fields:?}");
            }
        }
    }
}

#[tokio::test]
async fn lifetimes_and_limits_of_content_hold_in_each_profile() {
    let say = any(|uri: Uri| async move {
        let status = if uri.path() == "/404" { 404 } else { 200 };
        let kind = if uri.path() == "/video" { "video/mp4" } else { "text/plain" };
        let control = if uri.path() == "/stated" { "max-age=30" } else { "public" };
        let status = http::StatusCode::from_u16(status).unwrap();
        (status, [("content-type", kind), ("cache-control", control)], "content")
    });
    let origin = wire::serve_router(Router::new().fallback(say)).await;
    for (profile, default) in [
        ("cloudfront", "lifetime = { exactly = '2m' }"),
        ("default", "default_lifetime = '2m'"),
        ("rfc9111", "default_lifetime = '2m'"),
        ("fastly", "default_ttl = '2m'"),
    ] {
        let policy = toml(&format!(
            r#"
            profile = "{profile}"
            [default]
            {default}
            status_lifetimes = {{ "4xx" = 7, "404" = {{ exactly = "8s" }} }}
            without_types = "video/*"
            [[behavior]]
            match = "/long/*"
            lifetime = {{ at_least = "1d" }}
            max_body = 6
            [[behavior]]
            match = "/stated"
            lifetime = {{ at_least = "1h" }}
            "#
        ));
        let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
        let clock = WallClock::start();
        for (path, told) in [
            ("/x", "larder; fwd=uri-miss; stored; ttl=120"),
            ("/404", "larder; fwd=uri-miss; stored; ttl=8"),
            ("/video", "larder; fwd=uri-miss; detail=\"content-type\""),
            ("/long/x", "larder; fwd=uri-miss; detail=\"too-large\""),
            ("/stated", "larder; fwd=uri-miss; stored; ttl=3600"),
        ] {
            let seen = wire::get(proxy.address, path, &[]).await;
            clock.told(seen.cache_status(), told);
        }
    }
}

/// Requests that share an answer, in groups, by their paths and fields.
async fn groups(proxy: &Proxy, groups: &[&[(&str, &[(&str, &str)])]]) {
    for group in groups {
        for (number, (path, fields)) in group.iter().enumerate() {
            let seen = wire::get(proxy.address, path, fields).await;
            assert_eq!(seen.is_hit(), number > 0, "{path} {fields:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn kx4_a_file_says_what_is_in_the_key_in_each_profile() {
    for profile in ["default", "rfc9111", "fastly"] {
        let policy = toml(&format!(
            r#"
            profile = "{profile}"
            [default.key]
            query = {{ except = ["debug"], ignore_trackers = true, sorted = true }}
            cookies = ["theme"]
            host = "www.example.com"
            [[behavior]]
            match = "/none"
            key.query = "none"
            [[behavior]]
            match = "/parts"
            key = {{ headers = "x-shop", header_presence = "x-a", header_contains = {{ name = "x-b", word = "yes" }} }}
            [[behavior]]
            match = "/classes"
            key = {{ accepts = "image/avif", mobile = true, cookie_presence = "session", cookies = "none" }}
            "#
        ));
        let proxy = proxy(&policy, &[]).await;
        groups(
            &proxy,
            &[
                &[
                    ("/x?b=1&a=2", &[]),
                    ("/x?a=2&utm_source=y&b=1&debug=1", &[]),
                    ("/x?a=2&b=1", &[("host", "a.example")]),
                ],
                &[("/x?a=3", &[])],
                &[("/x", &[("cookie", "theme=dark; id=1")]), ("/x", &[("cookie", "id=2; theme=dark")])],
                &[("/x", &[("cookie", "theme=light")])],
                &[("/none?a", &[]), ("/none?b", &[("host", "b.example")]), ("/none", &[])],
                &[("/parts", &[("x-shop", "1")]), ("/parts?debug=2", &[("x-shop", "1")])],
                &[("/parts", &[("x-shop", "2")])],
                &[("/parts", &[("x-a", "1")]), ("/parts", &[("x-a", "2"), ("x-b", "no")])],
                &[("/parts", &[("x-b", "oh yes")])],
                &[("/classes", &[("accept", "image/png")]), ("/classes", &[])],
                &[("/classes", &[("accept", "image/avif,*/*")])],
                &[("/classes", &[("user-agent", "Mobile Mobi")])],
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_single_name_of_a_cookie_or_a_parameter_is_a_list_of_one() {
    let policy = toml("[default.key]\ncookies = 'session'\nquery = 'page*'");
    let proxy = proxy(&policy, &[]).await;
    groups(
        &proxy,
        &[
            &[("/x?page=1", &[("cookie", "session=1; a=1")]), ("/x?a=2&page=1", &[("cookie", "session=1")])],
            &[("/x?page=1", &[("cookie", "session=2")])],
            &[("/x?page2=1", &[("cookie", "session=2")])],
        ],
    )
    .await;
}

#[tokio::test]
async fn kx2_a_file_says_what_is_done_to_responses_in_each_profile() {
    let shop = any(|| async {
        let fields = [
            ("cache-control", "private, no-store"),
            ("set-cookie", "visitor=1"),
            ("vary", "user-agent, accept-language"),
            ("cache-tag", "shop"),
            ("x-powered-by", "shop"),
        ];
        (fields, "content")
    });
    let origin = wire::serve_router(Router::new().fallback(shop)).await;
    for profile in ["cloudfront", "default", "rfc9111", "fastly"] {
        let policy = toml(&format!(
            r#"
            profile = "{profile}"
            [default.response]
            remove_directives = ["private", "no-store"]
            set_directives = "public, max-age=60"
            strip_set_cookie = true
            remove_fields = "x-powered-by"
            set_fields = {{ "x-by" = "larder" }}
            strip_vary = "user-agent"
            tags_from = "cache-tag,"
            [[behavior]]
            match = "/own"
            vary = {{ "accept-language" = "bypass" }}
            "#
        ));
        let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
        for (number, language) in ["de", "de", "fr"].into_iter().enumerate() {
            let fields = [("accept-language", language), ("user-agent", ["a", "b", "c"][number])];
            let seen = wire::get(proxy.address, "/x", &fields).await;
            assert_eq!(seen.is_hit(), number == 1, "{profile} {seen:?}");
            assert_eq!(seen.field("cache-control"), Some("public, max-age=60"));
            assert_eq!((seen.field("set-cookie"), seen.field("x-powered-by")), (None, None));
            assert_eq!((seen.field("x-by"), seen.field("vary")), (Some("larder"), Some("accept-language")));
            assert_eq!(seen.field("cache-tag"), None);
        }
        let seen = wire::get(proxy.address, "/own", &[("accept-language", "de")]).await;
        seen.told("larder; fwd=uri-miss; detail=\"vary-bypass\"");
    }
}

#[tokio::test]
async fn fa10_a_client_with_the_token_gets_to_know_more_than_others() {
    let surrogate =
        any(|| async { ([("surrogate-control", "max-age=60"), ("surrogate-key", "a b")], "content") });
    let origin = wire::serve_router(Router::new().fallback(surrogate)).await;
    let policy = toml(
        "profile = 'fastly'\n[default]\ndebug_token = 'debug'\npeer_token = { field = 'x-peer', secret = 'peer' }",
    );
    let (_, said) = check(&std::fs::read_to_string(policy.path()).unwrap(), &[]);
    assert!(
        said.contains("debug_token              set\n") && said.contains("field x-peer; secret set\n"),
        "{said}"
    );
    let proxy = Proxy::before(&format!("http://{origin}"), &["--policy", policy.name()]);
    for (field, keys, is_told) in [
        (("fastly-debug", "wrong"), None, false),
        (("fastly-debug", "debug"), Some("a b"), true),
        (("x-peer", "peer"), Some("a b"), false),
    ] {
        let seen = wire::get(proxy.address, "/x", &[field]).await;
        assert_eq!(seen.field("surrogate-key"), keys, "{field:?}");
        assert_eq!(seen.field("fastly-debug-ttl").is_some(), is_told, "{field:?} {seen:?}");
    }
}

#[tokio::test]
async fn a_header_can_be_keyed_without_a_file() {
    let origin = wire::serve_router(origin()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &["--key-header", "x-user"]);
    for user in ["one", "two"] {
        wire::get(proxy.address, "/x", &[("x-user", user)]).await.has_body(&format!("/x for {user}"));
        assert!(wire::get(proxy.address, "/x", &[("x-user", user)]).await.is_hit());
    }
}

/// The policy of each user's own page: by the key, or never cached.
const KEYED: &str = "[[behavior]]\nmatch = '/x'\nkey = { headers = ['x-user'] }";
const BYPASSED: &str = "[[behavior]]\nmatch = '/x'\nbypass = 'never'";
const BROKEN: &str = "[[behavior]]\nmatch = '/x'\nkye = { headers = ['x-user'] }";

#[tokio::test(flavor = "multi_thread")]
async fn sighup_without_a_file_ends_neither_the_proxy_nor_the_origin() {
    let origin = SampleOrigin::start();
    let (proxy, lines) = Proxy::with_lines(&origin.url, &[]);
    proxy.signal("HUP");
    let line = tokio::task::spawn_blocking(move || lines.recv_timeout(GUARD).unwrap()).await.unwrap();
    assert_eq!(line, "larder: there is no policy to read again: no --policy was given");
    origin.signal("HUP");
    wire::get(proxy.address, "/article/1", &[]).await.has_body("Article 1, edited 0 times\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_read_again_on_sighup_and_no_request_is_dropped_or_torn() {
    let origin = wire::serve_router(origin()).await;
    let policy = toml(KEYED);
    let (proxy, lines) = Proxy::with_lines(&format!("http://{origin}"), &["--policy", policy.name()]);
    let address = proxy.address;
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = ["one", "two", "three"]
        .into_iter()
        .map(|user| {
            let (done, count) = (Arc::clone(&done), Arc::clone(&count));
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let seen = wire::get(address, "/x", &[("x-user", user)]).await;
                    assert_eq!((seen.status.as_u16(), &*seen.body), (200, &*format!("/x for {user}")));
                    count.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let reloading = tokio::task::spawn_blocking(move || {
        let reload = |text: &str, said: &str| {
            policy.write(text);
            proxy.signal("HUP");
            let line = lines.recv_timeout(GUARD).expect("the proxy says what it has read");
            let said = said.replace("FILE", policy.name());
            assert_eq!(line, said);
        };
        for _ in 0..20 {
            reload(BYPASSED, "larder: the policy is that of FILE now");
            let stays = "larder: the policy stays as it was: FILE:3: unknown key 'kye'; did you mean 'key'?";
            reload(BROKEN, stays);
            reload(KEYED, "larder: the policy is that of FILE now");
        }
        reload(BYPASSED, "larder: the policy is that of FILE now");
        (proxy, policy, lines)
    });
    let (proxy, policy, lines) = reloading.await.unwrap();
    done.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(count.load(Ordering::SeqCst) > 20, "requests were made meanwhile");
    let bypassed = || wire::get(address, "/x", &[("x-user", "one")]);
    bypassed().await.told("larder; fwd=bypass; detail=\"never\"");
    // A file that is gone changes nothing either.
    let name = policy.name().to_owned();
    drop(policy);
    proxy.signal("HUP");
    let line = tokio::task::spawn_blocking(move || lines.recv_timeout(GUARD).unwrap()).await.unwrap();
    assert!(
        line.starts_with(&format!("larder: the policy stays as it was: {name}: can't be read")),
        "{line}"
    );
    bypassed().await.told("larder; fwd=bypass; detail=\"never\"");
}
