//! Change files: which rows have changed since the last checkpoint.
//!
//! Whoever applies a window of epochs to the state store writes the keys of its rows into a change file first. So a checkpoint
//! finds what it has to take, also after a restart, without the epoch log, which is let go long before. Values are not in
//! it: they are read from a snapshot of the store.
//!
//! # The files
//!
//! `<from>-<to>-<number>-<rows>.keys` has the keys of all rows that changed in the epochs behind `from` up to `to`, and maybe
//! others: it is one part of a run (see [`run`](super::run)) in which all rows are deletes, or has no bytes when `rows` is 0.
//! `from` and `to` have 20 decimal digits, `number` ten; it counts files. Files that end with `.tmp` are unfinished and are
//! removed at the next start; others are ignored.
//!
//! A file gets its name when its content is durable, so that it is whole or not there. Intervals may overlap, since
//! a window that was not applied is gathered again, with another end perhaps; a key too many costs little.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::run::{InFile, Merge, PartReader, PartRows, Rows, RunError, RunWriter};
use crate::disk::{Disk, DiskFile, OpenMode};

#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;

/// More files than this are merged.
const MOST_FILES: usize = 32;
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes that are written before they are synced: what else is synced meanwhile waits behind them.
const SYNC_BYTES: u64 = 4 << 20;
const SUFFIX: &str = ".keys";
const UNFINISHED: &str = ".tmp";

/// Change files cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// An operation on a file failed.
    #[error("cannot {operation} {}: {source}; check the device and the permissions", path.display())]
    Io {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The disk is full. Nothing was lost: the same can be written when there is space.
    #[error("no space is left to write {}: {source}; free some space", path.display())]
    NoSpace {
        /// The file that could not be written.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file is damaged or cannot be read, or keys were not in order.
    #[error(transparent)]
    Keys(#[from] RunError),
}

impl ChangeError {
    /// For `map_err`.
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        move |source| {
            let path = path.to_owned();
            if matches!(source.kind(), StorageFull | QuotaExceeded) {
                return Self::NoSpace { path, source };
            }
            Self::Io {
                operation,
                path,
                source,
            }
        }
    }
}

/// A complete change file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeFile {
    /// The epoch behind which it begins.
    pub from: u64,
    /// The last epoch whose keys it has.
    pub to: u64,
    /// Its number: newer files have higher ones.
    pub number: u64,
    /// How many keys it has.
    pub rows: u64,
}

impl ChangeFile {
    fn name(&self) -> String {
        let Self {
            from,
            to,
            number,
            rows,
        } = self;
        format!("{from:020}-{to:020}-{number:010}-{rows}{SUFFIX}")
    }

    fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.strip_suffix(SUFFIX)?.split('-').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let file = Self {
            from: next()?,
            to: next()?,
            number: next()?,
            rows: next()?,
        };
        // Only what was written like that.
        (file.name() == name).then_some(file)
    }
}

/// The keys of several change files, each once, in order. All rows are deletes.
pub type ChangedKeys = Merge<PartRows<InFile>>;

/// The change files of a data directory. Files are written, read, merged and removed by several threads; only what is merged
/// or removed while its name is still in use elsewhere is missed there.
#[derive(Debug)]
pub struct ChangeLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    most_files: usize,
    files: Mutex<Files>,
    /// Held while files are merged, so that nothing is merged twice.
    merging: Mutex<()>,
}

#[derive(Debug, Default)]
struct Files {
    /// Sorted by where they begin.
    complete: Vec<ChangeFile>,
    next_number: u64,
}

impl ChangeLog {
    /// Opens or creates the change files of a directory; what is unfinished is removed.
    ///
    /// # Errors
    /// When the directory cannot be read or changed.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, ChangeError> {
        disk.create_dir_all(dir)
            .map_err(ChangeError::io("create", dir))?;
        let mut files = Files::default();
        let names = disk.list(dir).map_err(ChangeError::io("list", dir))?;
        for name in names {
            let path = dir.join(&name);
            if let Some(file) = ChangeFile::parse(&name) {
                files.next_number = files.next_number.max(file.number + 1);
                files.complete.push(file);
            } else if name.ends_with(UNFINISHED) {
                // It may come back with a power cut, and is removed again then.
                disk.remove(&path)
                    .map_err(ChangeError::io("remove", &path))?;
            }
        }
        files.complete.sort_unstable();
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            most_files: MOST_FILES,
            files: Mutex::new(files),
            merging: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, file: &ChangeFile) -> PathBuf {
        self.dir.join(file.name())
    }

    /// Begins a file for the keys of the epochs behind `from` up to `to`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn begin(&self, from: u64, to: u64) -> Result<ChangeWriter<'_>, ChangeError> {
        let number = {
            let mut files = self.lock();
            files.next_number += 1;
            files.next_number - 1
        };
        let path = self.dir.join(format!("{number:010}{UNFINISHED}"));
        let file = self
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(ChangeError::io("create", &path))?;
        Ok(ChangeWriter {
            log: self,
            file,
            path,
            complete: ChangeFile {
                from,
                to,
                number,
                rows: 0,
            },
            keys: RunWriter::new(usize::MAX),
            written: 0,
            synced: 0,
            done: false,
        })
    }

    /// All complete files, by where they begin.
    pub fn files(&self) -> Vec<ChangeFile> {
        self.lock().complete.clone()
    }

    /// Whether the files have the keys of all epochs behind `after` up to `through`.
    pub fn covers(&self, after: u64, through: u64) -> bool {
        let mut reached = after;
        for file in &self.lock().complete {
            if file.from <= reached {
                reached = reached.max(file.to);
            }
        }
        reached >= through
    }

    /// The keys of some files.
    ///
    /// # Errors
    /// When one of them is missing or damaged. Damage of a block is found when it is its turn.
    pub fn keys(&self, files: &[ChangeFile]) -> Result<ChangedKeys, ChangeError> {
        let mut keys = Merge::new();
        for file in files {
            if let Some(rows) = self.keys_of(file)? {
                keys = keys.with(rows);
            }
        }
        Ok(keys)
    }

    fn keys_of(&self, file: &ChangeFile) -> Result<Option<PartRows<InFile>>, ChangeError> {
        let path = self.path(file);
        let opened = self
            .disk
            .open(&path, OpenMode::Read)
            .map_err(ChangeError::io("open", &path))?;
        let name = path.display().to_string();
        let source = InFile::new(name.clone(), opened)?;
        if file.rows == 0 && super::run::ReadAt::is_empty(&source) {
            return Ok(None);
        }
        let part = PartReader::open(source)?;
        if part.row_count() != file.rows || part.delete_count() != file.rows {
            return Err(RunError::Damaged {
                name,
                offset: 0,
                expected: format!("{} keys", file.rows),
                found: format!(
                    "{} rows, {} of them deletes",
                    part.row_count(),
                    part.delete_count()
                ),
            }
            .into());
        }
        Ok(Some(part.rows(&[], &[])))
    }

    /// Removes files whose keys are in a checkpoint. Those that were removed before, or merged into others, are passed over.
    ///
    /// # Errors
    /// When one cannot be removed; it is not among the files any more all the same, until the next start.
    pub fn remove(&self, files: &[ChangeFile]) -> Result<(), ChangeError> {
        self.lock().complete.retain(|file| !files.contains(file));
        for file in files {
            let path = self.path(file);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ChangeError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Merges some files into one when there are many, so that reading them all stays cheap; to be called from time to time
    /// where waiting does no harm, and not while [`ChangeLog::keys`] is used elsewhere. Whether there were enough of
    /// them.
    ///
    /// # Errors
    /// When a file cannot be read or written; then the files are as they were.
    pub fn merge(&self) -> Result<bool, ChangeError> {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.files();
        if files.len() <= self.most_files {
            return Ok(false);
        }
        let Some(chosen) = choose(&files, self.most_files.div_ceil(2)) else {
            return Ok(false);
        };
        let from = chosen.iter().map(|file| file.from).min();
        let to = chosen.iter().map(|file| file.to).max();
        let mut writer = self.begin(from.unwrap_or_default(), to.unwrap_or_default())?;
        let mut keys = self.keys(chosen)?;
        while keys.advance()? {
            writer.push(keys.key())?;
        }
        writer.finish()?;
        // Should they come back with a power cut, their keys are there twice.
        self.remove(chosen)?;
        Ok(true)
    }
}

/// Neighbours whose intervals have no gap, as many as wanted or else half as many and so on, with as few keys as
/// possible. A merged file must not claim epochs that none of them had.
fn choose(files: &[ChangeFile], wanted: usize) -> Option<&[ChangeFile]> {
    let is_gapless = |files: &&[ChangeFile]| {
        let mut reached = files.first().map_or(0, |file| file.to);
        files.iter().all(|file| {
            let joins = file.from <= reached;
            reached = reached.max(file.to);
            joins
        })
    };
    let mut count = wanted;
    while count > 1 {
        let candidates = files.windows(count).filter(is_gapless);
        let fewest = candidates.min_by_key(|files| files.iter().map(|file| file.rows).sum::<u64>());
        if fewest.is_some() {
            return fewest;
        }
        count /= 2;
    }
    None
}

/// A change file that is being written. Dropped unfinished, it is removed.
#[derive(Debug)]
pub struct ChangeWriter<'a> {
    log: &'a ChangeLog,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    complete: ChangeFile,
    keys: RunWriter,
    written: u64,
    synced: u64,
    done: bool,
}

impl ChangeWriter<'_> {
    /// Takes in the next key, in order.
    ///
    /// # Errors
    /// When the file cannot be written, or the key is not behind the one before.
    pub fn push(&mut self, key: &[u8]) -> Result<(), ChangeError> {
        // There is only one part.
        self.keys.push(key, None)?;
        self.complete.rows += 1;
        if self.keys.ready_bytes() >= WRITE_BYTES {
            let (file, path, at) = (&self.file, &self.path, self.written);
            self.written += self.keys.ready_bytes() as u64;
            self.keys
                .drain(|bytes| file.write_at(bytes, at))
                .map_err(ChangeError::io("write", path))?;
            if self.written - self.synced >= SYNC_BYTES {
                self.sync()?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ChangeError> {
        self.file
            .sync_data()
            .map_err(ChangeError::io("sync", &self.path))?;
        self.synced = self.written;
        Ok(())
    }

    /// Makes the file durable; from now on it counts.
    ///
    /// # Errors
    /// When it cannot be written. It does not count then, though it may be found at the next start, whole.
    pub fn finish(mut self) -> Result<(), ChangeError> {
        let keys = std::mem::replace(&mut self.keys, RunWriter::new(0));
        if let Some(rest) = keys.finish() {
            self.file
                .write_at(&rest.bytes, self.written)
                .map_err(ChangeError::io("write", &self.path))?;
            self.written += rest.bytes.len() as u64;
        }
        self.sync()?;
        let path = self.log.path(&self.complete);
        self.log
            .disk
            .rename(&self.path, &path)
            .map_err(ChangeError::io("rename", &self.path))?;
        self.path = path;
        self.log
            .disk
            .sync_dir(&self.log.dir)
            .map_err(ChangeError::io("sync", &self.log.dir))?;
        self.done = true;
        let mut files = self.log.lock();
        files.complete.push(self.complete.clone());
        files.complete.sort_unstable();
        Ok(())
    }
}

impl Drop for ChangeWriter<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Else the next start does it.
            let _ = self.log.disk.remove(&self.path);
        }
    }
}
