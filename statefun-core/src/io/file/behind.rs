//! How far the records that were taken in are behind the end of a file.

use std::sync::{Arc, Mutex, PoisonError};

use super::mark::Position;
use crate::disk::DiskFile;
use crate::metrics::Lag;

/// The file that is being read, for who measures.
#[derive(Clone, Default)]
pub(super) struct Behind(Arc<Mutex<Option<Read>>>);

struct Read {
    file: Arc<dyn DiskFile>,
    inode: u64,
    /// Where reading began.
    from: u64,
}

impl Behind {
    /// A file is read from there on.
    pub(super) fn reads(&self, file: Arc<dyn DiskFile>, inode: u64, from: u64) {
        let read = Read { file, inode, from };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
    }

    /// What the file has behind the position of the last record that was taken in. What lies in rotated files before it does
    /// not count, nor what cannot be looked at.
    pub(super) fn lag(&self, taken: Option<&[u8]>) -> Option<Lag> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.as_ref()?;
        let taken: Option<Position> = taken.and_then(|taken| serde_json::from_slice(taken).ok());
        let from = taken
            .filter(|taken| taken.inode == read.inode)
            .map_or(read.from, |taken| taken.offset);
        Some(Lag::Bytes(read.file.len().ok()?.saturating_sub(from)))
    }
}
