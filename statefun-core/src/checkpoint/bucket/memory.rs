//! A store in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::ObjectInfo;
use super::objects::{Answer, Cause, Condition, Failure, Objects, Opened, Version};

/// Objects by their names, with the number of the write that each comes from.
#[derive(Debug, Default)]
pub(super) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, u64)>,
    writes: u64,
}

impl Memory {
    fn locked<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Objects for Memory {
    fn put<'a>(&'a self, name: &'a str, bytes: Bytes, condition: Condition) -> Answer<'a, Version> {
        Box::pin(async move {
            self.locked(|state| {
                let there = state.objects.get(name).map(|(_, write)| version(*write));
                let holds = match (&condition, &there) {
                    (Condition::None, _) | (Condition::Absent, None) => true,
                    (Condition::Is(expected), Some(there)) => expected.is_same(there),
                    _ => false,
                };
                if !holds {
                    return Err(Failure::new(Cause::Condition, "412: the condition fails"));
                }
                state.writes += 1;
                let write = state.writes;
                state.objects.insert(name.to_owned(), (bytes, write));
                Ok(version(write))
            })
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> Answer<'a, Opened<'a>> {
        Box::pin(async move {
            let found = self.locked(|state| state.objects.get(name).cloned());
            let (bytes, write) =
                found.ok_or_else(|| Failure::new(Cause::Missing, "404: no such object"))?;
            let length = bytes.len() as u64;
            let part = match range {
                None => bytes,
                Some(range) if range.start >= length => {
                    return Err(Failure::new(Cause::Permanent, "416: beyond the end"));
                }
                Some(range) => bytes.slice(range.start as usize..range.end.min(length) as usize),
            };
            Ok(Opened {
                bytes: part.len() as u64,
                version: version(write),
                body: Box::pin(std::future::ready(Ok(part))),
            })
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ObjectInfo>> {
        Box::pin(async move {
            let inside = |name: &str| {
                let rest = name.strip_prefix(folder);
                folder.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
            };
            Ok(self.locked(|state| {
                let objects = state.objects.iter().filter(|(name, _)| inside(name));
                objects
                    .map(|(name, (bytes, write))| ObjectInfo {
                        name: name.clone(),
                        bytes: bytes.len() as u64,
                        // No clock: later writes are later.
                        modified_ms: *write,
                    })
                    .collect()
            }))
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.locked(|state| state.objects.remove(name));
            Ok(())
        })
    }
}

fn version(write: u64) -> Version {
    Version {
        tag: Some(write.to_string()),
        generation: None,
    }
}
