//! What is seen of a run: a line while it goes on, a summary at its end.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use ride_sharing::audit::audit;
use tokio::time::Instant;

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

#[expect(clippy::expect_used, reason = "the bounds are constants that the histogram takes")]
fn histogram() -> Histogram<u64> {
    // Up to an hour, to two digits.
    let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("bounds of a histogram");
    histogram.auto(true);
    histogram
}

impl Stats {
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
        Self { start, stats, live: std::io::stderr().is_terminal(), last: (start, 0, 0) }
    }

    /// One line, written over the last one where that is possible.
    pub(crate) fn progress(&mut self) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (now, ended, answered) = (Instant::now(), get(&self.stats.ended), get(&self.stats.answered));
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
        let (begin, end) = if self.live { ("\r\x1b[K", "") } else { ("", "\n") };
        let mut out = std::io::stderr();
        let _ = write!(out, "{begin}{line}{end}");
        let _ = out.flush();
    }

    /// The summary; whether everything fits together.
    pub(crate) fn summary(&self, events: Option<&Path>) -> bool {
        if self.live {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = &self.stats;
        let seconds = self.start.elapsed().as_secs_f64();
        let (requested, ended, failed) = (get(&stats.requested), get(&stats.ended), get(&stats.failed));
        let answered = get(&stats.answered);
        let mut out = std::io::stdout().lock();
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<20}{text}");
        };
        line("rides requested", grouped(requested));
        line("      ended", format!("{}  ({:.0}/s)", grouped(ended), ended as f64 / seconds));
        line("      failed", grouped(failed));
        line("      unfinished", grouped(requested - ended - failed));
        line("revenue", money(get(&stats.revenue_cents)));
        line("messages answered", format!("{}  ({:.0}/s)", grouped(answered), answered as f64 / seconds));
        line("retries", grouped(get(&stats.retries)));
        line("location → orders", percentiles(&stats.location_us));
        line("request → driver", percentiles(&stats.match_us));
        let Some(path) = events else { return requested == ended + failed };
        let found = std::fs::read_to_string(path).map_err(|error| error.to_string());
        match found.and_then(|text| audit(&text).map_err(|error| error.to_string())) {
            Err(problem) => {
                line("events", format!("{}: {problem}", path.display()));
                false
            }
            Ok(found) => {
                let told = (requested, ended, failed, get(&stats.revenue_cents));
                let same = (found.requested, found.ended, found.failed, found.revenue_cents) == told;
                let verdict = if same {
                    "every step of every ride exactly once, and what the passengers were told"
                } else {
                    "not what the passengers were told (are there rides of another run in it?)"
                };
                line(
                    "events",
                    format!(
                        "{} requested, {} ended, {} failed, {}: {verdict}",
                        grouped(found.requested),
                        grouped(found.ended),
                        grouped(found.failed),
                        money(found.revenue_cents)
                    ),
                );
                same
            }
        }
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
