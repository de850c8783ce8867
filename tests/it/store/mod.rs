//! Stores and their contract.

mod chaos;
mod conformance;
mod elsewhere;
pub mod failing;
mod levels;
mod log;
mod memory;
mod records;
#[cfg(feature = "redis")]
mod redis;
mod snapshot;
mod streams;
mod tiered;
mod waiting;
