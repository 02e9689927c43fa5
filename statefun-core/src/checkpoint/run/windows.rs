//! The windows of a run: what is wanted of its parts, in pieces, the next of which is always on its way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::error::{Defect, RunError};
use super::fetch::{Fetch, Pending};
use super::summary::PartSummary;
use super::tail::{FOOTER_BYTES, Footer, Index};

/// A part of a run, by the name of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPart {
    /// The object's name.
    pub name: String,
    /// What is known of it.
    pub summary: PartSummary,
}

/// What is wanted of a part.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) part: Arc<RunPart>,
    /// The bytes of the blocks that are wanted. From 0 on when it is the whole part, with its header.
    pub(super) range: Range<u64>,
    /// The index and the number of the first block, when it is not the whole part.
    pub(super) blocks: Option<(Index, usize)>,
}

/// Bytes of a part that follow those of the window before.
#[derive(Debug)]
pub(super) struct Window {
    /// The part, when these are the first bytes of it.
    pub(super) begins: Option<Wanted>,
    pub(super) bytes: Bytes,
}

/// What is on its way.
struct Request {
    part: Arc<RunPart>,
    range: Range<u64>,
    is_tail: bool,
    pending: Pending,
}

/// See the module's page.
pub(super) struct Windows {
    source: Arc<dyn Fetch>,
    window_bytes: u64,
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
    /// The parts that nothing has been asked for of yet.
    ahead: VecDeque<RunPart>,
    /// What has not been asked for yet of the part that is being read.
    rest: Option<(Arc<RunPart>, Range<u64>)>,
    /// What the next window begins.
    begins: Option<Wanted>,
    request: Option<Request>,
    /// Over what has come of the part that is being read, when it is read as a whole.
    hasher: Option<Xxh3>,
}

impl Windows {
    pub(super) fn new(
        source: Arc<dyn Fetch>,
        parts: impl IntoIterator<Item = RunPart>,
        (start, end): (&[u8], &[u8]),
        window_bytes: usize,
    ) -> Result<Self, RunError> {
        let mut ahead: VecDeque<RunPart> = VecDeque::new();
        let mut last_key: Option<Vec<u8>> = None;
        for part in parts {
            if last_key.is_some_and(|last| last >= part.summary.first_key) {
                return Err(RunError::Parts { name: part.name });
            }
            last_key = Some(part.summary.last_key.clone());
            if part.summary.overlaps(start, end) {
                ahead.push_back(part);
            }
        }
        let mut windows = Self {
            source,
            window_bytes: window_bytes.max(1) as u64,
            start: start.to_vec(),
            end: end.to_vec(),
            ahead,
            rest: None,
            begins: None,
            request: None,
            hasher: None,
        };
        windows.ask();
        Ok(windows)
    }

    /// How many parts are not begun yet.
    pub(super) fn parts_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Asks for what will be wanted next, when nothing is on its way.
    fn ask(&mut self) {
        if self.request.is_some() {
            return;
        }
        if let Some((part, range)) = self.rest.take() {
            let mut until = range.end.min(range.start.saturating_add(self.window_bytes));
            // Index and footer are no window of their own: nobody would wait for it while another one is used.
            if range.end - until <= part.summary.tail_bytes {
                until = range.end;
            }
            if until < range.end {
                self.rest = Some((Arc::clone(&part), until..range.end));
            }
            self.fetch(part, range.start..until, false);
            return;
        }
        let Some(part) = self.ahead.pop_front() else {
            return;
        };
        let part = Arc::new(part);
        let summary = &part.summary;
        // A summary that tells nonsense leads to a part that does not fit it.
        let blocks_end = summary.bytes.saturating_sub(summary.tail_bytes);
        if summary.is_within(&self.start, &self.end) {
            self.want(Wanted {
                part,
                range: 0..blocks_end,
                blocks: None,
            });
            self.ask();
        } else {
            let range = blocks_end..summary.bytes;
            self.fetch(part, range, true);
        }
    }

    fn want(&mut self, wanted: Wanted) {
        // Of a whole part index and footer come as well, since its checksum is over all of it.
        let range = match wanted.blocks {
            Some(_) => wanted.range.clone(),
            None => 0..wanted.part.summary.bytes,
        };
        self.rest = Some((Arc::clone(&wanted.part), range));
        self.begins = Some(wanted);
    }

    fn fetch(&mut self, part: Arc<RunPart>, range: Range<u64>, is_tail: bool) {
        let pending = self.source.fetch(&part.name, range.clone());
        self.request = Some(Request {
            part,
            range,
            is_tail,
            pending,
        });
    }

    /// Takes note of the bytes of a window that ends at `end`. When they are the last of a part that is read as a whole, all of it must be
    /// what it was.
    fn check(&mut self, part: &RunPart, bytes: &[u8], end: u64) -> Result<(), RunError> {
        let Some(hasher) = &mut self.hasher else {
            return Ok(());
        };
        hasher.update(bytes);
        if end < part.summary.bytes {
            return Ok(());
        }
        let (stated, computed) = (part.summary.checksum, hasher.digest());
        if stated == computed {
            return Ok(());
        }
        Err(Defect::checksum(0, "a part", stated, computed).of(&part.name))
    }

    /// Waits for the next window; none when there is no more. Behind the blocks of a whole part there come its index and footer.
    pub(super) fn take(&mut self) -> Result<Option<Window>, RunError> {
        loop {
            self.ask();
            let Some(request) = self.request.take() else {
                return Ok(None);
            };
            let Range { start, end } = request.range;
            let failed = |source| RunError::Read {
                name: request.part.name.clone(),
                offset: start,
                bytes: end - start,
                source,
            };
            let bytes = request.pending.wait().map_err(failed)?;
            if bytes.len() as u64 != end - start {
                return Err(failed(format!("{} bytes came", bytes.len()).into()));
            }
            if request.is_tail {
                let wanted = choose(&request.part, bytes, &self.start, &self.end)
                    .map_err(|defect| defect.of(&request.part.name))?;
                if let Some(wanted) = wanted {
                    self.want(wanted);
                }
                continue;
            }
            let begins = self.begins.take();
            if let Some(begins) = &begins {
                self.hasher = begins.blocks.is_none().then(Xxh3::new);
            }
            self.check(&request.part, &bytes, end)?;
            self.ask();
            return Ok(Some(Window { begins, bytes }));
        }
    }
}

/// Finds out, by the index of a part, which of its blocks are wanted; none when there is no row in the range.
fn choose(
    part: &Arc<RunPart>,
    tail: Bytes,
    start: &[u8],
    end: &[u8],
) -> Result<Option<Wanted>, Defect> {
    let summary = &part.summary;
    let blocks_end = summary.bytes - tail.len() as u64;
    let Some(footer) = tail.last_chunk::<FOOTER_BYTES>() else {
        return Err(Defect::new(
            blocks_end,
            "an index and a footer",
            format!("{} bytes", tail.len()),
        ));
    };
    let footer = Footer::read(footer, summary.bytes)?;
    if (footer.index_offset, footer.rows, footer.deletes)
        != (blocks_end, summary.rows, summary.deletes)
    {
        return Err(Defect::new(
            summary.bytes - FOOTER_BYTES as u64,
            format!("{} rows, {} deletes", summary.rows, summary.deletes),
            format!("{} rows, {} deletes", footer.rows, footer.deletes),
        ));
    }
    let index = Index::read(tail.slice(..footer.index_bytes as usize), &footer)?;
    let blocks = index.blocks(start, end);
    let first = blocks.start;
    Ok(index.place(blocks).map(|range| Wanted {
        part: Arc::clone(part),
        range,
        blocks: Some((index, first)),
    }))
}
