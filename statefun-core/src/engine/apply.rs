//! From the epoch log into the state store: late, many epochs at a time, each row once, sorted.

use crate::engine::cut::EpochBody;
use crate::engine::rows::framing;
use crate::engine::shared::EngineError;
use crate::log::{LogError, LogReader, LoggedEpoch};
use crate::state::{RowChange, StateStore};

/// Bytes of log records that are sorted together.
pub(crate) const WINDOW_BYTES: usize = 128 << 20;

/// Applies epochs that were read back from the log; returns the last of them.
pub(crate) fn apply_window(store: &dyn StateStore, epochs: &[LoggedEpoch]) -> Result<Option<u64>, EngineError> {
    let Some(last) = epochs.last().map(|epoch| epoch.epoch) else { return Ok(None) };
    // Later changes of a row win: sort by key, newest first, and keep the first of each.
    let mut changes: Vec<(&[u8], u32, Option<&[u8]>)> = Vec::new();
    for epoch in epochs {
        let malformed = || EngineError::Thread(format!("the record of epoch {} is malformed", epoch.epoch));
        let body = EpochBody::parse(&epoch.body).ok_or_else(malformed)?;
        for section in &body.sections {
            for row in framing::iter(section.rows) {
                let (key, value) = row.ok_or_else(malformed)?;
                changes.push((key, u32::MAX - changes.len() as u32, value));
            }
        }
    }
    changes.sort_unstable_by(|a, b| a.0.cmp(b.0).then(a.1.cmp(&b.1)));
    changes.dedup_by(|later, first| later.0 == first.0);
    let mut rows = changes.into_iter().map(|(key, _, value)| -> RowChange<'_> { (key, value) });
    store.apply(last, &mut rows)?;
    Ok(Some(last))
}

/// Applies everything in the log behind `from`; returns the last applied epoch.
pub(crate) fn catch_up(store: &dyn StateStore, log: &LogReader, mut from: u64) -> Result<u64, EngineError> {
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
