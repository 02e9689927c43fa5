//! Snapshots of the store, which it can close.
//!
//! What is open of a database that is opened again must be closed before: it keeps the directory locked, and it removes
//! files of tables when it is closed later, whose names may have been given anew by then. So the store knows all snapshots
//! and their cursors, and each of them is closed while its lock is held.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ::fjall::{Iter, Keyspace, Readable, Slice, Snapshot};

use super::{MARKER, failed, marker};
use crate::state::{Row, RowCursor, StateError, StateReader, StateSnapshot};

/// What is open of a database, and can be closed by others while it is in use.
trait Close: Send + Sync {
    fn close(&self);
}

impl<T: Send + Sync> Close for RwLock<Option<T>> {
    fn close(&self) {
        *self.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<T: Send> Close for Mutex<Option<T>> {
    fn close(&self) {
        *lock(self) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that is open of a store's database beside the store.
#[derive(Clone, Default)]
pub(super) struct Snapshots {
    open: Arc<Mutex<Vec<Arc<dyn Close>>>>,
}

impl Snapshots {
    /// A snapshot. The caller holds what keeps the store from being opened again meanwhile.
    pub(super) fn take(
        &self,
        directory: PathBuf,
        snapshot: Snapshot,
        keyspace: Keyspace,
    ) -> Arc<dyn StateSnapshot> {
        let view = RwLock::new(Some(View { snapshot, keyspace }));
        Arc::new(FjallSnapshot {
            directory,
            view: self.hold(view),
        })
    }

    fn hold<T: Close + 'static>(&self, open: T) -> Held<T> {
        let open = Arc::new(open);
        lock(&self.open).push(Arc::clone(&open) as Arc<dyn Close>);
        Held {
            open,
            all: self.clone(),
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Closes all of them. Nobody can take a snapshot meanwhile.
    pub(super) fn close(&self) {
        loop {
            let open = std::mem::take(&mut *lock(&self.open));
            if open.is_empty() {
                return;
            }
            // A cursor may be begun until its snapshot is closed.
            for open in open {
                open.close();
            }
        }
    }
}

/// Something open that the store knows. Dropped, it is closed in the same way as by the store.
struct Held<T: Close> {
    open: Arc<T>,
    all: Snapshots,
}

impl<T: Close> Drop for Held<T> {
    fn drop(&mut self) {
        self.open.close();
        let this = Arc::as_ptr(&self.open).cast::<()>();
        lock(&self.all.open).retain(|open| Arc::as_ptr(open).cast::<()>() != this);
    }
}

struct View {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl View {
    fn range(&self, start: &[u8], end: &[u8]) -> Option<Iter> {
        if end.is_empty() {
            return Some(self.snapshot.range(&self.keyspace, start..));
        }
        (start < end).then(|| self.snapshot.range(&self.keyspace, start..end))
    }
}

struct FjallSnapshot {
    directory: PathBuf,
    view: Held<RwLock<Option<View>>>,
}

impl FjallSnapshot {
    fn with<T>(
        &self,
        ask: impl FnOnce(&View) -> Result<T, ::fjall::Error>,
    ) -> Result<T, StateError> {
        let view = self
            .view
            .open
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match &*view {
            Some(view) => ask(view).map_err(|error| failed(&self.directory, &error)),
            None => Err(StateError::SnapshotGone),
        }
    }
}

impl StateReader for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.with(|view| {
            let value = view.snapshot.get(&view.keyspace, key)?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        self.with(|view| {
            let rows = view.range(start, end).into_iter().flatten().take(limit);
            rows.map(|guard| {
                let (key, value) = guard.into_inner()?;
                Ok((key.to_vec(), value.to_vec()))
            })
            .collect()
        })
    }
}

impl StateSnapshot for FjallSnapshot {
    fn applied_epoch(&self) -> Result<u64, StateError> {
        let value = self.with(|view| view.snapshot.get(&view.keyspace, MARKER))?;
        marker(value.as_deref())
    }

    fn rows(&self, start: &[u8], end: &[u8]) -> Result<Box<dyn RowCursor>, StateError> {
        // The cursor is known to the store before the snapshot can be closed.
        self.with(|view| {
            let iter = view.range(start, end);
            Ok(Box::new(FjallCursor {
                directory: self.directory.clone(),
                iter: iter.map(|iter| self.view.all.hold(Mutex::new(Some(iter)))),
                row: None,
            }) as Box<dyn RowCursor>)
        })
    }
}

struct FjallCursor {
    directory: PathBuf,
    /// None when there is no row.
    iter: Option<Held<Mutex<Option<Iter>>>>,
    row: Option<(Slice, Slice)>,
}

impl RowCursor for FjallCursor {
    fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>, StateError> {
        let Some(held) = &self.iter else {
            return Ok(None);
        };
        let next = match &mut *lock(&held.open) {
            Some(iter) => iter.next(),
            None => return Err(StateError::SnapshotGone),
        };
        let row = next.map(::fjall::Guard::into_inner).transpose();
        self.row = row.map_err(|error| failed(&self.directory, &error))?;
        let row = self.row.as_ref();
        Ok(row.map(|(key, value)| (&key[..], &value[..])))
    }
}
