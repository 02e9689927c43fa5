//! A state store in memory: for the author's harness and for simulation.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::{Row, RowChange, StateError, StateReader, StateStore};

/// Rows in a sorted map. Clones of its contents stand for what a disk would hold.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default, Clone)]
struct Inner {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    applied: u64,
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
        let inner = self.inner();
        let upper = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(end)
        };
        if !end.is_empty() && start >= end {
            return Ok(Vec::new());
        }
        let rows = inner.rows.range::<[u8], _>((Bound::Included(start), upper));
        Ok(rows
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

impl StateStore for MemoryStore {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        let mut inner = self.inner();
        for (key, value) in changes {
            match value {
                Some(value) => inner.rows.insert(key.to_vec(), value.to_vec()),
                None => inner.rows.remove(key),
            };
        }
        inner.applied = epoch;
        Ok(())
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        Ok(self.inner().applied)
    }
}
