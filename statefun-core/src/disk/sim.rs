//! A disk in memory that fails as real ones do, and the same way each time for the same seed.
//!
//! Every operation that changes something, or makes a change durable, is a *step*. Steps are counted, so that a test can
//! run a script once, ask for [`SimDisk::steps`], and then run it again with a crash or a fault at each of them.
//! With several threads the order of their steps, and so the outcome, is theirs; with one thread it is the seed's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, DiskLock, OpenMode};

/// The unit that a power cut keeps or loses, in bytes.
const SECTOR: usize = 512;
/// The sector takes space.
const ALLOCATED: u8 = 1;
/// The sector was written and not synced since.
const DIRTY: u8 = 2;

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
        let inner = self.lock();
        f.debug_struct("SimDisk")
            .field("seed", &inner.seed)
            .field("steps", &inner.steps)
            .field("names", &inner.names)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Inner {
    seed: u64,
    random: u64,
    steps: u64,
    crash_at: Option<u64>,
    /// Nothing works any more.
    down: bool,
    faults: BTreeMap<u64, Fault>,
    unreadable: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    dirs: BTreeSet<PathBuf>,
    /// As a process sees them.
    names: BTreeMap<PathBuf, u64>,
    /// As they are on the medium.
    durable_names: BTreeMap<PathBuf, u64>,
    /// What leads from the durable names to those seen, in order.
    pending: Vec<Change>,
    locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
struct Node {
    /// As a process sees it.
    seen: Vec<u8>,
    /// As it is on the medium.
    durable: Vec<u8>,
    /// Flags of each sector of `seen`.
    sectors: Vec<u8>,
}

#[derive(Clone)]
enum Change {
    Create {
        path: PathBuf,
        node: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        node: u64,
    },
    Remove {
        path: PathBuf,
        node: u64,
    },
}

/// What becomes of a step.
enum Step {
    Done,
    Fails(Fault),
    /// The crash comes while it is being done.
    Cut,
}

impl SimDisk {
    /// An empty disk without limits. The root directory exists.
    pub fn new(seed: u64) -> Self {
        Self::from_inner(Inner {
            seed,
            random: seed,
            steps: 0,
            crash_at: None,
            down: false,
            faults: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            capacity: None,
            nodes: BTreeMap::new(),
            next_node: 0,
            dirs: BTreeSet::from([PathBuf::from("/"), PathBuf::new()]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            locks: BTreeSet::new(),
        })
    }

    fn from_inner(inner: Inner) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many steps were taken: operations that write, sync, or change a length or a name.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Brings the machine down in the middle of the given step, counted from 0. From then on every operation fails,
    /// until [`SimDisk::crash`] gives the disk that is found afterwards.
    pub fn crash_at(&self, step: u64) {
        self.lock().crash_at = Some(step);
    }

    /// Whether the machine is down, by [`SimDisk::crash_at`] or [`SimDisk::crash`].
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// Lets the given step, counted from 0, fail.
    pub fn fail_at(&self, step: u64, fault: Fault) {
        self.lock().faults.insert(step, fault);
    }

    /// Lets reads of a file fail, or succeed again.
    pub fn set_readable(&self, path: &Path, readable: bool) {
        let mut inner = self.lock();
        if readable {
            inner.unreadable.remove(path);
        } else {
            inner.unreadable.insert(path.to_owned());
        }
    }

    /// Limits the bytes that files may take, in whole sectors; `None` is no limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity = capacity_bytes;
    }

    /// The bytes that files take, in whole sectors.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Flips the bits of `mask` in a byte, on the medium and for every reader. Nothing when there is no such byte.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let mut inner = self.lock();
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
        let inner = self.lock();
        let node = inner.names.get(path)?;
        Some(inner.nodes.get(node)?.seen.clone())
    }

    /// A copy of the disk as it is, open files and locks aside, with a future of its own.
    pub fn fork(&self) -> SimDisk {
        let mut copy = self.lock().clone();
        copy.locks.clear();
        Self::from_inner(copy)
    }

    /// The machine goes down; gives the disk that is found when it is up again, without the faults that were set and
    /// without locks. The limit and the seed's sequence go on. Every operation on this disk fails from now on.
    pub fn crash(&self, crash: Crash) -> SimDisk {
        let mut inner = self.lock();
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

impl Inner {
    /// splitmix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next_random() % bound.max(1) as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn is_up(&self) -> io::Result<()> {
        if self.down {
            Err(io::Error::other("the simulated machine is down"))
        } else {
            Ok(())
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        self.is_up()?;
        let step = self.steps;
        self.steps += 1;
        if self.crash_at == Some(step) {
            self.down = true;
            return Ok(Step::Cut);
        }
        Ok(self.faults.remove(&step).map_or(Step::Done, Step::Fails))
    }

    /// A step that is done as a whole or not at all.
    fn whole_step(&mut self, done: impl FnOnce(&mut Self)) -> io::Result<()> {
        match self.step()? {
            Step::Done => {
                done(self);
                Ok(())
            }
            Step::Fails(fault) => Err(fault.error()),
            Step::Cut => {
                if self.coin() {
                    done(self);
                }
                self.is_up()
            }
        }
    }

    fn node(&self, id: u64) -> io::Result<&Node> {
        self.nodes
            .get(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn node_mut(&mut self, id: u64) -> io::Result<&mut Node> {
        self.nodes
            .get_mut(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> u64 {
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        let sectors = linked
            .iter()
            .filter_map(|node| self.nodes.get(node))
            .flat_map(|node| &node.sectors)
            .filter(|flags| **flags & ALLOCATED != 0)
            .count();
        (sectors * SECTOR) as u64
    }

    fn write(&mut self, id: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let outcome = self.step()?;
        let wanted = match outcome {
            Step::Done => bytes.len(),
            Step::Fails(_) | Step::Cut => self.below(bytes.len() + 1),
        };
        let free = self.capacity.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(self.used_bytes())
        });
        let written = self
            .node_mut(id)?
            .write(&bytes[..wanted], offset as usize, free);
        match outcome {
            Step::Fails(fault) => Err(fault.error()),
            Step::Cut => self.is_up(),
            Step::Done if written < bytes.len() => Err(Fault::NoSpace.error()),
            Step::Done => Ok(()),
        }
    }

    fn sync(&mut self, id: u64) -> io::Result<()> {
        match self.step()? {
            Step::Done => {
                self.node_mut(id)?.sync();
                Ok(())
            }
            Step::Cut => self.is_up(),
            Step::Fails(fault) => {
                // Half is written, half is lost, and all of it is clean.
                self.keep_some(id)?;
                for flags in &mut self.node_mut(id)?.sectors {
                    *flags &= !DIRTY;
                }
                Err(fault.error())
            }
        }
    }

    /// Brings some of the unsynced sectors to the medium, as far as its length goes.
    fn keep_some(&mut self, id: u64) -> io::Result<()> {
        let dirty: Vec<usize> = self
            .node(id)?
            .sectors
            .iter()
            .enumerate()
            .filter_map(|(sector, flags)| (flags & DIRTY != 0).then_some(sector))
            .collect();
        let count = dirty.len();
        // Beside the even mixture, those that pure chance would hardly ever give for a long record.
        let (mode, pivot) = (self.below(6), self.below(count));
        for (index, sector) in dirty.into_iter().enumerate() {
            let keep = match mode {
                0 => false,
                1 => true,
                2 => index < pivot,
                3 => index >= pivot,
                4 => index != pivot,
                _ => self.coin(),
            };
            if keep {
                self.node_mut(id)?.keep_sector(sector);
            }
        }
        Ok(())
    }

    fn lose_power(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if self.coin() {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        self.nodes.retain(|id, _| linked.contains(id));
        for id in linked {
            let keep_length = self.coin();
            if let Some(node) = self.nodes.get_mut(&id)
                && keep_length
            {
                let length = node.seen.len();
                node.durable.resize(length, 0);
            }
            // The node exists: it was found by its name.
            let _ = self.keep_some(id);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.seen = node.durable.clone();
                node.sectors.resize(node.seen.len().div_ceil(SECTOR), 0);
                for flags in &mut node.sectors {
                    *flags &= !DIRTY;
                }
            }
        }
    }
}

impl Node {
    /// Writes as much as there is room for and returns how much.
    fn write(&mut self, bytes: &[u8], offset: usize, mut free: u64) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done;
            let sector = at / SECTOR;
            let count = (SECTOR - at % SECTOR).min(bytes.len() - done);
            if self.sectors.len() <= sector {
                self.sectors.resize(sector + 1, 0);
            }
            if self.sectors[sector] & ALLOCATED == 0 {
                if free < SECTOR as u64 {
                    self.sectors.truncate(self.seen.len().div_ceil(SECTOR));
                    break;
                }
                free -= SECTOR as u64;
            }
            self.sectors[sector] |= ALLOCATED | DIRTY;
            if self.seen.len() < at + count {
                self.seen.resize(at + count, 0);
            }
            self.seen[at..at + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        done
    }

    fn set_len(&mut self, bytes: usize) {
        let before = self.seen.len();
        self.seen.resize(bytes, 0);
        self.sectors.resize(bytes.div_ceil(SECTOR), 0);
        // What a cut or an extension changes within a sector must reach the medium like any write.
        for flags in self.sectors.iter_mut().skip(before.min(bytes) / SECTOR) {
            *flags |= DIRTY;
        }
    }

    fn keep_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR)
            .min(self.seen.len())
            .min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.seen[start..end]);
        }
    }

    fn sync(&mut self) {
        let length = self.seen.len();
        self.durable.resize(length, 0);
        for sector in 0..self.sectors.len() {
            if self.sectors[sector] & DIRTY != 0 {
                self.keep_sector(sector);
                self.sectors[sector] &= !DIRTY;
            }
        }
    }
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    /// Does nothing when what it builds upon was lost.
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create { path, node } => {
                names.insert(path.clone(), *node);
            }
            Self::Rename { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                    names.insert(to.clone(), *node);
                }
            }
            Self::Remove { path, node } => {
                if names.get(path) == Some(node) {
                    names.remove(path);
                }
            }
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
        })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
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
        let mut inner = self.lock();
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
        let mut inner = self.lock();
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
        let mut inner = self.lock();
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
        let inner = self.lock();
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

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.lock();
        inner.is_up()?;
        Ok(inner.names.contains_key(path) || inner.dirs.contains(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
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
        if !self.lock().locks.insert(path.to_owned()) {
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
            Ok(self.disk.lock())
        } else {
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.lock();
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
        let inner = self.disk.lock();
        inner.is_up()?;
        Ok(inner.node(self.node)?.seen.len() as u64)
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

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync(self.node)
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
        self.disk.lock().locks.remove(&self.path);
    }
}
