//! Runs: sorted rows in immutable objects.
//!
//! A *run* is a list of *parts*, each an object of its own, with keys behind those of the part before. [`RunWriter`] makes parts of
//! rows; [`PartReader`] looks into one of them, by its index; [`RunStream`] reads a run, or a range of its keys, from wherever its
//! parts are; [`Merge`] makes one stream of many. What rows mean, what objects are called and which belong together is not
//! known here.
//!
//! # The format, version 1
//!
//! A part is a header, blocks of rows, an index and a footer, one directly behind the other. Numbers are little endian.
//! Checksums are XXH3 (64 bits, no seed). Every byte is under a checksum, or is one, or can have one value only.
//!
//! **Header**, 8 bytes:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | `SFRN` |
//! | 4 | 2 | format version: 1 |
//! | 6 | 2 | 0 |
//!
//! **Block**, one or more:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | checksum over the 24 bytes behind it and the stored bytes |
//! | 8 | 8 | length of the stored bytes |
//! | 16 | 8 | length of the rows |
//! | 24 | 4 | number of rows, at least 1 |
//! | 28 | 1 | how the rows are stored: 0 as they are, 1 as zstd frames |
//! | 29 | 3 | 0 |
//! | 32 | … | the stored bytes |
//!
//! The rows of a block stand one behind the other, without anything behind the last:
//!
//! | bytes | field |
//! |---:|---|
//! | 1–5 | how many bytes of the key are those that the key of the row before begins with; 0 in the first row of a block |
//! | 1–5 | how many bytes of the key follow here |
//! | 1–5 | 0 when the row is a delete, else 1 more than the length of the value |
//! | … | the rest of the key |
//! | … | the value |
//!
//! These numbers are LEB128: seven bits in a byte, the lowest first, the highest bit set in all bytes but the last. Keys are
//! strictly ascending by their bytes (a key comes before those that it is the beginning of), in a block, from block to
//! block and from part to part. Key and value have at most 4,294,967,295 bytes each.
//!
//! **Index**: for each block, in order,
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | where the block begins in the part |
//! | 8 | 8 | length of its stored bytes, as in the block |
//! | 16 | 8 | length of its rows, as in the block |
//! | 24 | 4 | number of its rows, as in the block |
//! | 28 | 4 | length of its first key |
//! | 32 | … | its first key |
//!
//! and behind the last entry the key of the part's last row.
//!
//! **Footer**, the last 72 bytes:
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | where the index begins |
//! | 8 | 8 | length of the index, with the last key |
//! | 16 | 4 | number of blocks |
//! | 20 | 4 | length of the last key |
//! | 24 | 8 | number of rows, deletes among them |
//! | 32 | 8 | number of deletes |
//! | 40 | 8 | length of all keys and values, each key counted as a whole |
//! | 48 | 8 | checksum over the index, with the last key |
//! | 56 | 8 | checksum over the 56 bytes before it |
//! | 64 | 8 | the same as the header |
//!
//! Every version keeps the first six bytes and the last eight as they are, so that a newer part can be told from damage.
//!
//! Blocks stand alone, so that a part can be read from the front without its index. How long they are is the writer's
//! choice: about 96 KiB of rows, 128 KiB at most, and a longer row is a block of its own.

mod block;
mod error;
mod fetch;
mod merge;
mod part;
mod rows;
mod stream;
mod summary;
mod tail;
mod windows;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{ReadFailure, RunError};
pub use fetch::{Arrival, Fetch, Files, Pending};
pub use merge::{KeyFilter, Merge};
pub use part::{InFile, InMemory, PartReader, PartRows, ReadAt};
pub use rows::{Rows, RunRow};
pub use stream::RunStream;
pub use summary::PartSummary;
pub(super) use summary::{from_hex, hex};
pub use windows::RunPart;
pub use writer::{Part, RunWriter};

/// What a part begins with.
const MAGIC: [u8; 4] = *b"SFRN";
/// The format's version.
const VERSION: u16 = 1;
