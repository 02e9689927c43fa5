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

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use statefun_core::clock::Stopwatch;
use statefun_core::rand::Random;
use statefun_core::state::StateReader;
use statefun_core::state::fjall::FjallStore;
use statefun_core::state::keys::Space;
use statefun_core::steps::Step;
use statefun_tests::kill::client::{Answer, Client};
use statefun_tests::kill::model::{Dump, Handled, Model};
use statefun_tests::kill::plan::{node_id, start};
use statefun_tests::kill::process::{Addresses, PATIENCE, Process, Start, wait_for};

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

const OPS: &str = "kill/ops";
const KEYED_CLIENTS: u64 = 4;
const BARE_CLIENTS: u64 = 2;

/// The reply to an operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Started {
    op: u64,
    node: u64,
    handled: u64,
}

/// What the clients and the test share.
#[derive(Default)]
struct World {
    addresses: Mutex<Option<Addresses>>,
    paused: AtomicBool,
    done: AtomicBool,
    /// Operations that have taken effect, with their source.
    taken: Mutex<Vec<(u64, String)>>,
    /// Operations of which nobody knows.
    doubtful: Mutex<Vec<(u64, String)>>,
    /// Replies, by operation.
    replies: Mutex<BTreeMap<u64, Started>>,
    problems: Mutex<Vec<String>>,
    retries: AtomicU64,
    again: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn problem(&self, problem: String) {
        lock(&self.problems).push(problem);
    }

    fn address(&self, ingress: &str) -> Option<SocketAddr> {
        lock(&self.addresses).as_ref()?.get(ingress).copied()
    }

    /// Sends a request until it is answered with something else than "try again".
    fn insist(
        &self,
        client: &mut Client,
        ingress: &str,
        path: &str,
        key: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let watch = Stopwatch::start();
        let mut tries: Vec<String> = Vec::new();
        loop {
            if let Some(address) = self.address(ingress) {
                self.retries.fetch_add(1, Ordering::Relaxed);
                let at = watch.elapsed().as_millis();
                tries.push(match client.post(address, path, key, body) {
                    Ok(answer) if !matches!(answer.status, 429 | 503 | 504) => return answer,
                    Ok(answer) => format!("{at} ms: {} {}", answer.status, answer.text()),
                    Err(error) => format!("{at} ms: {error}"),
                });
            }
            if watch.elapsed() > PATIENCE {
                let body = format!("no answer in {PATIENCE:?}: {tries:#?}").into_bytes();
                return Answer {
                    status: 0,
                    head: String::new(),
                    body,
                };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn note_reply(&self, op: u64, body: &str) {
        let reply: Started = match serde_json::from_str(body) {
            Ok(reply) => reply,
            Err(error) => return self.problem(format!("operation {op}: {error} in {body}")),
        };
        if (reply.op, reply.node) != (op, start(op).node) {
            return self.problem(format!(
                "operation {op} was answered with another's reply: {reply:?}"
            ));
        }
        let before = lock(&self.replies).insert(op, reply.clone());
        if before.as_ref().is_some_and(|before| *before != reply) {
            self.problem(format!(
                "operation {op} was answered with {before:?} first, and then with {reply:?}"
            ));
        }
    }

    fn pause(&self, random: &mut Random) {
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
        while self.paused.load(Ordering::Relaxed) && !self.done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client that repeats each operation under its key until it is answered.
    fn keyed_client(&self, number: u64, seed: u64) {
        let (mut client, mut random) = (Client::default(), Random::seeded(seed ^ number));
        let source = format!("client-{number}");
        let mut seq = 0;
        while !self.done.load(Ordering::Relaxed) {
            seq += 1;
            let op = number << 32 | seq;
            let body = format!(r#"{{"op":{op},"source":"{source}","seq":{seq}}}"#);
            let key = format!("{source}-{seq}");
            let paths = ["/ops", "/ops?wait"];
            // Now and then a second time, when the first is done: nothing may come of it but the first one's reply.
            let times = if random.below(8) == 0 { 2 } else { 1 };
            for time in 0..times {
                let wait = random.below(2);
                let answer = self.insist(
                    &mut client,
                    OPS,
                    paths[wait as usize],
                    Some(&key),
                    body.as_bytes(),
                );
                match (answer.status, wait) {
                    (202, 0) => {}
                    (200, 1) => self.note_reply(op, &answer.text()),
                    _ => self.problem(format!(
                        "operation {op} was answered with {}: {}",
                        answer.status,
                        answer.text()
                    )),
                }
                self.again.fetch_add(time, Ordering::Relaxed);
            }
            lock(&self.taken).push((op, source.clone()));
            self.pause(&mut random);
        }
    }

    /// A program that writes lines, and now and then begins a new file.
    fn writer(&self, number: u64, seed: u64, directory: &Path) {
        let mut random = Random::seeded(seed ^ number);
        let path = directory.join("lines.jsonl");
        let source = "writer".to_owned();
        let (mut seq, mut rotations) = (0, 0);
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap()
        };
        let mut file = open();
        while !self.done.load(Ordering::Relaxed) {
            let mut text = String::new();
            for _ in 0..=random.below(12) {
                seq += 1;
                let op = number << 32 | seq;
                text += &format!("{{\"op\":{op},\"source\":\"{source}\",\"seq\":{seq}}}\n");
                lock(&self.taken).push((op, source.clone()));
            }
            // Some writes end in the middle of a line.
            let (first, rest) = text
                .as_bytes()
                .split_at(random.below(text.len() as u64) as usize);
            file.write_all(first).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(3000)));
            file.write_all(rest).unwrap();
            if random.below(60) == 0 {
                // The way that rotated files are dated: the later, the newer.
                rotations += 1;
                std::fs::rename(&path, directory.join(format!("lines.jsonl-{rotations:08}")))
                    .unwrap();
                file = open();
            }
            std::thread::sleep(Duration::from_millis(15));
            self.pause(&mut random);
        }
    }

    /// A client without keys, which cannot repeat anything: what is not answered may have taken effect, as a whole.
    fn bare_client(&self, number: u64, seed: u64) {
        let (mut client, mut random) = (Client::default(), Random::seeded(seed ^ number));
        let source = format!("client-{number}");
        let mut seq = 0;
        while !self.done.load(Ordering::Relaxed) {
            let Some(address) = self.address(OPS) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            seq += 1;
            let op = number << 32 | seq;
            let body = format!(r#"{{"op":{op},"source":"{source}","seq":{seq}}}"#);
            let path = if random.below(2) == 0 {
                "/ops"
            } else {
                "/ops?wait"
            };
            match client.post(address, path, None, body.as_bytes()) {
                Ok(answer) => match answer.status {
                    202 => lock(&self.taken).push((op, source.clone())),
                    200 => {
                        self.note_reply(op, &answer.text());
                        lock(&self.taken).push((op, source.clone()));
                    }
                    429 => {}
                    503 | 504 => lock(&self.doubtful).push((op, source.clone())),
                    _ => self.problem(format!(
                        "operation {op}: {} {}",
                        answer.status,
                        answer.text()
                    )),
                },
                Err(_) => lock(&self.doubtful).push((op, source.clone())),
            }
            self.pause(&mut random);
        }
    }
}

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
        let watch = Stopwatch::start();
        if let Some(address) = process.ready() {
            *lock(&self.world.addresses) = Some(address);
            let limit = Duration::from_millis(200 + self.random.below(1000));
            loop {
                let progress = process.steps().count(Step::Synced) > 3;
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
                assert!(
                    watch.elapsed() < PATIENCE,
                    "no progress\n{}",
                    process.last_words()
                );
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

    /// Whatever was shown before must still be there.
    fn check_shown(&mut self, process: &Process) {
        let content = std::fs::read(self.directory.join("handled.jsonl")).unwrap_or_default();
        assert!(
            content.starts_with(&self.shown),
            "output that was visible after an earlier kill has changed\n{}",
            process.last_words()
        );
        let whole = content
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        self.shown = content;
        self.shown.truncate(whole);
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

fn count_lines(path: &Path) -> usize {
    std::fs::read(path)
        .unwrap_or_default()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
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
    wait_for(
        || (count_lines(&output) >= model.records()).then_some(()),
        || {
            format!(
                "{} of {} records are there\n{}",
                count_lines(&output),
                model.records(),
                process.last_words()
            )
        },
    );
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
    wait_for(
        || (count_lines(&output) >= model.records()).then_some(()),
        || {
            format!(
                "{} of {} records are there\n{}",
                count_lines(&output),
                model.records(),
                process.last_words()
            )
        },
    );

    // Its state, as it tells itself.
    let mut client = Client::default();
    let mut problems = Vec::new();
    for node in Model::nodes() {
        let expected = model.node(node);
        // What has no record, such as a message taken back, may still be under way.
        let watch = Stopwatch::start();
        loop {
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
            if watch.elapsed() > Duration::from_secs(10) || !problems.is_empty() {
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
    let records = parse(&std::fs::read(&output).unwrap());
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
