//! A simulation of the whole engine: real worker cores, the real epoch log and group commit, the real gatherer and applier,
//! on one thread, with a network, a disk, a state store, clients, time and crashes that one seed decides about. Records come
//! by the real file ingress and leave through the real sinks into the real file egress, on simulated disks.
//!
//! [`Model`](model::Model) checks every durable epoch against what must hold; the functions of
//! [`workload`] check what they see. A run that fails prints its seed and its last events.
//!
//! - `STATEFUN_SIM_SEEDS=N` runs N seeds, `STATEFUN_SIM_SEED=x` replays one.
//! - It is compiled for this crate's tests only: its functions register at link time, as an application's do.

mod applying;
mod clients;
mod events;
mod facts;
mod inputs;
mod model;
mod plan;
mod process;
mod regressions;
mod sink;
mod start;
mod store;
mod tests;
mod trace;
mod workload;

use std::path::Path;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::disk::{Crash, Disk, SimDisk};
use crate::engine::admission::Admission;
use crate::engine::registry::{IngressWiring, Parts, Registry};
use crate::engine::request::RequestFunction;
use crate::engine::shared::EngineError;
use crate::engine::sinks::Buffers;
use crate::engine::worker::WorkerError;
use crate::id::KeyGroups;
use crate::log::{Filling, LogError};
use crate::rand::Random;
use crate::sdk::function::StatefulFunction;
use crate::simulation::clients::Clients;
use crate::simulation::inputs::Input;
use crate::simulation::model::Model;
use crate::simulation::plan::Rules;
use crate::simulation::process::{Acked, Process};
use crate::simulation::sink::EGRESSES;
use crate::simulation::store::SimStore;
use crate::simulation::trace::Trace;
use crate::simulation::workload::{Narrow, Node, World, world};
use crate::state::StateError;
use crate::trace::{Sample, Tracer};

const REQUESTS_INGRESS: &str = "sim/requests";

/// A fault of the harness' own, that the checker must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// A message that was in flight at a cut is not recorded there.
    ForgetInFlight,
    /// A cut counts as complete while messages of its epoch are on their way.
    FrontierTooEarly,
    /// Output leaves before its epoch is durable.
    ReleaseBeforeDurable,
    /// What fails leaves half of its effects.
    HalfDone,
    /// A restart loses one carried message.
    LoseCarried,
    /// A restart delivers one carried message twice.
    DoubleCarried,
    /// A source goes on one record before where it was.
    SourceRepeats,
    /// Batches between two workers overtake each other.
    NetworkReorders,
    /// The state store loses one row of an apply.
    ApplyLosesRow,
    /// A worker's clock runs ahead, and is set back by a restart.
    TimeRunsBack,
    /// A sink is given its last epoch again.
    SinkDoubles,
    /// The log is let go before the state store was given what it holds.
    LogGoesTooEarly,
    /// A label is one too late, as if the sender had cut before it sent.
    LabelTooLate,
    /// What a look found to have expired counts, whatever has been applied since.
    TimelessLook,
    /// Where a file was read ahead to counts as where its records were taken in.
    ReadAheadCounts,
    /// A bad record does not go where its ingress wants it.
    LetterLost,
    /// A client is told that a request without a key is accepted before it is durable.
    AnswersTooEarly,
    /// Epochs that the feed had no room for are not read back from the log.
    EpochsLeftOut,
    /// What was handed to the applier counts as applied.
    AppliedTooEarly,
    /// What did not fit into the state store's disk is given up.
    FullStoreForgotten,
}

/// How a run ends early.
#[derive(Debug)]
enum Stop {
    /// The machine or the process went down.
    Down(Crash),
    /// Something that must hold does not.
    Violation(String),
}

impl From<String> for Stop {
    fn from(problem: String) -> Self {
        Self::Violation(problem)
    }
}
impl From<WorkerError> for Stop {
    fn from(error: WorkerError) -> Self {
        Self::Violation(format!("a worker failed: {error}"))
    }
}
impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        if store::is_down(&error) {
            Self::Down(Crash::Power)
        } else {
            Self::Violation(format!("the store failed: {error}"))
        }
    }
}
impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Violation(format!("the log failed: {error}"))
    }
}
impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::State(error) => error.into(),
            error => Self::Violation(error.to_string()),
        }
    }
}

/// What is different from run to run beside the order of events.
#[derive(Debug)]
struct Shape {
    key_groups: u16,
    rules: Rules,
    partitions: u64,
    records: u64,
    /// Messages that may follow from all records, at most.
    messages: u64,
    clients: u64,
    cache_bytes: usize,
    steps: u64,
    /// One of so many events is a crash.
    crash_every: u64,
    /// One of so many events is trouble with the disk.
    trouble_every: u64,
    segment_bytes: u64,
    /// Bytes of log above which nothing is taken in.
    max_log_bytes: u64,
    /// Bytes of buffers that may wait for the gatherer.
    feed_bytes: usize,
    /// Bytes of rows that are worth an apply.
    window_bytes: usize,
    admission: Admission,
    /// Time goes so many times as fast.
    hurry: u64,
    /// Turns of sinks that follow one another.
    sink_turns: u64,
    /// Whether segments are filled with zeros, or only set aside.
    filling: Filling,
}

impl Shape {
    fn of(random: &mut Random) -> Self {
        let mut pick = |choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
        let segment_bytes = pick(&[8 << 10, 32 << 10, 128 << 10]);
        let own = pick(&[4, 60, 60]) as usize;
        Self {
            key_groups: pick(&[1, 3, 8, 64]) as u16,
            rules: Rules {
                nodes: pick(&[2, 6, 14, 40]),
                fail_every: pick(&[8, 40, 40, 400]),
                timers: pick(&[1, 2, 2, 6]),
                burst: pick(&[20, 40, 120]),
            },
            partitions: pick(&[1, 2, 4]),
            records: pick(&[8, 24, 48]),
            clients: pick(&[0, 2, 4]),
            cache_bytes: pick(&[0, 0, 40_000, 10_000_000]) as usize,
            messages: pick(&[100, 300, 700]),
            steps: pick(&[300, 800, 1_500]),
            crash_every: pick(&[60, 200, 500, 100_000]),
            trouble_every: pick(&[100, 400, 100_000]),
            segment_bytes,
            max_log_bytes: segment_bytes * pick(&[4, 8, 1 << 20]),
            feed_bytes: pick(&[0, 4 << 10, 32 << 20]) as usize,
            window_bytes: pick(&[1 << 10, 64 << 10, 1 << 20]) as usize,
            admission: Admission {
                own,
                any: 2 * own,
                trickle: 4,
            },
            hurry: pick(&[1, 10]),
            sink_turns: pick(&[1, 4]),
            filling: [Filling::Always, Filling::Never][pick(&[0, 1]) as usize],
        }
    }
}

/// One run.
struct Sim {
    shape: Shape,
    mutant: Option<Mutant>,
    random: Random,
    trace: Trace,
    registry: Arc<Registry>,
    disk: SimDisk,
    store: Arc<SimStore>,
    inputs: Vec<Input>,
    inputs_disk: SimDisk,
    /// One of the inputs cannot be read until the next start.
    unreadable: bool,
    clients: Clients,
    /// Through this epoch all sinks had delivered, when the last process ended with a clean stop.
    stopped_at: Option<u64>,
    buffers: Buffers,
    model: Model,
    wall: Timestamp,
    attempt: u64,
    /// Nothing bad happens any more.
    calm: bool,
    /// The disk was told to fail at some time, and may still.
    faulty: bool,
    restarts: u64,
    /// How many workers wrote the last epoch.
    workers_then: usize,
    acked: Acked,
    /// Half of the seeds record half of their traces. Nobody reads the spans.
    tracer: Option<Tracer>,
    /// How the last process ended.
    ended: Option<Crash>,
}

/// What a run that found nothing wrong can say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    trace: u64,
    epochs: u64,
    restarts: u64,
    handled: usize,
}

/// Half of all.
fn half() -> Sample {
    Sample::of(0.5).expect("it is a share")
}

impl Sim {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut random = Random::seeded(seed);
        let mut shape = Shape::of(&mut random);
        if mutant == Some(Mutant::LogGoesTooEarly) {
            // Nothing is read back from the log, so that only a start can miss what it held.
            shape.feed_bytes = usize::MAX;
        }
        let registry = Arc::new(registry(KeyGroups::new(shape.key_groups)));
        let inputs = inputs::inputs(seed, &shape);
        let inputs_disk = SimDisk::new(0);
        inputs_disk
            .create_dir_all(Path::new("/in"))
            .expect("this disk does not fail");
        let clients = Clients::new(seed, &shape);
        let mut model = Model::new(shape.rules, registry.clone());
        for (index, input) in inputs.iter().enumerate() {
            model.sources.insert(input.key.clone(), input.source(index));
        }
        model.requests = clients.requests();
        world(|world| {
            *world = World {
                rules: shape.rules,
                half_done: mutant == Some(Mutant::HalfDone),
                ..World::default()
            };
        });
        Self {
            mutant,
            trace: Trace::default(),
            registry,
            disk: SimDisk::new(random.next_u64()),
            store: Arc::new(SimStore::new(random.next_u64())),
            inputs,
            inputs_disk,
            unreadable: false,
            clients,
            stopped_at: None,
            buffers: Buffers::default(),
            model,
            wall: Timestamp(1_000_000),
            attempt: 0,
            calm: false,
            faulty: false,
            restarts: 0,
            workers_then: 0,
            acked: Acked::default(),
            tracer: (seed / 2)
                .is_multiple_of(2)
                .then(|| Tracer::new(half(), true).0),
            ended: None,
            shape,
            random,
        }
    }

    /// One in so many.
    fn one_in(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn mutant(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Runs to the end; the error says what is wrong.
    fn run(&mut self) -> Result<Outcome, String> {
        for _ in 0..self.random.below(4) {
            self.write_input();
        }
        let mut process = self.restart()?;
        for _ in 0..self.shape.steps {
            process = self.guarded(process, Self::step)?;
        }
        self.calm = true;
        self.disk.set_capacity(None);
        world(|world| world.all_mended = true);
        process = self.drain(process, true)?;
        // What never ends is unknown after a restart, and that is an end; so nobody asks for anything new.
        self.clients.stop_asking();
        drop(process);
        self.go_down(Crash::Power)?;
        process = self.restart()?;
        self.drain(process, false)?;
        self.check_end()?;
        Ok(Outcome {
            trace: self.trace.hash(),
            epochs: self.model.last_epoch,
            restarts: self.restarts,
            handled: self.model.handled.len(),
        })
    }

    /// Takes a step; when the machine goes down meanwhile, starts again.
    fn guarded(
        &mut self,
        mut process: Process,
        step: impl FnOnce(&mut Self, &mut Process) -> Result<(), Stop>,
    ) -> Result<Process, String> {
        let result = step(self, &mut process);
        if let Some(violation) = world(|world| world.violations.first().cloned()) {
            return Err(violation);
        }
        match result {
            Ok(()) => Ok(process),
            Err(Stop::Violation(problem)) if !self.disk.is_down() => Err(problem),
            // With the disk gone, whatever failed did so for that.
            Err(Stop::Violation(_)) => {
                drop(process);
                self.go_down(Crash::Power)?;
                self.restart()
            }
            Err(Stop::Down(crash)) => {
                drop(process);
                self.go_down(crash)?;
                self.restart()
            }
        }
    }

    /// Lets everything that is under way come to its end.
    fn drain(&mut self, mut process: Process, hanging: bool) -> Result<Process, String> {
        for round in 0..1_000 {
            for _ in 0..100 {
                process = self.guarded(process, Self::step)?;
            }
            Self::mend(&mut process)?;
            if self.at_rest(&process) && self.clients.all_answered(&self.model) && round > 1 {
                let Some(unfinished) = self.model.unfinished(hanging) else {
                    return self.guarded(process, Self::apply_all);
                };
                if Self::next_due(&process).is_none() {
                    return Err(format!("at rest, but {unfinished}"));
                }
            }
            if let Some(due) = Self::next_due(&process) {
                self.wall = self.wall.max(due);
            }
        }
        let unfinished = self.model.unfinished(hanging);
        Err(format!(
            "it does not come to rest: {}, {unfinished:?}",
            self.why_busy(&process)
        ))
    }

    fn check_end(&self) -> Result<(), String> {
        let mut records = self.inputs.iter().flat_map(|input| &input.lines);
        let lost = records.find(|line| line.id.is_some_and(|id| !self.model.is_settled(id)));
        if let Some(line) = lost {
            return Err(format!("record {:x?} had no effect", line.id));
        }
        self.clients.check(&self.model)?;
        self.check_files(true)
    }
}

/// How many messages there are in all because of one.
fn consequences(id: u64, rules: Rules) -> u64 {
    1 + plan::plan(id, rules)
        .children()
        .map(|child| consequences(child, rules))
        .sum::<u64>()
}

fn registry(key_groups: KeyGroups) -> Registry {
    let wiring = |id: &str| IngressWiring {
        id: id.to_owned(),
        ..IngressWiring::default()
    };
    let reading = |(index, id): (usize, &&str)| IngressWiring {
        routers: vec![inputs::ROUTER.to_owned()],
        on_error: inputs::policy(index),
        ..wiring(id)
    };
    let readers = inputs::INGRESSES.iter().enumerate().map(reading);
    let parts = Parts {
        routers: vec![inputs::router()],
        functions: vec![
            Node::definition(),
            Narrow::definition(),
            RequestFunction::definition(),
        ],
        egresses: EGRESSES.map(str::to_owned).to_vec(),
        ingresses: readers.chain([wiring(REQUESTS_INGRESS)]).collect(),
        key_groups,
        ..Parts::default()
    };
    Registry::new(parts).expect("the workload is a valid application")
}
