//! Several upstreams: they take turns, the sick ones are left alone, and when all are sick the cache stands in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use crate::example_proxy::process::{Proxy, in_time};
use crate::support::raw::{Asked, Client, GUARD, Nobody, Origin};

const NOT_STORED: &str = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 5\r\n\r\nfinal";
const STALE: &str =
    "HTTP/1.1 200 OK\r\ncache-control: max-age=0, stale-if-error=600\r\ncontent-length: 3\r\n\r\nold";
const SICK: &str = "\r\ncache-status: larder; fwd=uri-miss; detail=\"origin-sick\"\r\n";

/// A proxy before the first, and before all the others.
fn before(upstreams: &[&str], arguments: &[&str]) -> (Proxy, mpsc::Receiver<String>) {
    let more = upstreams[1..].iter().flat_map(|url| ["--upstream", url]);
    Proxy::with_lines(upstreams[0], &more.chain(arguments.iter().copied()).collect::<Vec<_>>())
}

/// The next line about an upstream's health.
#[track_caller]
fn said(lines: &mpsc::Receiver<String>, expected: &str) {
    let line = lines.recv_timeout(GUARD).expect("a line");
    assert!(line.starts_with(expected), "{line}");
}

/// Answers checks, by a script that the test may change; other requests are for the test.
struct Checked {
    healthy: Arc<AtomicBool>,
    requests: mpsc::Receiver<Asked>,
    url: String,
}

impl Checked {
    fn new() -> Self {
        let (origin, healthy) = (Origin::new(), Arc::new(AtomicBool::new(true)));
        let (sender, requests) = mpsc::channel();
        let (url, answers) = (origin.upstream(), Arc::clone(&healthy));
        std::thread::spawn(move || {
            while let Some(mut asked) = origin.next_or_none() {
                if !asked.message.head.starts_with("GET /health HTTP/1.1\r\n") {
                    if sender.send(asked).is_err() {
                        return;
                    }
                    continue;
                }
                let status = if answers.load(Ordering::SeqCst) { "204 No Content" } else { "500 Broken" };
                asked.try_answer(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        Self { healthy, requests, url }
    }

    fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    #[track_caller]
    fn answers(&self, client: &mut Client, path: &str, answer: &str) {
        client.get(path);
        self.requests.recv_timeout(GUARD).expect("it is asked").answer(answer);
        client.next().is("HTTP/1.1 200 OK", answer.rsplit("\r\n").next().unwrap());
    }
}

#[test]
fn healthy_upstreams_take_turns_and_each_gets_its_own_host_if_it_should() {
    let origins = [Origin::new(), Origin::new()];
    let urls = origins.each_ref().map(Origin::upstream);
    let (proxy, _lines) = before(&[&urls[0], &urls[1]], &["--host", "upstream"]);
    let mut client = Client::of(&proxy);
    for turn in 0..4 {
        let path = format!("/{turn}");
        client.get(&path);
        let mut asked = origins[turn % 2].asked(&path);
        let host = urls[turn % 2].replace("http://", "\r\nhost: ");
        asked.message = asked.message.has(&format!("{host}\r\n"));
        // A reference to any of them leads to the proxy.
        let location = format!("HTTP/1.1 302 Found\r\nlocation: {}/y\r\n", urls[0]);
        asked.answer(&format!("{location}content-length: 0\r\n\r\n"));
        client.next().is("HTTP/1.1 302 Found", "").has("\r\nlocation: http://a.example/y\r\n");
    }
}

#[test]
fn a_request_that_can_not_be_sent_to_one_upstream_is_sent_to_the_next() {
    let (nobody, origin) = (Nobody::new(), Origin::new());
    let away = format!("http://{}", nobody.address);
    let (proxy, lines) = before(&[&away, &origin.upstream()], &[]);
    let mut client = Client::of(&proxy);
    // Those that the first upstream would have had are three by now.
    for turn in 0..5 {
        let path = format!("/{turn}");
        client.get(&path);
        origin.asked(&path).answer(NOT_STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
    said(&lines, &format!("larder: upstream {away}/ is sick: the origin can't be reached"));
    // It is not asked any more, so that content has somewhere to go.
    for _ in 0..4 {
        client.send("POST /form HTTP/1.1\r\nhost: a.example\r\ncontent-length: 4\r\n\r\nform");
        let mut asked = origin.asked("/form");
        asked.message = asked.message.is("POST /form HTTP/1.1", "form");
        asked.answer(NOT_STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
    }
}

#[test]
fn a_request_that_may_have_been_read_is_not_sent_to_another_upstream() {
    let origins = [Origin::new(), Origin::new()];
    let urls = origins.each_ref().map(Origin::upstream);
    let (proxy, _lines) = before(&[&urls[0], &urls[1]], &[]);
    let mut client = Client::of(&proxy);
    client.get("/x");
    origins[0].asked("/x").die();
    client.next().is("HTTP/1.1 502 Bad Gateway", "").has("detail=\"origin-broken\"");
    origins[1].was_not_asked();
}

#[test]
fn while_all_upstreams_are_sick_what_is_stored_stands_in_and_other_requests_fail_at_once() {
    let one = Checked::new();
    let (proxy, lines) =
        before(&[&one.url], &["--health-path", "/health", "--health-interval", "0.05", "--timeout", "600"]);
    let mut client = Client::of(&proxy);
    one.answers(&mut client, "/stored", STALE);
    one.set_healthy(false);
    said(&lines, &format!("larder: upstream {}/ is sick: the check was answered by 500", one.url));
    client.get("/stored");
    client.next().is("HTTP/1.1 200 OK", "old").has("; detail=\"stale-if-error\"\r\n");
    client.get("/other");
    client.next().is("HTTP/1.1 503 Service Unavailable", "").has(SICK).has("\r\nretry-after: 1\r\n");
    assert!(one.requests.try_recv().is_err(), "nothing but checks reaches a sick upstream");
    one.set_healthy(true);
    said(&lines, &format!("larder: upstream {}/ is healthy again", one.url));
    one.answers(&mut client, "/other", NOT_STORED);
}

#[test]
fn an_upstream_that_fails_its_checks_gets_nothing_until_it_passes_one() {
    let (one, other) = (Checked::new(), Checked::new());
    other.set_healthy(false);
    let (proxy, lines) =
        before(&[&one.url, &other.url], &["--health-path", "/health", "--health-interval", "0.05"]);
    // The first check is enough.
    said(&lines, &format!("larder: upstream {}/ is sick", other.url));
    let mut client = Client::of(&proxy);
    for turn in 0..4 {
        one.answers(&mut client, &format!("/{turn}"), NOT_STORED);
    }
    other.set_healthy(true);
    said(&lines, &format!("larder: upstream {}/ is healthy again", other.url));
    let mut served = [false; 2];
    in_time("both are asked", || {
        client.get("/x");
        let (who, mut asked) = in_time("one is asked", || {
            [&one, &other].iter().enumerate().find_map(|(who, it)| Some((who, it.requests.try_recv().ok()?)))
        });
        asked.answer(NOT_STORED);
        client.next().is("HTTP/1.1 200 OK", "final");
        served[who] = true;
        (served == [true; 2]).then_some(())
    });
}

#[test]
fn an_upstream_that_does_not_answer_its_check_in_time_is_sick() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let (_proxy, lines) = before(&[&url], &["--health-path", "/", "--health-interval", "0.1"]);
    said(&lines, &format!("larder: upstream {url}/ is sick: the check got no answer in time"));
}

#[test]
fn a35_calls_beyond_the_bound_of_one_upstream_go_to_another_and_then_get_503() {
    let origins = [Origin::new(), Origin::new()];
    let urls = origins.each_ref().map(Origin::upstream);
    let bounds = ["--max-calls-per-upstream", "1", "--call-wait", "0.2"];
    let (proxy, _lines) = before(&[&urls[0], &urls[1]], &bounds);
    let mut clients = [(); 3].map(|()| Client::of(&proxy));
    clients[0].get("/0");
    let mut first = origins[0].asked("/0");
    clients[1].get("/1");
    let mut second = origins[1].asked("/1");
    clients[2].get("/2");
    clients[2].next().is("HTTP/1.1 503 Service Unavailable", "").has("detail=\"too-many-calls\"");
    first.answer(NOT_STORED);
    clients[0].next().is("HTTP/1.1 200 OK", "final");
    // Whoever's turn it is: only one has room.
    clients[2].get("/3");
    origins[0].asked("/3").answer(NOT_STORED);
    clients[2].next().is("HTTP/1.1 200 OK", "final");
    second.answer(NOT_STORED);
    clients[1].next().is("HTTP/1.1 200 OK", "final");
}
