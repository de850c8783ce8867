//! What scenarios are made of.

pub mod alloc;
pub mod bench;
pub mod origin;
pub mod stepped;
pub mod raw;
pub mod wire;

pub use bench::{Bench, Seen};
pub use origin::{Origin, Reply};
pub use stepped::{Answer, Stage, Step, settle};
