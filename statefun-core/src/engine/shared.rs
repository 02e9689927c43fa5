//! What the threads of one process share: which epoch is asked for, durable, applied; how much is under way; and how it ends.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use thiserror::Error;
use tokio::sync::watch;

use crate::checkpoint::error::CheckpointError;
use crate::clock::Stopwatch;
use crate::engine::condition::{Condition, Notes};
use crate::engine::worker::WorkerError;
use crate::io::egress::EgressError;
use crate::io::ingress::{IngressError, Waker};
use crate::log::LogError;
use crate::metrics::meter::EpochMeter;
use crate::metrics::own::OwnMetrics;
use crate::state::StateError;

/// Why the engine stopped by itself.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A worker could not go on.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The epoch log could not be written or read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// An ingress could not go on.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// An egress could not go on.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Checkpoints: another process has taken over, or has no right to.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A thread could not be started, or panicked.
    #[error("{0}")]
    Thread(String),
    /// The engine was to stop while the blob store did not take epochs.
    #[error(
        "stopped while the blob store does not take epochs: what was not complete yet was not acknowledged either; the data directory has it, and \
         the next start completes it"
    )]
    StoppedWithoutBlobStore,
    /// The engine was to stop while the disk was full.
    #[error(
        "stopped while the disk is full: what was not durable yet was not acknowledged either, and is done again after the next start; \
         free some space before it"
    )]
    StoppedWhenFull,
}

/// How far the engine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Everything runs.
    Running = 0,
    /// Nothing new is taken in; what is under way goes on.
    Draining = 1,
    /// Nothing runs; cuts are still made.
    Frozen = 2,
    /// All threads end.
    Stopped = 3,
}

/// Why nothing new is taken in for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Hold {
    /// The disk of the epoch log is full.
    NoSpace = 1,
    /// The epoch log has reached its limit: the state store or a sink lags behind it.
    LogFull = 2,
    /// The disk of the state store is full.
    StoreNoSpace = 4,
    /// More waits to be gathered for the state store than can be kept in memory.
    GathererBehind = 8,
    /// The blob store does not take epochs, which `durability: blob` waits for.
    NoBlobStore = 16,
}

impl Hold {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::NoSpace,
        Self::LogFull,
        Self::StoreNoSpace,
        Self::GathererBehind,
        Self::NoBlobStore,
    ];

    /// Its name, for machines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "disk_full",
            Self::LogFull => "log_full",
            Self::StoreNoSpace => "store_full",
            Self::GathererBehind => "store_behind",
            Self::NoBlobStore => "blob_store",
        }
    }
}

/// The holds that end when somebody mends something: free space, or the blob store.
const FULL: u8 = Hold::NoSpace as u8 | Hold::StoreNoSpace as u8 | Hold::NoBlobStore as u8;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The epoch that every worker is to enter.
    pub(crate) requested: AtomicU64,
    /// The last durable epoch.
    pub(crate) durable: AtomicU64,
    /// The last epoch that the state store has applied.
    pub(crate) applied: AtomicU64,
    /// A worker's memory waits for the state store.
    pub(crate) apply_soon: AtomicBool,
    /// Runnable messages on each worker.
    pub(crate) backlog: Vec<AtomicUsize>,
    /// Messages sent to each worker and not yet received.
    pub(crate) in_transit: Vec<AtomicUsize>,
    /// Whether each worker has nothing under way and its sources have ended.
    pub(crate) quiet: Vec<AtomicBool>,
    /// What functions measure of their own.
    pub(crate) own: Arc<OwnMetrics>,
    threads: Vec<OnceLock<Thread>>,
    sleeping: Vec<AtomicBool>,
    /// Whether a source of each worker has called since its idle sources were last polled.
    called: Vec<AtomicBool>,
    phase: AtomicU8,
    hold: AtomicU8,
    full: watch::Sender<bool>,
    /// How long epochs take.
    pub(crate) epochs: EpochMeter,
    failure: Mutex<Option<EngineError>>,
    notes: Notes,
}

impl Shared {
    pub(crate) fn new(workers: usize, last_epoch: u64, applied: u64) -> Self {
        let counters = || (0..workers).map(|_| AtomicUsize::new(0)).collect();
        let flags = || (0..workers).map(|_| AtomicBool::new(false)).collect();
        Self {
            requested: AtomicU64::new(last_epoch + 1),
            durable: AtomicU64::new(last_epoch),
            applied: AtomicU64::new(applied),
            apply_soon: AtomicBool::new(false),
            backlog: counters(),
            in_transit: counters(),
            quiet: flags(),
            own: Arc::default(),
            threads: (0..workers).map(|_| OnceLock::new()).collect(),
            sleeping: flags(),
            // What a source had before anybody could call is to be found as well.
            called: (0..workers).map(|_| AtomicBool::new(true)).collect(),
            phase: AtomicU8::new(Phase::Running as u8),
            hold: AtomicU8::new(0),
            full: watch::Sender::new(false),
            epochs: EpochMeter::default(),
            failure: Mutex::new(None),
            notes: Notes::default(),
        }
    }

    /// Messages that a worker has to run, or is about to get.
    pub(crate) fn under_way(&self, worker: usize) -> usize {
        [&self.backlog, &self.in_transit]
            .into_iter()
            .filter_map(|gauge| gauge.get(worker))
            .map(|gauge| gauge.load(Ordering::Relaxed))
            .sum()
    }

    /// Registers the calling thread as that of a worker.
    pub(crate) fn enter(&self, worker: usize) {
        if let Some(thread) = self.threads.get(worker) {
            let _ = thread.set(std::thread::current());
        }
    }

    /// Says that a worker is about to sleep. It must then look once more for work before it does.
    pub(crate) fn set_sleeping(&self, worker: usize, sleeping: bool) {
        if let Some(flag) = self.sleeping.get(worker) {
            flag.store(sleeping, Ordering::SeqCst);
        }
    }

    /// Wakes a worker, if it sleeps.
    pub(crate) fn wake(&self, worker: usize) {
        let sleeping = self
            .sleeping
            .get(worker)
            .is_some_and(|flag| flag.load(Ordering::SeqCst));
        if sleeping && let Some(thread) = self.threads.get(worker).and_then(OnceLock::get) {
            thread.unpark();
        }
    }

    /// Wakes all workers that sleep.
    pub(crate) fn wake_all(&self) {
        for worker in 0..self.threads.len() {
            self.wake(worker);
        }
    }

    /// What sources call when they have something for a worker. A call is kept until the worker polls: it may come while
    /// the worker is busy, or between its last look and its sleep.
    pub(crate) fn waker(self: &Arc<Self>, worker: usize) -> Waker {
        let shared = self.clone();
        Waker::new(move || {
            if let Some(called) = shared.called.get(worker) {
                called.store(true, Ordering::SeqCst);
            }
            shared.wake(worker);
        })
    }

    /// Whether a source of the worker has called.
    pub(crate) fn is_called(&self, worker: usize) -> bool {
        self.called
            .get(worker)
            .is_some_and(|called| called.load(Ordering::SeqCst))
    }

    /// Whether a source of the worker has called; from now on the next call counts. To be taken before polling.
    pub(crate) fn take_call(&self, worker: usize) -> bool {
        // Most often there is none, and a look is cheaper than an exchange.
        self.is_called(worker)
            && self
                .called
                .get(worker)
                .is_some_and(|called| called.swap(false, Ordering::SeqCst))
    }

    /// Has the state store apply soon what it does not have yet, when that is less than all through an epoch. Whether it has all of it.
    pub(crate) fn apply_through(&self, epoch: u64) -> bool {
        let has = self.applied.load(Ordering::Acquire) >= epoch;
        if !has {
            self.apply_soon.store(true, Ordering::Relaxed);
        }
        has
    }

    /// Asks all workers to enter an epoch; true when nobody had asked for it before.
    pub(crate) fn request(&self, epoch: u64) -> bool {
        let is_news = self.requested.fetch_max(epoch, Ordering::SeqCst) < epoch;
        if is_news {
            // The one before it ends by that.
            self.epochs.called(epoch - 1);
        }
        is_news
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Running,
            1 => Phase::Draining,
            2 => Phase::Frozen,
            _ => Phase::Stopped,
        }
    }

    /// Moves on to a later phase.
    pub(crate) fn enter_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.wake_all();
    }

    /// Says whether nothing is to be taken in for that reason; true when that is news.
    pub(crate) fn set_hold(&self, hold: Hold, on: bool) -> bool {
        let before = if on {
            self.hold.fetch_or(hold as u8, Ordering::SeqCst)
        } else {
            self.hold.fetch_and(!(hold as u8), Ordering::SeqCst)
        };
        if (before & hold as u8 != 0) == on {
            return false;
        }
        self.notes.held(hold, on);
        // Read within, since two threads may tell at once.
        self.full.send_if_modified(|full| {
            let is_full = self.hold.load(Ordering::SeqCst) & FULL != 0;
            std::mem::replace(full, is_full) != is_full
        });
        if !on {
            self.wake_all();
        }
        true
    }

    /// Whether nothing new is taken in for that reason.
    pub(crate) fn is_held_by(&self, hold: Hold) -> bool {
        self.hold.load(Ordering::SeqCst) & hold as u8 != 0
    }

    /// Is true while a disk is full.
    pub(crate) fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    /// Whether nothing new is taken in for the moment.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.load(Ordering::Relaxed) != 0
    }

    /// Ends the engine with an error; the first one counts.
    pub(crate) fn fail(&self, error: impl Into<EngineError>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.notes
            .failed(failure.get_or_insert_with(|| error.into()));
        drop(failure);
        self.enter_phase(Phase::Stopped);
    }

    /// A handler of that function has been blocking its worker since then; with none, it has returned.
    pub(crate) fn note_blocked(&self, worker: usize, handler: Option<(String, Stopwatch)>) {
        self.notes.blocked(worker, handler);
    }

    /// How the engine is.
    pub(crate) fn condition(&self) -> Condition {
        self.notes.condition(self.phase() != Phase::Running)
    }

    pub(crate) fn take_failure(&self) -> Option<EngineError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
