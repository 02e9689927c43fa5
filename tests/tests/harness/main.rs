//! The harness for authors of functions, and through it the promises of the worker that it drives.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure fails the test"
)]

// Links the library: of its names none is used.
use statefun_tests_library as _;

mod basics;
mod dynamic;
mod failures;
mod large;
mod linking;
mod model;
mod operations;
mod restart;
mod time;
mod undo;
mod wiring;
