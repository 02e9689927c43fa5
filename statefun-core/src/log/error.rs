//! What can go wrong with the log, in words for the operator.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the epoch log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// An operation on a file failed, and nothing else is known to be wrong.
    #[error("cannot {operation} {}: {source}; check the device and the permissions, then start again", path.display())]
    Io {
        /// What was attempted, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process, or another log in this process, has the directory open.
    #[error(
        "the log in {} is in use by another process; stop that process, or give this one a data directory of its own",
        dir.display()
    )]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The directory holds the log of another lineage.
    #[error(
        "{} belongs to lineage {found:016x}, but lineage {expected:016x} was to be opened; \
         give the data directory that belongs to this log, or move the log away to begin a new one",
        path.display()
    )]
    Lineage {
        /// The file that tells.
        path: PathBuf,
        /// The lineage asked for.
        expected: u64,
        /// The lineage found.
        found: u64,
    },
    /// A record was written by a version of the program that this one does not understand.
    #[error(
        "{} has a record of format version {found} at byte {offset}, and this program reads version {supported}; \
         run the version that wrote it, or a newer one",
        path.display()
    )]
    Version {
        /// The segment's file.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u64,
        /// Its version.
        found: u16,
        /// The version this program writes.
        supported: u16,
    },
    /// The log is damaged in a way that a crash does not explain.
    #[error(
        "{} is damaged at byte {offset}: expected {expected}, found {found}; nothing was changed: copy the data directory \
         away, check the device, and restore from a checkpoint or a copy",
        path.display()
    )]
    Corrupt {
        /// The segment's file.
        path: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What had to be there.
        expected: String,
        /// What was there, and how it is known not to be the end of the log.
        found: String,
    },
    /// A segment between others is missing.
    #[error(
        "the log's segment {} is missing, although there are older and newer ones; put it back, \
         or restore from a checkpoint or a copy",
        path.display()
    )]
    MissingSegment {
        /// Where it should be.
        path: PathBuf,
    },
    /// The log begins after epochs that the state does not contain.
    #[error(
        "{} begins with epoch {first_epoch}, but the state contains epochs up to {applied_epoch} only: those between are \
         lost; put the older segments or the newer state back, or restore from a checkpoint",
        path.display()
    )]
    MissingEpochs {
        /// The oldest segment's file.
        path: PathBuf,
        /// The first epoch that the log can give.
        first_epoch: u64,
        /// The newest epoch that the state contains.
        applied_epoch: u64,
    },
    /// The state contains epochs that the log does not: the log has lost its end.
    #[error(
        "the state contains epochs up to {applied_epoch}, but the log ends with epoch {last_epoch} at byte {offset} of {}: \
         its end is lost; put the log's files back, or restore from a checkpoint or a copy",
        path.display()
    )]
    MarkerAhead {
        /// The newest segment's file, or the directory when there is none.
        path: PathBuf,
        /// Where the log ends, in bytes.
        offset: u64,
        /// The last epoch found.
        last_epoch: u64,
        /// The newest epoch that the state contains.
        applied_epoch: u64,
    },
    /// An epoch was appended out of order. Nothing was written.
    #[error("epoch {found} cannot follow epoch {} in the log; epochs are appended one by one", .expected - 1)]
    WrongEpoch {
        /// The epoch that is next.
        expected: u64,
        /// The epoch given.
        found: u64,
    },
    /// The disk is full. Nothing was lost: the same call can be made again when there is space.
    #[error(
        "no space is left to write {}: {source}; free some space, work goes on by itself afterwards",
        path.display()
    )]
    NoSpace {
        /// The file that could not be written.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// An earlier write or sync failed, so that nothing more can be promised.
    #[error(
        "the log takes no more epochs since it could not {cause}; check the device, then start again"
    )]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// An epoch was asked for that is no longer in the log.
    #[error("epoch {epoch} is no longer in the log{}", first_words(*.first))]
    Released {
        /// The epoch asked for.
        epoch: u64,
        /// The first one that the log has.
        first: Option<u64>,
    },
    /// Whoever was given the records at opening refused one.
    #[error("epoch {epoch} of the log cannot be used: {source}")]
    Visitor {
        /// The record's epoch.
        epoch: u64,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The options make no sense.
    #[error("the options of the log are wrong: {reason}")]
    Options {
        /// What is wrong and what would be right.
        reason: &'static str,
    },
}

fn first_words(first: Option<u64>) -> String {
    first.map_or_else(String::new, |first| {
        format!(", which begins with epoch {first}")
    })
}

impl LogError {
    /// For `map_err`: an error of the operating system with what was attempted, and where.
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

/// A change to files that failed: what was attempted, where, and why.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) operation: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

impl Failure {
    /// For `map_err`.
    pub(super) fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// How the poison tells of it.
    pub(super) fn cause(&self) -> String {
        format!(
            "{} {}: {}",
            self.operation,
            self.path.display(),
            self.source
        )
    }
}
