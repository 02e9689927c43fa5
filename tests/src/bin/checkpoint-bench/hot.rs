//! What is uploaded when a few addresses change all the time.

use std::sync::atomic::Ordering;

use serde_json::json;
use statefun_tests::bench::{Aim, greeter_of};
use statefun_tests::yardstick::{Failure, Spread, rest};

use crate::subject::{Bench, rows_of};

/// Persons that change.
const HOT: u64 = 1_000;
/// Addresses beside them, which do not.
const COLD: u64 = 1_100_000;
/// Checkpoints, and seconds between them.
const CHECKPOINTS: usize = 10;
const SECONDS: u64 = 3;

pub(crate) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let bucket = bench.fresh_bucket()?;
    let running = bench.filled(&bucket, COLD.min(bench.options.addresses))?;
    let mut last = bench.checkpoint(&running, &bucket)?;
    running.load.set_aim(Aim {
        persons: HOT,
        in_turn: false,
        varied: true,
    });
    let (mut updates, mut uploaded, mut delta_bytes, mut rows) = (vec![], vec![], vec![], vec![]);
    let mut outputs = vec![];
    let greetings = || running.load.greetings.load(Ordering::SeqCst);
    let mut seen = greetings();
    for _ in 0..CHECKPOINTS {
        running.load.set_rate(u64::MAX);
        rest(SECONDS);
        let before = last.entry.epoch;
        // Not paused: what is under way at the cut is part of it.
        last = bench.checkpoint(&running, &bucket)?;
        // An event updates a person and a greeter.
        updates.push(2.0 * (greetings() - seen) as f64);
        seen = greetings();
        let egress = last.descriptor.tail.egress.iter();
        let output: u64 = egress.map(|egress| egress.object.bytes).sum();
        // Output that a sink may not have accepted goes with each checkpoint: that of a few epochs, however much was updated.
        outputs.push(output as f64);
        uploaded.push((last.entry.uploaded_bytes - output) as f64);
        if let Some(delta) = last.delta(before) {
            delta_bytes.push(delta.bytes() as f64);
            rows.push(rows_of(delta).0 as f64);
        }
    }
    let distinct = HOT + greeter_of(HOT - 1) + 1;
    running.engine.stop()?;
    let outputs = Spread::of(outputs);
    let (updates, uploaded, bytes, rows) = (
        Spread::of(updates),
        Spread::of(uploaded),
        Spread::of(delta_bytes),
        Spread::of(rows),
    );
    let per_row = uploaded.median / distinct as f64;
    bench.report.add("hot", &format!(
        "hot: {distinct} addresses, {:.0} updates between two checkpoints (median of {CHECKPOINTS}); {:.0} rows, {:.0} bytes of changes;\n     \
         uploaded {:.0} bytes (median; {:.0}-{:.0}): {per_row:.0} for each address that changed, {:.4} for each update;\n     \
         beside that, output under way to the sink: {:.0} bytes (median; {:.0}-{:.0})",
        updates.median, rows.median, bytes.median, uploaded.median, uploaded.min, uploaded.max, uploaded.median / updates.median,
        outputs.median, outputs.min, outputs.max
    ), json!({
        "addresses": distinct, "updates": updates.json(), "rows": rows.json(), "delta_bytes": bytes.json(),
        "uploaded_bytes": uploaded.json(), "output_bytes": outputs.json(), "uploaded_bytes_per_row": per_row,
        "uploaded_bytes_per_update": uploaded.median / updates.median,
    }));
    Ok(())
}
