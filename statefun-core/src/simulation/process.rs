//! The running process: workers, the network between them, and what its other threads have before them. All of it is gone
//! after a crash.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::clock::{Timestamp, WallClock};
use crate::engine::commit::GroupCommit;
use crate::engine::cut::EpochPart;
use crate::engine::envelope::Envelope;
use crate::engine::sweep::{Look, Looked};
use crate::engine::worker::{Batch, Body, ReadDone, ReadRequest, Worker};
use crate::id::Address;
use crate::io::ingress::{Ack, Record, RecordValue};
use crate::log::{LogReader, Retention};
use crate::sdk::async_result::AsyncResult;
use crate::simulation::plan::{operation_hangs, target};
use crate::simulation::sink::Sinks;
use crate::simulation::workload::{OpMeta, Token};
use crate::simulation::{Mutant, RECORDS_INGRESS, Sim, Stop, plan};

/// What other threads have sent to a worker.
pub(super) enum Inbox {
    Read(ReadDone),
    Operation(Address, u64, Body),
    Looked(Looked),
    Recycle(EpochPart),
}

/// A worker and what it knows of the others.
pub(super) struct Site {
    pub(super) worker: Worker,
    pub(super) inbox: VecDeque<Inbox>,
    /// The frontier as it has heard of it.
    frontier: u64,
    applied: u64,
}

impl Site {
    pub(super) fn new(worker: Worker) -> Self {
        Self {
            worker,
            inbox: VecDeque::new(),
            frontier: 0,
            applied: 0,
        }
    }
}

/// An operation that runs, and how it will end.
pub(super) struct Running {
    pub(super) worker: usize,
    pub(super) address: Address,
    pub(super) id: u64,
    pub(super) result: Body,
}

/// An epoch that is written, or waits to be let out.
pub(super) type Parts = (u64, Vec<EpochPart>);

/// Batches on their way, in order, with their labels.
pub(super) type Channel = VecDeque<(u64, Vec<Envelope>)>;

/// Partition and number of records that were acknowledged.
pub(super) type Acked = Arc<Mutex<Vec<(usize, u64)>>>;

/// See the module's page.
pub(super) struct Process {
    pub(super) sites: Vec<Site>,
    /// By sender and receiver.
    pub(super) channels: Vec<Vec<Channel>>,
    pub(super) requested: u64,
    pub(super) durable: u64,
    pub(super) applied: u64,
    /// An apply that has not returned yet, and its last epoch.
    pub(super) applying: Option<u64>,
    pub(super) parts: Vec<VecDeque<EpochPart>>,
    pub(super) commit: GroupCommit,
    pub(super) writing: Option<Parts>,
    pub(super) written: Option<Parts>,
    pub(super) log: LogReader,
    pub(super) retention: Retention,
    pub(super) reads: Vec<(usize, ReadRequest)>,
    pub(super) looks: Vec<(usize, Look)>,
    pub(super) running: Vec<Running>,
    /// The next record of each partition.
    pub(super) positions: Vec<u64>,
    pub(super) acked: Acked,
    pub(super) sinks: Sinks,
    /// The last epoch whose output was let out.
    pub(super) out: u64,
    /// The one clock of all its threads.
    pub(super) clock: WallClock,
}

thread_local! {
    /// What the machine's clock says.
    static WALL: Cell<Timestamp> = const { Cell::new(Timestamp(0)) };
}

/// A clock as a process has it that goes on behind `floor`.
pub(super) fn clock(floor: Timestamp) -> WallClock {
    WallClock::reading(|| WALL.get(), floor)
}

/// What such a clock says.
pub(super) fn now(wall: Timestamp, clock: &WallClock) -> Timestamp {
    WALL.set(wall);
    clock.now()
}

impl Process {
    /// What Timely would say: nothing of an earlier epoch is on its way, or can still be sent.
    fn true_frontier(&self) -> u64 {
        let epochs = self.sites.iter().map(|site| site.worker.epoch());
        let labels = self
            .channels
            .iter()
            .flatten()
            .flatten()
            .map(|(label, _)| *label);
        epochs.chain(labels).min().unwrap_or(0)
    }

    /// All workers are in this epoch, everything sent before has come, and all parts before it are complete.
    pub(super) fn freeze(&mut self, epoch: u64) -> Result<(), Stop> {
        for index in 0..self.sites.len() {
            self.cut_to(index, epoch)?;
        }
        for index in 0..self.sites.len() {
            for from in 0..self.sites.len() {
                while let Some((label, messages)) = self.channels[from][index].pop_front() {
                    self.sites[index].worker.receive(label, messages)?;
                }
            }
        }
        for (site, parts) in self.sites.iter_mut().zip(&mut self.parts) {
            site.frontier = epoch;
            while let Some(part) = site.worker.complete(epoch) {
                parts.push_back(part);
            }
        }
        Ok(())
    }

    /// Sends what the worker has for others, with the label of its epoch.
    fn send(&mut self, index: usize) {
        let site = &mut self.sites[index];
        site.worker.flush();
        let label = site.worker.epoch();
        for Batch { to, messages } in site.worker.effects.batches.drain(..) {
            self.channels[index][to].push_back((label, messages));
        }
    }

    /// The order within a cut: send, cut, and only then be in the next epoch.
    fn cut_to(&mut self, index: usize, epoch: u64) -> Result<(), Stop> {
        while self.sites[index].worker.epoch() < epoch {
            self.send(index);
            self.sites[index].worker.cut()?;
            self.requested = self.requested.max(self.sites[index].worker.epoch());
        }
        Ok(())
    }
}

impl Sim {
    /// The time of the process.
    pub(super) fn now(&self, p: &Process) -> Timestamp {
        now(self.wall, &p.clock)
    }

    /// One activation of a worker, as the dataflow's shell would do it.
    pub(super) fn activate(&mut self, p: &mut Process, index: usize) -> Result<(), Stop> {
        let mut now = self.now(p);
        if self.mutant(Mutant::TimeRunsBack) && self.one_in(8) {
            now = Timestamp(now.as_ms() + 3_000);
        }
        let frontier = p.true_frontier();
        p.sites[index].worker.set_now(now);
        if p.applied > p.sites[index].applied && self.one_in(2) {
            p.sites[index].applied = p.applied;
            p.sites[index].worker.applied(p.applied);
        }
        for _ in 0..self.random.below(6) {
            let site = &mut p.sites[index];
            match site.inbox.pop_front() {
                Some(Inbox::Read(done)) => site.worker.loaded(done)?,
                Some(Inbox::Operation(address, id, result)) => {
                    site.worker.operation_done(&address, id, result);
                }
                Some(Inbox::Looked(looked)) => site.worker.looked(looked)?,
                Some(Inbox::Recycle(part)) => site.worker.recycle(part),
                None => break,
            }
        }
        for _ in 0..self.random.below(4) {
            self.receive(p, index)?;
        }
        if self.one_in(2) {
            let late = self
                .random
                .below(frontier.saturating_sub(p.sites[index].frontier) + 1);
            let early = u64::from(self.mutant(Mutant::FrontierTooEarly));
            let site = &mut p.sites[index];
            site.frontier = site.frontier.max(frontier - late);
            while let Some(part) = site.worker.complete(site.frontier + early) {
                p.parts[index].push_back(part);
            }
        }
        if p.requested > p.sites[index].worker.epoch() && self.one_in(2) {
            let budget = self.random.below(40) as usize;
            p.sites[index].worker.run(budget)?;
            let requested = p.requested;
            p.cut_to(index, requested)?;
        }
        self.work(p, index)?;
        let worker = &p.sites[index].worker;
        if worker.changed() && p.durable + 1 >= worker.epoch() && self.one_in(2) {
            let budget = self.random.below(40) as usize;
            p.sites[index].worker.run(budget)?;
            let next = p.sites[index].worker.epoch() + 1;
            p.cut_to(index, next)?;
        }
        if !self.one_in(8) {
            p.send(index);
        }
        Self::end(p, index);
        let worker = &p.sites[index].worker;
        self.trace.note(format_args!(
            "worker {index} in {} at {}: {} to run, frontier {frontier}, {} calls",
            worker.epoch(),
            now.as_ms(),
            worker.runnable(),
            worker.counts.invocations
        ));
        Ok(())
    }

    /// Takes a batch from one of the other workers.
    fn receive(&mut self, p: &mut Process, index: usize) -> Result<(), Stop> {
        let from = self.random.below(p.sites.len() as u64) as usize;
        let channel = &mut p.channels[from][index];
        if self.mutant == Some(Mutant::NetworkReorders) {
            channel.make_contiguous().reverse();
        }
        let Some((mut label, messages)) = channel.pop_front() else {
            return Ok(());
        };
        self.trace.note(format_args!(
            "worker {index} gets {} of epoch {label} from {from}",
            messages.len()
        ));
        if self.mutant(Mutant::LabelTooLate) {
            label += 1;
        }
        p.cut_to(index, label)?;
        let site = &mut p.sites[index];
        if self.mutant == Some(Mutant::ForgetInFlight) {
            label = site.worker.epoch();
        }
        site.worker.receive(label, messages)?;
        Ok(())
    }

    fn work(&mut self, p: &mut Process, index: usize) -> Result<(), Stop> {
        if self.one_in(4) {
            return Ok(());
        }
        let budget = if self.one_in(3) {
            1 + self.random.below(4)
        } else {
            1 + self.random.below(200)
        };
        p.sites[index].worker.run(budget as usize)?;
        if self.one_in(2) {
            let budget = 1 + self.random.below(20) as usize;
            p.sites[index].worker.fire(budget)?;
        }
        for _ in 0..self.random.below(3) {
            self.admit(p, index)?;
        }
        Ok(())
    }

    /// Takes a record from one of the partitions that the worker polls.
    fn admit(&mut self, p: &mut Process, index: usize) -> Result<(), Stop> {
        let chosen = self.random.below(self.partitions.len() as u64) as usize;
        let partition = &self.partitions[chosen];
        let groups = self.registry.key_groups;
        let owner = groups.owner(partition.address.key_group(groups), p.sites.len());
        let number = p.positions[chosen];
        let Some(id) = partition.records.get(number as usize).copied() else {
            return Ok(());
        };
        if owner != index || p.sites[index].worker.backlog() > 60 {
            return Ok(());
        }
        let before = partition
            .records
            .iter()
            .take(number as usize)
            .filter(|other| target(**other) == target(id));
        let seq = 1 + before.count() as u64;
        let token = Token {
            id,
            lane: format!("source {chosen}"),
            seq,
            due_ms: 0,
            cancels: 0,
        };
        let mut record = Record::of(Ok(RecordValue(Box::new(token))));
        record.target = Some(Box::new(plan::address(target(id))));
        let position = number + 1 - u64::from(self.mutant == Some(Mutant::SourceRepeats));
        record = record.with_position(position.to_le_bytes().to_vec());
        let acked = p.acked.clone();
        if number.is_multiple_of(2) {
            record = record.with_ack(Ack::new(move |_| {
                acked.lock().unwrap().push((chosen, number));
            }));
        }
        let ingress = self
            .registry
            .ingress_index(RECORDS_INGRESS)
            .unwrap_or_default();
        p.sites[index]
            .worker
            .admit(ingress, Some(&partition.address), record)?;
        p.positions[chosen] += 1;
        self.trace.note(format_args!(
            "worker {index} takes record {number} of {chosen}: {id:#x}"
        ));
        Ok(())
    }

    /// Passes on reads and operations.
    pub(super) fn end(p: &mut Process, index: usize) {
        let effects = &mut p.sites[index].worker.effects;
        p.reads
            .extend(effects.reads.drain(..).map(|request| (index, request)));
        p.looks
            .extend(effects.looks.drain(..).map(|look| (index, look)));
        for start in effects.operations.drain(..) {
            let mut operation = start.operation;
            let polled = operation
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(result) = polled else {
                continue;
            };
            let known = result.as_any().downcast_ref::<AsyncResult<OpMeta, i64>>();
            if known.is_some_and(|known| !operation_hangs(known.metadata.id)) {
                p.running.push(Running {
                    worker: index,
                    address: start.address,
                    id: start.id,
                    result,
                });
            }
        }
    }

    /// Whether nothing is under way but what waits for its time.
    pub(super) fn at_rest(&self, p: &Process) -> bool {
        self.why_busy(p).is_empty()
    }

    /// What is under way, in words.
    pub(super) fn why_busy(&self, p: &Process) -> String {
        let mut why = Vec::new();
        let mut add = |busy: bool, what: &str| {
            if busy {
                why.push(what.to_owned());
            }
        };
        for (index, site) in p.sites.iter().enumerate() {
            add(
                !site.worker.is_idle(),
                &format!("worker {index} is busy: changed {}", site.worker.changed()),
            );
            add(!site.inbox.is_empty(), "an inbox is not empty");
        }
        add(
            p.channels
                .iter()
                .flatten()
                .any(|channel| !channel.is_empty()),
            "messages are on their way",
        );
        add(
            p.parts.iter().any(|parts| !parts.is_empty()),
            "parts wait for the committer",
        );
        add(
            p.writing.is_some() || p.written.is_some(),
            "an epoch is being written",
        );
        add(!p.reads.is_empty(), "reads are under way");
        add(!p.running.is_empty(), "operations run");
        add(p.sinks.have_more(), "a sink has records before it");
        let taken = p.positions.iter().zip(&self.partitions);
        add(
            taken
                .into_iter()
                .any(|(next, partition)| *next < partition.records.len() as u64),
            "records are left",
        );
        why.join(", ")
    }

    /// The next timer or retry.
    pub(super) fn next_due(p: &Process) -> Option<Timestamp> {
        p.sites
            .iter()
            .filter_map(|site| site.worker.next_due())
            .min()
    }
}
