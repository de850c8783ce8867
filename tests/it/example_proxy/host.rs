//! The host and scheme that a client asks for: which are valid, what the origin gets, and where redirects lead.

use std::io::{BufReader, Write};
use std::net::TcpListener;

use bytes::Bytes;
use http::{Request, Version, header};
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::example_proxy::process::Proxy;
use crate::support::bench::read;
use crate::support::raw::{Client, Message, Origin};

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";

/// The authority in the upstream's URL, which the origin gets where the client names none.
fn authority(origin: &Origin) -> String {
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.send("GET / HTTP/1.0\r\n\r\n");
    let head = origin.any().message.head;
    head.split("\r\nhost: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap().to_owned()
}

/// Answers the next request, which has to have this Host; gives it back.
#[track_caller]
fn answers(origin: &Origin, host: &str, answer: &str) -> Message {
    let mut asked = origin.any();
    asked.answer(answer);
    asked.message.has(&format!("\r\nhost: {host}\r\n"))
}

#[test]
fn b19_a_request_without_exactly_one_valid_host_gets_400() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let hosts = [
        "",
        "Host: a.example\r\nHost: a.example\r\n",
        "Host: a.example\r\nHost: b.example\r\n",
        "Host:\r\n",
        "Host: a example\r\n",
        "Host: u@a.example\r\n",
        "Host: a.example/x\r\n",
        "Host: a.example, b.example\r\n",
        "Host: a.example,b.example\r\n",
        "Host: a.example:x\r\n",
        "Host: a.example:65536\r\n",
        "Host: a.example:80:80\r\n",
        "Host: :80\r\n",
        "Host: a..example\r\n",
        "Host: .example\r\n",
        "Host: a.example..\r\n",
        "Host: .\r\n",
        "Host: http://a.example\r\n",
        "Host: a.example?x\r\n",
        "Host: a.example#x\r\n",
        "Host: a%2eexample\r\n",
        "Host: ::1\r\n",
        "Host: [::1\r\n",
        "Host: [::x]\r\n",
        "Host: [::1]80\r\n",
        "Host: \u{e4}.example\r\n",
    ];
    for host in hosts {
        for path in ["/x", "http://a.example/x"] {
            let mut client = Client::of(&proxy);
            client.send(&format!("GET {path} HTTP/1.1\r\n{host}\r\n"));
            let answer = client.next().is("HTTP/1.1 400 Bad Request", "");
            answer
                .has("\r\ncache-status: larder; detail=\"invalid-host\"\r\n")
                .has("\r\nvia: 1.1 larder\r\n");
        }
        // RFC 9112 3.2: an HTTP/1.0 request may have none, but not a wrong one.
        if !host.is_empty() {
            let mut client = Client::of(&proxy);
            client.send(&format!("GET /x HTTP/1.0\r\n{host}\r\n"));
            client.next().is("HTTP/1.0 400 Bad Request", "");
        }
    }
    let mut client = Client::of(&proxy);
    client.send("GET http://u@a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    client.next().is("HTTP/1.1 400 Bad Request", "");
    origin.was_not_asked();
}

#[test]
fn a37_the_origin_gets_a_valid_host_as_it_is_in_the_key() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for (sent, seen) in [
        ("a.example", "a.example"),
        ("A.Example:8080", "a.example:8080"),
        ("a.example.", "a.example."),
        ("a_b", "a_b"),
        ("1.2.3.4:1", "1.2.3.4:1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("c:", "c"),
        ("D.example:80", "d.example"),
    ] {
        let proxied = format!("\r\nx-forwarded-host: {seen}\r\n");
        let target = if sent.starts_with('D') { format!("http://{sent}/x") } else { "/x".to_owned() };
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: {sent}\r\nX-Forwarded-Host: wrong\r\n\r\n"));
        answers(&origin, seen, FINAL).has(&proxied).lacks("wrong");
        client.next().is("HTTP/1.1 200 OK", "final");
        client.send(&format!("GET /x HTTP/1.1\r\nHost: {seen}\r\n\r\n"));
        client.next().is("HTTP/1.1 200 OK", "final").has("larder; hit");
    }
    // RFC 9112 3.2.2: the target wins. Since caches and origins differ on that, it is not stored.
    for _ in 0..2 {
        client.send("GET http://a.example/y HTTP/1.1\r\nHost: b.example\r\n\r\n");
        answers(&origin, "a.example", FINAL).has("GET /y HTTP/1.1\r\n").lacks("b.example");
        client.next().is("HTTP/1.1 200 OK", "final").has("fwd=bypass; detail=\"ambiguous-authority\"");
    }
}

#[test]
fn b19_an_http10_request_without_host_reaches_the_origin_with_the_origins_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    for arguments in [&[][..], &["--host", "upstream"]] {
        let proxy = Proxy::before(&format!("http://{own}"), arguments);
        let mut client = Client::of(&proxy);
        client.send("GET /x HTTP/1.0\r\nX-Forwarded-Host: wrong\r\n\r\n");
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let asked = Message::read(&mut stream).unwrap();
        asked.has(&format!("\r\nhost: {own}\r\n")).lacks("x-forwarded-host");
        stream.get_mut().write_all(FINAL.as_bytes()).unwrap();
        client.next().is("HTTP/1.0 200 OK", "final");
    }
}

#[tokio::test]
async fn b19_an_http2_request_names_its_host_by_authority_and_may_not_contradict_it() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let authority = proxy.address.to_string();
    let expected = authority.clone();
    let answers = tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            answers(&origin, &expected, FINAL);
        }
        origin
    });
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    for (path, host, status) in [
        ("/1", None, 200),
        ("/2", Some(&*authority), 200),
        ("/3", Some("other.example"), 400),
        ("/4", Some("u@other.example"), 400),
    ] {
        let mut request = Request::get(format!("http://{authority}{path}"));
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let response = client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(read(response).await.status, status, "{host:?}");
    }
    answers.await.unwrap().was_not_asked();
}

#[test]
fn b19_by_default_the_origin_gets_the_clients_host_and_each_host_has_its_entries() {
    let origin = Origin::new();
    let own = authority(&origin);
    for arguments in [&[][..], &["--host", "client"]] {
        let proxy = origin.proxy(arguments);
        let mut client = Client::of(&proxy);
        for host in ["a.example", "b.example"] {
            // Nothing is rewritten, also where the origin names itself.
            let location = format!("location: http://{own}/y\r\n");
            let answer = FINAL.replace("cache-control", &format!("{location}x-for: {host}\r\ncache-control"));
            for hit in [false, true] {
                client.send(&format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                if !hit {
                    answers(&origin, host, &answer).has(&format!("\r\nx-forwarded-host: {host}\r\n"));
                }
                client.next().has(&location).has(&format!("x-for: {host}"));
            }
        }
    }
}

#[test]
fn b19_with_host_upstream_a_redirect_leads_to_the_host_that_the_client_asked_for() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--host", "upstream"]);
    let mut client = Client::of(&proxy);
    let own = authority(&origin);
    let cases = [
        (format!("http://{own}/y?z#f"), "http://HOST/y?z#f".to_owned()),
        (format!("HTTP://{own}"), "http://HOST".to_owned()),
        (format!("//{own}/y"), "http://HOST/y".to_owned()),
        ("/y".to_owned(), "/y".to_owned()),
        (format!("https://{own}/y"), format!("https://{own}/y")),
        (format!("http://u@{own}/y"), format!("http://u@{own}/y")),
        (format!("http://{own}.example/y"), format!("http://{own}.example/y")),
        (format!("http://other.example/{own}"), format!("http://other.example/{own}")),
        (format!("http://other.example/?http://{own}/"), format!("http://other.example/?http://{own}/")),
    ];
    for (number, (sent, received)) in cases.iter().enumerate() {
        let answer = FINAL.replace(
            "cache-control",
            &format!("location: {sent}\r\ncontent-location: {sent}\r\ncache-control"),
        );
        for host in ["a.example", "b.example:8080"] {
            let received = received.replace("HOST", host);
            for hit in [false, true] {
                client.send(&format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                if !hit {
                    answers(&origin, &own, &answer).has(&format!("\r\nx-forwarded-host: {host}\r\n"));
                }
                let answer = client.next().is("HTTP/1.1 200 OK", "final");
                let answer = answer.has(if hit { "larder; hit" } else { "fwd=uri-miss" });
                let answer = answer.has(&format!("\r\nlocation: {received}\r\n"));
                answer.has(&format!("\r\ncontent-location: {received}\r\n"));
            }
        }
    }
}

#[test]
fn a38_an_http1_client_does_not_choose_the_scheme() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for _ in 0..2 {
        client.send("GET https://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
        answers(&origin, "a.example", FINAL).has("\r\nx-forwarded-proto: http\r\n");
        client.next().is("HTTP/1.1 200 OK", "final").has("fwd=bypass; detail=\"other-scheme\"");
    }
    for target in ["/x", "http://a.example/x"] {
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        if target == "/x" {
            answers(&origin, "a.example", FINAL);
        }
        client.next().is("HTTP/1.1 200 OK", "final").has(if target == "/x" {
            "stored"
        } else {
            "larder; hit"
        });
    }
}

#[tokio::test]
async fn a38_an_http2_client_does_not_choose_the_scheme() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let answers = tokio::task::spawn_blocking(move || answers(&origin, "a.example", FINAL));
    let request = Request::get("https://a.example/x").body(Empty::<Bytes>::new()).unwrap();
    let seen = read(sender.send_request(request).await.unwrap()).await;
    assert_eq!(seen.status, 200);
    assert!(seen.cache_status().contains("fwd=bypass; detail=\"other-scheme\""), "{seen:?}");
    answers.await.unwrap();
}

#[test]
fn a36_the_origin_gets_only_the_proxys_own_forwarding_fields() {
    let origin = Origin::new();
    for profile in ["default", "rfc9111"] {
        let proxy = origin.proxy(&["--profile", profile]);
        let mut client = Client::of(&proxy);
        let fields = "X-Forwarded-Host: evil\r\nX-Forwarded-Proto: evil\r\nX-Forwarded-Port: evil\r\n\
            Forwarded: host=evil\r\nX-Original-URL: /evil\r\nX_Forwarded_Host: evil\r\n\
            X-HTTP-Method-Override: EVIL\r\nX-Forwarded-For: 192.0.2.1\r\n";
        client.send(&format!("GET /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n"));
        let asked = answers(&origin, "a.example", FINAL).lacks("evil").lacks("EVIL");
        let asked = asked.has("\r\nx-forwarded-host: a.example\r\n").has("\r\nx-forwarded-proto: http\r\n");
        // Who appends to it wants to be told of all hops.
        asked.has("\r\nx-forwarded-for: 192.0.2.1, 127.0.0.1\r\n");
        client.next().is("HTTP/1.1 200 OK", "final");
        // An unsafe request keeps what its client means by it.
        client.send(&format!("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n{fields}\r\n"));
        let asked = answers(&origin, "a.example", FINAL).has("\r\nx-http-method-override: EVIL\r\n");
        asked.has("\r\nx-forwarded-host: a.example\r\n");
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn a37_asterisk_form_and_an_asterisk_path_are_two_targets() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for target in ["*", "/*"] {
        client.send(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        let answer = FINAL.replace("cache-control", &format!("x-for: {target}\r\ncache-control"));
        answers(&origin, "a.example", &answer).has(&format!("GET {target} HTTP/1.1\r\n"));
        client.next().is("HTTP/1.1 200 OK", "final").has(&format!("x-for: {target}\r\n"));
    }
}
