//! Messages to be sent later. Each is a row under its sender's key group, by time; the soonest are in memory as well.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::engine::rows::RowStore;
use crate::id::KeyGroup;
use crate::state::StateError;
use crate::state::keys::{Space, group_key, prefix_end};

/// How many timers are where.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Timers held in memory; of more, the later ones are only rows until their time comes near.
    near: usize,
    /// Fewer timers than this are all brought into memory at once.
    few: usize,
    /// Rows of a key group that are looked at together, when there are more.
    chunk: usize,
}

const BOUNDS: Bounds = Bounds {
    near: 50_000,
    few: 4_096,
    chunk: 64,
};

/// A timer's place in time: due, and a number that is unique in its key group.
pub(crate) type TimerKey = (Timestamp, u64);

/// The timers of one worker.
#[derive(Debug)]
pub(crate) struct Timers {
    near: BTreeSet<(TimerKey, KeyGroup)>,
    /// All timers due before this are in `near`.
    horizon: Timestamp,
    groups: std::ops::Range<u32>,
    bounds: Bounds,
}

/// The row key of a timer.
pub(crate) fn timer_key(group: KeyGroup, (due, sequence): TimerKey) -> Vec<u8> {
    let mut key = group_key(Space::Timer, group);
    key.extend_from_slice(&due.as_ms().to_be_bytes());
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

fn parse(key: &[u8]) -> Option<TimerKey> {
    let (due, rest) = key.get(3..)?.split_first_chunk::<8>()?;
    let sequence = rest.first_chunk::<8>()?;
    Some((
        Timestamp(u64::from_be_bytes(*due)),
        u64::from_be_bytes(*sequence),
    ))
}

impl Timers {
    /// The timers of a range of key groups; those in the store are found when they are due.
    pub(crate) fn new(groups: std::ops::Range<u32>) -> Self {
        Self {
            near: BTreeSet::new(),
            horizon: Timestamp(0),
            groups,
            bounds: BOUNDS,
        }
    }

    /// Notes a timer whose row has been written.
    pub(crate) fn insert(&mut self, group: KeyGroup, timer: TimerKey) {
        if timer.0 >= self.horizon {
            return;
        }
        self.near.insert((timer, group));
        if self.near.len() > self.bounds.near {
            let middle = self
                .near
                .iter()
                .nth(self.bounds.near / 2)
                .map_or(self.horizon, |((due, _), _)| *due);
            self.near.split_off(&((middle, 0), 0));
            self.horizon = middle;
        }
    }

    /// Forgets a timer whose row has been deleted.
    pub(crate) fn remove(&mut self, group: KeyGroup, timer: TimerKey) {
        self.near.remove(&(timer, group));
    }

    /// When to look again; none when there is no timer at all.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        match self.near.first() {
            Some(((due, _), _)) => Some(*due),
            None if self.horizon < Timestamp(u64::MAX) => Some(self.horizon),
            None => None,
        }
    }

    /// Takes a timer that is due.
    pub(crate) fn pop_due(
        &mut self,
        now: Timestamp,
        rows: &RowStore,
    ) -> Result<Option<(KeyGroup, TimerKey)>, StateError> {
        while self.near.is_empty() && self.horizon <= now {
            self.refill(rows)?;
        }
        match self.near.first() {
            Some(((due, _), _)) if *due <= now => {
                Ok(self.near.pop_first().map(|(timer, group)| (group, timer)))
            }
            _ => Ok(None),
        }
    }

    /// Brings the next timers behind the horizon into memory.
    fn refill(&mut self, rows: &RowStore) -> Result<(), StateError> {
        if self.refill_all(rows)? {
            return Ok(());
        }
        let mut limit = self.bounds.chunk;
        loop {
            let mut horizon = Timestamp(u64::MAX);
            let mut found = Vec::new();
            for group in self.groups.clone() {
                let group = group as KeyGroup;
                let start = timer_key(group, (self.horizon, 0));
                let chunk =
                    rows.scan(&start, &prefix_end(&group_key(Space::Timer, group)), limit)?;
                let full = chunk.len() == limit;
                let timers: Vec<TimerKey> =
                    chunk.iter().filter_map(|(key, _)| parse(key)).collect();
                if full && let Some((due, _)) = timers.last() {
                    horizon = horizon.min(*due);
                }
                found.extend(timers.into_iter().map(|timer| (timer, group)));
            }
            if horizon > self.horizon {
                found.retain(|((due, _), _)| *due < horizon);
                self.near.extend(found);
                self.horizon = horizon;
                return Ok(());
            }
            // More timers are due at one moment than a chunk holds.
            limit *= 4;
        }
    }

    /// Brings all timers behind the horizon into memory, when they are few; false when they are not. Most often there are
    /// none or few, and one look over all key groups is cheaper than one at each.
    fn refill_all(&mut self, rows: &RowStore) -> Result<bool, StateError> {
        if self.groups.is_empty() {
            self.horizon = Timestamp(u64::MAX);
            return Ok(true);
        }
        let first = group_key(Space::Timer, self.groups.start as KeyGroup);
        let last = group_key(Space::Timer, (self.groups.end - 1) as KeyGroup);
        let found = rows.scan(&first, &prefix_end(&last), self.bounds.few)?;
        if found.len() == self.bounds.few {
            return Ok(false);
        }
        for (key, _) in &found {
            if let (Some(timer), Some(group)) = (parse(key), key.get(1..3)) {
                let group = group
                    .iter()
                    .fold(0, |group, byte| group << 8 | KeyGroup::from(*byte));
                if timer.0 >= self.horizon {
                    self.near.insert((timer, group));
                }
            }
        }
        self.horizon = Timestamp(u64::MAX);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::state::memory::MemoryStore;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(KeyGroup, u64),
        Remove(usize),
        Wait(u64),
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![
                8 => (2u16..6, 0u64..40).prop_map(|(group, delay)| Step::Insert(group, delay)),
                2 => (0usize..40).prop_map(Step::Remove),
                2 => (0u64..12).prop_map(Step::Wait),
                1 => Just(Step::Restart),
            ],
            0..120,
        )
    }

    proptest! {
        /// However many of them memory may hold, each comes once, when it is due, the earliest first.
        #[test]
        fn timers_come_when_they_are_due(steps in steps(), near in 2usize..20, few in 1usize..30, chunk in 1usize..6) {
            let rows = RowStore::shared(Arc::new(MemoryStore::default()));
            let start = || Timers { bounds: Bounds { near, few, chunk }, ..Timers::new(2..6) };
            let (mut timers, mut model, mut now) = (start(), BTreeSet::new(), 0);
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(group, delay) => {
                        let timer = (Timestamp(now + delay), number as u64);
                        rows.borrow_mut().put(timer_key(group, timer), Vec::new());
                        timers.insert(group, timer);
                        model.insert((timer, group));
                    }
                    Step::Remove(which) => {
                        if let Some((timer, group)) = model.iter().nth(which).copied() {
                            rows.borrow_mut().delete(timer_key(group, timer));
                            timers.remove(group, timer);
                            model.remove(&(timer, group));
                        }
                    }
                    Step::Wait(time) => now += time,
                    Step::Restart => timers = start(),
                }
                loop {
                    let due = timers.pop_due(Timestamp(now), &rows.borrow()).unwrap();
                    let expected = model.first().filter(|((due, _), _)| *due <= Timestamp(now)).copied();
                    prop_assert_eq!(due.map(|(group, timer)| (timer, group)), expected);
                    let Some((group, timer)) = due else { break };
                    rows.borrow_mut().delete(timer_key(group, timer));
                    model.remove(&(timer, group));
                }
                if let Some(((due, _), _)) = model.first() {
                    prop_assert!(timers.next_due().is_some_and(|look| look <= *due));
                }
            }
        }
    }
}
