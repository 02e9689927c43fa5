//! Running: from the mailbox into handlers, and what they ask for out again.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::engine::envelope::Envelope;
use crate::engine::index::prefetch;
use crate::engine::instances::{FunctionTable, Invoked, SlotId};
use crate::engine::timers::timer_key;
use crate::engine::waiting::Wait;
use crate::engine::worker::{Body, GROUP, StartOperation, Worker, WorkerError};
use crate::id::Address;
use crate::sdk::context::{Delayed, InvocationScope};
use crate::sdk::error::HandlerError;
use crate::state::keys::{Space, address_key, push_escaped};
use crate::trace::current;

/// How many messages of the mailbox have been fetched ahead.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The messages' own memory and their index entries.
    entries: usize,
    instances: usize,
}

impl Ahead {
    /// So many messages at the front have been taken.
    fn pass(&mut self, count: usize) {
        self.entries = self.entries.saturating_sub(count);
        self.instances = self.instances.saturating_sub(count);
    }
}

/// A slot for an address that has no row.
pub(super) fn insert_empty(
    table: &mut dyn FunctionTable,
    address: &Address,
    now: Timestamp,
) -> Result<SlotId, WorkerError> {
    let slot = table.insert(address);
    let rows = vec![None; table.row_states().len()];
    table.load(slot, &rows, now)?;
    table.set_busy(slot, false);
    Ok(slot)
}

impl Worker {
    /// Works on up to `budget` messages; returns how many it took.
    pub(crate) fn run(&mut self, budget: usize) -> Result<usize, WorkerError> {
        let mut done = 0;
        while done < budget && self.runnable() > 0 {
            let group = self.mailbox.len().min(GROUP).min(budget - done);
            self.measure.set_busy(group == GROUP);
            self.prefetch(group);
            let mut left = group;
            while left > 0 {
                let Some(mut front) = self.mailbox.take_front() else {
                    break;
                };
                let messages = front.next(left);
                let count = messages.len();
                for envelope in messages {
                    self.deliver(envelope)?;
                }
                self.mailbox.put_back(front, count);
                left -= count;
            }
            self.ahead.pass(group);
            done += group;
            if !self.ready.is_empty() {
                done += self.drain_one()?.max(1);
            }
            self.send_all();
        }
        if done > 0 {
            self.changed = true;
            if self.cached_bytes() > self.cache_bytes {
                self.shrink();
            }
        }
        Ok(done)
    }

    /// Fetches what the messages behind the next group will touch, each in time: the messages themselves, then their index
    /// entries, then their instances, each of which needs what was fetched before it.
    fn prefetch(&mut self, group: usize) {
        let table_of = |envelope: &Envelope| {
            self.tables
                .get(self.registry.function_index(envelope.to.function())?)
        };
        let upcoming = |from: usize, groups: usize| {
            let to = (group * groups).min(self.mailbox.len());
            (to, self.mailbox.range(from.min(to), to))
        };
        let (to, envelopes) = upcoming(self.ahead.instances, 2);
        for envelope in envelopes {
            envelope.body.fetch_any();
            if let Some(table) = table_of(envelope) {
                table.prefetch_instance(envelope.to.hash());
            }
        }
        let instances = to;
        let (to, envelopes) = upcoming(self.ahead.entries, 3);
        for envelope in envelopes {
            prefetch(std::ptr::from_ref(&*envelope.body).cast());
            if let Some(table) = table_of(envelope) {
                table.prefetch_index(envelope.to.hash());
            }
        }
        self.ahead = Ahead {
            entries: to,
            instances,
        };
    }

    /// Gives a message to its address, now or when the address no longer waits.
    fn deliver(&mut self, envelope: &mut Envelope) -> Result<(), WorkerError> {
        let Some(function) = self.registry.function_index(envelope.to.function()) else {
            let problem = format!(
                "no function `{}` in this application",
                envelope.to.function()
            );
            return self.dead_letter(envelope, &problem);
        };
        let Some(table) = self.tables.get_mut(function) else {
            return Ok(());
        };
        let Some(slot) = table.find(&envelope.to) else {
            if self.store_is_empty {
                let slot = insert_empty(&mut **table, &envelope.to, self.now)?;
                return self.invoke_or_hold(function, slot, envelope);
            }
            let address = envelope.to.clone();
            self.measure.meter.cache_misses.add(1);
            self.begin_load(&address, Wait::loading());
            return self.enqueue(envelope.take());
        };
        if table.is_busy(slot) {
            return self.enqueue(envelope.take());
        }
        self.invoke_or_hold(function, slot, envelope)
    }

    fn invoke_or_hold(
        &mut self,
        function: usize,
        slot: SlotId,
        envelope: &mut Envelope,
    ) -> Result<(), WorkerError> {
        match self.invoke(function, slot, envelope, 0)? {
            Ok(()) => Ok(()),
            Err(error) => self.hold(function, slot, envelope.take(), error),
        }
    }

    /// Runs one invocation, which uses the message up, and carries out what it asks for; the inner error is the handler's, and then
    /// the message is there as before. `failures` counts the attempts before this one.
    pub(super) fn invoke(
        &mut self,
        function: usize,
        slot: SlotId,
        envelope: &mut Envelope,
        failures: u32,
    ) -> Result<Result<(), HandlerError>, WorkerError> {
        let Some(table) = self.tables.get_mut(function) else {
            return Ok(Ok(()));
        };
        self.counts.invocations += 1;
        self.invocation.begin();
        let observed = self.trace.is_some().then(|| envelope.clone());
        let traced = match &mut self.tracer {
            None => None,
            Some(tracer) => tracer.enter(envelope, self.epoch, failures),
        };
        let timed = self.measure.begin(function);
        let written_before = self.early.section.len();
        let mut scope = InvocationScope {
            address: &envelope.to,
            caller: envelope.from.as_ref(),
            now: self.now,
            random: &mut self.random,
            registry: &self.registry,
            effects: &mut self.invocation,
            early: &mut self.early,
        };
        let watched = self.watched.as_ref().and_then(|(all, own)| all.get(*own));
        if let Some(watched) = watched {
            watched.enter(&envelope.to);
        }
        let invoked = table.invoke(slot, &mut envelope.body, &mut scope);
        if let Some(watched) = watched {
            watched.leave();
        }
        if let Some(timed) = timed {
            let bytes = match self.early.section.len() - written_before {
                0 => table.bytes_to_write(slot),
                written => written,
            };
            self.measure.end(function, &timed, &envelope.to, bytes);
        }
        if let Some(envelope) = observed {
            self.trace_invocation(envelope, &invoked);
        }
        if traced.is_some() {
            current::leave();
        }
        match invoked {
            Invoked::Done => {
                if let Some(meter) = self.measure.meter.functions.get(function) {
                    meter.out.add(self.invocation.messages() as u64);
                    if self.invocation.egress_records > 0 {
                        let records = u64::from(self.invocation.egress_records);
                        meter.out_egress.add(records);
                    }
                }
                if let (Some(traced), Some(tracer)) = (traced, &mut self.tracer) {
                    tracer.succeeded(*traced, &mut self.invocation);
                }
                self.carry_out(function, &envelope.to)?;
                Ok(Ok(()))
            }
            Invoked::Failed(error) => {
                self.invocation.undo();
                if let (Some(traced), Some(tracer)) = (traced, &mut self.tracer) {
                    tracer.failed(*traced, envelope, &error);
                }
                self.counts.failures += 1;
                if let Some(meter) = self.measure.meter.functions.get(function) {
                    meter.errors.add(1);
                }
                Ok(Err(error))
            }
        }
    }

    /// Carries out the effects of an invocation that has succeeded.
    #[inline]
    fn carry_out(&mut self, function: usize, own: &Address) -> Result<(), WorkerError> {
        self.egress_count += self.invocation.egress_records as usize;
        if !self.invocation.own.is_empty() {
            self.invocation.own.record();
        }
        if !self.invocation.responses.is_empty() {
            self.responses.append(&mut self.invocation.responses);
        }
        if !self.invocation.cancelled.is_empty() {
            for token in std::mem::take(&mut self.invocation.cancelled) {
                self.cancel_timer(own, &token)?;
            }
        }
        if !self.invocation.delayed.is_empty() {
            for delayed in std::mem::take(&mut self.invocation.delayed) {
                self.set_timer(own, delayed)?;
            }
        }
        if !self.invocation.spawns.is_empty() {
            for spawn in std::mem::take(&mut self.invocation.spawns) {
                let id = self.next_sequence();
                let unknown = Envelope {
                    to: own.clone(),
                    from: None,
                    body: spawn.unknown.clone_any(),
                };
                let mut bytes = Vec::new();
                unknown.encode(&mut bytes)?;
                self.rows
                    .borrow_mut()
                    .put(self.operation_key(own, id), bytes);
                self.operations.insert(id);
                if let Some(meter) = self.measure.meter.functions.get(function) {
                    meter.inflight.add(1);
                }
                self.effects.operations.push(StartOperation {
                    address: own.clone(),
                    id,
                    operation: spawn.operation,
                    unknown: spawn.unknown,
                });
            }
        }
        Ok(())
    }

    /// Sends what invocations and routers have put out on its way.
    pub(super) fn send_all(&mut self) {
        let mut sends = std::mem::take(&mut self.invocation.sends);
        for envelope in sends.drain(..) {
            self.route(envelope);
        }
        self.invocation.sends = sends;
    }

    fn operation_key(&self, address: &Address, id: u64) -> Vec<u8> {
        let mut key = address_key(Space::Operation, self.groups, address);
        key.extend_from_slice(&id.to_be_bytes());
        key
    }

    /// An operation has ended; what is not one of this process' own is dropped.
    pub(crate) fn operation_done(&mut self, address: &Address, id: u64, result: Body) {
        if self.operations.remove(&id) {
            if let Some(function) = self.registry.function_index(address.function())
                && let Some(meter) = self.measure.meter.functions.get(function)
            {
                meter.inflight.sub(1);
            }
            self.rows
                .borrow_mut()
                .delete(self.operation_key(address, id));
            self.route(Envelope {
                to: address.clone(),
                from: None,
                body: result,
            });
            self.changed = true;
        }
    }

    fn token_key(&self, address: &Address, token: &str) -> Vec<u8> {
        let mut key = address_key(Space::Token, self.groups, address);
        push_escaped(&mut key, token.as_bytes());
        key
    }

    /// A timer's row: `length of the key of its token's row (u32) · that key · the envelope`; a token's row: the timer's key.
    fn set_timer(&mut self, own: &Address, delayed: Delayed) -> Result<(), WorkerError> {
        let timer = (delayed.due, self.next_sequence());
        let group = own.key_group(self.groups);
        let key = timer_key(group, timer);
        let mut value = Vec::new();
        let token_key = delayed
            .token
            .map(|token| self.token_key(own, &token))
            .unwrap_or_default();
        value.extend_from_slice(&(token_key.len() as u32).to_le_bytes());
        value.extend_from_slice(&token_key);
        Envelope {
            to: delayed.to,
            from: Some(own.clone()),
            body: delayed.body,
        }
        .encode(&mut value)?;
        let mut rows = self.rows.borrow_mut();
        if !token_key.is_empty() {
            rows.put(token_key, key.clone());
        }
        rows.put(key, value);
        self.timers.insert(group, timer);
        self.measure.meter.timers.add(1);
        Ok(())
    }

    fn cancel_timer(&mut self, own: &Address, token: &str) -> Result<(), WorkerError> {
        let token_key = self.token_key(own, token);
        let mut rows = self.rows.borrow_mut();
        let Some(key) = rows.get(&token_key)? else {
            return Ok(());
        };
        rows.delete(token_key);
        let (due, sequence) = key
            .get(3..11)
            .zip(key.get(11..19))
            .and_then(|(due, sequence)| {
                Some((*due.first_chunk::<8>()?, *sequence.first_chunk::<8>()?))
            })
            .ok_or(WorkerError::Row("a cancellation token"))?;
        self.timers.remove(
            own.key_group(self.groups),
            (
                Timestamp(u64::from_be_bytes(due)),
                u64::from_be_bytes(sequence),
            ),
        );
        rows.delete(key);
        self.measure.meter.timers.sub(1);
        Ok(())
    }

    /// Sends the delayed messages that are due, up to `budget`, and takes up the retries that are.
    pub(crate) fn fire(&mut self, budget: usize) -> Result<usize, WorkerError> {
        let mut fired = 0;
        while fired < budget {
            let due = self.timers.pop_due(self.now, &self.rows.borrow())?;
            let Some((group, timer)) = due else { break };
            let key = timer_key(group, timer);
            let Some(value) = self.rows.borrow().get(&key)? else {
                continue;
            };
            let mut value = Bytes::from(value);
            let token_len = value
                .first_chunk::<4>()
                .map(|len| u32::from_le_bytes(*len) as usize);
            let token_len = token_len
                .filter(|len| len + 4 <= value.len())
                .ok_or(WorkerError::Row("a timer"))?;
            let token_key = value.split_to(4 + token_len).slice(4..);
            {
                let mut rows = self.rows.borrow_mut();
                if !token_key.is_empty() && rows.get(&token_key)?.as_deref() == Some(&key[..]) {
                    rows.delete(token_key.to_vec());
                }
                rows.delete(key);
            }
            let envelope = Envelope::decode(&mut value, &self.registry)?;
            self.measure.meter.timers.sub(1);
            if let Some(from) = &envelope.from
                && let Some(function) = self.registry.function_index(from.function())
                && let Some(meter) = self.measure.meter.functions.get(function)
            {
                meter.out.add(1);
            }
            self.route(envelope);
            self.changed = true;
            fired += 1;
        }
        fired += self.take_up_retries()?;
        self.look_for_expired();
        Ok(fired)
    }
}
