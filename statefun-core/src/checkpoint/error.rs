//! What can go wrong with checkpoints.

use std::path::PathBuf;

use thiserror::Error;

use crate::catalog::CatalogError;
use crate::checkpoint::bucket::BucketError;
use crate::checkpoint::changes::ChangeError;
use crate::checkpoint::manifest::Writer;
use crate::checkpoint::run::RunError;
use crate::log::LogError;
use crate::state::StateError;

/// A checkpoint could not be made, read, restored or removed.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The blob store.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// An object with rows.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The files that tell what has changed.
    #[error(transparent)]
    Changes(#[from] ChangeError),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The epoch log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The catalog of a data directory.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A file of the data directory.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An object is not what was written.
    #[error("the object `{object}` is damaged: {problem}")]
    Damaged {
        /// Its name under the checkpoint URL.
        object: String,
        /// What does not fit.
        problem: String,
    },
    /// An object that a checkpoint needs is not there.
    #[error("the object `{object}` is missing, and checkpoint {checkpoint} needs it")]
    Missing {
        /// Its name under the checkpoint URL.
        object: String,
        /// Whose it is.
        checkpoint: String,
    },
    /// A manifest or a descriptor of another version.
    #[error(
        "`{object}` has version {version}, and this program reads {}: use the version that wrote it",
        super::manifest::VERSION
    )]
    Version {
        /// Its name under the checkpoint URL.
        object: String,
        /// The version that it has.
        version: u64,
    },
    /// Another process writes there now.
    #[error(
        "another process has taken over the checkpoints at {url}: start {} of lineage {:016x} on `{}`. This one stops, since only one \
         may go on. If it is this one that should, stop the other, and start this one again; where the other was a restore, start with \
         `--restore latest` on an empty data directory instead",
        writer.attempt, writer.lineage, writer.host
    )]
    Fenced {
        /// Where.
        url: String,
        /// Who it is.
        writer: Box<Writer>,
    },
    /// Another process has gone on from the same history.
    #[error(
        "nothing behind epoch {after_epoch} is complete: another process has gone on from this history at {url} (start {attempt}, see \
         {object}). This one stops, since only one may go on; nothing of what is not complete was let out"
    )]
    Superseded {
        /// Where.
        url: String,
        /// The last epoch that is.
        after_epoch: u64,
        /// The object in its place.
        object: String,
        /// The start that has put it there.
        attempt: u64,
    },
    /// The data directory has nothing to do with what is there.
    #[error(
        "{url} holds the checkpoints of another history (lineage {lineage:016x}, {checkpoints} checkpoints), which {} does not go on from: \
         start with `--restore latest` on an empty data directory to go on from them, or name another `checkpoint.url`",
        directory.display()
    )]
    Foreign {
        /// Where.
        url: String,
        /// Whose checkpoints are there.
        lineage: u64,
        /// How many.
        checkpoints: usize,
        /// The data directory.
        directory: PathBuf,
    },
    /// The data directory is a copy, and another process goes on from the same history.
    #[error(
        "{} is a copy of checkpoint {checkpoint} at {url}, whose application goes on there: give the copy another `checkpoint.url`, or none; \
         to go on in that application's place, start with `--restore {checkpoint}` on an empty data directory",
        directory.display()
    )]
    Copy {
        /// Where.
        url: String,
        /// What it is a copy of.
        checkpoint: String,
        /// The data directory.
        directory: PathBuf,
    },
    /// The blob store knows more of this history than the data directory.
    #[error(
        "{url} holds epoch {stored} of this data directory's history, and {} ends with epoch {local}: it is an old copy. Remove it, and start \
         with `--restore latest`",
        directory.display()
    )]
    Behind {
        /// Where.
        url: String,
        /// The last epoch there.
        stored: u64,
        /// The last epoch here.
        local: u64,
        /// The data directory.
        directory: PathBuf,
    },
    /// There is no such checkpoint.
    #[error("there is no checkpoint `{wanted}` at {url}: {}", listed(known))]
    Unknown {
        /// Where.
        url: String,
        /// What was asked for.
        wanted: String,
        /// What there is, newest first.
        known: Vec<String>,
    },
    /// The data directory is not empty.
    #[error("{} holds state already, which a restore would replace: choose an empty directory, or {mend}", directory.display())]
    Occupied {
        /// The data directory.
        directory: PathBuf,
        /// How to go on all the same.
        mend: &'static str,
    },
    /// The name of a checkpoint is taken.
    #[error(
        "a checkpoint `{0}` is there already: remove it first (`statefun checkpoint rm {0}`), or choose another name"
    )]
    NameTaken(String),
    /// It cannot be removed.
    #[error(
        "checkpoint {0} is the newest, and the next one builds on it: it can be removed once there is another one"
    )]
    Newest(String),
    /// The record of an epoch in the log is malformed, or missing.
    #[error("the record of epoch {0} is malformed")]
    Record(u64),
    /// The compressor failed.
    #[error("cannot compress: {0}")]
    Compression(String),
    /// There is nothing to keep.
    #[error("nothing has happened yet that a checkpoint could keep")]
    Empty,
    /// An upload or a download ended by itself.
    #[error("a transfer ended by itself: {0}")]
    Upload(String),
    /// The process stops.
    #[error("the application is stopping")]
    Stopped,
    /// What it was to go on from has changed meanwhile; the next attempt begins anew.
    #[error("{0}; it is tried again")]
    Overtaken(&'static str),
}

fn listed(known: &[String]) -> String {
    if known.is_empty() {
        "there is none".to_owned()
    } else {
        let shown: Vec<&str> = known.iter().take(10).map(String::as_str).collect();
        let more = if known.len() > shown.len() {
            ", …"
        } else {
            ""
        };
        format!("there are {}{more}", shown.join(", "))
    }
}

impl CheckpointError {
    /// Whether the application must not go on: another process does, or the data directory has no right to what is there.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Fenced { .. }
                | Self::Foreign { .. }
                | Self::Copy { .. }
                | Self::Behind { .. }
                | Self::Superseded { .. }
        )
    }

    /// Whether the same may go well later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Bucket(error) => error.is_transient(),
            Self::Overtaken(_) => true,
            _ => false,
        }
    }
}
