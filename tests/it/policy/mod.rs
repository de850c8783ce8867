//! Cache policies and their hooks.

mod composed;
mod hooks;
mod policies;
mod table;
