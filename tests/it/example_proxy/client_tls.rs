//! TLS between clients and the proxy: what holds over plain connections holds over TLS, and certificates change while the
//! proxy runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::example_proxy::process::{Proxy, in_time, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, GUARD, Origin, get};
use crate::support::tls::{Authority, Issued, TlsClient};

const STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 5\r\n\r\nfinal";
const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// A proxy that speaks TLS with this certificate.
fn secure(origin: &Origin, issued: &Issued, arguments: &[&str]) -> (Proxy, mpsc::Receiver<String>) {
    let options = [&issued.options()[..], arguments].concat();
    Proxy::with_lines(&origin.upstream(), &options)
}

#[test]
fn a_client_of_http11_over_tls_gets_what_is_stored_and_the_origin_learns_its_scheme() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &[]);
    let mut client = TlsClient::new(authority.client(&["http/1.1"]), proxy.address, "localhost");
    client.get("/x");
    let mut asked = origin.asked("/x");
    asked.message = asked.message.has("\r\nx-forwarded-proto: https\r\n").has("\r\nhost: a.example\r\n");
    asked.answer(STORED);
    client.next().is("HTTP/1.1 200 OK", "final").has("\r\ncache-status: larder; fwd=uri-miss; stored");
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    client.get("/x");
    client.next().is("HTTP/1.1 200 OK", "final").has("\r\ncache-status: larder; hit; ttl=");
    // A38: the connection says the scheme, and a target that contradicts it is not the cache's business.
    client.send("GET http://a.example/x HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let mut asked = origin.asked("/x");
    asked.message = asked.message.has("\r\nx-forwarded-proto: https\r\n");
    asked.answer(STORED);
    client
        .next()
        .is("HTTP/1.1 200 OK", "final")
        .has("\r\ncache-status: larder; fwd=bypass; detail=\"other-scheme\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_chosen_in_the_handshake_and_large_content_arrives_whole() {
    const LARGE: usize = 6 << 20;
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &[]);
    // The connector names the protocols itself.
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(authority.client(&[]))
        .https_only()
        .enable_all_versions()
        .build();
    let client = HttpClient::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let content: String = (0..LARGE).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let head = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: {LARGE}\r\n\r\n");
    let answer = head + &content;
    let answers = std::thread::spawn(move || origin.asked("/x").answer(&answer));
    for is_hit in [false, true] {
        let request = Request::get(format!("https://localhost:{}/x", proxy.address.port()));
        let response = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let told = response.headers()["cache-status"].to_str().unwrap().to_owned();
        assert_eq!(told.contains("; hit"), is_hit, "{told}");
        assert!(response.into_body().collect().await.unwrap().to_bytes() == content.as_bytes());
    }
    answers.join().unwrap();
    // What one version has stored answers the other one: both have the scheme of the connection.
    let (address, config) = (proxy.address, authority.client(&["http/1.1"]));
    let hit = tokio::task::spawn_blocking(move || {
        let mut client = TlsClient::new(config, address, "localhost");
        client.send(format!("GET /x HTTP/1.1\r\nhost: localhost:{}\r\n\r\n", address.port())).unwrap();
        client.next()
    });
    hit.await.unwrap().has("\r\ncache-status: larder; hit; ttl=");
}

#[test]
fn a_certificate_is_read_again_on_sighup_and_a_broken_one_changes_nothing() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let (issued, other) = (authority.issue(&["one.example"]), authority.issue(&["two.example"]));
    let (proxy, lines) = secure(&origin, &issued, &[]);
    let connect = |name| TlsClient::new(authority.client(&[]), proxy.address, name);
    let mut first = connect("one.example");
    first.get("/x");
    origin.asked("/x").answer(STORED);
    first.next().is("HTTP/1.1 200 OK", "final");
    let reload = || {
        proxy.signal("HUP");
        lines.recv_timeout(GUARD).unwrap()
    };
    issued.becomes(&other);
    assert_eq!(reload(), format!("larder: the certificate is that of {} now", issued.certificate.name()));
    let mut second = connect("two.example");
    second.get("/x");
    second.next().is("HTTP/1.1 200 OK", "final");
    assert!(connect("one.example").send(get("/x")).is_err(), "the old one is gone");
    // Connections go on.
    first.get("/x");
    first.next().is("HTTP/1.1 200 OK", "final");
    let broken: [(&TempFile, &str, &str); 2] = [
        (&issued.certificate, "nothing", "has no certificate"),
        (&issued.key, "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "is not PEM"),
    ];
    for (file, content, why) in broken {
        let before = std::fs::read(file.path()).unwrap();
        file.write(content);
        let line = reload();
        let expected = format!(" {}: {why}", file.name());
        assert!(line.starts_with("larder: the certificate stays as it was: --tls-"), "{line}");
        assert!(line.contains(&expected), "{line}");
        file.write(before);
        let mut client = connect("two.example");
        client.get("/x");
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn files_that_can_not_be_used_are_reported_at_the_start() {
    let authority = Authority::new();
    let (issued, other) = (authority.issue(HERE), authority.issue(HERE));
    let (certificate, key) = (issued.certificate.name(), issued.key.name());
    for (options, said) in [
        (&["--tls-cert", certificate][..], "--tls-cert and --tls-key go together"),
        (&["--tls-key", key], "--tls-cert and --tls-key go together"),
        (&["--tls-cert", "/no/such.pem", "--tls-key", key], "--tls-cert /no/such.pem: can't be read"),
        (&["--tls-cert", certificate, "--tls-key", "/no/such.pem"], "--tls-key /no/such.pem: can't be read"),
        (&["--tls-cert", key, "--tls-key", key], "has no certificate"),
        (&["--tls-cert", certificate, "--tls-key", certificate], "has no key"),
        (&["--tls-cert", certificate, "--tls-key", other.key.name()], "can't be used: "),
    ] {
        let output =
            run(&[&["proxy", "--upstream=http://127.0.0.1:1", "--listen=127.0.0.1:0"], options].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_client_without_tls_gets_no_answer_and_harms_no_other() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &[]);
    let mut plain = Client::of(&proxy);
    plain.get("/x");
    let mut answer = Vec::new();
    let _ = plain.0.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    origin.was_not_asked();
    let mut client = TlsClient::new(authority.client(&[]), proxy.address, "localhost");
    client.get("/x");
    origin.asked("/x").answer(STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
}

#[test]
fn f18_a_handshake_has_the_time_of_a_head() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &["--head", "0.3"]);
    // One says nothing, one sends the beginning of a record.
    for begun in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(begun).unwrap();
        let ended = stream.read(&mut [0; 64]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "in time");
    }
}

/// An answer that does not fit into the buffers of two sockets and of TLS.
const LARGE: usize = 24 << 20;

/// A connection that the system takes in little for.
fn narrow(proxy: &Proxy, authority: &Authority) -> TlsClient {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(proxy.address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    TlsClient::over(stream, authority.client(&["http/1.1"]), "localhost")
}

#[test]
fn f18_a_client_over_tls_is_cut_off_if_it_takes_nothing_and_not_if_it_takes_little() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let options = ["--stall", "2", "--max-object", "32MiB", "--head", "600", "--idle", "600"];
    let (proxy, _lines) = secure(&origin, &issued, &options);
    let head = format!("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: {LARGE}\r\n\r\n");
    let mut takes = narrow(&proxy, &authority);
    takes.get("/x");
    let mut asked = origin.asked("/x");
    let sends = std::thread::spawn(move || asked.answer(&(head + &"x".repeat(LARGE))));
    let mut stalls = narrow(&proxy, &authority);
    stalls.get("/x");
    let (begun, mut received, mut buffer) = (Instant::now(), 0, vec![0; 8192]);
    while begun.elapsed() < Duration::from_secs(5) {
        takes.0.read_exact(&mut buffer).unwrap();
        received += buffer.len();
        std::thread::sleep(Duration::from_millis(50));
    }
    in_time("the connection is reset", || stalls.send("\r\n").is_err().then_some(()));
    let mut rest = Vec::new();
    takes.0.by_ref().take((LARGE - received) as u64).read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), LARGE - received);
    sends.join().unwrap();
}

#[test]
fn sigterm_lets_an_open_request_over_tls_finish() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &[]);
    let mut client = TlsClient::new(authority.client(&[]), proxy.address, "localhost");
    client.get("/x");
    let mut asked = origin.asked("/x");
    proxy.signal("TERM");
    proxy.listens_no_more();
    asked.answer(STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
    assert!(client.try_next().is_none());
    assert!(proxy.ends_well());
}

#[test]
fn with_host_upstream_a_redirect_leads_to_the_proxy_by_https() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &["--host", "upstream"]);
    let mut client = TlsClient::new(authority.client(&[]), proxy.address, "localhost");
    client.get("/x");
    let location = format!("HTTP/1.1 302 Found\r\nlocation: {}/y\r\n", origin.upstream());
    origin.asked("/x").answer(&format!("{location}content-length: 0\r\n\r\n"));
    client.next().is("HTTP/1.1 302 Found", "").has("\r\nlocation: https://a.example/y\r\n");
}

#[test]
fn b19_a_tunnel_begins_inside_tls() {
    let (authority, origin) = (Authority::new(), Origin::new());
    let issued = authority.issue(HERE);
    let (proxy, _lines) = secure(&origin, &issued, &[]);
    let mut client = TlsClient::new(authority.client(&[]), proxy.address, "localhost");
    client
        .send("GET /chat HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n")
        .unwrap();
    let mut asked = origin.asked("/chat");
    asked.answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\nfirst");
    client.next().is("HTTP/1.1 101 Switching Protocols", "");
    let mut read = [0; 5];
    client.0.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"first");
}
