//! Whether a worker takes anything in from its sources: memory is what is bounded, and what waits for nobody's help counts.

use crate::engine::shared::Shared;
use crate::engine::worker::Worker;

/// See the module's page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    /// Runnable messages on a worker above which it takes nothing in.
    pub(crate) own: usize,
    /// Runnable messages on any worker above which no worker takes anything in.
    pub(crate) any: usize,
    /// A worker that is above these limits takes one record for so many messages that it has run.
    pub(crate) trickle: usize,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            own: 1024,
            any: 4096,
            trickle: 16,
        }
    }
}

impl Admission {
    /// Whether the worker of that number takes records.
    pub(crate) fn is_open(self, shared: &Shared, index: usize, worker: &Worker) -> bool {
        !shared.is_held()
            && worker.backlog() < self.own
            && shared.under_way(index) < self.any
            && self.others_are_free(shared, index)
            && !worker.is_full()
    }

    /// How many records it takes all the same when it has run so many messages: what other workers send may keep it above its
    /// own limit for ever. Its sources have a share that is less than it has worked off, so that nothing grows.
    pub(crate) fn share(self, shared: &Shared, index: usize, worker: &Worker, ran: usize) -> usize {
        let open = !shared.is_held()
            && worker.backlog() < 2 * self.any
            && self.others_are_free(shared, index)
            && !worker.is_full();
        if open { ran / self.trickle } else { 0 }
    }

    fn others_are_free(self, shared: &Shared, index: usize) -> bool {
        (0..shared.backlog.len())
            .filter(|worker| *worker != index)
            .all(|worker| shared.under_way(worker) < self.any)
    }
}
