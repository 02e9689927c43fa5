//! What an operator asks of a worker: to look at the addresses that wait, and to let them go on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::envelope::Envelope;
use crate::engine::waiting::{WaitKind, WaitRow, WaitingAddress, queue_key, waiting_key};
use crate::engine::worker::{Worker, WorkerError};
use crate::id::{Address, TypeName};
use crate::sdk::message::TypedValue;
use crate::state::keys::{Space, group_key, parse_address_key, prefix_end};

/// An operator's question or order. Orders go to the worker that owns the address, lists to all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The addresses that retry or are parked, up to a number.
    List {
        /// At most so many.
        limit: usize,
    },
    /// One address, with its first messages.
    Show {
        /// Which.
        address: Address,
        /// At most so many messages.
        messages: usize,
    },
    /// Try the head message of an address again, now.
    Retry(Address),
    /// Drop the head message of an address, and go on with the next.
    Skip(Address),
    /// Drop all messages that wait at an address.
    Drop(Address),
    /// Drop the first of very many messages, and leave the address as it is: its queue only gets shorter. None are dropped when
    /// there are not so many, or when the address is about to go on.
    DropPart(Address),
}

/// How many messages are a part: each leaves a mark in memory until the state store has applied it.
const PART: u64 = 50_000;

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Its type.
    pub typename: String,
    /// Its sender, if a function sent it.
    pub from: Option<String>,
    /// Its bytes, as text where they are text, else as hexadecimal digits.
    pub value: String,
}

/// What a command brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandResult {
    /// Addresses that wait.
    Waiting(Vec<WaitingAddress>),
    /// One of them, with its first messages.
    Shown(WaitingAddress, Vec<QueuedMessage>),
    /// So many messages were affected; it holds once the epoch is durable.
    Done {
        /// Messages dropped, or about to be tried.
        messages: u64,
    },
}

/// A command that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum CommandError {
    /// Nothing waits there.
    #[error("nothing waits at {0}: `statefun parked ls` shows what does")]
    NotWaiting(String),
}

impl Worker {
    /// Follows a command. When it changed something, its result holds once the current epoch is durable.
    pub(crate) fn command(
        &mut self,
        command: &Command,
    ) -> Result<Result<CommandResult, CommandError>, WorkerError> {
        match command {
            Command::List { limit } => Ok(Ok(CommandResult::Waiting(self.waiting(*limit)?))),
            Command::Show { address, messages } => self.show(address, *messages),
            Command::Retry(address) => self.change(address, |_, queued| Ok(queued)),
            Command::Skip(address) => self.change(address, |worker, _| {
                worker.drop_messages(address, 1)?;
                Ok(1)
            }),
            Command::Drop(address) => self.change(address, |worker, queued| {
                worker.drop_messages(address, u64::MAX)?;
                Ok(queued)
            }),
            Command::DropPart(address) => {
                let messages = self.drop_part(address)?;
                Ok(Ok(CommandResult::Done { messages }))
            }
        }
    }

    fn waiting(&self, limit: usize) -> Result<Vec<WaitingAddress>, WorkerError> {
        let range = self.groups.range_of(self.index, self.workers);
        let mut found = Vec::new();
        if range.is_empty() {
            return Ok(found);
        }
        let mut start = group_key(Space::Waiting, range.start as u16);
        let end = prefix_end(&group_key(Space::Waiting, (range.end - 1) as u16));
        while found.len() < limit {
            let chunk = self.rows.borrow().scan(&start, &end, 256)?;
            let Some((last, _)) = chunk.last() else { break };
            start.clone_from(last);
            start.push(0);
            for (key, value) in chunk {
                let (Some(key), Some(row)) = (parse_address_key(&key), WaitRow::decode(&value))
                else {
                    return Err(WorkerError::Row("a waiting address"));
                };
                let name = self.registry.function_name(key.function);
                if matches!(row.kind, WaitKind::Retrying | WaitKind::Parked) && found.len() < limit
                {
                    found.push(describe(name, key.id, row));
                }
            }
        }
        Ok(found)
    }

    fn wait_row(&self, address: &Address) -> Result<Option<WaitRow>, WorkerError> {
        let row = self.rows.borrow().get(&waiting_key(self.groups, address))?;
        row.map(|row| WaitRow::decode(&row).ok_or(WorkerError::Row("a waiting address")))
            .transpose()
    }

    fn show(
        &self,
        address: &Address,
        messages: usize,
    ) -> Result<Result<CommandResult, CommandError>, WorkerError> {
        let Some(row) = self.wait_row(address)? else {
            return Ok(Err(CommandError::NotWaiting(address.to_string())));
        };
        let start = queue_key(self.groups, address, row.head);
        let end = queue_key(self.groups, address, row.next);
        let mut shown = Vec::new();
        for (_, value) in self.rows.borrow().scan(&start, &end, messages)? {
            let envelope = Envelope::decode(&mut Bytes::from(value), &self.registry)?;
            let Some(body) = envelope.body.as_any().downcast_ref::<TypedValue>() else {
                continue;
            };
            shown.push(QueuedMessage {
                typename: body.typename.to_string(),
                from: envelope.from.map(|from| from.to_string()),
                value: readable(&body.value),
            });
        }
        let waiting = describe(Some(address.function()), address.id().to_owned(), row);
        Ok(Ok(CommandResult::Shown(waiting, shown)))
    }

    /// Brings a waiting address into memory, changes its queue, and lets it go on.
    fn change(
        &mut self,
        address: &Address,
        change: impl FnOnce(&mut Self, u64) -> Result<u64, WorkerError>,
    ) -> Result<Result<CommandResult, CommandError>, WorkerError> {
        // An address may be parked without a message, see `park_unwritten`.
        let waits = |row: &WaitRow| row.head < row.next || row.kind == WaitKind::Parked;
        let Some(row) = self.wait_row(address)?.filter(waits) else {
            return Ok(Err(CommandError::NotWaiting(address.to_string())));
        };
        let mut arrived = None;
        if let Some(wait) = self.moving.get(address) {
            if wait.loaded
                || wait.stored
                || !matches!(row.kind, WaitKind::Retrying | WaitKind::Parked)
            {
                // It goes on already.
                return Ok(Ok(CommandResult::Done { messages: 0 }));
            }
            // Its state is being read, since a message came for it or the process has just started.
            arrived = self.moving.remove(address).map(|wait| wait.memory);
        }
        let queued = row.next - row.head;
        if !self.held.contains(address) {
            let function = self.registry.function_index(address.function());
            if let Some(table) = function.and_then(|function| self.tables.get_mut(function))
                && table.find(address).is_none()
            {
                table.insert(address);
            }
            let wait = row.into_wait();
            self.held.recall(address, &wait);
            self.held.insert(address.clone(), wait);
        }
        let messages = change(self, queued)?;
        if let Some(mut wait) = self.held.remove(address) {
            wait.attempt = 0;
            for envelope in arrived.iter().flatten() {
                self.push_row(&mut wait, envelope)?;
            }
            self.held.insert(address.clone(), wait);
        }
        self.resume(address, arrived.is_some());
        Ok(Ok(CommandResult::Done { messages }))
    }

    /// See [`Command::DropPart`]; returns how many messages were dropped.
    fn drop_part(&mut self, address: &Address) -> Result<u64, WorkerError> {
        let Some(row) = self.wait_row(address)? else {
            return Ok(0);
        };
        if row.next - row.head <= PART || self.moving.contains(address) {
            return Ok(0);
        }
        let was_held = self.held.contains(address);
        if !was_held {
            let wait = row.into_wait();
            self.held.recall(address, &wait);
            self.held.insert(address.clone(), wait);
        }
        self.drop_messages(address, PART)?;
        if let Some(mut wait) = self.held.remove(address) {
            self.store_wait(address, &mut wait);
            let row = WaitRow::of(&wait);
            if was_held {
                self.held.insert(address.clone(), wait);
            } else {
                self.held.found(address, row);
            }
        }
        self.changed = true;
        Ok(PART)
    }

    /// Drops the first messages that wait at a held address.
    fn drop_messages(&mut self, address: &Address, count: u64) -> Result<(), WorkerError> {
        let dropped = self.held.change(address, |wait| {
            let until = wait.next.min(wait.head.saturating_add(count));
            std::mem::replace(&mut wait.head, until)..until
        });
        let Some(dropped) = dropped else {
            return Ok(());
        };
        let mut start = queue_key(self.groups, address, dropped.start);
        let end = queue_key(self.groups, address, dropped.end);
        loop {
            let chunk = self.rows.borrow().scan(&start, &end, 1024)?;
            let Some((last, _)) = chunk.last() else {
                return Ok(());
            };
            start.clone_from(last);
            let mut rows = self.rows.borrow_mut();
            for (key, _) in chunk {
                rows.delete(key);
            }
        }
    }

    /// Addresses in memory that retry or are parked.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The position that this worker keeps of a partition.
    #[cfg(test)]
    pub(crate) fn position(&self, partition: &Address) -> Result<Option<Vec<u8>>, WorkerError> {
        let key = crate::state::keys::address_key(Space::Source, self.groups, partition);
        Ok(self.rows.borrow().get(&key)?)
    }
}

fn describe(function: Option<TypeName>, id: String, row: WaitRow) -> WaitingAddress {
    WaitingAddress {
        function: function.map_or_else(|| "?".to_owned(), |name| name.to_string()),
        id,
        kind: row.kind,
        queued: row.next - row.head,
        attempts: row.attempt,
        since: row.since,
        problem: row.problem,
    }
}

fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => {
            text.to_owned()
        }
        _ => bytes.iter().fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        }),
    }
}
