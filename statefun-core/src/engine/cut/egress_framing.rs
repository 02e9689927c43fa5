//! Egress records: `egress id hash (u64) · message type id (u64) · length (u32) · payload`.
//!
//! Where the highest bit of the length is set, a trace stands before the payload and counts in the length:
//! `parent span (8 bytes) · context of the record's own span`, the latter as [`carried`] writes it. The record's span has its number
//! from the invocation on, so that whatever an egress writes of it is the same each time that it is delivered.

use crate::id::MessageTypeId;
use crate::trace::carried;
use crate::trace::{SpanId, TraceContext};

/// What precedes a payload.
pub(crate) const HEADER_BYTES: usize = 20;
/// The largest payload, in bytes, with room for a trace.
pub(crate) const MOST_BYTES: usize = (1 << 31) - (1 << 17);
const TRACED: u32 = 1 << 31;

/// The trace that a record is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordTrace {
    /// The span of the invocation that wrote it.
    pub(crate) parent: SpanId,
    /// Its own.
    pub(crate) context: TraceContext,
}

/// One record. There are many of them, and few are part of a trace: so that is read when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) egress: u64,
    pub(crate) message: MessageTypeId,
    pub(crate) payload: &'a [u8],
    /// All of it as it stands there.
    pub(crate) bytes: &'a [u8],
    is_traced: bool,
}

impl Record<'_> {
    /// The trace that it is part of.
    #[inline]
    pub(crate) fn trace(&self) -> Option<RecordTrace> {
        if !self.is_traced {
            return None;
        }
        take_trace(&mut self.bytes.get(HEADER_BYTES..)?)
    }
}

/// Appends a record whose payload `write` appends; none of it remains when that fails.
pub(crate) fn push<E>(
    out: &mut Vec<u8>,
    egress: u64,
    message: MessageTypeId,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&egress.to_le_bytes());
    out.extend_from_slice(&message.0.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let len = (out.len() - start - HEADER_BYTES) as u32;
    if let Some(header) = out.get_mut(start + 16..start + 20) {
        header.copy_from_slice(&len.to_le_bytes());
    }
    Ok(())
}

/// Appends a record that is part of a trace.
pub(crate) fn push_traced(
    out: &mut Vec<u8>,
    egress: u64,
    message: MessageTypeId,
    trace: &RecordTrace,
    payload: &[u8],
) {
    let mut head = trace.parent.0.to_be_bytes().to_vec();
    carried::push(&mut head, &trace.context);
    out.extend_from_slice(&egress.to_le_bytes());
    out.extend_from_slice(&message.0.to_le_bytes());
    out.extend_from_slice(&((head.len() + payload.len()) as u32 | TRACED).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

/// Makes the records from a place on part of a trace. One that is part of one already stays as it is.
pub(crate) fn trace(out: &mut Vec<u8>, from: usize, mut of_next: impl FnMut() -> RecordTrace) {
    let plain = out.split_off(from.min(out.len()));
    for record in iter(&plain).flatten() {
        if record.is_traced {
            out.extend_from_slice(record.bytes);
        } else {
            push_traced(
                out,
                record.egress,
                record.message,
                &of_next(),
                record.payload,
            );
        }
    }
}

/// The records of a section; ends early, with `None` as its last item, when the bytes are malformed.
pub(crate) fn iter(mut bytes: &[u8]) -> impl Iterator<Item = Option<Record<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = take(&mut bytes);
        if record.is_none() {
            bytes = &[];
        }
        Some(record)
    })
}

fn take<'a>(bytes: &mut &'a [u8]) -> Option<Record<'a>> {
    let whole = *bytes;
    let (egress, rest) = whole.split_first_chunk::<8>()?;
    let (message, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    let (mut payload, rest) = rest.split_at_checked((len & !TRACED) as usize)?;
    let is_traced = len & TRACED != 0;
    if is_traced {
        take_trace(&mut payload)?;
    }
    *bytes = rest;
    Some(Record {
        egress: u64::from_le_bytes(*egress),
        message: MessageTypeId(u64::from_le_bytes(*message)),
        payload,
        bytes: whole.get(..whole.len() - rest.len())?,
        is_traced,
    })
}

#[cold]
fn take_trace(bytes: &mut &[u8]) -> Option<RecordTrace> {
    let (parent, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(RecordTrace {
        parent: SpanId(u64::from_be_bytes(*parent)),
        context: carried::take(bytes)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::carried::tests::contexts;

    fn traces() -> impl Strategy<Value = RecordTrace> {
        (1u64.., contexts()).prop_map(|(parent, context)| RecordTrace {
            parent: SpanId(parent),
            context,
        })
    }

    fn plain(out: &mut Vec<u8>, egress: u64, message: u64, payload: &[u8]) {
        let written = push(out, egress, MessageTypeId(message), |out| {
            out.extend_from_slice(payload);
            Ok::<(), ()>(())
        });
        written.unwrap();
    }

    proptest! {
        #[test]
        fn records_come_back(records in prop::collection::vec((any::<u64>(), any::<u64>(), prop::option::of(traces()), any::<Vec<u8>>()), 0..5)) {
            let mut section = Vec::new();
            for (egress, message, trace, payload) in &records {
                match trace {
                    None => plain(&mut section, *egress, *message, payload),
                    Some(trace) => push_traced(&mut section, *egress, MessageTypeId(*message), trace, payload),
                }
            }
            let mut copied = Vec::new();
            let read: Vec<_> = iter(&section).map(|record| {
                let record = record.unwrap();
                copied.extend_from_slice(record.bytes);
                (record.egress, record.message.0, record.trace(), record.payload.to_vec())
            }).collect();
            prop_assert_eq!(&copied, &section);
            prop_assert_eq!(read, records);
        }

        /// What a trace adds leaves the records what they were, in their order.
        #[test]
        fn records_are_traced_afterwards(before: Vec<u8>, payloads: Vec<Vec<u8>>, of_next in traces()) {
            let mut section = Vec::new();
            plain(&mut section, 1, 2, &before);
            let from = section.len();
            for payload in &payloads {
                plain(&mut section, 3, 4, payload);
            }
            trace(&mut section, from, || of_next.clone());
            let read: Vec<_> = iter(&section).map(Option::unwrap).collect();
            prop_assert_eq!(read[0].trace(), None);
            prop_assert_eq!(read[0].payload, &before[..]);
            prop_assert_eq!(read.len() - 1, payloads.len());
            for (record, payload) in read[1..].iter().zip(&payloads) {
                prop_assert_eq!(record.trace(), Some(of_next.clone()));
                prop_assert_eq!(record.payload, &payload[..]);
            }
        }

        #[test]
        fn malformed_records_are_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = iter(&bytes).count();
        }
    }
}
