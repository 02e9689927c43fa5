//! Messages to be sent later. Each is a row under its sender's key group, by time; the soonest are in memory as well.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::engine::rows::RowStore;
use crate::id::KeyGroup;
use crate::state::StateError;
use crate::state::keys::{Space, group_key, prefix_end};

/// Timers held in memory; of more, the later ones are only rows until their time comes near.
const NEAR_TIMERS: usize = 50_000;
const REFILL_ROWS: usize = 64;

/// A timer's place in time: due, and a number that is unique in its key group.
pub(crate) type TimerKey = (Timestamp, u64);

/// The timers of one worker.
#[derive(Debug)]
pub(crate) struct Timers {
    near: BTreeSet<(TimerKey, KeyGroup)>,
    /// All timers due before this are in `near`.
    horizon: Timestamp,
    groups: std::ops::Range<u32>,
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
        }
    }

    /// Notes a timer whose row has been written.
    pub(crate) fn insert(&mut self, group: KeyGroup, timer: TimerKey) {
        if timer.0 >= self.horizon {
            return;
        }
        self.near.insert((timer, group));
        if self.near.len() > NEAR_TIMERS {
            let middle = self
                .near
                .iter()
                .nth(NEAR_TIMERS / 2)
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
        let mut limit = REFILL_ROWS;
        loop {
            let mut horizon = Timestamp(u64::MAX);
            let mut found = Vec::new();
            // Most often there is none at all, and one look tells.
            let first = group_key(Space::Timer, self.groups.start as KeyGroup);
            let last = prefix_end(&group_key(
                Space::Timer,
                self.groups.end.saturating_sub(1) as KeyGroup,
            ));
            if !rows.scan(&first, &last, 1)?.is_empty() {
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
}
