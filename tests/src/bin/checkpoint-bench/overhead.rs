//! What checkpoints take of the throughput.

use std::time::Duration;

use serde_json::json;
use statefun_core::settings::Durability;
use statefun_tests::yardstick::{Failure, FullLoad, MEASURED, Spread};

use crate::subject::{Bench, into, mb};

/// The interval of an application that is not told otherwise, in seconds.
const USUAL_INTERVAL: f64 = 60.0;

/// A run at full load.
struct Full {
    load: FullLoad,
    /// How long each checkpoint took, in seconds, that was complete within.
    took: Vec<f64>,
    uploaded_bytes: u64,
}

fn full_load(bench: &Bench, with_checkpoints: bool) -> Result<Full, Failure> {
    let bucket = bench.fresh_bucket()?;
    let interval = Duration::from_secs(bench.options.interval);
    let running =
        bench.start(with_checkpoints.then(|| into(&bucket, interval, Durability::Local)))?;
    let status = || running.engine.handle().checkpoints().unwrap_or_default();
    let (mut first, mut last) = (None, status());
    let mut took = Vec::new();
    let seconds = bench.options.seconds.unwrap_or(MEASURED);
    let load = FullLoad::measure(&running, seconds, || {
        let now = status();
        if first.is_none() {
            first = Some(now.uploaded_bytes);
        } else if now.made > last.made {
            took.push(now.latest_took_ms as f64 / 1e3);
        }
        last = now;
    });
    running.load.set_rate(0);
    running.engine.stop()?;
    Ok(Full {
        load,
        took,
        uploaded_bytes: last.uploaded_bytes - first.unwrap_or_default(),
    })
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let seconds = bench.options.seconds.unwrap_or(MEASURED) as f64;
    let (mut ratios, mut pairs, mut took) = (Vec::new(), Vec::new(), Vec::new());
    let mut cpu_ratios = Vec::new();
    let (mut made, mut uploaded, mut lost) = (0, 0, 0.0);
    for pair in 0..bench.options.pairs {
        // Whoever is first in a pair is second in the next.
        let one = full_load(bench, pair % 2 == 1)?;
        let other = full_load(bench, pair % 2 == 0)?;
        let (without, with) = if pair % 2 == 1 {
            (other, one)
        } else {
            (one, other)
        };
        let ratio = with.load.events_per_s / without.load.events_per_s;
        let checkpoints = with.took.len();
        let cpu_ratio = with.load.cpu_us / without.load.cpu_us;
        let text = format!(
            "overhead: without {:>9.0} events/s, {:.3} us of processor time for each; with {:>9.0}, {:.3} us: {ratio:.3} x the events, \
             {cpu_ratio:.3} x the time; {checkpoints} checkpoints within {seconds:.0} s",
            without.load.events_per_s,
            without.load.cpu_us,
            with.load.events_per_s,
            with.load.cpu_us
        );
        bench.report.add("", &text, json!(null));
        pairs.push(
            json!({ "without": without.load.json(), "with": with.load.json(), "checkpoints": checkpoints }),
        );
        cpu_ratios.push(cpu_ratio);
        ratios.push(ratio);
        made += checkpoints;
        uploaded += with.uploaded_bytes;
        lost += 1.0 - ratio;
        took.extend(with.took);
    }
    let (ratio, took) = (Spread::of(ratios), Spread::of(took));
    let cpu_ratio = Spread::of(cpu_ratios);
    let runs = bench.options.pairs as f64;
    // What a checkpoint takes of a second's throughput; the same when it is made less often, since everything changes in between anyway.
    let seconds_lost = lost * seconds / made.max(1) as f64;
    let usual = 100.0 * seconds_lost / USUAL_INTERVAL;
    let each = mb(uploaded) / made.max(1) as f64;
    bench.report.add("overhead", &format!(
        "overhead: with checkpoints {:.3} x (median; {:.3}-{:.3}) of the throughput without, one every {:.1} s;\n          \
         processor time for each event {:.3} x (median; {:.3}-{:.3});\n          \
         each {each:.1} MB, {:.2} s (median; {:.2}-{:.2}); takes {seconds_lost:.2} s of throughput, {usual:.1} % at an interval of {USUAL_INTERVAL} s",
        ratio.median, ratio.min, ratio.max, runs * seconds / made.max(1) as f64,
        cpu_ratio.median, cpu_ratio.min, cpu_ratio.max, took.median, took.min, took.max
    ), json!({
        "ratio": ratio.json(), "cpu_ratio": cpu_ratio.json(), "pairs": pairs, "interval_s": bench.options.interval, "checkpoints": made,
        "uploaded_mb_each": each, "took_s": took.json(), "seconds_of_throughput_each": seconds_lost,
        "percent_at_60_s": usual,
    }));
    Ok(())
}
