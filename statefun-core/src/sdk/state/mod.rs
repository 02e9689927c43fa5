//! Persisted state: what `#[persisted]` fields are made of.
//!
//! Changes take effect in place and are undone when the invocation fails. No interior mutability belongs into a state
//! type: a change that the runtime cannot see is not written.
//!
//! # Changing a state type
//!
//! | change | what it takes |
//! |---|---|
//! | a field is added that is an `Option` or has `#[serde(default)]` | nothing |
//! | a number becomes wider, a value becomes an `Option`, an enum gets a further variant | nothing |
//! | a type, module or function is renamed in Rust; the state has a `name`, the function its `typename` | nothing |
//! | a field is removed, renamed, or of another type; the same fields mean something else | a migration |
//! | the kind of a state, or the type of a table's keys | another state, beside the old one |
//! | a state or function is removed that has rows | `--drop-data NAME` at the next start |
//!
//! A migration has two parts: the type as it was, under another name, and a conversion from the standard library.
//!
//! ```
//! use statefun_core::prelude::*;
//! use statefun_core::testing::{Harness, migrated};
//!
//! /// As it was, renamed. It keeps its `#[persisted]`, and is read only.
//! #[persisted]
//! struct CartV1 {
//!     items: Vec<String>,
//! }
//!
//! #[persisted(version = 2, migrate_from = CartV1)]
//! #[derive(Debug, PartialEq)]
//! struct Cart {
//!     items: Vec<u64>,
//! }
//!
//! // Where nothing can go wrong, `impl From<CartV1> for Cart` is enough.
//! impl TryFrom<CartV1> for Cart {
//!     type Error = std::num::ParseIntError; // anything that is `Display`
//!
//!     fn try_from(old: CartV1) -> Result<Self, Self::Error> {
//!         let items = old.items.iter().map(|item| item.parse()).collect::<Result<_, _>>()?;
//!         Ok(Self { items })
//!     }
//! }
//!
//! let old = CartV1 { items: vec!["7".to_owned()] };
//! assert_eq!(migrated::<Cart, _>(&old), Ok(Cart { items: vec![7] }));
//! ```
//!
//! Fields need no attribute for it, and all kinds of states do it alike: the value of a `PersistedValue`, each entry of a table,
//! each element of a buffer, what is registered at a `PersistedRegistry`. The version belongs to the type that the state
//! names. Where that is a list, a map or a struct with the changed type inside, its own shape has changed, so it is the one
//! that needs versions: make it a struct of its own.
//!
//! Each row carries the number of the form that it was written in. One of the current form is decoded as ever. Another is
//! read as the type of its version, converted through all versions in between, and written in the current form when it
//! changes next; until then it stays as it is. So a change costs nothing at the start, however much there is, and old types
//! have to stay in the code until no row needs them. What rows there may be is in `catalog.json`. A start that finds a type
//! gone which rows need is refused, and names it: *20 rows of version 1 are still stored: keep `CartV1` and its migration*.
//! So is one whose code is older than the rows.
//!
//! `CartV1` may get new optional fields too, if rows were written with them. Only its version's rows are read as it. Rows of
//! a version that the code has no type of are read as the next version after it, if that reads them as they are.
//!
//! # A migration that fails
//!
//! A conversion that returns an error, or panics, fails for that row alone. Of a `PersistedValue` the address is parked with the
//! next message to it, and the reason is shown by `statefun parked ls`; the message waits. Of an entry or an element the call
//! that reads it returns the error. Nothing of the row is changed, and nobody else is stopped: mend the conversion, start
//! again, and `statefun parked retry`. What has expired need not migrate.
//!
//! # Before a deploy
//!
//! - [`migrated`](crate::testing::migrated) tests a conversion on a value; [`Harness::restart_as`] starts new code on what the
//!   old has stored.
//! - `statefun state migrate --dry-run` reads the newest checkpoint with the application's code and tells how many
//!   addresses would fail, and why; see [`migrate`](crate::migrate). Nothing is written.
//!
//! [`Harness::restart_as`]: crate::testing::Harness::restart_as

mod buffer;
mod key;
mod registry;
mod table;
mod value;
pub(crate) mod versions;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::engine::rows::{SharedRows, framing};
use crate::module::description::{Expiration, StateKind};
use crate::sdk::caught::caught;
use crate::shape::{FIRST_VERSION, Shape};
use crate::state::StateError;

pub use buffer::PersistedBuffer;
pub use key::TableKey;
pub use registry::PersistedRegistry;
pub(crate) use registry::{
    NAMES as REGISTERED_NAMES, STATES as REGISTERED_STATES, parse_registered, write_registered,
};
pub use table::PersistedTable;
pub use value::PersistedValue;
#[doc(hidden)]
pub use versions::{FormerVersion, Forms, MigratesFrom, Unversioned, Versions};
pub use versions::{Outcome, StateDefinition};

/// A type that a state can hold: serde for its bytes, `Clone` for undoing, `Default` for being absent.
#[diagnostic::on_unimplemented(
    message = "a state cannot hold `{Self}`",
    note = "make it a state type: write `#[persisted]` above the struct or enum"
)]
pub trait StateValue: Serialize + DeserializeOwned + Clone + Default + 'static {}
impl<T: Serialize + DeserializeOwned + Clone + Default + 'static> StateValue for T {}

/// The stable number of a state within its function: the hash of its name.
pub(crate) fn state_id(name: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes()) as u32
}

/// The number of a form, which every row carries: the hash of the shape's canonical JSON. From version 2 on the version is part
/// of it, since a version may differ from the one before in nothing but its meaning.
pub(crate) fn schema_id(shape: &Shape, version: u32) -> u32 {
    let mut json = serde_json::to_vec(shape).unwrap_or_default();
    if version > FIRST_VERSION {
        json.extend_from_slice(&version.to_le_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&json) as u32
}

/// What precedes the payload of every state row: schema id (u32 LE), expiry in Unix milliseconds (u64 LE, 0 = never).
pub(crate) const ROW_HEADER_BYTES: usize = 12;

/// Begins the value of a row.
pub(crate) fn push_row_header(out: &mut Vec<u8>, schema: u32, expires_at_ms: u64) {
    out.extend_from_slice(&schema.to_le_bytes());
    out.extend_from_slice(&expires_at_ms.to_le_bytes());
}

/// The value of a state row, taken apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowValue<'a> {
    /// The form that it was written in.
    pub(crate) schema: u32,
    pub(crate) expires_at_ms: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> RowValue<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (schema, rest) = bytes.split_first_chunk::<4>()?;
        let (expires, payload) = rest.split_first_chunk::<8>()?;
        Some(Self {
            schema: u32::from_le_bytes(*schema),
            expires_at_ms: u64::from_le_bytes(*expires),
            payload,
        })
    }

    pub(crate) fn expired(&self, now: Timestamp) -> bool {
        expired(self.expires_at_ms, now)
    }
}

pub(crate) fn expired(expires_at_ms: u64, now: Timestamp) -> bool {
    expires_at_ms != 0 && expires_at_ms <= now.as_ms()
}

/// When something written or read now expires; 0 for never.
pub(crate) fn expiry_from(expiration: Expiration, now: Timestamp) -> u64 {
    match expiration {
        Expiration::None => 0,
        Expiration::AfterWrite { after_ms } | Expiration::AfterAccess { after_ms } => {
            now.as_ms().saturating_add(after_ms.max(1))
        }
    }
}

/// Whether reading alone moves the expiry. Access times are coarse: to within a sixteenth of the time to live.
pub(crate) fn access_extends(expiration: Expiration, expires_at_ms: u64, now: Timestamp) -> bool {
    match expiration {
        Expiration::AfterAccess { after_ms } => {
            expires_at_ms != 0
                && expiry_from(expiration, now).saturating_sub(expires_at_ms) > after_ms / 16
        }
        _ => false,
    }
}

/// Where a state of one address lives: its key, and the worker's rows.
#[derive(Clone)]
#[doc(hidden)]
pub struct StateSite {
    pub(crate) rows: SharedRows,
    /// The key of the state's own row; entries and elements append to it.
    pub(crate) key: Vec<u8>,
    pub(crate) forms: std::rc::Rc<Forms>,
    pub(crate) expiration: Expiration,
    pub(crate) name: std::rc::Rc<str>,
    pub(crate) address: crate::id::Address,
}

impl std::fmt::Debug for StateSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.address, self.name)
    }
}

impl StateSite {
    pub(crate) fn entry_key(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.key.len() + 16);
        key.extend_from_slice(&self.key);
        encode(&mut key);
        key
    }

    pub(crate) fn decode_error(&self, problem: impl std::fmt::Display) -> StateError {
        StateError::Decode {
            state: self.name.to_string(),
            address: self.address.to_string(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn encode_error(&self, problem: impl std::fmt::Display) -> StateError {
        StateError::Encode {
            state: self.name.to_string(),
            address: self.address.to_string(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned + 'static>(
        &self,
        row: RowValue<'_>,
    ) -> Result<T, StateError> {
        self.forms
            .decode(row)
            .map_err(|error| self.decode_error(error))
    }
}

/// Writes a value in the default codec: MessagePack with field names.
pub(crate) fn encode_value<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    caught("its serializer", || {
        value.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
    })?
    .map_err(|error| error.to_string())
}

pub(crate) fn decode_value<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    caught("its deserializer", || rmp_serde::from_slice(payload))?
        .map_err(|error| error.to_string())
}

/// The value of a row: header and payload.
pub(crate) fn encode_row<T: Serialize>(
    value: &T,
    schema: u32,
    expires_at_ms: u64,
) -> Result<Vec<u8>, String> {
    let mut row = Vec::with_capacity(ROW_HEADER_BYTES + 32);
    push_row_header(&mut row, schema, expires_at_ms);
    encode_value(value, &mut row)?;
    Ok(row)
}

/// Whether values of a shape may turn out not to be writable: some part of it is written by code that nobody has looked
/// into. The engine's own types are known.
pub(crate) fn may_be_unwritable(shape: &Shape) -> bool {
    shape.any(&mut |part| matches!(part, Shape::Opaque(name) if !name.starts_with("io.statefun")))
}

/// Why a state was not written at a cut.
#[doc(hidden)]
#[derive(Debug)]
pub enum Unwritten {
    /// Its value cannot be written. It stays in memory, to be written later; its row is as it was.
    Value(String),
    /// The state store failed.
    Store(StateError),
}

impl From<String> for Unwritten {
    fn from(problem: String) -> Self {
        Self::Value(problem)
    }
}
impl From<StateError> for Unwritten {
    fn from(error: StateError) -> Self {
        Self::Store(error)
    }
}

/// Where a cut collects what an instance changed.
#[doc(hidden)]
pub struct Flush<'a> {
    /// The section of the epoch's record that single rows are written to.
    pub(crate) section: &'a mut Vec<u8>,
    /// The prefix of the address' state rows. As a slice it would be read as one right after its length was written, and wait.
    pub(crate) prefix: &'a Vec<u8>,
    pub(crate) state_id: u32,
    pub(crate) schema: u32,
    /// Rows written.
    pub(crate) rows: usize,
}

impl Flush<'_> {
    /// Writes the state's own row, in place; the bytes of its value.
    pub(crate) fn put<E>(
        &mut self,
        expires_at_ms: u64,
        payload: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let (prefix, state_id, schema) = (self.prefix, self.state_id, self.schema);
        let bytes = framing::push_with(
            self.section,
            |key| {
                key.extend_from_slice(prefix);
                key.extend_from_slice(&state_id.to_be_bytes());
            },
            |value| {
                push_row_header(value, schema, expires_at_ms);
                payload(value)
            },
        )?;
        self.rows += 1;
        Ok(bytes)
    }

    /// Deletes the state's own row.
    pub(crate) fn delete(&mut self) {
        let mut key = self.prefix.clone();
        key.extend_from_slice(&self.state_id.to_be_bytes());
        framing::push(self.section, &key, None);
        self.rows += 1;
    }
}

/// A kind of persisted state, as the engine drives it. Not for implementing outside this crate.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a persisted state",
    label = "`#[persisted]` fields hold a `PersistedValue`, `PersistedTable`, `PersistedBuffer` or `PersistedRegistry`",
    note = "for one value, write `PersistedValue<{Self}>`"
)]
pub trait PersistedState: Sized + 'static {
    /// What it holds: the value, the element, the entry's value.
    type Value: 'static;
    /// The key of its entries; `()` where it has none.
    type Key: 'static;
    /// Its kind.
    const KIND: StateKind;
    /// Whether it has a row of its own that is read before the first invocation.
    const HAS_ROW: bool;
    /// Whether it reads and writes further rows, and so needs its [`StateSite`].
    const NEEDS_SITE: bool;

    /// One that is absent.
    fn absent() -> Self;

    /// Shows itself to a visitor.
    fn show<V: StateVisitor>(&mut self, visitor: &mut V, index: usize) {
        visitor.visit(index, self);
    }

    /// Takes the row that the store holds. `site` is there when `NEEDS_SITE`.
    fn load(&mut self, row: Option<RowBytes<'_>>, site: Option<StateSite>) -> Result<(), String>;

    /// Reads a row as an invocation would, without anything to show for it: one of the state's rows, whose key goes on with
    /// `rest` behind the state's.
    fn check_row(row: RowBytes<'_>, rest: &[u8]) -> Result<RowContent, String>;

    /// Before an invocation: becomes absent when it has expired. Returns whether that changed anything.
    fn expire(&mut self, now: Timestamp) -> bool;

    /// After an invocation that succeeded: whether all that it changed can be written. Asked where that may not be so, see
    /// [`may_be_unwritable`]; else what cannot be written is found at the cut.
    fn check(&self) -> Result<(), String>;

    /// After an invocation that succeeded: keeps its changes. Returns whether rows are to be written at the next cut.
    fn commit(&mut self, now: Timestamp, expiration: Expiration) -> bool;

    /// After an invocation that failed: takes its changes back.
    fn rollback(&mut self);

    /// At a cut: writes the rows that changed since the last one. What cannot be written counts as changed still.
    fn flush(&mut self, flush: &mut Flush<'_>) -> Result<(), Unwritten>;

    /// The bytes of values that are read and written whole, as they were last read or written: what `max_state_bytes` limits.
    fn value_bytes(&self) -> usize {
        0
    }

    /// What else it holds on the heap, roughly, in bytes.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The bytes of a state's own row.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct RowBytes<'a>(pub(crate) RowValue<'a>, pub(crate) &'a Forms);

/// What a row of a state holds.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowContent {
    /// A value of the state's type, in one of its versions.
    Value,
    /// What the kind of state keeps for itself, or what only a running application can read.
    Other,
}

/// Visits the persisted fields of a function, in the order of their declaration.
#[doc(hidden)]
pub trait StateVisitor {
    /// One field.
    fn visit<S: PersistedState>(&mut self, index: usize, state: &mut S);
}
