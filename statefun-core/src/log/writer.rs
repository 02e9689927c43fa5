//! Appending: one vectored write and one sync per record.

use std::io::IoSlice;
use std::sync::Arc;
use std::thread::JoinHandle;

use xxhash_rust::xxh3::Xxh3;

use super::error::{Failure, LogError};
use super::keeper::{Prepared, Shared};
use super::reader::{LogReader, Retention};
use super::record::{HEADER_BYTES, Header, Kind, SECTOR, next_offset};
use super::segment::{RESERVE, Segment};
use crate::disk::{DiskFile, DiskLock};
use crate::steps::{Step, reached};

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of its segment.
    pub segment: u64,
    /// Where it begins in its segment, in bytes.
    pub offset: u64,
    /// How many bytes were written for it, header included; 0 when that is not known.
    pub bytes: u64,
}

/// The epoch log, open for appending. There is one for a directory, in one process.
///
/// Dropping it ends its background thread and frees the directory. Nothing needs to be flushed: what was acknowledged
/// is durable.
pub struct EpochLog {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the next record begins.
    offset: u64,
    /// The last record's checksum.
    previous: u64,
    lineage: u64,
    attempt: u64,
    last_epoch: u64,
    /// A write behind the end failed for lack of space: what it left must not be taken for a record, although
    /// nothing was acknowledged.
    littered: bool,
    hasher: Xxh3,
    thread: Option<JoinHandle<()>>,
    _lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for EpochLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochLog")
            .field("dir", &self.shared.dir)
            .field("lineage", &self.lineage)
            .field("attempt", &self.attempt)
            .field("last_epoch", &self.last_epoch)
            .field("segment", &self.segment.number)
            .field("offset", &self.offset)
            .field("failure", &self.shared.failure())
            .finish_non_exhaustive()
    }
}

/// The end of a log, as recovery found it.
pub(super) struct End {
    pub(super) active: Prepared,
    pub(super) offset: u64,
    pub(super) previous: u64,
    pub(super) lineage: u64,
    /// The attempt of the last record; 0 when there is none.
    pub(super) attempt: u64,
    pub(super) last_epoch: u64,
}

impl EpochLog {
    pub(super) fn at(shared: Arc<Shared>, end: End, lock: Box<dyn DiskLock>) -> Self {
        Self {
            shared,
            segment: end.active.segment,
            file: end.active.file,
            offset: end.offset,
            previous: end.previous,
            lineage: end.lineage,
            attempt: end.attempt,
            last_epoch: end.last_epoch,
            littered: false,
            hasher: Xxh3::new(),
            thread: None,
            _lock: lock,
        }
    }

    /// Makes what recovery decided final: from now on nothing behind the end can be taken for a record.
    pub(super) fn begin_attempt(&mut self) -> Result<(), LogError> {
        self.attempt = self.attempt.saturating_add(1);
        self.write(Kind::Attempt, self.last_epoch, &[])?;
        Ok(())
    }

    /// Starts the thread that prepares, recycles and removes segments.
    pub(super) fn start_thread(&mut self) -> Result<(), LogError> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("statefun-log".to_owned())
            .spawn(move || shared.run())
            .map_err(LogError::io("start a thread for", &self.shared.dir))?;
        self.thread = Some(thread);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Has the next segment prepared.
    pub(super) fn prepare_ahead(&self) {
        self.shared.work();
    }

    /// Appends an epoch, whose body is the given parts one after the other, and returns when it is durable.
    ///
    /// Epochs follow one another without gaps. Cancel safety: this is a plain call; when the process dies within it,
    /// the epoch is in the log as a whole, or not at all.
    ///
    /// # Errors
    ///
    /// - [`LogError::WrongEpoch`]: it is not the next one. Nothing was written.
    /// - [`LogError::NoSpace`]: the disk is full. The epoch does not count; append it again, with the same or another body,
    ///   when there may be space.
    /// - [`LogError::Poisoned`]: a write or sync failed, now or earlier. The epoch may be found by the next
    ///   [`EpochLog::open`], or not. All further appends fail.
    pub fn append(&mut self, epoch: u64, body: &[&[u8]]) -> Result<Position, LogError> {
        let expected = self.last_epoch.saturating_add(1);
        if epoch != expected {
            return Err(LogError::WrongEpoch {
                expected,
                found: epoch,
            });
        }
        let position = self.write(Kind::Epoch, epoch, body)?;
        self.last_epoch = epoch;
        Ok(position)
    }

    fn write(&mut self, kind: Kind, epoch: u64, body: &[&[u8]]) -> Result<Position, LogError> {
        self.healthy()?;
        let body_bytes: u64 = body.iter().map(|part| part.len() as u64).sum();
        let bytes = HEADER_BYTES as u64 + body_bytes;
        let room = match kind {
            Kind::Attempt => bytes,
            Kind::Epoch => bytes + RESERVE,
        };
        if self.offset.saturating_add(room) > self.segment.bytes {
            self.roll(room)?;
        }
        let header = Header {
            kind,
            body_bytes,
            segment: self.segment.number,
            offset: self.offset,
            lineage: self.lineage,
            attempt: self.attempt,
            epoch,
            previous: self.previous,
        };
        let (head, checksum) = header.seal(&mut self.hasher, body);
        // Whole sectors, so that the file can be written directly.
        let padding = [0; SECTOR as usize];
        let end = next_offset(self.offset, body_bytes);
        let missing = (end - self.offset - bytes) as usize;
        let mut slices = Vec::with_capacity(2 + body.len());
        slices.push(IoSlice::new(&head));
        slices.extend(body.iter().map(|part| IoSlice::new(part)));
        slices.push(IoSlice::new(&padding[..missing]));
        if let Err(source) = self.file.write_vectored_at(&mut slices, self.offset) {
            let failure = Failure::new("write", &self.segment.path)(source);
            if failure.is_no_space() {
                self.littered = true;
                // Now, as far as possible: the process may end before there is space.
                self.clear_litter()?;
            }
            return Err(self.refuse(failure));
        }
        if kind == Kind::Epoch {
            reached(Step::Written);
        }
        if let Err(source) = self.file.sync_data() {
            return Err(self.poison(&Failure::new("sync", &self.segment.path)(source)));
        }
        let position = Position {
            segment: self.segment.number,
            offset: self.offset,
            bytes,
        };
        self.littered = false;
        self.previous = checksum;
        self.offset = end;
        let published = (kind == Kind::Epoch).then_some(epoch);
        self.shared
            .publish(&self.segment, published, position.offset, self.offset);
        Ok(position)
    }

    /// Goes on in the next segment, or in this one made longer when it has no record yet.
    fn roll(&mut self, bytes: u64) -> Result<(), LogError> {
        self.clear_litter()?;
        if self.offset == 0 {
            match self.shared.grow(&self.segment, &*self.file, bytes) {
                Ok(segment) => self.segment = segment,
                Err(failure) => return Err(self.refuse(failure)),
            }
            return Ok(());
        }
        match self.shared.take(bytes) {
            Ok(next) => {
                self.segment = next.segment;
                self.file = next.file;
                self.offset = 0;
            }
            Err(failure) => return Err(self.refuse(failure)),
        }
        self.shared.work();
        Ok(())
    }

    /// Overwrites the header of a record that was not written completely: were its missing end zeros, as the segment
    /// was prepared with, it would be taken for whole.
    fn clear_litter(&mut self) -> Result<(), LogError> {
        if !self.littered {
            return Ok(());
        }
        let cleared = self
            .file
            .write_at(&[0; SECTOR as usize], self.offset)
            .and_then(|()| self.file.sync_data());
        match cleared {
            Ok(()) => {
                self.littered = false;
                Ok(())
            }
            Err(source) => {
                let failure = Failure::new("write", &self.segment.path)(source);
                Err(self.refuse(failure))
            }
        }
    }

    /// A failure that may be over when there is space, or else poisons.
    fn refuse(&self, failure: Failure) -> LogError {
        if failure.is_no_space() && self.shared.failure().is_none() {
            LogError::NoSpace {
                path: failure.path,
                source: failure.source,
            }
        } else {
            self.poison(&failure)
        }
    }

    fn poison(&self, failure: &Failure) -> LogError {
        self.shared.poison(failure);
        LogError::Poisoned {
            cause: self
                .shared
                .failure()
                .map_or_else(|| failure.cause(), str::to_owned),
        }
    }

    fn healthy(&self) -> Result<(), LogError> {
        match self.shared.failure() {
            Some(cause) => Err(LogError::Poisoned {
                cause: cause.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// A reader of the log's epochs, for any thread.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// What decides how much of the log is kept, for any thread.
    pub fn retention(&self) -> Retention {
        Retention::new(Arc::clone(&self.shared))
    }

    /// The lineage that the log belongs to.
    pub fn lineage(&self) -> u64 {
        self.lineage
    }

    /// The number of this attempt: 1 for the first start of a lineage, one more for each further start.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The last durable epoch; the next one to append is one more.
    pub fn last_epoch(&self) -> u64 {
        self.last_epoch
    }
}

impl Drop for EpochLog {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened, and there is nobody to tell again.
            let _ = thread.join();
        }
    }
}
