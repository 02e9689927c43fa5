//! How far all sinks had accepted, epoch by epoch.
//!
//! The log is let go behind what the state store has applied. Whoever goes on from there, a checkpoint, needs the output that had
//! not been accepted *as of that epoch*, although it may have been meanwhile.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Written by the committer, read by the gatherer.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Epochs whose record says something new, and through which epoch all output had been accepted then.
    known: Mutex<VecDeque<(u64, u64)>>,
}

impl Accepted {
    /// The record of `epoch` says that all sinks have accepted everything through another one.
    pub(crate) fn note(&self, epoch: u64, through: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.back().is_none_or(|(_, last)| *last != through) {
            known.push_back((epoch, through));
        }
    }

    /// Through which epoch all sinks had accepted, as the record of `epoch` says; 0 when it is not known. What was noted of
    /// earlier epochs is forgotten.
    pub(crate) fn as_of(&self, epoch: u64) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        while known.get(1).is_some_and(|(later, _)| *later <= epoch) {
            known.pop_front();
        }
        known
            .front()
            .filter(|(noted, _)| *noted <= epoch)
            .map_or(0, |(_, through)| *through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_a_record_says_and_not_what_a_later_one_does() {
        let accepted = Accepted::default();
        assert_eq!(accepted.as_of(5), 0);
        for (epoch, through) in [(10, 7), (11, 7), (12, 11), (20, 15)] {
            accepted.note(epoch, through);
        }
        for (epoch, through) in [
            (9, 0),
            (10, 7),
            (11, 7),
            (12, 11),
            (19, 11),
            (20, 15),
            (30, 15),
        ] {
            assert_eq!(accepted.as_of(epoch), through, "as of {epoch}");
        }
    }
}
