//! The yardstick: see `statefun_tests::bench`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use statefun_core::clock::Stopwatch;
use statefun_core::engine::start::{Engine, EngineSettings};
use statefun_core::runtime::Launch;
use statefun_core::sdk::module::{Binder, GlobalConfiguration, Module};
use statefun_tests::bench::{Events, Greetings, Load};

struct Bench(Arc<Load>);
impl Module for Bench {
    fn configure(&self, _global: &GlobalConfiguration, binder: &mut Binder) {
        binder.ingress("bench/events", Events(self.0.clone()));
        binder.egress("bench/greetings", Greetings(self.0.clone()));
    }
}

fn main() {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "/tmp/greeter-bench".to_owned());
    let workers: usize = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(2);
    let _ = std::fs::remove_dir_all(&directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let load = Load::paused();
    let start = Stopwatch::start();
    let engine: Engine = Launch::linked(&directory)
        .module(&Bench(load.clone()), &GlobalConfiguration::default())
        .settings(EngineSettings { workers, ..EngineSettings::default() })
        .start(runtime.handle())
        .unwrap();
    println!("ready after {:?}", start.elapsed());
    for (rate, seconds) in [(u64::MAX, 2), (10_000, 2)] {
        load.set_rate(rate);
        std::thread::sleep(Duration::from_millis(500));
        load.take_latencies();
        let before = load.greetings.load(Ordering::SeqCst);
        let epochs = engine.durable_epoch();
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_secs(seconds));
        let done = load.greetings.load(Ordering::SeqCst) - before;
        let seconds = watch.elapsed().as_secs_f64();
        let latency = load.take_latencies();
        println!(
            "rate {rate}: {:.0} events/s, {:.0} epochs/s, latency us p50 {} p99 {} p99.9 {} stopped {} lag {}",
            done as f64 / seconds,
            (engine.durable_epoch() - epochs) as f64 / seconds,
            latency.value_at_quantile(0.5),
            latency.value_at_quantile(0.99),
            latency.value_at_quantile(0.999),
            engine.has_stopped(),
            engine.durable_epoch() - engine.applied_epoch(),
        );
    }
    load.set_rate(0);
    std::thread::sleep(Duration::from_millis(500));
    let stop = Stopwatch::start();
    let stopped = engine.stop();
    println!("stopped {stopped:?} after {:?}", stop.elapsed());
}
