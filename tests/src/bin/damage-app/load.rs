//! Functions to be kept busy: counters that write what they count, cells that hold a little state each, and a gate that is shut.

use statefun_core::io::ingress::{
    Ingress, IngressContext, IngressError, Partition, Record, Source, SourceStatus,
};
use statefun_core::prelude::*;
use statefun_core::sdk::module::{Binder, GlobalConfiguration, Module};

pub(crate) struct Load;

impl Module for Load {
    fn configure(&self, _global: &GlobalConfiguration, binder: &mut Binder) {
        binder.register::<Counter>();
        binder.register::<Cell>();
        binder.register::<Gate>();
        // `fill:1000`, `verify:1000` or `park:1000`
        if let Ok(numbers) = std::env::var("DAMAGE_NUMBERS")
            && let Some((what, count)) = numbers.split_once(':')
            && let Ok(count) = count.parse()
        {
            let what = what.to_owned();
            binder.ingress("load/numbers", Numbers { what, count });
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "load/Put")]
struct Put {
    n: u64,
    #[serde(default)]
    payload: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "load/Query")]
struct Query {}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "load/Seen")]
struct Seen {
    count: u64,
    sum: u64,
    payload_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "load/Line")]
struct Line {
    id: String,
    n: u64,
    count: u64,
}

const LINES: EgressId<Line> = EgressId::new("load/lines");

/// Counts, keeps the last payload, and writes a line for each message.
#[stateful_function(typename = "load/counter", accepts(Put, Query), egress(LINES))]
struct Counter {
    #[persisted]
    count: PersistedValue<u64>,
    #[persisted]
    sum: PersistedValue<u64>,
    #[persisted]
    payload: PersistedValue<String>,
}

impl Counter {
    fn seen(&self) -> Seen {
        Seen {
            count: *self.count,
            sum: *self.sum,
            payload_bytes: self.payload.len() as u64,
        }
    }
}

impl Handle<Put> for Counter {
    fn handle(&mut self, put: Put, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.count += 1;
        *self.sum += put.n;
        self.payload.set(put.payload);
        let line = Line {
            id: ctx.id().to_owned(),
            n: put.n,
            count: *self.count,
        };
        ctx.egress(LINES, &line);
        if ctx.caller().is_some() {
            ctx.reply(self.seen())?;
        }
        Ok(())
    }
}

impl Handle<Query> for Counter {
    fn handle(&mut self, _: Query, ctx: &mut Context<'_, Self>) -> HandlerResult {
        Ok(ctx.reply(self.seen())?)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "load/Fill", format = "msgpack")]
struct Fill {
    n: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "load/Verify", format = "msgpack")]
struct Verify {
    n: u64,
}

/// One of very many: remembers a number that is made from its own. What is wrong with it, it says by a line of the count 0;
/// of every 256th that is right there is a line as well.
#[stateful_function(typename = "load/cell", accepts(Fill, Verify), egress(LINES))]
struct Cell {
    #[persisted]
    value: PersistedValue<u64>,
    #[persisted]
    fills: PersistedValue<u32>,
}

fn value_of(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
}

impl Handle<Fill> for Cell {
    fn handle(&mut self, fill: Fill, _: &mut Context<'_, Self>) -> HandlerResult {
        *self.fills += 1;
        self.value.set(value_of(fill.n));
        Ok(())
    }
}

impl Handle<Verify> for Cell {
    fn handle(&mut self, verify: Verify, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let n = verify.n;
        let right = *self.value == value_of(n) && *self.fills == 1;
        if !right || n.is_multiple_of(256) {
            let line = Line {
                id: ctx.id().to_owned(),
                n,
                count: u64::from(right),
            };
            ctx.egress(LINES, &line);
        }
        Ok(())
    }
}

/// Takes nothing until there is a file `open`; then it says by its lines in which order the messages came.
#[stateful_function(typename = "load/gate", accepts(Put), egress(LINES))]
struct Gate {
    #[persisted]
    last: PersistedValue<u64>,
    #[persisted]
    passed: PersistedValue<u64>,
    is_open: bool,
}

impl Handle<Put> for Gate {
    fn handle(&mut self, put: Put, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.is_open = self.is_open || std::path::Path::new("open").exists();
        if !self.is_open {
            return Err(HandlerError::permanent("the gate is shut"));
        }
        *self.passed += 1;
        let in_order = put.n == *self.last + 1;
        self.last.set(put.n);
        if !in_order || put.n.is_multiple_of(1000) {
            let line = Line {
                id: ctx.id().to_owned(),
                n: put.n,
                count: *self.passed,
            };
            ctx.egress(LINES, &line);
        }
        Ok(())
    }
}

/// Numbers from 1 to `count`, each a message of one kind. They have an end.
struct Numbers {
    what: String,
    count: u64,
}

impl Ingress for Numbers {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let made = match context.positions.get(&self.what) {
            None => 0,
            Some(position) => <[u8; 8]>::try_from(&position[..])
                .map(u64::from_be_bytes)
                .map_err(|_| context.error("its position is malformed"))?,
        };
        Ok(vec![Partition {
            name: Some(self.what.clone()),
            worker: context.owner(&self.what),
            source: Box::new(NumberSource {
                what: self.what.clone(),
                made,
                count: self.count,
            }),
        }])
    }
}

struct NumberSource {
    what: String,
    made: u64,
    count: u64,
}

impl Source for NumberSource {
    fn poll(
        &mut self,
        limit: usize,
        batch: &mut Vec<Record>,
    ) -> Result<SourceStatus, IngressError> {
        for _ in 0..limit {
            if self.made == self.count {
                return Ok(SourceStatus::Finished);
            }
            self.made += 1;
            let n = self.made;
            let (mut record, target): (Record, Address) = match self.what.as_str() {
                "fill" => (Record::new(Fill { n }), Cell::at(format!("c{n}")).into()),
                "verify" => (Record::new(Verify { n }), Cell::at(format!("c{n}")).into()),
                _ => {
                    // Some bytes, so that keeping them all in memory would show.
                    let payload = "x".repeat(100);
                    (Record::new(Put { n, payload }), Gate::at("shut").into())
                }
            };
            record.target = Some(Box::new(target));
            batch.push(record.with_position(n.to_be_bytes().to_vec()));
        }
        Ok(SourceStatus::Ready)
    }
}
