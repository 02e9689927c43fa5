//! Making a checkpoint: from a snapshot of the state store and the tail of the epoch log to objects in the bucket.
//!
//! Nothing refers to the objects until the manifest does, so that one that was begun and not finished has no effect.

use std::collections::BTreeSet;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::Catalog;
use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::changes::{ChangeFile, ChangeLog};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::lookup::Lookup;
use crate::checkpoint::manifest::{
    Base, Delta, Descriptor, Egress, Entry, Object, Part, Sink, SourcePosition, Tail, VERSION,
};
use crate::checkpoint::plan::{self, Credit, Groups};
use crate::checkpoint::run::{Rows, RunWriter};
use crate::checkpoint::tail::{Cut, Output, packed, read_cut, read_output};
use crate::checkpoint::uploads::{Uploads, Waiting};
use crate::clock::Timestamp;
use crate::log::{LogReader, Retention};
use crate::state::keys::{Space, parse_address_key, take_escaped};
use crate::state::{StateSnapshot, StateStore};

/// Bytes of a part, compressed; a few are in memory at a time.
pub(crate) const PART_BYTES: usize = 16 << 20;
/// Bytes of output that are read while nothing of the log may be released. More there is only when a sink lags, and then it is
/// not released anyway.
const HELD_BYTES: usize = 64 << 20;
/// Positions of sources that a descriptor shows.
const SHOWN_SOURCES: usize = 1_000;

/// What a checkpoint is made of, and where it goes.
pub(crate) struct Site<'a> {
    pub(crate) bucket: &'a Bucket,
    pub(crate) waiting: &'a Waiting,
    pub(crate) store: &'a dyn StateStore,
    pub(crate) log: &'a LogReader,
    pub(crate) retention: &'a Retention,
    pub(crate) changes: &'a ChangeLog,
    pub(crate) catalog: &'a Catalog,
    /// What the names of all objects of this start begin with, and how many there are.
    pub(crate) prefix: String,
    pub(crate) number: u64,
    pub(crate) lineage: u64,
    pub(crate) attempt: u64,
    /// The token of this start.
    pub(crate) start: u64,
    /// Objects that were uploaded for nothing.
    pub(crate) superfluous: Vec<String>,
}

/// A checkpoint that lies in the bucket, and that the manifest does not name yet.
pub(crate) struct Made {
    pub(crate) descriptor: Descriptor,
    pub(crate) entry: Entry,
    /// The files whose changes are in it.
    pub(crate) contained: Vec<ChangeFile>,
    /// Objects that were uploaded for nothing.
    pub(crate) superfluous: Vec<String>,
}

impl Site<'_> {
    /// Makes a checkpoint that goes on from another one, or a full one. None when nothing has changed since, or unless it may be empty,
    /// when there is nothing yet.
    pub(crate) fn make(
        &mut self,
        previous: Option<&Descriptor>,
        may_be_empty: bool,
        credit: &mut Credit,
        now: Timestamp,
    ) -> Result<Option<Made>, CheckpointError> {
        let mut held = Some(self.retention.hold());
        let snapshot = self.store.snapshot()?;
        let epoch = snapshot.applied_epoch()?;
        if epoch == 0 && !may_be_empty || previous.is_some_and(|previous| previous.epoch == epoch) {
            return Ok(None);
        }
        let cut = if epoch == 0 {
            Cut {
                time: now,
                sinks: Vec::new(),
                carried: Vec::new(),
            }
        } else {
            read_cut(self.log, epoch)?
        };
        let (bucket, waiting) = (self.bucket, self.waiting);
        let mut uploads = Uploads::new(bucket, waiting);
        let mut kept: Vec<Egress> = Vec::new();
        let accepted = cut.sinks.iter().map(|sink| sink.through_epoch).min();
        let first = self
            .retention
            .first_epoch()
            .unwrap_or(epoch)
            .saturating_sub(1);
        let mut after = accepted.unwrap_or(0).max(first).min(epoch);
        if let Some(previous) = previous {
            kept.extend(
                previous
                    .tail
                    .egress
                    .iter()
                    .filter(|egress| egress.epoch > after)
                    .cloned(),
            );
            after = after.max(previous.epoch);
        }
        let mut waits: Vec<Output> = Vec::new();
        let mut bytes = 0;
        read_output(self.log, &cut.sinks, (after, epoch), |output| {
            bytes += output.bytes.len();
            waits.push(output);
            if bytes >= HELD_BYTES {
                held = None;
                for output in waits.drain(..) {
                    kept.push(self.put_output(&mut uploads, &output)?);
                }
            }
            Ok(())
        })?;
        drop(held);
        for output in waits {
            kept.push(self.put_output(&mut uploads, &output)?);
        }
        let files = self.changes.files();
        let (bases, deltas) = match previous {
            Some(previous)
                if self.changes.covers(previous.epoch, epoch)
                    && !self.most_has_changed(previous, &changed_before(&files, epoch))? =>
            {
                self.put_changes(&mut uploads, &*snapshot, (previous, epoch), &files, credit)?
            }
            _ => (
                self.put_everything(&mut uploads, &*snapshot, epoch)?,
                Vec::new(),
            ),
        };
        let tail = self.put_tail(&mut uploads, &cut, kept)?;
        let descriptor = Descriptor {
            version: VERSION,
            id: Descriptor::id(self.lineage, epoch),
            lineage: self.lineage,
            attempt: self.attempt,
            epoch,
            time_ms: cut.time.as_ms(),
            created_ms: now.as_ms(),
            key_groups: self.catalog.key_groups,
            bases,
            deltas,
            tail,
            sources: sources(&*snapshot)?,
            catalog: self.catalog.clone(),
        };
        let json = Bytes::from(serde_json::to_vec(&descriptor).unwrap_or_default());
        let mut entry = Entry {
            id: descriptor.id.clone(),
            name: None,
            lineage: self.lineage,
            start: self.start,
            epoch,
            created_ms: descriptor.created_ms,
            object: self.name("checkpoints", "json"),
            checksum: xxh3_64(&json),
            bytes: descriptor.objects().map(|(_, bytes)| bytes).sum::<u64>() + json.len() as u64,
            uploaded_bytes: 0,
        };
        uploads.put(entry.object.clone(), json)?;
        entry.uploaded_bytes = uploads.finish()?;
        let contained = files.into_iter().filter(|file| file.to <= epoch).collect();
        Ok(Some(Made {
            descriptor,
            entry,
            contained,
            superfluous: std::mem::take(&mut self.superfluous),
        }))
    }

    fn name(&mut self, folder: &str, ending: &str) -> String {
        self.number += 1;
        format!("{folder}/{}-{:08}.{ending}", self.prefix, self.number)
    }

    fn put_object(
        &mut self,
        uploads: &mut Uploads<'_>,
        ending: &str,
        bytes: &[u8],
    ) -> Result<Object, CheckpointError> {
        let packed = packed(bytes)?;
        let object = Object {
            object: self.name("tails", ending),
            bytes: packed.len() as u64,
            checksum: xxh3_64(&packed),
        };
        uploads.put(object.object.clone(), packed)?;
        Ok(object)
    }

    fn put_output(
        &mut self,
        uploads: &mut Uploads<'_>,
        output: &Output,
    ) -> Result<Egress, CheckpointError> {
        Ok(Egress {
            after_epoch: output.after_epoch,
            epoch: output.epoch,
            object: self.put_object(uploads, "egress", &output.bytes)?,
        })
    }

    fn put_tail(
        &mut self,
        uploads: &mut Uploads<'_>,
        cut: &Cut,
        egress: Vec<Egress>,
    ) -> Result<Tail, CheckpointError> {
        let carried = if cut.carried.is_empty() {
            None
        } else {
            Some(self.put_object(uploads, "carried", &cut.carried)?)
        };
        let sinks = cut.sinks.iter().map(|sink| Sink {
            egress: sink.egress.clone(),
            through_epoch: sink.through_epoch,
            position: sink.position.to_vec(),
        });
        Ok(Tail {
            sinks: sinks.collect(),
            carried,
            egress,
        })
    }

    fn put_part(
        &mut self,
        uploads: &mut Uploads<'_>,
        part: Option<crate::checkpoint::run::Part>,
        parts: &mut Vec<Part>,
    ) -> Result<(), CheckpointError> {
        if let Some(part) = part {
            let object = self.name("runs", "run");
            uploads.put(object.clone(), part.bytes.into())?;
            parts.push(Part {
                object,
                summary: part.summary,
            });
        }
        Ok(())
    }

    /// Whether so much has changed that all bases would be written anew. Then the delta, which would be needed no more, is not even made:
    /// looking up its rows costs more than going through all there are.
    fn most_has_changed(
        &self,
        previous: &Descriptor,
        files: &[ChangeFile],
    ) -> Result<bool, CheckpointError> {
        let enough = plan::rows_for_all(&previous.bases, &previous.deltas);
        // A key may be in several files.
        if files.iter().map(|file| file.rows).sum::<u64>() < enough {
            return Ok(false);
        }
        let mut keys = self.changes.keys(files)?;
        let mut changed = 0;
        while changed < enough && keys.advance()? {
            changed += 1;
        }
        Ok(changed >= enough)
    }

    /// Uploads what has changed, and what the plan adds to that.
    fn put_changes(
        &mut self,
        uploads: &mut Uploads<'_>,
        snapshot: &dyn StateSnapshot,
        (previous, epoch): (&Descriptor, u64),
        files: &[ChangeFile],
        credit: &mut Credit,
    ) -> Result<(Vec<Base>, Vec<Delta>), CheckpointError> {
        let (mut bases, mut deltas) = (previous.bases.clone(), previous.deltas.clone());
        let (parts, last) = self.put_delta(uploads, snapshot, &changed_before(files, epoch))?;
        let delta = Delta {
            after_epoch: previous.epoch,
            epoch,
            parts,
        };
        credit.earn(delta.bytes());
        deltas.push(delta);
        if let Some(range) = plan::to_merge(&deltas) {
            let merged = self.merge(uploads, deltas.get(range.clone()).unwrap_or_default())?;
            credit.spend(merged.bytes());
            deltas.splice(range, [merged]);
        }
        while let Some(groups) = plan::next_base(&bases, &deltas, *credit) {
            let base = self.put_base(uploads, snapshot, groups, epoch)?;
            credit.spend(base.bytes());
            plan::put_base(&mut bases, base);
        }
        let changed = deltas.last().cloned();
        plan::drop_deltas(&bases, &mut deltas);
        if deltas.last().is_some_and(|last| last.epoch == epoch) {
            if let Some((name, bytes)) = last {
                uploads.put(name, bytes)?;
            }
        } else {
            // So much has changed that all bases were written anew.
            let parts = changed.into_iter().flat_map(|delta| delta.parts);
            self.superfluous.extend(parts.map(|part| part.object));
        }
        Ok((bases, deltas))
    }

    /// Uploads the rows whose keys are in those files, as they are now; but for the last part, which is given back: it may turn out not to be
    /// needed.
    fn put_delta(
        &mut self,
        uploads: &mut Uploads<'_>,
        snapshot: &dyn StateSnapshot,
        files: &[ChangeFile],
    ) -> Result<(Vec<Part>, Option<(String, Bytes)>), CheckpointError> {
        let mut parts = Vec::new();
        let mut writer = RunWriter::new(PART_BYTES);
        let mut keys = self.changes.keys(files)?;
        let mut lookup = Lookup::new(snapshot);
        loop {
            let more = lookup.fill(|out| {
                Ok(match keys.next_row()? {
                    Some((key, _)) => {
                        out.extend_from_slice(key);
                        true
                    }
                    None => false,
                })
            })?;
            lookup.each(|key, value| {
                let part = writer.push(key, value)?;
                self.put_part(uploads, part, &mut parts)
            })?;
            if !more {
                break;
            }
        }
        let last = writer.finish().map(|part| {
            let object = self.name("runs", "run");
            parts.push(Part {
                object: object.clone(),
                summary: part.summary,
            });
            (object, part.bytes.into())
        });
        Ok((parts, last))
    }

    /// Uploads all rows.
    fn put_everything(
        &mut self,
        uploads: &mut Uploads<'_>,
        snapshot: &dyn StateSnapshot,
        epoch: u64,
    ) -> Result<Vec<Base>, CheckpointError> {
        let groups = plan::full_bases(self.catalog.key_groups.count(), self.store.disk_bytes());
        groups
            .into_iter()
            .map(|groups| self.put_base(uploads, snapshot, groups, epoch))
            .collect()
    }

    /// Uploads all rows of some key groups.
    fn put_base(
        &mut self,
        uploads: &mut Uploads<'_>,
        snapshot: &dyn StateSnapshot,
        (first, last): Groups,
        epoch: u64,
    ) -> Result<Base, CheckpointError> {
        let mut parts = Vec::new();
        let mut spaces = BTreeSet::new();
        let mut writer = RunWriter::new(PART_BYTES);
        for space in Space::OWNED {
            let (start, end) = range_of(space as u8, (first, last));
            let mut rows = snapshot.rows(&start, &end)?;
            while let Some((key, value)) = rows.next_row()? {
                spaces.insert(space as u8);
                let part = writer.push(key, Some(value))?;
                self.put_part(uploads, part, &mut parts)?;
            }
        }
        self.put_part(uploads, writer.finish(), &mut parts)?;
        Ok(Base {
            first_group: first,
            last_group: last,
            written_groups: last - first + 1,
            spaces: spaces.into_iter().collect(),
            epoch,
            parts,
        })
    }

    /// Uploads several deltas as one, which has of each row the newest.
    fn merge(
        &mut self,
        uploads: &mut Uploads<'_>,
        deltas: &[Delta],
    ) -> Result<Delta, CheckpointError> {
        let mut parts = Vec::new();
        let mut writer = RunWriter::new(PART_BYTES);
        let mut rows = crate::checkpoint::read::merged(self.bucket, self.waiting, deltas)?;
        while let Some((key, value)) = rows.next_row()? {
            let part = writer.push(key, value)?;
            self.put_part(uploads, part, &mut parts)?;
        }
        self.put_part(uploads, writer.finish(), &mut parts)?;
        Ok(Delta {
            after_epoch: deltas.first().map_or(0, |delta| delta.after_epoch),
            epoch: deltas.last().map_or(0, |delta| delta.epoch),
            parts,
        })
    }
}

/// The files with keys that have changed before the end of an epoch.
fn changed_before(files: &[ChangeFile], epoch: u64) -> Vec<ChangeFile> {
    let before = files.iter().filter(|file| file.from < epoch);
    before.cloned().collect()
}

/// The keys of a space and of key groups, the last one included: from where on, and before what.
pub(crate) fn range_of(space: u8, (first, last): Groups) -> (Vec<u8>, Vec<u8>) {
    let [high, low] = first.to_be_bytes();
    let end = match last.checked_add(1) {
        Some(next) => {
            let [high, low] = next.to_be_bytes();
            vec![space, high, low]
        }
        None => vec![space + 1],
    };
    (vec![space, high, low], end)
}

/// The positions of the sources, for people.
fn sources(snapshot: &dyn StateSnapshot) -> Result<Vec<SourcePosition>, CheckpointError> {
    let mut found = Vec::new();
    let mut rows = snapshot.rows(&[Space::Source as u8], &[Space::Source as u8 + 1])?;
    while found.len() < SHOWN_SOURCES
        && let Some((key, value)) = rows.next_row()?
    {
        let Some(parsed) = parse_address_key(key) else {
            continue;
        };
        let mut partition = parsed.id.as_bytes();
        if let Some(ingress) = take_escaped(&mut partition) {
            found.push(SourcePosition {
                ingress: String::from_utf8_lossy(&ingress).into_owned(),
                partition: String::from_utf8_lossy(partition).into_owned(),
                position: value.to_vec(),
            });
        }
    }
    Ok(found)
}
