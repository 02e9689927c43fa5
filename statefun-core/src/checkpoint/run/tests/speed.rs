//! How quick it is: `cargo test --release -p statefun-core --lib run::tests::speed -- --ignored --nocapture`.

use super::super::{InMemory, Merge, PartReader};
use super::*;
use crate::clock::Stopwatch;

const ROWS: u64 = 2_000_000;

/// Rows of about 120 bytes, as states of players have.
fn each(count: u64, step: u64, mut take: impl FnMut(&[u8], &[u8])) {
    let mut random = Random(3);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for n in 0..count {
        key.clear();
        key.extend_from_slice(&[0x10, (n * 256 / count) as u8, 0, 1, 2, 3, 4]);
        key.extend_from_slice(format!("player-{:012}", n * step).as_bytes());
        value.clear();
        value.extend_from_slice(b"\x84\xa5level");
        value.extend_from_slice(&random.next().to_be_bytes());
        value.extend_from_slice(b"\xa4name\xa8");
        value.extend_from_slice(format!("{:x}", random.next()).as_bytes());
        value.extend_from_slice(b"\xa7updated\xcf");
        value.extend_from_slice(&(1_700_000_000_000 + random.next() % 1_000_000).to_be_bytes());
        value.extend_from_slice(&[0; 20]);
        take(&key, &value);
    }
}

fn run(count: u64, step: u64) -> Vec<Part> {
    let mut writer = RunWriter::new(16 << 20);
    let mut parts = Vec::new();
    each(count, step, |key, value| {
        parts.extend(writer.push(key, Some(value)).unwrap());
    });
    parts.extend(writer.finish());
    parts
}

#[test]
#[ignore = "measures"]
fn of_writing_reading_and_merging() {
    let tell = |what: &str, bytes: u64, watch: Stopwatch| {
        let seconds = watch.elapsed().as_secs_f64();
        println!(
            "{what}: {seconds:.3} s, {:.0} MB/s",
            bytes as f64 / seconds / 1e6
        );
    };
    let watch = Stopwatch::start();
    let mut bytes = 0;
    each(ROWS, 1, |key, value| {
        bytes += (key.len() + value.len()) as u64;
    });
    println!("{ROWS} rows of {} bytes", bytes / ROWS);
    tell("making rows", bytes, watch);
    let watch = Stopwatch::start();
    let parts = run(ROWS, 1);
    tell("making and writing", bytes, watch);
    let stored: u64 = parts.iter().map(|part| part.summary.bytes).sum();
    println!(
        "stored: {stored} bytes, {:.2} of raw",
        stored as f64 / bytes as f64
    );

    let readers: Vec<_> = parts
        .iter()
        .map(|part| PartReader::open(InMemory::new("a part", part.bytes.clone())).unwrap())
        .collect();
    let watch = Stopwatch::start();
    let (mut rows, mut sum) = (0, 0);
    for reader in &readers {
        let mut cursor = reader.rows(&[], &[]);
        while let Some((key, value)) = cursor.next_row().unwrap() {
            rows += 1;
            sum += key.len() + value.map_or(0, <[u8]>::len);
        }
    }
    assert_eq!((rows, sum as u64), (ROWS, bytes));
    tell("PartReader", bytes, watch);
    for window_bytes in [256 << 10, 4 << 20] {
        let mut cursor = stream(&parts, &[], &[], window_bytes);
        let watch = Stopwatch::start();
        while cursor.advance().unwrap() {}
        tell(
            &format!("RunStream, windows of {window_bytes}"),
            bytes,
            watch,
        );
    }
    for count in [2, 20, 200] {
        let mut merge = Merge::new();
        for run_number in 0..count {
            merge = merge.with(stream(
                &run(ROWS / count, count + run_number % 7),
                &[],
                &[],
                1 << 20,
            ));
        }
        let watch = Stopwatch::start();
        let mut rows = 0;
        while merge.advance().unwrap() {
            rows += 1;
        }
        tell(&format!("Merge of {count} ({rows} rows out)"), bytes, watch);
    }
}
