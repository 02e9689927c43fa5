//! What an operation makes the application do, as a pure function of its number: the application follows it, and the model
//! of the test as well. So the expected end does not depend on what ran when, or was tried how often.

use serde::{Deserialize, Serialize};

/// How many nodes there are. More than the cache of the application holds.
pub const NODES: u64 = 240;

/// One message of an operation's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The operation.
    pub op: u64,
    /// The message's place in the operation's tree.
    pub path: u64,
    /// The node that it is for.
    pub node: u64,
    /// How many further hops it may cause, at most.
    pub left: u32,
    /// How it is on its way.
    pub how: How,
}

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// By the router.
    Start,
    /// At once.
    Now,
    /// After a delay.
    Later {
        /// In milliseconds.
        ms: u64,
    },
    /// It is the end of an operation that its own node has spawned.
    Async {
        /// How long that takes, in milliseconds.
        ms: u64,
        /// Whether it fails.
        fails: bool,
    },
    /// After an hour, unless it is taken back before; which it always is.
    Never,
}

impl How {
    /// As the records of the egress name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Now => "now",
            Self::Later { .. } => "later",
            Self::Async { .. } => "async",
            Self::Never => "never",
        }
    }
}

/// Two numbers scrambled into one (the finalizer of SplitMix64).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.wrapping_add(0x632B_E59B_D9B4_E019);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The id of a node.
pub fn node_id(node: u64) -> String {
    format!("node-{node}")
}

/// The first message of an operation.
pub fn start(op: u64) -> Hop {
    let draw = mix(op, 1);
    Hop {
        op,
        path: 0,
        node: draw % NODES,
        left: 4 + (draw >> 32) as u32 % 20,
        how: How::Start,
    }
}

/// What a message makes its node send. A [`How::Never`] is to be taken back by another message to itself.
pub fn next(hop: &Hop) -> Vec<Hop> {
    if hop.left == 0 {
        return Vec::new();
    }
    let draw = mix(hop.op, mix(hop.path, 2));
    let child = |number: u64, node: u64, left: u32, how: How| Hop {
        op: hop.op,
        path: mix(hop.path, 16 + number),
        node,
        left,
        how,
    };
    let (left, somewhere, ms) = (hop.left - 1, (draw >> 16) % NODES, (draw >> 40) % 20);
    match draw % 16 {
        0 | 1 => vec![
            child(1, somewhere, left / 2, How::Now),
            child(2, (draw >> 24) % NODES, left / 2, How::Now),
            // Twice to one node: their order counts.
            child(3, somewhere, 0, How::Now),
        ],
        2 => vec![child(1, somewhere, left, How::Later { ms: 1 + ms })],
        3 => vec![child(
            1,
            hop.node,
            left,
            How::Async {
                ms: ms / 2,
                fails: draw >> 60 & 1 == 1,
            },
        )],
        4 => vec![child(1, hop.node, left, How::Now)],
        5 => vec![
            child(1, somewhere, 0, How::Never),
            child(2, somewhere, left, How::Now),
        ],
        // Back and forth between two neighbours.
        6..=9 => vec![child(1, hop.node ^ 1, left, How::Now)],
        _ => vec![child(1, somewhere, left, How::Now)],
    }
}
