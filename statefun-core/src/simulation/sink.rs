//! A sink that can tell what it has, as file egress can: what comes again after a restart must be what it took before.

use crate::disk::Crash;
use crate::engine::cut::egress_framing;
use crate::rand::Random;
use crate::simulation::model::{LoggedRecord, Model};

/// Where the records went, outside of the application.
#[derive(Debug, Default)]
pub(super) struct SimSink {
    taken: Vec<LoggedRecord>,
    /// So many are safe from a power cut.
    safe: usize,
    /// Where the running process is: all before this one have been delivered by it, or need not be.
    pub(super) next: usize,
}

impl SimSink {
    /// The records of one epoch's sections are delivered.
    pub(super) fn deliver(
        &mut self,
        epoch: u64,
        sections: &[(u32, Vec<u8>)],
        doubles: bool,
    ) -> Result<(), String> {
        for (worker, section) in sections {
            for (sequence, record) in egress_framing::iter(section).enumerate() {
                let record = record.ok_or("an egress record is malformed")?;
                let place = (epoch, *worker, sequence as u32);
                let record = LoggedRecord {
                    place,
                    payload: record.payload.to_vec(),
                };
                match self.taken.get(self.next) {
                    Some(taken) if !doubles => {
                        if *taken != record {
                            return Err(format!(
                                "the sink took {:?} and is given {:?} now",
                                taken.place, record.place
                            ));
                        }
                    }
                    _ => self.taken.push(record),
                }
                self.next += 1;
            }
        }
        Ok(())
    }

    /// Makes what was delivered safe, and says where a restart goes on.
    pub(super) fn flush(&mut self) -> u64 {
        self.safe = self.safe.max(self.next);
        self.next as u64
    }

    /// The process starts again; the log knows this position.
    pub(super) fn reopen(&mut self, position: u64) -> Result<(), String> {
        self.next = position as usize;
        if self.next > self.safe {
            Err(format!("position {position} was never safe"))
        } else {
            Ok(())
        }
    }

    pub(super) fn crash(&mut self, crash: Crash, random: &mut Random) {
        if crash == Crash::Power {
            let lost = random.below((self.taken.len() - self.safe) as u64 + 1) as usize;
            self.taken.truncate(self.taken.len() - lost);
        }
    }

    /// Everything that left the application is here, once and in order.
    pub(super) fn check_end(&self, model: &Model) -> Result<(), String> {
        if self.taken == model.egress {
            return Ok(());
        }
        Err(format!(
            "the sink has {} records, and {} left",
            self.taken.len(),
            model.egress.len()
        ))
    }
}
