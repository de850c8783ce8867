//! The rules of RFC 9110 and RFC 9111, seen from outside. Each file is named after the module of `src/semantics` that has
//! the rules.

mod coding;
mod deception;
mod no_vary_search;
mod parts;
mod range;
mod reuse;
mod storing;
mod tagging;
mod validation;
mod vary;
