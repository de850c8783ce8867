//! The example as a person runs it.
