//! A hash index from addresses to slots that can be prefetched: open addressing, linear probing, deletion by shifting back.
//!
//! The hash is the address' own, computed once. A general hash map hides the place that a key will be looked up at, and
//! fetching that place ahead for a group of messages is what lets a worker run at the speed of its caches.

use crate::engine::slab::advise_huge;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    tag: u32,
    /// The slot + 1; 0 when the entry is free.
    slot: u32,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    len: usize,
}

/// Asks the processor to bring the cache line of a place in; a hint without any effect on memory.
#[inline(always)]
pub(crate) fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    #[expect(
        unsafe_code,
        reason = "the intrinsic is unsafe to call, yet reads nothing and cannot fault"
    )]
    // SAFETY: prefetching is a hint; it neither reads nor writes, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch(place.cast(), _MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Asks for all cache lines of a value.
#[inline(always)]
pub(crate) fn prefetch_all<T>(value: &T) {
    const LINE: usize = 64;
    let start: *const u8 = std::ptr::from_ref(value).cast();
    for offset in (0..size_of::<T>()).step_by(LINE) {
        prefetch(start.wrapping_add(offset));
    }
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![Entry::default(); 64],
            len: 0,
        }
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(Entry::default());
        self.len = 0;
    }

    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    fn tag(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    /// Fetches the place where a lookup of this hash begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(entry) = self.entries.get(hash as usize & self.mask()) {
            prefetch_all(entry);
        }
    }

    /// The first slot whose tag fits: right nearly always, and only good for prefetching.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// The slot of that hash which `is` confirms.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.mask();
        let tag = Self::tag(hash);
        let mut at = hash as usize & mask;
        loop {
            let entry = self.entries.get(at)?;
            if entry.slot == 0 {
                return None;
            }
            if entry.tag == tag && is(entry.slot - 1) {
                return Some(entry.slot - 1);
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a slot. `hash_of` gives the hash of a slot, for growing.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            let size = self.entries.len() * 2;
            let mut larger = Vec::with_capacity(size);
            advise_huge(&larger);
            larger.resize(size, Entry::default());
            let old = std::mem::replace(&mut self.entries, larger);
            for entry in old.into_iter().filter(|entry| entry.slot != 0) {
                self.place(hash_of(entry.slot - 1), entry.slot);
            }
        }
        self.place(hash, slot + 1);
        self.len += 1;
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        while self.entries.get(at).is_some_and(|entry| entry.slot != 0) {
            at = (at + 1) & mask;
        }
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = Entry {
                tag: Self::tag(hash),
                slot,
            };
        }
    }

    /// Removes a slot; entries behind it that probed past its place move back.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mask = self.mask();
        let mut hole = hash as usize & mask;
        loop {
            match self.entries.get(hole) {
                Some(entry) if entry.slot == slot + 1 => break,
                Some(entry) if entry.slot != 0 => hole = (hole + 1) & mask,
                _ => return,
            }
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(entry) = self
                .entries
                .get(at)
                .copied()
                .filter(|entry| entry.slot != 0)
            else {
                break;
            };
            let home = hash_of(entry.slot - 1) as usize & mask;
            // The entry may move to the hole only when its home does not lie behind the hole.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                if let Some(place) = self.entries.get_mut(hole) {
                    *place = entry;
                }
                hole = at;
            }
        }
        if let Some(place) = self.entries.get_mut(hole) {
            *place = Entry::default();
        }
        self.len -= 1;
    }

    /// What it occupies, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map, with hashes that collide often.
        #[test]
        fn it_finds_what_a_map_finds(steps in prop::collection::vec((any::<bool>(), 0u64..40), 0..600)) {
            let hash_of = |key: u64| (key % 7) | ((key % 3) << 32);
            let mut index = Index::new();
            let mut slots: Vec<u64> = vec![];
            let mut model: HashMap<u64, u32> = HashMap::new();
            for (insert, key) in steps {
                let hash = hash_of(key);
                if insert {
                    model.entry(key).or_insert_with(|| {
                        slots.push(key);
                        let slot = slots.len() as u32 - 1;
                        index.insert(hash, slot, |slot| hash_of(slots[slot as usize]));
                        slot
                    });
                } else if let Some(slot) = model.remove(&key) {
                    index.remove(hash, slot, |slot| hash_of(slots[slot as usize]));
                }
                for key in 0..40 {
                    let found = index.find(hash_of(key), |slot| slots[slot as usize] == key);
                    prop_assert_eq!(found, model.get(&key).copied());
                }
            }
        }
    }
}
