//! Driving the worker: messages, epochs, time, restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::catalog::{Catalog, StoredData};
use crate::clock::Timestamp;
use crate::engine::apply::apply_window;
use crate::engine::cut::{EpochBody, EpochPart, body_slices, egress_framing, encode_head};
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::registry::Registry;
use crate::engine::shared::EngineError;
use crate::engine::worker::{ReadDone, TraceEvent, Worker, WorkerError, WorkerSetup};
use crate::id::Address;
use crate::io::ingress::AckOutcome;
use crate::log::LoggedEpoch;
use crate::metrics::meter::WorkerMeter;
use crate::migrate::{MigrationReport, dry_run};
use crate::sdk::message::{Message, TypedValue};
use crate::state::memory::MemoryStore;
use crate::state::{StateReader, StateStore};
use crate::testing::builder::Settings;
use crate::testing::{Harness, HarnessError, Written};

/// Messages handled between two looks at timers and reads.
const SLICE: usize = 256;
/// Of the last so many messages, an endless cycle's error says whose they were.
const SUSPECTS: usize = 1000;

/// A worker over what the store holds, as after the start of a process.
fn make_worker(
    registry: &Arc<Registry>,
    store: &Arc<MemoryStore>,
    settings: &Settings,
    carried: Vec<Envelope>,
    now: Timestamp,
) -> Result<Worker, HarnessError> {
    let applied = store.applied_epoch().map_err(EngineError::from)?;
    let rows = store.scan(&[], &[], 1).map_err(EngineError::from)?;
    let mut worker = Worker::new(WorkerSetup {
        index: 0,
        workers: 1,
        registry: registry.clone(),
        store: store.clone(),
        last_epoch: applied,
        applied_epoch: applied,
        store_is_empty: rows.is_empty(),
        cache_bytes: settings.cache_bytes,
        // The same numbers again after a restart would be a trap of the harness' own.
        seed: settings.seed.wrapping_add(applied),
        watched: None,
        meter: Arc::new(WorkerMeter::new(registry)),
        measures: false,
    })?;
    worker.trace = Some(Vec::new());
    worker.recover(carried, now)?;
    Ok(worker)
}

/// Whether a message can be written, is within its target's limit, and can be read back.
fn survives(envelope: &Envelope, registry: &Registry) -> Result<(), HarnessError> {
    let body = &*envelope.body;
    let unencodable = |problem| HarnessError::Unencodable {
        to: envelope.to.clone(),
        problem,
    };
    let mut bytes = Vec::new();
    let size = if let Some(value) = body.as_any().downcast_ref::<TypedValue>() {
        value.value.len()
    } else {
        body.encode_any(&mut bytes).map_err(unencodable)?;
        bytes.len()
    };
    registry
        .check_size(envelope.to.function(), size)
        .map_err(|problem| HarnessError::Send {
            to: envelope.to.clone(),
            problem,
        })?;
    match registry.message(body.message_type()) {
        Some(message) if body.message_type() != TypedValue::TYPE_ID => {
            (message.decode)(&bytes).map(drop).map_err(unencodable)
        }
        _ => Ok(()),
    }
}

impl Harness {
    pub(super) fn start(
        registry: Registry,
        now: Timestamp,
        settings: Settings,
    ) -> Result<Self, HarnessError> {
        let registry = Arc::new(registry);
        let catalog = Catalog::of(&registry, 0);
        let store = Arc::new(MemoryStore::default());
        let worker = make_worker(&registry, &store, &settings, Vec::new(), now)?;
        Ok(Self {
            registry,
            catalog,
            store,
            worker,
            now,
            settings,
            trace: super::trace::Trace::default(),
            egress: Vec::new(),
            carried: Bytes::new(),
            last_record: Bytes::new(),
            replies: std::collections::HashMap::new(),
            requests: 0,
            operations: super::operations::Operations::default(),
        })
    }

    /// Carries out what the worker wants done.
    pub(super) fn serve(&mut self) -> Result<(), HarnessError> {
        for read in std::mem::take(&mut self.worker.effects.reads) {
            let rows = read.keys.iter().map(|key| self.store.get(key)).collect();
            self.worker.loaded(ReadDone {
                address: read.address,
                rows,
            })?;
        }
        for look in std::mem::take(&mut self.worker.effects.looks) {
            let as_of = self.store.applied_epoch().map_err(EngineError::from)?;
            self.worker.looked(look.run(&*self.store, as_of))?;
        }
        for operation in std::mem::take(&mut self.worker.effects.operations) {
            self.operations.start(operation)?;
        }
        self.note_trace()?;
        Ok(())
    }

    /// Takes down what the worker did. Every message is encoded and decoded on the way: in production any message may
    /// be, when a cut or a waiting queue captures it.
    pub(super) fn note_trace(&mut self) -> Result<(), HarnessError> {
        for event in self.worker.trace.iter_mut().flat_map(std::mem::take) {
            if self.settings.check_messages
                && let TraceEvent::Sent(envelope) = &event
            {
                survives(envelope, &self.registry)?;
            }
            self.trace.note(self.now, event);
        }
        Ok(())
    }

    /// Handles up to `limit` messages; returns how many it took.
    pub(super) fn handle(&mut self, limit: usize) -> Result<usize, HarnessError> {
        let mut done = 0;
        loop {
            self.worker.fire(usize::MAX)?;
            self.serve()?;
            if done >= limit || self.worker.runnable() == 0 {
                return Ok(done);
            }
            done += self.worker.run(SLICE.min(limit - done))?;
            self.serve()?;
        }
    }

    /// Handles messages and waits for operations until there is nothing more to do now.
    pub(super) fn settle(&mut self) -> Result<(), HarnessError> {
        let mut left = self.settings.message_limit;
        loop {
            left = left.saturating_sub(self.handle(left)?);
            if left == 0 && self.worker.runnable() > 0 {
                return Err(self.endless());
            }
            let ended = self.operations.wait(self.settings.operation_timeout)?;
            if ended.is_empty() {
                break;
            }
            for operation in ended {
                self.worker
                    .operation_done(&operation.address, operation.id, operation.result);
            }
        }
        self.commit()
    }

    fn endless(&self) -> HarnessError {
        let mut addresses: Vec<(Address, usize)> = Vec::new();
        for delivery in self.trace.deliveries.iter().rev().take(SUSPECTS) {
            match addresses
                .iter_mut()
                .find(|(address, _)| *address == delivery.to)
            {
                Some((_, count)) => *count += 1,
                None => addresses.push((delivery.to.clone(), 1)),
            }
        }
        addresses.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        addresses.truncate(8);
        HarnessError::Endless {
            limit: self.settings.message_limit,
            addresses,
        }
    }

    /// Ends the epoch: all that changed is encoded and goes to the store, egress records and replies leave.
    pub(super) fn commit(&mut self) -> Result<(), HarnessError> {
        self.serve()?;
        if !self.worker.changed() {
            return Ok(());
        }
        self.worker.flush();
        self.worker.cut()?;
        while let Some(part) = self.worker.complete(self.worker.epoch()) {
            self.release(part)?;
        }
        Ok(())
    }

    fn release(&mut self, mut part: EpochPart) -> Result<(), HarnessError> {
        let mut head = Vec::new();
        encode_head(&mut head, self.now, &[], std::slice::from_ref(&part));
        let body = Bytes::from(body_slices(&head, std::slice::from_ref(&part)).concat());
        let logged = LoggedEpoch {
            epoch: part.epoch,
            body: body.clone(),
        };
        apply_window(&*self.store, &[logged])?;
        self.worker.applied(part.epoch);
        let malformed = || WorkerError::Row("an epoch of the harness' own");
        let parsed = EpochBody::parse(&body).ok_or_else(malformed)?;
        let section = parsed.sections.first().ok_or_else(malformed)?;
        for record in egress_framing::iter(section.egress) {
            let record = record.ok_or_else(malformed)?;
            self.egress.push(Written {
                egress: record.egress,
                message: record.message,
                payload: body.slice_ref(record.payload),
            });
        }
        self.carried = body.slice_ref(section.carried);
        self.last_record = body.clone();
        for ack in part.acks.drain(..) {
            ack.tell(AckOutcome::Durable);
        }
        for response in part.responses.drain(..) {
            self.replies.insert(response.request, response.answer);
        }
        self.worker.recycle(part);
        Ok(())
    }

    /// See [`Harness::advance`].
    pub(super) fn pass(&mut self, duration: Duration) -> Result<(), HarnessError> {
        self.settle()?;
        let end = if duration.is_zero() {
            self.now
        } else {
            self.now.after(duration)
        };
        while let Some(due) = self.worker.next_due().filter(|due| *due <= end) {
            self.set_now(due);
            self.settle()?;
        }
        self.set_now(end);
        self.settle()
    }

    fn set_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.worker.set_now(self.now);
    }

    /// What is stored, for another version of the code to look at.
    fn stored<'a>(&'a self, undelivered: &'a BTreeMap<String, u64>) -> StoredData<'a> {
        StoredData {
            store: &*self.store,
            last_record: &self.last_record,
            undelivered,
        }
    }

    /// See [`Harness::try_restart_as`].
    pub(super) fn start_as(&mut self, mut registry: Registry) -> Result<(), HarnessError> {
        self.commit()?;
        let code = Catalog::of(&registry, 0);
        let none = BTreeMap::new();
        let next =
            self.catalog
                .succeed(&code, &self.stored(&none), Path::new("this harness"), &[])?;
        registry.learn(&next);
        self.catalog = next;
        self.registry = Arc::new(registry);
        self.start_again()
    }

    /// See [`Harness::dry_run_as`].
    pub(super) fn rehearse(
        &mut self,
        registry: &Registry,
    ) -> Result<MigrationReport, HarnessError> {
        self.commit()?;
        let none = BTreeMap::new();
        let report = dry_run(registry, &self.catalog, &self.stored(&none), &mut |_| {});
        Ok(report.map_err(EngineError::from)?)
    }

    /// See [`Harness::restart`].
    pub(super) fn start_again(&mut self) -> Result<(), HarnessError> {
        self.commit()?;
        self.operations.abort();
        let mut carried = Vec::new();
        let mut bytes = self.carried.clone();
        while !bytes.is_empty() {
            let decoded: Result<Envelope, EnvelopeError> =
                Envelope::decode(&mut bytes, &self.registry);
            carried.push(decoded.map_err(WorkerError::from)?);
        }
        self.worker = make_worker(
            &self.registry,
            &self.store,
            &self.settings,
            carried,
            self.now,
        )?;
        self.serve()
    }
}
