//! Going down, and starting again from what is on disk and in the store: the real runtime's procedure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::clock::{Timestamp, WallClock};
use crate::disk::Crash;
use crate::engine::apply::catch_up;
use crate::engine::commit::GroupCommit;
use crate::engine::cut::EpochBody;
use crate::engine::envelope::Envelope;
use crate::engine::shared::{EngineError, Shared};
use crate::engine::worker::{Worker, WorkerSetup};
use crate::log::{EpochLog, LogError, OpenOptions};
use crate::rand::Random;
use crate::simulation::applying::Applying;
use crate::simulation::plan::mix;
use crate::simulation::process::{Process, Site, clock, now};
use crate::simulation::sink::{EGRESSES, Sinks};
use crate::simulation::workload::world;
use crate::simulation::{Mutant, Sim, Stop};
use crate::state::{StateReader, StateStore};

const LINEAGE: u64 = 7;

impl Sim {
    /// The machine or the process is gone.
    pub(super) fn go_down(&mut self, crash: Crash) -> Result<(), String> {
        self.trace.note(format_args!("down: {crash:?}"));
        self.restarts += 1;
        self.ended = Some(crash);
        self.disk = self.disk.crash(crash);
        self.check_files(false)?;
        self.store.crash(crash).map_err(|error| error.to_string())?;
        self.clients.disconnect();
        // The clock of another start may be behind.
        if self.one_in(2) {
            self.wall = Timestamp(self.wall.as_ms().saturating_sub(self.random.below(8_000)));
        }
        Ok(())
    }

    /// Starts again, as often as it takes.
    pub(super) fn restart(&mut self) -> Result<Process, String> {
        let workers = 1 + self.random.below(4) as usize;
        for _ in 0..200 {
            if !self.calm && self.restarts > 0 {
                match self.random.below(6) {
                    0 => {
                        let step = self.disk.steps() + self.random.below(12);
                        self.disk.crash_at(step);
                    }
                    1 => {
                        let after = self.one_in(2);
                        self.store.crash_at_apply(after);
                    }
                    _ => {}
                }
            }
            match self.start(workers) {
                Ok(process) => return Ok(process),
                Err(Stop::Violation(problem)) if !self.disk.is_down() => return Err(problem),
                Err(Stop::Violation(_)) => self.go_down(Crash::Power)?,
                Err(Stop::Down(crash)) => self.go_down(crash)?,
            }
        }
        Err("it does not start".to_owned())
    }

    fn start(&mut self, workers: usize) -> Result<Process, Stop> {
        self.attempt += 1;
        world(|world| world.attempt = self.attempt);
        let applied = self.store.applied_epoch()?;
        let options = OpenOptions {
            applied_epoch: applied,
            segment_bytes: self.shape.segment_bytes,
            first_segment_bytes: 8 << 10,
            background: false,
            filling: self.shape.filling,
            ..OpenOptions::new(LINEAGE)
        };
        let mut last: Option<Vec<u8>> = None;
        let known = self.model.last_epoch;
        let mut found = Vec::new();
        let opened = EpochLog::open(
            Arc::new(self.disk.clone()),
            "/data/log",
            &options,
            &mut |record| {
                found.push((record.epoch, record.body.to_vec()));
                Ok::<(), std::convert::Infallible>(())
            },
        );
        let recovered = match opened {
            Ok(recovered) => recovered,
            Err(error) if self.disk.is_down() => {
                self.trace
                    .note(format_args!("down while the log is opened: {error}"));
                return Err(Stop::Down(Crash::Power));
            }
            Err(LogError::NoSpace { .. } | LogError::Io { .. } | LogError::Poisoned { .. })
                if self.faulty =>
            {
                self.disk.set_capacity(None);
                return Err(Stop::Down(Crash::Process));
            }
            Err(error) => {
                return Err(Stop::Violation(format!(
                    "after a crash ({:?}) the store has epoch {applied}, and the log cannot be opened: {error}",
                    self.ended
                )));
            }
        };
        let log = recovered.log;
        let last_epoch = log.last_epoch();
        if last_epoch < known || last_epoch > known + 1 {
            return Err(Stop::Violation(format!(
                "the log ends with epoch {last_epoch}, and epoch {known} was durable"
            )));
        }
        let count = self.workers_then;
        for (epoch, body) in found {
            self.model.found(epoch, &body, count)?;
            if epoch == last_epoch {
                last = Some(body);
            }
        }
        self.trace.note(format_args!(
            "start {} with {workers} workers behind epoch {last_epoch}, applied {applied}",
            self.attempt
        ));
        let body = match &last {
            Some(body) => {
                Some(EpochBody::parse(body).ok_or("the last body is malformed".to_owned())?)
            }
            None if last_epoch == 0 => None,
            None => {
                return Err(Stop::Violation(format!(
                    "the record of the last epoch, {last_epoch}, is gone"
                )));
            }
        };
        let caught_up = catch_up(&*self.store, &log.reader(), applied, 4 << 10, |_| {});
        let applied = match caught_up {
            Err(EngineError::Log(error)) if !self.disk.is_down() => {
                return Err(Stop::Violation(format!(
                    "after a crash ({:?}) the store has epoch {applied}, and what follows is lost: {error}",
                    self.ended
                )));
            }
            caught_up => caught_up?,
        };
        if applied != last_epoch {
            return Err(Stop::Violation(format!(
                "caught up to epoch {applied} of {last_epoch}"
            )));
        }
        let rows = self.store.all()?;
        if let Some(problem) = difference(&rows, &self.model.rows) {
            return Err(Stop::Violation(format!(
                "the store is not what the log says: {problem}"
            )));
        }
        self.model.dropped.retain(|(epoch, _)| *epoch <= last_epoch);
        let clock = clock(body.as_ref().map_or(Timestamp(0), |body| body.time));
        let now = now(self.wall, &clock);
        let workers_list = self.workers(workers, last_epoch, body.as_ref(), now)?;
        self.workers_then = workers;
        self.begin(log, workers_list, last_epoch, body.as_ref(), clock)
    }

    /// The workers, with all that was carried before any of them works.
    fn workers(
        &mut self,
        workers: usize,
        last_epoch: u64,
        body: Option<&EpochBody<'_>>,
        now: Timestamp,
    ) -> Result<Vec<Worker>, Stop> {
        let groups = self.registry.key_groups;
        let mut carried: Vec<Vec<Envelope>> = (0..workers).map(|_| Vec::new()).collect();
        for section in body
            .map(|body| body.sections.as_slice())
            .unwrap_or_default()
        {
            let mut bytes = Bytes::copy_from_slice(section.carried);
            while !bytes.is_empty() {
                let envelope = Envelope::decode(&mut bytes, &self.registry)
                    .map_err(|error| error.to_string())?;
                let owner = groups.owner(envelope.to.key_group(groups), workers);
                if self.mutant(Mutant::DoubleCarried) && self.one_in(4) {
                    carried[owner].push(envelope.clone());
                }
                if !(self.mutant(Mutant::LoseCarried) && self.one_in(4)) {
                    carried[owner].push(envelope);
                }
            }
        }
        let store_is_empty = self
            .store
            .scan(&[crate::state::keys::Space::State as u8], &[], 1)?
            .is_empty();
        let mut list = Vec::new();
        for (index, carried) in carried.into_iter().enumerate() {
            let mut worker = Worker::new(WorkerSetup {
                index,
                workers,
                registry: self.registry.clone(),
                store: self.store.clone(),
                last_epoch,
                applied_epoch: last_epoch,
                store_is_empty,
                cache_bytes: self.shape.cache_bytes,
                seed: self.random.next_u64(),
                watched: None,
                meter: Arc::new(crate::metrics::meter::WorkerMeter::new(&self.registry)),
                measures: true,
            })?;
            if let Some(tracer) = &self.tracer {
                // By a generator of its own, so that a seed says the same with and without it.
                let seed = mix(self.attempt, index as u64);
                worker.trace_with(tracer.clone(), Random::seeded(seed));
            }
            worker.recover(carried, now)?;
            list.push(worker);
        }
        Ok(list)
    }

    fn begin(
        &mut self,
        log: EpochLog,
        workers: Vec<Worker>,
        last_epoch: u64,
        body: Option<&EpochBody<'_>>,
        clock: WallClock,
    ) -> Result<Process, Stop> {
        let groups = self.registry.key_groups;
        let count = workers.len();
        let readers = self.readers(|address| {
            let owner = groups.owner(address.key_group(groups), count);
            Ok(workers[owner].position(address)?)
        })?;
        let sinks = body.map(|body| body.sinks.clone()).unwrap_or_default();
        let (reader, retention) = (log.reader(), log.retention());
        let repeats = self.mutant(Mutant::SinkDoubles);
        let running = match Sinks::open(
            (&self.disk, &self.registry),
            &reader,
            &sinks,
            LINEAGE,
            repeats,
        ) {
            Ok(running) => running,
            Err(_) if self.disk.is_down() || self.faulty => {
                self.disk.set_capacity(None);
                return Err(Stop::Down(Crash::Process));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(stopped_at) = self.stopped_at.take() {
            let known = sinks.iter().filter(|sink| sink.through_epoch >= stopped_at);
            if known.count() < EGRESSES.len() {
                return Err(Stop::Violation(format!(
                    "a clean stop delivered all of epoch {stopped_at}, and the log has {sinks:?}"
                )));
            }
        }
        self.clients.check(&self.model)?;
        for (partition, number) in std::mem::take(&mut *self.acked.lock().unwrap()) {
            self.check_ack(partition, number)?;
        }
        self.acked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared::new(count, last_epoch, last_epoch));
        let applying = Applying::new(
            &self.shape,
            &self.store,
            &shared,
            (reader.clone(), retention.clone()),
            (count, last_epoch),
            self.mutant(Mutant::ApplyLosesRow),
        );
        let mut process = Process {
            channels: (0..count)
                .map(|_| (0..count).map(|_| VecDeque::new()).collect())
                .collect(),
            sites: workers.into_iter().map(Site::new).collect(),
            requested: last_epoch + 1,
            durable: last_epoch,
            shared,
            applying,
            parts: (0..count).map(|_| VecDeque::new()).collect(),
            commit: GroupCommit::new(log, count, &EGRESSES.map(str::to_owned), sinks),
            writing: None,
            written: None,
            released: None,
            log: reader,
            retention,
            reads: Vec::new(),
            looks: Vec::new(),
            looked: Vec::new(),
            running: Vec::new(),
            readers,
            acked: self.acked.clone(),
            sinks: running,
            out: last_epoch,
            clock,
        };
        for index in 0..count {
            Self::end(&mut process, index);
        }
        Ok(process)
    }
}

fn difference(
    rows: &[crate::state::Row],
    model: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
) -> Option<String> {
    let stored = rows.iter().map(|(key, value)| (key, value));
    if stored.eq(model.iter()) {
        return None;
    }
    let missing = model.iter().find(|(key, value)| {
        rows.binary_search_by(|row| row.0.cmp(key))
            .map(|at| &rows[at].1)
            != Ok(*value)
    });
    let more = rows.iter().find(|(key, _)| !model.contains_key(key));
    Some(format!(
        "missing or other {:?}, more {:?}",
        missing.map(|row| row.0),
        more.map(|row| &row.0)
    ))
}
