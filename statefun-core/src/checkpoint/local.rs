//! What a data directory knows of its checkpoints: where it comes from, and which starts of the process were its own.
//! `checkpoints.json`, replaced as a whole.
//!
//! A copy of a data directory has the same lineage and goes its own way. A checkpoint is one to go on from only when one of
//! this directory's starts has made it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::manifest::{Entry, hex64};
use crate::disk::{Disk, whole};

const FILE: &str = "checkpoints.json";
/// Starts that are remembered.
const STARTS: usize = 256;

/// See the module's page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Local {
    /// The checkpoint that the directory was restored from.
    pub(crate) origin: Option<Origin>,
    starts: Vec<Start>,
}

/// A checkpoint that a data directory was restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Origin {
    /// Where it was.
    pub(crate) url: String,
    /// Its id.
    pub(crate) checkpoint: String,
    /// Its descriptor.
    pub(crate) object: String,
    /// Its history, which the directory's own goes on from.
    #[serde(with = "hex64")]
    pub(crate) lineage: u64,
    /// Its epoch.
    pub(crate) epoch: u64,
    /// Through which epoch each egress had accepted, in the directory's own history: whoever has accepted no more since may not
    /// find what it had written.
    #[serde(default)]
    pub(crate) accepted: BTreeMap<String, u64>,
    /// Whether the directory is a copy: whoever wrote the checkpoint goes on, and is not to be made to stop by it.
    #[serde(default)]
    pub(crate) copy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Start(#[serde(with = "hex64")] u64);

impl Local {
    /// Of a directory that was just restored.
    pub(crate) fn restored(origin: Origin) -> Self {
        Self {
            origin: Some(origin),
            starts: Vec::new(),
        }
    }

    /// Reads the file; what a directory without it knows is nothing.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(FILE);
        let read = whole::read(disk, &path).map_err(|source| CheckpointError::Io {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        let Some(bytes) = read else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| CheckpointError::Damaged {
            object: path.display().to_string(),
            problem: error.to_string(),
        })
    }

    /// Writes the file; it is durable when this returns.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), CheckpointError> {
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        whole::replace(disk, directory, FILE, &bytes).map_err(|source| CheckpointError::Io {
            operation: "write",
            path: directory.join(FILE),
            source,
        })
    }

    /// Takes note of a start. It must be durable before that start writes anything elsewhere.
    pub(crate) fn begin(&mut self, token: u64) {
        self.starts.push(Start(token));
        let older = self.starts.len().saturating_sub(STARTS);
        self.starts.drain(..older);
    }

    /// Whether a start of this directory has that token.
    pub(crate) fn made(&self, token: u64) -> bool {
        self.starts.contains(&Start(token))
    }

    /// Whether the directory may go on from a checkpoint: it made it, or was restored from it.
    pub(crate) fn goes_on_from(&self, entry: &Entry) -> bool {
        self.made(entry.start)
            || self
                .origin
                .as_ref()
                .is_some_and(|origin| origin.object == entry.object)
    }
}
