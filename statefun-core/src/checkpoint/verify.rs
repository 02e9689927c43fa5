//! Verifying: every object of a checkpoint is read and compared with what is known of it.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::manifest::{Descriptor, Entry, Part};
use crate::checkpoint::read;
use crate::checkpoint::run::{InMemory, PartReader, Rows as _};
use crate::checkpoint::tail::unpacked;

/// What verifying has found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows in them, older ones and deletes included.
    pub rows: u64,
    /// What is wrong: the checkpoint, and why it cannot be restored.
    pub problems: Vec<(String, CheckpointError)>,
}

/// Reads and checks checkpoints.
#[derive(Debug)]
pub struct Verifier<'a> {
    bucket: &'a Bucket,
    ledger: &'a Ledger,
    found: Verified,
    /// Checkpoints share objects; each is read once.
    good: BTreeSet<String>,
}

impl<'a> Verifier<'a> {
    pub(crate) fn new(bucket: &'a Bucket, ledger: &'a Ledger) -> Self {
        Self {
            bucket,
            ledger,
            found: Verified::default(),
            good: BTreeSet::new(),
        }
    }

    /// Reads and checks all objects of a checkpoint; `tell` hears how much has been read.
    ///
    /// # Errors
    /// When the blob store cannot be read. What is wrong with the checkpoint is part of the result.
    pub(crate) async fn check(
        &mut self,
        entry: &Entry,
        tell: &mut impl FnMut(&Verified),
    ) -> Result<(), CheckpointError> {
        let descriptor = match self.ledger.descriptor(entry).await {
            Ok(descriptor) => descriptor,
            Err(error) => return self.wrong(entry, error),
        };
        if let Err(error) = covers_all(&descriptor, &entry.object) {
            self.wrong(entry, error)?;
        }
        let parts = descriptor.bases.iter().flat_map(|base| &base.parts);
        for part in parts.chain(descriptor.deltas.iter().flat_map(|delta| &delta.parts)) {
            self.object(entry, &part.object, part.summary.checksum, |bytes| {
                check_part(part, bytes)
            })
            .await?;
            tell(&self.found);
        }
        let egress = descriptor.tail.egress.iter().map(|egress| &egress.object);
        for object in descriptor.tail.carried.iter().chain(egress) {
            let name = &object.object;
            self.object(entry, name, object.checksum, |bytes| {
                unpacked(name, &bytes).map(|_| 0)
            })
            .await?;
            tell(&self.found);
        }
        Ok(())
    }

    async fn object(
        &mut self,
        entry: &Entry,
        name: &str,
        checksum: u64,
        look: impl FnOnce(Bytes) -> Result<u64, CheckpointError>,
    ) -> Result<(), CheckpointError> {
        if self.good.contains(name) {
            return Ok(());
        }
        let Some(bytes) = self.bucket.get(name).await? else {
            return self.wrong(
                entry,
                CheckpointError::Missing {
                    object: name.to_owned(),
                    checkpoint: entry.id.clone(),
                },
            );
        };
        self.found.objects += 1;
        self.found.bytes += bytes.len() as u64;
        let told_by = format!("checkpoint {}", entry.id);
        let whole = read::check(name, &bytes, checksum, &told_by);
        // What is inside tells better what is wrong.
        let looked = look(bytes).and_then(|rows| whole.map(|()| rows));
        match looked {
            Ok(rows) => {
                self.found.rows += rows;
                self.good.insert(name.to_owned());
                Ok(())
            }
            Err(error) => self.wrong(entry, error),
        }
    }

    fn wrong(&mut self, entry: &Entry, error: CheckpointError) -> Result<(), CheckpointError> {
        match error {
            CheckpointError::Bucket(error) => Err(error.into()),
            error => {
                self.found.problems.push((entry.id.clone(), error));
                Ok(())
            }
        }
    }

    /// What was found.
    pub(crate) fn end(self) -> Verified {
        self.found
    }
}

/// Reads all rows of a part; returns how many there are.
fn check_part(part: &Part, bytes: Bytes) -> Result<u64, CheckpointError> {
    let reader = PartReader::open(InMemory::new(part.object.as_str(), bytes))?;
    let mut rows = reader.rows(&[], &[]);
    let mut count = 0;
    while rows.advance()? {
        count += 1;
    }
    if count != part.summary.rows {
        return Err(CheckpointError::Damaged {
            object: part.object.clone(),
            problem: format!(
                "it has {count} rows, and the checkpoint says {}",
                part.summary.rows
            ),
        });
    }
    Ok(count)
}

/// Whether each key group has its base, once.
fn covers_all(descriptor: &Descriptor, object: &str) -> Result<(), CheckpointError> {
    let mut next = 0u32;
    for base in &descriptor.bases {
        if u32::from(base.first_group) != next || base.last_group < base.first_group {
            break;
        }
        next = u32::from(base.last_group) + 1;
    }
    if next == u32::from(descriptor.key_groups.count()) {
        return Ok(());
    }
    Err(CheckpointError::Damaged {
        object: object.to_owned(),
        problem: format!(
            "its bases do not cover each of the {} key groups once: see key group {next}",
            descriptor.key_groups.count()
        ),
    })
}
