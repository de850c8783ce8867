//! What a call of the inner service brings: how it is stored, and what happens to it meanwhile.

mod fills;
mod races;
mod resuming;
