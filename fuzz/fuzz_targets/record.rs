//! Whatever a store gives in place of a record is refused, or makes responses that could have been stored.
#![no_main]

// The test `store::records` calls the same function.
#[path = "../../tests/it/support/hostile.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostile::check(bytes));
