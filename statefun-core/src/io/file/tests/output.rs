//! The egress on a simulated disk, against a model of what its file must hold.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{Case, runtime, seeds};
use crate::disk::{Crash, Disk, Fault, OpenMode, SimDisk};
use crate::io::egress::{Egress, EgressContext, EgressError, EgressRecord};
use crate::io::file::FileEgress;
use crate::rand::Random;

const PATH: &str = "/out/orders";
const KINDS: [Crash; 2] = [Crash::Process, Crash::Power];

#[derive(Debug, Clone, Copy)]
enum Op {
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
enum Format {
    Json,
    Csv,
}

fn egress(disk: &SimDisk, path: &str, format: Format) -> FileEgress {
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

fn context(position: Option<Bytes>) -> EgressContext {
    EgressContext {
        id: "example/orders".to_owned(),
        position,
        lineage: 1,
        runtime: runtime().handle().clone(),
        stopping: tokio::sync::watch::channel(false).1,
    }
}

fn record(payload: String) -> EgressRecord {
    EgressRecord {
        worker: 0,
        sequence: 0,
        typename: "example/Order",
        payload: payload.into(),
    }
}

/// What the engine knows: the epochs that are durable, and the position of the sink as the log has it.
#[derive(Clone)]
struct Model {
    format: Format,
    random: Random,
    epochs: Vec<Vec<EgressRecord>>,
    lines: Vec<u8>,
    /// The number of epochs that the position is behind.
    flushed: (Option<Bytes>, usize),
    logged: (Option<Bytes>, usize),
}

impl Model {
    fn new(format: Format) -> Self {
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
    fn release(&mut self, count: u64, bytes: u64) {
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

    fn check(&self, disk: &SimDisk) {
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
    fn start(&self, disk: &SimDisk) -> Result<FileEgress, EgressError> {
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
fn run(disk: &SimDisk, script: &[Op], model: &mut Model) -> Result<(), EgressError> {
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

fn disk_with_directory(seed: u64) -> SimDisk {
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

/// A file with one epoch logged and one that is not, and the engine's model of it.
fn stopped(format: Format) -> (SimDisk, Model) {
    let disk = disk_with_directory(5);
    let mut model = Model::new(format);
    let release = Op::Release(3, 100);
    run(&disk, &[release, Op::Flush, Op::Log, release], &mut model).unwrap();
    (disk, model)
}

fn write(disk: &SimDisk, offset: u64, bytes: &[u8]) {
    disk.open(Path::new(PATH), OpenMode::Create)
        .unwrap()
        .write_at(bytes, offset)
        .unwrap();
}

fn set_len(disk: &SimDisk, bytes: u64) {
    disk.open(Path::new(PATH), OpenMode::ReadWrite)
        .unwrap()
        .set_len(bytes)
        .unwrap();
}

fn refused(disk: &SimDisk, model: &Model, parts: &[&str]) {
    let before = disk.content(Path::new(PATH));
    let error = model.start(disk).unwrap_err();
    assert!(!error.transient);
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
    assert_eq!(
        disk.content(Path::new(PATH)),
        before,
        "what is not understood is left as it is"
    );
}

#[test]
fn what_nobody_can_have_written_is_an_error_and_stays() {
    let (disk, model) = stopped(Format::Json);
    let end = model.lines.len() as u64;

    // Behind the end.
    let foreign = disk.fork();
    write(&foreign, end, b"{}\n");
    let cut = format!("truncate -s {end} {PATH}");
    refused(
        &foreign,
        &model,
        &[
            PATH,
            &format!("3 bytes from offset {end} on"),
            "nobody else may write",
            &cut,
        ],
    );
    // The error says how to go on.
    set_len(&foreign, end);
    model.start(&foreign).unwrap();

    // Among what comes again, although followed by it.
    let foreign = disk.fork();
    write(&foreign, end - 20, b"?");
    refused(
        &foreign,
        &model,
        &[&format!("20 bytes from offset {} on", end - 20)],
    );
    set_len(&foreign, end - 20);
    model.start(&foreign).unwrap();

    // Zeros are what a crash leaves of a write, but not behind all that was written.
    let torn = disk.fork();
    write(&torn, end - 20, &[0; 20]);
    model.start(&torn).unwrap();
    let foreign = disk.fork();
    write(&foreign, end, &[0; 20]);
    refused(&foreign, &model, &["20 bytes from offset"]);
}

#[test]
fn a_file_that_is_not_the_one_written_before_is_an_error() {
    for format in [Format::Json, Format::Csv] {
        let (disk, model) = stopped(format);
        let position: serde_json::Value =
            serde_json::from_slice(model.logged.0.as_ref().unwrap()).unwrap();
        let offset = position["offset"].as_u64().unwrap();

        let missing = disk.fork();
        missing.remove(Path::new(PATH)).unwrap();
        refused(
            &missing,
            &model,
            &[
                "is missing",
                &format!("{offset} bytes"),
                "put it back",
                "another `path`",
            ],
        );
        assert!(
            !missing.exists(Path::new(PATH)).unwrap(),
            "no empty file in its place"
        );

        let shorter = disk.fork();
        set_len(&shorter, offset - 1);
        refused(
            &shorter,
            &model,
            &[&format!("has {} bytes, although {offset}", offset - 1)],
        );

        let other = disk.fork();
        other.flip(Path::new(PATH), offset - 5, 1);
        refused(
            &other,
            &model,
            &["another file", &format!("before offset {offset}")],
        );
    }
    let (disk, mut model) = stopped(Format::Csv);
    model.logged.0 = Some(Bytes::from_static(b"\x01\x02"));
    refused(&disk, &model, &["position", "cannot be read"]);
}

#[test]
fn a_first_start_refuses_a_file_with_content() {
    let disk = disk_with_directory(5);
    disk.create_dir_all(Path::new("/out")).unwrap();
    write(&disk, 0, b"{\"of\":\"someone\"}\n");
    let mut model = Model::new(Format::Json);
    refused(
        &disk,
        &model,
        &["17 bytes from offset 0 on", "Move it away"],
    );
    model.release(1, 5);
    refused(&disk, &model, &["from offset 2 on", "Move it away"]);
    // A file that is there but empty is no obstacle.
    set_len(&disk, 0);
    model.start(&disk).unwrap();
}

#[test]
fn others_who_write_are_noticed_while_it_runs() {
    let (disk, mut model) = stopped(Format::Json);
    let mut egress = model.start(&disk).unwrap();
    model.release(1, 5);
    let end = disk.content(Path::new(PATH)).unwrap().len() as u64;
    write(&disk, end, b"x");
    let error = egress.deliver(2, &model.epochs[2]).unwrap_err();
    assert!(
        !error.transient && error.to_string().contains("nobody else"),
        "{error}"
    );
    set_len(&disk, end);
    egress.deliver(2, &model.epochs[2]).unwrap();
    disk.rename(Path::new(PATH), Path::new("/out/elsewhere"))
        .unwrap();
    let error = egress.flush().unwrap_err();
    assert!(error.to_string().contains("renamed or removed"), "{error}");
}

#[test]
fn another_path_begins_a_new_file() {
    let (disk, model) = stopped(Format::Csv);
    let mut egress = egress(&disk, "./out/second", Format::Csv);
    disk.create_dir_all(Path::new("out")).unwrap();
    egress.open(&context(model.logged.0.clone())).unwrap();
    egress.replayed().unwrap();
    egress
        .deliver(2, &[record("{\"id\":1,\"text\":\"a\"}".to_owned())])
        .unwrap();
    let position = egress.flush().unwrap();
    assert_eq!(
        disk.content(Path::new("out/second")).unwrap(),
        b"id,text\n1,a\n"
    );
    // The same path, written in another way, is the same file.
    let mut egress = self::egress(&disk, "out/second", Format::Csv);
    egress.open(&context(Some(position))).unwrap();
    egress.replayed().unwrap();
    model.check(&disk);
}

#[test]
fn other_columns_need_another_file() {
    let (disk, model) = stopped(Format::Csv);
    let spec = json!({
        "id": "example/orders", "path": PATH, "format": "csv",
        "csv": {"delimiter": ",", "header": true, "columns": ["id", "amount"]},
    });
    let mut egress = FileEgress::new(
        serde_json::from_value(spec).unwrap(),
        Arc::new(disk.clone()),
    );
    let error = egress.open(&context(model.logged.0.clone())).unwrap_err();
    assert!(
        error.to_string().contains("other columns than `id,amount`"),
        "{error}"
    );
}

#[test]
fn a_payload_that_is_no_line_names_its_record() {
    let (disk, model) = stopped(Format::Json);
    let mut egress = model.start(&disk).unwrap();
    let good = record("{}".to_owned());
    let bad = EgressRecord {
        worker: 3,
        sequence: 7,
        ..record("not JSON".to_owned())
    };
    let error = egress.deliver(9, &[good, bad]).unwrap_err();
    assert!(!error.transient);
    assert!(
        error
            .to_string()
            .contains("record 7 of worker 3 in epoch 9 (`example/Order`)"),
        "{error}"
    );
    assert!(FileEgress::new(serde_json::from_value(json!({
        "id": "a/b", "path": "x", "format": "json", "csv": {"delimiter": ",", "header": null, "columns": []},
    })).unwrap(), Arc::new(disk)).flush().is_err(), "it was not opened");
}

#[test]
fn nothing_to_do_touches_nothing() {
    let (disk, model) = stopped(Format::Json);
    let mut egress = model.start(&disk).unwrap();
    let first = egress.flush().unwrap();
    let steps = disk.steps();
    egress.deliver(5, &[]).unwrap();
    assert_eq!(egress.flush().unwrap(), first);
    assert_eq!(disk.steps(), steps);
}
