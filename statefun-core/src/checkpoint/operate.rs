//! What an operator does with checkpoints, with or without a running application.

use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::manifest::{Descriptor, Entry, Manifest};
use crate::checkpoint::verify::{Verified, Verifier};

/// What there is; none when nothing has ever been written there.
pub async fn manifest(bucket: &Bucket) -> Result<Option<Manifest>, CheckpointError> {
    let ledger = Ledger::read(bucket).await?;
    Ok(ledger.map(|ledger| ledger.manifest().clone()))
}

async fn opened(bucket: &Bucket, wanted: &str) -> Result<Ledger, CheckpointError> {
    Ledger::read(bucket)
        .await?
        .ok_or_else(|| CheckpointError::Unknown {
            url: bucket.url().to_owned(),
            wanted: wanted.to_owned(),
            known: Vec::new(),
        })
}

/// All there is to know of a checkpoint, by its id, its name, or `latest`.
pub async fn describe(
    bucket: &Bucket,
    wanted: &str,
) -> Result<(Entry, Descriptor), CheckpointError> {
    let ledger = opened(bucket, wanted).await?;
    let entry = ledger.find(wanted)?.clone();
    let descriptor = ledger.descriptor(&entry).await?;
    Ok((entry, descriptor))
}

/// Reads every object of a checkpoint, or of all, and compares it with what is known of it; `tell` hears how much has been read.
///
/// # Errors
/// When the blob store cannot be read, or there is no such checkpoint. What is wrong with the objects is part of the result.
pub async fn verify(
    bucket: &Bucket,
    wanted: Option<&str>,
    mut tell: impl FnMut(&Verified),
) -> Result<Verified, CheckpointError> {
    let ledger = opened(bucket, wanted.unwrap_or("latest")).await?;
    let entries = match wanted {
        Some(wanted) => vec![ledger.find(wanted)?.clone()],
        None => ledger.manifest().checkpoints.clone(),
    };
    let mut verifier = Verifier::new(bucket, &ledger);
    for entry in &entries {
        verifier.check(entry, &mut tell).await?;
    }
    Ok(verifier.end())
}

/// Removes a checkpoint, by its id or its name, and the objects that no other one needs. The newest one only loses its name: the
/// next one builds on it. Returns what it was, and how many objects were removed.
///
/// # Errors
/// When there is no such checkpoint, it is the newest and has no name, or the blob store fails.
pub async fn remove(bucket: &Bucket, wanted: &str) -> Result<(Entry, usize), CheckpointError> {
    let mut ledger = opened(bucket, wanted).await?;
    let before = ledger.manifest().clone();
    let entry = ledger.find(wanted)?.clone();
    let newest = before.latest().map(|newest| newest.object.clone());
    let (object, name) = (entry.object.clone(), entry.name.clone());
    ledger
        .replace(|manifest| {
            if newest.as_ref() != Some(&object) {
                manifest
                    .checkpoints
                    .retain(|known| known.object != object || known.name != name);
                return Ok(());
            }
            let known = manifest
                .checkpoints
                .iter_mut()
                .find(|known| known.object == object && known.name == name);
            match known {
                Some(known) if known.name.is_some() => known.name = None,
                Some(known) => return Err(CheckpointError::Newest(known.id.clone())),
                None => {}
            }
            Ok(())
        })
        .await?;
    let removed = ledger.remove_dropped(&before).await?;
    Ok((entry, removed))
}
