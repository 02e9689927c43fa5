//! What a worker needs of the instances of a function type, without their Rust type.

use crate::clock::Timestamp;
use crate::id::Address;
use crate::sdk::context::InvocationScope;
use crate::sdk::error::HandlerError;
use crate::sdk::message::Body;
use crate::state::StateError;

/// How an invocation ended.
#[doc(hidden)]
#[derive(Debug)]
pub enum Invoked {
    /// Its changes are kept, its effects are to be carried out.
    Done,
    /// Nothing of it remains.
    Failed(HandlerError),
}

/// What a cut took from a table.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct TableCut {
    /// Rows written.
    pub rows: usize,
    /// Instances that are not wholly written, since a value of theirs cannot be: they count as changed still.
    pub unwritten: Vec<(Address, StateError)>,
}

/// Rows of the current epoch that were written when their invocation ended, while they were in the processor's cache: at the cut,
/// each would have to be fetched again. An instance that changes once more in the epoch is written again at the cut.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct EarlyRows {
    /// The rows, as they stand in an epoch's record.
    pub section: Vec<u8>,
    /// How many they are.
    pub count: usize,
}

impl EarlyRows {
    /// Moves them into the section of a cut.
    pub(crate) fn move_to(&mut self, section: &mut Vec<u8>) -> usize {
        if section.is_empty() {
            std::mem::swap(section, &mut self.section);
        } else {
            section.append(&mut self.section);
        }
        std::mem::take(&mut self.count)
    }
}

/// The number of an instance within its table.
pub(crate) type SlotId = u32;

/// The instances of one function type on one worker; the engine's view, without the Rust type.
#[doc(hidden)]
pub trait FunctionTable {
    /// Brings the index entry of an address into the cache.
    fn prefetch_index(&self, hash: u64);
    /// Brings the instance into the cache, once its index entry is there.
    fn prefetch_instance(&self, hash: u64);
    /// The slot of an address.
    fn find(&self, address: &Address) -> Option<SlotId>;
    /// A slot for an address that has none; it is busy until it is loaded.
    fn insert(&mut self, address: &Address) -> SlotId;
    /// Fills an instance from its stored rows, in the order of [`row_states`](Self::row_states).
    fn load(
        &mut self,
        slot: SlotId,
        rows: &[Option<Vec<u8>>],
        now: Timestamp,
    ) -> Result<(), StateError>;
    /// The numbers of the states that have a row of their own.
    fn row_states(&self) -> &[u32];
    /// Whether messages to the instance must wait.
    fn is_busy(&self, slot: SlotId) -> bool;
    /// What the instance will write at the cut, roughly, in bytes.
    fn bytes_to_write(&self, slot: SlotId) -> usize;
    /// Makes messages to the instance wait, or not.
    fn set_busy(&mut self, slot: SlotId, busy: bool);
    /// Keeps the instance in memory until the store has applied `epoch`.
    fn keep(&mut self, slot: SlotId, epoch: u64);
    /// Runs a handler, which takes the message; it is there again when the invocation fails.
    fn invoke<'a>(
        &mut self,
        slot: SlotId,
        body: &mut Body,
        scope: &'a mut InvocationScope<'a>,
    ) -> Invoked;
    /// An epoch begins: what changes from now on belongs to it.
    fn enter(&mut self, epoch: u64);
    /// Writes the rows that changed since the last cut. Where one was written twice, the later counts.
    fn cut(&mut self, epoch: u64, section: &mut Vec<u8>) -> Result<TableCut, StateError>;
    /// Whether anything changed since the last cut.
    fn is_dirty(&self) -> bool;
    /// What the instances occupy, roughly, in bytes.
    fn bytes(&self) -> usize;
    /// Lets instances go that were not used lately, until `goal_bytes` are free or nothing more can go.
    fn evict(&mut self, applied: u64, goal_bytes: usize) -> usize;
    /// Lets one instance go; false when it must stay.
    fn remove(&mut self, slot: SlotId, applied: u64) -> bool;
    /// Shows the instance, as `F`, with the state that a handler would see now; changes of it are taken back.
    /// False when the instance is not loaded.
    fn inspect(
        &mut self,
        slot: SlotId,
        now: Timestamp,
        visit: &mut dyn FnMut(&mut dyn std::any::Any),
    ) -> bool;
}
