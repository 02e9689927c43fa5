//! Threads beside the workers: one commits epochs, one reads cold state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::clock::{Stopwatch, WallClock};
use crate::engine::commit::GroupCommit;
use crate::engine::cut::EpochPart;
use crate::engine::driver::{ToCommit, ToReader, ToWorker};
use crate::engine::priority::take_short_turns;
use crate::engine::release::{Outlet, Written};
use crate::engine::shared::{EngineError, Hold, Phase, Shared};
use crate::engine::worker::ReadDone;
use crate::log::LogError;
use crate::metrics::meter::Meters;
use crate::state::keys::{Space, prefix_end};
use crate::state::{StateReader, StateStore};
use crate::steps::{Step, reached};

/// Starts a named thread, whose panic ends the engine: nothing may go on without it.
pub(crate) fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, EngineError> {
    let watched = Watched {
        name: name.to_owned(),
        shared: shared.clone(),
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _watched = watched;
            run();
        })
        .map_err(|error| EngineError::Thread(format!("cannot start the thread `{name}`: {error}")))
}

/// A thread of the engine.
struct Watched {
    name: String,
    shared: Arc<Shared>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let problem = format!("the thread `{}` panicked", self.name);
            self.shared.fail(EngineError::Thread(problem));
        }
    }
}

/// Makes epochs durable, and passes them on to whoever lets out what waited for that.
pub(crate) struct Committer {
    pub(crate) commit: GroupCommit,
    pub(crate) input: Receiver<ToCommit>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<WallClock>,
    /// Where epochs go when the log has them.
    pub(crate) outlet: Outlet,
}

impl Committer {
    pub(crate) fn run(mut self) {
        take_short_turns();
        while let Ok(message) = self.input.recv() {
            match message {
                ToCommit::Part(part) => self.commit.add(part),
                ToCommit::Sink(position) => {
                    if self.commit.accepted(position) {
                        // It counts once it is logged, and there must be an epoch for that even when nothing else happens:
                        // nothing else can happen while a full log waits for it.
                        self.shared.request(self.commit.last_epoch() + 2);
                        self.shared.wake_all();
                    }
                    continue;
                }
                ToCommit::Stop => return,
            }
            while let Some((epoch, parts)) = self.commit.take_complete() {
                reached(Step::Gathered);
                self.shared.epochs.cut(epoch);
                let watch = Stopwatch::start();
                if let Err(error) = self.write(epoch, &parts) {
                    self.shared.fail(error);
                    return;
                }
                reached(Step::Synced);
                self.shared.epochs.fsync.observe(watch.elapsed());
                let bytes = parts.iter().map(EpochPart::bytes).sum::<usize>();
                self.shared.epochs.log_written_bytes.add(bytes as u64);
                self.pass_on(epoch, parts);
            }
        }
    }

    fn pass_on(&mut self, epoch: u64, parts: Vec<EpochPart>) {
        let accepted = self.commit.accepted_through();
        match &mut self.outlet {
            Outlet::Releaser(releaser) => releaser.release(epoch, parts, accepted),
            Outlet::Gate(gate) => {
                let record = self.commit.written(&parts);
                // When it has gone the process is stopping.
                let _ = gate.send(Written {
                    epoch,
                    parts,
                    accepted,
                    record,
                });
            }
        }
    }

    /// Writes an epoch; while the disk is full, nothing new is taken in, and it is tried again.
    fn write(&mut self, epoch: u64, parts: &[EpochPart]) -> Result<(), LogError> {
        let mut held = false;
        loop {
            match self.commit.write(epoch, parts, self.clock.now()) {
                Ok(()) => {
                    if held {
                        tracing::info!(epoch, "there is space again: the epoch is durable");
                        self.shared.set_hold(Hold::NoSpace, false);
                    }
                    return Ok(());
                }
                Err(error @ LogError::NoSpace { .. }) if self.shared.phase() < Phase::Stopped => {
                    if !held {
                        tracing::error!(%error, epoch, "nothing is taken in until there is space");
                        self.shared.set_hold(Hold::NoSpace, true);
                        held = true;
                    }
                    crate::clock::pause(Duration::from_millis(200));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads the state of addresses that memory does not hold, and looks for rows that have expired.
pub(crate) fn read_cold_state(
    requests: &Receiver<(usize, ToReader)>,
    store: &dyn StateStore,
    workers: &[Sender<ToWorker>],
    shared: &Shared,
) {
    loop {
        let (worker, request) = match requests.recv_timeout(Duration::from_millis(500)) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) if shared.phase() != Phase::Stopped => continue,
            Err(_) => return,
        };
        let Some(inbox) = workers.get(worker) else {
            continue;
        };
        match request {
            ToReader::Rows(batch) => {
                for request in batch {
                    let rows = request.keys.iter().map(|key| store.get(key)).collect();
                    let _ = inbox.send(ToWorker::Read(ReadDone {
                        address: request.address,
                        rows,
                    }));
                }
            }
            ToReader::Look(look) => {
                let as_of = shared.applied.load(Ordering::Acquire);
                let _ = inbox.send(ToWorker::Looked(look.run(store, as_of)));
            }
        }
        shared.wake(worker);
    }
}

/// Rows that are counted at a time.
const COUNTED: usize = 4096;

/// Counts the delayed messages that the last process left; very many take a while.
pub(crate) fn count_timers(store: &dyn StateReader, meters: &Meters, shared: &Shared) {
    let (mut start, mut count) = (vec![Space::Timer as u8], 0);
    let end = prefix_end(&start);
    while shared.phase() != Phase::Stopped {
        let rows = match store.scan(&start, &end, COUNTED) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "delayed messages cannot be counted: `statefun_timers_pending` is not shown");
                return;
            }
        };
        count += rows.len() as u64;
        let Some((last, _)) = rows.last().filter(|_| rows.len() == COUNTED) else {
            meters.count_timers(count);
            return;
        };
        start.clone_from(last);
        start.push(0);
    }
}
