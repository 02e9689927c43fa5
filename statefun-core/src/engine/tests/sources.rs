//! Sources that call while their worker is busy, and the one clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use statefun_macros::{Message, stateful_function};

use super::PATIENCE;
use crate::catalog::DataDirectory;
use crate::clock::{Timestamp, WallClock};
use crate::disk::RealDisk;
use crate::engine::dead_letters::DeadLetterDesk;
use crate::engine::registry::{IngressWiring, Parts, Registry};
use crate::engine::start::{Engine, EngineSettings, EngineSetup};
use crate::engine::starting::StartListener;
use crate::io::ingress::{
    Ack, AckOutcome, Ingress, IngressContext, IngressError, Partition, Record, Source,
    SourceStatus, Waker,
};
use crate::sdk::context::Context;
use crate::sdk::error::HandlerResult;
use crate::sdk::function::{Handle, StatefulFunction};

/// What the system's clock says to the functions of a test.
static WALL: AtomicU64 = AtomicU64::new(0);
/// When each message was handled.
static TIMES: Mutex<BTreeMap<u64, Timestamp>> = Mutex::new(BTreeMap::new());

fn wall() -> Timestamp {
    Timestamp(WALL.load(Ordering::SeqCst))
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "engine-tests/Tick")]
struct Tick {
    number: u64,
    /// What the system's clock is set to meanwhile; 0 leaves it alone.
    set_to: u64,
}

#[stateful_function(typename = "engine-tests/watch", accepts(Tick))]
struct Watch {}

impl Handle<Tick> for Watch {
    fn handle(&mut self, tick: Tick, ctx: &mut Context<'_, Self>) -> HandlerResult {
        TIMES.lock().unwrap().insert(tick.number, ctx.now());
        if tick.set_to > 0 {
            WALL.store(tick.set_to, Ordering::SeqCst);
        }
        Ok(())
    }
}

fn tick(number: u64, set_to: u64) -> Record {
    let mut record = Record::new(Tick { number, set_to });
    record.target = Some(Box::new(Watch::at("one").into_address()));
    record
}

/// A source that a test makes up.
type Poll = Box<dyn FnMut(&mut Vec<Record>) -> SourceStatus + Send>;
struct MadeUp(Poll);
impl Source for MadeUp {
    fn poll(
        &mut self,
        _limit: usize,
        batch: &mut Vec<Record>,
    ) -> Result<SourceStatus, IngressError> {
        Ok((self.0)(batch))
    }
}

/// Makes a source that calls by this.
type MakePoll = Box<dyn FnOnce(Waker) -> Poll + Send>;
struct Sources(Vec<MakePoll>);
impl Ingress for Sources {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let partitions = self.0.drain(..).map(|make| Partition {
            name: None,
            worker: 0,
            source: Box::new(MadeUp(make(context.waker(0)))),
        });
        Ok(partitions.collect())
    }
}

fn start(directory: &Path, clock: WallClock, sources: Vec<MakePoll>) -> Engine {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap());
    let wiring = IngressWiring {
        id: "engine-tests/in".to_owned(),
        ..IngressWiring::default()
    };
    let registry = Registry::new(Parts {
        functions: vec![Watch::definition()],
        ingresses: vec![wiring],
        ..Parts::default()
    });
    Engine::start(EngineSetup {
        tracer: None,
        registry: registry.unwrap(),
        directory: DataDirectory {
            root: directory.to_owned(),
            disk: Arc::new(RealDisk),
        },
        settings: EngineSettings::default(),
        ingresses: vec![("engine-tests/in".to_owned(), Box::new(Sources(sources)))],
        egresses: Vec::new(),
        drop_data: Vec::new(),
        checkpoints: None,
        dead_letters: DeadLetterDesk::default(),
        listener: StartListener::default(),
        clock: Arc::new(clock),
        runtime: runtime.handle().clone(),
    })
    .unwrap()
}

/// Tells when a record is durable.
fn ack() -> (Ack, mpsc::Receiver<AckOutcome>) {
    let (tell, told) = mpsc::channel();
    let ack = Ack::new(move |outcome| {
        let _ = tell.send(outcome);
    });
    (ack, told)
}

#[test]
fn time_does_not_run_back_over_a_restart_although_the_systems_clock_was_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let run = |number: u64, set_to: u64| {
        let (ack, told) = ack();
        let mut record = Some(tick(number, set_to).with_ack(ack));
        let source: MakePoll = Box::new(move |_| {
            Box::new(move |batch| {
                batch.extend(record.take());
                SourceStatus::Finished
            })
        });
        let clock = WallClock::reading(wall, Timestamp(0));
        let engine = start(directory.path(), clock, vec![source]);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(AckOutcome::Durable));
        while !TIMES.lock().unwrap().contains_key(&number) {
            crate::clock::pause(Duration::from_millis(1));
        }
        engine.stop().unwrap();
        TIMES.lock().unwrap()[&number]
    };
    WALL.store(5_000_000, Ordering::SeqCst);
    // Set back after the worker has used the later time, and before the committer asks for the time of the record.
    assert_eq!(run(1, 1_000), Timestamp(5_000_000));
    assert!(run(2, 0) >= Timestamp(5_000_000), "{:?}", TIMES.lock());
}

#[test]
fn a_source_that_calls_just_before_its_worker_sleeps_is_polled() {
    let directory = tempfile::tempdir().unwrap();
    let (ack, told) = ack();
    let mut record = Some(tick(3, 0).with_ack(ack));
    let source: MakePoll = Box::new(|waker| {
        let mut polled = false;
        Box::new(move |batch| {
            if std::mem::replace(&mut polled, true) {
                batch.extend(record.take());
            } else {
                // As another thread's that comes when the poll has found nothing.
                waker.wake();
            }
            SourceStatus::Idle
        })
    });
    let engine = start(directory.path(), WallClock::default(), vec![source]);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(AckOutcome::Durable));
    engine.stop().unwrap();
}

#[test]
fn a_source_that_calls_is_polled_although_another_always_has_records() {
    let directory = tempfile::tempdir().unwrap();
    let (ack, told) = ack();
    let ready = Arc::new(AtomicBool::new(false));
    let (is_ready, mut record) = (ready.clone(), Some(tick(4, 0).with_ack(ack)));
    let calm: MakePoll = Box::new(move |waker| {
        let mut called = false;
        Box::new(move |batch| {
            if is_ready.load(Ordering::SeqCst) {
                batch.extend(record.take());
            } else if !std::mem::replace(&mut called, true) {
                let (waker, is_ready) = (waker.clone(), is_ready.clone());
                let thread = std::thread::Builder::new();
                let call = move || {
                    crate::clock::pause(Duration::from_millis(20));
                    is_ready.store(true, Ordering::SeqCst);
                    waker.wake();
                };
                thread.spawn(call).unwrap();
            }
            SourceStatus::Idle
        })
    });
    let busy: MakePoll = Box::new(|_| {
        Box::new(|batch| {
            batch.push(tick(5, 0));
            SourceStatus::Ready
        })
    });
    let engine = start(directory.path(), WallClock::default(), vec![calm, busy]);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(AckOutcome::Durable));
    engine.stop().unwrap();
}
