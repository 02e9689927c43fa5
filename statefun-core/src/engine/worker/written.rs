//! What leaves a worker's memory for a record: messages as they are kept, and what becomes of what cannot be written.
//!
//! A message that its format cannot hold, or that is larger than its target takes, becomes a dead letter. A state that cannot
//! be written keeps its old row, and its address is parked; the value stays in memory, and each cut tries again.

use bytes::Bytes;

use crate::engine::cut::EpochPart;
use crate::engine::envelope::Envelope;
use crate::engine::waiting::{Wait, WaitKind};
use crate::engine::worker::{Worker, WorkerError};
use crate::id::Address;
use crate::sdk::message::TypedValue;
use crate::state::StateError;
use crate::state::keys::{Space, group_key};

impl Worker {
    /// Appends a message as it is kept; nothing of it remains when it is not to be.
    pub(super) fn write(&self, envelope: &Envelope, out: &mut Vec<u8>) -> Result<(), String> {
        let start = out.len();
        let body = envelope
            .encode(out)
            .map_err(|error| format!("it cannot be written: {error}"))?;
        let target = envelope.to.function();
        self.registry.check_size(target, body).map_err(|error| {
            out.truncate(start);
            error.to_string()
        })
    }

    /// A message as it is kept; one that cannot be is a dead letter then, so that it stops nothing else.
    pub(super) fn encoded(&mut self, envelope: &Envelope) -> Result<Option<Vec<u8>>, WorkerError> {
        let mut bytes = Vec::new();
        match self.write(envelope, &mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(problem) => {
                self.dead_letter(envelope, &problem)?;
                Ok(None)
            }
        }
    }

    /// At a cut: encodes what waits in memory, in order. What cannot be kept waits no longer.
    pub(super) fn carry(&mut self, part: &mut EpochPart) -> Result<(), WorkerError> {
        part.carried.clear();
        part.carried_count = 0;
        let mut refused: Vec<(Option<Address>, usize, String)> = Vec::new();
        let mut take = |queue: &mut dyn Iterator<Item = &Envelope>, address: Option<&Address>| {
            for (place, envelope) in queue.enumerate() {
                match self.write(envelope, &mut part.carried) {
                    Ok(()) => part.carried_count += 1,
                    Err(problem) => refused.push((address.cloned(), place, problem)),
                }
            }
        };
        for (address, wait) in self.moving.iter() {
            take(&mut wait.memory.iter(), Some(address));
        }
        take(&mut self.mailbox.iter(), None);
        // From behind, so that the places before stay what they are.
        for (address, place, problem) in refused.into_iter().rev() {
            let removed = match &address {
                None => self.mailbox.remove(place),
                Some(address) => self
                    .moving
                    .change(address, |wait| wait.memory.remove(place))
                    .flatten(),
            };
            if let Some(envelope) = removed {
                self.dead_letter(&envelope, &problem)?;
            }
        }
        Ok(())
    }

    /// At a cut: an instance could not be written. Its address is parked until an operator lets it go on; what its state was
    /// at the last cut that could write it is what a restart finds.
    pub(super) fn park_unwritten(
        &mut self,
        function: usize,
        address: &Address,
        error: &StateError,
    ) -> Result<(), WorkerError> {
        let problem = format!(
            "{error} (the row is that of an earlier epoch: what changed since is in memory only, and lost at a restart)"
        );
        if let Some(wait) = self.held.remove(address) {
            return self.hold_parked(address, wait, problem);
        }
        let wait = match self.moving.remove(address) {
            Some(mut wait) => {
                self.ready.retain(|ready| ready != address);
                self.put_back(address, &mut wait)?;
                wait
            }
            None => Wait::draining(),
        };
        if let Some(table) = self.tables.get_mut(function)
            && let Some(slot) = table.find(address)
        {
            table.set_busy(slot, true);
        }
        self.hold_parked(address, wait, problem)
    }

    fn hold_parked(
        &mut self,
        address: &Address,
        mut wait: Wait,
        problem: String,
    ) -> Result<(), WorkerError> {
        if wait.kind != WaitKind::Parked || wait.problem != problem {
            self.park(address, &mut wait, problem);
        }
        self.held.insert(address.clone(), wait);
        Ok(())
    }

    /// Keeps a message that cannot be delivered, and says so.
    pub(super) fn dead_letter(
        &mut self,
        envelope: &Envelope,
        problem: &str,
    ) -> Result<(), WorkerError> {
        tracing::error!(address = %envelope.to, problem, "a message goes to the dead letters");
        self.counts.dead_letters += 1;
        self.measure.meter.dead_letters.add(1);
        self.trace_dead_letter(envelope, problem);
        if let Some(tracer) = &mut self.tracer {
            tracer.dead_letter(envelope, self.epoch, problem);
        }
        let mut key = group_key(Space::DeadLetter, envelope.to.key_group(self.groups));
        key.extend_from_slice(&self.next_sequence().to_be_bytes());
        let mut value = Vec::new();
        value.extend_from_slice(&(problem.len() as u32).to_le_bytes());
        value.extend_from_slice(problem.as_bytes());
        if envelope.encode(&mut value).is_err() {
            // Of what cannot be written, the type's name is kept.
            let typename = envelope.body.message_type_name().into();
            let body = Box::new(TypedValue {
                typename,
                value: Bytes::new(),
            });
            Envelope {
                to: envelope.to.clone(),
                from: envelope.from.clone(),
                body,
            }
            .encode(&mut value)?;
        }
        self.rows.borrow_mut().put(key, value);
        Ok(())
    }
}

/// The type of a message, also of one in its dynamic form.
pub(super) fn message_name(envelope: &Envelope) -> String {
    match envelope.body.as_any().downcast_ref::<TypedValue>() {
        Some(value) => value.typename.to_string(),
        None => envelope.body.message_type_name().to_owned(),
    }
}
