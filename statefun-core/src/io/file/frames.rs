//! Bytes as lines and rows, however they arrive.

use super::csv::RowEnd;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 1 << 18;
/// How much of what is too long is kept for the error.
const EXCERPT_BYTES: usize = 1 << 16;
/// How many of the last bytes read are kept to recognize the file by.
const RECENT_BYTES: usize = 256;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What ends a record.
#[derive(Debug, Clone)]
pub(crate) enum Layout {
    /// A line end.
    Lines,
    /// A line end that is not within quotes.
    Rows(RowEnd),
}

/// Cuts bytes into records.
#[derive(Debug)]
pub(crate) struct Frames {
    layout: Layout,
    most_bytes: usize,
    buffer: Vec<u8>,
    /// How much of the buffer holds bytes.
    filled: usize,
    /// Where in the buffer the next record begins.
    start: usize,
    /// How many bytes from there on have no record's end among them.
    scanned: usize,
    /// Where in the file the next record begins.
    offset: u64,
    /// The number of its line.
    line: u64,
    /// Whether the rest of a line that is too long is being read over.
    too_long: bool,
    /// The beginning of the last line that was too long.
    excerpt: Vec<u8>,
    /// The last bytes that were read.
    recent: Vec<u8>,
}

/// A record's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Without its line end.
    pub(crate) bytes: &'a [u8],
    /// The bytes before `end`, as far as they are still known.
    pub(crate) raw: &'a [u8],
    /// The line that it begins on, counted from 1.
    pub(crate) line: u64,
    /// Where in the file it ends.
    pub(crate) end: u64,
    /// The line that follows it.
    pub(crate) next_line: u64,
    /// Why it is no record.
    pub(crate) flaw: Option<Flaw>,
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The line is too long; the bytes are its beginning.
    LineTooLong,
    /// The row that begins with this line is too long: a quote in it does not end.
    RowTooLong,
    /// A quote in this line does not end before the file does.
    OpenQuote,
}

/// A frame that does not borrow yet: its begin in the buffer, its line and its flaw.
struct Cut {
    begin: usize,
    line: u64,
    flaw: Option<Flaw>,
}

impl Frames {
    /// Records from a place in a file on.
    pub(crate) fn new(layout: Layout, most_bytes: usize, offset: u64, line: u64) -> Self {
        Self {
            layout,
            most_bytes,
            buffer: Vec::new(),
            filled: 0,
            start: 0,
            scanned: 0,
            offset,
            line,
            too_long: false,
            excerpt: Vec::new(),
            recent: Vec::new(),
        }
    }

    /// With these as the last bytes before the place.
    pub(crate) fn behind(mut self, recent: Vec<u8>) -> Self {
        self.recent = recent;
        self
    }

    /// Where in the file the bytes go on that were not given yet.
    pub(crate) fn read_offset(&self) -> u64 {
        self.offset + (self.filled - self.start) as u64
    }

    /// The last bytes before [`read_offset`](Self::read_offset), as far as they are still known.
    pub(crate) fn recent(&self) -> &[u8] {
        &self.recent
    }

    /// Takes the bytes that follow: `read` fills the buffer that it is given, and says how much of it.
    pub(crate) fn fill<E>(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        if self.start > READ_BYTES || self.start == self.filled {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            if self.filled == 0 && self.buffer.len() > 8 * READ_BYTES {
                self.buffer = Vec::new();
            }
        }
        if self.buffer.len() < self.filled + READ_BYTES {
            // A long record needs few steps, a short one little room.
            self.buffer.resize((2 * self.filled).max(2 * READ_BYTES), 0);
        }
        let begin = self.filled;
        let outcome = read(&mut self.buffer[begin..begin + READ_BYTES]);
        let count = outcome.as_ref().map_or(0, |count| (*count).min(READ_BYTES));
        self.filled += count;
        if count > 0 {
            let last = begin.max(self.filled.saturating_sub(RECENT_BYTES));
            self.recent.clear();
            self.recent
                .extend_from_slice(&self.buffer[last..self.filled]);
        }
        outcome
    }

    /// The next record. At the end, what has no line end is one too.
    pub(crate) fn next(&mut self, at_end: bool) -> Option<Frame<'_>> {
        let Cut { begin, line, flaw } = self.next_cut(at_end)?;
        let raw = &self.buffer[begin..self.start];
        let bytes = if flaw == Some(Flaw::LineTooLong) {
            &self.excerpt
        } else {
            without_line_end(raw)
        };
        Some(Frame {
            bytes,
            raw,
            line,
            end: self.offset,
            next_line: self.line,
            flaw,
        })
    }

    fn next_cut(&mut self, at_end: bool) -> Option<Cut> {
        if !self.skip_bom(at_end) {
            return None;
        }
        loop {
            if self.too_long {
                return self.pass_long_line(at_end);
            }
            let pending = &self.buffer[self.start..self.filled];
            let found = match &mut self.layout {
                Layout::Lines => line_end(&pending[self.scanned..]),
                Layout::Rows(end) => end.find(&pending[self.scanned..]),
            };
            let found = found.map(|count| self.scanned + count);
            let length = found.unwrap_or(pending.len());
            let record = without_line_end(&pending[..length]);
            if record.len() > self.most_bytes {
                // What a stray quote has swallowed is read again from the next line on.
                let first = line_end(pending).unwrap_or(pending.len());
                if without_line_end(&pending[..first]).len() <= self.most_bytes {
                    return Some(self.cut(first, Some(Flaw::RowTooLong)));
                }
                self.excerpt.clear();
                self.excerpt
                    .extend_from_slice(&pending[..self.most_bytes.min(EXCERPT_BYTES)]);
                self.too_long = true;
                continue;
            }
            if found.is_none() && !(at_end && length > 0) {
                self.scanned = length;
                return None;
            }
            if found.is_none()
                && matches!(&self.layout, Layout::Rows(end) if end.is_within_quotes())
            {
                let first = line_end(pending).unwrap_or(length);
                return Some(self.cut(first, Some(Flaw::OpenQuote)));
            }
            let empty = match self.layout {
                Layout::Lines => record.iter().all(u8::is_ascii_whitespace),
                Layout::Rows(_) => record.is_empty(),
            };
            let cut = self.cut(length, None);
            if !empty {
                return Some(cut);
            }
        }
    }

    /// Reads over a byte order mark at the beginning of the file; false while that may be still to come.
    fn skip_bom(&mut self, at_end: bool) -> bool {
        let pending = &self.buffer[self.start..self.filled];
        if self.offset > 0 || pending.is_empty() {
            return true;
        }
        if pending.starts_with(BOM) {
            self.start += BOM.len();
            self.offset += BOM.len() as u64;
            return true;
        }
        at_end || !BOM.starts_with(pending)
    }

    fn pass_long_line(&mut self, at_end: bool) -> Option<Cut> {
        let pending = &self.buffer[self.start..self.filled];
        let end = line_end(pending);
        let length = end.unwrap_or(pending.len());
        if end.is_some() || at_end {
            self.too_long = false;
            return Some(self.cut(length, Some(Flaw::LineTooLong)));
        }
        self.start += length;
        self.offset += length as u64;
        None
    }

    /// Cuts off so many bytes.
    fn cut(&mut self, length: usize, flaw: Option<Flaw>) -> Cut {
        let (begin, line) = (self.start, self.line);
        self.start += length;
        self.offset += length as u64;
        self.scanned = 0;
        let bytes = &self.buffer[begin..self.start];
        self.line += match &mut self.layout {
            Layout::Lines => 1,
            Layout::Rows(end) => {
                end.restart();
                bytes.split(|byte| *byte == b'\n').count() as u64 - 1
            }
        };
        Cut { begin, line, flaw }
    }
}

/// How many bytes the first line has, its end included.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|at| at + 1)
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}
