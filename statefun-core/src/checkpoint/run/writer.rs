//! Writing a run, part after part.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::block::{BlockBuilder, FULL_BYTES, common_prefix};
use super::error::RunError;
use super::summary::PartSummary;
use super::tail::{Footer, HEADER, IndexEntry};

/// Bytes that are set aside for a part at most, before they are there.
const MOST_RESERVED: usize = 32 << 20;

/// A part: an object's bytes, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// What is known of it.
    pub summary: PartSummary,
}

/// Takes in the rows of a run, in the order of their keys, and gives its parts. It holds one part, which has at most about
/// `part_bytes`, and one block.
pub struct RunWriter {
    part_bytes: usize,
    part: Vec<u8>,
    /// Bytes of the part that were taken out before it was complete, and the hash of them.
    drained: u64,
    hasher: Xxh3,
    block: BlockBuilder,
    index: Vec<u8>,
    blocks: u32,
    rows: u64,
    deletes: u64,
    raw_bytes: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    /// Whether any row has come: `last_key` is its key.
    begun: bool,
}

impl std::fmt::Debug for RunWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunWriter")
            .field("part_bytes", &self.part_bytes)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl RunWriter {
    /// A part ends with the block with which it has `part_bytes` or more.
    pub fn new(part_bytes: usize) -> Self {
        Self::with_blocks(part_bytes, FULL_BYTES)
    }

    /// With blocks that are full when their rows take so many bytes.
    pub(super) fn with_blocks(part_bytes: usize, block_bytes: usize) -> Self {
        Self {
            part_bytes,
            part: Vec::new(),
            drained: 0,
            hasher: Xxh3::new(),
            block: BlockBuilder::new(block_bytes),
            index: Vec::new(),
            blocks: 0,
            rows: 0,
            deletes: 0,
            raw_bytes: 0,
            first_key: Vec::new(),
            last_key: Vec::new(),
            begun: false,
        }
    }

    /// Takes in a row, or a delete when there is no value. Gives the part before when that is complete: the row is in the next one
    /// then.
    ///
    /// # Errors
    /// [`RunError::Order`] when the key is not behind the one before, [`RunError::TooLong`] when key or value has more than
    /// `u32::MAX` bytes; the row is not taken in then, and the writer goes on as if it had not been given.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Option<Part>, RunError> {
        let shared = common_prefix(&self.last_key, key);
        // The key is behind the last one when its first byte that differs is.
        if self.begun && key.get(shared) <= self.last_key.get(shared) {
            return Err(RunError::Order {
                last: self.last_key.clone(),
                key: key.to_vec(),
            });
        }
        let value_len = value.map_or(0, <[u8]>::len);
        let longest = key.len().max(value_len);
        if u32::try_from(longest).is_err() {
            return Err(RunError::TooLong { bytes: longest });
        }
        let row_bytes = key.len() + value_len;
        let mut complete = None;
        if self.block.is_full() || !self.block.has_room(row_bytes) {
            self.close_block();
            if self.part.len() + self.index.len() >= self.part_bytes {
                complete = self.close_part();
            }
        }
        if self.rows == 0 {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        self.block.push(shared, key, value);
        self.last_key.truncate(shared);
        self.last_key
            .extend_from_slice(key.get(shared..).unwrap_or_default());
        self.begun = true;
        self.rows += 1;
        self.deletes += u64::from(value.is_none());
        self.raw_bytes += row_bytes as u64;
        Ok(complete)
    }

    /// Gives the last part; none when it would have no rows.
    pub fn finish(mut self) -> Option<Part> {
        if !self.block.is_empty() {
            self.close_block();
        }
        self.close_part()
    }

    /// How many bytes of the part are complete and in memory.
    pub(in crate::checkpoint) fn ready_bytes(&self) -> usize {
        self.part.len()
    }

    /// Gives the bytes of the part that are complete, so that a part may be longer than memory: what [`RunWriter::finish`] gives
    /// is only the rest of it then.
    pub(in crate::checkpoint) fn drain<E>(
        &mut self,
        take: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        take(&self.part)?;
        self.hasher.update(&self.part);
        self.drained += self.part.len() as u64;
        self.part.clear();
        Ok(())
    }

    fn close_block(&mut self) {
        if self.part.capacity() == 0 {
            // So that it seldom grows; what is not written takes no memory.
            self.part
                .reserve(self.part_bytes.min(MOST_RESERVED) + (256 << 10));
        }
        if self.blocks == 0 {
            self.part.extend_from_slice(&HEADER);
        }
        let offset = self.drained + self.part.len() as u64;
        let header = self.block.close(&mut self.part);
        let entry = IndexEntry {
            offset,
            stored: header.stored,
            raw: header.raw,
            rows: header.rows,
            first_key: self.block.first_key(),
        };
        entry.put(&mut self.index);
        self.blocks += 1;
    }

    fn close_part(&mut self) -> Option<Part> {
        if self.blocks == 0 {
            return None;
        }
        let mut bytes = std::mem::take(&mut self.part);
        let index_offset = self.drained + bytes.len() as u64;
        self.index.extend_from_slice(&self.last_key);
        bytes.extend_from_slice(&self.index);
        let footer = Footer {
            index_offset,
            index_bytes: self.index.len() as u64,
            blocks: self.blocks,
            last_key_bytes: self.last_key.len() as u32,
            rows: self.rows,
            deletes: self.deletes,
            raw_bytes: self.raw_bytes,
            index_checksum: xxh3_64(&self.index),
        };
        bytes.extend_from_slice(&footer.put());
        let part_bytes = self.drained + bytes.len() as u64;
        let summary = PartSummary {
            rows: self.rows,
            deletes: self.deletes,
            bytes: part_bytes,
            raw_bytes: self.raw_bytes,
            tail_bytes: part_bytes - index_offset,
            first_key: self.first_key.clone(),
            last_key: self.last_key.clone(),
            checksum: if self.drained == 0 {
                xxh3_64(&bytes)
            } else {
                self.hasher.update(&bytes);
                self.hasher.digest()
            },
        };
        self.index.clear();
        self.hasher.reset();
        self.drained = 0;
        (self.blocks, self.rows, self.deletes, self.raw_bytes) = (0, 0, 0, 0);
        Some(Part { bytes, summary })
    }
}
