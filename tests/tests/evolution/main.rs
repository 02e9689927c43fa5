//! State of an earlier version of the code: one application as it changes, on the same data.
//!
//! A test program of its own, since the versions of a function have one name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod basket;
mod dry_run;
mod migrations;
mod registered;
