//! The state store behind the epoch log: rows by key, applied late, read where memory does not hold them.

pub mod fjall;
pub mod keys;
pub mod memory;

use std::sync::Arc;

use thiserror::Error;

/// The state store failed, or holds what cannot be read.
#[derive(Debug, Error)]
pub enum StateError {
    /// The storage engine failed; processing stops.
    #[error("the state store failed: {0}")]
    Store(String),
    /// The disk is full. Nothing was lost: the same rows can be applied when there is space.
    #[error("no space is left for the state store in {}: {problem}; free some space", directory.display())]
    NoSpace {
        /// The store's directory.
        directory: std::path::PathBuf,
        /// What the operating system says.
        problem: String,
    },
    /// The store was opened again or closed since the snapshot was taken.
    #[error(
        "the state store was opened again, or closed, since its snapshot was taken, so that nothing can be read of it any \
         more; take another one"
    )]
    SnapshotGone,
    /// A row does not decode as the type that the code declares.
    #[error("the state `{state}` of {address} cannot be read: {problem}")]
    Decode {
        /// The state's name.
        state: String,
        /// Whose state.
        address: String,
        /// What does not fit.
        problem: String,
    },
    /// A value cannot be written in its codec.
    #[error("the state `{state}` of {address} cannot be written: {problem}")]
    Encode {
        /// The state's name.
        state: String,
        /// Whose state.
        address: String,
        /// What does not fit.
        problem: String,
    },
}

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reads rows of the applied epochs. Safe to call from any thread; each call may block on the disk.
pub trait StateReader: Send + Sync {
    /// The row of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Up to `limit` rows from `start` on and before `end` (no end when it is empty), in the order of their keys.
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError>;
}

/// Rows one after the other, in the order of their keys.
pub trait RowCursor: Send {
    /// The next row, key and value; none when there is no more.
    ///
    /// # Errors
    /// When it cannot be read. What follows has no meaning then.
    fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>, StateError>;
}

/// The rows as they were at one moment, all of the same epoch, whatever is applied meanwhile. What has been replaced since
/// stays on the disk as long as there is the snapshot.
pub trait StateSnapshot: StateReader {
    /// The last epoch applied before.
    ///
    /// # Errors
    /// When it cannot be read.
    fn applied_epoch(&self) -> Result<u64, StateError>;

    /// The rows from `start` on and before `end` (no end when it is empty), for long scans. The store's own row, of
    /// [`keys::Space::Store`], is among them.
    ///
    /// # Errors
    /// When they cannot be read.
    fn rows(&self, start: &[u8], end: &[u8]) -> Result<Box<dyn RowCursor>, StateError>;
}

/// A change of a row: its key, and its new value or none when it is deleted.
pub type RowChange<'a> = (&'a [u8], Option<&'a [u8]>);

/// Takes the rows of complete epochs.
pub trait StateStore: StateReader {
    /// Applies changes, sorted by key and one per key, and moves the marker to `epoch`; all of it, or nothing.
    /// Durable when it returns.
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError>;

    /// The last applied epoch; 0 when there is none.
    fn applied_epoch(&self) -> Result<u64, StateError>;

    /// The rows as they are now. It is good until the store is opened again or closed; then reading it gives
    /// [`StateError::SnapshotGone`].
    ///
    /// # Errors
    /// When the store cannot be read.
    fn snapshot(&self) -> Result<Arc<dyn StateSnapshot>, StateError>;

    /// What its files occupy, in bytes; 0 when it has none.
    fn disk_bytes(&self) -> u64 {
        0
    }

    /// Whether its background work goes on.
    ///
    /// # Errors
    /// When it has ended: the store has to be opened again.
    fn check(&self) -> Result<(), StateError> {
        Ok(())
    }

    /// Whether changes should wait until the store has merged what it was given before. Each apply adds tables that every
    /// read has to look into, and a process that is killed again and again never comes to merge them.
    fn is_crowded(&self) -> bool {
        false
    }

    /// Whether a merge has gone well since it was opened, or none was needed. A store that fails to merge for lack of space
    /// seems well from when it is opened again until that merge fails again.
    fn has_merged(&self) -> bool {
        true
    }

    /// Opens it again after a failure: then it has what was applied, and nothing besides. Snapshots taken before are gone.
    ///
    /// # Errors
    /// When it cannot be opened. Nothing can be read any more then.
    fn reopen(&self) -> Result<(), StateError> {
        Ok(())
    }
}
