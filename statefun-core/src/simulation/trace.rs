//! What happened in a run, for whoever looks for the cause of a failure; and its hash, by which two runs are compared.

use std::collections::VecDeque;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

const KEPT: usize = 160;

/// The last events of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<String>,
    count: u64,
    hash: u64,
}

impl Trace {
    /// Notes an event.
    pub(super) fn note(&mut self, event: fmt::Arguments<'_>) {
        let event = event.to_string();
        self.hash = self.hash.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ xxh3_64(event.as_bytes());
        self.count += 1;
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Of all events so far, in order.
    pub(super) fn hash(&self) -> u64 {
        self.hash ^ self.count
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.count - self.events.len() as u64;
        for (index, event) in self.events.iter().enumerate() {
            writeln!(f, "{:>6}  {event}", first + index as u64)?;
        }
        Ok(())
    }
}
