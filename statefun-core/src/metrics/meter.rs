//! What the engine's threads write while they work; see [`collect`](super::collect) for who reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::cell::{Cell, DurationCells};
use super::hot::HotAddresses;
use super::snapshot::Lag;
use crate::clock::Stopwatch;
use crate::engine::registry::Registry;
use crate::io::http::Unreadable;

/// One function type on one worker.
#[derive(Debug, Default)]
pub(crate) struct FunctionMeter {
    pub(crate) invocations: Cell,
    pub(crate) errors: Cell,
    /// Messages sent, to whomever.
    pub(crate) out: Cell,
    /// Those of them that went to other workers.
    pub(crate) out_remote: Cell,
    pub(crate) out_egress: Cell,
    pub(crate) handler: DurationCells,
    pub(crate) inflight: Cell,
    pub(crate) backlog: Cell,
    pub(crate) retrying: Cell,
    pub(crate) parked: Cell,
}

/// One ingress on one worker.
#[derive(Debug, Default)]
pub(crate) struct IngressMeter {
    pub(crate) records: Cell,
    pub(crate) refused: Cell,
    lag_records: Cell,
    lag_bytes: Cell,
    knows_records: Cell,
    knows_bytes: Cell,
}

impl IngressMeter {
    /// What the partitions that the worker polls are behind, together.
    pub(crate) fn set_lag(&self, lag: Option<Lag>) {
        match lag {
            Some(Lag::Records(records)) => {
                self.lag_records.set(records);
                self.knows_records.set(1);
            }
            Some(Lag::Bytes(bytes)) => {
                self.lag_bytes.set(bytes);
                self.knows_bytes.set(1);
            }
            None => {}
        }
    }

    pub(crate) fn lag(&self) -> Option<Lag> {
        if self.knows_records.get() > 0 {
            return Some(Lag::Records(self.lag_records.get()));
        }
        (self.knows_bytes.get() > 0).then(|| Lag::Bytes(self.lag_bytes.get()))
    }
}

/// One worker. It has cache lines of its own, since it is written all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerMeter {
    /// As the registry orders the functions.
    pub(crate) functions: Vec<FunctionMeter>,
    /// As the registry orders the ingresses.
    pub(crate) ingresses: Vec<IngressMeter>,
    pub(crate) cache_misses: Cell,
    pub(crate) cache_bytes: Cell,
    pub(crate) expired: Cell,
    pub(crate) dead_letters: Cell,
    /// Delayed messages set less those that are gone: those of the last process are counted beside, see [`Meters::timers`].
    pub(crate) timers: Cell,
    pub(crate) hot: Mutex<HotAddresses>,
    /// Written by the watchdog.
    pub(crate) blocked: Cell,
}

impl WorkerMeter {
    /// One for the functions and ingresses of an application.
    pub(crate) fn new(registry: &Registry) -> Self {
        Self::with(registry.functions().len(), registry.ingress_ids().count())
    }

    pub(crate) fn with(functions: usize, ingresses: usize) -> Self {
        Self {
            functions: (0..functions).map(|_| FunctionMeter::default()).collect(),
            ingresses: (0..ingresses).map(|_| IngressMeter::default()).collect(),
            ..Self::default()
        }
    }
}

/// Calls for a cut that are remembered.
const CALLS: usize = 64;
/// A durable epoch is remembered when the last one that is was durable so long before.
const REMEMBER_EVERY: Duration = Duration::from_millis(20);
/// Durable epochs that are remembered at most; then every second one is forgotten.
const REMEMBERED: usize = 4096;

/// Epochs, from the call for a cut until their output is released.
#[derive(Debug)]
pub(crate) struct EpochMeter {
    started: Stopwatch,
    /// When each epoch's cut was called for, in ns since the start, by the epoch's last digits.
    called: [AtomicU64; CALLS],
    pub(crate) whole: DurationCells,
    pub(crate) cut: DurationCells,
    pub(crate) fsync: DurationCells,
    pub(crate) upload: DurationCells,
    pub(crate) release: DurationCells,
    pub(crate) log_written_bytes: Cell,
    durable: Mutex<Vec<(u64, Stopwatch)>>,
}

impl Default for EpochMeter {
    fn default() -> Self {
        Self {
            started: Stopwatch::start(),
            called: std::array::from_fn(|_| AtomicU64::default()),
            whole: DurationCells::default(),
            cut: DurationCells::default(),
            fsync: DurationCells::default(),
            upload: DurationCells::default(),
            release: DurationCells::default(),
            log_written_bytes: Cell::default(),
            durable: Mutex::default(),
        }
    }
}

impl EpochMeter {
    /// How long the engine has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn call_of(&self, epoch: u64) -> Option<&AtomicU64> {
        self.called.get(epoch as usize % CALLS)
    }

    /// The cut of an epoch is called for.
    pub(crate) fn called(&self, epoch: u64) {
        if let Some(call) = self.call_of(epoch) {
            call.store(self.started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    fn since_call(&self, epoch: u64) -> Option<Duration> {
        let called = self.call_of(epoch)?.load(Ordering::Relaxed);
        let now = self.started.elapsed().as_nanos() as u64;
        (called > 0).then(|| Duration::from_nanos(now.saturating_sub(called)))
    }

    /// All workers' parts of an epoch are there.
    pub(crate) fn cut(&self, epoch: u64) {
        if let Some(since) = self.since_call(epoch) {
            self.cut.observe(since);
        }
    }

    /// Everything that waited for an epoch is on its way.
    pub(crate) fn released(&self, epoch: u64) {
        if let Some(since) = self.since_call(epoch) {
            self.whole.observe(since);
        }
    }

    /// An epoch is durable now.
    pub(crate) fn durable(&self, epoch: u64) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = durable
            .last()
            .is_none_or(|(_, when)| when.elapsed() >= REMEMBER_EVERY);
        if !is_news {
            return;
        }
        if durable.len() >= REMEMBERED {
            let mut keep = false;
            durable.retain(|_| {
                keep = !keep;
                keep
            });
        }
        durable.push((epoch, Stopwatch::start()));
    }

    /// How long an epoch has been durable, roughly; none when it is not yet, or was before the start.
    pub(crate) fn durable_for(&self, epoch: u64) -> Option<Duration> {
        let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        // The next one that is remembered became durable with it or soon after.
        let place = durable.partition_point(|(known, _)| *known < epoch);
        durable.get(place).map(|(_, when)| when.elapsed())
    }
}

/// One egress.
#[derive(Debug, Default)]
pub(crate) struct EgressMeter {
    pub(crate) records: Cell,
    pub(crate) failures: Cell,
    /// The epoch that is being delivered; 0 for none.
    pub(crate) delivering: Cell,
}

/// All workers of one engine.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) workers: Vec<Arc<WorkerMeter>>,
    /// By ingress.
    unreadable: Vec<Unreadable>,
    /// Delayed messages that the last process left, once they are counted, and one more.
    timers: AtomicU64,
}

impl Meters {
    pub(crate) fn new(workers: usize, registry: &Registry) -> Self {
        let worker = || Arc::new(WorkerMeter::new(registry));
        Self {
            workers: (0..workers).map(|_| worker()).collect(),
            unreadable: registry
                .ingress_ids()
                .map(|_| Unreadable::default())
                .collect(),
            timers: AtomicU64::new(0),
        }
    }

    /// What counts the requests to an ingress that cannot become records.
    pub(crate) fn unreadable_of(&self, ingress: Option<u16>) -> Unreadable {
        let known = ingress.and_then(|ingress| self.unreadable.get(usize::from(ingress)));
        known.cloned().unwrap_or_default()
    }

    /// So many delayed messages were there at the start.
    pub(crate) fn count_timers(&self, timers: u64) {
        self.timers.store(timers + 1, Ordering::Relaxed);
    }

    /// Delayed messages that are not due yet; none while those of the last process are being counted.
    pub(crate) fn timers(&self) -> Option<u64> {
        let before = self.timers.load(Ordering::Relaxed).checked_sub(1)?;
        let since = self.workers.iter().map(|worker| worker.timers.get());
        // Each may be below zero, their sum is not.
        Some(since.fold(before, u64::wrapping_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_as_old_as_the_next_one_remembered() {
        let meter = EpochMeter::default();
        meter.durable(5);
        meter.durable(6); // too soon behind the last
        assert!(meter.durable_for(5).is_some());
        assert!(meter.durable_for(4).is_some());
        assert_eq!(meter.durable_for(6), None);
    }

    #[test]
    fn timers_of_before_and_since_are_summed() {
        let meters = Meters {
            workers: (0..2).map(|_| Arc::default()).collect(),
            unreadable: Vec::new(),
            timers: AtomicU64::new(0),
        };
        meters.workers[0].timers.add(3);
        meters.workers[1].timers.sub(2);
        assert_eq!(meters.timers(), None);
        meters.count_timers(4);
        assert_eq!(meters.timers(), Some(5));
    }
}
