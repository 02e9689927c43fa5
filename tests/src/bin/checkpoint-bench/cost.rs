//! What is uploaded when a small part of the state changes.

use std::collections::BTreeSet;

use serde_json::json;
use statefun_core::checkpoint::manifest::{Base, Descriptor};
use statefun_tests::bench::{Aim, persons_among};
use statefun_tests::yardstick::{Failure, Spread};

use crate::subject::{Bench, mb, rows_of};

/// One address in so many changes from one checkpoint to the next.
const CHANGED: u64 = 100;

/// What a restore reads: objects, and their bytes.
pub(crate) fn size_of(descriptor: &Descriptor) -> (usize, u64) {
    let objects: BTreeSet<_> = descriptor.objects().collect();
    (objects.len(), objects.iter().map(|(_, bytes)| bytes).sum())
}

pub(crate) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let directory = bench.fresh("cost-checkpoints")?;
    let bucket = crate::subject::open(&directory)?;
    let addresses = bench.options.addresses;
    let running = bench.filled(&bucket, addresses)?;
    let mut last = bench.checkpoint(&running, &bucket)?;
    bench.report.add("cost_full", &format!(
        "cost: {addresses} addresses; the first checkpoint, of all: {:.1} MB in {:.1} s",
        mb(last.entry.uploaded_bytes), last.took.as_secs_f64()
    ), json!({ "addresses": addresses, "uploaded_bytes": last.entry.uploaded_bytes, "took_s": last.took.as_secs_f64() }));
    running.load.set_aim(Aim {
        persons: persons_among(addresses),
        in_turn: false,
        varied: true,
    });
    let (mut ratios, mut took, mut restored) = (Vec::new(), Vec::new(), Vec::new());
    let (mut changed, mut raw, mut rows, mut uploaded, mut most_deltas) = (0, 0, 0, 0, 0);
    for _ in 0..bench.options.checkpoints {
        // Each changes a person, and nearly each another greeter.
        running.load.send((addresses / CHANGED / 2).max(1));
        let before = last.entry.epoch;
        last = bench.checkpoint(&running, &bucket)?;
        took.push(last.took.as_secs_f64());
        restored.push(size_of(&last.descriptor).1 as f64);
        most_deltas = most_deltas.max(last.descriptor.deltas.len());
        // None when everything was written anew, or deltas were merged: such a checkpoint has no ratio of its own.
        if let Some(delta) = last.delta(before) {
            ratios.push(last.entry.uploaded_bytes as f64 / delta.bytes() as f64);
            changed += delta.bytes();
            rows += rows_of(delta).0;
            raw += rows_of(delta).1;
            uploaded += last.entry.uploaded_bytes;
        }
    }
    let deltas = last.descriptor.deltas.len();
    let (objects, bytes) = size_of(&last.descriptor);
    let first = last.descriptor.bases.iter().map(|base| base.epoch).min();
    let rotated = last
        .descriptor
        .bases
        .iter()
        .filter(|base| Some(base.epoch) > first);
    let rotated = rotated.map(Base::bytes).sum::<u64>() as f64 / bytes as f64;
    let counted = ratios.len().max(1) as u64;
    let (ratio, took, restored) = (Spread::of(ratios), Spread::of(took), Spread::of(restored));
    let total = uploaded as f64 / changed as f64;
    bench.report.add("cost", &format!(
        "cost: each of {counted} checkpoints: {} rows changed, {:.2} MB as uploaded ({:.2} MB raw), in {:.2} s (median; {:.2}-{:.2})\n      \
         uploaded: {:.2} x the changed bytes (median; {:.2}-{:.2}), {total:.2} x in all\n      \
         kept at the end: {deltas} deltas (at most {most_deltas}), {objects} objects, {:.1} MB to restore (at most {:.1}); {:.0} % in bases written anew",
        rows / counted, mb(changed / counted), mb(raw / counted), took.median, took.min, took.max,
        ratio.median, ratio.min, ratio.max, mb(bytes), restored.max / 1e6, rotated * 100.0
    ), json!({
        "checkpoints": counted, "changed_rows_each": rows / counted, "changed_bytes_each": changed / counted,
        "changed_raw_bytes_each": raw / counted, "uploaded_to_changed": ratio.json(), "uploaded_to_changed_in_all": total,
        "took_s": took.json(), "deltas": deltas, "most_deltas": most_deltas, "objects": objects, "restore_bytes": bytes,
        "most_restore_bytes": restored.max, "share_in_bases_written_anew": rotated,
    }));
    running.engine.stop()?;
    bench.left = Some(directory);
    Ok(())
}
