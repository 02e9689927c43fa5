//! Sinks: a thread per egress that delivers the records of durable epochs, in order.
//!
//! What a sink has not taken yet waits in memory up to a bound; beyond it, it is read back from the epoch log, which is
//! kept until all sinks have accepted it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Sender;

use crate::engine::cut::{EpochBody, EpochPart, SinkPosition, egress_framing};
use crate::engine::driver::ToCommit;
use crate::engine::shared::{EngineError, Phase, Shared};
use crate::id::MessageTypeId;
use crate::io::egress::{Egress, EgressRecord};
use crate::log::{LogError, LogReader};
use crate::sdk::egress::egress_hash;
use crate::steps::{Step, reached};

/// Bytes that may wait in memory for one sink.
const FEED_BYTES: usize = 64 << 20;
/// Bytes delivered after which a sink is asked to make them safe.
const FLUSH_BYTES: usize = 8 << 20;
/// How long delivered records may wait for that while nothing follows.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
const READ_BYTES: usize = 16 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The egress sections of one epoch, in the order of the workers.
#[derive(Debug)]
pub(crate) struct EpochEgress {
    pub(crate) epoch: u64,
    pub(crate) sections: Vec<(u32, Bytes)>,
}

impl EpochEgress {
    /// Takes the egress out of an epoch's parts; none when there is none.
    pub(crate) fn take(epoch: u64, parts: &mut [EpochPart]) -> Option<Self> {
        let sections: Vec<(u32, Bytes)> = parts
            .iter_mut()
            .filter(|part| !part.egress.is_empty())
            .map(|part| (part.worker, Bytes::from(std::mem::take(&mut part.egress))))
            .collect();
        (!sections.is_empty()).then_some(Self { epoch, sections })
    }

    fn of_record(epoch: u64, body: &Bytes) -> Result<Self, EngineError> {
        let parsed = EpochBody::parse(body).ok_or_else(|| malformed(epoch))?;
        let sections = parsed
            .sections
            .iter()
            .filter(|section| !section.egress.is_empty())
            .map(|section| (section.worker, body.slice_ref(section.egress)))
            .collect();
        Ok(Self { epoch, sections })
    }

    fn bytes(&self) -> usize {
        self.sections.iter().map(|(_, section)| section.len()).sum()
    }

    /// The records for one egress, in the order of delivery.
    fn records(&self, egress: u64, names: &TypeNames) -> Result<Vec<EgressRecord>, EngineError> {
        let mut records = Vec::new();
        for (worker, section) in &self.sections {
            for (sequence, record) in egress_framing::iter(section).enumerate() {
                let record = record.ok_or_else(|| malformed(self.epoch))?;
                if record.egress == egress {
                    records.push(EgressRecord {
                        worker: *worker,
                        sequence: sequence as u32,
                        typename: names(record.message),
                        payload: section.slice_ref(record.payload),
                    });
                }
            }
        }
        Ok(records)
    }
}

fn malformed(epoch: u64) -> EngineError {
    EngineError::Thread(format!("the egress records of epoch {epoch} are malformed"))
}

/// The name of a message type.
pub(crate) type TypeNames = dyn Fn(MessageTypeId) -> &'static str + Send + Sync;

#[derive(Debug, Default)]
struct Queue {
    epochs: VecDeque<Arc<EpochEgress>>,
    bytes: usize,
    /// From this epoch on the log has to be read, since the queue was full.
    read_from: Option<u64>,
    /// Nothing follows any more.
    closed: bool,
}

/// What flows from the committer to one sink.
#[derive(Debug, Default)]
pub(crate) struct SinkFeed {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl SinkFeed {
    /// A feed whose sink first reads everything from `epoch` on from the log.
    pub(crate) fn reading_from(epoch: u64) -> Self {
        Self {
            queue: Mutex::new(Queue {
                read_from: Some(epoch),
                ..Queue::default()
            }),
            ready: Condvar::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over the egress of a durable epoch.
    pub(crate) fn push(&self, egress: &Arc<EpochEgress>) {
        let mut queue = self.queue();
        if queue.read_from.is_none() {
            if queue.bytes > FEED_BYTES {
                queue.read_from = Some(egress.epoch);
            } else {
                queue.bytes += egress.bytes();
                queue.epochs.push_back(egress.clone());
            }
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Nothing follows: the sink delivers what is there, makes it safe, and ends.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.ready.notify_one();
    }
}

/// One sink and its thread's state.
pub(crate) struct SinkRunner {
    pub(crate) id: String,
    pub(crate) egress: Box<dyn Egress>,
    pub(crate) feed: Arc<SinkFeed>,
    pub(crate) log: LogReader,
    pub(crate) commit: Sender<ToCommit>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) names: Arc<TypeNames>,
}

enum Next {
    Epoch(Arc<EpochEgress>),
    Log(u64),
    Quiet,
    Closed,
}

impl SinkRunner {
    /// Runs until the feed is closed or the engine stops.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.deliver_all() {
            self.shared.fail(error);
        }
    }

    fn deliver_all(&mut self) -> Result<(), EngineError> {
        let hash = egress_hash(&self.id);
        let mut unsafe_bytes = 0;
        // What the log says was accepted, until more is.
        let mut through = self
            .feed
            .queue()
            .read_from
            .map_or_else(|| self.log.durable_epoch(), |from| from - 1);
        let mut replayed = false;
        loop {
            match self.next(unsafe_bytes > 0) {
                Next::Epoch(egress) => {
                    let Some(bytes) = self.deliver(hash, &egress)? else {
                        return self.flush(through);
                    };
                    unsafe_bytes += bytes;
                    through = egress.epoch;
                }
                Next::Log(from) => {
                    let (last, more) = self.deliver_from_log(hash, from, &mut unsafe_bytes)?;
                    through = last.unwrap_or(through);
                    if !more {
                        return self.flush(through);
                    }
                    if !replayed && self.feed.queue().read_from.is_none() {
                        replayed = true;
                        self.egress.replayed()?;
                        // Even when nothing came again: everything retained has been looked at.
                        unsafe_bytes += 1;
                    }
                }
                Next::Quiet => {
                    self.flush(through)?;
                    unsafe_bytes = 0;
                }
                Next::Closed => {
                    return self.flush(through.max(self.log.durable_epoch()));
                }
            }
            if self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            if unsafe_bytes > FLUSH_BYTES {
                self.flush(through)?;
                unsafe_bytes = 0;
            }
        }
    }

    fn next(&self, unflushed: bool) -> Next {
        let mut queue = self.feed.queue();
        loop {
            if let Some(egress) = queue.epochs.pop_front() {
                queue.bytes -= egress.bytes();
                return Next::Epoch(egress);
            }
            if let Some(from) = queue.read_from {
                return Next::Log(from);
            }
            if queue.closed {
                return Next::Closed;
            }
            let (back, timeout) = self
                .feed
                .ready
                .wait_timeout(queue, FLUSH_AFTER)
                .unwrap_or_else(PoisonError::into_inner);
            queue = back;
            if timeout.timed_out() && (unflushed || self.shared.phase() == Phase::Stopped) {
                return if unflushed { Next::Quiet } else { Next::Closed };
            }
        }
    }

    /// Delivers what the log holds from an epoch on; when it has caught up, the queue is used again. Returns the last epoch
    /// delivered, and false when the engine stops.
    fn deliver_from_log(
        &mut self,
        hash: u64,
        from: u64,
        unsafe_bytes: &mut usize,
    ) -> Result<(Option<u64>, bool), EngineError> {
        let epochs = match self.log.read_from(from, READ_BYTES) {
            Ok(epochs) => epochs,
            // What was let go has been accepted, or held nothing.
            Err(LogError::Released { first, .. }) => {
                let next = first.unwrap_or(self.log.durable_epoch() + 1).max(from + 1);
                self.feed.queue().read_from = (next <= self.log.durable_epoch()).then_some(next);
                return Ok((None, true));
            }
            Err(error) => return Err(error.into()),
        };
        let mut last = None;
        for epoch in &epochs {
            let egress = EpochEgress::of_record(epoch.epoch, &epoch.body)?;
            match self.deliver(hash, &egress)? {
                Some(bytes) => *unsafe_bytes += bytes,
                None => return Ok((last, false)),
            }
            last = Some(epoch.epoch);
            if self.shared.phase() == Phase::Stopped {
                return Ok((last, false));
            }
        }
        let next = last.map_or(from, |last| last + 1);
        let mut queue = self.feed.queue();
        // The committer pushes after an epoch is durable, under this lock: nothing falls between.
        queue.read_from = (next <= self.log.durable_epoch()).then_some(next);
        drop(queue);
        Ok((last, true))
    }

    /// Delivers the records of an epoch, and returns their bytes; none when the engine stops before the sink takes them.
    fn deliver(&mut self, hash: u64, egress: &EpochEgress) -> Result<Option<usize>, EngineError> {
        let records = egress.records(hash, &*self.names)?;
        if records.is_empty() {
            return Ok(Some(0));
        }
        let shared = self.shared.clone();
        let sink = &mut self.egress;
        let delivered = patiently(&shared, || sink.deliver(egress.epoch, &records))?;
        reached(Step::Delivered);
        Ok(delivered.map(|()| records.iter().map(|record| record.payload.len() + 1).sum()))
    }

    fn flush(&mut self, through_epoch: u64) -> Result<(), EngineError> {
        let shared = self.shared.clone();
        let sink = &mut self.egress;
        if let Some(position) = patiently(&shared, || sink.flush())? {
            reached(Step::Flushed);
            let accepted = SinkPosition {
                egress: self.id.clone(),
                through_epoch,
                position,
            };
            let _ = self.commit.send(ToCommit::Sink(accepted));
        }
        Ok(())
    }
}

/// Tries again while a sink's failure is transient; none when the engine stops meanwhile.
fn patiently<T>(
    shared: &Shared,
    mut attempt: impl FnMut() -> Result<T, crate::io::egress::EgressError>,
) -> Result<Option<T>, EngineError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.transient => {
                tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "an egress does not take records");
                // Waiting in small steps, so that a stop is not held up.
                let mut waited = Duration::ZERO;
                while waited < pause {
                    // What a stop leaves undelivered comes again at the next start.
                    if shared.phase() >= Phase::Frozen {
                        return Ok(None);
                    }
                    let step = FIRST_PAUSE.min(pause.saturating_sub(waited));
                    crate::clock::pause(step);
                    waited += step;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
