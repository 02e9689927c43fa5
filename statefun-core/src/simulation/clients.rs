//! Clients that send requests, lose patience and connections, and ask again: with an idempotency key for the same, without one for
//! another one.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Timestamp;
use crate::engine::request::{Answer, ClientResponse, Recipients, Request, request_address};
use crate::io::ingress::Record;
use crate::rand::Random;
use crate::sdk::message::Message;
use crate::simulation::model::Model;
use crate::simulation::plan::{Kind, address, make_id, mix, target};
use crate::simulation::workload::{Reply, Token};
use crate::simulation::{REQUESTS_INGRESS, Shape};

const REQUESTS_EACH: u64 = 4;
const LOOSE_EACH: u64 = 2;
/// Requests without a key that are made at most while things go wrong.
const MOST_LOOSE: usize = 24;
const RETENTION_MS: u64 = 24 * 3_600_000;

#[derive(Debug)]
struct Asked {
    name: String,
    token: u64,
    wait: bool,
    /// Connections that wait for an answer; a lost one waits no longer.
    connections: Vec<u64>,
    asked: u32,
    answer: Option<Answer>,
    answers: u32,
}

/// A request without a key: another one each time it is asked.
#[derive(Debug)]
struct Loose {
    name: String,
    token: u64,
    wait: bool,
    /// Whether its connection is still there.
    connected: bool,
    answered: bool,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    requests: Vec<Asked>,
    loose: Vec<Loose>,
    /// How many requests without a key are to be answered.
    loose_wanted: usize,
    seed: u64,
    nodes: u64,
    /// Of the connections that use somebody else's key with another body.
    strangers: BTreeMap<u64, usize>,
    connections: u64,
}

impl Clients {
    pub(super) fn new(seed: u64, shape: &Shape) -> Self {
        let requests = (0..shape.clients * REQUESTS_EACH).map(|number| {
            let chance = mix(mix(seed, 0xC11E), number);
            let token = make_id(
                chance,
                chance % 3,
                Kind::Plain,
                chance / 5 % shape.rules.nodes,
            );
            Asked {
                name: format!(
                    "{REQUESTS_INGRESS}\u{1f}{}\u{1f}k{number}",
                    address(target(token))
                ),
                token,
                wait: chance >> 40 & 1 == 0,
                connections: Vec::new(),
                asked: 0,
                answer: None,
                answers: 0,
            }
        });
        Self {
            requests: requests.collect(),
            loose: Vec::new(),
            loose_wanted: (shape.clients * LOOSE_EACH) as usize,
            seed,
            nodes: shape.rules.nodes,
            strangers: BTreeMap::new(),
            connections: 0,
        }
    }

    /// The requests by name, and the message that each stands for.
    pub(super) fn requests(&self) -> HashMap<String, u64> {
        self.requests
            .iter()
            .map(|request| (request.name.clone(), request.token))
            .collect()
    }

    /// Whether a request has no key.
    pub(super) fn is_without_key(&self, name: &str) -> bool {
        self.loose.iter().any(|loose| loose.name == name)
    }

    /// What a client sends now, if one wants to. The message that it stands for, if the model is to know of it.
    pub(super) fn ask(
        &mut self,
        random: &mut Random,
        now: Timestamp,
        calm: bool,
    ) -> Option<(String, Record, Option<u64>)> {
        if self.requests.is_empty() {
            return None;
        }
        if random.below(3) == 0 {
            return self.ask_without_key(now, calm);
        }
        let number = random.below(self.requests.len() as u64) as usize;
        let request = &mut self.requests[number];
        let again = if calm { 0 } else { random.below(8) };
        if (request.answer.is_some() || request.asked > 20)
            && again != 1
            && !(calm && request.answer.is_none())
        {
            return None;
        }
        if !request.connections.is_empty() && (calm || again > 3) {
            return None;
        }
        let connection = self.connections;
        self.connections += 1;
        let stranger = request.answer.is_some() && again == 1;
        let token = Token::loose(if stranger {
            request.token ^ (1 << 60)
        } else {
            request.token
        });
        if stranger {
            self.strangers.insert(connection, number);
        } else {
            request.asked += 1;
            request.connections.push(connection);
        }
        let record = record(
            &request.name,
            &token,
            (connection, request.wait),
            RETENTION_MS,
            now,
        );
        Some((
            format!(
                "{} by {connection}{}",
                number,
                if stranger { ", another body" } else { "" }
            ),
            record,
            None,
        ))
    }

    fn ask_without_key(
        &mut self,
        now: Timestamp,
        calm: bool,
    ) -> Option<(String, Record, Option<u64>)> {
        let open = self
            .loose
            .iter()
            .filter(|loose| loose.answered || loose.connected);
        if open.count() >= self.loose_wanted || (!calm && self.loose.len() >= MOST_LOOSE) {
            return None;
        }
        let number = self.loose.len() as u64;
        let chance = mix(mix(self.seed, 0x1005E), number);
        let id = make_id(chance, chance % 3, Kind::Plain, chance / 5 % self.nodes);
        let connection = self.connections;
        self.connections += 1;
        let loose = Loose {
            name: format!(
                "{REQUESTS_INGRESS}\u{1f}{}\u{1f}~{number}",
                address(target(id))
            ),
            token: id,
            wait: chance >> 40 & 1 == 0,
            connected: true,
            answered: false,
        };
        let record = record(
            &loose.name,
            &Token::loose(id),
            (connection, loose.wait),
            0,
            now,
        );
        self.loose.push(loose);
        Some((
            format!("{number} without a key by {connection}"),
            record,
            Some(id),
        ))
    }

    /// An answer to a request without a key.
    fn answer_loose(&mut self, index: usize, response: &ClientResponse) -> Result<(), String> {
        let loose = &mut self.loose[index];
        match (&response.answer, response.to) {
            (Answer::Accepted, Recipients::Connection(_)) if !loose.wait => {}
            (Answer::Reply(value), Recipients::Waiting { fingerprint: None }) => {
                let reply: Reply = value.to_message().map_err(|error| error.to_string())?;
                if reply.id != loose.token {
                    return Err(format!("`{}` was answered for {:#x}", loose.name, reply.id));
                }
                if !loose.wait {
                    // Nobody waits for it.
                    return Ok(());
                }
            }
            (other, _) => return Err(format!("`{}` was answered {other:?}", loose.name)),
        }
        if loose.answered {
            return Err(format!("`{}` was answered twice", loose.name));
        }
        loose.answered = std::mem::take(&mut loose.connected);
        Ok(())
    }

    /// An answer comes.
    pub(super) fn answer(&mut self, response: ClientResponse) -> Result<(), String> {
        if let Recipients::Connection(connection) = response.to
            && let Some(number) = self.strangers.get(&connection)
        {
            return match response.answer {
                Answer::KeyReused => Ok(()),
                other => Err(format!(
                    "another body under the key of request {number} was answered {other:?}"
                )),
            };
        }
        let name = response.request.as_str();
        if let Some(index) = self.loose.iter().position(|loose| loose.name == name) {
            return self.answer_loose(index, &response);
        }
        let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| request.name == name)
        else {
            return Err(format!("nobody asked for `{name}`"));
        };
        let told = match response.to {
            Recipients::Connection(connection) => {
                let before = request.connections.len();
                request.connections.retain(|known| *known != connection);
                request.connections.len() < before
            }
            Recipients::Waiting { fingerprint } => {
                if fingerprint != Some(request.token) {
                    return Err(format!(
                        "`{name}` was answered for the body {fingerprint:x?}"
                    ));
                }
                !std::mem::take(&mut request.connections).is_empty()
            }
        };
        match (&response.answer, request.wait) {
            (Answer::Accepted, false) => {}
            (Answer::Reply(value), true) => {
                let reply: Reply = value.to_message().map_err(|error| error.to_string())?;
                if reply.id != request.token {
                    return Err(format!("`{name}` was answered for {:#x}", reply.id));
                }
            }
            // A reply that nobody waits for.
            (Answer::Reply(_), false) => return Ok(()),
            (other, _) => return Err(format!("`{name}` was answered {other:?}")),
        }
        if told {
            request.answers += 1;
            match &request.answer {
                Some(known) if *known != response.answer => {
                    return Err(format!(
                        "`{name}` was answered {known:?} and then {:?}",
                        response.answer
                    ));
                }
                _ => request.answer = Some(response.answer),
            }
        }
        Ok(())
    }

    /// All connections are lost.
    pub(super) fn disconnect(&mut self) {
        for request in &mut self.requests {
            request.connections.clear();
        }
        for loose in &mut self.loose {
            loose.connected = false;
        }
    }

    /// No more requests without a key are made.
    pub(super) fn stop_asking(&mut self) {
        self.loose_wanted = 0;
    }

    /// A client gives up one of its connections.
    pub(super) fn give_up(&mut self, random: &mut Random) {
        if !self.requests.is_empty() {
            let number = random.below(self.requests.len() as u64) as usize;
            self.requests[number].connections.pop();
        }
        if !self.loose.is_empty() {
            let number = random.below(self.loose.len() as u64) as usize;
            self.loose[number].connected = false;
        }
    }

    /// What was answered is durable, whatever crashed since.
    pub(super) fn check(&self, model: &Model) -> Result<(), String> {
        let lost = |loose: &&Loose| loose.answered && !model.taken.contains(&loose.token);
        if let Some(loose) = self.loose.iter().find(lost) {
            return Err(format!("`{}` was answered, and is lost", loose.name));
        }
        match self
            .requests
            .iter()
            .find(|request| request.answer.is_some() && !model.remembered.contains(&request.name))
        {
            Some(request) => Err(format!(
                "`{}` was answered, and is not remembered",
                request.name
            )),
            None => Ok(()),
        }
    }

    /// Whether nobody waits any more, but for what an operator dropped.
    pub(super) fn all_answered(&self, model: &Model) -> bool {
        let loose = self.loose.iter().filter(|loose| {
            loose.answered || (loose.connected && model.given_up.contains(&loose.token))
        });
        loose.count() >= self.loose_wanted
            && self
                .requests
                .iter()
                .all(|request| request.answer.is_some() || model.given_up.contains(&request.token))
    }
}

/// A request as it comes in.
fn record(
    name: &str,
    token: &Token,
    (connection, wait): (u64, bool),
    retention_ms: u64,
    now: Timestamp,
) -> Record {
    let mut value = Vec::new();
    token.encode(&mut value).expect("a token can be written");
    let to = address(target(token.id));
    let mut record = Record::new(Request {
        ingress: REQUESTS_INGRESS.to_owned(),
        connection,
        wait,
        retention_ms,
        fingerprint: token.id,
        key: None,
        headers: BTreeMap::new(),
        timestamp: now,
        target: Some(to),
        typename: Token::type_name().into(),
        value: value.into(),
    });
    record.target = Some(Box::new(request_address(name)));
    record
}
