//! Traces of a real process, as a collector gets them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

mod collector;
mod going_on;
mod leaving;
mod one_trace;
mod sampling;
mod support;
