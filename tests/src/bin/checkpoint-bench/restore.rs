//! How quickly a state comes back.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use statefun_core::catalog::DataDirectory;
use statefun_core::checkpoint::operate;
use statefun_core::checkpoint::restore::Restore;
use statefun_core::clock::Stopwatch;
use statefun_core::disk::RealDisk;
use statefun_tests::process::peak_resident_bytes;
use statefun_tests::yardstick::{Failure, runtime, start};

use crate::cost::size_of;
use crate::subject::{Bench, mb, open};

/// Restores, starts the application, and prints how that went.
pub(crate) fn in_this_process(from: &Path, to: &Path) -> Result<(), Failure> {
    let runtime = runtime()?;
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let before = peak_resident_bytes();
    let restored = Restore {
        bucket: &open(from)?,
        directory: &DataDirectory {
            root: to.to_owned(),
            disk: Arc::new(RealDisk),
        },
        wanted: "latest",
        replace: true,
        take_over: true,
        runtime: runtime.handle(),
        stopping,
    }
    .run(|_| ())?;
    let peak = peak_resident_bytes();
    let running = start(to, 2, None, &runtime)?;
    let value = json!({
        "rows": restored.progress.rows,
        "raw_bytes": restored.progress.bytes,
        "restored_s": restored.progress.elapsed.as_secs_f64(),
        "ready_s": running.ready.as_secs_f64(),
        "resident_before": before,
        "peak_resident": peak,
        "peak_resident_ready": peak_resident_bytes(),
    });
    writeln!(std::io::stdout(), "{value}")?;
    Ok(running.engine.stop()?)
}

/// The checkpoints of a state, made if `cost` has left none.
fn checkpoints(bench: &mut Bench) -> Result<PathBuf, Failure> {
    if let Some(left) = &bench.left {
        return Ok(left.clone());
    }
    let directory = bench.fresh("cost-checkpoints")?;
    let bucket = open(&directory)?;
    let running = bench.filled(&bucket, bench.options.addresses)?;
    bench.checkpoint(&running, &bucket)?;
    running.engine.stop()?;
    Ok(directory)
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let addresses = bench.options.addresses;
    let from = checkpoints(bench)?;
    let bucket = open(&from)?;
    let (_, descriptor) = bench
        .runtime
        .block_on(operate::describe(&bucket, "latest"))?;
    let (objects, bytes) = size_of(&descriptor);
    let watch = Stopwatch::start();
    for (name, _) in descriptor.objects() {
        bench.runtime.block_on(bucket.get(name))?;
    }
    let read_s = watch.elapsed().as_secs_f64();
    let to = bench.fresh("data")?;
    let output = Command::new(std::env::current_exe()?)
        .arg("--restore-here")
        .args([&from, &to])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the restore ended with {}", output.status).into());
    }
    let mut value: Value = serde_json::from_slice(&output.stdout)?;
    let figure = |name: &str| value[name].as_f64().unwrap_or(f64::NAN);
    let restored_s = figure("restored_s");
    let raw = figure("raw_bytes") / 1e6;
    let (per_s, read_per_s) = (mb(bytes) / restored_s, mb(bytes) / read_s);
    let text = format!(
        "restore: {addresses} addresses, {objects} objects of {:.1} MB ({raw:.1} MB of rows): {restored_s:.2} s, \
         {:.0} addresses/s, {per_s:.1} MB/s of objects, {:.1} MB/s of rows;\n         \
         reading the same objects one after the other, nothing else: {read_per_s:.1} MB/s (both from the page cache)\n         \
         the application is ready {:.2} s after that; memory of the process: {:.0} MB at most (before: {:.0} MB), with the application {:.0} MB",
        mb(bytes),
        addresses as f64 / restored_s,
        raw / restored_s,
        figure("ready_s"),
        figure("peak_resident") / 1e6,
        figure("resident_before") / 1e6,
        figure("peak_resident_ready") / 1e6,
    );
    value["addresses"] = json!(addresses);
    value["objects"] = json!(objects);
    value["object_bytes"] = json!(bytes);
    value["addresses_per_s"] = json!(addresses as f64 / restored_s);
    value["object_mb_per_s"] = json!(per_s);
    value["read_mb_per_s"] = json!(read_per_s);
    bench.report.add("restore", &text, value);
    Ok(())
}
