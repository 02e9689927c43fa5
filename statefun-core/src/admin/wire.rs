//! The JSON of live commands, both ways.

use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointStatus;
use crate::engine::waiting::WaitingAddress;
use crate::engine::worker::QueuedMessage;
use crate::inspect::{End, Progress};

/// What a running application says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of statefun-core in it.
    pub core_version: String,
    /// Its process id.
    pub pid: u32,
    /// How often its data directory has been started, this time included.
    pub attempt: u64,
    /// Worker threads.
    pub workers: usize,
    /// Key groups of the data directory.
    pub key_groups: u16,
    /// How far it is.
    pub epochs: Epochs,
    /// Invocations since the start.
    pub invocations: u64,
    /// Whether it has stopped, or is about to.
    pub stopping: bool,
    /// The types of its functions, sorted.
    pub functions: Vec<String>,
    /// Where it takes requests.
    pub listening: Vec<ListeningPlace>,
    /// How making checkpoints goes, when they are made.
    pub checkpoints: Option<CheckpointStatus>,
}

/// Epochs: numbered steps that become durable together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Epochs {
    /// The last one that was there at the start.
    pub recovered: u64,
    /// The last durable one.
    pub durable: u64,
    /// The last one that the state store has applied.
    pub applied: u64,
}

/// Whether an application can be given work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Whether nothing is missing.
    pub ready: bool,
    /// What is missing, and what to do about it.
    pub missing: Vec<String>,
    /// What else somebody should look at. It holds nothing up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Whether the process of an application should go on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Liveness {
    /// Whether it should.
    pub live: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A place where an application takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListeningPlace {
    /// The ingress or egress that answers there.
    pub component: String,
    /// `host:port`, with the port that the system chose where module.yaml says 0.
    pub address: String,
    /// The method of the requests.
    pub method: String,
    /// The path, with `{placeholders}`.
    pub path: String,
}

/// Addresses that are parked, or whose first message is about to be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParkedList {
    /// By function and id.
    pub addresses: Vec<WaitingAddress>,
    /// Whether there are more.
    pub truncated: bool,
}

/// One such address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedShown {
    /// The address.
    pub address: WaitingAddress,
    /// The first messages that wait, the failed one in front.
    pub messages: Vec<QueuedMessage>,
}

/// An order was carried out, and that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedDone {
    /// Messages that were dropped, or are about to be tried.
    pub messages: u64,
}

/// Why a request was not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, and what to do.
    pub error: String,
}

/// A line of an answer in lines that says how it goes. Without [`End`](Self::End) in the last one, the answer is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateMark {
    /// How far it is.
    Progress(Progress),
    /// That was all.
    End(End),
    /// It came to no end.
    Failed(Problem),
}

impl StateMark {
    /// The mark that a line is, if it is one; all other lines are data.
    pub fn read(line: &[u8]) -> Option<Self> {
        let marks: [&[u8]; 3] = [b"{\"progress\":", b"{\"end\":", b"{\"failed\":"];
        let is_mark = marks.iter().any(|mark| line.starts_with(mark));
        is_mark.then(|| serde_json::from_slice(line).ok()).flatten()
    }
}
