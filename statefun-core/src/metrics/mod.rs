//! What an application measures of itself, for Prometheus and for `statefun top`.

pub(crate) mod own;
mod snapshot;

pub use own::{DEFAULT_BOUNDS, MAX_LABEL_BYTES, MAX_METRICS, MAX_SERIES};
pub use snapshot::{
    EgressMetrics, EpochMetrics, FunctionMetrics, Histogram, HotAddress, Hottest, IngressMetrics,
    Lag, OwnMetric, OwnValue, ProcessMetrics, Snapshot, StateMetrics, WorkerMetrics,
};
