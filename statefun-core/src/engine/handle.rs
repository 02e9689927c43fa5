//! A running engine, as others than its owner see it.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::catalog::Catalog;
use crate::checkpoint::checkpointer::CheckpointDesk;
use crate::checkpoint::manifest::Entry;
use crate::checkpoint::{CheckpointError, CheckpointStatus};
use crate::clock::{Stopwatch, Timestamp, WallClock};
use crate::engine::condition::Condition;
use crate::engine::driver::ToWorker;
use crate::engine::recovery::Recovery;
use crate::engine::registry::Registry;
use crate::engine::shared::{Phase, Shared};
use crate::engine::sinks::SinkFeed;
use crate::engine::worker::{Command, CommandError, CommandResult};
use crate::id::{Address, KeyGroups};
use crate::inspect::StateView;
use crate::log::Retention;
use crate::metrics::Snapshot;
use crate::metrics::collect::collect;
use crate::metrics::meter::Meters;
use crate::state::fjall::FjallStore;
use crate::state::{Row, StateError, StateReader, StateSnapshot, StateStore as _};
use crate::trace::{TraceStatus, Tracer};

/// How long the rest of a large order waits for the state store.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// How long who wants to read the state waits for the state store.
const READ_PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked whether the state store has followed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks a running engine, and gives it commands. It may outlive the engine: then commands bring no results.
#[derive(Clone)]
pub struct EngineHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inboxes: Vec<Sender<ToWorker>>,
    pub(crate) registry: Arc<Registry>,
    /// It ends with the engine.
    pub(crate) store: Weak<FjallStore>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) clock: Arc<WallClock>,
    pub(crate) recovery: Recovery,
    pub(crate) checkpoints: Option<CheckpointDesk>,
    pub(crate) meters: Arc<Meters>,
    /// By egress.
    pub(crate) sinks: Vec<(String, Arc<SinkFeed>)>,
    pub(crate) retention: Retention,
    pub(crate) tracer: Option<Tracer>,
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle")
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

impl EngineHandle {
    /// What recovery found.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Worker threads.
    pub fn workers(&self) -> usize {
        self.inboxes.len()
    }

    /// Key groups of the data directory.
    pub fn key_groups(&self) -> KeyGroups {
        self.registry.key_groups
    }

    /// The last durable epoch.
    pub fn durable_epoch(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The last epoch that the state store has applied.
    pub fn applied_epoch(&self) -> u64 {
        self.shared.applied.load(Ordering::Acquire)
    }

    /// How making checkpoints goes; none when none are made.
    pub fn checkpoints(&self) -> Option<CheckpointStatus> {
        self.checkpoints.as_ref().map(|desk| desk.status.get())
    }

    /// What became of spans; none when nothing is traced.
    pub fn tracing(&self) -> Option<TraceStatus> {
        self.tracer.as_ref().map(Tracer::status)
    }

    /// Makes a checkpoint of everything that is durable now. One with a name is kept until it is removed.
    ///
    /// # Errors
    /// When the blob store fails, the name is taken, or nothing has happened yet. None when no checkpoints are made at all.
    pub async fn make_checkpoint(
        &self,
        name: Option<String>,
    ) -> Option<Result<Entry, CheckpointError>> {
        match &self.checkpoints {
            Some(desk) => Some(desk.make(name).await),
            None => None,
        }
    }

    /// What was measured since the start.
    pub fn metrics(&self) -> Snapshot {
        collect(self)
    }

    /// Invocations since the start.
    pub fn invocations(&self) -> u64 {
        let workers = self.meters.workers.iter();
        let functions = workers.flat_map(|worker| &worker.functions);
        functions.map(|meter| meter.invocations.get()).sum()
    }

    /// Rows of states that were deleted since the start because they had expired.
    pub fn expired_rows(&self) -> u64 {
        let workers = self.meters.workers.iter();
        workers.map(|worker| worker.expired.get()).sum()
    }

    /// What keeps it from taking records in, or from going on.
    pub fn condition(&self) -> Condition {
        self.shared.condition()
    }

    /// Whether the engine takes nothing in any more.
    pub fn is_stopping(&self) -> bool {
        self.shared.phase() != Phase::Running
    }

    /// The types of the application's functions, sorted; those of the engine's own are left out.
    pub fn functions(&self) -> Vec<String> {
        let names = self
            .registry
            .functions()
            .iter()
            .map(|function| function.typename);
        let mut names: Vec<String> = names
            .filter(|name| !name.is_own())
            .map(|name| name.as_str().to_owned())
            .collect();
        names.sort();
        names
    }

    /// The address of an id in a function of that name.
    pub fn address(&self, function: &str, id: &str) -> Option<Address> {
        let function = self
            .registry
            .functions()
            .iter()
            .find(|known| known.typename.as_str() == function)?;
        Some(Address::new(function.typename, id))
    }

    /// Gives a command to the workers that it concerns; the results come in the order of the workers. A worker that
    /// stopped meanwhile has none.
    pub async fn command(&self, command: Command) -> Vec<Result<CommandResult, CommandError>> {
        let mut dropped = 0;
        if let Command::Drop(address) = &command {
            // Each part is durable, and the state store has applied it, before the next.
            let part = Command::DropPart(address.clone());
            while let Some(Ok(CommandResult::Done {
                messages: more @ 1..,
            })) = self.command_once(&part).await.pop()
            {
                dropped += more;
                self.let_store_follow(STORE_PATIENCE).await;
            }
        }
        let mut results = self.command_once(&command).await;
        match results.last_mut() {
            Some(Ok(CommandResult::Done { messages })) => *messages += dropped,
            // It went on by itself meanwhile, and is done.
            Some(result) if dropped > 0 => *result = Ok(CommandResult::Done { messages: dropped }),
            _ => {}
        }
        results
    }

    /// Waits until the state store has applied what is durable, or for a while when it cannot. Returns whether it has.
    async fn let_store_follow(&self, patience: Duration) -> bool {
        let (durable, watch) = (self.durable_epoch(), Stopwatch::start());
        while !self.shared.apply_through(durable) {
            if watch.elapsed() >= patience || self.is_stopping() {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Waits until [`state_view`](Self::state_view) shows all that was acknowledged before this call.
    ///
    /// # Errors
    /// When the state store does not come to apply it.
    pub async fn settle_state(&self) -> Result<(), StateError> {
        if self.let_store_follow(READ_PATIENCE).await {
            return Ok(());
        }
        Err(if self.is_stopping() {
            stopping()
        } else {
            StateError::Store(format!(
                "it has not applied what is durable within {} s: it is busy merging, or its disk is full; the application's log tells",
                READ_PATIENCE.as_secs()
            ))
        })
    }

    /// The state as the store has it, and the engine's time. It stays as it is while the engine goes on. Reading it blocks on
    /// the disk, and fails when the engine stops meanwhile.
    ///
    /// # Errors
    /// When the engine has stopped, or the store cannot be read.
    pub fn state_view(&self) -> Result<(StateView, Timestamp), StateError> {
        let store = self.store.upgrade().filter(|_| !self.is_stopping());
        let snapshot = store.ok_or_else(stopping)?.snapshot()?;
        let epoch = snapshot.applied_epoch()?;
        let rows = LiveRows {
            snapshot,
            shared: Arc::clone(&self.shared),
        };
        let view = StateView::new(epoch, &self.catalog, Box::new(rows));
        Ok((view, self.clock.now()))
    }

    async fn command_once(&self, command: &Command) -> Vec<Result<CommandResult, CommandError>> {
        let groups = self.registry.key_groups;
        let concerned: Vec<usize> = match command {
            Command::List { .. } => (0..self.inboxes.len()).collect(),
            Command::Show { address, .. }
            | Command::Retry(address)
            | Command::Skip(address)
            | Command::Drop(address)
            | Command::DropPart(address) => {
                vec![groups.owner(address.key_group(groups), self.inboxes.len())]
            }
        };
        let mut results = Vec::new();
        for worker in concerned {
            let (tell, told) = tokio::sync::oneshot::channel();
            let reply = Box::new(move |result| {
                let _ = tell.send(result);
            });
            if let Some(inbox) = self.inboxes.get(worker) {
                let _ = inbox.send(ToWorker::Command(command.clone(), reply));
                self.shared.wake(worker);
            }
            if let Ok(result) = told.await {
                results.push(result);
            }
        }
        results
    }
}

fn stopping() -> StateError {
    StateError::Store("the application is stopping".to_owned())
}

/// A snapshot that is let go when the engine stops, so that its files can be.
struct LiveRows {
    snapshot: Arc<dyn StateSnapshot>,
    shared: Arc<Shared>,
}

impl LiveRows {
    fn rows(&self) -> Result<&dyn StateSnapshot, StateError> {
        match self.shared.phase() {
            Phase::Running => Ok(&*self.snapshot),
            _ => Err(stopping()),
        }
    }
}

impl StateReader for LiveRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.rows()?.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        self.rows()?.scan(start, end, limit)
    }
}
