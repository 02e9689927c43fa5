//! The instances of one function type that a worker holds in memory, as decoded values.
//!
//! An instance stays while its rows are not in the state store yet; beyond the cache budget, those not used lately go.

mod table;
mod visits;

use std::rc::Rc;

use crate::clock::Timestamp;
use crate::engine::index::{Index, prefetch_all};
pub(crate) use crate::engine::instances::table::SlotId;
pub use crate::engine::instances::table::{EarlyRows, FunctionTable, Invoked, TableCut};
use crate::engine::instances::visits::{
    Check, Commit, Expire, Facts, FlushAll, Load, Rollback, check_state_size,
};
use crate::engine::registry::check_size;
use crate::engine::rows::SharedRows;
use crate::engine::slab::Slab;
use crate::id::{Address, KeyGroups};
use crate::module::description::{Expiration, StateKind};
use crate::sdk::caught::caught;
use crate::sdk::context::{Context, InvocationScope};
use crate::sdk::error::HandlerError;
use crate::sdk::function::{
    Factory, FunctionDefinition, Handler, MissingFactory, StatefulFunction,
};
use crate::sdk::message::{AnyMessage, Body, Kept, Message, TypedValue};
use crate::sdk::state::{Forms, may_be_unwritable, state_id};
use crate::state::StateError;
use crate::state::keys::{Space, push_address};

/// States larger than this are written at the cut only, however often they change, in bytes.
const EARLY_BYTES: usize = 4096;

struct Slot<F> {
    address: Address,
    function: Option<F>,
    /// The last epoch that wrote rows of it.
    written: u64,
    /// What it holds in memory, roughly, as of its last rows: those of its values stand for their heap.
    row_bytes: u32,
    /// Whether its values were larger than they may be, then.
    too_large: bool,
    busy: bool,
    dirty: bool,
    used: bool,
}

struct StateInfo {
    id: u32,
    schema: u32,
    forms: Rc<Forms>,
    expiration: Expiration,
    name: Rc<str>,
    /// Whether what an invocation makes of it is to be checked at once, and not only at the cut.
    checked: bool,
}

/// See the module's page.
pub(crate) struct InstanceTable<F: StatefulFunction> {
    index: Index,
    slots: Slab<Slot<F>>,
    free: Vec<SlotId>,
    dirty: Vec<SlotId>,
    epoch: u64,
    writes_early: bool,
    handlers: Vec<Handler<F>>,
    states: Vec<StateInfo>,
    row_states: Vec<u32>,
    watch_states: bool,
    check_states: bool,
    factory: Option<Factory>,
    rows: SharedRows,
    key_groups: KeyGroups,
    fan_out: usize,
    message_bytes: usize,
    state_bytes: usize,
    heap_bytes: usize,
    hand: usize,
    prefix: Vec<u8>,
    kept: Kept,
}

/// What a table needs of its worker.
#[doc(hidden)]
#[derive(Clone)]
pub struct TableSite {
    pub(crate) rows: SharedRows,
    pub(crate) key_groups: KeyGroups,
}

impl std::fmt::Debug for TableSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TableSite")
    }
}

impl<F: StatefulFunction> InstanceTable<F> {
    /// Builds the table; what [`FunctionDefinition::make_table`] points to.
    pub(crate) fn make(
        definition: &FunctionDefinition,
        factory: Option<&Factory>,
        site: TableSite,
    ) -> Result<Box<dyn FunctionTable>, MissingFactory> {
        let factory = factory.cloned();
        let missing = || MissingFactory {
            function: definition.typename,
            field: F::field_without_default().unwrap_or("?"),
        };
        let mut sample = make_instance::<F>(factory.as_ref()).ok_or_else(missing)?;
        let mut facts = Facts::default();
        sample.visit_states(&mut facts);
        let states: Vec<StateInfo> = definition
            .states
            .iter()
            .map(|state| StateInfo {
                id: state_id(&state.name),
                schema: state.forms.schema,
                forms: Rc::new(state.forms.clone()),
                expiration: state.expiration,
                name: state.name.as_str().into(),
                checked: state.kind == StateKind::Registry || may_be_unwritable(&state.shape),
            })
            .collect();
        let row_states = states
            .iter()
            .zip(&facts.has_row)
            .filter(|(_, has)| **has)
            .map(|(state, _)| state.id)
            .collect();
        let expires = states
            .iter()
            .any(|state| state.expiration != Expiration::None);
        let check_states = states.iter().any(|state| state.checked);
        Ok(Box::new(Self {
            index: Index::new(),
            slots: Slab::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            epoch: 0,
            writes_early: !facts.needs_site,
            handlers: F::handlers(),
            states,
            row_states,
            watch_states: expires || facts.needs_site,
            check_states,
            factory,
            rows: site.rows,
            key_groups: site.key_groups,
            fan_out: definition.limits.fan_out as usize,
            message_bytes: definition.limits.message_bytes as usize,
            state_bytes: definition.limits.state_bytes as usize,
            heap_bytes: 0,
            hand: 0,
            prefix: Vec::new(),
            kept: Kept::default(),
        }))
    }

    #[inline]
    fn slot(&mut self, slot: SlotId) -> Option<&mut Slot<F>> {
        self.slots.get_mut(slot as usize)
    }

    /// The handler of a message, and the message in its Rust type when it came as a dynamic value.
    fn handler(&self, body: &dyn AnyMessage) -> Result<(&Handler<F>, Option<Body>), HandlerError> {
        let type_id = body.message_type();
        let exact = self
            .handlers
            .iter()
            .find(|handler| handler.message.type_id == type_id);
        let Some(dynamic) = body.as_any().downcast_ref::<TypedValue>() else {
            if let Some(handler) = exact {
                return Ok((handler, None));
            }
            // A function that takes any value takes a typed one in its dynamic form.
            let any = self
                .handlers
                .iter()
                .find(|handler| handler.message.type_id == TypedValue::TYPE_ID);
            let handler = any.ok_or_else(|| not_accepted::<F>(body.message_type_name()))?;
            let mut value = Vec::new();
            caught("its serializer", || body.encode_any(&mut value))
                .map_err(HandlerError::permanent)?
                .map_err(HandlerError::permanent)?;
            check_size(F::TYPENAME, self.message_bytes, value.len())
                .map_err(HandlerError::permanent)?;
            let typename = body.message_type_name().into();
            return Ok((
                handler,
                Some(Box::new(TypedValue {
                    typename,
                    value: value.into(),
                })),
            ));
        };
        let inner = dynamic.type_id();
        if let Some(handler) = self
            .handlers
            .iter()
            .find(|handler| handler.message.type_id == inner)
        {
            let typed =
                (handler.message.decode)(&dynamic.value).map_err(HandlerError::permanent)?;
            return Ok((handler, Some(typed)));
        }
        exact
            .map(|handler| (handler, None))
            .ok_or_else(|| not_accepted::<F>(&dynamic.typename))
    }

    fn free_slot(&mut self, slot: SlotId) {
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let hash = entry.address.hash();
        entry.function = None;
        self.heap_bytes -= entry.row_bytes as usize;
        entry.row_bytes = 0;
        let slots = &self.slots;
        self.index.remove(hash, slot, |slot| {
            slots
                .get(slot as usize)
                .map_or(0, |slot| slot.address.hash())
        });
        self.free.push(slot);
    }
}

fn not_accepted<F: StatefulFunction>(message: &str) -> HandlerError {
    HandlerError::permanent(format_args!(
        "`{}` does not accept `{message}`",
        F::TYPENAME
    ))
}

fn make_instance<F: StatefulFunction>(factory: Option<&Factory>) -> Option<F> {
    match factory {
        Some(factory) => factory.make::<F>(),
        None => F::create(),
    }
}

impl<F: StatefulFunction> FunctionTable for InstanceTable<F> {
    #[inline]
    fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    #[inline]
    fn prefetch_instance(&self, hash: u64) {
        if let Some(slot) = self
            .index
            .candidate(hash)
            .and_then(|slot| self.slots.get(slot as usize))
        {
            prefetch_all(slot);
        }
    }

    #[inline]
    fn find(&self, address: &Address) -> Option<SlotId> {
        self.index.find(address.hash(), |slot| {
            self.slots
                .get(slot as usize)
                .is_some_and(|slot| slot.address == *address)
        })
    }

    fn insert(&mut self, address: &Address) -> SlotId {
        let new = Slot {
            address: address.clone(),
            function: None,
            written: 0,
            row_bytes: 0,
            too_large: false,
            busy: true,
            dirty: false,
            used: true,
        };
        let slot = if let Some(slot) = self.free.pop() {
            if let Some(entry) = self.slots.get_mut(slot as usize) {
                *entry = new;
            }
            slot
        } else {
            self.slots.push(new);
            self.slots.len() as SlotId - 1
        };
        let slots = &self.slots;
        self.index.insert(address.hash(), slot, |slot| {
            slots
                .get(slot as usize)
                .map_or(0, |slot| slot.address.hash())
        });
        slot
    }

    fn load(
        &mut self,
        slot: SlotId,
        rows: &[Option<Vec<u8>>],
        now: Timestamp,
    ) -> Result<(), StateError> {
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return Ok(());
        };
        let Some(mut function) = make_instance::<F>(self.factory.as_ref()) else {
            return Err(StateError::Store(format!(
                "no instance of `{}` can be made any more",
                F::TYPENAME
            )));
        };
        if self.watch_states || rows.iter().any(Option::is_some) {
            self.prefix.clear();
            push_address(
                &mut self.prefix,
                Space::State,
                self.key_groups,
                &entry.address,
            );
            let mut load = Load {
                rows: rows.iter(),
                states: &self.states,
                site: &self.rows,
                address: &entry.address,
                prefix: &self.prefix,
                now,
                error: None,
            };
            function.visit_states(&mut load);
            if let Some(error) = load.error {
                return Err(error);
            }
        }
        entry.function = Some(function);
        entry.row_bytes = rows.iter().flatten().map(Vec::len).sum::<usize>() as u32;
        entry.too_large = entry.row_bytes as usize > self.state_bytes;
        self.heap_bytes += entry.row_bytes as usize;
        Ok(())
    }

    fn row_states(&self) -> &[u32] {
        &self.row_states
    }

    #[inline]
    fn is_busy(&self, slot: SlotId) -> bool {
        self.slots.get(slot as usize).is_some_and(|slot| slot.busy)
    }

    fn bytes_to_write(&self, slot: SlotId) -> usize {
        let slot = self.slots.get(slot as usize).filter(|slot| slot.dirty);
        slot.map_or(0, |slot| slot.row_bytes as usize)
    }

    fn set_busy(&mut self, slot: SlotId, busy: bool) {
        if let Some(slot) = self.slot(slot) {
            slot.busy = busy;
        }
    }

    fn keep(&mut self, slot: SlotId, epoch: u64) {
        if let Some(slot) = self.slot(slot) {
            slot.written = slot.written.max(epoch);
        }
    }

    fn invoke<'a>(
        &mut self,
        slot_id: SlotId,
        body: &mut Body,
        scope: &'a mut InvocationScope<'a>,
    ) -> Invoked {
        let (handler, mut converted) = match self.handler(&**body) {
            Ok((handler, converted)) => (handler.invoke, converted),
            Err(error) => return Invoked::Failed(error),
        };
        let (now, watch_states, fan_out) = (scope.now, self.watch_states, self.fan_out);
        let Some(slot) = self.slots.get_mut(slot_id as usize) else {
            return Invoked::Failed(HandlerError::new("the instance is not in memory"));
        };
        let Some(function) = slot.function.as_mut() else {
            return Invoked::Failed(HandlerError::new("the instance is not loaded"));
        };
        slot.used = true;
        let mut dirty = false;
        if watch_states {
            let mut expire = Expire(now, false);
            function.visit_states(&mut expire);
            dirty = expire.1;
        }
        if slot.too_large
            && let Err(error) = check_state_size(function, self.state_bytes)
        {
            return Invoked::Failed(error);
        }
        let kept = &mut self.kept;
        let mut context = Context::<F>::new(scope);
        let result = caught("the handler", || {
            let message = converted.as_mut().unwrap_or(body);
            handler(function, message, kept, &mut context)
        });
        let InvocationScope { effects, early, .. } = context.scope();
        let sent = effects.sent();
        let error = match result {
            Ok(Some(Ok(()))) => match effects.problem.take() {
                None if sent <= fan_out => None,
                None => Some(HandlerError::permanent(format_args!(
                    "one invocation sent {sent} messages and records, and the limit of `{}` is {fan_out}: \
                     raise `max_fan_out`, or send less",
                    F::TYPENAME
                ))),
                problem => problem,
            },
            Ok(Some(Err(error))) => Some(error),
            Ok(None) => Some(not_accepted::<F>(body.message_type_name())),
            Err(panic) => Some(HandlerError::new(panic)),
        };
        let error = match error {
            None if self.check_states => {
                let mut check = Check {
                    states: &self.states,
                    address: &slot.address,
                    error: None,
                };
                function.visit_states(&mut check);
                check.error.map(HandlerError::permanent)
            }
            error => error,
        };
        if let Some(error) = error {
            effects.undo();
            if converted.is_none() {
                kept.give_back(body);
            }
            function.visit_states(&mut Rollback);
            // Plain fields may have changed as well: a fresh instance takes over the persisted ones.
            if let Some(mut fresh) = make_instance::<F>(self.factory.as_ref()) {
                fresh.swap_states(function);
                *function = fresh;
            }
            if dirty && !std::mem::replace(&mut slot.dirty, true) {
                self.dirty.push(slot_id);
            }
            return Invoked::Failed(error);
        }
        let mut commit = Commit {
            now,
            states: &self.states,
            dirty,
        };
        function.visit_states(&mut commit);
        if !commit.dirty || slot.dirty {
            return Invoked::Done;
        }
        let is_early = self.writes_early
            && slot.written < self.epoch
            && slot.row_bytes as usize <= EARLY_BYTES;
        if is_early {
            slot.written = self.epoch;
            let mut flush = FlushAll::new(&mut early.section, &mut self.prefix, &self.states);
            flush.slot(
                slot,
                self.key_groups,
                self.state_bytes,
                &mut self.heap_bytes,
            );
            early.count += flush.rows;
            if flush.failed.is_none() && flush.unwritten.is_none() {
                return Invoked::Done;
            }
            // The cut tries again, and says what is wrong.
        }
        slot.dirty = true;
        self.dirty.push(slot_id);
        Invoked::Done
    }

    fn cut(&mut self, epoch: u64, section: &mut Vec<u8>) -> Result<TableCut, StateError> {
        const AHEAD: usize = 8;
        let mut cut = TableCut::default();
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut again = Vec::new();
        for (position, slot_id) in dirty.iter().enumerate() {
            if let Some(next) = dirty
                .get(position + AHEAD)
                .and_then(|next| self.slots.get(*next as usize))
            {
                prefetch_all(next);
            }
            let Some(slot) = self.slots.get_mut(*slot_id as usize) else {
                continue;
            };
            slot.dirty = false;
            slot.written = epoch;
            let mut flush = FlushAll::new(section, &mut self.prefix, &self.states);
            flush.slot(
                slot,
                self.key_groups,
                self.state_bytes,
                &mut self.heap_bytes,
            );
            if let Some(error) = flush.failed {
                return Err(error);
            }
            cut.rows += flush.rows;
            if let Some((info, problem)) = flush.unwritten {
                let error = info.encode_error(&slot.address, problem);
                cut.unwritten.push((slot.address.clone(), error));
                slot.dirty = true;
                again.push(*slot_id);
            }
        }
        dirty.clear();
        dirty.append(&mut again);
        self.dirty = dirty;
        Ok(cut)
    }

    fn enter(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn bytes(&self) -> usize {
        (self.slots.len() - self.free.len()) * size_of::<Slot<F>>()
            + self.index.bytes()
            + self.heap_bytes
    }

    fn evict(&mut self, applied: u64, goal_bytes: usize) -> usize {
        let mut freed = 0;
        let mut steps = self.slots.len() * 2;
        while freed < goal_bytes && steps > 0 {
            steps -= 1;
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            let Some(slot) = self.slots.get_mut(self.hand) else {
                break;
            };
            if slot.function.is_none() || slot.busy || slot.dirty || slot.written > applied {
                continue;
            }
            if std::mem::take(&mut slot.used) {
                continue;
            }
            freed += size_of::<Slot<F>>() + slot.row_bytes as usize;
            self.free_slot(self.hand as SlotId);
        }
        freed
    }

    fn remove(&mut self, slot_id: SlotId, applied: u64) -> bool {
        let Some(slot) = self.slots.get(slot_id as usize) else {
            return false;
        };
        if slot.dirty || slot.written > applied {
            return false;
        }
        self.free_slot(slot_id);
        true
    }

    fn inspect(
        &mut self,
        slot_id: SlotId,
        now: Timestamp,
        visit: &mut dyn FnMut(&mut dyn std::any::Any),
    ) -> bool {
        let Some(slot) = self.slots.get_mut(slot_id as usize) else {
            return false;
        };
        let Some(function) = slot.function.as_mut() else {
            return false;
        };
        let mut expire = Expire(now, false);
        function.visit_states(&mut expire);
        visit(function);
        function.visit_states(&mut Rollback);
        if expire.1 && !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push(slot_id);
        }
        true
    }
}
