//! The egress on a simulated disk, against a model of what its file must hold.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{Case, runtime, seeds};
use crate::disk::{Crash, Fault, SimDisk};
use crate::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use crate::io::file::FileEgress;
use crate::rand::Random;

pub(super) const PATH: &str = "/out/orders";
const KINDS: [Crash; 2] = [Crash::Process, Crash::Power];

#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    /// Releases an epoch with so many records of about so many bytes.
    Release(u64, u64),
    Flush,
    /// The position that was flushed last gets into the log.
    Log,
    /// The process ends and starts again.
    Restart,
}

fn script(seed: u64, length: usize) -> Vec<Op> {
    let mut random = Random::seeded(seed);
    (0..length)
        .map(|_| match random.below(16) {
            0..=3 => Op::Flush,
            4..=6 => Op::Log,
            7 => Op::Restart,
            8 => Op::Release(1, 9_000),
            9 => Op::Release(0, 0),
            10 => Op::Release(30, 20),
            _ => Op::Release(1 + random.below(4), 400),
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    Json,
    Csv,
}

pub(super) fn egress(disk: &SimDisk, path: &str, format: Format) -> FileEgress {
    let (format, columns) = match format {
        Format::Json => ("json", json!([])),
        Format::Csv => ("csv", json!(["id", "text"])),
    };
    let spec = json!({
        "id": "example/orders", "path": path, "format": format,
        "csv": {"delimiter": ",", "header": null, "columns": columns},
    });
    FileEgress::new(
        serde_json::from_value(spec).unwrap(),
        Arc::new(disk.clone()),
    )
}

pub(super) fn context(position: Option<Bytes>) -> EgressContext {
    EgressContext {
        id: "example/orders".to_owned(),
        position,
        lineage: 1,
        restored: false,
        runtime: runtime().handle().clone(),
        stopping: tokio::sync::watch::channel(false).1,
    }
}

pub(super) fn record(payload: String) -> EgressRecord {
    EgressRecord {
        trace: None,
        worker: 0,
        sequence: 0,
        typename: "example/Order",
        payload: payload.into(),
    }
}

/// What the engine knows: the epochs that are durable, and the position of the sink as the log has it.
#[derive(Clone)]
pub(super) struct Model {
    format: Format,
    random: Random,
    pub(super) epochs: Vec<Vec<EgressRecord>>,
    pub(super) lines: Vec<u8>,
    /// The number of epochs that the position is behind.
    flushed: (Option<Bytes>, usize),
    pub(super) logged: (Option<Bytes>, usize),
}

impl Model {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            random: Random::seeded(7),
            epochs: Vec::new(),
            lines: Vec::new(),
            flushed: (None, 0),
            logged: (None, 0),
        }
    }

    /// A durable epoch.
    pub(super) fn release(&mut self, count: u64, bytes: u64) {
        let mut records = Vec::new();
        for _ in 0..count {
            let id = self.random.below(1_000);
            let text = "x".repeat(self.random.below(bytes + 1) as usize);
            if self.lines.is_empty() && self.format == Format::Csv {
                self.lines.extend_from_slice(b"id,text\n");
            }
            match self.format {
                Format::Json => {
                    let line = format!("{{\"id\":{id},\"text\":\"{text}\"}}");
                    self.lines.extend_from_slice(line.as_bytes());
                    records.push(record(line));
                }
                Format::Csv => {
                    self.lines
                        .extend_from_slice(format!("{id},\"{text}\"\"\"").as_bytes());
                    records.push(record(format!("{{\"text\":\"{text}\\\"\",\n\"id\":{id}}}")));
                }
            }
            self.lines.push(b'\n');
        }
        self.epochs.push(records);
    }

    pub(super) fn check(&self, disk: &SimDisk) {
        let found = disk.content(Path::new(PATH)).unwrap_or_default();
        assert!(
            found == self.lines,
            "the file has {} bytes, the model {}; they differ from offset {:?} on",
            found.len(),
            self.lines.len(),
            found
                .iter()
                .zip(&self.lines)
                .position(|(found, expected)| found != expected)
        );
    }

    /// Starts the egress, and delivers again what the log does not know to be safe.
    pub(super) fn start(&self, disk: &SimDisk) -> Result<FileEgress, EgressError> {
        let mut egress = egress(disk, PATH, self.format);
        egress.open(&context(self.logged.0.clone()))?;
        for epoch in self.logged.1..self.epochs.len() {
            deliver(&mut egress, epoch, &self.epochs[epoch])?;
        }
        egress.replayed()?;
        self.check(disk);
        Ok(egress)
    }
}

/// Delivers an epoch, a few times when that may help.
fn deliver(
    egress: &mut FileEgress,
    epoch: usize,
    records: &[EgressRecord],
) -> Result<(), EgressError> {
    let mut tries = 0;
    loop {
        match egress.deliver(epoch as u64, records) {
            Err(error) if error.transient && tries < 3 => tries += 1,
            outcome => return outcome,
        }
    }
}

/// Runs a script as far as it goes; the process ends then, and the machine may.
pub(super) fn run(disk: &SimDisk, script: &[Op], model: &mut Model) -> Result<(), EgressError> {
    let mut egress = model.start(disk)?;
    for op in script {
        match *op {
            Op::Release(count, bytes) => {
                model.release(count, bytes);
                let epoch = model.epochs.len() - 1;
                deliver(&mut egress, epoch, &model.epochs[epoch])?;
                model.check(disk);
            }
            Op::Flush => model.flushed = (Some(egress.flush()?), model.epochs.len()),
            Op::Log => model.logged = model.flushed.clone(),
            Op::Restart => {
                model.flushed = model.logged.clone();
                egress = model.start(disk)?;
            }
        }
    }
    Ok(())
}

pub(super) fn disk_with_directory(seed: u64) -> SimDisk {
    SimDisk::new(seed)
}

fn steps_of(seed: u64, format: Format, script: &[Op]) -> u64 {
    let disk = disk_with_directory(seed);
    run(&disk, script, &mut Model::new(format)).unwrap();
    disk.steps()
}

/// What comes after a crash: everything is there once, stays there, and goes on.
fn recovers(disk: &SimDisk, model: &mut Model, more: &[Op]) {
    // What was flushed but not logged is forgotten.
    model.flushed = model.logged.clone();
    run(disk, &[Op::Flush], model).unwrap();
    // Flushed is safe, whatever happened before.
    let disk = disk.crash(Crash::Power);
    model.check(&disk);
    model.flushed = model.logged.clone();
    run(&disk, more, model).unwrap();
    model.check(&disk);
}

#[test]
fn a_crash_at_every_step() {
    for format in [Format::Json, Format::Csv] {
        for seed in seeds(8) {
            let script = script(seed, 40);
            for step in 0..steps_of(seed, format, &script) {
                for kind in KINDS {
                    let _case = Case(format!("{format:?}, seed {seed}, step {step}, {kind:?}"));
                    let disk = disk_with_directory(seed);
                    disk.crash_at(step);
                    let mut model = Model::new(format);
                    run(&disk, &script, &mut model).unwrap_err();
                    recovers(&disk.crash(kind), &mut model, &script[..10]);
                }
            }
        }
    }
}

#[test]
fn a_crash_at_every_step_of_the_start_after_a_crash() {
    for seed in seeds(3) {
        let script = script(1_000 + seed, 25);
        for step in 0..steps_of(seed, Format::Csv, &script) {
            for first in KINDS {
                let disk = disk_with_directory(seed);
                disk.crash_at(step);
                let mut model = Model::new(Format::Csv);
                run(&disk, &script, &mut model).unwrap_err();
                model.flushed = model.logged.clone();
                let disk = disk.crash(first);
                let undisturbed = disk.fork();
                run(&undisturbed, &[Op::Flush], &mut model.clone()).unwrap();
                for second_step in 0..undisturbed.steps() {
                    for second in KINDS {
                        let _case = Case(format!(
                            "seed {seed}, step {step}, {first:?}, then step {second_step}, {second:?}"
                        ));
                        let disk = disk.fork();
                        disk.crash_at(second_step);
                        let mut model = model.clone();
                        run(&disk, &[Op::Flush], &mut model).unwrap_err();
                        recovers(&disk.crash(second), &mut model, &script[..5]);
                    }
                }
            }
        }
    }
}

#[test]
fn many_crashes_one_after_the_other() {
    for seed in seeds(60) {
        let _case = Case(format!("seed {seed}"));
        let mut random = Random::seeded(seed);
        let mut disk = disk_with_directory(seed);
        let mut model = Model::new(if seed % 2 == 0 {
            Format::Json
        } else {
            Format::Csv
        });
        for _ in 0..25 {
            disk.crash_at(random.below(40));
            if run(&disk, &script(random.next_u64(), 12), &mut model).is_err() {
                assert!(disk.is_down());
            }
            model.flushed = model.logged.clone();
            disk = disk.crash(KINDS[random.below(2) as usize]);
        }
        recovers(&disk, &mut model, &[]);
    }
}

#[test]
fn a_fault_at_every_step() {
    for seed in seeds(4) {
        let script = script(2_000 + seed, 40);
        for step in 0..steps_of(seed, Format::Json, &script) {
            for fault in [Fault::Io, Fault::NoSpace] {
                let _case = Case(format!("seed {seed}, step {step}, {fault:?}"));
                let disk = disk_with_directory(seed);
                disk.fail_at(step, fault);
                let mut model = Model::new(Format::Json);
                // A failed sync may have lost what it did not sync, although it can still be read: the process ends, and
                // what it released is written again.
                let _ = run(&disk, &script, &mut model);
                recovers(&disk.crash(Crash::Process), &mut model, &script[..5]);
            }
        }
    }
}

#[test]
fn a_full_disk_leaves_no_torn_record_and_goes_on() {
    for seed in seeds(20) {
        let _case = Case(format!("seed {seed}"));
        let mut random = Random::seeded(seed);
        let disk = disk_with_directory(seed);
        let mut model = Model::new(Format::Json);
        model.release(3, 500);
        let mut egress = model.start(&disk).unwrap();
        for _ in 0..20 {
            disk.set_capacity(Some(disk.used_bytes() + random.below(4) * 512));
            let before = model.lines.clone();
            model.release(1 + random.below(6), 900);
            let epoch = model.epochs.len() - 1;
            for _ in 0..random.below(3) {
                match egress.deliver(epoch as u64, &model.epochs[epoch]) {
                    Ok(()) => model.check(&disk),
                    Err(error) => {
                        assert!(error.transient, "{error}");
                        assert!(error.to_string().contains("make room"), "{error}");
                        assert!(
                            disk.content(Path::new(PATH)).unwrap() == before,
                            "a torn record"
                        );
                    }
                }
                if model.lines.len() as u64 == disk.content(Path::new(PATH)).unwrap().len() as u64 {
                    break;
                }
            }
            disk.set_capacity(None);
            if disk.content(Path::new(PATH)).unwrap() == before {
                egress.deliver(epoch as u64, &model.epochs[epoch]).unwrap();
            }
            model.check(&disk);
            if random.below(3) == 0 {
                model.logged = (Some(egress.flush().unwrap()), model.epochs.len());
            }
            if random.below(5) == 0 {
                egress = model
                    .start(&disk.fork())
                    .and_then(|_| model.start(&disk))
                    .unwrap();
            }
        }
    }
}

#[test]
fn an_epoch_of_several_writes_is_taken_back_as_a_whole() {
    let disk = disk_with_directory(1);
    let mut model = Model::new(Format::Csv);
    model.release(2, 10);
    let mut egress = model.start(&disk).unwrap();
    let before = model.lines.clone();
    model.release(40, 200_000);
    assert!(model.lines.len() > 3 << 20);
    for free in [0, 1 << 20, 2 << 20, 3 << 20] {
        disk.set_capacity(Some(disk.used_bytes() + free));
        assert!(egress.deliver(1, &model.epochs[1]).unwrap_err().transient);
        assert!(disk.content(Path::new(PATH)).unwrap() == before);
    }
    disk.set_capacity(None);
    // The failed write is brought back before the next one, even when that could not be done at once.
    for step in 1..4 {
        disk.fail_at(disk.steps() + step, Fault::NoSpace);
        disk.fail_at(disk.steps() + step + 1, Fault::Io);
        assert!(egress.deliver(1, &model.epochs[1]).unwrap_err().transient);
    }
    egress.deliver(1, &model.epochs[1]).unwrap();
    model.check(&disk);
    let position = egress.flush().unwrap();
    model.logged = (Some(position), 2);
    let disk = disk.crash(Crash::Power);
    model.check(&disk);
    model.start(&disk).unwrap();
}
