//! What it takes until the blob store has an epoch, too.

use std::time::Duration;

use serde_json::json;
use statefun_core::checkpoint::bucket::{Bucket, Retries};
use statefun_core::checkpoint::location::Location;
use statefun_core::settings::Durability;
use statefun_tests::servers::{Server, Store, is_installed};
use statefun_tests::yardstick::{Failure, describe, latency, quantiles, throughput};

use crate::delay::Delay;
use crate::subject::{Bench, NEVER, into};

/// What a cloud's answer takes, about.
const FAR: Duration = Duration::from_millis(20);
/// How long each is measured, in seconds.
const MEASURED: u64 = 8;

fn measure(
    bench: &mut Bench,
    name: &str,
    bucket: &Bucket,
    durability: Durability,
) -> Result<(), Failure> {
    let running = bench.start(Some(into(bucket, NEVER, durability)))?;
    let seconds = bench.options.seconds.unwrap_or(MEASURED);
    let mut values = serde_json::Map::new();
    for (rate, key) in [(1_000, "latency_1k_per_s"), (10_000, "latency_10k_per_s")] {
        let latencies = quantiles(&latency(&running, rate, seconds));
        let text = describe(&format!("blob: {name}, {rate} events/s"), &latencies);
        bench.report.add("", &text, json!(null));
        values.insert(key.to_owned(), latencies);
    }
    let (before, events_per_s) = (bucket.health(), throughput(&running, 2, seconds));
    let sent = bucket.health().bytes_up - before.bytes_up;
    let sent = sent as f64 / 1e6 / (seconds + 2) as f64;
    values.insert("events_per_s".to_owned(), json!(events_per_s));
    values.insert("sent_mb_per_s".to_owned(), json!(sent));
    running.load.set_rate(0);
    running.engine.stop()?;
    let text = format!(
        "blob: {name}, full load: {events_per_s:.0} events/s, {sent:.0} MB/s to the blob store"
    );
    bench
        .report
        .add(&format!("blob: {name}"), &text, values.into());
    Ok(())
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let bucket = bench.fresh_bucket()?;
    measure(bench, "durability local", &bucket, Durability::Local)?;
    let bucket = bench.fresh_bucket()?;
    measure(
        bench,
        "durability blob, a directory",
        &bucket,
        Durability::Blob,
    )?;
    if !is_installed(Store::S3) {
        let text = "blob: no server that speaks S3 is installed (tests/servers/install versitygw), so there are no figures of one";
        bench.report.add("blob: S3", text, json!(null));
        return Ok(());
    }
    let server = Server::start(Store::S3);
    let near = server.open("near", Retries::default());
    measure(bench, "durability blob, S3", &near, Durability::Blob)?;
    let delay = Delay::start(bench.runtime.handle(), &server.endpoint(), FAR)?;
    let mut options = server.options(Retries::default());
    options.s3.endpoint = Some(delay.endpoint());
    let far = Bucket::open(&Location::parse(&server.url("far"))?, &options)?;
    measure(
        bench,
        "durability blob, S3 20 ms away",
        &far,
        Durability::Blob,
    )
}
