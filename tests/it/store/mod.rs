//! Stores and their contract.

mod chaos;
mod conformance;
mod elsewhere;
pub mod failing;
mod memory;
mod records;
mod streams;
mod waiting;
