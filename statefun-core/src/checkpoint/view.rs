//! The rows of a checkpoint where they are, for whoever looks at state without restoring it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::catalog::Catalog;
use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::manifest::{Descriptor, Entry};
use crate::checkpoint::operate;
use crate::checkpoint::read::{self, Remote};
use crate::checkpoint::run::{Fetch, Merge, Rows, RunError};
use crate::clock::Timestamp;
use crate::engine::cut::{EpochPart, body_slices, encode_head};
use crate::state::{Row, StateError, StateReader};

/// A checkpoint that is read without being restored. Its methods block: they are not for threads of the asynchronous runtime.
pub struct CheckpointView {
    entry: Entry,
    descriptor: Descriptor,
    source: Arc<dyn Fetch>,
    bucket: Bucket,
    runtime: Handle,
    /// What the last scan has not read to its end; the next one most often goes on there.
    open: Mutex<Option<Open>>,
}

struct Open {
    /// Where it goes on.
    next: Vec<u8>,
    end: Vec<u8>,
    rows: Merge<Box<dyn Rows + Send>>,
}

impl std::fmt::Debug for CheckpointView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointView")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}

impl CheckpointView {
    /// Opens a checkpoint by its id, its name, or `latest`.
    ///
    /// # Errors
    /// When there is no such checkpoint, or the blob store fails.
    pub fn open(bucket: &Bucket, runtime: &Handle, wanted: &str) -> Result<Self, CheckpointError> {
        let (entry, descriptor) = runtime.block_on(operate::describe(bucket, wanted))?;
        Ok(Self {
            entry,
            descriptor,
            source: Remote::source(bucket, runtime),
            bucket: bucket.clone(),
            runtime: runtime.clone(),
            open: Mutex::default(),
        })
    }

    /// What the manifest says of it.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The last epoch whose changes are in it.
    pub fn epoch(&self) -> u64 {
        self.descriptor.epoch
    }

    /// The catalog of its application.
    pub fn catalog(&self) -> &Catalog {
        &self.descriptor.catalog
    }

    /// The body of a record that has what was under way, as the last one of a log does.
    ///
    /// # Errors
    /// When its object cannot be read.
    pub fn last_record(&self) -> Result<Vec<u8>, CheckpointError> {
        let carried = read::carried(&self.bucket, &self.descriptor);
        let carried = self.runtime.block_on(carried)?;
        let part = EpochPart {
            carried,
            ..EpochPart::default()
        };
        let (mut head, parts) = (Vec::new(), [part]);
        encode_head(&mut head, Timestamp(self.descriptor.time_ms), &[], &parts);
        Ok(body_slices(&head, &parts).concat())
    }

    fn rows(&self, start: &[u8], end: &[u8]) -> Result<Merge<Box<dyn Rows + Send>>, StateError> {
        read::rows(&self.source, &self.descriptor, (start, end)).map_err(|error| failed(&error))
    }
}

fn failed(error: &RunError) -> StateError {
    StateError::Store(error.to_string())
}

impl StateReader for CheckpointView {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let mut rows = self.rows(key, &[key, &[0]].concat())?;
        let found = rows.advance().map_err(|error| failed(&error))?;
        Ok(found.then(|| rows.value().unwrap_or_default().to_vec()))
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
        let mut found = Vec::new();
        if limit == 0 || !end.is_empty() && start >= end {
            return Ok(found);
        }
        let mut kept = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = match kept.take() {
            Some(open) if open.next == start && open.end == end => open.rows,
            _ => self.rows(start, end)?,
        };
        while rows.advance().map_err(|error| failed(&error))? {
            found.push((
                rows.key().to_vec(),
                rows.value().unwrap_or_default().to_vec(),
            ));
            if found.len() == limit {
                *kept = Some(Open {
                    next: [rows.key(), &[0]].concat(),
                    end: end.to_vec(),
                    rows,
                });
                break;
            }
        }
        Ok(found)
    }
}
