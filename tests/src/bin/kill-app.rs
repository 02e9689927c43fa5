//! The application that the kill test kills: nodes that pass messages on as `plan` says, with all kinds of state, delayed and
//! cancelled messages, asynchronous work, and handlers that now and then fail or panic after they have done everything.

use std::time::Duration;

use statefun_core::prelude::*;

#[path = "../kill/plan.rs"]
#[expect(unreachable_pub, reason = "it is public in the tests' library")]
mod plan;

use plan::{Hop, How, mix, next, node_id, start};

/// Something to be done, from outside.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Op")]
struct Op {
    op: u64,
    /// Who sends it, and its number there.
    source: String,
    seq: u64,
}

/// A hop on its way.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Step", format = "msgpack")]
struct Step {
    op: u64,
    path: u64,
    node: u64,
    left: u32,
    how: u8,
    ms: u64,
    fails: bool,
    /// Its sender and its number among the messages of that sender to this node; only where order counts.
    from: String,
    seq: u64,
}

impl Step {
    fn of(hop: &Hop, from: &str, seq: u64) -> Self {
        let (how, ms, fails) = match hop.how {
            How::Start => (0, 0, false),
            How::Now => (1, 0, false),
            How::Later { ms } => (2, ms, false),
            How::Async { ms, fails } => (3, ms, fails),
            How::Never => (4, 0, false),
        };
        Self {
            op: hop.op,
            path: hop.path,
            node: hop.node,
            left: hop.left,
            how,
            ms,
            fails,
            from: from.to_owned(),
            seq,
        }
    }

    fn hop(&self) -> Hop {
        let how = match self.how {
            0 => How::Start,
            1 => How::Now,
            2 => How::Later { ms: self.ms },
            3 => How::Async {
                ms: self.ms,
                fails: self.fails,
            },
            _ => How::Never,
        };
        Hop {
            op: self.op,
            path: self.path,
            node: self.node,
            left: self.left,
            how,
        }
    }
}

/// Takes a delayed message back.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/TakeBack")]
struct TakeBack {
    token: String,
}

/// What came of an asynchronous operation.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Fetched")]
struct Fetched {
    value: u64,
}

/// Asks a node for its state.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Query")]
struct Query {}

/// The answer to an operation.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Started")]
struct Started {
    op: u64,
    node: u64,
    /// How many messages the node had handled then, this one included: no two operations see the same.
    handled: u64,
}

/// The state of a node.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Dump")]
struct Dump {
    handled: u64,
    taken_back: u64,
    spawned: u64,
    ended: u64,
    ops: u64,
    op_messages: u64,
    log_len: u64,
    digest: u64,
    disorder: u64,
}

/// One handled message.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "kill/Handled")]
struct Handled {
    op: u64,
    path: u64,
    how: String,
    from: String,
    to: String,
    seq: u64,
}

const HANDLED: EgressId<Handled> = EgressId::new("kill/handled");

#[persisted]
struct Totals {
    handled: u64,
    taken_back: u64,
    spawned: u64,
    ended: u64,
    /// Elements that were in the buffer, and their digest.
    logged: u64,
    digest: u64,
    disorder: u64,
}

#[stateful_function(
    typename = "kill/node",
    accepts(Step, TakeBack, Query, AsyncResult<Step, Fetched>),
    egress(HANDLED),
    retry(max_attempts = 1000, initial_delay = "1ms", max_delay = "20ms"),
)]
struct Node {
    #[persisted]
    totals: PersistedValue<Totals>,
    /// Messages by operation.
    #[persisted]
    ops: PersistedTable<u64, u32>,
    /// Messages sent to each node, and received from each sender.
    #[persisted]
    sent: PersistedTable<u64, u64>,
    #[persisted]
    received: PersistedTable<String, u64>,
    #[persisted]
    log: PersistedBuffer<u64>,
    /// Not persisted. It is zero between two invocations, so a failed one must not leave anything in it.
    running: u64,
}

impl Node {
    fn handle_hop(&mut self, step: &Step, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let hop = step.hop();
        if std::mem::replace(&mut self.running, 1) != 0 {
            return Err(HandlerError::permanent(
                "a failed invocation has left something in a plain field",
            ));
        }
        self.totals.handled += 1;
        self.ops.update(hop.op, |count| *count += 1)?;
        self.log.append(hop.path);
        if self.log.len() > 40 {
            // Folds the buffer into the totals.
            let logged = self.log.view()?;
            for path in &logged {
                self.totals.digest = self.totals.digest.wrapping_add(mix(*path, 7));
            }
            self.totals.logged += logged.len() as u64;
            self.log.clear();
        }
        if step.seq > 0 {
            let last = self.received.get(&step.from)?.copied().unwrap_or(0);
            // From outside, only the order is known; not each operation of a source comes here.
            let in_order = if hop.how == How::Start {
                step.seq > last
            } else {
                step.seq == last + 1
            };
            if !in_order {
                self.totals.disorder += 1;
            }
            self.received.set(step.from.clone(), step.seq);
        }
        let handled = Handled {
            op: hop.op,
            path: hop.path,
            how: hop.how.name().to_owned(),
            from: step.from.clone(),
            to: ctx.id().to_owned(),
            seq: step.seq,
        };
        ctx.egress(HANDLED, &handled);
        for child in next(&hop) {
            self.send(&child, ctx)?;
        }
        Ok(())
    }

    fn send(&mut self, hop: &Hop, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let target = Self::at(node_id(hop.node));
        let own = ctx.id().to_owned();
        match hop.how {
            How::Start | How::Now => {
                let seq = self.sent.get(&hop.node)?.copied().unwrap_or(0) + 1;
                self.sent.set(hop.node, seq);
                ctx.send(target, Step::of(hop, &own, seq));
            }
            How::Later { ms } => {
                ctx.send_after(Duration::from_millis(ms), target, Step::of(hop, &own, 0));
            }
            How::Never => {
                let token = format!("{}-{}", hop.op, hop.path);
                ctx.send_after(Duration::from_hours(1), target, Step::of(hop, &own, 0))
                    .with_token(&token);
                ctx.send(Self::at(&own), TakeBack { token });
            }
            How::Async { ms, fails } => {
                self.totals.spawned += 1;
                let value = hop.path;
                ctx.spawn(Step::of(hop, &own, 0), async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    if fails {
                        Err("as planned")
                    } else {
                        Ok(Fetched { value })
                    }
                });
            }
        }
        Ok(())
    }

    /// Now and then, everything was for nothing.
    fn perhaps_fail(&mut self, ctx: &mut Context<'_, Self>) -> HandlerResult {
        match ctx.random().below(100) {
            0..3 => return Err(HandlerError::new("one of the failures that happen")),
            3 => panic!("one of the panics that happen"),
            _ => self.running = 0,
        }
        Ok(())
    }
}

impl Handle<Step> for Node {
    fn handle(&mut self, step: Step, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.handle_hop(&step, ctx)?;
        if step.how == 0 && ctx.caller().is_some() {
            ctx.reply(Started {
                op: step.op,
                node: step.node,
                handled: self.totals.handled,
            })?;
        }
        self.perhaps_fail(ctx)
    }
}

impl Handle<TakeBack> for Node {
    fn handle(&mut self, message: TakeBack, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.totals.taken_back += 1;
        ctx.cancel(&message.token);
        self.perhaps_fail(ctx)
    }
}

impl Handle<AsyncResult<Step, Fetched>> for Node {
    fn handle(
        &mut self,
        result: AsyncResult<Step, Fetched>,
        ctx: &mut Context<'_, Self>,
    ) -> HandlerResult {
        let step = result.metadata;
        match result.outcome {
            AsyncOutcome::Success(fetched) if fetched.value != step.path || step.fails => {
                return Err(HandlerError::permanent("the result of another operation"));
            }
            AsyncOutcome::Failure(problem) if !step.fails => {
                return Err(HandlerError::permanent(problem));
            }
            // It may have been running when the process was killed.
            _ => {}
        }
        self.totals.ended += 1;
        self.handle_hop(&step, ctx)?;
        self.perhaps_fail(ctx)
    }
}

impl Handle<Query> for Node {
    fn handle(&mut self, _: Query, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mut digest = self.totals.digest;
        let log = self.log.view()?;
        for path in &log {
            digest = digest.wrapping_add(mix(*path, 7));
        }
        let counts = self.ops.values()?;
        let totals = &self.totals;
        ctx.reply(Dump {
            handled: totals.handled,
            taken_back: totals.taken_back,
            spawned: totals.spawned,
            ended: totals.ended,
            ops: counts.len() as u64,
            op_messages: counts.iter().map(|count| u64::from(*count)).sum(),
            log_len: totals.logged + log.len() as u64,
            digest,
            disorder: totals.disorder,
        })?;
        Ok(())
    }
}

fn first_step(op: &Op) -> Step {
    Step::of(&start(op.op), &op.source, op.seq)
}

/// Operations by HTTP: sources whose requests overlap with what an earlier attempt left give no order.
#[router(ingress = "kill/ops", to(Node))]
fn ops(op: Op, out: &mut Downstream<'_>) -> RouterResult {
    let mut step = first_step(&op);
    step.seq = 0;
    out.forward(Node::at(node_id(step.node)), step);
    Ok(())
}

/// Operations from files, in order.
#[router(ingress = "kill/lines", to(Node))]
fn lines(op: Op, out: &mut Downstream<'_>) -> RouterResult {
    let step = first_step(&op);
    out.forward(Node::at(node_id(step.node)), step);
    Ok(())
}

fn main() -> statefun_core::Exit {
    statefun_core::main()
}
