//! An application of given functions, which is sent messages and whose output is kept.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::PATIENCE;
use crate::engine::start::{Engine, EngineSettings};
use crate::engine::waiting::WaitingAddress;
use crate::engine::worker::{Command, CommandError, CommandResult};
use crate::id::Address;
use crate::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use crate::io::ingress::{
    Ingress, IngressContext, IngressError, Partition, Record, RecordSender, channel,
};
use crate::runtime::Launch;
use crate::sdk::function::{Accepts, Target};
use crate::sdk::message::Message;
use crate::sdk::module::Binder;

/// Takes messages of tests in.
struct Feed(Arc<Mutex<Option<RecordSender>>>);

impl Ingress for Feed {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let (sender, source) = channel(1024, context.waker(0));
        *self.0.lock().unwrap() = Some(sender);
        Ok(vec![Partition {
            name: None,
            worker: 0,
            source: Box::new(source),
        }])
    }
}

/// Keeps what leaves.
struct Kept(Arc<Mutex<Vec<Bytes>>>);

impl Egress for Kept {
    fn open(&mut self, _: &EgressContext) -> Result<(), EgressError> {
        Ok(())
    }
    fn deliver(&mut self, _: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        let payloads = records.iter().map(|record| record.payload.clone());
        self.0.lock().unwrap().extend(payloads);
        Ok(())
    }
    fn flush(&mut self) -> Result<Bytes, EgressError> {
        Ok(Bytes::new())
    }
}

/// A running application with one egress.
pub(super) struct Running {
    pub(super) engine: Option<Engine>,
    feed: RecordSender,
    kept: Arc<Mutex<Vec<Bytes>>>,
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Starts functions on a directory, or goes on with them.
    pub(super) fn start(
        directory: &std::path::Path,
        egress: &str,
        settings: EngineSettings,
        functions: impl FnOnce(&mut Binder),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (feed, kept) = (Arc::default(), Arc::default());
        let mut binder = Binder::default();
        functions(&mut binder);
        binder
            .ingress("tests/feed", Feed(Arc::clone(&feed)))
            .egress(egress, Kept(Arc::clone(&kept)));
        let launch = Launch::of(binder, directory).settings(settings);
        let engine = launch.start(runtime.handle()).unwrap();
        let feed = feed.lock().unwrap().clone().unwrap();
        Self {
            engine: Some(engine),
            feed,
            kept,
            runtime,
        }
    }

    /// Waits until something holds.
    pub(super) fn eventually(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let watch = crate::clock::Stopwatch::start();
        while !holds(self) {
            if self.engine().has_stopped() {
                let stopped = self.engine.take().unwrap().stop();
                panic!("the engine stopped while waiting for {what}: {stopped:?}");
            }
            assert!(watch.elapsed() < PATIENCE, "in vain: {what}");
            crate::clock::pause(Duration::from_millis(2));
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Sends a message, when there is room for it.
    pub(super) fn send<F: Accepts<M>, M: Message>(&self, to: Target<F>, message: M) {
        let mut record = Record::new(message);
        record.target = Some(Box::new(to.into_address()));
        self.feed.blocking_send(record).unwrap();
    }

    /// What has left, as the messages that it was.
    pub(super) fn left<M: Message>(&self) -> Vec<M> {
        let kept = self.kept.lock().unwrap();
        kept.iter()
            .map(|payload| M::decode(payload).unwrap())
            .collect()
    }

    pub(super) fn command(&self, command: Command) -> Vec<Result<CommandResult, CommandError>> {
        let handle = self.engine().handle().clone();
        self.runtime.block_on(handle.command(command))
    }

    /// The addresses that wait.
    pub(super) fn waiting(&self) -> Vec<WaitingAddress> {
        let results = self.command(Command::List { limit: 10_000 });
        let waiting = results
            .into_iter()
            .flat_map(|result| match result.unwrap() {
                CommandResult::Waiting(waiting) => waiting,
                other => panic!("{other:?}"),
            });
        waiting.collect()
    }

    pub(super) fn retry(&self, address: Address) {
        for result in self.command(Command::Retry(address)) {
            result.unwrap();
        }
    }

    /// Stops, as on a signal.
    pub(super) fn stop(mut self) {
        self.engine.take().unwrap().stop().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a failed assertion: threads that go on would wait for each other.
        if let Some(engine) = self.engine.take() {
            let _ = engine.stop();
        }
    }
}
