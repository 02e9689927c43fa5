//! What the yardstick is compared with in the same run: the same logic without an engine, and the disk alone.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use compact_str::CompactString;
use hdrhistogram::Histogram;
use statefun_core::clock::Stopwatch;
use statefun_core::sdk::message::Message;

use crate::bench::{Event, Greeting, PERSONS, Profile, greeter_of, mix, numbered, payload};

/// The yardstick's logic in one thread on two hash maps: no engine, no durability.
#[derive(Debug, Default)]
pub struct BareLoop {
    persons: HashMap<CompactString, Profile>,
    greeters: HashMap<CompactString, u64>,
    made: u64,
    record: Vec<u8>,
}

impl BareLoop {
    /// All persons and greeters seen once.
    pub fn warm() -> Self {
        let mut bare = Self::default();
        for person in 0..PERSONS {
            bare.handle(Event {
                person,
                due_ns: 0,
                payload: payload(),
            });
        }
        bare
    }

    /// Handles events for so long; returns events per second.
    pub fn run(&mut self, duration: Duration) -> f64 {
        let watch = Stopwatch::start();
        let mut events = 0u64;
        while watch.elapsed() < duration {
            for _ in 0..1_000 {
                let person = mix(7, self.made) % PERSONS;
                self.made += 1;
                self.handle(Event {
                    person,
                    due_ns: self.made,
                    payload: payload(),
                });
            }
            events += 1_000;
        }
        events as f64 / watch.elapsed().as_secs_f64()
    }

    fn handle(&mut self, event: Event) {
        let profile = self
            .persons
            .entry(numbered("user-", event.person))
            .or_default();
        profile.count += 1;
        profile.payload = event.payload;
        let count = profile.count;
        let greetings = self
            .greeters
            .entry(numbered("greeter-", greeter_of(event.person)))
            .or_default();
        *greetings += 1;
        self.record.clear();
        let greeting = Greeting {
            person: event.person,
            count,
            greetings: *greetings,
            due_ns: event.due_ns,
        };
        // The record goes nowhere; a greeting of four numbers always encodes.
        let _ = greeting.encode(&mut self.record);
        std::hint::black_box(&self.record);
    }
}

/// How long it takes to make 4 KiB durable in a prewritten file, in microseconds.
pub fn fdatasync_loop(directory: &Path, duration: Duration) -> io::Result<Histogram<u64>> {
    const FILE_BYTES: u64 = 16 << 20;
    const WRITE_BYTES: u64 = 4 << 10;
    std::fs::create_dir_all(directory)?;
    let path = directory.join("bare-fdatasync");
    let file = File::create(&path)?;
    let zeros = vec![0; 1 << 20];
    for offset in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, offset)?;
    }
    file.sync_all()?;
    let block = vec![1; WRITE_BYTES as usize];
    let mut latencies = crate::bench::fresh_histogram();
    let watch = Stopwatch::start();
    let mut offset = 0;
    while watch.elapsed() < duration {
        let one = Stopwatch::start();
        file.write_all_at(&block, offset)?;
        file.sync_data()?;
        let _ = latencies.record(one.elapsed().as_micros() as u64);
        offset = (offset + WRITE_BYTES) % FILE_BYTES;
    }
    std::fs::remove_file(path)?;
    Ok(latencies)
}
