//! The application is killed with `kill -9` again and again, in every step of an epoch, while clients keep it busy; at the end
//! its state and its output are those of a run without any trouble.
//!
//! `STATEFUN_KILLS=n` multiplies the kills, `STATEFUN_SEED=n` chooses what is drawn.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::naive_bytecount,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

mod world;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
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
use statefun_tests::kill::client::Client;
use statefun_tests::kill::model::{Dump, Handled, Model};
use statefun_tests::kill::plan::node_id;
use statefun_tests::kill::process::{Patience, Process, Start, wait_for};

use crate::world::{World, lock};

const MODULE: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: kill/ops
  address: 127.0.0.1:0
  path: /ops
  valueType: kill/Op
  routers: [ops]
---
kind: io.statefun.http.v1/ingress
spec:
  id: kill/queries
  address: 127.0.0.1:0
  path: /query/{id}
  valueType: kill/Query
  targets: [kill/node]
---
kind: io.statefun.file.v1/ingress
spec:
  id: kill/lines
  path: lines.jsonl
  valueType: kill/Op
  routers: [lines]
---
kind: io.statefun.file.v1/egress
spec:
  id: kill/handled
  path: handled.jsonl
";

const KEYED_CLIENTS: u64 = 4;
const BARE_CLIENTS: u64 = 2;
/// How often a node is asked for its state at the end, with a pause in between, until it is what it should be.
const LOOKS: u32 = 200;
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
                self.assert_no_problems();
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

    fn assert_no_problems(&self) {
        let problems = lock(&self.world.problems);
        assert!(
            problems.is_empty(),
            "{} problems:\n{}",
            problems.len(),
            listed(&problems)
        );
    }
}

/// A directory that stays when the test fails.
struct Kept(Option<tempfile::TempDir>);

impl Kept {
    fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "everything is still in {}",
                self.0.take().unwrap().keep().display()
            );
        }
    }
}

fn listed(problems: &[String]) -> String {
    problems
        .iter()
        .take(30)
        .map(|problem| format!("  {problem}\n"))
        .collect()
}

fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn parse(lines: &[u8]) -> Vec<Handled> {
    let text = std::str::from_utf8(lines).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

/// What a file holds from an offset on; nothing while there is no file.
fn read_from(path: &Path, offset: u64) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(mut file) = File::open(path) {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.read_to_end(&mut content).unwrap();
    }
    content
}

fn count_lines(path: &Path) -> usize {
    std::fs::read(path)
        .unwrap_or_default()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Waits until so many records are in a file.
fn wait_for_records(output: &Path, count: usize, process: &Process) {
    wait_for(
        || (count_lines(output) >= count).then_some(()),
        || {
            format!(
                "{} of {count} records are there\n{}",
                count_lines(output),
                process.last_words()
            )
        },
    );
}

#[test]
fn killed_in_every_step_it_ends_as_if_nothing_had_happened() {
    let seed = number_of("STATEFUN_SEED", Random::from_system().next_u64());
    let kills = 20 * number_of("STATEFUN_KILLS", 1);
    println!("STATEFUN_SEED={seed}");
    let directory = Kept(Some(tempfile::tempdir().unwrap()));
    std::fs::write(directory.path().join("module.yaml"), MODULE).unwrap();
    let world = Arc::new(World::default());
    let mut test = Test {
        directory: directory.path().to_owned(),
        world: world.clone(),
        random: Random::seeded(seed),
        lives: Vec::new(),
        stillborn: 0,
        starts: 0,
        shown: Vec::new(),
    };

    let clients: Vec<_> = (1..=KEYED_CLIENTS + BARE_CLIENTS)
        .map(|number| {
            let world = world.clone();
            let run = move || {
                if number <= KEYED_CLIENTS {
                    world.keyed_client(number, seed);
                } else {
                    world.bare_client(number, seed);
                }
            };
            std::thread::Builder::new()
                .name(format!("client-{number}"))
                .spawn(run)
                .unwrap()
        })
        .collect();
    let writer = {
        let (world, directory) = (world.clone(), directory.path().to_owned());
        let number = KEYED_CLIENTS + BARE_CLIENTS + 1;
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || world.writer(number, seed, &directory))
            .unwrap()
    };
    let pacing = {
        let world = world.clone();
        // Sinks make safe what they have when nothing comes for a while, so there must be such whiles.
        let run = move || {
            while !world.done.load(Ordering::Relaxed) {
                world.paused.store(false, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(700));
                world.paused.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(350));
            }
        };
        std::thread::Builder::new()
            .name("pacing".to_owned())
            .spawn(run)
            .unwrap()
    };

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
        test.assert_no_problems();
        round += 1;
    }

    // The end: everything that is under way comes to rest.
    let (mut process, _) = test.start(None);
    let address = process
        .ready()
        .unwrap_or_else(|| panic!("it ended\n{}", process.last_words()));
    *lock(&world.addresses) = Some(address);
    world.done.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    writer.join().unwrap();
    pacing.join().unwrap();
    println!("besides, {} recoveries were killed", test.stillborn);
    println!(
        "{} operations taken, {} doubtful, {} requests, {} sent twice",
        lock(&world.taken).len(),
        lock(&world.doubtful).len(),
        world.retries.load(Ordering::Relaxed),
        world.again.load(Ordering::Relaxed)
    );
    test.assert_no_problems();

    let output = directory.path().join("handled.jsonl");
    let mut model = Model::default();
    for (op, source) in lock(&world.taken).iter() {
        model.add(*op, source);
    }
    // A doubtful operation has happened when its first message is there; then all of it must be. None can come in any more,
    // so a first message that is not there once all others are will not come.
    wait_for_records(&output, model.records(), &process);
    let first_messages: HashSet<u64> = {
        let mut before = 0;
        loop {
            // All that ran before the last kill has long been taken up; what comes late is only what is on its way.
            std::thread::sleep(Duration::from_millis(1500));
            let records = parse(&std::fs::read(&output).unwrap());
            if records.len() == before {
                break records
                    .iter()
                    .filter(|record| record.how == "start")
                    .map(|record| record.op)
                    .collect();
            }
            before = records.len();
        }
    };
    let happened: Vec<_> = lock(&world.doubtful)
        .iter()
        .filter(|(op, _)| first_messages.contains(op))
        .cloned()
        .collect();
    println!(
        "{} of the doubtful operations have happened",
        happened.len()
    );
    for (op, source) in &happened {
        model.add(*op, source);
    }
    wait_for_records(&output, model.records(), &process);

    // Its state, as it tells itself.
    let mut client = Client::default();
    let mut problems = Vec::new();
    for node in Model::nodes() {
        let expected = model.node(node);
        // What has no record, such as a message taken back, may still be under way.
        let mut looks = 0;
        loop {
            looks += 1;
            let answer = world.insist(
                &mut client,
                "kill/queries",
                &format!("/query/{}?wait", node_id(node)),
                None,
                b"{}",
            );
            let dump: Dump = serde_json::from_slice(&answer.body)
                .unwrap_or_else(|error| panic!("{error} in {} {}", answer.status, answer.text()));
            if dump == expected {
                break;
            }
            if looks > LOOKS || !problems.is_empty() {
                problems.push(format!(
                    "{} is {dump:?} and should be {expected:?}",
                    node_id(node)
                ));
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(
        problems.is_empty(),
        "{} nodes:\n{}\n{}",
        problems.len(),
        listed(&problems),
        process.last_words()
    );
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

    // Its replies: no two operations were the n-th at one node.
    let mut numbers = HashSet::new();
    for reply in lock(&world.replies).values() {
        assert!(
            numbers.insert((reply.node, reply.handled)),
            "two operations got {reply:?}"
        );
        assert!(reply.handled <= model.node(reply.node).handled, "{reply:?}");
    }

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
