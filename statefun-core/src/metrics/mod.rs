//! What an application measures of itself, for Prometheus and for `statefun top`.

mod snapshot;

pub use snapshot::{
    EgressMetrics, EpochMetrics, FunctionMetrics, Histogram, HotAddress, Hottest, IngressMetrics,
    Lag, OwnMetric, OwnValue, ProcessMetrics, Snapshot, StateMetrics, WorkerMetrics,
};
