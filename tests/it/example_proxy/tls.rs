//! An origin of `https`: which certificates are trusted, how failures are reported, and that what holds over plain
//! connections holds over TLS.

use std::io::{Read, Write};
use std::net::TcpListener;

use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use rustls::ServerConfig;

use crate::example_proxy::process::{Proxy, run};
use crate::support::file::TempFile;
use crate::support::raw::{Client, Origin};
use crate::support::tls::{Authority, TlsOrigin, self_signed};

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";
const NOT_STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";
const HERE: &[&str] = &["localhost", "127.0.0.1"];

/// A proxy before this origin that trusts this authority, with a client.
fn before(origin: &TlsOrigin, name: &str, authority: &Authority, arguments: &[&str]) -> (Proxy, Client) {
    let trust = ["--upstream-ca", authority.file.name()];
    let proxy = Proxy::before(&origin.url(name), &[&trust, arguments].concat());
    let client = Client::of(&proxy);
    (proxy, client)
}

#[test]
fn an_origin_of_https_gets_its_own_name_and_http11_in_the_handshake() {
    let authority = Authority::new();
    for (name, sni) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let mut config = authority.server(HERE);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let origin = TlsOrigin::new(config);
        let (_proxy, mut client) = before(&origin, name, &authority, &[]);
        client.get("/x");
        let (asked, mut connection) = origin.asked();
        assert_eq!(connection.tls().server_name(), sni);
        assert_eq!(connection.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        // The fields are those of a plain connection: the client has asked by http, for this host.
        asked
            .is("GET /x HTTP/1.1", "")
            .has("\r\nhost: a.example\r\n")
            .has("\r\nx-forwarded-host: a.example\r\n")
            .has("\r\nx-forwarded-proto: http\r\n")
            .has("\r\nx-forwarded-for: 127.0.0.1\r\n")
            .has("\r\nvia: 1.1 larder\r\n");
        connection.answer(FINAL);
        let answer = client.next().is("HTTP/1.1 200 OK", "final").has("\r\nvia: 1.1 larder\r\n");
        answer.has("\r\ncache-status: larder; fwd=uri-miss; stored; ttl=");
        client.get("/x");
        client.next().is("HTTP/1.1 200 OK", "final").has("\r\ncache-status: larder; hit; ttl=");
    }
}

#[test]
fn an_origin_gets_its_own_host_if_it_should() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &["--host", "upstream"]);
    client.get("/x");
    let (asked, _) = origin.asked();
    asked.has(&format!("\r\nhost: localhost:{}\r\n", origin.port())).has("x-forwarded-host: a.example\r\n");
}

#[test]
fn a_connection_over_tls_is_used_again_unless_it_carries_content() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &["--workers", "1"]);
    client.get("/1");
    let (asked, mut kept) = origin.asked();
    asked.lacks("connection: close");
    kept.answer(NOT_STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
    client.send("POST /2 HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\nform");
    let (asked, mut once) = origin.asked();
    asked.is("POST /2 HTTP/1.1", "form").has("\r\nconnection: close\r\n");
    once.answer(NOT_STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
    client.get("/3");
    kept.asked().is("GET /3 HTTP/1.1", "");
    kept.answer(NOT_STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
}

/// What a client is told about an origin whose handshake fails.
#[track_caller]
fn fails(client: &mut Client, detail: &str) {
    client.get("/x");
    let told = format!("\r\ncache-status: larder; fwd=uri-miss; detail=\"{detail}\"\r\n");
    let answer = client.next().is("HTTP/1.1 502 Bad Gateway", "").has(&told);
    answer.has("\r\nx-cache: Error from larder\r\n").has("\r\nvia: 1.1 larder\r\n");
}

/// An origin at whose connections nothing but the handshake happens.
fn shaking(config: ServerConfig) -> TlsOrigin {
    let origin = TlsOrigin::new(config);
    let other = origin.clone();
    std::thread::spawn(move || {
        loop {
            let mut connection = other.accept();
            // What the proxy says after its handshake, if it says anything.
            let mut said = Vec::new();
            let _ = connection.0.read_to_end(&mut said);
            assert!(said.is_empty(), "no request is sent to an origin that is not trusted");
            // In TLS 1.3 the proxy may have sent more when the alert is on its way. What nobody reads resets the connection,
            // and the proxy would not get the alert.
            let mut sock = &connection.0.get_ref().sock;
            let _ = sock.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut sock, &mut std::io::sink());
        }
    });
    origin
}

#[test]
fn a_certificate_that_is_not_accepted_gives_502_by_name_and_no_request_is_sent() {
    let authority = Authority::new();
    let (stranger, namesake) = (Authority::named("stranger"), Authority::new());
    for (config, detail) in [
        (stranger.server(HERE), "origin-certificate-untrusted"),
        (namesake.server(HERE), "origin-certificate-untrusted"),
        (authority.server(&["other.example", "127.0.0.1"]), "origin-certificate-name"),
        (
            authority.server_with(HERE, |params| params.not_after = date_time_ymd(2020, 1, 1)),
            "origin-certificate-expired",
        ),
        (
            authority.server_with(HERE, |params| params.not_before = date_time_ymd(3000, 1, 1)),
            "origin-certificate-expired",
        ),
        (
            authority.server_with(HERE, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "origin-certificate-invalid",
        ),
    ] {
        let origin = shaking(config);
        let (_proxy, mut client) = before(&origin, "localhost", &authority, &[]);
        fails(&mut client, detail);
        // The client's Host is no name of the origin.
        client.send("GET /y HTTP/1.1\r\nhost: other.example\r\n\r\n");
        client.next().is("HTTP/1.1 502 Bad Gateway", "").has(detail);
    }
}

#[test]
fn a_handshake_that_fails_gives_502_or_504_by_name() {
    let authority = Authority::new();
    // A server that wants another protocol than HTTP/1.1, and one that wants a certificate.
    let mut http2 = authority.server(HERE);
    http2.alpn_protocols = vec![b"h2".to_vec()];
    for config in [http2, authority.server_for_certified(HERE)] {
        let origin = shaking(config);
        let (_proxy, mut client) = before(&origin, "localhost", &authority, &[]);
        fails(&mut client, "origin-tls");
    }
    // A server without TLS, and one that ends the connection.
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let proxy = Proxy::before(&url, &["--upstream-ca", authority.file.name()]);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        fails(&mut Client::of(&proxy), "origin-tls");
    }
    // One that does not answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let proxy = Proxy::before(&url, &["--upstream-ca", authority.file.name(), "--timeout", "0.2"]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    client.next().is("HTTP/1.1 504 Gateway Timeout", "").has("detail=\"origin-timeout\"");
}

#[test]
fn f18_a_handshake_ends_in_time_although_nobody_waits_for_it() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (proxy, mut client) = before(&origin, "localhost", &authority, &["--timeout", "1"]);
    client.get("/1");
    let (_, mut kept) = origin.asked();
    let mut other = Client::of(&proxy);
    other.get("/2");
    let silent = origin.accept();
    // The other request takes the connection that is free before its own one is there.
    kept.answer(NOT_STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
    kept.asked().is("GET /2 HTTP/1.1", "");
    kept.answer(NOT_STORED);
    other.next().is("HTTP/1.1 200 OK", "final");
    let mut hello = Vec::new();
    (&silent.0.get_ref().sock).read_to_end(&mut hello).expect("the proxy ends the connection");
}

#[test]
fn an_upstream_of_http_does_not_speak_tls() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let proxy = Proxy::before(&origin.url("localhost").replace("https", "http"), &[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let mut connection = origin.accept();
    assert!(connection.0.read(&mut [0]).is_err(), "no handshake");
}

#[test]
fn the_systems_certificates_are_trusted_unless_others_are_named() {
    let (system, other) = (Authority::new(), Authority::named("other"));
    let origin = TlsOrigin::new(system.server(HERE));
    let proxy = Proxy::trusting(&system.file, &origin.url("localhost"), &[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let (_, mut connection) = origin.asked();
    connection.answer(FINAL);
    client.next().is("HTTP/1.1 200 OK", "final");

    let named = ["--upstream-ca", other.file.name()];
    let origin = shaking(system.server(HERE));
    let proxy = Proxy::trusting(&system.file, &origin.url("localhost"), &named);
    fails(&mut Client::of(&proxy), "origin-certificate-untrusted");
    let origin = shaking(other.server(HERE));
    let proxy = Proxy::trusting(&system.file, &origin.url("localhost"), &[]);
    fails(&mut Client::of(&proxy), "origin-certificate-untrusted");
}

#[test]
fn a_file_may_have_several_certificates() {
    let (one, two) = (Authority::new(), Authority::new());
    let pem = [one.file.path(), two.file.path()].map(|path| std::fs::read_to_string(path).unwrap());
    let both = TempFile::new("pem", format!("A comment\n{}\nAnother one\n{}", pem[0], pem[1]));
    for authority in [one, two] {
        let origin = TlsOrigin::new(authority.server(HERE));
        let proxy = Proxy::before(&origin.url("127.0.0.1"), &["--upstream-ca", both.name()]);
        let mut client = Client::of(&proxy);
        client.get("/x");
        origin.asked().1.answer(FINAL);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn a_certificate_that_signs_itself_is_accepted_if_it_is_trusted_and_is_no_authority() {
    let (config, file) = self_signed(HERE, IsCa::ExplicitNoCa);
    let origin = TlsOrigin::new(config);
    let proxy = Proxy::before(&origin.url("localhost"), &["--upstream-ca", file.name()]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked().1.answer(FINAL);
    client.next().is("HTTP/1.1 200 OK", "final");

    let (config, file) = self_signed(HERE, IsCa::Ca(BasicConstraints::Unconstrained));
    let origin = shaking(config);
    let proxy = Proxy::before(&origin.url("localhost"), &["--upstream-ca", file.name()]);
    fails(&mut Client::of(&proxy), "origin-certificate-invalid");
}

#[test]
fn a_file_of_certificates_that_is_none_is_reported_at_the_start() {
    let file = |content| TempFile::new("pem", content);
    let upstream = "--upstream=https://a.example";
    for (file, why) in [
        (file(""), "has no certificate"),
        (file("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "has no certificate"),
        (file("-----BEGIN CERTIFICATE-----\nAAAA\n"), "is not PEM"),
        (file("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), "is not PEM"),
        (
            file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "certificate 1 can't be used",
        ),
    ] {
        let output = run(&["proxy", upstream, "--upstream-ca", file.name()]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(&format!("--upstream-ca {}: {why}", file.name())), "{why}: {text}");
    }
    for (arguments, said) in [
        ([upstream, "--upstream-ca", "/no/such.pem"], "--upstream-ca /no/such.pem: can't be read"),
        ([upstream, "--upstream-ca", "/"], "--upstream-ca /: can't be read"),
        (["--upstream=https://-a-", "--listen", "127.0.0.1:0"], "no certificate can be for '-a-'"),
    ] {
        let output = run(&[&["proxy"], &arguments[..]].concat());
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn with_host_upstream_a_redirect_to_an_origin_of_https_leads_to_the_proxy() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &["--host", "upstream"]);
    let own = format!("localhost:{}", origin.port());
    client.get("/warm");
    let (_, mut connection) = origin.asked();
    connection.answer(NOT_STORED);
    client.next().is("HTTP/1.1 200 OK", "final");
    for (sent, received) in [
        (format!("https://{own}/y?z#f"), "http://a.example/y?z#f".to_owned()),
        (format!("HTTPS://{own}"), "http://a.example".to_owned()),
        (format!("//{own}/y"), "http://a.example/y".to_owned()),
        ("/y".to_owned(), "/y".to_owned()),
        // Other servers.
        (format!("http://{own}/y"), format!("http://{own}/y")),
        ("https://localhost/y".to_owned(), "https://localhost/y".to_owned()),
        (format!("https://other.example/?//{own}/"), format!("https://other.example/?//{own}/")),
    ] {
        client.get("/x");
        connection.asked();
        let location = format!("location: {sent}\r\ncache-control");
        connection.answer(NOT_STORED.replace("cache-control", &location));
        client.next().is("HTTP/1.1 200 OK", "final").has(&format!("\r\nlocation: {received}\r\n"));
    }
}

#[test]
fn b19_a_tunnel_goes_through_tls_both_ways() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &[]);
    client.send("GET /chat HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n");
    let (asked, mut connection) = origin.asked();
    asked.has("\r\nconnection: upgrade\r\n").has("\r\nupgrade: chat\r\n");
    connection
        .answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\nfirst");
    client.head(101);
    let mut read = [0; 5];
    client.0.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"first");
    for bytes in [vec![b'x'; 5], vec![b'y'; 300_000]] {
        let mut copy = vec![0; bytes.len()];
        client.0.get_mut().write_all(&bytes).unwrap();
        connection.0.read_exact(&mut copy).unwrap();
        assert!(copy == bytes);
        connection.answer(&bytes);
        client.0.read_exact(&mut copy).unwrap();
        assert!(copy == bytes);
    }
    // The end of a direction is passed on.
    client.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(connection.0.read(&mut [0]).unwrap(), 0);
    connection.answer("last");
    connection.close();
    let mut rest = String::new();
    client.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "last");
}

#[test]
fn f01_content_that_ends_without_the_end_of_tls_is_not_stored() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &[]);
    let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\nconnection: close\r\n\r\n";
    // Only the end of the connection says where this content ends, and anybody can end a connection.
    client.get("/x");
    let (_, mut connection) = origin.asked();
    connection.answer(format!("{head}half"));
    connection.cut();
    let cut_off = client.head(200);
    client.content(&cut_off).expect_err("the client learns of it");
    let mut client = Client::of(&_proxy);
    for hit in [false, true] {
        client.get("/x");
        if !hit {
            let (_, mut connection) = origin.asked();
            connection.answer(format!("{head}whole"));
            connection.close();
        }
        let answer = client.next().is("HTTP/1.1 200 OK", "whole");
        answer.has(if hit { "larder; hit" } else { "larder; fwd=uri-miss" });
    }
}

#[test]
fn b19_a_request_on_a_closed_connection_of_tls_is_sent_once_more() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &["--workers", "1"]);
    for is_clean in [true, false] {
        client.get("/warm");
        let (_, mut connection) = origin.asked();
        connection.answer(NOT_STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
        client.get("/x");
        connection.asked().is("GET /x HTTP/1.1", "");
        // The alert that ends TLS is no byte of an answer.
        if is_clean {
            connection.close();
        } else {
            connection.cut();
        }
        let (asked, mut connection) = origin.asked();
        asked.is("GET /x HTTP/1.1", "");
        connection.answer(NOT_STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn large_content_goes_through_tls_both_ways() {
    let authority = Authority::new();
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &[]);
    let content = "0123456789abcdef".repeat(1 << 18);
    let length = content.len();
    let sent = content.clone();
    let sender = std::thread::spawn(move || {
        client
            .send(&format!("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: {length}\r\n\r\n{sent}"));
        client
    });
    let (asked, mut connection) = origin.asked();
    assert!(asked.content == content);
    let mut client = sender.join().unwrap();
    let answered = content.clone();
    let answers = std::thread::spawn(move || {
        connection.answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answered}"));
        connection
    });
    assert!(client.next().content == content);
    answers.join().unwrap();
}

/// A certificate is no reason to keep what is stored from clients who may have it.
#[test]
fn a_stored_response_stands_in_for_an_origin_that_is_not_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let origin = TlsOrigin::new(authority.server(HERE));
    let (_proxy, mut client) = before(&origin, "localhost", &authority, &[]);
    client.get("/x");
    let (_, mut connection) = origin.asked();
    connection.answer(FINAL.replace("max-age=60", "max-age=0, stale-if-error=60"));
    connection.close();
    client.next().is("HTTP/1.1 200 OK", "final");
    let origin = origin.with(stranger.server(HERE));
    client.get("/x");
    let mut refused = origin.accept();
    assert!(refused.0.read(&mut [0]).is_err());
    client.next().is("HTTP/1.1 200 OK", "final").has("detail=\"stale-if-error\"");
}

#[test]
fn a_plain_origin_needs_no_certificates() {
    let origin = Origin::new();
    let nothing = TempFile::new("pem", "");
    let proxy = Proxy::trusting(&nothing, &origin.upstream(), &[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked("/x").answer(FINAL);
    client.next().is("HTTP/1.1 200 OK", "final");
}
