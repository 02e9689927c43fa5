//! What a data directory holds beside state: messages, in the last cut and in rows, and output that has not left yet. Looked
//! at only when the application has changed, to tell whether that hurts.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::apply::READ_BYTES;
use crate::engine::cut::{EpochBody, SinkPosition, egress_framing};
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::registry::Registry;
use crate::engine::shared::EngineError;
use crate::log::{LogError, LogReader};
use crate::sdk::egress::egress_hash;
use crate::state::keys::Space;
use crate::state::{StateError, StateReader};

/// How many messages are stored, by their type and by their target's function type number.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct StoredMessages {
    pub(crate) by_type: BTreeMap<String, u64>,
    pub(crate) by_function: BTreeMap<u32, u64>,
}

const SPACES: [Space; 3] = [Space::Timer, Space::Queue, Space::Operation];
const CHUNK_ROWS: usize = 1024;

/// The envelope in a row's value.
fn envelope_of(space: Space, value: &Bytes) -> Option<Bytes> {
    if space != Space::Timer {
        return Some(value.clone());
    }
    let token = u32::from_le_bytes(*value.first_chunk::<4>()?) as usize;
    (token + 4 <= value.len()).then(|| value.slice(token + 4..))
}

/// Visits all rows of a space.
pub(crate) fn each_row(
    store: &dyn StateReader,
    space: Space,
    mut visit: impl FnMut(Vec<u8>, Vec<u8>),
) -> Result<(), StateError> {
    let mut start = vec![space as u8];
    let end = [space as u8 + 1];
    loop {
        let chunk = store.scan(&start, &end, CHUNK_ROWS)?;
        let Some((last, _)) = chunk.last() else {
            return Ok(());
        };
        start.clone_from(last);
        start.push(0);
        for (key, value) in chunk {
            visit(key, value);
        }
    }
}

/// Shows the bytes of all stored messages: those that the last record carries, and those in rows.
pub(crate) fn each_envelope(
    store: &dyn StateReader,
    last_record: &[u8],
    mut visit: impl FnMut(Bytes),
) -> Result<(), StateError> {
    if let Some(body) = EpochBody::parse(last_record) {
        for section in body.sections {
            let mut bytes = Bytes::copy_from_slice(section.carried);
            let mut rest = bytes.clone();
            while Envelope::peek(&mut rest).is_some() {
                visit(bytes);
                bytes = rest.clone();
            }
        }
    }
    for space in SPACES {
        each_row(store, space, |_, value| {
            if let Some(envelope) = envelope_of(space, &Bytes::from(value)) {
                visit(envelope);
            }
        })?;
    }
    Ok(())
}

impl StoredMessages {
    /// Counts them all.
    pub(crate) fn count(store: &dyn StateReader, last_record: &[u8]) -> Result<Self, StateError> {
        let mut counts = Self::default();
        each_envelope(store, last_record, |mut bytes| {
            if let Some((function, name)) = Envelope::peek(&mut bytes) {
                counts.add(function, name);
            }
        })?;
        Ok(counts)
    }

    fn add(&mut self, function: u32, name: String) {
        *self.by_type.entry(name).or_default() += 1;
        *self.by_function.entry(function).or_default() += 1;
    }
}

/// How many records of each of these egresses the log holds that their sinks have not accepted.
pub(crate) fn undelivered(
    log: &LogReader,
    positions: &[SinkPosition],
    egresses: &[String],
) -> Result<BTreeMap<String, u64>, EngineError> {
    let through = |egress: &str| {
        let known = positions.iter().find(|known| known.egress == egress);
        known.map_or(0, |known| known.through_epoch)
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let Some(first) = egresses.iter().map(|egress| through(egress) + 1).min() else {
        return Ok(counts);
    };
    counts.extend(egresses.iter().map(|egress| (egress.clone(), 0)));
    let mut next = first;
    while next <= log.durable_epoch() {
        let epochs = match log.read_from(next, READ_BYTES) {
            // What was let go has been accepted, or held nothing.
            Err(LogError::Released { first, .. }) => {
                next = first.unwrap_or(log.durable_epoch() + 1).max(next + 1);
                continue;
            }
            read => read?,
        };
        for epoch in &epochs {
            next = epoch.epoch + 1;
            let malformed =
                || EngineError::Thread(format!("the record of epoch {} is malformed", epoch.epoch));
            let body = EpochBody::parse(&epoch.body).ok_or_else(malformed)?;
            for section in &body.sections {
                for record in egress_framing::iter(section.egress) {
                    let record = record.ok_or_else(malformed)?;
                    for (egress, count) in &mut counts {
                        if record.egress == egress_hash(egress) && epoch.epoch > through(egress) {
                            *count += 1;
                        }
                    }
                }
            }
        }
    }
    Ok(counts)
}

/// The keys of stored messages whose target's function type the application does not have.
pub(crate) fn orphans(
    store: &dyn StateReader,
    registry: &Registry,
) -> Result<Vec<Vec<u8>>, StateError> {
    let mut keys = Vec::new();
    for space in SPACES {
        each_row(store, space, |key, value| {
            let envelope = envelope_of(space, &Bytes::from(value));
            let decoded = envelope.map(|mut bytes| Envelope::decode(&mut bytes, registry));
            if matches!(decoded, Some(Err(EnvelopeError::UnknownFunction(_)))) {
                keys.push(key);
            }
        })?;
    }
    Ok(keys)
}
