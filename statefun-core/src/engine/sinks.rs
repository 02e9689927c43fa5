//! Sinks: a thread per egress that delivers the records of durable epochs, in order.
//!
//! What a sink has not taken yet waits in memory up to a bound; beyond it, it is read back from the epoch log, which is
//! kept until all sinks have accepted it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Sender;

use crate::clock::{Stopwatch, unix_ns};
use crate::engine::cut::{EpochBody, EpochPart, SinkPosition, egress_framing};
use crate::engine::driver::ToCommit;
use crate::engine::priority::take_short_turns;
use crate::engine::shared::{EngineError, Phase, Shared};
use crate::id::MessageTypeId;
use crate::io::egress::{Egress, EgressRecord};
use crate::io::stdio::is_reader_gone;
use crate::log::{LogError, LogReader};
use crate::metrics::meter::EgressMeter;
use crate::sdk::egress::egress_hash;
use crate::steps::{Step, reached};
use crate::trace::span::About;
use crate::trace::{Span, SpanId, SpanKind, SpanName, Tracer};

/// Bytes that may wait in memory for one sink.
const FEED_BYTES: usize = 64 << 20;
/// Bytes delivered after which a sink is asked to make them safe.
const FLUSH_BYTES: usize = 8 << 20;
/// How long delivered records may wait for that while nothing follows.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// How long they may wait for it while others follow: so much comes again after a crash, and stays in the log.
const FLUSH_AT_LATEST: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 16 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Buffers that are used again when the last sink has let go of their content.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// How many buffers are kept.
const KEPT_BUFFERS: usize = 8;

impl Buffers {
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Vec<u8> {
        self.kept().pop().unwrap_or_default()
    }

    fn share(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            bytes,
            home: self.clone(),
        })
    }
}

struct Lent {
    bytes: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.kept();
        if kept.len() < KEPT_BUFFERS {
            self.bytes.clear();
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// The egress sections of one epoch, in the order of the workers.
#[derive(Debug)]
pub(crate) struct EpochEgress {
    pub(crate) epoch: u64,
    pub(crate) sections: Vec<(u32, Bytes)>,
    /// When it was released, in nanoseconds since 1970; none where it was read from the log.
    pub(crate) released_ns: Option<u64>,
}

/// The spans that records come from, with the records' places.
type Parents = Vec<(usize, SpanId)>;

impl EpochEgress {
    /// Takes the egress out of an epoch's parts; none when there is none.
    pub(crate) fn take(epoch: u64, parts: &mut [EpochPart], buffers: &Buffers) -> Option<Self> {
        let sections: Vec<(u32, Bytes)> = parts
            .iter_mut()
            .filter(|part| !part.egress.is_empty())
            .map(|part| {
                let full = std::mem::replace(&mut part.egress, buffers.get());
                (part.worker, buffers.share(full))
            })
            .collect();
        (!sections.is_empty()).then(|| Self {
            epoch,
            sections,
            released_ns: Some(unix_ns()),
        })
    }

    fn of_record(epoch: u64, body: &Bytes) -> Result<Self, EngineError> {
        let parsed = EpochBody::parse(body).ok_or_else(|| malformed(epoch))?;
        let sections = parsed
            .sections
            .iter()
            .filter(|section| !section.egress.is_empty())
            .map(|section| (section.worker, body.slice_ref(section.egress)))
            .collect();
        Ok(Self {
            epoch,
            sections,
            released_ns: None,
        })
    }

    fn bytes(&self) -> usize {
        self.sections.iter().map(|(_, section)| section.len()).sum()
    }

    /// The records for one egress, in the order of delivery.
    fn records(
        &self,
        egress: u64,
        names: &TypeNames,
    ) -> Result<(Vec<EgressRecord>, Parents), EngineError> {
        let (mut records, mut parents) = (Vec::new(), Parents::new());
        for (worker, section) in &self.sections {
            for (sequence, record) in egress_framing::iter(section).enumerate() {
                let record = record.ok_or_else(|| malformed(self.epoch))?;
                if record.egress == egress {
                    let trace = record.trace();
                    if let Some(trace) = &trace {
                        parents.push((records.len(), trace.parent));
                    }
                    records.push(EgressRecord {
                        worker: *worker,
                        sequence: sequence as u32,
                        typename: names(record.message),
                        payload: section.slice_ref(record.payload),
                        trace: trace.map(|trace| Box::new(trace.context)),
                    });
                }
            }
        }
        Ok((records, parents))
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

impl Queue {
    fn next(&mut self) -> Option<Next> {
        if let Some(egress) = self.epochs.pop_front() {
            self.bytes -= egress.bytes();
            return Some(Next::Epoch(egress));
        }
        match self.read_from {
            Some(from) => Some(Next::Log(from)),
            None => self.closed.then_some(Next::Closed),
        }
    }
}

/// What flows from the committer to one sink.
#[derive(Debug, Default)]
pub(crate) struct SinkFeed {
    queue: Mutex<Queue>,
    ready: Condvar,
    pub(crate) meter: EgressMeter,
}

impl SinkFeed {
    /// A feed whose sink first reads everything from `epoch` on from the log.
    pub(crate) fn reading_from(epoch: u64) -> Self {
        Self {
            queue: Mutex::new(Queue {
                read_from: Some(epoch),
                ..Queue::default()
            }),
            ..Self::default()
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

    /// The first epoch that waits for the sink to take its records; none when it has taken all.
    pub(crate) fn waits_from(&self) -> Option<u64> {
        let queue = self.queue();
        let delivering = Some(self.meter.delivering.get()).filter(|epoch| *epoch > 0);
        delivering
            .or_else(|| queue.epochs.front().map(|egress| egress.epoch))
            .or(queue.read_from)
    }

    /// As when the queue is full: from this epoch on the sink reads the log.
    #[cfg(test)]
    pub(crate) fn overflow(&self, epoch: u64) {
        self.queue().read_from.get_or_insert(epoch);
    }

    /// Whether something waits for the sink.
    #[cfg(test)]
    pub(crate) fn has_more(&self) -> bool {
        let queue = self.queue();
        !queue.epochs.is_empty() || queue.read_from.is_some()
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
    pub(crate) tracer: Option<Tracer>,
    /// Whether what the egress found when it was opened is known to be its own, or it takes too long to tell.
    pub(crate) settled: Arc<AtomicBool>,
}

enum Next {
    Epoch(Arc<EpochEgress>),
    Log(u64),
    Quiet,
    Closed,
    Stopped,
}

/// What was delivered and is not safe yet.
#[derive(Debug, Default)]
struct Unflushed {
    bytes: usize,
    since: Option<Stopwatch>,
}

impl Unflushed {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.since.get_or_insert_with(Stopwatch::start);
    }

    fn is_due(&self) -> bool {
        self.bytes > FLUSH_BYTES
            || self
                .since
                .is_some_and(|since| since.elapsed() > FLUSH_AT_LATEST)
    }
}

/// How far a sink has come.
#[derive(Debug)]
pub(crate) struct Progress {
    open: Unflushed,
    /// What the log says was accepted, until more is.
    through: u64,
    /// The last epoch taken from the log: the committer may push it as well, after it has made it durable.
    taken: u64,
    replayed: bool,
}

impl SinkRunner {
    /// Runs until the feed is closed or the engine stops.
    pub(crate) fn run(mut self) {
        take_short_turns();
        if let Err(error) = self.deliver_all() {
            self.shared.fail(error);
        }
    }

    fn deliver_all(&mut self) -> Result<(), EngineError> {
        let mut progress = self.begin();
        loop {
            let next = self.next(progress.open.since.is_some());
            if !self.take(&mut progress, next)? || self.shared.phase() == Phase::Stopped {
                return Ok(());
            }
            if progress.open.is_due() {
                self.flush(progress.through)?;
                progress.open = Unflushed::default();
            }
        }
    }

    /// Where the sink is before it has taken anything.
    pub(crate) fn begin(&self) -> Progress {
        let from = self.feed.queue().read_from;
        Progress {
            open: Unflushed::default(),
            through: from.map_or_else(|| self.log.durable_epoch(), |from| from - 1),
            taken: 0,
            replayed: false,
        }
    }

    /// Takes what comes next; false when the sink has ended.
    fn take(&mut self, progress: &mut Progress, next: Next) -> Result<bool, EngineError> {
        let hash = egress_hash(&self.id);
        match next {
            Next::Epoch(egress) if egress.epoch <= progress.taken => {}
            Next::Epoch(egress) => {
                // An epoch without a record of this egress counts as well: the log is kept until all sinks are past it.
                let Some(bytes) = self.deliver(hash, &egress)? else {
                    self.flush(progress.through)?;
                    return Ok(false);
                };
                progress.open.add(bytes);
                progress.through = egress.epoch;
            }
            Next::Log(from) => {
                // What the queue had no room for may have been taken from the log before it was pushed.
                let from = from.max(progress.taken + 1);
                let mut bytes = 0;
                let (last, more) = self.deliver_from_log(hash, from, &mut bytes)?;
                if let Some(last) = last {
                    progress.open.add(bytes);
                    (progress.through, progress.taken) = (last, last);
                }
                if !more {
                    self.flush(progress.through)?;
                    return Ok(false);
                }
                if !progress.replayed && self.feed.queue().read_from.is_none() {
                    progress.replayed = true;
                    self.egress.replayed()?;
                    self.settled.store(true, Ordering::Release);
                    // Even when nothing came again: everything retained has been looked at.
                    progress.open.add(0);
                }
            }
            Next::Quiet => {
                self.flush(progress.through)?;
                progress.open = Unflushed::default();
            }
            Next::Closed => {
                self.flush(progress.through.max(self.log.durable_epoch()))?;
                return Ok(false);
            }
            Next::Stopped => return Ok(false),
        }
        Ok(true)
    }

    /// What the thread does next, without waiting: for a simulation. When there is nothing, that counts as quiet if it says
    /// so. False when the sink has ended.
    #[cfg(test)]
    pub(crate) fn turn(
        &mut self,
        progress: &mut Progress,
        quiet: bool,
    ) -> Result<bool, EngineError> {
        let next = self.feed.queue().next();
        let quiet = quiet && progress.open.since.is_some();
        match next.or(quiet.then_some(Next::Quiet)) {
            Some(next) => self.take(progress, next),
            None => Ok(true),
        }
    }

    fn next(&self, unflushed: bool) -> Next {
        let mut queue = self.feed.queue();
        loop {
            if let Some(next) = queue.next() {
                return next;
            }
            let (back, timeout) = self
                .feed
                .ready
                .wait_timeout(queue, FLUSH_AFTER)
                .unwrap_or_else(PoisonError::into_inner);
            queue = back;
            if timeout.timed_out() && self.shared.phase() == Phase::Stopped {
                return Next::Stopped;
            }
            if timeout.timed_out() && unflushed {
                return Next::Quiet;
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
        let (records, parents) = egress.records(hash, &*self.names)?;
        if records.is_empty() {
            return Ok(Some(0));
        }
        let spans = self.tracer.as_ref().map(|_| {
            let begun = egress.released_ns.unwrap_or_else(unix_ns);
            self.spans(egress.epoch, begun, &records, parents)
        });
        let (shared, settled, sink) = (&*self.shared, &*self.settled, &mut self.egress);
        let meter = &self.feed.meter;
        meter.delivering.set(egress.epoch);
        let delivered = patiently(shared, settled, meter, || {
            sink.deliver(egress.epoch, &records)
        })?;
        meter.delivering.set(0);
        if delivered.is_some() {
            meter.records.add(records.len() as u64);
        }
        reached(Step::Delivered);
        if let (Some(()), Some(tracer)) = (delivered, &self.tracer) {
            for span in spans.into_iter().flatten() {
                tracer.finish(span);
            }
        }
        Ok(delivered.map(|()| records.iter().map(|record| record.payload.len() + 1).sum()))
    }

    /// The spans of those records whose traces are recorded.
    fn spans(
        &self,
        epoch: u64,
        begun_ns: u64,
        records: &[EgressRecord],
        parents: Parents,
    ) -> Vec<Span> {
        let spans = parents.into_iter().filter_map(|(place, parent)| {
            let record = records.get(place)?;
            let context = (**record.trace.as_ref()?).clone();
            Some(Span {
                context,
                parent: Some(parent),
                kind: SpanKind::Producer,
                name: SpanName::Egress(self.id.as_str().into()),
                start_ns: begun_ns,
                end_ns: begun_ns,
                about: About {
                    message: (!record.typename.is_empty()).then(|| record.typename.into()),
                    epoch: Some(epoch),
                    worker: Some(record.worker),
                    ..About::default()
                },
                error: None,
                events: Vec::new(),
            })
        });
        spans.collect()
    }

    fn flush(&mut self, through_epoch: u64) -> Result<(), EngineError> {
        let (shared, settled, sink) = (&*self.shared, &*self.settled, &mut self.egress);
        if let Some(position) = patiently(shared, settled, &self.feed.meter, || sink.flush())? {
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
    settled: &AtomicBool,
    meter: &EgressMeter,
    mut attempt: impl FnMut() -> Result<T, crate::io::egress::EgressError>,
) -> Result<Option<T>, EngineError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Ok(done) => return Ok(Some(done)),
            Err(error) if error.transient => {
                meter.failures.add(1);
                // It may take long, and nobody is to wait for it.
                settled.store(true, Ordering::Release);
                // The application stops then, and says so.
                if !is_reader_gone(&error) {
                    tracing::warn!(%error, retry_in_ms = pause.as_millis() as u64, "an egress does not take records");
                }
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

#[cfg(test)]
mod tests;
