//! What is reported to observers and to clients.

mod fields;
#[cfg(feature = "metrics")]
pub mod metrics;
mod reports;
mod server_timing;
#[cfg(feature = "tracing")]
mod tracing;
