//! Cache policies and their hooks.

mod composed;
mod fastly;
mod hooks;
mod policies;
mod table;
