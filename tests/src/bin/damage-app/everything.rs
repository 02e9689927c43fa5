//! A function that changes state of every kind and does everything a handler can, and then fails, often.

use std::collections::BTreeMap;
use std::sync::Mutex;

use statefun_core::prelude::*;
use statefun_core::sdk::module::{Binder, GlobalConfiguration, Module};
use statefun_tests::everything::Dump;

pub(crate) struct Everything;

impl Module for Everything {
    fn configure(&self, _global: &GlobalConfiguration, binder: &mut Binder) {
        binder.register::<All>();
        binder.register::<Witness>();
    }
}

/// How often the process has tried a change.
static TRIES: Mutex<BTreeMap<(String, u64), u32>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "all/Change")]
struct Change {
    id: String,
    n: u64,
    /// How often it errs or panics, in turn, after it has done everything.
    failures: u32,
    /// Whether it then fails for good.
    for_good: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "all/Query")]
struct Query {}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "all/Sent")]
struct Sent {
    n: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "all/Line")]
struct Line {
    id: String,
    n: u64,
}

const LINES: EgressId<Line> = EgressId::new("all/lines");

#[stateful_function(
    typename = "all/all",
    accepts(Change, Query, AsyncResult<Sent, Sent>),
    sends(Witness),
    egress(LINES),
    retry(max_attempts = 1000, initial_delay = "1ms", max_delay = "1ms"),
)]
struct All {
    plain: u32,
    #[persisted]
    value: PersistedValue<Vec<u64>>,
    #[persisted]
    cleared: PersistedValue<u64>,
    #[persisted]
    table: PersistedTable<u64, u64>,
    #[persisted]
    buffer: PersistedBuffer<u64>,
    #[persisted]
    registry: PersistedRegistry,
    #[persisted]
    ended: PersistedValue<Vec<u64>>,
}

impl Handle<Change> for All {
    fn handle(&mut self, change: Change, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let n = change.n;
        if self.plain != 0 {
            return Err(HandlerError::permanent("a plain field was not undone"));
        }
        self.plain = 1;
        self.value.push(n);
        if n.is_multiple_of(2) {
            self.cleared.set(n);
        } else {
            self.cleared.clear();
        }
        self.table.set(n, n * 2);
        self.table.update(0, |sum| *sum += n)?;
        if n > 2 {
            self.table.remove(&(n - 2));
        }
        if n.is_multiple_of(7) {
            self.buffer.clear();
        }
        self.buffer.append_all([n, n * 10]);
        **self.registry.value::<u64>("total")? += n;
        self.registry.value::<u64>(&format!("of-{}", n % 3))?.set(n);
        self.registry
            .state::<PersistedTable<u64, u64>>("marks", Expiration::None)?
            .set(n % 5, n);
        self.registry
            .state::<PersistedBuffer<u64>>("steps", Expiration::None)?
            .append(n);
        let own = ctx.id().to_owned();
        ctx.send(Witness::at(&own), Sent { n });
        ctx.egress(LINES, &Line { id: own.clone(), n });
        // One timer is left of all, since each takes back the one before.
        ctx.cancel("later");
        ctx.send_after(Duration::from_hours(1), Witness::at(&own), Sent { n })
            .with_token("later");
        ctx.spawn(Sent { n }, async move { Ok::<_, HandlerError>(Sent { n }) });
        let tried = {
            let mut tries = TRIES
                .lock()
                .map_err(|_| HandlerError::permanent("poisoned"))?;
            let tries = tries.entry((own, n)).or_default();
            *tries += 1;
            *tries
        };
        if tried <= change.failures {
            assert!(tried % 2 == 0, "told to panic");
            return Err(HandlerError::new("told to fail"));
        }
        if change.for_good {
            return Err(HandlerError::permanent("told to fail for good"));
        }
        self.plain = 0;
        Ok(())
    }
}

impl Handle<AsyncResult<Sent, Sent>> for All {
    fn handle(
        &mut self,
        result: AsyncResult<Sent, Sent>,
        _: &mut Context<'_, Self>,
    ) -> HandlerResult {
        self.ended.push(result.metadata.n);
        Ok(())
    }
}

impl Handle<Query> for All {
    fn handle(&mut self, _: Query, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mut ended = self.ended.clone();
        // Operations end in any order.
        ended.sort_unstable();
        let dump = Dump {
            value: self.value.clone(),
            cleared: self.cleared.get().copied(),
            table: self.table.entries()?,
            buffer: self.buffer.view()?,
            names: self.registry.names()?,
            total: self.registry.value::<u64>("total")?.get().copied(),
            marks: self
                .registry
                .state::<PersistedTable<u64, u64>>("marks", Expiration::None)?
                .entries()?,
            steps: self
                .registry
                .state::<PersistedBuffer<u64>>("steps", Expiration::None)?
                .view()?,
            ended,
        };
        Ok(ctx.reply(dump)?)
    }
}

#[stateful_function(typename = "all/witness", accepts(Sent, Query))]
struct Witness {
    #[persisted]
    seen: PersistedBuffer<u64>,
}

impl Handle<Sent> for Witness {
    fn handle(&mut self, sent: Sent, _: &mut Context<'_, Self>) -> HandlerResult {
        self.seen.append(sent.n);
        Ok(())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "all/Seen")]
struct Seen {
    seen: Vec<u64>,
}

impl Handle<Query> for Witness {
    fn handle(&mut self, _: Query, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let seen = self.seen.view()?;
        Ok(ctx.reply(Seen { seen })?)
    }
}
