//! Purges and invalidation, what is stored, and what would happen to a request.

pub mod explain;
mod inspect;
mod purging;
mod spelled;
