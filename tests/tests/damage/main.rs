//! Real processes whose data directories are damaged, filled up, shared and outgrown: what cannot be used is refused in words
//! that help, and nothing is lost or doubled.
//!
//! `STATEFUN_LIMITS=1` makes the tests of limits as large as the limits are meant.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

mod atomic;
mod full_disk;
mod limits;
mod log;
mod output;
mod schema;
mod second;
mod stopping;
mod support;
