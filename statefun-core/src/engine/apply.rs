//! From the epoch log into the state store: late, many epochs at a time, each row once, sorted.
//!
//! What was read of the log is gathered in a [`Window`]: a row that changes again takes the place of what was there, so
//! that what the store is given, and what it has to merge later, follows the distinct rows and not their changes.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::engine::cut::{EpochBody, EpochPart};
use crate::engine::index::{Index, prefetch, prefetch_all};
use crate::engine::rows::framing;
use crate::engine::shared::EngineError;
use crate::engine::slab::{Slab, advise_huge};
use crate::log::{LogError, LogReader, LoggedEpoch};
use crate::state::{RowChange, StateError, StateStore};

/// Bytes of log records that are read together.
pub(crate) const READ_BYTES: usize = 8 << 20;
/// Rows whose places are fetched ahead together.
const GROUP: usize = 48;

/// Memory for rows, in pieces that are never moved.
#[derive(Debug, Default)]
struct Arena {
    pieces: Vec<Vec<u8>>,
    /// The piece that is being filled.
    current: usize,
    len: usize,
}

/// Bytes of a piece; a larger row gets a piece of its own.
const PIECE_BYTES: usize = 16 << 20;

/// A place in an arena.
#[derive(Debug, Clone, Copy)]
struct Place {
    piece: u32,
    offset: u32,
}

impl Arena {
    fn push(&mut self, key: &[u8], value: &[u8]) -> Place {
        let bytes = key.len() + value.len();
        let fits = |piece: &Vec<u8>| piece.capacity() - piece.len() >= bytes;
        while self
            .pieces
            .get(self.current)
            .is_some_and(|piece| !fits(piece))
        {
            self.current += 1;
        }
        if self.current == self.pieces.len() {
            let memory = Vec::with_capacity(PIECE_BYTES.max(bytes));
            advise_huge(&memory);
            self.pieces.push(memory);
        }
        let mut place = Place {
            piece: self.current as u32,
            offset: 0,
        };
        if let Some(piece) = self.pieces.get_mut(self.current) {
            place.offset = piece.len() as u32;
            piece.extend_from_slice(key);
            piece.extend_from_slice(value);
            self.len += bytes;
        }
        place
    }

    /// So many bytes, `from` behind a place.
    fn get(&self, place: Place, from: usize, len: usize) -> &[u8] {
        let start = place.offset as usize + from;
        self.pieces
            .get(place.piece as usize)
            .and_then(|piece| piece.get(start..start + len))
            .unwrap_or_default()
    }

    fn overwrite(&mut self, place: Place, from: usize, bytes: &[u8]) {
        let start = place.offset as usize + from;
        let piece = self.pieces.get_mut(place.piece as usize);
        if let Some(old) = piece.and_then(|piece| piece.get_mut(start..start + bytes.len())) {
            old.copy_from_slice(bytes);
        }
    }

    fn clear(&mut self) {
        self.pieces.retain(|piece| piece.capacity() <= PIECE_BYTES);
        for piece in &mut self.pieces {
            piece.clear();
        }
        (self.current, self.len) = (0, 0);
    }
}

/// A row of a window: where its key stands in the arena, its value behind it.
struct Row {
    hash: u64,
    at: Place,
    key_len: u32,
    /// Room for the value behind the key, in bytes.
    room: u32,
    /// The value's length; none is a delete.
    value_len: Option<u32>,
}

/// The newest changes of rows over consecutive epochs.
pub(crate) struct Window {
    index: Index,
    rows: Slab<Row>,
    arena: Arena,
    last: Option<u64>,
    log_bytes: usize,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            index: Index::new(),
            rows: Slab::new(),
            arena: Arena::default(),
            last: None,
            log_bytes: 0,
        }
    }

    /// The last epoch in it.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    /// What it occupies in memory, roughly, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len + self.rows.len() * size_of::<Row>() + self.index.bytes()
    }

    /// Bytes of log records that went into it.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Forgets everything, and keeps the memory for what comes.
    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.rows.clear();
        self.arena.clear();
        self.last = None;
        self.log_bytes = 0;
    }

    /// Takes in the next epoch, as it was read back.
    pub(crate) fn add(&mut self, epoch: &LoggedEpoch) -> Result<(), EngineError> {
        let body = EpochBody::parse(&epoch.body).ok_or_else(|| malformed(epoch.epoch))?;
        let sections = body.sections.iter().map(|section| section.rows);
        self.add_rows(epoch.epoch, sections, epoch.body.len())
    }

    /// Takes in the next epoch, as it was written.
    pub(crate) fn add_parts(&mut self, epoch: u64, parts: &[EpochPart]) -> Result<(), EngineError> {
        let sections = parts.iter().map(|part| &part.rows[..]);
        self.add_rows(epoch, sections, parts.iter().map(EpochPart::bytes).sum())
    }

    fn add_rows<'a>(
        &mut self,
        epoch: u64,
        sections: impl Iterator<Item = &'a [u8]>,
        log_bytes: usize,
    ) -> Result<(), EngineError> {
        let malformed = || malformed(epoch);
        let mut group: Vec<(u64, &[u8], Option<&[u8]>)> = Vec::with_capacity(GROUP);
        for section in sections {
            for row in framing::iter(section) {
                let (key, value) = row.ok_or_else(malformed)?;
                if key.is_empty() {
                    return Err(malformed());
                }
                let hash = xxh3_64(key);
                self.index.prefetch(hash);
                group.push((hash, key, value));
                if group.len() == GROUP {
                    self.put_all(&mut group);
                }
            }
            self.put_all(&mut group);
        }
        self.last = Some(epoch);
        self.log_bytes += log_bytes;
        Ok(())
    }

    fn put_all(&mut self, group: &mut Vec<(u64, &[u8], Option<&[u8]>)>) {
        let row_of = |hash| self.rows.get(self.index.candidate(hash)? as usize);
        for (hash, ..) in group.iter() {
            if let Some(row) = row_of(*hash) {
                prefetch_all(row);
            }
        }
        for (hash, ..) in group.iter() {
            if let Some(row) = row_of(*hash) {
                let line = self.arena.get(row.at, 0, 1).as_ptr();
                prefetch(line);
                prefetch(line.wrapping_add(64));
                prefetch(line.wrapping_add(128));
            }
        }
        for (hash, key, value) in group.drain(..) {
            self.put(hash, key, value);
        }
    }

    fn key<'a>(arena: &'a Arena, row: &Row) -> &'a [u8] {
        arena.get(row.at, 0, row.key_len as usize)
    }

    fn put(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>) {
        let (rows, arena) = (&mut self.rows, &mut self.arena);
        let known = self.index.find(hash, |row| {
            rows.get(row as usize)
                .is_some_and(|row| Self::key(arena, row) == key)
        });
        let value_len = value.map(|value| value.len() as u32);
        let value = value.unwrap_or_default();
        if let Some(row) = known.and_then(|row| rows.get_mut(row as usize)) {
            if value.len() <= row.room as usize {
                arena.overwrite(row.at, row.key_len as usize, value);
            } else {
                row.at = arena.push(key, value);
                row.room = value.len() as u32;
            }
            row.value_len = value_len;
            return;
        }
        let number = rows.len() as u32;
        rows.push(Row {
            hash,
            at: arena.push(key, value),
            key_len: key.len() as u32,
            room: value.len() as u32,
            value_len,
        });
        self.index.insert(hash, number, |row| {
            rows.get(row as usize).map_or(0, |row| row.hash)
        });
    }

    /// Gives the rows to the store, with the marker of the last epoch, and is empty then. Returns that epoch. After an error
    /// it is as it was.
    pub(crate) fn apply(&mut self, store: &dyn StateStore) -> Result<Option<u64>, StateError> {
        let Some(last) = self.last else {
            return Ok(None);
        };
        let Self { rows, arena, .. } = &*self;
        // Rows of different spaces never meet, so each space is sorted by itself, with the beginning of the rest of the key
        // in place, so that sorting seldom has to follow it.
        let mut spaces: BTreeMap<u8, Vec<(u128, &Row)>> = BTreeMap::new();
        for row in rows.iter() {
            let key = Self::key(arena, row);
            let space = key.first().copied().unwrap_or_default();
            spaces.entry(space).or_default().push((prefix(key), row));
        }
        for rows in spaces.values_mut() {
            rows.sort_unstable_by(|(a_prefix, a), (b_prefix, b)| {
                a_prefix
                    .cmp(b_prefix)
                    .then_with(|| Self::key(arena, a).cmp(Self::key(arena, b)))
            });
        }
        let sorted: Vec<&Row> = spaces.values().flatten().map(|(_, row)| *row).collect();
        drop(spaces);
        let mut changes = sorted.iter().enumerate().map(|(at, row)| -> RowChange<'_> {
            // They stand in the order of their first change: what comes next is somewhere else.
            if let Some(row) = sorted.get(at + 2 * GROUP) {
                prefetch_all(*row);
            }
            if let Some(row) = sorted.get(at + GROUP) {
                prefetch(arena.get(row.at, 0, 1).as_ptr());
            }
            let value = row
                .value_len
                .map(|len| arena.get(row.at, row.key_len as usize, len as usize));
            (Self::key(arena, row), value)
        });
        store.apply(last, &mut changes)?;
        drop(sorted);
        self.clear();
        Ok(Some(last))
    }
}

fn malformed(epoch: u64) -> EngineError {
    EngineError::Thread(format!("the record of epoch {epoch} is malformed"))
}

/// The key's bytes behind the space: key group, function type and the beginning of the id.
fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(key.iter().skip(1)) {
        *to = *from;
    }
    u128::from_be_bytes(bytes)
}

/// Applies epochs that follow one another; returns the last of them.
pub(crate) fn apply_window(
    store: &dyn StateStore,
    epochs: &[LoggedEpoch],
) -> Result<Option<u64>, EngineError> {
    let mut window = Window::new();
    for epoch in epochs {
        window.add(epoch)?;
    }
    Ok(window.apply(store)?)
}

/// Applies everything in the log behind `from`, in windows of about so many bytes of memory; returns the last applied
/// epoch. `tell` hears up to which epoch the log has been read.
pub(crate) fn catch_up(
    store: &dyn StateStore,
    log: &LogReader,
    mut from: u64,
    window_bytes: usize,
    mut tell: impl FnMut(u64),
) -> Result<u64, EngineError> {
    let mut window = Window::new();
    loop {
        let known = window.last().unwrap_or(from);
        tell(known);
        let next = known + 1;
        let epochs = match log.read_from(next, READ_BYTES) {
            Ok(epochs) => epochs,
            Err(LogError::Released { .. }) if log.durable_epoch() < next => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for epoch in &epochs {
            window.add(epoch)?;
        }
        if (epochs.is_empty() || window.bytes() > window_bytes)
            && let Some(last) = window.apply(store)?
        {
            from = last;
        }
        if epochs.is_empty() {
            return Ok(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::engine::cut::{EpochPart, body_slices, encode_head};
    use crate::state::StateReader;
    use crate::state::memory::MemoryStore;

    fn epoch(epoch: u64, changes: &[(u8, Option<Vec<u8>>)]) -> LoggedEpoch {
        let mut part = EpochPart::default();
        for (key, value) in changes {
            framing::push(&mut part.rows, &[b' ', *key], value.as_deref());
        }
        let (mut head, parts) = (vec![], [part]);
        encode_head(&mut head, Timestamp(0), &[], &parts);
        let body = body_slices(&head, &parts).concat();
        LoggedEpoch {
            epoch,
            body: Bytes::from(body),
        }
    }

    proptest! {
        /// Whatever the windows, the store ends with the newest change of every row.
        #[test]
        fn the_newest_change_of_each_row_is_applied(
            epochs in prop::collection::vec(
                prop::collection::vec((0u8..40, prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..60),
                1..12,
            ),
            windows in prop::collection::vec(any::<bool>(), 12),
        ) {
            let store = MemoryStore::default();
            let mut model = BTreeMap::new();
            let mut window = Window::new();
            for (number, (changes, ends)) in epochs.iter().zip(&windows).enumerate() {
                window.add(&epoch(number as u64 + 1, changes)).unwrap();
                for (key, value) in changes {
                    model.insert(*key, value.clone());
                }
                if *ends {
                    prop_assert_eq!(window.apply(&store).unwrap(), Some(number as u64 + 1));
                    prop_assert_eq!(window.apply(&store).unwrap(), None);
                }
            }
            window.apply(&store).unwrap();
            prop_assert_eq!(store.applied_epoch().unwrap(), epochs.len() as u64);
            for key in 0..40u8 {
                prop_assert_eq!(store.get(&[b' ', key]).unwrap(), model.get(&key).cloned().flatten());
            }
        }

        #[test]
        fn malformed_records_are_refused_without_a_panic(body: Vec<u8>) {
            let _ = Window::new().add(&LoggedEpoch { epoch: 1, body: Bytes::from(body) });
        }
    }
}
