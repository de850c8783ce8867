//! Time limits that count from the last progress of a client or of the origin (F18).
//!
//! What must not be cut off continues for longer than the limit, in steps that are far shorter than it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::example_proxy::process::{Proxy, in_time};
use crate::support::raw::{Client, Origin, get};

#[expect(dead_code, unused_imports, reason = "the example uses it")]
#[path = "../../../examples/origin_proxy/connection/mod.rs"]
mod connection;

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";

/// More than the buffers of two sockets hold.
const LARGE: usize = 24 << 20;

/// Whoever reads has time for it.
const STALLING: [&str; 8] = ["--stall", "2", "--max-object", "32MiB", "--head", "600", "--idle", "600"];

/// An answer that does not fit anywhere.
fn large(cache_control: &str) -> String {
    let head =
        format!("HTTP/1.1 200 OK\r\ncache-control: {cache_control}\r\ncontent-length: {LARGE}\r\n\r\n");
    head + &"x".repeat(LARGE)
}

/// A connection to the proxy that the system takes in little for.
fn narrow(proxy: &Proxy) -> Client {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(proxy.address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    Client::over(stream)
}

/// Answers from a thread of its own: the proxy may take it slowly, or not to the end.
fn answer_large(origin: &Origin, path: &str, cache_control: &'static str) {
    let mut asked = origin.asked(path);
    std::thread::spawn(move || asked.try_answer(&large(cache_control)));
}

#[test]
fn f18_a_client_that_reads_nothing_of_its_response_is_cut_off() {
    let origin = Origin::new();
    let proxy = origin.proxy(&STALLING);
    // What is stored is handed to the connection whole; of the other, the proxy has the rest to come.
    let mut reads = Client::of(&proxy);
    reads.get("/stored");
    answer_large(&origin, "/stored", "max-age=600");
    let head = reads.head(200);
    assert_eq!(reads.content(&head).unwrap().len(), LARGE);
    let mut stalls = ["/stored", "/streamed"].map(|path| {
        let mut client = narrow(&proxy);
        client.get(path);
        client
    });
    answer_large(&origin, "/streamed", "no-store");
    for client in &mut stalls {
        in_time("the connection is reset", || (!client.try_send("\r\n")).then_some(()));
    }
    reads.get("/stored");
    let head = reads.head(200);
    assert_eq!(reads.content(&head).unwrap().len(), LARGE);
    origin.was_not_asked();
}

/// RFC 9113: the preface, windows as large as can be, and a GET of `/stored`.
fn http2_get() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, content: &[u8]| {
        [&[0, 0, content.len() as u8, kind, flags, 0, 0, 0, stream], content].concat()
    };
    let settings = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let window = frame(8, 0, 0, &(0x7fff_ffff_u32 - 0xffff).to_be_bytes());
    // RFC 7541: GET and http by their index, the others as literals.
    let fields = [&b"\x82\x86\x44\x07/stored\x41\x09a.example"[..]].concat();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &window, &frame(1, 5, 1, &fields)].concat()
}

#[test]
fn f18_an_http2_client_that_reads_nothing_from_its_socket_is_cut_off() {
    /// PRIORITY, which nobody minds.
    const FRAME: &str = "\0\0\x05\x02\0\0\0\0\x03\0\0\0\0\0";
    let origin = Origin::new();
    let proxy = origin.proxy(&STALLING);
    let mut reads = Client::of(&proxy);
    reads.get("/stored");
    answer_large(&origin, "/stored", "max-age=600");
    let head = reads.head(200);
    reads.content(&head).unwrap();
    let mut client = narrow(&proxy);
    client.0.get_mut().write_all(&http2_get()).unwrap();
    in_time("the connection is reset", || (!client.try_send(FRAME)).then_some(()));
}

fn a_client_takes_its_answer_slowly() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--stall", "3", "--head", "600", "--idle", "600"]);
    let mut client = narrow(&proxy);
    client.get("/x");
    answer_large(&origin, "/x", "no-store");
    client.head(200);
    let (begun, mut received, mut buffer) = (Instant::now(), 0, vec![0; 8192]);
    while begun.elapsed() < Duration::from_secs(7) {
        client.0.read_exact(&mut buffer).unwrap();
        received += buffer.len();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(received < LARGE / 2, "it was slow: {received}");
    let mut rest = vec![0; LARGE - received];
    client.0.read_exact(&mut rest).unwrap();
}

#[test]
fn f18_a_request_whose_content_stalls_gets_408() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--stall", "0.3", "--timeout", "600", "--head", "600", "--idle", "600"]);
    for (method, told) in [("POST", "fwd=method"), ("QUERY", "fwd=method"), ("GET", "fwd=bypass")] {
        for part in ["content-length: 10\r\n\r\nxyz", "transfer-encoding: chunked\r\n\r\n3\r\nxyz\r\n"] {
            let mut client = Client::of(&proxy);
            client.send(&format!("{method} /x HTTP/1.1\r\nhost: a.example\r\n{part}"));
            let told = format!("\r\ncache-status: larder; {told}; detail=\"client-timeout\"\r\n");
            client.next().is("HTTP/1.1 408 Request Timeout", "").has(&told);
            assert!(client.is_closed());
        }
    }
}

#[test]
fn f18_an_origin_without_progress_times_out() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--timeout", "0.3", "--stall", "600"]);
    // It has read all, or nothing.
    let mut client = Client::of(&proxy);
    client.send("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\nform");
    client.next().is("HTTP/1.1 504 Gateway Timeout", "").has("detail=\"origin-timeout\"");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = before(deaf.local_addr().unwrap(), &["--timeout", "0.3", "--stall", "600"]);
    let mut client = Client::of(&proxy);
    client.send(&format!("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: {LARGE}\r\n\r\n"));
    let mut sends = Client::over(client.0.get_ref().try_clone().unwrap());
    std::thread::spawn(move || sends.try_send(&"x".repeat(LARGE)));
    client.next().is("HTTP/1.1 504 Gateway Timeout", "").has("detail=\"origin-timeout\"");
    // It stops in its content.
    let proxy = origin.proxy(&["--timeout", "2"]);
    let mut client = Client::of(&proxy);
    client.get("/y");
    origin.within("/y").answer(FINAL.strip_suffix("nal").unwrap());
    let head = client.head(200);
    assert_eq!(client.content(&head).unwrap_err(), b"fi");
}

fn before(origin: SocketAddr, arguments: &[&str]) -> Proxy {
    Proxy::before(&format!("http://{origin}"), arguments)
}

/// The time limit, and the steps of what goes on for longer.
const LIMIT: &str = "4";
const STEP: Duration = Duration::from_millis(250);
const STEPS: usize = 24;

/// An origin with one connection, of which it has read one head.
fn origin_of_one(serve: impl FnOnce(BufReader<TcpStream>) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        serve(reader);
    });
    address
}

/// Sends content for longer than the limit.
fn upload(client: &mut Client) {
    client.send(&format!("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: {STEPS}\r\n\r\n"));
    for _ in 0..STEPS {
        std::thread::sleep(STEP);
        client.send("x");
    }
}

fn a_client_uploads_slowly() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--timeout", LIMIT]);
    let mut client = Client::of(&proxy);
    upload(&mut client);
    origin.asked("/x").answer(FINAL);
    client.next().is("HTTP/1.1 200 OK", "final");
}

fn a_client_uploads_slowly_and_the_answer_has_begun() {
    let origin = origin_of_one(|mut reader| {
        let (head, content) = FINAL.split_at(FINAL.len() - 5);
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        reader.read_exact(&mut [0; STEPS]).unwrap();
        reader.get_mut().write_all(content.as_bytes()).unwrap();
    });
    let proxy = before(origin, &["--timeout", LIMIT]);
    let mut client = Client::of(&proxy);
    upload(&mut client);
    client.next().is("HTTP/1.1 200 OK", "final");
}

fn an_origin_reads_an_upload_slowly() {
    const PART: usize = 64 << 10;
    const LENGTH: usize = 80 * PART;
    let origin = origin_of_one(|mut reader| {
        let mut part = vec![0; PART];
        for _ in 0..LENGTH / PART {
            reader.read_exact(&mut part).unwrap();
            std::thread::sleep(2 * STEP / 5);
        }
        reader.get_mut().write_all(FINAL.as_bytes()).unwrap();
    });
    let proxy = before(origin, &["--timeout", LIMIT]);
    let mut client = Client::of(&proxy);
    client.send(&format!("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: {LENGTH}\r\n\r\n"));
    client.send(&"x".repeat(LENGTH));
    client.next().is("HTTP/1.1 200 OK", "final");
}

fn an_origin_answers_slowly() {
    let origin = origin_of_one(|mut reader| {
        let head = format!("HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: {STEPS}\r\n\r\n");
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        for _ in 0..STEPS {
            std::thread::sleep(STEP);
            reader.get_mut().write_all(b"x").unwrap();
        }
    });
    let proxy = before(origin, &["--timeout", LIMIT, "--stall", LIMIT]);
    let mut client = Client::of(&proxy);
    client.send(&get("/x"));
    client.next().is("HTTP/1.1 200 OK", &"x".repeat(STEPS));
}

/// All at the same time, since each takes longer than the limit.
#[test]
fn f18_a_slow_but_steady_exchange_is_not_cut_off() {
    std::thread::scope(|scope| {
        for steady in [
            a_client_takes_its_answer_slowly,
            a_client_uploads_slowly,
            a_client_uploads_slowly_and_the_answer_has_begun,
            an_origin_reads_an_upload_slowly,
            an_origin_answers_slowly,
        ] {
            scope.spawn(steady);
        }
    });
}
