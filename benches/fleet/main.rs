//! What a fleet costs over Redis: hits, purges, and servers that are gone.
//!
//! `cargo bench --bench fleet --features redis` starts a `redis-server` on a free port of loopback and prints, for content of 1 and
//! 10 KiB, what a look-up of the store and a hit of the whole layer leave of the throughput of a bare `GET` of the same bytes over a
//! connection of the same settings, with 64 tasks, and what they add to its time with one; a hit in a near tier against one in
//! memory; how long a purge of one node takes to be in effect in the near tier of another one; purges in a second; what a look-up
//! costs while the breaker is open; and the slowest request while the server is killed under load. It has goals, each printed with
//! its figure, and fails if one is missed.
//!
//! Variants take turns in short rounds, in one process with one worker, and ratios are medians over the rounds.
//!
//! With `-- --quick`, or when it is not run by `cargo bench`, there are few rounds and no goals: then it is a test that all of it
//! works. `-- only NAME ROUNDS` (`memory`, `near`, `decode 1`, `decode 10`) runs one variant for callgrind, as `hit` does, and
//! `-- only-hits KIB TASKS bare|store|layer ROUNDS` one for a profiler.
#![allow(clippy::print_stdout, clippy::unwrap_used, unreachable_pub)]

#[path = "../../tests/it/support/file.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod file;
#[path = "../support/pages.rs"]
mod pages;
#[path = "../support/report.rs"]
mod report;
#[path = "../../tests/it/support/servers.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod servers;

mod failing;
mod hits;
mod near;
mod purges;

use std::process::ExitCode;
use std::time::Duration;

use larder::store::{RedisConfig, RedisStore};

use pages::{Pages, key, request, runtime};
use report::{Report, median, share};
use servers::{Kind, Server};

/// A store of a namespace of its own, where it is not given another one's.
fn store(server: &Server, namespace: &str) -> RedisStore {
    RedisStore::new(config(server, namespace)).unwrap()
}

fn config(server: &Server, namespace: &str) -> RedisConfig {
    // A machine that is busy with something else is no reason for misses.
    let config: RedisConfig = server.url().parse().unwrap();
    config.namespace(namespace).deadline(Duration::from_secs(5))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let Some(at) = words.iter().position(|word| word.starts_with("only")) {
        let server = Server::start(Kind::Redis);
        match &words[at + 1..] {
            ["decode", kib, rounds] => hits::decode(&server, kib.parse().unwrap(), rounds.parse().unwrap()),
            [name, rounds] => near::only(&server, name, rounds.parse().unwrap()),
            [kib, tasks, name, rounds] => {
                let [kib, tasks, rounds] = [kib, tasks, rounds].map(|number| number.parse().unwrap());
                hits::only(&server, kib, tasks, name, rounds);
            }
            other => panic!("{other:?} is nothing to be run"),
        }
        return ExitCode::SUCCESS;
    }
    let mut report = Report::new(&words);
    hits::report(&Server::start(Kind::Redis), &mut report);
    near::report(&Server::start(Kind::Redis), &mut report);
    purges::report(&Server::start(Kind::Redis), &mut report);
    failing::report(&mut report);
    report.end()
}
