//! Reading parts that are elsewhere: the next window is asked for while the last one is used.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;

use super::error::ReadFailure;
use crate::disk::{Disk, OpenMode};

/// Where the parts of runs are read from.
pub trait Fetch: Send + Sync {
    /// Begins to read bytes of a part. It does not wait where others are waited for.
    fn fetch(&self, name: &str, range: Range<u64>) -> Pending;
}

/// Bytes that are on their way, or are here.
#[derive(Debug)]
pub struct Pending(Inner);

#[derive(Debug)]
enum Inner {
    Here(Result<Bytes, ReadFailure>),
    Coming(Receiver<Result<Bytes, ReadFailure>>),
}

/// What the bytes are given to when they have come. Dropped without, they count as lost.
#[derive(Debug)]
pub struct Arrival(SyncSender<Result<Bytes, ReadFailure>>);

impl Arrival {
    /// Gives the bytes, or why there are none. Never waits; nothing when nobody wants them any more.
    pub fn give(self, outcome: Result<Bytes, ReadFailure>) {
        // The channel has room for the only one.
        let _ = self.0.try_send(outcome);
    }
}

impl Pending {
    /// Bytes that are here.
    pub fn here(outcome: Result<Bytes, ReadFailure>) -> Self {
        Self(Inner::Here(outcome))
    }

    /// Bytes that will come from another thread or task.
    pub fn coming() -> (Arrival, Self) {
        let (sender, receiver) = sync_channel(1);
        (Arrival(sender), Self(Inner::Coming(receiver)))
    }

    /// Waits for the bytes.
    ///
    /// # Errors
    /// What the reading failed with.
    pub fn wait(self) -> Result<Bytes, ReadFailure> {
        match self.0 {
            Inner::Here(outcome) => outcome,
            Inner::Coming(receiver) => receiver
                .recv()
                .unwrap_or_else(|_| Err("whoever was reading it has ended".into())),
        }
    }
}

/// Parts in memory, by name.
impl Fetch for BTreeMap<String, Bytes> {
    fn fetch(&self, name: &str, range: Range<u64>) -> Pending {
        Pending::here(match self.get(name) {
            None => Err("there is no such object".into()),
            Some(bytes) if range.start > range.end || range.end > bytes.len() as u64 => {
                Err("it ends before".into())
            }
            Some(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
        })
    }
}

/// Parts that are files of a directory.
#[derive(Debug, Clone)]
pub struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

impl Files {
    /// The files of a directory.
    pub fn new(disk: Arc<dyn Disk>, directory: impl Into<PathBuf>) -> Self {
        Self {
            disk,
            directory: directory.into(),
        }
    }
}

impl Fetch for Files {
    fn fetch(&self, name: &str, range: Range<u64>) -> Pending {
        let read = || {
            let file = self.disk.open(&self.directory.join(name), OpenMode::Read)?;
            // Also keeps a wrong length from taking memory.
            if range.start > range.end || range.end > file.len()? {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(Bytes::from(bytes))
        };
        Pending::here(read().map_err(|error: std::io::Error| error.into()))
    }
}
