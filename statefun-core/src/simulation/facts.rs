//! What rows say: each row change in the model's terms, and what must hold among the rows of one address.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::envelope::Envelope;
use crate::engine::registry::Registry;
use crate::engine::request::RequestFunction;
use crate::engine::waiting::WaitRow;
use crate::sdk::function::StatefulFunction;
use crate::sdk::state::{RowValue, decode_value, state_id};
use crate::simulation::model::message_id;
use crate::simulation::workload::{TimerNote, TimerState};
use crate::state::keys::{Space, parse_address_key};

/// A row change.
#[derive(Debug)]
pub(super) enum Change {
    Handled(u64),
    Count(u64),
    Digest(u64),
    Forgotten(u64),
    /// The journal's own row: first and next.
    Journal(u64, u64),
    /// One of its elements; none when it is deleted.
    JournalElement(u64, Option<u64>),
    TimerNote(u64, TimerState),
    Timer(Option<u64>),
    TimerToken,
    Operation(Option<u64>),
    Waiting(Option<WaitRow>),
    /// A message of a queue, or none when it is taken out.
    Queue(u64, Option<Queued>),
    DeadLetter(Option<u64>),
    /// What its ingress wrote.
    Position(Vec<u8>),
    Remembered(String),
    Other,
}

/// A message that waits; none stands for one that is no message of the workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued(pub(super) Option<u64>);

/// What is known of one address.
#[derive(Debug, Default)]
pub(super) struct Facts {
    handled: u64,
    sum: u64,
    count: u64,
    digest: u64,
    forgotten: u64,
    journal: (u64, u64),
    elements: BTreeMap<u64, u64>,
    pub(super) waiting: Option<WaitRow>,
    pub(super) queue: BTreeMap<u64, Option<u64>>,
}

impl Facts {
    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::Handled(id) => {
                self.handled += 1;
                self.sum = self.sum.wrapping_add(*id);
            }
            Change::Count(count) => self.count = *count,
            Change::Digest(digest) => self.digest = *digest,
            Change::Forgotten(forgotten) => self.forgotten = *forgotten,
            Change::Journal(first, next) => self.journal = (*first, *next),
            Change::JournalElement(sequence, Some(id)) => {
                self.elements.insert(*sequence, *id);
            }
            Change::JournalElement(sequence, None) => {
                self.elements.remove(sequence);
            }
            Change::Waiting(row) => self.waiting.clone_from(row),
            Change::Queue(sequence, Some(Queued(id))) => {
                self.queue.insert(*sequence, *id);
            }
            Change::Queue(sequence, None) => {
                self.queue.remove(sequence);
            }
            _ => {}
        }
    }

    /// The rows of an address agree with each other in every epoch.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.count != self.handled || self.digest != self.sum {
            return Err(format!("the rows of an address disagree: {self:?}"));
        }
        let (first, next) = self.journal;
        if self.forgotten + (next - first) != self.count
            || !self.elements.keys().copied().eq(first..next)
        {
            return Err(format!("the journal disagrees: {self:?}"));
        }
        let range = self.waiting.as_ref().map_or(0..0, |row| row.head..row.next);
        if !self.queue.keys().copied().eq(range) {
            return Err(format!("the queue has gaps or leftovers: {self:?}"));
        }
        Ok(())
    }
}

fn envelope_id(bytes: &[u8], registry: &Registry) -> Result<Option<u64>, String> {
    let envelope = Envelope::decode(&mut Bytes::copy_from_slice(bytes), registry)
        .map_err(|error| error.to_string())?;
    message_id(&envelope)
}

/// Reads a row change; with the address that it belongs to, where it is of one.
pub(super) fn parse_row(
    key: &[u8],
    value: Option<&[u8]>,
    registry: &Registry,
) -> Result<(Option<Vec<u8>>, Change), String> {
    let space = Space::OWNED
        .into_iter()
        .find(|space| key.first() == Some(&(*space as u8)));
    let space = space.ok_or("a row of no space")?;
    match space {
        Space::Timer => {
            let id = value.map(|value| {
                let (len, rest) = value
                    .split_first_chunk::<4>()
                    .ok_or("a timer is too short")?;
                let rest = rest
                    .get(u32::from_le_bytes(*len) as usize..)
                    .ok_or("a timer is too short")?;
                envelope_id(rest, registry)
            });
            return Ok((None, Change::Timer(id.transpose()?.flatten())));
        }
        Space::DeadLetter => {
            let value = value.ok_or("a dead letter is deleted")?;
            let (len, rest) = value
                .split_first_chunk::<4>()
                .ok_or("a dead letter is too short")?;
            let rest = rest
                .get(u32::from_le_bytes(*len) as usize..)
                .ok_or("a dead letter is too short")?;
            return Ok((None, Change::DeadLetter(envelope_id(rest, registry)?)));
        }
        Space::Source => {
            let position = value.ok_or("a position is deleted")?;
            return Ok((None, Change::Position(position.to_vec())));
        }
        _ => {}
    }
    let parsed = parse_address_key(key).ok_or("a key is malformed")?;
    let address = [&parsed.function.0.to_be_bytes()[..], parsed.id.as_bytes()].concat();
    let change = match space {
        Space::Token => return Ok((None, Change::TimerToken)),
        Space::Operation => {
            let id = value
                .map(|value| envelope_id(value, registry))
                .transpose()?
                .flatten();
            return Ok((None, Change::Operation(id)));
        }
        Space::Waiting => {
            let row = value.map(|value| WaitRow::decode(value).ok_or("a waiting row is malformed"));
            Change::Waiting(row.transpose()?)
        }
        Space::Queue => {
            let sequence = parsed
                .rest
                .first_chunk()
                .ok_or("a queue's key is malformed")?;
            let id = value
                .map(|value| envelope_id(value, registry).map(Queued))
                .transpose()?;
            Change::Queue(u64::from_be_bytes(*sequence), id)
        }
        _ => {
            let (state, rest) = parsed
                .rest
                .split_first_chunk::<4>()
                .ok_or("a state's key is malformed")?;
            if registry.function_name(parsed.function) == Some(RequestFunction::type_name()) {
                let remembered =
                    value.map_or(Change::Other, |_| Change::Remembered(parsed.id.clone()));
                return Ok((None, remembered));
            }
            state_change(u32::from_be_bytes(*state), rest, value)?
        }
    };
    Ok((Some(address), change))
}

fn state_change(state: u32, rest: &[u8], value: Option<&[u8]>) -> Result<Change, String> {
    let payload = value
        .map(|value| RowValue::parse(value).ok_or("a state's row is too short"))
        .transpose()?;
    let number = |what: &str| -> Result<u64, String> {
        let row = payload.ok_or_else(|| format!("{what} is deleted"))?;
        decode_value(row.payload).map_err(|error| format!("{what}: {error}"))
    };
    let entry = || {
        rest.first_chunk()
            .map(|id| u64::from_be_bytes(*id))
            .ok_or("an entry's key is malformed")
    };
    let is = |name: &str| state == state_id(name);
    Ok(if is("count") {
        Change::Count(number("count")?)
    } else if is("digest") {
        Change::Digest(number("digest")?)
    } else if is("forgotten") {
        Change::Forgotten(number("forgotten")?)
    } else if is("seen") {
        payload.ok_or("what was handled is forgotten")?;
        Change::Handled(entry()?)
    } else if is("journal") && rest.is_empty() {
        let row = payload.ok_or("the journal is deleted")?;
        let (first, next) = decode_value(row.payload)?;
        Change::Journal(first, next)
    } else if is("journal") {
        let id = payload.map(|row| decode_value(row.payload));
        Change::JournalElement(entry()?, id.transpose()?)
    } else if is("timers") {
        let row = payload.ok_or("a timer's note is deleted")?;
        let note: TimerNote = decode_value(row.payload)?;
        Change::TimerNote(entry()?, note.state)
    } else {
        Change::Other
    })
}
