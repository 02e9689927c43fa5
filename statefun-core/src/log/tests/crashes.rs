//! Crashes at every step, against a model of what must be found afterwards.

use super::{Case, Random, body, dir, open, options, seeds};
use crate::disk::{Crash, Disk, Fault, SimDisk};
use crate::log::{Filling, LogError, OpenOptions, Recovered};

#[derive(Debug, Clone, Copy)]
enum Op {
    Append(usize),
    /// Releases through this many epochs before the last.
    Release(u64),
    Reopen,
    /// Reads back from this many epochs before the last.
    Read(u64),
}

const KINDS: [Crash; 2] = [Crash::Process, Crash::Power];

fn script(seed: u64, length: usize) -> Vec<Op> {
    let mut random = Random(seed);
    (0..length)
        .map(|_| match random.below(20) {
            0 | 1 => Op::Reopen,
            2..=4 => Op::Release(random.below(6)),
            5 | 6 => Op::Read(random.below(8)),
            7 => Op::Append(random.below(12_000) as usize),
            8 => Op::Append(0),
            // The same size again and again, so that stale records lie where new ones begin.
            9..=14 => Op::Append(900),
            _ => Op::Append(random.below(2_500) as usize),
        })
        .collect()
}

/// What a user of the log knows.
#[derive(Clone, Default)]
struct Model {
    /// All epochs acknowledged, from 1 on.
    acknowledged: Vec<Vec<u8>>,
    /// What was being appended when an append did not return `Ok`: nothing, or every try for the next epoch.
    tried: Vec<Vec<u8>>,
    released: u64,
    attempt: u64,
    /// Segments are set aside instead of filled.
    reserve: bool,
}

impl Model {
    fn of(seed: u64) -> Self {
        Self {
            reserve: seed % 2 == 1,
            ..Self::default()
        }
    }

    fn last(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    fn options(&self) -> OpenOptions {
        OpenOptions {
            // What was released is in the state store.
            applied_epoch: self.released,
            filling: if self.reserve {
                Filling::Never
            } else {
                Filling::Always
            },
            ..options()
        }
    }

    /// Whether what was found is right; it is the truth from now on.
    fn found(&mut self, recovered: &Recovered, found: &[(u64, Vec<u8>)]) {
        assert_eq!(
            recovered.first_epoch,
            found.first().map(|(epoch, _)| *epoch)
        );
        assert_eq!(
            recovered.attempt,
            self.attempt + 1,
            "attempts count the starts"
        );
        self.attempt += 1;
        if found.is_empty() {
            // Everything may have been released, but for the newest record's segment.
            assert!(self.last() == 0 || recovered.last_epoch == self.last());
            assert!(self.released >= self.last(), "unreleased epochs are gone");
        }
        for pair in found.windows(2) {
            assert_eq!(pair[0].0 + 1, pair[1].0, "a hole");
        }
        if let Some((first, _)) = found.first() {
            assert!(*first <= self.released + 1, "unreleased epochs are gone");
        }
        assert!(
            recovered.last_epoch >= self.last(),
            "an acknowledged epoch is gone"
        );
        assert!(
            recovered.last_epoch <= self.last() + 1,
            "more than was ever written"
        );
        for (epoch, body) in found {
            if let Some(expected) = self.acknowledged.get(*epoch as usize - 1) {
                assert!(expected == body, "epoch {epoch} has changed");
            } else {
                assert!(
                    self.tried.contains(body),
                    "epoch {epoch} was never written like that"
                );
                self.acknowledged.push(body.clone());
            }
        }
        assert_eq!(recovered.last_epoch, self.last());
        self.tried.clear();
    }
}

/// Runs a script as far as it goes. Errors other than those of a fault, or of the machine being down, fail the test.
fn run(disk: &SimDisk, script: &[Op], model: &mut Model) -> Result<(), LogError> {
    let (recovered, found) = open(disk, &model.options())?;
    model.found(&recovered, &found);
    let mut log = recovered.log;
    for op in script {
        match *op {
            Op::Append(size) => {
                let epoch = model.last() + 1;
                let mut tries = 0;
                loop {
                    // Another body each time, as a retry may have.
                    let body = body(epoch, model.attempt + tries, size + tries as usize * 300);
                    model.tried.push(body.clone());
                    let (head, tail) = body.split_at(size / 2);
                    match log.append(epoch, &[head, tail]) {
                        Ok(_) => {
                            model.tried.clear();
                            model.acknowledged.push(body);
                            break;
                        }
                        Err(LogError::NoSpace { .. }) if tries < 3 => tries += 1,
                        Err(error) => return Err(error),
                    }
                }
            }
            Op::Release(back) => {
                let through = model.last().saturating_sub(back);
                // Released is what the state store holds, which the marker tells at the next start.
                model.released = model.released.max(through);
                log.retention().release_through(through);
            }
            Op::Reopen => {
                drop(log);
                let (recovered, found) = open(disk, &model.options())?;
                model.found(&recovered, &found);
                log = recovered.log;
            }
            Op::Read(back) => {
                let from = (model.last() + 1).saturating_sub(back).max(1);
                match log.reader().read_from(from, 2_000) {
                    Ok(read) => {
                        for (at, logged) in read.iter().enumerate() {
                            assert_eq!(logged.epoch, from + at as u64);
                            assert!(model.acknowledged[logged.epoch as usize - 1] == logged.body);
                        }
                        assert_eq!(read.is_empty(), from > model.last());
                    }
                    Err(LogError::Released { .. }) => assert!(from <= model.released),
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}

fn steps_of(seed: u64, script: &[Op]) -> u64 {
    let disk = SimDisk::new(seed);
    run(&disk, script, &mut Model::of(seed)).unwrap();
    disk.steps()
}

/// Runs the script with a crash at the step; gives the disk found and the model.
fn crashed(seed: u64, script: &[Op], step: u64, kind: Crash) -> (SimDisk, Model) {
    let disk = SimDisk::new(seed);
    disk.crash_at(step);
    let mut model = Model::of(seed);
    // A crash in the tidying up at the very end goes unnoticed by the script.
    let _ = run(&disk, script, &mut model);
    assert!(disk.is_down());
    (disk.crash(kind), model)
}

/// A start that was interrupted may have made its attempt durable without telling.
fn found_or_interrupted(
    model: &mut Model,
    recovered: &Recovered,
    found: &[(u64, Vec<u8>)],
    interrupted: u64,
) {
    let silent = recovered.attempt - 1 - model.attempt;
    assert!(silent <= interrupted, "an attempt out of nothing");
    model.attempt += silent;
    model.found(recovered, found);
}

#[test]
fn a_crash_at_every_step() {
    for seed in seeds(5) {
        let script = script(seed, 40);
        for step in 0..steps_of(seed, &script) {
            for kind in KINDS {
                let _case = Case(format!("seed {seed}, step {step}, {kind:?}"));
                let (disk, mut model) = crashed(seed, &script, step, kind);
                let (recovered, found) = open(&disk, &model.options()).unwrap();
                found_or_interrupted(&mut model, &recovered, &found, 1);
                drop(recovered);
                // What was found stays found, and work goes on.
                for kind in KINDS {
                    run(&disk.fork().crash(kind), &script[..10], &mut model.clone()).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_crash_at_every_step_of_the_start_after_a_crash() {
    for seed in seeds(2) {
        let script = script(1_000 + seed, 25);
        for step in 0..steps_of(seed, &script) {
            for first in KINDS {
                let (disk, model) = crashed(seed, &script, step, first);
                let undisturbed = disk.fork();
                let (_, expected) = open(&undisturbed, &model.options()).unwrap();
                for second_step in 0..undisturbed.steps() {
                    for second in KINDS {
                        let _case = Case(format!(
                            "seed {seed}, step {step}, {first:?}, then step {second_step}, {second:?}"
                        ));
                        let disk = disk.fork();
                        disk.crash_at(second_step);
                        let interrupted = open(&disk, &model.options());
                        assert!(disk.is_down());
                        // Without a thread the segment ahead is prepared after the log is open.
                        let mut model = model.clone();
                        if let Ok((recovered, found)) = interrupted {
                            found_or_interrupted(&mut model, &recovered, &found, 1);
                        }
                        let disk = disk.crash(second);
                        let (recovered, found) = open(&disk, &model.options()).unwrap();
                        if first == Crash::Power || second == Crash::Process {
                            assert!(
                                found == expected,
                                "an interrupted start changes what is found"
                            );
                        }
                        found_or_interrupted(&mut model, &recovered, &found, 2);
                        drop(recovered);
                        run(&disk.crash(Crash::Power), &script[..5], &mut model).unwrap();
                    }
                }
            }
        }
    }
}

#[test]
fn many_crashes_one_after_the_other() {
    for seed in seeds(40) {
        let _case = Case(format!("seed {seed}"));
        let mut random = Random(seed);
        let mut disk = SimDisk::new(seed);
        let mut model = Model::of(seed);
        for round in 0..25 {
            let script = script(random.below(u64::MAX), 15);
            disk.crash_at(random.below(60));
            let before = model.clone();
            if run(&disk, &script, &mut model).is_err() {
                assert!(disk.is_down(), "round {round}");
            }
            disk = disk.crash(KINDS[random.below(2) as usize]);
            let (recovered, found) = open(&disk, &model.options()).unwrap();
            assert!(recovered.attempt > before.attempt);
            found_or_interrupted(&mut model, &recovered, &found, 1);
        }
    }
}

#[test]
fn a_fault_at_every_step() {
    for seed in seeds(2) {
        let script = script(2_000 + seed, 25);
        for step in 0..steps_of(seed, &script) {
            for fault in [Fault::Io, Fault::NoSpace] {
                for kinds in [&KINDS[..1], &KINDS[1..], &KINDS[..]] {
                    let _case = Case(format!("seed {seed}, step {step}, {fault:?}, {kinds:?}"));
                    let disk = SimDisk::new(seed);
                    disk.fail_at(step, fault);
                    let mut model = Model::of(seed);
                    let outcome = run(&disk, &script, &mut model);
                    if let Err(error) = outcome {
                        let expected = matches!(
                            error,
                            LogError::Poisoned { .. }
                                | LogError::Io { .. }
                                | LogError::NoSpace { .. }
                        );
                        assert!(expected, "{error}");
                    }
                    // The process ends, the kernel keeps what it has, wherever that is; then perhaps the power fails too.
                    let mut disk = disk;
                    for kind in kinds {
                        disk = disk.crash(*kind);
                        let (recovered, found) = open(&disk, &model.options()).unwrap();
                        found_or_interrupted(&mut model, &recovered, &found, 1);
                    }
                    run(&disk.crash(Crash::Power), &script[..5], &mut model).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_poisoned_log_names_its_first_failure_and_stays_so() {
    let disk = SimDisk::new(3);
    let (recovered, _) = open(&disk, &options()).unwrap();
    let mut log = recovered.log;
    log.append(1, &[b"one"]).unwrap();
    // The write is the next step, the sync the one after it.
    disk.fail_at(disk.steps() + 1, Fault::Io);
    let first = log.append(2, &[b"two"]).unwrap_err().to_string();
    assert!(
        first.contains("sync /data/log/00000000000000000001.log"),
        "{first}"
    );
    for _ in 0..3 {
        let steps = disk.steps();
        let again = log.append(2, &[b"two"]).unwrap_err();
        assert!(matches!(again, LogError::Poisoned { .. }));
        assert_eq!(again.to_string(), first);
        assert_eq!(disk.steps(), steps, "nothing is written any more");
    }
    assert_eq!(log.reader().read_from(1, 100).unwrap().len(), 1);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let script = script(7, 40);
    let outcome = || {
        let (disk, _) = crashed(7, &script, 50, Crash::Power);
        let names = disk.list(&dir()).unwrap();
        let contents: Vec<_> = names
            .iter()
            .map(|name| disk.content(&dir().join(name)))
            .collect();
        (names, contents)
    };
    assert_eq!(outcome(), outcome());
}
