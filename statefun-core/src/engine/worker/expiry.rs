//! Deleting what has expired: see [`sweep`](crate::engine::sweep).

use crate::clock::Timestamp;
use crate::engine::cut::EpochPart;
use crate::engine::rows::framing;
use crate::engine::sweep::Looked;
use crate::engine::worker::{Worker, WorkerError};
use crate::id::Address;
use crate::state::keys::parse_address_key;

/// A state's own row: its number behind the address, and nothing more.
const OWN_ROW: usize = 4;

impl Worker {
    /// When rows are to be looked through; none while there is something of that kind to do.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.sweep.next_due().filter(|_| self.expired.is_none())
    }

    /// Has rows looked through, when that is due.
    pub(super) fn look_for_expired(&mut self) {
        if self.next_look().is_some()
            && let Some(look) = self.sweep.take_look(self.now)
        {
            self.effects.looks.push(look);
        }
    }

    /// Rows have been looked through. What has expired is deleted at the next cut.
    pub(crate) fn looked(&mut self, mut looked: Looked) -> Result<(), WorkerError> {
        let next = std::mem::replace(&mut looked.next, Ok(None))?;
        self.sweep.looked(next, self.now);
        if !looked.expired.is_empty() {
            self.changed = true;
            self.expired = Some(looked);
        }
        Ok(())
    }

    /// At a cut, before anything is captured: deletes what was found to have expired, if that is still known.
    pub(super) fn delete_expired(&mut self, part: &mut EpochPart) {
        let Some(looked) = self.expired.take() else {
            return;
        };
        if looked.as_of < self.applied {
            // What has been applied since may have changed these rows, and is not in memory any more.
            return;
        }
        for key in looked.expired {
            let Some(parsed) = parse_address_key(&key) else {
                continue;
            };
            if parsed.rest.len() != OWN_ROW {
                let mut rows = self.rows.borrow_mut();
                // What is newer than the store's is not for this look to judge.
                if rows.overlay(&key).is_none() {
                    rows.delete(key);
                    self.measure.meter.expired.add(1);
                }
                continue;
            }
            let Some(name) = self.registry.function_name(parsed.function) else {
                continue;
            };
            let address = Address::new(name, parsed.id.as_str());
            let table = self
                .registry
                .function_index(name)
                .and_then(|function| self.tables.get_mut(function));
            let Some(table) = table else { continue };
            if let Some(slot) = table.find(&address) {
                // Its instance finds that it has expired, and is written at this cut.
                if table.inspect(slot, self.now, &mut |_| {}) {
                    self.measure.meter.expired.add(1);
                }
            } else {
                framing::push(&mut part.rows, &key, None);
                part.row_count += 1;
                self.measure.meter.expired.add(1);
            }
        }
    }
}
