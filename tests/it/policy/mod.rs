//! Cache policies and their hooks.

mod cloudfront;
mod composed;
mod hooks;
mod policies;
mod table;
