//! What each message of the workload brings about: a function of its id alone, so that handlers and the checker agree.
//!
//! An id holds, from the lowest bit: hops left (4 bits), kind (4), target (8), and chance (48).

use crate::id::Address;
use crate::rand::Random;
use crate::sdk::function::StatefulFunction;
use crate::simulation::workload::{Narrow, Node};

/// What a message of the workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sent at once, or a record of a source.
    Plain,
    /// Sent later.
    Timer,
    /// Takes back a sibling of the kind [`Kind::Timer`].
    Cancel,
    /// The end of an operation.
    Operation,
}

/// How a message's handler fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// Not at all.
    Never,
    /// With an error, so often.
    Transient(u32),
    /// With a panic, so often.
    Panics(u32),
    /// Until an operator has mended what is wrong.
    UntilMended,
}

/// A message to be sent later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Later {
    pub(super) id: u64,
    pub(super) delay_ms: u64,
    /// Whether it has a token, with which a sibling takes it back.
    pub(super) cancellable: bool,
}

/// What a message brings about.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) failing: Failing,
    /// Ids of messages to be sent at once, and for those of the kind [`Kind::Cancel`] what they take back.
    pub(super) sends: Vec<(u64, u64)>,
    pub(super) later: Vec<Later>,
    pub(super) operation: Option<u64>,
    /// Records for the egress.
    pub(super) records: u32,
}

impl Plan {
    /// Ids of all messages that follow from this one.
    pub(super) fn children(&self) -> impl Iterator<Item = u64> {
        let sends = self.sends.iter().map(|(id, _)| *id);
        sends
            .chain(self.later.iter().map(|later| later.id))
            .chain(self.operation)
    }
}

/// Mixes two numbers.
pub(super) fn mix(a: u64, b: u64) -> u64 {
    Random::seeded(a.rotate_left(17) ^ b.wrapping_mul(0xA24B_AED4_963E_E407)).next_u64()
}

/// Puts an id together.
pub(super) fn make_id(chance: u64, hops: u64, kind: Kind, target: u64) -> u64 {
    let kind = match kind {
        Kind::Plain => 0,
        Kind::Timer => 1,
        Kind::Cancel => 2,
        Kind::Operation => 3,
    };
    (chance & !0xffff) | (target << 8) | (kind << 4) | (hops & 0xf)
}

/// One in so many ids, told by the bits from this one on.
pub(super) fn drawn(id: u64, bit: u32, of: u64) -> bool {
    (id >> bit).is_multiple_of(of)
}

/// That id of a record that its router refuses.
pub(super) fn misrouted(id: u64) -> u64 {
    id | 0xf0
}

/// Whether it is such an id.
pub(super) fn is_misrouted(id: u64) -> bool {
    id & 0xf0 == 0xf0
}

/// The kind of a message.
pub(super) fn kind(id: u64) -> Kind {
    match id >> 4 & 0xf {
        0 => Kind::Plain,
        1 => Kind::Timer,
        2 => Kind::Cancel,
        _ => Kind::Operation,
    }
}

/// The number of the address that a message is for.
pub(super) fn target(id: u64) -> u64 {
    id >> 8 & 0xff
}

/// The address of that number. One in eight has a short queue and few attempts.
pub(super) fn address(node: u64) -> Address {
    if is_narrow(node) {
        Narrow::at(format!("n{node}")).into_address()
    } else {
        Node::at(format!("n{node}")).into_address()
    }
}

/// Whether the address of that number is of the kind with a short queue.
pub(super) fn is_narrow(node: u64) -> bool {
    node % 8 == 5
}

/// What is different from run to run about what messages bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rules {
    /// How many addresses there are.
    pub(super) nodes: u64,
    /// Four of so many messages fail.
    pub(super) fail_every: u64,
    /// How many messages are sent later: up to so many by each.
    pub(super) timers: u64,
    /// How many messages a burst has.
    pub(super) burst: u64,
}

/// What the message of that id brings about.
pub(super) fn plan(id: u64, rules: Rules) -> Plan {
    let nodes = rules.nodes;
    let mut random = Random::seeded(mix(id, 0x5EED));
    let mut chance = |of: u64| random.below(of);
    let failing = match chance(rules.fail_every) {
        0..=2 => Failing::Transient(1 + chance(3) as u32),
        3 => Failing::Panics(1 + chance(2) as u32),
        4 if chance(2) == 0 => Failing::UntilMended,
        _ => Failing::Never,
    };
    let mut plan = Plan {
        failing,
        sends: Vec::new(),
        later: Vec::new(),
        operation: None,
        records: 0,
    };
    if matches!(kind(id), Kind::Cancel | Kind::Operation) {
        return plan;
    }
    plan.records = [0, 0, 1, 1, 2][chance(5) as usize];
    let (hops, own) = (id & 0xf, target(id));
    if hops == 0 {
        return plan;
    }
    let sends = match chance(32) {
        0..=5 => 0,
        6..=18 => 1,
        19..=25 => 2,
        26..=29 => 3,
        30 => 6,
        _ if hops == 1 => rules.burst,
        _ => 1,
    };
    // Half of the bursts go to one address.
    let one = (sends > 6 && chance(2) == 0).then(|| chance(nodes));
    for number in 0..sends {
        let to = if chance(5) == 0 { own } else { chance(nodes) };
        let to = one.unwrap_or(to);
        plan.sends
            .push((make_id(mix(id, number), hops - 1, Kind::Plain, to), 0));
    }
    for number in 0..chance(6 + rules.timers).saturating_sub(5) {
        let delay_ms = match chance(4) {
            0 => 1,
            1 => 1 + chance(50),
            2 => 200 + chance(1_000),
            _ => 5_000,
        };
        let cancellable = chance(2) == 0;
        let to = if cancellable || chance(3) == 0 {
            own
        } else {
            chance(nodes)
        };
        let later = make_id(mix(id, 100 + number), hops - 1, Kind::Timer, to);
        plan.later.push(Later {
            id: later,
            delay_ms,
            cancellable,
        });
        if cancellable {
            plan.sends
                .push((make_id(mix(id, 200 + number), 0, Kind::Cancel, own), later));
        }
    }
    if chance(6) == 0 {
        plan.operation = Some(make_id(mix(id, 300), 0, Kind::Operation, own));
    }
    plan
}

/// How an operation ends: its value, or none when it fails.
pub(super) fn operation_outcome(id: u64) -> Option<i64> {
    let value = mix(id, 0xA5);
    (!value.is_multiple_of(4)).then_some(value as i64)
}

/// Whether an operation never ends by itself.
pub(super) fn operation_hangs(id: u64) -> bool {
    mix(id, 0xBAD).is_multiple_of(6)
}
