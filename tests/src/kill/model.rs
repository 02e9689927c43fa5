//! What must come out of a set of operations, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use super::plan::{How, NODES, mix, next, node_id, start};

/// A record of the egress.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Handled {
    /// The operation.
    pub op: u64,
    /// The message's place in it.
    pub path: u64,
    /// How it came.
    pub how: String,
    /// Its sender.
    pub from: String,
    /// The node that handled it.
    pub to: String,
    /// Its number among the messages of that pair, where order counts.
    pub seq: u64,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the application's `Dump` says it")]
pub struct Dump {
    pub handled: u64,
    pub taken_back: u64,
    pub spawned: u64,
    pub ended: u64,
    pub ops: u64,
    pub op_messages: u64,
    pub log_len: u64,
    pub digest: u64,
    pub disorder: u64,
}

/// The expected end.
#[derive(Debug, Default)]
pub struct Model {
    /// By operation and path: how, from, to.
    messages: HashMap<(u64, u64), (&'static str, String, String)>,
    nodes: BTreeMap<u64, Dump>,
    ops_of_node: BTreeMap<u64, BTreeSet<u64>>,
}

impl Model {
    /// Adds an operation of a source.
    ///
    /// # Panics
    /// When two messages of one operation have one path: the plan is no good then.
    pub fn add(&mut self, op: u64, source: &str) {
        let mut open = vec![(start(op), source.to_owned())];
        while let Some((hop, from)) = open.pop() {
            let own = node_id(hop.node);
            let before = self
                .messages
                .insert((hop.op, hop.path), (hop.how.name(), from, own.clone()));
            assert!(
                before.is_none(),
                "two messages of operation {op} have the path {}",
                hop.path
            );
            let node = self.nodes.entry(hop.node).or_default();
            node.handled += 1;
            node.op_messages += 1;
            node.log_len += 1;
            node.digest = node.digest.wrapping_add(mix(hop.path, 7));
            if matches!(hop.how, How::Async { .. }) {
                node.spawned += 1;
                node.ended += 1;
            }
            let ops = self.ops_of_node.entry(hop.node).or_default();
            ops.insert(op);
            node.ops = ops.len() as u64;
            for child in next(&hop) {
                if child.how == How::Never {
                    self.nodes.entry(hop.node).or_default().taken_back += 1;
                } else {
                    open.push((child, own.clone()));
                }
            }
        }
    }

    /// How many records there must be.
    pub fn records(&self) -> usize {
        self.messages.len()
    }

    /// What a node must say of itself.
    pub fn node(&self, node: u64) -> Dump {
        self.nodes.get(&node).cloned().unwrap_or_default()
    }

    /// All nodes.
    pub fn nodes() -> std::ops::Range<u64> {
        0..NODES
    }

    /// What is wrong with the records; empty when nothing is.
    pub fn check(&self, records: &[Handled]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut seen: HashMap<(u64, u64), usize> = HashMap::new();
        let mut last: HashMap<(&str, &str, bool), (u64, usize)> = HashMap::new();
        for (line, record) in records.iter().enumerate() {
            let (key, line) = ((record.op, record.path), line + 1);
            if let Some(first) = seen.insert(key, line) {
                problems.push(format!(
                    "line {line} is the same message as line {first}: {record:?}"
                ));
            }
            match self.messages.get(&key) {
                None => problems.push(format!(
                    "line {line} is no message of any operation: {record:?}"
                )),
                Some((how, from, to))
                    if (*how, from, to) != (&record.how, &record.from, &record.to) =>
                {
                    problems.push(format!(
                        "line {line} should be {how} from {from} to {to}: {record:?}"
                    ));
                }
                Some(_) => {}
            }
            if record.seq > 0 {
                // Messages between nodes are counted for each pair; those of a source only grow.
                let from_node = record.how == How::Now.name();
                let before = last.insert((&record.from, &record.to, from_node), (record.seq, line));
                let (before, at) = before.unwrap_or_default();
                let in_order = if from_node {
                    record.seq == before + 1
                } else {
                    record.seq > before
                };
                if !in_order {
                    problems.push(format!(
                        "line {line} is number {} from {} to {}, and number {before} was before it in line {at}",
                        record.seq, record.from, record.to
                    ));
                }
            } else if record.how == How::Now.name() {
                problems.push(format!("line {line} has no number: {record:?}"));
            }
        }
        let mut missing: Vec<_> = self
            .messages
            .iter()
            .filter(|(key, _)| !seen.contains_key(key))
            .collect();
        missing.sort();
        for (key, message) in missing {
            problems.push(format!("there is no record of {key:?}: {message:?}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::plan::Hop;

    /// The records of a run without any trouble, one message after the other.
    fn records(ops: u64) -> Vec<Handled> {
        let mut records = Vec::new();
        let mut sent: HashMap<(String, String), u64> = HashMap::new();
        let mut open: std::collections::VecDeque<(Hop, String, u64)> = (1..=ops)
            .map(|op| (start(op), "source".to_owned(), 0))
            .collect();
        while let Some((hop, from, seq)) = open.pop_front() {
            let to = node_id(hop.node);
            for child in next(&hop) {
                let number = sent.entry((to.clone(), node_id(child.node))).or_default();
                let seq = if child.how == How::Now {
                    *number += 1;
                    *number
                } else {
                    0
                };
                if child.how != How::Never {
                    open.push_back((child, to.clone(), seq));
                }
            }
            records.push(Handled {
                op: hop.op,
                path: hop.path,
                how: hop.how.name().to_owned(),
                from,
                to,
                seq,
            });
        }
        records
    }

    #[test]
    fn the_model_sees_what_is_wrong() {
        let mut model = Model::default();
        for op in 1..=50 {
            model.add(op, "source");
        }
        let good = records(50);
        assert_eq!(model.check(&good), Vec::<String>::new());
        assert_eq!(good.len(), model.records());
        let kinds: BTreeSet<&str> = good.iter().map(|record| record.how.as_str()).collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
        assert!(Model::nodes().any(|node| model.node(node).taken_back > 0));

        let mut lost = good.clone();
        let at = lost
            .iter()
            .position(|record| record.how == "later")
            .unwrap();
        lost.remove(at);
        assert!(!model.check(&lost).is_empty());
        let mut twice = good.clone();
        twice.push(good[7].clone());
        assert!(!model.check(&twice).is_empty());
        let mut swapped = good.clone();
        let pair = |record: &Handled| (record.from.clone(), record.to.clone());
        let second = good.iter().position(|record| record.seq == 2).unwrap();
        let first = good
            .iter()
            .position(|record| record.seq == 1 && pair(record) == pair(&good[second]))
            .unwrap();
        swapped.swap(first, second);
        assert!(!model.check(&swapped).is_empty());
        let mut foreign = good;
        foreign[3].op = 51;
        assert!(!model.check(&foreign).is_empty());
    }
}
