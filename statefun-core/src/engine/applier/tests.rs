//! A store that cannot merge.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::engine::cut::EpochPart;
use crate::engine::rows::framing;
use crate::state::memory::MemoryStore;
use crate::state::{Row, RowChange, StateReader, StateSnapshot};

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

    fn snapshot(&self) -> Result<Arc<dyn StateSnapshot>, StateError> {
        self.rows.snapshot()
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
    let mut part = EpochPart::default();
    framing::push(&mut part.rows, b" a", Some(b"b"));
    let mut window = Window::new();
    window.add_parts(7, &[part]).unwrap();
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
