//! The state store on fjall: one keyspace, filled by sorted bulk ingestion.
//!
//! An ingestion becomes visible as a whole, with the marker of its epoch among its rows; it syncs its tables itself.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable};

use crate::state::keys::Space;
use crate::state::{Row, RowChange, StateError, StateReader, StateStore};

const KEYSPACE: &str = "state";
/// Key of the marker: the last applied epoch, u64 BE.
const MARKER: &[u8] = &[Space::Store as u8, b'e'];

/// See the module's page.
#[derive(Clone)]
pub struct FjallStore {
    // The database is held for its background threads; it must outlive the keyspace.
    database: Database,
    keyspace: Keyspace,
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore")
            .field("path", &self.keyspace.path())
            .finish_non_exhaustive()
    }
}

fn failed(error: impl std::fmt::Display) -> StateError {
    StateError::Store(error.to_string())
}

impl FjallStore {
    /// Opens or creates the store in a directory; `cache_bytes` is for blocks of its tables.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StateError> {
        let database = Database::builder(directory)
            .cache_size(cache_bytes)
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let keyspace = database
            .keyspace(KEYSPACE, KeyspaceCreateOptions::default)
            .map_err(failed)?;
        Ok(Self { database, keyspace })
    }

    /// What its files occupy, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.keyspace.disk_space()
    }
}

impl StateReader for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self
            .keyspace
            .get(key)
            .map_err(failed)?
            .map(|value| value.to_vec()))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        if !end.is_empty() && start >= end {
            return Ok(Vec::new());
        }
        let snapshot = self.database.snapshot();
        let iter = if end.is_empty() {
            snapshot.range(&self.keyspace, start..)
        } else {
            snapshot.range(&self.keyspace, start..end)
        };
        iter.take(limit)
            .map(|guard| {
                let (key, value) = guard.into_inner().map_err(failed)?;
                Ok((key.to_vec(), value.to_vec()))
            })
            .collect()
    }
}

impl StateStore for FjallStore {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        let mut ingestion = self.keyspace.start_ingestion().map_err(failed)?;
        // The marker's space is the first of all, so that its row is the first of the sorted ones.
        ingestion
            .write(MARKER, epoch.to_be_bytes())
            .map_err(failed)?;
        for (key, value) in changes {
            match value {
                Some(value) => ingestion.write(key, value).map_err(failed)?,
                None => ingestion.write_tombstone(key).map_err(failed)?,
            }
        }
        ingestion.finish().map_err(failed)
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        let marker = self.keyspace.get(MARKER).map_err(failed)?;
        match marker.as_deref().map(<[u8; 8]>::try_from) {
            None => Ok(0),
            Some(Ok(epoch)) => Ok(u64::from_be_bytes(epoch)),
            Some(Err(_)) => Err(StateError::Store(
                "the marker of the last applied epoch is malformed".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applied_rows_and_the_marker_are_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let key = |n: u8| vec![Space::State as u8, n];
        {
            let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
            assert_eq!(store.applied_epoch().unwrap(), 0);
            let rows: Vec<Row> = (0..9).map(|n| (key(n), vec![n])).collect();
            store
                .apply(
                    3,
                    &mut rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))),
                )
                .unwrap();
            store
                .apply(
                    7,
                    &mut [(&key(1)[..], None), (&key(2)[..], Some(&[22u8][..]))].into_iter(),
                )
                .unwrap();
        }
        let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
        assert_eq!(store.applied_epoch().unwrap(), 7);
        assert_eq!(store.get(&key(1)).unwrap(), None);
        assert_eq!(store.get(&key(2)).unwrap(), Some(vec![22]));
        let rows = store.scan(&key(0), &key(5), 3).unwrap();
        assert_eq!(
            rows,
            [(key(0), vec![0]), (key(2), vec![22]), (key(3), vec![3])]
        );
        assert_eq!(store.scan(&key(5), &[], usize::MAX).unwrap().len(), 4);
    }
}
