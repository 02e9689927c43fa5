//! What live commands ask of an application.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use super::wire::{Epochs, ListeningPlace, Status};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::manifest::Entry;
use crate::clock::Timestamp;
use crate::engine::condition::Condition;
use crate::engine::handle::EngineHandle;
use crate::engine::worker::{Command, CommandError, CommandResult};
use crate::id::Address;
use crate::inspect::StateView;
use crate::io::http::HttpServers;
use crate::metrics::Snapshot;
use crate::state::StateError;

/// What the operations endpoint is called among the places where an application listens. No ingress has such a name.
pub const OPERATIONS: &str = "operations";

/// The results of a command, from each worker that it concerned. None when the application stopped meanwhile.
pub type Results = Pin<Box<dyn Future<Output = Vec<Result<CommandResult, CommandError>>> + Send>>;

/// Opens the state as it is then, with the application's time. It blocks on the disk, and so does reading the view.
pub type OpenState = Box<dyn FnOnce() -> Result<(StateView, Timestamp), StateError> + Send>;

/// The state, once all that was acknowledged before it was asked for is in it.
pub type SettledState = Pin<Box<dyn Future<Output = Result<OpenState, StateError>> + Send>>;
/// A checkpoint that is being made.
pub type Making = Pin<Box<dyn Future<Output = Option<Result<Entry, CheckpointError>>> + Send>>;

/// An application that runs.
pub trait Live: Send + Sync + 'static {
    /// What it says of itself.
    fn status(&self) -> Status;

    /// What keeps it from taking records in, or from going on. By default nothing.
    fn condition(&self) -> Condition {
        Condition::default()
    }

    /// What it has measured so far.
    fn metrics(&self) -> Snapshot;

    /// The instance of that function with that id; none when it has no such function.
    fn address(&self, function: &str, id: &str) -> Option<Address>;

    /// Gives a command to the workers that it concerns.
    fn command(&self, command: Command) -> Results;

    /// Its persisted state.
    fn state(&self) -> SettledState;

    /// Makes a checkpoint of what is durable now. None when the application makes none.
    fn make_checkpoint(&self, _name: Option<String>) -> Making {
        Box::pin(async { None })
    }
}

/// The application of this process.
#[derive(Debug, Clone)]
pub struct LiveEngine {
    engine: EngineHandle,
    servers: Arc<HttpServers>,
    operations: Option<SocketAddr>,
}

impl LiveEngine {
    /// The application that this engine runs and that listens there.
    pub fn new(engine: EngineHandle, servers: Arc<HttpServers>) -> Self {
        Self {
            engine,
            servers,
            operations: None,
        }
    }

    /// With an operations endpoint there.
    #[must_use]
    pub fn operations(mut self, address: Option<SocketAddr>) -> Self {
        self.operations = address;
        self
    }
}

impl Live for LiveEngine {
    fn status(&self) -> Status {
        let recovery = self.engine.recovery();
        let listening = self
            .servers
            .listening()
            .into_iter()
            .map(|place| ListeningPlace {
                component: place.component,
                address: place.address.to_string(),
                method: place.method,
                path: place.path,
            });
        let operations = self.operations.map(|address| ListeningPlace {
            component: OPERATIONS.to_owned(),
            address: address.to_string(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
        });
        Status {
            core_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            attempt: recovery.attempt,
            workers: self.engine.workers(),
            key_groups: self.engine.key_groups().count(),
            epochs: Epochs {
                recovered: recovery.epoch,
                durable: self.engine.durable_epoch(),
                applied: self.engine.applied_epoch(),
            },
            invocations: self.engine.invocations(),
            stopping: self.engine.is_stopping(),
            functions: self.engine.functions(),
            listening: listening.chain(operations).collect(),
            checkpoints: self.engine.checkpoints(),
        }
    }

    fn condition(&self) -> Condition {
        self.engine.condition()
    }

    fn metrics(&self) -> Snapshot {
        self.engine.metrics()
    }

    fn address(&self, function: &str, id: &str) -> Option<Address> {
        self.engine.address(function, id)
    }

    fn make_checkpoint(&self, name: Option<String>) -> Making {
        let engine = self.engine.clone();
        Box::pin(async move { engine.make_checkpoint(name).await })
    }

    fn command(&self, command: Command) -> Results {
        let engine = self.engine.clone();
        Box::pin(async move { engine.command(command).await })
    }

    fn state(&self) -> SettledState {
        let engine = self.engine.clone();
        Box::pin(async move {
            engine.settle_state().await?;
            let open: OpenState = Box::new(move || engine.state_view());
            Ok(open)
        })
    }
}
