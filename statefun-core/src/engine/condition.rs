//! What keeps an engine from taking records in, or from going on: for whoever asks how it is.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::engine::shared::{EngineError, Hold};

/// How an engine is. By default all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Whether it takes nothing in any more, since it is to stop.
    pub stopping: bool,
    /// Why it has failed. The process is about to end then.
    pub failed: Option<String>,
    /// Why nothing is taken in for the moment, and for how long already.
    pub held: Vec<(Hold, Duration)>,
    /// Handlers that block their worker.
    pub blocked: Vec<Blocked>,
}

/// A handler that blocks its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Which worker, from 0 on.
    pub worker: usize,
    /// The type of the function whose handler it is. Which address it is, is in the log only: probes prove nothing of who they are.
    pub function: String,
    /// How long it has run.
    pub running_for: Duration,
}

/// What the threads of an engine note of its condition; all of it rarely.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    held: Mutex<Vec<(Hold, Stopwatch)>>,
    blocked: Mutex<Vec<(usize, String, Stopwatch)>>,
    failed: OnceLock<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    /// Nothing is taken in for that reason, or no longer for it.
    pub(crate) fn held(&self, hold: Hold, on: bool) {
        let mut held = lock(&self.held);
        held.retain(|(known, _)| *known != hold);
        if on {
            held.push((hold, Stopwatch::start()));
        }
    }

    /// A handler of that function has been blocking its worker since then; with none, it has returned.
    pub(crate) fn blocked(&self, worker: usize, handler: Option<(String, Stopwatch)>) {
        let mut blocked = lock(&self.blocked);
        blocked.retain(|(known, _, _)| *known != worker);
        if let Some((function, since)) = handler {
            blocked.push((worker, function, since));
        }
    }

    /// The engine ends with that error; the first one counts.
    pub(crate) fn failed(&self, error: &EngineError) {
        let _ = self.failed.set(error.to_string());
    }

    /// How it is.
    pub(crate) fn condition(&self, stopping: bool) -> Condition {
        let held = lock(&self.held);
        let blocked = lock(&self.blocked);
        Condition {
            stopping,
            failed: self.failed.get().cloned(),
            held: held
                .iter()
                .map(|(hold, since)| (*hold, since.elapsed()))
                .collect(),
            blocked: blocked
                .iter()
                .map(|(worker, function, since)| Blocked {
                    worker: *worker,
                    function: function.clone(),
                    running_for: since.elapsed(),
                })
                .collect(),
        }
    }
}
