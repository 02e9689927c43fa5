//! Starting the engine of a data directory: recovery, then workers, sinks and ingresses; and stopping it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use thiserror::Error;
use tokio::sync::watch;

use crate::catalog::{Catalog, CatalogError, DataDirectory};
use crate::clock::{Stopwatch, Timestamp, WallClock};
use crate::disk::DiskLock;
use crate::engine::apply::{Window, catch_up};
use crate::engine::commit::GroupCommit;
use crate::engine::cut::{EpochBody, SinkPosition};
use crate::engine::dataflow::{self, Workers};
use crate::engine::dead_letters::DeadLetterDesk;
use crate::engine::driver::{ActiveSource, Driver, Outlets, ToCommit, ToWorker};
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::handle::EngineHandle;
use crate::engine::registry::Registry;
use crate::engine::shared::{EngineError, Phase, Shared};
use crate::engine::sinks::{SinkFeed, SinkRunner};
use crate::engine::stored::orphans;
use crate::engine::threads::{Applier, Committer, read_cold_state, spawn};
use crate::engine::watchdog::Watched;
use crate::engine::worker::{StartOperation, Worker, WorkerSetup, partition_address};
use crate::id::MessageTypeId;
use crate::io::clients::Clients;
use crate::io::egress::{Egress, EgressContext, EgressError};
use crate::io::ingress::{Ingress, IngressContext, IngressError, SourceStatus};
use crate::log::{EpochLog, LogError, OpenOptions};
use crate::rand::Random;
use crate::state::fjall::FjallStore;
use crate::state::keys::{Space, parse_address_key, take_escaped};
use crate::state::{StateError, StateReader, StateStore};
use crate::steps::{Step, reached};

/// How an engine is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Worker threads.
    pub workers: usize,
    /// What the instances of all workers may occupy in memory, in bytes; what the state store has not applied yet comes on top.
    pub cache_bytes: usize,
    /// Bytes of the epoch log above which nothing is taken in until the state store and the sinks have caught up.
    pub max_log_bytes: u64,
    /// Bytes of memory for changed rows that are applied to the state store together.
    pub apply_bytes: usize,
    /// How long changes may stay in the epoch log alone before they are applied to the state store.
    pub apply_after: Duration,
    /// How long a handler may run before it is reported as blocking its worker.
    pub warn_after: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            workers: 1,
            cache_bytes: 512 << 20,
            max_log_bytes: 4 << 30,
            apply_bytes: 256 << 20,
            apply_after: Duration::from_secs(10),
            warn_after: Duration::from_millis(100),
        }
    }
}

/// What an engine runs.
pub struct EngineSetup {
    /// The application.
    pub registry: Registry,
    /// Where its data lies.
    pub directory: DataDirectory,
    /// How it is set up.
    pub settings: EngineSettings,
    /// Its ingresses, by id.
    pub ingresses: Vec<(String, Box<dyn Ingress>)>,
    /// Its egresses, by id.
    pub egresses: Vec<(String, Box<dyn Egress>)>,
    /// Functions (`ns/name`) and states (`ns/name:state`) whose data may be deleted since the code no longer has them.
    pub drop_data: Vec<String>,
    /// Where egresses leave what their receivers refuse.
    pub(crate) dead_letters: DeadLetterDesk,
    /// The clock of all its threads.
    pub(crate) clock: Arc<WallClock>,
    /// Where asynchronous work runs.
    pub runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for EngineSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineSetup")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// Why an engine could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another process uses the data directory.
    #[error("{} is in use by another process: stop that process, or give this one a data directory of its own", .0.display())]
    InUse(std::path::PathBuf),
    /// The data directory's catalog, or the application does not fit it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The epoch log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// An ingress.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// An egress.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A thread or a worker.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the last epoch carried cannot be read.
    #[error("the last epoch of the log cannot be continued: {0}")]
    Carried(#[from] EnvelopeError),
    /// The last epoch's record is not one.
    #[error("the record of epoch {0} is malformed")]
    Record(u64),
}

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The last complete epoch.
    pub epoch: u64,
    /// How often the data directory has been started, this time included.
    pub attempt: u64,
    /// Epochs that had to be applied to the state store first.
    pub replayed_epochs: u64,
    /// Messages that were under way.
    pub carried_messages: usize,
    /// What it all took.
    pub duration: Duration,
}

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    workers: Option<Workers>,
    threads: Vec<JoinHandle<()>>,
    sinks: Vec<JoinHandle<()>>,
    feeds: Vec<Arc<SinkFeed>>,
    inboxes: Vec<Sender<ToWorker>>,
    commit: Sender<ToCommit>,
    applier: std::thread::Thread,
    stopping: watch::Sender<bool>,
    registry: Arc<Registry>,
    recovery: Recovery,
    // Held until all threads have ended.
    _lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

struct PerWorker {
    inbox: Receiver<ToWorker>,
    sources: Vec<ActiveSource>,
    carried: Vec<Envelope>,
}

/// The data of a directory, ready to go on with.
struct Recovered {
    lock: Box<dyn DiskLock>,
    log: EpochLog,
    store: Arc<FjallStore>,
    lineage: u64,
    time: Timestamp,
    sinks: Vec<SinkPosition>,
    carried: Vec<Envelope>,
    summary: Recovery,
}

fn recover(setup: &mut EngineSetup) -> Result<Recovered, StartError> {
    let watch = Stopwatch::start();
    let directory = &setup.directory;
    let disk = &directory.disk;
    disk.create_dir_all(&directory.root)
        .map_err(|source| CatalogError::Io {
            operation: "create",
            path: directory.root.clone(),
            source,
        })?;
    let lock = disk
        .lock(&directory.lock())
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => StartError::InUse(directory.root.clone()),
            _ => CatalogError::Io {
                operation: "lock",
                path: directory.lock(),
                source,
            }
            .into(),
        })?;
    let catalog = Catalog::read(&**disk, &directory.root)?;
    let lineage = catalog.as_ref().map_or_else(
        || Random::from_system().next_u64(),
        |catalog| catalog.lineage,
    );
    if let Some(catalog) = &catalog {
        setup.registry.key_groups = catalog.key_groups;
    }
    let now = Catalog::of(&setup.registry, lineage);
    if catalog.is_none() {
        // Before the log and the store, which are nothing without it.
        now.write(&**disk, &directory.root)?;
    }
    let mut last = Vec::new();
    let store = Arc::new(FjallStore::open(&directory.state(), STORE_CACHE_BYTES)?);
    let mut options = OpenOptions::new(lineage);
    options.applied_epoch = store.applied_epoch()?;
    let opened = open_log(setup, &options, &mut last)?;
    let applied = catch_up(
        &*store,
        &opened.log.reader(),
        options.applied_epoch,
        setup.settings.apply_bytes,
    )?;
    if let Some(catalog) = &catalog {
        let dropped = &setup.drop_data;
        let next = catalog.succeed(&now, &*store, &last, &directory.root, dropped)?;
        if !dropped.is_empty() {
            drop_rows(catalog, &setup.registry, &*store, dropped, applied)?;
        }
        if next != *catalog {
            next.write(&**disk, &directory.root)?;
        }
    }
    let mut recovered = Recovered {
        lock,
        store,
        lineage,
        time: Timestamp::default(),
        sinks: Vec::new(),
        carried: Vec::new(),
        summary: Recovery {
            epoch: opened.last_epoch,
            attempt: opened.attempt,
            replayed_epochs: applied - options.applied_epoch.min(applied),
            carried_messages: 0,
            duration: Duration::ZERO,
        },
        log: opened.log,
    };
    if !last.is_empty() {
        let body = EpochBody::parse(&last).ok_or(StartError::Record(opened.last_epoch))?;
        recovered.time = body.time;
        for section in &body.sections {
            let mut bytes = Bytes::copy_from_slice(section.carried);
            while !bytes.is_empty() {
                match Envelope::decode(&mut bytes, &setup.registry) {
                    Ok(envelope) => recovered.carried.push(envelope),
                    // The catalog has let it pass: its data was to be dropped.
                    Err(EnvelopeError::UnknownFunction(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        recovered.sinks = body.sinks;
    }
    recovered.summary.carried_messages = recovered.carried.len();
    recovered.summary.duration = watch.elapsed();
    Ok(recovered)
}

/// What fjall may use for the blocks of its tables, in bytes.
const STORE_CACHE_BYTES: u64 = 64 << 20;

fn open_log(
    setup: &EngineSetup,
    options: &OpenOptions,
    last: &mut Vec<u8>,
) -> Result<crate::log::Recovered, StartError> {
    let mut keep = |record: crate::log::RecordView<'_>| -> Result<(), std::convert::Infallible> {
        last.clear();
        last.extend_from_slice(record.body);
        Ok(())
    };
    Ok(EpochLog::open(
        setup.directory.disk.clone(),
        setup.directory.log(),
        options,
        &mut keep,
    )?)
}

/// Deletes the rows of functions and states that the operator has given up.
fn drop_rows(
    catalog: &Catalog,
    registry: &Registry,
    store: &dyn StateStore,
    dropped: &[String],
    applied: u64,
) -> Result<(), StateError> {
    let mut keys = orphans(store, registry)?;
    let numbers = catalog.dropped_numbers(dropped);
    for space in Space::OWNED {
        crate::engine::stored::each_row(store, space, |key, _| {
            let Some(parsed) = parse_address_key(&key) else {
                return;
            };
            let given_up = numbers.iter().any(|(function, state)| {
                parsed.function.0 == *function
                    && match state {
                        None => !matches!(space, Space::Timer | Space::DeadLetter),
                        Some(state) => {
                            space == Space::State && parsed.rest.starts_with(&state.to_be_bytes())
                        }
                    }
            });
            if given_up {
                keys.push(key);
            }
        })?;
    }
    keys.sort_unstable();
    keys.dedup();
    tracing::info!(
        rows = keys.len(),
        ?dropped,
        "data of removed functions and states is deleted"
    );
    store.apply(applied, &mut keys.iter().map(|key| (&key[..], None)))
}

/// The positions of an ingress' partitions.
fn positions(
    store: &dyn StateReader,
    ingress: &str,
) -> Result<BTreeMap<String, Bytes>, StateError> {
    let source = partition_address(ingress, "").function().function_type_id();
    let mut positions = BTreeMap::new();
    crate::engine::stored::each_row(store, Space::Source, |key, value| {
        let Some(parsed) = parse_address_key(&key).filter(|parsed| parsed.function == source)
        else {
            return;
        };
        let mut id = parsed.id.as_bytes();
        if take_escaped(&mut id).is_some_and(|of| of == ingress.as_bytes()) {
            positions.insert(String::from_utf8_lossy(id).into_owned(), Bytes::from(value));
        }
    })?;
    Ok(positions)
}

impl Engine {
    /// Recovers the data directory and starts everything. When it returns, all workers have taken up what the last
    /// epoch left, and all ingresses are polled.
    pub fn start(mut setup: EngineSetup) -> Result<Self, StartError> {
        let recovered = recover(&mut setup)?;
        reached(Step::Recovered);
        let registry = Arc::new(setup.registry);
        let settings = setup.settings;
        let workers = settings.workers.max(1);
        let summary = recovered.summary;
        let shared = Arc::new(Shared::new(workers, summary.epoch, summary.epoch));
        let clients = Arc::new(Clients::default());
        let (stopping, stop_signal) = watch::channel(false);
        let (commit, commit_input) = crossbeam_channel::unbounded();
        let (inboxes, inbox_ends): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| crossbeam_channel::unbounded()).unzip();
        let clock = setup.clock;
        clock.raise(recovered.time);

        let mut engine = Self {
            shared: shared.clone(),
            workers: None,
            threads: Vec::new(),
            sinks: Vec::new(),
            feeds: Vec::new(),
            inboxes: inboxes.clone(),
            commit: commit.clone(),
            applier: std::thread::current(),
            stopping,
            registry: registry.clone(),
            recovery: summary,
            _lock: recovered.lock,
        };
        if let Some(first) = inboxes.first() {
            setup.dead_letters.open(first.clone(), shared.clone());
        }
        let sources = open_ingresses(
            setup.ingresses,
            &registry,
            &*recovered.store,
            workers,
            &shared,
            &clients,
            &setup.runtime,
            &stop_signal,
        )?;
        let sink_ids: Vec<String> = setup.egresses.iter().map(|(id, _)| id.clone()).collect();
        let runners = open_egresses(
            setup.egresses,
            &recovered.log,
            (recovered.lineage, &recovered.sinks),
            &registry,
            &commit,
            &shared,
            &setup.runtime,
            &stop_signal,
        )?;
        engine.feeds = runners.iter().map(|runner| runner.feed.clone()).collect();

        let accepted = Arc::new(AtomicU64::new(0));
        let applier = Applier {
            store: recovered.store.clone(),
            log: recovered.log.reader(),
            retention: recovered.log.retention(),
            shared: shared.clone(),
            accepted: accepted.clone(),
            window: Window::new(),
            window_bytes: settings.apply_bytes,
            apply_after: settings.apply_after,
            max_log_bytes: settings.max_log_bytes,
        };
        let applier = spawn("statefun-apply", move || applier.run())?;
        engine.applier = applier.thread().clone();
        engine.threads.push(applier);
        let committer = Committer {
            commit: GroupCommit::new(recovered.log, workers, &sink_ids, recovered.sinks),
            input: commit_input,
            shared: shared.clone(),
            clients,
            feeds: engine.feeds.clone(),
            workers: inboxes.clone(),
            clock: clock.clone(),
            accepted,
            applier: engine.applier.clone(),
        };
        engine
            .threads
            .push(spawn("statefun-commit", move || committer.run())?);
        for runner in runners {
            engine
                .sinks
                .push(spawn(&format!("sink {}", runner.id), move || runner.run())?);
        }
        let (reads, read_requests) = crossbeam_channel::unbounded();
        {
            let (store, inboxes, shared) =
                (recovered.store.clone(), inboxes.clone(), shared.clone());
            engine.threads.push(spawn("statefun-read", move || {
                read_cold_state(&read_requests, &*store, &inboxes, &shared);
            })?);
        }
        let watched: Arc<Vec<Watched>> =
            Arc::new((0..workers).map(|_| Watched::default()).collect());
        {
            let (watched, shared, warn_after) =
                (watched.clone(), shared.clone(), settings.warn_after);
            engine.threads.push(spawn("statefun-watch", move || {
                crate::engine::watchdog::watch(&watched, &shared, warn_after);
            })?);
        }
        let outlets = Outlets {
            commit,
            reads,
            operations: operations(&setup.runtime, &inboxes, &shared),
        };
        let mut carried: Vec<Vec<Envelope>> = (0..workers).map(|_| Vec::new()).collect();
        for envelope in recovered.carried {
            let owner = registry
                .key_groups
                .owner(envelope.to.key_group(registry.key_groups), workers);
            if let Some(own) = carried.get_mut(owner) {
                own.push(envelope);
            }
        }
        let per_worker: Vec<Mutex<Option<PerWorker>>> = inbox_ends
            .into_iter()
            .zip(sources)
            .zip(carried)
            .map(|((inbox, sources), carried)| {
                Mutex::new(Some(PerWorker {
                    inbox,
                    sources,
                    carried,
                }))
            })
            .collect();
        let store_is_empty = recovered
            .store
            .scan(&[Space::State as u8], &[], 1)?
            .is_empty();
        let everyone = Barrier::new(workers);
        let (store, seed) = (recovered.store, Random::from_system().next_u64());
        let make = {
            let shared = shared.clone();
            move |index: usize| -> Result<Driver, EngineError> {
                let own = per_worker
                    .get(index)
                    .and_then(|own| own.lock().unwrap_or_else(PoisonError::into_inner).take());
                let own = own.ok_or_else(|| {
                    EngineError::Thread(format!("worker {index} was started twice"))
                })?;
                let recovered = Worker::new(WorkerSetup {
                    index,
                    workers,
                    registry: registry.clone(),
                    store: store.clone(),
                    last_epoch: summary.epoch,
                    applied_epoch: summary.epoch,
                    store_is_empty,
                    cache_bytes: settings.cache_bytes / workers,
                    seed,
                    watched: Some((watched.clone(), index)),
                })
                .and_then(|mut worker| {
                    worker.recover(own.carried, clock.now())?;
                    Ok(worker)
                });
                // Nobody runs anything before all have what they must run first.
                everyone.wait();
                let (shared, outlets) = (shared.clone(), outlets.clone());
                Ok(Driver::new(
                    index,
                    recovered?,
                    shared,
                    own.inbox,
                    outlets,
                    own.sources,
                    clock.clone(),
                ))
            }
        };
        engine.workers = Some(dataflow::start(workers, &shared, Arc::new(make))?);
        Ok(engine)
    }

    /// What recovery found.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The last durable epoch.
    pub fn durable_epoch(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The last epoch that the state store has applied.
    pub fn applied_epoch(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// Invocations since the start.
    pub fn invocations(&self) -> u64 {
        self.shared
            .invocations
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether the engine has stopped by itself.
    pub fn has_stopped(&self) -> bool {
        self.shared.phase() == Phase::Stopped
    }

    /// Whether all sources have ended and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.shared
            .quiet
            .iter()
            .all(|quiet| quiet.load(Ordering::Relaxed))
            && self
                .shared
                .in_transit
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 0)
    }

    /// What others may ask, and give commands by, while it runs.
    pub fn handle(&self) -> EngineHandle {
        EngineHandle {
            shared: self.shared.clone(),
            inboxes: self.inboxes.clone(),
            registry: self.registry.clone(),
            recovery: self.recovery,
        }
    }

    /// Stops: nothing new is taken in, the current epoch becomes durable, its output leaves, and all threads end.
    /// What is still under way goes on at the next start.
    pub fn stop(self) -> Result<(), EngineError> {
        let _ = self.stopping.send(true);
        self.shared.enter_phase(Phase::Draining);
        let watch = Stopwatch::start();
        let under_way = || {
            self.shared
                .backlog
                .iter()
                .chain(&self.shared.in_transit)
                .any(|count| count.load(Ordering::Relaxed) > 0)
        };
        while under_way() && watch.elapsed() < DRAIN_FOR && !self.has_stopped() {
            crate::clock::pause(Duration::from_millis(1));
        }
        self.shared.enter_phase(Phase::Frozen);
        self.one_more_epoch();
        // The sinks deliver all that is durable; what they have accepted is part of one last epoch.
        for feed in &self.feeds {
            feed.close();
        }
        for sink in self.sinks {
            let _ = sink.join();
        }
        one_more_epoch(&self.shared);
        self.shared.enter_phase(Phase::Stopped);
        let joined = self.workers.map_or(Ok(()), Workers::join);
        let _ = self.commit.send(ToCommit::Stop);
        self.applier.unpark();
        drop(self.inboxes);
        for thread in self.threads {
            let _ = thread.join();
        }
        match self.shared.take_failure() {
            Some(error) => Err(error),
            None => joined,
        }
    }

    fn one_more_epoch(&self) {
        one_more_epoch(&self.shared);
    }
}

/// How long a stop waits for what is under way; the rest is carried to the next start.
const DRAIN_FOR: Duration = Duration::from_millis(500);

/// Has all workers cut once more, and waits until that is durable.
fn one_more_epoch(shared: &Shared) {
    let cut = shared.requested.load(Ordering::SeqCst);
    shared.request(cut + 1);
    while shared.durable.load(Ordering::SeqCst) < cut && shared.phase() != Phase::Stopped {
        shared.wake_all();
        crate::clock::pause(Duration::from_micros(500));
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is one thing that every ingress context holds"
)]
fn open_ingresses(
    ingresses: Vec<(String, Box<dyn Ingress>)>,
    registry: &Arc<Registry>,
    store: &dyn StateReader,
    workers: usize,
    shared: &Arc<Shared>,
    clients: &Arc<Clients>,
    runtime: &tokio::runtime::Handle,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<Vec<ActiveSource>>, StartError> {
    let mut sources: Vec<Vec<ActiveSource>> = (0..workers).map(|_| Vec::new()).collect();
    let wakers: Vec<_> = (0..workers).map(|worker| shared.waker(worker)).collect();
    for (id, mut ingress) in ingresses {
        let context = IngressContext {
            positions: positions(store, &id)?,
            id,
            workers,
            decoder: registry.decoder(),
            runtime: runtime.clone(),
            stopping: stopping.clone(),
            clients: clients.clone(),
            wakers: wakers.clone(),
            key_groups: registry.key_groups,
        };
        let index = registry
            .ingress_index(&context.id)
            .ok_or_else(|| context.error("it is not wired"))?;
        for partition in ingress.open(&context)? {
            let own = sources.get_mut(partition.worker).ok_or_else(|| {
                context.error(format_args!(
                    "a partition names worker {}, and there are {workers}",
                    partition.worker
                ))
            })?;
            own.push(ActiveSource {
                ingress: index,
                partition: partition
                    .name
                    .map(|name| partition_address(&context.id, &name)),
                source: partition.source,
                status: SourceStatus::Ready,
                polled: Stopwatch::start(),
            });
        }
    }
    Ok(sources)
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is one thing that every sink holds"
)]
fn open_egresses(
    egresses: Vec<(String, Box<dyn Egress>)>,
    log: &EpochLog,
    (lineage, positions): (u64, &[SinkPosition]),
    registry: &Arc<Registry>,
    commit: &Sender<ToCommit>,
    shared: &Arc<Shared>,
    runtime: &tokio::runtime::Handle,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<SinkRunner>, StartError> {
    let names = {
        let registry = registry.clone();
        Arc::new(move |id: MessageTypeId| registry.type_name(id))
    };
    let mut runners = Vec::new();
    for (id, mut egress) in egresses {
        let known = positions.iter().find(|position| position.egress == id);
        egress.open(&EgressContext {
            id: id.clone(),
            position: known.map(|known| known.position.clone()),
            lineage,
            runtime: runtime.clone(),
            stopping: stopping.clone(),
        })?;
        runners.push(SinkRunner {
            feed: Arc::new(SinkFeed::reading_from(
                known.map_or(0, |known| known.through_epoch) + 1,
            )),
            id,
            egress,
            log: log.reader(),
            commit: commit.clone(),
            shared: shared.clone(),
            names: names.clone(),
        });
    }
    Ok(runners)
}

/// Runs operations on the asynchronous runtime, and brings their ends back to their worker.
fn operations(
    runtime: &tokio::runtime::Handle,
    inboxes: &[Sender<ToWorker>],
    shared: &Arc<Shared>,
) -> Arc<dyn Fn(usize, StartOperation) + Send + Sync> {
    let (runtime, inboxes, shared) = (runtime.clone(), inboxes.to_vec(), shared.clone());
    Arc::new(move |worker, start| {
        let Some(inbox) = inboxes.get(worker).cloned() else {
            return;
        };
        let shared = shared.clone();
        let running = runtime.spawn(start.operation);
        runtime.spawn(async move {
            // A future that panics leaves its end unknown.
            let result = running.await.unwrap_or(start.unknown);
            let _ = inbox.send(ToWorker::Operation {
                address: start.address,
                id: start.id,
                result,
            });
            shared.wake(worker);
        });
    })
}
