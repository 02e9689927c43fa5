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
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::clock::Stopwatch;
use crate::engine::accepted::Accepted;
use crate::engine::apply::{READ_BYTES, Window};
use crate::engine::cut::EpochPart;
use crate::engine::driver::ToWorker;
use crate::engine::shared::{EngineError, Hold, Phase, Shared};
use crate::log::{LogReader, Retention};
use crate::state::StateStore;

/// Bytes that may wait to be gathered; beyond it, epochs are left to the log.
const FEED_BYTES: usize = 64 << 20;
/// Bytes that wait above which nothing is taken in for the moment, and below which it is again. Reading epochs back costs
/// more than gathering them at once, so that a gatherer that has fallen behind once would stay so under the same load.
const CROWDED_BYTES: usize = FEED_BYTES / 2;
const CALM_BYTES: usize = FEED_BYTES / 8;
/// Bytes that wait at which the gatherer is called.
const CALL_AT: usize = 1 << 20;

/// The parts of durable epochs on their way from the committer to the gatherer.
pub(crate) struct RowFeed {
    waiting: Mutex<Waiting>,
    ready: Condvar,
    workers: Vec<Sender<ToWorker>>,
    room_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    epochs: VecDeque<(u64, Vec<EpochPart>)>,
    /// What stands in their buffers, which are not much larger: workers give up those that are.
    bytes: usize,
    called: bool,
    /// The last epoch that there was no room for.
    left_to_log: u64,
    /// The gatherer waits for the state store: what comes now is left to the log, and nobody has to wait for that.
    stalled: bool,
}

impl RowFeed {
    pub(crate) fn new(workers: Vec<Sender<ToWorker>>) -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            workers,
            room_bytes: FEED_BYTES,
        }
    }

    /// With another bound for the buffers that wait.
    #[cfg(test)]
    pub(crate) fn with_room(mut self, bytes: usize) -> Self {
        self.room_bytes = bytes;
        self
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the parts of a durable epoch. True when the gatherer cannot follow, and is to be given time.
    #[must_use]
    pub(crate) fn push(&self, epoch: u64, parts: Vec<EpochPart>) -> bool {
        let mut waiting = self.waiting();
        if waiting.bytes > self.room_bytes {
            waiting.left_to_log = epoch;
            drop(waiting);
            self.recycle(parts);
            return false;
        }
        waiting.bytes += parts.iter().map(EpochPart::bytes).sum::<usize>();
        waiting.epochs.push_back((epoch, parts));
        if waiting.bytes > CALL_AT {
            self.ready.notify_one();
        }
        waiting.bytes > CROWDED_BYTES && !waiting.stalled
    }

    pub(crate) fn left_to_log(&self) -> u64 {
        self.waiting().left_to_log
    }

    /// Whether the gatherer waits for the state store.
    fn set_stalled(&self, stalled: bool) {
        self.waiting().stalled = stalled;
    }

    fn is_calm(&self) -> bool {
        let waiting = self.waiting();
        waiting.bytes < CALM_BYTES || waiting.stalled
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
            waiting.bytes -= parts.iter().map(EpochPart::bytes).sum::<usize>();
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
    pub(crate) fn give(&self, window: Window) -> Window {
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

    pub(crate) fn take(&self, patience: Duration) -> Option<Window> {
        let slot = self.slot();
        let (mut slot, _) = self
            .full
            .wait_timeout_while(slot, patience, |slot| slot.full.is_none() && !slot.called)
            .unwrap_or_else(PoisonError::into_inner);
        slot.called = false;
        slot.full.take()
    }

    pub(crate) fn done(&self, window: Window) {
        let mut slot = self.slot();
        slot.busy = false;
        slot.empty = Some(window);
    }
}

/// How often the gatherer looks whether there is something to do.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nothing must have happened for changes to be applied although they are few.
const APPLY_WHEN_IDLE: Duration = Duration::from_secs(2);

/// Gathers the rows of durable epochs, decides when they are applied, and lets the log go behind them.
pub(crate) struct Gatherer {
    pub(crate) feed: Arc<RowFeed>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) log: LogReader,
    pub(crate) retention: Retention,
    pub(crate) shared: Arc<Shared>,
    /// How far all sinks have accepted, as of each epoch.
    pub(crate) accepted: Arc<Accepted>,
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
            let is_full = self.is_full();
            self.pace(is_full);
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
            if self.hand_over(idle || since_empty.elapsed() > self.apply_after) {
                since_empty = Stopwatch::start();
            }
            if idle && self.window.last().is_none() {
                self.window = Window::new();
                self.handover.trim();
            }
            self.let_go();
            let applied = self.shared.applied.load(Ordering::Acquire);
            // While there is more, it is taken at once; idle, the committer calls when memory waits.
            patience = match (news, idle && self.gathered == applied) {
                (true, _) => Duration::ZERO,
                (false, false) => LOOK_EVERY,
                (false, true) => APPLY_WHEN_IDLE,
            };
        }
    }

    /// Whether the window takes no more for now: changes wait there, and when it is full, in the log.
    pub(crate) fn is_full(&self) -> bool {
        let may_wait = self.store.is_crowded() || self.handover.is_busy();
        may_wait && self.window.bytes() > self.window_bytes
    }

    /// Nobody has to wait for a gatherer whose window is full, or that has caught up.
    pub(crate) fn pace(&self, is_full: bool) {
        self.feed.set_stalled(is_full);
        if self.feed.is_calm() {
            self.shared.set_hold(Hold::GathererBehind, false);
        }
    }

    /// Gives what was gathered to the applier, when that can take it and it is time: there is much of it, or somebody
    /// waits for it, or it has `waited` long enough. True when it did.
    pub(crate) fn hand_over(&mut self, waited: bool) -> bool {
        let due = waited
            || self.window.bytes() > self.window_bytes
            || self.window.log_bytes() as u64 > self.max_log_bytes / 2
            // The log goes behind what is applied only.
            || self.shared.is_held_by(Hold::LogFull)
            || self.shared.apply_soon.load(Ordering::Relaxed);
        let goes = due
            && self.window.last().is_some()
            && !self.handover.is_busy()
            && !self.store.is_crowded();
        if goes {
            self.shared.apply_soon.store(false, Ordering::Relaxed);
            let window = std::mem::replace(&mut self.window, Window::new());
            self.window = self.handover.give(window);
        }
        goes
    }

    /// Lets the log go behind what the store has and all sinks had accepted then; the record of the last epoch that the store has
    /// stays, since a checkpoint goes on from it. While the log is too long all the same, nothing is taken in; but one segment,
    /// the one that is written, is there always.
    pub(crate) fn let_go(&self) {
        let applied = self.shared.applied.load(Ordering::Acquire);
        self.retention
            .release_through(applied.saturating_sub(1).min(self.accepted.as_of(applied)));
        if self.shared.is_held_by(Hold::StoreNoSpace) {
            self.retention.give_up_spares();
        }
        self.shared.set_hold(
            Hold::LogFull,
            self.retention.segment_count() > 1
                && self.retention.retained_bytes() > self.max_log_bytes,
        );
    }

    /// Takes the next durable epochs into the window; false when there is none.
    pub(crate) fn gather(&mut self, patience: Duration) -> Result<bool, EngineError> {
        let Some((epoch, parts)) = self.feed.next(patience) else {
            // When the feed was full, the last epochs may be in the log alone. One that is durable may be on its way as well.
            return self.read(self.feed.left_to_log());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::disk::SimDisk;
    use crate::engine::cut::{body_slices, encode_head};
    use crate::engine::rows::framing;
    use crate::log::{EpochLog, OpenOptions};
    use crate::state::StateReader;
    use crate::state::memory::MemoryStore;

    /// An epoch that changes a row of its own and one that all change, with a value of so many bytes.
    fn part(epoch: u64, bytes: usize) -> EpochPart {
        let mut part = EpochPart {
            epoch,
            ..EpochPart::default()
        };
        let mut value = epoch.to_le_bytes().to_vec();
        framing::push(&mut part.rows, &[b' ', epoch as u8], Some(&value));
        value.resize(bytes.max(8), 0);
        framing::push(&mut part.rows, &[b' ', 0], Some(&value));
        part
    }

    const ROOM: usize = 10_000;

    struct Site {
        log: EpochLog,
        gatherer: Gatherer,
        store: Arc<MemoryStore>,
        recycled: crossbeam_channel::Receiver<ToWorker>,
    }

    impl Site {
        fn new() -> Self {
            let disk = SimDisk::new(1);
            let options = OpenOptions {
                background: false,
                ..OpenOptions::new(1)
            };
            let mut see = |_: crate::log::RecordView<'_>| Ok::<(), std::convert::Infallible>(());
            let log = EpochLog::open(Arc::new(disk), "/log", &options, &mut see)
                .unwrap()
                .log;
            let (worker, recycled) = crossbeam_channel::unbounded();
            let store = Arc::new(MemoryStore::default());
            let gatherer = Gatherer {
                feed: Arc::new(RowFeed::new(vec![worker]).with_room(ROOM)),
                handover: Arc::default(),
                store: store.clone(),
                log: log.reader(),
                retention: log.retention(),
                shared: Arc::new(Shared::new(1, 0, 0)),
                accepted: Arc::default(),
                window: Window::new(),
                gathered: 0,
                window_bytes: 1 << 20,
                apply_after: Duration::from_secs(1),
                max_log_bytes: 1 << 30,
            };
            Self {
                log,
                gatherer,
                store,
                recycled,
            }
        }

        /// What the committer does with an epoch.
        fn commit(&mut self, epoch: u64, bytes: usize) {
            let parts = vec![part(epoch, bytes)];
            let mut head = Vec::new();
            encode_head(&mut head, Timestamp(1), &[], &parts);
            self.log.append(epoch, &body_slices(&head, &parts)).unwrap();
            self.gatherer.shared.durable.store(epoch, Ordering::SeqCst);
            let _ = self.gatherer.feed.push(epoch, parts);
        }

        fn gather(&mut self) {
            while self.gatherer.gather(Duration::ZERO).unwrap() {}
        }
    }

    #[test]
    fn epochs_that_the_feed_has_no_room_for_are_read_from_the_log_in_their_place() {
        let mut site = Site::new();
        // The first fills the feed; the next three go to the log alone.
        site.commit(1, ROOM + 1);
        for epoch in 2..5 {
            site.commit(epoch, 0);
        }
        assert_eq!(site.recycled.len(), 3);
        assert!(site.gatherer.gather(Duration::ZERO).unwrap());
        assert_eq!(site.gatherer.gathered, 1);
        // There is room again: this one comes by the feed, ahead of those that it must follow.
        site.commit(5, 0);
        site.gather();
        assert_eq!(site.gatherer.gathered, 5);
        // The last ones are in the log alone, and nothing behind them calls.
        site.commit(6, ROOM + 1);
        site.commit(7, 0);
        site.gather();
        assert_eq!((site.gatherer.gathered, site.recycled.len()), (7, 7));

        let last = site.gatherer.window.apply(&*site.store).unwrap();
        assert_eq!(last, Some(7));
        for epoch in 1..8u64 {
            let row = site.store.get(&[b' ', epoch as u8]).unwrap();
            assert_eq!(row.as_deref(), Some(&epoch.to_le_bytes()[..]));
        }
        let newest = site.store.get(b" \0").unwrap();
        assert_eq!(newest.as_deref(), Some(&7u64.to_le_bytes()[..]));
    }

    #[test]
    fn an_epoch_that_was_read_from_the_log_counts_once() {
        let mut site = Site::new();
        site.commit(1, 0);
        site.commit(2, 0);
        // As when the gatherer looks between an epoch's becoming durable and its coming by the feed.
        site.gatherer.read(2).unwrap();
        assert_eq!(site.gatherer.gathered, 2);
        let bytes = site.gatherer.window.log_bytes();
        site.gather();
        assert_eq!(site.gatherer.window.log_bytes(), bytes);
        assert_eq!(site.recycled.len(), 2);
    }

    #[test]
    fn an_epoch_that_is_on_its_way_is_not_read_from_the_log() {
        let mut site = Site::new();
        site.commit(1, 0);
        site.gather();
        // Durable, and not in the feed yet.
        let parts = vec![part(2, 0)];
        let mut head = Vec::new();
        encode_head(&mut head, Timestamp(1), &[], &parts);
        site.log.append(2, &body_slices(&head, &parts)).unwrap();
        site.gatherer.shared.durable.store(2, Ordering::SeqCst);
        assert!(!site.gatherer.gather(Duration::ZERO).unwrap());
        assert_eq!(site.gatherer.gathered, 1);
        let _ = site.gatherer.feed.push(2, parts);
        assert!(site.gatherer.gather(Duration::ZERO).unwrap());
        assert_eq!(site.gatherer.gathered, 2);
    }

    #[test]
    fn who_cannot_follow_is_given_time_unless_it_waits_for_the_store() {
        let feed = RowFeed::new(Vec::new());
        assert!(!feed.push(1, vec![part(1, CROWDED_BYTES - 1024)]));
        assert!(feed.push(2, vec![part(2, 2048)]));
        assert!(!feed.is_calm());
        feed.set_stalled(true);
        assert!(feed.is_calm());
        assert!(!feed.push(3, vec![part(3, 0)]));
        feed.set_stalled(false);
        assert!(feed.push(4, vec![part(4, 0)]));
        for epoch in 1..5 {
            assert_eq!(
                feed.next(Duration::ZERO).map(|(epoch, _)| epoch),
                Some(epoch)
            );
        }
        assert!(feed.is_calm());
    }

    #[test]
    fn windows_change_hands_one_at_a_time() {
        let handover = Handover::default();
        assert!(!handover.is_busy());
        assert!(handover.take(Duration::ZERO).is_none());
        let mut full = Window::new();
        full.add_parts(1, &[part(1, 0)]).unwrap();
        assert!(handover.give(full).last().is_none());
        assert!(handover.is_busy());
        let mut taken = handover.take(Duration::ZERO).unwrap();
        assert_eq!(taken.last(), Some(1));
        assert!(handover.is_busy());
        taken.clear();
        handover.done(taken);
        assert!(!handover.is_busy());
        handover.wake();
        assert!(handover.take(Duration::from_mins(1)).is_none());
    }
}
