//! What observing costs: `cargo run --release -p statefun-tests --bin observe-bench [-- --json] [--dir DIR] [--pairs N]`.
//!
//! The yardstick's application at full load on two workers, without metrics, with them, and with one event in a hundred traced
//! as well, in turns that begin with another one each time. Spans go to a receiver in the same process that looks at none of them:
//! its time counts too. An event counts when its epoch is durable on the disk of DIR.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use statefun_tests::yardstick::{
    Failure, FullLoad, MEASURED, Observed, Report, Spread, discarding_tracer, fresh, runtime,
    start_observed,
};

statefun_tests::measured_allocator!();

/// The share of events that are traced.
const SHARE: &str = "0.01";

const OFF: usize = 0;
const METRICS: usize = 1;
const SAMPLED: usize = 2;
const NAMES: [&str; 3] = ["metrics off", "metrics on", "1 % traced"];

fn run(json: bool, directory: &Path, pairs: usize) -> Result<(), Failure> {
    let durable = "durable = fdatasync of the epoch log";
    let mut report = Report::new(json, directory, durable);
    let runtime = runtime()?;
    let (tracer, _exporter) = discarding_tracer(SHARE, &runtime)?.unzip();
    let full_load = |kind: usize| -> Result<FullLoad, Failure> {
        let observed = Observed {
            metrics: kind != OFF,
            tracer: tracer.clone().filter(|_| kind == SAMPLED),
        };
        let data = directory.join("data");
        fresh(&data)?;
        let running = start_observed(&data, 2, None, observed, &runtime)?;
        let load = FullLoad::measure(&running, MEASURED, || ());
        running.load.set_rate(0);
        running.engine.stop()?;
        fresh(&data)?;
        Ok(load)
    };
    let mut runs: Vec<[FullLoad; 3]> = Vec::new();
    for turn in 0..pairs {
        let mut loads = [None; 3];
        for step in 0..3 {
            let kind = (turn + step) % 3;
            let load = full_load(kind)?;
            let text = format!(
                "{:<12} {:>9.0} events/s, {:.3} us of processor time for each",
                NAMES[kind], load.events_per_s, load.cpu_us
            );
            report.add("", &text, Value::Null);
            loads[kind] = Some(load);
        }
        if let [Some(off), Some(on), Some(sampled)] = loads {
            runs.push([off, on, sampled]);
        }
    }
    for (name, kind, to) in [
        ("metrics", METRICS, OFF),
        ("metrics_and_traces", SAMPLED, METRICS),
    ] {
        let ratio = |of: fn(&FullLoad) -> f64| {
            let ratios = runs.iter().map(|run| of(&run[kind]) / of(&run[to]));
            Spread::of(ratios.collect())
        };
        let (events, cpu) = (ratio(|load| load.events_per_s), ratio(|load| load.cpu_us));
        let text = format!(
            "{} to {}: {:.3} x the events/s (median of {pairs}; {:.3}-{:.3}), {:.3} x the processor time of an event ({:.3}-{:.3})",
            NAMES[kind],
            NAMES[to],
            events.median,
            events.min,
            events.max,
            cpu.median,
            cpu.min,
            cpu.max
        );
        let runs: Vec<Value> = runs
            .iter()
            .map(|run| json!({ NAMES[to]: run[to].json(), NAMES[kind]: run[kind].json() }))
            .collect();
        report.add(
            name,
            &text,
            json!({ "events_ratio": events.json(), "cpu_ratio": cpu.json(), "runs": runs }),
        );
    }
    if let Some(tracer) = &tracer {
        let status = tracer.status();
        let text = format!(
            "spans: {} exported, {} dropped, {} failed",
            status.exported, status.dropped, status.failed
        );
        report.add("spans", &text, serde_json::to_value(status)?);
    }
    report.finish()
}

fn main() -> ExitCode {
    let mut json = false;
    let mut pairs = 5;
    let mut directory = PathBuf::from("target/observe-bench");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|number| number.parse().ok());
        match argument.as_str() {
            "--json" => json = true,
            "--pairs" => pairs = number().unwrap_or(pairs),
            "--dir" => directory = arguments.next().map_or(directory, PathBuf::from),
            _ => {
                let _ = writeln!(
                    std::io::stderr(),
                    "usage: observe-bench [--json] [--dir DIR] [--pairs N]"
                );
                return ExitCode::from(2);
            }
        }
    }
    match run(json, &directory, pairs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "observe-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
