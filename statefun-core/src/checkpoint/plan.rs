//! What a checkpoint writes beside what has changed, so that restoring does not cost more and more: bases written anew, a few key
//! groups at a time, and deltas merged.
//!
//! Both are paid from a credit that grows with the deltas: what is uploaded follows what has changed, never the size of the
//! state. With a credit of [`PER_DELTA_BYTE`] all key groups have been written anew once the deltas since have grown to two thirds of the
//! state; older ones are not needed any more then.

use std::ops::Range;

use crate::checkpoint::manifest::{Base, Delta};

/// Bytes of credit for each byte of a delta, as a fraction.
const PER_DELTA_BYTE: (u64, u64) = (3, 2);
/// The share of the state, in bytes, that is written anew at once, and its bounds.
const SHARE: u64 = 256;
const LEAST_BYTES: u64 = 1 << 20;
const MOST_BYTES: u64 = 64 << 20;
/// Bytes of a base when all key groups are written.
const FULL_BASE_BYTES: u64 = 16 << 20;
/// Deltas above which some are merged, and how many at once. A restore reads all of them at a time.
const MOST_DELTAS: usize = 128;
const MERGED_DELTAS: usize = 32;

/// What may be uploaded beside deltas, in bytes; less than none when deltas had to be merged before there was enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Credit(i64);

impl Credit {
    /// A delta was written.
    pub(crate) fn earn(&mut self, delta_bytes: u64) {
        let (by, of) = PER_DELTA_BYTE;
        self.0 = self.0.saturating_add_unsigned(delta_bytes.saturating_mul(by) / of);
    }

    /// Something else was.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.0 = self.0.saturating_sub_unsigned(bytes);
    }

    fn covers(self, bytes: u64) -> bool {
        u64::try_from(self.0).is_ok_and(|credit| credit >= bytes)
    }
}

/// Consecutive key groups, the last one included.
pub(crate) type Groups = (u16, u16);

/// The key groups whose base is to be written anew next: those whose base is the oldest, as many as are worth an upload.
/// None when there is no delta that this would make superfluous, or not enough credit.
pub(crate) fn next_base(bases: &[Base], deltas: &[Delta], credit: Credit) -> Option<Groups> {
    let newest = deltas.last()?.epoch;
    let oldest = bases
        .iter()
        .filter(|base| base.epoch < newest)
        .min_by_key(|base| (base.epoch, base.first_group))?;
    let total: u64 = bases
        .iter()
        .map(|base| base.group_bytes() * (u64::from(base.last_group - base.first_group) + 1))
        .sum();
    let wanted = (total / SHARE).clamp(LEAST_BYTES, MOST_BYTES);
    let of_group = oldest.group_bytes().max(1);
    let groups = (wanted / of_group).max(1) - 1;
    let last = u64::from(oldest.first_group).saturating_add(groups);
    let last = last.min(u64::from(oldest.last_group)) as u16;
    let cost = of_group * (u64::from(last - oldest.first_group) + 1);
    credit.covers(cost).then_some((oldest.first_group, last))
}

/// How all key groups are divided when a state of about so many bytes is written as a whole.
pub(crate) fn full_bases(key_groups: u16, state_bytes: u64) -> Vec<Groups> {
    let bases = (state_bytes / FULL_BASE_BYTES).clamp(1, u64::from(key_groups.max(1)));
    let bound = |base: u64| (base * u64::from(key_groups) / bases) as u16;
    (0..bases)
        .map(|base| (bound(base), bound(base + 1) - 1))
        .collect()
}

/// Puts a base in the place of what there was of its key groups.
pub(crate) fn put_base(bases: &mut Vec<Base>, new: Base) {
    let mut kept = Vec::with_capacity(bases.len() + 2);
    for base in bases.drain(..) {
        if base.last_group < new.first_group || base.first_group > new.last_group {
            kept.push(base);
            continue;
        }
        if base.first_group < new.first_group {
            kept.push(Base {
                last_group: new.first_group - 1,
                ..base.clone()
            });
        }
        if base.last_group > new.last_group {
            kept.push(Base {
                first_group: new.last_group + 1,
                ..base
            });
        }
    }
    kept.push(new);
    kept.sort_by_key(|base| base.first_group);
    *bases = kept;
}

/// Leaves out the deltas that no key group needs any more.
pub(crate) fn drop_deltas(bases: &[Base], deltas: &mut Vec<Delta>) {
    let oldest = bases.iter().map(|base| base.epoch).min().unwrap_or(0);
    deltas.retain(|delta| delta.epoch > oldest);
}

/// The deltas to be merged into one, when there are too many: those that follow one another and are the smallest.
pub(crate) fn to_merge(deltas: &[Delta]) -> Option<Range<usize>> {
    if deltas.len() <= MOST_DELTAS {
        return None;
    }
    let cost = |deltas: &[Delta]| deltas.iter().map(Delta::bytes).sum::<u64>();
    let (start, _) = deltas
        .windows(MERGED_DELTAS)
        .enumerate()
        .min_by_key(|(_, window)| cost(window))?;
    Some(start..start + MERGED_DELTAS)
}
