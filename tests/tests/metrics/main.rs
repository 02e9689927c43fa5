//! What real processes say of themselves: the same as METRICS.md lists, as Prometheus reads it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod exposition;
mod prometheus;
mod support;
