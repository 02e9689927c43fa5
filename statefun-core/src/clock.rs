//! The only door to time. The engine reads no clock by itself: it is told the time, so that a simulation is exact.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since 1970-01-01 UTC.
///
/// ```
/// # use statefun_core::prelude::*;
/// let start = Timestamp(1_735_689_600_000);
/// assert_eq!(start.to_string(), "2025-01-01T00:00:00.000Z");
/// let later = start.after(Duration::from_mins(5));
/// assert_eq!(later.as_ms() - start.as_ms(), 300_000);
/// assert_eq!(later.since(start), Duration::from_mins(5));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds since 1970-01-01 UTC.
    pub fn as_ms(self) -> u64 {
        self.0
    }

    /// So much later; a duration below a millisecond counts as one, so that "later" is never "now".
    pub fn after(self, delay: Duration) -> Self {
        let rounded = delay.as_nanos().div_ceil(1_000_000);
        Self(
            self.0
                .saturating_add(u64::try_from(rounded).unwrap_or(u64::MAX)),
        )
    }

    /// How long it is from `earlier` to here; zero when `earlier` lies later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_millis(self.0);
        write!(f, "{}", humantime::format_rfc3339_millis(time))
    }
}

/// The wall clock, never running backwards: `max(wall clock, what it said before)`.
///
/// An engine has one, shared by all its threads: what the committer writes into the record of an epoch is then no earlier
/// than any time that a worker has used in it. So a restart, which begins with the last logged time, is never behind what
/// has taken effect, however the system's clock was set meanwhile.
#[derive(Debug)]
pub struct WallClock {
    last: AtomicU64,
    wall: fn() -> Timestamp,
}

impl Default for WallClock {
    fn default() -> Self {
        Self::not_before(Timestamp(0))
    }
}

impl WallClock {
    /// A clock that never says less than `floor`, the last time that was logged.
    pub fn not_before(floor: Timestamp) -> Self {
        Self::reading(system_time, floor)
    }

    /// A clock that reads another one than the system's.
    pub(crate) fn reading(wall: fn() -> Timestamp, floor: Timestamp) -> Self {
        Self {
            last: AtomicU64::new(floor.0),
            wall,
        }
    }

    /// From now on it never says less than `floor`.
    pub(crate) fn raise(&self, floor: Timestamp) {
        self.last.fetch_max(floor.0, Ordering::AcqRel);
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let wall = (self.wall)().0;
        // Threads that pass on what they have done in between have seen each other's time by then.
        let last = self.last.load(Ordering::Acquire);
        if wall <= last {
            return Timestamp(last);
        }
        Timestamp(wall.max(self.last.fetch_max(wall, Ordering::AcqRel)))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the door to the wall clock"
)]
pub(crate) fn system_time() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

/// The system's time in nanoseconds since 1970. For observations: it may run backwards, and decides nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the door to the wall clock"
)]
pub(crate) fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A stopwatch for measurements that decide nothing.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts it.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the door to the monotonic clock"
    )]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Lets the thread rest for so long. For threads that wait for the outside world, never for a worker.
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
