//! The layer over a store in which things go wrong: requests are answered by the origin, nothing that was purged comes back, and
//! nothing is lost once all is well again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use larder::store::chaos::{Chaos, ChaosStore, Fault, Gate, StoreCall};
use larder::store::conformance::{Subject, check_all};
use larder::store::{Fence, GuardLimits, PurgeTarget, Store};
use larder::{BoxStore, CacheKey, CacheLayer, MemoryStore};
use tokio::time::Instant;
use tower::{Layer, Service, service_fn};

use crate::support::elsewhere::Elsewhere;
use crate::support::stores::faulty;
use crate::support::{Bench, Reply};

#[tokio::test]
async fn a_script_without_faults_changes_nothing_of_the_contract() {
    let make = async || Arc::new(ChaosStore::new(Elsewhere::default(), Chaos::new()));
    check_all(&Subject::new(make).operations(100)).await;
}

#[tokio::test]
async fn calls_that_take_turns_change_nothing_of_the_contract() {
    let turns = || [Fault::turns(0..=3), Fault::turns(0..=2).after_effect()];
    check_all(&Subject::new(async || Arc::new(faulty(MemoryStore::default(), turns()))).operations(100))
        .await;
}

fn key() -> CacheKey {
    CacheKey::from_uri(&"http://a/".parse().unwrap()).unwrap()
}

/// Which of so many look-ups fail.
async fn failing(fault: Fault, calls: usize) -> Vec<usize> {
    let store = faulty(MemoryStore::default(), [fault]);
    let get = async |number| store.get(&key()).await.is_err().then_some(number);
    stream::iter(0..calls).filter_map(get).collect().await
}

#[tokio::test]
async fn a_fault_comes_in_the_calls_that_its_script_says() {
    let error = Fault::error;
    for (fault, expected) in [
        (error(), &[0, 1, 2, 3, 4, 5, 6, 7][..]),
        (error().every(3), &[0, 3, 6]),
        (error().skip(2).every(3), &[2, 5]),
        (error().skip(1).times(2), &[1, 2]),
        (error().in_calls([StoreCall::Put]), &[]),
        (error().when(|call, number| call == StoreCall::Get && number == 4), &[4]),
        (error().with_probability(0.0), &[]),
        (error().with_probability(1.0), &[0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        let shown = format!("{fault:?}");
        assert_eq!(failing(fault, 8).await, expected, "{shown}");
    }
    let half = failing(Fault::error().with_probability(0.5), 1_000).await;
    assert!((400..600).contains(&half.len()), "{}", half.len());
    assert_eq!(failing(Fault::error().with_probability(0.5), 1_000).await, half, "the same in each run");
}

#[tokio::test]
async fn a_script_is_changed_and_counts_while_its_store_is_used() {
    let chaos = Chaos::new();
    let store = ChaosStore::new(MemoryStore::default(), chaos.clone());
    chaos.add(Fault::error().in_calls([StoreCall::Get]));
    let error = store.get(&key()).await.unwrap_err();
    assert_eq!(error.to_string(), "the store failed to look up: its script says so");
    chaos.clear();
    store.get(&key()).await.unwrap();
    assert_eq!((chaos.calls(StoreCall::Get), chaos.calls(StoreCall::Put)), (2, 0));
    chaos.add(Fault::hang());
    {
        let key = key();
        let mut hanging = std::pin::pin!(store.get(&key));
        assert!(hanging.as_mut().now_or_never().is_none() && chaos.under_way() == 1);
    }
    assert_eq!(chaos.under_way(), 0, "a call that is dropped has ended");
}

#[tokio::test]
async fn a_gate_lets_as_many_calls_pass_as_it_is_told() {
    let gate = Gate::closed();
    let store = Arc::new(faulty(MemoryStore::default(), [Fault::gate(&gate)]));
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.get(&key()).await.map(drop) })
        })
        .collect();
    let ended = || calls.iter().filter(|call| call.is_finished()).count();
    let settled = async || {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        ended()
    };
    assert_eq!((settled().await, gate.arrived()), (0, 3));
    gate.pass(2);
    assert_eq!(settled().await, 2);
    gate.open();
    assert_eq!(settled().await, 3);
    gate.close();
    assert!(store.get(&key()).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_delay_takes_its_time_before_or_after_the_effect() {
    let second = Duration::from_secs(1);
    for (fault, is_purged) in [(Fault::delay(second), false), (Fault::delay(second).after_effect(), true)] {
        let memory = Arc::new(MemoryStore::default());
        let store = faulty(Arc::clone(&memory), [fault]);
        let begun = Instant::now();
        let purge = store.invalidate(&[PurgeTarget::All], larder::store::PurgeMode::Remove);
        tokio::pin!(purge);
        assert!(purge.as_mut().now_or_never().is_none());
        let scope = larder::store::PurgeScope::Key;
        let seen = memory.purged_since(&key(), Fence::default(), scope).await.unwrap();
        assert_eq!(seen, is_purged);
        purge.await.unwrap();
        assert_eq!(begun.elapsed(), second);
    }
}

/// For each call of a store and each way in which it can go wrong.
#[tokio::test(start_paused = true)]
async fn f10_whichever_call_of_a_store_goes_wrong_each_request_is_answered_in_time() {
    type Make = fn() -> Fault;
    let ways: [(&str, Make); 4] = [
        ("error", Fault::error),
        ("error after", || Fault::error().after_effect()),
        ("hang", Fault::hang),
        ("hang after", || Fault::hang().after_effect()),
    ];
    for &call in StoreCall::ALL {
        for (way, make) in ways {
            let chaos = Chaos::new();
            let store = ChaosStore::new(Elsewhere::default(), chaos.clone());
            let layer =
                CacheLayer::builder(BoxStore::new(store)).guard_limits(GuardLimits::new().failures(3));
            let mut cache = layer.build().layer(Versions::default().service());
            // Something is there, and then it goes wrong.
            ask(&mut cache, Method::GET, "/0").await.unwrap();
            chaos.add(make().in_calls([call]));
            for path in ["/0", "/1", "/0", "/1", "/2"] {
                let begun = Instant::now();
                let answered = ask(&mut cache, Method::GET, path).await;
                // Content that breaks off while it is sent can't be helped; a client sees it.
                assert!(answered.is_ok() || call == StoreCall::Read, "{call:?}, {way}, {path}: {answered:?}");
                let longest = Duration::from_millis(2 * 250 + 2_000);
                assert!(begun.elapsed() <= longest, "{call:?}, {way}, {path}: {:?}", begun.elapsed());
            }
            // All is well again, also where the circuit was open.
            chaos.clear();
            tokio::time::sleep(Duration::from_secs(10)).await;
            ask(&mut cache, Method::GET, "/3").await.unwrap();
            let before = ask(&mut cache, Method::GET, "/3").await.unwrap();
            assert!(before.is_hit, "{call:?}, {way}");
        }
    }
}

/// An origin whose content says its version.
#[derive(Clone, Default)]
struct Versions(Arc<AtomicU64>);

impl Versions {
    fn service(
        &self,
    ) -> impl Service<
        Request<Empty<Bytes>>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + use<> {
        let version = Arc::clone(&self.0);
        service_fn(move |request: Request<Empty<Bytes>>| {
            let version = version.load(Ordering::SeqCst);
            async move {
                // Some is put whole, and some is streamed.
                let pieces = if request.uri().path() == "/1" { 40_000 } else { 10 };
                let content = format!("{version};").repeat(pieces);
                let response = Response::builder().header("cache-control", "max-age=600");
                Ok(response.body(Full::new(Bytes::from(content))).unwrap())
            }
        })
    }
}

#[derive(Debug)]
struct Answered {
    is_hit: bool,
    version: u64,
}

async fn ask<S>(cache: &mut S, method: Method, path: &str) -> Result<Answered, String>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<larder::CacheBody>, Error = Infallible>,
{
    let request = Request::builder().method(method).uri(format!("http://a{path}"));
    let response = cache.call(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let is_hit = response.headers()["cache-status"].to_str().unwrap().contains("; hit");
    let content = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    let content = std::str::from_utf8(&content).unwrap();
    let mut pieces = content.split_terminator(';');
    let first = pieces.next().unwrap();
    assert!(pieces.all(|piece| piece == first), "it is of one version");
    Ok(Answered { is_hit, version: first.parse().unwrap() })
}

/// Everything goes wrong at times. The seeds are fixed.
#[tokio::test(start_paused = true)]
async fn f10_in_chaos_no_request_fails_and_nothing_that_was_purged_comes_back() {
    for seed in 0..24 {
        let chaos = Chaos::with_seed(seed);
        let store = ChaosStore::new(Elsewhere::default(), chaos.clone());
        let layer = CacheLayer::builder(BoxStore::new(store)).build();
        let (handle, origin) = (layer.handle(), Versions::default());
        let cache = layer.layer(origin.service());
        let store_calls = || StoreCall::ALL.iter().copied().filter(|call| *call != StoreCall::Read);
        for fault in [
            Fault::turns(0..=3),
            Fault::turns(0..=2).after_effect(),
            Fault::delay(Duration::from_millis(100)).with_probability(0.2),
            Fault::delay(Duration::from_millis(150)).with_probability(0.1).after_effect(),
            Fault::error().with_probability(0.1),
            Fault::error().with_probability(0.1).after_effect(),
            Fault::hang().with_probability(0.02),
            Fault::hang().with_probability(0.02).after_effect(),
        ] {
            chaos.add(fault.in_calls(store_calls()));
        }
        let (mut promised, mut hits) = ([0; 3], 0);
        for step in 0..60_usize {
            let number = step % 3;
            let path = format!("/{number}");
            if step % 7 == 3 {
                let version = origin.0.fetch_add(1, Ordering::SeqCst) + 1;
                let (target, purged) = match step % 2 {
                    0 => (PurgeTarget::All, 0..3),
                    _ => (PurgeTarget::uri(format!("http://a{path}")), number..number + 1),
                };
                // An error says that it may not have taken effect.
                if handle.purge_target(&target).await.is_ok() {
                    promised[purged].fill(version);
                }
            }
            let asked = (0..3).map(|_| {
                let mut cache = cache.clone();
                let path = &path;
                async move { ask(&mut cache, Method::GET, path).await }
            });
            for answered in join_all(asked).await {
                let answered = answered.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
                let least = promised[number];
                assert!(
                    answered.version >= least,
                    "seed {seed}, step {step}: {answered:?}, purged at {least}"
                );
                hits += usize::from(answered.is_hit);
            }
        }
        assert!(hits > 0, "seed {seed}: it is a cache");
        // All is well again.
        chaos.clear();
        tokio::time::sleep(Duration::from_secs(60)).await;
        handle.purge_target(&PurgeTarget::All).await.unwrap();
        let newest = origin.0.load(Ordering::SeqCst);
        for is_hit in [false, true] {
            let answered = ask(&mut cache.clone(), Method::GET, "/1").await.unwrap();
            assert_eq!((answered.is_hit, answered.version), (is_hit, newest), "seed {seed}");
        }
        assert_eq!(chaos.under_way(), 0, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_fails_while_it_is_read_breaks_off_and_is_never_taken_for_whole() {
    for (skip, is_whole) in [(0, false), (3, false), (1_000, true)] {
        let chaos = Chaos::new();
        let store = ChaosStore::new(Elsewhere::default(), chaos.clone());
        let content = "x".repeat(20_000);
        let reply = Reply::cc(&content, "max-age=600");
        let bench = Bench::with(CacheLayer::builder(BoxStore::new(store)), [reply]);
        bench.get("/").await.has_body(&content);
        chaos.add(Fault::error().in_calls([StoreCall::Read]).skip(skip));
        let seen = bench.get("/").await;
        assert_eq!((seen.broken, seen.body == content), (!is_whole, is_whole), "{skip}");
    }
}
