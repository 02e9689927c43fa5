//! What a checkpoint writes beside what has changed, so that restoring does not cost more and more: bases written anew, a few key
//! groups at a time, and deltas merged.
//!
//! Both are paid from a credit that grows with the deltas: what is uploaded follows what has changed, never the size of the
//! state. With a credit of [`PER_DELTA_BYTE`] all key groups have been written anew once the deltas since have grown to two thirds of the
//! state, or a little more where a base is large beside a delta; older ones are not needed any more then.

use std::ops::Range;

use crate::checkpoint::manifest::{Base, Delta, Part};

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

/// What is uploaded beside a delta, at most, for each byte of it, as a fraction. With the descriptor and the output under way it is
/// less than twice the delta.
const MOST_AT_ONCE: (u64, u64) = (7, 4);
/// One base is written beside a delta however small, once the credit is so many times what it costs: where all deltas are small
/// there would be none else.
const SAVED_UP: u64 = 4;

/// What may be uploaded beside deltas, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// Less than none when deltas had to be merged before there was enough.
    left: i64,
    /// What has been spent since the newest delta, and what may be.
    spent_now: u64,
    most_now: u64,
}

impl Credit {
    /// A delta was written.
    pub(crate) fn earn(&mut self, delta_bytes: u64) {
        let (by, of) = PER_DELTA_BYTE;
        self.left = self
            .left
            .saturating_add_unsigned(delta_bytes.saturating_mul(by) / of);
        self.spent_now = 0;
        let (by, of) = MOST_AT_ONCE;
        self.most_now = delta_bytes.saturating_mul(by) / of;
    }

    /// Something else was.
    pub(crate) fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub_unsigned(bytes);
        self.spent_now = self.spent_now.saturating_add(bytes);
    }

    fn covers(self, bytes: u64) -> bool {
        let Ok(left) = u64::try_from(self.left) else {
            return false;
        };
        let fits = self.spent_now.saturating_add(bytes) <= self.most_now;
        let saved_up = self.spent_now == 0 && left >= bytes.saturating_mul(SAVED_UP);
        left >= bytes && (fits || saved_up)
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

/// How many rows have to change so that the credit of their delta pays for writing all anew: of the rows that there may be, the
/// share that [`PER_DELTA_BYTE`] says.
pub(crate) fn rows_for_all(bases: &[Base], deltas: &[Delta]) -> u64 {
    let (by, of) = PER_DELTA_BYTE;
    let of_base = |base: &Base| {
        let groups = u64::from(base.last_group - base.first_group) + 1;
        rows_of(&base.parts) * groups / u64::from(base.written_groups.max(1))
    };
    let in_bases: u64 = bases.iter().map(of_base).sum();
    let in_deltas: u64 = deltas.iter().map(|delta| rows_of(&delta.parts)).sum();
    ((in_bases + in_deltas) * of).div_ceil(by).max(1)
}

fn rows_of(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.summary.rows).sum()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::run::PartSummary;

    fn part(bytes: u64) -> Part {
        Part {
            object: String::new(),
            summary: PartSummary {
                rows: 1,
                deletes: 0,
                bytes,
                raw_bytes: bytes,
                tail_bytes: 0,
                first_key: vec![],
                last_key: vec![],
                checksum: 0,
            },
        }
    }

    fn base((first_group, last_group): Groups, epoch: u64, group_bytes: u64) -> Base {
        let written_groups = last_group - first_group + 1;
        Base {
            first_group,
            last_group,
            written_groups,
            spaces: vec![],
            epoch,
            parts: vec![part(group_bytes * u64::from(written_groups))],
        }
    }

    fn delta(after_epoch: u64, bytes: u64) -> Delta {
        Delta {
            after_epoch,
            epoch: after_epoch + 1,
            parts: vec![part(bytes)],
        }
    }

    fn covers_all(bases: &[Base], groups: u16) -> bool {
        let mut next = 0;
        for base in bases {
            if base.first_group != next {
                return false;
            }
            next = base.last_group + 1;
        }
        next == groups
    }

    /// Checkpoints of a state that changes evenly, as the plan has them made.
    struct Run {
        groups: u16,
        group_bytes: u64,
        bases: Vec<Base>,
        deltas: Vec<Delta>,
        credit: Credit,
        epoch: u64,
    }

    impl Run {
        fn new(groups: u16, group_bytes: u64) -> Self {
            let full = full_bases(groups, u64::from(groups) * group_bytes);
            Self {
                groups,
                group_bytes,
                bases: full
                    .into_iter()
                    .map(|groups| base(groups, 1, group_bytes))
                    .collect(),
                deltas: vec![],
                credit: Credit::default(),
                epoch: 1,
            }
        }

        /// Makes one; returns the bytes that were uploaded.
        fn step(&mut self, delta_bytes: u64) -> u64 {
            self.deltas.push(delta(self.epoch, delta_bytes));
            self.epoch += 1;
            self.credit.earn(delta_bytes);
            let mut uploaded = delta_bytes;
            if let Some(range) = to_merge(&self.deltas) {
                let old = &self.deltas[range.clone()];
                let bytes = old.iter().map(Delta::bytes).sum();
                let merged = Delta {
                    after_epoch: old[0].after_epoch,
                    epoch: old[old.len() - 1].epoch,
                    parts: vec![part(bytes)],
                };
                self.credit.spend(bytes);
                uploaded += bytes;
                self.deltas.splice(range, [merged]);
            }
            while let Some(groups) = next_base(&self.bases, &self.deltas, self.credit) {
                let new = base(groups, self.epoch, self.group_bytes);
                self.credit.spend(new.bytes());
                uploaded += new.bytes();
                put_base(&mut self.bases, new);
            }
            drop_deltas(&self.bases, &mut self.deltas);
            uploaded
        }
    }

    #[test]
    fn what_is_uploaded_follows_what_has_changed_and_what_is_kept_the_state() {
        // 200 MB of state, one percent of which changes; and of another less, so that what a base costs is a large part of it.
        for (group_bytes, changed) in [(200 << 10, 2 << 20), (258_000, 1_710_000)] {
            let (mut run, state) = (Run::new(1024, group_bytes), 1024 * group_bytes);
            let mut uploaded = 0;
            for _ in 0..400 {
                let of_this = run.step(changed);
                assert!(of_this < 3 * changed, "{of_this} bytes for {changed}");
                uploaded += of_this;
                assert!(covers_all(&run.bases, run.groups));
                let kept: u64 = run.deltas.iter().map(Delta::bytes).sum();
                assert!(kept < state, "{kept} bytes of deltas beside {state}");
            }
            assert!(uploaded < 400 * changed * 5 / 2 + state / 64);
        }
    }

    #[test]
    fn all_is_written_anew_when_two_thirds_of_all_rows_have_changed() {
        let rows = |count| {
            let mut part = part(1);
            part.summary.rows = count;
            vec![part]
        };
        // The second half of a base is left of it.
        let mut bases = vec![Base {
            parts: rows(600),
            ..base((0, 9), 1, 1)
        }];
        assert_eq!(rows_for_all(&bases, &[]), 400);
        put_base(
            &mut bases,
            Base {
                parts: rows(100),
                ..base((0, 4), 2, 1)
            },
        );
        assert_eq!(rows_for_all(&bases, &[]), 267);
        let delta = Delta {
            parts: rows(200),
            ..delta(2, 1)
        };
        assert_eq!(rows_for_all(&bases, &[delta]), 400);
        assert_eq!(rows_for_all(&[], &[]), 1);
    }

    #[test]
    fn many_small_changes_are_merged() {
        let mut run = Run::new(1024, 200 << 10);
        for _ in 0..5_000 {
            run.step(1 << 10);
            assert!(run.deltas.len() <= MOST_DELTAS);
            let epochs = run
                .deltas
                .windows(2)
                .all(|pair| pair[0].epoch == pair[1].after_epoch);
            assert!(epochs, "the deltas do not follow one another");
        }
    }

    #[test]
    fn a_small_state_has_one_base() {
        assert_eq!(full_bases(1024, 0), [(0, 1023)]);
        assert_eq!(full_bases(4, 1 << 40), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert_eq!(full_bases(1, 1 << 40), [(0, 0)]);
    }

    proptest! {
        #[test]
        fn each_key_group_has_its_newest_base(puts in prop::collection::vec((0..40u16, 0..40u16), 0..30)) {
            let mut bases = vec![base((0, 39), 1, 1)];
            let mut model = [1; 40];
            for (epoch, (one, other)) in (2..).zip(puts) {
                let (first, last) = (one.min(other), one.max(other));
                put_base(&mut bases, base((first, last), epoch, 1));
                model[usize::from(first)..=usize::from(last)].fill(epoch);
            }
            prop_assert!(covers_all(&bases, 40));
            for base in &bases {
                for group in base.first_group..=base.last_group {
                    prop_assert_eq!(base.epoch, model[usize::from(group)]);
                }
            }
        }

        #[test]
        fn all_key_groups_are_in_one_base(groups in 1..=u16::MAX, bytes in 0..1u64 << 50) {
            let bases: Vec<Base> = full_bases(groups, bytes).into_iter().map(|groups| base(groups, 1, 1)).collect();
            prop_assert!(covers_all(&bases, groups));
        }
    }
}
