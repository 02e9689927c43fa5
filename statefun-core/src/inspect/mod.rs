//! Persisted state as an operator sees it: listed, read, exported, compared, imported.
//!
//! Everything reads a [`StateView`]: the rows of one epoch, wherever they come from, and the catalog that says what they hold.
//! What is absent from this room: threads and sockets. [`run`] reads on the thread that calls it, and tells what it finds
//! as it finds it; memory is bounded by what is told at a time.
//!
//! # The lines of an export
//!
//! An address a line, in the order of their row keys (key group, function, id):
//!
//! ```json
//! {"function":"shop/cart","id":"c-1","states":{"items":{"apple":2},"log":["a","b"],"total":5},"expires_at_ms":{"total":1767225600000}}
//! ```
//!
//! | state | in `states` | in `expires_at_ms`, where something expires |
//! |---|---|---|
//! | `PersistedValue` | its value | a number |
//! | `PersistedTable` | its entries, as a map | a map of the entries that expire |
//! | `PersistedBuffer` | its elements, as a list | a list of the same length, 0 for never |
//! | `PersistedRegistry` | an object of the registered states: `kind`, `shape`, and `value`, `entries` or `elements`, `expires_at_ms` | |
//!
//! What has expired is left out, as functions do not see it either. An address with more than about a MiB goes on in the
//! lines that follow, which say `"part":2` and so on.
//!
//! # Values
//!
//! Values are MessagePack with names; the recorded [`Shape`](crate::shape::Shape) tells what they mean. They are written so that they come back
//! as they were. Structs are objects, enums are `"Name"` or `{"Name": …}`, absent options are `null`; maps are objects, sorted by
//! their keys, where these are text or, by the shape, numbers or `bool`. An object with one field that begins with `$` is something
//! that JSON has no words for:
//!
//! | written | means |
//! |---|---|
//! | `{"$bytes": "aGk="}` | bytes, in base64 |
//! | `{"$int": "18446744073709551615"}` | a whole number beyond ±(2⁵³ − 1), which many readers of JSON would round |
//! | `{"$float": "NaN"}`, `"Infinity"`, `"-Infinity"`, `"NaN:7ff0000000000001"` | such a number; the digits are the bits of an unusual `NaN` |
//! | `{"$map": [[key, value], …]}` | a map whose keys cannot be the names of an object |
//! | `{"$any": …}` | a value that does not have the recorded shape, by what its bytes tell |
//! | `{"$f32": 1.5}` | a float of 32 bits where no shape says so |
//! | `{"$ext": [type, "base64"]}`, `{"$str": "base64"}` | an extension type; text that is not UTF-8 |
//! | `{"$msgpack": "base64"}` | what is nested deeper than 100 levels |
//! | `{"$key": "base64"}` | the bytes of a table's key whose type is not known |
//! | `{"$version": [1, value]}` | a value, entry or element that is still stored as that version of its type |
//! | `{"$row": "base64", "problem": …}`, `{"$rows": …}` | a row that cannot be read, and rows that nothing is known of; not imported |

mod address;
mod cursor;
mod decode;
mod diff;
mod encode;
mod export;
mod import;
mod json;
mod key;
mod list;
mod offline;
mod pack;
mod rows;
mod schema;
mod scope;
mod sort;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use address::AddressStates;
pub use diff::{ChangeKind, Counts, FunctionDiff, StateChange, StateRows, diff};
pub(crate) use import::Import;
pub use import::{Finding, ImportError, ImportOptions, Imported};
pub use json::Json;
pub use list::{AddressSize, FunctionSize, Measure};
pub use offline::{OfflineError, open_directory};
pub use rows::{RawBytes, RawLine, rows};

use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::id::TypeName;
use crate::module::suggest::nearest;
use crate::state::{StateError, StateReader};
use cursor::RangeCursor;
use schema::Schema;
use walk::Scope;

/// The state of one epoch.
pub struct StateView {
    epoch: u64,
    catalog: Catalog,
    schema: Schema,
    rows: Box<dyn StateReader>,
    is_far: bool,
}

impl fmt::Debug for StateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateView")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl StateView {
    /// The state that `rows` has, as of an epoch; it must not change while it is looked at. The catalog is that of its
    /// application.
    pub fn new(epoch: u64, catalog: &Catalog, rows: Box<dyn StateReader>) -> Self {
        Self {
            epoch,
            catalog: catalog.clone(),
            schema: Schema::of(catalog),
            rows,
            is_far: false,
        }
    }

    /// It is dear to begin a scan somewhere, as where each one is a request over a network: then more is read in one.
    #[must_use]
    pub fn far(self) -> Self {
        Self {
            is_far: true,
            ..self
        }
    }

    fn cursor(&self, scope: &Scope) -> RangeCursor<'_> {
        RangeCursor::new(self.rows(), scope.ranges(&self.schema), self.is_far)
    }

    /// The last epoch whose changes are in it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether there is a function of that name.
    pub(crate) fn check(&self, function: Option<&str>) -> Result<(), InspectError> {
        match function {
            Some(function) => list::find(&self.schema, function).map(|_| ()),
            None => Ok(()),
        }
    }

    pub(crate) fn rows(&self) -> &dyn StateReader {
        &*self.rows
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// What is asked of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// What each function's state amounts to.
    Functions,
    /// The addresses of a function, by id.
    Addresses {
        /// Its type.
        function: String,
        /// What the ids begin with.
        prefix: String,
        /// At most so many.
        limit: usize,
    },
    /// All states of an address.
    Get {
        /// The function type.
        function: String,
        /// The id.
        id: String,
    },
    /// All states of many addresses.
    Export {
        /// Only of this function type.
        function: Option<String>,
        /// What the ids begin with, with a function.
        prefix: String,
    },
    /// The largest addresses.
    Top {
        /// Only of this function type.
        function: Option<String>,
        /// What counts.
        by: Measure,
        /// At most so many.
        limit: usize,
    },
}

/// What a query finds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Item {
    /// Of [`Query::Functions`].
    Function(FunctionSize),
    /// Of [`Query::Addresses`] and [`Query::Top`].
    Address(AddressSize),
    /// Of [`Query::Get`] and [`Query::Export`].
    States(AddressStates),
}

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Rows looked at.
    pub rows: u64,
    /// Of all that is to be looked at, roughly.
    pub percent: u8,
}

/// What a query tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<T> {
    /// Something that was asked for.
    Item(T),
    /// A while has passed.
    Progress(Progress),
}

/// What a query tells at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// The last epoch whose changes are in what was told.
    pub epoch: u64,
    /// Rows looked at.
    pub rows: u64,
    /// Addresses told, by [`Query::Get`] and [`Query::Export`].
    pub addresses: u64,
    /// Whether there are more than were wanted.
    pub truncated: bool,
    /// Rows whose keys cannot be read; they were passed over.
    pub malformed: u64,
}

/// Why a query came to no end.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The application has no such function.
    #[error("there is no function `{function}`{}", hint(function, known))]
    UnknownFunction {
        /// What was asked for.
        function: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The rows cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two states do not lie in the same order.
    #[error(
        "the states cannot be compared: one is spread over {before} key groups, and the other over {after}; \
         export both, and compare the lines"
    )]
    KeyGroups {
        /// The one before.
        before: u16,
        /// The one after.
        after: u16,
    },
    /// Who was told did not want more.
    #[error("it was stopped")]
    Stopped,
}

fn hint(function: &str, known: &[String]) -> String {
    match nearest(function, known.iter().map(String::as_str)) {
        Some(nearest) => format!(": did you mean `{nearest}`?"),
        None if known.is_empty() => ": there are none".to_owned(),
        None => format!(": there are `{}`", known.join("`, `")),
    }
}

/// Answers a query, on this thread. What has expired `now` is not there.
///
/// # Errors
/// When rows cannot be read, there is no such function, or `tell` breaks.
pub fn run(
    view: &StateView,
    query: &Query,
    now: Timestamp,
    tell: &mut dyn FnMut(Event<Item>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let find = |name: &str| list::find(view.schema(), name);
    match query {
        Query::Functions => {
            list::functions(view, now, &mut |event| tell(event.map(Item::Function)))
        }
        Query::Addresses {
            function,
            prefix,
            limit,
        } => list::addresses(view, find(function)?, prefix, *limit, now, &mut |event| {
            tell(event.map(Item::Address))
        }),
        Query::Top {
            function,
            by,
            limit,
        } => {
            let function = function.as_deref().map(find).transpose()?;
            list::top(view, function, *by, *limit, now, &mut |event| {
                tell(event.map(Item::Address))
            })
        }
        Query::Get { function, id } => {
            let number = find(function)?;
            // Where only the number is known, nobody knows the key group.
            let scope = match TypeName::parse(function) {
                Ok(name) if name.function_type_id() == number => Scope::Address(name, id.clone()),
                _ => Scope::Function(number, id.clone()),
            };
            export::export(
                view,
                &scope,
                now,
                export::LINE_BYTES,
                &mut |event| match event {
                    Event::Item(states) if states.id != *id => ControlFlow::Continue(()),
                    event => tell(event.map(Item::States)),
                },
            )
        }
        Query::Export { function, prefix } => {
            let scope = match function {
                Some(function) => Scope::Function(find(function)?, prefix.clone()),
                None => Scope::Everything,
            };
            export::export(view, &scope, now, export::LINE_BYTES, &mut |event| {
                tell(event.map(Item::States))
            })
        }
    }
}

impl<T> Event<T> {
    fn map<U>(self, with: impl FnOnce(T) -> U) -> Event<U> {
        match self {
            Self::Item(item) => Event::Item(with(item)),
            Self::Progress(progress) => Event::Progress(progress),
        }
    }
}

impl Query {
    /// The function type that it is about.
    pub fn function(&self) -> Option<&str> {
        match self {
            Self::Functions => None,
            Self::Addresses { function, .. } | Self::Get { function, .. } => Some(function),
            Self::Export { function, .. } | Self::Top { function, .. } => function.as_deref(),
        }
    }
}
