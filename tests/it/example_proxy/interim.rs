//! Interim responses (EH): what a client gets on its socket, byte for byte.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Empty;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;

use crate::support::bench::read;
use crate::support::raw::{Client, Message, Origin, get};

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
const FINAL: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 5\r\n\r\nfinal";
const UNSTORED: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";

trait Expects {
    fn next_is_hint(&mut self);
    fn next_is_final(&mut self) -> Message;
}

impl Expects for Client {
    #[track_caller]
    fn next_is_hint(&mut self) {
        self.next().is("HTTP/1.1 103 Early Hints", "").has("\r\nlink: </style.css>; rel=preload\r\n");
    }

    #[track_caller]
    fn next_is_final(&mut self) -> Message {
        self.next().is("HTTP/1.1 200 OK", "final").lacks("link")
    }
}

#[test]
fn eh_the_client_gets_an_interim_response_before_the_origin_sends_the_final_one() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    // The origin goes on only when the client has what came so far.
    asked.answer("HTTP/1.1 102 Processing\r\n\r\n");
    client.next().is("HTTP/1.1 102 Processing", "").has("\r\nvia: 1.1 larder\r\n");
    for _ in 0..2 {
        asked.answer(HINT);
        client.next_is_hint();
    }
    asked.answer("HTTP/1.1 199\r\n\r\n");
    client.next().is("HTTP/1.1 199 ", "");
    asked.answer(FINAL);
    client.next_is_final();
}

#[test]
fn eh_an_interim_response_leaves_nothing_in_storage() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for path in ["/x", "/y"] {
        client.get(path);
        // In one segment, so that the final response is there when the connection gets to the interim one.
        origin.asked(path).answer(&[HINT, FINAL].concat());
        client.next_is_hint();
        client.next_is_final().has("cache-status: larder; fwd=uri-miss; stored");
        client.get(path);
        client.next_is_final().has("cache-status: larder; hit");
    }
}

#[test]
fn eh_an_interim_response_to_a_validation_reaches_the_client() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let stale = FINAL.replace("max-age=60", "no-cache").replace("\r\n\r\n", "\r\netag: \"a\"\r\n\r\n");
    origin.asked("/x").answer(&stale);
    client.next_is_final();
    for _ in 0..2 {
        client.get("/x");
        let mut asked = origin.asked("/x");
        asked.answer(HINT);
        client.next_is_hint();
        asked.answer("HTTP/1.1 304 Not Modified\r\ncache-control: no-cache\r\netag: \"a\"\r\n\r\n");
        client.next_is_final().has("fwd-status=304");
    }
}

#[test]
fn eh_interim_responses_to_a_background_validation_reach_no_client() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origin.asked("/x").answer(&FINAL.replace("max-age=60", "max-age=0, stale-while-revalidate=60"));
    client.next_is_final();
    client.get("/x");
    client.next_is_final().has("cache-status: larder; hit");
    let mut behind = origin.asked("/x");
    client.get("/y");
    let mut asked = origin.asked("/y");
    behind.answer(&[&HINT.replace("style", "late"), FINAL].concat());
    asked.answer(HINT);
    client.next_is_hint();
    asked.answer(FINAL);
    client.next_is_final();
}

#[test]
fn eh_each_pipelined_request_gets_its_own_interim_response() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.send(&["/1", "/2", "/3"].map(get).concat());
    for path in ["/1", "/2", "/3"] {
        origin.asked(path).answer(&[&HINT.replace("/style.css", path), UNSTORED].concat());
    }
    // Nothing was read until here: what is out of order shows.
    for path in ["/1", "/2", "/3"] {
        client.next().is("HTTP/1.1 103 Early Hints", "").has(&format!("link: <{path}>"));
        client.next_is_final();
    }
}

#[test]
fn eh_an_http10_client_gets_no_interim_response() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.send("GET /x HTTP/1.0\r\nhost: a.example\r\nconnection: keep-alive\r\n\r\n");
    origin.asked("/x").answer(&[HINT, FINAL].concat());
    client.next().is("HTTP/1.0 200 OK", "final");
    // The next request of the connection may have its own.
    client.get("/y");
    origin.asked("/y").answer(&[HINT, FINAL].concat());
    client.next_is_hint();
    client.next_is_final();
}

#[tokio::test]
async fn eh_an_http2_client_gets_no_interim_response() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let answers = tokio::task::spawn_blocking(move || {
        for path in ["/x", "/y"] {
            origin.asked(path).answer(&[HINT, FINAL].concat());
        }
    });
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    for path in ["/x", "/y"] {
        let request = Request::get(format!("http://{}{path}", proxy.address));
        let response = client.request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let seen = read(response).await.has_body("final");
        assert_eq!((seen.status.as_u16(), seen.field("link")), (200, None));
    }
    answers.await.unwrap();
}

#[test]
fn eh_the_proxy_sends_its_own_100_continue_and_drops_the_origins() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for _ in 0..2 {
        client
            .send("POST /x HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
        client.next().is("HTTP/1.1 100 Continue", "");
        client.send("form");
        let mut asked = origin.asked("/x");
        assert_eq!(asked.message.content, "form");
        asked.answer("HTTP/1.1 100 Continue\r\n\r\n");
        asked.answer(HINT);
        client.next_is_hint();
        asked.answer(UNSTORED);
        client.next_is_final();
    }
}

#[test]
fn eh_a_101_that_nobody_asked_for_is_answered_with_502() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    for fields in ["", "connection: upgrade\r\nupgrade: h2c\r\n", "upgrade: other\r\n"] {
        client.send(&format!("GET /x HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n"));
        let mut asked = origin.asked("/x");
        assert!(!asked.message.head.contains("upgrade"), "{:?}", asked.message);
        asked.answer(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nother words",
        );
        client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-switches\"");
    }
    client.get("/y");
    origin.asked("/y").answer(FINAL);
    client.next_is_final();
}

#[test]
fn eh_hop_by_hop_fields_of_an_interim_response_are_removed() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let fields = "connection: x-hop, close\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nvia: 1.1 inner\r\n\
                  content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    origin.asked("/x").answer(&[&HINT.replace("\r\n\r\n", "\r\n"), fields, FINAL].concat());
    let hint =
        client.next().is("HTTP/1.1 103 Early Hints", "").has("\r\nlink: </style.css>; rel=preload\r\n");
    let hint = hint.has("\r\nvia: 1.1 inner\r\nvia: 1.1 larder\r\n");
    for name in ["connection", "x-hop", "keep-alive", "content-length", "transfer-encoding"] {
        assert!(!hint.head.contains(name), "{hint:?}");
    }
    client.next_is_final();
}

#[test]
fn eh_the_number_and_size_of_interim_responses_are_bounded() {
    let origin = Origin::new();
    let proxy = origin.proxy(&[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    let mut asked = origin.asked("/x");
    asked.answer(&HINT.repeat(40));
    asked.answer(UNSTORED);
    for _ in 0..16 {
        client.next_is_hint();
    }
    client.next_is_final();
    // By bytes: the second does not fit.
    client.get("/y");
    let mut asked = origin.asked("/y");
    let large = HINT.replace("preload", &"x".repeat(9_000));
    asked.answer(&[&large, &large, HINT, UNSTORED].concat());
    client.next().is("HTTP/1.1 103 Early Hints", "").has("xxx");
    client.next_is_hint();
    client.next_is_final();
}
