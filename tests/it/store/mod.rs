//! Stores and their contract.

mod chaos;
mod conformance;
#[cfg(feature = "disk")]
mod disk;
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
