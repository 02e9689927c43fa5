//! Group commit: when all workers have cut an epoch and nothing of it is on its way any more, its parts become one record.

use std::collections::{BTreeMap, VecDeque};

use crate::checkpoint::chain::push_record;
use crate::clock::Timestamp;
use crate::engine::cut::{EpochPart, SinkPosition, body_slices, encode_head};
use crate::log::{EpochLog, LogError};

/// Gathers the parts of epochs, writes them, and knows how far the log may be let go.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    log: EpochLog,
    workers: usize,
    pending: BTreeMap<u64, Vec<EpochPart>>,
    /// What each sink has accepted, written with every record; also of sinks that there are not any more, since they may
    /// come back, and must not deliver anything twice then.
    sinks: BTreeMap<String, SinkPosition>,
    /// What the last record says the sinks have accepted.
    logged_through: BTreeMap<String, u64>,
    /// Epochs with egress that not all sinks have accepted as far as the log knows.
    egress_epochs: VecDeque<u64>,
    head: Vec<u8>,
}

impl GroupCommit {
    /// Continues a log whose last record had these sink positions. `sinks` names all sinks there are.
    pub(crate) fn new(
        log: EpochLog,
        workers: usize,
        sinks: &[String],
        positions: Vec<SinkPosition>,
    ) -> Self {
        let positions: BTreeMap<String, SinkPosition> = positions
            .into_iter()
            .map(|position| (position.egress.clone(), position))
            .collect();
        let logged_through = sinks
            .iter()
            .map(|sink| {
                (
                    sink.clone(),
                    positions
                        .get(sink)
                        .map_or(0, |position| position.through_epoch),
                )
            })
            .collect();
        // Retained records may hold egress for any of them; they are let go once all sinks have said that they are past.
        let egress_epochs = VecDeque::from([log.last_epoch()]);
        Self {
            log,
            workers,
            pending: BTreeMap::new(),
            sinks: positions,
            logged_through,
            egress_epochs,
            head: Vec::new(),
        }
    }

    /// The last epoch written.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.log.last_epoch()
    }

    /// Takes one worker's part of an epoch.
    pub(crate) fn add(&mut self, part: EpochPart) {
        self.pending.entry(part.epoch).or_default().push(part);
    }

    /// Notes what a sink has accepted; it is written with the next record. True when the log does not know it yet.
    pub(crate) fn accepted(&mut self, position: SinkPosition) -> bool {
        let logged = self
            .logged_through
            .get(&position.egress)
            .copied()
            .unwrap_or(0);
        let is_news = position.through_epoch > logged;
        self.sinks.insert(position.egress.clone(), position);
        is_news
    }

    /// The next epoch, when the parts of all workers are there.
    pub(crate) fn take_complete(&mut self) -> Option<(u64, Vec<EpochPart>)> {
        let (epoch, parts) = self.pending.first_key_value()?;
        if parts.len() < self.workers || *epoch != self.log.last_epoch() + 1 {
            return None;
        }
        let (epoch, mut parts) = self.pending.pop_first()?;
        parts.sort_by_key(|part| part.worker);
        Some((epoch, parts))
    }

    /// Writes an epoch; it is durable when this returns `Ok`. After [`LogError::NoSpace`] it may be called again.
    pub(crate) fn write(
        &mut self,
        epoch: u64,
        parts: &[EpochPart],
        now: Timestamp,
    ) -> Result<(), LogError> {
        let sinks: Vec<SinkPosition> = self.sinks.values().cloned().collect();
        encode_head(&mut self.head, now, &sinks, parts);
        self.log.append(epoch, &body_slices(&self.head, parts))?;
        for sink in &sinks {
            if let Some(logged) = self.logged_through.get_mut(&sink.egress) {
                *logged = sink.through_epoch;
            }
        }
        if parts.iter().any(|part| part.egress_count > 0) {
            self.egress_epochs.push_back(epoch);
        }
        let through = self
            .logged_through
            .values()
            .copied()
            .min()
            .unwrap_or(u64::MAX);
        while self
            .egress_epochs
            .front()
            .is_some_and(|epoch| *epoch <= through)
        {
            self.egress_epochs.pop_front();
        }
        Ok(())
    }

    /// The body of the record that was written last, of these parts, behind its length.
    pub(crate) fn written(&self, parts: &[EpochPart]) -> Vec<u8> {
        let mut record = Vec::new();
        push_record(&mut record, &body_slices(&self.head, parts));
        record
    }

    /// All epochs up to this one have been accepted by all sinks, and the log knows it.
    pub(crate) fn accepted_through(&self) -> u64 {
        match self.egress_epochs.front() {
            // The first one stands for all that were retained at the start, whose egress nobody has looked at.
            Some(first) => self
                .logged_through
                .values()
                .copied()
                .min()
                .unwrap_or(u64::MAX)
                .min(first.saturating_sub(1)),
            None => self.log.last_epoch(),
        }
    }
}
