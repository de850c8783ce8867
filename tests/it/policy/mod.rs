//! Cache policies and their hooks.

mod composed;
mod hooks;
mod live;
mod policies;
mod report_only;
mod table;
