//! The image of `examples/greeter`, made by `statefun build-image` once for all tests here, in containers of podman and runc.
//!
//! Where podman cannot run, the tests say SKIPPED and why. They leave nothing behind but `target/image`, which is what
//! `build-image` builds in.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; what it measures is read by people"
)]

mod accepted;
mod load;
mod made;
mod podman;
mod refused;
mod running;
mod stopping;
