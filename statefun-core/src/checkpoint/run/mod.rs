//! Runs: sorted rows in immutable objects.
//!
//! A *run* is a list of *parts*, each an object of its own, with keys behind those of the part before. [`RunWriter`] makes parts of
//! rows; [`PartReader`] looks into one of them, by its index; [`RunStream`] reads a run, or a range of its keys, from wherever its
//! parts are; [`Merge`] makes one stream of many. What rows mean, what objects are called and which belong together is not
//! known here.
//!
//! # The format, version 1
//!
//! The layout is told in `statefun-core/FORMAT.md`, under "Parts of runs": a part is a header, blocks of rows, an index and a
//! footer, one directly behind the other. Every byte is under a checksum, or is one, or can have one value only.
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
