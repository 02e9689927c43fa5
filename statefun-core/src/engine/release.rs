//! Letting out what waited for an epoch: at once when the local log is what counts, or once the blob store has it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::chain::{self, Kind, Link};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::kept::KeptEpochs;
use crate::checkpoint::uploads::Waiting;
use crate::clock::Stopwatch;
use crate::engine::accepted::Accepted;
use crate::engine::cut::EpochPart;
use crate::engine::gatherer::RowFeed;
use crate::engine::priority::take_short_turns;
use crate::engine::shared::{Hold, Shared};
use crate::engine::sinks::{Buffers, EpochEgress, SinkFeed};
use crate::io::clients::Clients;
use crate::io::ingress::AckOutcome;
use crate::steps::{Step, reached};

/// Lets out what waited for an epoch to be complete.
pub(crate) struct Releaser {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) feeds: Vec<Arc<SinkFeed>>,
    /// Where the rows of complete epochs go, and their buffers back to the workers.
    pub(crate) rows: Arc<RowFeed>,
    pub(crate) buffers: Buffers,
    /// How far all sinks have accepted; read by the gatherer, which lets the log go.
    pub(crate) accepted: Arc<Accepted>,
}

impl Releaser {
    /// The epoch is complete: its output leaves, its clients are answered, its records are acknowledged. All sinks had accepted
    /// everything through `accepted`, as its record says.
    pub(crate) fn release(&mut self, epoch: u64, mut parts: Vec<EpochPart>, accepted: u64) {
        let watch = Stopwatch::start();
        // First of all: a stop closes the feeds once it sees that the epoch is durable, and a sink that finds nothing more then
        // takes everything durable for delivered.
        if let Some(egress) = EpochEgress::take(epoch, &mut parts, &self.buffers) {
            let egress = Arc::new(egress);
            for feed in &self.feeds {
                feed.push(&egress);
            }
        }
        self.shared.durable.store(epoch, Ordering::SeqCst);
        self.shared.epochs.durable(epoch);
        self.shared.wake_all();
        for part in &mut parts {
            for ack in part.acks.drain(..) {
                ack.tell(AckOutcome::Durable);
            }
            for response in part.responses.drain(..) {
                self.clients.answer(response);
            }
        }
        self.accepted.note(epoch, accepted);
        if self.rows.push(epoch, parts) {
            self.shared.set_hold(Hold::GathererBehind, true);
        }
        if self.shared.apply_soon.load(Ordering::Relaxed) {
            self.rows.wake();
        }
        self.shared.epochs.release.observe(watch.elapsed());
        self.shared.epochs.released(epoch);
        reached(Step::Released);
    }
}

/// An epoch that the local log has.
pub(crate) struct Written {
    pub(crate) epoch: u64,
    pub(crate) parts: Vec<EpochPart>,
    pub(crate) accepted: u64,
    /// The body of its record, behind its length.
    pub(crate) record: Vec<u8>,
}

/// Where epochs go from the local log.
pub(crate) enum Outlet {
    /// They are complete.
    Releaser(Releaser),
    /// They are complete when the blob store has them.
    Gate(Sender<Written>),
}

/// Bytes of records that are uploaded together, at most.
const BATCH_BYTES: usize = 16 << 20;

/// Completes epochs by the blob store (`durability: blob`): all that the local log has by the time the last upload ended go into one
/// object.
pub(crate) struct Gate {
    pub(crate) input: Receiver<Written>,
    pub(crate) releaser: Releaser,
    pub(crate) bucket: Bucket,
    pub(crate) waiting: Waiting,
    /// The place of the next object, and what all of them have in common.
    pub(crate) next: Link,
    pub(crate) kept: Arc<KeptEpochs>,
}

impl Gate {
    pub(crate) fn run(mut self) {
        take_short_turns();
        while let Ok(first) = self.input.recv() {
            let mut bytes = first.record.len();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES
                && let Ok(next) = self.input.try_recv()
            {
                bytes += next.record.len();
                batch.push(next);
            }
            match self.complete(&batch) {
                Ok(()) => {}
                Err(CheckpointError::Stopped) => return,
                Err(error) => return self.releaser.shared.fail(error),
            }
            for written in batch {
                self.releaser
                    .release(written.epoch, written.parts, written.accepted);
            }
        }
    }

    /// Uploads epochs; while the blob store fails, nothing is taken in, and it is tried again.
    fn complete(&mut self, batch: &[Written]) -> Result<(), CheckpointError> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Ok(());
        };
        let link = Link {
            kind: Kind::Epochs,
            after_epoch: first.epoch - 1,
            epoch: last.epoch,
            ..self.next
        };
        let mut joined = Vec::new();
        let records = if let [only] = batch {
            &only.record
        } else {
            for written in batch {
                joined.extend_from_slice(&written.record);
            }
            &joined
        };
        let shared = &self.releaser.shared;
        let (bucket, epoch) = (&self.bucket, link.epoch);
        let watch = Stopwatch::start();
        loop {
            let created = self.waiting.on(async {
                let mut creating = pin!(chain::create(bucket, &link, records));
                tokio::select! {
                    created = &mut creating => created,
                    () = tokio::time::sleep(PATIENCE) => {
                        if shared.set_hold(Hold::NoBlobStore, true) {
                            tracing::error!(
                                epoch, problem = problem_of(bucket),
                                "nothing is taken in until the blob store takes epochs"
                            );
                        }
                        creating.await
                    }
                }
            });
            match created {
                Ok(true) => break,
                Ok(false) => return Err(self.overtaken(&link)),
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
        }
        if shared.set_hold(Hold::NoBlobStore, false) {
            tracing::info!(epoch, after = ?watch.elapsed(), "the blob store takes epochs again");
        }
        shared.epochs.upload.observe(watch.elapsed());
        reached(Step::Completed);
        self.kept.add(link.sequence, link.epoch);
        self.next.sequence += 1;
        Ok(())
    }

    /// Who has taken the place of an object.
    fn overtaken(&self, link: &Link) -> CheckpointError {
        let name = chain::name(link.lineage, link.sequence);
        let found = self.waiting.on(self.bucket.get(&name)).ok().flatten();
        chain::superseded(&self.bucket, link, found.as_deref())
    }
}

/// How long an upload may take before nothing more is taken in.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a bucket does not answer, as far as it is known.
fn problem_of(bucket: &Bucket) -> String {
    let failing = bucket.health().failing;
    failing.map_or_else(|| "it is slow".to_owned(), |failing| failing.problem)
}
