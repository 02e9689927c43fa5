//! A bound for the bytes that leave in a second.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets bytes through at a rate. What is let through is sent in one go: the bound holds over the time that a few objects
/// take, not within one.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: NonZeroU64,
    /// When all that was let through will have been sent at the rate.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            free_at: Mutex::new(None),
        }
    }

    /// Waits until so many bytes may be sent, and says for how long. Whoever comes first is served first.
    pub(super) async fn admit(&self, bytes: usize) -> Duration {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.get() as f64);
        let now = Instant::now();
        let start = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = free_at.map_or(now, |free_at| free_at.max(now));
            *free_at = Some(start + takes);
            start
        };
        tokio::time::sleep_until(start).await;
        start - now
    }
}
