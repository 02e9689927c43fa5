//! `PersistedTable`: a map per address, whose entries are rows of their own.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use crate::clock::Timestamp;
use crate::module::description::{Expiration, StateKind};
use crate::sdk::state::{
    Flush, PersistedState, RowBytes, RowContent, RowValue, StateSite, StateValue, TableKey,
    Unwritten, access_extends, encode_row, encode_value, expired, expiry_from,
};
use crate::state::StateError;
use crate::state::keys::prefix_end;

/// Entries kept in memory per address while nothing forces them to stay.
const CACHED_ENTRIES: usize = 1024;
const CHUNK_ROWS: usize = 512;
/// Rows that are read for the first entry: those that were removed in this epoch are among them.
const FIRST_ROWS: usize = 16;

/// A map per address. Entries are read one by one when they are asked for, so a table may be larger than memory.
///
/// Reading an entry that memory does not hold reads the local store, and can fail as storage can.
///
/// There is no `len`: nobody counts the entries, since an `insert` would then have to read what was there before. Where the
/// number matters, keep it in a `PersistedValue`, or count with [`for_each`](Self::for_each).
///
/// ```
/// # use statefun_core::prelude::*;
/// # let mut stock = PersistedTable::<String, u32>::default();
/// stock.set("apples".to_owned(), 5);
/// stock.update("pears".to_owned(), |count| *count += 2)?; // from the default
/// stock.update("apples".to_owned(), |count| *count -= 1)?;
/// assert_eq!(stock.get(&"apples".to_owned())?, Some(&4));
/// assert!(!stock.contains_key(&"plums".to_owned())?);
///
/// // All of it, in the order of the keys:
/// assert_eq!(stock.entries()?, [("apples".to_owned(), 4), ("pears".to_owned(), 2)]);
/// assert_eq!((stock.keys()?.len(), stock.values()?), (2, vec![4, 2]));
/// // A page of a large one, from a key on:
/// assert_eq!(stock.entries_from(&"b".to_owned(), 10)?, [("pears".to_owned(), 2)]);
///
/// stock.remove(&"apples".to_owned());
/// assert_eq!(stock.first()?, Some(("pears".to_owned(), 2)));
/// stock.clear()?;
/// assert!(stock.is_empty()?);
/// # Ok::<(), statefun_core::state::StateError>(())
/// ```
///
/// Keys are of a type that is a [`TableKey`]: numbers, texts, tuples of them.
#[derive(Debug)]
pub struct PersistedTable<K, V> {
    entries: HashMap<K, Entry<V>>,
    undo: Vec<(K, Option<Entry<V>>)>,
    dirty: Vec<K>,
    site: Option<StateSite>,
    now: Timestamp,
}

#[derive(Debug, Clone)]
struct Entry<V> {
    value: Option<V>,
    expires_at_ms: u64,
    /// Written since the last cut.
    dirty: bool,
    /// Changed by the running invocation.
    touched: bool,
}

impl<V> Entry<V> {
    /// The value, unless it has expired; what the running invocation wrote has not.
    fn live(&self, now: Timestamp) -> Option<&V> {
        self.value
            .as_ref()
            .filter(|_| self.touched || !expired(self.expires_at_ms, now))
    }
}

impl<K, V> Default for PersistedTable<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            undo: Vec::new(),
            dirty: Vec::new(),
            site: None,
            now: Timestamp::default(),
        }
    }
}

impl<K: TableKey, V: StateValue> PersistedTable<K, V> {
    /// The value of a key.
    pub fn get(&mut self, key: &K) -> Result<Option<&V>, StateError> {
        self.fetch(key)?;
        let (now, expiration) = (
            self.now,
            self.site
                .as_ref()
                .map_or(Expiration::None, |site| site.expiration),
        );
        let extend = self.entries.get(key).is_some_and(|entry| {
            entry.value.is_some() && access_extends(expiration, entry.expires_at_ms, now)
        });
        if extend {
            self.touch(key);
        }
        Ok(self.entries.get(key).and_then(|entry| entry.value.as_ref()))
    }

    /// Whether there is an entry.
    pub fn contains_key(&mut self, key: &K) -> Result<bool, StateError> {
        Ok(self.get(key)?.is_some())
    }

    /// Sets the value of a key.
    pub fn set(&mut self, key: K, value: V) {
        self.write(key, Some(value));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &K) {
        self.write(key.clone(), None);
    }

    /// Changes the value of a key in place, starting from the default when it is absent.
    pub fn update(&mut self, key: K, change: impl FnOnce(&mut V)) -> Result<(), StateError> {
        let mut value = self.get(&key)?.cloned().unwrap_or_default();
        change(&mut value);
        self.set(key, value);
        Ok(())
    }

    /// All entries, in the order of their keys. They are read in chunks; for large tables prefer
    /// [`for_each`](Self::for_each), which holds one chunk at a time.
    pub fn entries(&mut self) -> Result<Vec<(K, V)>, StateError> {
        let mut entries = Vec::new();
        self.for_each(|key, value| entries.push((key.clone(), value.clone())))?;
        Ok(entries)
    }

    /// All keys, in order.
    pub fn keys(&mut self) -> Result<Vec<K>, StateError> {
        let mut keys = Vec::new();
        self.for_each(|key, _| keys.push(key.clone()))?;
        Ok(keys)
    }

    /// All values, in the order of their keys.
    pub fn values(&mut self) -> Result<Vec<V>, StateError> {
        let mut values = Vec::new();
        self.for_each(|_, value| values.push(value.clone()))?;
        Ok(values)
    }

    /// Up to `limit` entries from a key on, itself included, in the order of their keys: one page of a large table, of which
    /// no more is read.
    pub fn entries_from(&mut self, from: &K, limit: usize) -> Result<Vec<(K, V)>, StateError> {
        let mut entries = Vec::new();
        if limit > 0 {
            self.walk(Some(from), limit.min(CHUNK_ROWS), |key, value| {
                entries.push((key.clone(), value.clone()));
                if entries.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        }
        Ok(entries)
    }

    /// The first entry, by the order of the keys.
    pub fn first(&mut self) -> Result<Option<(K, V)>, StateError> {
        let mut first = None;
        self.walk(None, FIRST_ROWS, |key, value| {
            first = Some((key.clone(), value.clone()));
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    /// Whether there is no entry.
    pub fn is_empty(&mut self) -> Result<bool, StateError> {
        Ok(self.first()?.is_none())
    }

    /// Removes all entries.
    pub fn clear(&mut self) -> Result<(), StateError> {
        for key in self.keys()? {
            self.write(key, None);
        }
        Ok(())
    }

    /// Visits all entries in the order of their keys, a chunk in memory at a time.
    pub fn for_each(&mut self, mut visit: impl FnMut(&K, &V)) -> Result<(), StateError> {
        self.walk(None, CHUNK_ROWS, |key, value| {
            visit(key, value);
            ControlFlow::Continue(())
        })
    }

    /// Visits the entries from a key on, itself included, in the order of their keys, until `visit` breaks.
    ///
    /// ```
    /// # use statefun_core::sdk::state::PersistedTable;
    /// # let mut scores = PersistedTable::<u32, u32>::default();
    /// # for number in 0..10 { scores.set(number, number); }
    /// use std::ops::ControlFlow;
    ///
    /// let mut sum = 0;
    /// scores.for_each_from(&5, |_, score| {
    ///     sum += score;
    ///     if sum < 15 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    /// })?;
    /// assert_eq!(sum, 5 + 6 + 7);
    /// # Ok::<(), statefun_core::state::StateError>(())
    /// ```
    pub fn for_each_from(
        &mut self,
        from: &K,
        visit: impl FnMut(&K, &V) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        self.walk(Some(from), CHUNK_ROWS, visit)
    }

    /// Visits entries in order, from a key on or all, until `visit` breaks; reads so many rows at a time.
    fn walk(
        &self,
        from: Option<&K>,
        rows: usize,
        mut visit: impl FnMut(&K, &V) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        let now = self.now;
        let changed: BTreeMap<&K, &Entry<V>> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.dirty || entry.touched)
            .filter(|(key, _)| from.is_none_or(|from| *key >= from))
            .collect();
        // Also those that are gone, since they stand in place of their rows.
        let mut changed = changed.into_iter().peekable();
        let mut show = |key: &K, entry: &Entry<V>| match entry.live(now) {
            Some(value) => visit(key, value),
            None => ControlFlow::Continue(()),
        };
        if let Some(site) = &self.site {
            let end = prefix_end(&site.key);
            // The state's own key has no row; entries begin behind it.
            let mut start = match from {
                Some(from) => site.entry_key(|out| from.encode_key(out)),
                None => site.key.clone(),
            };
            loop {
                let chunk = site.rows.borrow().scan(&start, &end, rows)?;
                for (row_key, bytes) in &chunk {
                    let key = decode_entry_key::<K>(site, row_key)?;
                    while let Some((changed_key, entry)) =
                        changed.next_if(|(changed_key, _)| **changed_key < key)
                    {
                        if show(changed_key, entry).is_break() {
                            return Ok(());
                        }
                    }
                    let shown = if let Some((_, entry)) =
                        changed.next_if(|(changed_key, _)| **changed_key == key)
                    {
                        show(&key, entry)
                    } else {
                        let row = RowValue::parse(bytes)
                            .ok_or_else(|| site.decode_error("the row is too short"))?;
                        if row.expired(now) {
                            continue;
                        }
                        let entry = Entry {
                            value: Some(site.decode(row)?),
                            expires_at_ms: row.expires_at_ms,
                            dirty: false,
                            touched: false,
                        };
                        show(&key, &entry)
                    };
                    if shown.is_break() {
                        return Ok(());
                    }
                }
                match chunk.last() {
                    Some((last, _)) if chunk.len() == rows => {
                        start.clone_from(last);
                        start.push(0);
                    }
                    _ => break,
                }
            }
        }
        for (key, entry) in changed {
            if show(key, entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Brings an entry into memory, also the knowledge that there is none.
    fn fetch(&mut self, key: &K) -> Result<(), StateError> {
        if let Some(entry) = self.entries.get_mut(key) {
            if !entry.touched && expired(entry.expires_at_ms, self.now) {
                entry.value = None;
            }
            return Ok(());
        }
        let mut entry = Entry {
            value: None,
            expires_at_ms: 0,
            dirty: false,
            touched: false,
        };
        if let Some(site) = &self.site {
            let row = site
                .rows
                .borrow()
                .get(&site.entry_key(|out| key.encode_key(out)))?;
            if let Some(bytes) = row {
                let row = RowValue::parse(&bytes)
                    .ok_or_else(|| site.decode_error("the row is too short"))?;
                if !row.expired(self.now) {
                    entry.value = Some(site.decode(row)?);
                    entry.expires_at_ms = row.expires_at_ms;
                }
            }
        }
        self.entries.insert(key.clone(), entry);
        Ok(())
    }

    fn write(&mut self, key: K, value: Option<V>) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let new = Entry {
                value,
                expires_at_ms: entry.expires_at_ms,
                dirty: entry.dirty,
                touched: true,
            };
            let old = std::mem::replace(entry, new);
            if !old.touched {
                self.undo.push((key, Some(old)));
            }
        } else {
            self.entries.insert(
                key.clone(),
                Entry {
                    value,
                    expires_at_ms: 0,
                    dirty: false,
                    touched: true,
                },
            );
            self.undo.push((key, None));
        }
    }

    /// Between invocations: lets the entries go that were read, when there are many. Written ones stay until a cut.
    fn shrink(&mut self) {
        if self.entries.len() > CACHED_ENTRIES + self.dirty.len() {
            self.entries.retain(|_, entry| entry.dirty);
        }
    }

    /// Counts an entry as written, so that its expiry moves.
    fn touch(&mut self, key: &K) {
        if let Some(entry) = self.entries.get_mut(key)
            && !entry.touched
        {
            self.undo.push((key.clone(), Some(entry.clone())));
            entry.touched = true;
        }
    }
}

fn decode_entry_key<K: TableKey>(site: &StateSite, row_key: &[u8]) -> Result<K, StateError> {
    row_key
        .get(site.key.len()..)
        .and_then(|mut rest| K::decode_key(&mut rest).filter(|_| rest.is_empty()))
        .ok_or_else(|| site.decode_error("the key of an entry is malformed"))
}

impl<K: TableKey, V: StateValue> PersistedState for PersistedTable<K, V> {
    type Value = V;
    type Key = K;
    const KIND: StateKind = StateKind::Table;
    const HAS_ROW: bool = false;
    const NEEDS_SITE: bool = true;

    fn absent() -> Self {
        Self::default()
    }

    fn load(&mut self, _row: Option<RowBytes<'_>>, site: Option<StateSite>) -> Result<(), String> {
        self.site = site;
        Ok(())
    }

    fn check_row(RowBytes(row, forms): RowBytes<'_>, rest: &[u8]) -> Result<RowContent, String> {
        let mut key = rest;
        K::decode_key(&mut key)
            .filter(|_| key.is_empty())
            .ok_or("the key of an entry is malformed")?;
        forms.decode::<V>(row).map(|_| RowContent::Value)
    }

    fn expire(&mut self, now: Timestamp) -> bool {
        self.now = now;
        false
    }

    fn check(&self) -> Result<(), String> {
        let changed = self
            .undo
            .iter()
            .filter_map(|(key, _)| self.entries.get(key));
        for value in changed.filter_map(|entry| entry.value.as_ref()) {
            encode_value(value, &mut Vec::new())?;
        }
        Ok(())
    }

    fn commit(&mut self, now: Timestamp, expiration: Expiration) -> bool {
        for (key, _) in self.undo.drain(..) {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.touched = false;
                entry.expires_at_ms = if entry.value.is_some() {
                    expiry_from(expiration, now)
                } else {
                    0
                };
                if !std::mem::replace(&mut entry.dirty, true) {
                    self.dirty.push(key);
                }
            }
        }
        self.shrink();
        !self.dirty.is_empty()
    }

    fn rollback(&mut self) {
        while let Some((key, old)) = self.undo.pop() {
            match old {
                Some(old) => self.entries.insert(key, old),
                None => self.entries.remove(&key),
            };
        }
        self.shrink();
    }

    fn flush(&mut self, flush: &mut Flush<'_>) -> Result<(), Unwritten> {
        let Some(site) = &self.site else {
            return Ok(());
        };
        let mut rows = site.rows.borrow_mut();
        let mut unwritten = Vec::new();
        let mut result = Ok(());
        for key in self.dirty.drain(..) {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let row_key = site.entry_key(|out| key.encode_key(out));
            match &entry.value {
                Some(value) => match encode_row(value, flush.schema, entry.expires_at_ms) {
                    Ok(row) => rows.put(row_key, row),
                    Err(problem) => {
                        unwritten.push(key);
                        result = result.and(Err(problem.into()));
                        continue;
                    }
                },
                None => rows.delete(row_key),
            }
            entry.dirty = false;
        }
        drop(rows);
        self.dirty.append(&mut unwritten);
        self.shrink();
        result
    }

    fn heap_bytes(&self) -> usize {
        self.entries.len() * (size_of::<K>() + size_of::<Entry<V>>() + 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    #[test]
    fn entries_expire_before_a_cut_has_written_them() {
        let mut table = PersistedTable::<u32, u32>::default();
        let ttl = Expiration::AfterWrite { after_ms: 100 };
        for (at, key) in [(1_000, 1), (1_050, 2)] {
            table.expire(Timestamp(at));
            table.set(key, key);
            table.commit(Timestamp(at), ttl);
        }
        table.expire(Timestamp(1_100));
        assert_eq!(table.entries().unwrap(), [(2, 2)]);
        table.set(1, 5);
        assert_eq!(
            table.entries().unwrap(),
            [(1, 5), (2, 2)],
            "written again by the running invocation"
        );
    }

    #[test]
    fn pages_begin_at_a_key_and_end_at_a_limit() {
        let mut table = PersistedTable::<u32, u32>::default();
        for key in (0..10).rev() {
            table.set(key, key * 10);
        }
        table.remove(&3);
        assert_eq!(
            table.entries_from(&2, 3).unwrap(),
            [(2, 20), (4, 40), (5, 50)]
        );
        assert_eq!(table.entries_from(&9, 3).unwrap(), [(9, 90)]);
        assert!(table.entries_from(&10, 3).unwrap().is_empty());
        assert!(table.entries_from(&0, 0).unwrap().is_empty());
        assert_eq!(table.first().unwrap(), Some((0, 0)));
        table.clear().unwrap();
        assert_eq!(
            (table.first().unwrap(), table.is_empty().unwrap()),
            (None, true)
        );
    }

    #[test]
    fn entries_that_were_only_read_do_not_pile_up() {
        let mut table = PersistedTable::<u32, u32>::default();
        table.set(7, 7);
        for key in 0..10_000 {
            let _ = table.get(&key).unwrap();
            table.commit(NOW, Expiration::None);
            assert!(table.entries.len() <= CACHED_ENTRIES + 1);
        }
        assert_eq!(
            table.get(&7).unwrap(),
            Some(&7),
            "what was written stays until it is a row"
        );
    }
}
