//! A worker's thread around its core: polls sources, passes on what the core wants done, and decides when to cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::clock::{Stopwatch, Timestamp, WallClock};
use crate::engine::admission::Admission;
use crate::engine::current::routing;
use crate::engine::cut::EpochPart;
use crate::engine::shared::{Phase, Shared};
use crate::engine::sweep::{Look, Looked};
use crate::engine::worker::{
    Batch, Body, Command, CommandError, CommandResult, ReadDone, ReadRequest, StartOperation,
    Worker, WorkerError,
};
use crate::id::Address;
use crate::io::egress::DeadLetter;
use crate::io::ingress::{Ack, Record, Source, SourceStatus};
use crate::metrics::Lag;
use crate::steps::{Step, reached};

/// Messages run between two looks at what comes from elsewhere.
const RUN_BUDGET: usize = 1024;
/// Messages run before a cut, so that little is carried.
const CUT_BUDGET: usize = 1024;
/// Records taken from the sources at a time.
const POLL_RECORDS: usize = 256;
const TIMER_BUDGET: usize = 1024;
/// Messages run between two looks at the clock.
const SLICE: usize = 128;
/// No budget takes longer than this, however long handlers take: an epoch waits for the slowest worker.
const RUN_FOR: Duration = Duration::from_millis(5);
/// How often sources are asked how far they are behind.
const LAG_EVERY: Duration = Duration::from_millis(500);

/// The result of a command, told once it is durable.
pub(crate) type CommandReply = Box<dyn FnOnce(Result<CommandResult, CommandError>) + Send>;

/// What other threads send to a worker.
pub(crate) enum ToWorker {
    Read(ReadDone),
    Operation {
        address: Address,
        id: u64,
        result: Body,
    },
    Looked(Looked),
    Command(Command, CommandReply),
    Recycle(EpochPart),
    DeadLetter {
        egress: u64,
        letter: DeadLetter,
    },
}

/// What workers send to the committer.
pub(crate) enum ToCommit {
    Part(EpochPart),
    Sink(crate::engine::cut::SinkPosition),
    Stop,
}

/// What workers have the reader do.
pub(crate) enum ToReader {
    Rows(Vec<ReadRequest>),
    Look(Look),
}

/// A source that a worker polls.
pub(crate) struct ActiveSource {
    pub(crate) ingress: u16,
    pub(crate) partition: Option<Address>,
    pub(crate) source: Box<dyn Source>,
    pub(crate) status: SourceStatus,
    pub(crate) polled: Stopwatch,
}

/// Where a driver sends what its worker wants done.
#[derive(Clone)]
pub(crate) struct Outlets {
    pub(crate) commit: Sender<ToCommit>,
    pub(crate) reads: Sender<(usize, ToReader)>,
    pub(crate) operations: Arc<dyn Fn(usize, StartOperation) + Send + Sync>,
}

/// See the module's page.
pub(crate) struct Driver {
    index: usize,
    worker: Worker,
    shared: Arc<Shared>,
    inbox: Receiver<ToWorker>,
    outlets: Outlets,
    sources: Vec<ActiveSource>,
    clock: Arc<WallClock>,
    records: Vec<Record>,
    admission: Admission,
    applied: u64,
    lag_looked: Stopwatch,
    /// Records have come since: how far behind the sources are is to be looked at once more, even if nothing else happens.
    lag_is_old: bool,
}

impl Driver {
    pub(crate) fn new(
        index: usize,
        worker: Worker,
        shared: Arc<Shared>,
        inbox: Receiver<ToWorker>,
        outlets: Outlets,
        sources: Vec<ActiveSource>,
        clock: Arc<WallClock>,
    ) -> Self {
        Self {
            index,
            worker,
            shared,
            inbox,
            outlets,
            sources,
            clock,
            records: Vec::with_capacity(POLL_RECORDS),
            admission: Admission::default(),
            applied: 0,
            lag_looked: Stopwatch::start(),
            lag_is_old: true,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.worker.epoch()
    }

    /// Takes what came from other threads, and the time.
    pub(crate) fn begin(&mut self) -> Result<(), WorkerError> {
        self.worker.set_now(self.clock.now());
        let applied = self.shared.applied.load(Ordering::Acquire);
        if applied > self.applied {
            self.applied = applied;
            self.worker.applied(applied);
        }
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                ToWorker::Read(done) => self.worker.loaded(done)?,
                ToWorker::Looked(looked) => self.worker.looked(looked)?,
                ToWorker::Operation {
                    address,
                    id,
                    result,
                } => self.worker.operation_done(&address, id, result),
                ToWorker::Recycle(part) => self.worker.recycle(part),
                ToWorker::DeadLetter { egress, letter } => {
                    self.worker.take_dead_letter(egress, letter);
                }
                ToWorker::Command(command, reply) => {
                    let result = self.worker.command(&command)?;
                    if self.worker.changed() && matches!(result, Ok(CommandResult::Done { .. })) {
                        // The same way on which records are acknowledged: once it is durable.
                        self.worker.when_durable(Ack::new(move |_| reply(result)));
                    } else {
                        reply(result);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a batch sent in epoch `label`; the worker has cut up to it.
    pub(crate) fn receive(&mut self, label: u64, batch: Batch) -> Result<(), WorkerError> {
        if let Some(gauge) = self.shared.in_transit.get(self.index) {
            gauge.fetch_sub(batch.messages.len(), Ordering::AcqRel);
        }
        self.worker.receive(label, batch.messages)
    }

    /// The batches to be sent with the label of the current epoch.
    pub(crate) fn take_batches(&mut self) -> Vec<Batch> {
        self.worker.flush();
        let batches = std::mem::take(&mut self.worker.effects.batches);
        for batch in &batches {
            if let Some(gauge) = self.shared.in_transit.get(batch.to) {
                gauge.fetch_add(batch.messages.len(), Ordering::AcqRel);
            }
        }
        batches
    }

    /// Captures the current epoch; what [`take_batches`](Self::take_batches) gave must have been sent.
    pub(crate) fn cut(&mut self) -> Result<(), WorkerError> {
        self.worker.cut()?;
        reached(Step::Cut);
        if self.shared.request(self.worker.epoch()) {
            self.shared.wake_all();
        }
        Ok(())
    }

    /// Hands over the parts of the epochs before `frontier`.
    pub(crate) fn complete(&mut self, frontier: u64) {
        while let Some(part) = self.worker.complete(frontier) {
            // When the committer has gone the process is stopping.
            let _ = self.outlets.commit.send(ToCommit::Part(part));
        }
    }

    /// An epoch that was asked for elsewhere and has not been entered yet.
    pub(crate) fn requested(&self) -> Option<u64> {
        let requested = self.shared.requested.load(Ordering::Acquire);
        (requested > self.worker.epoch()).then_some(requested)
    }

    /// Whether to cut now: something happened, and the last cut is durable.
    pub(crate) fn wants_cut(&self) -> bool {
        self.worker.changed()
            && self.shared.durable.load(Ordering::Acquire) + 1 >= self.worker.epoch()
    }

    /// Runs what is there before a cut. The others are told first: an epoch is complete when the last worker has cut.
    pub(crate) fn run_before_cut(&mut self) -> Result<(), WorkerError> {
        if self.shared.request(self.worker.epoch() + 1) {
            self.shared.wake_all();
        }
        if self.shared.phase() < Phase::Frozen {
            self.run(CUT_BUDGET)?;
        }
        Ok(())
    }

    /// Runs messages up to a number, and up to a time; returns how many.
    fn run(&mut self, budget: usize) -> Result<usize, WorkerError> {
        let watch = Stopwatch::start();
        let mut left = budget;
        loop {
            let done = self.worker.run(left.min(SLICE))?;
            left = left.saturating_sub(done);
            if done == 0 || left == 0 || watch.elapsed() > RUN_FOR {
                return Ok(budget - left);
            }
        }
    }

    /// Runs messages and timers, and takes records in between.
    pub(crate) fn work(&mut self) -> Result<(), WorkerError> {
        let phase = self.shared.phase();
        if phase >= Phase::Frozen {
            return Ok(());
        }
        let done = self.run(RUN_BUDGET)?;
        self.worker.fire(TIMER_BUDGET)?;
        if phase != Phase::Running {
            return Ok(());
        }
        if self.may_admit() {
            for _ in 0..4 {
                if !self.may_admit() || !self.poll_sources(POLL_RECORDS)? {
                    break;
                }
                if self.requested().is_some() || self.wants_cut() {
                    break;
                }
                self.run(self.admission.own)?;
            }
            return Ok(());
        }
        let share = self
            .admission
            .share(&self.shared, self.index, &self.worker, done);
        if share > 0 {
            self.poll_sources(share)?;
        }
        Ok(())
    }

    fn may_admit(&self) -> bool {
        self.admission
            .is_open(&self.shared, self.index, &self.worker)
    }

    /// Takes up to so many records from each source; false when none had any.
    fn poll_sources(&mut self, limit: usize) -> Result<bool, WorkerError> {
        let mut any = false;
        let called = self.shared.take_call(self.index);
        for source in &mut self.sources {
            let due = match source.status {
                SourceStatus::Ready => true,
                SourceStatus::Idle => called,
                SourceStatus::After(pause) => called || source.polled.elapsed() >= pause,
                SourceStatus::Finished => false,
            };
            if !due {
                continue;
            }
            match source.source.poll(limit, &mut self.records) {
                Ok(status) => source.status = status,
                Err(error) => {
                    return Err(WorkerError::Record {
                        ingress: error.ingress,
                        problem: error.problem,
                    });
                }
            }
            source.polled = Stopwatch::start();
            if self.records.is_empty() {
                continue;
            }
            any = true;
            self.lag_is_old = true;
            let (worker, records) = (&mut self.worker, &mut self.records);
            let partition = source.partition.as_ref();
            routing(source.ingress, || {
                worker.admit_all(source.ingress, partition, records)
            })?;
        }
        Ok(any)
    }

    /// Passes on reads and operations, and publishes how much is under way.
    pub(crate) fn end(&mut self) {
        let effects = &mut self.worker.effects;
        if !effects.reads.is_empty() {
            let _ = self.outlets.reads.send((
                self.index,
                ToReader::Rows(std::mem::take(&mut effects.reads)),
            ));
        }
        for look in effects.looks.drain(..) {
            let _ = self.outlets.reads.send((self.index, ToReader::Look(look)));
        }
        for operation in effects.operations.drain(..) {
            (self.outlets.operations)(self.index, operation);
        }
        if self.worker.wants_apply() {
            self.shared.apply_soon.store(true, Ordering::Relaxed);
        }
        let quiet = self.worker.is_idle()
            && self.worker.open_operations() == 0
            && self.worker.held_retries() == 0
            && self
                .sources
                .iter()
                .all(|source| source.status == SourceStatus::Finished);
        if let (Some(backlog), Some(flag)) = (
            self.shared.backlog.get(self.index),
            self.shared.quiet.get(self.index),
        ) {
            backlog.store(self.worker.backlog(), Ordering::Relaxed);
            flag.store(quiet, Ordering::Relaxed);
        }
        self.worker.publish_cache();
        if self.lag_looked.elapsed() >= LAG_EVERY {
            self.look_for_lag();
        }
    }

    /// Publishes how far the sources are behind.
    fn look_for_lag(&mut self) {
        self.lag_looked = Stopwatch::start();
        self.lag_is_old = false;
        let mut ingresses: BTreeMap<u16, Option<Lag>> = BTreeMap::new();
        for source in &mut self.sources {
            let lag = source.source.lag();
            let sum = ingresses.entry(source.ingress).or_default();
            *sum = Lag::sum(*sum, lag);
        }
        for (ingress, lag) in ingresses {
            self.worker.publish_lag(ingress, lag);
        }
    }

    /// Whether there is something to do at once.
    pub(crate) fn is_busy(&self) -> bool {
        if self.shared.phase() >= Phase::Frozen {
            return self.requested().is_some() || !self.inbox.is_empty();
        }
        self.worker.runnable() > 0
            || self.wants_cut()
            || self.requested().is_some()
            || !self.inbox.is_empty()
            || (self.shared.phase() == Phase::Running
                && (self.shared.is_called(self.index)
                    || self
                        .sources
                        .iter()
                        .any(|source| source.status == SourceStatus::Ready))
                && self.may_admit())
    }

    /// How long the worker may sleep; none when only a call wakes it.
    pub(crate) fn may_sleep(&self) -> Option<Duration> {
        let mut pause: Option<Duration> = None;
        let mut at_most =
            |limit: Duration| pause = Some(pause.map_or(limit, |pause| pause.min(limit)));
        if let Some(due) = self.worker.next_due() {
            at_most(due.since(self.now()).max(Duration::from_micros(200)));
        }
        if self.lag_is_old {
            at_most(LAG_EVERY.saturating_sub(self.lag_looked.elapsed()));
        }
        if self.shared.phase() == Phase::Running {
            let called = self.shared.is_called(self.index);
            for source in &self.sources {
                match source.status {
                    SourceStatus::After(wait) => {
                        at_most(wait.saturating_sub(source.polled.elapsed()));
                    }
                    // It has records that may not be admitted yet.
                    SourceStatus::Ready => at_most(Duration::from_millis(1)),
                    SourceStatus::Idle if called => at_most(Duration::from_millis(1)),
                    SourceStatus::Idle | SourceStatus::Finished => {}
                }
            }
        }
        pause
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Ends the engine.
    pub(crate) fn fail(&self, error: WorkerError) {
        self.shared.fail(error);
    }
}
