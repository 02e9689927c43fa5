//! The manifest as one process sees it: reading it, taking it over, replacing it, and removing what nothing refers to any more.
//!
//! Whoever replaces it knows at that moment that nobody else has, which is what makes removing safe: an object is removed
//! only when it was dropped by a replacement that went well, or when it was listed before the manifest was found to be still
//! one's own. A process that has been overtaken removes nothing that the new one could need.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::checkpoint::bucket::{Bucket, Replaced, Version};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::manifest::{Descriptor, Entry, MANIFEST, Manifest, VERSION, Writer};
use crate::checkpoint::read;

/// Folders whose objects belong to checkpoints.
const FOLDERS: [&str; 3] = ["runs/", "tails/", "checkpoints/"];

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Ledger {
    bucket: Bucket,
    manifest: Manifest,
    version: Option<Version>,
    /// Who this process is, when it is the one that writes.
    token: Option<u64>,
    /// The names of the objects of each checkpoint, by that of its descriptor.
    objects: BTreeMap<String, Vec<String>>,
}

impl Ledger {
    /// Reads the manifest; none when there is none.
    pub(crate) async fn read(bucket: &Bucket) -> Result<Option<Self>, CheckpointError> {
        let Some((bytes, version)) = bucket.read_versioned(MANIFEST).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            bucket: bucket.clone(),
            manifest: parse(MANIFEST, &bytes)?,
            version: Some(version),
            token: None,
            objects: BTreeMap::new(),
        }))
    }

    /// Takes the manifest over, when `may` lets it; makes one when there is none. From then on every other writer is refused. `may` is asked
    /// again when somebody else was quicker; nobody was between its last answer and this.
    pub(crate) async fn take_over(
        bucket: &Bucket,
        writer: &Writer,
        may: impl AsyncFn(&Manifest) -> Result<(), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        loop {
            let mut ledger = if let Some(ledger) = Self::read(bucket).await? {
                ledger
            } else {
                // A store that overlooks conditions would let two writers go on.
                bucket.check_conditions().await?;
                Self::empty(bucket, writer)
            };
            may(&ledger.manifest).await?;
            let mut next = ledger.manifest.clone();
            next.writer = writer.clone();
            next.sequence += 1;
            if ledger.try_replace(next).await? {
                ledger.token = Some(writer.token);
                return Ok(ledger);
            }
        }
    }

    fn empty(bucket: &Bucket, writer: &Writer) -> Self {
        Self {
            bucket: bucket.clone(),
            manifest: Manifest {
                version: VERSION,
                writer: writer.clone(),
                sequence: 0,
                checkpoints: Vec::new(),
            },
            version: None,
            token: None,
            objects: BTreeMap::new(),
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Replaces the manifest by what `change` makes of it. When somebody else has changed it meanwhile without taking it over, that
    /// is taken in first, and `change` is asked again. It may then find that it has had its effect.
    pub(crate) async fn replace(
        &mut self,
        mut change: impl FnMut(&mut Manifest) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        loop {
            let mut next = self.manifest.clone();
            change(&mut next)?;
            next.sequence += 1;
            if self.try_replace(next).await? {
                return Ok(());
            }
            let newer =
                Self::read(&self.bucket)
                    .await?
                    .ok_or_else(|| CheckpointError::Damaged {
                        object: MANIFEST.to_owned(),
                        problem: "somebody has removed it".to_owned(),
                    })?;
            self.refuse_other(&newer.manifest)?;
            (self.manifest, self.version) = (newer.manifest, newer.version);
        }
    }

    fn refuse_other(&self, manifest: &Manifest) -> Result<(), CheckpointError> {
        match self.token {
            Some(token) if manifest.writer.token != token => Err(CheckpointError::Fenced {
                url: self.bucket.url().to_owned(),
                writer: Box::new(manifest.writer.clone()),
            }),
            _ => Ok(()),
        }
    }

    async fn try_replace(&mut self, next: Manifest) -> Result<bool, CheckpointError> {
        let bytes = Bytes::from(serde_json::to_vec_pretty(&next).unwrap_or_default());
        match self
            .bucket
            .replace(MANIFEST, bytes, self.version.as_ref())
            .await?
        {
            Replaced::Done(version) => {
                (self.manifest, self.version) = (next, Some(version));
                Ok(true)
            }
            // Whether ours was there for a moment the next look tells.
            Replaced::Conflict | Replaced::Overtaken => Ok(false),
        }
    }

    /// Removes the objects of checkpoints that the manifest no longer names, but did when `before` was it. Returns how many.
    pub(crate) async fn remove_dropped(
        &mut self,
        before: &Manifest,
    ) -> Result<usize, CheckpointError> {
        let kept: BTreeSet<String> = self
            .manifest
            .checkpoints
            .iter()
            .map(|entry| entry.object.clone())
            .collect();
        let dropped: Vec<Entry> = before
            .checkpoints
            .iter()
            .filter(|entry| !kept.contains(&entry.object))
            .cloned()
            .collect();
        if dropped.is_empty() {
            return Ok(0);
        }
        let live = self.live().await?;
        let mut gone = BTreeSet::new();
        for entry in &dropped {
            // What it consisted of is not known when its descriptor is damaged: then it stays.
            if let Ok(objects) = self.objects_of(entry).await {
                gone.extend(objects.iter().cloned());
                gone.insert(entry.object.clone());
            }
            self.objects.remove(&entry.object);
        }
        self.remove(gone.difference(&live)).await
    }

    /// Removes what lies there and no checkpoint refers to: what an interrupted upload has left. Nothing may be being uploaded.
    /// Returns how many objects there were.
    pub(crate) async fn sweep(&mut self) -> Result<usize, CheckpointError> {
        let mut found = BTreeSet::new();
        for folder in FOLDERS {
            found.extend(
                self.bucket
                    .list(folder)
                    .await?
                    .into_iter()
                    .map(|object| object.name),
            );
        }
        // What others have uploaded since they took over cannot be among them, unless they have.
        let now = Self::read(&self.bucket).await?;
        if let Some(now) = now {
            self.refuse_other(&now.manifest)?;
            (self.manifest, self.version) = (now.manifest, now.version);
        }
        let live = self.live().await?;
        self.remove(found.difference(&live)).await
    }

    pub(crate) async fn remove(
        &self,
        names: impl Iterator<Item = &String>,
    ) -> Result<usize, CheckpointError> {
        let mut removed = 0;
        for name in names {
            self.bucket.delete(name).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// The names of all objects that the manifest refers to.
    async fn live(&mut self) -> Result<BTreeSet<String>, CheckpointError> {
        let mut live = BTreeSet::new();
        for entry in self.manifest.checkpoints.clone() {
            live.insert(entry.object.clone());
            live.extend(self.objects_of(&entry).await?.iter().cloned());
        }
        Ok(live)
    }

    async fn objects_of(&mut self, entry: &Entry) -> Result<&[String], CheckpointError> {
        if !self.objects.contains_key(&entry.object) {
            let descriptor = self.descriptor(entry).await?;
            self.know(entry, &descriptor);
        }
        Ok(self.objects.get(&entry.object).map_or(&[], Vec::as_slice))
    }

    /// Takes note of what a checkpoint consists of.
    pub(crate) fn know(&mut self, entry: &Entry, descriptor: &Descriptor) {
        let objects = descriptor.objects().map(|(name, _)| name.to_owned());
        self.objects.insert(entry.object.clone(), objects.collect());
    }

    /// Reads the descriptor of a checkpoint.
    pub(crate) async fn descriptor(&self, entry: &Entry) -> Result<Descriptor, CheckpointError> {
        let object = (entry.object.as_str(), entry.checksum);
        let bytes = read::object(&self.bucket, object, (&entry.id, "the manifest")).await?;
        parse(&entry.object, &bytes)
    }

    /// The entry of a checkpoint.
    pub(crate) fn find(&self, wanted: &str) -> Result<&Entry, CheckpointError> {
        self.manifest.find(wanted).ok_or_else(|| {
            let called = |entry: &Entry| entry.name.clone().unwrap_or_else(|| entry.id.clone());
            CheckpointError::Unknown {
                url: self.bucket.url().to_owned(),
                wanted: wanted.to_owned(),
                known: self.manifest.checkpoints.iter().rev().map(called).collect(),
            }
        })
    }
}

/// Reads an object of JSON that states its version.
fn parse<T: serde::de::DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u64,
    }
    let damaged = |error: serde_json::Error| CheckpointError::Damaged {
        object: object.to_owned(),
        problem: error.to_string(),
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != u64::from(VERSION) {
        return Err(CheckpointError::Version {
            object: object.to_owned(),
            version,
        });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}
