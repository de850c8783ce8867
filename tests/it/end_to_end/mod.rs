//! Scenarios that cross rooms, against the whole cache or the example proxy: attacks, faults, compressing origins, and a
//! model of RFC 9111.

mod codings;
mod compression;
mod faults;
mod floods;
mod model;
mod nginx;
mod poisoning;
mod threats;
