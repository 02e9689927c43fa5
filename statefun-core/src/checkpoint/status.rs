//! How making checkpoints goes, for whoever watches.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::manifest::Entry;
use crate::clock::{Stopwatch, Timestamp};

/// What is said of checkpoints while an application runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointStatus {
    /// Where they go.
    pub url: String,
    /// How often one is made, in ms.
    pub interval_ms: u64,
    /// The newest one.
    pub latest: Option<Entry>,
    /// How long it took, in ms.
    pub latest_took_ms: u64,
    /// How many were made since the start.
    pub made: u64,
    /// How many failed since the start.
    pub failed: u64,
    /// Bytes uploaded since the start.
    pub uploaded_bytes: u64,
    /// How long the one that is being made has taken so far, in ms.
    pub under_way_ms: Option<u64>,
    /// Why the last one failed; none when it did not.
    pub problem: Option<CheckpointProblem>,
}

/// Why checkpoints fail at present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointProblem {
    /// Since when, in Unix ms.
    pub since_ms: u64,
    /// What the last one failed with.
    pub error: String,
}

/// Written by the thread that makes checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Status {
    known: Mutex<(CheckpointStatus, Option<Stopwatch>)>,
}

impl Status {
    pub(crate) fn new(url: &str, interval: Duration) -> Self {
        let status = CheckpointStatus {
            url: url.to_owned(),
            interval_ms: interval.as_millis() as u64,
            ..CheckpointStatus::default()
        };
        Self {
            known: Mutex::new((status, None)),
        }
    }

    fn known(&self) -> MutexGuard<'_, (CheckpointStatus, Option<Stopwatch>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> CheckpointStatus {
        let known = self.known();
        let mut status = known.0.clone();
        status.under_way_ms = known.1.map(|since| since.elapsed().as_millis() as u64);
        status
    }

    pub(crate) fn begins(&self) {
        self.known().1 = Some(Stopwatch::start());
    }

    /// There is none under way any more.
    pub(crate) fn ends(&self) {
        self.known().1 = None;
    }

    /// An earlier process has made this one.
    pub(crate) fn found(&self, entry: &Entry) {
        self.known().0.latest = Some(entry.clone());
    }

    /// One was made, or there was nothing to do.
    pub(crate) fn made(&self, entry: Option<&Entry>, took: Duration, now: Timestamp) {
        let mut known = self.known();
        known.1 = None;
        if let Some(problem) = known.0.problem.take() {
            let failed_for = Duration::from_millis(now.as_ms().saturating_sub(problem.since_ms));
            tracing::info!(url = known.0.url, ?failed_for, "checkpoints are made again");
        }
        // Who asks for one when nothing has happened gets the last one again.
        let is_news = |entry: &&Entry| {
            known
                .0
                .latest
                .as_ref()
                .is_none_or(|latest| latest.id != entry.id)
        };
        if let Some(entry) = entry.filter(is_news) {
            tracing::debug!(
                id = entry.id,
                epoch = entry.epoch,
                uploaded_bytes = entry.uploaded_bytes,
                ?took,
                "made a checkpoint"
            );
            known.0.made += 1;
            known.0.uploaded_bytes += entry.uploaded_bytes;
            known.0.latest_took_ms = took.as_millis() as u64;
            known.0.latest = Some(entry.clone());
        }
    }

    pub(crate) fn failed(&self, error: &CheckpointError, now: Timestamp) {
        let mut known = self.known();
        known.1 = None;
        known.0.failed += 1;
        match &mut known.0.problem {
            Some(problem) => {
                tracing::debug!(%error, "a checkpoint failed again");
                problem.error = error.to_string();
            }
            none => {
                tracing::warn!(%error, "a checkpoint failed; processing goes on, and it is tried again");
                *none = Some(CheckpointProblem {
                    since_ms: now.as_ms(),
                    error: error.to_string(),
                });
            }
        }
    }
}
