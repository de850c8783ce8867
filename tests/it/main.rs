//! All integration tests in one binary. `support` has the scripted origin, the virtual clock's bench and the
//! counting allocator. A module with the name of a room of `src` has the scenarios of that room; `end_to_end`,
//! `example_proxy`, `house` and `reported` belong to no room.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::type_complexity, unreachable_pub)]

mod support;

#[cfg(feature = "admin")]
mod admin;
mod body;
mod collapse;
mod end_to_end;
mod error_pages;
mod example_proxy;
mod fetch;
mod handle;
mod house;
mod layer;
mod observe;
mod policy;
mod query_layer;
mod reported;
mod respond;
mod semantics;
mod service;
mod slice;
mod store;
#[cfg(feature = "viewer")]
mod viewer;

#[global_allocator]
static ALLOCATOR: support::alloc::Counting = support::alloc::Counting;
