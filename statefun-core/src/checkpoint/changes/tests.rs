//! Tests of change files, most of them on the simulated disk.

use std::collections::BTreeSet;

use super::*;
use crate::disk::{Crash, Fault, SimDisk};

const KINDS: [Crash; 2] = [Crash::Process, Crash::Power];

fn dir() -> PathBuf {
    PathBuf::from("/data/changes")
}

fn open(disk: &SimDisk) -> Result<ChangeLog, ChangeError> {
    let mut log = ChangeLog::open(Arc::new(disk.clone()), &dir())?;
    log.most_files = 5;
    Ok(log)
}

type Keys = BTreeSet<Vec<u8>>;

/// The keys that change in an epoch: some of them do so again and again.
fn keys_of_epoch(epoch: u64) -> Keys {
    (0..epoch % 4)
        .map(|n| vec![b' ', (epoch * n % 23) as u8, n as u8])
        .collect()
}

fn keys_of(after: u64, through: u64) -> Keys {
    (after + 1..=through).flat_map(keys_of_epoch).collect()
}

fn write(log: &ChangeLog, from: u64, to: u64) -> Result<(), ChangeError> {
    let mut writer = log.begin(from, to)?;
    for key in keys_of(from, to) {
        writer.push(&key)?;
    }
    writer.finish()
}

fn all_keys(log: &ChangeLog) -> Result<Keys, ChangeError> {
    let mut keys = log.keys(&log.files())?;
    let mut all = Keys::new();
    while let Some((key, value)) = keys.next_row()? {
        assert_eq!(value, None);
        all.insert(key.to_vec());
    }
    Ok(all)
}

#[derive(Debug, Clone, Copy)]
enum Op {
    /// The window of so many epochs.
    Write(u64),
    /// A window that is given up before it is applied: it is gathered again.
    Again(u64),
    Merge,
    /// A checkpoint of so many epochs before the last.
    Remove(u64),
    Reopen,
}

fn script(seed: u64, length: usize) -> Vec<Op> {
    let mut random = crate::rand::Random::seeded(seed);
    (0..length)
        .map(|_| match random.below(12) {
            0 => Op::Reopen,
            1 => Op::Remove(random.below(9)),
            2 | 3 => Op::Merge,
            4 => Op::Again(1 + random.below(4)),
            _ => Op::Write(1 + random.below(3)),
        })
        .collect()
}

/// What a user of the change files knows.
#[derive(Debug, Clone, Copy, Default)]
struct Model {
    /// The last epoch whose keys were written.
    last: u64,
    /// The epoch of the last checkpoint.
    checkpoint: u64,
}

impl Model {
    /// Whether what is there is right: everything since the checkpoint is covered, and nothing that is not there.
    fn check(&self, log: &ChangeLog) {
        assert!(log.covers(self.checkpoint, self.last), "keys are gone");
        let all = all_keys(log).unwrap();
        let end = self.last + 8;
        for after in 0..end {
            // What is covered further contains what is covered less far.
            if let Some(through) = (after + 1..=end).rev().find(|end| log.covers(after, *end)) {
                assert!(
                    all.is_superset(&keys_of(after, through)),
                    "keys of {after}..{through} are missing"
                );
            }
        }
        assert!(!log.covers(0, end + 1));
    }
}

/// Runs a script as far as it goes.
fn run(disk: &SimDisk, script: &[Op], model: &mut Model) -> Result<(), ChangeError> {
    let mut log = open(disk)?;
    for op in script {
        match *op {
            Op::Write(epochs) => {
                write(&log, model.last, model.last + epochs)?;
                model.last += epochs;
            }
            Op::Again(epochs) => write(&log, model.last, model.last + epochs)?,
            Op::Merge => {
                let (many, before) = (log.files().len() > log.most_files, all_keys(&log)?);
                if log.merge()? {
                    assert!(many);
                    assert_eq!(all_keys(&log)?, before);
                }
            }
            Op::Remove(back) => {
                let epoch = model.last.saturating_sub(back).max(model.checkpoint);
                model.checkpoint = epoch;
                let mut files = log.files();
                files.retain(|file| file.to <= epoch);
                log.remove(&files)?;
            }
            Op::Reopen => {
                drop(log);
                log = open(disk)?;
            }
        }
    }
    model.check(&log);
    Ok(())
}

fn steps_of(seed: u64, script: &[Op]) -> u64 {
    let (disk, mut model) = (SimDisk::new(seed), Model::default());
    for op in script {
        run(&disk, &[*op], &mut model).unwrap();
    }
    let disk = SimDisk::new(seed);
    run(&disk, script, &mut Model::default()).unwrap();
    disk.steps()
}

#[test]
fn a_crash_at_every_step() {
    for seed in 0..3 {
        let script = script(seed, 30);
        for step in 0..steps_of(seed, &script) {
            for kind in KINDS {
                let disk = SimDisk::new(seed);
                disk.crash_at(step);
                let mut model = Model::default();
                let outcome = run(&disk, &script, &mut model);
                assert!(outcome.is_err(), "seed {seed}, step {step}, {kind:?}");
                let disk = disk.crash(kind);
                let log = open(&disk).unwrap();
                model.check(&log);
                drop(log);
                // Work goes on, and a second crash changes nothing.
                for kind in KINDS {
                    let mut model = model;
                    run(&disk.fork().crash(kind), &script[..10], &mut model).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_fault_at_every_step() {
    for seed in 0..2 {
        let script = script(1_000 + seed, 30);
        for step in 0..steps_of(seed, &script) {
            for fault in [Fault::Io, Fault::NoSpace] {
                let disk = SimDisk::new(seed);
                disk.fail_at(step, fault);
                let mut model = Model::default();
                let mut failed = 0;
                for op in &script {
                    // Each is its own process: what a fault left is there when the next one begins.
                    while let Err(error) = run(&disk, &[*op], &mut model) {
                        let is_full = matches!(error, ChangeError::NoSpace { .. });
                        assert_eq!(is_full, fault == Fault::NoSpace, "{error}");
                        failed += 1;
                        assert!(failed < 2, "one fault, many errors");
                        model.check(&open(&disk).unwrap());
                    }
                }
                model.check(&open(&disk.crash(Crash::Power)).unwrap());
            }
        }
    }
}

#[test]
fn after_a_full_disk_the_same_is_written_again() {
    let disk = SimDisk::new(1);
    let log = open(&disk).unwrap();
    write(&log, 0, 3).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    for _ in 0..3 {
        let error = write(&log, 3, 9).unwrap_err();
        assert!(matches!(error, ChangeError::NoSpace { .. }), "{error}");
        assert!(log.covers(0, 3) && !log.covers(0, 4));
        assert_eq!(disk.list(&dir()).unwrap().len(), 1, "nothing is left of it");
    }
    disk.set_capacity(None);
    write(&log, 3, 9).unwrap();
    assert!(log.covers(0, 9));
    assert_eq!(all_keys(&log).unwrap(), keys_of(0, 9));
}

#[test]
fn a_gap_is_no_cover_and_is_not_merged_over() {
    let disk = SimDisk::new(1);
    let log = open(&disk).unwrap();
    for from in [0, 2, 4, 10, 12, 14, 20] {
        write(&log, from, from + 2).unwrap();
    }
    while log.merge().unwrap() {}
    assert!(log.files().len() <= 5);
    for (after, through, covered) in [(0, 6, true), (10, 16, true), (20, 22, true)] {
        assert_eq!(log.covers(after, through), covered);
        assert!(!log.covers(after, through + 1));
    }
    assert!(!log.covers(5, 11) && !log.covers(7, 8) && log.covers(7, 7));
}

#[test]
fn a_file_without_keys_counts() {
    let disk = SimDisk::new(1);
    let log = open(&disk).unwrap();
    log.begin(0, 5).unwrap().finish().unwrap();
    let log = open(&disk).unwrap();
    assert!(log.covers(0, 5));
    assert_eq!(all_keys(&log).unwrap(), Keys::new());
    // Dropped before it is finished, it does not.
    log.begin(5, 6).unwrap().push(b"a").unwrap();
    assert!(!log.covers(0, 6));
    assert_eq!(disk.list(&dir()).unwrap().len(), 1);
}

#[test]
fn damage_names_the_file() {
    let name = format!("{:020}-{:020}-{:010}-{}.keys", 0, 9, 0, keys_of(0, 9).len());
    let path = dir().join(&name);
    let disk = SimDisk::new(1);
    write(&open(&disk).unwrap(), 0, 9).unwrap();
    let bytes = disk.content(&path).unwrap().len() as u64;
    for offset in 0..bytes {
        disk.flip(&path, offset, 4);
        let error = all_keys(&open(&disk).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
        disk.flip(&path, offset, 4);
    }
    for length in 0..bytes {
        let disk = disk.fork();
        let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
        file.set_len(length).unwrap();
        let error = all_keys(&open(&disk).unwrap()).unwrap_err().to_string();
        assert!(error.contains(&name), "{error}");
    }
}

#[test]
fn a_long_file_is_written_piece_by_piece() {
    let disk = SimDisk::new(1);
    let log = open(&disk).unwrap();
    let mut random = crate::rand::Random::seeded(1);
    let mut writer = log.begin(0, 1).unwrap();
    let mut keys = Keys::new();
    for n in 0..300_000u32 {
        let chance = random.below(u64::MAX).to_be_bytes();
        let key = [&n.to_be_bytes()[..], &chance[..], &chance[..3]].concat();
        writer.push(&key).unwrap();
        assert!(writer.keys.ready_bytes() < 2 * WRITE_BYTES);
        keys.insert(key);
    }
    writer.finish().unwrap();
    assert!(all_keys(&log).unwrap() == keys);
    let files = log.files();
    let path = log.path(&files[0]);
    let bytes = disk.content(&path).unwrap();
    assert!(bytes.len() > 3 * WRITE_BYTES);
    let source = InFile::new("keys", disk.open(&path, OpenMode::Read).unwrap()).unwrap();
    let summary = PartReader::open(source).unwrap().verify().unwrap();
    assert_eq!(summary.bytes, bytes.len() as u64);
}

#[test]
fn other_files_are_left_alone() {
    let disk = SimDisk::new(1);
    drop(open(&disk).unwrap());
    for name in ["notes.txt", "1-2-3-4.keys", "0000000003.tmp", ".keys"] {
        disk.open(&dir().join(name), OpenMode::Create).unwrap();
    }
    assert_eq!(open(&disk).unwrap().files(), []);
    let expected = [".keys", "1-2-3-4.keys", "notes.txt"];
    assert_eq!(disk.list(&dir()).unwrap(), expected);
}
