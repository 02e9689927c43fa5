//! The operations that `ctx.spawn` starts: run on a small runtime, or held until the test ends them by hand.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::engine::shared::EngineError;
use crate::engine::worker::{Body, StartOperation};
use crate::id::Address;
use crate::testing::HarnessError;

/// An operation that has ended.
pub(super) struct Ended {
    pub(super) address: Address,
    pub(super) id: u64,
    pub(super) result: Body,
}

/// See the module's page.
#[derive(Default)]
pub(super) struct Operations {
    /// Made with the first operation, so that most tests need none.
    runtime: Option<Runtime>,
    running: JoinSet<Ended>,
    addresses: BTreeMap<u64, Address>,
    pub(super) held: Vec<StartOperation>,
    pub(super) hold: bool,
}

impl Drop for Operations {
    fn drop(&mut self) {
        // A plain drop waits for blocking work, and is not allowed within a runtime of the test's own.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Operations {
    /// Forgets all that is under way, as the end of a process does.
    pub(super) fn abort(&mut self) {
        self.running = JoinSet::new();
        self.addresses.clear();
        self.held.clear();
    }

    pub(super) fn start(&mut self, operation: StartOperation) -> Result<(), HarnessError> {
        if self.hold {
            self.held.push(operation);
            return Ok(());
        }
        let runtime = match &mut self.runtime {
            Some(runtime) => runtime,
            none => none.insert(Builder::new_current_thread().enable_all().build().map_err(
                |error| {
                    EngineError::Thread(format!("cannot start a runtime for operations: {error}"))
                },
            )?),
        };
        let StartOperation {
            address,
            id,
            operation,
            unknown,
        } = operation;
        self.addresses.insert(id, address.clone());
        // As in production: a future that panics leaves its end unknown.
        let operation = runtime.spawn(operation);
        let run = async move {
            Ended {
                address,
                id,
                result: operation.await.unwrap_or(unknown),
            }
        };
        self.running.spawn_on(run, runtime.handle());
        Ok(())
    }

    /// Starts what was held, and holds no more.
    pub(super) fn release(&mut self) -> Result<(), HarnessError> {
        self.hold = false;
        std::mem::take(&mut self.held)
            .into_iter()
            .try_for_each(|operation| self.start(operation))
    }

    /// Whose operations have not ended, in the order of their start.
    pub(super) fn open(&self) -> Vec<Address> {
        let mut all = self.addresses.clone();
        all.extend(self.held.iter().map(|held| (held.id, held.address.clone())));
        all.into_values().collect()
    }

    /// Waits until an operation ends, and takes all that have ended then; none when nothing runs.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Vec<Ended>, HarnessError> {
        let Some(runtime) = self.runtime.as_ref().filter(|_| !self.running.is_empty()) else {
            return Ok(Vec::new());
        };
        let running = &mut self.running;
        let waiting = async {
            let first = tokio::time::timeout(timeout, running.join_next()).await;
            let mut ended: Vec<Ended> = first.ok()??.ok().into_iter().collect();
            while let Some(next) = running.try_join_next() {
                ended.extend(next);
            }
            Some(ended)
        };
        match block_on(runtime, waiting)? {
            Some(ended) => {
                for operation in &ended {
                    self.addresses.remove(&operation.id);
                }
                Ok(ended)
            }
            None => Err(HarnessError::OperationsPending {
                addresses: self.addresses.values().cloned().collect(),
                waited: timeout,
            }),
        }
    }
}

/// Blocks also where the test itself runs on a runtime, which allows it on other threads only.
fn block_on<T: Send>(
    runtime: &Runtime,
    future: impl Future<Output = T> + Send,
) -> Result<T, HarnessError> {
    if Handle::try_current().is_err() {
        return Ok(runtime.block_on(future));
    }
    let problem = |problem: String| HarnessError::Stopped(EngineError::Thread(problem));
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("harness operations".to_owned());
        let thread = thread.spawn_scoped(scope, || runtime.block_on(future));
        let thread = thread
            .map_err(|error| problem(format!("cannot start a thread for operations: {error}")))?;
        thread
            .join()
            .map_err(|_| problem("the thread of the operations panicked".to_owned()))
    })
}
