//! `PersistedValue`: one value per address.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::clock::Timestamp;
use crate::module::description::{Expiration, StateKind};
use crate::sdk::state::{
    Flush, PersistedState, ROW_HEADER_BYTES, RowBytes, RowContent, StateSite, StateValue,
    Unwritten, access_extends, encode_value, expired, expiry_from,
};

/// One value per address, read and written like a field.
///
/// An absent value reads as `T::default()`; [`get`](Self::get) tells the difference. The first change in an invocation
/// keeps a copy (a `set` moves the old value), so that the invocation can be undone.
///
/// ```
/// # use statefun_core::prelude::*;
/// # let mut visits = PersistedValue::<u32>::default();
/// assert_eq!((*visits, visits.get()), (0, None)); // absent
/// *visits += 1;
/// assert_eq!(visits.get(), Some(&1));
/// assert_eq!(visits.update(|visits| *visits *= 10), &10);
/// visits.set(3);
/// visits.clear();
/// assert_eq!(visits.get(), None);
/// ```
///
/// A map or list that is read and written as a whole is a value, too: `PersistedValue<Vec<u8>>`.
#[derive(Debug, Default)]
pub struct PersistedValue<T> {
    value: T,
    saved: Option<T>,
    expires_at_ms: u64,
    /// Of its row, as it was last read or written.
    row_bytes: u32,
    flags: Cell<Flags>,
}

#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts in four bytes"
)]
struct Flags {
    present: bool,
    saved_present: bool,
    read: bool,
    /// Changed since the last cut.
    dirty: bool,
}

impl<T: StateValue> PersistedValue<T> {
    /// The value, or none when it is absent.
    pub fn get(&self) -> Option<&T> {
        self.note_read();
        self.flags.get().present.then_some(&self.value)
    }

    /// Sets the value.
    pub fn set(&mut self, value: T) {
        let old = std::mem::replace(&mut self.value, value);
        self.changed(|| old, true);
    }

    /// Makes the value absent.
    pub fn clear(&mut self) {
        let old = std::mem::take(&mut self.value);
        self.changed(|| old, false);
    }

    /// Changes the value in place, starting from the default when it is absent, and returns what it has become.
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> &T {
        change(&mut *self);
        &self.value
    }

    fn changed(&mut self, old: impl FnOnce() -> T, present: bool) {
        let flags = self.flags.get_mut();
        if self.saved.is_none() {
            flags.saved_present = flags.present;
            self.saved = Some(old());
        }
        flags.present = present;
    }

    fn note_read(&self) {
        let flags = self.flags.get();
        if !flags.read {
            self.flags.set(Flags {
                read: true,
                ..flags
            });
        }
    }
}

impl<T: StateValue> Deref for PersistedValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.note_read();
        &self.value
    }
}

impl<T: StateValue> DerefMut for PersistedValue<T> {
    fn deref_mut(&mut self) -> &mut T {
        if self.saved.is_none() {
            let old = self.value.clone();
            self.changed(|| old, true);
        } else {
            self.flags.get_mut().present = true;
        }
        &mut self.value
    }
}

impl<T: StateValue> PersistedState for PersistedValue<T> {
    type Value = T;
    type Key = ();
    const KIND: StateKind = StateKind::Value;
    const HAS_ROW: bool = true;
    const NEEDS_SITE: bool = false;

    fn absent() -> Self {
        Self::default()
    }

    fn load(&mut self, row: Option<RowBytes<'_>>, _site: Option<StateSite>) -> Result<(), String> {
        if let Some(RowBytes(row, forms)) = row {
            self.value = forms.decode(row)?;
            self.expires_at_ms = row.expires_at_ms;
            self.row_bytes = (ROW_HEADER_BYTES + row.payload.len()) as u32;
            self.flags.get_mut().present = true;
        }
        Ok(())
    }

    fn check_row(RowBytes(row, forms): RowBytes<'_>, _rest: &[u8]) -> Result<RowContent, String> {
        forms.decode::<T>(row).map(|_| RowContent::Value)
    }

    fn expire(&mut self, now: Timestamp) -> bool {
        let flags = self.flags.get_mut();
        let gone = flags.present && expired(self.expires_at_ms, now);
        if gone {
            self.value = T::default();
            self.expires_at_ms = 0;
            self.row_bytes = 0;
            flags.present = false;
            flags.dirty = true;
        }
        gone
    }

    fn check(&self) -> Result<(), String> {
        if self.saved.is_some() && self.flags.get().present {
            encode_value(&self.value, &mut Vec::new())?;
        }
        Ok(())
    }

    fn commit(&mut self, now: Timestamp, expiration: Expiration) -> bool {
        let flags = self.flags.get_mut();
        let read = std::mem::take(&mut flags.read);
        if self.saved.is_some() {
            self.saved = None;
            self.expires_at_ms = if flags.present {
                expiry_from(expiration, now)
            } else {
                0
            };
            flags.dirty = true;
        } else if read && flags.present && access_extends(expiration, self.expires_at_ms, now) {
            self.expires_at_ms = expiry_from(expiration, now);
            flags.dirty = true;
        }
        flags.dirty
    }

    fn rollback(&mut self) {
        let flags = self.flags.get_mut();
        flags.read = false;
        if let Some(saved) = self.saved.take() {
            self.value = saved;
            flags.present = flags.saved_present;
        }
    }

    fn flush(&mut self, flush: &mut Flush<'_>) -> Result<(), Unwritten> {
        let flags = self.flags.get_mut();
        if flags.dirty {
            if flags.present {
                let bytes = flush.put(self.expires_at_ms, |out| encode_value(&self.value, out))?;
                self.row_bytes = bytes as u32;
            } else {
                flush.delete();
                self.row_bytes = 0;
            }
            flags.dirty = false;
        }
        Ok(())
    }

    fn value_bytes(&self) -> usize {
        self.row_bytes as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn committed(value: u32) -> PersistedValue<u32> {
        let mut state = PersistedValue::<u32>::default();
        state.set(value);
        assert!(state.commit(NOW, Expiration::None));
        state
    }

    #[test]
    fn an_absent_value_reads_as_the_default() {
        let mut state = PersistedValue::<u32>::default();
        assert_eq!((*state, state.get()), (0, None));
        *state += 1;
        assert_eq!(state.get(), Some(&1));
    }

    #[test]
    fn a_rollback_takes_back_every_kind_of_change() {
        let mut state = committed(5);
        for change in [
            |state: &mut PersistedValue<u32>| state.set(9),
            |state: &mut PersistedValue<u32>| state.clear(),
            |state: &mut PersistedValue<u32>| **state += 3,
            |state: &mut PersistedValue<u32>| {
                state.clear();
                state.set(1);
                **state += 1;
            },
        ] {
            change(&mut state);
            state.rollback();
            assert_eq!(state.get(), Some(&5));
        }
        let mut absent = PersistedValue::<u32>::default();
        *absent += 1;
        absent.rollback();
        assert_eq!(absent.get(), None);
    }

    #[test]
    fn it_expires_after_the_last_write_or_access() {
        let write = Expiration::AfterWrite { after_ms: 160 };
        let mut state = committed(5);
        state.set(6);
        state.commit(NOW, write);
        assert!(!state.expire(Timestamp(1_159)));
        let _ = state.get();
        state.commit(Timestamp(1_100), write);
        assert!(state.expire(Timestamp(1_160)), "reading does not extend it");
        assert_eq!(state.get(), None);

        let access = Expiration::AfterAccess { after_ms: 160 };
        state.set(7);
        state.commit(NOW, access);
        let _ = state.get();
        state.commit(Timestamp(1_100), access);
        assert!(!state.expire(Timestamp(1_160)), "reading extends it");
        assert!(state.expire(Timestamp(1_260)));
    }
}
