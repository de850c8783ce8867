//! Cache policies and their hooks.

mod composed;
mod fastly;
mod hooks;
mod live;
mod policies;
mod report_only;
mod table;
