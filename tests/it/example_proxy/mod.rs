//! The example `origin_proxy` as a process of its own: what its clients and its origin get on real sockets.

mod access_log;
mod admin;
mod calls;
mod candidate;
mod client_tls;
mod cloudfront;
mod configuration;
mod content;
mod failures;
mod fields;
mod fleet;
mod host;
mod interim;
mod interim_io;
mod limits;
mod pace;
mod packaging;
mod pages;
mod policy;
mod policy_checks;
pub mod process;
mod shielding;
mod store;
mod tls;
mod upgrade;
mod upstreams;
mod viewer;
