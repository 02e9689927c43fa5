//! What is done with all states of an instance, one after the other.

use crate::clock::Timestamp;
use crate::engine::instances::{Slot, StateInfo};
use crate::engine::rows::SharedRows;
use crate::id::{Address, KeyGroups};
use crate::module::description::Expiration;
use crate::sdk::error::HandlerError;
use crate::sdk::function::StatefulFunction;
use crate::sdk::state::{
    Flush, PersistedState, RowBytes, RowValue, StateSite, StateVisitor, Unwritten,
};
use crate::state::StateError;
use crate::state::keys::{Space, push_address};

/// What kinds of states they are.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) has_row: Vec<bool>,
    pub(super) needs_site: bool,
}

impl StateVisitor for Facts {
    fn visit<S: PersistedState>(&mut self, _index: usize, _state: &mut S) {
        self.has_row.push(S::HAS_ROW);
        self.needs_site |= S::NEEDS_SITE;
    }
}

/// Fills states from the rows of the store.
pub(super) struct Load<'a> {
    pub(super) rows: std::slice::Iter<'a, Option<Vec<u8>>>,
    pub(super) states: &'a [StateInfo],
    pub(super) site: &'a SharedRows,
    pub(super) address: &'a Address,
    pub(super) prefix: &'a [u8],
    pub(super) now: Timestamp,
    pub(super) error: Option<StateError>,
}

impl StateVisitor for Load<'_> {
    fn visit<S: PersistedState>(&mut self, index: usize, state: &mut S) {
        let Some(info) = self.states.get(index) else {
            return;
        };
        let site = StateSite {
            rows: self.site.clone(),
            key: [self.prefix, &info.id.to_be_bytes()].concat(),
            forms: info.forms.clone(),
            expiration: info.expiration,
            name: info.name.clone(),
            address: self.address.clone(),
        };
        let row = if S::HAS_ROW {
            self.rows.next().and_then(Option::as_deref)
        } else {
            None
        };
        // What has no further rows needs no site; most states are of this kind.
        let mut load = |row| state.load(row, S::NEEDS_SITE.then(|| site.clone()));
        let loaded = match row.map(RowValue::parse) {
            None => load(None),
            Some(None) => Err("the row is too short".to_owned()),
            Some(Some(row)) => match load(Some(RowBytes(row, &info.forms))) {
                // Nobody would have seen it.
                Err(_) if row.expired(self.now) => load(None),
                loaded => loaded,
            },
        };
        if let Err(problem) = loaded
            && self.error.is_none()
        {
            self.error = Some(site.decode_error(problem));
        }
    }
}

/// Lets states become absent that have expired; whether any did.
pub(super) struct Expire(pub(super) Timestamp, pub(super) bool);
impl StateVisitor for Expire {
    #[inline]
    fn visit<S: PersistedState>(&mut self, _index: usize, state: &mut S) {
        self.1 |= state.expire(self.0);
    }
}

/// Keeps what an invocation changed.
pub(super) struct Commit<'a> {
    pub(super) now: Timestamp,
    pub(super) states: &'a [StateInfo],
    pub(super) dirty: bool,
}
impl StateVisitor for Commit<'_> {
    #[inline]
    fn visit<S: PersistedState>(&mut self, index: usize, state: &mut S) {
        let expiration = self
            .states
            .get(index)
            .map_or(Expiration::None, |state| state.expiration);
        self.dirty |= state.commit(self.now, expiration);
    }
}

/// Whether an invocation's changes can be written, where that is not certain.
pub(super) struct Check<'a> {
    pub(super) states: &'a [StateInfo],
    pub(super) address: &'a Address,
    pub(super) error: Option<StateError>,
}
impl StateVisitor for Check<'_> {
    fn visit<S: PersistedState>(&mut self, index: usize, state: &mut S) {
        if let Some(info) = self.states.get(index).filter(|info| info.checked)
            && let Err(problem) = state.check()
        {
            let error = || info.encode_error(self.address, problem);
            self.error.get_or_insert_with(error);
        }
    }
}

impl StateInfo {
    pub(super) fn encode_error(&self, address: &Address, problem: String) -> StateError {
        StateError::Encode {
            state: self.name.to_string(),
            address: address.to_string(),
            problem,
        }
    }
}

/// The bytes of all values of an instance that are read and written whole.
struct ValueBytes(usize);
impl StateVisitor for ValueBytes {
    fn visit<S: PersistedState>(&mut self, _index: usize, state: &mut S) {
        self.0 += state.value_bytes();
    }
}

/// Whether the values of an instance are larger than they may be, now that those are absent that have expired.
#[cold]
pub(super) fn check_state_size<F: StatefulFunction>(
    function: &mut F,
    limit: usize,
) -> Result<(), HandlerError> {
    let mut bytes = ValueBytes(0);
    function.visit_states(&mut bytes);
    if bytes.0 <= limit {
        return Ok(());
    }
    Err(HandlerError::permanent(format_args!(
        "its state has {} bytes, and the limit of `{}` is {limit}: raise `max_state_bytes`, or keep less",
        bytes.0,
        F::TYPENAME
    )))
}

/// Takes back what an invocation changed.
pub(super) struct Rollback;
impl StateVisitor for Rollback {
    fn visit<S: PersistedState>(&mut self, _index: usize, state: &mut S) {
        state.rollback();
    }
}

/// Writes the rows that changed.
pub(super) struct FlushAll<'a> {
    pub(super) section: &'a mut Vec<u8>,
    pub(super) prefix: &'a mut Vec<u8>,
    pub(super) states: &'a [StateInfo],
    pub(super) rows: usize,
    /// The bytes of values that are read and written whole, and of all that is in memory.
    pub(super) value_bytes: usize,
    pub(super) bytes: usize,
    /// A state whose value cannot be written.
    pub(super) unwritten: Option<(&'a StateInfo, String)>,
    pub(super) failed: Option<StateError>,
}

impl<'a> FlushAll<'a> {
    pub(super) fn new(
        section: &'a mut Vec<u8>,
        prefix: &'a mut Vec<u8>,
        states: &'a [StateInfo],
    ) -> Self {
        Self {
            section,
            prefix,
            states,
            rows: 0,
            value_bytes: 0,
            bytes: 0,
            unwritten: None,
            failed: None,
        }
    }

    /// Writes what changed of an instance, and notes its size in it and in the sum of all.
    pub(super) fn slot<F: StatefulFunction>(
        &mut self,
        slot: &mut Slot<F>,
        key_groups: KeyGroups,
        state_bytes: usize,
        heap_bytes: &mut usize,
    ) {
        let Some(function) = slot.function.as_mut() else {
            return;
        };
        self.prefix.clear();
        push_address(self.prefix, Space::State, key_groups, &slot.address);
        function.visit_states(self);
        *heap_bytes = *heap_bytes + self.bytes - slot.row_bytes as usize;
        slot.row_bytes = self.bytes as u32;
        slot.too_large = self.value_bytes > state_bytes;
    }
}
impl StateVisitor for FlushAll<'_> {
    #[inline]
    fn visit<S: PersistedState>(&mut self, index: usize, state: &mut S) {
        let Some(info) = self.states.get(index) else {
            return;
        };
        let mut flush = Flush {
            section: self.section,
            prefix: self.prefix,
            state_id: info.id,
            schema: info.schema,
            rows: 0,
        };
        let flushed = state.flush(&mut flush);
        self.rows += flush.rows;
        let value_bytes = state.value_bytes();
        self.value_bytes += value_bytes;
        self.bytes += value_bytes + state.heap_bytes();
        match flushed {
            Ok(()) => {}
            Err(Unwritten::Value(problem)) => {
                self.unwritten.get_or_insert((info, problem));
            }
            Err(Unwritten::Store(error)) => self.failed = Some(error),
        }
    }
}
