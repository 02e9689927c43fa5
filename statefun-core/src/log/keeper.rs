//! What writer, readers and the background thread share: which segments there are, and, in [`files`], the making, laying
//! aside and removing of their files.
//!
//! The directory holds segments with consecutive numbers at every moment, also after a crash, since each change of a
//! name is synced before the next: the newest is prepared beyond the end, the oldest is removed, or laid aside under
//! another name as a spare, from which a later newest one is made. Spares save filling: a store that applies much at a
//! time releases many segments at once, and they are wanted again until it does so next.

mod files;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Filling;
use super::error::{Failure, LogError};
use super::segment::Segment;
use crate::disk::{Disk, DiskFile};

/// The distance of two entries of the index within a segment, in bytes at least.
const MARK_BYTES: u64 = 64 << 10;
/// How much larger each segment is than the one before, until the wanted size is reached: small applications take
/// little space, and a new log is ready at once. Where space is scarce, it is as much smaller.
const GROWTH: u64 = 4;

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    first_bytes: u64,
    segment_bytes: u64,
    /// Whether a thread prepares and removes segments; else whoever appends or releases does.
    background: bool,
    filling: Filling,
    state: Mutex<State>,
    /// Told when there is work for the thread.
    wake: Condvar,
    /// Held while files are made, renamed or removed.
    files: Mutex<()>,
    /// The last durable epoch.
    durable: AtomicU64,
    /// The first write or sync that failed.
    failed: OnceLock<String>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Segments with durable records, the newest last.
    retained: VecDeque<Retained>,
    /// Segments ready to be written, beyond the newest.
    prepared: VecDeque<Prepared>,
    /// Older than all that are retained: to be laid aside or removed, the oldest first.
    released: VecDeque<Arc<Segment>>,
    /// Laid aside, to become the next ones.
    spares: Vec<Spare>,
    /// How many spares there should be: the most segments that were taken between two releases, and after a while less.
    wanted: usize,
    /// How many segments were taken since the last release.
    taken: usize,
    /// The number of the next segment to prepare.
    next_number: u64,
    /// The length that it should have, in bytes.
    next_bytes: u64,
    /// There was no space for it. Not tried again until something is released or an append needs it.
    starved: bool,
    /// Something is to be done.
    work: bool,
    /// So many next segments are only reserved.
    hurry: u32,
    /// Somebody waits for a segment that is being filled.
    awaited: bool,
    /// So many want nothing to be released for the moment.
    holds: u32,
}

/// A segment that holds durable records.
#[derive(Debug)]
pub(super) struct Retained {
    pub(super) segment: Arc<Segment>,
    /// The first epoch that it holds.
    pub(super) first_epoch: Option<u64>,
    /// The last epoch when it was last written to.
    pub(super) last_epoch: u64,
    /// Where its durable records end, in bytes.
    pub(super) end: u64,
    /// Some of its epochs and where they begin, in order.
    marks: Vec<(u64, u64)>,
}

/// A segment that can be written.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn DiskFile>,
}

/// A segment that is no longer needed, under another name.
#[derive(Debug)]
struct Spare {
    path: PathBuf,
    bytes: u64,
}

/// Where to read an epoch.
pub(super) struct Located {
    pub(super) segment: Arc<Segment>,
    /// A record's beginning, at or before that of the epoch.
    pub(super) offset: u64,
    /// The end of the durable records.
    pub(super) end: u64,
}

impl Retained {
    pub(super) fn new(segment: Arc<Segment>, last_epoch: u64) -> Self {
        Self {
            segment,
            first_epoch: None,
            last_epoch,
            end: 0,
            marks: Vec::new(),
        }
    }

    /// Takes note of a durable record.
    pub(super) fn note(&mut self, epoch: Option<u64>, offset: u64, end: u64) {
        self.end = end;
        let Some(epoch) = epoch else {
            return;
        };
        self.first_epoch.get_or_insert(epoch);
        self.last_epoch = epoch;
        if self
            .marks
            .last()
            .is_none_or(|(_, mark)| offset - mark >= MARK_BYTES)
        {
            self.marks.push((epoch, offset));
        }
    }
}

impl Shared {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        first_bytes: u64,
        segment_bytes: u64,
        background: bool,
        filling: Filling,
    ) -> Self {
        Self {
            disk,
            dir,
            first_bytes: first_bytes.min(segment_bytes),
            segment_bytes,
            background,
            filling,
            state: Mutex::new(State {
                next_number: 1,
                next_bytes: first_bytes.min(segment_bytes),
                ..State::default()
            }),
            wake: Condvar::new(),
            files: Mutex::new(()),
            durable: AtomicU64::new(0),
            failed: OnceLock::new(),
            stop: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what recovery found.
    pub(super) fn restore(
        &self,
        retained: VecDeque<Retained>,
        prepared: VecDeque<Prepared>,
        active: Option<&Segment>,
        last_epoch: u64,
    ) {
        let mut state = self.state();
        if let Some(newest) = prepared
            .back()
            .map(|prepared| &*prepared.segment)
            .or(active)
        {
            state.next_number = newest.number + 1;
            state.next_bytes = self.grown(newest.bytes);
        }
        state.retained = retained;
        state.prepared = prepared;
        self.durable.store(last_epoch, Ordering::Release);
    }

    fn grown(&self, bytes: u64) -> u64 {
        bytes
            .saturating_mul(GROWTH)
            .clamp(self.first_bytes, self.segment_bytes)
    }

    // --- What there is -------------------------------------------------------------------------------------------

    /// The last durable epoch.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// A record is durable: readers may see it.
    pub(super) fn publish(
        &self,
        segment: &Arc<Segment>,
        epoch: Option<u64>,
        offset: u64,
        end: u64,
    ) {
        let mut state = self.state();
        if state
            .retained
            .back()
            .is_none_or(|newest| newest.segment.number != segment.number)
        {
            let last_epoch = self.durable();
            state
                .retained
                .push_back(Retained::new(Arc::clone(segment), last_epoch));
        }
        if let Some(newest) = state.retained.back_mut() {
            newest.note(epoch, offset, end);
        }
        if let Some(epoch) = epoch {
            self.durable.store(epoch, Ordering::Release);
        }
    }

    /// Where to begin to read an epoch; `None` when it is not durable yet.
    pub(super) fn locate(&self, epoch: u64) -> Result<Option<Located>, LogError> {
        let state = self.state();
        if epoch > self.durable() {
            return Ok(None);
        }
        let index = state
            .retained
            .partition_point(|retained| retained.last_epoch < epoch);
        let found = state
            .retained
            .get(index)
            .filter(|found| found.first_epoch.is_some_and(|first| first <= epoch));
        let Some(found) = found else {
            return Err(LogError::Released {
                epoch,
                first: state.first_epoch(),
            });
        };
        let mark = found.marks.partition_point(|(marked, _)| *marked <= epoch);
        let offset = mark
            .checked_sub(1)
            .and_then(|mark| found.marks.get(mark))
            .map_or(0, |(_, offset)| *offset);
        Ok(Some(Located {
            segment: Arc::clone(&found.segment),
            offset,
            end: found.end,
        }))
    }

    pub(super) fn first_epoch(&self) -> Option<u64> {
        self.state().first_epoch()
    }

    pub(super) fn segment_count(&self) -> usize {
        self.state().retained.len()
    }

    pub(super) fn retained_bytes(&self) -> u64 {
        let state = self.state();
        state
            .retained
            .iter()
            .map(|retained| retained.segment.bytes)
            .sum()
    }

    // --- What failed ---------------------------------------------------------------------------------------------

    /// The first write or sync that failed, if any did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    /// Nothing can be promised any more.
    pub(super) fn poison(&self, failure: &Failure) {
        if self.failed.set(failure.cause()).is_ok() {
            tracing::error!(dir = %self.dir.display(), cause = %failure.cause(), "the epoch log takes no more epochs");
        }
    }

    /// Everything up to this epoch is no longer needed.
    pub(super) fn release_through(&self, epoch: u64) {
        let mut state = self.state();
        if state.holds > 0 {
            return;
        }
        // Never the newest: the chain goes on from its last record. Nor the last epoch's, which a start goes on from:
        // behind it there may be segments with nothing but the records of attempts.
        let durable = self.durable();
        let released = state.released.len();
        while state.retained.len() > 1
            && state
                .retained
                .front()
                .is_some_and(|oldest| oldest.last_epoch <= epoch && oldest.last_epoch < durable)
        {
            if let Some(oldest) = state.retained.pop_front() {
                state.released.push_back(oldest.segment);
            }
        }
        if state.released.len() > released {
            state.wanted = std::mem::take(&mut state.taken).max(state.wanted).max(1);
            state.starved = false;
            state.work = true;
        }
        let work = state.work;
        drop(state);
        if work {
            self.work();
        }
    }

    /// From now on nothing is released, until [`let_loose`](Self::let_loose) was called as often.
    pub(super) fn hold(&self) {
        self.state().holds += 1;
    }

    pub(super) fn let_loose(&self) {
        let mut state = self.state();
        state.holds = state.holds.saturating_sub(1);
    }

    /// Gives up the spares: others need the space.
    pub(super) fn give_up_spares(&self) {
        let mut state = self.state();
        if state.wanted > 0 {
            state.wanted = 0;
            drop(state);
            self.work();
        }
    }
}

impl State {
    fn first_epoch(&self) -> Option<u64> {
        self.retained
            .iter()
            .find_map(|retained| retained.first_epoch)
    }
}
