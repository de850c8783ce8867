//! A real origin behind a real caching reverse proxy.
//!
//! `cargo run --release --example origin_proxy` starts both on loopback, walks through what a cache does by real
//! HTTP requests, prints what came back, and serves on until Ctrl-C. `-- --help` tells the rest.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod accept;
mod args;
mod calls;
mod client;
mod connection;
mod content;
mod descriptors;
mod edge;
mod failure;
mod hops;
mod host;
mod interim;
mod limits;
mod location;
mod network;
mod origin;
mod own;
mod pool;
mod progress;
mod proxy;
mod retry;
mod serve;
mod stop;
mod traffic;
mod upgrade;
mod upstream;
mod via;
mod walk;

use std::process::ExitCode;

use args::{Command, USAGE};

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
