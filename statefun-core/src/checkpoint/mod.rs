//! Checkpoints: copies of the state in an object store or a directory, from which it can be restored elsewhere.
//!
//! - [`location`]: where they lie, from a URL; how the clouds are reached.
//! - [`bucket`]: named objects there: read, written, created once, replaced when unchanged. Retries, time-outs, pace.
//! - [`run`]: sorted rows in immutable parts.
//!
//! All that lies in a bucket is immutable, apart from the few names that are replaced under a condition. What objects
//! hold is not known to [`bucket`].

pub mod bucket;
pub(crate) mod chain;
pub mod changes;
pub(crate) mod checkpointer;
pub mod error;
pub(crate) mod kept;
mod ledger;
pub(crate) mod local;
pub mod location;
mod lookup;
mod make;
pub mod manifest;
pub mod operate;
mod plan;
mod read;
pub mod restore;
pub mod run;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod uploads;
pub mod verify;
pub mod view;

pub use checkpointer::Checkpoints;
pub use error::CheckpointError;
pub use status::{CheckpointProblem, CheckpointStatus};

#[cfg(test)]
mod tests;
