//! The applier's thread: gives windows to the state store, and mends it when its disk was full.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::engine::apply::Window;
use crate::engine::gatherer::{Handover, LOOK_EVERY};
use crate::engine::priority::yield_to_workers;
use crate::engine::shared::{EngineError, Hold, Phase, Shared};
use crate::state::{StateError, StateStore};
use crate::steps::{Step, reached};

/// How often the applier looks whether the store is well.
const CHECK_EVERY: Duration = Duration::from_secs(1);

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
            let patience = if self.mending.holds {
                LOOK_EVERY
            } else {
                CHECK_EVERY
            };
            self.take(patience);
            if self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            match self.apply() {
                Ok(Some(last)) => self.applied(last),
                Ok(None) if self.mending.holds => crate::clock::pause(LOOK_EVERY),
                Ok(None) => {}
                Err(error) => {
                    let pause = self.mend(error)?;
                    let watch = Stopwatch::start();
                    while watch.elapsed() < pause && self.shared.phase() != Phase::Stopped {
                        crate::clock::pause(LOOK_EVERY);
                    }
                    self.mending.pause = Some(((pause * 2).min(LONGEST_PAUSE), Stopwatch::start()));
                }
            }
        }
    }

    /// Takes the next window, unless it has one; waits for it for a while.
    pub(crate) fn take(&mut self, patience: Duration) {
        if self.window.is_none() {
            self.window = self.handover.take(patience);
        }
    }

    /// Gives the window that was taken to the store, unless it is not well yet; returns its last epoch.
    pub(crate) fn apply(&mut self) -> Result<Option<u64>, StateError> {
        self.store.check()?;
        if self.mending.holds && !self.store.has_merged() {
            // What failed may have been a merge, which fails again a while after it has begun again.
            return Ok(None);
        }
        let last = match &mut self.window {
            Some(window) => {
                reached(Step::Applying);
                window.apply(&*self.store)?
            }
            None => None,
        };
        if self.mending.holds {
            tracing::info!("the state store takes changes again");
            (self.mending.holds, self.mending.strikes) = (false, 0);
            self.shared.set_hold(Hold::StoreNoSpace, false);
        }
        Ok(last)
    }

    /// The store has what the window held.
    pub(crate) fn applied(&mut self, epoch: u64) {
        reached(Step::Applied);
        self.shared.applied.store(epoch, Ordering::Release);
        self.shared.wake_all();
        if let Some(mut window) = self.window.take() {
            window.clear();
            self.handover.done(window);
        }
    }

    /// The store met a full disk: nothing is taken in until it goes on. It is opened again, which gives back the space of what
    /// it had begun, and after a while, which is returned, the same is tried again. Any other failure ends the engine; but
    /// where the store cannot tell which it was, it may have been that.
    pub(crate) fn mend(&mut self, error: StateError) -> Result<Duration, EngineError> {
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
        Ok(match self.mending.pause {
            Some((pause, since)) if since.elapsed() < FORGET_AFTER => pause,
            _ => FIRST_PAUSE,
        })
    }
}

#[cfg(test)]
mod tests;
