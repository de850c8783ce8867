//! Requests that share one call of the inner service, and requests that must not.

mod collapsing;
mod herds;
mod leaders;
mod leases;
mod overtaken;
mod unreadable;
