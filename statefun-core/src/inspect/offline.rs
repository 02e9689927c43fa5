//! The state of a data directory on which no application runs.
//!
//! What is only in the epoch log is laid over what the state store has, in memory: nothing is written, and the next start finds
//! what it would have found. The tail of a log is what the store had not applied yet, some hundred MiB at most by default.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;

use thiserror::Error;

use super::StateView;
use crate::catalog::{Catalog, CatalogError, DataDirectory};
use crate::checkpoint::restore::UNFINISHED;
use crate::clock::{Timestamp, WallClock};
use crate::disk::DiskLock;
use crate::engine::cut::EpochBody;
use crate::engine::rows::framing;
use crate::log::{LogError, OpenOptions, read_tail};
use crate::state::fjall::FjallStore;
use crate::state::keys::Space;
use crate::state::memory::MemoryStore;
use crate::state::{Row, StateError, StateReader, StateStore as _};

/// What the store may use for the blocks of its tables, in bytes.
const STORE_CACHE_BYTES: u64 = 64 << 20;

/// Why a data directory cannot be read.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// There is none.
    #[error("{} is no data directory of an application: there is no `catalog.json`", .0.display())]
    NoData(PathBuf),
    /// A process uses it.
    #[error(
        "{} is in use by {holder}, which does not answer live commands: try again when it has started, or stop it",
        directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who uses it, as far as it is known.
        holder: String,
    },
    /// A restore was begun and did not end.
    #[error("{} holds a restore that did not end: it has not all of its state", .0.display())]
    Unfinished(PathBuf),
    /// It cannot be locked.
    #[error("cannot lock {}: {source}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The epoch log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state store cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The record of an epoch is malformed.
#[derive(Debug, Error)]
#[error("its record is malformed")]
struct MalformedEpoch;

/// Opens the state of a directory, up to its last durable epoch, and holds the directory as long as the view lives. Returns
/// the time, too: never earlier than what the application has used.
///
/// # Errors
/// When it is none, it is in use, or it is damaged as a crash does not explain.
pub fn open_directory(directory: &DataDirectory) -> Result<(StateView, Timestamp), OfflineError> {
    let disk = &*directory.disk;
    let no_data = || OfflineError::NoData(directory.root.clone());
    // Before anything is made there, the file of the lock included.
    Catalog::read(disk, &directory.root)?.ok_or_else(no_data)?;
    let lock = disk
        .lock(&directory.lock())
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => OfflineError::InUse {
                directory: directory.root.clone(),
                holder: source
                    .get_ref()
                    .map_or_else(|| "another process".to_owned(), ToString::to_string),
            },
            _ => OfflineError::Lock {
                path: directory.lock(),
                source,
            },
        })?;
    let catalog = Catalog::read(disk, &directory.root)?.ok_or_else(no_data)?;
    let exists = |path: PathBuf| {
        disk.exists(&path).map_err(|source| CatalogError::Io {
            operation: "look for",
            path,
            source,
        })
    };
    if exists(directory.root.join(UNFINISHED))? {
        return Err(OfflineError::Unfinished(directory.root.clone()));
    }
    let (applied, store): (u64, Box<dyn StateReader>) = if exists(directory.state())? {
        let store = FjallStore::open(&directory.state(), STORE_CACHE_BYTES)?;
        (store.applied_epoch()?, Box::new(store))
    } else {
        (0, Box::new(MemoryStore::default()))
    };
    let clock = WallClock::default();
    let mut newer: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    let options = OpenOptions {
        applied_epoch: applied,
        base_epoch: applied,
        ..OpenOptions::new(catalog.lineage)
    };
    let epoch = read_tail(disk, &directory.log(), &options, &mut |record| {
        if record.epoch > applied {
            let body = EpochBody::parse(record.body).ok_or(MalformedEpoch)?;
            clock.raise(body.time);
            for section in &body.sections {
                for row in framing::iter(section.rows) {
                    let (key, value) = row.ok_or(MalformedEpoch)?;
                    if key.first() == Some(&(Space::State as u8)) {
                        newer.insert(key.to_vec(), value.map(<[u8]>::to_vec));
                    }
                }
            }
        }
        Ok::<(), MalformedEpoch>(())
    })?;
    let rows = Overlaid {
        store,
        newer,
        _lock: lock,
    };
    let view = StateView::new(epoch, &catalog, Box::new(rows));
    Ok((view, clock.now()))
}

/// What a store has, and what is newer.
struct Overlaid {
    store: Box<dyn StateReader>,
    /// None are deleted.
    newer: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    _lock: Box<dyn DiskLock>,
}

impl StateReader for Overlaid {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.newer.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut start = start.to_vec();
        while rows.len() < limit && (end.is_empty() || &start[..] < end) {
            let wanted = limit - rows.len();
            let older = self.store.scan(&start, end, wanted)?;
            let is_last = older.len() < wanted;
            // Behind what the store was asked for, it may have rows between those that are newer.
            let through = older
                .last()
                .filter(|_| !is_last)
                .map(|(key, _)| key.clone());
            let upper = match &through {
                Some(last) => Bound::Included(&last[..]),
                None if end.is_empty() => Bound::Unbounded,
                None => Bound::Excluded(end),
            };
            let mut newer = self
                .newer
                .range::<[u8], _>((Bound::Included(&start[..]), upper))
                .peekable();
            for (key, value) in older {
                while let Some((newer_key, newer_value)) =
                    newer.next_if(|(newer_key, _)| newer_key[..] < key[..])
                {
                    rows.extend(newer_value.clone().map(|value| (newer_key.clone(), value)));
                }
                match newer.next_if(|(newer_key, _)| newer_key[..] == key[..]) {
                    Some((_, Some(value))) => rows.push((key, value.clone())),
                    Some((_, None)) => {}
                    None => rows.push((key, value)),
                }
            }
            for (key, value) in newer {
                if rows.len() >= limit {
                    break;
                }
                rows.extend(value.clone().map(|value| (key.clone(), value)));
            }
            match through {
                Some(mut last) => {
                    last.push(0);
                    start = last;
                }
                None => break,
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct NoLock;
    impl DiskLock for NoLock {}

    proptest! {
        #[test]
        fn what_is_newer_stands_in_place_of_what_is_older(
            older in prop::collection::btree_map(0_u8..60, any::<u8>(), 0..40),
            newer in prop::collection::btree_map(0_u8..60, prop::option::of(any::<u8>()), 0..40),
            start in 0_u8..60,
            end in prop::option::of(0_u8..60),
            limit in 1_usize..50,
        ) {
            let store = MemoryStore::default();
            let rows: Vec<Row> = older.iter().map(|(key, value)| (vec![*key], vec![*value])).collect();
            let mut changes = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
            store.apply(1, &mut changes).unwrap();
            let mut model = older;
            for (key, value) in &newer {
                match value {
                    Some(value) => model.insert(*key, *value),
                    None => model.remove(key),
                };
            }
            let newer = newer.into_iter().map(|(key, value)| (vec![key], value.map(|value| vec![value])));
            let overlaid = Overlaid { store: Box::new(store), newer: newer.collect(), _lock: Box::new(NoLock) };
            let expected: Vec<Row> = model
                .range(start..)
                .filter(|(key, _)| end.is_none_or(|end| **key < end))
                .take(limit)
                .map(|(key, value)| (vec![*key], vec![*value]))
                .collect();
            let end = end.map_or(Vec::new(), |end| vec![end]);
            prop_assert_eq!(overlaid.scan(&[start], &end, limit).unwrap(), expected);
            for key in 0..60_u8 {
                let expected = model.get(&key).map(|value| vec![*value]);
                prop_assert_eq!(overlaid.get(&[key]).unwrap(), expected);
            }
        }
    }
}
