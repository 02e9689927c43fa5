//! Random changes of every kind of state against plain collections: failures, ends of epochs, restarts, time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use statefun_core::prelude::*;
use statefun_core::testing::Harness;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Op {
    Set(u8),
    Add(u8),
    ClearValue,
    TableSet(u8, u8),
    TableAdd(u8, u8),
    TableRemove(u8),
    TableClear,
    Append(u8),
    Replace(Vec<u8>),
    ClearBuffer,
    /// A registered value, table entry or buffer.
    Register(u8, u8),
    RegisterSet(u8, u8),
    RegisterAppend(u8),
    RegisterClear,
    /// Nothing but reads.
    Read,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "model/Ops")]
struct Ops {
    ops: Vec<Op>,
    fails: bool,
}

#[stateful_function(typename = "model/states", accepts(Ops), retry(max_attempts = 1))]
struct States {
    #[persisted]
    value: PersistedValue<u32>,
    #[persisted(expire_after_write = "100ms")]
    short: PersistedValue<u32>,
    #[persisted]
    table: PersistedTable<u8, u32>,
    #[persisted(expire_after_write = "100ms")]
    short_table: PersistedTable<u8, u32>,
    #[persisted]
    buffer: PersistedBuffer<u8>,
    #[persisted(expire_after_write = "100ms")]
    short_buffer: PersistedBuffer<u8>,
    #[persisted]
    registry: PersistedRegistry,
}

const MARKS: &str = "marks";
const STEPS: &str = "steps";

impl Handle<Ops> for States {
    fn handle(&mut self, Ops { ops, fails }: Ops, _: &mut Context<'_, Self>) -> HandlerResult {
        for op in ops {
            match op {
                Op::Set(to) => {
                    self.value.set(u32::from(to));
                    self.short.set(u32::from(to));
                }
                Op::Add(by) => {
                    *self.value += u32::from(by);
                    *self.short += u32::from(by);
                }
                Op::ClearValue => {
                    self.value.clear();
                    self.short.clear();
                }
                Op::TableSet(key, to) => {
                    self.table.set(key, u32::from(to));
                    self.short_table.set(key, u32::from(to));
                }
                Op::TableAdd(key, by) => {
                    self.table.update(key, |value| *value += u32::from(by))?;
                    self.short_table
                        .update(key, |value| *value += u32::from(by))?;
                }
                Op::TableRemove(key) => {
                    self.table.remove(&key);
                    self.short_table.remove(&key);
                }
                Op::TableClear => {
                    self.table.clear()?;
                    self.short_table.clear()?;
                }
                Op::Append(element) => {
                    self.buffer.append(element);
                    self.short_buffer.append(element);
                }
                Op::Replace(elements) => {
                    self.buffer.replace_with(elements.clone());
                    self.short_buffer.replace_with(elements);
                }
                Op::ClearBuffer => {
                    self.buffer.clear();
                    self.short_buffer.clear();
                }
                Op::Register(name, to) => self
                    .registry
                    .value::<u32>(&name.to_string())?
                    .set(u32::from(to)),
                Op::RegisterSet(key, to) => {
                    self.registry
                        .state::<PersistedTable<u8, u32>>(MARKS, Expiration::None)?
                        .set(key, u32::from(to));
                }
                Op::RegisterAppend(element) => {
                    self.registry
                        .state::<PersistedBuffer<u8>>(STEPS, Expiration::None)?
                        .append(element);
                }
                Op::RegisterClear => {
                    self.registry
                        .state::<PersistedTable<u8, u32>>(MARKS, Expiration::None)?
                        .clear()?;
                    self.registry
                        .state::<PersistedBuffer<u8>>(STEPS, Expiration::None)?
                        .clear();
                }
                Op::Read => {
                    let _ = (self.value.get(), self.short.get());
                    for key in 0..4 {
                        let _ = (self.table.get(&key)?, self.short_table.get(&key)?);
                    }
                    let _ = (
                        self.table.entries()?,
                        self.short_table.entries()?,
                        self.short_buffer.view()?,
                    );
                }
            }
        }
        if fails {
            Err(HandlerError::new("told to fail"))
        } else {
            Ok(())
        }
    }
}

/// What the states are, in plain collections; with the time of the last write where they expire.
#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    value: Option<u32>,
    short: Option<(u32, u64)>,
    table: BTreeMap<u8, u32>,
    short_table: BTreeMap<u8, (u32, u64)>,
    buffer: Vec<u8>,
    short_buffer: Vec<(u8, u64)>,
    registered: BTreeMap<String, u32>,
    marks: BTreeMap<u8, u32>,
    steps: Vec<u8>,
}

const TTL_MS: u64 = 100;

impl Model {
    fn expire(&mut self, now: u64) {
        let alive = |written: u64| written + TTL_MS > now;
        self.short = self.short.filter(|(_, written)| alive(*written));
        self.short_table.retain(|_, (_, written)| alive(*written));
        self.short_buffer.retain(|(_, written)| alive(*written));
    }

    fn apply(&mut self, op: &Op, now: u64) {
        match op {
            Op::Set(to) => {
                self.value = Some(u32::from(*to));
                self.short = Some((u32::from(*to), now));
            }
            Op::Add(by) => {
                self.value = Some(self.value.unwrap_or_default() + u32::from(*by));
                self.short = Some((self.short.unwrap_or_default().0 + u32::from(*by), now));
            }
            Op::ClearValue => {
                self.value = None;
                self.short = None;
            }
            Op::TableSet(key, to) => {
                self.table.insert(*key, u32::from(*to));
                self.short_table.insert(*key, (u32::from(*to), now));
            }
            Op::TableAdd(key, by) => {
                *self.table.entry(*key).or_default() += u32::from(*by);
                let entry = self.short_table.entry(*key).or_default();
                *entry = (entry.0 + u32::from(*by), now);
            }
            Op::TableRemove(key) => {
                self.table.remove(key);
                self.short_table.remove(key);
            }
            Op::TableClear => {
                self.table.clear();
                self.short_table.clear();
            }
            Op::Append(element) => {
                self.buffer.push(*element);
                self.short_buffer.push((*element, now));
            }
            Op::Replace(elements) => {
                self.buffer.clone_from(elements);
                self.short_buffer = elements.iter().map(|element| (*element, now)).collect();
            }
            Op::ClearBuffer => {
                self.buffer.clear();
                self.short_buffer.clear();
            }
            Op::Register(name, to) => {
                self.registered.insert(name.to_string(), u32::from(*to));
            }
            Op::RegisterSet(key, to) => {
                self.marks.insert(*key, u32::from(*to));
            }
            Op::RegisterAppend(element) => self.steps.push(*element),
            Op::RegisterClear => {
                self.marks.clear();
                self.steps.clear();
            }
            Op::Read => {}
        }
    }

    /// The same, read from the harness.
    fn of(app: &mut Harness) -> Self {
        let read = |states: &mut States| -> Result<Self, Box<dyn std::error::Error>> {
            let mut registered = BTreeMap::new();
            for name in states.registry.names()? {
                if name.parse::<u8>().is_ok()
                    && let Some(value) = states.registry.value::<u32>(&name)?.get()
                {
                    registered.insert(name, *value);
                }
            }
            Ok(Self {
                value: states.value.get().copied(),
                short: states.short.get().map(|value| (*value, 0)),
                table: states.table.entries()?.into_iter().collect(),
                short_table: states
                    .short_table
                    .entries()?
                    .into_iter()
                    .map(|(key, value)| (key, (value, 0)))
                    .collect(),
                buffer: states.buffer.view()?,
                short_buffer: states
                    .short_buffer
                    .view()?
                    .into_iter()
                    .map(|element| (element, 0))
                    .collect(),
                registered,
                marks: states
                    .registry
                    .state::<PersistedTable<u8, u32>>(MARKS, Expiration::None)?
                    .entries()?
                    .into_iter()
                    .collect(),
                steps: states
                    .registry
                    .state::<PersistedBuffer<u8>>(STEPS, Expiration::None)?
                    .view()?,
            })
        };
        app.state(States::at("x"), read).unwrap()
    }

    fn without_times(mut self) -> Self {
        self.short = self.short.map(|(value, _)| (value, 0));
        self.short_table
            .values_mut()
            .for_each(|(_, written)| *written = 0);
        self.short_buffer
            .iter_mut()
            .for_each(|(_, written)| *written = 0);
        self
    }
}

#[derive(Debug, Clone)]
enum Step {
    Handle { ops: Vec<Op>, fails: bool },
    EndEpoch,
    Restart,
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (key, byte) = (0u8..4, 1u8..9);
    prop_oneof![
        1 => byte.clone().prop_map(Op::Set),
        1 => byte.clone().prop_map(Op::Add),
        1 => Just(Op::ClearValue),
        1 => (key.clone(), byte.clone()).prop_map(|(key, to)| Op::TableSet(key, to)),
        1 => (key.clone(), byte.clone()).prop_map(|(key, by)| Op::TableAdd(key, by)),
        1 => key.clone().prop_map(Op::TableRemove),
        1 => Just(Op::TableClear),
        3 => byte.clone().prop_map(Op::Append),
        1 => prop::collection::vec(byte.clone(), 0..3).prop_map(Op::Replace),
        1 => Just(Op::ClearBuffer),
        1 => (key.clone(), byte.clone()).prop_map(|(name, to)| Op::Register(name, to)),
        1 => (key, byte.clone()).prop_map(|(key, to)| Op::RegisterSet(key, to)),
        1 => byte.prop_map(Op::RegisterAppend),
        1 => Just(Op::RegisterClear),
        1 => Just(Op::Read),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            6 => (prop::collection::vec(op(), 0..6), prop::bool::weighted(0.4))
                .prop_map(|(ops, fails)| Step::Handle { ops, fails }),
            2 => Just(Step::EndEpoch),
            1 => Just(Step::Restart),
            1 => (1u64..150).prop_map(Step::Advance),
        ],
        0..24,
    )
}

fn check(steps: Vec<Step>, cache_bytes: usize) -> Result<(), TestCaseError> {
    let mut app = Harness::builder()
        .function::<States>()
        .cache_bytes(cache_bytes)
        .build()
        .unwrap();
    let mut model = Model::default();
    for step in &steps {
        match step {
            Step::Handle { ops, fails } => {
                model.expire(app.now().as_ms());
                if !fails {
                    for op in ops {
                        model.apply(op, app.now().as_ms());
                    }
                }
                app.send(
                    States::at("x"),
                    Ops {
                        ops: ops.clone(),
                        fails: *fails,
                    },
                )
                .run(usize::MAX);
                if *fails {
                    app.skip(States::at("x")).run(usize::MAX);
                }
            }
            Step::EndEpoch => {
                app.run_until_idle();
            }
            Step::Restart => {
                app.restart();
            }
            Step::Advance(ms) => {
                app.advance(Duration::from_millis(*ms));
            }
        }
        model.expire(app.now().as_ms());
        prop_assert_eq!(
            Model::of(&mut app),
            model.clone().without_times(),
            "after {:?} of {:?}",
            step,
            &steps
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn states_are_as_plain_collections(steps in steps(), cache_bytes in prop_oneof![Just(0), Just(1 << 20)]) {
        check(steps, cache_bytes)?;
    }
}
