//! What it costs: `cargo test --release -p statefun-core --lib changes::speed -- --ignored --nocapture`.

use super::*;
use crate::clock::Stopwatch;
use crate::disk::RealDisk;
use crate::rand::Random;
use crate::state::StateStore;
use crate::state::fjall::FjallStore;

const ROWS: u64 = 1_100_000;

/// Keys of states of players, some of ten millions of them, in order.
fn keys(seed: u64) -> Vec<Vec<u8>> {
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
    keys
}

#[test]
#[ignore = "measures"]
fn of_a_window() {
    let directory = tempfile::tempdir_in(".").unwrap();
    let log = ChangeLog::open(Arc::new(RealDisk), &directory.path().join("changes")).unwrap();
    let windows: Vec<_> = (0..8).map(keys).collect();
    let key_bytes: usize = windows[0].iter().map(Vec::len).sum();
    println!(
        "{} keys of {} bytes",
        windows[0].len(),
        key_bytes / windows[0].len()
    );
    for (number, keys) in windows.iter().enumerate() {
        let watch = Stopwatch::start();
        let mut writer = log.begin(number as u64, number as u64 + 1).unwrap();
        for key in keys {
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
            let mut rows = keys.iter().map(|key| (&key[..], Some(&value[..])));
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
