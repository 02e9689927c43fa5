//! From durable epochs to the state store: one thread gathers the rows that changed, another one gives them to the store.
//!
//! ```text
//! Committer ─▶ RowFeed ─▶ Gatherer: a Window, each row once ─▶ Handover ─▶ Applier ─▶ store
//!                 ╰┄┄ full: left to the log, read back ┄┄╯
//! ```
//!
//! Gathering keeps up with the workers, whose buffers it gives back. Applying takes its time, in the processor's idle moments;
//! meanwhile the next window is gathered.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::clock::Stopwatch;
use crate::engine::apply::{READ_BYTES, Window};
use crate::engine::cut::EpochPart;
use crate::engine::driver::ToWorker;
use crate::engine::shared::{EngineError, Hold, Phase, Shared};
use crate::log::{LogReader, Retention};
use crate::state::{StateError, StateStore};
use crate::steps::{Step, reached};

/// Bytes of buffers that may wait to be gathered; beyond it, epochs are left to the log.
const FEED_BYTES: usize = 128 << 20;
/// Bytes of waiting buffers at which the gatherer is called.
const CALL_AT: usize = 1 << 20;

/// The parts of durable epochs on their way from the committer to the gatherer.
pub(crate) struct RowFeed {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    workers: Vec<Sender<ToWorker>>,
}

#[derive(Default)]
struct Waiting {
    epochs: VecDeque<(u64, Vec<EpochPart>)>,
    bytes: usize,
    called: bool,
}

impl RowFeed {
    pub(crate) fn new(workers: Vec<Sender<ToWorker>>) -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            workers,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the parts of a durable epoch.
    pub(crate) fn push(&self, epoch: u64, parts: Vec<EpochPart>) {
        let mut waiting = self.waiting();
        if waiting.bytes > FEED_BYTES {
            drop(waiting);
            return self.recycle(parts);
        }
        waiting.bytes += parts.iter().map(EpochPart::buffer_bytes).sum::<usize>();
        waiting.epochs.push_back((epoch, parts));
        if waiting.bytes > CALL_AT {
            self.ready.notify_one();
        }
    }

    /// Calls the gatherer.
    pub(crate) fn wake(&self) {
        self.waiting().called = true;
        self.ready.notify_one();
    }

    /// The next epoch, waiting for a while when there are few.
    fn next(&self, patience: Duration) -> Option<(u64, Vec<EpochPart>)> {
        let mut waiting = self.waiting();
        if waiting.bytes <= CALL_AT && !patience.is_zero() {
            waiting = self
                .ready
                .wait_timeout_while(waiting, patience, |waiting| {
                    waiting.bytes <= CALL_AT && !waiting.called
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        waiting.called = false;
        let next = waiting.epochs.pop_front();
        if let Some((_, parts)) = &next {
            waiting.bytes -= parts.iter().map(EpochPart::buffer_bytes).sum::<usize>();
        }
        next
    }

    /// Gives buffers back to their workers.
    fn recycle(&self, parts: Vec<EpochPart>) {
        for part in parts {
            if let Some(worker) = self.workers.get(part.worker as usize) {
                let _ = worker.send(ToWorker::Recycle(part));
            }
        }
    }
}

/// A window on its way to the applier, and back when it is empty.
#[derive(Default)]
pub(crate) struct Handover {
    slot: Mutex<Slot>,
    full: Condvar,
}

#[derive(Default)]
struct Slot {
    full: Option<Window>,
    empty: Option<Window>,
    /// The applier has one, or is about to take one.
    busy: bool,
    called: bool,
}

impl Handover {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_busy(&self) -> bool {
        self.slot().busy
    }

    /// Gives a window to the applier, which must not be busy; returns an empty one.
    fn give(&self, window: Window) -> Window {
        let mut slot = self.slot();
        slot.full = Some(window);
        slot.busy = true;
        self.full.notify_one();
        slot.empty.take().unwrap_or_else(Window::new)
    }

    /// Gives up the memory that is kept for the next window.
    fn trim(&self) {
        self.slot().empty = None;
    }

    /// Calls the applier.
    pub(crate) fn wake(&self) {
        self.slot().called = true;
        self.full.notify_one();
    }

    fn take(&self, patience: Duration) -> Option<Window> {
        let slot = self.slot();
        let (mut slot, _) = self
            .full
            .wait_timeout_while(slot, patience, |slot| slot.full.is_none() && !slot.called)
            .unwrap_or_else(PoisonError::into_inner);
        slot.called = false;
        slot.full.take()
    }

    fn done(&self, window: Window) {
        let mut slot = self.slot();
        slot.busy = false;
        slot.empty = Some(window);
    }
}

/// How often the gatherer looks whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nothing must have happened for changes to be applied although they are few.
const APPLY_WHEN_IDLE: Duration = Duration::from_secs(2);

/// How often the applier looks whether the store is well.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Gathers the rows of durable epochs, decides when they are applied, and lets the log go behind them.
pub(crate) struct Gatherer {
    pub(crate) feed: Arc<RowFeed>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) log: LogReader,
    pub(crate) retention: Retention,
    pub(crate) shared: Arc<Shared>,
    pub(crate) accepted: Arc<AtomicU64>,
    /// What was gathered and is not handed over yet.
    pub(crate) window: Window,
    /// The last epoch gathered.
    pub(crate) gathered: u64,
    /// Bytes of memory above which a window is applied, when nothing asks for it earlier.
    pub(crate) window_bytes: usize,
    /// How long changes may stay in the log alone.
    pub(crate) apply_after: Duration,
    /// Bytes of log above which nothing is taken in.
    pub(crate) max_log_bytes: u64,
}

impl Gatherer {
    pub(crate) fn run(mut self) {
        if let Err(error) = self.gather_all() {
            self.shared.fail(error);
        }
    }

    fn gather_all(&mut self) -> Result<(), EngineError> {
        let mut since_empty = Stopwatch::start();
        let mut since_news = Stopwatch::start();
        let mut patience = Duration::ZERO;
        loop {
            // Changes wait in the window, and when that is full, in the log.
            let may_wait = self.store.is_crowded() || self.handover.is_busy();
            let is_full = may_wait && self.window.bytes() > self.window_bytes;
            let news = if is_full {
                crate::clock::pause(LOOK_EVERY);
                false
            } else {
                self.gather(patience)?
            };
            if self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            if self.window.last().is_none() {
                since_empty = Stopwatch::start();
            }
            if news {
                since_news = Stopwatch::start();
            }
            let idle = since_news.elapsed() > APPLY_WHEN_IDLE;
            let due = self.window.bytes() > self.window_bytes
                || self.window.log_bytes() as u64 > self.max_log_bytes / 2
                || since_empty.elapsed() > self.apply_after
                || idle
                || self.shared.apply_soon.load(Ordering::Relaxed);
            if due
                && self.window.last().is_some()
                && !self.handover.is_busy()
                && !self.store.is_crowded()
            {
                self.shared.apply_soon.store(false, Ordering::Relaxed);
                let window = std::mem::replace(&mut self.window, Window::new());
                self.window = self.handover.give(window);
            }
            if idle && self.window.last().is_none() {
                self.window = Window::new();
                self.handover.trim();
            }
            let applied = self.shared.applied.load(Ordering::Acquire);
            self.retention
                .release_through(applied.min(self.accepted.load(Ordering::Acquire)));
            self.shared.set_hold(
                Hold::LogFull,
                self.retention.retained_bytes() > self.max_log_bytes,
            );
            // While there is more, it is taken at once; idle, the committer calls when memory waits.
            patience = match (news, idle && self.gathered == applied) {
                (true, _) => Duration::ZERO,
                (false, false) => LOOK_EVERY,
                (false, true) => APPLY_WHEN_IDLE,
            };
        }
    }

    /// Takes the next durable epochs into the window; false when there is none.
    fn gather(&mut self, patience: Duration) -> Result<bool, EngineError> {
        let Some((epoch, parts)) = self.feed.next(patience) else {
            // When the feed was full, the last epochs may be in the log alone.
            return self.read(self.shared.durable.load(Ordering::Acquire));
        };
        if epoch > self.gathered {
            while self.gathered + 1 < epoch {
                self.read(epoch - 1)?;
            }
            self.window.add_parts(epoch, &parts)?;
            self.gathered = epoch;
        }
        self.feed.recycle(parts);
        Ok(true)
    }

    /// Takes epochs from the log, up to this one.
    fn read(&mut self, through: u64) -> Result<bool, EngineError> {
        if through <= self.gathered {
            return Ok(false);
        }
        for epoch in self.log.read_from(self.gathered + 1, READ_BYTES)? {
            if epoch.epoch <= through {
                self.window.add(&epoch)?;
                self.gathered = epoch.epoch;
            }
        }
        Ok(true)
    }
}

/// How long the applier waits for space before it tries again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// When it has gone on for so long, what was before is forgotten.
const FORGET_AFTER: Duration = Duration::from_mins(1);
/// How often the store is opened again although its disk is not full.
const STRIKES: u32 = 3;

/// What the applier does when the state store fails.
#[derive(Debug, Default)]
struct Mending {
    /// Nothing is taken in until the store takes changes again.
    holds: bool,
    /// How long it waits next, and since when: a disk that has just been full may be full again soon.
    pause: Option<(Duration, Stopwatch)>,
    /// How often it failed for another reason than a full disk, since it last took changes.
    strikes: u32,
}

/// Gives windows to the state store.
pub(crate) struct Applier {
    handover: Arc<Handover>,
    store: Arc<dyn StateStore>,
    shared: Arc<Shared>,
    window: Option<Window>,
    mending: Mending,
}

impl Applier {
    pub(crate) fn new(
        handover: Arc<Handover>,
        store: Arc<dyn StateStore>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            handover,
            store,
            shared,
            window: None,
            mending: Mending::default(),
        }
    }

    pub(crate) fn run(mut self) {
        yield_to_workers();
        if let Err(error) = self.apply_all() {
            self.shared.fail(error);
        }
    }

    fn apply_all(&mut self) -> Result<(), EngineError> {
        loop {
            if self.window.is_none() {
                let patience = if self.mending.holds {
                    LOOK_EVERY
                } else {
                    CHECK_EVERY
                };
                self.window = self.handover.take(patience);
            }
            if self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            if let Err(error) = self.store.check() {
                self.mend(error)?;
            } else if self.mending.holds && !self.store.has_merged() {
                // What failed may have been a merge, which fails again a while after it has begun again.
                crate::clock::pause(LOOK_EVERY);
            } else if let Err(error) = self.apply() {
                self.mend(error)?;
            } else if self.mending.holds {
                tracing::info!("the state store takes changes again");
                (self.mending.holds, self.mending.strikes) = (false, 0);
                self.shared.set_hold(Hold::StoreNoSpace, false);
            }
        }
    }

    fn apply(&mut self) -> Result<(), StateError> {
        let Some(window) = &mut self.window else {
            return Ok(());
        };
        reached(Step::Applying);
        if let Some(last) = window.apply(&*self.store)? {
            self.applied(last);
        }
        Ok(())
    }

    /// The store has what the window held.
    fn applied(&mut self, epoch: u64) {
        reached(Step::Applied);
        self.shared.applied.store(epoch, Ordering::Release);
        self.shared.wake_all();
        if let Some(mut window) = self.window.take() {
            window.clear();
            self.handover.done(window);
        }
    }

    /// The store met a full disk: nothing is taken in until it goes on. It is opened again, which gives back the space of what
    /// it had begun, and after a while the same is tried again. Any other failure ends the engine; but where the store
    /// cannot tell which it was, it may have been that.
    fn mend(&mut self, error: StateError) -> Result<(), EngineError> {
        if !matches!(error, StateError::NoSpace { .. }) {
            self.mending.strikes += 1;
            if self.store.check().is_ok() || self.mending.strikes > STRIKES {
                return Err(error.into());
            }
        }
        if std::mem::replace(&mut self.mending.holds, true) {
            tracing::debug!(%error, "the state store has failed again");
        } else {
            self.shared.set_hold(Hold::StoreNoSpace, true);
            tracing::error!(%error, "nothing is taken in until the state store has space");
        }
        self.store.reopen()?;
        // What seemed to fail last may have been done.
        let applied = self.store.applied_epoch()?;
        if self
            .window
            .as_ref()
            .is_some_and(|window| window.last() == Some(applied))
        {
            self.applied(applied);
        }
        let pause = match self.mending.pause {
            Some((pause, since)) if since.elapsed() < FORGET_AFTER => pause,
            _ => FIRST_PAUSE,
        };
        let watch = Stopwatch::start();
        while watch.elapsed() < pause && self.shared.phase() != Phase::Stopped {
            crate::clock::pause(LOOK_EVERY);
        }
        self.mending.pause = Some(((pause * 2).min(LONGEST_PAUSE), Stopwatch::start()));
        Ok(())
    }
}

/// The applier's work can wait, the workers' cannot.
#[expect(
    unsafe_code,
    reason = "setting a thread's nice value has no safe door in std"
)]
fn yield_to_workers() {
    // SAFETY: both calls take and return plain numbers; 0 stands for the calling thread on Linux.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

#[cfg(test)]
mod tests;
