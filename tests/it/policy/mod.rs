//! Cache policies and their hooks.

mod hooks;
mod policies;
