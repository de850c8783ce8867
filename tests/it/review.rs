//! Review scenarios.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use larder::semantics::etag::{TagKind, Tagger};
use larder::{CacheLayer, FillLimits, StandardPolicy};
use tower::{Layer, Service};

use crate::support::{Stage, Step, settle};

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[tokio::test(start_paused = true)]
async fn r1_short_private_small_content() {
    for at_once in [true, false] {
        for steps in
            [vec![Step::frame("pan"), Step::End], vec![Step::frame("pan"), Step::frame("tries"), Step::End]]
        {
            let stage = Stage::new();
            let client = stage.get("/");
            settle().await;
            let call = stage.origin.call(0);
            call.head(&[("cache-control", "private"), ("content-length", "6")]);
            if at_once {
                call.steps(&steps);
                let seen = client.seen().await;
                println!("at once: {:?} {}", seen.body, seen.broken);
            } else {
                call.steps(&steps[..1]);
                let reading = client.reading();
                settle().await;
                call.steps(&steps[1..]);
                let seen = reading.await.unwrap();
                println!("later: {:?} {}", seen.body, seen.broken);
                assert!(seen.broken, "{steps:?}: a clean end");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r2_validation_behind_of_small_content_at_the_bound() {
    for length in [true, false] {
        let stage = Stage::with(CacheLayer::default().fill_limits(FillLimits::new().detached(0)));
        let swr = ("cache-control", "max-age=60, stale-while-revalidate=600");
        stage.fill("/", &[Step::head(200, &[swr]), Step::frame("old"), Step::End]).await.has_body("old");
        for round in 1..=3 {
            stage.later(100);
            let seen = stage.get("/").seen().await;
            println!("length {length} round {round}: {:?} {}", seen.body, seen.cache_status());
            settle().await;
            if stage.origin.calls() <= round {
                println!("  no call");
                continue;
            }
            let call = stage.origin.call(round);
            let fields: &[(&str, &str)] = if length { &[swr, ("content-length", "6")] } else { &[swr] };
            call.head(fields).frame("pan");
            tokio::time::sleep(Duration::from_millis(100)).await;
            call.frame("try").end();
            settle().await;
        }
        if length {
            assert_eq!(stage.get("/").seen().await.body, "pantry", "never stored");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r4_conditional_follower() {
    let stage = Stage::new();
    let tag = "W/\"6-2542a331590a1575\"";
    let leader = stage.get("/");
    settle().await;
    let follower = stage.get_with("/", &[("if-none-match", tag)]);
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, ("content-length", "6")]).frame("pan");
    settle().await;
    call.frame("try").end();
    let leader = leader.seen().await;
    let follower = follower.seen().await;
    println!(
        "leader {} {:?}; follower {} {:?}",
        leader.status,
        leader.fields,
        follower.status,
        follower.cache_status()
    );
    assert_eq!(follower.status, 304);
}

#[tokio::test(start_paused = true)]
async fn r5_trailers_and_length() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("2"));
    let stage = Stage::new();
    let leader = stage.get("/");
    settle().await;
    let follower = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, ("content-length", "6")]).frame("pan");
    settle().await;
    call.frame("try").step(Step::Trailers(trailers)).end();
    let leader = leader.seen().await;
    let follower = follower.seen().await;
    let hit = stage.get("/").seen().await;
    for seen in [leader, follower, hit] {
        println!(
            "{} {:?} {:?} {:?}",
            seen.cache_status(),
            seen.field("content-length"),
            seen.trailers,
            seen.body
        );
    }
}

#[tokio::test(start_paused = true)]
async fn r6_empty_frames_hold_the_head() {
    let stage = Stage::new();
    let client = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, ("content-length", "6")]);
    for _ in 0..1000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        call.frame("");
    }
    println!("waiting after 5 s of empty frames: {}", client.is_waiting());
    assert!(!client.is_waiting(), "up to 10 ms");
    call.frame("pantry").end();
    client.seen().await.has_body("pantry");
}

#[test]
fn r7_panics_in_a_runtime_without_timers() {
    static PANICS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let old = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }));
    runtime.block_on(async {
        let stage = Stage::new();
        for number in 0..10 {
            let client = stage.get(&format!("/{number}"));
            while stage.origin.calls() <= number {
                tokio::task::yield_now().await;
            }
            let call = stage.origin.call(number);
            call.head(&[FRESH, ("content-length", "6")]);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            call.frame("pantry").end();
            // without timeouts
            let response = {
                let mut c = Some(client);
                loop {
                    if !c.as_ref().unwrap().is_waiting() {
                        break c.take().unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            };
            drop(response);
        }
    });
    std::panic::set_hook(old);
    println!("panics in a runtime without timers: {}", PANICS.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(PANICS.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn r8_extensions_of_the_request_are_held() {
    let stage = Stage::new();
    let guard = Arc::new(());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = "/".parse().unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
    request.extensions_mut().insert(Arc::clone(&guard));
    let mut cache = stage.cache.clone();
    let task = tokio::spawn(cache.call(request));
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH]).frame("x");
    let response = task.await.unwrap().unwrap();
    settle().await;
    println!("with the answer: {}", Arc::strong_count(&guard));
    drop(response);
    settle().await;
    println!(
        "client left: {} (call's own request: {})",
        Arc::strong_count(&guard),
        Arc::strong_count(&call.request)
    );
    assert_eq!(Arc::strong_count(&guard), 2, "the test's own, and that of the scripted call");
    call.end();
    settle().await;
    println!("ended: {}", Arc::strong_count(&guard));
}

#[tokio::test(start_paused = true)]
async fn r9_latency_budget_and_slow_small_content() {
    let policy = StandardPolicy::default().latency_budget(Some(Duration::from_secs(1)));
    let stage = Stage::with(CacheLayer::default().policy(policy));
    let sie = ("cache-control", "max-age=60, stale-if-error=600");
    stage.fill("/", &[Step::head(200, &[sie]), Step::frame("old"), Step::End]).await.has_body("old");
    stage.later(100);
    let client = stage.get("/").reading();
    settle().await;
    let call = stage.origin.call(1);
    call.head(&[sie, ("content-length", "6")]).frame("pan");
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("finished within 5 s: {}", client.is_finished());
    call.step(Step::Fail);
    let seen = client.await.unwrap();
    println!("{} {:?} {}", seen.cache_status(), seen.body, seen.broken);
    assert_eq!(seen.body, "old");
}

// ---- a random test of integrity ----

#[derive(Clone, Debug)]
enum Act {
    Data(Bytes),
    Pause(u64),
    Yield,
    Trailers,
    Fail,
}

struct Played {
    acts: VecDeque<Act>,
    says_end: bool,
    hint: Option<u64>,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Body for Played {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            return match self.acts.pop_front() {
                None => Poll::Ready(None),
                Some(Act::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Act::Pause(ms)) => {
                    self.sleep = Some(Box::pin(tokio::time::sleep(Duration::from_millis(ms))));
                    continue;
                }
                Some(Act::Yield) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(Act::Trailers) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", HeaderValue::from_static("2"));
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Some(Act::Fail) => Poll::Ready(Some(Err(std::io::Error::other("broke")))),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.says_end && self.acts.is_empty() && self.sleep.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[derive(Clone)]
struct Player(Arc<Mutex<(Script, usize)>>);

#[derive(Clone, Debug)]
struct Script {
    cache_control: &'static str,
    acts: Vec<Act>,
    says_end: bool,
    length_field: Option<u64>,
    hint: Option<u64>,
    etag: bool,
}

impl<Q> Service<Request<Q>> for Player {
    type Response = Response<Played>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Q>) -> Self::Future {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        let script = state.0.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            let body = Played {
                acts: script.acts.into(),
                says_end: script.says_end,
                hint: script.hint,
                sleep: None,
            };
            let mut response = Response::new(body);
            response.headers_mut().insert("cache-control", HeaderValue::from_static(script.cache_control));
            if let Some(length) = script.length_field {
                response.headers_mut().insert("content-length", HeaderValue::from(length));
            }
            if script.etag {
                response.headers_mut().insert("etag", HeaderValue::from_static("\"theirs\""));
            }
            Ok(response)
        })
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

async fn random_case(seed: u64, idle: Duration) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    for _ in 0..8 {
        random.next();
    }
    let mut content = Vec::new();
    let mut acts = Vec::new();
    let frames = random.below(7);
    for _ in 0..frames {
        let size = match random.below(6) {
            0 => 0,
            1 => 1,
            2 => random.below(20),
            3 => random.below(5000),
            _ => random.below(12_000),
        };
        let data: Vec<u8> = (0..size).map(|_| b'a' + random.below(26) as u8).collect();
        content.extend_from_slice(&data);
        match random.below(5) {
            0 => acts.push(Act::Pause(random.below(30))),
            1 => acts.push(Act::Yield),
            2 => acts.extend([Act::Yield, Act::Yield]),
            _ => {}
        }
        acts.push(Act::Data(data.into()));
    }
    match random.below(5) {
        0 => acts.push(Act::Pause(random.below(30))),
        1 => acts.push(Act::Yield),
        _ => {}
    }
    let trailers = random.one_in(5);
    if trailers {
        acts.push(Act::Trailers);
        if random.one_in(2) {
            acts.push(Act::Yield);
        }
    }
    let mut whole = true;
    if random.one_in(5) {
        acts.truncate(random.below(acts.len() as u64 + 1) as usize);
        acts.push(Act::Fail);
        whole = false;
    }
    let length = content.len() as u64;
    let mut declared = length;
    if random.one_in(6) {
        declared = random.below(length + 10);
        whole &= declared == length;
    }
    let known = !random.one_in(4);
    let by_field = random.one_in(2);
    let mut script = Script {
        cache_control: "max-age=60",
        acts,
        says_end: random.one_in(2),
        length_field: (known && by_field).then_some(declared),
        hint: (known && !by_field).then_some(declared),
        etag: random.one_in(3),
    };
    if !known && declared != length {
        whole = !script.acts.iter().any(|act| matches!(act, Act::Fail));
    }
    let stored_kind = random.below(4);
    if stored_kind == 0 {
        script.cache_control = "private";
    }
    let storable = stored_kind != 0;
    let case = format!("seed {seed}: {script:?} whole {whole}")
        .chars()
        .filter(|c| !c.is_control())
        .take(0)
        .collect::<String>();
    let case = format!(
        "{case}seed {seed} storable {storable} known {known} declared {declared} of {length} whole {whole} says_end {}",
        script.says_end
    );
    let player = Player(Arc::new(Mutex::new((script.clone(), 0))));
    let mut limits = FillLimits::new();
    if random.one_in(2) {
        limits = limits.in_flight(random.below(20_000)).detached(random.below(2));
    }
    let layer = CacheLayer::default().fill_limits(limits);
    let handle = layer.handle();
    let cache = layer.layer(player.clone());
    let clients = 1 + random.below(4);
    let mut tasks = Vec::new();
    for number in 0..clients {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = "/".parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
        let mut cache = cache.clone();
        let (delay, slow, leaves) = (random.below(40), random.one_in(3), random.one_in(6));
        let is_head = random.one_in(8);
        let is_conditional = random.one_in(8);
        if is_head {
            *request.method_mut() = Method::HEAD;
        }
        if is_conditional {
            request.headers_mut().insert("if-none-match", HeaderValue::from_static("\"other\""));
        }
        let (content, case) = (content.clone(), case.clone());
        tasks.push(tokio::spawn(async move {
            if number > 0 {
                tokio::time::sleep(Duration::from_millis(delay)).await;
            }
            let call = cache.call(request);
            if leaves {
                let Ok(response) = tokio::time::timeout(Duration::from_millis(delay / 3), call).await else {
                    return;
                };
                let mut body = Box::pin(response.unwrap().into_body());
                let _ = tokio::time::timeout(Duration::from_millis(delay / 4), body.frame()).await;
                return;
            }
            let response =
                tokio::time::timeout(Duration::from_secs(100), call).await.expect("an answer").unwrap();
            let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
            let tag = response.headers().get("etag").cloned();
            let mut body = Box::pin(response.into_body());
            let mut got = Vec::new();
            let mut broken = false;
            let mut got_trailers = false;
            loop {
                if slow {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                let hint = body.size_hint();
                let said_end = body.is_end_stream();
                let frame =
                    tokio::time::timeout(Duration::from_secs(100), body.frame()).await.expect("an end");
                let Some(frame) = frame else { break };
                assert!(!said_end, "{case}: a frame after the end");
                match frame {
                    Err(_) => broken = true,
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => {
                            assert!(
                                !whole || hint.upper().is_none_or(|upper| data.len() as u64 <= upper),
                                "{case}"
                            );
                            got.extend_from_slice(&data);
                        }
                        Err(_) => got_trailers = true,
                    },
                }
            }
            if is_head {
                assert!(got.is_empty(), "{case}");
                return;
            }
            assert!(content.starts_with(&got), "{case}: bytes misplaced {status}");
            if whole {
                assert!(
                    !broken && got == content,
                    "{case}: {} of {} broken {broken} {status}",
                    got.len(),
                    content.len()
                );
                assert_eq!(got_trailers, trailers, "{case} {status}");
            } else if known {
                assert!(broken || !storable, "{case}: a clean end {status}");
            }
            if let Some(tag) = tag.filter(|tag| tag.as_bytes().starts_with(b"W/")) {
                let mut tagger = Tagger::new(TagKind::Fnv1a);
                tagger.update(&content);
                assert_eq!(tag, tagger.finish(), "{case}");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    tokio::time::sleep(idle).await;
    let fills = handle.fills();
    assert_eq!((fills.detached, fills.fills, fills.in_flight, fills.waiting), (0, 0, 0, 0), "{case}");
    let entries = handle.statistics().entries;
    if !whole || !storable {
        assert_eq!(entries, 0, "{case}");
    }
    if entries > 0 {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = "/".parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
        let response = cache.clone().call(request).await.unwrap();
        assert!(response.headers()["cache-status"].to_str().unwrap().contains("hit"), "{case}");
        let mut tagger = Tagger::new(TagKind::Fnv1a);
        tagger.update(&content);
        let expected = if script.etag { HeaderValue::from_static("\"theirs\"") } else { tagger.finish() };
        assert_eq!(response.headers()["etag"], expected, "{case}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), content, "{case}");
    }
}

#[test]
fn r10_random_integrity() {
    let (from, to) = (1, std::env::var("CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000));
    for seed in from..to {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(random_case(seed, Duration::from_secs(200)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r11_random_integrity_in_threads() {
    // The sleeps of 200 s are for paused time only.
    let to: u64 = std::env::var("CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    let mut tasks = Vec::new();
    for seed in 1..to {
        tasks.push(tokio::spawn(async move {
            tokio::time::timeout(Duration::from_secs(60), random_case(seed, Duration::from_millis(500)))
                .await
                .expect("a hang")
        }));
        if tasks.len() > 200 {
            for task in tasks.drain(..) {
                task.await.unwrap();
            }
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn r12_completion_in_steps() {
    for (cache_control, end, tagged) in [
        ("max-age=60", Step::End, true),
        ("max-age=60", Step::Fail, true),
        ("max-age=60", Step::frame("6"), true),
        ("private", Step::End, true),
        ("private", Step::Fail, true),
        ("private", Step::frame("6"), true),
        ("max-age=60", Step::End, false),
        ("max-age=60", Step::Fail, false),
        ("max-age=60", Step::frame("6"), false),
        ("private", Step::End, false),
        ("private", Step::Fail, false),
        ("private", Step::frame("6"), false),
    ] {
        for last in ["78", "7"] {
            let stage = Stage::with(CacheLayer::default().policy(StandardPolicy::rfc9111()));
            let now = httpdate::fmt_http_date(stage.clock.now());
            let old = httpdate::fmt_http_date(stage.clock.now() - Duration::from_secs(1000));
            let validator = if tagged { ("etag", "\"1\"") } else { ("last-modified", old.as_str()) };
            let part = [
                FRESH,
                validator,
                ("date", now.as_str()),
                ("content-range", "bytes 0-2/9"),
                ("content-length", "3"),
            ];
            stage.origin.script(&[Step::head(206, &part), Step::frame("012"), Step::End]);
            stage.get_with("/", &[("range", "bytes=0-2")]).seen().await.has_body("012");
            stage.origin.script(&[]);
            let client = stage.get("/");
            settle().await;
            let call = stage.origin.call(1);
            assert_eq!(call.field("range"), Some("bytes=3-"));
            call.step(Step::head(
                206,
                &[
                    ("cache-control", cache_control),
                    validator,
                    ("date", now.as_str()),
                    ("content-range", "bytes 3-8/9"),
                    ("content-length", "6"),
                ],
            ));
            settle().await;
            call.frame("345");
            settle().await;
            call.frame("6");
            settle().await;
            call.frame(last);
            settle().await;
            call.step(end.clone()).end();
            let seen = client.seen().await;
            let whole = last == "78" && matches!(end, Step::End);
            println!(
                "{cache_control} {end:?} {tagged} {last}: {} {:?} broken {} {:?}",
                seen.cache_status(),
                seen.body,
                seen.broken,
                seen.field("etag")
            );
            assert_eq!(seen.broken, !whole && !(last == "7" && end_is_frame(&end)));
            settle().await;
            let next = stage.get("/").seen();
            let next = tokio::time::timeout(Duration::from_secs(1), next).await;
            println!(
                "   next: {:?}",
                next.map(|seen| (seen.cache_status().to_owned(), seen.body, seen.fields)).ok()
            );
            assert_eq!(stage.handle.fills().in_flight, 0);
        }
    }
}

fn end_is_frame(step: &Step) -> bool {
    matches!(step, Step::Frame(_))
}

#[tokio::test(start_paused = true)]
async fn r13_many_validations_behind_of_small_content() {
    const MANY: usize = 300;
    let stage = Stage::new();
    let swr = ("cache-control", "max-age=60, stale-while-revalidate=600");
    for number in 0..MANY {
        stage.fill(&format!("/{number}"), &[Step::head(200, &[swr]), Step::frame("old"), Step::End]).await;
    }
    stage.later(100);
    for number in 0..MANY {
        stage.get(&format!("/{number}")).seen().await.has_body("old");
    }
    settle().await;
    let calls = stage.origin.calls_from(MANY);
    assert_eq!(calls.len(), MANY);
    for call in &calls {
        call.head(&[swr, ("content-length", "6")]).frame("pan");
    }
    settle().await;
    println!("detached: {:?}", stage.handle.fills());
    for call in &calls {
        call.frame("try").end();
    }
    settle().await;
    let mut fresh = 0;
    for number in 0..MANY {
        fresh += usize::from(stage.get(&format!("/{number}")).seen().await.body == "pantry");
    }
    assert_eq!(fresh, MANY);
}

#[tokio::test(start_paused = true)]
async fn r14_range_followers_of_small_content() {
    let stage = Stage::new();
    stage.fill("/", &[Step::head(200, &[FRESH, ("etag", "\"1\"")]), Step::frame("old"), Step::End]).await;
    stage.later(100);
    let leader = stage.get("/");
    settle().await;
    let followers = stage.herd(50, &[("range", "bytes=0-1")]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    let call = stage.origin.call(1);
    call.head(&[FRESH, ("etag", "\"2\""), ("content-length", "6")]).frame("pan");
    settle().await;
    call.frame("try").end();
    settle().await;
    println!("calls: {}", stage.origin.calls());
    assert_eq!(stage.origin.calls(), 2);
    drop((leader, followers));
}

#[tokio::test(start_paused = true)]
async fn r15_followers_of_a_conditional_leader() {
    let stage = Stage::new();
    let leader = stage.get_with("/", &[("if-none-match", "\"x\"")]);
    settle().await;
    let follower = stage.get("/");
    settle().await;
    let call = stage.origin.call(0);
    call.head(&[FRESH, ("etag", "\"2\""), ("content-length", "6")]).frame("pan");
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("leader waits {} follower waits {}", leader.is_waiting(), follower.is_waiting());
    call.frame("try").end();
}

#[tokio::test(start_paused = true)]
async fn r16_followers_of_small_content_that_breaks() {
    let stage = Stage::new();
    let sie = ("cache-control", "max-age=60, stale-if-error=600");
    stage.fill("/", &[Step::head(200, &[sie]), Step::frame("old"), Step::End]).await;
    stage.later(100);
    let clients = stage.herd(10, &[]);
    settle().await;
    assert_eq!(stage.origin.calls(), 2);
    let call = stage.origin.call(1);
    call.head(&[sie, ("content-length", "6")]).frame("pan");
    settle().await;
    call.step(Step::Fail);
    settle().await;
    let mut broken = 0;
    for client in clients {
        broken += usize::from(client.seen().await.broken);
    }
    println!("broken: {broken}");
    assert_eq!(broken, 1);
}
