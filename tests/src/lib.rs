//! Shared pieces of the tests and benchmarks that span the crates.

pub mod bare;
pub mod bench;
pub mod everything;
pub mod kill;
pub mod process;
pub mod receiver;
pub mod servers;
pub mod yardstick;
