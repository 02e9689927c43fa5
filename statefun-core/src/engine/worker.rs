//! One worker: a mailbox, the instances of its key groups, and Lai–Yang cuts. It sees no thread, no clock and no file:
//! messages, records, time and frontier go in, and batches, reads, operations and parts of epochs come out.

mod commands;
mod expiry;
mod intake;
mod invoke;
mod mailbox;
mod measure;
mod queues;
mod sending;
mod spans;
mod trace;
mod waits;
mod written;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::engine::cut::EpochPart;
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::instances::{EarlyRows, FunctionTable, TableSite};
use crate::engine::registry::Registry;
use crate::engine::request::ClientResponse;
use crate::engine::rows::{RowStore, SharedRows};
use crate::engine::sweep::{Look, Looked, Sweep};
use crate::engine::timers::Timers;
use crate::engine::waiting::{Wait, WaitKind, WaitRow};
use crate::engine::watchdog::Watched;
use crate::id::{Address, KeyGroups};
use crate::io::ingress::Ack;
use crate::metrics::Lag;
use crate::metrics::meter::WorkerMeter;
use crate::metrics::own::{OwnMetrics, Recorder};
use crate::rand::Random;
use crate::sdk::context::{InvocationEffects, Operation};
use crate::sdk::function::MissingFactory;
pub(crate) use crate::sdk::message::Body;
use crate::sdk::message::CodecError;
use crate::state::keys::{Space, group_key, parse_address_key, prefix_end};
use crate::state::{StateError, StateReader};

pub use commands::{Command, CommandError, CommandResult, QueuedMessage};
pub(crate) use intake::{BAD_RECORD, partition_address};
use invoke::Ahead;
use mailbox::Mailbox;
use measure::Measure;
use spans::WorkerTracer;
pub(crate) use trace::{TraceEvent, TraceOutcome};
use waits::Waits;

/// Messages taken from the mailbox together, so that what they touch can be fetched ahead.
const GROUP: usize = 16;

/// The worker cannot go on; the process stops with this error.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A message cannot be written.
    #[error("a message cannot be written into the epoch log: {0}")]
    Message(#[from] CodecError),
    /// A stored message cannot be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// A function cannot be instantiated.
    #[error(transparent)]
    Factory(#[from] MissingFactory),
    /// A record cannot be read or routed, and its ingress' policy is to stop.
    #[error(
        "ingress `{ingress}`: {problem}\n(its `onError` is `fail`: mend the record, or set `onError: skip` or `onError: {{deadLetter: …}}`)"
    )]
    Record {
        /// The ingress.
        ingress: String,
        /// What is wrong with the record.
        problem: String,
    },
    /// A stored row is not what it should be.
    #[error("a stored row is malformed: {0}")]
    Row(&'static str),
}

/// Messages for one worker.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) to: usize,
    pub(crate) messages: Vec<Envelope>,
}

/// Rows to be read off the worker's thread.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    pub(crate) address: Address,
    /// Its waiting row's key, then the keys of its states' own rows.
    pub(crate) keys: Vec<Vec<u8>>,
}

/// The rows of a [`ReadRequest`].
#[derive(Debug)]
pub(crate) struct ReadDone {
    pub(crate) address: Address,
    pub(crate) rows: Result<Vec<Option<Vec<u8>>>, StateError>,
}

/// An operation to be started.
pub(crate) struct StartOperation {
    pub(crate) address: Address,
    pub(crate) id: u64,
    pub(crate) operation: Operation,
    /// The result should its end never be known.
    pub(crate) unknown: Body,
}

impl std::fmt::Debug for StartOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operation {} of {}", self.id, self.address)
    }
}

/// What the worker wants done by whoever drives it.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) batches: Vec<Batch>,
    pub(crate) reads: Vec<ReadRequest>,
    pub(crate) operations: Vec<StartOperation>,
    pub(crate) looks: Vec<Look>,
}

/// Counters of a worker since its start.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WorkerCounts {
    pub(crate) invocations: u64,
    pub(crate) failures: u64,
    pub(crate) dead_letters: u64,
    pub(crate) parked: u64,
}

/// Uses the hash that an address carries.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Carried(u64);
impl Hasher for Carried {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
pub(crate) type AddressMap<V> = HashMap<Address, V, BuildHasherDefault<Carried>>;

/// How a worker is set up.
pub(crate) struct WorkerSetup {
    pub(crate) index: usize,
    pub(crate) workers: usize,
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn StateReader>,
    /// The last complete epoch; the worker begins in the next one.
    pub(crate) last_epoch: u64,
    /// The last epoch that the store has applied.
    pub(crate) applied_epoch: u64,
    /// Whether the store has any row of an address: where it has none, none needs to be looked for.
    pub(crate) store_is_empty: bool,
    /// What its instances may occupy, in bytes.
    pub(crate) cache_bytes: usize,
    pub(crate) seed: u64,
    /// Where the worker says which handler it is in; its number there.
    pub(crate) watched: Option<(Arc<Vec<Watched>>, usize)>,
    /// Where it counts what it does.
    pub(crate) meter: Arc<WorkerMeter>,
    /// Whether it counts what would cost time, too.
    pub(crate) measures: bool,
}

/// An emptied buffer keeps its memory up to this size, in bytes, and a larger one when it had good use of it.
const KEPT_BYTES: usize = 1 << 20;

fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEPT_BYTES.max(4 * buffer.len()) {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

/// See the module's page.
pub(crate) struct Worker {
    index: usize,
    workers: usize,
    registry: Arc<Registry>,
    groups: KeyGroups,
    epoch: u64,
    applied: u64,
    store_is_empty: bool,
    cache_bytes: usize,
    /// Nothing more could be let go when the store had applied this epoch: before the next there is no use in looking again.
    stuck_at: Option<u64>,
    now: Timestamp,
    random: Random,
    mailbox: Mailbox,
    ahead: Ahead,
    outboxes: Vec<Vec<Envelope>>,
    tables: Vec<Box<dyn FunctionTable>>,
    rows: SharedRows,
    timers: Timers,
    sweep: Sweep,
    /// What has expired and is to be deleted at the next cut.
    expired: Option<Looked>,
    /// Addresses that are loaded or worked off: what waits there counts as runnable.
    moving: Waits,
    /// Addresses that retry or are parked.
    held: Waits,
    /// Addresses in `moving` whose queue can be worked off.
    ready: VecDeque<Address>,
    retries: BinaryHeap<Reverse<(Timestamp, Address)>>,
    /// What invocations ask for, and the egress records of the epoch.
    invocation: InvocationEffects,
    early: EarlyRows,
    egress_count: usize,
    responses: Vec<ClientResponse>,
    acks: Vec<Ack>,
    /// Cut, and not yet complete.
    parts: VecDeque<EpochPart>,
    spare: Vec<EpochPart>,
    /// Operations that this process has started and not seen the end of.
    operations: std::collections::HashSet<u64>,
    sequence: u64,
    changed: bool,
    watched: Option<(Arc<Vec<Watched>>, usize)>,
    measure: Measure,
    tracer: Option<Box<WorkerTracer>>,
    pub(crate) counts: WorkerCounts,
    pub(crate) effects: Effects,
    /// What was sent and handled, where a test harness watches.
    pub(crate) trace: Option<Vec<TraceEvent>>,
}

impl Worker {
    pub(crate) fn new(setup: WorkerSetup) -> Result<Self, WorkerError> {
        let groups = setup.registry.key_groups;
        let rows = RowStore::shared(setup.store);
        let site = TableSite {
            rows: rows.clone(),
            key_groups: groups,
        };
        let mut tables = Vec::new();
        for function in setup.registry.functions() {
            let factory = setup.registry.factory(function.typename);
            tables.push((function.make_table)(function, factory, site.clone())?);
        }
        let range = groups.range_of(setup.index, setup.workers);
        let epoch = setup.last_epoch + 1;
        for table in &mut tables {
            table.enter(epoch);
        }
        Ok(Self {
            index: setup.index,
            workers: setup.workers,
            groups,
            epoch,
            applied: setup.applied_epoch,
            store_is_empty: setup.store_is_empty,
            cache_bytes: setup.cache_bytes,
            stuck_at: None,
            now: Timestamp::default(),
            random: Random::seeded(
                setup.seed ^ (setup.index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            ),
            mailbox: Mailbox::default(),
            ahead: Ahead::default(),
            outboxes: (0..setup.workers).map(|_| Vec::new()).collect(),
            tables,
            rows,
            sweep: Sweep::new(setup.registry.functions(), range.clone()),
            expired: None,
            timers: Timers::new(range),
            moving: Waits::new(&setup.registry, &setup.meter),
            held: Waits::new(&setup.registry, &setup.meter),
            ready: VecDeque::new(),
            retries: BinaryHeap::new(),
            invocation: InvocationEffects::default(),
            early: EarlyRows::default(),
            egress_count: 0,
            responses: Vec::new(),
            acks: Vec::new(),
            parts: VecDeque::new(),
            spare: Vec::new(),
            operations: std::collections::HashSet::new(),
            // Numbers that no earlier attempt can have given: its epochs were smaller.
            sequence: epoch << 24,
            changed: false,
            watched: setup.watched,
            measure: Measure::new(setup.meter, setup.measures),
            tracer: None,
            counts: WorkerCounts::default(),
            effects: Effects::default(),
            trace: None,
            registry: setup.registry,
        })
    }

    /// Where what functions measure of their own is recorded, together with what other workers do.
    pub(crate) fn record_into(&mut self, own: Arc<OwnMetrics>) {
        self.invocation.own = Recorder::sharing(own);
    }

    /// What functions have measured of their own.
    pub(crate) fn own_metrics(&self) -> &OwnMetrics {
        self.invocation.own.shared()
    }

    /// Takes up what the last cut left: queues that were being worked off or retried, operations whose end is unknown,
    /// and the messages that the cut carried. To be called before anything else.
    pub(crate) fn recover(
        &mut self,
        carried: Vec<Envelope>,
        now: Timestamp,
    ) -> Result<(), WorkerError> {
        self.now = now;
        self.tell_epoch();
        self.sweep.begin(now);
        for (key, value) in self.own_rows(Space::Waiting)? {
            let (Some(key), Some(row)) = (parse_address_key(&key), WaitRow::decode(&value)) else {
                return Err(WorkerError::Row("a waiting address"));
            };
            let name = self.registry.function_name(key.function);
            if row.kind == WaitKind::Parked {
                if let Some(name) = name {
                    self.held.found(&Address::new(name, key.id.as_str()), row);
                }
                continue;
            }
            let name = name.ok_or(EnvelopeError::UnknownFunction(key.function.0))?;
            self.begin_load(&Address::new(name, key.id.as_str()), Wait::loading());
        }
        self.mailbox.add(carried);
        for (key, value) in self.own_rows(Space::Operation)? {
            let unknown = Envelope::decode(&mut Bytes::from(value), &self.registry)?;
            self.rows.borrow_mut().delete(key);
            self.route(unknown);
            self.changed = true;
        }
        Ok(())
    }

    /// Says in which epoch the handlers are that it enters from now on.
    fn tell_epoch(&self) {
        if let Some(watched) = self.watched.as_ref().and_then(|(all, own)| all.get(*own)) {
            watched.enter_epoch(self.epoch);
        }
    }

    /// All rows of a space in this worker's key groups.
    fn own_rows(&self, space: Space) -> Result<Vec<crate::state::Row>, StateError> {
        let range = self.groups.range_of(self.index, self.workers);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let start = group_key(space, range.start as u16);
        let end = prefix_end(&group_key(space, (range.end - 1) as u16));
        self.rows.borrow().scan(&start, &end, usize::MAX)
    }

    /// The epoch that the worker is in: what it sends is labelled with it.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether anything happened since the last cut.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    /// Messages that can be worked on now.
    pub(crate) fn runnable(&self) -> usize {
        self.mailbox.len() + self.ready.len()
    }

    /// Messages on this worker that will run without anybody's help: the measure for admission.
    pub(crate) fn backlog(&self) -> usize {
        self.mailbox.len() + self.moving.messages()
    }

    /// Whether nothing at all is under way but timers, retries and operations.
    pub(crate) fn is_idle(&self) -> bool {
        self.mailbox.is_empty() && self.moving.is_empty() && self.parts.is_empty() && !self.changed
    }

    /// Operations that were started and have not ended.
    pub(crate) fn open_operations(&self) -> usize {
        self.operations.len()
    }

    /// Addresses whose head message is tried again later.
    pub(crate) fn held_retries(&self) -> usize {
        self.retries.len()
    }

    /// Tells somebody when the current epoch is durable.
    pub(crate) fn when_durable(&mut self, ack: Ack) {
        self.acks.push(ack);
        self.changed = true;
    }

    /// Sets the time; it never runs backwards.
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// When the worker wants to be woken for a timer, a retry, or a look at what has expired.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let retry = self.retries.peek().map(|Reverse((at, _))| *at);
        let dues = [self.timers.next_due(), retry, self.next_look()];
        dues.into_iter().flatten().min()
    }

    /// Captures the current epoch and enters the next. Everything in `effects.batches` must have been sent before.
    pub(crate) fn cut(&mut self) -> Result<(), WorkerError> {
        debug_assert!(
            self.effects.batches.is_empty(),
            "send what belongs to the epoch before cutting it"
        );
        self.spill_queues()?;
        let mut part = self.spare.pop().unwrap_or_default();
        part.epoch = self.epoch;
        part.worker = self.index as u32;
        self.delete_expired(&mut part);
        part.row_count += self.early.move_to(&mut part.rows);
        let mut unwritten = Vec::new();
        for (function, table) in self.tables.iter_mut().enumerate() {
            if table.is_dirty() {
                let cut = table.cut(self.epoch, &mut part.rows)?;
                part.row_count += cut.rows;
                unwritten.extend(cut.unwritten.into_iter().map(|of| (function, of)));
            }
        }
        for (function, (address, error)) in unwritten {
            self.park_unwritten(function, &address, &error)?;
        }
        self.carry(&mut part)?;
        // Tables and buffers write their entries there while they are cut, and dead letters go there, so it comes last.
        part.row_count += self.rows.borrow_mut().cut(self.epoch, &mut part.rows);
        std::mem::swap(&mut part.egress, &mut self.invocation.egress);
        part.egress_count = std::mem::take(&mut self.egress_count);
        part.responses = std::mem::take(&mut self.responses);
        part.acks = std::mem::take(&mut self.acks);
        self.parts.push_back(part);
        self.epoch += 1;
        for table in &mut self.tables {
            table.enter(self.epoch);
        }
        self.tell_epoch();
        self.changed = false;
        Ok(())
    }

    /// The parts of the epochs before `frontier`: nothing that was sent in them is on its way any more.
    pub(crate) fn complete(&mut self, frontier: u64) -> Option<EpochPart> {
        if self.parts.front().is_some_and(|part| part.epoch < frontier) {
            self.parts.pop_front()
        } else {
            None
        }
    }

    /// Gives back the buffers of a part that has been dealt with.
    pub(crate) fn recycle(&mut self, mut part: EpochPart) {
        if self.spare.len() < 4 {
            part.egress.clear();
            self.spare.push(EpochPart {
                rows: emptied(part.rows),
                carried: emptied(part.carried),
                egress: part.egress,
                ..EpochPart::default()
            });
        }
    }

    /// The store has applied all epochs up to this one: what they wrote may leave memory.
    pub(crate) fn applied(&mut self, epoch: u64) {
        if epoch > self.applied {
            self.applied = epoch;
            self.store_is_empty = false;
            self.rows.borrow_mut().applied(epoch);
            self.shrink();
        }
    }

    /// Keeps the cache within its budget.
    fn shrink(&mut self) {
        let bytes = self.cached_bytes();
        if bytes <= self.cache_bytes || self.stuck_at == Some(self.applied) {
            return;
        }
        // A bit more than needed, so that not every message asks again.
        let mut goal = bytes - self.cache_bytes + self.cache_bytes / 16;
        for table in &mut self.tables {
            goal = goal.saturating_sub(table.evict(self.applied, goal));
            if goal == 0 {
                self.stuck_at = None;
                return;
            }
        }
        self.stuck_at = if self.release_parked() {
            None
        } else {
            Some(self.applied)
        };
    }

    /// Publishes what instances occupy in memory.
    pub(crate) fn publish_cache(&self) {
        let bytes = self.cached_bytes() as u64;
        self.measure.meter.cache_bytes.set(bytes);
    }

    /// Publishes how far the partitions of an ingress that this worker polls are behind.
    pub(crate) fn publish_lag(&self, ingress: u16, lag: Option<Lag>) {
        if let Some(meter) = self.measure.meter.ingresses.get(usize::from(ingress)) {
            meter.set_lag(lag);
        }
    }

    fn cached_bytes(&self) -> usize {
        self.tables.iter().map(|table| table.bytes()).sum()
    }

    /// Whether so much waits for the state store that new records must wait too.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.borrow().unapplied_bytes() + self.cached_bytes()
            > 2 * self.cache_bytes + (64 << 20)
    }

    /// Whether the store should apply soon, since memory waits for it.
    pub(crate) fn wants_apply(&self) -> bool {
        self.applied + 1 < self.epoch
            && (self.cached_bytes() > self.cache_bytes
                || self.rows.borrow().unapplied_bytes() > 32 << 20)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
