//! What must hold of every durable epoch. The model replays the log's records by itself and keeps account: a message that
//! was handled stands for all that must follow from it, and each of those is handled, or in flight exactly once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::Timestamp;
use crate::engine::cut::{EpochBody, egress_framing};
use crate::engine::envelope::Envelope;
use crate::engine::registry::Registry;
use crate::engine::request::Request;
use crate::engine::rows::framing;
use crate::engine::waiting::WaitKind;
use crate::sdk::async_result::AsyncResult;
use crate::sdk::egress::egress_hash;
use crate::sdk::message::{Message, TypedValue};
use crate::simulation::facts::{Change, Facts, parse_row};
use crate::simulation::inputs::Line;
use crate::simulation::plan::{self, Failing, Plan, Rules};
use crate::simulation::workload::{
    LETTERS, NARROW_ATTEMPTS, NODE_ATTEMPTS, OpMeta, OutRecord, TimerState, Token, world,
};
use crate::state::keys::Space;

/// A file that is read, as the model knows it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) lines: Vec<Line>,
    /// How many lines end at or before a place: an inode, and an offset in that file.
    pub(super) ends: HashMap<(u64, u64), u64>,
    /// Whether lines that cannot be read or routed are records of an egress; they leave no trace otherwise.
    pub(super) letters: bool,
}

/// The part of a position by which the model knows it.
#[derive(Debug, Deserialize)]
struct Place {
    inode: u64,
    offset: u64,
}

/// See the module's page.
pub(super) struct Model {
    rules: Rules,
    registry: Arc<Registry>,
    pub(super) last_epoch: u64,
    pub(super) time: Timestamp,
    pub(super) rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Hashes of the bodies of all epochs.
    bodies: Vec<u64>,
    addresses: HashMap<Vec<u8>, Facts>,
    /// How often each message was sent, less how often it was handled or given up: 1 while it is in flight.
    due: HashMap<u64, i32>,
    pub(super) handled: HashSet<u64>,
    pub(super) given_up: HashSet<u64>,
    /// Taken back when they were due already: in flight, or gone.
    perhaps: HashSet<u64>,
    timers: BTreeMap<Vec<u8>, u64>,
    tokens: BTreeMap<Vec<u8>, Vec<u8>>,
    operations: BTreeMap<Vec<u8>, u64>,
    /// Lines taken from each file.
    pub(super) positions: BTreeMap<Vec<u8>, u64>,
    /// The files, by the keys of the rows of their positions.
    pub(super) sources: BTreeMap<Vec<u8>, Source>,
    /// Bad records that are to leave with the epoch, and which file each is of.
    letters: Vec<(Vec<u8>, Vec<u8>)>,
    /// Requests with a key, and the message that each stands for.
    pub(super) requests: HashMap<String, u64>,
    pub(super) remembered: HashSet<String>,
    /// The messages of requests without a key that were made. Nothing but the message tells of such a request.
    pub(super) loose: HashSet<u64>,
    /// Those of them that are known to have been taken in.
    pub(super) taken: HashSet<u64>,
    /// Messages that an operator dropped, and in which epoch.
    pub(super) dropped: Vec<(u64, u64)>,
    /// What the file of each egress must hold, by its hash.
    pub(super) files: BTreeMap<u64, Vec<u8>>,
    egress_count: usize,
    egress_numbers: HashMap<String, u64>,
    egress_seen: HashSet<(u64, u32)>,
    egress_due: usize,
}

impl Model {
    pub(super) fn new(rules: Rules, registry: Arc<Registry>) -> Self {
        Self {
            rules,
            registry,
            last_epoch: 0,
            time: Timestamp(0),
            rows: BTreeMap::new(),
            bodies: Vec::new(),
            addresses: HashMap::new(),
            due: HashMap::new(),
            handled: HashSet::new(),
            given_up: HashSet::new(),
            perhaps: HashSet::new(),
            timers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            operations: BTreeMap::new(),
            positions: BTreeMap::new(),
            sources: BTreeMap::new(),
            letters: Vec::new(),
            requests: HashMap::new(),
            remembered: HashSet::new(),
            loose: HashSet::new(),
            taken: HashSet::new(),
            dropped: Vec::new(),
            files: BTreeMap::new(),
            egress_count: 0,
            egress_numbers: HashMap::new(),
            egress_seen: HashSet::new(),
            egress_due: 0,
        }
    }

    /// An epoch that a restart found: the next one is new, the others must be what they were.
    pub(super) fn found(&mut self, epoch: u64, body: &[u8], workers: usize) -> Result<(), String> {
        if epoch > self.last_epoch {
            return self.durable(epoch, body, workers);
        }
        let known = self.bodies.get(epoch as usize - 1);
        if known == Some(&xxh3_64(body)) {
            Ok(())
        } else {
            Err(format!("epoch {epoch} is another one after a restart"))
        }
    }

    /// An epoch became durable.
    pub(super) fn durable(
        &mut self,
        epoch: u64,
        body: &[u8],
        workers: usize,
    ) -> Result<(), String> {
        if epoch != self.last_epoch + 1 {
            return Err(format!("epoch {epoch} follows epoch {}", self.last_epoch));
        }
        self.last_epoch = epoch;
        self.bodies.push(xxh3_64(body));
        let parsed = EpochBody::parse(body).ok_or("the body is malformed")?;
        if parsed.time < self.time {
            return Err(format!(
                "epoch {epoch}: time runs backwards, {} after {}",
                parsed.time, self.time
            ));
        }
        self.time = parsed.time;
        let mut touched = BTreeSet::new();
        let mut in_flight: HashMap<u64, u32> = HashMap::new();
        let mut keys: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for section in &parsed.sections {
            for row in framing::iter(section.rows) {
                let (key, value) = row.ok_or("a row is malformed")?;
                self.check_owner(key, section.worker, workers)?;
                // A state is written when it changes first in an epoch, and at the cut when it has changed again.
                let most = 1 + usize::from(key.first() == Some(&(Space::State as u8)));
                let count = keys.entry(key.to_vec()).or_default();
                *count += 1;
                if *count > most {
                    return Err(format!("epoch {epoch} has the row {key:?} {count} times"));
                }
                self.change(key, value, &mut touched)
                    .map_err(|problem| format!("epoch {epoch}: {problem}"))?;
            }
            let mut carried = Bytes::copy_from_slice(section.carried);
            while !carried.is_empty() {
                let envelope = Envelope::decode(&mut carried, &self.registry)
                    .map_err(|error| error.to_string())?;
                let group = envelope.to.key_group(self.registry.key_groups);
                if self.registry.key_groups.owner(group, workers) != section.worker as usize {
                    return Err(format!(
                        "epoch {epoch}: {} is carried by worker {}",
                        envelope.to, section.worker
                    ));
                }
                if let Some(id) = message_id(&envelope)? {
                    *in_flight.entry(id).or_default() += 1;
                }
            }
            self.leave(epoch, section.egress)?;
            if let Some((_, letter)) = self.letters.first() {
                return Err(format!(
                    "epoch {epoch}: the bad record {:?} is lost",
                    String::from_utf8_lossy(letter)
                ));
            }
        }
        let dropped: Vec<u64> = self
            .dropped
            .extract_if(.., |(at, _)| *at <= epoch)
            .map(|(_, id)| id)
            .collect();
        for id in dropped {
            self.give_up(id);
        }
        let facts = touched
            .iter()
            .filter_map(|address| self.addresses.get(address));
        for facts in facts {
            facts.check()?;
            self.check_parked(facts)?;
        }
        for id in self
            .addresses
            .values()
            .flat_map(|facts| facts.queue.values().flatten())
        {
            *in_flight.entry(*id).or_default() += 1;
        }
        for id in self.timers.values().chain(self.operations.values()) {
            *in_flight.entry(*id).or_default() += 1;
        }
        self.balance(in_flight)
            .map_err(|problem| format!("epoch {epoch}: {problem}"))
    }

    fn check_owner(&self, key: &[u8], worker: u32, workers: usize) -> Result<(), String> {
        let group = key
            .get(1..3)
            .map(|group| u16::from_be_bytes([group[0], group[1]]));
        let owner = group.map(|group| self.registry.key_groups.owner(group, workers));
        if owner == Some(worker as usize) {
            Ok(())
        } else {
            Err(format!("worker {worker} wrote the row {key:?}"))
        }
    }

    fn expect(&mut self, id: u64, change: i32) {
        let count = self.due.entry(id).or_default();
        *count += change;
        if *count == 0 {
            self.due.remove(&id);
        }
    }

    /// A message is there. That of a request without a key is so for the first time then.
    fn appears(&mut self, id: u64) {
        if self.loose.contains(&id) && self.taken.insert(id) {
            self.expect(id, 1);
        }
    }

    fn give_up(&mut self, id: u64) {
        self.appears(id);
        if self.given_up.insert(id) {
            self.expect(id, -1);
        }
    }

    pub(super) fn plan(&self, id: u64) -> Plan {
        plan::plan(id, self.rules)
    }

    fn change(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        touched: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), String> {
        let (address, change) = parse_row(key, value, &self.registry)?;
        if let Some(address) = &address {
            touched.insert(address.clone());
            self.addresses
                .entry(address.clone())
                .or_default()
                .change(&change);
        }
        match change {
            Change::Handled(id) => {
                if !self.handled.insert(id) {
                    return Err(format!("{id:#x} is noted as handled twice"));
                }
                self.appears(id);
                self.expect(id, -1);
                let plan = self.plan(id);
                self.egress_due += plan.records as usize;
                for child in plan.children() {
                    self.expect(child, 1);
                }
            }
            Change::TimerNote(id, TimerState::Void) => self.give_up(id),
            Change::TimerNote(id, TimerState::Perhaps) => {
                self.perhaps.insert(id);
            }
            Change::Timer(id) => replace(&mut self.timers, key, id),
            Change::Operation(id) => replace(&mut self.operations, key, id),
            Change::TimerToken => replace(&mut self.tokens, key, value.map(<[u8]>::to_vec)),
            Change::DeadLetter(Some(id)) => self.give_up(id),
            Change::Position(position) => {
                let source = self.sources.get(key).ok_or("a position of no file")?;
                let place: Place =
                    serde_json::from_slice(&position).map_err(|error| error.to_string())?;
                let known = source.ends.get(&(place.inode, place.offset)).copied();
                let position = known.ok_or_else(|| format!("no line ends at {place:?}"))?;
                let before = self.positions.insert(key.to_vec(), position).unwrap_or(0);
                if position < before {
                    return Err(format!("a file is read from {before} to {position}"));
                }
                let letters = source.letters;
                let lines = source.lines[before as usize..position as usize].to_vec();
                for line in lines {
                    match line.id {
                        Some(id) => self.expect(id, 1),
                        None if letters => self.letters.push((key.to_vec(), line.bytes)),
                        None => {}
                    }
                }
            }
            Change::Remembered(request) => {
                let id = self
                    .requests
                    .get(&request)
                    .copied()
                    .ok_or(format!("request `{request}` was never made"))?;
                if self.remembered.insert(request) {
                    self.expect(id, 1);
                }
            }
            _ => {}
        }
        match value {
            Some(value) => self.rows.insert(key.to_vec(), value.to_vec()),
            None => self.rows.remove(key),
        };
        Ok(())
    }

    /// What leaves with an epoch.
    fn leave(&mut self, epoch: u64, section: &[u8]) -> Result<(), String> {
        for record in egress_framing::iter(section) {
            let record = record.ok_or("an egress record is malformed")?;
            if record.egress == egress_hash(LETTERS) {
                self.letter_leaves(epoch, record.payload)?;
                continue;
            }
            let out = OutRecord::decode(record.payload).map_err(|error| error.to_string())?;
            let last = self.egress_numbers.entry(out.from.clone()).or_default();
            *last += 1;
            if out.seq != *last {
                return Err(format!(
                    "epoch {epoch}: {} wrote record {} after {}",
                    out.from,
                    out.seq,
                    *last - 1
                ));
            }
            if !self.egress_seen.insert((out.id, out.index)) {
                return Err(format!(
                    "epoch {epoch}: record {} of {:#x} leaves twice",
                    out.index, out.id
                ));
            }
            let file = self.files.entry(record.egress).or_default();
            file.extend_from_slice(record.payload);
            file.push(b'\n');
            self.egress_count += 1;
        }
        Ok(())
    }

    /// A bad record leaves: in its file's order, and once.
    fn letter_leaves(&mut self, epoch: u64, payload: &[u8]) -> Result<(), String> {
        let at = self
            .letters
            .iter()
            .position(|(_, letter)| letter == payload);
        let text = String::from_utf8_lossy(payload).into_owned();
        let Some(at) = at else {
            return Err(format!("epoch {epoch}: {text:?} is no bad record"));
        };
        let (file, _) = self.letters.remove(at);
        if self.letters[..at].iter().any(|(other, _)| *other == file) {
            return Err(format!("epoch {epoch}: the bad record {text:?} overtakes"));
        }
        // What is no JSON becomes a JSON string in a file of JSON.
        let line = match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => text,
            Err(_) => serde_json::Value::from(text).to_string(),
        };
        let content = self.files.entry(egress_hash(LETTERS)).or_default();
        content.extend_from_slice(line.as_bytes());
        content.push(b'\n');
        Ok(())
    }

    /// An address is parked only when its head message has been tried as often as its function says.
    fn check_parked(&self, facts: &Facts) -> Result<(), String> {
        let Some(row) = facts
            .waiting
            .as_ref()
            .filter(|row| row.kind == WaitKind::Parked)
        else {
            return Ok(());
        };
        let Some(id) = facts.queue.values().next().copied().flatten() else {
            return Err(format!(
                "an address is parked without a message: {}",
                row.problem
            ));
        };
        let most = if plan::is_narrow(plan::target(id)) {
            NARROW_ATTEMPTS
        } else {
            NODE_ATTEMPTS
        };
        let tried = world(|world| world.attempts.get(&id).copied().unwrap_or_default());
        let deserved = match self.plan(id).failing {
            Failing::Never => false,
            Failing::Transient(_) | Failing::Panics(_) => tried >= most,
            Failing::UntilMended => tried > 0,
        };
        if deserved {
            Ok(())
        } else {
            Err(format!(
                "{id:#x} is parked after {tried} attempts: {}",
                row.problem
            ))
        }
    }

    /// What was sent and not handled is in flight, and nothing else is.
    fn balance(&mut self, in_flight: HashMap<u64, u32>) -> Result<(), String> {
        for id in in_flight.keys() {
            self.appears(*id);
        }
        let mut gone = Vec::new();
        for (id, count) in &self.due {
            let found = in_flight.get(id).copied().unwrap_or(0);
            match (count, found) {
                (1, 1) => {}
                (1, 0) if self.perhaps.contains(id) => gone.push(*id),
                (1, 0) => return Err(format!("{id:#x} is lost")),
                (1, more) => return Err(format!("{id:#x} is in flight {more} times")),
                (count, _) => {
                    return Err(format!(
                        "{id:#x} was sent {count} times more than it was handled"
                    ));
                }
            }
        }
        for id in in_flight.keys() {
            if !self.due.contains_key(id) {
                return Err(format!("{id:#x} is in flight, and must not be"));
            }
        }
        for id in gone {
            self.give_up(id);
        }
        for (token, timer) in &self.tokens {
            if !self.timers.contains_key(timer) {
                return Err(format!("the token {token:?} stands for no timer"));
            }
        }
        if self.egress_due != self.egress_count {
            return Err(format!(
                "{} records have left, and {} must have",
                self.egress_count, self.egress_due
            ));
        }
        Ok(())
    }

    /// Whether a message took effect, or was given up.
    pub(super) fn is_settled(&self, id: u64) -> bool {
        self.handled.contains(&id) || self.given_up.contains(&id)
    }

    /// What is still to come, in words; none when nothing is.
    pub(super) fn unfinished(&self, hanging: bool) -> Option<String> {
        let due: Vec<u64> = self
            .due
            .keys()
            .copied()
            .filter(|id| !(hanging && self.operations.values().any(|known| known == id)))
            .collect();
        let waiting = self
            .addresses
            .values()
            .filter(|facts| facts.waiting.is_some())
            .count();
        let none =
            due.is_empty() && waiting == 0 && self.timers.is_empty() && self.tokens.is_empty();
        (!none).then(|| {
            format!(
                "{} messages are due ({:x?}), {waiting} addresses wait, {} timers and {} tokens are left",
                due.len(),
                due.iter().take(5).collect::<Vec<_>>(),
                self.timers.len(),
                self.tokens.len()
            )
        })
    }
}

fn replace<T>(map: &mut BTreeMap<Vec<u8>, T>, key: &[u8], value: Option<T>) {
    match value {
        Some(value) => map.insert(key.to_vec(), value),
        None => map.remove(key),
    };
}

/// The id of a message of the workload; none for requests and replies.
pub(super) fn message_id(envelope: &Envelope) -> Result<Option<u64>, String> {
    let Some(body) = envelope.body.as_any().downcast_ref::<TypedValue>() else {
        return Err(format!("{envelope:?} is no dynamic value"));
    };
    let failed = |error: crate::sdk::message::CodecError| error.to_string();
    if body.is::<Token>() {
        Ok(Some(body.to_message::<Token>().map_err(failed)?.id))
    } else if body.is::<Request>() {
        // One with a key leaves a row when it is taken, and nothing before.
        let request = body.to_message::<Request>().map_err(failed)?;
        let token = || Token::decode(&request.value).map(|token| token.id);
        (request.retention_ms == 0)
            .then(token)
            .transpose()
            .map_err(failed)
    } else if body.is::<AsyncResult<OpMeta, i64>>() {
        Ok(Some(
            body.to_message::<AsyncResult<OpMeta, i64>>()
                .map_err(failed)?
                .metadata
                .id,
        ))
    } else {
        Ok(None)
    }
}
