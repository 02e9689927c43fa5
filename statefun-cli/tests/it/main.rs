//! The `statefun` command as its users call it: exit codes, what it prints where, what it leaves on disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod build_image;
mod deploy;
mod graph;
mod help;
mod new;
mod operations;
mod parked;
mod run;
mod send;
#[cfg(feature = "tls")]
mod send_tls;
mod state;
mod support;
mod templates;
mod top;
mod validate;
