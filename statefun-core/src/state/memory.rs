//! A state store in memory: for the author's harness and for simulation.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::state::{Row, RowChange, RowCursor, StateError, StateReader, StateSnapshot, StateStore};

/// Rows in a sorted map. Clones of its contents stand for what a disk would hold.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default, Clone)]
struct Inner {
    /// Shared with snapshots and clones until they change.
    rows: Arc<Rows>,
    applied: u64,
}

/// Up to `limit` rows of a range.
fn scan(rows: &Rows, start: &[u8], end: &[u8], limit: usize) -> Vec<Row> {
    if !end.is_empty() && start >= end {
        return Vec::new();
    }
    let upper = if end.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(end)
    };
    rows.range::<[u8], _>((Bound::Included(start), upper))
        .take(limit)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

impl MemoryStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self {
            inner: Mutex::new(self.inner().clone()),
        }
    }
}

impl StateReader for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.inner().rows.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        Ok(scan(&self.inner().rows, start, end, limit))
    }
}

impl StateStore for MemoryStore {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        let mut inner = self.inner();
        let rows = Arc::make_mut(&mut inner.rows);
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(key),
            };
        }
        inner.applied = epoch;
        Ok(())
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        Ok(self.inner().applied)
    }

    fn snapshot(&self) -> Result<Arc<dyn StateSnapshot>, StateError> {
        let inner = self.inner().clone();
        Ok(Arc::new(MemorySnapshot { inner }))
    }
}

/// The rows of a store as they were.
#[derive(Debug)]
struct MemorySnapshot {
    inner: Inner,
}

impl StateReader for MemorySnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.inner.rows.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        Ok(scan(&self.inner.rows, start, end, limit))
    }
}

impl StateSnapshot for MemorySnapshot {
    fn applied_epoch(&self) -> Result<u64, StateError> {
        Ok(self.inner.applied)
    }

    fn rows(&self, start: &[u8], end: &[u8]) -> Result<Box<dyn RowCursor>, StateError> {
        Ok(Box::new(MemoryCursor {
            rows: Arc::clone(&self.inner.rows),
            start: start.to_vec(),
            end: end.to_vec(),
            current: None,
        }))
    }
}

struct MemoryCursor {
    rows: Arc<Rows>,
    start: Vec<u8>,
    end: Vec<u8>,
    current: Option<Row>,
}

impl RowCursor for MemoryCursor {
    fn next_row(&mut self) -> Result<Option<(&[u8], &[u8])>, StateError> {
        if let Some((last, _)) = self.current.take() {
            self.start = last;
            // The first key behind it.
            self.start.push(0);
        }
        self.current = scan(&self.rows, &self.start, &self.end, 1).pop();
        Ok(self
            .current
            .as_ref()
            .map(|(key, value)| (&key[..], &value[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let store = MemoryStore::default();
        let rows = [
            (&b"a"[..], Some(&b"1"[..])),
            (b"b", Some(b"2")),
            (b"c", Some(b"3")),
        ];
        store.apply(3, &mut rows.into_iter()).unwrap();
        let snapshot = store.snapshot().unwrap();
        store
            .apply(4, &mut [(&b"b"[..], None)].into_iter())
            .unwrap();
        assert_eq!(snapshot.applied_epoch().unwrap(), 3);
        assert_eq!(snapshot.get(b"b").unwrap(), Some(b"2".to_vec()));
        assert_eq!(snapshot.scan(b"a", b"c", 9).unwrap().len(), 2);
        let mut cursor = snapshot.rows(b"b", b"").unwrap();
        assert_eq!(cursor.next_row().unwrap(), Some((&b"b"[..], &b"2"[..])));
        assert_eq!(cursor.next_row().unwrap(), Some((&b"c"[..], &b"3"[..])));
        assert_eq!(cursor.next_row().unwrap(), None);
        assert_eq!(store.get(b"b").unwrap(), None);
    }
}
