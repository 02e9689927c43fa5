//! Tests of runs.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::{Part, Rows, RunError, RunPart, RunStream, RunWriter};

mod damage;
mod fetching;
mod fixture;
mod laws;
mod speed;

/// Rows by key; none is a delete.
type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The parts of a run, by name.
type Objects = BTreeMap<String, Bytes>;

fn write(rows: &Model, part_bytes: usize, block_bytes: usize) -> Vec<Part> {
    let mut writer = RunWriter::with_blocks(part_bytes, block_bytes);
    let mut parts = Vec::new();
    for (key, value) in rows {
        parts.extend(writer.push(key, value.as_deref()).unwrap());
    }
    parts.extend(writer.finish());
    parts
}

/// Puts parts where they can be fetched.
fn store(parts: &[Part]) -> (Arc<Objects>, Vec<RunPart>) {
    let named = parts.iter().enumerate();
    let named = named.map(|(number, part)| (format!("{number}.run"), part));
    let objects = named
        .clone()
        .map(|(name, part)| (name, Bytes::from(part.bytes.clone())));
    let run = named.map(|(name, part)| RunPart {
        name,
        summary: part.summary.clone(),
    });
    (Arc::new(objects.clone().collect()), run.clone().collect())
}

fn stream(parts: &[Part], start: &[u8], end: &[u8], window_bytes: usize) -> RunStream {
    let (objects, run) = store(parts);
    RunStream::new(objects, run, start, end, window_bytes).unwrap()
}

fn collect(rows: &mut impl Rows) -> Result<Model, RunError> {
    let mut all = Model::new();
    while let Some((key, value)) = rows.next_row()? {
        let is_behind = all.last_key_value().is_none_or(|(last, _)| &last[..] < key);
        assert!(is_behind, "out of order");
        all.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    }
    assert!(!rows.advance()?, "a row behind the end");
    Ok(all)
}

fn range(rows: &Model, start: &[u8], end: &[u8]) -> Model {
    if !end.is_empty() && start >= end {
        return Model::new();
    }
    let end = if end.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(end)
    };
    let range = rows.range::<[u8], _>((Bound::Included(start), end));
    range
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Numbers that look like chance, the same each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
