//! `PersistedBuffer`: an append-only list per address, whose elements are rows of their own.

use crate::clock::Timestamp;
use crate::engine::rows::RowStore;
use crate::module::description::{Expiration, StateKind};
use crate::sdk::state::{
    Flush, PersistedState, RowBytes, RowContent, RowValue, StateSite, StateValue, Unwritten,
    decode_value, encode_row, encode_value, expired, expiry_from,
};
use crate::state::StateError;

const CHUNK_ROWS: usize = 512;
/// Elements that are looked at together for those at the front that have expired; most often it is one.
const TRIM_ROWS: usize = 16;

/// A list per address that is appended to without being read: its cost does not grow with its length.
///
/// ```
/// # use statefun_core::prelude::*;
/// # let mut mails = PersistedBuffer::<String>::default();
/// mails.append("hi".to_owned());
/// mails.append_all(["hello".to_owned(), "bye".to_owned()]);
/// assert_eq!(mails.len(), 3);
///
/// let mut longest = 0;
/// mails.for_each(|mail| longest = longest.max(mail.len()))?; // a chunk in memory at a time
/// assert_eq!(longest, 5);
///
/// mails.replace_with(["again".to_owned()]);
/// assert_eq!(mails.view()?, ["again"]); // all of it
/// mails.clear();
/// assert!(mails.is_empty());
/// # Ok::<(), statefun_core::state::StateError>(())
/// ```
#[derive(Debug)]
pub struct PersistedBuffer<T> {
    /// Sequence numbers of the stored elements: `first..next`, those in `pending` included.
    first: u64,
    next: u64,
    /// Elements that are not rows yet, with their expiry; the last ones of `first..next`.
    pending: Vec<(T, u64)>,
    undo: Option<Undo<T>>,
    /// Elements before this one are to be deleted at the next cut, from `deleted_from` on.
    deleted_from: u64,
    /// When the last element expires, and so all of them have; 0 for never.
    expires_at_ms: u64,
    /// When the first stored element expires, where that is known.
    first_expires_at_ms: Option<u64>,
    dirty: bool,
    site: Option<StateSite>,
    now: Timestamp,
}

#[derive(Debug)]
struct Undo<T> {
    first: u64,
    next: u64,
    /// What `clear` took away.
    cleared: Option<Vec<(T, u64)>>,
    pending: usize,
}

impl<T> Undo<T> {
    /// Where in `pending` the elements of the running invocation begin.
    fn first_new(&self) -> usize {
        if self.cleared.is_some() {
            0
        } else {
            self.pending
        }
    }
}

impl<T> Default for PersistedBuffer<T> {
    fn default() -> Self {
        Self {
            first: 0,
            next: 0,
            pending: Vec::new(),
            undo: None,
            deleted_from: 0,
            expires_at_ms: 0,
            first_expires_at_ms: None,
            dirty: false,
            site: None,
            now: Timestamp::default(),
        }
    }
}

impl<T: StateValue> PersistedBuffer<T> {
    /// Appends an element.
    pub fn append(&mut self, element: T) {
        self.remember();
        self.pending.push((element, 0));
        self.next += 1;
    }

    /// Appends elements, in order.
    pub fn append_all(&mut self, elements: impl IntoIterator<Item = T>) {
        for element in elements {
            self.append(element);
        }
    }

    /// Replaces all elements.
    pub fn replace_with(&mut self, elements: impl IntoIterator<Item = T>) {
        self.clear();
        self.append_all(elements);
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.remember();
        self.first = self.next;
        self.first_expires_at_ms = None;
        let pending = std::mem::take(&mut self.pending);
        if let Some(undo) = &mut self.undo
            && undo.cleared.is_none()
        {
            let mut kept = pending;
            kept.truncate(undo.pending);
            undo.cleared = Some(kept);
        }
    }

    /// How many elements were appended since the last `clear`. Expired ones count as long as there are others: until the end
    /// of the epoch that appends to the buffer next.
    pub fn len(&self) -> u64 {
        self.next - self.first
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All elements, in order. For long buffers prefer [`for_each`](Self::for_each).
    pub fn view(&self) -> Result<Vec<T>, StateError> {
        let mut elements = Vec::new();
        self.for_each(|element| elements.push(element.clone()))?;
        Ok(elements)
    }

    /// Visits all elements in order, a chunk in memory at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&T)) -> Result<(), StateError> {
        let stored = self.next - self.pending.len() as u64;
        if let Some(site) = self.site.as_ref().filter(|_| self.first < stored) {
            let mut start = site.entry_key(|out| out.extend_from_slice(&self.first.to_be_bytes()));
            let end = site.entry_key(|out| out.extend_from_slice(&stored.to_be_bytes()));
            loop {
                let chunk = site.rows.borrow().scan(&start, &end, CHUNK_ROWS)?;
                for (_, bytes) in &chunk {
                    let row = RowValue::parse(bytes)
                        .ok_or_else(|| site.decode_error("the row is too short"))?;
                    if !row.expired(self.now) {
                        visit(&site.decode(row)?);
                    }
                }
                match chunk.last() {
                    Some((last, _)) if chunk.len() == CHUNK_ROWS => {
                        start.clone_from(last);
                        start.push(0);
                    }
                    _ => break,
                }
            }
        }
        for (element, expires_at_ms) in &self.pending {
            if !expired(*expires_at_ms, self.now) {
                visit(element);
            }
        }
        Ok(())
    }

    fn remember(&mut self) {
        if self.undo.is_none() {
            self.undo = Some(Undo {
                first: self.first,
                next: self.next,
                cleared: None,
                pending: self.pending.len(),
            });
        }
    }
}

/// The first stored element that has not expired, and when it does; the rows of those before it are deleted.
fn trim(
    rows: &mut RowStore,
    site: &StateSite,
    mut first: u64,
    stored: u64,
    now: Timestamp,
) -> Result<(u64, Option<u64>), StateError> {
    let key = |sequence: u64| site.entry_key(|out| out.extend_from_slice(&sequence.to_be_bytes()));
    loop {
        let chunk = rows.scan(&key(first), &key(stored), TRIM_ROWS)?;
        let is_last = chunk.len() < TRIM_ROWS;
        for (row_key, bytes) in chunk {
            let row =
                RowValue::parse(&bytes).ok_or_else(|| site.decode_error("the row is too short"))?;
            let sequence = row_key
                .get(site.key.len()..)
                .and_then(|bytes| bytes.first_chunk::<8>())
                .ok_or_else(|| site.decode_error("the key of an element is malformed"))?;
            first = u64::from_be_bytes(*sequence);
            if !row.expired(now) {
                return Ok((first, Some(row.expires_at_ms)));
            }
            rows.delete(row_key);
            first += 1;
        }
        if is_last {
            return Ok((stored, None));
        }
    }
}

impl<T: StateValue> PersistedState for PersistedBuffer<T> {
    type Value = T;
    type Key = ();
    const KIND: StateKind = StateKind::Buffer;
    const HAS_ROW: bool = true;
    const NEEDS_SITE: bool = true;

    fn absent() -> Self {
        Self::default()
    }

    fn load(&mut self, row: Option<RowBytes<'_>>, site: Option<StateSite>) -> Result<(), String> {
        self.site = site;
        if let Some(RowBytes(row, _)) = row {
            (self.first, self.next) = decode_value(row.payload)?;
            self.deleted_from = self.first;
            self.expires_at_ms = row.expires_at_ms;
        }
        Ok(())
    }

    fn check_row(RowBytes(row, forms): RowBytes<'_>, rest: &[u8]) -> Result<RowContent, String> {
        if rest.is_empty() {
            return decode_value::<(u64, u64)>(row.payload).map(|_| RowContent::Other);
        }
        forms.decode::<T>(row).map(|_| RowContent::Value)
    }

    fn expire(&mut self, now: Timestamp) -> bool {
        self.now = now;
        let all = self.first < self.next && expired(self.expires_at_ms, now);
        if all {
            self.first = self.next;
            self.first_expires_at_ms = None;
            self.pending.clear();
            self.dirty = true;
        }
        all
    }

    fn check(&self) -> Result<(), String> {
        let new = self.undo.as_ref().map_or(usize::MAX, Undo::first_new);
        for (element, _) in self.pending.iter().skip(new) {
            encode_value(element, &mut Vec::new())?;
        }
        Ok(())
    }

    fn commit(&mut self, now: Timestamp, expiration: Expiration) -> bool {
        if let Some(undo) = self.undo.take() {
            for (_, expires_at_ms) in self.pending.iter_mut().skip(undo.first_new()) {
                *expires_at_ms = expiry_from(expiration, now);
            }
            if let Some((_, last)) = self.pending.last() {
                self.expires_at_ms = *last;
            }
            self.dirty = true;
        }
        self.dirty
    }

    fn rollback(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.first = undo.first;
            self.next = undo.next;
            self.first_expires_at_ms = None;
            match undo.cleared {
                Some(pending) => self.pending = pending,
                None => self.pending.truncate(undo.pending),
            }
        }
    }

    fn flush(&mut self, flush: &mut Flush<'_>) -> Result<(), Unwritten> {
        if !self.dirty {
            return Ok(());
        }
        let Some(site) = &self.site else {
            return Ok(());
        };
        let stored = self.next - self.pending.len() as u64;
        let mut rows = site.rows.borrow_mut();
        if self.deleted_from < self.first {
            let start =
                site.entry_key(|out| out.extend_from_slice(&self.deleted_from.to_be_bytes()));
            let end = site.entry_key(|out| out.extend_from_slice(&self.first.to_be_bytes()));
            loop {
                let chunk = rows.scan(&start, &end, CHUNK_ROWS)?;
                let whole = chunk.len() < CHUNK_ROWS;
                for (key, _) in chunk {
                    rows.delete(key);
                }
                if whole {
                    break;
                }
            }
            self.deleted_from = self.first;
        }
        let known = self.first_expires_at_ms;
        if self.expires_at_ms != 0 && known.is_none_or(|at| expired(at, self.now)) {
            (self.first, self.first_expires_at_ms) =
                trim(&mut rows, site, self.first, stored, self.now)?;
            self.deleted_from = self.first;
        }
        let mut written = 0;
        let mut result = Ok(());
        for (element, expires_at_ms) in &self.pending {
            let sequence = stored + written as u64;
            match encode_row(element, flush.schema, *expires_at_ms) {
                Ok(row) => rows.put(
                    site.entry_key(|out| out.extend_from_slice(&sequence.to_be_bytes())),
                    row,
                ),
                Err(problem) => {
                    result = Err(problem.into());
                    break;
                }
            }
            written += 1;
        }
        drop(rows);
        // Those behind one that cannot be written wait with it, so that the elements stay in order.
        self.pending.drain(..written);
        let next = stored + written as u64;
        let ends = (self.first, next);
        flush.put(self.expires_at_ms, |out| encode_value(&ends, out))?;
        self.dirty = result.is_err();
        result
    }

    fn heap_bytes(&self) -> usize {
        self.pending.len() * (size_of::<T>() + 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_expire_before_a_cut_has_written_them() {
        let mut buffer = PersistedBuffer::<u32>::default();
        let ttl = Expiration::AfterWrite { after_ms: 100 };
        for (at, element) in [(1_000, 1), (1_050, 2)] {
            buffer.expire(Timestamp(at));
            buffer.append(element);
            buffer.commit(Timestamp(at), ttl);
        }
        buffer.expire(Timestamp(1_100));
        buffer.append(3);
        assert_eq!(
            buffer.view().unwrap(),
            [2, 3],
            "what the running invocation appended has no expiry yet"
        );
    }
}
