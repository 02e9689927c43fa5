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

mod snapshot;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use self::snapshot::Snapshots;
use crate::checkpoint::changes::{ChangeError, ChangeLog};
use crate::clock::Stopwatch;
use crate::engine::priority::yield_to_workers;
use crate::state::keys::Space;
use crate::state::{Row, RowChange, StateError, StateReader, StateSnapshot, StateStore};

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
    /// Taken while `opened` is held.
    snapshots: Snapshots,
    /// Where the keys of applied rows are noted.
    changes: Option<Arc<ChangeLog>>,
}

/// Takes the next change.
pub(crate) type Put<'p> = dyn FnMut(RowChange<'_>) -> Result<(), StateError> + 'p;

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
            snapshots: Snapshots::default(),
            changes: None,
        })
    }

    /// Notes the keys of all rows that are applied: durably, before they are in the store.
    #[must_use]
    pub fn with_changes(mut self, changes: Arc<ChangeLog>) -> Self {
        self.changes = Some(changes);
        self
    }

    /// As [`StateStore::apply`], with changes that `feed` gives to the function that it is given; nothing is applied when it
    /// fails.
    pub(crate) fn ingest<E: From<StateError>>(
        &self,
        epoch: u64,
        feed: impl FnOnce(&mut Put<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.with_opened(|opened| {
            let failed = |error: ::fjall::Error| failed(&self.directory, &error);
            let noted = |error: ChangeError| not_noted(&self.directory, error);
            let mut note = match &self.changes {
                Some(changes) => {
                    let before = opened.keyspace.get(MARKER).map_err(failed)?;
                    let before = marker(before.as_deref())?;
                    // Rows that change without an epoch count for the next one: a checkpoint may have been made of this one.
                    let through = epoch.max(before + 1);
                    Some(changes.begin(before, through).map_err(noted)?)
                }
                None => None,
            };
            let mut ingestion = opened.keyspace.start_ingestion().map_err(failed)?;
            // The marker's space is the first of all, so that its row is the first of the sorted ones.
            let marker = epoch.to_be_bytes();
            ingestion.write(MARKER, marker).map_err(failed)?;
            feed(&mut |(key, value)| {
                if let Some(note) = &mut note {
                    note.push(key).map_err(noted)?;
                }
                match value {
                    Some(value) => ingestion.write(key, value),
                    None => ingestion.write_tombstone(key),
                }
                .map_err(failed)
            })?;
            if let Some(note) = note {
                note.finish().map_err(noted)?;
            }
            Ok(ingestion.finish().map_err(failed)?)
        })
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&Opened) -> Result<T, ::fjall::Error>,
    ) -> Result<T, StateError> {
        self.with_opened(|opened| ask(opened).map_err(|error| failed(&self.directory, &error)))
    }

    fn with_opened<T, E: From<StateError>>(
        &self,
        ask: impl FnOnce(&Opened) -> Result<T, E>,
    ) -> Result<T, E> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some(opened) => ask(opened),
            None => Err(E::from(StateError::Store(format!(
                "{} could not be opened again",
                self.directory.display()
            )))),
        }
    }
}

/// A change file that could not be written, as an error of the store in `directory`.
fn not_noted(directory: &Path, error: ChangeError) -> StateError {
    match error {
        ChangeError::NoSpace { path, source } => StateError::NoSpace {
            directory: path.parent().unwrap_or(directory).to_owned(),
            problem: source.to_string(),
        },
        error => StateError::Store(error.to_string()),
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

/// The epoch that the marker's row tells.
fn marker(value: Option<&[u8]>) -> Result<u64, StateError> {
    match value.map(<[u8; 8]>::try_from) {
        None => Ok(0),
        Some(Ok(epoch)) => Ok(u64::from_be_bytes(epoch)),
        Some(Err(_)) => Err(StateError::Store(
            "the marker of the last applied epoch is malformed".to_owned(),
        )),
    }
}

impl Drop for FjallStore {
    fn drop(&mut self) {
        // Else they would keep its directory locked.
        self.snapshots.close();
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
            let iter = if end.is_empty() {
                snapshot.range(&opened.keyspace, start..)
            } else {
                snapshot.range(&opened.keyspace, start..end)
            };
            iter.take(limit)
                .map(|guard| {
                    let (key, value) = guard.into_inner()?;
                    Ok((key.to_vec(), value.to_vec()))
                })
                .collect()
        })
    }
}

impl StateStore for FjallStore {
    fn apply(
        &self,
        epoch: u64,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
    ) -> Result<(), StateError> {
        self.ingest(epoch, |put| {
            for change in &mut *changes {
                put(change)?;
            }
            Ok(())
        })
    }

    fn applied_epoch(&self) -> Result<u64, StateError> {
        marker(self.with(|opened| opened.keyspace.get(MARKER))?.as_deref())
    }

    fn snapshot(&self) -> Result<Arc<dyn StateSnapshot>, StateError> {
        self.with(|opened| {
            let keyspace = opened.keyspace.clone();
            let snapshot = opened.database.snapshot();
            Ok(self
                .snapshots
                .take(self.directory.clone(), snapshot, keyspace))
        })
    }

    fn check(&self) -> Result<(), StateError> {
        // The journal is empty, so this only asks whether its background thread has failed.
        self.with(|opened| opened.database.persist(PersistMode::Buffer))
    }

    fn disk_bytes(&self) -> u64 {
        self.with(|opened| Ok(opened.keyspace.disk_space()))
            .unwrap_or_default()
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
        self.snapshots.close();
        *opened = None;
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
