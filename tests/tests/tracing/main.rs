//! Traces of a real process, as a collector gets them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod collector;
mod going_on;
mod leaving;
mod one_trace;
mod sampling;
mod support;
