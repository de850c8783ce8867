//! Rules about the source, the public API, the documents and the small examples.

mod api;
mod architecture;
pub mod documents;
mod examples;
