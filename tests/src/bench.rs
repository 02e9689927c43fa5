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
/// How many persons have the same greeter.
const PERSONS_OF_A_GREETER: u64 = PERSONS / GREETERS;
/// How often sources that make nothing look whether they are to.
const PAUSED: Duration = Duration::from_millis(100);
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
            Greeter::at(numbered("greeter-", greeter_of(event.person))),
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

/// The greeter of a person.
pub fn greeter_of(person: u64) -> u64 {
    person / PERSONS_OF_A_GREETER
}

/// How many persons there are among so many addresses, when each ten have a greeter.
pub fn persons_among(addresses: u64) -> u64 {
    addresses / (PERSONS_OF_A_GREETER + 1) * PERSONS_OF_A_GREETER
}

/// A name and a number, without the heap.
pub fn numbered(name: &str, number: u64) -> compact_str::CompactString {
    let mut text = compact_str::CompactString::new(name);
    // Writing to a string cannot fail.
    let _ = write!(text, "{number}");
    text
}

/// What events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aim {
    /// For one of so many persons.
    pub persons: u64,
    /// For one after the other, not at random.
    pub in_turn: bool,
    /// With payloads that differ, of which compression leaves about half.
    pub varied: bool,
}

impl Default for Aim {
    fn default() -> Self {
        Self {
            persons: PERSONS,
            in_turn: false,
            varied: false,
        }
    }
}

/// What the sources are told, and what the sink has seen.
#[derive(Debug)]
pub struct Load {
    /// Events per second of all sources together; 0 pauses, `u64::MAX` is as fast as they are taken.
    rate: AtomicU64,
    /// Bumped with each change of the rate or the aim.
    version: AtomicU64,
    aim: Mutex<Aim>,
    /// The number of the next event, and of the one that is not made any more.
    next: AtomicU64,
    end: AtomicU64,
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
            aim: Mutex::default(),
            next: AtomicU64::new(0),
            end: AtomicU64::new(u64::MAX),
            greetings: AtomicU64::new(0),
            latency_us: Mutex::new(fresh_histogram()),
            clock: statefun_core::clock::Stopwatch::start(),
        })
    }

    /// Sets the rate, in events per second.
    pub fn set_rate(&self, per_second: u64) {
        self.end.store(u64::MAX, Ordering::SeqCst);
        self.change_rate(per_second);
    }

    fn change_rate(&self, per_second: u64) {
        self.rate.store(per_second, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Says what events are about from now on.
    pub fn set_aim(&self, aim: Aim) {
        *self.aim.lock().unwrap_or_else(PoisonError::into_inner) = aim;
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// Has so many events made, as fast as they are taken, and waits until the sink has their greetings; the load was paused before,
    /// and is afterwards.
    pub fn send(&self, events: u64) {
        let wanted = self.greetings.load(Ordering::SeqCst) + events;
        self.next.store(0, Ordering::SeqCst);
        self.end.store(events, Ordering::SeqCst);
        self.change_rate(u64::MAX);
        while self.greetings.load(Ordering::SeqCst) < wanted {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.change_rate(0);
    }

    /// Takes the numbers of up to so many events: the first, and how many.
    fn claim(&self, events: u64) -> (u64, u64) {
        let end = self.end.load(Ordering::SeqCst);
        let first = self.next.fetch_add(events, Ordering::SeqCst);
        (first, end.saturating_sub(first).min(events))
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
                    aim: Aim::default(),
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
    aim: Aim,
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

/// A payload of digits that no other number has.
fn varied_payload(number: u64) -> String {
    let mut text = String::with_capacity(PAYLOAD_BYTES + 16);
    let mut word = 0;
    while text.len() < PAYLOAD_BYTES {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:016x}", mix(number, word));
        word += 1;
    }
    text.truncate(PAYLOAD_BYTES);
    text
}

impl EventSource {
    /// When an event is due, by how many were made before it.
    fn due_ns(&self, made: u64) -> u64 {
        let interval_ns = 1e9 * self.sources as f64 / self.rate as f64;
        self.since_ns + ((made + 1 - self.made_before) as f64 * interval_ns) as u64
    }

    /// How many events are to be made now.
    fn due(&self, now: u64, limit: u64) -> u64 {
        if self.rate == u64::MAX {
            return limit;
        }
        let more = (0..limit).take_while(|more| self.due_ns(self.made + more) <= now);
        more.count() as u64
    }
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
            self.aim = *self.load.aim.lock().unwrap_or_else(PoisonError::into_inner);
            self.since_ns = now;
            self.made_before = self.made;
        }
        if self.rate == 0 {
            return Ok(SourceStatus::After(PAUSED));
        }
        let unlimited = self.rate == u64::MAX;
        let due = self.due(now, limit as u64);
        let (first, events) = self.load.claim(due);
        for number in first..first + events {
            let person = if self.aim.in_turn {
                number
            } else {
                mix(self.seed, self.made)
            };
            let event = Event {
                person: person % self.aim.persons,
                due_ns: if unlimited {
                    now
                } else {
                    self.due_ns(self.made)
                },
                payload: if self.aim.varied {
                    varied_payload(mix(self.seed, self.made))
                } else {
                    payload()
                },
            };
            self.made += 1;
            batch.push(Record::new(event));
        }
        if let Some(last) = batch.last_mut().filter(|_| events > 0) {
            last.position = Some(Bytes::copy_from_slice(&self.made.to_be_bytes()));
        }
        if events < due {
            return Ok(SourceStatus::After(PAUSED));
        }
        if unlimited || due == limit as u64 {
            return Ok(SourceStatus::Ready);
        }
        let next_ns = self.due_ns(self.made).saturating_sub(now);
        Ok(SourceStatus::After(Duration::from_nanos(next_ns)))
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
