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

    pub(super) fn answered(&self) {
        self.locked(|health| {
            health.requests += 1;
            health.failing = None;
        });
    }

    pub(super) fn failed(&self, problem: &str) {
        let now = self.clock.now();
        self.locked(|health| {
            health.requests += 1;
            health.failures += 1;
            let failing = health.failing.get_or_insert_with(|| Failing {
                since: now,
                failures: 0,
                problem: String::new(),
            });
            failing.failures += 1;
            problem.clone_into(&mut failing.problem);
        });
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
