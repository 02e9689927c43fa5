//! The clients of the application, and what they and the test share.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use statefun_core::clock::Stopwatch;
use statefun_core::rand::Random;

use super::client::{Answer, Client};
use super::files::{listed, parse, wait_for_records};
use super::model::{Dump, Model};
use super::plan::{node_id, start};
use super::process::{Addresses, Patience, Process};

/// The ingress for operations.
pub const OPS: &str = "kill/ops";
/// How often a node is asked for its state at the end, with a pause in between, until it is what it should be.
const LOOKS: u32 = 200;
/// Threads that ask for it.
const ASKING: u64 = 6;

/// The reply to an operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Started {
    op: u64,
    /// The node that has handled its first message.
    pub node: u64,
    /// How many messages that node had handled then.
    pub handled: u64,
}

/// The program that writes lines.
#[derive(Debug, Default)]
pub struct Writer {
    /// Where it writes them: the same ones into all of these.
    pub directories: Vec<PathBuf>,
    seq: u64,
    rotations: u64,
}

/// What the clients and the test share.
#[derive(Debug, Default)]
pub struct World {
    /// The file lines.jsonl in each of its directories. Whoever holds this keeps lines from being written.
    pub writer: Mutex<Writer>,
    /// Where the application listens; none while it does not run.
    pub addresses: Mutex<Option<Addresses>>,
    /// Whether the clients do nothing for a while.
    pub paused: AtomicBool,
    /// Whether they end.
    pub done: AtomicBool,
    /// Operations that have taken effect, with their source.
    pub taken: Mutex<Vec<(u64, String)>>,
    /// Operations of which nobody knows.
    pub doubtful: Mutex<Vec<(u64, String)>>,
    /// Replies, by operation.
    pub replies: Mutex<BTreeMap<u64, Started>>,
    /// What must not have happened.
    pub problems: Mutex<Vec<String>>,
    /// Requests that were sent.
    pub retries: AtomicU64,
    /// Operations that were sent again once they were answered.
    pub again: AtomicU64,
    /// Requests that were answered.
    answered: AtomicU64,
}

/// What a mutex holds, whoever has failed meanwhile.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Without clients, and with a writer that writes there.
    pub fn new(directory: &Path) -> Self {
        let world = Self::default();
        lock(&world.writer).directories.push(directory.to_owned());
        world
    }

    fn problem(&self, problem: String) {
        lock(&self.problems).push(problem);
    }

    /// How many requests were answered so far.
    pub fn answers(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn address(&self, ingress: &str) -> Option<SocketAddr> {
        lock(&self.addresses).as_ref()?.get(ingress).copied()
    }

    /// Sends a request until it is answered with something else than "try again".
    pub fn insist(
        &self,
        client: &mut Client,
        ingress: &str,
        path: &str,
        key: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let (watch, mut patience) = (Stopwatch::start(), Patience::default());
        let mut tries: Vec<String> = Vec::new();
        loop {
            if let Some(address) = self.address(ingress) {
                self.retries.fetch_add(1, Ordering::Relaxed);
                let at = watch.elapsed().as_millis();
                tries.push(match client.post(address, path, key, body) {
                    Ok(answer) if !matches!(answer.status, 429 | 503 | 504) => {
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        return answer;
                    }
                    Ok(answer) => format!("{at} ms: {} {}", answer.status, answer.text()),
                    Err(error) => format!("{at} ms: {error}"),
                });
            }
            if patience.is_over() {
                let body = format!("no answer: {tries:#?}").into_bytes();
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

    /// A program that writes lines, and, when it `rotates`, begins a new file now and then.
    fn writer(&self, number: u64, seed: u64, rotates: bool) {
        let mut random = Random::seeded(seed ^ number);
        while !self.done.load(Ordering::Relaxed) {
            self.write(&mut random, 12);
            // A file that is renamed before anybody has looked at it is no file of the ingress.
            if rotates && random.below(60) == 0 && self.answers() > 20 {
                self.rotate();
            }
            std::thread::sleep(Duration::from_millis(15));
            self.pause(&mut random);
        }
    }

    /// Writes some operations as lines, `most` at most.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, random: &mut Random, most: u64) {
        let mut writer = lock(&self.writer);
        let source = "writer".to_owned();
        let mut text = String::new();
        for _ in 0..=random.below(most) {
            writer.seq += 1;
            let (op, seq) = (WRITER << 32 | writer.seq, writer.seq);
            text += &format!("{{\"op\":{op},\"source\":\"{source}\",\"seq\":{seq}}}\n");
            lock(&self.taken).push((op, source.clone()));
        }
        // Some writes end in the middle of a line.
        let (first, rest) = text
            .as_bytes()
            .split_at(random.below(text.len() as u64) as usize);
        for part in [first, rest] {
            for directory in &writer.directories {
                let path = directory.join("lines.jsonl");
                let file = File::options().create(true).append(true).open(path);
                file.unwrap().write_all(part).unwrap();
            }
            std::thread::sleep(Duration::from_micros(random.below(3000)));
        }
    }

    /// Has what comes next go into a new file. They are dated the usual way: the later, the newer.
    ///
    /// # Panics
    /// When that cannot be.
    pub fn rotate(&self) {
        let mut writer = lock(&self.writer);
        writer.rotations += 1;
        for directory in &writer.directories {
            let rotated = format!("lines.jsonl-{:08}", writer.rotations);
            std::fs::rename(directory.join("lines.jsonl"), directory.join(rotated)).unwrap();
            File::create(directory.join("lines.jsonl")).unwrap();
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

    /// Panics when something has happened that must not.
    ///
    /// # Panics
    /// Then.
    pub fn assert_no_problems(&self) {
        let problems = lock(&self.problems);
        assert!(
            problems.is_empty(),
            "{} problems:\n{}",
            problems.len(),
            listed(&problems)
        );
    }

    /// Waits until everything is done that was taken, once the clients have ended. Returns the model of it, and how many of the doubtful
    /// operations have happened.
    ///
    /// # Panics
    /// When it does not come to an end.
    pub fn settle(&self, output: &Path, process: &Process) -> (Model, usize) {
        let mut model = Model::default();
        for (op, source) in lock(&self.taken).iter() {
            model.add(*op, source);
        }
        // A doubtful operation has happened when its first message is there; then all of it must be. None can come in any more,
        // so a first message that is not there once all others are will not come.
        wait_for_records(output, model.records(), process);
        let doubtful = lock(&self.doubtful);
        let first_messages: HashSet<u64> = {
            let mut before = 0;
            loop {
                // All that ran before the last kill has long been taken up; what comes late is only what is on its way.
                if !doubtful.is_empty() {
                    std::thread::sleep(Duration::from_millis(1500));
                }
                let records = parse(&std::fs::read(output).unwrap());
                if records.len() == before || doubtful.is_empty() {
                    break records
                        .iter()
                        .filter(|record| record.how == "start")
                        .map(|record| record.op)
                        .collect();
                }
                before = records.len();
            }
        };
        let mut happened = 0;
        for (op, source) in doubtful.iter() {
            if first_messages.contains(op) {
                model.add(*op, source);
                happened += 1;
            }
        }
        wait_for_records(output, model.records(), process);
        (model, happened)
    }

    /// Compares the state of all nodes, as they tell it themselves, with the model.
    ///
    /// # Panics
    /// When they differ.
    pub fn check_nodes(&self, model: &Model, process: &Process) {
        let problems: Vec<String> = std::thread::scope(|scope| {
            let ask = |part: u64| {
                let nodes = Model::nodes().filter(move |node| node % ASKING == part);
                let mut client = Client::default();
                nodes
                    .filter_map(|node| self.check_node(node, model, &mut client))
                    .collect::<Vec<_>>()
            };
            let asking: Vec<_> = (0..ASKING)
                .map(|part| scope.spawn(move || ask(part)))
                .collect();
            asking
                .into_iter()
                .flat_map(|asking| asking.join().unwrap())
                .collect()
        });
        assert!(
            problems.is_empty(),
            "{} nodes:\n{}\n{}",
            problems.len(),
            listed(&problems),
            process.last_words()
        );
    }

    fn check_node(&self, node: u64, model: &Model, client: &mut Client) -> Option<String> {
        let (expected, id) = (model.node(node), node_id(node));
        let mut found = Dump::default();
        // What has no record, such as a message taken back, may still be under way.
        for _ in 0..=LOOKS {
            let path = format!("/query/{id}?wait");
            let answer = self.insist(client, "kill/queries", &path, None, b"{}");
            found = match serde_json::from_slice(&answer.body) {
                Ok(found) => found,
                Err(error) => {
                    return Some(format!("{error} in {} {}", answer.status, answer.text()));
                }
            };
            if found == expected {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(format!("{id} is {found:?} and should be {expected:?}"))
    }

    /// Replies are each of an own moment: no two operations were the n-th at one node.
    ///
    /// # Panics
    /// When two were.
    pub fn check_replies(&self, model: &Model) {
        let mut numbers = HashSet::new();
        for reply in lock(&self.replies).values() {
            assert!(
                numbers.insert((reply.node, reply.handled)),
                "two operations got {reply:?}"
            );
            assert!(reply.handled <= model.node(reply.node).handled, "{reply:?}");
        }
    }
}

/// The number of the writer among the clients.
const WRITER: u64 = 1 << 20;

/// Clients at work, each in a thread of its own.
#[derive(Debug)]
pub struct Load {
    world: Arc<World>,
    threads: Vec<JoinHandle<()>>,
}

/// What keeps the application busy, besides the writer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clients {
    /// Clients that repeat what they send, under a key.
    pub keyed: u64,
    /// Clients that do not.
    pub bare: u64,
    /// Whether the writer begins new files.
    pub rotates: bool,
}

impl Load {
    /// Starts clients and writer.
    ///
    /// # Panics
    /// When a thread cannot be started.
    pub fn start(world: &Arc<World>, seed: u64, clients: Clients) -> Self {
        let mut load = Self {
            world: world.clone(),
            threads: Vec::new(),
        };
        for number in 1..=clients.keyed + clients.bare {
            load.run(format!("client-{number}"), move |world| {
                if number <= clients.keyed {
                    world.keyed_client(number, seed);
                } else {
                    world.bare_client(number, seed);
                }
            });
        }
        load.run("writer".to_owned(), move |world| {
            world.writer(WRITER, seed, clients.rotates);
        });
        // Sinks make safe what they have when nothing comes for a while, so there must be such whiles.
        load.run("pacing".to_owned(), |world| {
            while !world.done.load(Ordering::Relaxed) {
                world.paused.store(false, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(700));
                world.paused.store(true, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(350));
            }
        });
        load
    }

    fn run(&mut self, name: String, run: impl FnOnce(&World) + Send + 'static) {
        let world = self.world.clone();
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || run(&world));
        self.threads.push(thread.unwrap());
    }

    /// Ends when all clients have got their last answers.
    ///
    /// # Panics
    /// When one of them has.
    pub fn end(self) {
        self.world.done.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
