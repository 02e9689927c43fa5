//! What frames the blocks of a part: the header, and at the end index and footer. The layout is told in `FORMAT.md`.

use xxhash_rust::xxh3::xxh3_64;

use super::block::BLOCK_HEADER_BYTES;
use super::error::Defect;
use super::{MAGIC, VERSION};

/// The length of a part's header in bytes.
pub(super) const HEADER_BYTES: u64 = 8;
/// The length of the footer in bytes.
pub(super) const FOOTER_BYTES: usize = 72;
/// What an entry of the index takes beside its key, in bytes.
const ENTRY_BYTES: usize = 32;

/// What a part begins with, and what it ends with.
pub(super) const HEADER: [u8; HEADER_BYTES as usize] = {
    let version = VERSION.to_le_bytes();
    [
        MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], version[0], version[1], 0, 0,
    ]
};

/// Looks at magic and version, at the beginning or at the end.
pub(super) fn check_header(bytes: &[u8], offset: u64) -> Result<(), Defect> {
    if bytes == HEADER {
        return Ok(());
    }
    let wrong = || {
        Defect::new(
            offset,
            format!("{HEADER:02x?}, a part of a run"),
            format!("{bytes:02x?}"),
        )
    };
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (version, zeros) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
    let version = u16::from_le_bytes(*version);
    if *magic != MAGIC || zeros != [0; 2] || version == VERSION {
        return Err(wrong());
    }
    Err(Defect::Version { found: version })
}

/// Where a block is and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry<'a> {
    pub(super) offset: u64,
    pub(super) stored: u64,
    pub(super) raw: u64,
    pub(super) rows: u32,
    pub(super) first_key: &'a [u8],
}

impl IndexEntry<'_> {
    pub(super) fn put(&self, index: &mut Vec<u8>) {
        for number in [self.offset, self.stored, self.raw] {
            index.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.rows, self.first_key.len() as u32] {
            index.extend_from_slice(&number.to_le_bytes());
        }
        index.extend_from_slice(self.first_key);
    }
}

/// What stands at the end of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) index_offset: u64,
    pub(super) index_bytes: u64,
    pub(super) blocks: u32,
    pub(super) last_key_bytes: u32,
    pub(super) rows: u64,
    pub(super) deletes: u64,
    pub(super) raw_bytes: u64,
    pub(super) index_checksum: u64,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(found) = bytes.get(at..at + 8) {
        word.copy_from_slice(found);
    }
    u64::from_le_bytes(word)
}

impl Footer {
    pub(super) fn put(&self) -> [u8; FOOTER_BYTES] {
        let counts = u64::from(self.blocks) | u64::from(self.last_key_bytes) << 32;
        let numbers = [
            self.index_offset,
            self.index_bytes,
            counts,
            self.rows,
            self.deletes,
            self.raw_bytes,
            self.index_checksum,
        ];
        let mut bytes = [0; FOOTER_BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64(&bytes[..56]);
        bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
        bytes[64..].copy_from_slice(&HEADER);
        bytes
    }

    /// Reads the footer of a part with `part_bytes`.
    pub(super) fn read(bytes: &[u8; FOOTER_BYTES], part_bytes: u64) -> Result<Self, Defect> {
        let offset = part_bytes - FOOTER_BYTES as u64;
        check_header(&bytes[64..], offset + 64)?;
        let (stated, computed) = (number(bytes, 56), xxh3_64(&bytes[..56]));
        if stated != computed {
            return Err(Defect::checksum(offset, "a footer", stated, computed));
        }
        let counts = number(bytes, 16);
        let footer = Self {
            index_offset: number(bytes, 0),
            index_bytes: number(bytes, 8),
            blocks: counts as u32,
            last_key_bytes: (counts >> 32) as u32,
            rows: number(bytes, 24),
            deletes: number(bytes, 32),
            raw_bytes: number(bytes, 40),
            index_checksum: number(bytes, 48),
        };
        if footer.index_offset < HEADER_BYTES
            || footer.index_offset.checked_add(footer.index_bytes) != Some(offset)
        {
            return Err(Defect::new(
                offset,
                "an index that ends where the footer begins",
                format!(
                    "one of {} bytes at byte {}",
                    footer.index_bytes, footer.index_offset
                ),
            ));
        }
        Ok(footer)
    }
}

/// An entry of the index, in memory.
#[derive(Debug, Clone, Copy)]
struct Slot {
    offset: u64,
    stored: u64,
    raw: u64,
    rows: u32,
    /// Where its key is in `keys`.
    key: (usize, usize),
}

/// The index of a part: where its blocks are.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    /// The index as it stands in the part: keys are slices of it.
    bytes: bytes::Bytes,
    last_key: (usize, usize),
}

impl Index {
    /// Reads the index that a footer tells of.
    pub(super) fn read(bytes: bytes::Bytes, footer: &Footer) -> Result<Self, Defect> {
        let computed = xxh3_64(&bytes);
        let at = footer.index_offset;
        if computed != footer.index_checksum {
            return Err(Defect::checksum(
                at,
                "an index",
                footer.index_checksum,
                computed,
            ));
        }
        let malformed = |what: &str| Defect::new(at, "an index that fits its blocks", what);
        let mut slots: Vec<Slot> = Vec::new();
        let (mut place, mut next_block, mut rows) = (0, HEADER_BYTES, 0u64);
        for _ in 0..footer.blocks {
            let fixed = bytes
                .get(place..place + ENTRY_BYTES)
                .ok_or_else(|| malformed("too few entries"))?;
            let lengths = number(fixed, 24);
            let key = place + ENTRY_BYTES;
            let key = (key, key.saturating_add((lengths >> 32) as usize));
            let slot = Slot {
                offset: number(fixed, 0),
                stored: number(fixed, 8),
                raw: number(fixed, 16),
                rows: lengths as u32,
                key,
            };
            let first_key = bytes
                .get(key.0..key.1)
                .ok_or_else(|| malformed("a key that does not end"))?;
            let before = slots
                .last()
                .and_then(|last| bytes.get(last.key.0..last.key.1));
            if before.is_some_and(|before| before >= first_key) {
                return Err(malformed("blocks that are out of order"));
            }
            if slot.offset != next_block {
                return Err(malformed("blocks that are not next to one another"));
            }
            next_block = slot
                .offset
                .checked_add(BLOCK_HEADER_BYTES as u64)
                .and_then(|bytes| bytes.checked_add(slot.stored))
                .ok_or_else(|| malformed("a block without an end"))?;
            rows = rows.saturating_add(u64::from(slot.rows));
            place = key.1;
            slots.push(slot);
        }
        let last_key = (place, place.saturating_add(footer.last_key_bytes as usize));
        if slots.is_empty() || last_key.1 != bytes.len() {
            return Err(malformed("another number of entries"));
        }
        if next_block != at {
            return Err(malformed("blocks that end elsewhere"));
        }
        if rows != footer.rows || footer.deletes > rows {
            return Err(malformed("another number of rows"));
        }
        Ok(Self {
            slots,
            bytes,
            last_key,
        })
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A block's entry.
    pub(super) fn entry(&self, block: usize) -> Option<IndexEntry<'_>> {
        let slot = self.slots.get(block)?;
        Some(IndexEntry {
            offset: slot.offset,
            stored: slot.stored,
            raw: slot.raw,
            rows: slot.rows,
            first_key: self.bytes.get(slot.key.0..slot.key.1)?,
        })
    }

    pub(super) fn last_key(&self) -> &[u8] {
        let (start, end) = self.last_key;
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The blocks that may have rows from `start` on and before `end` (no end when it is empty).
    pub(super) fn blocks(&self, start: &[u8], end: &[u8]) -> std::ops::Range<usize> {
        let key = |slot: &Slot| self.bytes.get(slot.key.0..slot.key.1).unwrap_or_default();
        let first = self.slots.partition_point(|slot| key(slot) <= start);
        let behind = if end.is_empty() {
            self.slots.len()
        } else {
            self.slots.partition_point(|slot| key(slot) < end)
        };
        first.saturating_sub(1)..behind
    }

    /// The bytes of some blocks in their part.
    pub(super) fn place(&self, blocks: std::ops::Range<usize>) -> Option<std::ops::Range<u64>> {
        let (first, last) = (
            self.slots.get(blocks.start)?,
            self.slots.get(blocks.end.checked_sub(1)?)?,
        );
        (blocks.start < blocks.end)
            .then(|| first.offset..last.offset + BLOCK_HEADER_BYTES as u64 + last.stored)
    }
}

/// Looks whether a block is the one that the index tells of, when its first row has been read.
pub(super) fn check_entry(
    index: &Index,
    block: usize,
    header: &[u8],
    first_key: &[u8],
) -> Result<(), Defect> {
    let Some(entry) = index.entry(block) else {
        return Ok(());
    };
    let mut expected = [0; 20];
    expected[..8].copy_from_slice(&entry.stored.to_le_bytes());
    expected[8..16].copy_from_slice(&entry.raw.to_le_bytes());
    expected[16..].copy_from_slice(&entry.rows.to_le_bytes());
    if header.get(8..28) == Some(&expected[..]) && entry.first_key == first_key {
        return Ok(());
    }
    Err(Defect::new(
        entry.offset,
        "the block that the index tells of",
        "another one",
    ))
}
