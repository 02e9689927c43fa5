//! Checkpoints of real processes on real stores: whatever is killed, lost, copied, slow or away, what is restored is what the model says.
//!
//! `STATEFUN_RESTORES=n` multiplies what is tried, `STATEFUN_SEED=n` chooses what is drawn.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

mod crash;
mod cycle;
mod damage;
mod outage;
mod receiver;
mod released;
mod restoring;
mod support;
mod writers;
