//! The rows of one worker that are not the values of cached instances: table entries, buffer elements, timers, queues.
//!
//! A change lives here from the invocation that made it until the state store has applied its epoch; a read looks here
//! first and then in the store. Tombstones are kept like values.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use crate::state::{Row, StateError, StateReader};

/// How the rows of an epoch stand in its record: `key length (u32) · value length + 1, or 0 for a delete (u32) · key · value`.
pub(crate) mod framing {
    /// Appends a row.
    pub(crate) fn push(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        let tag = value.map_or(0, |value| value.len() as u32 + 1);
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.unwrap_or_default());
    }

    /// Appends a row that `key` and `value` write in place, without copies; none of it remains when they fail.
    pub(crate) fn push_with<E>(
        out: &mut Vec<u8>,
        key: impl FnOnce(&mut Vec<u8>),
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        key(out);
        let middle = out.len();
        if let Err(error) = value(out) {
            out.truncate(start);
            return Err(error);
        }
        let (key_len, value_len) = ((middle - start - 8) as u32, (out.len() - middle) as u32);
        if let Some(header) = out.get_mut(start..start + 8) {
            header[..4].copy_from_slice(&key_len.to_le_bytes());
            header[4..].copy_from_slice(&(value_len + 1).to_le_bytes());
        }
        Ok(value_len as usize)
    }

    /// The rows of a section, in order; ends early, with `None` as its last item, when the bytes are malformed.
    pub(crate) fn iter(mut bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], Option<&[u8]>)>> {
        std::iter::from_fn(move || {
            if bytes.is_empty() {
                return None;
            }
            let row = take(&mut bytes);
            if row.is_none() {
                bytes = &[];
            }
            Some(row)
        })
    }

    fn take<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let (key_len, rest) = bytes.split_first_chunk::<4>()?;
        let (tag, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
        let tag = u32::from_le_bytes(*tag);
        let (value, rest) = rest.split_at_checked(tag.saturating_sub(1) as usize)?;
        *bytes = rest;
        Some((key, (tag > 0).then_some(value)))
    }
}

#[derive(Debug)]
struct CutRow {
    epoch: u64,
    value: Option<Box<[u8]>>,
}

/// The worker's rows; see the module's page.
pub(crate) struct RowStore {
    store: Arc<dyn StateReader>,
    /// Changed since the last cut.
    pending: BTreeMap<Vec<u8>, Option<Box<[u8]>>>,
    /// Cut, and not yet applied by the store.
    cut: BTreeMap<Vec<u8>, CutRow>,
    by_epoch: VecDeque<(u64, Vec<Vec<u8>>)>,
    bytes: usize,
}

/// The rows of a worker, as its tables and buffers share them. A worker is one thread.
pub(crate) type SharedRows = Rc<RefCell<RowStore>>;

impl RowStore {
    pub(crate) fn shared(store: Arc<dyn StateReader>) -> SharedRows {
        Rc::new(RefCell::new(Self {
            store,
            pending: BTreeMap::new(),
            cut: BTreeMap::new(),
            by_epoch: VecDeque::new(),
            bytes: 0,
        }))
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.change(key, Some(value.into_boxed_slice()));
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.change(key, None);
    }

    fn change(&mut self, key: Vec<u8>, value: Option<Box<[u8]>>) {
        let key_len = key.len();
        if let Some(old) = self.pending.insert(key, value) {
            self.bytes -= key_len + old.map_or(0, |old| old.len());
        }
    }

    /// What the rows that the store has not applied occupy, roughly.
    pub(crate) fn unapplied_bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.overlay(key) {
            Some(newer) => Ok(newer),
            None => self.store.get(key),
        }
    }

    /// What the store does not know of a row yet; none when the store knows all.
    pub(crate) fn overlay(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let value = match self.pending.get(key) {
            Some(value) => value,
            None => &self.cut.get(key)?.value,
        };
        Some(value.as_deref().map(<[u8]>::to_vec))
    }

    /// Up to `limit` rows from `start` on and before `end` (no end when it is empty), in the order of their keys.
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let mut rows = Vec::new();
        let mut from = start.to_vec();
        if !end.is_empty() && start >= end {
            return Ok(rows);
        }
        loop {
            // What the store gives may be deleted here, so more than one round can be needed.
            let wanted = limit - rows.len();
            let stored = self.store.scan(&from, end, wanted)?;
            let complete = stored.len() < wanted;
            let horizon = match stored.last() {
                Some((last, _)) if !complete => Some(last.clone()),
                _ => None,
            };
            self.merge(&from, end, horizon.as_deref(), stored, limit, &mut rows);
            match horizon {
                Some(last) if rows.len() < limit => {
                    from = last;
                    from.push(0);
                }
                _ => {
                    rows.truncate(limit);
                    return Ok(rows);
                }
            }
        }
    }

    /// Merges the store's rows with the newer ones up to `horizon`, the last key that the store has answered for, until there
    /// are `limit`: a scan of few rows costs as much however many there are behind them.
    fn merge(
        &self,
        from: &[u8],
        end: &[u8],
        horizon: Option<&[u8]>,
        stored: Vec<Row>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) {
        let upper = match horizon {
            Some(last) => Bound::Included(last),
            None if end.is_empty() => Bound::Unbounded,
            None => Bound::Excluded(end),
        };
        let range = (Bound::Included(from), upper);
        let mut newer = self.newer(range).peekable();
        for (key, value) in stored {
            while rows.len() < limit
                && let Some((new_key, new_value)) =
                    newer.next_if(|(new_key, _)| *new_key < key.as_slice())
            {
                rows.extend(new_value.map(|value| (new_key.to_vec(), value.to_vec())));
            }
            if rows.len() >= limit {
                return;
            }
            match newer.next_if(|(new_key, _)| *new_key == key.as_slice()) {
                Some((_, Some(new_value))) => rows.push((key, new_value.to_vec())),
                Some((_, None)) => {}
                None => rows.push((key, value)),
            }
        }
        while rows.len() < limit
            && let Some((new_key, new_value)) = newer.next()
        {
            rows.extend(new_value.map(|value| (new_key.to_vec(), value.to_vec())));
        }
    }

    /// The rows of a range that the store does not have yet, in the order of their keys; a delete has no value.
    fn newer<'a>(
        &'a self,
        range: (Bound<&'a [u8]>, Bound<&'a [u8]>),
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let cut = self.cut.range::<[u8], _>(range);
        let mut cut = cut
            .map(|(key, row)| (&key[..], row.value.as_deref()))
            .peekable();
        let pending = self.pending.range::<[u8], _>(range);
        let mut pending = pending
            .map(|(key, value)| (&key[..], value.as_deref()))
            .peekable();
        std::iter::from_fn(move || {
            let Some((next, _)) = pending.peek() else {
                return cut.next();
            };
            if let Some(older) = cut.next_if(|(key, _)| key < next) {
                return Some(older);
            }
            let _ = cut.next_if(|(key, _)| key == next);
            pending.next()
        })
    }

    /// Writes the changes since the last cut into the section of `epoch`; returns how many there were.
    pub(crate) fn cut(&mut self, epoch: u64, out: &mut Vec<u8>) -> usize {
        if self.pending.is_empty() {
            return 0;
        }
        let mut keys = Vec::with_capacity(self.pending.len());
        for (key, value) in std::mem::take(&mut self.pending) {
            framing::push(out, &key, value.as_deref());
            keys.push(key.clone());
            let key_len = key.len();
            if let Some(old) = self.cut.insert(key, CutRow { epoch, value }) {
                self.bytes -= key_len + old.value.map_or(0, |old| old.len());
            }
        }
        let count = keys.len();
        self.by_epoch.push_back((epoch, keys));
        count
    }

    /// Forgets the rows of the epochs that the store has applied.
    pub(crate) fn applied(&mut self, applied: u64) {
        while self
            .by_epoch
            .front()
            .is_some_and(|(epoch, _)| *epoch <= applied)
        {
            for key in self
                .by_epoch
                .pop_front()
                .map(|(_, keys)| keys)
                .unwrap_or_default()
            {
                if self.cut.get(&key).is_some_and(|row| row.epoch <= applied)
                    && let Some(row) = self.cut.remove(&key)
                {
                    self.bytes -= key.len() + row.value.map_or(0, |value| value.len());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::StateStore;
    use crate::state::memory::MemoryStore;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, u8),
        Delete(u8),
        Cut,
        Apply,
        Scan(u8, u8, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![
                4 => (0u8..24, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
                2 => (0u8..24).prop_map(Step::Delete),
                1 => Just(Step::Cut),
                1 => Just(Step::Apply),
                2 => (0u8..24, 0u8..26, 1u8..9).prop_map(|(start, end, limit)| Step::Scan(start, end, limit)),
            ],
            0..80,
        )
    }

    proptest! {
        /// Against a plain map: whatever is pending, cut or applied, reads and scans see the newest rows.
        #[test]
        fn reads_see_the_newest_rows(steps in steps()) {
            let store = Arc::new(MemoryStore::default());
            let rows = RowStore::shared(store.clone());
            let mut rows = rows.borrow_mut();
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut sections: Vec<(u64, Vec<u8>)> = vec![];
            let mut epoch = 1;
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        rows.put(vec![key], vec![value]);
                        model.insert(vec![key], vec![value]);
                    }
                    Step::Delete(key) => {
                        rows.delete(vec![key]);
                        model.remove(&vec![key]);
                    }
                    Step::Cut => {
                        let mut section = vec![];
                        rows.cut(epoch, &mut section);
                        sections.push((epoch, section));
                        epoch += 1;
                    }
                    Step::Apply => {
                        if let Some((epoch, section)) = (!sections.is_empty()).then(|| sections.remove(0)) {
                            let mut changes = framing::iter(&section).map(|row| row.unwrap());
                            store.apply(epoch, &mut changes).unwrap();
                            rows.applied(epoch);
                        }
                    }
                    Step::Scan(start, end, limit) => {
                        let end = if end > 24 { vec![] } else { vec![end] };
                        let got = rows.scan(&[start], &end, usize::from(limit)).unwrap();
                        let want: Vec<Row> = model
                            .range(vec![start]..)
                            .filter(|(key, _)| end.is_empty() || **key < end)
                            .take(usize::from(limit))
                            .map(|(key, value)| (key.clone(), value.clone()))
                            .collect();
                        prop_assert_eq!(got, want);
                    }
                }
                for key in 0..24u8 {
                    prop_assert_eq!(rows.get(&[key]).unwrap(), model.get(&vec![key]).cloned());
                }
            }
            let mut section = vec![];
            rows.cut(epoch, &mut section);
            rows.applied(epoch);
            prop_assert_eq!(rows.unapplied_bytes(), 0);
        }

        #[test]
        fn malformed_sections_end_without_a_panic(bytes: Vec<u8>) {
            let _ = framing::iter(&bytes).count();
        }
    }
}
