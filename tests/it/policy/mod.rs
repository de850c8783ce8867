//! Cache policies and their hooks.

mod bypass;
mod composed;
mod content_limits;
mod hints;
mod hooks;
mod lifetimes;
mod policies;
mod table;
