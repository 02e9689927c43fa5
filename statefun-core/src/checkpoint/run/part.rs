//! Reading one part, by its index.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::block::{BLOCK_HEADER_BYTES, BlockRows};
use super::error::{Defect, RunError};
use super::rows::Rows;
use super::summary::PartSummary;
use super::tail::{FOOTER_BYTES, Footer, HEADER_BYTES, Index, check_entry, check_header};
use crate::disk::DiskFile;

/// Bytes that can be read anywhere.
pub trait ReadAt {
    /// What messages call it.
    fn name(&self) -> &str;

    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Exactly `bytes` bytes from `offset` on.
    ///
    /// # Errors
    /// [`RunError::Read`] when they cannot be had.
    fn read_at(&self, offset: u64, bytes: usize) -> Result<Bytes, RunError>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A part in memory.
#[derive(Debug, Clone)]
pub struct InMemory {
    name: String,
    bytes: Bytes,
}

impl InMemory {
    /// The bytes of a part, and what messages call it.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            bytes: bytes.into(),
        }
    }
}

impl ReadAt for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, bytes: usize) -> Result<Bytes, RunError> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(bytes)?));
        match range {
            Some(range) if range.end <= self.bytes.len() => Ok(self.bytes.slice(range)),
            _ => Err(too_short(&self.name, offset, bytes)),
        }
    }
}

/// A part in a file.
#[derive(Debug, Clone)]
pub struct InFile {
    name: String,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl InFile {
    /// An open file, and what messages call it.
    ///
    /// # Errors
    /// When its length cannot be found out.
    pub fn new(name: impl Into<String>, file: Arc<dyn DiskFile>) -> Result<Self, RunError> {
        let name = name.into();
        match file.len() {
            Ok(bytes) => Ok(Self { name, file, bytes }),
            Err(error) => Err(RunError::Read {
                name,
                offset: 0,
                bytes: 0,
                source: error.into(),
            }),
        }
    }
}

impl ReadAt for InFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: usize) -> Result<Bytes, RunError> {
        // Also keeps a wrong length from taking memory.
        if offset
            .checked_add(bytes as u64)
            .is_none_or(|end| end > self.bytes)
        {
            return Err(too_short(&self.name, offset, bytes));
        }
        let mut buffer = vec![0; bytes];
        match self.file.read_exact_at(&mut buffer, offset) {
            Ok(()) => Ok(buffer.into()),
            Err(error) => Err(RunError::Read {
                name: self.name.clone(),
                offset,
                bytes: bytes as u64,
                source: error.into(),
            }),
        }
    }
}

fn too_short(name: &str, offset: u64, bytes: usize) -> RunError {
    RunError::Read {
        name: name.to_owned(),
        offset,
        bytes: bytes as u64,
        source: "it ends before".into(),
    }
}

/// A part whose index has been read. Blocks are read when their rows are asked for. A clone is another handle to the same.
#[derive(Debug)]
pub struct PartReader<S> {
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    source: S,
    footer: Footer,
    index: Index,
}

impl<S> Clone for PartReader<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: ReadAt> PartReader<S> {
    /// Reads header, footer and index.
    ///
    /// # Errors
    /// [`RunError`] when it is no part, is damaged, of another version, or cannot be read.
    pub fn open(source: S) -> Result<Self, RunError> {
        let part_bytes = source.len();
        let defect = |defect: Defect| defect.of(source.name());
        if part_bytes < HEADER_BYTES + FOOTER_BYTES as u64 {
            let wanted = format!("{} bytes or more", HEADER_BYTES + FOOTER_BYTES as u64);
            let found = format!("{part_bytes} bytes");
            return Err(defect(Defect::new(0, wanted, found)));
        }
        check_header(&source.read_at(0, HEADER_BYTES as usize)?, 0).map_err(defect)?;
        let tail = source.read_at(part_bytes - FOOTER_BYTES as u64, FOOTER_BYTES)?;
        let Some(footer) = tail.last_chunk() else {
            return Err(too_short(source.name(), part_bytes, FOOTER_BYTES));
        };
        let footer = Footer::read(footer, part_bytes).map_err(defect)?;
        let index = source.read_at(footer.index_offset, footer.index_bytes as usize)?;
        let index = Index::read(index, &footer).map_err(defect)?;
        Ok(Self {
            inner: Arc::new(Inner {
                source,
                footer,
                index,
            }),
        })
    }

    /// How many rows it has, deletes among them.
    pub fn row_count(&self) -> u64 {
        self.inner.footer.rows
    }

    /// How many of them are deletes.
    pub fn delete_count(&self) -> u64 {
        self.inner.footer.deletes
    }

    /// The key of its first row.
    pub fn first_key(&self) -> &[u8] {
        self.inner
            .index
            .entry(0)
            .map(|entry| entry.first_key)
            .unwrap_or_default()
    }

    /// The key of its last row.
    pub fn last_key(&self) -> &[u8] {
        self.inner.index.last_key()
    }

    /// Its rows from `start` on and before `end` (no end when it is empty), in the order of their keys.
    pub fn rows(&self, start: &[u8], end: &[u8]) -> PartRows<S> {
        PartRows {
            part: self.clone(),
            block: BlockRows::new(),
            blocks: self.inner.index.blocks(start, end),
            start: start.to_vec(),
            end: end.to_vec(),
            failed: false,
        }
    }

    /// Reads everything, and gives what a descriptor should say of it.
    ///
    /// # Errors
    /// [`RunError`] when any byte is not what was written.
    pub fn verify(&self) -> Result<PartSummary, RunError> {
        let mut rows = self.rows(&[], &[]);
        let (mut deletes, mut raw_bytes) = (0, 0);
        while rows.advance()? {
            let value = rows.value();
            deletes += u64::from(value.is_none());
            raw_bytes += (rows.key().len() + value.map_or(0, <[u8]>::len)) as u64;
        }
        let part_bytes = self.inner.source.len();
        if (deletes, raw_bytes) != (self.inner.footer.deletes, self.inner.footer.raw_bytes) {
            let counts = |deletes, raw_bytes| format!("{deletes} deletes and {raw_bytes} bytes");
            let defect = Defect::new(
                part_bytes - FOOTER_BYTES as u64,
                counts(deletes, raw_bytes),
                counts(self.inner.footer.deletes, self.inner.footer.raw_bytes),
            );
            return Err(defect.of(self.inner.source.name()));
        }
        let (mut hasher, mut offset) = (Xxh3::new(), 0);
        while offset < part_bytes {
            let bytes = (part_bytes - offset).min(1 << 20);
            hasher.update(&self.inner.source.read_at(offset, bytes as usize)?);
            offset += bytes;
        }
        Ok(PartSummary {
            rows: self.inner.footer.rows,
            deletes,
            bytes: part_bytes,
            raw_bytes,
            tail_bytes: part_bytes - self.inner.footer.index_offset,
            first_key: self.first_key().to_vec(),
            last_key: self.last_key().to_vec(),
            checksum: hasher.digest(),
        })
    }
}

/// The rows of one part in a range of keys.
pub struct PartRows<S> {
    part: PartReader<S>,
    block: BlockRows,
    /// The blocks that are still to be read.
    blocks: Range<usize>,
    /// Rows before it are passed over; empty when that is done.
    start: Vec<u8>,
    end: Vec<u8>,
    failed: bool,
}

impl<S: ReadAt> std::fmt::Debug for PartRows<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartRows")
            .field("name", &self.part.inner.source.name())
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

impl<S: ReadAt> PartRows<S> {
    /// Goes to the next row of the part, in the range or not.
    fn step(&mut self) -> Result<bool, RunError> {
        let Inner {
            source,
            index,
            footer,
        } = &*self.part.inner;
        let defect = |defect: Defect| defect.of(source.name());
        let mut begun = None;
        if self.block.is_done() {
            let Some(entry) = (!self.blocks.is_empty())
                .then(|| index.entry(self.blocks.start))
                .flatten()
            else {
                return Ok(false);
            };
            let bytes = source.read_at(entry.offset, BLOCK_HEADER_BYTES + entry.stored as usize)?;
            let Some((header, stored)) = bytes.split_first_chunk() else {
                return Ok(false);
            };
            self.block
                .load(entry.offset, header, stored)
                .map_err(defect)?;
            begun = Some((self.blocks.start, *header));
            self.blocks.start += 1;
        }
        let has_row = self.block.advance().map_err(defect)?;
        if let Some((number, header)) = begun {
            check_entry(index, number, &header, self.block.key()).map_err(defect)?;
        }
        let is_last = self.block.is_done() && self.blocks.start == index.len();
        if is_last && self.block.key() != index.last_key() {
            let offset = footer.index_offset;
            return Err(defect(Defect::new(
                offset,
                "the last row's key",
                "another one",
            )));
        }
        Ok(has_row)
    }
}

impl<S: ReadAt> Rows for PartRows<S> {
    fn advance(&mut self) -> Result<bool, RunError> {
        if self.failed {
            return Err(RunError::Broken {
                name: self.part.inner.source.name().to_owned(),
            });
        }
        // Until it has come to its end.
        self.failed = true;
        loop {
            if !self.step()? {
                break;
            }
            let key = self.block.key();
            if !self.end.is_empty() && key >= self.end.as_slice() {
                break;
            }
            if key >= self.start.as_slice() {
                self.start.clear();
                self.failed = false;
                return Ok(true);
            }
        }
        self.blocks = 0..0;
        self.block.forget();
        self.failed = false;
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        self.block.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.block.value()
    }
}
