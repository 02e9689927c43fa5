//! From durable epochs to the state store, by the real feed, gatherer, hand-over and applier, whose turns the seed decides
//! about.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::engine::accepted::Accepted;
use crate::engine::applier::Applier;
use crate::engine::apply::Window;
use crate::engine::commit::GroupCommit;
use crate::engine::cut::EpochPart;
use crate::engine::driver::ToWorker;
use crate::engine::gatherer::{Gatherer, Handover, RowFeed};
use crate::engine::shared::{Hold, Shared};
use crate::log::{LogReader, Retention};
use crate::simulation::process::{Inbox, Process};
use crate::simulation::store::{Leaky, SimStore, is_down};
use crate::simulation::{Mutant, Shape, Sim, Stop};
use crate::state::{StateError, StateStore};

/// The way to the store, as far as a process has it in memory.
pub(super) struct Applying {
    rows: Arc<RowFeed>,
    gatherer: Gatherer,
    applier: Applier,
    /// How far all sinks have accepted.
    accepted: Arc<Accepted>,
    /// What comes back to the workers.
    recycled: Vec<Receiver<ToWorker>>,
    /// The last epoch of the window that was handed over.
    given: u64,
    /// An apply that has not returned yet, and its last epoch.
    under_way: Option<u64>,
}

impl Applying {
    pub(super) fn new(
        shape: &Shape,
        store: &Arc<SimStore>,
        shared: &Arc<Shared>,
        (log, retention): (LogReader, Retention),
        (workers, last_epoch): (usize, u64),
        leaks: bool,
    ) -> Self {
        let (ends, recycled) = (0..workers).map(|_| crossbeam_channel::unbounded()).unzip();
        let rows = Arc::new(RowFeed::new(ends).with_room(shape.feed_bytes));
        let handover = Arc::new(Handover::default());
        let accepted = Arc::new(Accepted::default());
        let to: Arc<dyn StateStore> = if leaks {
            Arc::new(Leaky::new(store.clone()))
        } else {
            store.clone()
        };
        Self {
            gatherer: Gatherer {
                feed: rows.clone(),
                handover: handover.clone(),
                store: store.clone(),
                log,
                retention,
                shared: shared.clone(),
                accepted: accepted.clone(),
                window: Window::new(),
                gathered: last_epoch,
                window_bytes: shape.window_bytes,
                // The seed says when something has waited long enough.
                apply_after: Duration::MAX,
                max_log_bytes: shape.max_log_bytes,
            },
            applier: Applier::new(handover, to, shared.clone()),
            rows,
            accepted,
            recycled,
            given: last_epoch,
            under_way: None,
        }
    }

    /// What the committer does with an epoch once it is durable.
    pub(super) fn push(&self, commit: &GroupCommit, epoch: u64, parts: Vec<EpochPart>) {
        self.accepted.note(epoch, commit.accepted_through());
        if self.rows.push(epoch, parts) {
            self.gatherer.shared.set_hold(Hold::GathererBehind, true);
        }
    }
}

impl Process {
    /// The last epoch that the store is known to have.
    pub(super) fn applied(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// Buffers come back to their workers.
    pub(super) fn take_recycled(&mut self) {
        for (site, recycled) in self.sites.iter_mut().zip(&self.applying.recycled) {
            for message in recycled.try_iter() {
                if let ToWorker::Recycle(part) = message {
                    site.inbox.push_back(Inbox::Recycle(part));
                }
            }
        }
    }
}

impl Sim {
    /// One of the threads between log and store goes on.
    pub(super) fn apply(&mut self, p: &mut Process) -> Result<(), Stop> {
        match self.random.below(8) {
            0..=2 => self.gather(p)?,
            3 | 4 => {
                let waited = self.one_in(2);
                self.hand_over(p, waited);
            }
            _ => self.give(p)?,
        }
        if self.one_in(2) {
            self.let_go(p);
        }
        Ok(())
    }

    /// What is durable reaches the store without anything that happens beside.
    pub(super) fn apply_all(&mut self, p: &mut Process) -> Result<(), Stop> {
        for _ in 0..1_000 {
            if p.applied() >= p.durable {
                return Ok(());
            }
            self.apply(p)?;
        }
        Err(Stop::Violation(format!(
            "epoch {} of {} is applied, and no other one",
            p.applied(),
            p.durable
        )))
    }

    fn gather(&mut self, p: &mut Process) -> Result<(), Stop> {
        for _ in 0..=self.random.below(6) {
            let gatherer = &mut p.applying.gatherer;
            let is_full = gatherer.is_full();
            gatherer.pace(is_full);
            if is_full {
                break;
            }
            if self.mutant == Some(Mutant::EpochsLeftOut) {
                // As if it had come by the feed.
                gatherer.gathered = gatherer.gathered.max(gatherer.feed.left_to_log());
            }
            if !gatherer.gather(Duration::ZERO)? {
                break;
            }
        }
        let gathered = p.applying.gatherer.gathered;
        self.trace.note(format_args!("gathered through {gathered}"));
        p.take_recycled();
        Ok(())
    }

    fn hand_over(&mut self, p: &mut Process, waited: bool) {
        let applying = &mut p.applying;
        let last = applying.gatherer.window.last();
        let Some(last) = last.filter(|_| applying.gatherer.hand_over(waited)) else {
            return;
        };
        applying.given = last;
        self.trace.note(format_args!("handed over through {last}"));
        if self.mutant(Mutant::AppliedTooEarly) {
            p.shared.applied.store(last, Ordering::Release);
        }
    }

    /// The applier gives a window to the store, or learns that the store has it.
    fn give(&mut self, p: &mut Process) -> Result<(), Stop> {
        if let Some(epoch) = p.applying.under_way.take() {
            self.store.settle()?;
            p.applying.applier.applied(epoch);
            self.trace.note(format_args!("applied through {epoch}"));
            return Ok(());
        }
        p.applying.applier.take(Duration::ZERO);
        if self.one_in(2) {
            self.store.linger();
        }
        match p.applying.applier.apply() {
            Ok(last) => p.applying.under_way = last,
            Err(error) if is_down(&error) => return Err(error.into()),
            Err(error @ StateError::NoSpace { .. }) if self.mutant(Mutant::FullStoreForgotten) => {
                self.trace.note(format_args!("given up: {error}"));
                p.applying.applier.applied(p.applying.given);
            }
            Err(error) => {
                self.trace.note(format_args!("not applied: {error}"));
                p.applying.applier.mend(error)?;
            }
        }
        Ok(())
    }

    fn let_go(&mut self, p: &mut Process) {
        if self.mutant(Mutant::LogGoesTooEarly) {
            p.retention.release_through(p.durable);
        }
        p.applying.gatherer.let_go();
    }
}
