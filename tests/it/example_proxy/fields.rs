//! `Max-Forwards` and `Via`, and the fields that an interim response must not have (B19).

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::support::bench::read;
use crate::support::raw::{Client, Message, Origin, get};

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";

/// What `Via` says in a message; it has to have one line of it.
#[track_caller]
fn via(message: &Message) -> &str {
    let mut lines = message.head.split("\r\n").filter_map(|line| line.strip_prefix("via: "));
    let via = lines.next().unwrap_or_else(|| panic!("{message:?}"));
    assert_eq!(lines.next(), None, "{message:?}");
    via
}

#[test]
fn b19_max_forwards_is_decremented_for_options_and_trace() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    let counted =
        [("1", "0"), ("10", "9"), ("007", "6"), ("99999999999999999999999", "18446744073709551614")];
    let ignored = ["x", "-1", "+1", "1.5", "1, 2", "0x1", "\"1\"", "1 2"];
    let ignored = ignored.map(|value| (value, value));
    for (method, cases) in
        [("OPTIONS", counted.iter().chain(&ignored)), ("TRACE", counted.iter().chain(&ignored))]
    {
        for (sent, forwarded) in cases {
            client.send(&format!("{method} /x HTTP/1.1\r\nhost: a.example\r\nmax-forwards: {sent}\r\n\r\n"));
            let mut asked = origin.asked("/x");
            asked.answer(FINAL);
            asked.message.has(&format!("\r\nmax-forwards: {forwarded}\r\n"));
            client.next().is("HTTP/1.1 200 OK", "final");
        }
    }
    // It is for these two methods only.
    for method in ["GET", "PUT", "DELETE", "POST"] {
        client.send(&format!("{method} /x HTTP/1.1\r\nhost: a.example\r\nmax-forwards: 0\r\n\r\n"));
        let mut asked = origin.asked("/x");
        asked.answer(&FINAL.replace("max-age=60", "no-store"));
        asked.message.has("\r\nmax-forwards: 0\r\n");
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    // Two lines are no number.
    client.send("OPTIONS /x HTTP/1.1\r\nhost: a.example\r\nmax-forwards: 0\r\nmax-forwards: 0\r\n\r\n");
    let mut asked = origin.asked("/x");
    asked.answer(FINAL);
    asked.message.has("\r\nmax-forwards: 0\r\nmax-forwards: 0\r\n");
    client.next().is("HTTP/1.1 200 OK", "final");
}

#[test]
fn b19_the_proxy_answers_options_with_max_forwards_0() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for target in ["/x", "*"] {
        client.send(&format!("OPTIONS {target} HTTP/1.1\r\nhost: a.example\r\nmax-forwards: 0\r\n\r\n"));
        let answer = client.next().is("HTTP/1.1 200 OK", "").has("\r\ncontent-length: 0\r\n");
        let answer = answer.has("\r\nallow: GET, HEAD, POST, ").has(OWN);
        assert_eq!(via(&answer), "1.1 larder");
    }
    origin.was_not_asked();
}

const OWN: &str = "\r\ncache-status: larder; detail=\"max-forwards\"\r\n";

#[test]
fn b19_the_proxy_answers_trace_with_max_forwards_0_without_credentials() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.send(
        "TRACE /x?y HTTP/1.1\r\nhost: a.example\r\nmax-forwards: 0\r\nconnection: x-hop\r\nx-hop: 1\r\n\
         authorization: secret\r\ncookie: secret\r\ncookie: secret=2\r\nproxy-authorization: secret\r\n\
         via: 1.0 other\r\nx: \u{e4}\r\nx: 2\r\n\r\n",
    );
    let answer = client.next();
    let mut lines: Vec<_> = answer.content.split("\r\n").collect();
    assert_eq!(lines.remove(0), "TRACE /x?y HTTP/1.1");
    assert_eq!(lines.split_off(lines.len() - 2), ["", ""]);
    lines.sort_unstable();
    let expected =
        ["connection: x-hop", "host: a.example", "max-forwards: 0", "via: 1.0 other", "x-hop: 1", "x: 2"];
    assert_eq!(lines, [&expected[..], &["x: \u{e4}"]].concat());
    let answer = answer.has("HTTP/1.1 200 OK\r\n").has("\r\ncontent-type: message/http\r\n").has(OWN);
    assert_eq!(via(&answer), "1.1 larder");
    origin.was_not_asked();
}

#[test]
fn b19_via_names_the_received_version_and_stored_responses_keep_it() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    let tag = "etag: \"a\"\r\n";
    for (number, version) in ["1.0", "1.1"].iter().enumerate() {
        for (asked_in, validator) in [("1.1", ""), ("1.0", ""), ("1.1", tag)] {
            let path = format!("/{number}/{asked_in}/{}", validator.len());
            let request = format!("GET {path} HTTP/{asked_in}\r\nhost: a.example\r\nvia: 1.1 first\r\n");
            client.send(&format!("{request}connection: keep-alive\r\n\r\n"));
            let mut asked = origin.asked(&path);
            assert_eq!(via(&asked.message), format!("1.1 first, {asked_in} larder"));
            let answer = FINAL.replace("HTTP/1.1", &format!("HTTP/{version}"));
            // One of the origin's side stays before it.
            let answer =
                answer.replace("cache-control", &format!("{validator}via: 1.1 inner\r\ncache-control"));
            asked.answer(&answer);
            asked.die();
            for hit in ["fwd=uri-miss", "larder; hit", "larder; hit"] {
                if hit != "fwd=uri-miss" {
                    client.get(&path);
                }
                let answer = client.next().has(hit);
                assert_eq!(via(&answer), format!("1.1 inner, {version} larder"));
                // RFC 9110 2.5: the version of the answer is the proxy's, not the origin's.
                let answered_in = if hit == "fwd=uri-miss" { asked_in } else { "1.1" };
                answer.is(&format!("HTTP/{answered_in} 200 OK"), "final");
            }
            // A 304 is made here, and has one member as well.
            if !validator.is_empty() {
                client.send(&get(&path).replace("\r\n\r\n", "\r\nif-none-match: \"a\"\r\n\r\n"));
                let answer = client.next().is("HTTP/1.1 304 Not Modified", "").has("larder; hit");
                assert_eq!(via(&answer), "1.1 larder");
            }
        }
    }
}

#[test]
fn b19_a_response_has_the_proxys_version_whatever_the_origin_speaks() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for (method, fields) in
        [("GET", "max-age=60"), ("GET", "no-store"), ("POST", "no-store"), ("OPTIONS", "x")]
    {
        client.send(&format!("{method} /{fields} HTTP/1.1\r\nhost: a.example\r\n\r\n"));
        let mut asked = origin.any();
        asked.answer(&FINAL.replace("HTTP/1.1", "HTTP/1.0").replace("max-age=60", fields));
        asked.die();
        let answer = client.next().is("HTTP/1.1 200 OK", "final");
        assert_eq!(via(&answer), "1.0 larder");
    }
}

#[test]
fn b19_via_has_one_member_after_validations_and_in_the_proxys_own_responses() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked("/x").answer(&FINAL.replace("max-age=60", "no-cache\r\netag: \"a\""));
    assert_eq!(via(&client.next()), "1.1 larder");
    for _ in 0..2 {
        client.get("/x");
        origin.asked("/x").answer("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n");
        let answer = client.next().is("HTTP/1.1 200 OK", "final").has("fwd-status=304");
        assert_eq!(via(&answer), "1.1 larder");
    }
    for (fields, status) in [("cache-control: only-if-cached\r\n", "504"), ("host: b.example\r\n", "400")] {
        client.send(&get("/y").replace("\r\n\r\n", &format!("\r\n{fields}\r\n")));
        let answer = client.next().has(&format!("HTTP/1.1 {status} "));
        assert_eq!(via(&answer), "1.1 larder");
    }
    origin.was_not_asked();
    // What the origin's `Connection` takes away is not missing for the client.
    client.get("/z");
    origin.asked("/z").answer(&FINAL.replace("max-age=60", "no-store\r\nconnection: via\r\nvia: 1.1 inner"));
    assert_eq!(via(&client.next()), "1.1 larder");
}

#[tokio::test]
async fn b19_via_names_version_2_0_for_a_request_over_http2() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let asked = tokio::task::spawn_blocking(move || {
        let mut asked = origin.asked("/x");
        asked.answer(FINAL);
        asked.message
    });
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::get(format!("http://{}/x", proxy.address)).body(Empty::<Bytes>::new()).unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(read(response).await.field("via"), Some("1.1 larder"));
    assert_eq!(via(&asked.await.unwrap()), "2.0 larder");
}

#[test]
fn b19_interim_responses_have_neither_content_length_nor_transfer_encoding() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for fields in [
        "content-length: 5\r\n",
        "content-length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\nconnection: content-length, transfer-encoding\r\n",
    ] {
        for status in ["102 Processing", "103 Early Hints"] {
            client.get("/x");
            let mut asked = origin.asked("/x");
            asked.answer(&format!("HTTP/1.1 {status}\r\nx-note: 1\r\n{fields}\r\n"));
            let head = client.try_head().unwrap();
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}\r\n")) && head.contains("x-note: 1"),
                "{head}"
            );
            assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
            asked.answer(&FINAL.replace("max-age=60", "no-store"));
            client.next().is("HTTP/1.1 200 OK", "final");
        }
    }
}
