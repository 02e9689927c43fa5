//! The values of keys that come in order: one by one, or by going through all rows between them, whichever costs less.

use crate::checkpoint::error::CheckpointError;
use crate::state::StateSnapshot;

/// Keys that are looked up together.
const GROUP: usize = 1024;
/// A scan pays while there is one wanted row in so many.
const SCAN_RATIO: usize = 8;
/// Of so many groups, one tries whether a scan would pay.
const TRY_EVERY: usize = 16;

/// See the module's page.
pub(crate) struct Lookup<'a> {
    snapshot: &'a dyn StateSnapshot,
    /// The keys of the group, one after the other, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
    /// Groups to be looked up one by one before a scan is tried again.
    single: usize,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(snapshot: &'a dyn StateSnapshot) -> Self {
        Self {
            snapshot,
            keys: Vec::new(),
            ends: Vec::new(),
            single: 0,
        }
    }

    /// Takes the next group: `next` appends a key, and says whether there was one. False when there are no more.
    pub(crate) fn fill(
        &mut self,
        mut next: impl FnMut(&mut Vec<u8>) -> Result<bool, CheckpointError>,
    ) -> Result<bool, CheckpointError> {
        self.keys.clear();
        self.ends.clear();
        while self.ends.len() < GROUP {
            if !next(&mut self.keys)? {
                return Ok(false);
            }
            self.ends.push(self.keys.len());
        }
        Ok(true)
    }

    fn key(&self, at: usize) -> Option<&[u8]> {
        let start = at
            .checked_sub(1)
            .map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.keys.get(start..*self.ends.get(at)?)
    }

    /// Gives each key of the group its value, none when there is no such row.
    pub(crate) fn each(
        &mut self,
        mut see: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let mut at = 0;
        if self.single == 0 {
            at = self.scan(&mut see)?;
            if at < self.ends.len() {
                self.single = TRY_EVERY;
            }
        } else {
            self.single -= 1;
        }
        while let Some(key) = self.key(at) {
            see(key, self.snapshot.get(key)?.as_deref())?;
            at += 1;
        }
        Ok(())
    }

    /// Goes through the rows from the first key on, as long as enough of them are wanted; returns how many keys are done.
    fn scan(
        &self,
        see: &mut impl FnMut(&[u8], Option<&[u8]>) -> Result<(), CheckpointError>,
    ) -> Result<usize, CheckpointError> {
        let (Some(first), Some(last)) = (
            self.key(0),
            self.ends
                .len()
                .checked_sub(1)
                .and_then(|last| self.key(last)),
        ) else {
            return Ok(0);
        };
        let mut end = last.to_vec();
        end.push(0);
        let mut rows = self.snapshot.rows(first, &end)?;
        let (mut at, mut seen) = (0, 0);
        while let Some((key, value)) = rows.next_row()? {
            while let Some(wanted) = self.key(at).filter(|wanted| *wanted < key) {
                see(wanted, None)?;
                at += 1;
            }
            if self.key(at) == Some(key) {
                see(key, Some(value))?;
                at += 1;
            }
            seen += 1;
            if seen > SCAN_RATIO * (at + SCAN_RATIO) {
                return Ok(at);
            }
        }
        while let Some(wanted) = self.key(at) {
            see(wanted, None)?;
            at += 1;
        }
        Ok(at)
    }
}
