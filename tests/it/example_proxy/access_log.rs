//! The access log, and who is told what the cache did.

use std::sync::mpsc::Receiver;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use serde_json::Value;

use crate::example_proxy::process::{Proxy, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Origin};
use crate::support::wire;

async fn origin() -> String {
    let page = get(async || ([("cache-control", "max-age=60"), ("etag", "\"a\"")], "four"));
    let mine = get(async || ([("cache-control", "private")], "mine"));
    format!("http://{}", wire::serve_router(Router::new().route("/page", page).route("/mine", mine)).await)
}

/// Ends the proxy, so that everything is written.
#[track_caller]
fn lines(proxy: Proxy, log: &TempFile) -> Vec<String> {
    proxy.signal("TERM");
    assert!(proxy.ends_well());
    let text = std::fs::read_to_string(log.path()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The next line that is one of the log.
#[track_caller]
fn next(lines: &Receiver<String>) -> Value {
    loop {
        let line = lines.recv_timeout(GUARD).expect("a line");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

#[tokio::test]
async fn each_request_is_a_line_of_the_common_format_with_what_the_cache_did() {
    let log = TempFile::new("log", "before\n");
    let proxy = Proxy::before(&origin().await, &["--access-log", log.name()]);
    wire::get(proxy.address, "/page?x=1", &[]).await;
    wire::get(proxy.address, "/page?x=1", &[]).await;
    wire::get(proxy.address, "/page?x=1", &[("if-none-match", "\"a\"")]).await;
    wire::get(proxy.address, "/mine", &[]).await;
    let lines = lines(proxy, &log);
    assert_eq!(lines[0], "before", "lines are added");
    let expected = [
        ("\"GET /page?x=1 HTTP/1.1\" 200 4 miss ", "\"larder; fwd=uri-miss; stored; ttl=60\""),
        ("\"GET /page?x=1 HTTP/1.1\" 200 4 hit ", "\"larder; hit; ttl="),
        ("\"GET /page?x=1 HTTP/1.1\" 304 0 hit ", "\"larder; hit; ttl="),
        ("\"GET /mine HTTP/1.1\" 200 4 miss ", "\"larder; fwd=uri-miss; detail='private'\""),
    ];
    assert_eq!(lines.len(), 1 + expected.len(), "{lines:?}");
    for (line, (asked, told)) in lines[1..].iter().zip(expected) {
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.contains(&format!(" +0000] {asked}")) && line.contains(told), "{line}");
    }
}

#[tokio::test]
async fn a41_what_clients_and_origins_send_ends_neither_a_field_nor_a_line_of_the_log() {
    for format in ["common", "json"] {
        let (origin, log) = (Origin::new(), TempFile::new("log", ""));
        let proxy = origin.proxy(&["--access-log", log.name(), "--access-log-format", format]);
        let mut client = Client::of(&proxy);
        client.send(
            "GET /a\"b\\c HTTP/1.1\r\nhost: a.test\r\nuser-agent: \" 200 0 hit\t\\\u{e9}\"}\r\n\
             referer: \",\"status\":500\r\n\r\n",
        );
        let mut asked = origin.any();
        asked.answer(
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: \"},{\u{e9}\r\ncache-control: max-age=60\r\n\
             cache-status: x; detail=\"evil\"\r\n\r\nfour",
        );
        client.next();
        let lines = lines(proxy, &log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        if format == "json" {
            let object: Value = serde_json::from_str(line).unwrap();
            assert_eq!(object["target"], "/a\"b\\c");
            assert_eq!((&object["status"], &object["bytes"]), (&200.into(), &4.into()));
            assert_eq!(object["referer"], "\",\"status\":500");
            assert_eq!(object["cache_status"], "larder; fwd=uri-miss; stored; ttl=60");
        } else {
            assert!(line.contains("\"GET /a\\x22b\\x5cc HTTP/1.1\" 200 4 miss"), "{line}");
            assert_eq!(line.matches('"').count(), 4, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_and_an_answer_of_the_proxys_own_are_lines_too() {
    let origin = Origin::new();
    let arguments = ["--access-log", "-", "--access-log-format", "json"];
    let (proxy, lines) = Proxy::with_lines(&origin.upstream(), &arguments);
    let request = Request::get(format!("http://{}/slow", proxy.address)).body(Empty::<Bytes>::new()).unwrap();
    let client = tokio::spawn(wire::http2_client().request(request));
    let asked = tokio::task::block_in_place(|| origin.any());
    client.abort();
    let line = next(&lines);
    assert_eq!((&line["outcome"], &line["status"]), (&"abandoned".into(), &Value::Null));
    assert_eq!((&line["target"], &line["version"]), (&"/slow".into(), &"HTTP/2.0".into()));
    assert_eq!(line["complete"], false);
    drop(asked);
    let mut client = Client::of(&proxy);
    client.get("/broken");
    let mut asked = origin.within("/broken");
    asked.answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncache-control: no-store\r\n\r\nfour");
    asked.die();
    let line = next(&lines);
    assert_eq!((&line["outcome"], &line["status"]), (&"miss".into(), &200.into()));
    assert_eq!(line["complete"], false);
    let mut client = Client::of(&proxy);
    client.send("GET /refused HTTP/1.1\r\nhost: a b\r\n\r\n");
    client.next();
    let line = next(&lines);
    assert_eq!((&line["outcome"], &line["status"]), (&"error".into(), &400.into()));
    assert_eq!(line["cache_status"], "larder; detail=\"invalid-host\"");
}

#[cfg(unix)]
#[tokio::test]
async fn a_log_that_was_moved_is_opened_again_on_sighup() {
    let (log, moved) = (TempFile::new("log", ""), TempFile::new("log", ""));
    let (proxy, lines_of_proxy) = Proxy::with_lines(&origin().await, &["--access-log", log.name()]);
    wire::get(proxy.address, "/page?before", &[]).await;
    std::fs::rename(log.path(), moved.path()).unwrap();
    let expected = format!("larder: the access log is that of {} now", log.name());
    for _ in 0..2 {
        proxy.signal("HUP");
        loop {
            let line = lines_of_proxy.recv_timeout(GUARD).expect("it says so");
            assert!(!line.contains("there is no policy"), "there is something to read again: {line}");
            if line == expected {
                break;
            }
        }
    }
    wire::get(proxy.address, "/page?after", &[]).await;
    let after = lines(proxy, &log);
    assert!(after.len() == 1 && after[0].contains("/page?after"), "{after:?}");
    let before = std::fs::read_to_string(moved.path()).unwrap();
    assert!(before.lines().count() == 1 && before.contains("/page?before"), "{before}");
}

#[tokio::test]
async fn only_who_shows_the_debug_token_is_told_what_the_cache_did_and_the_log_knows() {
    const SECRET: &str = "0123456789abcdef";
    let (token, log) = (TempFile::new("token", format!("{SECRET}\n")), TempFile::new("log", ""));
    let arguments = ["--debug-token-file", token.name(), "--access-log", log.name()];
    let proxy = Proxy::before(&origin().await, &arguments);
    for (shown, is_told) in [("", false), ("0123456789abcdeF", false), (SECRET, true)] {
        let seen = wire::get(proxy.address, "/page", &[("larder-debug", shown)]).await;
        for name in ["cache-status", "x-cache"] {
            assert_eq!(seen.field(name).is_some(), is_told, "{name} {shown:?}");
        }
    }
    let mut client = Client::of(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: a b\r\n\r\n");
    client.next().lacks("cache-status").lacks("x-cache");
    let lines = lines(proxy, &log);
    let told = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!(
        (told("larder; hit"), told("larder; fwd=uri-miss"), told("invalid-host")),
        (2, 1, 1),
        "{lines:?}"
    );
    assert!(!lines.concat().contains(SECRET), "{lines:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn the_debug_token_is_replaced_on_sighup_and_what_is_none_changes_nothing() {
    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210";
    let token = TempFile::new("token", OLD);
    let (proxy, lines) = Proxy::with_lines(&origin().await, &["--debug-token-file", token.name()]);
    let told = async || {
        let is_told = async |shown| {
            wire::get(proxy.address, "/page", &[("larder-debug", shown)])
                .await
                .field("cache-status")
                .is_some()
        };
        (is_told(OLD).await, is_told(NEW).await)
    };
    assert_eq!(told().await, (true, false));
    for (content, line, expected) in [
        (NEW, format!("larder: the debug token is that of {} now", token.name()), (false, true)),
        ("short", "larder: the debug token stays as it was: --debug-token-file".to_owned(), (false, true)),
    ] {
        token.write(content);
        proxy.signal("HUP");
        let said = lines.recv_timeout(GUARD).unwrap();
        assert!(said.starts_with(&line) && !said.contains(NEW), "{said}");
        assert_eq!(told().await, expected, "{content}");
    }
}

#[test]
fn wrong_options_of_the_log_and_of_the_token_are_reported_in_one_sentence() {
    let short = TempFile::new("token", "short\n");
    let upstream = ["proxy", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9"];
    for (arguments, said) in [
        (&["--access-log-format", "json"][..], "--access-log-format goes with --access-log"),
        (&["--access-log", "-", "--access-log-format", "xml"], "there is no format 'xml' of an access log"),
        (&["--access-log", "/nowhere/log"], "/nowhere/log: can't be written to"),
        (&["--debug-token-file", short.name()], "16 or more letters"),
        (&["--debug-token-file", "/nowhere/token"], "can't be read"),
    ] {
        let output = run(&[&upstream[..], arguments].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.lines().count() == 1 && text.contains(said), "{arguments:?}: {text}");
    }
}
