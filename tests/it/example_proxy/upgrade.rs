//! WebSocket: the handshake of RFC 6455 1.2, frames both ways, and the end of a tunnel (B19).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use crate::example_proxy::process::Proxy;
use crate::support::raw::{Client, GUARD, Message, Origin};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nhost: a.example\r\nconnection: keep-alive, Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

type End = BufReader<TcpStream>;

/// RFC 6455 5.2, whole messages only; a client masks.
fn write_frame(to: &mut End, opcode: u8, content: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match content.len() {
        length @ 0..=125 => frame.push(masked | length as u8),
        length @ 126..=0xffff => {
            frame.push(masked | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask.unwrap_or_default()[..if mask.is_some() { 4 } else { 0 }]);
    let mask = mask.unwrap_or_default();
    frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    to.get_mut().write_all(&frame).unwrap();
}

/// The opcode, the content, and whether it was masked.
fn read_frame(from: &mut End) -> (u8, Vec<u8>, bool) {
    let [first, second] = read_array(from);
    assert_eq!(first & 0xf0, 0x80);
    let length = match second & 0x7f {
        126 => usize::from(u16::from_be_bytes(read_array(from))),
        127 => usize::try_from(u64::from_be_bytes(read_array(from))).unwrap(),
        length => usize::from(length),
    };
    let is_masked = second & 0x80 != 0;
    let mask: [u8; 4] = if is_masked { read_array(from) } else { [0; 4] };
    let mut content = vec![0; length];
    from.read_exact(&mut content).unwrap();
    for (byte, mask) in content.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    (first & 0x0f, content, is_masked)
}

fn read_array<const LENGTH: usize>(from: &mut End) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

/// Both ends of a tunnel.
struct Bench {
    client: End,
    listener: TcpListener,
    origin: End,
    proxy: Proxy,
}

impl Bench {
    /// `early` comes in one piece with the origin's handshake.
    fn new(arguments: &[&str], early: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::before(&format!("http://{}", listener.local_addr().unwrap()), arguments);
        let mut client = Client::of(&proxy);
        client.send(HANDSHAKE);
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let mut origin = BufReader::new(stream);
        let asked = Message::read(&mut origin).unwrap().is("GET /chat HTTP/1.1", "");
        // The fields of the connection are the proxy's own.
        let asked = asked.has("\r\nconnection: upgrade\r\n").has("\r\nupgrade: websocket\r\n");
        let asked =
            asked.has("\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n").has("\r\nhost: a.example\r\n");
        asked.has("\r\nvia: 1.1 larder\r\n").lacks("keep-alive");
        let fields = "x-hop: 1\r\nconnection: x-hop\r\ncontent-length: 5\r\n\r\n";
        origin.get_mut().write_all(&[ACCEPTED.as_bytes(), fields.as_bytes(), early].concat()).unwrap();
        let head = client.head(101);
        for field in [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "via: 1.1 larder",
            "cache-status: larder; fwd=bypass; detail=\"upgrade\"",
        ] {
            assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
        }
        for name in ["x-hop", "content-length", "transfer-encoding"] {
            assert!(!head.contains(name), "{name} in {head}");
        }
        Self { client: client.0, listener, origin, proxy }
    }
}

#[track_caller]
fn is_at_end(end: &mut End) {
    assert!(end.fill_buf().map_or(true, <[u8]>::is_empty));
}

#[test]
fn b19_websocket_frames_go_both_ways() {
    let Bench { mut client, listener, mut origin, proxy: _proxy } = Bench::new(&[], b"\x81\x05first");
    // The origin may begin, in one piece with its handshake.
    assert_eq!(read_frame(&mut client), (TEXT, b"first".to_vec(), false));
    let lengths = [0, 1, 5, 125, 126, 60_000, 70_000];
    for (number, length) in lengths.into_iter().enumerate() {
        // Nothing in between reads what looks like HTTP.
        let content: Vec<_> =
            b"HTTP/1.1 103 Early Hints\r\n\r\n".iter().copied().cycle().take(length).collect();
        write_frame(&mut client, TEXT, &content, Some([number as u8, 0x37, 0xfa, 0x21]));
        assert!(read_frame(&mut origin) == (TEXT, content.clone(), true), "{length}");
        write_frame(&mut origin, TEXT, &content, None);
        assert!(read_frame(&mut client) == (TEXT, content, false), "{length}");
    }
    // Several in a row, then one that nobody asked for.
    for word in ["one", "two", "three"] {
        write_frame(&mut client, TEXT, word.as_bytes(), Some(*b"mask"));
    }
    for word in ["one", "two", "three"] {
        assert_eq!(read_frame(&mut origin), (TEXT, word.into(), true));
    }
    write_frame(&mut origin, TEXT, b"by myself", None);
    assert_eq!(read_frame(&mut client), (TEXT, b"by myself".to_vec(), false));
    // The closing handshake of RFC 6455 7.1: the server ends the connection.
    write_frame(&mut client, CLOSE, &[3, 232], Some(*b"mask"));
    assert_eq!(read_frame(&mut origin), (CLOSE, vec![3, 232], true));
    write_frame(&mut origin, CLOSE, &[3, 232], None);
    drop(origin);
    assert_eq!(read_frame(&mut client), (CLOSE, vec![3, 232], false));
    is_at_end(&mut client);
    drop(listener);
}

#[test]
fn b19_a_half_close_is_passed_on_and_the_other_direction_may_finish() {
    let Bench { mut client, mut origin, listener: _listener, proxy: _proxy } = Bench::new(&[], b"");
    write_frame(&mut client, TEXT, b"last", Some(*b"mask"));
    client.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_frame(&mut origin), (TEXT, b"last".to_vec(), true));
    is_at_end(&mut origin);
    write_frame(&mut origin, TEXT, b"answer", None);
    assert_eq!(read_frame(&mut client), (TEXT, b"answer".to_vec(), false));
    drop(origin);
    is_at_end(&mut client);
}

#[test]
fn b19_when_one_side_of_a_tunnel_closes_the_other_side_is_closed() {
    let Bench { client, mut origin, listener: _listener, proxy: _proxy } = Bench::new(&[], b"");
    drop(client);
    is_at_end(&mut origin);
    let Bench { mut client, origin, listener: _listener, proxy: _proxy } = Bench::new(&[], b"");
    drop(origin);
    is_at_end(&mut client);
}

#[test]
fn b19_the_response_to_a_refused_upgrade_is_an_ordinary_one() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for (status, content) in [("400 Bad Request", "no"), ("200 OK", "final"), ("426 Upgrade Required", "")] {
        client.send(HANDSHAKE);
        let length = content.len();
        origin.asked("/chat").answer(&format!(
            "HTTP/1.1 {status}\r\ncache-control: max-age=60\r\ncontent-length: {length}\r\n\r\n{content}"
        ));
        let answer = client.next().is(&format!("HTTP/1.1 {status}"), content).lacks("upgrade: ");
        answer.has("cache-status: larder; fwd=bypass; detail=\"upgrade\"\r\n");
    }
    // The connection goes on, with interim responses.
    client.send("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    origin.asked("/x").answer(&["HTTP/1.1 103 Early Hints\r\n\r\n", FINAL].concat());
    client.next().is("HTTP/1.1 103 Early Hints", "");
    client.next().is("HTTP/1.1 200 OK", "final");
}

#[test]
fn b19_an_interim_response_may_precede_a_101() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.send(HANDSHAKE);
    origin
        .asked("/chat")
        .answer(&["HTTP/1.1 103 Early Hints\r\n\r\n", ACCEPTED, "\r\nHTTP/1.1 103 "].concat());
    client.next().is("HTTP/1.1 103 Early Hints", "");
    client.head(101);
    let mut bytes = [0; 13];
    client.0.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"HTTP/1.1 103 ");
}

#[test]
fn b19_h2c_and_incomplete_upgrade_requests_are_forwarded_as_ordinary_ones() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for (number, fields) in [
        "connection: upgrade\r\nupgrade: h2c",
        "connection: upgrade, http2-settings\r\nupgrade: H2C\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA",
        "connection: upgrade\r\nupgrade: HTTP/2.0",
        "upgrade: websocket",
        "connection: upgrade",
    ]
    .into_iter()
    .enumerate()
    {
        for hit in [false, true] {
            client.send(&format!("GET /{number} HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n\r\n"));
            if !hit {
                let mut asked = origin.asked(&format!("/{number}"));
                asked.answer(FINAL);
                asked.message.lacks("upgrade").lacks("http2-settings");
            }
            let told = if hit { "larder; hit" } else { "fwd=uri-miss" };
            client.next().is("HTTP/1.1 200 OK", "final").has(told);
        }
    }
    // HTTP/1.0 has none (RFC 9110 7.8).
    let mut old = Client::of(&proxy);
    old.send(&HANDSHAKE.replace("/chat HTTP/1.1", "/old HTTP/1.0"));
    let mut asked = origin.asked("/old");
    asked.answer(FINAL);
    asked.message.lacks("\r\nupgrade:");
    old.next().is("HTTP/1.0 200 OK", "final");
    // Of several, those that are tunnelled.
    client.send(&HANDSHAKE.replace("upgrade: websocket", "upgrade: h2c, other/1, websocket"));
    let mut asked = origin.asked("/chat");
    asked.answer(FINAL);
    asked.message.has("\r\nupgrade: other/1, websocket\r\n");
    client.next().is("HTTP/1.1 200 OK", "final");
}

#[test]
fn b19_a_101_to_another_protocol_than_requested_is_answered_with_502() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for answer in
        [ACCEPTED.replace("websocket\r\n", "other\r\n"), ACCEPTED.replace("upgrade: websocket\r\n", "")]
    {
        client.send(HANDSHAKE);
        origin.asked("/chat").answer(&format!("{answer}\r\nother words"));
        let told = "\r\ncache-status: larder; fwd=bypass; detail=\"origin-switches\"\r\n";
        client.next().is("HTTP/1.1 502 Bad Gateway", "").has(told);
    }
}

#[test]
fn b19_an_open_websocket_may_finish_within_the_drain_and_is_then_closed() {
    let Bench { mut client, listener, mut origin, proxy } = Bench::new(&["--drain", "60"], b"");
    proxy.signal("TERM");
    proxy.listens_no_more();
    write_frame(&mut client, TEXT, b"late", Some(*b"mask"));
    assert_eq!(read_frame(&mut origin), (TEXT, b"late".to_vec(), true));
    write_frame(&mut origin, TEXT, b"answer", None);
    drop(origin);
    assert_eq!(read_frame(&mut client), (TEXT, b"answer".to_vec(), false));
    is_at_end(&mut client);
    drop(client);
    // Within `GUARD`, which is half of its limit.
    assert!(proxy.ends_well());
    drop(listener);

    let Bench { mut client, mut origin, proxy, listener: _listener } = Bench::new(&["--drain", "0.2"], b"");
    proxy.signal("TERM");
    assert!(proxy.ends_well());
    is_at_end(&mut client);
    is_at_end(&mut origin);
}

#[test]
fn b19_a_background_validation_does_not_delay_a_drain() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--drain", "60", "--timeout", "60"]);
    let mut client = Client::of(&proxy);
    client.send("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    origin.asked("/x").answer(&FINAL.replace("max-age=60", "max-age=0, stale-while-revalidate=60"));
    client.next().is("HTTP/1.1 200 OK", "final");
    client.send("GET /x HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    client.next().is("HTTP/1.1 200 OK", "final").has("larder; hit");
    let unanswered = origin.asked("/x");
    proxy.signal("TERM");
    // Within `GUARD`, which is half of either limit.
    assert!(proxy.ends_well());
    drop(unanswered);
}
