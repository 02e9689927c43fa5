//! The file ingress: reads records, and goes on when the file grows, is rotated or begun again.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::feed::{self, Feed, Halt};
use super::frames::{Frames, Layout};
use super::mark::{self, Marker, Position, Seen};
use super::records::{Format, Records};
use super::rotation::{self, Opened};
use crate::clock::WallClock;
use crate::io::ingress::{Ingress, IngressContext, IngressError, Partition};
use crate::module::model::{FileIngress as Spec, StartupPosition};

/// The longest line or row, in bytes, where nothing else is said.
pub(crate) const MOST_BYTES: usize = 16 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// While a renamed file has no successor at the path, the directory is listed only so often: it may be long.
const LOOKS_PER_LISTING: u32 = 16;

/// `io.statefun.file.v1/ingress`: reads the records of a file, and goes on when it grows.
///
/// # Where it goes on
///
/// The position of a record says which file it is in (device, inode and hashes of its first bytes and of those before the position), and where
/// it ends. A start goes on right behind the last record that was admitted:
///
/// - in the file at the path, when it is the same;
/// - in a file of the same directory that has its inode, when it was renamed meanwhile; then in those that followed it;
/// - in the file at the path, when its content is the same as far as the hashes tell (a copy, an editor's new file);
/// - at the beginning of the file at the path otherwise, and the log says that it is another file.
///
/// `startupPosition: latest` counts only while there is no position: at the very first start, and at later ones as long as no record has
/// come.
///
/// # Rotation
///
/// A file that is renamed and created anew is read to its end; what follows is read once there is something in it, so that
/// a writer that still has the old one open loses nothing. A file that is cut and written again from its start (`copytruncate`) is
/// read from its start; records that were written and cut off between two looks (at most 64 ms) are lost, as for
/// any reader.
///
/// # Records
///
/// `json`: a JSON value per line. `csv`: a row (RFC 4180) per record, whose cells become the fields of an object: as the
/// record's type has them where Rust code declares it, else as they look (`true`, `1.5`; texts otherwise). Empty
/// lines are skipped, so are a byte order mark and `\r` before a line end. While following, a line is a record only with
/// its line end. A line or row longer than 16 MiB is a bad record. So is a row with a quote that does not
/// end; reading goes on with the line after the one that the row begins with.
pub struct FileIngress {
    spec: Spec,
    most_bytes: usize,
}

impl fmt::Debug for FileIngress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileIngress")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl FileIngress {
    /// An ingress as module.yaml describes it.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            most_bytes: MOST_BYTES,
        }
    }

    /// With another bound for the length of a line or row, in bytes.
    #[must_use]
    pub fn with_longest_record(mut self, bytes: usize) -> Self {
        self.most_bytes = bytes.max(1);
        self
    }
}

impl Ingress for FileIngress {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let spec = &self.spec;
        let name = spec.path.display().to_string();
        let format =
            Format::new(spec, &context.decoder).map_err(|problem| context.error(problem))?;
        let position = match context.positions.get(&name) {
            None => None,
            Some(bytes) => Some(serde_json::from_slice::<Position>(bytes).map_err(|error| {
                context.error(format_args!(
                    "its position in the log cannot be read ({error}); was it written by another version, or another kind of ingress?"
                ))
            })?),
        };
        let mut start = locate(&context.id, &spec.path, position.as_ref())
            .map_err(|error| context.error(read_error(&spec.path, &error)))?;
        if let Some(start) = &mut start
            && position.is_none()
            && spec.startup_position == StartupPosition::Latest
        {
            let length = start.opened.file.metadata().map(|found| found.len());
            start.unwanted =
                length.map_err(|error| context.error(read_error(&spec.path, &error)))?;
        }
        if start.is_none() {
            if !spec.follow {
                return Err(context.error(format_args!(
                    "{name} is missing; create it, correct `path`, or write `follow: true` to wait for it"
                )));
            }
            tracing::info!(
                ingress = context.id,
                path = name,
                "the file is not there yet; waiting for it"
            );
        }
        let follower = Follower {
            id: context.id.clone(),
            path: spec.path.clone(),
            follow: spec.follow,
            most_bytes: self.most_bytes,
            format,
            clock: WallClock::default(),
        };
        let thread = format!(
            "file {}",
            spec.path.file_name().unwrap_or_default().display()
        );
        let partition = feed::spawn(context, thread, Some(name), move |feed| {
            follower.run(start, feed)
        })?;
        Ok(vec![partition])
    }
}

/// A place in a file.
struct Start {
    opened: Opened,
    offset: u64,
    line: u64,
    /// What was found before the place.
    seen: Seen,
    /// Records that end before were there at the first start, and are not wanted.
    unwanted: u64,
}

impl Start {
    fn beginning(opened: Opened) -> Self {
        Self {
            opened,
            offset: 0,
            line: 1,
            seen: Seen::default(),
            unwanted: 0,
        }
    }

    fn behind(opened: Opened, position: &Position, seen: Seen) -> Self {
        Self {
            opened,
            offset: position.offset,
            line: position.line,
            seen,
            unwanted: 0,
        }
    }
}

/// Finds where to go on; none while the file is missing.
fn locate(ingress: &str, path: &Path, position: Option<&Position>) -> io::Result<Option<Start>> {
    let current = rotation::open_regular(path)?;
    let Some(position) = position else {
        return Ok(current.map(Start::beginning));
    };
    let name = path.display();
    let Some(current) = current else {
        let found = renamed(path, position)?;
        if found.is_none() {
            tracing::warn!(ingress, path = %name, "the file that was being read is not there any more");
        }
        return Ok(found);
    };
    let same_inode = current.inode == position.inode;
    let seen = position.found_in(&current.file)?;
    if same_inode && let Some(seen) = seen {
        return Ok(Some(Start::behind(current, position, seen)));
    }
    if let Some(found) = renamed(path, position)? {
        tracing::info!(ingress, path = %found.opened.path.display(), "the file was renamed; finishing it first");
        return Ok(Some(found));
    }
    if let Some(seen) = seen {
        tracing::info!(ingress, path = %name, "the file is another one of the same content; going on in it");
        return Ok(Some(Start::behind(current, position, seen)));
    }
    let what = if same_inode {
        "the file was cut or written anew"
    } else {
        "the file that was being read is not there any more, and its name is another file's"
    };
    tracing::warn!(ingress, path = %name, read_bytes = position.offset, "{what}; reading from its beginning");
    Ok(Some(Start::beginning(current)))
}

/// The file that was being read, under another name.
fn renamed(path: &Path, position: &Position) -> io::Result<Option<Start>> {
    let candidates = match rotation::with_inode(path, position.inode) {
        // No directory, no file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    for candidate in candidates {
        if let Some(opened) = Opened::open(&candidate)?
            && let Some(seen) = position.found_in(&opened.file)?
        {
            return Ok(Some(Start::behind(opened, position, seen)));
        }
    }
    Ok(None)
}

fn read_error(path: &Path, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give the user that runs the application the right to read it"
        }
        io::ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    };
    format!("cannot read {}: {error}{help}", path.display())
}

/// Reads one file after the other.
struct Follower {
    id: String,
    path: PathBuf,
    follow: bool,
    most_bytes: usize,
    format: Format,
    clock: WallClock,
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

/// How reading a file ended.
enum Ended {
    /// There is nothing more to read.
    Finished,
    /// It has been cut or written anew.
    Anew,
    /// Another file follows.
    Next(Opened),
}

impl Follower {
    fn run(self, start: Option<Start>, feed: &mut Feed) -> Result<(), Halt> {
        let mut start = match start {
            Some(start) => start,
            None => Start::beginning(self.wait_for_file(feed)?),
        };
        loop {
            let opened = match self.read(&start, feed)? {
                Ended::Finished => return Ok(()),
                Ended::Anew => {
                    tracing::warn!(
                        ingress = self.id, path = %start.opened.path.display(),
                        "the file was cut or written anew; reading from its beginning"
                    );
                    start.opened
                }
                Ended::Next(opened) => {
                    tracing::info!(
                        ingress = self.id, finished = %start.opened.path.display(), path = %opened.path.display(),
                        "the file was rotated; reading the next one"
                    );
                    opened
                }
            };
            start = Start::beginning(opened);
        }
    }

    fn wait_for_file(&self, feed: &mut Feed) -> Result<Opened, Halt> {
        let mut pause = FIRST_PAUSE;
        loop {
            feed.go_on()?;
            if let Some(opened) =
                rotation::open_regular(&self.path).map_err(|error| self.failed(&error))?
            {
                return Ok(opened);
            }
            feed.pause(pause)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn read(&self, start: &Start, feed: &mut Feed) -> Result<Ended, Halt> {
        let Some(mut reading) = Reading::new(self, start, feed)? else {
            return Ok(Ended::Anew);
        };
        let mut pause = FIRST_PAUSE;
        let mut next = None;
        loop {
            feed.go_on()?;
            match reading.fill().map_err(|error| self.failed(&error))? {
                Filled::Some => {
                    reading.send_all(false, feed)?;
                    pause = FIRST_PAUSE;
                    continue;
                }
                Filled::Last => {
                    reading.send_all(false, feed)?;
                    return Ok(Ended::Anew);
                }
                Filled::Nothing => {}
            }
            // What the file's name says is looked at before its end is read for the last time.
            if let Some(next) = next {
                reading.send_all(true, feed)?;
                return Ok(Ended::Next(next));
            }
            match self
                .at_end(&mut reading)
                .map_err(|error| self.failed(&error))?
            {
                AtEnd::More => {}
                AtEnd::Anew => return Ok(Ended::Anew),
                AtEnd::Next(opened) => next = Some(opened),
                AtEnd::Nothing if !self.follow => {
                    reading.send_all(true, feed)?;
                    return Ok(Ended::Finished);
                }
                AtEnd::Nothing => {
                    feed.pause(pause)?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn at_end(&self, reading: &mut Reading<'_>) -> io::Result<AtEnd> {
        let opened = reading.opened;
        if reading.is_anew()? {
            return Ok(AtEnd::Anew);
        }
        if opened.file.metadata()?.len() > reading.frames.read_offset() {
            return Ok(AtEnd::More);
        }
        let found = rotation::metadata(&self.path)?;
        if found.as_ref().is_some_and(|found| opened.is(found)) {
            return Ok(AtEnd::Nothing);
        }
        // A writer that follows the rename has something to write; until then it may still write to the old file.
        let waiting = self.follow && found.is_none_or(|found| found.len() == 0);
        reading.looks += 1;
        if waiting && reading.looks % LOOKS_PER_LISTING != 1 {
            return Ok(AtEnd::Nothing);
        }
        let next = rotation::successor(&self.path, opened)?
            .filter(|next| !waiting || next.path != self.path);
        Ok(next.map_or(AtEnd::Nothing, AtEnd::Next))
    }

    fn failed(&self, error: &io::Error) -> Halt {
        Halt::Failed(read_error(&self.path, error))
    }
}

/// One file that is being read.
struct Reading<'f> {
    opened: &'f Opened,
    frames: Frames,
    marker: Marker,
    records: Records<'f>,
    clock: &'f WallClock,
    /// How often something was looked for behind the end, while it has another name.
    looks: u32,
    unwanted: u64,
}

impl<'f> Reading<'f> {
    /// Begins to read; none when the file has been cut since the place was found.
    fn new(follower: &'f Follower, start: &'f Start, feed: &Feed) -> Result<Option<Self>, Halt> {
        let opened = &start.opened;
        let layout = follower.format.layout();
        let mut records = Records::new(&follower.format, opened.path.display().to_string());
        if start.offset > 0 && records.needs_header() {
            let mut header = Frames::new(layout.clone(), follower.most_bytes, 0, 1);
            let found = read_header(&opened.file, &mut header, &mut records, feed)?;
            if !found.map_err(|error| follower.failed(&error))? {
                return Ok(None);
            }
        }
        let Seen { head, tail } = start.seen.clone();
        Ok(Some(Self {
            opened,
            frames: Frames::new(layout, follower.most_bytes, start.offset, start.line).behind(tail),
            marker: Marker::new(opened.device, opened.inode, head),
            records,
            clock: &follower.clock,
            looks: 0,
            unwanted: start.unwanted,
        }))
    }

    /// Reads what follows.
    fn fill(&mut self) -> io::Result<Filled> {
        let offset = self.frames.read_offset();
        let file = &self.opened.file;
        let marker = &self.marker;
        let before = self.frames.recent().to_vec();
        let mut anew = false;
        let count = self.frames.fill(|buffer| {
            let count = read_at(file, buffer, offset)?;
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

    /// Whether the file is not the one any more that was read so far.
    fn is_anew(&self) -> io::Result<bool> {
        is_anew(
            &self.opened.file,
            &self.marker,
            self.frames.read_offset(),
            self.frames.recent(),
        )
    }

    fn send_all(&mut self, at_end: bool, feed: &mut Feed) -> Result<(), Halt> {
        let now = self.clock.now();
        while let Some(frame) = self.frames.next(at_end) {
            if self.records.take_header(&frame).map_err(Halt::Failed)? || frame.end <= self.unwanted
            {
                continue;
            }
            let position = self.marker.position(frame.raw, frame.end, frame.next_line);
            let mut record = self.records.read(&frame).with_position(position);
            record.timestamp = now;
            feed.send(record)?;
        }
        Ok(())
    }
}

/// Reads the header of a file that is not read from its beginning; false when there is none any more.
fn read_header(
    file: &File,
    frames: &mut Frames,
    records: &mut Records<'_>,
    feed: &Feed,
) -> Result<io::Result<bool>, Halt> {
    loop {
        feed.go_on()?;
        let offset = frames.read_offset();
        let count = match frames.fill(|buffer| read_at(file, buffer, offset)) {
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
fn is_anew(file: &File, marker: &Marker, read_bytes: u64, recent: &[u8]) -> io::Result<bool> {
    let length = recent.len() as u64;
    Ok(file.metadata()?.len() < read_bytes
        || !marker.is_head_of(file)?
        || mark::read_up_to(file, read_bytes - length, length)? != recent)
}

/// Reads once; interruptions do not count.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

impl Format {
    fn layout(&self) -> Layout {
        match self.delimiter() {
            None => Layout::Lines,
            Some(delimiter) => Layout::Rows(super::csv::RowEnd::new(delimiter)),
        }
    }
}
