//! The threads beside the workers: one commits epochs, one applies them to the state store, one reads cold state.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::clock::{Stopwatch, WallClock};
use crate::engine::apply::{READ_BYTES, Window};
use crate::engine::commit::GroupCommit;
use crate::engine::cut::EpochPart;
use crate::engine::driver::{ToCommit, ToReader, ToWorker};
use crate::engine::shared::{EngineError, Hold, Phase, Shared};
use crate::engine::sinks::{EpochEgress, SinkFeed};
use crate::engine::worker::ReadDone;
use crate::io::clients::Clients;
use crate::io::ingress::AckOutcome;
use crate::log::{LogError, LogReader, Retention};
use crate::state::{StateError, StateStore};
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
    /// What was read of the log and is not applied yet.
    pub(crate) window: Window,
    /// Bytes of memory above which the window is applied, when nothing asks for it earlier.
    pub(crate) window_bytes: usize,
    /// How long changes may stay in the log alone.
    pub(crate) apply_after: Duration,
    /// Bytes of log above which nothing is taken in.
    pub(crate) max_log_bytes: u64,
    pub(crate) mending: Mending,
}

/// How often the applier looks whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nothing must have happened for changes to be applied although they are few.
const APPLY_WHEN_IDLE: Duration = Duration::from_secs(2);
/// How long the applier waits for space before it tries again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often the store is opened again although its disk is not full.
const STRIKES: u32 = 3;

/// What the applier does when the state store fails.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    /// How long it waits next; none while all is well.
    pause: Option<Duration>,
    strikes: u32,
}

impl Applier {
    pub(crate) fn run(mut self) {
        yield_to_workers();
        if let Err(error) = self.apply_all() {
            self.shared.fail(error);
        }
    }

    fn apply_all(&mut self) -> Result<(), EngineError> {
        let mut since_applied = Stopwatch::start();
        let mut since_news = Stopwatch::start();
        let mut behind = false;
        loop {
            let applied = self.shared.applied.load(Ordering::Acquire);
            let read = self.window.last().unwrap_or(applied);
            if !behind {
                // Idle: the committer calls when memory waits; else a look now and then finds what there is.
                let idle = read == applied && since_news.elapsed() > APPLY_WHEN_IDLE;
                std::thread::park_timeout(if idle { APPLY_WHEN_IDLE } else { LOOK_EVERY });
            }
            if self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            if let Err(error) = self.store.check() {
                self.mend(error)?;
                continue;
            }
            if read == applied {
                since_applied = Stopwatch::start();
            }
            let bytes = self.read(read)?;
            behind = bytes >= READ_BYTES / 2;
            if bytes > 0 {
                since_news = Stopwatch::start();
            }
            let due = self.window.bytes() > self.window_bytes
                || self.window.log_bytes() as u64 > self.max_log_bytes / 4
                || since_applied.elapsed() > self.apply_after
                || since_news.elapsed() > APPLY_WHEN_IDLE
                || self.mending.pause.is_some()
                || self.shared.apply_soon.load(Ordering::Relaxed);
            if due && self.window.last().is_some() {
                self.shared.apply_soon.store(false, Ordering::Relaxed);
                if let Err(error) = self.apply() {
                    self.mend(error)?;
                    continue;
                }
            }
            if self.mending.pause.is_some() && self.store.check().is_ok() {
                self.mending.pause = None;
                tracing::info!("the state store takes changes again");
                self.shared.set_hold(Hold::StoreNoSpace, false);
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

    /// Takes the next durable epochs into the window; returns their bytes.
    fn read(&mut self, read: u64) -> Result<usize, EngineError> {
        if self.shared.durable.load(Ordering::Acquire) <= read {
            return Ok(0);
        }
        let before = self.window.log_bytes();
        for epoch in &self.log.read_from(read + 1, READ_BYTES)? {
            self.window.add(epoch)?;
        }
        Ok(self.window.log_bytes() - before)
    }

    fn apply(&mut self) -> Result<(), StateError> {
        reached(Step::Applying);
        if let Some(last) = self.window.apply(&*self.store)? {
            self.applied(last);
        }
        Ok(())
    }

    fn applied(&self, epoch: u64) {
        reached(Step::Applied);
        self.shared.applied.store(epoch, Ordering::Release);
        self.shared.wake_all();
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
        if self.mending.pause.is_none() {
            tracing::error!(%error, "nothing is taken in until the state store has space");
            self.shared.set_hold(Hold::StoreNoSpace, true);
        }
        self.store.reopen()?;
        // What seemed to fail last may have been done.
        let applied = self.store.applied_epoch()?;
        if self.window.last() == Some(applied) {
            self.window = Window::new();
            self.applied(applied);
        }
        let pause = self.mending.pause.unwrap_or(FIRST_PAUSE);
        let watch = Stopwatch::start();
        while watch.elapsed() < pause && self.shared.phase() != Phase::Stopped {
            std::thread::park_timeout(LOOK_EVERY);
        }
        self.mending.pause = Some((pause * 2).min(LONGEST_PAUSE));
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
