//! Purges and invalidation.

mod purging;
mod spelled;
