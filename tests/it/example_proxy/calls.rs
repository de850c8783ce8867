//! Bounds on the calls to the origin that a client, an address and all clients may have open (A35).

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::example_proxy::process::Proxy;
use crate::support::Seen;
use crate::support::bench::read;
use crate::support::raw::{Asked, Client, Origin};

const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";
const STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";

const BUSY: &str = "larder; fwd=uri-miss; detail=\"too-many-calls\"";

/// A client with one HTTP/2 connection, and the origin's end.
struct Bench {
    client: HttpClient<hyper_util::client::legacy::connect::HttpConnector, Empty<Bytes>>,
    origin: Origin,
    proxy: Proxy,
}

impl Bench {
    fn new(arguments: &[&str]) -> Self {
        let origin = Origin::new();
        let proxy = origin.proxy(arguments);
        let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { client, origin, proxy }
    }

    /// A request on its way.
    fn get(&self, path: &str) -> tokio::task::JoinHandle<Seen> {
        let request = Request::get(format!("http://{}{path}", self.proxy.address));
        let answer = self.client.request(request.body(Empty::new()).unwrap());
        tokio::spawn(async move { read(answer.await.unwrap()).await })
    }

    fn asked(&self, path: &str) -> Asked {
        tokio::task::block_in_place(|| self.origin.asked(path))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a35_a_connection_at_its_call_limit_waits_and_then_gets_503() {
    let bench = Bench::new(&["--max-calls-per-connection", "2", "--call-wait", "2"]);
    let stored = bench.get("/stored");
    bench.asked("/stored").answer(STORED);
    stored.await.unwrap().has_body("final");

    let under_way = ["/1", "/2"].map(|path| (bench.get(path), bench.asked(path)));
    let seen = bench.get("/3").await.unwrap();
    assert_eq!((seen.status.as_u16(), seen.field("retry-after")), (503, Some("1")));
    assert_eq!(seen.cache_status(), BUSY);
    bench.origin.was_not_asked();
    // What is stored costs no call, nor what another request is asking for.
    assert!(bench.get("/stored").await.unwrap().is_hit());
    let follows = bench.get("/1");
    for (request, mut asked) in under_way {
        asked.answer(STORED);
        request.await.unwrap().has_body("final");
    }
    follows.await.unwrap().has_body("final");
    // Calls that are over leave room.
    for path in ["/4", "/5", "/6"] {
        let request = bench.get(path);
        bench.asked(path).answer(FINAL);
        request.await.unwrap().has_body("final");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a35_a_waiting_request_makes_its_call_when_another_call_ends() {
    let bench = Bench::new(&["--max-calls-per-connection", "1", "--call-wait", "600"]);
    let first = bench.get("/1");
    let mut asked = bench.asked("/1");
    let second = bench.get("/2");
    // A call is under way until its content is whole.
    asked.answer("HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfin");
    // Another connection's request goes to the origin, which is not asked for the second one before.
    let mut other = Client::of(&bench.proxy);
    tokio::task::block_in_place(|| {
        other.get("/other");
        bench.origin.asked("/other").answer(FINAL);
        other.next().is("HTTP/1.1 200 OK", "final");
        bench.origin.was_not_asked();
    });
    asked.answer("al");
    first.await.unwrap().has_body("final");
    bench.asked("/2").answer(FINAL);
    second.await.unwrap().has_body("final");
}

#[test]
fn a35_the_connections_of_one_address_share_its_call_limit() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--max-calls-per-address", "2", "--call-wait", "0.2"]);
    let mut clients = [Client::of(&proxy), Client::of(&proxy), Client::of(&proxy)];
    for (client, path) in clients.iter_mut().zip(["/1", "/2"]) {
        client.get(path);
    }
    let under_way = [origin.any(), origin.any()];
    clients[2].get("/3");
    clients[2].next().is("HTTP/1.1 503 Service Unavailable", "").has(BUSY).has("\r\nretry-after: 1\r\n");
    // They are its address's also when the connections have gone.
    let [first, second, mut third] = clients;
    drop((first, second));
    third.get("/3");
    third.next().is("HTTP/1.1 503 Service Unavailable", "");
    origin.was_not_asked();
    drop(under_way);
}

#[test]
fn a35_an_address_gets_its_call_permits_back_when_its_calls_end() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--max-calls-per-address", "1", "--call-wait", "600"]);
    let mut other = Client::of(&proxy);
    other.get("/stored");
    origin.asked("/stored").answer(STORED);
    other.next().is("HTTP/1.1 200 OK", "final");
    for _ in 0..3 {
        let [mut first, mut second] = [Client::of(&proxy), Client::of(&proxy)];
        first.get("/1");
        let mut asked = origin.asked("/1");
        second.get("/2");
        // The proxy goes on meanwhile, and the origin is not asked.
        for _ in 0..20 {
            other.get("/stored");
            other.next().is("HTTP/1.1 200 OK", "final").has("larder; hit");
        }
        origin.was_not_asked();
        asked.answer(FINAL);
        first.next().is("HTTP/1.1 200 OK", "final");
        origin.asked("/2").answer(FINAL);
        second.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn a35_a_background_validation_does_not_count_as_a_call_of_a_client() {
    let origin = Origin::new();
    let proxy = origin.proxy(&["--max-calls-per-address", "1", "--call-wait", "600", "--workers", "1"]);
    let [mut client, mut waits] = [Client::of(&proxy), Client::of(&proxy)];
    client.get("/stale");
    origin.asked("/stale").answer(&STORED.replace("max-age=60", "max-age=0, stale-while-revalidate=60"));
    client.next().is("HTTP/1.1 200 OK", "final");
    waits.get("/wait");
    let _under_way = origin.asked("/wait");
    client.get("/stale");
    client.next().is("HTTP/1.1 200 OK", "final").has("larder; hit");
    origin.asked("/stale").answer(STORED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a35_the_calls_of_all_clients_together_are_bounded() {
    let bench = Bench::new(&["--max-calls", "2", "--call-wait", "1"]);
    let under_way = ["/1", "/2"].map(|path| (bench.get(path), bench.asked(path)));
    let mut other = Client::of(&bench.proxy);
    tokio::task::block_in_place(|| {
        other.get("/3");
        other
            .next()
            .is("HTTP/1.1 503 Service Unavailable", "")
            .has("\r\nretry-after: 1\r\n")
            .has("call-limit");
    });
    bench.origin.was_not_asked();
    for (answer, mut asked) in under_way {
        asked.answer(FINAL);
        answer.await.unwrap().has_body("final");
    }
}
