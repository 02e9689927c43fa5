//! The addresses that take most, found in little memory: *Space-Saving* (Metwally, Agrawal, El Abbadi: Efficient computation of
//! frequent and top-k elements in data streams, 2005).
//!
//! A sketch holds a few addresses. One that is not among them takes the place of the least, and its weight: so an address that
//! really takes much is never missed, and what is said of it is too high by no more than the least weight held, which is said
//! with it and taken off.

use std::collections::HashMap;
use std::time::Duration;

use super::snapshot::{HotAddress, Hottest};
use crate::clock::Stopwatch;
use crate::id::Address;

/// Addresses that a sketch holds.
const HELD: usize = 32;
/// Addresses that are shown.
const SHOWN: usize = 10;
/// After so long a sketch is put aside for a new one; what is shown is of the last two.
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
struct Entry {
    address: Address,
    weight: u64,
    /// What it may have taken over from others.
    error: u64,
}

#[derive(Debug, Default)]
struct Sketch {
    hashes: Vec<u64>,
    entries: Vec<Entry>,
    total: u64,
}

impl Sketch {
    fn add(&mut self, address: &Address, weight: u64) {
        if weight == 0 {
            return;
        }
        self.total += weight;
        let hash = address.hash();
        let known = self.hashes.iter().position(|known| *known == hash);
        if let Some(entry) = known.and_then(|place| self.entries.get_mut(place))
            && entry.address == *address
        {
            entry.weight += weight;
            return;
        }
        if self.entries.len() < HELD {
            self.hashes.push(hash);
            self.entries.push(Entry {
                address: address.clone(),
                weight,
                error: 0,
            });
            return;
        }
        let least = self.entries.iter().enumerate();
        let Some((place, _)) = least.min_by_key(|(_, entry)| entry.weight) else {
            return;
        };
        if let (Some(entry), Some(known)) =
            (self.entries.get_mut(place), self.hashes.get_mut(place))
        {
            *known = hash;
            entry.address = address.clone();
            entry.error = entry.weight;
            entry.weight += weight;
        }
    }
}

#[derive(Debug)]
struct Window {
    since: Stopwatch,
    ns: Sketch,
    bytes: Sketch,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Stopwatch::start(),
            ns: Sketch::default(),
            bytes: Sketch::default(),
        }
    }
}

/// What one worker observes.
#[derive(Debug)]
pub(crate) struct HotAddresses {
    current: Window,
    before: Option<Window>,
}

impl Default for HotAddresses {
    fn default() -> Self {
        Self {
            current: Window::new(),
            before: None,
        }
    }
}

impl HotAddresses {
    /// An address took so much.
    pub(crate) fn add(&mut self, address: &Address, ns: u64, bytes: u64) {
        let age = self.current.since.elapsed();
        if age > WINDOW {
            let ended = std::mem::replace(&mut self.current, Window::new());
            self.before = (age < 2 * WINDOW).then_some(ended);
        }
        self.current.ns.add(address, ns);
        self.current.bytes.add(address, bytes);
    }
}

/// Sums what workers observed.
#[derive(Default)]
pub(crate) struct Sums {
    by_time: Kind,
    by_bytes: Kind,
}

#[derive(Default)]
struct Kind {
    weights: HashMap<Address, u64>,
    total: u64,
    /// The longest time over which a worker observed, in seconds.
    seconds: f64,
}

impl Kind {
    fn add(&mut self, sketch: &Sketch, seconds: f64) {
        for entry in &sketch.entries {
            *self.weights.entry(entry.address.clone()).or_default() += entry.weight - entry.error;
        }
        self.total += sketch.total;
        self.seconds = self.seconds.max(seconds);
    }

    fn shown(self, unit: f64) -> Vec<HotAddress> {
        let (total, seconds) = (self.total.max(1) as f64, self.seconds.max(0.001));
        let mut all: Vec<(Address, u64)> = self.weights.into_iter().collect();
        all.retain(|(_, weight)| *weight > 0);
        all.sort_by(|(one, more), (other, less)| {
            less.cmp(more)
                .then_with(|| one.to_string().cmp(&other.to_string()))
        });
        all.truncate(SHOWN);
        let shown = all.into_iter().map(|(address, weight)| HotAddress {
            function: address.function().as_str().to_owned(),
            id: address.id().to_owned(),
            share: weight as f64 / total,
            rate: weight as f64 * unit / seconds,
        });
        shown.collect()
    }
}

impl Sums {
    pub(crate) fn add(&mut self, hot: &HotAddresses) {
        let windows = [Some(&hot.current), hot.before.as_ref()];
        for window in windows.into_iter().flatten() {
            let age = window.since.elapsed();
            // An idle worker turns no windows over; what is old does not count as lately.
            if age < 3 * WINDOW {
                self.by_time.add(&window.ns, age.as_secs_f64());
                self.by_bytes.add(&window.bytes, age.as_secs_f64());
            }
        }
    }

    pub(crate) fn hottest(self) -> Hottest {
        Hottest {
            by_time: self.by_time.shown(1e-9),
            by_bytes: self.by_bytes.shown(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypeName;

    fn address(id: usize) -> Address {
        Address::new(
            TypeName::parse("shop/cart").unwrap(),
            id.to_string().as_str(),
        )
    }

    #[test]
    fn an_address_that_takes_much_is_found_among_very_many() {
        let mut hot = HotAddresses::default();
        for turn in 0..100_000 {
            hot.add(&address(turn), 100, 10);
            if turn % 10 == 0 {
                hot.add(&address(1_000_000), 300, 1);
            }
            if turn % 50 == 0 {
                hot.add(&address(2_000_000), 1, 700);
            }
        }
        let mut sums = Sums::default();
        sums.add(&hot);
        let hottest = sums.hottest();
        assert_eq!(hottest.by_time[0].id, "1000000");
        assert_eq!(hottest.by_bytes[0].id, "2000000");
        // 3 of 13 parts of the time, and never said to be more.
        let share = hottest.by_time[0].share;
        assert!(share > 0.15 && share < 0.231, "{share}");
        assert!(hottest.by_time.len() <= SHOWN);
    }

    #[test]
    fn workers_are_summed() {
        let mut sums = Sums::default();
        for turn in 1..=2 {
            let mut hot = HotAddresses::default();
            hot.add(&address(1), 10, 0);
            hot.add(&address(2), 15 * (turn % 2), 0);
            sums.add(&hot);
        }
        let hottest = sums.hottest();
        let ids: Vec<&str> = hottest.by_time.iter().map(|hot| hot.id.as_str()).collect();
        assert_eq!(ids, ["1", "2"]);
        assert!((hottest.by_time[0].share - 20.0 / 35.0).abs() < 1e-9);
        assert!(hottest.by_bytes.is_empty());
    }
}
