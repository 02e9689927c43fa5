//! A small application with all kinds of rows: states of all kinds, timers, tokens, operations, waiting addresses, queues, dead letters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use statefun_core::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use statefun_core::io::ingress::{
    Ingress, IngressContext, IngressError, Partition, Record, Source, SourceStatus,
};
use statefun_core::prelude::*;
use statefun_core::shape::Shaped;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Whether messages that go round go on: so something is under way at every cut.
pub(crate) static SPINS: AtomicBool = AtomicBool::new(false);

/// What an address is to do.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "format/Do")]
pub(crate) struct Do {
    pub(crate) to: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize, Shaped)]
pub(crate) enum What {
    Value(String),
    Forget,
    Entry(String, i64, u32),
    NoEntry(String, i64),
    Element(String),
    Clear,
    /// So many bytes, which differ from seed to seed.
    Fill(u64, usize),
    Register(String, u32),
    Later(String),
    Operation(i64),
    Say(String),
    Retry,
    Park,
    /// To itself, as long as it is told to.
    Spin,
}

/// What leaves.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "format/Said", format = "msgpack")]
pub(crate) struct Said {
    from: String,
    text: String,
}

const OUT: EgressId<Said> = EgressId::new("format/out");

/// All forms of variants.
#[derive(Debug, Clone, Serialize, Deserialize, Shaped)]
enum Mood {
    Calm,
    Busy(u32),
    Torn(u8, i8),
    Odd { why: String },
}

#[persisted]
#[derive(Debug)]
pub(crate) struct Profile {
    name: String,
    changes: u64,
    balance: i64,
    ratio: f64,
    tags: Vec<String>,
    nick: Option<String>,
    moods: BTreeMap<String, Mood>,
    nothing: (),
    small: f32,
}

#[stateful_function(
    typename = "format/shelf",
    accepts(Do, AsyncResult<String, i64>),
    sends(Shelf),
    egress(OUT),
    max_queue = 2,
    retry(max_attempts = 1000, initial_delay = "365d", max_delay = "365d"),
)]
pub(crate) struct Shelf {
    #[persisted]
    profile: PersistedValue<Profile>,
    #[persisted(expire_after_write = "36500d")]
    seen: PersistedValue<u64>,
    #[persisted]
    entries: PersistedTable<(String, i64), u32>,
    #[persisted]
    elements: PersistedBuffer<String>,
    #[persisted]
    registered: PersistedRegistry,
}

impl Handle<Do> for Shelf {
    fn handle(&mut self, message: Do, ctx: &mut Context<'_, Self>) -> HandlerResult {
        match message.what {
            What::Value(name) => {
                self.profile.changes += 1;
                self.profile.balance -= 300;
                self.profile.ratio = 0.25;
                self.profile.tags.push(name.clone());
                self.profile.nick = (name.len() > 3).then(|| name.chars().take(3).collect());
                let why = name.clone();
                let moods = [
                    ("calm", Mood::Calm),
                    ("busy", Mood::Busy(70_000)),
                    ("torn", Mood::Torn(200, -100)),
                    ("odd", Mood::Odd { why }),
                ];
                let moods = moods.map(|(name, mood)| (name.to_owned(), mood));
                self.profile.moods.extend(moods);
                self.profile.small = -1.5;
                self.profile.name = name;
                *self.seen += 1;
            }
            What::Forget => self.profile.clear(),
            What::Entry(key, number, value) => self.entries.set((key, number), value),
            What::NoEntry(key, number) => self.entries.remove(&(key, number)),
            What::Element(element) => self.elements.append(element),
            What::Clear => self.elements.clear(),
            What::Fill(seed, bytes) => {
                let mut text = String::new();
                let mut number = 0;
                while text.len() < bytes {
                    let digits = xxh3_64_with_seed(&u64::to_le_bytes(number), seed);
                    text.push_str(&format!("{digits:016x}"));
                    number += 1;
                }
                self.profile.name = text;
            }
            What::Register(name, value) => **self.registered.value::<u32>(&name)? = value,
            What::Later(token) => {
                let to = ctx.id().to_owned();
                let what = What::Value("later".to_owned());
                ctx.send_after(
                    Duration::from_hours(24 * 36_500),
                    Self::at(&to),
                    Do {
                        to: to.clone(),
                        what,
                    },
                )
                .with_token(&token);
            }
            What::Operation(_) => ctx.spawn(
                "an operation".to_owned(),
                std::future::pending::<Result<i64, HandlerError>>(),
            ),
            What::Say(text) => {
                let from = ctx.id().to_owned();
                ctx.egress(OUT, &Said { from, text });
            }
            What::Retry => return Err(HandlerError::new("not yet")),
            What::Spin if SPINS.load(Ordering::SeqCst) => {
                std::thread::sleep(Duration::from_millis(1));
                let to = ctx.id().to_owned();
                let what = What::Spin;
                ctx.send(
                    Self::at(&to),
                    Do {
                        to: to.clone(),
                        what,
                    },
                );
            }
            What::Spin => {}
            What::Park => return Err(HandlerError::permanent("never")),
        }
        Ok(())
    }
}

impl Handle<AsyncResult<String, i64>> for Shelf {
    fn handle(
        &mut self,
        result: AsyncResult<String, i64>,
        _: &mut Context<'_, Self>,
    ) -> HandlerResult {
        self.elements.append(result.metadata);
        Ok(())
    }
}

#[router(ingress = "format/in", to(Shelf))]
fn orders(order: Do, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Shelf::at(&order.to), order);
    Ok(())
}

/// What comes in, and whether the sink takes what goes out.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    orders: Mutex<Vec<Do>>,
    pub(crate) refuses: AtomicBool,
    /// What has left.
    said: Mutex<Vec<String>>,
}

impl Outside {
    pub(crate) fn order(&self, to: &str, what: What) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.push(Do {
            to: to.to_owned(),
            what,
        });
    }

    pub(crate) fn said(&self) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    pub(crate) fn ordered(&self) -> usize {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.len()
    }
}

pub(crate) struct Connectors(pub(crate) Arc<Outside>);

impl Module for Connectors {
    fn configure(&self, _: &GlobalConfiguration, binder: &mut Binder) {
        binder.ingress("format/in", Orders(self.0.clone()));
        binder.egress("format/out", Out(self.0.clone(), 0));
    }
}

struct Orders(Arc<Outside>);

impl Ingress for Orders {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let name = "all";
        let position = context.positions.get(name);
        let next = position
            .and_then(|at| std::str::from_utf8(at).ok()?.parse().ok())
            .unwrap_or(0);
        Ok(vec![Partition {
            name: Some(name.to_owned()),
            worker: context.owner(name),
            source: Box::new(OrderSource(self.0.clone(), next)),
        }])
    }
}

struct OrderSource(Arc<Outside>, usize);

impl Source for OrderSource {
    /// One at a time, so that there are many epochs.
    fn poll(&mut self, _: usize, batch: &mut Vec<Record>) -> Result<SourceStatus, IngressError> {
        let orders = self.0.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(order) = orders.get(self.1) else {
            return Ok(SourceStatus::After(Duration::from_millis(5)));
        };
        self.1 += 1;
        batch.push(Record::new(order.clone()).with_position(self.1.to_string()));
        Ok(SourceStatus::After(Duration::from_millis(2)))
    }
}

struct Out(Arc<Outside>, u8);

impl Egress for Out {
    fn open(&mut self, _: &EgressContext) -> Result<(), EgressError> {
        Ok(())
    }

    fn deliver(&mut self, _: u64, records: &[EgressRecord]) -> Result<(), EgressError> {
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(EgressError {
                egress: "format/out".to_owned(),
                problem: "told to refuse".to_owned(),
                transient: true,
            });
        }
        self.1 = self.1.wrapping_add(records.len() as u8);
        let mut all = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            let said = Said::decode(&record.payload);
            all.push(said.map_or_else(|error| error.to_string(), |said| said.text));
        }
        Ok(())
    }

    /// No text, so that a descriptor shows it in hexadecimal digits.
    fn flush(&mut self) -> Result<Bytes, EgressError> {
        Ok(Bytes::copy_from_slice(&[0xff, self.1]))
    }
}
