//! Reads one file after the other, a step at a time, and never waits by itself.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::behind::Behind;
use super::feed::Halt;
use super::frames::{Frames, Layout};
use super::ingress::{MOST_BYTES, Start, read_error};
use super::mark::{self, Marker, Seen};
use super::records::{Format, Records};
use super::rotation::{self, Opened};
use crate::clock::{Timestamp, WallClock};
use crate::disk::{Disk, DiskFile};
use crate::io::ingress::Record;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// While a renamed file has no successor at the path, the directory is listed only so often: it may be long.
const LOOKS_PER_LISTING: u32 = 16;

/// What a step brought.
#[derive(Debug)]
pub(crate) enum Next {
    /// A record.
    Record(Box<Record>),
    /// None; there may be one at once.
    Soon,
    /// None, and it is of no use to look again before so long.
    After(Duration),
    /// None, ever again.
    Never,
}

/// See the module's page.
pub(crate) struct Follower {
    id: String,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    format: Arc<Format>,
    clock: WallClock,
    /// Whether to wait for more at the end of the file.
    pub(super) follow: bool,
    pub(super) most_bytes: usize,
    /// Where reading is to begin.
    pub(super) start: Option<Start>,
    /// What is being read.
    reading: Option<Reading>,
    finished: bool,
    pause: Duration,
    pub(super) behind: Behind,
}

/// What there is at the end of what was read.
enum AtEnd {
    /// More.
    More,
    /// Nothing, yet.
    Nothing,
    /// The file has been cut or written anew.
    Anew,
    /// Another file follows this one.
    Next(Opened),
}

/// What was read.
enum Filled {
    /// Something.
    Some,
    /// Something, and the last of it: the file has been cut or written anew since.
    Last,
    /// Nothing.
    Nothing,
}

/// How reading a file ends, once the records that were read are taken.
enum Ending {
    /// There is nothing more to read.
    Finished,
    /// It has been cut or written anew.
    Anew,
    /// Another file follows.
    Next(Opened),
}

impl Follower {
    /// One that begins at the beginning of the file at the path, and follows it.
    pub(super) fn new(id: String, path: PathBuf, disk: Arc<dyn Disk>, format: Arc<Format>) -> Self {
        Self {
            id,
            path,
            disk,
            format,
            clock: WallClock::default(),
            follow: true,
            most_bytes: MOST_BYTES,
            start: None,
            reading: None,
            finished: false,
            pause: FIRST_PAUSE,
            behind: Behind::default(),
        }
    }

    /// The next record, or how it goes on.
    pub(crate) fn next(&mut self) -> Result<Next, Halt> {
        let Some(reading) = &mut self.reading else {
            return self.begin();
        };
        if let Some(record) = reading.record().map_err(Halt::Failed)? {
            return Ok(Next::Record(Box::new(record)));
        }
        if let Some(ending) = reading.ending.take() {
            return Ok(self.end(ending));
        }
        let now = self.clock.now();
        let filled = reading
            .fill(now)
            .map_err(|error| Halt::Failed(read_error(&self.path, &error)))?;
        match filled {
            Filled::Some => {
                self.pause = FIRST_PAUSE;
                return Ok(Next::Soon);
            }
            Filled::Last => {
                reading.ending = Some(Ending::Anew);
                return Ok(Next::Soon);
            }
            Filled::Nothing => {}
        }
        // What the file's name says is looked at before its end is read for the last time.
        if let Some(next) = reading.next.take() {
            reading.end_with(Ending::Next(next), now);
            return Ok(Next::Soon);
        }
        match self.at_end().map_err(|error| self.failed(&error))? {
            AtEnd::More => {}
            AtEnd::Nothing if self.follow => return Ok(self.wait()),
            found => {
                let Some(reading) = &mut self.reading else {
                    return Ok(Next::Soon);
                };
                match found {
                    AtEnd::Anew => reading.ending = Some(Ending::Anew),
                    AtEnd::Next(opened) => reading.next = Some(opened),
                    AtEnd::More | AtEnd::Nothing => reading.end_with(Ending::Finished, now),
                }
            }
        }
        Ok(Next::Soon)
    }

    fn wait(&mut self) -> Next {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Next::After(pause)
    }

    /// Begins to read, or waits for something to read.
    fn begin(&mut self) -> Result<Next, Halt> {
        if self.finished {
            return Ok(Next::Never);
        }
        let start = if let Some(start) = self.start.take() {
            start
        } else {
            let opened = rotation::open_regular(&*self.disk, &self.path);
            match opened.map_err(|error| self.failed(&error))? {
                Some(opened) => Start::beginning(opened),
                None => return Ok(self.wait()),
            }
        };
        self.pause = FIRST_PAUSE;
        match self.reading(start)? {
            Ok(reading) => self.reading = Some(reading),
            Err(opened) => self.start = Some(self.anew(opened)),
        }
        Ok(Next::Soon)
    }

    /// What was read has come to its end.
    fn end(&mut self, ending: Ending) -> Next {
        let Some(reading) = self.reading.take() else {
            return Next::Soon;
        };
        match ending {
            Ending::Finished => {
                self.finished = true;
                return Next::Never;
            }
            Ending::Anew => self.start = Some(self.anew(reading.opened)),
            Ending::Next(opened) => {
                tracing::info!(
                    ingress = self.id, finished = %reading.opened.path.display(), path = %opened.path.display(),
                    "the file was rotated; reading the next one"
                );
                self.start = Some(Start::beginning(opened));
            }
        }
        Next::Soon
    }

    fn anew(&self, opened: Opened) -> Start {
        tracing::warn!(
            ingress = self.id, path = %opened.path.display(),
            "the file was cut or written anew; reading from its beginning"
        );
        Start::beginning(opened)
    }

    /// Begins to read; gives the file back when it has been cut since the place was found.
    fn reading(&self, start: Start) -> Result<Result<Reading, Opened>, Halt> {
        let opened = start.opened;
        let layout = self.format.layout();
        let mut records = Records::new(self.format.clone(), opened.path.display().to_string());
        if start.offset > 0 && records.needs_header() {
            let mut header = Frames::new(layout.clone(), self.most_bytes, 0, 1);
            let found = read_header(&*opened.file, &mut header, &mut records)?;
            if !found.map_err(|error| self.failed(&error))? {
                return Ok(Err(opened));
            }
        }
        let file = opened.file.clone();
        self.behind.reads(file, opened.found.inode, start.offset);
        let Seen { head, tail } = start.seen;
        Ok(Ok(Reading {
            frames: Frames::new(layout, self.most_bytes, start.offset, start.line).behind(tail),
            marker: Marker::new(&opened.found, head),
            opened,
            records,
            now: Timestamp::default(),
            looks: 0,
            unwanted: start.unwanted,
            next: None,
            ending: None,
            at_end: false,
        }))
    }

    fn at_end(&mut self) -> io::Result<AtEnd> {
        let Some(reading) = &mut self.reading else {
            return Ok(AtEnd::More);
        };
        let opened = &reading.opened;
        if reading.is_anew()? {
            return Ok(AtEnd::Anew);
        }
        if opened.file.len()? > reading.frames.read_offset() {
            return Ok(AtEnd::More);
        }
        let found = rotation::metadata(&*self.disk, &self.path)?;
        if found.as_ref().is_some_and(|found| opened.is(found)) {
            return Ok(AtEnd::Nothing);
        }
        // A writer that follows the rename has something to write; until then it may still write to the old file.
        let waiting = self.follow && found.is_none_or(|found| found.bytes == 0);
        reading.looks += 1;
        if waiting && reading.looks % LOOKS_PER_LISTING != 1 {
            return Ok(AtEnd::Nothing);
        }
        let next = rotation::successor(&*self.disk, &self.path, opened)?
            .filter(|next| !waiting || next.path != self.path);
        Ok(next.map_or(AtEnd::Nothing, AtEnd::Next))
    }

    fn failed(&self, error: &io::Error) -> Halt {
        Halt::Failed(read_error(&self.path, error))
    }
}

/// One file that is being read.
struct Reading {
    opened: Opened,
    frames: Frames,
    marker: Marker,
    records: Records,
    /// When it was last looked at.
    now: Timestamp,
    /// How often something was looked for behind the end, while it has another name.
    looks: u32,
    unwanted: u64,
    /// The file that follows; this one's end is read once more.
    next: Option<Opened>,
    /// How it ends, behind the records that were read.
    ending: Option<Ending>,
    /// What is left is a record, although nothing ends it.
    at_end: bool,
}

impl Reading {
    /// Reads what follows.
    fn fill(&mut self, now: Timestamp) -> io::Result<Filled> {
        self.now = now;
        let offset = self.frames.read_offset();
        let file = &*self.opened.file;
        let marker = &self.marker;
        let before = self.frames.recent().to_vec();
        let mut anew = false;
        let count = self.frames.fill(|buffer| {
            let count = file.read_at(buffer, offset)?;
            // Whoever cuts a file and writes it again does not wait until that was noticed.
            if count > 0 && is_anew(file, marker, offset, &before)? {
                anew = true;
                let still = mark::read_up_to(file, offset, count as u64)?;
                if still == buffer[..count] {
                    // It stands in the new file, and is read as a part of that.
                    return Ok(0);
                }
            }
            Ok::<_, io::Error>(count)
        })?;
        if count == 0 {
            return Ok(Filled::Nothing);
        }
        if anew {
            return Ok(Filled::Last);
        }
        self.marker.read_head(file, offset + count as u64)?;
        Ok(Filled::Some)
    }

    /// Nothing more is read.
    fn end_with(&mut self, ending: Ending, now: Timestamp) {
        self.now = now;
        self.at_end = true;
        self.ending = Some(ending);
    }

    /// Whether the file is not the one any more that was read so far.
    fn is_anew(&self) -> io::Result<bool> {
        is_anew(
            &*self.opened.file,
            &self.marker,
            self.frames.read_offset(),
            self.frames.recent(),
        )
    }

    /// The next record of what was read.
    fn record(&mut self) -> Result<Option<Record>, String> {
        while let Some(frame) = self.frames.next(self.at_end) {
            if self.records.take_header(&frame)? || frame.end <= self.unwanted {
                continue;
            }
            let position = self.marker.position(frame.raw, frame.end, frame.next_line);
            let mut record = self.records.read(&frame).with_position(position);
            record.timestamp = self.now;
            return Ok(Some(record));
        }
        Ok(None)
    }
}

/// Reads the header of a file that is not read from its beginning; false when there is none any more.
fn read_header(
    file: &dyn DiskFile,
    frames: &mut Frames,
    records: &mut Records,
) -> Result<io::Result<bool>, Halt> {
    loop {
        let offset = frames.read_offset();
        let count = match frames.fill(|buffer| file.read_at(buffer, offset)) {
            Ok(count) => count,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(frame) = frames.next(count == 0) {
            records.take_header(&frame).map_err(Halt::Failed)?;
            return Ok(Ok(true));
        }
        if count == 0 {
            return Ok(Ok(false));
        }
    }
}

/// Whether a file is not the one any more of which so many bytes were read, `recent` the last of them.
fn is_anew(
    file: &dyn DiskFile,
    marker: &Marker,
    read_bytes: u64,
    recent: &[u8],
) -> io::Result<bool> {
    let length = recent.len() as u64;
    Ok(file.len()? < read_bytes
        || !marker.is_head_of(file)?
        || mark::read_up_to(file, read_bytes - length, length)? != recent)
}

impl Format {
    fn layout(&self) -> Layout {
        match self.delimiter() {
            None => Layout::Lines,
            Some(delimiter) => Layout::Rows(super::csv::RowEnd::new(delimiter)),
        }
    }
}
