//! Hits in Redis, against a bare `GET` of the same bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use larder::store::record::{Record, RecordNames};
use larder::{CacheLayer, CacheService, Store};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, Value};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};

use crate::servers::Server;
use crate::{Pages, Report, key, median, request, runtime, store};

const PATH: &str = "/articles/some-article?page=2";
/// The goals: how much of the throughput is left with 64 tasks, and by how much a hit alone takes longer.
const THROUGHPUT: f64 = 0.85;
const ALONE: f64 = 1.2;

/// One of the ways to the same bytes.
#[derive(Clone)]
enum Way {
    Bare(MultiplexedConnection, Arc<str>),
    Layer(CacheService<Pages, larder::store::RedisStore>),
    Store(larder::store::RedisStore),
}

impl Way {
    async fn go(&mut self) {
        match self {
            Self::Bare(connection, name) => {
                let found: Value = redis::cmd("GET").arg(&**name).query_async(connection).await.unwrap();
                assert!(matches!(black_box(found), Value::BulkString(_)));
            }
            Self::Layer(service) => {
                let response = service.ready().await.unwrap().call(request(PATH)).await.unwrap();
                black_box(response.into_body().collect().await.unwrap());
            }
            Self::Store(store) => {
                let found = store.get(&key(PATH)).await.unwrap();
                assert_eq!(black_box(found).variants.len(), 1);
            }
        }
    }
}

/// A connection with the settings of the store's.
async fn bare(server: &Server) -> MultiplexedConnection {
    let info = server.url().into_connection_info().unwrap();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.set_redis_settings(settings)).unwrap();
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(1_024);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// All ways to a response of so many KiB, which is stored.
fn ways(runtime: &Runtime, server: &Server, kib: usize) -> Vec<(&'static str, Way)> {
    runtime.block_on(async {
        let namespace = format!("hits-{kib}");
        let store = store(server, &namespace);
        let mut service = CacheLayer::new(store.clone()).layer(Pages::of(kib));
        for expected in ["larder; fwd=uri-miss; stored; ttl=3600", "larder; hit; ttl="] {
            let response = service.ready().await.unwrap().call(request(PATH)).await.unwrap();
            let said = response.headers()["cache-status"].to_str().unwrap().to_owned();
            response.into_body().collect().await.unwrap();
            // It is written in the background.
            while store.get(&key(PATH)).await.unwrap().variants.is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(said.starts_with(expected), "{said}");
        }
        let name = RecordNames::new(&namespace).of(&key(PATH)).into();
        vec![
            ("bare", Way::Bare(bare(server).await, name)),
            ("store", Way::Store(store)),
            ("layer", Way::Layer(service)),
        ]
    })
}

/// So many goes of each of these tasks; how long it took, in seconds.
fn run(runtime: &Runtime, way: &Way, tasks: usize, goes: usize) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let mut way = way.clone();
            runtime.spawn(async move {
                for _ in 0..goes {
                    way.go().await;
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

pub fn report(server: &Server, report: &mut Report) {
    let runtime = runtime();
    for kib in [1, 10] {
        let ways = ways(&runtime, server, kib);
        for (tasks, goes) in [(64, 60), (1, 400)] {
            let (rounds, goes) = if report.is_quick { (2, 2) } else { (60, goes) };
            let mut times = vec![Vec::with_capacity(rounds); ways.len()];
            for round in 0..rounds + 2 {
                for ((_, way), times) in ways.iter().zip(&mut times) {
                    let time = run(&runtime, way, tasks, goes);
                    if round >= 2 {
                        times.push(time);
                    }
                }
            }
            let bare = times[0].clone();
            for ((name, _), times) in ways.iter().zip(&times).skip(1) {
                let what = match *name {
                    "store" => "a look-up of the store",
                    _ => "a hit of the layer",
                };
                let pairs = times.iter().zip(&bare);
                if tasks == 1 {
                    let ratio = median(pairs.map(|(own, bare)| own / bare));
                    let figure = format!("{ratio:.2} of the time of a GET");
                    report.line(
                        &format!("{what}, {kib} KiB, alone"),
                        &figure,
                        Some(("<= 1.2", ratio <= ALONE)),
                    );
                } else {
                    let ratio = median(pairs.map(|(own, bare)| bare / own));
                    let figure = format!("{ratio:.2} of the throughput of GET");
                    let what = format!("{what}, {kib} KiB, {tasks} tasks");
                    report.line(&what, &figure, Some((">= 0.85", ratio >= THROUGHPUT)));
                }
            }
        }
    }
}

/// One way, for a profiler.
pub fn only(server: &Server, kib: usize, tasks: usize, name: &str, rounds: usize) {
    let runtime = runtime();
    let ways = ways(&runtime, server, kib);
    let (_, way) = ways.iter().find(|(way, _)| *way == name).unwrap();
    println!("{:.3} s", run(&runtime, way, tasks, rounds));
}

/// What reading a record costs.
pub fn decode(server: &Server, kib: usize, rounds: u64) {
    let runtime = runtime();
    ways(&runtime, server, kib);
    let name = RecordNames::new(&format!("hits-{kib}")).of(&key(PATH));
    let bytes: bytes::Bytes = server.ask(&["GET", &name]).bytes().unwrap().into();
    let key = key(PATH);
    for _ in 0..rounds {
        assert_eq!(black_box(Record::decode(&key, bytes.clone()).unwrap()).variants.len(), 1);
    }
}
