//! Large media in slices (RA4): what the origin is asked for, what clients get, and what is stored.

mod changes;
mod media;
mod ranges;
mod stores;
mod validation;
mod whole;
