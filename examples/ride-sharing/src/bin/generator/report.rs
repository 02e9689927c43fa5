//! What is seen of a run: a line while it goes on, a summary at its end.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use ride_sharing::audit::{Summary, audit};
use tokio::time::{Instant, sleep};

use crate::client::Kind;

/// Counters that all actors share.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) requested: AtomicU64,
    pub(crate) matched: AtomicU64,
    pub(crate) ended: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) revenue_cents: AtomicU64,
    pub(crate) retries: AtomicU64,
    answered: AtomicU64,
    /// In microseconds, from the first attempt to the answer.
    location_us: Mutex<Histogram<u64>>,
    match_us: Mutex<Histogram<u64>>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            requested: AtomicU64::default(),
            matched: AtomicU64::default(),
            ended: AtomicU64::default(),
            failed: AtomicU64::default(),
            revenue_cents: AtomicU64::default(),
            retries: AtomicU64::default(),
            answered: AtomicU64::default(),
            location_us: Mutex::new(histogram()),
            match_us: Mutex::new(histogram()),
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "the bounds are constants that the histogram takes"
)]
fn histogram() -> Histogram<u64> {
    // Up to an hour, to two digits.
    let mut histogram =
        Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("bounds of a histogram");
    histogram.auto(true);
    histogram
}

impl Stats {
    /// Rides that have ended, well or not.
    pub(crate) fn over(&self) -> u64 {
        self.ended.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self, kind: Kind, after: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let histogram = match kind {
            Kind::Location => &self.location_us,
            Kind::Match => &self.match_us,
            Kind::Other => return,
        };
        let mut histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record((after.as_micros() as u64).max(1));
    }
}

/// Tells of a run.
#[derive(Debug)]
pub(crate) struct Report {
    start: Instant,
    stats: Arc<Stats>,
    live: bool,
    last: (Instant, u64, u64),
}

impl Report {
    pub(crate) fn new(start: Instant, stats: Arc<Stats>) -> Self {
        Self {
            start,
            stats,
            live: std::io::stderr().is_terminal(),
            last: (start, 0, 0),
        }
    }

    /// One line, written over the last one where that is possible.
    pub(crate) fn progress(&mut self) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (now, ended, answered) = (
            Instant::now(),
            get(&self.stats.ended),
            get(&self.stats.answered),
        );
        let seconds = (now - self.last.0).as_secs_f64().max(0.001);
        let over = ended + get(&self.stats.failed);
        let line = format!(
            "{:>4} s  rides: {:>7} ended, {:>4.0}/s, {:>5} under way, {} failed   messages: {:>5.0}/s, {} retries",
            (now - self.start).as_secs(),
            grouped(ended),
            (ended - self.last.1) as f64 / seconds,
            grouped(get(&self.stats.requested) - over),
            grouped(get(&self.stats.failed)),
            (answered - self.last.2) as f64 / seconds,
            grouped(get(&self.stats.retries)),
        );
        self.last = (now, ended, answered);
        let (begin, end) = if self.live {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        let mut out = std::io::stderr();
        let _ = write!(out, "{begin}{line}{end}");
        let _ = out.flush();
    }

    /// The summary; whether everything fits together.
    pub(crate) async fn summary(&self, events: Option<&Path>, run: &str) -> bool {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = &self.stats;
        let seconds = self.start.elapsed().as_secs_f64();
        let (requested, ended, failed) =
            (get(&stats.requested), get(&stats.ended), get(&stats.failed));
        let answered = get(&stats.answered);
        let mut out = std::io::stdout();
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<20}{text}");
        };
        line("rides requested", grouped(requested));
        line(
            "      ended",
            format!("{}  ({:.0}/s)", grouped(ended), ended as f64 / seconds),
        );
        line("      failed", grouped(failed));
        line("      unfinished", grouped(requested - ended - failed));
        line("revenue", money(get(&stats.revenue_cents)));
        line(
            "messages answered",
            format!(
                "{}  ({:.0}/s)",
                grouped(answered),
                answered as f64 / seconds
            ),
        );
        line("retries", grouped(get(&stats.retries)));
        line("location → orders", percentiles(&stats.location_us));
        line("request → driver", percentiles(&stats.match_us));
        let Some(path) = events else {
            return requested == ended + failed;
        };
        let told = Summary {
            requested,
            ended,
            failed,
            revenue_cents: get(&stats.revenue_cents),
        };
        match find(path, run, told).await {
            Err(problem) => {
                line("events", format!("{}: {problem}", path.display()));
                false
            }
            Ok(found) => {
                let verdict = if found == told {
                    "every step of every ride exactly once, and as the passengers were told"
                } else {
                    "every step of every ride exactly once, but not all that the passengers were told"
                };
                line(
                    "events",
                    format!(
                        "{} requested, {} ended, {} failed, {}",
                        grouped(found.requested),
                        grouped(found.ended),
                        grouped(found.failed),
                        money(found.revenue_cents)
                    ),
                );
                line("", verdict.to_owned());
                found == told
            }
        }
    }
}

/// What the file says of the passengers of a run. Records come into it a moment after passengers hear of them.
async fn find(path: &Path, run: &str, told: Summary) -> Result<Summary, String> {
    let mut looks = 50;
    loop {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        // The last line may still be being written.
        let whole = text
            .rfind('\n')
            .map_or("", |end| text.get(..=end).unwrap_or_default());
        let found = audit(whole, run).map_err(|error| error.to_string())?;
        looks -= 1;
        if found == told || looks == 0 {
            return Ok(found);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn percentiles(histogram: &Mutex<Histogram<u64>>) -> String {
    let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    format!(
        "p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    )
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", grouped(cents / 100), cents % 100)
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
