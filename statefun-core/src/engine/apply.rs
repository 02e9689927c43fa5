//! From the epoch log into the state store: late, many epochs at a time, each row once, sorted.

use std::collections::BTreeMap;

use crate::engine::cut::EpochBody;
use crate::engine::rows::framing;
use crate::engine::shared::EngineError;
use crate::log::{LogError, LogReader, LoggedEpoch};
use crate::state::{RowChange, StateStore};

/// Bytes of log records that are sorted together.
pub(crate) const WINDOW_BYTES: usize = 128 << 20;

/// One change of a row, with what sorting looks at in place, so that it seldom has to follow the key.
struct Change<'a> {
    /// The key's bytes behind the space: key group, function type and the beginning of the id.
    prefix: u128,
    /// Counts down: the newest change of a row comes first.
    age: u32,
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(key.iter().skip(1)) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}

/// Applies epochs that were read back from the log; returns the last of them.
pub(crate) fn apply_window(
    store: &dyn StateStore,
    epochs: &[LoggedEpoch],
) -> Result<Option<u64>, EngineError> {
    let Some(last) = epochs.last().map(|epoch| epoch.epoch) else {
        return Ok(None);
    };
    // Rows of different spaces never meet, so each space is sorted by itself.
    let mut spaces: BTreeMap<u8, Vec<Change<'_>>> = BTreeMap::new();
    let mut age = u32::MAX;
    for epoch in epochs {
        let malformed =
            || EngineError::Thread(format!("the record of epoch {} is malformed", epoch.epoch));
        let body = EpochBody::parse(&epoch.body).ok_or_else(malformed)?;
        for section in &body.sections {
            for row in framing::iter(section.rows) {
                let (key, value) = row.ok_or_else(malformed)?;
                let space = key.first().copied().ok_or_else(malformed)?;
                age -= 1;
                spaces.entry(space).or_default().push(Change {
                    prefix: prefix(key),
                    age,
                    key,
                    value,
                });
            }
        }
    }
    // Later changes of a row win: the newest first, and the first of each row is kept.
    for changes in spaces.values_mut() {
        changes.sort_unstable_by(|a, b| {
            a.prefix
                .cmp(&b.prefix)
                .then_with(|| a.key.cmp(b.key))
                .then_with(|| a.age.cmp(&b.age))
        });
        changes.dedup_by(|later, first| later.prefix == first.prefix && later.key == first.key);
    }
    let mut rows = spaces
        .values()
        .flatten()
        .map(|change| -> RowChange<'_> { (change.key, change.value) });
    store.apply(last, &mut rows)?;
    Ok(Some(last))
}

/// Applies everything in the log behind `from`; returns the last applied epoch.
pub(crate) fn catch_up(
    store: &dyn StateStore,
    log: &LogReader,
    mut from: u64,
) -> Result<u64, EngineError> {
    loop {
        let epochs = match log.read_from(from + 1, WINDOW_BYTES) {
            Ok(epochs) => epochs,
            Err(LogError::Released { .. }) if log.durable_epoch() == from => return Ok(from),
            Err(error) => return Err(error.into()),
        };
        match apply_window(store, &epochs)? {
            Some(last) => from = last,
            None => return Ok(from),
        }
    }
}
