//! Purges and invalidation.

mod purging;
