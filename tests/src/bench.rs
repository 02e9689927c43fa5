//! The yardstick's application: persons and greeters, an ingress that makes events, an egress that counts them.
//!
//! An event is for one of 1,000,000 persons, uniformly at random, with a payload of 100 bytes. The person counts it, keeps the
//! payload, and sends (person, count) to one of 100,000 greeters, which counts it and writes one egress record.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use statefun_core::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use statefun_core::io::ingress::{
    Ingress, IngressContext, IngressError, Partition, Record, Source, SourceStatus,
};
use statefun_core::prelude::*;

/// How many persons there are.
pub const PERSONS: u64 = 1_000_000;
/// How many greeters there are.
pub const GREETERS: u64 = 100_000;
/// Bytes of an event's payload.
pub const PAYLOAD_BYTES: usize = 100;

/// Something that happened to a person.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "bench/Event", format = "msgpack")]
pub struct Event {
    /// Whose.
    pub person: u64,
    /// When it was due, in nanoseconds since the run began.
    pub due_ns: u64,
    /// What a real event would carry.
    pub payload: String,
}

/// A person has been seen.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "bench/Seen", format = "msgpack")]
pub struct Seen {
    /// Who.
    pub person: u64,
    /// How often.
    pub count: u64,
    /// When the event was due.
    pub due_ns: u64,
}

/// The visible result.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "bench/Greeting", format = "msgpack")]
pub struct Greeting {
    /// Who.
    pub person: u64,
    /// How often the person was seen.
    pub count: u64,
    /// How many greetings this greeter has written.
    pub greetings: u64,
    /// When the event was due.
    pub due_ns: u64,
}

/// Where greetings go.
pub const GREETINGS: EgressId<Greeting> = EgressId::new("bench/greetings");

/// What is kept of a person.
#[persisted]
#[derive(Debug)]
pub struct Profile {
    /// How often the person was seen.
    pub count: u64,
    /// The last payload.
    pub payload: String,
}

/// A person.
#[stateful_function(typename = "bench/person", accepts(Event), sends(Greeter))]
pub struct Person {
    #[persisted]
    profile: PersistedValue<Profile>,
}

impl Handle<Event> for Person {
    fn handle(&mut self, event: Event, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let count = self.profile.count + 1;
        self.profile.set(Profile {
            count,
            payload: event.payload,
        });
        let seen = Seen {
            person: event.person,
            count,
            due_ns: event.due_ns,
        };
        ctx.send(
            Greeter::at(numbered("greeter-", event.person % GREETERS)),
            seen,
        );
        Ok(())
    }
}

/// A greeter.
#[stateful_function(typename = "bench/greeter", accepts(Seen), egress(GREETINGS))]
pub struct Greeter {
    #[persisted]
    greetings: PersistedValue<u64>,
}

impl Handle<Seen> for Greeter {
    fn handle(&mut self, seen: Seen, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.greetings += 1;
        let greeting = Greeting {
            person: seen.person,
            count: seen.count,
            greetings: *self.greetings,
            due_ns: seen.due_ns,
        };
        ctx.egress(GREETINGS, &greeting);
        Ok(())
    }
}

/// From an event to its person.
#[router(ingress = "bench/events", to(Person))]
pub fn events(event: Event, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Person::at(numbered("user-", event.person)), event);
    Ok(())
}

/// A name and a number, without the heap.
pub fn numbered(name: &str, number: u64) -> compact_str::CompactString {
    let mut text = compact_str::CompactString::new(name);
    // Writing to a string cannot fail.
    let _ = write!(text, "{number}");
    text
}

/// What the sources are told, and what the sink has seen.
#[derive(Debug)]
pub struct Load {
    /// Events per second of all sources together; 0 pauses, `u64::MAX` is as fast as they are taken.
    rate: AtomicU64,
    /// Bumped with each change of the rate.
    version: AtomicU64,
    /// Greetings that the sink has taken.
    pub greetings: AtomicU64,
    /// From an event's due time to its greeting in the sink, in microseconds.
    pub latency_us: Mutex<Histogram<u64>>,
    clock: statefun_core::clock::Stopwatch,
}

impl Load {
    /// A paused load.
    ///
    /// # Panics
    /// Never: the histogram's precision is valid.
    pub fn paused() -> Arc<Self> {
        Arc::new(Self {
            rate: AtomicU64::new(0),
            version: AtomicU64::new(0),
            greetings: AtomicU64::new(0),
            latency_us: Mutex::new(fresh_histogram()),
            clock: statefun_core::clock::Stopwatch::start(),
        })
    }

    /// Sets the rate, in events per second.
    pub fn set_rate(&self, per_second: u64) {
        self.rate.store(per_second, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes the latencies measured since the last call.
    pub fn take_latencies(&self) -> Histogram<u64> {
        let mut latency = self
            .latency_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *latency, fresh_histogram())
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

/// An empty histogram with three digits.
///
/// # Panics
/// Never: three digits are a valid precision.
#[expect(clippy::expect_used, reason = "three digits are a valid precision")]
pub fn fresh_histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are a valid precision")
}

/// Makes events: one partition per worker.
#[derive(Debug)]
pub struct Events(pub Arc<Load>);

impl Ingress for Events {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let partition = |worker: usize| {
            // A name whose position this worker keeps.
            let name = (0..u32::MAX)
                .map(|n| format!("{worker}-{n}"))
                .find(|name| context.owner(name) == worker);
            let position = name
                .as_ref()
                .and_then(|name| context.positions.get(name))
                .and_then(|at| at.as_ref().try_into().ok());
            let made = position.map_or(0, u64::from_be_bytes);
            Partition {
                name,
                worker,
                source: Box::new(EventSource {
                    load: self.0.clone(),
                    sources: context.workers as u64,
                    seed: worker as u64 + 1,
                    made,
                    made_before: made,
                    since_ns: 0,
                    version: u64::MAX,
                    rate: 0,
                }),
            }
        };
        Ok((0..context.workers).map(partition).collect())
    }
}

struct EventSource {
    load: Arc<Load>,
    sources: u64,
    seed: u64,
    made: u64,
    /// How many were made before the rate was set.
    made_before: u64,
    since_ns: u64,
    version: u64,
    rate: u64,
}

/// A uniform hash of a number (the finalizer of SplitMix64).
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z = (seed << 40)
        .wrapping_add(number)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A payload.
pub fn payload() -> String {
    "x".repeat(PAYLOAD_BYTES)
}

impl Source for EventSource {
    fn poll(
        &mut self,
        limit: usize,
        batch: &mut Vec<Record>,
    ) -> Result<SourceStatus, IngressError> {
        let version = self.load.version.load(Ordering::SeqCst);
        let now = self.load.now_ns();
        if version != self.version {
            self.version = version;
            self.rate = self.load.rate.load(Ordering::SeqCst);
            self.since_ns = now;
            self.made_before = self.made;
        }
        if self.rate == 0 {
            return Ok(SourceStatus::After(Duration::from_millis(100)));
        }
        let interval_ns = 1e9 * self.sources as f64 / self.rate as f64;
        let unlimited = self.rate == u64::MAX;
        let due_of =
            |made: u64| self.since_ns + ((made - self.made_before) as f64 * interval_ns) as u64;
        let mut taken = 0;
        while taken < limit && (unlimited || due_of(self.made + 1) <= now) {
            let due_ns = if unlimited {
                now
            } else {
                due_of(self.made + 1)
            };
            let event = Event {
                person: mix(self.seed, self.made) % PERSONS,
                due_ns,
                payload: payload(),
            };
            self.made += 1;
            taken += 1;
            batch.push(Record::new(event));
        }
        if let Some(last) = batch.last_mut().filter(|_| taken > 0) {
            last.position = Some(Bytes::copy_from_slice(&self.made.to_be_bytes()));
        }
        if unlimited || taken == limit {
            return Ok(SourceStatus::Ready);
        }
        Ok(SourceStatus::After(Duration::from_nanos(
            due_of(self.made + 1).saturating_sub(now),
        )))
    }
}

/// Counts greetings and measures how long they took.
#[derive(Debug)]
pub struct Greetings(pub Arc<Load>);

impl Egress for Greetings {
    fn open(&mut self, _context: &EgressContext) -> Result<(), EgressError> {
        Ok(())
    }

    fn deliver(&mut self, _epoch: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        let now = self.0.now_ns();
        // At full load they are counted only: reading them is the receiver's work, which the bare loop does not do either.
        if self.0.rate.load(Ordering::SeqCst) != u64::MAX {
            let mut latency = self
                .0
                .latency_us
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for record in records {
                if let Ok(greeting) = Greeting::decode(&record.payload) {
                    let _ = latency.record(now.saturating_sub(greeting.due_ns) / 1_000);
                }
            }
        }
        self.0
            .greetings
            .fetch_add(records.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn flush(&mut self) -> Result<Bytes, EgressError> {
        Ok(Bytes::new())
    }
}
