//! The threads beside the workers: one commits epochs, one applies them to the state store, one reads cold state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::clock::{Stopwatch, WallClock};
use crate::engine::apply::{WINDOW_BYTES, apply_window};
use crate::engine::commit::GroupCommit;
use crate::engine::cut::EpochPart;
use crate::engine::driver::{ToCommit, ToWorker};
use crate::engine::shared::{EngineError, Hold, Phase, Shared};
use crate::engine::sinks::{EpochEgress, SinkFeed};
use crate::engine::worker::{ReadDone, ReadRequest};
use crate::io::clients::Clients;
use crate::io::ingress::AckOutcome;
use crate::log::{LogError, LogReader, Retention};
use crate::state::StateStore;
use crate::steps::{Step, reached};

/// Starts a named thread.
pub(crate) fn spawn(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, EngineError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| EngineError::Thread(format!("cannot start the thread `{name}`: {error}")))
}

/// Makes epochs durable, and lets out what waited for that.
pub(crate) struct Committer {
    pub(crate) commit: GroupCommit,
    pub(crate) input: Receiver<ToCommit>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) feeds: Vec<Arc<SinkFeed>>,
    pub(crate) workers: Vec<Sender<ToWorker>>,
    pub(crate) clock: WallClock,
    /// All sinks have accepted up to here; read by the applier, which lets the log go.
    pub(crate) accepted: Arc<std::sync::atomic::AtomicU64>,
    pub(crate) applier: std::thread::Thread,
}

impl Committer {
    pub(crate) fn run(mut self) {
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
                if let Err(error) = self.write(epoch, &parts) {
                    self.shared.fail(error);
                    return;
                }
                reached(Step::Synced);
                self.release(epoch, parts);
                reached(Step::Released);
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

    /// The epoch is durable: its output leaves, its clients are answered, its records are acknowledged.
    fn release(&mut self, epoch: u64, mut parts: Vec<EpochPart>) {
        self.shared.durable.store(epoch, Ordering::SeqCst);
        self.shared.wake_all();
        if let Some(egress) = EpochEgress::take(epoch, &mut parts) {
            let egress = Arc::new(egress);
            for feed in &self.feeds {
                feed.push(&egress);
            }
        }
        for part in &mut parts {
            for ack in part.acks.drain(..) {
                ack.tell(AckOutcome::Durable);
            }
            for response in part.responses.drain(..) {
                self.clients.answer(response);
            }
        }
        for part in parts {
            if let Some(worker) = self.workers.get(part.worker as usize) {
                let _ = worker.send(ToWorker::Recycle(part));
            }
        }
        self.accepted
            .store(self.commit.accepted_through(), Ordering::Release);
        if self.shared.apply_soon.load(Ordering::Relaxed) {
            self.applier.unpark();
        }
    }
}

/// Applies durable epochs to the state store, and lets the log go behind them.
pub(crate) struct Applier {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) log: LogReader,
    pub(crate) retention: Retention,
    pub(crate) shared: Arc<Shared>,
    pub(crate) accepted: Arc<std::sync::atomic::AtomicU64>,
    /// Bytes of log that are applied together, when nothing asks for it earlier.
    pub(crate) window_bytes: u64,
    /// Bytes of log above which nothing is taken in.
    pub(crate) max_log_bytes: u64,
}

/// How often the applier looks whether there is enough to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long changes may stay in the log alone.
const APPLY_AFTER: Duration = Duration::from_secs(2);

impl Applier {
    pub(crate) fn run(self) {
        yield_to_workers();
        if let Err(error) = self.apply_all() {
            self.shared.fail(error);
        }
    }

    fn apply_all(&self) -> Result<(), EngineError> {
        let mut since_last = Stopwatch::start();
        let mut seen = self.shared.durable.load(Ordering::Acquire);
        loop {
            let applied = self.shared.applied.load(Ordering::Acquire);
            let durable = self.shared.durable.load(Ordering::Acquire);
            if durable == applied && durable == seen {
                // Idle: the committer calls when there is something, or a look now and then finds it.
                std::thread::park_timeout(APPLY_AFTER);
            } else {
                std::thread::park_timeout(LOOK_EVERY);
            }
            seen = durable;
            if self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            let durable = self.shared.durable.load(Ordering::Acquire);
            if durable > applied {
                let waiting = self.retention.retained_bytes();
                let soon = self.shared.apply_soon.swap(false, Ordering::Relaxed);
                if soon || waiting > self.window_bytes || since_last.elapsed() > APPLY_AFTER {
                    self.apply_window(applied)?;
                    since_last = Stopwatch::start();
                }
            }
            let applied = self.shared.applied.load(Ordering::Acquire);
            self.retention
                .release_through(applied.min(self.accepted.load(Ordering::Acquire)));
            self.shared.set_hold(
                Hold::LogFull,
                self.retention.retained_bytes() > self.max_log_bytes,
            );
        }
    }

    fn apply_window(&self, applied: u64) -> Result<(), EngineError> {
        let epochs = self
            .log
            .read_from(applied + 1, WINDOW_BYTES.max(self.window_bytes as usize))?;
        reached(Step::Applying);
        if let Some(last) = apply_window(&*self.store, &epochs)? {
            reached(Step::Applied);
            self.shared.applied.store(last, Ordering::Release);
            self.shared.wake_all();
        }
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

/// Reads the state of addresses that memory does not hold.
pub(crate) fn read_cold_state(
    requests: &Receiver<(usize, Vec<ReadRequest>)>,
    store: &dyn StateStore,
    workers: &[Sender<ToWorker>],
    shared: &Shared,
) {
    loop {
        let (worker, batch) = match requests.recv_timeout(Duration::from_millis(500)) {
            Ok(request) => request,
            Err(RecvTimeoutError::Timeout) if shared.phase() != Phase::Stopped => continue,
            Err(_) => return,
        };
        let Some(inbox) = workers.get(worker) else {
            continue;
        };
        for request in batch {
            let rows = request.keys.iter().map(|key| store.get(key)).collect();
            let _ = inbox.send(ToWorker::Read(ReadDone {
                address: request.address,
                rows,
            }));
        }
        shared.wake(worker);
    }
}
