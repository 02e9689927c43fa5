//! Shared pieces of the tests and benchmarks that span the crates.

pub mod bench;
