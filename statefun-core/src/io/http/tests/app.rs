//! An application: workers on one thread, all cutting together, so that an epoch is "durable" when it is cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::WallClock;
use crate::engine::registry::{IngressWiring, Parts, Registry};
use crate::engine::request::RequestFunction;
use crate::engine::worker::{Worker, WorkerSetup};
use crate::id::{KeyGroups, LazyTypeName, MessageTypeId, TypeName};
use crate::io::clients::Clients;
use crate::io::http::{HttpIngress, HttpServers};
use crate::io::ingress::{
    AckOutcome, Ingress, IngressContext, IngressError, Partition, Record, SourceStatus, Waker,
};
use crate::io::playground::PlaygroundIngress;
use crate::module::description::MessageFormat;
use crate::module::{Application, Environment, Source, Spec};
use crate::sdk::context::Context;
use crate::sdk::error::{HandlerResult, RouterError};
use crate::sdk::function::{
    Accepts, Factory, FunctionDefinition, FunctionLimits, Handle, Handler, StatefulFunction,
};
use crate::sdk::message::{CodecError, Message, MessageDefinition, serde_codec};
use crate::sdk::router::{RouterDefinition, route_typed};
use crate::sdk::state::StateVisitor;
use crate::shape::{Shape, Shaped};
use crate::state::memory::MemoryStore;

/// Implements `Message` for a type of this test, as the derive does.
macro_rules! message {
    ($type:ident, $name:literal, $format:ident, $encode:ident, $decode:ident) => {
        impl Message for $type {
            const TYPE_ID: MessageTypeId = MessageTypeId::of($name);
            const FORMAT: MessageFormat = MessageFormat::$format;
            fn type_name() -> &'static str {
                $name
            }
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
                serde_codec::$encode($name, self, out)
            }
            fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
                serde_codec::$decode($name, bytes)
            }
            fn shape() -> Shape {
                <Self as Shaped>::shape()
            }
        }
    };
}

macro_rules! shaped {
    ($type:ident { $($field:ident: $of:ty),* }) => {
        impl Shaped for $type {
            fn shape_in(scope: &mut crate::shape::ShapeScope) -> Shape {
                Shape::Struct {
                    name: stringify!($type).to_owned(),
                    fields: vec![$(crate::shape::Field {
                        name: stringify!($field).to_owned(),
                        shape: <$of as Shaped>::shape_in(scope),
                        optional: false,
                    }),*],
                }
            }
        }
    };
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Greet {
    pub(super) who: String,
    pub(super) times: u32,
}
message!(Greet, "example/Greet", Json, encode_json, decode_json);
shaped!(Greet {
    who: String,
    times: u32
});

/// As [`Greet`], in another format and of the same short name as a type of another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Packed {
    pub(super) who: String,
}
message!(
    Packed,
    "example/Packed",
    Msgpack,
    encode_msgpack,
    decode_msgpack
);
shaped!(Packed { who: String });

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) text: String,
}
message!(Greeting, "example/Greeting", Json, encode_json, decode_json);
shaped!(Greeting { text: String });

/// What functions have seen, as `function/id message`.
type Log = Arc<Mutex<Vec<String>>>;

macro_rules! function {
    ($type:ident, $name:literal, [$($message:ty),*]) => {
        #[derive(Debug)]
        pub(super) struct $type {
            log: Log,
        }
        impl StatefulFunction for $type {
            const TYPENAME: &'static str = $name;
            fn type_name() -> TypeName {
                static NAME: LazyTypeName = LazyTypeName::new($name);
                NAME.get()
            }
            fn definition() -> FunctionDefinition {
                FunctionDefinition::of::<Self>()
            }
            fn handlers() -> Vec<Handler<Self>> {
                vec![$(Handler::of::<$message>()),*]
            }
            fn visit_states<V: StateVisitor>(&mut self, _visitor: &mut V) {}
            fn swap_states(&mut self, _other: &mut Self) {}
            fn create() -> Option<Self> {
                None
            }
            fn field_without_default() -> Option<&'static str> {
                Some("log")
            }
        }
        $(impl Accepts<$message> for $type {})*
    };
}

function!(Greeter, "example/greeter", [Greet, Packed, String, i32]);
function!(Silent, "example/silent", [Greet]);

impl Handle<Greet> for Greeter {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} {}×{}", ctx.address(), greet.who, greet.times));
        if ctx.caller().is_some() {
            ctx.reply(Greeting {
                text: format!("Hello {} at {}", greet.who, ctx.id()),
            })?;
        }
        Ok(())
    }
}
impl Handle<Packed> for Greeter {
    fn handle(&mut self, packed: Packed, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} packed {}", ctx.address(), packed.who));
        if ctx.caller().is_some() {
            ctx.reply(packed)?;
        }
        Ok(())
    }
}
impl Handle<String> for Greeter {
    fn handle(&mut self, text: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} text {text}", ctx.address()));
        if ctx.caller().is_some() {
            ctx.reply(text)?;
        }
        Ok(())
    }
}
impl Handle<i32> for Greeter {
    fn handle(&mut self, number: i32, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} number {number}", ctx.address()));
        Ok(())
    }
}
impl Handle<Greet> for Silent {
    fn handle(&mut self, greet: Greet, ctx: &mut Context<'_, Self>) -> HandlerResult {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} {}", ctx.address(), greet.who));
        Ok(())
    }
}

/// Forwards to whom the message names; says what headers it saw.
fn by_name() -> RouterDefinition {
    RouterDefinition {
        name: "by_name",
        ingress: None,
        message: MessageDefinition::of::<Greet>(),
        to: vec![Greeter::type_name()],
        route: |message, out| {
            route_typed::<Greet>(message, out, |greet, out| {
                if greet.who == "nobody" {
                    return Err(RouterError::new("nobody is greeted"));
                }
                let who = out.header("x-who").unwrap_or(&greet.who).to_owned();
                out.forward(Greeter::at(who), greet);
                Ok(())
            })
        },
    }
}

/// What can be changed while it runs.
#[derive(Debug, Default)]
pub(super) struct Controls {
    /// Nothing is polled: the admission is held.
    pub(super) hold: AtomicBool,
    /// Epochs do not become durable.
    pub(super) stall: AtomicBool,
    /// The thread ends.
    end: AtomicBool,
    /// Records that no worker took, because they could not be read.
    pub(super) bad: Mutex<Vec<String>>,
}

pub(super) struct App {
    pub(super) controls: Arc<Controls>,
    pub(super) servers: Arc<HttpServers>,
    pub(super) clients: Arc<Clients>,
    pub(super) runtime: tokio::runtime::Runtime,
    stopping: watch::Sender<bool>,
    log: Log,
    thread: Option<JoinHandle<()>>,
}

/// Every component of a module.yaml.
pub(super) fn specs(yaml: &str) -> Vec<Spec> {
    let environment = Environment::of::<String, String>([]);
    let (application, findings) =
        Application::load([Source::text("module.yaml", yaml)], &environment);
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| format!("{finding:?}"))
        .collect();
    assert!(findings.is_empty(), "{findings:?}");
    application.specs().cloned().collect()
}

impl App {
    /// Runs all ingresses of a module.yaml on two workers.
    pub(super) fn start(yaml: &str) -> Self {
        let app = Self::try_start(yaml).unwrap();
        app.servers.start();
        app
    }

    /// As [`start`](Self::start), without starting the servers.
    pub(super) fn try_start(yaml: &str) -> Result<Self, IngressError> {
        let workers = 2;
        let specs = specs(yaml);
        let log = Log::default();
        let registry = Arc::new(registry(&specs, &log));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stopping, _) = watch::channel(false);
        let (clients, servers) = (Arc::<Clients>::default(), HttpServers::new());
        let mut partitions: Vec<(u16, Partition)> = Vec::new();
        for spec in &specs {
            let id = spec.id().unwrap().to_owned();
            let index = registry.ingress_index(&id).unwrap();
            let context = IngressContext {
                tracer: None,
                id,
                workers,
                positions: BTreeMap::new(),
                decoder: registry.decoder().with_limit(registry.record_limit(index)),
                runtime: runtime.handle().clone(),
                stopping: stopping.subscribe(),
                full: watch::channel(false).1,
                clients: clients.clone(),
                wakers: (0..workers).map(|_| Waker::new(|| ())).collect(),
                key_groups: registry.key_groups,
                unreadable: crate::io::http::Unreadable::default(),
                limits: registry.message_limits(),
            };
            let mut ingress: Box<dyn Ingress> = match spec {
                Spec::HttpIngress(spec) => {
                    Box::new(HttpIngress::new(spec.clone(), servers.clone()))
                }
                Spec::PlaygroundIngress(spec) => {
                    Box::new(PlaygroundIngress::new(spec.clone(), servers.clone()))
                }
                other => panic!("no ingress of this test: {other:?}"),
            };
            partitions.extend(
                ingress
                    .open(&context)?
                    .into_iter()
                    .map(|partition| (index, partition)),
            );
        }
        let controls = Arc::<Controls>::default();
        let thread = {
            let (controls, clients) = (controls.clone(), clients.clone());
            std::thread::Builder::new()
                .spawn(move || work(workers, &registry, partitions, &controls, &clients))
                .unwrap()
        };
        Ok(Self {
            controls,
            servers,
            clients,
            runtime,
            stopping,
            log,
            thread: Some(thread),
        })
    }

    /// What the functions have seen so far, sorted.
    pub(super) fn log(&self) -> Vec<String> {
        let mut log = self.log.lock().unwrap().clone();
        log.sort();
        log
    }

    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Ends the workers; what was not acknowledged is dropped.
    pub(super) fn end_workers(&mut self) {
        self.controls.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.controls.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("a worker panicked");
        }
    }
}

fn registry(specs: &[Spec], log: &Log) -> Registry {
    let ingresses = specs.iter().map(|spec| IngressWiring {
        id: spec.id().unwrap().to_owned(),
        targets: spec
            .targets()
            .iter()
            .map(|target| TypeName::parse(target.as_str()).unwrap())
            .collect(),
        routers: spec.routers().iter().map(ToString::to_string).collect(),
        on_error: crate::engine::registry::OnError::Skip,
    });
    let (one, other) = (log.clone(), log.clone());
    Registry::new(Parts {
        functions: vec![
            RequestFunction::definition(),
            Greeter::definition(),
            FunctionDefinition {
                limits: FunctionLimits {
                    message_bytes: 1_000,
                    ..FunctionLimits::default()
                },
                ..Silent::definition()
            },
        ],
        factories: vec![
            (
                Greeter::type_name(),
                Factory::of(move || Greeter { log: one.clone() }),
            ),
            (
                Silent::type_name(),
                Factory::of(move || Silent { log: other.clone() }),
            ),
        ],
        routers: vec![by_name()],
        egresses: Vec::new(),
        ingresses: ingresses.collect(),
        key_groups: KeyGroups::default(),
    })
    .unwrap()
}

/// The workers, until they are to end. All of them cut in lockstep, when nothing is on its way between them.
fn work(
    workers: usize,
    registry: &Arc<Registry>,
    mut partitions: Vec<(u16, Partition)>,
    controls: &Controls,
    clients: &Clients,
) {
    let clock = WallClock::default();
    let setup = |index| WorkerSetup {
        index,
        workers,
        registry: registry.clone(),
        store: Arc::new(MemoryStore::default()),
        last_epoch: 0,
        applied_epoch: 0,
        store_is_empty: true,
        cache_bytes: 64 << 20,
        seed: 7,
        watched: None,
        meter: Arc::new(crate::metrics::meter::WorkerMeter::new(registry)),
        measures: true,
    };
    let mut all: Vec<Worker> = (0..workers)
        .map(|index| Worker::new(setup(index)).unwrap())
        .collect();
    while !controls.end.load(Ordering::SeqCst) {
        for (ingress, partition) in &mut partitions {
            let worker = all.get_mut(partition.worker).unwrap();
            worker.set_now(clock.now());
            if !controls.hold.load(Ordering::SeqCst) {
                poll(worker, *ingress, partition, controls);
            }
        }
        loop {
            let mut done = 0;
            let mut batches = Vec::new();
            for worker in &mut all {
                done += worker.run(usize::MAX).unwrap();
                worker.flush();
                assert!(worker.effects.reads.is_empty(), "the store is empty");
                batches.append(&mut worker.effects.batches);
            }
            done += batches.len();
            for batch in batches {
                let worker = all.get_mut(batch.to).unwrap();
                worker.receive(worker.epoch(), batch.messages).unwrap();
            }
            if done == 0 {
                break;
            }
        }
        let changed = all.iter().any(Worker::changed);
        if changed && !controls.stall.load(Ordering::SeqCst) {
            for worker in &mut all {
                worker.cut().unwrap();
                let mut part = worker.complete(u64::MAX).unwrap();
                part.acks
                    .drain(..)
                    .for_each(|ack| ack.tell(AckOutcome::Durable));
                part.responses
                    .drain(..)
                    .for_each(|response| clients.answer(response));
            }
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn poll(worker: &mut Worker, ingress: u16, partition: &mut Partition, controls: &Controls) {
    let mut batch: Vec<Record> = Vec::new();
    let status = partition.source.poll(64, &mut batch).unwrap();
    assert!(
        status != SourceStatus::Finished || batch.is_empty(),
        "the ingress keeps its channel"
    );
    for record in batch {
        if let Err(bad) = &record.value {
            controls.bad.lock().unwrap().push(bad.problem.clone());
        }
        worker.admit(ingress, None, record).unwrap();
    }
}
