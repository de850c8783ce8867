//! Servers that are gone.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use larder::store::{RedisConfig, RedisStore, TierLimits, TieredStore};
use larder::{CacheLayer, MemoryStore, Store};
use tower::{Layer, Service, ServiceExt};

use crate::servers::{Kind, Server};
use crate::{Pages, Report, key, median, request, runtime};

const PATH: &str = "/articles/some-article";
const DEADLINE: Duration = Duration::from_millis(100);
const ORIGIN: Duration = Duration::from_millis(20);

pub fn report(report: &mut Report) {
    open_breaker(report);
    killed_under_load(report);
}

fn config(server: &Server) -> RedisConfig {
    let config: RedisConfig = server.url().parse().unwrap();
    config.namespace("failing").deadline(DEADLINE)
}

/// What a look-up costs that fails because the servers are left alone.
fn open_breaker(report: &mut Report) {
    let runtime = runtime();
    let mut server = Server::start(Kind::Redis);
    let store = RedisStore::new(config(&server)).unwrap();
    let far = RedisStore::new(config(&server)).unwrap();
    let tier = {
        let _entered = runtime.enter();
        TieredStore::following(MemoryStore::default(), far, TierLimits::new())
    };
    let key = key(PATH);
    runtime.block_on(async {
        store.get(&key).await.unwrap();
        tier.get(&key).await.unwrap();
        server.kill();
        while !store.health().is_open || !tier.far().health().is_open || tier.is_near_open() {
            let _ = (store.get(&key).await, tier.get(&key).await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let (rounds, calls) = if report.is_quick { (2, 10) } else { (50, 1_000) };
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for (at, times) in times.iter_mut().enumerate() {
            let (store, tier, key) = (store.clone(), tier.clone(), key.clone());
            let work = runtime.spawn(async move {
                let begun = Instant::now();
                for _ in 0..calls {
                    let found = if at == 0 { store.get(&key).await } else { tier.get(&key).await };
                    assert!(black_box(found).is_err());
                }
                begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
            });
            times.push(runtime.block_on(work).unwrap());
        }
    }
    for (what, times) in ["of the store", "of a tier"].into_iter().zip(times) {
        let time = median(times);
        let figure = format!("{time:.0} ns");
        let what = format!("a look-up {what} while the breaker is open");
        report.line(&what, &figure, Some(("<= 1 us", time <= 1_000.0)));
    }
}

/// Requests of 64 tasks for what is stored, while the server is killed: none takes longer than the deadline and the origin.
fn killed_under_load(report: &mut Report) {
    const TASKS: usize = 64;
    let runtime = runtime();
    let mut server = Server::start(Kind::Redis);
    let store = RedisStore::new(config(&server)).unwrap();
    let service = CacheLayer::new(store.clone()).layer(Pages { delay: ORIGIN, ..Pages::of(1) });
    let has_to_end = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (mut service, has_to_end) = (service.clone(), Arc::clone(&has_to_end));
            runtime.spawn(async move {
                let mut times = Vec::new();
                while !has_to_end.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let request = request(&format!("/articles/{task}"));
                    let response = service.ready().await.unwrap().call(request).await.unwrap();
                    response.into_body().collect().await.unwrap();
                    times.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                times
            })
        })
        .collect();
    let time = Duration::from_millis(if report.is_quick { 50 } else { 1_000 });
    std::thread::sleep(time);
    server.kill();
    std::thread::sleep(time);
    has_to_end.store(true, Ordering::Relaxed);
    let times: Vec<f64> = runtime.block_on(async {
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        times
    });
    assert!(store.health().is_open || report.is_quick);
    let most = (DEADLINE + ORIGIN).as_secs_f64() * 1e3;
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let figure = format!("{slowest:.0} ms, {:.2} of the goal ({} requests)", slowest / most, times.len());
    let what = "the slowest request while the server is killed, 64 tasks";
    report.line(what, &figure, Some(("<= deadline + origin", slowest <= most)));
}
