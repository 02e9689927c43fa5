//! What a worker hands over for an epoch, and how the parts of all workers stand in the epoch's log record.
//!
//! Layout of a record's body (little endian):
//!
//! ```text
//! time in Unix ms (u64) · sinks (u32) · workers (u32)
//! per sink:   id length (u16) · id · accepted through epoch (u64) · position length (u32) · position
//! per worker: worker (u32) · rows (u64) · carried (u64) · egress (u64)      lengths in bytes
//! per worker: rows · carried · egress
//! ```
//!
//! Rows are framed by [`rows::framing`](crate::engine::rows::framing), carried messages by
//! [`Envelope`](crate::engine::envelope::Envelope), egress records by [`egress_framing`].

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::engine::request::ClientResponse;
use crate::io::ingress::Ack;

pub(crate) mod egress_framing;

/// One worker's part of an epoch.
#[derive(Debug, Default)]
pub(crate) struct EpochPart {
    pub(crate) epoch: u64,
    pub(crate) worker: u32,
    /// Row changes since the last cut, in order: where a row stands twice, the later counts.
    pub(crate) rows: Vec<u8>,
    pub(crate) row_count: usize,
    /// The mailbox at the cut, and what was in flight to it.
    pub(crate) carried: Vec<u8>,
    pub(crate) carried_count: usize,
    /// Records that leave when the epoch is durable.
    pub(crate) egress: Vec<u8>,
    pub(crate) egress_count: usize,
    /// Clients to be answered when the epoch is durable.
    pub(crate) responses: Vec<ClientResponse>,
    /// Records of ingresses to be acknowledged when the epoch is durable.
    pub(crate) acks: Vec<Ack>,
}

impl EpochPart {
    /// What it takes of the epoch's record, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() + self.carried.len() + self.egress.len()
    }
}

/// How far a sink has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SinkPosition {
    pub(crate) egress: String,
    /// All records up to and including this epoch are accepted.
    pub(crate) through_epoch: u64,
    /// The sink's own account of it.
    pub(crate) position: Bytes,
}

/// The head of a record's body: everything before the sections.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    time: Timestamp,
    sinks: &[SinkPosition],
    parts: &[EpochPart],
) {
    out.clear();
    out.extend_from_slice(&time.as_ms().to_le_bytes());
    out.extend_from_slice(&(sinks.len() as u32).to_le_bytes());
    out.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    for sink in sinks {
        out.extend_from_slice(&(sink.egress.len() as u16).to_le_bytes());
        out.extend_from_slice(sink.egress.as_bytes());
        out.extend_from_slice(&sink.through_epoch.to_le_bytes());
        out.extend_from_slice(&(sink.position.len() as u32).to_le_bytes());
        out.extend_from_slice(&sink.position);
    }
    for part in parts {
        out.extend_from_slice(&part.worker.to_le_bytes());
        for len in [part.rows.len(), part.carried.len(), part.egress.len()] {
            out.extend_from_slice(&(len as u64).to_le_bytes());
        }
    }
}

/// The slices that make up a record's body, in order.
pub(crate) fn body_slices<'a>(head: &'a [u8], parts: &'a [EpochPart]) -> Vec<&'a [u8]> {
    let sections = parts
        .iter()
        .flat_map(|part| [&part.rows[..], &part.carried[..], &part.egress[..]]);
    std::iter::once(head)
        .chain(sections.filter(|section| !section.is_empty()))
        .collect()
}

/// One worker's sections in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    pub(crate) worker: u32,
    pub(crate) rows: &'a [u8],
    pub(crate) carried: &'a [u8],
    pub(crate) egress: &'a [u8],
}

/// The body of an epoch's record, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EpochBody<'a> {
    pub(crate) time: Timestamp,
    pub(crate) sinks: Vec<SinkPosition>,
    pub(crate) sections: Vec<Section<'a>>,
}

impl<'a> EpochBody<'a> {
    /// Takes a body apart; none when it is malformed.
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let time = Timestamp(take_u64(bytes)?);
        let (sink_count, worker_count) = (take_u32(bytes)?, take_u32(bytes)?);
        let mut sinks = Vec::new();
        for _ in 0..sink_count {
            let (len, rest) = bytes.split_first_chunk::<2>()?;
            *bytes = rest;
            let egress = std::str::from_utf8(take(bytes, usize::from(u16::from_le_bytes(*len)))?)
                .ok()?
                .to_owned();
            let through_epoch = take_u64(bytes)?;
            let len = take_u32(bytes)? as usize;
            sinks.push(SinkPosition {
                egress,
                through_epoch,
                position: Bytes::copy_from_slice(take(bytes, len)?),
            });
        }
        let mut lengths = Vec::new();
        for _ in 0..worker_count {
            lengths.push((
                take_u32(bytes)?,
                take_u64(bytes)?,
                take_u64(bytes)?,
                take_u64(bytes)?,
            ));
        }
        let mut sections = Vec::new();
        for (worker, rows, carried, egress) in lengths {
            sections.push(Section {
                worker,
                rows: take(bytes, usize::try_from(rows).ok()?)?,
                carried: take(bytes, usize::try_from(carried).ok()?)?,
                egress: take(bytes, usize::try_from(egress).ok()?)?,
            });
        }
        bytes.is_empty().then_some(Self {
            time,
            sinks,
            sections,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}
fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}
fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_body_comes_back(
            time: u64,
            sinks in prop::collection::vec(("[a-z/]{0,9}", any::<u64>(), any::<Vec<u8>>()), 0..3),
            parts in prop::collection::vec((any::<u32>(), any::<Vec<u8>>(), any::<Vec<u8>>(), any::<Vec<u8>>()), 0..4),
        ) {
            let sinks: Vec<SinkPosition> = sinks
                .into_iter()
                .map(|(egress, through_epoch, position)| SinkPosition { egress, through_epoch, position: position.into() })
                .collect();
            let parts: Vec<EpochPart> = parts
                .into_iter()
                .map(|(worker, rows, carried, egress)| EpochPart { worker, rows, carried, egress, ..Default::default() })
                .collect();
            let mut head = vec![];
            encode_head(&mut head, Timestamp(time), &sinks, &parts);
            let body = body_slices(&head, &parts).concat();
            let parsed = EpochBody::parse(&body).unwrap();
            prop_assert_eq!(parsed.time, Timestamp(time));
            prop_assert_eq!(parsed.sinks, sinks);
            prop_assert_eq!(parsed.sections.len(), parts.len());
            for (section, part) in parsed.sections.iter().zip(&parts) {
                prop_assert_eq!(section.rows, &part.rows[..]);
                prop_assert_eq!(section.carried, &part.carried[..]);
                prop_assert_eq!(section.egress, &part.egress[..]);
            }
            prop_assert!(EpochBody::parse(&body[..body.len() - 1]).is_none());
        }

        #[test]
        fn malformed_bodies_are_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = EpochBody::parse(&bytes);
        }
    }
}
