//! What scenarios are made of.

pub mod alloc;
pub mod bench;
pub mod origin;
pub mod raw;
pub mod stepped;
pub mod wire;

pub use bench::{Bench, Seen};
pub use origin::{Origin, Reply};
pub use stepped::{Answer, Stage, Step, settle};
