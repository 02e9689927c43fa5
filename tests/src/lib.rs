//! Shared pieces of the tests that span the crates.
