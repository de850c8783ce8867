//! Purges: how long one takes to be in effect near on another node, and how many there are in a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use larder::store::{PurgeMode, PurgeTarget, RedisStore, TierLimits, TieredStore};
use larder::{CacheLayer, MemoryStore, Store};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};

use crate::servers::Server;
use crate::{Pages, Report, key, median, request, runtime, share, store};

const PATH: &str = "/articles/some-article";
const P50: f64 = 5.0;
const P99: f64 = 20.0;

pub fn report(server: &Server, report: &mut Report) {
    let runtime = runtime();
    let _entered = runtime.enter();
    seen_by_another(server, &runtime, report);
    in_a_second(server, &runtime, report);
}

/// From the call of a purge to the moment at which another node's near tier has nothing any more.
fn seen_by_another(server: &Server, runtime: &Runtime, report: &mut Report) {
    let limits = TierLimits::new().bound(Duration::from_secs(60));
    let tier = |limits| TieredStore::following(MemoryStore::default(), store(server, "purges"), limits);
    let [one, other] = [tier(limits.clone()), tier(limits)];
    let mut service = CacheLayer::new(other.clone()).layer(Pages::of(1));
    let key = key(PATH);
    let rounds = if report.is_quick { 3 } else { 500 };
    let mut times = Vec::with_capacity(rounds);
    let is_near = || other.try_get(&key).is_some_and(|found| !found.variants.is_empty());
    for _ in 0..rounds {
        while !is_near() {
            runtime.block_on(async {
                let response = service.ready().await.unwrap().call(request(PATH)).await.unwrap();
                response.into_body().collect().await.unwrap();
            });
        }
        let (one, purged) = (one.clone(), [PurgeTarget::Key(key.clone())]);
        let begun = Instant::now();
        let purge = runtime.spawn(async move { one.invalidate(&purged, PurgeMode::Remove).await });
        while is_near() {
            sleep(Duration::from_micros(20)); // the other cores are for the server and the worker
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        runtime.block_on(purge).unwrap().unwrap();
    }
    for (name, of, most, goal) in [("p50", 0.5, P50, "<= 5 ms"), ("p99", 0.99, P99, "<= 20 ms")] {
        let time = share(times.iter().copied(), of);
        let figure = format!("{time:.2} ms, {:.2} of the goal", time / most);
        report.line(
            &format!("a purge is in effect near on another node, {name}"),
            &figure,
            Some((goal, time <= most)),
        );
    }
}

/// Purges of URIs by 64 tasks, in turns with a bare command that writes as much.
fn in_a_second(server: &Server, runtime: &Runtime, report: &mut Report) {
    const TASKS: usize = 64;
    let (rounds, goes) = if report.is_quick { (1, 2) } else { (20, 50) };
    let store = store(server, "purges-in-a-second");
    let next = Arc::new(AtomicUsize::new(0));
    let mut rates = Vec::with_capacity(rounds);
    let mut ratios = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let look_ups = run(runtime, TASKS, goes, &store, &next, false);
        let purges = run(runtime, TASKS, goes, &store, &next, true);
        rates.push((TASKS * goes) as f64 / purges);
        ratios.push(look_ups / purges);
    }
    let figure = format!("{:.0} a second, {:.2} of the look-ups", median(rates), median(ratios));
    report.line("purges of URIs, 64 tasks", &figure, None);
}

fn run(
    runtime: &Runtime,
    tasks: usize,
    goes: usize,
    store: &RedisStore,
    next: &Arc<AtomicUsize>,
    is_purge: bool,
) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (store, next) = (store.clone(), Arc::clone(next));
            runtime.spawn(async move {
                for _ in 0..goes {
                    let path = format!("/articles/{}", next.fetch_add(1, Ordering::Relaxed));
                    match is_purge {
                        true => {
                            let target = [PurgeTarget::Key(key(&path))];
                            store.invalidate(&target, PurgeMode::Remove).await.map(drop).unwrap();
                        }
                        false => drop(store.get(&key(&path)).await.unwrap()),
                    }
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    begun.elapsed().as_secs_f64()
}
