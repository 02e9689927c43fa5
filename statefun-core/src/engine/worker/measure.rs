//! How long handlers run, and which addresses take most, without reading the clock for each of millions of invocations a second.
//!
//! While a worker is busy, and the handlers of a function take microseconds, one invocation in [`ONE_IN`] on average is timed, at
//! random (else two functions that take turns would hide from it), and stands for all. Reading the clock twice takes about 50 ns,
//! so where a handler takes [`SLOW_NS`] or longer, or the worker has time, every invocation is timed.

use std::sync::{Arc, PoisonError};

use crate::clock::Stopwatch;
use crate::id::Address;
use crate::metrics::meter::WorkerMeter;

/// Of so many short invocations one is timed, on average.
const ONE_IN: u32 = 64;
/// Handlers that take so long on average are timed each time, in ns.
const SLOW_NS: u64 = 5_000;

/// See the module's page.
pub(super) struct Measure {
    pub(super) meter: Arc<WorkerMeter>,
    on: bool,
    busy: bool,
    /// Invocations until the next that is timed.
    gap: u32,
    random: u32,
    /// What handlers took lately, in ns, by function.
    lately_ns: Vec<u64>,
}

/// An invocation that is timed.
pub(super) struct Timed {
    since: Stopwatch,
    /// How many invocations it stands for.
    weight: u64,
}

impl Measure {
    pub(super) fn new(meter: Arc<WorkerMeter>, on: bool) -> Self {
        Self {
            lately_ns: vec![0; meter.functions.len()],
            meter,
            on,
            busy: false,
            gap: 1,
            random: 0x9E37_79B9,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Whether the worker has so much to do that it should not look at the clock all the time.
    pub(super) fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// An invocation begins.
    #[inline]
    pub(super) fn begin(&mut self, function: usize) -> Option<Timed> {
        if let Some(meter) = self.meter.functions.get(function) {
            meter.invocations.add(1);
        }
        if !self.on {
            return None;
        }
        let is_slow = || {
            let lately = self.lately_ns.get(function);
            lately.is_some_and(|ns| *ns >= SLOW_NS)
        };
        let weight = if !self.busy || is_slow() {
            1
        } else {
            self.gap -= 1;
            if self.gap > 0 {
                return None;
            }
            self.gap = self.next_gap();
            u64::from(ONE_IN)
        };
        Some(Timed {
            since: Stopwatch::start(),
            weight,
        })
    }

    /// From 1 to twice the mean less one. xorshift32 (Marsaglia 2003): it decides nothing that takes effect.
    fn next_gap(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        1 + self.random % (2 * ONE_IN - 1)
    }

    /// It has ended, and wrote so many bytes of state.
    pub(super) fn end(&mut self, function: usize, timed: &Timed, address: &Address, bytes: usize) {
        let ns = timed.since.elapsed().as_nanos() as u64;
        if let Some(lately) = self.lately_ns.get_mut(function) {
            *lately = *lately - *lately / 8 + ns / 8;
        }
        if let Some(meter) = self.meter.functions.get(function) {
            meter.handler.observe_ns(ns, timed.weight);
        }
        let mut hot = self
            .meter
            .hot
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        hot.add(address, ns * timed.weight, bytes as u64 * timed.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypeName;
    use crate::metrics::Histogram;

    #[test]
    fn a_share_of_short_invocations_stands_for_all() {
        let meter = Arc::new(WorkerMeter::with(2, 0));
        let mut measure = Measure::new(meter.clone(), true);
        measure.set_busy(true);
        let address = Address::new(TypeName::parse("shop/cart").unwrap(), "1");
        let mut timed_ones = [0, 0];
        for turn in 0..640_000 {
            if let Some(timed) = measure.begin(turn % 2) {
                timed_ones[turn % 2] += 1;
                // However long it really took here, as long as it is not slow.
                measure.lately_ns = vec![0, 0];
                measure.end(turn % 2, &timed, &address, 1);
                measure.lately_ns = vec![0, 0];
            }
        }
        assert_eq!(meter.functions[0].invocations.get(), 320_000);
        // Both of two that take turns are seen, each about one in sixty-four times.
        for timed in timed_ones {
            assert!((4_500..=5_500).contains(&timed), "{timed}");
        }
        let mut histogram = Histogram::default();
        meter.functions[0].handler.add_to(&mut histogram);
        assert_eq!(histogram.count(), 64 * timed_ones[0]);
    }

    #[test]
    fn slow_handlers_are_timed_each_time() {
        let meter = Arc::new(WorkerMeter::with(1, 0));
        let mut measure = Measure::new(meter, true);
        // Whoever has time, times.
        assert_eq!(measure.begin(0).map(|timed| timed.weight), Some(1));
        measure.set_busy(true);
        measure.lately_ns = vec![SLOW_NS];
        for _ in 0..100 {
            assert_eq!(measure.begin(0).map(|timed| timed.weight), Some(1));
        }
        let mut off = Measure::new(Arc::new(WorkerMeter::with(1, 0)), false);
        assert!((0..100).all(|_| off.begin(0).is_none()));
    }
}
