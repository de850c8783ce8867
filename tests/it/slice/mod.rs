//! Large media in slices (RA4): what the origin is asked for, what clients get, and what is stored.

mod changes;
mod faults;
mod media;
mod ranges;
#[cfg(any(feature = "disk", feature = "redis"))]
mod real;
mod stores;
mod validation;
mod whole;
