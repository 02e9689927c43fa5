//! The rows of a run, read from where its parts are, a window at a time.

use std::sync::Arc;

use bytes::Bytes;

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockRows};
use super::error::{Defect, RunError};
use super::fetch::Fetch;
use super::rows::Rows;
use super::tail::{HEADER_BYTES, check_entry, check_header};
use super::windows::{RunPart, Wanted, Windows};

/// The rows of a run in a range of keys, in order.
///
/// While one window is used, the next is on its way, also when it is of the next part. Parts outside the range are not
/// touched; of a part that reaches beyond it the index is read first, then only the blocks that matter. So it holds at most
/// two windows, a block, and one index.
///
/// Of parts that are read as a whole, rows and keys are compared with what the summary says of them.
pub struct RunStream {
    windows: Windows,
    open: Option<Open>,
    /// What is here of the part in use, and has not been used.
    here: Bytes,
    block: BlockRows,
    /// Whether the first row of the range has come.
    begun: bool,
    done: bool,
    failed: bool,
}

/// The part whose blocks are used.
struct Open {
    wanted: Wanted,
    /// Rows so far, and how many of them were deletes.
    rows: u64,
    deletes: u64,
}

impl std::fmt::Debug for RunStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunStream")
            .field("part", &self.name())
            .field("parts_ahead", &self.windows.parts_ahead())
            .finish_non_exhaustive()
    }
}

impl RunStream {
    /// The rows of a run's parts from `start` on and before `end` (no end when it is empty). The first window is asked for at
    /// once, so that many streams can be begun one after the other and wait together.
    ///
    /// # Errors
    /// [`RunError::Parts`] when the parts are not in the order of their keys.
    pub fn new(
        source: Arc<dyn Fetch>,
        parts: impl IntoIterator<Item = RunPart>,
        start: &[u8],
        end: &[u8],
        window_bytes: usize,
    ) -> Result<Self, RunError> {
        Ok(Self {
            windows: Windows::new(source, parts, (start, end), window_bytes)?,
            open: None,
            here: Bytes::new(),
            block: BlockRows::new(),
            begun: false,
            done: false,
            failed: false,
        })
    }

    fn name(&self) -> &str {
        self.open
            .as_ref()
            .map_or("a run", |open| &open.wanted.part.name)
    }

    fn damaged(
        &self,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> RunError {
        Defect::new(offset, expected, found).of(self.name())
    }

    /// Looks whether the part that has been read is what its summary says.
    fn check_part(&self) -> Result<(), RunError> {
        let Some(Open {
            wanted,
            rows,
            deletes,
        }) = &self.open
        else {
            return Ok(());
        };
        let summary = &wanted.part.summary;
        if wanted.blocks.is_some()
            || (*rows, *deletes) == (summary.rows, summary.deletes)
                && self.block.key() == summary.last_key.as_slice()
        {
            return Ok(());
        }
        Err(self.damaged(
            wanted.range.start,
            format!(
                "the end of {} rows, {} deletes",
                summary.rows, summary.deletes
            ),
            format!("that of {rows} rows, {deletes} deletes, or another last key"),
        ))
    }

    /// Exactly so many bytes of the part in use.
    fn need(&mut self, bytes: usize) -> Result<Bytes, RunError> {
        if self.here.len() >= bytes {
            return Ok(self.here.split_to(bytes));
        }
        // What a damaged header or a wrong summary tells must not take memory before it is there.
        let mut pieces = Vec::with_capacity(bytes.min(self.here.len() + (1 << 20)));
        loop {
            let count = self.here.len().min(bytes - pieces.len());
            pieces.extend_from_slice(&self.here.split_to(count));
            if pieces.len() == bytes {
                return Ok(pieces.into());
            }
            match self.windows.take()? {
                Some(window) if window.begins.is_none() => self.here = window.bytes,
                // What is wanted of a part is what its windows are.
                _ => return Err(self.damaged(0, "the rest of a block", "the next part")),
            }
        }
    }

    /// Takes in the next block; false when there is none.
    fn load(&mut self) -> Result<bool, RunError> {
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.wanted.range.is_empty())
        {
            self.check_part()?;
            let window = loop {
                match self.windows.take()? {
                    None => return Ok(false),
                    // Index and footer of the part before.
                    Some(window) if window.begins.is_none() && self.open.is_some() => {}
                    Some(window) => break window,
                }
            };
            self.here = window.bytes;
            self.open = window.begins.map(|wanted| Open {
                wanted,
                rows: 0,
                deletes: 0,
            });
            if self
                .open
                .as_ref()
                .is_some_and(|open| open.wanted.range.start == 0)
            {
                let header = self.need(HEADER_BYTES as usize)?;
                check_header(&header, 0).map_err(|defect| defect.of(self.name()))?;
                if let Some(open) = &mut self.open {
                    open.wanted.range.start = HEADER_BYTES;
                }
            }
        }
        let Some(range) = self.open.as_ref().map(|open| open.wanted.range.clone()) else {
            return Err(self.damaged(0, "the first window of a part", "another one"));
        };
        let room = (range.end - range.start).checked_sub(BLOCK_HEADER_BYTES as u64);
        let Some(room) = room else {
            return Err(self.damaged(range.start, "a block", "too few bytes for one"));
        };
        let header = self.need(BLOCK_HEADER_BYTES)?;
        let Some((header, _)) = header.split_first_chunk() else {
            return Err(self.damaged(range.start, "a block", "too few bytes for one"));
        };
        let fields = BlockHeader::read(header, range.start, room)
            .map_err(|defect| defect.of(self.name()))?;
        let stored = self.need(fields.stored as usize)?;
        self.block
            .load(range.start, header, &stored)
            .and_then(|()| self.block.advance())
            .map_err(|defect| defect.of(self.name()))?;
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let wanted = &mut open.wanted;
        let summary = &wanted.part.summary;
        if let Some((index, number)) = &mut wanted.blocks {
            check_entry(index, *number, header, self.block.key())
                .map_err(|defect| defect.of(&wanted.part.name))?;
            *number += 1;
        } else if open.rows == 0 && self.block.key() != summary.first_key.as_slice() {
            return Err(self.damaged(range.start, "the first key of the part", "another one"));
        }
        wanted.range.start += BLOCK_HEADER_BYTES as u64 + fields.stored;
        Ok(true)
    }

    /// Goes to the next row of what is read, in the range or not.
    fn step(&mut self) -> Result<bool, RunError> {
        let has_row = if self.block.is_done() {
            self.load()?
        } else {
            self.block
                .advance()
                .map_err(|defect| defect.of(self.name()))?
        };
        if has_row && let Some(open) = &mut self.open {
            open.rows += 1;
            open.deletes += u64::from(self.block.value().is_none());
        }
        Ok(has_row)
    }
}

impl Rows for RunStream {
    fn advance(&mut self) -> Result<bool, RunError> {
        if self.done {
            return Ok(false);
        }
        if self.failed {
            return Err(RunError::Broken {
                name: self.name().to_owned(),
            });
        }
        // Until it has come to its end.
        self.failed = true;
        while self.step()? {
            let key = self.block.key();
            if !self.begun && key < self.windows.start.as_slice() {
                continue;
            }
            if !self.windows.end.is_empty() && key >= self.windows.end.as_slice() {
                break;
            }
            (self.begun, self.failed) = (true, false);
            return Ok(true);
        }
        (self.done, self.failed) = (true, false);
        self.here = Bytes::new();
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        self.block.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.block.value()
    }
}
