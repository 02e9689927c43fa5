//! What an application measures of itself, for Prometheus and for `statefun top`.

mod catalog;
pub(crate) mod cell;
pub(crate) mod collect;
#[cfg(test)]
mod documented;
mod expose;
pub(crate) mod hot;
pub(crate) mod meter;
pub(crate) mod own;
mod process;
mod snapshot;

pub use catalog::{Kind, METRICS, Metric};
pub use expose::{CONTENT_TYPE, OWN_PREFIX, expose};
pub use own::{DEFAULT_BOUNDS, MAX_LABEL_BYTES, MAX_METRICS, MAX_SERIES};
pub use snapshot::{
    EgressMetrics, EpochMetrics, FunctionMetrics, Histogram, HotAddress, Hottest, IngressMetrics,
    Lag, OwnMetric, OwnValue, ProcessMetrics, Snapshot, StateMetrics, WorkerMetrics,
};
