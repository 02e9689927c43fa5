//! Messages that a data directory holds: in the last cut, and in rows. Looked at only when a message or function type has
//! changed, to tell whether that hurts.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::cut::EpochBody;
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::registry::Registry;
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

impl StoredMessages {
    /// Counts them all.
    pub(crate) fn count(store: &dyn StateReader, last_record: &[u8]) -> Result<Self, StateError> {
        let mut counts = Self::default();
        if let Some(body) = EpochBody::parse(last_record) {
            for section in body.sections {
                let mut bytes = Bytes::copy_from_slice(section.carried);
                while let Some((function, name)) = Envelope::peek(&mut bytes) {
                    counts.add(function, name);
                }
            }
        }
        for space in SPACES {
            each_row(store, space, |_, value| {
                let envelope = envelope_of(space, &Bytes::from(value));
                if let Some((function, name)) =
                    envelope.and_then(|mut bytes| Envelope::peek(&mut bytes))
                {
                    counts.add(function, name);
                }
            })?;
        }
        Ok(counts)
    }

    fn add(&mut self, function: u32, name: String) {
        *self.by_type.entry(name).or_default() += 1;
        *self.by_function.entry(function).or_default() += 1;
    }
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
