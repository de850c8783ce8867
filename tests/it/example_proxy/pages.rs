//! Pages in the place of errors, by a policy file.

use crate::example_proxy::process::{Proxy, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Origin};

const PAGE: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nsorry";
const LOST: &str = "HTTP/1.1 404 Not Found\r\ncache-control: no-store\r\ncontent-length: 4\r\n\r\nlost";

#[test]
fn cf10_an_error_gets_the_page_that_a_file_names() {
    for (file, status) in [
        ("[default]\nerror_pages = { 404 = '/lost.html' }", "404 Not Found"),
        ("[default]\nerror_pages = { 404 = { path = '/lost.html', status = 200 } }", "200 OK"),
        ("profile = 'cloudfront'\n[default]\nerror_pages = { 404 = '/lost.html' }", "404 Not Found"),
        ("profile = 'fastly'\n[default]\nerror_pages = { 404 = '/lost.html' }", "404 Not Found"),
    ] {
        let policy = TempFile::new("toml", file);
        let origin = Origin::new();
        let proxy = origin.proxy(&["--policy", policy.name()]);
        let mut client = Client::of(&proxy);
        for number in 0..2 {
            client.get(&format!("/{number}"));
            origin.asked(&format!("/{number}")).answer(LOST);
            if number == 0 {
                origin.asked("/lost.html").answer(PAGE);
            }
            client.next().is(&format!("HTTP/1.1 {status}"), "sorry").has("cache-control: no-store");
        }
        // Another method, and another error.
        client.send("POST /2 HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\nhi");
        origin.asked("/2").answer(LOST);
        client.next().is("HTTP/1.1 404 Not Found", "lost");
        client.get("/3");
        origin.asked("/3").answer(&LOST.replace("404 Not Found", "410 Gone"));
        client.next().is("HTTP/1.1 410 Gone", "lost");
    }
}

#[test]
fn cf10_a_stored_page_stands_in_for_an_origin_that_is_away() {
    let policy = TempFile::new("toml", "[default]\nerror_pages = { 502 = '/sorry.html' }");
    let origin = Origin::new();
    let proxy = origin.proxy(&["--policy", policy.name()]);
    let mut client = Client::of(&proxy);
    client.get("/sorry.html");
    origin.asked("/sorry.html").answer(PAGE);
    client.next().is("HTTP/1.1 200 OK", "sorry");
    client.get("/x");
    // On a connection that has answered before: it is sent once more.
    origin.asked("/x").die();
    origin.asked("/x").die();
    let answer = client.next().is("HTTP/1.1 502 Bad Gateway", "sorry");
    answer
        .has("\r\ncache-status: larder; fwd=uri-miss; detail=\"origin-broken\"\r\n")
        .has("\r\nvia: 1.1 larder\r\n");
    // Where there is no page, the error goes out as it is.
    let policy = TempFile::new("toml", "[default]\nerror_pages = { 502 = '/none.html' }");
    let proxy = origin.proxy(&["--policy", policy.name()]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked("/x").die();
    origin.asked("/none.html").answer(LOST);
    client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-broken\"");
}

#[test]
fn cf10_a_distributions_error_pages_come_from_awss_json_and_from_a_file_that_is_read_again() {
    let json = |page: &str| {
        format!(
            r#"{{"DefaultCacheBehavior": {{"TargetOriginId": "web", "ViewerProtocolPolicy": "allow-all",
                "CachePolicyId": "83da9c7e-98b4-4e11-a168-04f0df8e2c65"}},
              "CustomErrorResponses": {{"Quantity": 1, "Items": [
                {{"ErrorCode": 404, "ResponsePagePath": "{page}", "ResponseCode": "200", "ErrorCachingMinTTL": 0}}]}}}}"#
        )
    };
    let policy = TempFile::new("json", json("/one.html"));
    let origin = Origin::new();
    let (proxy, lines) = Proxy::with_lines(&origin.upstream(), &["--policy", policy.name()]);
    let mut client = Client::of(&proxy);
    for page in ["/one.html", "/two.html"] {
        client.get("/x");
        origin.asked("/x").answer(LOST);
        origin.asked(page).answer(PAGE);
        client.next().is("HTTP/1.1 200 OK", "sorry");
        policy.write(json("/two.html"));
        proxy.signal("HUP");
        assert!(lines.recv_timeout(GUARD).unwrap().contains("the policy is that of"));
    }
}

#[test]
fn cf10_pages_that_come_by_sighup_do_not_replace_what_the_limits_refuse() {
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
    for (limit, detail) in [("--max-calls", "call-limit"), ("--max-calls-per-address", "too-many-calls")] {
        let policy = TempFile::new("toml", "");
        let origin = Origin::new();
        let arguments = ["--policy", policy.name(), limit, "1", "--call-wait", "0.1"];
        let (proxy, lines) = Proxy::with_lines(&origin.upstream(), &arguments);
        policy.write("[default]\nerror_pages = { 503 = '/sorry.html' }");
        proxy.signal("HUP");
        assert!(lines.recv_timeout(GUARD).unwrap().contains("the policy is that of"));
        let (mut first, mut second) = (Client::of(&proxy), Client::of(&proxy));
        first.get("/sorry.html");
        origin.asked("/sorry.html").answer(PAGE);
        first.next().is("HTTP/1.1 200 OK", "sorry");
        first.get("/1");
        let mut under_way = origin.asked("/1");
        second.get("/2");
        second.next().is("HTTP/1.1 503 Service Unavailable", "").has(&format!("detail=\"{detail}\""));
        // The origin's own 503 has its page.
        under_way.answer(BUSY);
        first.next().is("HTTP/1.1 503 Service Unavailable", "sorry");
    }
}

#[test]
fn what_is_wrong_with_error_pages_is_reported() {
    for (text, said) in [
        ("[default]\nerror_pages = { 200 = '/a' }", "FILE:2: '200' is not a status of an error"),
        ("[default]\nerror_pages = { 404 = 'a' }", "FILE:2: 'a' is not a path; one looks like /404.html"),
        (
            "[default]\nerror_pages = { 404 = { pth = '/a' } }",
            "FILE:2: unknown key 'pth'; did you mean 'path'?",
        ),
        (
            "[[behavior]]\nmatch = '/a'\nerror_pages = { 404 = '/a' }",
            "FILE:3: 'error_pages' is for [default]: an error of any request gets its page",
        ),
    ] {
        let file = TempFile::new("toml", text);
        let output = run(&["check-policy", file.name()]);
        let text = String::from_utf8(output.stderr).unwrap().replace(file.name(), "FILE");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with(said), "{said}\n{text}");
    }
}
