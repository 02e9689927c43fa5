//! Checkpoints: copies of the state in an object store or a directory, from which it can be restored elsewhere.
//!
//! - [`location`]: where they lie, from a URL; how the clouds are reached.
//! - [`bucket`]: named objects there: read, written, created once, replaced when unchanged. Retries, time-outs, pace.
//! - [`run`]: sorted rows in immutable parts.
//!
//! All that lies in a bucket is immutable, apart from the few names that are replaced under a condition. What objects
//! hold is not known to [`bucket`].

pub mod bucket;
pub mod location;
pub mod run;
