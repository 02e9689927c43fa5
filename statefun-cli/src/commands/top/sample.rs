//! What a running application is asked for, again and again.

use std::time::Duration;

use http::Method;
use statefun_core::admin::Status;
use statefun_core::metrics::Snapshot;

use crate::live::{Live, read};
use crate::status::Failure;

/// Longest time for an answer: it takes the application no time, so one that does not answer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// By how much the start of one process may seem to differ: it is told in hundredths of a second since the machine's boot, whose
/// time moves when the clock is set.
const START_TOLERANCE_SECONDS: f64 = 2.0;

/// What an application said of itself at one time.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) status: Status,
    pub(super) metrics: Snapshot,
}

impl Sample {
    pub(super) async fn take(live: &Live) -> Result<Self, Failure> {
        let status = live.ask_within(Method::GET, "/v1/status", PATIENCE).await?;
        let metrics = live
            .ask_within(Method::GET, "/v1/metrics", PATIENCE)
            .await?;
        Ok(Self {
            status: read(&status)?,
            metrics: read(&metrics)?,
        })
    }

    /// Seconds from an earlier sample of the same process to this one; none when that was another process', whose counts have nothing
    /// to do with these.
    pub(super) fn seconds_since(&self, earlier: &Self) -> Option<f64> {
        let (now, then) = (&self.metrics, &earlier.metrics);
        let moved = (now.process.start_seconds - then.process.start_seconds).abs();
        let is_same = (self.status.pid, self.status.attempt)
            == (earlier.status.pid, earlier.status.attempt)
            && now.uptime_ms >= then.uptime_ms
            && moved <= START_TOLERANCE_SECONDS;
        // The engine's time may be set; its uptime goes on evenly.
        let passed_ms = now.uptime_ms.checked_sub(then.uptime_ms)?;
        (is_same && passed_ms > 0).then(|| passed_ms as f64 / 1000.0)
    }
}
