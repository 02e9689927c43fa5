//! What is on a simulated medium, what a process sees of it, and what becomes of the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::Fault;
use crate::disk::{FileKind, Metadata};

/// The unit that a power cut keeps or loses, in bytes.
const SECTOR: usize = 512;
/// The sector takes space.
const ALLOCATED: u8 = 1;
/// The sector was written and not synced since.
const DIRTY: u8 = 2;

#[derive(Clone, Default)]
pub(super) struct Inner {
    pub(super) seed: u64,
    pub(super) random: u64,
    pub(super) steps: u64,
    pub(super) crash_at: Option<u64>,
    /// Nothing works any more.
    pub(super) down: bool,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) unreadable: BTreeSet<PathBuf>,
    pub(super) capacity: Option<u64>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) next_node: u64,
    pub(super) dirs: BTreeSet<PathBuf>,
    /// As a process sees them.
    pub(super) names: BTreeMap<PathBuf, u64>,
    /// As they are on the medium.
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    /// What leads from the durable names to those seen, in order.
    pub(super) pending: Vec<Change>,
    pub(super) locks: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
pub(super) struct Node {
    /// As a process sees it.
    pub(super) seen: Vec<u8>,
    /// As it is on the medium.
    pub(super) durable: Vec<u8>,
    /// Flags of each sector of `seen`.
    pub(super) sectors: Vec<u8>,
}

#[derive(Clone)]
pub(super) enum Change {
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
pub(super) enum Step {
    Done,
    Fails(Fault),
    /// The crash comes while it is being done.
    Cut,
}

impl Inner {
    /// splitmix64.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next_random() % bound.max(1) as u64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(super) fn is_up(&self) -> io::Result<()> {
        if self.down {
            Err(io::Error::other("the simulated machine is down"))
        } else {
            Ok(())
        }
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        self.is_up()?;
        let step = self.steps;
        self.steps += 1;
        if self.crash_at.is_some_and(|at| at <= step) {
            self.down = true;
            return Ok(Step::Cut);
        }
        Ok(self.faults.remove(&step).map_or(Step::Done, Step::Fails))
    }

    /// A step that is done as a whole or not at all.
    pub(super) fn whole_step(&mut self, done: impl FnOnce(&mut Self)) -> io::Result<()> {
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

    pub(super) fn metadata(&self, id: u64) -> io::Result<Metadata> {
        Ok(Metadata {
            kind: FileKind::File,
            device: 1,
            // No number is given twice; 0 stands for directories.
            inode: id + 1,
            bytes: self.node(id)?.seen.len() as u64,
        })
    }

    pub(super) fn node(&self, id: u64) -> io::Result<&Node> {
        self.nodes
            .get(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn node_mut(&mut self, id: u64) -> io::Result<&mut Node> {
        self.nodes
            .get_mut(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let linked: BTreeSet<u64> = self.names.values().copied().collect();
        let sectors = linked
            .iter()
            .filter_map(|node| self.nodes.get(node))
            .flat_map(|node| &node.sectors)
            .filter(|flags| **flags & ALLOCATED != 0)
            .count();
        (sectors * SECTOR) as u64
    }

    pub(super) fn write(&mut self, id: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
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

    /// Space is set aside as a whole, or not at all; the machine may go down before the file is as long as it is to be.
    pub(super) fn reserve(&mut self, id: u64, bytes: usize) -> io::Result<()> {
        let outcome = self.step()?;
        let free = self.capacity.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(self.used_bytes())
        });
        let length = match outcome {
            Step::Fails(fault) => return Err(fault.error()),
            Step::Done => bytes,
            Step::Cut => self.below(bytes + 1),
        };
        let node = self.node_mut(id)?;
        if node.unallocated(bytes) > free {
            return Err(Fault::NoSpace.error());
        }
        node.reserve(length);
        self.is_up()
    }

    pub(super) fn sync(&mut self, id: u64) -> io::Result<()> {
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
    pub(super) fn keep_some(&mut self, id: u64) -> io::Result<()> {
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

    pub(super) fn lose_power(&mut self) {
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
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize, mut free: u64) -> usize {
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

    /// The bytes that the first so many do not take yet.
    pub(super) fn unallocated(&self, bytes: usize) -> u64 {
        let sectors = bytes.div_ceil(SECTOR);
        let taken = self.sectors.iter().take(sectors);
        let taken = taken.filter(|flags| **flags & ALLOCATED != 0).count();
        ((sectors - taken) * SECTOR) as u64
    }

    /// Sets space aside. It reads as zeros whatever a power cut does, but the length is lost with it unless it was synced.
    pub(super) fn reserve(&mut self, bytes: usize) {
        if self.seen.len() < bytes {
            self.seen.resize(bytes, 0);
            self.sectors.resize(bytes.div_ceil(SECTOR), 0);
        }
        for flags in self.sectors.iter_mut().take(bytes.div_ceil(SECTOR)) {
            *flags |= ALLOCATED;
        }
    }

    pub(super) fn set_len(&mut self, bytes: usize) {
        let before = self.seen.len();
        self.seen.resize(bytes, 0);
        self.sectors.resize(bytes.div_ceil(SECTOR), 0);
        // What a cut or an extension changes within a sector must reach the medium like any write.
        for flags in self.sectors.iter_mut().skip(before.min(bytes) / SECTOR) {
            *flags |= DIRTY;
        }
    }

    pub(super) fn keep_sector(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR)
            .min(self.seen.len())
            .min(self.durable.len());
        if start < end {
            self.durable[start..end].copy_from_slice(&self.seen[start..end]);
        }
    }

    pub(super) fn sync(&mut self) {
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
    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    /// Does nothing when what it builds upon was lost.
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
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
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
        })
    }
}
