//! Limits of connections, request heads, fields and file descriptors, and what holds up a shutdown (F18).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::example_proxy::process::{Proxy, in_time};
use crate::support::bench::read;
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Origin, get};

#[expect(dead_code, reason = "the example uses more of it")]
#[path = "../../../examples/origin_proxy/descriptors.rs"]
mod descriptors;

#[path = "../../../examples/origin_proxy/network.rs"]
mod network;

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";
const STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";

/// A connection preface of HTTP/2 (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn silent(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream
}

/// Whether the proxy ends the connection, whatever it writes before. A read that waits too long is an error of another
/// kind.
#[track_caller]
fn is_ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
}

#[test]
fn f18_a_connection_without_a_complete_request_head_is_closed() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--head", "0.3", "--idle", "600"]);
    let begun: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nhost: a",
        &PREFACE[..10],
        &[PREFACE, b"\0\0\x05\x01\x01\0\0\0\x01"].concat(),
    ];
    let mut streams = begun.map(|begun| {
        let mut stream = silent(&proxy);
        stream.write_all(begun).unwrap();
        stream
    });
    streams.iter_mut().for_each(is_ended);
    // The same for a head that is not the first one of its connection. What asks for nothing more may stay. The limit
    // leaves time for the first one.
    let proxy = origin.proxy(&["--head", "3", "--idle", "600"]);
    let [mut half, mut idle] = [Client::of(&proxy), Client::of(&proxy)];
    for client in [&mut half, &mut idle] {
        client.get("/x");
        origin.asked("/x").answer(FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    half.send("GET / HTTP/1.1\r\n");
    assert!(half.is_closed());
    idle.get("/x");
    origin.asked("/x").answer(FINAL);
    idle.next().is("HTTP/1.1 200 OK", "final");
}

#[test]
fn f18_an_idle_connection_is_closed_and_one_that_waits_for_a_response_is_not() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--head", "600", "--idle", "0.3"]);
    let [mut idle, mut waits] = [Client::of(&proxy), Client::of(&proxy)];
    waits.get("/slow");
    let mut slow = origin.asked("/slow");
    idle.get("/x");
    origin.asked("/x").answer(FINAL);
    idle.next().is("HTTP/1.1 200 OK", "final");
    assert!(idle.is_closed());
    slow.answer(FINAL);
    waits.next().is("HTTP/1.1 200 OK", "final");
    assert!(waits.is_closed());
}

#[tokio::test]
async fn f18_an_idle_http2_connection_is_closed() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--head", "600", "--idle", "0.3"]);
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get("http://a.example/x").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request);
    let origin = std::thread::spawn(move || {
        origin.asked("/x").answer(FINAL);
        origin
    });
    read(answer.await.unwrap()).await.has_body("final");
    tokio::time::timeout(GUARD, ended).await.expect("the connection ends").unwrap().unwrap();
    drop((sender, origin));
}

#[test]
fn f18_an_http2_client_that_answers_no_ping_is_disconnected() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--head", "600", "--idle", "600", "--ping", "0.2"]);
    let mut stream = silent(&proxy);
    stream.write_all(PREFACE).unwrap();
    is_ended(&mut stream);
}

#[test]
fn f18_the_length_and_fields_of_a_request_head_are_bounded() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let field = |length: usize| format!("\r\nx-long: {}\r\n\r\n", "x".repeat(length));
    let fields = |count: usize| format!("\r\n{}\r\n", "x-many: 1\r\n".repeat(count));
    for (rest, status) in
        [(field(60 << 10), 200), (field(70 << 10), 431), (fields(99), 200), (fields(100), 431)]
    {
        let mut client = Client::of(&proxy);
        // Where the proxy does not read to the end, the connection may be reset.
        client.try_send(&get("/x").replace("\r\n\r\n", &rest));
        if status == 200 {
            origin.asked("/x").answer(FINAL);
        }
        client.head(status);
    }
    // Both bounds are options.
    let proxy = origin.proxy(&["--head-size", "100KiB", "--max-fields", "200"]);
    let mut client = Client::of(&proxy);
    for rest in [field(70 << 10), fields(199)] {
        client.send(&get("/x").replace("\r\n\r\n", &rest));
        origin.asked("/x").answer(FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    origin.was_not_asked();
}

#[tokio::test]
async fn f18_the_cookies_of_an_http2_request_count_as_one_field() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--max-fields", "50"]);
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
    let send = |name: &'static str, count: usize| {
        let mut request = Request::get(format!("http://{}/x", proxy.address));
        for _ in 0..count {
            request = request.header(name, "a=b");
        }
        client.request(request.body(Empty::new()).unwrap())
    };
    let refused = send("x-many", 51).await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.version()), (431, Version::HTTP_2));
    let told = "larder; detail=\"too-many-fields\"";
    assert_eq!(refused.headers()["cache-status"], told);
    std::thread::spawn(move || {
        for _ in 0..2 {
            origin.asked("/x").answer(FINAL);
        }
    });
    for (name, count) in [("x-many", 50), ("cookie", 60)] {
        assert_eq!(send(name, count).await.unwrap().status(), 200, "{name}");
    }
}

#[test]
fn f18_the_fields_of_a_response_are_bounded() {
    let origin = Origin::new();
    let many =
        |count: usize| STORED.replace("\r\n\r\n", &format!("\r\n{}\r\n", "x-many: 1\r\n".repeat(count - 2)));
    for (arguments, bound) in [(&[][..], 1000), (&["--max-answer-fields", "50"], 50)] {
        let proxy = origin.proxy(arguments);
        let mut client = Client::of(&proxy);
        client.get("/x");
        origin.asked("/x").answer(&many(bound));
        for _ in 0..2 {
            let head = client.head(200);
            assert_eq!(head.matches("x-many").count(), bound - 2);
            client.content(&head).unwrap();
            client.get("/x");
        }
        client.next().is("HTTP/1.1 200 OK", "final");
        client.get("/y");
        origin.asked("/y").try_answer(&many(bound + 1));
        client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-invalid\"");
    }
}

#[test]
fn f18_a_client_that_half_closes_its_connection_gets_its_response() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    origin.asked("/x").answer(FINAL);
    client.next().is("HTTP/1.1 200 OK", "final");
    assert!(client.is_closed());
}

#[test]
fn f18_a_new_connection_replaces_the_longest_idle_one() {
    let origin = Origin::new();
    for arguments in [&["--max-connections", "3"][..], &[]] {
        let address = ["--max-connections-per-address", "3", "--head", "600", "--idle", "600"];
        let proxy = origin.proxy(&[arguments, &address].concat());
        let mut silent: Vec<_> = (0..20).map(|_| silent(&proxy)).collect();
        let mut client = Client::of(&proxy);
        for _ in 0..2 {
            client.get("/x");
            origin.asked("/x").answer(FINAL);
            client.next().is("HTTP/1.1 200 OK", "final");
        }
        // Two of them have a place still.
        silent[..18].iter_mut().for_each(is_ended);
        // Whoever waits for an answer keeps his place, and where none is idle there is none.
        let mut waiting = ["/1", "/2", "/3"].map(|path| {
            let mut client = Client::of(&proxy);
            client.get(path);
            (client, origin.asked(path))
        });
        let told = "\r\ncache-status: larder; detail=\"too-many-connections\"\r\n";
        let mut refused = Client::of(&proxy);
        refused.next().is("HTTP/1.1 503 Service Unavailable", "").has(told).has("\r\nretry-after: 1\r\n");
        assert!(refused.is_closed());
        for (client, asked) in &mut waiting {
            asked.answer(FINAL);
            client.next().is("HTTP/1.1 200 OK", "final");
        }
        let mut client = Client::of(&proxy);
        client.get("/x");
        origin.asked("/x").answer(FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn the_answer_of_a_proxy_without_room_says_of_the_cache_what_its_other_answers_do() {
    let (origin, token) = (Origin::new(), TempFile::new("token", "0123456789abcdef"));
    let with = |more: &[&str]| origin.proxy(&[&["--max-connections", "1"], more].concat());
    let refused = |proxy: &Proxy| {
        let mut client = Client::of(proxy);
        client.get("/x");
        let mut asked = origin.asked("/x"); // which keeps its place
        let busy = Client::of(proxy).next().has("HTTP/1.1 503 Service Unavailable");
        asked.answer(FINAL);
        busy
    };
    refused(&with(&[])).has("\r\nx-cache: Error from larder\r\n").has("detail=\"too-many-connections\"");
    let listed = refused(&with(&["--profile", "fastly"]));
    listed.has("\r\nx-cache: MISS\r\n").has("detail=\"too-many-connections\"");
    let discreet = refused(&with(&["--debug-token-file", token.name()]));
    discreet.lacks("x-cache").lacks("cache-status").has("\r\nretry-after: 1\r\n");
}

#[test]
fn f18_silent_connections_keep_nobody_out_when_descriptors_are_few() {
    let origin = Origin::new();
    let proxy = Proxy::with_descriptors(64, &origin.upstream(), &[]);
    let silent: Vec<_> = (0..300).map(|_| silent(&proxy)).collect();
    for _ in 0..20 {
        let mut client = Client::of(&proxy);
        client.get("/x");
        origin.asked("/x").answer(FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    drop(silent);
}

#[test]
fn f18_a_proxy_out_of_descriptors_recovers_when_some_are_free() {
    let origin = Origin::new();
    // More connections than there are descriptors for.
    let arguments = ["--max-connections", "1000", "--max-connections-per-address", "1000", "--head", "600"];
    let proxy = Proxy::with_descriptors(64, &origin.upstream(), &arguments);
    let mut silent: Vec<_> = (0..100).map(|_| silent(&proxy)).collect();
    // The first of them has ended for another one, which the system had no descriptor for.
    is_ended(&mut silent[0]);
    drop(silent);
    std::thread::spawn(move || origin.any().answer(FINAL));
    // The proxy may need a moment to see that they have gone, and a descriptor for the origin, too.
    let mut client = Client::of(&proxy);
    in_time("the origin is asked", || {
        client.get("/x");
        let answer = client.next();
        (answer.content == "final").then_some(())
    });
}

#[test]
fn f18_the_open_requests_of_an_http2_connection_are_bounded() {
    let origin = Origin::new();
    for (arguments, bound) in [(&[][..], 100), (&["--max-streams", "7"], 7)] {
        let proxy = origin.proxy(arguments);
        let mut stream = silent(&proxy);
        stream.write_all(PREFACE).unwrap();
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[3], 4, "a SETTINGS frame comes first");
        let mut settings = vec![0; usize::from(head[2])];
        stream.read_exact(&mut settings).unwrap();
        let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
        assert_eq!(u32::from_be_bytes(streams[2..].try_into().unwrap()), bound);
    }
}

#[test]
fn f18_partial_heads_and_idle_connections_do_not_delay_a_drain() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--drain", "600", "--head", "600", "--idle", "600"]);
    let mut clients: Vec<_> = (0..4).map(|_| Client::of(&proxy)).collect();
    for client in &mut clients[1..] {
        client.get("/x");
        origin.asked("/x").answer(FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    for client in &mut clients[..2] {
        client.send("GET / HTTP/1.1\r\n");
    }
    clients[3].0.get_mut().write_all(b"\r\n").unwrap();
    let mut preface = silent(&proxy);
    preface.write_all(PREFACE).unwrap();
    proxy.signal("TERM");
    assert!(proxy.ends_well());
}

#[test]
fn f18_a_second_signal_ends_a_drain_at_once() {
    let origin = Origin::new();
    for first in ["TERM", "INT"] {
        let proxy = origin.proxy(&["--drain", "600", "--timeout", "600"]);
        let mut client = Client::of(&proxy);
        client.get("/x");
        let asked = origin.asked("/x");
        proxy.signal(first);
        proxy.listens_no_more();
        proxy.signal("TERM");
        assert!(proxy.ends_well());
        assert!(client.is_closed());
        drop(asked);
    }
}

#[test]
fn f18_a_query_with_too_much_content_is_forwarded_and_not_stored() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--max-query", "16"]);
    let mut client = Client::of(&proxy);
    for (length, told) in [(16, "fwd=uri-miss; stored"), (17, "fwd=method")] {
        let content = "x".repeat(length);
        client.send(&format!(
            "QUERY /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: {length}\r\n\r\n{content}"
        ));
        let mut asked = origin.asked("/x");
        assert_eq!(asked.message.content, content);
        asked.answer(STORED);
        client.next().is("HTTP/1.1 200 OK", "final").has(told);
    }
}
