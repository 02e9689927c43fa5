//! What can happen next, and everything beside the workers: committing, applying, reading, the sink, clients, operators,
//! trouble with the disk.

use std::sync::atomic::Ordering;

use crate::clock::Timestamp;
use crate::disk::{Crash, Fault};
use crate::engine::cut::EpochPart;
use crate::engine::shared::Hold;
use crate::engine::sinks::EpochEgress;
use crate::engine::waiting::WaitKind;
use crate::engine::worker::{Command, CommandResult, ReadDone};
use crate::id::{Address, TypeName};
use crate::log::LogError;
use crate::sdk::message::Message;
use crate::simulation::process::{Inbox, Parts, Process};
use crate::simulation::sink::EGRESSES;
use crate::simulation::workload::{Token, world};
use crate::simulation::{Mutant, REQUESTS_INGRESS, Sim, Stop};
use crate::state::StateReader;

impl Sim {
    /// One event.
    pub(super) fn step(&mut self, p: &mut Process) -> Result<(), Stop> {
        if !self.calm {
            if self.one_in(self.shape.crash_every) {
                return self.crash_soon();
            }
            if self.one_in(self.shape.trouble_every) {
                self.trouble();
            }
        }
        match self.random.below(100) {
            0..=49 => {
                let index = self.random.below(p.sites.len() as u64) as usize;
                self.activate(p, index)
            }
            50..=63 => self.commit(p),
            64..=70 => self.read(p),
            71..=79 => self.apply(p),
            80..=82 => self.finish_operation(p),
            83..=86 => self.ask(p),
            87..=91 => self.feed_sink(p),
            92..=94 => {
                self.pass_time();
                Ok(())
            }
            95..=97 => {
                self.write_input();
                Ok(())
            }
            98 if !self.calm && self.one_in(12) => self.stop_cleanly(p),
            _ => self.operate(p),
        }
    }

    /// The clock goes on, or is set.
    fn pass_time(&mut self) {
        let (wall, jump) = (self.wall.as_ms(), self.random.below(20));
        self.wall = Timestamp(match jump {
            0 if !self.calm => wall + self.random.below(4_000),
            5 if !self.calm => wall.saturating_sub(self.random.below(3_000)),
            1..=4 => wall + self.random.below(100 * self.shape.hurry),
            _ => wall + self.random.below(5),
        });
    }

    fn crash_kind(&mut self) -> Crash {
        if self.one_in(2) {
            Crash::Process
        } else {
            Crash::Power
        }
    }

    /// Goes down now, or in the middle of something that follows.
    fn crash_soon(&mut self) -> Result<(), Stop> {
        match self.random.below(8) {
            0..=2 => Err(Stop::Down(self.crash_kind())),
            3..=6 => {
                let step = self.disk.steps() + self.random.below(8);
                self.disk.crash_at(step);
                Ok(())
            }
            _ => {
                let after = self.one_in(2);
                self.store.crash_at_apply(after);
                Ok(())
            }
        }
    }

    /// The disk is full, or has space again, or fails.
    fn trouble(&mut self) {
        match self.random.below(7) {
            5 => {
                let after = self.one_in(2);
                return self.store.full_at_apply(after);
            }
            6 => return self.make_unreadable(),
            _ => self.faulty = true,
        }
        match self.random.below(5) {
            0 | 1 => self
                .disk
                .set_capacity(Some(self.disk.used_bytes() + self.random.below(3_000))),
            2 => self.disk.set_capacity(None),
            3 => {
                let step = self.disk.steps() + self.random.below(10);
                self.disk.fail_at(step, Fault::NoSpace);
            }
            _ => {
                let step = self.disk.steps() + self.random.below(10);
                self.disk.fail_at(step, Fault::Io);
            }
        }
    }

    /// The committer's next step.
    fn commit(&mut self, p: &mut Process) -> Result<(), Stop> {
        if let Some((epoch, parts)) = p.released.take() {
            p.applying.push(&p.commit, epoch, parts);
            p.take_recycled();
            return Ok(());
        }
        if let Some(parts) = p.written.take() {
            return self.release(p, parts);
        }
        if p.writing.is_none() {
            let from = self.random.below(p.parts.len() as u64) as usize;
            let Some(part) = p.parts[from].pop_front() else {
                return Ok(());
            };
            p.commit.add(part);
            p.writing = p.commit.take_complete();
            if self.mutant(Mutant::AnswersTooEarly)
                && let Some((_, parts)) = &mut p.writing
            {
                for response in parts.iter_mut().flat_map(|part| &mut part.responses) {
                    if self.clients.is_without_key(&response.request) {
                        self.clients.answer(response.clone())?;
                    }
                }
            }
            let early = self.mutant(Mutant::ReleaseBeforeDurable);
            if let Some((epoch, mut parts)) = p.writing.take_if(|_| early) {
                self.feed_sinks(p)?;
                self.let_out(p, epoch, &mut parts);
                p.writing = Some((epoch, parts));
                if self.one_in(4) {
                    // The sinks take it at once, or nobody would ever know.
                    self.feed_sinks(p)?;
                    return Err(Stop::Down(Crash::Process));
                }
            }
        }
        let Some((epoch, parts)) = p.writing.take() else {
            return Ok(());
        };
        match p.commit.write(epoch, &parts, self.now(p)) {
            Ok(()) => {
                let logged = p.log.read_from(epoch, 1)?;
                let body = logged
                    .first()
                    .map(|logged| logged.body.clone())
                    .unwrap_or_default();
                self.trace.note(format_args!(
                    "epoch {epoch} is durable, {} bytes",
                    body.len()
                ));
                self.model.durable(epoch, &body, p.sites.len())?;
                p.shared.set_hold(Hold::NoSpace, false);
                p.written = Some((epoch, parts));
                Ok(())
            }
            Err(LogError::NoSpace { .. }) => {
                self.trace.note(format_args!("no space for epoch {epoch}"));
                p.writing = Some((epoch, parts));
                p.shared.set_hold(Hold::NoSpace, true);
                if self.one_in(6) {
                    self.disk.set_capacity(None);
                }
                Ok(())
            }
            Err(error) => {
                self.trace
                    .note(format_args!("epoch {epoch} is not written: {error}"));
                if self.disk.is_down() || self.faulty {
                    return Err(Stop::Down(self.crash_kind()));
                }
                Err(error.into())
            }
        }
    }

    /// The epoch is durable: what waited for it goes out.
    fn release(&mut self, p: &mut Process, (epoch, mut parts): Parts) -> Result<(), Stop> {
        p.durable = epoch;
        if p.out < epoch {
            self.let_out(p, epoch, &mut parts);
        }
        p.shared.durable.store(epoch, Ordering::SeqCst);
        for part in &mut parts {
            for ack in part.acks.drain(..) {
                ack.tell(crate::io::ingress::AckOutcome::Durable);
            }
            for response in part.responses.drain(..) {
                self.clients.answer(response)?;
            }
        }
        p.released = Some((epoch, parts));
        self.check_acks(p)
    }

    fn let_out(&mut self, p: &mut Process, epoch: u64, parts: &mut [EpochPart]) {
        p.out = epoch;
        let kept: Vec<Vec<u8>> = parts.iter().map(|part| part.egress.clone()).collect();
        let egress = EpochEgress::take(epoch, parts, &self.buffers);
        if epoch > p.durable {
            // Too early, for the test of the checker: it is still to be written.
            for (part, egress) in parts.iter_mut().zip(kept) {
                part.egress = egress;
            }
        }
        if let Some(egress) = egress {
            // What is not durable cannot be read back from the log.
            let overflow = self.mutant.is_none() && self.one_in(6);
            let sink = overflow.then(|| self.random.below(EGRESSES.len() as u64) as usize);
            p.sinks.push(egress, sink);
        }
    }

    /// A record that was acknowledged is durable.
    pub(super) fn check_acks(&self, p: &Process) -> Result<(), Stop> {
        for (partition, number) in p.acked.lock().unwrap().iter() {
            self.check_ack(*partition, *number)?;
        }
        Ok(())
    }

    pub(super) fn check_ack(&self, partition: usize, number: u64) -> Result<(), Stop> {
        let key = self.source_key(partition);
        if self.model.positions.get(&key).copied().unwrap_or(0) <= number {
            return Err(Stop::Violation(format!(
                "record {number} of {partition} was acknowledged, and is lost"
            )));
        }
        Ok(())
    }

    pub(super) fn source_key(&self, partition: usize) -> Vec<u8> {
        self.inputs[partition].key.clone()
    }

    /// Reads the rows for one address, or looks for rows that have expired.
    fn read(&mut self, p: &mut Process) -> Result<(), Stop> {
        if !p.looked.is_empty()
            && self.one_in(10)
            && let Some((worker, looked)) = p.looked.pop()
        {
            p.sites[worker].inbox.push_back(Inbox::Looked(looked));
            return Ok(());
        }
        if !p.looks.is_empty()
            && self.one_in(2)
            && let Some((worker, look)) = p.looks.pop()
        {
            let as_of = if self.mutant(Mutant::TimelessLook) {
                u64::MAX
            } else {
                p.applied()
            };
            let looked = look.run(&*self.store, as_of);
            self.trace.note(format_args!(
                "{} rows of worker {worker} have expired as of {}",
                looked.expired.len(),
                p.applied()
            ));
            // It takes a while to come back.
            p.looked.push((worker, looked));
            return Ok(());
        }
        if p.reads.is_empty() {
            return Ok(());
        }
        let chosen = self.random.below(p.reads.len() as u64) as usize;
        let (worker, request) = p.reads.swap_remove(chosen);
        let rows = request.keys.iter().map(|key| self.store.get(key)).collect();
        self.trace.note(format_args!("{} is read", request.address));
        p.sites[worker].inbox.push_back(Inbox::Read(ReadDone {
            address: request.address,
            rows,
        }));
        Ok(())
    }

    fn finish_operation(&mut self, p: &mut Process) -> Result<(), Stop> {
        if p.running.is_empty() {
            return Ok(());
        }
        let chosen = self.random.below(p.running.len() as u64) as usize;
        let running = &p.running[chosen];
        self.trace.note(format_args!(
            "operation {} of {} ends",
            running.id, running.address
        ));
        let (address, id, result) = (
            running.address.clone(),
            running.id,
            running.result.clone_any(),
        );
        p.sites[running.worker]
            .inbox
            .push_back(Inbox::Operation(address, id, result));
        // Now and then an end is told twice.
        if !self.one_in(4) || self.calm {
            p.running.swap_remove(chosen);
        }
        Ok(())
    }

    fn ask(&mut self, p: &mut Process) -> Result<(), Stop> {
        if !self.calm && self.one_in(6) {
            self.clients.give_up(&mut self.random);
        }
        let now = self.now(p);
        let index = self.random.below(p.sites.len() as u64) as usize;
        let admission = self.shape.admission;
        if !admission.is_open(&p.shared, index, &p.sites[index].worker) {
            return Ok(());
        }
        if let Some((what, record, loose)) = self.clients.ask(&mut self.random, now, self.calm) {
            self.model.loose.extend(loose);
            self.trace
                .note(format_args!("worker {index} takes request {what}"));
            let ingress = self
                .registry
                .ingress_index(REQUESTS_INGRESS)
                .unwrap_or_default();
            p.sites[index].worker.admit(ingress, None, record)?;
        }
        Ok(())
    }

    /// The sinks take all that waits for them.
    fn feed_sinks(&mut self, p: &mut Process) -> Result<(), Stop> {
        while p.sinks.have_more() {
            self.feed_sink(p)?;
        }
        Ok(())
    }

    /// A sink takes an epoch, or makes safe what it took.
    fn feed_sink(&mut self, p: &mut Process) -> Result<(), Stop> {
        for _ in 1..self.shape.sink_turns {
            self.feed_one_sink(p)?;
        }
        self.feed_one_sink(p)
    }

    fn feed_one_sink(&mut self, p: &mut Process) -> Result<(), Stop> {
        let index = self.random.below(EGRESSES.len() as u64) as usize;
        let quiet = self.one_in(2);
        let went_on = p.sinks.turn(index, quiet);
        self.trace.note(format_args!("sink {index}: {went_on:?}"));
        self.note_accepted(p);
        match went_on {
            Ok(true) => Ok(()),
            // It waits for space, or can trust its file no more.
            Ok(false) if self.faulty => {
                self.disk.set_capacity(None);
                Err(Stop::Down(Crash::Process))
            }
            Ok(false) => Err(Stop::Violation(format!("sink {index} has ended"))),
            Err(_) if self.disk.is_down() || self.faulty => Err(Stop::Down(self.crash_kind())),
            Err(error) => Err(error.into()),
        }
    }

    /// What sinks have made safe counts once it is logged.
    pub(super) fn note_accepted(&mut self, p: &mut Process) {
        for position in p.sinks.accepted() {
            self.trace.note(format_args!(
                "`{}` is safe through epoch {}",
                position.egress, position.through_epoch
            ));
            if p.commit.accepted(position) {
                p.requested = p.requested.max(p.commit.last_epoch() + 2);
            }
        }
    }

    /// A stop on request: one last epoch with what is under way, the sinks take all of it, and the log learns that.
    fn stop_cleanly(&mut self, p: &mut Process) -> Result<(), Stop> {
        self.trace.note(format_args!("stops cleanly"));
        self.one_more_epoch(p)?;
        if let Err(error) = p.sinks.close() {
            if self.disk.is_down() || self.faulty {
                return Err(Stop::Down(self.crash_kind()));
            }
            return Err(error.into());
        }
        self.note_accepted(p);
        let closed_at = p.durable;
        if !self.faulty {
            self.check_files(true)?;
        }
        self.one_more_epoch(p)?;
        self.stopped_at = (!self.faulty).then_some(closed_at);
        Err(Stop::Down(Crash::Process))
    }

    /// All workers cut once more, without running anything, and that becomes durable.
    fn one_more_epoch(&mut self, p: &mut Process) -> Result<(), Stop> {
        let next = p.sites.iter().map(|site| site.worker.epoch()).max();
        let next = next.unwrap_or_default().max(p.requested) + 1;
        p.freeze(next)?;
        for _ in 0..10_000 {
            if p.durable + 1 == next {
                return Ok(());
            }
            self.commit(p)?;
        }
        Err(Stop::Violation(
            "a stop does not come to its end".to_owned(),
        ))
    }

    /// An operator looks at what waits, and does something about it.
    fn operate(&mut self, p: &mut Process) -> Result<(), Stop> {
        let index = self.random.below(p.sites.len() as u64) as usize;
        let waiting = match p.sites[index]
            .worker
            .command(&Command::List { limit: 20 })?
        {
            Ok(CommandResult::Waiting(waiting)) => waiting,
            other => return Err(Stop::Violation(format!("a list brought {other:?}"))),
        };
        if waiting.is_empty() {
            return Ok(());
        }
        let chosen = &waiting[self.random.below(waiting.len() as u64) as usize];
        let function = TypeName::parse(&chosen.function).map_err(|error| error.to_string())?;
        let address = Address::new(function, chosen.id.as_str());
        let shown = p.sites[index].worker.command(&Command::Show {
            address: address.clone(),
            messages: usize::MAX,
        })?;
        let Ok(CommandResult::Shown(_, messages)) = shown else {
            return Err(Stop::Violation(format!(
                "{address} waits and cannot be shown: {shown:?}"
            )));
        };
        if messages.len() as u64 != chosen.queued {
            return Err(Stop::Violation(format!(
                "{address} has {} of {} messages",
                messages.len(),
                chosen.queued
            )));
        }
        let ids: Vec<Option<u64>> = messages
            .iter()
            .map(|message| {
                (message.typename == Token::type_name()).then(|| {
                    serde_json::from_str::<Token>(&message.value)
                        .ok()?
                        .id
                        .into()
                })?
            })
            .collect();
        let (command, dropped) = match self.random.below(6) {
            0 if !self.calm && ids.iter().all(Option::is_some) => (
                Command::Drop(address.clone()),
                ids.into_iter().flatten().collect(),
            ),
            1 if !self.calm && ids.first().is_some_and(Option::is_some) => (
                Command::Skip(address.clone()),
                ids.into_iter().take(1).flatten().collect(),
            ),
            _ => {
                if chosen.kind == WaitKind::Parked && self.one_in(2) {
                    world(|world| world.mended.extend(ids.first().copied().flatten()));
                }
                (Command::Retry(address.clone()), Vec::new())
            }
        };
        let epoch = p.sites[index].worker.epoch();
        let result = p.sites[index].worker.command(&command)?;
        self.trace.note(format_args!("{command:?}: {result:?}"));
        match result {
            Ok(CommandResult::Done { messages: 0 }) => Ok(()),
            Ok(CommandResult::Done { .. }) => {
                let dropped: Vec<u64> = dropped;
                self.model
                    .dropped
                    .extend(dropped.into_iter().map(|id| (epoch, id)));
                Ok(())
            }
            other => Err(Stop::Violation(format!("{command:?} brought {other:?}"))),
        }
    }

    /// Lets all that wait for an operator go on.
    pub(super) fn mend(p: &mut Process) -> Result<(), String> {
        for site in &mut p.sites {
            let failed = |error: crate::engine::worker::WorkerError| error.to_string();
            let listed = site
                .worker
                .command(&Command::List { limit: 1_000 })
                .map_err(failed)?;
            let Ok(CommandResult::Waiting(waiting)) = listed else {
                continue;
            };
            for waiting in waiting
                .iter()
                .filter(|waiting| waiting.kind == WaitKind::Parked)
            {
                let function =
                    TypeName::parse(&waiting.function).map_err(|error| error.to_string())?;
                let address = Address::new(function, waiting.id.as_str());
                site.worker
                    .command(&Command::Retry(address))
                    .map_err(failed)?
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}
