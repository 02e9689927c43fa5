//! The engine: workers that run functions, epochs that make their effects durable together.

pub(crate) mod accepted;
pub(crate) mod admission;
pub(crate) mod applier;
pub(crate) mod apply;
pub(crate) mod commit;
pub(crate) mod connect;
pub(crate) mod current;
pub(crate) mod cut;
pub(crate) mod dataflow;
pub(crate) mod dead_letters;
pub(crate) mod driver;
pub(crate) mod envelope;
pub(crate) mod gatherer;
pub mod handle;
pub(crate) mod index;
pub mod instances;
pub(crate) mod priority;
pub mod recovery;
pub mod registry;
pub(crate) mod release;
pub(crate) mod request;
pub(crate) mod rows;
pub mod shared;
pub(crate) mod sinks;
pub(crate) mod slab;
pub mod start;
pub(crate) mod stored;
pub(crate) mod sweep;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
pub(crate) mod timers;
pub(crate) mod waiting;
pub(crate) mod watchdog;
pub(crate) mod worker;
