//! The functions that the simulation runs. They check what they can see themselves: order, state, time.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::resume_unwind;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use statefun_macros::{Message, persisted, stateful_function};

use crate::engine::request::RequestFunction;
use crate::module::description::Expiration;
use crate::sdk::async_result::{AsyncOutcome, AsyncResult};
use crate::sdk::context::Context;
use crate::sdk::egress::EgressId;
use crate::sdk::error::{HandlerError, HandlerResult};
use crate::sdk::function::{Handle, StatefulFunction};
use crate::sdk::state::{PersistedBuffer, PersistedRegistry, PersistedTable, PersistedValue};
use crate::simulation::plan::{self, Failing, Kind, Rules};

/// A message of the workload; all that follows from it is in its id.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "sim/Token")]
pub(super) struct Token {
    pub(super) id: u64,
    /// Whose order it belongs to, and its number there; 0 when it has none.
    pub(super) lane: String,
    pub(super) seq: u64,
    /// When it may come at the earliest.
    pub(super) due_ms: u64,
    /// The message that it takes back.
    pub(super) cancels: u64,
}

impl Token {
    /// A message that belongs to no order.
    pub(super) fn loose(id: u64) -> Self {
        Self {
            id,
            lane: String::new(),
            seq: 0,
            due_ms: 0,
            cancels: 0,
        }
    }
}

/// What an operation carries with it.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "sim/OpMeta")]
pub(super) struct OpMeta {
    pub(super) id: u64,
}

/// An egress record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "sim/OutRecord")]
pub(super) struct OutRecord {
    pub(super) id: u64,
    pub(super) index: u32,
    pub(super) from: String,
    pub(super) seq: u64,
}

/// The answer to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Message)]
#[message(typename = "sim/Reply")]
pub(super) struct Reply {
    pub(super) id: u64,
    /// What only the one invocation that counts can know.
    pub(super) count: u64,
}

/// What is noted of a message that was sent later with a token.
#[persisted]
#[derive(Debug)]
pub(super) struct TimerNote {
    pub(super) due_ms: u64,
    pub(super) state: TimerState,
}

/// What became of it.
#[persisted]
#[derive(Debug, Copy, PartialEq, Eq)]
pub(super) enum TimerState {
    /// It is to come.
    #[default]
    Pending,
    /// It was taken back before it was due: it must never come.
    Void,
    /// It was taken back when it was due already: it may have been sent before.
    Perhaps,
    /// It came.
    Came,
}

pub(super) const RECORDS: EgressId<OutRecord> = EgressId::new("sim/records");
pub(super) const OTHERS: EgressId<OutRecord> = EgressId::new("sim/others");
/// Where records go that cannot be read or routed.
pub(super) const LETTERS: &str = "sim/letters";
pub(super) const FADING_MS: u64 = 2_000;
pub(super) const ENTRY_MS: u64 = 3_000;

/// What lies outside of the application: no crash and no failed invocation takes it back.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) rules: Rules,
    /// The start of the process that is running.
    pub(super) attempt: u64,
    /// How often each message's handler was called, as far as it is to fail.
    pub(super) attempts: HashMap<u64, u32>,
    /// Which of those that fail until they are mended have been.
    pub(super) mended: HashSet<u64>,
    pub(super) all_mended: bool,
    /// In which start each operation was started last.
    pub(super) operations: HashMap<u64, u64>,
    /// What the functions saw that must not be.
    pub(super) violations: Vec<String>,
    /// What fails is half done instead, for the test of the checker.
    pub(super) half_done: bool,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::default());
}

/// Looks at the world, or changes it.
pub(super) fn world<T>(change: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(change)
}

fn violation(text: String) {
    world(|world| world.violations.push(text));
}

fn must(holds: bool, text: impl FnOnce() -> String) {
    if !holds {
        violation(text());
    }
}

/// How this call of a handler is to end.
fn verdict(id: u64, failing: Failing) -> HandlerResult {
    let attempt = world(|world| {
        let count = world.attempts.entry(id).or_default();
        *count += 1;
        *count
    });
    match failing {
        Failing::Transient(times) if attempt <= times => {
            Err(HandlerError::new(format_args!("attempt {attempt}")))
        }
        Failing::Panics(times) if attempt <= times => {
            // Without the panic hook's message.
            resume_unwind(Box::new(format!("attempt {attempt}")))
        }
        Failing::UntilMended if !world(|world| world.all_mended || world.mended.contains(&id)) => {
            Err(HandlerError::permanent("not mended"))
        }
        _ => Ok(()),
    }
}

macro_rules! node {
    ($(#[$doc:meta])* $name:ident, $($setting:tt)*) => {
        $(#[$doc])*
        #[stateful_function(
            accepts(Token, AsyncResult<OpMeta, i64>),
            sends(Node, Narrow),
            egress(RECORDS, OTHERS),
            $($setting)*
        )]
        pub(super) struct $name {
            #[persisted]
            count: PersistedValue<u64>,
            #[persisted]
            digest: PersistedValue<u64>,
            /// Every message handled.
            #[persisted]
            seen: PersistedTable<u64, u32>,
            /// The last messages handled, in order.
            #[persisted]
            journal: PersistedBuffer<u64>,
            /// How many were taken out of the journal.
            #[persisted]
            forgotten: PersistedValue<u64>,
            #[persisted]
            sent: PersistedTable<u64, u64>,
            #[persisted]
            received: PersistedTable<String, u64>,
            #[persisted]
            records: PersistedValue<u64>,
            #[persisted]
            timers: PersistedTable<u64, TimerNote>,
            #[persisted(expire_after_write = "2s")]
            fading: PersistedValue<u64>,
            #[persisted]
            fading_written: PersistedValue<u64>,
            #[persisted(expire_after_access = "2s")]
            glance: PersistedValue<u64>,
            #[persisted]
            glanced: PersistedValue<u64>,
            #[persisted(expire_after_write = "3s")]
            entries: PersistedTable<u64, u64>,
            #[persisted]
            entry_times: PersistedTable<u64, u64>,
            #[persisted]
            registry: PersistedRegistry,
            #[persisted]
            registered: PersistedTable<String, u64>,
            /// Not persisted: a failed invocation leaves nothing here either.
            scratch: u32,
        }

        impl $name {
            /// Notes that a message was handled, and checks that its like was not.
            fn note(&mut self, id: u64, outcome: u32) -> HandlerResult {
                must(self.scratch == 0, || format!("a plain field of n{} kept what failed", plan::target(id)));
                self.scratch = 1;
                must(self.seen.get(&id)?.is_none(), || format!("{id:#x} is handled twice"));
                let journal = self.journal.len();
                must(*self.count == journal + *self.forgotten, || {
                    format!("n{}: count {} and journal {journal}+{} differ", plan::target(id), *self.count, *self.forgotten)
                });
                if plan::drawn(id, 16, 4) {
                    let digest = self.seen.keys()?.iter().fold(0u64, |sum, id| sum.wrapping_add(*id));
                    must(digest == *self.digest, || format!("n{}: the digest is wrong", plan::target(id)));
                    let view = self.journal.view()?;
                    must(view.len() as u64 == journal, || {
                        format!("n{}: the journal has {} of {journal} elements", plan::target(id), view.len())
                    });
                    for old in view {
                        must(self.seen.contains_key(&old)?, || format!("{old:#x} is in the journal only"));
                    }
                }
                self.seen.set(id, outcome);
                *self.count += 1;
                *self.digest = self.digest.wrapping_add(id);
                self.journal.append(id);
                if self.journal.len() > 10 && plan::drawn(id, 18, 4) {
                    *self.forgotten += self.journal.len();
                    self.journal.clear();
                }
                Ok(())
            }

            /// Expiring state against what should be there by the times noted.
            fn fade(&mut self, id: u64, now: u64) -> HandlerResult {
                let written = *self.fading_written;
                must(self.fading.get().is_some() == (written != 0 && now < written + FADING_MS), || {
                    format!("fading: written at {written}, now {now}, present {}", self.fading.get().is_some())
                });
                if plan::drawn(id, 20, 4) {
                    self.fading.set(id);
                    *self.fading_written = now;
                }
                if plan::drawn(id, 22, 4) {
                    let glanced = *self.glanced;
                    let present = self.glance.get().is_some();
                    // Access times are coarse, to a sixteenth.
                    let certain = glanced != 0 && now < glanced + FADING_MS - FADING_MS / 16;
                    let possible = glanced != 0 && now < glanced + FADING_MS;
                    must(present == certain || present == possible, || {
                        format!("glance: seen at {glanced}, now {now}, present {present}")
                    });
                    if present {
                        *self.glanced = now;
                    } else if plan::drawn(id, 24, 2) {
                        self.glance.set(id);
                        *self.glanced = now;
                    }
                }
                if plan::drawn(id, 25, 4) {
                    let key = id >> 27 & 3;
                    self.entries.set(key, id);
                    self.entry_times.set(key, now);
                }
                if plan::drawn(id, 30, 4) {
                    let have: Vec<u64> = self.entries.keys()?;
                    let times = self.entry_times.entries()?;
                    let want: Vec<u64> =
                        times.iter().filter(|(_, at)| now < at + ENTRY_MS).map(|(key, _)| *key).collect();
                    must(have == want, || format!("entries {have:?}, and by the times {times:?} at {now} {want:?}"));
                }
                if plan::drawn(id, 32, 8) {
                    let name = format!("r{}", id >> 35 & 3);
                    let want = self.registered.get(&name)?.copied().unwrap_or_default();
                    let value = self.registry.state::<PersistedValue<u64>>(&name, Expiration::None)?;
                    let have = **value;
                    must(have == want, || format!("the registered {name} is {have}, and was {want}"));
                    **value += 1;
                    self.registered.set(name, want + 1);
                }
                Ok(())
            }

            fn send(&mut self, ctx: &mut Context<'_, Self>, id: u64, cancels: u64) -> HandlerResult {
                let to = plan::target(id);
                let mut seq = 0;
                self.sent.update(to, |count| {
                    *count += 1;
                    seq = *count;
                })?;
                let token = Token { id, lane: ctx.address().to_string(), seq, due_ms: 0, cancels };
                if plan::is_narrow(to) {
                    ctx.send(Narrow::at(format!("n{to}")), token);
                } else {
                    ctx.send(Node::at(format!("n{to}")), token);
                }
                Ok(())
            }

            fn send_later(&mut self, ctx: &mut Context<'_, Self>, later: plan::Later) {
                let (to, delay) = (plan::target(later.id), Duration::from_millis(later.delay_ms));
                let due_ms = ctx.now().after(delay).as_ms();
                let token = Token { id: later.id, lane: String::new(), seq: 0, due_ms, cancels: 0 };
                let sent = if plan::is_narrow(to) {
                    ctx.send_after(delay, Narrow::at(format!("n{to}")), token)
                } else {
                    ctx.send_after(delay, Node::at(format!("n{to}")), token)
                };
                if later.cancellable {
                    sent.with_token(&format!("t{:x}", later.id));
                    self.timers.set(later.id, TimerNote { due_ms, state: TimerState::Pending });
                }
            }

            /// Checks a message that was sent later, and notes that it came.
            fn came(&mut self, id: u64) -> HandlerResult {
                if let Some(note) = self.timers.get(&id)?.cloned() {
                    must(note.state != TimerState::Void && note.state != TimerState::Came, || {
                        format!("{id:#x} came although it is {:?}", note.state)
                    });
                    self.timers.set(id, TimerNote { state: TimerState::Came, ..note });
                }
                Ok(())
            }

            fn take_back(&mut self, ctx: &mut Context<'_, Self>, id: u64) -> HandlerResult {
                let Some(note) = self.timers.get(&id)?.cloned() else {
                    violation(format!("{id:#x} is to be taken back, and was never sent"));
                    return Ok(());
                };
                ctx.cancel(&format!("t{id:x}"));
                if note.state == TimerState::Pending {
                    let early = note.due_ms > ctx.now().as_ms();
                    let state = if early { TimerState::Void } else { TimerState::Perhaps };
                    self.timers.set(id, TimerNote { state, ..note });
                }
                Ok(())
            }
        }

        impl Handle<Token> for $name {
            fn handle(&mut self, token: Token, ctx: &mut Context<'_, Self>) -> HandlerResult {
                let (id, now) = (token.id, ctx.now().as_ms());
                let plan = plan::plan(id, world(|world| world.rules));
                let own = plan::address(plan::target(id));
                must(own == *ctx.address(), || format!("{id:#x} for {own} came to {}", ctx.address()));
                must(now >= token.due_ms, || format!("{id:#x} due at {} came at {now}", token.due_ms));
                self.note(id, 0)?;
                if token.seq > 0 {
                    let last = self.received.get(&token.lane)?.copied().unwrap_or_default();
                    must(token.seq > last, || {
                        format!("{} got number {} of {} after {last}", ctx.address(), token.seq, token.lane)
                    });
                    self.received.set(token.lane, token.seq);
                }
                self.fade(id, now)?;
                match plan::kind(id) {
                    Kind::Timer => self.came(id)?,
                    Kind::Cancel => self.take_back(ctx, token.cancels)?,
                    Kind::Plain | Kind::Operation => {}
                }
                if plan.failing != Failing::Never && world(|world| world.half_done) {
                    self.scratch = 0;
                    return Ok(());
                }
                for (child, cancels) in &plan.sends {
                    self.send(ctx, *child, *cancels)?;
                }
                for later in &plan.later {
                    self.send_later(ctx, *later);
                }
                for index in 0..plan.records {
                    *self.records += 1;
                    let from = ctx.address().to_string();
                    let egress = if plan::drawn(id, 36, 3) { OTHERS } else { RECORDS };
                    ctx.egress(egress, &OutRecord { id, index, from, seq: *self.records });
                }
                if let Some(operation) = plan.operation {
                    let attempt = world(|world| world.attempt);
                    world(|world| world.operations.insert(operation, attempt));
                    let outcome = plan::operation_outcome(operation).ok_or("no such luck");
                    ctx.spawn(OpMeta { id: operation }, async move { outcome });
                }
                if ctx.caller().is_some_and(|caller| caller.function() == RequestFunction::type_name()) {
                    ctx.reply(Reply { id, count: *self.count })?;
                }
                verdict(id, plan.failing)?;
                self.scratch = 0;
                Ok(())
            }
        }

        impl Handle<AsyncResult<OpMeta, i64>> for $name {
            fn handle(&mut self, result: AsyncResult<OpMeta, i64>, ctx: &mut Context<'_, Self>) -> HandlerResult {
                let id = result.metadata.id;
                let own = plan::address(plan::target(id));
                must(own == *ctx.address(), || format!("{id:#x} for {own} came to {}", ctx.address()));
                let (started, attempt) =
                    world(|world| (world.operations.get(&id).copied().unwrap_or(u64::MAX), world.attempt));
                let wanted = plan::operation_outcome(id);
                match &result.outcome {
                    AsyncOutcome::Success(value) => {
                        must(wanted == Some(*value), || format!("operation {id:#x} gave {value:#x}"));
                    }
                    AsyncOutcome::Failure(problem) => {
                        must(wanted.is_none() && problem == "no such luck", || {
                            format!("operation {id:#x} failed: {problem}")
                        });
                    }
                    AsyncOutcome::Unknown => must(started < attempt, || {
                        format!("operation {id:#x} of start {started} is unknown in start {attempt}")
                    }),
                }
                self.note(id, 1)?;
                verdict(id, plan::plan(id, world(|world| world.rules)).failing)?;
                self.scratch = 0;
                Ok(())
            }
        }
    };
}

/// Attempts in all before a [`Node`] is parked.
pub(super) const NODE_ATTEMPTS: u32 = 4;
/// Attempts in all before a [`Narrow`] is parked.
pub(super) const NARROW_ATTEMPTS: u32 = 2;

node! {
    /// The function that most messages are for.
    Node,
    typename = "sim/node",
    retry(max_attempts = 4, initial_delay = "20ms", max_delay = "200ms")
}
node! {
    /// The same with a short queue and few attempts, so that messages reach the dead letters and addresses are parked.
    Narrow,
    typename = "sim/narrow",
    retry(max_attempts = 2, initial_delay = "10ms", max_delay = "20ms"),
    max_queue = 3
}
