//! An origin, and a caching reverse proxy in front of it.
//!
//! `cargo run --release --features admin,disk,metrics,redis,redis-tls,serde,viewer --example origin_proxy` starts both on loopback, shows what a cache does by real
//! HTTP requests, prints what came back, and serves until Ctrl-C. `-- --help` lists the commands and options.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod accept;
mod access_log;
mod account;
mod admin;
mod admin_warm;
mod args;
mod check_health;
mod client;
mod client_calls;
mod client_tls;
mod config;
mod connection;
mod connector;
mod content;
mod debug_token;
mod descriptors;
mod edge;
#[cfg(unix)]
mod fleet;
#[cfg(unix)]
mod hang_up;
mod health;
mod host;
mod interim;
mod limits;
mod local_reply;
mod location;
mod max_forwards;
mod network;
mod node_name;
mod origin;
mod pages;
mod peers;
mod policy;
mod pool;
mod progress;
mod proxy;
mod purge_edges;
mod reasons;
mod retry;
mod say;
mod serve;
mod service_manager;
mod slices;
mod stop;
mod store;
mod store_link;
mod tls;
mod traffic;
mod units;
mod upgrade;
mod upstream;
mod upstream_error;
mod upstreams;
mod usage;
mod via;
mod viewer;
mod vitals;
mod walk;

use std::process::ExitCode;

use args::Command;
use usage::USAGE;

fn main() -> ExitCode {
    let command = match args::parse(lexopt::Parser::from_env()) {
        Ok(command) => command,
        Err(message) => return wrong(&message),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Command::Proxy(options) = &command
        && let Some(workers) = options.workers
    {
        runtime.worker_threads(workers);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return wrong(&format!("the runtime does not start: {error}")),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::CheckConfig(file) => Ok(proxy::check(&file)),
            Command::CheckPolicy(source) => Ok(policy::check(&source)),
            #[cfg(unix)]
            Command::Fleet { server } => fleet::run(&server).await,
            #[cfg(not(unix))]
            Command::Fleet { .. } => Err("there are no fleets on this system".to_owned()),
            Command::Help => {
                println!("{USAGE}");
                Ok(true)
            }
            Command::Origin { listen } => origin::run(listen).await.map(|()| true),
            Command::Proxy(options) => proxy::run(*options).await.map(|()| true),
            Command::Walk { once } => walk::run(once).await,
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => wrong(&message),
    }
}

fn wrong(message: &str) -> ExitCode {
    eprintln!("origin_proxy: {message}");
    ExitCode::from(2)
}
