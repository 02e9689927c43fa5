//! The whole engine in this process, on a directory of its own: threads, log and fjall as in production.

mod expiry;
mod limits;
mod metrics;
mod own_metrics;
mod running;
mod sources;

use std::time::Duration;

/// Nothing that works takes as long, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(1);
