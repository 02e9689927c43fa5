//! The state store on fjall: one keyspace, filled by sorted bulk ingestion.
//!
//! An ingestion becomes visible as a whole, with the marker of its epoch among its rows; it syncs its tables itself.
//!
//! # When the disk is full
//!
//! An ingestion that fails leaves nothing in the store, but the tables that it had begun stay on the disk; and a merge of tables
//! that fails ends fjall's background thread for good, which goes unnoticed since ingestions do not need it. Opening the
//! store again cures both ([`StateStore::reopen`]): it removes what no version names, and begins its background work anew.
//! [`StateStore::check`] tells whether that is needed, and [`StateStore::has_merged`] whether it has helped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use crate::clock::Stopwatch;
use crate::engine::priority::yield_to_workers;
use crate::state::keys::Space;
use crate::state::{Row, RowChange, StateError, StateReader, StateStore};

const KEYSPACE: &str = "state";
/// Key of the marker: the last applied epoch, u64 BE.
const MARKER: &[u8] = &[Space::Store as u8, b'e'];
/// With less free space than this, a full disk is the likely reason why background work has ended: nobody tells which it was.
const SCARCE_BYTES: u64 = 256 << 20;
/// Unmerged tables above which changes should wait. Merging begins with a few, so this many mean that it does not keep up.
const CROWD: usize = 40;
/// How long a store that was closed may take to let go of its directory.
const LET_GO: Duration = Duration::from_secs(5);

/// See the module's page.
pub struct FjallStore {
    directory: PathBuf,
    cache_bytes: u64,
    /// None once it could not be opened again. Held for writing while it is opened again, so that nobody reads meanwhile.
    opened: RwLock<Option<Opened>>,
    /// How often it was opened again. Changed while nobody reads.
    reopened: AtomicU64,
}

struct Opened {
    keyspace: Keyspace,
    // Held for its background threads.
    database: Database,
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Opened {
    fn open(directory: &Path, cache_bytes: u64) -> Result<Self, ::fjall::Error> {
        let open = || {
            Database::builder(directory)
                .cache_size(cache_bytes)
                .worker_threads(1)
                .open()
        };
        // Its threads inherit that they can wait: merging tables is no more urgent than applying.
        let database = std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                yield_to_workers();
                open()
            });
            opener.join().unwrap_or_else(|_| open())
        })?;
        let keyspace = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default)?;
        Ok(Self { keyspace, database })
    }
}

impl FjallStore {
    /// Opens or creates the store in a directory; `cache_bytes` is for blocks of its tables.
    pub fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StateError> {
        let opened =
            Opened::open(directory, cache_bytes).map_err(|error| failed(directory, &error))?;
        Ok(Self {
            directory: directory.to_owned(),
            cache_bytes,
            opened: RwLock::new(Some(opened)),
            reopened: AtomicU64::new(0),
        })
    }

    /// Its rows as they are now, which stay so while changes are applied, and the last applied epoch among them. What they
    /// occupy is not given back as long as the snapshot lives.
    pub fn snapshot(self: &Arc<Self>) -> Result<(u64, FjallSnapshot), StateError> {
        let (snapshot, marker, reopened) = self.with(|opened| {
            let snapshot = opened.database.snapshot();
            let marker = snapshot.get(&opened.keyspace, MARKER)?;
            Ok((snapshot, marker, self.reopened.load(Ordering::SeqCst)))
        })?;
        let snapshot = FjallSnapshot {
            store: Arc::clone(self),
            snapshot,
            reopened,
        };
        Ok((epoch_of(marker.as_deref())?, snapshot))
    }

    /// Takes rows, sorted by key and one per key, and moves the marker to `epoch`; all of it, or nothing when `next` fails.
    /// Durable when it returns.
    pub(crate) fn ingest(
        &self,
        epoch: u64,
        next: &mut dyn FnMut() -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, StateError>,
    ) -> Result<(), StateError> {
        let mut failure = None;
        self.with(|opened| {
            let mut ingestion = opened.keyspace.start_ingestion()?;
            ingestion.write(MARKER, epoch.to_be_bytes())?;
            loop {
                match next() {
                    Ok(Some((key, Some(value)))) => ingestion.write(key, value)?,
                    Ok(Some((key, None))) => ingestion.write_tombstone(key)?,
                    Ok(None) => return ingestion.finish(),
                    Err(error) => {
                        failure = Some(error);
                        return Ok(());
                    }
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// What its files occupy, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.with(|opened| Ok(opened.keyspace.disk_space()))
            .unwrap_or_default()
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&Opened) -> Result<T, ::fjall::Error>,
    ) -> Result<T, StateError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some(opened) => ask(opened).map_err(|error| failed(&self.directory, &error)),
            None => Err(StateError::Store(format!(
                "{} could not be opened again",
                self.directory.display()
            ))),
        }
    }
}

/// The error that the operating system gave, if it was one.
fn io_error(error: &::fjall::Error) -> Option<&std::io::Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

fn failed(directory: &Path, error: &::fjall::Error) -> StateError {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let (io, place) = (io_error(error), directory.display());
    match io {
        Some(io) if matches!(io.kind(), StorageFull | QuotaExceeded) => StateError::NoSpace {
            directory: directory.to_owned(),
            problem: io.to_string(),
        },
        Some(io) => StateError::Store(format!("{place}: {io}")),
        None if matches!(error, ::fjall::Error::Poisoned) => background_failed(directory),
        None => StateError::Store(format!("{place}: {error}")),
    }
}

/// Merging of tables has failed. The store tells only in its own log why.
fn background_failed(directory: &Path) -> StateError {
    let free = rustix::fs::statvfs(directory).map(|stat| stat.f_bavail * stat.f_frsize);
    match free {
        Ok(free) if free < SCARCE_BYTES => StateError::NoSpace {
            directory: directory.to_owned(),
            problem: format!("merging its tables has failed, and {free} bytes are free"),
        },
        _ => StateError::Store(format!(
            "{}: merging its tables has failed: check the device",
            directory.display()
        )),
    }
}

fn epoch_of(marker: Option<&[u8]>) -> Result<u64, StateError> {
    match marker.map(<[u8; 8]>::try_from) {
        None => Ok(0),
        Some(Ok(epoch)) => Ok(u64::from_be_bytes(epoch)),
        Some(Err(_)) => Err(StateError::Store(
            "the marker of the last applied epoch is malformed".to_owned(),
        )),
    }
}

/// The rows from `start` on and before `end`, no end when it is empty; the range must not be empty.
fn scan(
    snapshot: &Snapshot,
    keyspace: &Keyspace,
    start: &[u8],
    end: &[u8],
    limit: usize,
) -> Result<Vec<Row>, ::fjall::Error> {
    let iter = if end.is_empty() {
        snapshot.range(keyspace, start..)
    } else {
        snapshot.range(keyspace, start..end)
    };
    iter.take(limit)
        .map(|guard| {
            let (key, value) = guard.into_inner()?;
            Ok((key.to_vec(), value.to_vec()))
        })
        .collect()
}

/// Rows of one epoch, while the store goes on.
pub struct FjallSnapshot {
    store: Arc<FjallStore>,
    snapshot: Snapshot,
    /// How often the store had been opened again.
    reopened: u64,
}

impl std::fmt::Debug for FjallSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallSnapshot")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl FjallSnapshot {
    fn with<T>(
        &self,
        ask: impl FnOnce(&Opened) -> Result<T, ::fjall::Error>,
    ) -> Result<T, StateError> {
        let is_there = || self.store.reopened.load(Ordering::SeqCst) == self.reopened;
        let asked = self.store.with(|opened| {
            // What is opened again keeps no old rows for it.
            is_there().then(|| ask(opened)).transpose()
        })?;
        asked.ok_or_else(|| {
            StateError::Store(
                "the state store was opened again while it was read, since its disk was full: try again"
                    .to_owned(),
            )
        })
    }
}

impl StateReader for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.with(|opened| {
            let value = self.snapshot.get(&opened.keyspace, key)?;
            Ok(value.map(|value| value.to_vec()))
        })
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        if !end.is_empty() && start >= end {
            return Ok(Vec::new());
        }
        self.with(|opened| scan(&self.snapshot, &opened.keyspace, start, end, limit))
    }
}

impl StateReader for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.with(|opened| Ok(opened.keyspace.get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        if !end.is_empty() && start >= end {
            return Ok(Vec::new());
        }
        self.with(|opened| {
            let snapshot = opened.database.snapshot();
            scan(&snapshot, &opened.keyspace, start, end, limit)
        })
    }
}

impl StateStore for FjallStore {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        self.with(|opened| {
            let mut ingestion = opened.keyspace.start_ingestion()?;
            // The marker's space is the first of all, so that its row is the first of the sorted ones.
            ingestion.write(MARKER, epoch.to_be_bytes())?;
            for (key, value) in changes {
                match value {
                    Some(value) => ingestion.write(key, value)?,
                    None => ingestion.write_tombstone(key)?,
                }
            }
            ingestion.finish()
        })
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        let marker = self.with(|opened| opened.keyspace.get(MARKER))?;
        epoch_of(marker.as_deref())
    }

    fn check(&self) -> Result<(), StateError> {
        // The journal is empty, so this only asks whether its background thread has failed.
        self.with(|opened| opened.database.persist(PersistMode::Buffer))
    }

    fn is_crowded(&self) -> bool {
        self.with(|opened| Ok(opened.keyspace.l0_table_count() >= CROWD))
            .unwrap_or(false)
    }

    fn has_merged(&self) -> bool {
        // Opened with unmerged tables, it begins with a look whether to merge them, which counts when it is through.
        self.with(|opened| {
            let none_to_merge = opened.keyspace.l0_table_count() == 0;
            Ok(none_to_merge || opened.database.compactions_completed() > 0)
        })
        .unwrap_or(false)
    }

    fn reopen(&self) -> Result<(), StateError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        *opened = None;
        self.reopened.fetch_add(1, Ordering::SeqCst);
        let watch = Stopwatch::start();
        loop {
            match Opened::open(&self.directory, self.cache_bytes) {
                Ok(new) => {
                    *opened = Some(new);
                    return Ok(());
                }
                // Its threads may be about to end.
                Err(::fjall::Error::Locked) if watch.elapsed() < LET_GO => {
                    crate::clock::pause(Duration::from_millis(5));
                }
                Err(error) => return Err(failed(&self.directory, &error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_given_time_when_it_is_crowded_never_has_many_tables() {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
        let tables = || {
            store
                .with(|opened| Ok(opened.keyspace.l0_table_count()))
                .unwrap()
        };
        let watch = Stopwatch::start();
        for epoch in 1..=3 * CROWD as u64 {
            while store.is_crowded() {
                assert!(watch.elapsed() < Duration::from_mins(2), "it never merges");
                crate::clock::pause(Duration::from_millis(1));
            }
            let key = [Space::State as u8, (epoch % 7) as u8];
            let value = epoch.to_be_bytes();
            store
                .apply(epoch, &mut [(&key[..], Some(&value[..]))].into_iter())
                .unwrap();
            assert!(tables() <= CROWD);
        }
        assert_eq!(store.applied_epoch().unwrap(), 3 * CROWD as u64);
        assert_eq!(store.scan(&[Space::State as u8], &[], 99).unwrap().len(), 7);
    }

    #[test]
    fn opened_again_it_has_what_was_applied_and_nothing_besides() {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
        let key = |n: u8| vec![Space::State as u8, n];
        store
            .apply(3, &mut [(&key(1)[..], Some(&[1][..]))].into_iter())
            .unwrap();
        store.check().unwrap();
        {
            // As an ingestion that has failed leaves it.
            let opened = store.opened.read().unwrap();
            let mut ingestion = opened.as_ref().unwrap().keyspace.start_ingestion().unwrap();
            ingestion.write(key(2), [2]).unwrap();
        }
        let tables = || {
            let tables = store.with(|opened| Ok(opened.keyspace.path().join("tables")));
            std::fs::read_dir(tables.unwrap()).unwrap().count()
        };
        assert_eq!(tables(), 2);
        store.reopen().unwrap();
        assert_eq!(tables(), 1);
        assert_eq!(store.applied_epoch().unwrap(), 3);
        assert_eq!(store.get(&key(1)).unwrap(), Some(vec![1]));
        assert_eq!(store.get(&key(2)).unwrap(), None);
        store
            .apply(4, &mut [(&key(2)[..], Some(&[2][..]))].into_iter())
            .unwrap();
        assert_eq!(store.scan(&key(0), &[], 9).unwrap().len(), 2);
    }

    #[test]
    fn a_snapshot_stays_as_it_is_until_the_store_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(FjallStore::open(directory.path(), 1 << 20).unwrap());
        let key = |n: u8| vec![Space::State as u8, n];
        let apply = |epoch: u64, value: u8| {
            let rows: Vec<Row> = (0..5).map(|n| (key(n), vec![value])).collect();
            let mut changes = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
            store.apply(epoch, &mut changes).unwrap();
        };
        apply(3, 1);
        let (epoch, snapshot) = store.snapshot().unwrap();
        assert_eq!(epoch, 3);
        for epoch in 4..30 {
            apply(epoch, epoch as u8);
        }
        assert_eq!(snapshot.get(&key(2)).unwrap(), Some(vec![1]));
        let rows = snapshot.scan(&key(0), &key(9), 9).unwrap();
        assert_eq!(rows, (0..5).map(|n| (key(n), vec![1])).collect::<Vec<_>>());
        assert_eq!(store.get(&key(2)).unwrap(), Some(vec![29]));
        store.reopen().unwrap();
        let error = snapshot.get(&key(2)).unwrap_err();
        assert!(error.to_string().contains("opened again"), "{error}");
        assert!(snapshot.scan(&key(0), &[], 9).is_err());
        assert_eq!(store.snapshot().unwrap().0, 29);
    }

    #[test]
    fn a_store_tells_when_it_has_merged_what_it_was_opened_with() {
        let directory = tempfile::tempdir().unwrap();
        let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
        assert!(store.has_merged());
        for epoch in 1..=9u64 {
            let key = [Space::State as u8, epoch as u8];
            store
                .apply(epoch, &mut [(&key[..], Some(&key[..]))].into_iter())
                .unwrap();
        }
        store.reopen().unwrap();
        let watch = Stopwatch::start();
        while !store.has_merged() {
            assert!(watch.elapsed() < Duration::from_mins(1), "it never merges");
            crate::clock::pause(Duration::from_millis(1));
        }
        store.check().unwrap();
        let tables = store.with(|opened| Ok(opened.keyspace.l0_table_count()));
        assert!(tables.unwrap() < 9);
    }

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
