//! The example `origin_proxy` as a process of its own: what its clients and its origin get on real sockets.

mod calls;
mod candidate;
mod cloudfront;
mod content;
mod failures;
mod fields;
mod host;
mod interim;
mod interim_io;
mod limits;
mod pace;
mod pages;
mod policy;
mod policy_checks;
pub mod process;
mod tls;
mod upgrade;
mod viewer;
