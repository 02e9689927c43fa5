//! Starting the engine of a data directory: recovery, then workers, sinks and ingresses.

mod stopping;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use thiserror::Error;
use tokio::sync::watch;

use crate::catalog::{CatalogError, DataDirectory};
use crate::checkpoint::Checkpoints;
use crate::checkpoint::checkpointer::{CheckpointDesk, Checkpointer};
use crate::checkpoint::uploads::Waiting;
use crate::clock::WallClock;
use crate::disk::DiskLock;
use crate::engine::accepted::Accepted;
use crate::engine::applier::Applier;
use crate::engine::apply::Window;
use crate::engine::commit::GroupCommit;
use crate::engine::connect::Connect;
use crate::engine::current;
use crate::engine::dataflow::{self, Workers};
use crate::engine::dead_letters::DeadLetterDesk;
use crate::engine::driver::{ActiveSource, Driver, Outlets, ToCommit, ToWorker};
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::gatherer::{Gatherer, Handover, RowFeed};
use crate::engine::handle::EngineHandle;
use crate::engine::recovery::recover;
use crate::engine::registry::Registry;
use crate::engine::release::{Gate, Outlet, Releaser};
use crate::engine::shared::{EngineError, Phase, Shared};
use crate::engine::sinks::{Buffers, SinkFeed};
use crate::engine::starting::{StartListener, StartStep};
use crate::engine::threads::{Committer, count_timers, read_cold_state, spawn};
use crate::engine::watchdog::Watched;
use crate::engine::worker::{StartOperation, Worker, WorkerSetup};
use crate::io::clients::Clients;
use crate::io::egress::Egress;
use crate::io::ingress::Ingress;
use crate::metrics::meter::Meters;
use crate::rand::Random;
use crate::settings::Durability;
use crate::state::keys::Space;
use crate::state::{StateReader, StateStore as _};
use crate::steps::{Step, reached};
use crate::trace::Tracer;

/// How an engine is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Worker threads.
    pub workers: usize,
    /// What the instances of all workers may occupy in memory, in bytes; what the state store has not applied yet comes on top.
    pub cache_bytes: usize,
    /// Bytes of the epoch log above which nothing is taken in until the state store and the sinks have caught up.
    pub max_log_bytes: u64,
    /// Bytes of memory for changed rows that are applied to the state store together; there are two such windows.
    pub apply_bytes: usize,
    /// How long changes may stay in the epoch log alone before they are applied to the state store.
    pub apply_after: Duration,
    /// How long a handler may run before it is reported as blocking its worker.
    pub warn_after: Duration,
    /// Whether handlers are timed, and who sends how much is counted.
    pub measures: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            workers: 1,
            cache_bytes: 512 << 20,
            max_log_bytes: 8 << 30,
            apply_bytes: 256 << 20,
            apply_after: Duration::from_secs(10),
            warn_after: Duration::from_millis(100),
            measures: true,
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
    /// Where its checkpoints go; none are made without.
    pub checkpoints: Option<Checkpoints>,
    /// Who hears what the start is doing.
    pub listener: StartListener,
    /// The clock of all its threads.
    pub(crate) clock: Arc<WallClock>,
    /// Where spans go; nothing is traced without.
    pub tracer: Option<Tracer>,
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
    #[error(
        "{} is in use by {holder}: stop that process, or give this one a data directory of its own",
        directory.display()
    )]
    InUse {
        /// The data directory.
        directory: std::path::PathBuf,
        /// Who uses it, as far as it is known.
        holder: String,
    },
    /// The data directory's catalog, or the application does not fit it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// What would also stop a running engine: its log, store, connectors, workers and threads.
    #[error(transparent)]
    Engine(EngineError),
    /// A restore was begun and did not end.
    #[error(
        "{} holds a restore that did not end: start again with `--restore`, or remove the directory",
        .0.display()
    )]
    Unfinished(std::path::PathBuf),
    /// What the last epoch carried cannot be read.
    #[error("the last epoch of the log cannot be continued: {0}")]
    Carried(#[from] EnvelopeError),
    /// The last epoch's record is not one.
    #[error("the record of epoch {0} is malformed")]
    Record(u64),
}

impl<E: Into<EngineError>> From<E> for StartError {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// A running engine.
pub struct Engine {
    handle: EngineHandle,
    workers: Option<Workers>,
    threads: Vec<JoinHandle<()>>,
    sinks: Vec<JoinHandle<()>>,
    feeds: Vec<Arc<SinkFeed>>,
    commit: Sender<ToCommit>,
    /// Who is to be called when it stops.
    appliers: Option<(Arc<RowFeed>, Arc<Handover>)>,
    stopping: watch::Sender<bool>,
    /// Whoever waits for the blob store is not to wait any more.
    giving_up: watch::Sender<bool>,
    /// Whether a last checkpoint is made at a stop.
    checkpoints: Option<CheckpointDesk>,
    // Held until all threads have ended.
    _lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

struct PerWorker {
    inbox: Receiver<ToWorker>,
    sources: Vec<ActiveSource>,
    carried: Vec<Envelope>,
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
        let meters = Arc::new(Meters::new(workers, &registry));
        let clients = Arc::new(Clients::default());
        let (stopping, stop_signal) = watch::channel(false);
        let (commit, commit_input) = crossbeam_channel::unbounded();
        let (inboxes, inbox_ends): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| crossbeam_channel::unbounded()).unzip();
        let clock = setup.clock;
        clock.raise(recovered.time);
        let (giving_up, given_up) = watch::channel(false);
        let waiting = Waiting {
            runtime: setup.runtime.clone(),
            stopping: given_up,
        };
        let mut checkpointer = match (setup.checkpoints, recovered.checkpoints) {
            (Some(checkpoints), Some(from)) => Some(Checkpointer::new(
                checkpoints,
                from,
                waiting.clone(),
                (&recovered.log, recovered.store.clone()),
                (shared.clone(), clock.clone()),
            )),
            _ => None,
        };
        let desk = checkpointer.as_ref().map(Checkpointer::desk);
        // Before anything is let out: with `durability: blob` all that is there is complete from here on.
        let chain = match &mut checkpointer {
            Some(checkpointer) if checkpointer.durability == Durability::Blob => {
                Some(checkpointer.begin_chain()?)
            }
            Some(checkpointer) => {
                checkpointer.try_to_own()?;
                None
            }
            None => None,
        };

        let mut engine = Self {
            handle: EngineHandle {
                shared: shared.clone(),
                inboxes: inboxes.clone(),
                registry: registry.clone(),
                store: Arc::downgrade(&recovered.store),
                catalog: Arc::new(recovered.catalog),
                clock: clock.clone(),
                recovery: summary,
                checkpoints: desk.clone(),
                meters: meters.clone(),
                sinks: Vec::new(),
                retention: recovered.log.retention(),
                tracer: setup.tracer.clone(),
            },
            workers: None,
            threads: Vec::new(),
            sinks: Vec::new(),
            feeds: Vec::new(),
            commit: commit.clone(),
            appliers: None,
            stopping,
            giving_up,
            checkpoints: desk,
            _lock: recovered.lock,
        };
        if let Some(first) = inboxes.first() {
            setup.dead_letters.open(first.clone(), shared.clone());
        }
        let connect = Connect {
            registry: &registry,
            shared: &shared,
            runtime: &setup.runtime,
            stopping: &stop_signal,
            listener: &setup.listener,
            tracer: setup.tracer.as_ref(),
            meters: &meters,
        };
        let sources = connect.ingresses(setup.ingresses, &*recovered.store, workers, &clients)?;
        let sink_ids: Vec<String> = setup.egresses.iter().map(|(id, _)| id.clone()).collect();
        let runners = connect.egresses(
            setup.egresses,
            &recovered.log,
            (recovered.lineage, &recovered.sinks),
            recovered.restored.as_ref(),
            &commit,
        )?;
        engine.feeds = runners.iter().map(|runner| runner.feed.clone()).collect();
        engine.handle.sinks = sink_ids
            .iter()
            .cloned()
            .zip(engine.feeds.iter().cloned())
            .collect();

        let accepted = Arc::new(Accepted::default());
        let (rows, handover) = (
            Arc::new(RowFeed::new(inboxes.clone())),
            Arc::new(Handover::default()),
        );
        let gatherer = Gatherer {
            feed: rows.clone(),
            handover: handover.clone(),
            store: recovered.store.clone(),
            log: recovered.log.reader(),
            retention: recovered.log.retention(),
            shared: shared.clone(),
            accepted: accepted.clone(),
            window: Window::new(),
            gathered: summary.epoch,
            window_bytes: settings.apply_bytes,
            apply_after: settings.apply_after,
            max_log_bytes: settings.max_log_bytes,
        };
        let applier = Applier::new(handover.clone(), recovered.store.clone(), shared.clone());
        engine
            .threads
            .push(spawn("statefun-gather", &shared, move || gatherer.run())?);
        engine
            .threads
            .push(spawn("statefun-apply", &shared, move || applier.run())?);
        engine.appliers = Some((rows.clone(), handover));
        let releaser = Releaser {
            shared: shared.clone(),
            clients,
            feeds: engine.feeds.clone(),
            rows,
            buffers: Buffers::default(),
            accepted,
        };
        let outlet = match (chain, &checkpointer) {
            (Some(next), Some(checkpointer)) => {
                let (written, input) = crossbeam_channel::unbounded();
                let gate = Gate {
                    input,
                    releaser,
                    bucket: checkpointer.bucket.clone(),
                    waiting,
                    next,
                    kept: checkpointer.kept.clone(),
                };
                let gate = spawn("statefun-complete", &shared, move || gate.run())?;
                engine.threads.push(gate);
                Outlet::Gate(written)
            }
            _ => Outlet::Releaser(releaser),
        };
        if let Some(checkpointer) = checkpointer {
            let thread = spawn("statefun-checkpoint", &shared, move || checkpointer.run())?;
            engine.threads.push(thread);
        }
        let committer = Committer {
            commit: GroupCommit::new(recovered.log, workers, &sink_ids, recovered.sinks),
            input: commit_input,
            shared: shared.clone(),
            clock: clock.clone(),
            outlet,
        };
        engine
            .threads
            .push(spawn("statefun-commit", &shared, move || committer.run())?);
        let settled: Vec<_> = runners.iter().map(|sink| sink.settled.clone()).collect();
        for runner in runners {
            let name = format!("sink {}", runner.id);
            engine
                .sinks
                .push(spawn(&name, &shared, move || runner.run())?);
        }
        setup.listener.tell(StartStep::Sinks);
        // A file that is not what it should be is refused before anybody thinks that the application runs.
        while settled.iter().any(|sink| !sink.load(Ordering::Acquire)) && !engine.has_stopped() {
            crate::clock::pause(Duration::from_millis(1));
        }
        if engine.has_stopped() {
            let stopped = || EngineError::Thread("it was stopped while it started".to_owned());
            return Err(engine.stop().err().unwrap_or_else(stopped).into());
        }
        setup.listener.tell(StartStep::Workers);
        let (reads, read_requests) = crossbeam_channel::unbounded();
        {
            let (store, inboxes, shared) =
                (recovered.store.clone(), inboxes.clone(), shared.clone());
            engine
                .threads
                .push(spawn("statefun-read", &engine.handle.shared, move || {
                    read_cold_state(&read_requests, &*store, &inboxes, &shared);
                })?);
        }
        {
            // Before any worker sets or fires one.
            let timers = recovered.store.snapshot()?;
            let (meters, shared) = (meters.clone(), shared.clone());
            engine
                .threads
                .push(spawn("statefun-count", &engine.handle.shared, move || {
                    count_timers(&*timers, &meters, &shared);
                })?);
        }
        let watched: Arc<Vec<Watched>> =
            Arc::new((0..workers).map(|_| Watched::default()).collect());
        {
            let (watched, shared, warn_after) =
                (watched.clone(), shared.clone(), settings.warn_after);
            let meters = meters.clone();
            engine
                .threads
                .push(spawn("statefun-watch", &engine.handle.shared, move || {
                    crate::engine::watchdog::watch(&watched, &meters, &shared, warn_after);
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
            let (shared, tracer) = (shared.clone(), setup.tracer);
            move |index: usize| -> Result<Driver, EngineError> {
                let meter = meters.workers.get(index).cloned().unwrap_or_default();
                let own = per_worker
                    .get(index)
                    .and_then(|own| own.lock().unwrap_or_else(PoisonError::into_inner).take());
                let own = own.ok_or_else(|| {
                    EngineError::Thread(format!("worker {index} was started twice"))
                })?;
                current::enter_worker(&watched, index, &registry);
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
                    meter,
                    measures: settings.measures,
                })
                .and_then(|mut worker| {
                    worker.record_into(shared.own.clone());
                    if let Some(tracer) = &tracer {
                        worker.trace_with(tracer.clone(), Random::from_system());
                    }
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

    /// Whether the engine has stopped by itself.
    pub fn has_stopped(&self) -> bool {
        self.handle.shared.phase() == Phase::Stopped
    }

    /// Whether all sources have ended and nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.handle
            .shared
            .quiet
            .iter()
            .all(|quiet| quiet.load(Ordering::Relaxed))
            && self
                .handle
                .shared
                .in_transit
                .iter()
                .all(|count| count.load(Ordering::Relaxed) == 0)
    }

    /// What others may ask, and give commands by, while it runs; a clone of it may outlive the engine.
    pub fn handle(&self) -> &EngineHandle {
        &self.handle
    }
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
        let operation = current::operation_of(
            start.address.clone(),
            start.unknown.trace(),
            start.operation,
        );
        let running = runtime.spawn(operation);
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
