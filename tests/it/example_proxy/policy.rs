//! Policies from files and options: what a file may say, what is wrong with it, what outweighs what, and SIGHUP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use http::{HeaderMap, Uri};

use crate::example_proxy::process::{Proxy, run};
use crate::support::file::TempFile;
use crate::support::raw::GUARD;
use crate::support::wire;

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
fn check(text: &str, arguments: &[&str]) -> (i32, String) {
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
    latency_budget           2s
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
        // Each is known to one list of profiles at most.
        assert!(section.matches(&format!("\"{key}\",")).count() <= 1, "{key}");
    }
    // What is said to belong to some profiles is a key.
    let lists = section.split("OF_PROFILES").nth(1).unwrap();
    for name in lists.split('"').skip(1).step_by(2) {
        assert!(keys.contains(&name), "{name} is no key");
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
        ("[[behavior]]\nmatch = { method = 'get' }", "FILE:2: 'get' is no method; one looks like GET"),
        (
            "[default]\n\nstale_if_error = '1 year'",
            "FILE:3: '1 year' is no time; one looks like 90s or 1h30m",
        ),
        ("[default]\nstale_if_error = -1", "FILE:2: '-1' is no time; it is below 0"),
        ("[default]\nkey_fields = ['a b']", "FILE:2: 'a b' can't be the name of a field"),
        (
            "[default]\nbypass = 'No, never'",
            "FILE:2: 'No, never' is no reason; it is a word of a-z, 0-9 and -",
        ),
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
        key_fields = ["x-user"]
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
        seen.told(told);
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
    let keyed = toml("[default]\nkey_fields = ['x-user']\n[[behavior]]\nmatch = '/b'\nimmutable = false");
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
async fn a_header_can_be_keyed_without_a_file() {
    let origin = wire::serve_router(origin()).await;
    let proxy = Proxy::before(&format!("http://{origin}"), &["--key-header", "x-user"]);
    for user in ["one", "two"] {
        wire::get(proxy.address, "/x", &[("x-user", user)]).await.has_body(&format!("/x for {user}"));
        assert!(wire::get(proxy.address, "/x", &[("x-user", user)]).await.is_hit());
    }
}

/// The policy of each user's own page: by the key, or never cached.
const KEYED: &str = "[[behavior]]\nmatch = '/x'\nkey_fields = ['x-user']";
const BYPASSED: &str = "[[behavior]]\nmatch = '/x'\nbypass = 'never'";
const BROKEN: &str = "[[behavior]]\nmatch = '/x'\nkey_felds = ['x-user']";

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
            let stays = "larder: the policy stays as it was: FILE:3: unknown key 'key_felds'; did you mean 'key_fields'?";
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
