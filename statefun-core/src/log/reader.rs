//! Reading epochs back while the log goes on, and deciding how much of it is kept.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::error::LogError;
use super::keeper::{Located, Shared};
use super::record::{HEADER_BYTES, Header, Kind, Sealed, next_offset};
use crate::disk::{DiskFile, OpenMode};

/// The least that is read at once, in bytes.
const READ_BYTES: u64 = 64 << 10;

/// An epoch read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEpoch {
    /// Its number.
    pub epoch: u64,
    /// Its body. Several epochs may share the memory that they were read into.
    pub body: Bytes,
}

/// Reads durable epochs back. Cheap to clone, for any thread; it opens files of its own and holds none between calls.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("dir", &self.shared.dir)
            .field("durable_epoch", &self.durable_epoch())
            .finish_non_exhaustive()
    }
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The last durable epoch. One atomic read.
    pub fn durable_epoch(&self) -> u64 {
        self.shared.durable()
    }

    /// The durable epochs from `epoch` on, in order: as many as fit into `max_bytes`, their headers counted, and at least
    /// one when there is one. Empty when `epoch` is not durable yet.
    ///
    /// # Errors
    ///
    /// [`LogError::Released`] when the epoch is no longer in the log, [`LogError::Corrupt`] when what is read is not
    /// what was written, [`LogError::Io`] when the file cannot be read.
    pub fn read_from(&self, epoch: u64, max_bytes: usize) -> Result<Vec<LoggedEpoch>, LogError> {
        let mut found = Vec::new();
        let (mut next, mut room) = (epoch, max_bytes as u64);
        while found.is_empty() || room > 0 {
            let Some(place) = self.shared.locate(next)? else {
                break;
            };
            let file = match self
                .shared
                .disk
                .open_direct(&place.segment.path, OpenMode::Read)
            {
                Ok(file) => file,
                // Released and removed since it was located; the next look says so.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match self.shared.locate(next) {
                        Ok(_) => return Err(LogError::io("open", &place.segment.path)(error)),
                        Err(released) => return Err(released),
                    }
                }
                Err(error) => return Err(LogError::io("open", &place.segment.path)(error)),
            };
            let before = next;
            read_segment(&place, &*file, &mut next, &mut room, &mut found)?;
            if next == before && room > 0 {
                return Err(corrupt(
                    &place,
                    place.offset,
                    format!("epoch {next}"),
                    "none of the kind".to_owned(),
                ));
            }
        }
        Ok(found)
    }
}

/// Reads epochs from `next` on, to the end of the segment or as long as there is room.
fn read_segment(
    place: &Located,
    file: &dyn DiskFile,
    next: &mut u64,
    room: &mut u64,
    found: &mut Vec<LoggedEpoch>,
) -> Result<(), LogError> {
    let mut offset = place.offset;
    let mut hasher = Xxh3::new();
    while offset < place.end {
        // Bodies with their headers and gaps take more than the bodies; what is missing is read with the next chunk.
        let mut count = (place.end - offset).min((*room).max(READ_BYTES));
        let chunk = loop {
            let chunk = read(place, file, offset, count)?;
            let needed = head(place, &chunk, offset, offset)?.body_bytes() + HEADER_BYTES as u64;
            if needed <= count {
                break chunk;
            }
            count = needed;
        };
        let start = offset;
        while offset < place.end && offset + HEADER_BYTES as u64 <= start + count {
            let sealed = head(place, &chunk, start, offset)?;
            let body = (offset - start) as usize + HEADER_BYTES;
            let body = body..body + sealed.body_bytes() as usize;
            if body.end > chunk.len() {
                break;
            }
            let header = check(place, &sealed, &chunk[body.clone()], &mut hasher, offset)?;
            if header.kind == Kind::Epoch && header.epoch >= *next {
                if header.epoch != *next {
                    return Err(corrupt(
                        place,
                        offset,
                        format!("epoch {next}"),
                        format!("epoch {}", header.epoch),
                    ));
                }
                let record = header.body_bytes + HEADER_BYTES as u64;
                if !found.is_empty() && record > *room {
                    *room = 0;
                    return Ok(());
                }
                *room = room.saturating_sub(record);
                *next += 1;
                found.push(LoggedEpoch {
                    epoch: header.epoch,
                    body: chunk.slice(body),
                });
            }
            offset = next_offset(offset, header.body_bytes);
            if *room == 0 && !found.is_empty() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn head(place: &Located, chunk: &[u8], start: u64, offset: u64) -> Result<Sealed, LogError> {
    let mut head = [0; HEADER_BYTES];
    let from = (offset - start) as usize;
    head.copy_from_slice(&chunk[from..from + HEADER_BYTES]);
    // Up to the durable end and no further: what is behind is being written.
    Sealed::read(&head, place.segment.number, offset, place.end)
        .map_err(|defect| corrupt(place, offset, "a record".to_owned(), defect.to_string()))
}

fn check(
    place: &Located,
    sealed: &Sealed,
    body: &[u8],
    hasher: &mut Xxh3,
    offset: u64,
) -> Result<Header, LogError> {
    sealed
        .verify(hasher, |hasher| hasher.update(body))
        .map_err(|defect| corrupt(place, offset, "a record".to_owned(), defect.to_string()))?;
    sealed.header().map_err(|version| {
        corrupt(
            place,
            offset,
            "a record of this version".to_owned(),
            format!("version {version}"),
        )
    })
}

fn read(place: &Located, file: &dyn DiskFile, offset: u64, count: u64) -> Result<Bytes, LogError> {
    let mut chunk = vec![0; count as usize];
    file.read_exact_at(&mut chunk, offset)
        .map_err(LogError::io("read", &place.segment.path))?;
    Ok(chunk.into())
}

fn corrupt(place: &Located, offset: u64, expected: String, found: String) -> LogError {
    LogError::Corrupt {
        path: place.segment.path.clone(),
        offset,
        expected,
        found,
    }
}

/// Decides how much of the log is kept. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Retention {
    shared: Arc<Shared>,
}

/// While it lives, no epoch is released.
pub struct Held(Arc<Shared>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.let_loose();
    }
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retention")
            .field("dir", &self.shared.dir)
            .field("first_epoch", &self.first_epoch())
            .field("last_epoch", &self.last_epoch())
            .finish_non_exhaustive()
    }
}

impl Retention {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Gives up every segment whose epochs are all at most `epoch`, except the newest and that of the last epoch; its file is
    /// removed, or laid aside to be used again, soon. After a crash some of what was released may be there again, without gaps.
    pub fn release_through(&self, epoch: u64) {
        self.shared.release_through(epoch);
    }

    /// Keeps what can be read now until the result is dropped: releasing has no effect meanwhile.
    pub fn hold(&self) -> Held {
        self.shared.hold();
        Held(Arc::clone(&self.shared))
    }

    /// The first epoch that can be read, if there is one.
    pub fn first_epoch(&self) -> Option<u64> {
        self.shared.first_epoch()
    }

    /// The last durable epoch.
    pub fn last_epoch(&self) -> u64 {
        self.shared.durable()
    }

    /// Gives up the space of what was laid aside.
    pub fn give_up_spares(&self) {
        self.shared.give_up_spares();
    }

    /// The length of the segments with retained epochs, in bytes. Not counted are the prepared segment, what was released
    /// a moment ago, and spares, which are files that were retained before.
    pub fn retained_bytes(&self) -> u64 {
        self.shared.retained_bytes()
    }

    /// How many segments hold retained epochs.
    pub fn segment_count(&self) -> usize {
        self.shared.segment_count()
    }
}
