//! What the simulation has found, each as the shortest course of events that leads there.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::engine::apply::apply_window;
use crate::engine::cut::{EpochBody, body_slices, encode_head};
use crate::engine::envelope::Envelope;
use crate::engine::registry::Registry;
use crate::engine::request::{ClientResponse, Recipients, Request, request_address};
use crate::engine::worker::{Command, CommandResult, ReadDone, Worker, WorkerSetup};
use crate::id::{Address, KeyGroups};
use crate::io::clients::Clients;
use crate::io::ingress::{Record, RecordValue};
use crate::log::LoggedEpoch;
use crate::rand::Random;
use crate::sdk::message::Message;
use crate::simulation::plan::{Failing, Kind, Plan, Rules, address, make_id, plan, target};
use crate::simulation::workload::{Token, World, world};
use crate::simulation::{REQUESTS_INGRESS, registry};
use crate::state::StateReader;
use crate::state::memory::MemoryStore;

const RULES: Rules = Rules {
    nodes: 40,
    fail_every: 8,
    timers: 6,
    burst: 1,
};

/// A process without threads: what one worker sends reaches the other at once.
struct Rig {
    registry: Arc<Registry>,
    store: Arc<MemoryStore>,
    workers: Vec<Worker>,
    log: Vec<LoggedEpoch>,
    applied: usize,
    now: Timestamp,
    /// What clients are to be told.
    responses: Vec<ClientResponse>,
}

impl Rig {
    fn new(workers: usize) -> Self {
        world(|world| {
            *world = World {
                rules: RULES,
                ..World::default()
            }
        });
        let mut rig = Self {
            registry: Arc::new(registry(KeyGroups::new(64))),
            store: Arc::default(),
            workers: Vec::new(),
            log: Vec::new(),
            applied: 0,
            now: Timestamp(1_000),
            responses: Vec::new(),
        };
        rig.start(workers);
        rig
    }

    /// Starts again behind the last cut.
    fn start(&mut self, workers: usize) {
        self.apply();
        let last_epoch = self.log.len() as u64;
        let groups = self.registry.key_groups;
        let body = self
            .log
            .last()
            .map(|last| last.body.clone())
            .unwrap_or_default();
        let sections = EpochBody::parse(&body)
            .map(|body| body.sections)
            .unwrap_or_default();
        let mut carried: Vec<Vec<Envelope>> = (0..workers).map(|_| Vec::new()).collect();
        for section in sections {
            let mut bytes = Bytes::copy_from_slice(section.carried);
            while !bytes.is_empty() {
                let envelope = Envelope::decode(&mut bytes, &self.registry).unwrap();
                carried[groups.owner(envelope.to.key_group(groups), workers)].push(envelope);
            }
        }
        let make = |(index, carried)| {
            let setup = WorkerSetup {
                index,
                workers,
                registry: self.registry.clone(),
                store: self.store.clone(),
                last_epoch,
                applied_epoch: last_epoch,
                store_is_empty: last_epoch == 0,
                cache_bytes: 0,
                seed: 1,
                watched: None,
                meter: Arc::new(crate::metrics::meter::WorkerMeter::new(&self.registry)),
                measures: true,
            };
            let mut worker = Worker::new(setup).unwrap();
            worker.recover(carried, self.now).unwrap();
            worker
        };
        self.workers = carried.into_iter().enumerate().map(make).collect();
    }

    fn owner(&mut self, address: &Address) -> &mut Worker {
        let groups = self.registry.key_groups;
        let owner = groups.owner(address.key_group(groups), self.workers.len());
        &mut self.workers[owner]
    }

    fn send(&mut self, id: u64) {
        let mut record = Record::of(Ok(RecordValue(Box::new(Token::loose(id)))));
        let to = address(target(id));
        record.target = Some(Box::new(to.clone()));
        self.owner(&to).admit(0, None, record).unwrap();
    }

    /// Runs everything but reads.
    fn run(&mut self) {
        for _ in 0..20 {
            for index in 0..self.workers.len() {
                self.workers[index].set_now(self.now);
                self.workers[index].run(1_000).unwrap();
                self.workers[index].fire(1_000).unwrap();
                self.workers[index].flush();
                let label = self.workers[index].epoch();
                for batch in std::mem::take(&mut self.workers[index].effects.batches) {
                    self.workers[batch.to]
                        .receive(label, batch.messages)
                        .unwrap();
                }
            }
        }
    }

    /// Asks the store, now.
    fn read(&mut self) -> Vec<(usize, ReadDone)> {
        let store = self.store.clone();
        let mut done = Vec::new();
        for (index, worker) in self.workers.iter_mut().enumerate() {
            for request in worker.effects.reads.drain(..) {
                let rows = request.keys.iter().map(|key| store.get(key)).collect();
                done.push((
                    index,
                    ReadDone {
                        address: request.address,
                        rows,
                    },
                ));
            }
        }
        done
    }

    fn loaded(&mut self, done: Vec<(usize, ReadDone)>) {
        for (index, done) in done {
            self.workers[index].loaded(done).unwrap();
        }
    }

    /// Runs everything, reads included.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.run();
            let done = self.read();
            self.loaded(done);
        }
    }

    /// All workers cut, and the epoch is durable.
    fn cut(&mut self) {
        let mut parts = Vec::new();
        for worker in &mut self.workers {
            worker.cut().unwrap();
            parts.extend(worker.complete(worker.epoch()));
        }
        let responses = parts.iter_mut().flat_map(|part| part.responses.drain(..));
        self.responses.extend(responses);
        let mut head = Vec::new();
        encode_head(&mut head, self.now, &[], &parts);
        let body = body_slices(&head, &parts).concat();
        self.log.push(LoggedEpoch {
            epoch: self.log.len() as u64 + 1,
            body: body.into(),
        });
    }

    fn apply(&mut self) {
        apply_window(&*self.store, &self.log[self.applied..]).unwrap();
        self.applied = self.log.len();
        for worker in &mut self.workers {
            worker.applied(self.applied as u64);
        }
    }

    fn command(&mut self, command: Command) -> CommandResult {
        let (Command::Retry(address) | Command::Skip(address)) = &command else {
            panic!("{command:?}")
        };
        let address = address.clone();
        self.owner(&address).command(&command).unwrap().unwrap()
    }
}

/// The functions themselves found nothing wrong.
fn nothing_was_seen() {
    world(|world| assert_eq!(world.violations, [""; 0]));
}

/// A message to an address whose plan is as asked for.
fn find(salt: u64, to: u64, hops: u64, wanted: impl Fn(&Plan) -> bool) -> u64 {
    let mut random = Random::seeded(salt);
    loop {
        let id = make_id(random.next_u64(), hops, Kind::Plain, to);
        if wanted(&plan(id, RULES)) {
            return id;
        }
    }
}

/// One that brings nothing about.
fn plain(salt: u64, to: u64) -> u64 {
    find(salt, to, 0, |plan| plan.failing == Failing::Never)
}

fn failing(salt: u64, to: u64, failing: Failing) -> u64 {
    find(salt, to, 0, |plan| plan.failing == failing)
}

#[test]
fn timers_of_two_workers_with_one_number_are_both_sent() {
    let mut rig = Rig::new(2);
    let groups = rig.registry.key_groups;
    let of = |worker| {
        (0..40)
            .find(|node| groups.owner(address(*node).key_group(groups), 2) == worker)
            .unwrap()
    };
    let later = |plan: &Plan| {
        plan.failing == Failing::Never
            && plan.later.len() == 1
            && plan.later[0].delay_ms == 5_000
            && !plan.later[0].cancellable
            && super::plan::plan(plan.later[0].id, RULES).failing == Failing::Never
            && plan.sends.is_empty()
            && plan.operation.is_none()
    };
    for worker in 0..2 {
        rig.send(find(7, of(worker), 1, later));
    }
    rig.settle();
    rig.cut();
    rig.start(1);
    rig.now = Timestamp(7_000);
    rig.settle();
    assert_eq!(rig.workers[0].counts.invocations, 2, "a timer was lost");
    nothing_was_seen();
}

#[test]
fn a_queue_that_is_worked_off_does_not_come_back_with_a_late_read() {
    let mut rig = Rig::new(1);
    rig.send(failing(1, 3, Failing::UntilMended));
    rig.settle();
    rig.cut();
    rig.apply();
    // Skipped, so that no state of the address is written: nothing but the queue's end keeps it in memory.
    rig.command(Command::Skip(address(3)));
    rig.settle();
    rig.cut();
    // Its instance may leave now, were it not for the row; another message then reads it back.
    rig.send(plain(2, 4));
    rig.settle();
    rig.send(plain(3, 3));
    rig.run();
    let late = rig.read();
    rig.cut();
    rig.apply();
    rig.loaded(late);
    rig.settle();
    assert_eq!(
        (
            rig.workers[0].counts.invocations,
            rig.workers[0].counts.failures
        ),
        (3, 1)
    );
    nothing_was_seen();
}

#[test]
fn a_skipped_message_does_not_come_back_with_a_late_read() {
    let mut rig = Rig::new(1);
    rig.send(failing(1, 3, Failing::UntilMended));
    rig.settle();
    rig.send(plain(2, 3));
    rig.settle();
    rig.cut();
    rig.start(1);
    // The read is asked for with the skip, answered before it is applied, and comes home after that.
    rig.command(Command::Skip(address(3)));
    let late = rig.read();
    rig.cut();
    rig.apply();
    rig.loaded(late);
    rig.settle();
    assert_eq!(
        (
            rig.workers[0].counts.invocations,
            rig.workers[0].counts.failures
        ),
        (1, 0)
    );
    nothing_was_seen();
}

#[test]
fn a_command_reaches_an_address_that_is_being_loaded() {
    let mut rig = Rig::new(1);
    let first = failing(1, 3, Failing::UntilMended);
    rig.send(first);
    rig.settle();
    rig.cut();
    rig.start(1);
    rig.send(plain(2, 3));
    rig.run();
    world(|world| world.mended.insert(first));
    assert_eq!(
        rig.command(Command::Retry(address(3))),
        CommandResult::Done { messages: 1 }
    );
    rig.settle();
    assert_eq!(
        (
            rig.workers[0].counts.invocations,
            rig.workers[0].counts.failures
        ),
        (2, 0)
    );
    nothing_was_seen();
}

#[test]
fn each_message_has_all_its_attempts_also_after_a_restart() {
    let mut rig = Rig::new(1);
    rig.send(failing(1, 3, Failing::Transient(3)));
    rig.settle();
    for salt in 0..15 {
        rig.send(plain(100 + salt, 3));
    }
    rig.send(failing(2, 3, Failing::Transient(2)));
    rig.settle();
    for _ in 0..2 {
        rig.now = Timestamp(rig.now.as_ms() + 200);
        rig.settle();
    }
    assert_eq!(
        (
            rig.workers[0].counts.invocations,
            rig.workers[0].counts.failures
        ),
        (3, 3)
    );
    // The first one succeeds at its last attempt; then the process ends before the second one's turn.
    rig.now = Timestamp(rig.now.as_ms() + 200);
    rig.workers[0].set_now(rig.now);
    rig.workers[0].fire(10).unwrap();
    rig.workers[0].run(1).unwrap();
    assert_eq!(rig.workers[0].counts.invocations, 19);
    rig.cut();
    rig.start(1);
    for _ in 0..4 {
        rig.settle();
        rig.now = Timestamp(rig.now.as_ms() + 200);
    }
    let counts = rig.workers[0].counts;
    assert_eq!(
        (counts.parked, counts.invocations, counts.failures),
        (0, 3, 2)
    );
    nothing_was_seen();
}

/// A request that a cut carries over a restart is answered under the number of its connection, which is gone. Whether the
/// answer reaches a connection of the next process, which uses the same key for another message.
fn reaches_a_stranger(before: &Clients, after: &Clients) -> bool {
    const ID: &str = "sim/requests\u{1f}\u{1f}key";
    let mut rig = Rig::new(1);
    let token = Token::loose(plain(1, 3));
    let mut value = Vec::new();
    token.encode(&mut value).unwrap();
    let (connection, _) = before.wait(ID, 1);
    let mut record = Record::new(Request {
        ingress: REQUESTS_INGRESS.to_owned(),
        connection,
        wait: false,
        retention_ms: 1_000_000,
        fingerprint: 1,
        key: None,
        headers: std::collections::BTreeMap::new(),
        timestamp: rig.now,
        target: Some(address(3)),
        typename: Token::type_name().into(),
        value: value.into(),
    });
    record.target = Some(Box::new(request_address(ID)));
    rig.workers[0].admit(1, None, record).unwrap();
    rig.cut();
    rig.start(1);
    let (_, mut stranger) = after.wait(ID, 2);
    rig.settle();
    rig.cut();
    let to_one = |response: &ClientResponse| matches!(response.to, Recipients::Connection(_));
    assert!(rig.responses.iter().any(to_one), "{:?}", rig.responses);
    for response in rig.responses.drain(..) {
        after.answer(response);
    }
    nothing_was_seen();
    stranger.try_recv().is_ok()
}

#[test]
fn an_answer_carried_over_a_restart_reaches_no_client_of_the_next_process() {
    assert!(!reaches_a_stranger(
        &Clients::default(),
        &Clients::default()
    ));
    // Were connections numbered from the same number in each process, it would.
    let numbered = || Clients::numbered_from(1);
    assert!(reaches_a_stranger(&numbered(), &numbered()));
}
