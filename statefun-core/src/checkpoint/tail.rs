//! What of a cut is not in rows: the messages under way, how far the sinks had accepted, and the output that they had not.
//!
//! `carried` objects hold the carried messages of all workers, one after the other, as they stand in the epoch's log record.
//! `egress` objects hold for each epoch with output its number (u64 LE), a length in bytes (u32 LE), and so many bytes of records, as
//! they stand in the log record. Both are compressed by zstd as a whole.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::checkpoint::error::CheckpointError;
use crate::clock::Timestamp;
use crate::engine::apply::READ_BYTES;
use crate::engine::cut::{
    EpochBody, EpochPart, SinkPosition, body_slices, egress_framing, encode_head,
};
use crate::log::{EpochLog, LogReader};
use crate::sdk::egress::egress_hash;

/// Bytes of records from which on an egress object is complete.
pub(crate) const OBJECT_BYTES: usize = 16 << 20;
/// How much zstd tries.
const LEVEL: i32 = 1;

/// What the record of an epoch says beside rows and output.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) time: Timestamp,
    pub(crate) sinks: Vec<SinkPosition>,
    pub(crate) carried: Vec<u8>,
}

/// Reads the record of an epoch.
pub(crate) fn read_cut(log: &LogReader, epoch: u64) -> Result<Cut, CheckpointError> {
    let found = log.read_from(epoch, 1)?;
    let record = found.first().ok_or(CheckpointError::Record(epoch))?;
    let body = EpochBody::parse(&record.body).ok_or(CheckpointError::Record(epoch))?;
    let mut carried = Vec::new();
    for section in &body.sections {
        carried.extend_from_slice(section.carried);
    }
    Ok(Cut {
        time: body.time,
        sinks: body.sinks,
        carried,
    })
}

/// The output of consecutive epochs, as an object holds it before it is compressed.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) after_epoch: u64,
    pub(crate) epoch: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Output {
    fn push(&mut self, epoch: u64, records: &[u8]) {
        self.bytes.extend_from_slice(&epoch.to_le_bytes());
        self.bytes
            .extend_from_slice(&(records.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(records);
    }
}

/// The output of the epochs behind `after` up to `through` that its sink had not accepted by then, in objects of bounded size; an
/// object without records is left out.
pub(crate) fn read_output(
    log: &LogReader,
    sinks: &[SinkPosition],
    (after, through): (u64, u64),
    mut emit: impl FnMut(Output) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let accepted = Accepted::of(sinks);
    let mut output = Output {
        after_epoch: after,
        ..Output::default()
    };
    let mut next = after + 1;
    while next <= through {
        for found in log.read_from(next, READ_BYTES)? {
            if found.epoch > through {
                break;
            }
            next = found.epoch + 1;
            let malformed = || CheckpointError::Record(found.epoch);
            let body = EpochBody::parse(&found.body).ok_or_else(malformed)?;
            let mut wanted = Vec::new();
            for section in &body.sections {
                accepted
                    .leave_out(found.epoch, section.egress, &mut wanted)
                    .ok_or_else(malformed)?;
            }
            if !wanted.is_empty() {
                output.push(found.epoch, &wanted);
            }
            output.epoch = found.epoch;
            if output.bytes.len() >= OBJECT_BYTES {
                let rest = Output {
                    after_epoch: found.epoch,
                    ..Output::default()
                };
                emit(std::mem::replace(&mut output, rest))?;
            }
        }
    }
    if output.bytes.is_empty() {
        Ok(())
    } else {
        emit(output)
    }
}

/// Through which epoch each sink has accepted.
struct Accepted(Vec<(u64, u64)>);

impl Accepted {
    fn of(sinks: &[SinkPosition]) -> Self {
        let of = |sink: &SinkPosition| (egress_hash(&sink.egress), sink.through_epoch);
        Self(sinks.iter().map(of).collect())
    }

    /// Appends those records of an epoch that have not been accepted; none when they are malformed.
    fn leave_out(&self, epoch: u64, records: &[u8], wanted: &mut Vec<u8>) -> Option<()> {
        for record in egress_framing::iter(records) {
            let record = record?;
            let sink = self.0.iter().find(|(egress, _)| *egress == record.egress);
            if sink.is_none_or(|(_, through)| epoch > *through) {
                wanted.extend_from_slice(record.bytes);
            }
        }
        Some(())
    }
}

/// Compresses an object of the tail.
pub(crate) fn packed(bytes: &[u8]) -> Result<Bytes, CheckpointError> {
    zstd::bulk::compress(bytes, LEVEL)
        .map(Bytes::from)
        .map_err(|error| CheckpointError::Compression(error.to_string()))
}

/// Decompresses an object of the tail, whose name is for messages.
pub(crate) fn unpacked(object: &str, bytes: &[u8]) -> Result<Vec<u8>, CheckpointError> {
    zstd::stream::decode_all(bytes).map_err(|error| CheckpointError::Damaged {
        object: object.to_owned(),
        problem: format!("it cannot be decompressed: {error}"),
    })
}

/// Writes the first records of a log that goes on from a checkpoint: its output that no sink had accepted, and at last what was
/// under way. In them all sinks have accepted everything through the checkpoint's epoch.
pub(crate) struct FirstRecords<'a> {
    pub(crate) log: &'a mut EpochLog,
    pub(crate) time: Timestamp,
    /// As of the checkpoint.
    pub(crate) sinks: Vec<SinkPosition>,
    pub(crate) checkpoint_epoch: u64,
    /// Through which epoch each egress has accepted, in the new history, as of the last record.
    pub(crate) accepted: BTreeMap<String, u64>,
}

impl FirstRecords<'_> {
    /// Appends an object with output; its name is for messages.
    pub(crate) fn output(&mut self, object: &str, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        let accepted = Accepted::of(&self.sinks);
        let malformed = || CheckpointError::Damaged {
            object: object.to_owned(),
            problem: "its records are malformed".to_owned(),
        };
        let mut egress = Vec::new();
        while !bytes.is_empty() {
            let (epoch, rest) = bytes.split_first_chunk::<8>().ok_or_else(malformed)?;
            let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
            let len = u32::from_le_bytes(*len) as usize;
            let (records, rest) = rest.split_at_checked(len).ok_or_else(malformed)?;
            accepted
                .leave_out(u64::from_le_bytes(*epoch), records, &mut egress)
                .ok_or_else(malformed)?;
            bytes = rest;
        }
        if egress.is_empty() {
            return Ok(());
        }
        self.append(EpochPart {
            egress,
            ..EpochPart::default()
        })
    }

    /// Appends what was under way.
    pub(crate) fn carried(&mut self, carried: Vec<u8>) -> Result<(), CheckpointError> {
        self.append(EpochPart {
            carried,
            ..EpochPart::default()
        })
    }

    /// Appends the record of an epoch behind the checkpoint; its object's name is for messages. All of them are later by `shift` epochs than
    /// they were.
    pub(crate) fn replay(
        &mut self,
        object: &str,
        record: &[u8],
        shift: u64,
    ) -> Result<(), CheckpointError> {
        let body = EpochBody::parse(record).ok_or_else(|| CheckpointError::Damaged {
            object: object.to_owned(),
            problem: "the record of an epoch is malformed".to_owned(),
        })?;
        let checkpoint = self.checkpoint_epoch;
        let sinks = body.sinks.iter().map(|sink| SinkPosition {
            // What had not been accepted of the checkpoint's output comes first.
            through_epoch: if sink.through_epoch > checkpoint {
                sink.through_epoch + shift
            } else {
                checkpoint
            },
            ..sink.clone()
        });
        let parts = body.sections.iter().map(|section| EpochPart {
            worker: section.worker,
            rows: section.rows.to_vec(),
            carried: section.carried.to_vec(),
            egress: section.egress.to_vec(),
            ..EpochPart::default()
        });
        let (sinks, parts) = (sinks.collect::<Vec<_>>(), parts.collect::<Vec<_>>());
        self.write(body.time, &sinks, &parts)
    }

    fn append(&mut self, part: EpochPart) -> Result<(), CheckpointError> {
        let through = self.checkpoint_epoch;
        let sinks = self.sinks.iter().map(|sink| SinkPosition {
            through_epoch: through,
            ..sink.clone()
        });
        let sinks = sinks.collect::<Vec<_>>();
        self.write(self.time, &sinks, &[part])
    }

    fn write(
        &mut self,
        time: Timestamp,
        sinks: &[SinkPosition],
        parts: &[EpochPart],
    ) -> Result<(), CheckpointError> {
        let mut head = Vec::new();
        encode_head(&mut head, time, sinks, parts);
        let epoch = self.log.last_epoch() + 1;
        self.log.append(epoch, &body_slices(&head, parts))?;
        let accepted = sinks
            .iter()
            .map(|sink| (sink.egress.clone(), sink.through_epoch));
        self.accepted = accepted.collect();
        Ok(())
    }
}
