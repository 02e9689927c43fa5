//! The yardstick: `cargo run --release -p statefun-tests --bin greeter-bench [-- --json] [--dir DIR]`.
//!
//! What runs is in `statefun_tests::bench`; what it is compared with, in the same run, in `statefun_tests::bare`. An event counts
//! when its greeting has reached the sink, which is when its epoch is durable on the disk of DIR.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use statefun_core::clock::Stopwatch;
use statefun_core::engine::start::{Engine, EngineSettings};
use statefun_core::runtime::Launch;
use statefun_core::sdk::module::{Binder, GlobalConfiguration, Module};
use statefun_tests::bare::{BareLoop, fdatasync_loop};
use statefun_tests::bench::{Events, GREETERS, Greetings, Load, PERSONS};
use statefun_tests::process::{cpu_time, resident_bytes};

/// Messages are made by one worker and freed by another, which this allocator takes lightly. The bare loop has it too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Workers make and free messages hundreds at a time: so many are kept at hand, not the 200 that are usual.
#[expect(
    unsafe_code,
    reason = "the allocator looks for its settings under this name, which nothing else has, and wants a C string"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8; 52] = b"tcache_nslots_small_max:2000,lg_tcache_nslots_mul:4\0";

type Failure = Box<dyn std::error::Error>;

struct Bench(Arc<Load>);

impl Module for Bench {
    fn configure(&self, _global: &GlobalConfiguration, binder: &mut Binder) {
        binder.ingress("bench/events", Events(self.0.clone()));
        binder.egress("bench/greetings", Greetings(self.0.clone()));
    }
}

/// How long a load runs before it is measured, in seconds: all addresses are in memory then, and the state store has begun to apply.
const WARM_UP: u64 = 10;
/// How long throughput and latency are measured, in seconds: longer than the state store rests between two times that it applies,
/// so that its share of the processors and of the disk is in the figures.
const MEASURED: u64 = 20;

struct Running {
    engine: Engine,
    load: Arc<Load>,
    ready: Duration,
}

fn start(
    directory: &Path,
    workers: usize,
    runtime: &tokio::runtime::Runtime,
) -> Result<Running, Failure> {
    let load = Load::paused();
    let watch = Stopwatch::start();
    let engine = Launch::linked(directory)
        .module(&Bench(load.clone()), &GlobalConfiguration::default())
        .settings(EngineSettings {
            workers,
            cache_bytes: 2 << 30,
            ..EngineSettings::default()
        })
        .start(runtime.handle())?;
    Ok(Running {
        engine,
        load,
        ready: watch.elapsed(),
    })
}

impl Running {
    /// Waits until the state store has applied everything, and has had time to merge it.
    fn settle(&self) {
        self.load.set_rate(0);
        while self.engine.handle().applied_epoch() < self.engine.handle().durable_epoch() {
            rest(1);
        }
        rest(4);
    }
}

/// Events per second over `seconds`, after `warm_up`.
fn throughput(running: &Running, warm_up: u64, seconds: u64) -> f64 {
    running.load.set_rate(u64::MAX);
    rest(warm_up);
    let before = running.load.greetings.load(Ordering::SeqCst);
    let watch = Stopwatch::start();
    rest(seconds);
    let done = running.load.greetings.load(Ordering::SeqCst) - before;
    done as f64 / watch.elapsed().as_secs_f64()
}

fn latency(running: &Running, rate: u64, seconds: u64) -> Histogram<u64> {
    running.load.set_rate(rate);
    rest(1);
    running.load.take_latencies();
    rest(seconds);
    running.load.take_latencies()
}

fn rest(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn quantiles(latencies_us: &Histogram<u64>) -> Value {
    let ms = |quantile| latencies_us.value_at_quantile(quantile) as f64 / 1e3;
    json!({ "p50_ms": ms(0.5), "p99_ms": ms(0.99), "p999_ms": ms(0.999), "samples": latencies_us.len() })
}

fn fresh(directory: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

struct Report {
    json: bool,
    values: serde_json::Map<String, Value>,
}

impl Report {
    fn add(&mut self, name: &str, text: &str, value: Value) {
        if !self.json && !text.is_empty() {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
        self.values.insert(name.to_owned(), value);
    }
}

fn describe(name: &str, value: &Value) -> String {
    format!(
        "{name:<44} p50 {:>8.3} ms   p99 {:>8.3} ms   p99.9 {:>8.3} ms",
        value["p50_ms"].as_f64().unwrap_or_default(),
        value["p99_ms"].as_f64().unwrap_or_default(),
        value["p999_ms"].as_f64().unwrap_or_default()
    )
}

fn run(json: bool, directory: &Path) -> Result<(), Failure> {
    let mut report = Report {
        json,
        values: serde_json::Map::new(),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = format!(
        "{cores} cores; data in {}; durable = fdatasync of the epoch log; jemalloc",
        directory.display()
    );
    report.add(
        "machine",
        &text,
        json!({ "cores": cores, "directory": directory }),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;

    // Memory first, in a process that has used none: what one address costs.
    let resident_before = resident_bytes();
    let data = directory.join("data");
    fresh(&data)?;
    let one = start(&data, 1, &runtime)?;
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
    let two = start(&data, 2, &runtime)?;
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
    let again = start(&data, 2, &runtime)?;
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
    if json {
        writeln!(
            std::io::stdout(),
            "{}",
            serde_json::to_string_pretty(&report.values)?
        )?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut json = false;
    let mut directory = PathBuf::from("target/greeter-bench");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), argument.as_str() == "--dir") {
            ("--json", _) => json = true,
            (_, true) => directory = arguments.next().map_or(directory, PathBuf::from),
            _ => {
                let _ = writeln!(
                    std::io::stderr(),
                    "usage: greeter-bench [--json] [--dir DIR]"
                );
                return ExitCode::from(2);
            }
        }
    }
    match run(json, &directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "greeter-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
