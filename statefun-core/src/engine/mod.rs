//! The engine: workers that run functions, epochs that make their effects durable together.

pub(crate) mod cut;
pub(crate) mod envelope;
pub(crate) mod index;
pub mod instances;
pub mod registry;
pub(crate) mod request;
pub(crate) mod rows;
pub(crate) mod timers;
pub(crate) mod waiting;
pub(crate) mod worker;
