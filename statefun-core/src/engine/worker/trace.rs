//! Watching a worker from a test harness: what was sent and handled, and the state of an instance.

use crate::engine::envelope::Envelope;
use crate::engine::instances::Invoked;
use crate::engine::waiting::Wait;
use crate::engine::worker::invoke::insert_empty;
use crate::engine::worker::{Worker, WorkerError};
use crate::id::Address;

/// Something that a watched worker did.
#[derive(Debug)]
pub(crate) enum TraceEvent {
    /// A message was put on its way, once per message.
    Sent(Envelope),
    /// A message was handled, once per attempt; or it could not be delivered at all.
    Delivered(Envelope, TraceOutcome),
}

/// How a delivery ended.
#[derive(Debug)]
pub(crate) enum TraceOutcome {
    Handled,
    Failed { problem: String, permanent: bool },
    Undeliverable { problem: String },
}

impl Worker {
    #[cold]
    pub(super) fn trace_invocation(&mut self, envelope: Envelope, invoked: &Invoked) {
        let Some(trace) = &mut self.trace else { return };
        let outcome = match invoked {
            Invoked::Done => TraceOutcome::Handled,
            Invoked::Failed(error) => TraceOutcome::Failed {
                problem: error.to_string(),
                permanent: error.is_permanent(),
            },
        };
        trace.push(TraceEvent::Delivered(envelope, outcome));
    }

    pub(super) fn trace_dead_letter(&mut self, envelope: &Envelope, problem: &str) {
        if let Some(trace) = &mut self.trace {
            let outcome = TraceOutcome::Undeliverable {
                problem: problem.to_owned(),
            };
            trace.push(TraceEvent::Delivered(envelope.clone(), outcome));
        }
    }

    /// Has an instance brought into memory, if it is not there.
    pub(crate) fn fetch(&mut self, address: &Address) -> Result<(), WorkerError> {
        let Some(function) = self.registry.function_index(address.function()) else {
            return Ok(());
        };
        let Some(table) = self
            .tables
            .get_mut(function)
            .filter(|table| table.find(address).is_none())
        else {
            return Ok(());
        };
        if self.store_is_empty {
            insert_empty(&mut **table, address, self.now)?;
        } else {
            self.begin_load(address, Wait::loading());
        }
        Ok(())
    }

    /// Shows an instance that is in memory, as its Rust type; false when it is not there.
    pub(crate) fn inspect(
        &mut self,
        address: &Address,
        visit: &mut dyn FnMut(&mut dyn std::any::Any),
    ) -> bool {
        let function = self.registry.function_index(address.function());
        let Some(table) = function.and_then(|function| self.tables.get_mut(function)) else {
            return false;
        };
        table
            .find(address)
            .is_some_and(|slot| table.inspect(slot, self.now, visit))
    }
}
