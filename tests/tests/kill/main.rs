//! The application is killed with `kill -9` again and again, in every step of an epoch, while clients keep it busy; at the end
//! its state and its output are those of a run without any trouble.
//!
//! `STATEFUN_KILLS=n` multiplies the kills, `STATEFUN_SEED=n` chooses what is drawn.

#![expect(
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use statefun_core::clock::Stopwatch;
use statefun_core::rand::Random;
use statefun_core::state::StateReader;
use statefun_core::state::fjall::FjallStore;
use statefun_core::state::keys::Space;
use statefun_core::steps::Step;
use statefun_tests::kill::files::{Kept, MODULE, listed, number_of, parse, read_from};
use statefun_tests::kill::process::{Patience, Process, Start};
use statefun_tests::kill::world::{Clients, Load, World, lock};

const KEYED_CLIENTS: u64 = 4;
const BARE_CLIENTS: u64 = 2;
/// Bytes of the output, the last ones, that are looked at after each kill: more than a life writes.
const SHOWN_AGAIN: usize = 8 << 20;

/// One life of the process, for the log.
struct Life {
    workers: usize,
    aimed: Option<(Step, u64)>,
    hit: Option<Step>,
    epochs: u64,
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let aim = self.aimed.map_or_else(
            || "at random".to_owned(),
            |(step, count)| format!("at {} {count}", step.name()),
        );
        let hit = self.hit.map_or("?", Step::name);
        write!(
            f,
            "{} workers, {:4} epochs, killed {aim:13} after {hit}",
            self.workers, self.epochs
        )
    }
}

struct Test {
    directory: PathBuf,
    world: Arc<World>,
    random: Random,
    lives: Vec<Life>,
    /// Recoveries that were killed.
    stillborn: u64,
    starts: u64,
    /// What the egress has shown so far, whole lines: it must never change.
    shown: Vec<u8>,
}

impl Test {
    fn start(&mut self, kill: Option<(Step, u64)>) -> (Process, usize) {
        let workers = 1 + self.random.below(3) as usize;
        self.starts += 1;
        let mut environment = vec![
            ("STATEFUN_DATA_DIR", "data".to_owned()),
            // Sometimes so little that instances go and come back all the time.
            (
                "STATEFUN_STATE_CACHE_BYTES",
                ["96KiB", "4MiB"][self.random.below(2) as usize].to_owned(),
            ),
        ];
        if let Some((step, count)) = kill {
            environment.push(("STATEFUN_TEST_KILL", format!("{}:{count}", step.name())));
        }
        let start = Start {
            binary: Path::new(env!("CARGO_BIN_EXE_kill-app")),
            directory: &self.directory,
            name: format!("life-{}", self.starts),
            workers,
            environment,
        };
        (start.spawn(), workers)
    }

    /// Starts a process and has it killed after it has made progress; true when it was so.
    fn live_and_die(&mut self, aim: Option<Step>) -> bool {
        if self.random.below(4) == 0 {
            // A recovery that is cut short is no harm either.
            let aim = (self.random.below(2) == 0).then_some((Step::Recovered, 1));
            let (mut process, _) = self.start(aim);
            match aim {
                Some(_) => _ = process.wait(),
                None => std::thread::sleep(Duration::from_millis(self.random.below(80))),
            }
            process.kill();
            self.stillborn += 1;
        }
        let aimed = aim.map(|step| {
            let often = match step {
                Step::Applying | Step::Applied | Step::Flushed => 3,
                _ => 60,
            };
            (
                step,
                1 + self.random.below(often) + if often > 3 { 8 } else { 0 },
            )
        });
        let (mut process, workers) = self.start(aimed);
        let (watch, mut patience) = (Stopwatch::start(), Patience::default());
        let answers = self.world.answers();
        if let Some(address) = process.ready() {
            *lock(&self.world.addresses) = Some(address);
            let limit = Duration::from_millis(200 + self.random.below(1000));
            loop {
                // Epochs alone are none: one that only clears up what was there before would starve the clients.
                let progress =
                    process.steps().count(Step::Synced) > 3 && self.world.answers() > answers;
                let late = watch.elapsed()
                    > if aim.is_some() {
                        Duration::from_secs(5)
                    } else {
                        limit
                    };
                if process.ended().is_some() || (progress && late) {
                    break;
                }
                self.world.assert_no_problems();
                assert!(!patience.is_over(), "no progress\n{}", process.last_words());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        process.kill();
        *lock(&self.world.addresses) = None;
        self.check_shown(&process);
        let steps = process.steps();
        let (hit, epochs) = (steps.last, steps.count(Step::Synced));
        let aimed_well = aimed.is_none_or(|(step, count)| steps.count(step) >= count);
        let life = Life {
            workers,
            aimed,
            hit,
            epochs,
        };
        println!("{life}");
        self.lives.push(life);
        epochs > 0 && aimed_well
    }

    /// Whatever was shown before must still be there. Looks at the end only, so that the thousandth kill takes no longer than
    /// the first; the test's end looks at all of it.
    fn check_shown(&mut self, process: &Process) {
        let known = self.shown.len().saturating_sub(SHOWN_AGAIN);
        let content = read_from(&self.directory.join("handled.jsonl"), known as u64);
        assert!(
            content.starts_with(&self.shown[known..]),
            "output that was visible after an earlier kill has changed\n{}",
            process.last_words()
        );
        let whole = content
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        self.shown.truncate(known);
        self.shown.extend_from_slice(&content[..whole]);
    }
}

#[test]
fn killed_in_every_step_it_ends_as_if_nothing_had_happened() {
    let seed = number_of("STATEFUN_SEED", Random::from_system().next_u64());
    let kills = 20 * number_of("STATEFUN_KILLS", 1);
    println!("STATEFUN_SEED={seed}");
    let directory = Kept::new();
    std::fs::write(directory.path().join("module.yaml"), MODULE).unwrap();
    let world = Arc::new(World::new(directory.path()));
    let mut test = Test {
        directory: directory.path().to_owned(),
        world: world.clone(),
        random: Random::seeded(seed),
        lives: Vec::new(),
        stillborn: 0,
        starts: 0,
        shown: Vec::new(),
    };

    let clients = Clients {
        keyed: KEYED_CLIENTS,
        bare: BARE_CLIENTS,
        rotates: true,
    };
    let load = Load::start(&world, seed, clients);

    let aims: Vec<Step> = Step::ALL
        .into_iter()
        .take(Step::OF_EPOCH)
        .filter(|step| *step != Step::Recovered)
        .collect();
    let mut missing: BTreeSet<usize> = (0..aims.len()).collect();
    let (mut killed, mut round) = (0, 0);
    while killed < kills || !missing.is_empty() {
        assert!(
            round < 3 * kills,
            "these steps are not hit: {missing:?} of {aims:?}"
        );
        // Two of three are aimed, first of all at what was not hit yet.
        let aim = if round % 3 == 2 {
            None
        } else {
            Some(
                missing
                    .first()
                    .copied()
                    .unwrap_or_else(|| test.random.below(aims.len() as u64) as usize),
            )
        };
        if test.live_and_die(aim.map(|aim| aims[aim])) {
            killed += 1;
            if let Some(aim) = aim {
                missing.remove(&aim);
            }
        }
        world.assert_no_problems();
        round += 1;
    }

    // The end: everything that is under way comes to rest.
    let (mut process, _) = test.start(None);
    let address = process
        .ready()
        .unwrap_or_else(|| panic!("it ended\n{}", process.last_words()));
    *lock(&world.addresses) = Some(address);
    load.end();
    println!("besides, {} recoveries were killed", test.stillborn);
    println!(
        "{} operations taken, {} doubtful, {} requests, {} sent twice",
        lock(&world.taken).len(),
        lock(&world.doubtful).len(),
        world.retries.load(Ordering::Relaxed),
        world.again.load(Ordering::Relaxed)
    );
    world.assert_no_problems();

    let output = directory.path().join("handled.jsonl");
    let (model, happened) = world.settle(&output, &process);
    println!("{happened} of the doubtful operations have happened");
    // Its state, as it tells itself.
    world.check_nodes(&model, &process);
    let status = process.terminate();
    assert!(status.success(), "{status}\n{}", process.last_words());

    // Its output.
    test.check_shown(&process);
    let content = std::fs::read(&output).unwrap();
    assert!(content == test.shown, "output that was visible has changed");
    let records = parse(&content);
    let problems = model.check(&records);
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        listed(&problems)
    );
    println!("{} records, each once and in order", records.len());

    world.check_replies(&model);

    // Nothing is left behind. A start applies all that the log holds to the state store.
    let (mut process, _) = test.start(None);
    assert!(
        process.ready().is_some(),
        "it ended\n{}",
        process.last_words()
    );
    assert!(process.terminate().success(), "{}", process.last_words());
    let store = FjallStore::open(&directory.path().join("data/state"), 1 << 20).unwrap();
    for space in [
        Space::Timer,
        Space::Token,
        Space::Waiting,
        Space::Queue,
        Space::Operation,
        Space::DeadLetter,
    ] {
        let left = store
            .scan(&[space as u8], &[space as u8 + 1], 1000)
            .unwrap();
        assert!(
            left.is_empty(),
            "{} rows are left in {space:?}, such as {:?}",
            left.len(),
            left.first()
        );
    }
    drop(store);
    drop(directory);
}
