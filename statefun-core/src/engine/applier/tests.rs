//! From epochs to the store, and a store that cannot go on.

use std::sync::OnceLock;

use super::*;
use crate::clock::Timestamp;
use crate::disk::SimDisk;
use crate::engine::cut::{body_slices, encode_head};
use crate::engine::rows::framing;
use crate::log::{EpochLog, OpenOptions};
use crate::state::memory::MemoryStore;
use crate::state::{Row, RowChange, StateReader};

/// An epoch that changes a row of its own and one that all change.
fn part(epoch: u64, capacity: usize) -> EpochPart {
    let mut part = EpochPart {
        epoch,
        rows: Vec::with_capacity(capacity),
        ..EpochPart::default()
    };
    let value = epoch.to_le_bytes();
    framing::push(&mut part.rows, &[b' ', epoch as u8], Some(&value));
    framing::push(&mut part.rows, &[b' ', 0], Some(&value));
    part
}

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
            feed: Arc::new(RowFeed::new(vec![worker])),
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
    fn commit(&mut self, epoch: u64, capacity: usize) {
        let parts = vec![part(epoch, capacity)];
        let mut head = Vec::new();
        encode_head(&mut head, Timestamp(1), &[], &parts);
        self.log.append(epoch, &body_slices(&head, &parts)).unwrap();
        self.gatherer.shared.durable.store(epoch, Ordering::SeqCst);
        self.gatherer.feed.push(epoch, parts);
    }

    fn gather(&mut self) {
        while self.gatherer.gather(Duration::ZERO).unwrap() {}
    }
}

#[test]
fn epochs_that_the_feed_has_no_room_for_are_read_from_the_log_in_their_place() {
    let mut site = Site::new();
    // The first fills the feed; the next three go to the log alone.
    site.commit(1, FEED_BYTES + 1);
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
    site.commit(6, FEED_BYTES + 1);
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

/// A store whose merges fail for lack of space a while after it was opened, and whose applies never do.
#[derive(Default)]
struct Cramped {
    rows: MemoryStore,
    shared: OnceLock<Arc<Shared>>,
    /// Looks since it was opened, and how often it was opened again.
    looks: AtomicU64,
    opened: AtomicU64,
    /// What was taken in between the first failure and the first merge.
    gaps: AtomicU64,
}

impl Cramped {
    const TIMES: u64 = 3;

    fn has_space(&self) -> bool {
        self.opened.load(Ordering::SeqCst) >= Self::TIMES
    }
}

impl StateReader for Cramped {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.rows.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        self.rows.scan(start, end, limit)
    }
}

impl StateStore for Cramped {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        self.rows.apply(epoch, changes)
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        self.rows.applied_epoch()
    }

    fn check(&self) -> Result<(), StateError> {
        let held = self.shared.get().unwrap().is_held_by(Hold::StoreNoSpace);
        if self.opened.load(Ordering::SeqCst) > 0 && !self.has_merged() && !held {
            self.gaps.fetch_add(1, Ordering::SeqCst);
        }
        // The first looks after it was opened find a merge that is under way.
        if self.looks.fetch_add(1, Ordering::SeqCst) < 3 || self.has_space() {
            return Ok(());
        }
        Err(StateError::NoSpace {
            directory: "here".into(),
            problem: "merging has failed".to_owned(),
        })
    }

    fn has_merged(&self) -> bool {
        self.has_space() && self.looks.load(Ordering::SeqCst) > 3
    }

    fn reopen(&self) -> Result<(), StateError> {
        self.looks.store(0, Ordering::SeqCst);
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn nothing_is_taken_in_until_a_store_that_could_not_merge_has_merged() {
    let (store, shared) = (Arc::new(Cramped::default()), Arc::new(Shared::new(1, 0, 0)));
    let _ = store.shared.set(shared.clone());
    let handover = Arc::new(Handover::default());
    let applier = Applier::new(handover.clone(), store.clone(), shared.clone());
    let thread = std::thread::Builder::new()
        .name("applier".to_owned())
        .spawn(|| applier.run())
        .unwrap();
    let patience = Stopwatch::start();
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() {
            assert!(patience.elapsed() < Duration::from_mins(1), "in vain");
            handover.wake();
            crate::clock::pause(Duration::from_millis(1));
        }
    };
    wait_for(&|| shared.is_held_by(Hold::StoreNoSpace));
    let mut window = Window::new();
    window.add_parts(7, &[part(7, 0)]).unwrap();
    handover.give(window);
    wait_for(&|| shared.applied.load(Ordering::SeqCst) == 7);
    wait_for(&|| !shared.is_held_by(Hold::StoreNoSpace));
    assert!(store.has_merged());
    assert_eq!(store.opened.load(Ordering::SeqCst), Cramped::TIMES);
    assert_eq!(store.gaps.load(Ordering::SeqCst), 0);
    shared.enter_phase(Phase::Stopped);
    handover.wake();
    thread.join().unwrap();
    assert!(shared.take_failure().is_none());
}
