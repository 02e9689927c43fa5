//! What a bucket has done so far, and whether its store answers.

use std::sync::{Mutex, PoisonError};

use crate::clock::{Timestamp, WallClock};

/// What a bucket and its clones have done so far, and whether the store answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketHealth {
    /// Requests that were sent, repeated ones included.
    pub requests: u64,
    /// Those of them that failed. That an object is missing, or is not what a condition wants, is no failure.
    pub failures: u64,
    /// Bytes of objects that the store has taken.
    pub bytes_up: u64,
    /// Bytes of objects that the store has sent.
    pub bytes_down: u64,
    /// Set while the newest request has failed.
    pub failing: Option<Failing>,
}

/// A store that does not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// The first failure since the last success.
    pub since: Timestamp,
    /// How many requests have failed since then.
    pub failures: u64,
    /// How the newest one failed.
    pub problem: String,
}

/// After so many failures in a row it is said: a single one is nothing unusual.
const TOLD_AFTER: u64 = 3;

/// Keeps it.
#[derive(Debug, Default)]
pub(super) struct HealthKeeper {
    health: Mutex<BucketHealth>,
    clock: WallClock,
}

impl HealthKeeper {
    pub(super) fn read(&self) -> BucketHealth {
        self.locked(|health| health.clone())
    }

    pub(super) fn answered(&self, url: &str) {
        let failed = self.locked(|health| {
            health.requests += 1;
            health.failing.take()
        });
        if let Some(failing) = failed.filter(|failing| failing.failures >= TOLD_AFTER) {
            tracing::info!(
                url,
                since = %failing.since,
                failures = failing.failures,
                "the store of the checkpoints answers again"
            );
        }
    }

    pub(super) fn failed(&self, url: &str, problem: &str) {
        let now = self.clock.now();
        let failures = self.locked(|health| {
            health.requests += 1;
            health.failures += 1;
            let failing = health.failing.get_or_insert_with(|| Failing {
                since: now,
                failures: 0,
                problem: String::new(),
            });
            failing.failures += 1;
            problem.clone_into(&mut failing.problem);
            failing.failures
        });
        if failures == TOLD_AFTER {
            tracing::warn!(url, problem, "the store of the checkpoints fails");
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.locked(|health| health.bytes_up += bytes as u64);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.locked(|health| health.bytes_down += bytes as u64);
    }

    fn locked<T>(&self, work: impl FnOnce(&mut BucketHealth) -> T) -> T {
        // Numbers alone: whoever panicked has left them as good as any.
        work(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
