//! The yardstick: `cargo run --release -p statefun-tests --bin greeter-bench [-- --json] [--dir DIR] [--trace SHARE]`.
//!
//! What runs is in `statefun_tests::bench`; what it is compared with, in the same run, in `statefun_tests::bare`. An event counts
//! when its greeting has reached the sink, which is when its epoch is durable on the disk of DIR. With `--trace`, that share of events
//! is traced, to a receiver in the same process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use statefun_core::clock::Stopwatch;
use statefun_tests::bare::{BareLoop, fdatasync_loop};
use statefun_tests::bench::{GREETERS, PERSONS};
use statefun_tests::process::{cpu_time, resident_bytes};
use statefun_tests::yardstick::{
    Failure, MEASURED, Observed, Report, WARM_UP, describe, discarding_tracer, fresh, latency,
    quantiles, rest, runtime, start_observed, throughput,
};

statefun_tests::measured_allocator!();

fn run(json: bool, directory: &Path, share: Option<&str>) -> Result<(), Failure> {
    let durable = "durable = fdatasync of the epoch log";
    let mut report = Report::new(json, directory, durable);
    let runtime = runtime()?;
    let tracing = share.map(|share| discarding_tracer(share, &runtime));
    let (tracer, _exporter) = tracing.transpose()?.flatten().unzip();
    let start = |workers| {
        let observed = Observed {
            tracer: tracer.clone(),
            ..Observed::default()
        };
        start_observed(&directory.join("data"), workers, None, observed, &runtime)
    };

    // Memory first, in a process that has used none: what one address costs.
    let resident_before = resident_bytes();
    let data = directory.join("data");
    fresh(&data)?;
    let one = start(1)?;
    let one_worker = throughput(&one, WARM_UP, MEASURED);
    // What waits for the state store is working memory, and given back.
    one.settle();
    let resident = resident_bytes();
    let per_address = (resident - resident_before) as f64 / (PERSONS + GREETERS) as f64;
    one.engine.stop()?;

    let mut bare = BareLoop::warm();
    let bare_before = bare.run(Duration::from_secs(3));
    let fdatasync = quantiles(&fdatasync_loop(directory, Duration::from_secs(3))?);

    fresh(&data)?;
    let two = start(2)?;
    let ready = two.ready;
    let two_workers = throughput(&two, WARM_UP, MEASURED);
    let lag = two.engine.handle().durable_epoch() - two.engine.handle().applied_epoch();
    // Latency is that of an application that is not overloaded, and has not been just before.
    two.settle();
    let ten_thousand = quantiles(&latency(&two, 10_000, MEASURED));
    let hundred_thousand = quantiles(&latency(&two, 100_000, MEASURED));
    let fdatasync_after = quantiles(&fdatasync_loop(directory, Duration::from_secs(3))?);
    // What is left to apply is work, not idling.
    two.settle();
    let (cpu, watch) = (cpu_time(), Stopwatch::start());
    rest(8);
    let idle = cpu_time().saturating_sub(cpu).as_secs_f64() / watch.elapsed().as_secs_f64() * 100.0;
    // A stop under load leaves a log to replay.
    throughput(&two, 1, 1);
    two.engine.stop()?;
    let bare_after = bare.run(Duration::from_secs(3));
    drop(bare);
    let again = start(2)?;
    let recovery = again.engine.handle().recovery();
    let recovered = again.ready;
    again.engine.stop()?;
    fresh(&data)?;

    let bare_loop = f64::midpoint(bare_before, bare_after);
    let ratio = two_workers / bare_loop;
    report.add("bare_loop_events_per_s", &format!("bare loop, 1 thread, nothing durable         {bare_loop:>10.0} events/s  ({bare_before:.0} before, {bare_after:.0} after)"), json!(bare_loop));
    report.add("events_per_s_1_worker", &format!("1 worker                                     {one_worker:>10.0} events/s  {:.2} x the bare loop", one_worker / bare_loop), json!(one_worker));
    report.add("events_per_s_2_workers", &format!("2 workers                                    {two_workers:>10.0} events/s  {ratio:.2} x the bare loop"), json!(two_workers));
    report.add(
        "ratio_1_worker_to_bare_loop",
        "",
        json!(one_worker / bare_loop),
    );
    report.add("ratio_2_workers_to_bare_loop", "", json!(ratio));
    report.add(
        "bare_fdatasync",
        &describe("bare fdatasync of 4 KiB, before", &fdatasync),
        fdatasync.clone(),
    );
    report.add(
        "bare_fdatasync_after",
        &describe("bare fdatasync of 4 KiB, after", &fdatasync_after),
        fdatasync_after.clone(),
    );
    report.add(
        "latency_10k_per_s",
        &describe("10,000 events/s, 2 workers", &ten_thousand),
        ten_thousand,
    );
    report.add(
        "latency_100k_per_s",
        &describe("100,000 events/s, 2 workers", &hundred_thousand),
        hundred_thousand,
    );
    report.add(
        "idle_cpu_percent",
        &format!("idle                                         {idle:>10.2} % of a core"),
        json!(idle),
    );
    report.add(
        "memory_per_address_bytes",
        &format!("memory per address, everything counted       {per_address:>10.0} bytes"),
        json!(per_address),
    );
    report.add(
        "ready_ms",
        &format!(
            "ready on an empty directory                  {:>10.1} ms",
            ready.as_secs_f64() * 1e3
        ),
        json!(ready.as_secs_f64() * 1e3),
    );
    report.add(
        "recovery",
        &format!(
            "recovery of {} epochs behind the state store   {:>10.1} ms, ready after {:.1} ms",
            recovery.replayed_epochs,
            recovery.duration.as_secs_f64() * 1e3,
            recovered.as_secs_f64() * 1e3
        ),
        json!({ "replayed_epochs": recovery.replayed_epochs, "ms": recovery.duration.as_secs_f64() * 1e3 }),
    );
    report.add(
        "apply_lag_epochs",
        &format!("epochs that the state store lags at full load {lag:>9}"),
        json!(lag),
    );
    if let Some(tracer) = &tracer {
        let status = tracer.status();
        report.add(
            "tracing",
            &format!(
                "spans exported, dropped, failed              {:>10}, {}, {}",
                status.exported, status.dropped, status.failed
            ),
            serde_json::to_value(status)?,
        );
    }
    report.finish()
}

fn main() -> ExitCode {
    let mut json = false;
    let mut share = None;
    let mut directory = PathBuf::from("target/greeter-bench");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--dir" => directory = arguments.next().map_or(directory, PathBuf::from),
            "--trace" => share = arguments.next(),
            _ => {
                let _ = writeln!(
                    std::io::stderr(),
                    "usage: greeter-bench [--json] [--dir DIR] [--trace SHARE]"
                );
                return ExitCode::from(2);
            }
        }
    }
    match run(json, &directory, share.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "greeter-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
