//! Which objects of the chain of epochs are still there, so that those that a checkpoint has can be removed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::chain::Link;

/// Written by who uploads epochs, read by who makes checkpoints.
#[derive(Debug, Default)]
pub(crate) struct KeptEpochs {
    /// Sequences and their last epochs, in order.
    known: Mutex<VecDeque<(u64, u64)>>,
}

impl KeptEpochs {
    pub(crate) fn of(links: &[Link]) -> Self {
        let known = links
            .iter()
            .map(|link| (link.sequence, link.epoch))
            .collect();
        Self {
            known: Mutex::new(known),
        }
    }

    pub(crate) fn add(&self, sequence: u64, last_epoch: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push_back((sequence, last_epoch));
    }

    /// Takes out the objects whose epochs are all at most `epoch`; but never the last one, by which the end of the chain is found.
    pub(crate) fn take_through(&self, epoch: u64) -> Vec<u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let covered = known.partition_point(|(_, last)| *last <= epoch);
        let covered = covered.min(known.len().saturating_sub(1));
        known
            .drain(..covered)
            .map(|(sequence, _)| sequence)
            .collect()
    }
}
