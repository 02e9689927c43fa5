//! Loading, retrying, parking: the queues of addresses that cannot run right now.

use std::cmp::Reverse;

use bytes::Bytes;

use crate::engine::envelope::Envelope;
use crate::engine::instances::SlotId;
use crate::engine::waiting::{MEMORY_QUEUE, Wait, WaitKind, WaitRow, queue_key, waiting_key};
use crate::engine::worker::written::message_name;
use crate::engine::worker::{GROUP, ReadDone, ReadRequest, Worker, WorkerError};
use crate::id::Address;
use crate::sdk::error::HandlerError;
use crate::state::keys::{Space, address_key};

/// Messages that are brought from rows into memory at a time.
const REFILL: usize = 32;
/// Parked addresses that are let go at a time.
const RELEASE: usize = 4096;

impl Worker {
    /// Has the state of an address read; its messages wait meanwhile, behind those that wait already.
    pub(super) fn begin_load(&mut self, address: &Address, wait: Wait) {
        let Some(function) = self.registry.function_index(address.function()) else {
            return;
        };
        let Some(table) = self.tables.get_mut(function) else {
            return;
        };
        if table.find(address).is_none() {
            table.insert(address);
        }
        let mut keys = vec![waiting_key(self.groups, address)];
        let prefix = address_key(Space::State, self.groups, address);
        keys.extend(
            table
                .row_states()
                .iter()
                .map(|state| [&prefix[..], &state.to_be_bytes()].concat()),
        );
        self.moving.insert(address.clone(), wait);
        self.effects.reads.push(ReadRequest {
            address: address.clone(),
            keys,
        });
    }

    /// The rows of an address have been read.
    pub(crate) fn loaded(&mut self, done: ReadDone) -> Result<(), WorkerError> {
        let rows = done.rows?;
        let address = done.address;
        let Some(function) = self.registry.function_index(address.function()) else {
            return Ok(());
        };
        let Some(table) = self.tables.get_mut(function) else {
            return Ok(());
        };
        let (Some(slot), Some(mut wait)) = (table.find(&address), self.moving.remove(&address))
        else {
            return Ok(());
        };
        // Where the row had been known when the store was asked, it may have changed since. Where not, the store has the
        // last one: an instance stays in memory until its row's end is applied.
        match rows.first().and_then(Option::as_deref) {
            Some(row) if !wait.stored => {
                let stored = WaitRow::decode(row)
                    .ok_or(WorkerError::Row("a waiting address"))?
                    .into_wait();
                self.held.recall(&address, &stored);
                let arrived = std::mem::replace(&mut wait, stored).memory;
                for envelope in arrived {
                    self.push_row(&mut wait, &envelope)?;
                }
            }
            _ => wait.kind = WaitKind::Draining,
        }
        let Some(table) = self.tables.get_mut(function) else {
            return Ok(());
        };
        match table.load(slot, rows.get(1..).unwrap_or_default(), self.now) {
            Ok(()) => wait.loaded = true,
            Err(error) => {
                // What cannot be read holds up its own address only.
                self.put_back(&address, &mut wait)?;
                self.park(&address, &mut wait, error.to_string());
            }
        }
        match wait.kind {
            WaitKind::Retrying => {
                self.retries.push(Reverse((wait.retry_at, address.clone())));
                self.held.insert(address, wait);
            }
            WaitKind::Parked => {
                self.keep(&address);
                self.held.insert(address, wait);
            }
            WaitKind::Loading | WaitKind::Draining => {
                self.ready.push_back(address.clone());
                self.moving.insert(address, wait);
            }
        }
        Ok(())
    }

    /// Puts a message behind those that wait at its address.
    pub(super) fn enqueue(&mut self, envelope: Envelope) -> Result<(), WorkerError> {
        let limit = self
            .registry
            .function_index(envelope.to.function())
            .and_then(|function| self.registry.functions().get(function))
            .map_or(u64::MAX, |function| function.limits.queue_len);
        if self.moving.get(&envelope.to).is_some_and(|wait| {
            wait.stored_len() == 0
                && (wait.kind == WaitKind::Loading || wait.memory.len() < MEMORY_QUEUE)
        }) {
            self.moving.push(envelope);
            return Ok(());
        }
        let address = envelope.to.clone();
        let held = self.held.contains(&address);
        let waits = if held {
            &mut self.held
        } else {
            &mut self.moving
        };
        let Some(mut wait) = waits.remove(&address) else {
            return Err(WorkerError::Row("a busy address that waits for nothing"));
        };
        if wait.stored_len() >= limit {
            let problem =
                format!("{limit} messages wait at {address} already, its limit (`max_queue`)");
            self.dead_letter(&envelope, &problem)?;
        } else {
            self.push_row(&mut wait, &envelope)?;
        }
        if held {
            self.keep(&address);
            self.held.insert(address, wait);
        } else {
            self.moving.insert(address, wait);
        }
        Ok(())
    }

    /// Keeps an instance in memory until its address' waiting row of this epoch is applied: who reads it back must find that.
    fn keep(&mut self, address: &Address) {
        if let Some(function) = self.registry.function_index(address.function())
            && let Some(table) = self.tables.get_mut(function)
            && let Some(slot) = table.find(address)
        {
            table.keep(slot, self.epoch);
        }
    }

    /// Lets parked addresses go, whose queues are rows; a message or an operator brings them back. True when any went.
    pub(super) fn release_parked(&mut self) -> bool {
        let parked = self
            .held
            .iter()
            .filter(|(_, wait)| wait.kind == WaitKind::Parked && wait.memory.is_empty());
        let parked: Vec<Address> = parked
            .map(|(address, _)| address.clone())
            .take(RELEASE)
            .collect();
        let mut any = false;
        for address in parked {
            let table = self
                .registry
                .function_index(address.function())
                .and_then(|function| self.tables.get_mut(function));
            let Some(table) = table else { continue };
            if let Some(slot) = table.find(&address)
                && table.remove(slot, self.applied)
            {
                self.held.release(&address);
                any = true;
            }
        }
        any
    }

    pub(super) fn push_row(
        &mut self,
        wait: &mut Wait,
        envelope: &Envelope,
    ) -> Result<(), WorkerError> {
        let Some(bytes) = self.encoded(envelope)? else {
            return Ok(());
        };
        self.rows
            .borrow_mut()
            .put(queue_key(self.groups, &envelope.to, wait.next), bytes);
        wait.next += 1;
        self.store_wait(&envelope.to, wait);
        Ok(())
    }

    /// Puts a message in front of all that wait; false when it cannot be kept.
    fn push_row_front(
        &mut self,
        wait: &mut Wait,
        envelope: &Envelope,
    ) -> Result<bool, WorkerError> {
        let Some(bytes) = self.encoded(envelope)? else {
            return Ok(false);
        };
        wait.head -= 1;
        self.rows
            .borrow_mut()
            .put(queue_key(self.groups, &envelope.to, wait.head), bytes);
        Ok(true)
    }

    /// Turns the messages in memory into rows, in front of those that are rows already.
    pub(super) fn put_back(
        &mut self,
        address: &Address,
        wait: &mut Wait,
    ) -> Result<(), WorkerError> {
        while let Some(envelope) = wait.memory.pop_back() {
            self.push_row_front(wait, &envelope)?;
        }
        self.store_wait(address, wait);
        Ok(())
    }

    pub(super) fn store_wait(&self, address: &Address, wait: &mut Wait) {
        wait.stored = true;
        self.rows.borrow_mut().put(
            waiting_key(self.groups, address),
            WaitRow::of(wait).encode(),
        );
    }

    /// Before a cut: a queue that is partly in memory and partly in rows becomes rows, since a cut keeps no order between them.
    pub(super) fn spill_queues(&mut self) -> Result<(), WorkerError> {
        let mixed: Vec<Address> = self
            .moving
            .iter()
            .filter(|(_, wait)| !wait.memory.is_empty() && wait.stored_len() > 0)
            .map(|(address, _)| address.clone())
            .collect();
        for address in mixed {
            if let Some(mut wait) = self.moving.remove(&address) {
                self.put_back(&address, &mut wait)?;
                self.moving.insert(address, wait);
            }
        }
        Ok(())
    }

    /// Works on the queue of one address for a while; returns how many messages it took.
    pub(super) fn drain_one(&mut self) -> Result<usize, WorkerError> {
        let Some(address) = self.ready.pop_front() else {
            return Ok(0);
        };
        let Some(mut wait) = self.moving.remove(&address) else {
            return Ok(0);
        };
        let found = self
            .registry
            .function_index(address.function())
            .and_then(|function| {
                let slot = self.tables.get(function)?.find(&address)?;
                Some((function, slot))
            });
        let Some((function, slot)) = found else {
            return Err(WorkerError::Row("a waiting address without an instance"));
        };
        let mut done = 0;
        while done < GROUP {
            if wait.memory.is_empty() && !self.refill(&address, &mut wait)? {
                self.finish(&address, wait, function, slot);
                return Ok(done);
            }
            let Some(mut envelope) = wait.memory.pop_front() else {
                break;
            };
            done += 1;
            match self.invoke(function, slot, &mut envelope, wait.attempt)? {
                Ok(()) if wait.attempt == 0 => {}
                Ok(()) => {
                    wait.attempt = 0;
                    // Its row still counts the attempts of the message that has now succeeded.
                    if wait.stored {
                        self.store_wait(&address, &mut wait);
                    }
                }
                Err(error) => {
                    self.hold_wait(function, wait, envelope, &error)?;
                    return Ok(done);
                }
            }
        }
        self.moving.insert(address.clone(), wait);
        self.ready.push_back(address);
        Ok(done)
    }

    /// Nothing waits at the address any more.
    fn finish(&mut self, address: &Address, wait: Wait, function: usize, slot: SlotId) {
        if wait.stored {
            self.rows
                .borrow_mut()
                .delete(waiting_key(self.groups, address));
            if let Some(table) = self.tables.get_mut(function) {
                table.keep(slot, self.epoch);
            }
        }
        if let Some(table) = self.tables.get_mut(function) {
            table.set_busy(slot, false);
        }
    }

    /// Brings messages from rows into memory; false when there is none.
    fn refill(&mut self, address: &Address, wait: &mut Wait) -> Result<bool, WorkerError> {
        if wait.stored_len() == 0 {
            return Ok(false);
        }
        let start = queue_key(self.groups, address, wait.head);
        let end = queue_key(self.groups, address, wait.next);
        let stored = self.rows.borrow().scan(&start, &end, REFILL)?;
        if stored.is_empty() {
            return Err(WorkerError::Row("a queue with a gap"));
        }
        for (key, value) in stored {
            wait.memory
                .push_back(Envelope::decode(&mut Bytes::from(value), &self.registry)?);
            self.rows.borrow_mut().delete(key);
            wait.head += 1;
        }
        self.store_wait(address, wait);
        Ok(true)
    }

    /// A handler failed: the address waits, with this message at the head of its queue.
    pub(super) fn hold(
        &mut self,
        function: usize,
        slot: SlotId,
        envelope: Envelope,
        error: HandlerError,
    ) -> Result<(), WorkerError> {
        if let Some(table) = self.tables.get_mut(function) {
            table.set_busy(slot, true);
        }
        self.hold_wait(function, Wait::draining(), envelope, &error)
    }

    fn hold_wait(
        &mut self,
        function: usize,
        mut wait: Wait,
        envelope: Envelope,
        error: &HandlerError,
    ) -> Result<(), WorkerError> {
        let address = envelope.to.clone();
        self.put_back(&address, &mut wait)?;
        if !self.push_row_front(&mut wait, &envelope)? {
            // It is a dead letter; the next one has its turn.
            self.settle_span(None);
            wait.attempt = 0;
            self.moving.insert(address.clone(), wait);
            self.ready.push_back(address);
            return Ok(());
        }
        wait.attempt += 1;
        let retry = self
            .registry
            .functions()
            .get(function)
            .map(|function| function.retry)
            .unwrap_or_default();
        if error.is_permanent() || wait.attempt >= retry.max_attempts {
            let problem = format!(
                "{error} (handling `{}`, attempt {})",
                message_name(&envelope),
                wait.attempt
            );
            self.settle_span(Some(&problem));
            self.park(&address, &mut wait, problem);
        } else {
            self.settle_span(None);
            wait.kind = WaitKind::Retrying;
            wait.retry_at = self.now.after(retry.delay_after(wait.attempt));
            wait.since = if wait.attempt == 1 {
                self.now
            } else {
                wait.since
            };
            wait.problem = error.to_string();
            tracing::debug!(%address, attempt = wait.attempt, problem = wait.problem, "an invocation failed; it is tried again");
            self.store_wait(&address, &mut wait);
            self.retries.push(Reverse((wait.retry_at, address.clone())));
        }
        self.held.insert(address, wait);
        Ok(())
    }

    /// It is known what becomes of a message that failed.
    fn settle_span(&mut self, parked: Option<&str>) {
        if let Some(tracer) = &mut self.tracer {
            tracer.settled(parked);
        }
    }

    pub(super) fn park(&mut self, address: &Address, wait: &mut Wait, problem: String) {
        tracing::warn!(%address, problem, "the address is parked; see `statefun parked show`");
        wait.kind = WaitKind::Parked;
        wait.since = self.now;
        wait.problem = problem;
        self.counts.parked += 1;
        self.store_wait(address, wait);
        self.keep(address);
    }

    /// Takes up the retries that are due; returns how many.
    pub(super) fn take_up_retries(&mut self) -> Result<usize, WorkerError> {
        let mut taken = 0;
        while let Some(Reverse((at, _))) = self.retries.peek()
            && *at <= self.now
        {
            let Some(Reverse((at, address))) = self.retries.pop() else {
                break;
            };
            let due = |wait: &Wait| wait.kind == WaitKind::Retrying && wait.retry_at == at;
            if self.held.get(&address).is_some_and(due) {
                self.resume(&address, false);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Lets a held address go on; `reading` when its state is being read already.
    pub(super) fn resume(&mut self, address: &Address, reading: bool) {
        let Some(mut wait) = self.held.remove(address) else {
            return;
        };
        wait.kind = WaitKind::Draining;
        self.store_wait(address, &mut wait);
        self.changed = true;
        if wait.loaded {
            self.moving.insert(address.clone(), wait);
            self.ready.push_back(address.clone());
        } else if reading {
            self.moving.insert(address.clone(), wait);
        } else {
            // Its state could not be read, or is not in memory.
            self.begin_load(address, wait);
        }
    }
}
