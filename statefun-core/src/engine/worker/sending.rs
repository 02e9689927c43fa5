//! Messages on their way: from other workers into the mailbox, and out to their owners.

use crate::engine::envelope::Envelope;
use crate::engine::worker::mailbox::BATCH;
use crate::engine::worker::{Batch, TraceEvent, Worker, WorkerError};

impl Worker {
    /// Takes a batch that was sent in epoch `label`; the worker must have cut up to it. What was sent before a cut that
    /// this worker has made already was in flight at that cut, and is recorded there.
    pub(crate) fn receive(
        &mut self,
        label: u64,
        mut messages: Vec<Envelope>,
    ) -> Result<(), WorkerError> {
        debug_assert!(
            label <= self.epoch,
            "cut up to the label of a message before taking it"
        );
        if messages.is_empty() {
            return Ok(());
        }
        self.changed = true;
        if label == self.epoch {
            self.mailbox.add(messages);
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(messages.len() * 128);
        let mut refused = Vec::new();
        messages.retain_mut(|message| match self.write(message, &mut bytes) {
            Ok(()) => true,
            Err(problem) => {
                refused.push((message.take(), problem));
                false
            }
        });
        for (message, problem) in refused {
            self.dead_letter(&message, &problem)?;
        }
        for part in self.parts.iter_mut().filter(|part| part.epoch >= label) {
            part.carried.extend_from_slice(&bytes);
            part.carried_count += messages.len();
        }
        self.mailbox.add(messages);
        Ok(())
    }

    /// Sends a message on its way: into the own mailbox, or to the worker that owns its target.
    #[inline]
    pub(super) fn route(&mut self, envelope: Envelope) {
        if let Some(trace) = &mut self.trace {
            trace.push(TraceEvent::Sent(envelope.clone()));
        }
        let owner = self
            .groups
            .owner(envelope.to.key_group(self.groups), self.workers);
        if owner == self.index {
            self.mailbox.push(envelope);
        } else if let Some(outbox) = self.outboxes.get_mut(owner) {
            if self.measure.is_on()
                && let Some(from) = &envelope.from
                && let Some(function) = self.registry.function_index(from.function())
                && let Some(meter) = self.measure.meter.functions.get(function)
            {
                meter.out_remote.add(1);
            }
            outbox.push(envelope);
            if outbox.len() >= BATCH {
                let messages = std::mem::replace(outbox, self.mailbox.empty_batch());
                self.effects.batches.push(Batch {
                    to: owner,
                    messages,
                });
            }
        }
    }

    /// Puts what is to be sent into `effects.batches`, to be sent with the label of the current epoch.
    pub(crate) fn flush(&mut self) {
        for (to, outbox) in self.outboxes.iter_mut().enumerate() {
            if !outbox.is_empty() {
                self.effects.batches.push(Batch {
                    to,
                    messages: std::mem::replace(outbox, self.mailbox.empty_batch()),
                });
            }
        }
    }
}
