//! Addresses whose messages wait: while they are loaded, between attempts, or parked. They hold up nobody else.
//!
//! A queue is in memory (and then part of what a cut carries) or in rows, never in both at a cut, so that its order survives.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::engine::envelope::Envelope;
use crate::id::{Address, KeyGroups};
use crate::state::keys::{Space, address_key};

/// Messages of one waiting address held in memory before further ones become rows.
pub(crate) const MEMORY_QUEUE: usize = 64;

/// Why an address' messages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// Its state is being read.
    Loading,
    /// Its queue is being worked off.
    Draining,
    /// Its head message failed and is tried again later.
    Retrying,
    /// Its head message failed for good; an operator decides.
    Parked,
}

/// One waiting address.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) kind: WaitKind,
    /// The first messages, in order; those in rows come behind them.
    pub(crate) memory: VecDeque<Envelope>,
    /// Sequence numbers of the messages in rows: `head..next`.
    pub(crate) head: u64,
    pub(crate) next: u64,
    /// Failed attempts of the head message.
    pub(crate) attempt: u32,
    /// When it is tried again.
    pub(crate) retry_at: Timestamp,
    /// Since when it retries or is parked.
    pub(crate) since: Timestamp,
    /// Why.
    pub(crate) problem: String,
    /// Whether it has a row.
    pub(crate) stored: bool,
    /// Whether its instance is in memory.
    pub(crate) loaded: bool,
}

/// Queues begin in the middle, so that there is room in front for what is put back.
const FIRST_SEQUENCE: u64 = 1 << 40;

impl Wait {
    pub(crate) fn loading() -> Self {
        Self {
            kind: WaitKind::Loading,
            memory: VecDeque::new(),
            head: FIRST_SEQUENCE,
            next: FIRST_SEQUENCE,
            attempt: 0,
            retry_at: Timestamp(0),
            since: Timestamp(0),
            problem: String::new(),
            stored: false,
            loaded: false,
        }
    }

    pub(crate) fn draining() -> Self {
        Self {
            kind: WaitKind::Draining,
            loaded: true,
            ..Self::loading()
        }
    }

    /// Messages in rows.
    pub(crate) fn stored_len(&self) -> u64 {
        self.next - self.head
    }
}

/// The row of a waiting address, in MessagePack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitRow {
    pub(crate) kind: WaitKind,
    pub(crate) head: u64,
    pub(crate) next: u64,
    pub(crate) attempt: u32,
    pub(crate) retry_at: Timestamp,
    pub(crate) since: Timestamp,
    pub(crate) problem: String,
}

impl WaitRow {
    pub(crate) fn of(wait: &Wait) -> Self {
        Self {
            kind: wait.kind,
            head: wait.head,
            next: wait.next,
            attempt: wait.attempt,
            retry_at: wait.retry_at,
            since: wait.since,
            problem: wait.problem.clone(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // A struct of numbers and text always encodes.
        rmp_serde::to_vec_named(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }

    pub(crate) fn into_wait(self) -> Wait {
        Wait {
            kind: self.kind,
            memory: VecDeque::new(),
            head: self.head,
            next: self.next,
            attempt: self.attempt,
            retry_at: self.retry_at,
            since: self.since,
            problem: self.problem,
            stored: true,
            loaded: false,
        }
    }
}

/// The key of a waiting address' own row.
pub(crate) fn waiting_key(groups: KeyGroups, address: &Address) -> Vec<u8> {
    address_key(Space::Waiting, groups, address)
}

/// The key of one of its messages.
pub(crate) fn queue_key(groups: KeyGroups, address: &Address, sequence: u64) -> Vec<u8> {
    let mut key = address_key(Space::Queue, groups, address);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

/// What an operator sees of an address that retries or is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingAddress {
    /// The function type.
    pub function: String,
    /// The id.
    pub id: String,
    /// Whether it retries or is parked.
    pub kind: WaitKind,
    /// Messages that wait, the failed one included.
    pub queued: u64,
    /// Failed attempts of the head message.
    pub attempts: u32,
    /// Since when, in Unix milliseconds.
    pub since: Timestamp,
    /// Why.
    pub problem: String,
}
