//! Cache policies and their hooks.

mod admission;
mod admission_near;
mod browser;
mod bypass;
mod cloudfront;
mod composed;
mod content_limits;
mod fastly;
mod hints;
mod hooks;
mod keys;
mod lifetimes;
mod live;
mod peers;
mod policies;
mod profiles;
mod report_only;
mod responses;
mod table;
mod vary;
