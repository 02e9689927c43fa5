//! Blocks of rows: their header, and the rows in them. The layout is told in the room's page.

use std::io::Read;
use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;
use zstd::bulk::{Compressor, Decompressor};

use super::error::Defect;

/// The length of a block's header in bytes.
pub(super) const BLOCK_HEADER_BYTES: usize = 32;
/// A block is closed when its rows take so many bytes before they are compressed.
pub(super) const FULL_BYTES: usize = 96 << 10;
/// Memory of a block that is kept for the next one, in bytes.
const KEPT_BYTES: usize = 512 << 10;
/// The quickest level that deserves the name.
const LEVEL: i32 = 1;
/// What a block's rows may take in bytes: one row with a key and a value of the greatest length, and its lengths.
const LONGEST_BYTES: u64 = 2 * (u32::MAX as u64) + 32;
/// Blocks with rows up to so many bytes are unpacked into memory that is set aside at once. Of a longer one the memory grows
/// with what comes out of it, so that a wrong length costs nothing.
const TRUSTED_BYTES: u64 = 8 << 20;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    checksum: u64,
    /// The bytes behind the header.
    pub(super) stored: u64,
    /// What its rows take before they are compressed, in bytes.
    pub(super) raw: u64,
    pub(super) rows: u32,
    codec: u8,
}

/// The checksum of a block: over the header behind the checksum, and the bytes behind the header.
pub(super) fn checksum(header: &[u8], stored: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(header.get(8..).unwrap_or_default());
    hasher.update(stored);
    hasher.digest()
}

impl BlockHeader {
    fn put(self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.stored.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.raw.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.rows.to_le_bytes());
        bytes[28] = self.codec;
        bytes
    }

    /// Reads the header of a block at `offset`, behind which there is room for `room` bytes. It can be trusted after
    /// [`BlockRows::load`].
    pub(super) fn read(
        bytes: &[u8; BLOCK_HEADER_BYTES],
        offset: u64,
        room: u64,
    ) -> Result<Self, Defect> {
        let number = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let header = Self {
            checksum: number(0),
            stored: number(8),
            raw: number(16),
            rows: number(24) as u32,
            codec: bytes[28],
        };
        if header.stored > room {
            return Err(Defect::new(
                offset,
                format!("a block of at most {room} bytes"),
                format!("one of {} bytes", header.stored),
            ));
        }
        Ok(header)
    }
}

fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Reads a number of at most five bytes at `at`, and moves that behind it.
#[inline]
fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut number = u64::from(first & 0x7f);
    for shift in [7, 14, 21, 28] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// How many bytes at their beginning are the same.
#[inline]
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if a != b {
            break;
        }
        same += 8;
    }
    let rest = a.iter().zip(b).skip(same);
    same + rest.take_while(|(a, b)| a == b).count()
}

/// Gathers rows into a block and closes it.
pub(super) struct BlockBuilder {
    full_bytes: usize,
    raw: Vec<u8>,
    rows: u32,
    first_key: Vec<u8>,
    /// None when there was no memory for it: blocks are left as they are then.
    compressor: Option<Compressor<'static>>,
    compressed: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn new(full_bytes: usize) -> Self {
        Self {
            full_bytes,
            raw: Vec::new(),
            rows: 0,
            first_key: Vec::new(),
            compressor: Compressor::new(LEVEL).ok(),
            compressed: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.raw.len() >= self.full_bytes
    }

    /// Whether a row of so many bytes should come into this block: it may become a third longer than a full one.
    pub(super) fn has_room(&self, row_bytes: usize) -> bool {
        self.is_empty() || self.raw.len().saturating_add(row_bytes) <= self.full_bytes / 3 * 4
    }

    pub(super) fn first_key(&self) -> &[u8] {
        &self.first_key
    }

    /// Takes a row in whose key begins with so many bytes of the key before it. Lengths have been looked at.
    pub(super) fn push(&mut self, mut shared: usize, key: &[u8], value: Option<&[u8]>) {
        if self.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
            shared = 0;
        }
        let rest = key.get(shared..).unwrap_or_default();
        put_varint(&mut self.raw, shared as u64);
        put_varint(&mut self.raw, rest.len() as u64);
        put_varint(
            &mut self.raw,
            value.map_or(0, |value| value.len() as u64 + 1),
        );
        self.raw.extend_from_slice(rest);
        self.raw.extend_from_slice(value.unwrap_or_default());
        self.rows += 1;
    }

    /// Appends the block to `part` and is empty then.
    pub(super) fn close(&mut self, part: &mut Vec<u8>) -> BlockHeader {
        self.compressed.clear();
        self.compressed
            .reserve(zstd::compress_bound(self.raw.len()));
        let compressed = self
            .compressor
            .as_mut()
            .and_then(|compressor| {
                compressor
                    .compress_to_buffer(&self.raw, &mut self.compressed)
                    .ok()
            })
            .is_some_and(|bytes| bytes < self.raw.len());
        let (codec, stored) = if compressed {
            (ZSTD, &self.compressed)
        } else {
            (RAW, &self.raw)
        };
        let mut header = BlockHeader {
            checksum: 0,
            stored: stored.len() as u64,
            raw: self.raw.len() as u64,
            rows: self.rows,
            codec,
        };
        header.checksum = checksum(&header.put(), stored);
        part.extend_from_slice(&header.put());
        part.extend_from_slice(stored);
        self.raw.clear();
        self.rows = 0;
        // One long row is no reason to keep its memory.
        for memory in [&mut self.raw, &mut self.compressed] {
            if memory.capacity() > KEPT_BYTES {
                *memory = Vec::new();
            }
        }
        header
    }
}

/// The rows of one block after the other, in memory that is used again.
pub(super) struct BlockRows {
    raw: Vec<u8>,
    /// Where the next row begins in `raw`.
    at: usize,
    /// Rows that are still to come.
    left: u32,
    /// Whether there was a row before: its key is in `key`.
    begun: bool,
    key: Vec<u8>,
    value: Option<Range<usize>>,
    /// Where the block begins in its part.
    offset: u64,
    decompressor: Option<Decompressor<'static>>,
}

impl BlockRows {
    pub(super) fn new() -> Self {
        Self {
            raw: Vec::new(),
            at: 0,
            left: 0,
            begun: false,
            key: Vec::new(),
            value: None,
            offset: 0,
            decompressor: None,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        let range = self.value.clone()?;
        self.raw.get(range)
    }

    /// Whether all rows of the block have been given.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Takes in the block at `offset`, after its checksum was found right. Its rows must follow those of the block before.
    pub(super) fn load(
        &mut self,
        offset: u64,
        header: &[u8; BLOCK_HEADER_BYTES],
        stored: &[u8],
    ) -> Result<(), Defect> {
        let fields = BlockHeader::read(header, offset, stored.len() as u64)?;
        let computed = checksum(header, stored);
        if fields.checksum != computed || fields.stored != stored.len() as u64 {
            return Err(Defect::checksum(
                offset,
                "a block",
                fields.checksum,
                computed,
            ));
        }
        if fields.rows == 0 || fields.raw > LONGEST_BYTES || header[29..] != [0; 3] {
            return Err(Defect::new(
                offset,
                "a block with rows",
                format!("{} rows of {} bytes", fields.rows, fields.raw),
            ));
        }
        self.raw.clear();
        if self.raw.capacity() > KEPT_BYTES {
            self.raw = Vec::new();
        }
        match fields.codec {
            RAW => self.raw.extend_from_slice(stored),
            ZSTD => self
                .unpack(stored, fields.raw)
                .map_err(|problem| Defect::new(offset, "zstd frames", problem))?,
            codec => {
                return Err(Defect::new(
                    offset,
                    "a block that is raw (0) or compressed by zstd (1)",
                    format!("codec {codec}"),
                ));
            }
        }
        if self.raw.len() as u64 != fields.raw {
            return Err(Defect::new(
                offset,
                format!("rows of {} bytes", fields.raw),
                format!("{} bytes", self.raw.len()),
            ));
        }
        (self.at, self.left, self.offset) = (0, fields.rows, offset);
        self.value = None;
        Ok(())
    }

    fn unpack(&mut self, stored: &[u8], raw: u64) -> Result<(), String> {
        let words = |error: std::io::Error| error.to_string();
        if raw > TRUSTED_BYTES {
            let decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(words)?;
            decoder
                .take(raw + 1)
                .read_to_end(&mut self.raw)
                .map_err(words)?;
            return Ok(());
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(words)?),
        };
        self.raw.reserve(raw as usize);
        decompressor
            .decompress_to_buffer(stored, &mut self.raw)
            .map_err(words)?;
        Ok(())
    }

    /// Forgets the key of the row before, when the next block does not follow it.
    pub(super) fn forget(&mut self) {
        self.begun = false;
        self.left = 0;
        self.key.clear();
    }

    /// Goes to the next row of the block; false when there is none.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool, Defect> {
        if self.left == 0 {
            return Ok(false);
        }
        match self.next_row() {
            Some(()) => Ok(true),
            None => Err(self.defect()),
        }
    }

    #[inline]
    fn next_row(&mut self) -> Option<()> {
        let (raw, is_first) = (&self.raw[..], self.at == 0);
        let shared = take_varint(raw, &mut self.at)? as usize;
        let rest_len = take_varint(raw, &mut self.at)? as usize;
        let tag = take_varint(raw, &mut self.at)?;
        let value_at = self.at.checked_add(rest_len)?;
        let rest = raw.get(self.at..value_at)?;
        // The next key is behind the last one, in the first byte that differs.
        if is_first && shared > 0 || self.begun && self.key.get(shared..)? >= rest {
            return None;
        }
        self.at = value_at;
        self.value = match tag {
            0 => None,
            tag => {
                let end = value_at.checked_add(tag as usize - 1)?;
                raw.get(value_at..end)?;
                self.at = end;
                Some(value_at..end)
            }
        };
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        self.begun = true;
        self.left -= 1;
        // What is behind the last row would be under the checksum without a meaning.
        (self.left > 0 || self.at == raw.len()).then_some(())
    }

    #[cold]
    fn defect(&self) -> Defect {
        Defect::new(
            self.offset,
            "a block whose rows are whole and in the order of their keys",
            format!("another row at byte {} of its rows", self.at),
        )
    }
}
