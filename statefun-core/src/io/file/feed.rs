//! A thread that an ingress reads on, and what the worker sees of it.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::io::ingress::{
    IngressContext, IngressError, Partition, Record, RecordSender, Source, SourceStatus,
    TrySendError, Waker, channel,
};
use crate::metrics::Lag;

/// Records that wait between the thread and the worker.
const CAPACITY: usize = 512;

/// Why reading ends early.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The application is stopping.
    Stopping,
    /// The ingress cannot go on.
    Failed(String),
}

impl Halt {
    pub(crate) fn failed(problem: impl Display) -> Self {
        Self::Failed(problem.to_string())
    }
}

/// How the thread ended; none while it runs, and when it panicked.
type Outcome = Arc<Mutex<Option<Result<(), IngressError>>>>;

/// The thread's end of the channel to the worker.
pub(crate) struct Feed {
    id: String,
    sender: Option<RecordSender>,
    waker: Waker,
    runtime: tokio::runtime::Handle,
    stopping: watch::Receiver<bool>,
    outcome: Outcome,
}

impl Feed {
    /// Fails when the application is stopping.
    pub(crate) fn go_on(&self) -> Result<(), Halt> {
        if *self.stopping.borrow() {
            Err(Halt::Stopping)
        } else {
            Ok(())
        }
    }

    /// Hands over a record; waits while the worker is behind.
    pub(crate) fn send(&mut self, record: Record) -> Result<(), Halt> {
        let Some(sender) = &self.sender else {
            return Err(Halt::Stopping);
        };
        let record = match sender.try_send(record) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Stopping) => return Err(Halt::Stopping),
            Err(TrySendError::Full(record)) => record,
        };
        let stopping = &mut self.stopping;
        self.runtime.block_on(async {
            tokio::select! {
                sent = sender.send(*record) => sent.map_err(|_| Halt::Stopping),
                // When nobody can say so any more, it is as good as said.
                _ = stopping.wait_for(|stopping| *stopping) => Err(Halt::Stopping),
            }
        })
    }

    /// Waits for so long, or until the application is stopping.
    pub(crate) fn pause(&mut self, pause: Duration) -> Result<(), Halt> {
        let stopping = &mut self.stopping;
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(pause) => Ok(()),
                _ = stopping.wait_for(|stopping| *stopping) => Err(Halt::Stopping),
            }
        })
    }

    fn end(&self, outcome: Result<(), Halt>) {
        let outcome = match outcome {
            Ok(()) | Err(Halt::Stopping) => Ok(()),
            Err(Halt::Failed(problem)) => Err(IngressError {
                ingress: self.id.clone(),
                problem,
            }),
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The worker may sleep; it must see that nothing follows.
        self.sender = None;
        self.waker.wake();
    }
}

/// Tells how far the last record that was taken is behind what there is, by its position.
pub(crate) type LagOf = Box<dyn Fn(Option<&[u8]>) -> Option<Lag> + Send>;

/// Starts a thread that reads records, and returns the partition that they come out of.
pub(crate) fn spawn(
    context: &IngressContext,
    thread: String,
    name: Option<String>,
    lag: LagOf,
    read: impl FnOnce(&mut Feed) -> Result<(), Halt> + Send + 'static,
) -> Result<Partition, IngressError> {
    let worker = context.owner(name.as_deref().unwrap_or(&context.id));
    let waker = context.waker(worker);
    let (sender, receiver) = channel(CAPACITY, waker.clone());
    let outcome = Outcome::default();
    let mut feed = Feed {
        id: context.id.clone(),
        sender: Some(sender),
        waker,
        runtime: context.runtime.clone(),
        stopping: context.stopping.clone(),
        outcome: outcome.clone(),
    };
    std::thread::Builder::new()
        .name(thread)
        .spawn(move || {
            let outcome = read(&mut feed);
            feed.end(outcome);
        })
        .map_err(|error| context.error(format_args!("its thread cannot be started: {error}")))?;
    let source = FeedSource {
        id: context.id.clone(),
        receiver,
        outcome,
        ended: false,
        taken: None,
        lag,
    };
    Ok(Partition {
        name,
        worker,
        source: Box::new(source),
    })
}

struct FeedSource<S> {
    id: String,
    receiver: S,
    outcome: Outcome,
    ended: bool,
    /// The position of the last record that was taken.
    taken: Option<Bytes>,
    lag: LagOf,
}

impl<S: Source> Source for FeedSource<S> {
    fn poll(
        &mut self,
        limit: usize,
        batch: &mut Vec<Record>,
    ) -> Result<SourceStatus, IngressError> {
        if self.ended {
            return Ok(SourceStatus::Finished);
        }
        let before = batch.len();
        let status = self.receiver.poll(limit, batch)?;
        let mut positions = batch.iter().skip(before).rev();
        if let Some(position) = positions.find_map(|record| record.position.as_ref()) {
            self.taken = Some(position.clone());
        }
        if status != SourceStatus::Finished {
            return Ok(status);
        }
        if batch.len() > before {
            // First these, then how it ended.
            return Ok(SourceStatus::Ready);
        }
        self.ended = true;
        match self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(Ok(())) => Ok(SourceStatus::Finished),
            Some(Err(error)) => Err(error),
            None => Err(IngressError {
                ingress: self.id.clone(),
                problem: "the thread that reads it has panicked; this is a bug, the panic's message is above".to_owned(),
            }),
        }
    }

    fn lag(&mut self) -> Option<Lag> {
        if self.ended {
            return None;
        }
        (self.lag)(self.taken.as_deref()).or_else(|| self.receiver.lag())
    }
}
