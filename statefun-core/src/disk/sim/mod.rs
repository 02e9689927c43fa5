//! A disk in memory that fails as real ones do, and the same way each time for the same seed.
//!
//! Every operation that changes something, or makes a change durable, is a *step*. Steps are counted, so that a test can
//! run a script once, ask for [`SimDisk::steps`], and then run it again with a crash or a fault at each of them.
//! With several threads the order of their steps, and so the outcome, is theirs; with one thread it is the seed's.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::medium::{Change, Inner, Node};
use super::{Disk, DiskFile, DiskLock, FileKind, Metadata, OpenMode};

mod medium;
#[cfg(test)]
mod tests;

/// How a simulated machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies (`kill -9`): what was written stays, synced or not, and is still not durable.
    Process,
    /// The machine dies: of what was not synced, each sector, length and name change is kept or lost on its own.
    Power,
}

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device fails. A write has been done in part; after a sync each sector is durable or lost for good, while
    /// readers still see what was written and later syncs succeed, as on Linux.
    Io,
    /// The file system is full, although the write may have been within the file.
    NoSpace,
}

/// A simulated disk. A clone is another handle to the same disk.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner();
        f.debug_struct("SimDisk")
            .field("seed", &inner.seed)
            .field("steps", &inner.steps)
            .field("names", &inner.names)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk without limits. The root directory exists.
    pub fn new(seed: u64) -> Self {
        Self::from_inner(Inner {
            seed,
            random: seed,
            dirs: [PathBuf::from("/"), PathBuf::new()].into(),
            ..Inner::default()
        })
    }

    fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many steps were taken: operations that write, sync, or change a length or a name.
    pub fn steps(&self) -> u64 {
        self.inner().steps
    }

    /// Brings the machine down in the middle of the given step, counted from 0, or of the next one
    /// when that is past. From then on every operation fails,
    /// until [`SimDisk::crash`] gives the disk that is found afterwards.
    pub fn crash_at(&self, step: u64) {
        self.inner().crash_at = Some(step);
    }

    /// Whether the machine is down, by [`SimDisk::crash_at`] or [`SimDisk::crash`].
    pub fn is_down(&self) -> bool {
        self.inner().down
    }

    /// Lets the given step, counted from 0, fail.
    pub fn fail_at(&self, step: u64, fault: Fault) {
        self.inner().faults.insert(step, fault);
    }

    /// Lets reads of a file fail, or succeed again.
    pub fn set_readable(&self, path: &Path, readable: bool) {
        let mut inner = self.inner();
        if readable {
            inner.unreadable.remove(path);
        } else {
            inner.unreadable.insert(path.to_owned());
        }
    }

    /// Limits the bytes that files may take, in whole sectors; `None` is no limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.inner().capacity = capacity_bytes;
    }

    /// The bytes that files take, in whole sectors.
    pub fn used_bytes(&self) -> u64 {
        self.inner().used_bytes()
    }

    /// Flips the bits of `mask` in a byte, on the medium and for every reader. Nothing when there is no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut inner = self.inner();
        let Some(node) = inner.names.get(path).copied() else {
            return;
        };
        let Some(node) = inner.nodes.get_mut(&node) else {
            return;
        };
        for bytes in [&mut node.seen, &mut node.durable] {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= mask;
            }
        }
    }

    /// A file's content as a process sees it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner();
        let node = inner.names.get(path)?;
        Some(inner.nodes.get(node)?.seen.clone())
    }

    /// A copy of the disk as it is, open files and locks aside, with a future of its own.
    pub fn fork(&self) -> SimDisk {
        let mut copy = self.inner().clone();
        copy.locks.clear();
        Self::from_inner(copy)
    }

    /// The machine goes down; gives the disk that is found when it is up again, without the faults that were set and
    /// without locks. The limit and the seed's sequence go on. Every operation on this disk fails from now on.
    pub fn crash(&self, crash: Crash) -> SimDisk {
        let mut inner = self.inner();
        inner.down = true;
        let mut after = inner.clone();
        after.random = inner.next_random();
        drop(inner);
        after.down = false;
        after.crash_at = None;
        after.faults.clear();
        after.unreadable.clear();
        after.locks.clear();
        after.steps = 0;
        if crash == Crash::Power {
            after.lose_power();
        }
        Self::from_inner(after)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.is_up()?;
        let node = match (inner.names.get(path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(node), _) => node,
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                if !path.parent().is_some_and(|dir| inner.dirs.contains(dir)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let node = inner.next_node;
                inner.next_node += 1;
                inner.whole_step(|inner| {
                    inner.nodes.insert(node, Node::default());
                    inner.names.insert(path.to_owned(), node);
                    inner.pending.push(Change::Create {
                        path: path.to_owned(),
                        node,
                    });
                })?;
                node
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            node,
            writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.is_up()?;
        for dir in dir.ancestors() {
            if inner.names.contains_key(dir) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        inner.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.is_up()?;
        if from.parent() != to.parent() {
            return Err(io::Error::other("a rename must stay within its directory"));
        }
        let node = inner
            .names
            .get(from)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        inner.whole_step(|inner| {
            let change = Change::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
                node,
            };
            change.apply(&mut inner.names);
            inner.pending.push(change);
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.is_up()?;
        let node = inner
            .names
            .get(path)
            .copied()
            .ok_or(io::ErrorKind::NotFound)?;
        inner.whole_step(|inner| {
            let change = Change::Remove {
                path: path.to_owned(),
                node,
            };
            change.apply(&mut inner.names);
            inner.pending.push(change);
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner();
        inner.is_up()?;
        if !inner.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Paths sort by component, so names within a directory come out sorted.
        Ok(inner
            .names
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<(String, Metadata)>> {
        let names = self.list(dir)?;
        let with_metadata = |name: String| {
            let found = self.metadata(&dir.join(&name))?;
            Ok((name, found))
        };
        names.into_iter().map(with_metadata).collect()
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let inner = self.inner();
        inner.is_up()?;
        if inner.dirs.contains(path) {
            return Ok(Metadata {
                kind: FileKind::Directory,
                device: 1,
                inode: 0,
                bytes: 0,
            });
        }
        let node = inner.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        inner.metadata(*node)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.inner();
        inner.is_up()?;
        Ok(inner.names.contains_key(path) || inner.dirs.contains(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.is_up()?;
        if !inner.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.whole_step(|inner| {
            let (done, pending) = std::mem::take(&mut inner.pending)
                .into_iter()
                .partition(|change| change.dir() == Some(dir));
            inner.pending = pending;
            let done: Vec<Change> = done;
            for change in done {
                change.apply(&mut inner.durable_names);
            }
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.open(path, OpenMode::Create)?;
        if !self.inner().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
    node: u64,
    writable: bool,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimFile").field(&self.path).finish()
    }
}

impl SimFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, Inner>> {
        if self.writable {
            Ok(self.disk.inner())
        } else {
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.inner();
        inner.is_up()?;
        if inner.unreadable.contains(&self.path) {
            return Err(Fault::Io.error());
        }
        let seen = &inner.node(self.node)?.seen;
        let start = (offset as usize).min(seen.len());
        let count = buffer.len().min(seen.len() - start);
        buffer[..count].copy_from_slice(&seen[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?.write(self.node, bytes, offset)
    }

    fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        self.write_at(&bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        let inner = self.disk.inner();
        inner.is_up()?;
        Ok(inner.node(self.node)?.seen.len() as u64)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        let inner = self.disk.inner();
        inner.is_up()?;
        inner.metadata(self.node)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.writable()?;
        inner.node(self.node)?;
        inner.whole_step(|inner| {
            if let Some(node) = inner.nodes.get_mut(&self.node) {
                node.set_len(bytes as usize);
            }
        })
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.writable()?.reserve(self.node, bytes as usize)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.inner().sync(self.node)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimLock").field(&self.path).finish()
    }
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner().locks.remove(&self.path);
    }
}
