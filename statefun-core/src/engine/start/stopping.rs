//! Stopping an engine in order: what is under way becomes durable and leaves, and a last checkpoint is made.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::checkpointer::{CheckpointDesk, Request, ToCheckpointer};
use crate::clock::Stopwatch;
use crate::engine::dataflow::Workers;
use crate::engine::driver::ToCommit;
use crate::engine::shared::{EngineError, Hold, Phase, Shared};

impl Engine {
    /// Stops: nothing new is taken in, the current epoch becomes durable, its output leaves, and all threads end.
    /// What is still under way goes on at the next start.
    pub fn stop(self) -> Result<(), EngineError> {
        let _ = self.stopping.send(true);
        self.handle.shared.enter_phase(Phase::Draining);
        let watch = Stopwatch::start();
        let under_way = || {
            self.handle
                .shared
                .backlog
                .iter()
                .chain(&self.handle.shared.in_transit)
                .any(|count| count.load(Ordering::Relaxed) > 0)
        };
        while under_way() && watch.elapsed() < DRAIN_FOR && !self.has_stopped() {
            crate::clock::pause(Duration::from_millis(1));
        }
        self.handle.shared.enter_phase(Phase::Frozen);
        one_more_epoch(&self.handle.shared);
        // The sinks deliver all that is durable; what they have accepted is part of one last epoch.
        for feed in &self.feeds {
            feed.close();
        }
        for sink in self.sinks {
            let _ = sink.join();
        }
        one_more_epoch(&self.handle.shared);
        if let Some(desk) = &self.checkpoints
            && self.handle.shared.phase() != Phase::Stopped
        {
            last_checkpoint(desk, &self.handle.shared);
        }
        self.handle.shared.enter_phase(Phase::Stopped);
        let _ = self.giving_up.send(true);
        let joined = self.workers.map_or(Ok(()), Workers::join);
        let _ = self.commit.send(ToCommit::Stop);
        if let Some((rows, handover)) = &self.appliers {
            rows.wake();
            handover.wake();
        }
        if let Some(desk) = &self.checkpoints {
            let _ = desk.requests.send(ToCheckpointer::Stop);
        }
        drop(self.handle.inboxes);
        for thread in self.threads {
            let _ = thread.join();
        }
        match self.handle.shared.take_failure() {
            Some(error) => Err(error),
            None => joined,
        }
    }
}

/// How long a stop waits for a last checkpoint: the machine may not come back.
const CHECKPOINT_FOR: Duration = Duration::from_secs(8);

/// Makes a checkpoint of all that the application has done, unless the blob store fails or takes long.
fn last_checkpoint(desk: &CheckpointDesk, shared: &Shared) {
    let (reply, mut made) = tokio::sync::oneshot::channel();
    let _ = desk
        .requests
        .send(ToCheckpointer::Make(Request { name: None, reply }));
    let watch = Stopwatch::start();
    while watch.elapsed() < CHECKPOINT_FOR && shared.phase() != Phase::Stopped {
        match made.try_recv() {
            Ok(Ok(entry)) => {
                return tracing::info!(
                    id = entry.id,
                    epoch = entry.epoch,
                    "made a last checkpoint"
                );
            }
            Ok(Err(CheckpointError::Empty)) => return,
            Ok(Err(error)) => {
                return tracing::warn!(%error, "stopped without a last checkpoint: the data directory has everything");
            }
            Err(tokio::sync::oneshot::error::TryRecvError::Closed) => return,
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                crate::clock::pause(Duration::from_millis(2));
            }
        }
    }
    tracing::warn!(waited = ?watch.elapsed(), "stopped without a last checkpoint: the data directory has everything");
}

/// How long a stop waits for what is under way; the rest is carried to the next start.
const DRAIN_FOR: Duration = Duration::from_millis(500);

/// Has all workers cut once more, and waits until that is durable.
fn one_more_epoch(shared: &Shared) {
    let cut = shared.requested.load(Ordering::SeqCst);
    shared.request(cut + 1);
    let watch = Stopwatch::start();
    while shared.durable.load(Ordering::SeqCst) < cut && shared.phase() != Phase::Stopped {
        if shared.is_held_by(Hold::NoSpace) && watch.elapsed() > DRAIN_FOR {
            // Whoever stops the process may want to free space without it.
            return shared.fail(EngineError::StoppedWhenFull);
        }
        if shared.is_held_by(Hold::NoBlobStore) && watch.elapsed() > CHECKPOINT_FOR {
            return shared.fail(EngineError::StoppedWithoutBlobStore);
        }
        shared.wake_all();
        crate::clock::pause(Duration::from_micros(500));
    }
}
