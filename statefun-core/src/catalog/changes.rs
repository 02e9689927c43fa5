//! What a catalog refuses, in words.

use std::path::PathBuf;

use thiserror::Error;

use crate::state::StateError;

/// A catalog that cannot be read, or that the application does not fit.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The file cannot be read or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a catalog of this version.
    #[error("{} is not a catalog that this version reads: {problem}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The application does not fit the data.
    #[error("the application no longer fits the data in {}:\n{}", path.display(), list(changes))]
    Changed {
        /// Which file tells.
        path: PathBuf,
        /// All that does not fit.
        changes: Vec<Change>,
    },
    /// The state store failed while rows were counted.
    #[error(transparent)]
    State(#[from] StateError),
}

/// One below the other.
fn list(changes: &[Change]) -> String {
    let lines: Vec<String> = changes
        .iter()
        .map(|change| format!("  - {change}"))
        .collect();
    lines.join("\n")
}

/// Something that the data has and the code no longer has, or has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Change {
    /// A function with data is gone.
    #[error(
        "function `{function}` is gone, but {rows} of its rows and {messages} messages for it are stored: bring it back, \
         or say `--drop-data {function}` to delete them"
    )]
    FunctionGone {
        /// Its name.
        function: String,
        /// Rows counted, up to a bound.
        rows: String,
        /// Messages that are in flight, waiting or delayed.
        messages: u64,
    },
    /// A state with data is gone.
    #[error(
        "state `{state}` of `{function}` is gone (it was a {old}), but {rows} of its rows are there: bring it back, \
         or say `--drop-data {function}:{state}` to delete them"
    )]
    StateGone {
        /// The function.
        function: String,
        /// The state.
        state: String,
        /// What it was.
        old: String,
        /// Rows counted, up to a bound.
        rows: String,
    },
    /// A state has another shape, and the old rows do not read as the new.
    #[error(
        "state `{state}` of `{function}` has changed: {problem}\n      was {old}\n      is  {new}\n    restore the old shape \
         (a new field needs `#[serde(default)]`), write a migration (`#[persisted(version = …, migrate_from = …)]`), or say `--drop-data {function}:{state}` to delete its rows"
    )]
    StateChanged {
        /// The function.
        function: String,
        /// The state.
        state: String,
        /// Where the shapes differ.
        problem: String,
        /// The stored shape.
        old: String,
        /// The code's shape.
        new: String,
    },
    /// Rows of a version are there that the code does not read.
    #[error(
        "state `{state}` of `{function}`: {rows} rows of version {version} are still stored: {help}, \
         or say `--drop-data {function}:{state}` to delete all of its rows\n      they are {old}"
    )]
    VersionUnread {
        /// The function.
        function: String,
        /// The state.
        state: String,
        /// Of which version.
        version: u32,
        /// Rows counted, up to a bound.
        rows: String,
        /// What to do about it.
        help: String,
        /// The stored shape.
        old: String,
    },
    /// A message type has another shape, and messages of the old one may be stored.
    #[error(
        "message `{message}` has changed: {problem}\n      was {old}\n      is  {new}\n    {count} stored messages of it would not be read: \
         restore the old shape (a new field needs `#[serde(default)]`), or give the new one another type name"
    )]
    MessageChanged {
        /// The message.
        message: String,
        /// How many are in flight, waiting or delayed.
        count: u64,
        /// Where the shapes differ.
        problem: String,
        /// The stored shape.
        old: String,
        /// The code's shape.
        new: String,
    },
    /// An egress is gone, and some of its output has not left yet.
    #[error(
        "egress `{egress}` is gone, but {records} records for it have not left yet: bring it back until they have, \
         or say `--drop-data egress:{egress}` to drop them"
    )]
    EgressGone {
        /// Its id.
        egress: String,
        /// How many records.
        records: u64,
    },
}
