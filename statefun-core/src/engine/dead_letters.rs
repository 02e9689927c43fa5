//! The way of a dead letter: from the sink whose receiver refused a record, through a worker, to another sink.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;

use crate::engine::driver::ToWorker;
use crate::engine::shared::Shared;
use crate::io::egress::{DeadLetter, DeadLetters};
use crate::sdk::egress::egress_hash;

/// Passes dead letters to a worker, once the engine runs. Connectors are made before that, so they are given the desk.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeadLetterDesk {
    worker: Arc<OnceLock<Desk>>,
}

struct Desk {
    inbox: Sender<ToWorker>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

impl DeadLetterDesk {
    /// The way to an egress.
    pub(crate) fn letters_to(&self, egress: &str) -> DeadLetters {
        let (worker, egress) = (self.worker.clone(), egress_hash(egress));
        DeadLetters::new(move |letter: DeadLetter| {
            if let Some(desk) = worker.get() {
                tracing::warn!(
                    reason = letter.reason,
                    typename = letter.record.typename,
                    "a record becomes a dead letter"
                );
                let _ = desk.inbox.send(ToWorker::DeadLetter { egress, letter });
                desk.shared.wake(0);
            }
        })
    }

    /// From now on letters go to this worker, the first.
    pub(crate) fn open(&self, inbox: Sender<ToWorker>, shared: Arc<Shared>) {
        // There is one engine per desk.
        let _ = self.worker.set(Desk { inbox, shared });
    }
}
