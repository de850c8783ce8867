//! Purges and invalidation.

mod following;
mod lists;
mod purging;
mod receipts;
mod soft;
mod spelled;
mod vocabularies;
