//! Cache policies and their hooks.

mod composed;
mod hooks;
mod keys;
mod policies;
mod table;
