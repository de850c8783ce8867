//! Faults that public reports and other caches' regression tests showed, by id.

mod keys;
mod messages;
mod order;
pub mod validation;
