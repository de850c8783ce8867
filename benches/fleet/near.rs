//! A hit in a near tier, against one in memory.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use larder::store::{TierLimits, TieredStore};
use larder::{CacheBody, CacheLayer, CacheService, MemoryStore, Store};
use tower::{Layer, Service, ServiceExt};

use crate::servers::Server;
use crate::{Pages, Report, median, request, runtime, store};

const PATH: &str = "/articles/some-article?page=2";
const NEAR: f64 = 1.05;

/// A hit whose answer is there at once.
fn hit<S: Store>(service: &mut CacheService<Pages, S>) -> http::Response<CacheBody> {
    let future = pin!(service.call(request(PATH)));
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        _ => panic!("the answer is there at once"),
    }
}

type Variant = (&'static str, Box<dyn FnMut()>);

/// In the context of a runtime whose worker follows the log.
fn variants(server: &Server, runtime: &tokio::runtime::Runtime) -> Vec<Variant> {
    // A machine that is busy with something else does not close the near store.
    let limits = TierLimits::new().bound(Duration::from_secs(60));
    let tier = TieredStore::following(MemoryStore::default(), store(server, "near"), limits);
    let mut near = CacheLayer::new(tier.clone()).layer(Pages::of(1));
    let mut memory = CacheLayer::default().layer(Pages::of(1));
    runtime.block_on(async {
        let key = crate::key(PATH);
        while tier.try_get(&key).is_none() {
            let response = near.ready().await.unwrap().call(request(PATH)).await.unwrap();
            response.into_body().collect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    drop(hit(&mut memory));
    vec![
        ("memory", Box::new(move || drop(black_box(hit(&mut memory))))),
        ("near", Box::new(move || drop(black_box(hit(&mut near))))),
    ]
}

pub fn report(server: &Server, report: &mut Report) {
    const CALLS: u32 = 500;
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut variants = variants(server, &runtime);
    let rounds = if report.is_quick { 2 } else { 300 };
    let mut ratios = Vec::with_capacity(rounds);
    for round in 0..rounds + 20 {
        let times: Vec<_> = variants
            .iter_mut()
            .map(|(_, run)| {
                let begun = Instant::now();
                (0..CALLS).for_each(|_| run());
                begun.elapsed().as_secs_f64()
            })
            .collect();
        if round >= 20 {
            ratios.push(times[1] / times[0]);
        }
    }
    let ratio = median(ratios);
    let figure = format!("{ratio:.3} of the time of a hit in memory");
    report.line("a hit of the near tier, 1 KiB", &figure, Some(("<= 1.05", ratio <= NEAR)));
}

/// One variant, for callgrind.
pub fn only(server: &Server, name: &str, rounds: u64) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let mut variants = variants(server, &runtime);
    let (_, run) = variants.iter_mut().find(|(variant, _)| *variant == name).unwrap();
    (0..rounds).for_each(|_| run());
}
