//! Purges and invalidation, what is stored, and what would happen to a request.

pub mod explain;
mod following;
mod inspect;
mod lists;
mod purging;
mod receipts;
mod soft;
mod spelled;
mod vocabularies;
