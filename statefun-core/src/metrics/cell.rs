//! Counts that one thread writes and any may read.
//!
//! A read-modify-write of a shared counter takes as long as a small handler. With one writer, a plain load and a plain store
//! do: the sum over all writers is made by who reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::snapshot::Histogram;

/// A count or a level with one writer.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    #[inline]
    pub(crate) fn sub(&self, less: u64) {
        self.set(self.get().wrapping_sub(less));
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of all histograms of durations, in nanoseconds: half a microsecond to ten seconds.
pub(crate) const BOUNDS_NS: [u64; 23] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Durations by size, with one writer.
#[derive(Debug, Default)]
pub(crate) struct DurationCells {
    counts: [Cell; BOUNDS_NS.len()],
    above: Cell,
    sum_ns: Cell,
}

impl DurationCells {
    /// Counts a duration that stands for so many.
    pub(crate) fn observe_ns(&self, ns: u64, weight: u64) {
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        self.counts.get(bucket).unwrap_or(&self.above).add(weight);
        self.sum_ns.add(ns.saturating_mul(weight));
    }

    pub(crate) fn observe(&self, duration: Duration) {
        self.observe_ns(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), 1);
    }

    /// Adds what was observed to a snapshot.
    pub(crate) fn add_to(&self, histogram: &mut Histogram) {
        if histogram.bounds.is_empty() {
            histogram.bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9).collect();
            histogram.counts = vec![0; BOUNDS_NS.len() + 1];
        }
        let own = self.counts.iter().chain([&self.above]);
        for (count, own) in histogram.counts.iter_mut().zip(own) {
            *count += own.get();
        }
        histogram.sum += self.sum_ns.get() as f64 / 1e9;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let cells = DurationCells::default();
        for ns in [0, 500, 501, 10_000_000_000, 10_000_000_001] {
            cells.observe_ns(ns, 1);
        }
        cells.observe_ns(1_000, 16);
        let mut histogram = Histogram::default();
        cells.add_to(&mut histogram);
        cells.add_to(&mut histogram);
        assert_eq!(histogram.count(), 2 * 21);
        let occupied: Vec<(usize, u64)> = histogram
            .counts
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(occupied, [(0, 4), (1, 34), (22, 2), (23, 2)]);
    }
}
