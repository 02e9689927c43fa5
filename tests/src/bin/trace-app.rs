//! The application of the tracing tests: an order is packed at a shelf of another address, told of to the outside, asked after later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use statefun_core::prelude::*;

/// How often the process has tried an order.
static TRIES: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "trace/Place")]
struct Place {
    id: String,
    /// How often it fails before it succeeds.
    #[serde(default)]
    failures: u32,
    /// After how long it is asked after.
    #[serde(default)]
    after_ms: Option<u64>,
    /// Whether an operation is started.
    #[serde(default)]
    operation: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "trace/Pack")]
struct Pack {
    order: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "trace/AskAfter")]
struct AskAfter {}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "trace/Line")]
struct Line {
    order: String,
    what: String,
    /// What the handler knows of its trace.
    trace_id: Option<String>,
    span: Option<String>,
}

const LINES: EgressId<Line> = EgressId::new("trace/lines");
const HOOKS: EgressId<Line> = EgressId::new("trace/hooks");

fn line<F: StatefulFunction>(order: &str, what: &str, ctx: &Context<'_, F>) -> Line {
    Line {
        order: order.to_owned(),
        what: what.to_owned(),
        trace_id: ctx.trace_id(),
        span: ctx.traceparent(),
    }
}

#[stateful_function(
    typename = "trace/order",
    accepts(Place, AskAfter, AsyncResult<Pack, Pack>),
    sends(Shelf, Order),
    egress(LINES),
    retry(max_attempts = 3, initial_delay = "1ms", max_delay = "1ms"),
)]
struct Order {
    #[persisted]
    placed: PersistedValue<u32>,
}

impl Handle<Place> for Order {
    fn handle(&mut self, place: Place, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.placed += 1;
        let mut tries = TRIES.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(place.id.clone()).or_default();
        *tries += 1;
        if *tries <= place.failures {
            return Err(HandlerError::new(format!("failure {tries}")));
        }
        let pack = Pack {
            order: place.id.clone(),
        };
        for shelf in ["a", "b", "c"] {
            ctx.send(Shelf::at(shelf), pack.clone());
        }
        if let Some(after_ms) = place.after_ms {
            let own = Order::at(ctx.id());
            ctx.send_after(Duration::from_millis(after_ms), own, AskAfter {});
        }
        if place.operation {
            let result = pack.clone();
            ctx.spawn(pack, async move { Ok::<_, String>(result) });
        }
        if ctx.caller().is_some() {
            ctx.reply(Pack { order: place.id })?;
        }
        Ok(())
    }
}

impl Handle<AskAfter> for Order {
    fn handle(&mut self, _: AskAfter, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let line = line(ctx.id(), "asked after", ctx);
        ctx.egress(LINES, &line);
        Ok(())
    }
}

impl Handle<AsyncResult<Pack, Pack>> for Order {
    fn handle(
        &mut self,
        ended: AsyncResult<Pack, Pack>,
        ctx: &mut Context<'_, Self>,
    ) -> HandlerResult {
        let line = line(&ended.metadata.order, "operation", ctx);
        ctx.egress(LINES, &line);
        Ok(())
    }
}

#[stateful_function(typename = "trace/shelf", accepts(Pack), egress(LINES, HOOKS))]
struct Shelf {
    #[persisted]
    packed: PersistedValue<u32>,
}

impl Handle<Pack> for Shelf {
    fn handle(&mut self, pack: Pack, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.packed += 1;
        let line = line(&pack.order, ctx.id(), ctx);
        ctx.egress(LINES, &line);
        if ctx.id() == "a" {
            ctx.egress(HOOKS, &line);
        }
        Ok(())
    }
}

/// Of the ingresses that module.yaml says.
#[router(to(Order))]
fn input(place: Place, out: &mut Downstream<'_>) -> RouterResult {
    out.forward(Order::at(&place.id), place);
    Ok(())
}

fn main() -> statefun_core::Exit {
    statefun_core::main()
}
