//! The clients, and what they and the test share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use statefun_core::clock::Stopwatch;
use statefun_core::rand::Random;
use statefun_tests::kill::client::{Answer, Client};
use statefun_tests::kill::plan::start;
use statefun_tests::kill::process::{Addresses, Patience};

const OPS: &str = "kill/ops";

/// The reply to an operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Started {
    op: u64,
    pub(crate) node: u64,
    pub(crate) handled: u64,
}

/// What the clients and the test share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) addresses: Mutex<Option<Addresses>>,
    pub(crate) paused: AtomicBool,
    pub(crate) done: AtomicBool,
    /// Operations that have taken effect, with their source.
    pub(crate) taken: Mutex<Vec<(u64, String)>>,
    /// Operations of which nobody knows.
    pub(crate) doubtful: Mutex<Vec<(u64, String)>>,
    /// Replies, by operation.
    pub(crate) replies: Mutex<BTreeMap<u64, Started>>,
    pub(crate) problems: Mutex<Vec<String>>,
    pub(crate) retries: AtomicU64,
    pub(crate) again: AtomicU64,
    /// Requests that were answered.
    answered: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn problem(&self, problem: String) {
        lock(&self.problems).push(problem);
    }

    /// How many requests were answered so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn address(&self, ingress: &str) -> Option<SocketAddr> {
        lock(&self.addresses).as_ref()?.get(ingress).copied()
    }

    /// Sends a request until it is answered with something else than "try again".
    pub(crate) fn insist(
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
    pub(crate) fn keyed_client(&self, number: u64, seed: u64) {
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
    pub(crate) fn writer(&self, number: u64, seed: u64, directory: &Path) {
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
            // A file that is renamed before anybody has looked at it is no file of the ingress.
            if random.below(60) == 0 && self.answers() > 20 {
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
    pub(crate) fn bare_client(&self, number: u64, seed: u64) {
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
