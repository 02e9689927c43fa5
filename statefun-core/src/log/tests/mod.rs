//! Tests of the log as a whole, most of them on the simulated disk.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{EpochLog, Filling, LogError, OpenOptions, Recovered, segment};
use crate::disk::{Disk, SimDisk};

mod basics;
mod crashes;
mod damage;
mod full_disk;
mod sharing;
mod tail;

/// Epochs and their bodies.
type Epochs = Vec<(u64, Vec<u8>)>;

const LINEAGE: u64 = 0xfeed_beef;

fn dir() -> PathBuf {
    PathBuf::from("/data/log")
}

fn segment_path(number: u64) -> PathBuf {
    segment::path(&dir(), number)
}

/// Small segments and no thread, so that every step is the script's.
fn options() -> OpenOptions {
    OpenOptions {
        // Behind them the room that is kept free for attempts.
        segment_bytes: 8_192 + 4_096,
        first_segment_bytes: 2_048 + 4_096,
        background: false,
        filling: Filling::Always,
        ..OpenOptions::new(LINEAGE)
    }
}

fn open(disk: &SimDisk, options: &OpenOptions) -> Result<(Recovered, Epochs), LogError> {
    open_any(Arc::new(disk.clone()), &dir(), options)
}

fn open_any(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: &OpenOptions,
) -> Result<(Recovered, Epochs), LogError> {
    let mut found = Vec::new();
    let recovered = EpochLog::open(disk, dir, options, &mut |record| {
        found.push((record.epoch, record.body.to_vec()));
        Ok::<(), Infallible>(())
    })?;
    Ok((recovered, found))
}

/// A body that differs between epochs and between tries, and often ends with zeros, like a prepared segment.
fn body(epoch: u64, attempt: u64, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| {
            if at >= bytes / 2 && (epoch + attempt).is_multiple_of(2) {
                0
            } else {
                (epoch * 31 + attempt * 7 + at as u64 / 3) as u8 | 1
            }
        })
        .collect()
}

/// Appends epochs with bodies of the given sizes and gives them back.
fn append_all(log: &mut EpochLog, sizes: &[usize]) -> Epochs {
    let mut all = Vec::new();
    for size in sizes {
        let epoch = log.last_epoch() + 1;
        let body = body(epoch, log.attempt(), *size);
        // In parts, as sections of workers are.
        let (head, tail) = body.split_at(body.len() / 3);
        log.append(epoch, &[head, &[], tail]).unwrap();
        all.push((epoch, body));
    }
    all
}

/// Says which case failed, so that it can be run alone.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing case: {}", self.0);
        }
    }
}

/// The seeds of a test: `STATEFUN_SEEDS` times as many when that is set, or the one in `STATEFUN_SEED`, to replay a failure.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    match number("STATEFUN_SEED") {
        Some(one) => one..one + 1,
        None => 0..count * number("STATEFUN_SEEDS").unwrap_or(1),
    }
}

/// A small generator (splitmix64), the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}
