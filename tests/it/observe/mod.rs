//! What is reported to observers and to clients.

mod reports;
mod server_timing;
