//! An application under strict lints: what the macros generate must not trip them.

#![allow(
    clippy::implicit_return,
    clippy::missing_inline_in_public_items,
    reason = "what is written here by hand"
)]

use statefun_core::prelude::{
    Address, Context, Deserialize, EgressId, Handle, HandlerResult, Message, PersistedTable,
    PersistedValue, Serialize, TypedValue, persisted, router, stateful_function,
};
use statefun_core::sdk::error::RouterResult;
use statefun_core::sdk::router::Downstream;
use statefun_core::shape::Shaped;

/// A message.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "strict/Ping")]
pub struct Ping {
    /// From whom.
    pub from: Address,
    /// What else.
    pub payload: Option<Payload>,
}

/// A part of a message.
#[derive(Debug, Clone, Serialize, Deserialize, Shaped)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Payload {
    /// Nothing.
    Empty,
    /// A number.
    Number {
        /// Which.
        value: u32,
    },
}

/// A state.
#[persisted]
#[derive(Debug)]
pub struct Counter {
    /// How often.
    pub count: u64,
    /// From whom.
    #[serde(default)]
    pub last: Option<String>,
}

/// A state with variants.
#[persisted]
#[derive(Debug)]
pub enum Stage {
    /// The first.
    #[default]
    New,
    /// The last.
    Done(u8),
}

/// A state as it was.
#[persisted]
#[derive(Debug)]
pub struct ScoreV1 {
    /// In halves.
    pub halves: u64,
}

/// A state with a version before it.
#[persisted(version = 2, migrate_from = ScoreV1)]
#[derive(Debug)]
pub struct Score {
    /// In wholes.
    pub wholes: u64,
}

impl From<ScoreV1> for Score {
    fn from(old: ScoreV1) -> Self {
        let wholes = old.halves / 2;
        Self { wholes }
    }
}

/// An egress.
pub const PONGS: EgressId<Ping> = EgressId::new("strict/pongs");

/// A function.
#[stateful_function(
    typename = "strict/pinger",
    accepts(Ping, TypedValue),
    sends(Sink),
    egress(PONGS),
    retry(max_attempts = 2, initial_delay = "10ms"),
    max_queue = 1
)]
#[derive(Debug)]
pub struct Pinger {
    /// Persisted.
    #[persisted(expire_after_write = "1h")]
    pub counter: PersistedValue<Counter>,
    /// Persisted, in its second version.
    #[persisted]
    pub score: PersistedValue<Score>,
    /// Persisted, too.
    #[persisted]
    stages: PersistedTable<String, Stage>,
    /// Not persisted.
    plain: u8,
}

impl Handle<Ping> for Pinger {
    fn handle(&mut self, message: Ping, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.counter.count += 1;
        self.stages
            .set(ctx.id().to_owned(), Stage::Done(self.plain));
        ctx.egress(PONGS, &message);
        Ok(())
    }
}
impl Handle<TypedValue> for Pinger {
    fn handle(&mut self, _message: TypedValue, _ctx: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

/// A function without state.
#[stateful_function(typename = "strict/sink", accepts(Ping), dynamic_sends)]
#[derive(Debug)]
pub(crate) struct Sink;

impl Handle<Ping> for Sink {
    fn handle(&mut self, _message: Ping, _ctx: &mut Context<'_, Self>) -> HandlerResult {
        Ok(())
    }
}

/// A router that nobody else calls.
#[expect(clippy::unnecessary_wraps, reason = "a router returns a result")]
#[router(ingress = "strict/pings", to(Pinger, Sink))]
fn pings(message: Ping, out: &mut Downstream<'_>) -> RouterResult {
    use statefun_core::prelude::StatefulFunction as _;
    out.forward(Pinger::at(message.from.id()), message);
    Ok(())
}
