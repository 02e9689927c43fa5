//! The epoch log: what makes an epoch durable, with one write and one sync for the whole process.
//!
//! It knows nothing of what it keeps: an epoch's body is bytes given by the caller. It does not index, compress, upload or
//! interpret them.
//!
//! ```text
//! read_tail ──▶ the same epochs, changing nothing                                  (recovery.rs)
//! EpochLog::open ──▶ every retained epoch, once, in order ──▶ append, append, …      (writer.rs)
//!                                                         ├─▶ LogReader: back again (reader.rs)
//!                                                         └─▶ Retention: let go     (keeper.rs)
//! ```
//!
//! # Promises
//!
//! - An epoch whose [`EpochLog::append`] returned `Ok` is found by every later [`EpochLog::open`], with the same bytes, until
//!   it is released; also after the death of the process or a power cut.
//! - Found are consecutive epochs. At most one of them was not acknowledged: the one being written when the process
//!   ended. Once found it stays found.
//! - What was given up at opening never comes back.
//! - Damage that a crash does not explain is an error that names file and offset, and nothing is changed then.
//!
//! # The format, version 1
//!
//! The layout of files and records is told in `statefun-core/FORMAT.md`, under "The epoch log": records with a header of 72 bytes,
//! at multiples of 512 bytes, in segments that are numbered files. A segment is prepared with zeros, or with space set aside that reads
//! as zeros, or is an older one under a new name; its length does not change once it holds a record. Epochs leave 4,096
//! bytes at its end to the records of attempts, so that a process can start on a full disk. Unfinished files and spares are removed at
//! the next start.
//!
//! Every version keeps the first four bytes, the version, the length, the place and the checksum where they are, so that a
//! newer record can be told from damage.
//!
//! A *lineage* begins with a new data directory and with every restore from a checkpoint; an *attempt* is a start of the
//! process, and its record ends what came before. After a record of attempt `a` and epoch `e` there comes either epoch
//! `e + 1` of attempt `a`, or the record of attempt `a + 1` with epoch `e`; both state the checksum of the record before.
//! The first of all is the record of attempt 1. So nothing that was written at another place, by another attempt, or into
//! a segment before it was recycled, passes for the next record.
//!
//! # Where the log ends
//!
//! A record is written after the one before is durable. So a crash leaves at most one broken record, and nothing
//! whole behind it. Opening follows the chain from the oldest segment; behind the last good record it looks at every place
//! where a record could begin, and finds a whole one only when the log is damaged. It is damaged, too, when the
//! state contains an epoch that the log does not.
//!
//! The end found is made final before anyone acts on it: the last record is written again (it may be in the kernel's
//! memory only, even after a sync, when an earlier one failed), files and directory are synced, and the record of the new
//! attempt is written over the broken one.
//!
//! # When the disk is full or broken
//!
//! Appends seldom need space: they write into prepared segments. When there is none for a new one, append gives
//! [`LogError::NoSpace`], which counts as if it had not been called. Any other failed write or sync poisons the log, since
//! nobody knows what is on the medium: the process has to start again.

mod error;
mod keeper;
mod reader;
mod record;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use reader::{Held, LogReader, LoggedEpoch, Retention};
pub use recovery::read_tail;
pub use writer::{EpochLog, Position};

/// Whether segments are filled with zeros before they are written. A sync of what was filled is quicker, since the file system has
/// nothing to note; but everything is written twice. Else the space is only set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// All are filled.
    Always,
    /// They are filled, but for some that follow one that was wanted before it was filled: the device cannot keep up.
    UnlessLate,
    /// None is filled.
    Never,
}

/// How a log is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// The lineage that the directory must belong to, or that begins with it.
    pub lineage: u64,
    /// The newest epoch that is known elsewhere: the state store's marker, or a sink's when that is newer. The log must
    /// reach to it, and must not begin after the epoch that follows it. 0 when there is none.
    pub applied_epoch: u64,
    /// The epoch after which a new log begins: that of the checkpoint restored, else 0. Without meaning for an existing log.
    pub base_epoch: u64,
    /// The length of a segment in bytes, a multiple of 512. A longer record gets a segment of its own length.
    pub segment_bytes: u64,
    /// The length of the first segment in bytes, a multiple of 512; each next one is four times as long, up to
    /// `segment_bytes`. A new log is ready when the first is prepared.
    pub first_segment_bytes: u64,
    /// Whether a thread prepares and removes segments. Without it, whoever appends or releases does, which makes all steps
    /// deterministic.
    pub background: bool,
    /// Whether segments are filled with zeros before they are written.
    pub filling: Filling,
}

impl OpenOptions {
    /// The defaults: segments of 64 MiB, the first of 256 KiB, nothing applied, with a thread.
    pub fn new(lineage: u64) -> Self {
        Self {
            lineage,
            applied_epoch: 0,
            base_epoch: 0,
            segment_bytes: 64 << 20,
            first_segment_bytes: 256 << 10,
            background: true,
            filling: Filling::UnlessLate,
        }
    }

    /// Has a log that is to stay below so many bytes consist of several segments: only whole ones are released.
    pub fn fit(&mut self, max_bytes: u64) {
        let share = max_bytes / 4 / record::SECTOR * record::SECTOR;
        self.segment_bytes = share.clamp(self.first_segment_bytes, self.segment_bytes);
    }

    fn check(&self) -> Result<(), LogError> {
        for bytes in [self.segment_bytes, self.first_segment_bytes] {
            if bytes == 0 || bytes % record::SECTOR != 0 {
                return Err(LogError::Options {
                    reason: "the length of a segment must be a multiple of 512 bytes, and not 0",
                });
            }
        }
        Ok(())
    }
}

/// An epoch as it is shown while the log is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its number.
    pub epoch: u64,
    /// The attempt that wrote it.
    pub attempt: u64,
    /// Its body.
    pub body: &'a [u8],
}

/// An opened log and what was found.
#[derive(Debug)]
pub struct Recovered {
    /// The log, ready for the epoch after `last_epoch`.
    pub log: EpochLog,
    /// The first epoch retained, if there is one.
    pub first_epoch: Option<u64>,
    /// The last durable epoch; the base epoch when there is none.
    pub last_epoch: u64,
    /// The number of this attempt.
    pub attempt: u64,
    /// Where a record was given up that had been written in part, as far as its header tells.
    pub torn: Option<Position>,
}
