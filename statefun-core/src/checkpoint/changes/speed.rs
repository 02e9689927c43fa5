//! What it costs: `cargo test --release -p statefun-core --lib changes::speed -- --ignored --nocapture`.

use super::*;
use crate::clock::Stopwatch;
use crate::disk::RealDisk;
use crate::rand::Random;
use crate::state::StateStore;
use crate::state::fjall::FjallStore;

const ROWS: u64 = 1_100_000;

/// Keys in order, one behind the other in memory: whoever applies a window fetches them ahead.
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = [0].into_iter().chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Keys of states of players, some of ten millions of them.
fn keys(seed: u64) -> Keys {
    let mut random = Random::seeded(seed);
    let mut keys: Vec<Vec<u8>> = (0..ROWS)
        .map(|_| {
            let player = random.below(10_000_000);
            let group = (player.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as u16;
            let mut key = vec![0x10];
            key.extend_from_slice(&group.to_be_bytes());
            key.extend_from_slice(&[0xc3, 0x1f, 0x07, 0x55]);
            key.extend_from_slice(format!("player-{player}\0\u{1}profile\0\u{1}").as_bytes());
            key
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut all = Keys {
        bytes: Vec::new(),
        ends: Vec::new(),
    };
    for key in keys {
        all.bytes.extend_from_slice(&key);
        all.ends.push(all.bytes.len());
    }
    all
}

#[test]
#[ignore = "measures"]
fn of_a_window() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let log = ChangeLog::open(Arc::new(RealDisk), &directory.path().join("changes")).unwrap();
    let windows: Vec<_> = (0..8).map(keys).collect();
    let count = windows[0].ends.len();
    println!("{count} keys of {} bytes", windows[0].bytes.len() / count);
    for (number, keys) in windows.iter().enumerate() {
        let watch = Stopwatch::start();
        let mut writer = log.begin(number as u64, number as u64 + 1).unwrap();
        for key in keys.iter() {
            writer.push(key).unwrap();
        }
        let pushed = watch.elapsed();
        writer.finish().unwrap();
        let file = &log.files()[number];
        let bytes = RealDisk.metadata(&log.path(file)).unwrap().bytes;
        println!(
            "written: {pushed:?}, then finished: {:?} in all; {bytes} bytes",
            watch.elapsed()
        );
    }
    for count in [1, 2, 8] {
        let watch = Stopwatch::start();
        let mut keys = log.keys(&log.files()[..count]).unwrap();
        let mut rows = 0;
        while keys.advance().unwrap() {
            rows += 1;
        }
        println!("read of {count}: {rows} keys in {:?}", watch.elapsed());
    }
    let value = [7; 90];
    for noted in [false, true] {
        let store = FjallStore::open(&directory.path().join(format!("{noted}")), 64 << 20).unwrap();
        let log = ChangeLog::open(Arc::new(RealDisk), &directory.path().join("noted")).unwrap();
        let store = if noted {
            store.with_changes(Arc::new(log))
        } else {
            store
        };
        for (number, keys) in windows[..4].iter().enumerate() {
            let watch = Stopwatch::start();
            let mut rows = keys.iter().map(|key| (key, Some(&value[..])));
            store.apply(number as u64 + 1, &mut rows).unwrap();
            println!("applied, noted {noted}: {:?}", watch.elapsed());
        }
        let snapshot = store.snapshot().unwrap();
        let mut cursor = snapshot.rows(&[], &[]).unwrap();
        let watch = Stopwatch::start();
        let mut rows = 0;
        while cursor.next_row().unwrap().is_some() {
            rows += 1;
        }
        println!("cursor: {rows} rows in {:?}", watch.elapsed());
    }
}
