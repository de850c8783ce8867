//! What is reported to observers and to clients.

#[cfg(feature = "metrics")]
mod metrics;
mod reports;
mod server_timing;
