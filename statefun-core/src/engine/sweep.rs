//! Deleting the rows of states that have expired, also those of addresses that nobody touches again.
//!
//! An expired value reads as absent at once; its row is only space. So no index of expiry times is kept, which would cost each
//! write another row: now and then each worker has the state rows of its key groups looked through, those of functions with
//! a state that can expire, a bounded piece at a time, by the thread that does the cold reads. What has expired is deleted
//! through the log, at a cut, if it is then still so:
//!
//! - A look says which epoch the store had applied when it began. While the worker knows of no later one, every newer change
//!   of a row is in its memory: in the overlay, or in an instance, which stays there until its rows are applied. When a later
//!   one has been applied meanwhile, the whole look counts for nothing; the next one comes to the same rows again.
//! - A state's own row belongs to its instance. When that is in memory, it is the instance that expires; when not, nothing
//!   writes the row in this epoch.
//! - Other rows (entries, elements) are deleted in the overlay, where what an instance writes at the same cut replaces that.

use std::ops::Range;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::id::{FunctionTypeId, KeyGroup};
use crate::module::description::{Expiration, StateKind};
use crate::sdk::function::FunctionDefinition;
use crate::sdk::state::RowValue;
use crate::state::keys::{Space, group_key, prefix_end};
use crate::state::{StateError, StateReader};

/// What one look may cost: a row costs 1, beginning to read somewhere costs [`SEEK`].
const BUDGET: usize = 4096;
const SEEK: usize = 8;
/// Rows that are deleted at one cut, at most.
const DELETES: usize = 1024;
const CHUNK_ROWS: usize = 256;

/// Pause between two looks of one sweep, in milliseconds.
const PAUSE_MS: u64 = 20;
/// Shortest and longest pause between two sweeps.
const SHORTEST_MS: u64 = 5_000;
const LONGEST_MS: u64 = 6 * 3_600_000;
/// Between two sweeps goes this part of the shortest time to live.
const PART_OF_LIFE: u64 = 8;
/// Where states are registered at run time, their times to live are not known.
const REGISTERED_LIFE_MS: u64 = 3_600_000;

/// Where a sweep has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    group: u32,
    function: usize,
    /// The next key to be looked at; the first one of the group and function when it is empty.
    from: Vec<u8>,
}

/// When a worker's rows are looked through, and how far that has come.
#[derive(Debug)]
pub(crate) struct Sweep {
    functions: Arc<[FunctionTypeId]>,
    groups: Range<u32>,
    period_ms: u64,
    place: Option<Place>,
    due: Timestamp,
    under_way: bool,
}

impl Sweep {
    /// The sweeps through some key groups; never one when nothing can expire.
    pub(crate) fn new(functions: &[FunctionDefinition], groups: Range<u32>) -> Self {
        let life = |function: &FunctionDefinition| -> Option<u64> {
            let lives = function
                .states
                .iter()
                .filter_map(|state| match state.expiration {
                    Expiration::AfterWrite { after_ms } | Expiration::AfterAccess { after_ms } => {
                        Some(after_ms)
                    }
                    Expiration::None if state.kind == StateKind::Registry => {
                        Some(REGISTERED_LIFE_MS)
                    }
                    Expiration::None => None,
                });
            lives.min()
        };
        let expiring = || functions.iter().filter_map(|of| Some((of, life(of)?)));
        let mut ids: Vec<FunctionTypeId> = expiring()
            .map(|(function, _)| function.typename.function_type_id())
            .collect();
        // In the order of their rows.
        ids.sort_unstable();
        let shortest = expiring().map(|(_, life)| life).min();
        Self {
            functions: ids.into(),
            groups,
            period_ms: (shortest.unwrap_or_default() / PART_OF_LIFE).clamp(SHORTEST_MS, LONGEST_MS),
            place: None,
            due: Timestamp(u64::MAX),
            under_way: false,
        }
    }

    /// Begins, when there is anything that can expire: a period from now is soon enough, since it is only about space.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        if !self.functions.is_empty() && !self.groups.is_empty() {
            self.due = Timestamp(now.as_ms().saturating_add(self.period_ms));
        }
    }

    /// When there is something to do; none while a look is under way, or when nothing can expire.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        (!self.under_way && self.due < Timestamp(u64::MAX)).then_some(self.due)
    }

    /// The look that is due.
    pub(crate) fn take_look(&mut self, now: Timestamp) -> Option<Look> {
        if self.next_due().is_none_or(|due| due > now) {
            return None;
        }
        self.under_way = true;
        Some(Look {
            from: self.place.take().unwrap_or_else(|| Place {
                group: self.groups.start,
                function: 0,
                from: Vec::new(),
            }),
            groups: self.groups.clone(),
            functions: self.functions.clone(),
            now,
        })
    }

    /// A look has come back, and goes on behind it.
    pub(crate) fn looked(&mut self, next: Option<Place>, now: Timestamp) {
        self.under_way = false;
        let pause = if next.is_some() {
            PAUSE_MS
        } else {
            self.period_ms
        };
        self.place = next;
        self.due = Timestamp(now.as_ms().saturating_add(pause));
    }
}

/// Rows to be looked through, off the worker's thread.
#[derive(Debug)]
pub(crate) struct Look {
    from: Place,
    groups: Range<u32>,
    functions: Arc<[FunctionTypeId]>,
    now: Timestamp,
}

/// What a look has found.
#[derive(Debug)]
pub(crate) struct Looked {
    /// An epoch that the store had applied when it began.
    pub(crate) as_of: u64,
    /// The keys of rows that had expired, sorted.
    pub(crate) expired: Vec<Vec<u8>>,
    /// Where to go on; none behind the last one.
    pub(crate) next: Result<Option<Place>, StateError>,
}

impl Look {
    /// Looks. `as_of` is an epoch that the store has applied.
    pub(crate) fn run(self, store: &dyn StateReader, as_of: u64) -> Looked {
        let mut expired = Vec::new();
        let next = self.find(store, &mut expired);
        Looked {
            as_of,
            expired,
            next,
        }
    }

    fn find(
        self,
        store: &dyn StateReader,
        expired: &mut Vec<Vec<u8>>,
    ) -> Result<Option<Place>, StateError> {
        let mut place = self.from;
        let mut budget = BUDGET;
        while place.group < self.groups.end {
            let Some(function) = self.functions.get(place.function) else {
                place.group += 1;
                place.function = 0;
                continue;
            };
            let mut prefix = group_key(Space::State, place.group as KeyGroup);
            prefix.extend_from_slice(&function.0.to_be_bytes());
            let end = prefix_end(&prefix);
            if place.from.is_empty() {
                place.from = prefix;
            }
            budget = budget.saturating_sub(SEEK);
            let chunk = store.scan(&place.from, &end, CHUNK_ROWS)?;
            let is_last = chunk.len() < CHUNK_ROWS;
            budget = budget.saturating_sub(chunk.len());
            for (key, value) in chunk {
                let row = RowValue::parse(&value);
                place.from.clone_from(&key);
                if row.is_some_and(|row| row.expired(self.now)) {
                    expired.push(key);
                }
            }
            if is_last {
                place.function += 1;
                place.from.clear();
            } else {
                place.from.push(0);
            }
            if budget == 0 || expired.len() > DELETES - CHUNK_ROWS {
                return Ok((place.group < self.groups.end).then_some(place));
            }
        }
        Ok(None)
    }
}
