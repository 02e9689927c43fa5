//! Running the yardstick's application, for the programs that measure it: started, loaded, looked at; and what they print.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use statefun_core::checkpoint::Checkpoints;
use statefun_core::clock::Stopwatch;
use statefun_core::engine::start::{Engine, EngineSettings};
use statefun_core::runtime::Launch;
use statefun_core::sdk::module::{Binder, GlobalConfiguration, Module};
use statefun_core::settings::Settings;
use statefun_core::trace::Tracer;
use statefun_core::trace::export::{self, Exporter};

use crate::bench::{Events, Greetings, Load};
use crate::process::cpu_time;

/// Any reason why nothing can be measured.
pub type Failure = Box<dyn std::error::Error>;

/// The allocator of a program that measures, as a part of that program.
///
/// Messages are made by one worker and freed by another, which jemalloc takes lightly.
#[macro_export]
macro_rules! measured_allocator {
    () => {
        #[global_allocator]
        static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

        /// Workers make and free messages hundreds at a time: so many are kept at hand, not the 200 that are usual.
        #[expect(
            unsafe_code,
            reason = "the allocator looks for its settings under this name, which nothing else has, and wants a C string"
        )]
        #[unsafe(export_name = "_rjem_malloc_conf")]
        pub static ALLOCATOR_SETTINGS: &[u8; 52] =
            b"tcache_nslots_small_max:2000,lg_tcache_nslots_mul:4\0";
    };
}

struct Bench(Arc<Load>);

impl Module for Bench {
    fn configure(&self, _global: &GlobalConfiguration, binder: &mut Binder) {
        binder.ingress("bench/events", Events(self.0.clone()));
        binder.egress("bench/greetings", Greetings(self.0.clone()));
    }
}

/// How long a load runs before it is measured, in seconds: all addresses are in memory then, and the state store has begun to apply.
pub const WARM_UP: u64 = 10;
/// How long throughput and latency are measured, in seconds: longer than the state store rests between two times that it applies,
/// so that its share of the processors and of the disk is in the figures.
pub const MEASURED: u64 = 20;

/// A running application.
#[derive(Debug)]
pub struct Running {
    /// Its engine.
    pub engine: Engine,
    /// What it is told.
    pub load: Arc<Load>,
    /// How long its start took.
    pub ready: Duration,
}

/// Starts the application on a data directory, with checkpoints or without.
///
/// # Errors
/// When it does not start.
pub fn start(
    directory: &Path,
    workers: usize,
    checkpoints: Option<Checkpoints>,
    runtime: &tokio::runtime::Runtime,
) -> Result<Running, Failure> {
    start_observed(
        directory,
        workers,
        checkpoints,
        Observed::default(),
        runtime,
    )
}

/// What is observed of an application.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Whether handlers are timed, and all is counted.
    pub metrics: bool,
    /// Where spans go.
    pub tracer: Option<Tracer>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            metrics: true,
            tracer: None,
        }
    }
}

/// As [`start`], observed like that.
///
/// # Errors
/// When it does not start.
pub fn start_observed(
    directory: &Path,
    workers: usize,
    checkpoints: Option<Checkpoints>,
    observed: Observed,
    runtime: &tokio::runtime::Runtime,
) -> Result<Running, Failure> {
    let load = Load::paused();
    let watch = Stopwatch::start();
    let engine = Launch::linked(directory)
        .module(&Bench(load.clone()), &GlobalConfiguration::default())
        .settings(EngineSettings {
            workers,
            cache_bytes: 2 << 30,
            measures: observed.metrics,
            ..EngineSettings::default()
        })
        .checkpoints(checkpoints)
        .tracer(observed.tracer)
        .start(runtime.handle())?;
    Ok(Running {
        engine,
        load,
        ready: watch.elapsed(),
    })
}

/// A tracer of that share of events, whose spans go to a receiver in this process that looks at none of them.
///
/// # Errors
/// When there is no such share, or no port for the receiver.
pub fn discarding_tracer(
    share: &str,
    runtime: &tokio::runtime::Runtime,
) -> Result<Option<(Tracer, Exporter)>, Failure> {
    let address = crate::receiver::start(|_| 200)?;
    let mut settings = Settings::default();
    settings.set("tracing.endpoint", &format!("http://{address}"))?;
    settings.set("tracing.sample", share)?;
    Ok(export::start(&settings.tracing, runtime.handle())?)
}

impl Running {
    /// Waits until the state store has applied everything, and has had time to merge it.
    pub fn settle(&self) {
        self.load.set_rate(0);
        while self.engine.handle().applied_epoch() < self.engine.handle().durable_epoch() {
            rest(1);
        }
        rest(4);
    }
}

/// Events per second over `seconds`, after `warm_up`.
pub fn throughput(running: &Running, warm_up: u64, seconds: u64) -> f64 {
    throughput_watched(running, warm_up, seconds, || ())
}

/// As [`throughput`]; `look` is called at the beginning, and ten times a second.
pub fn throughput_watched(
    running: &Running,
    warm_up: u64,
    seconds: u64,
    mut look: impl FnMut(),
) -> f64 {
    running.load.set_rate(u64::MAX);
    rest(warm_up);
    look();
    let before = running.load.greetings.load(Ordering::SeqCst);
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(100));
        look();
    }
    let done = running.load.greetings.load(Ordering::SeqCst) - before;
    done as f64 / watch.elapsed().as_secs_f64()
}

/// A run at full load.
#[derive(Debug, Clone, Copy)]
pub struct FullLoad {
    /// Throughput.
    pub events_per_s: f64,
    /// Processor time of the whole process for an event, in microseconds: other processes of the machine do not disturb it much.
    pub cpu_us: f64,
}

impl FullLoad {
    /// Measures it over `seconds`; `look` is called at the beginning, after the warm-up, and ten times a second.
    pub fn measure(running: &Running, seconds: u64, mut look: impl FnMut()) -> Self {
        let events = || running.load.greetings.load(Ordering::SeqCst);
        let mut begun = None;
        let events_per_s = throughput_watched(running, WARM_UP, seconds, || {
            begun.get_or_insert_with(|| (cpu_time(), events()));
            look();
        });
        let (cpu, before) = begun.unwrap_or_default();
        let cpu = cpu_time().saturating_sub(cpu).as_secs_f64();
        Self {
            events_per_s,
            cpu_us: cpu * 1e6 / (events() - before).max(1) as f64,
        }
    }

    /// For reports.
    pub fn json(self) -> Value {
        json!({ "events_per_s": self.events_per_s, "cpu_us_per_event": self.cpu_us })
    }
}

/// The least, the middle and the greatest of some measurements.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// That of these.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            min: at(0),
            median: at(values.len() / 2),
            max: at(values.len().saturating_sub(1)),
        }
    }

    /// For reports.
    pub fn json(self) -> Value {
        json!({ "min": self.min, "median": self.median, "max": self.max })
    }
}

/// Latencies at a rate, in microseconds.
pub fn latency(running: &Running, rate: u64, seconds: u64) -> Histogram<u64> {
    running.load.set_rate(rate);
    rest(1);
    running.load.take_latencies();
    rest(seconds);
    running.load.take_latencies()
}

/// Waits.
pub fn rest(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// What is reported of latencies.
pub fn quantiles(latencies_us: &Histogram<u64>) -> Value {
    let ms = |quantile| latencies_us.value_at_quantile(quantile) as f64 / 1e3;
    json!({ "p50_ms": ms(0.5), "p99_ms": ms(0.99), "p999_ms": ms(0.999), "samples": latencies_us.len() })
}

/// Removes a directory, if there is one.
///
/// # Errors
/// When it cannot be removed.
pub fn fresh(directory: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// What was measured: as text while it goes on, or as JSON at the end.
#[derive(Debug)]
pub struct Report {
    json: bool,
    values: serde_json::Map<String, Value>,
}

impl Report {
    /// Nothing yet, but on what it is measured, and what `durable` means.
    pub fn new(json: bool, directory: &Path, durable: &str) -> Self {
        let mut report = Self {
            json,
            values: serde_json::Map::new(),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let text = format!(
            "{cores} cores; data in {}; {durable}; jemalloc",
            directory.display()
        );
        report.add(
            "machine",
            &text,
            json!({ "cores": cores, "directory": directory }),
        );
        report
    }

    /// Adds a figure: a line of text, unless it is empty, and its value, unless it has no name.
    pub fn add(&mut self, name: &str, text: &str, value: Value) {
        if !self.json && !text.is_empty() {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
        if !name.is_empty() {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// Prints all of it, when JSON is wanted.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn finish(&self) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string_pretty(&self.values)?;
            writeln!(std::io::stdout(), "{text}")?;
        }
        Ok(())
    }
}

/// The runtime of the application's asynchronous work.
///
/// # Errors
/// When there are no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

/// A line with latencies.
pub fn describe(name: &str, value: &Value) -> String {
    format!(
        "{name:<44} p50 {:>8.3} ms   p99 {:>8.3} ms   p99.9 {:>8.3} ms",
        value["p50_ms"].as_f64().unwrap_or_default(),
        value["p99_ms"].as_f64().unwrap_or_default(),
        value["p999_ms"].as_f64().unwrap_or_default()
    )
}
