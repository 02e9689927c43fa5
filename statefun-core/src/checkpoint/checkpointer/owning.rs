//! Whether this process is the one that goes on: taking over manifest and chain, and what forbids it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Checkpointer;
use crate::checkpoint::chain::{self, Found, Kind, Link};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::kept::KeptEpochs;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::uploads::Waiting;

/// How long a start waits for the blob store.
const START_PATIENCE: Duration = Duration::from_secs(2);

impl Checkpointer {
    /// Begins to complete epochs by the blob store: from now on no other process completes any of this history, and everything that the
    /// local log has is complete. Returns what the next object is like.
    ///
    /// The chain comes before the manifest. Of two processes that both begin, the one whose start is the later one in the chain gets
    /// both: the other one sees that start before it takes the manifest over, or loses the manifest to it. And one that must not
    /// begin has not ended another one by then.
    pub(crate) fn begin_chain(&mut self) -> Result<Link, CheckpointError> {
        let durable = self.log.durable_epoch();
        let lineage = self.writer.lineage;
        if let Some(ledger) = self.waiting.on(Ledger::read(&self.bucket))? {
            self.may_take_over(ledger.manifest(), durable)?;
        }
        let (start, found) = loop {
            let found = self.waiting.on(Found::read(&self.bucket, lineage))?;
            let newest = found.epochs.last();
            let chained = newest.map_or(0, |newest| newest.epoch);
            let is_sealed = found.last.is_some_and(|last| last.kind == Kind::Seal);
            if is_sealed
                || chained > durable
                || newest.is_some_and(|newest| !self.local.made(newest.token))
            {
                return Err(CheckpointError::Behind {
                    url: self.bucket.url().to_owned(),
                    stored: chained,
                    local: durable,
                    directory: self.directory.clone(),
                });
            }
            let start = Link {
                kind: Kind::Start,
                lineage,
                sequence: found.next(),
                attempt: self.writer.attempt,
                token: self.writer.token,
                after_epoch: durable,
                epoch: durable,
            };
            if self.waiting.on(chain::create(&self.bucket, &start, &[]))? {
                break (start, found);
            }
        };
        let next = Link {
            kind: Kind::Epochs,
            sequence: start.sequence + 1,
            ..start
        };
        self.own(Some(&next))?;
        let chained = found.epochs.last().map_or(0, |newest| newest.epoch);
        self.kept = Arc::new(KeptEpochs::of(&found.epochs));
        let has = self
            .progress
            .previous
            .as_ref()
            .map(|(_, descriptor)| descriptor.epoch);
        if has.is_none_or(|has| durable > chained.max(has)) {
            self.checkpoint(None, true)?;
        }
        Ok(next)
    }

    /// Makes sure that this process is the one that writes; while the next place in its chain of epochs, if it has one, is free.
    pub(super) fn own(&mut self, next: Option<&Link>) -> Result<(), CheckpointError> {
        if self.progress.ledger.is_some() {
            return Ok(());
        }
        let durable = self.log.durable_epoch();
        let may = async |manifest: &Manifest| {
            self.may_take_over(manifest, durable)?;
            match next {
                Some(next) => chain::refuse_taken(&self.bucket, next).await,
                None => Ok(()),
            }
        };
        let ledger = self
            .waiting
            .on(Ledger::take_over(&self.bucket, &self.writer, may))?;
        let checkpoints = &ledger.manifest().checkpoints;
        let from = checkpoints
            .iter()
            .rev()
            .find(|entry| self.local.goes_on_from(entry))
            .cloned();
        self.progress.previous = match from {
            None => None,
            Some(entry) => match self.waiting.on(ledger.descriptor(&entry)) {
                Ok(descriptor) => {
                    self.desk.status.found(&entry);
                    Some((entry, descriptor))
                }
                Err(
                    error @ (CheckpointError::Missing { .. } | CheckpointError::Damaged { .. }),
                ) => {
                    tracing::warn!(%error, "the next checkpoint is a full one");
                    None
                }
                Err(error) => return Err(error),
            },
        };
        self.progress.ledger = Some(ledger);
        Ok(())
    }

    /// As [`own`](Self::own), but a blob store that fails or is slow costs no more than a moment: it is tried again later.
    ///
    /// # Errors
    /// When the data directory has no right to what is there.
    pub(crate) fn try_to_own(&mut self) -> Result<(), CheckpointError> {
        let (give_up, stopping) = watch::channel(false);
        let timer = self.waiting.runtime.spawn(async move {
            tokio::time::sleep(START_PATIENCE).await;
            let _ = give_up.send(true);
        });
        let runtime = self.waiting.runtime.clone();
        let waiting = std::mem::replace(&mut self.waiting, Waiting { runtime, stopping });
        let owned = self.own(None);
        self.waiting = waiting;
        timer.abort();
        match owned {
            Err(error @ CheckpointError::Bucket(_)) => {
                self.desk.status.failed(&error, self.clock.now());
                Ok(())
            }
            Err(CheckpointError::Stopped) => Ok(()),
            owned => owned,
        }
    }

    /// Whether what is there belongs to the history of this data directory.
    fn may_take_over(&self, manifest: &Manifest, durable: u64) -> Result<(), CheckpointError> {
        let mine = self.writer.lineage;
        let url = || self.bucket.url().to_owned();
        let stored = manifest
            .checkpoints
            .iter()
            .filter(|entry| entry.lineage == mine)
            .map(|entry| entry.epoch)
            .max();
        if let Some(stored) = stored.filter(|stored| *stored > durable) {
            return Err(CheckpointError::Behind {
                url: url(),
                stored,
                local: durable,
                directory: self.directory.clone(),
            });
        }
        let writer = manifest.writer.lineage;
        if writer == mine || manifest.checkpoints.is_empty() {
            return Ok(());
        }
        match &self.local.origin {
            Some(origin) if origin.lineage == writer && origin.copy => {
                return Err(CheckpointError::Copy {
                    url: url(),
                    checkpoint: origin.checkpoint.clone(),
                    directory: self.directory.clone(),
                });
            }
            Some(origin) if origin.lineage == writer => return Ok(()),
            _ => {}
        }
        Err(CheckpointError::Foreign {
            url: url(),
            lineage: writer,
            checkpoints: manifest.checkpoints.len(),
            directory: self.directory.clone(),
        })
    }
}
