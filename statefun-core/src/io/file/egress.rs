//! The file egress: appends lines, and after a crash completes what is there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::encode::LineEncoder;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use crate::module::model::{FieldName, FileEgress as Spec, FileFormat};

/// Bytes that are encoded before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes before a position that are compared when the file is opened again.
const TAIL_BYTES: usize = 1 << 10;

/// `io.statefun.file.v1/egress`: appends each record to a file as one line, exactly once.
///
/// # How it is exactly-once
///
/// The content of the file is a function of the records: the position that [`flush`](Egress::flush) returns is the length
/// of the file up to there, synced. After a crash all records behind the last logged position come again in the same order,
/// and give the same bytes at the same place. What is found there is compared with them before it is written again:
///
/// - The same bytes stay. They are written once more in place all the same, since nothing tells whether they have reached the medium:
///   a sync of the process before may have failed, and a later sync that succeeds then proves nothing.
/// - Too few bytes, or zeros in place of some, are what a crash leaves of a write. They are completed, and the log says so.
/// - Anything else nobody but this egress could have written, and it did not: that is an error that names file and offset. So are
///   bytes behind all records that came again. Nothing is ever cut off or written over that this egress cannot explain.
///
/// When the file system is full, the file is brought back to its last whole record, and the write is tried again.
///
/// # What a restore does to it
///
/// A restore from a checkpoint takes the application back behind output that it has released. That output is still in the file,
/// and the start fails with the offset where it begins. Cutting it off (`truncate -s OFFSET FILE`, as the error says) makes
/// file and application one again: the records are written again as they are made again. On a machine that does not have the file, a new
/// one begins, with what no file had at the checkpoint. Without a restored position (the
/// data directory was removed) the same happens with a file that has content: move it away, or name another path.
///
/// # A new file
///
/// A file must stay where it is, and as it is, between two runs. To begin a new one, stop the application, and name another
/// `path` in module.yaml: what comes next goes there. After a crash, that is whatever came since the last logged position.
///
/// # What can be written
///
/// `json`: a payload must be one JSON value. It is written as it is; only when there are line ends between its tokens the
/// blanks between them are left out. `csv`: a payload must be an object. Its fields that `columns` names make the row, texts as they are,
/// nested values as JSON, `null` and what is absent as nothing. A payload that is neither is an error. Only what an ingress could not
/// read, and left to this egress (`onError: {deadLetter: …}`), may be anything: it becomes a JSON string, or a row's first cell.
pub struct FileEgress {
    spec: Spec,
    disk: Arc<dyn Disk>,
    output: Option<Output>,
}

impl fmt::Debug for FileEgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEgress")
            .field("spec", &self.spec)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl FileEgress {
    /// An egress as module.yaml describes it.
    pub fn new(spec: Spec, disk: Arc<dyn Disk>) -> Self {
        Self {
            spec,
            disk,
            output: None,
        }
    }

    fn output(&mut self) -> Result<&mut Output, EgressError> {
        let id = &self.spec.id;
        self.output.as_mut().ok_or_else(|| EgressError {
            egress: id.to_string(),
            problem: "it was not opened".to_owned(),
            transient: false,
        })
    }
}

impl Egress for FileEgress {
    fn open(&mut self, context: &EgressContext) -> Result<(), EgressError> {
        self.output = None;
        self.output = Some(Output::open(&self.spec, self.disk.clone(), context)?);
        Ok(())
    }

    fn deliver(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        self.output()?.deliver(epoch, records)
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        self.output()?.flush()
    }

    fn is_in_doubt(&self) -> bool {
        self.output
            .as_ref()
            .is_some_and(|output| output.length > output.written.end)
    }

    fn replayed(&mut self) -> Result<(), EgressError> {
        self.output()?.replayed()
    }
}

/// What [`Egress::flush`] returns. It is JSON, so that it can be read where positions are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    path: PathBuf,
    /// Bytes of the file that are written and safe.
    offset: u64,
    /// The last of these bytes, and their hash.
    tail_bytes: u64,
    tail: String,
}

/// A file that is open.
struct Output {
    id: String,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    encoder: LineEncoder,
    /// The field that a record's `traceparent` goes to.
    traceparent: Option<FieldName>,
    buffer: Vec<u8>,
    written: Written,
    /// Bytes behind `end` that were found when the file was opened, and are not compared yet, end here.
    length: u64,
    /// The length could not be brought back after a failed write.
    untidy: bool,
    unsynced: bool,
    directory_synced: bool,
    /// Whether all that was released before the start has come again.
    replayed: bool,
    /// A position was logged before.
    resumed: bool,
    /// What was logged is from a checkpoint.
    restored: bool,
    /// The bytes that were written by then, where the file is not the one that has them: it was begun since, or is another one.
    begun_since: Option<u64>,
    same: u64,
    repaired: u64,
}

/// What of the file is output of this application.
#[derive(Clone)]
struct Written {
    /// Its bytes.
    end: u64,
    /// The last of them.
    tail: Vec<u8>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("path", &self.path)
            .field("end", &self.written.end)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Output {
    fn open(
        spec: &Spec,
        disk: Arc<dyn Disk>,
        context: &EgressContext,
    ) -> Result<Self, EgressError> {
        let path = plain(&spec.path);
        let format = spec.format().ok_or_else(|| {
            context.fatal(format_args!(
                "the name of {} does not say which format it has; add `format: json` or `format: csv`",
                path.display()
            ))
        })?;
        if format == FileFormat::Csv && spec.csv.columns.is_empty() {
            return Err(context.fatal("a CSV file needs `csv: {columns: [NAME, …]}`"));
        }
        // Of another kind of egress that had the id before: what it has not accepted goes into a new file. Were it not so, the file
        // would be refused as foreign.
        let position = context
            .position
            .as_ref()
            .and_then(|bytes| serde_json::from_slice::<Position>(bytes).ok());
        let resumed = position
            .as_ref()
            .is_some_and(|position| position.path == path);
        let mut position = match position {
            Some(position) if resumed => position,
            Some(position) => {
                tracing::info!(
                    egress = context.id, path = %path.display(), before = %position.path.display(),
                    bytes_before = position.offset, "the egress begins a new file"
                );
                Position::default()
            }
            None => Position::default(),
        };
        let failed = |doing: &str, error: io::Error| io_error(&context.id, &path, doing, &error);
        let create = |disk: &dyn Disk| {
            if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
                disk.create_dir_all(dir)?;
            }
            disk.open(&path, OpenMode::Create)
        };
        let file = if position.offset > 0 {
            match disk.open(&path, OpenMode::ReadWrite) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && context.restored => {
                    tracing::info!(
                        egress = context.id, path = %path.display(), bytes_before = position.offset,
                        "the file is not on this machine; the egress begins a new one"
                    );
                    position = Position::default();
                    create(&*disk)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(context.fatal(format_args!(
                        "{} is missing, although {} bytes of it are written; put it back, or name another `path` in module.yaml to begin a new file",
                        path.display(), position.offset
                    )));
                }
                opened => opened,
            }
        } else {
            create(&*disk)
        }
        .map_err(|error| failed("open", error))?;
        let length = file
            .len()
            .map_err(|error| failed("read the length of", error))?;
        let mut output = Self {
            id: context.id.clone(),
            path: path.clone(),
            disk,
            file,
            encoder: LineEncoder::new(format, &spec.csv),
            traceparent: spec.traceparent.clone(),
            buffer: Vec::new(),
            written: Written {
                end: position.offset,
                tail: Vec::new(),
            },
            length,
            untidy: false,
            unsynced: false,
            directory_synced: false,
            replayed: false,
            resumed,
            restored: context.restored,
            begun_since: None,
            same: 0,
            repaired: 0,
        };
        if context.restored && !output.holds(&position)? {
            // A start since the restore has begun it. What is in it comes again.
            output.begun_since = Some(position.offset);
            output.written.end = 0;
            position = Position::default();
        }
        output.check(&position)?;
        Ok(output)
    }

    /// Whether what was written up to a position is there.
    fn holds(&self, position: &Position) -> Result<bool, EgressError> {
        let tail_bytes = position.tail_bytes.min(position.offset);
        Ok(self.length >= position.offset
            && (position.offset == 0
                || hash(&self.read(position.offset - tail_bytes, tail_bytes)?) == position.tail))
    }

    /// Whether the file is still the one that was written up to a position.
    fn check(&mut self, position: &Position) -> Result<(), EgressError> {
        let path = self.path.display().to_string();
        if self.length < position.offset {
            return Err(self.fatal(format_args!(
                "{path} has {} bytes, although {} are written; nobody else may write this file: put it back as it was, or name another `path` in module.yaml to begin a new one",
                self.length, position.offset
            )));
        }
        let tail = self.read(
            position.offset.saturating_sub(position.tail_bytes),
            position.tail_bytes.min(position.offset),
        )?;
        if position.offset > 0 && hash(&tail) != position.tail {
            return Err(self.fatal(format_args!(
                "{path} is another file than the one written before: the {} bytes before offset {} differ; nobody else may write this file: put it back as it was, or name another `path` in module.yaml to begin a new one",
                tail.len(), position.offset
            )));
        }
        self.written.tail = tail;
        let header = self.encoder.header();
        if position.offset > 0 && !header.is_empty() {
            let found = self.read(0, (header.len() as u64).min(position.offset))?;
            if found != header {
                return Err(self.fatal(format_args!(
                    "{path} begins with other columns than `{}`; restore `csv` in module.yaml, or name another `path` to begin a new file",
                    String::from_utf8_lossy(&header).trim_end()
                )));
            }
        }
        Ok(())
    }

    fn deliver(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        let (before, length) = (self.written.clone(), self.length);
        let outcome = self.write_all(epoch, records);
        if outcome.as_ref().is_err_and(|error| error.transient) {
            // All of it comes again. A record that is half there would be read as one by whoever follows the file.
            self.written = before;
            self.length = length;
            self.untidy = self.file.set_len(length).is_err();
        }
        outcome
    }

    fn write_all(&mut self, epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if self.written.end == 0 {
            buffer.extend_from_slice(&self.encoder.header());
        }
        let mut outcome = Ok(());
        for record in records {
            let field = self.traceparent.as_ref().map(FieldName::as_str);
            outcome = self.encoder.append_record(record, field, &mut buffer).map_err(|problem| {
                self.fatal(format_args!(
                    "record {} of worker {} in epoch {epoch} (`{}`) cannot be written to {}: {problem}",
                    record.sequence, record.worker, record.typename, self.path.display()
                ))
            });
            if outcome.is_ok() && buffer.len() >= WRITE_BYTES {
                outcome = self.put(&buffer);
                buffer.clear();
            }
            if outcome.is_err() {
                break;
            }
        }
        if outcome.is_ok() {
            outcome = self.put(&buffer);
        }
        if buffer.capacity() <= 4 * WRITE_BYTES {
            self.buffer = buffer;
        }
        outcome
    }

    /// Writes the bytes that follow.
    fn put(&mut self, bytes: &[u8]) -> Result<(), EgressError> {
        if self.untidy {
            self.file
                .set_len(self.length)
                .map_err(|error| self.failed("bring back the length of", &error))?;
            self.untidy = false;
        }
        let length = self
            .file
            .len()
            .map_err(|error| self.failed("read the length of", &error))?;
        if length != self.length {
            return Err(self.fatal(format_args!(
                "the length of {} has changed from {} to {length} bytes; nobody else may write this file",
                self.path.display(), self.length
            )));
        }
        self.compare(bytes)?;
        self.unsynced = true;
        self.file
            .write_at(bytes, self.written.end)
            .map_err(|error| self.failed("write", &error))?;
        self.written.append(bytes);
        self.length = self.length.max(self.written.end);
        Ok(())
    }

    /// Compares the bytes that follow with those that were found in their place.
    fn compare(&mut self, bytes: &[u8]) -> Result<(), EgressError> {
        let found = self.read(
            self.written.end,
            (self.length - self.written.end).min(bytes.len() as u64),
        )?;
        let mut zeros = 0;
        for (at, (found, expected)) in found.iter().zip(bytes).enumerate() {
            if found == expected {
                continue;
            }
            if *found != 0 {
                return Err(self.foreign(self.written.end + at as u64));
            }
            zeros += 1;
        }
        if !self.replayed {
            self.same += found.len() as u64 - zeros;
            self.repaired += bytes.len() as u64 - (found.len() as u64 - zeros);
        }
        Ok(())
    }

    fn replayed(&mut self) -> Result<(), EgressError> {
        let (path, end) = (self.path.display().to_string(), self.written.end);
        if self.length > end {
            return Err(self.foreign(end));
        }
        if !self.replayed && self.repaired > 0 && (self.resumed || self.same > 0) {
            tracing::info!(
                egress = self.id,
                path,
                found_bytes = self.same,
                completed_bytes = self.repaired,
                "output released before the last stop was completed"
            );
        }
        self.replayed = true;
        Ok(())
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        // Whatever was written to a file without a name is gone with this process.
        if !self
            .disk
            .exists(&self.path)
            .map_err(|error| self.failed("find", &error))?
        {
            return Err(self.fatal(format_args!(
                "{} was renamed or removed while the application writes it; put it back, or name another `path` in module.yaml to begin a new file",
                self.path.display()
            )));
        }
        if self.unsynced {
            // After a failed sync nothing is known of what was written: only a start that writes it again helps.
            self.file
                .sync_data()
                .map_err(|error| self.fatal_io("sync", &error))?;
            self.unsynced = false;
        }
        if !self.directory_synced {
            let dir = self.path.parent().unwrap_or(Path::new(""));
            self.disk
                .sync_dir(dir)
                .map_err(|error| self.fatal_io("sync the directory of", &error))?;
            self.directory_synced = true;
        }
        let position = Position {
            path: self.path.clone(),
            offset: self.written.end,
            tail_bytes: self.written.tail.len() as u64,
            tail: hash(&self.written.tail),
        };
        serde_json::to_vec(&position)
            .map(Bytes::from)
            .map_err(|error| {
                self.fatal(format_args!(
                    "the path {} cannot be logged: {error}",
                    self.path.display()
                ))
            })
    }

    /// The file has at `offset` what is not output of this application.
    fn foreign(&self, offset: u64) -> EgressError {
        let (path, excess) = (self.path.display(), self.length - offset);
        let help = if let Some(bytes) = self.begun_since {
            format!(
                "It is not the file of the checkpoint either, of which {bytes} bytes are written: put that one in its place, or \
                 move this one away, or name another `path` in module.yaml"
            )
        } else if self.resumed || self.restored && self.same > 0 {
            format!(
                "After a restore it is the output since its checkpoint: cut it off with `truncate -s {offset} {path}`, and it \
                 is made again. Else keep a copy of it, and cut it off as well, or name another `path` in module.yaml"
            )
        } else {
            "Move it away, or name another `path` in module.yaml".to_owned()
        };
        self.fatal(format_args!(
            "{path} has {excess} bytes from offset {offset} on that this application has not written; \
             nobody else may write this file. {help}"
        ))
    }

    fn read(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, EgressError> {
        let mut found = vec![0; bytes as usize];
        self.file
            .read_exact_at(&mut found, offset)
            .map_err(|error| self.fatal_io("read", &error))?;
        Ok(found)
    }

    fn fatal(&self, problem: impl fmt::Display) -> EgressError {
        EgressError {
            egress: self.id.clone(),
            problem: problem.to_string(),
            transient: false,
        }
    }

    fn failed(&self, doing: &str, error: &io::Error) -> EgressError {
        io_error(&self.id, &self.path, doing, error)
    }

    fn fatal_io(&self, doing: &str, error: &io::Error) -> EgressError {
        EgressError {
            transient: false,
            ..self.failed(doing, error)
        }
    }
}

impl Written {
    fn append(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let new = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let kept = (self.tail.len() + new.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..kept);
        self.tail.extend_from_slice(new);
    }
}

fn io_error(egress: &str, path: &Path, doing: &str, error: &io::Error) -> EgressError {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    let help = match error.kind() {
        _ if full => "; make room, and the output goes on where it was",
        io::ErrorKind::PermissionDenied => "; give the user that runs the application the right to",
        io::ErrorKind::FileTooLarge => "; name another `path` in module.yaml to begin a new file",
        _ => "",
    };
    EgressError {
        egress: egress.to_owned(),
        problem: format!("cannot {doing} {}: {error}{help}", path.display()),
        transient: full,
    }
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// The path without `./` before it, so that this does not make another file of it.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}
