//! All integration tests in one binary. `support` has the scripted origin, the virtual clock's bench and the
//! counting allocator; each other module is a room of scenarios.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::type_complexity, unreachable_pub)]

mod support;

mod abandoned;
mod allocations;
mod api;
mod architecture;
mod bodies;
mod codings;
mod collapsing;
mod conformance;
mod content;
mod documents;
mod etags;
mod examples;
mod failing_store;
mod faults;
mod fills;
mod fits;
mod floods;
mod herds;
mod hooks;
mod interim;
mod interim_io;
mod large;
mod leaders;
mod memory;
mod model;
mod nginx;
mod observing;
mod overtaken;
mod parts;
mod poisoning;
mod policies;
mod proxy;
mod proxy_calls;
mod proxy_content;
mod proxy_failures;
mod proxy_fields;
mod proxy_host;
mod proxy_limits;
mod proxy_pace;
mod proxy_upgrade;
mod purging;
mod races;
mod ranges;
mod reported;
mod reuse;
mod revalidation;
mod search;
mod shapes;
mod slow;
mod stores;
mod storing;
mod tag_only;
mod threats;
mod vary;
mod waiting;

#[global_allocator]
static ALLOCATOR: support::alloc::Counting = support::alloc::Counting;
