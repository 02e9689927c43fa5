//! The thread that makes checkpoints: every so often, and when it is asked.
//!
//! With `durability: local` nothing waits for it. While the blob store fails it tries again, says so, and the next
//! checkpoint has what has changed meanwhile. Only one thing ends the application: another process has taken over.

mod owning;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::oneshot;

use crate::catalog::Catalog;
use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::chain::{self};
use crate::checkpoint::changes::ChangeLog;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::kept::KeptEpochs;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::local::Local;
use crate::checkpoint::make::{Made, Site};
use crate::checkpoint::manifest::{Descriptor, Entry, Manifest, Writer};
use crate::checkpoint::plan::Credit;
use crate::checkpoint::status::Status;
use crate::checkpoint::uploads::Waiting;
use crate::clock::{Stopwatch, WallClock};
use crate::engine::priority::yield_to_workers;
use crate::engine::shared::{Phase, Shared};
use crate::log::{EpochLog, LogReader, Retention};
use crate::settings::Durability;
use crate::state::StateStore;
use crate::steps::{Step, reached};

/// How long after a failure it is tried again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the state store may take to get what is durable before a checkpoint is made of what it has.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Checkpoints between two looks for what interrupted uploads have left.
const SWEEP_EVERY: u64 = 100;

/// A checkpoint that somebody asks for.
pub(crate) struct Request {
    /// Its name; one without is kept as long as those that are made every so often.
    pub(crate) name: Option<String>,
    pub(crate) reply: oneshot::Sender<Result<Entry, CheckpointError>>,
}

/// What the thread is told.
pub(crate) enum ToCheckpointer {
    Make(Request),
    Stop,
}

/// Asks the thread for checkpoints, and knows how they go.
#[derive(Clone)]
pub(crate) struct CheckpointDesk {
    pub(crate) requests: Sender<ToCheckpointer>,
    pub(crate) status: Arc<Status>,
}

impl CheckpointDesk {
    /// Has a checkpoint of what is durable now made, and waits for it.
    pub(crate) async fn make(&self, name: Option<String>) -> Result<Entry, CheckpointError> {
        let (reply, made) = oneshot::channel();
        let _ = self
            .requests
            .send(ToCheckpointer::Make(Request { name, reply }));
        made.await.unwrap_or(Err(CheckpointError::Stopped))
    }
}

/// See the module's page.
pub(crate) struct Checkpointer {
    pub(crate) bucket: Bucket,
    pub(crate) waiting: Waiting,
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) log: LogReader,
    pub(crate) retention: Retention,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) catalog: Catalog,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<WallClock>,
    pub(crate) directory: PathBuf,
    pub(crate) local: Local,
    pub(crate) writer: Writer,
    /// How often a checkpoint is made.
    pub(crate) interval: Duration,
    /// How many without a name are kept.
    pub(crate) retain: usize,
    /// When an epoch is complete.
    pub(crate) durability: Durability,
    requests: Receiver<ToCheckpointer>,
    desk: CheckpointDesk,
    progress: Progress,
    /// The epochs that the blob store has beside checkpoints, with `durability: blob`.
    pub(crate) kept: Arc<KeptEpochs>,
}

/// Where checkpoints go, and when.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// The blob store.
    pub bucket: Bucket,
    /// How often a checkpoint is made.
    pub interval: Duration,
    /// How many without a name are kept; one at least.
    pub retain: usize,
    /// When an epoch is complete.
    pub durability: Durability,
}

/// What is known from one checkpoint to the next.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    ledger: Option<Ledger>,
    /// What the next one goes on from.
    previous: Option<(Entry, Descriptor)>,
    credit: Credit,
    /// Objects that were named.
    number: u64,
    made: u64,
}

/// What a data directory has of its checkpoints.
pub(crate) struct CheckpointsFrom {
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) catalog: Catalog,
    pub(crate) local: Local,
    pub(crate) writer: Writer,
    pub(crate) directory: PathBuf,
}

impl Checkpointer {
    pub(crate) fn new(
        checkpoints: Checkpoints,
        from: CheckpointsFrom,
        waiting: Waiting,
        (log, store): (&EpochLog, Arc<dyn StateStore>),
        (shared, clock): (Arc<Shared>, Arc<WallClock>),
    ) -> Self {
        let (sender, requests) = crossbeam_channel::unbounded();
        let Checkpoints {
            bucket,
            interval,
            retain,
            durability,
        } = checkpoints;
        let desk = CheckpointDesk {
            requests: sender,
            status: Arc::new(Status::new(bucket.url(), interval)),
        };
        Self {
            bucket,
            waiting,
            store,
            log: log.reader(),
            retention: log.retention(),
            changes: from.changes,
            catalog: from.catalog,
            shared,
            clock,
            directory: from.directory,
            local: from.local,
            writer: from.writer,
            interval,
            retain,
            durability,
            requests,
            desk,
            progress: Progress::default(),
            kept: Arc::default(),
        }
    }

    pub(crate) fn desk(&self) -> CheckpointDesk {
        self.desk.clone()
    }

    pub(crate) fn run(mut self) {
        yield_to_workers();
        // What there was before the start is soon in a checkpoint.
        let mut pause = Some(Duration::ZERO);
        let mut since = Stopwatch::start();
        loop {
            let due = pause.unwrap_or(self.interval);
            let request = match self
                .requests
                .recv_timeout(due.saturating_sub(since.elapsed()))
            {
                Ok(ToCheckpointer::Make(request)) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Ok(ToCheckpointer::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.shared.phase() == Phase::Stopped {
                return;
            }
            let name = request.as_ref().and_then(|request| request.name.clone());
            let is_asked = request.is_some();
            self.desk.status.begins();
            let watch = Stopwatch::start();
            let made = self.checkpoint(name.as_deref(), is_asked);
            since = Stopwatch::start();
            let fatal = made.as_ref().is_err_and(CheckpointError::is_fatal);
            match &made {
                Ok(entry) => {
                    self.desk
                        .status
                        .made(entry.as_ref(), watch.elapsed(), self.clock.now());
                    pause = None;
                }
                Err(CheckpointError::Stopped | CheckpointError::NameTaken(_)) => {
                    self.desk.status.ends();
                }
                // What ends the application is told as that.
                Err(_) if fatal => {}
                Err(error) => {
                    self.desk.status.failed(error, self.clock.now());
                    let longer = pause.map_or(FIRST_PAUSE, |pause| (pause * 2).max(FIRST_PAUSE));
                    let longest = LONGEST_PAUSE.min(self.interval.max(FIRST_PAUSE));
                    pause = Some(longer.min(longest));
                }
            }
            match (request, made) {
                (Some(request), Ok(Some(entry))) => {
                    let _ = request.reply.send(Ok(entry));
                }
                (Some(request), Ok(None)) => {
                    let _ = request.reply.send(Err(CheckpointError::Empty));
                }
                (Some(request), Err(error)) if !fatal => {
                    let _ = request.reply.send(Err(error));
                }
                (_, Err(error)) if fatal => {
                    self.shared.fail(error);
                    return;
                }
                _ => {}
            }
        }
    }

    /// Makes a checkpoint of what is durable now, unless there is one. Returns it; none when there is nothing to keep yet, or when nothing has
    /// changed and nobody has asked.
    fn checkpoint(
        &mut self,
        name: Option<&str>,
        is_asked: bool,
    ) -> Result<Option<Entry>, CheckpointError> {
        // While the blob store fails, more and more files wait.
        while self.changes.merge()? {}
        self.own(None)?;
        if let Some(ledger) = &self.progress.ledger {
            refuse_taken(ledger.manifest(), name)?;
        }
        self.let_store_follow();
        let now = self.clock.now();
        let previous = self.progress.previous.as_ref();
        let mut site = Site {
            bucket: &self.bucket,
            waiting: &self.waiting,
            store: &*self.store,
            log: &self.log,
            retention: &self.retention,
            changes: &self.changes,
            catalog: &self.catalog,
            prefix: format!(
                "{:016x}-{}-{:016x}",
                self.writer.lineage, self.writer.attempt, self.writer.token
            ),
            number: self.progress.number,
            lineage: self.writer.lineage,
            attempt: self.writer.attempt,
            start: self.writer.token,
            superfluous: Vec::new(),
        };
        let previous = previous.map(|(_, descriptor)| descriptor);
        let made = site.make(previous, is_asked, &mut self.progress.credit, now);
        self.progress.number = site.number;
        match made? {
            Some(made) => self.publish(made, name).map(Some),
            None if !is_asked => Ok(None),
            // There is one of this epoch.
            None => self.name_latest(name),
        }
    }

    /// Waits until the state store has what is durable now, or for a while.
    fn let_store_follow(&self) {
        let durable = self.shared.durable.load(Ordering::Acquire);
        let watch = Stopwatch::start();
        while !self.shared.apply_through(durable)
            && watch.elapsed() < STORE_PATIENCE
            && self.shared.phase() != Phase::Stopped
        {
            crate::clock::pause(LOOK_EVERY);
        }
    }

    /// Has the manifest name a checkpoint, and forgets what need not be kept any more.
    fn publish(&mut self, made: Made, name: Option<&str>) -> Result<Entry, CheckpointError> {
        let Made {
            descriptor,
            mut entry,
            contained,
            superfluous,
        } = made;
        entry.name = name.map(str::to_owned);
        reached(Step::Uploaded);
        let ledger = self
            .progress
            .ledger
            .as_mut()
            .ok_or(CheckpointError::Stopped)?;
        let before = ledger.manifest().clone();
        let from = self
            .progress
            .previous
            .as_ref()
            .map(|(from, _)| from.object.clone());
        let (new, retain) = (entry.clone(), self.retain);
        let replaced = self.waiting.on(ledger.replace(|manifest| {
            if manifest
                .checkpoints
                .iter()
                .any(|entry| entry.object == new.object)
            {
                return Ok(());
            }
            refuse_taken(manifest, name)?;
            if let Some(from) = &from
                && !manifest
                    .checkpoints
                    .iter()
                    .any(|entry| entry.object == *from)
            {
                return Err(CheckpointError::Overtaken(
                    "the checkpoint before was removed meanwhile",
                ));
            }
            manifest.checkpoints.push(new.clone());
            retire(manifest, retain);
            Ok(())
        }));
        if let Err(error) = replaced {
            if matches!(error, CheckpointError::Overtaken(_)) {
                self.progress.previous = None;
            }
            return Err(error);
        }
        reached(Step::Published);
        ledger.know(&entry, &descriptor);
        self.progress.previous = Some((entry.clone(), descriptor));
        self.progress.made += 1;
        self.changes.remove(&contained)?;
        for sequence in self.kept.take_through(entry.epoch) {
            let name = chain::name(self.writer.lineage, sequence);
            if let Err(error) = self.waiting.on(self.bucket.delete(&name)) {
                tracing::debug!(%error, "an object of epochs that a checkpoint has is still there");
            }
        }
        // What is not removed now is found by a sweep.
        let removed = async {
            ledger.remove_dropped(&before).await?;
            ledger.remove(superfluous.iter()).await
        };
        if let Err(error) = self.waiting.on(removed) {
            tracing::debug!(%error, "objects of dropped checkpoints are still there");
        }
        reached(Step::Collected);
        if self.progress.made % SWEEP_EVERY == 1 {
            self.sweep();
        }
        Ok(entry)
    }

    /// Gives the newest checkpoint a name.
    fn name_latest(&mut self, name: Option<&str>) -> Result<Option<Entry>, CheckpointError> {
        let Some((latest, _)) = self.progress.previous.clone() else {
            return Ok(None);
        };
        let (Some(name), Some(ledger)) = (name, self.progress.ledger.as_mut()) else {
            return Ok(Some(latest));
        };
        let mut named = latest.clone();
        named.name = Some(name.to_owned());
        self.waiting.on(ledger.replace(|manifest| {
            if manifest.checkpoints.contains(&named) {
                return Ok(());
            }
            refuse_taken(manifest, Some(name))?;
            let known = manifest
                .checkpoints
                .iter_mut()
                .find(|entry| entry.object == latest.object);
            match known {
                Some(known) if known.name.is_none() => known.name.clone_from(&named.name),
                Some(_) => manifest.checkpoints.push(named.clone()),
                None => {
                    return Err(CheckpointError::Overtaken(
                        "the checkpoint before was removed meanwhile",
                    ));
                }
            }
            Ok(())
        }))?;
        Ok(Some(named))
    }

    /// Removes what interrupted uploads have left. It costs nothing when that fails.
    fn sweep(&mut self) {
        if let Some(ledger) = &mut self.progress.ledger {
            match self.waiting.on(ledger.sweep()) {
                Ok(0) => {}
                Ok(objects) => tracing::info!(objects, "removed what interrupted uploads had left"),
                Err(error) => {
                    tracing::debug!(%error, "what interrupted uploads have left stays for now");
                }
            }
        }
    }
}

fn refuse_taken(manifest: &Manifest, name: Option<&str>) -> Result<(), CheckpointError> {
    match name {
        Some(name) if manifest.find(name).is_some() => {
            Err(CheckpointError::NameTaken(name.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Leaves out the oldest checkpoints without a name, so that so many remain; the newest of all always does.
pub(crate) fn retire(manifest: &mut Manifest, retain: usize) {
    let unnamed = manifest
        .checkpoints
        .iter()
        .filter(|entry| entry.name.is_none())
        .count();
    let mut surplus = unnamed.saturating_sub(retain.max(1));
    manifest.checkpoints.retain(|entry| {
        let goes = surplus > 0 && entry.name.is_none();
        surplus -= usize::from(goes);
        !goes
    });
}
