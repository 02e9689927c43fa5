//! Sorting more rows than fit into memory: sorted runs in files without names, merged while they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode};

/// Bytes of a run that are read or written at once.
const BUFFER_BYTES: usize = 256 << 10;
const HEAD_BYTES: usize = 16;

/// A row, and the line that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SortedRow {
    pub(crate) key: Vec<u8>,
    pub(crate) line: u64,
    pub(crate) value: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Placed {
    at: usize,
    key_len: u32,
    value_len: u32,
    line: u64,
}

/// Takes rows in any order.
pub(crate) struct Sorter {
    disk: Arc<dyn Disk>,
    /// Where files are made. They lose their names at once.
    scratch: PathBuf,
    run_bytes: usize,
    arena: Vec<u8>,
    placed: Vec<Placed>,
    runs: Vec<Arc<dyn DiskFile>>,
    rows: u64,
    bytes: u64,
}

impl Sorter {
    /// Holds about `run_bytes` in memory.
    pub(crate) fn new(disk: Arc<dyn Disk>, scratch: PathBuf, run_bytes: usize) -> Self {
        Self {
            disk,
            scratch,
            run_bytes,
            arena: Vec::new(),
            placed: Vec::new(),
            runs: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8], line: u64) -> io::Result<()> {
        let held = self.arena.len() + self.placed.len() * size_of::<Placed>();
        if held > 0 && held + key.len() + value.len() > self.run_bytes {
            self.spill()?;
        }
        self.placed.push(Placed {
            at: self.arena.len(),
            key_len: key.len() as u32,
            value_len: value.len() as u32,
            line,
        });
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        Ok(())
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        let key = |placed: &Placed| {
            arena
                .get(placed.at..placed.at + placed.key_len as usize)
                .unwrap_or_default()
        };
        self.placed.sort_unstable_by(|one, other| {
            key(one).cmp(key(other)).then(one.line.cmp(&other.line))
        });
    }

    /// Writes what is in memory as a run.
    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let name = format!("import-{}-{}.tmp", std::process::id(), self.runs.len());
        let path = self.scratch.join(name);
        let file = self.disk.open(&path, OpenMode::Create)?;
        self.disk.remove(&path)?;
        let (mut out, mut at) = (Vec::with_capacity(BUFFER_BYTES), 0);
        for placed in &self.placed {
            out.extend_from_slice(&placed.key_len.to_le_bytes());
            out.extend_from_slice(&placed.value_len.to_le_bytes());
            out.extend_from_slice(&placed.line.to_le_bytes());
            let end = placed.at + (placed.key_len + placed.value_len) as usize;
            out.extend_from_slice(self.arena.get(placed.at..end).unwrap_or_default());
            if out.len() >= BUFFER_BYTES {
                file.write_at(&out, at)?;
                at += out.len() as u64;
                out.clear();
            }
        }
        file.write_at(&out, at)?;
        self.runs.push(file);
        self.arena.clear();
        self.placed.clear();
        Ok(())
    }

    /// All rows that were pushed.
    pub(crate) fn finish(mut self) -> io::Result<Sorted> {
        if !self.runs.is_empty() && !self.placed.is_empty() {
            self.spill()?;
            self.arena = Vec::new();
        }
        self.sort();
        Ok(Sorted {
            arena: self.arena,
            placed: self.placed,
            runs: self.runs,
            rows: self.rows,
            bytes: self.bytes,
        })
    }
}

/// Rows that can be read in order, again and again.
pub(crate) struct Sorted {
    arena: Vec<u8>,
    placed: Vec<Placed>,
    runs: Vec<Arc<dyn DiskFile>>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Sorted {
    /// The rows by key; those of the same key by line.
    pub(crate) fn rows(&self) -> io::Result<Merge<'_>> {
        let mut merge = Merge {
            sorted: self,
            next: 0,
            runs: Vec::new(),
            heads: BinaryHeap::new(),
        };
        for file in &self.runs {
            merge.runs.push(RunReader {
                file,
                bytes: file.len()?,
                at: 0,
                buffer: Vec::new(),
                taken: 0,
            });
            merge.advance(merge.runs.len() - 1)?;
        }
        Ok(merge)
    }
}

struct RunReader<'s> {
    file: &'s Arc<dyn DiskFile>,
    bytes: u64,
    /// What has been read into the buffer, and what was taken from it.
    at: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl RunReader<'_> {
    fn fetch(&mut self, count: usize) -> io::Result<Option<&[u8]>> {
        let held = self.buffer.len() - self.taken;
        if held < count {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let wanted = (count - held).max(BUFFER_BYTES) as u64;
            let wanted = wanted.min(self.bytes - self.at) as usize;
            self.buffer.resize(held + wanted, 0);
            if let Some(room) = self.buffer.get_mut(held..) {
                self.file.read_exact_at(room, self.at)?;
            }
            self.at += wanted as u64;
        }
        Ok(self.buffer.get(self.taken..self.taken + count))
    }

    fn next(&mut self) -> io::Result<Option<SortedRow>> {
        let Some(head) = self.fetch(HEAD_BYTES)? else {
            return Ok(None);
        };
        let number = |at: usize| {
            let bytes = head.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
            u32::from_le_bytes(*bytes.unwrap_or(&[0; 4]))
        };
        let (key_len, value_len) = (number(0) as usize, number(4) as usize);
        let line = u64::from(number(8)) | u64::from(number(12)) << 32;
        self.taken += HEAD_BYTES;
        let body = self
            .fetch(key_len + value_len)?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let (key, value) = body.split_at(key_len);
        let row = SortedRow {
            key: key.to_vec(),
            line,
            value: value.to_vec(),
        };
        self.taken += key_len + value_len;
        Ok(Some(row))
    }
}

/// Reads rows in order.
pub(crate) struct Merge<'s> {
    sorted: &'s Sorted,
    /// The next one in memory.
    next: usize,
    runs: Vec<RunReader<'s>>,
    heads: BinaryHeap<Reverse<(SortedRow, usize)>>,
}

impl Merge<'_> {
    fn advance(&mut self, run: usize) -> io::Result<()> {
        if let Some(reader) = self.runs.get_mut(run)
            && let Some(row) = reader.next()?
        {
            self.heads.push(Reverse((row, run)));
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<SortedRow>> {
        if let Some(Reverse((row, run))) = self.heads.pop() {
            self.advance(run)?;
            return Ok(Some(row));
        }
        let Some(placed) = self.sorted.placed.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let end = placed.at + (placed.key_len + placed.value_len) as usize;
        let row = self.sorted.arena.get(placed.at..end).unwrap_or_default();
        let (key, value) = row.split_at(placed.key_len as usize);
        Ok(Some(SortedRow {
            key: key.to_vec(),
            line: placed.line,
            value: value.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::SimDisk;

    proptest! {
        #[test]
        fn rows_come_back_in_order_however_many_runs_they_fill(
            rows in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..4), prop::collection::vec(any::<u8>(), 0..40)), 0..200,
            ),
            run_bytes in 1_usize..6_000,
        ) {
            let disk = SimDisk::new(1);
            disk.create_dir_all("/scratch".as_ref()).unwrap();
            let mut sorter = Sorter::new(Arc::new(disk.clone()), "/scratch".into(), run_bytes);
            let mut expected = Vec::new();
            for (line, (key, value)) in rows.into_iter().enumerate() {
                sorter.push(&key, &value, line as u64).unwrap();
                expected.push(SortedRow { key, line: line as u64, value });
            }
            expected.sort();
            let sorted = sorter.finish().unwrap();
            prop_assert_eq!(sorted.rows as usize, expected.len());
            for _ in 0..2 {
                let mut merge = sorted.rows().unwrap();
                for row in &expected {
                    let next = merge.next().unwrap();
                    prop_assert_eq!(next.as_ref(), Some(row));
                }
                prop_assert_eq!(merge.next().unwrap(), None);
            }
            prop_assert_eq!(disk.list("/scratch".as_ref()).unwrap(), Vec::<String>::new());
        }
    }
}
