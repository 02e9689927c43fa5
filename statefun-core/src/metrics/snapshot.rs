//! What was measured up to a moment, as JSON both ways: the data behind `/metrics`, `statefun top` and whatever else looks.
//!
//! Counts are since the start of the process, so that two snapshots tell what happened between them.

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointStatus;
use crate::trace::TraceStatus;

/// All that an application measures of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When it was taken, in Unix ms.
    pub taken_ms: u64,
    /// How long the engine has run, in ms.
    pub uptime_ms: u64,
    /// By function type, sorted by name; those of the engine's own are left out.
    pub functions: Vec<FunctionMetrics>,
    /// By ingress, as module.yaml orders them.
    pub ingresses: Vec<IngressMetrics>,
    /// By egress, as module.yaml orders them.
    pub egresses: Vec<EgressMetrics>,
    /// By worker.
    pub workers: Vec<WorkerMetrics>,
    /// Delayed messages that are not due yet; none while those of before the start are being counted.
    pub timers: Option<u64>,
    /// Epochs.
    pub epochs: EpochMetrics,
    /// The epoch log and the state store.
    pub state: StateMetrics,
    /// How making checkpoints goes; none when none are made.
    pub checkpoints: Option<CheckpointStatus>,
    /// Spans for the collector; none when nothing is traced.
    pub traces: Option<TraceStatus>,
    /// The process.
    pub process: ProcessMetrics,
    /// The addresses that took most, as far as it was observed lately.
    pub hottest: Hottest,
    /// What the application's own code measures.
    pub own: Vec<OwnMetric>,
}

/// One function type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FunctionMetrics {
    /// Its type, `ns/name`.
    pub function: String,
    /// Messages that it was invoked with, failed invocations included.
    pub invocations: u64,
    /// Invocations that failed.
    pub errors: u64,
    /// Messages sent to addresses of the same worker.
    pub out_local: u64,
    /// Messages sent to addresses of other workers.
    pub out_remote: u64,
    /// Records written to egresses.
    pub out_egress: u64,
    /// How long its handler ran. Estimated from some invocations while the worker is busy and handlers take microseconds, from all
    /// otherwise.
    pub handler_seconds: Histogram,
    /// Operations that were started with `ctx.spawn` and have not ended.
    pub inflight_async: u64,
    /// Messages that wait at addresses of it that are loaded, retried or parked, in memory.
    pub backlog: u64,
    /// Addresses whose first message is about to be tried again.
    pub retrying: u64,
    /// Parked addresses.
    pub parked: u64,
}

/// One ingress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressMetrics {
    /// Its id.
    pub ingress: String,
    /// Records taken in.
    pub records: u64,
    /// Records that could not be read or routed.
    pub refused: u64,
    /// What is there and has not been taken in yet, where the ingress can tell.
    pub lag: Option<Lag>,
}

/// How far an ingress is behind its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lag {
    /// So many records.
    Records(u64),
    /// So many bytes.
    Bytes(u64),
}

impl Lag {
    /// The lag of several partitions of one ingress, as far as they can tell.
    pub fn sum(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(Self::Records(one)), Some(Self::Records(other))) => {
                Some(Self::Records(one + other))
            }
            (Some(Self::Bytes(one)), Some(Self::Bytes(other))) => Some(Self::Bytes(one + other)),
            (one, other) => one.or(other),
        }
    }
}

/// One egress.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressMetrics {
    /// Its id.
    pub egress: String,
    /// Records that the receiver has taken.
    pub records: u64,
    /// Times that the receiver did not take records, which were then tried again.
    pub failures: u64,
    /// How long the oldest record that has not been taken has waited since it was durable, in ms; 0 when none waits.
    pub outbox_age_ms: u64,
    /// Epochs that are durable and that the egress has not accepted.
    pub outbox_epochs: u64,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerMetrics {
    /// Messages that can be run now.
    pub queue: u64,
    /// Messages on their way from other workers.
    pub in_transit: u64,
    /// Messages sent by functions, to any function: what StateFun calls feedback.
    pub feedback: u64,
    /// Invocations whose address was in memory.
    pub cache_hits: u64,
    /// Invocations whose address had to be read from the state store.
    pub cache_misses: u64,
    /// What the instances in memory occupy, roughly, in bytes.
    pub cache_bytes: u64,
    /// Times that a handler ran longer than `handler.warnAfter`.
    pub blocked: u64,
    /// Rows of states that were deleted because they had expired.
    pub expired: u64,
    /// Messages that could not be delivered and are kept aside.
    pub dead_letters: u64,
}

/// Epochs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EpochMetrics {
    /// The last durable one.
    pub durable: u64,
    /// The last one that the state store has applied.
    pub applied: u64,
    /// Epochs that are cut, or being cut, and not durable yet.
    pub in_flight: u64,
    /// From the call for a cut until what waited for the epoch was released.
    pub seconds: Histogram,
    /// From the call for a cut until all workers' parts of it were there.
    pub cut_seconds: Histogram,
    /// Writing the record into the log, and syncing it.
    pub fsync_seconds: Histogram,
    /// Until the blob store had it (`durability: blob` only).
    pub upload_seconds: Histogram,
    /// Handing output to egresses, replies to clients, acknowledgements to sources.
    pub release_seconds: Histogram,
    /// Why nothing is taken in at the moment: `disk_full`, `log_full`, `store_full`, `store_behind`, `blob_store`.
    pub holds: Vec<String>,
}

/// The epoch log and the state store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateMetrics {
    /// Bytes of the epoch log that are needed.
    pub log_bytes: u64,
    /// Bytes written into the epoch log since the start.
    pub log_written_bytes: u64,
    /// How long the oldest epoch that the state store has not applied has been durable, in ms; 0 when it has applied all.
    pub flush_lag_ms: u64,
}

/// The process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessMetrics {
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Open files.
    pub open_fds: u64,
    /// Open files at most.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it was started, in Unix seconds.
    pub start_seconds: f64,
}

/// The addresses that took most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hottest {
    /// By the time that their handlers ran.
    pub by_time: Vec<HotAddress>,
    /// By the bytes of state that they wrote.
    pub by_bytes: Vec<HotAddress>,
}

/// One address that took much.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HotAddress {
    /// Its function's type.
    pub function: String,
    /// Its id.
    pub id: String,
    /// Its share of all that was observed, from 0 to 1.
    pub share: f64,
    /// What it took: seconds a second, or bytes a second.
    pub rate: f64,
}

/// Observed durations, by size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Upper bounds, in seconds, ascending.
    pub bounds: Vec<f64>,
    /// Observations up to each bound and above the one before; one more for those above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all observations, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// All observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What was observed since an earlier snapshot of the same histogram; everything when that is another one's.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.bounds != self.bounds
            || earlier.counts.len() != self.counts.len()
            || earlier.count() > self.count()
        {
            return self.clone();
        }
        let pairs = self.counts.iter().zip(&earlier.counts);
        Self {
            bounds: self.bounds.clone(),
            counts: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum: (self.sum - earlier.sum).max(0.0),
        }
    }

    /// The mean, in seconds; none without observations.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum / count as f64)
    }

    /// A value that a share of the observations (0 to 1) does not exceed, in seconds: interpolated within a bucket, as
    /// Prometheus' `histogram_quantile` does. None without observations.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (bound, in_bucket) in self.bounds.iter().zip(&self.counts) {
            let in_bucket = *in_bucket as f64;
            if below + in_bucket >= wanted && in_bucket > 0.0 {
                return Some(lower + (bound - lower) * ((wanted - below) / in_bucket));
            }
            below += in_bucket;
            lower = *bound;
        }
        Some(lower)
    }
}

/// A metric of the application's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnMetric {
    /// The function type whose code has it.
    pub function: String,
    /// Its name, as the code gives it.
    pub name: String,
    /// Its labels, by name.
    #[serde(default)]
    pub labels: Vec<(String, String)>,
    /// What it holds.
    pub value: OwnValue,
}

/// What a metric of the application's own holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnValue {
    /// Only grows.
    Counter(u64),
    /// The last value.
    Gauge(f64),
    /// Observations; the bounds have the observations' unit.
    Histogram(Histogram),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> Histogram {
        Histogram {
            bounds: vec![0.001, 0.01, 0.1],
            counts: counts.to_vec(),
            sum: 1.0,
        }
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let all = histogram(&[50, 40, 9, 1]);
        assert_eq!(all.count(), 100);
        assert_eq!(all.quantile(0.5), Some(0.001));
        assert!((all.quantile(0.7).unwrap() - 0.0055).abs() < 1e-9);
        // Above all bounds, nothing more is known.
        assert_eq!(all.quantile(1.0), Some(0.1));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn a_difference_is_what_came_between() {
        let between = histogram(&[5, 4, 0, 1]).since(&histogram(&[2, 4, 0, 0]));
        assert_eq!(between.counts, [3, 0, 0, 1]);
        // After a restart the counts begin anew.
        let anew = histogram(&[1, 0, 0, 0]);
        assert_eq!(anew.since(&histogram(&[2, 4, 0, 0])), anew);
    }
}
