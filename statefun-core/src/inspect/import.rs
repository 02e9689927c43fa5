//! From lines of JSON to the rows of a state store: all of them, or none.
//!
//! Lines are read and checked first, and their rows sorted; then it is seen whether two lines say something of the same
//! place, and whether an address has state already; then all rows go into the store together.

mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use self::lines::Lines;
use super::cursor::Cursor;
use super::sort::{Merge, Sorted, SortedRow, Sorter};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::disk::Disk;
use crate::engine::registry::Registry;
use crate::id::FunctionTypeId;
use crate::state::fjall::FjallStore;
use crate::state::keys::{Space, parse_address_key, prefix_end};
use crate::state::{StateError, StateReader};

/// Findings that are told at most.
const MOST_FINDINGS: usize = 20;
/// Bytes of a line at most.
const LINE_BYTES: u64 = 256 << 20;
/// Bytes of rows that are sorted in memory.
const SORT_BYTES: usize = 128 << 20;
/// Lines between two reports of progress.
const PROGRESS_LINES: u64 = 10_000;

/// How an import goes about what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// Addresses that have state lose it, and get that of their lines. Without this, they are findings.
    pub replace: bool,
    /// Everything is checked, and nothing is written.
    pub dry_run: bool,
}

/// What was imported, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Addresses with at least one row.
    pub addresses: u64,
    /// Of these, those that had state before.
    pub replaced: u64,
    /// Rows that were written.
    pub rows: u64,
    /// Bytes of these rows with their keys.
    pub bytes: u64,
}

/// Something wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// Why nothing was imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// Lines are wrong.
    #[error("{}", list(findings, *more))]
    Findings {
        /// All of them, or the first ones.
        findings: Vec<Finding>,
        /// Whether there may be more.
        more: bool,
    },
    /// The lines cannot be read.
    #[error("the lines to import cannot be read: {0}")]
    Read(io::Error),
    /// Rows cannot be put aside to be sorted.
    #[error("rows cannot be put aside in {}: {source}", directory.display())]
    Scratch {
        /// Where.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
}

fn list(findings: &[Finding], more: bool) -> String {
    let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    if more {
        lines.push("there may be more behind these".to_owned());
    }
    lines.join("\n")
}

/// Gathers findings, up to a bound.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one. Returns whether there are enough.
    fn add(&mut self, line: u64, problem: impl fmt::Display) -> bool {
        self.0.push(Finding {
            line,
            problem: problem.to_string(),
        });
        self.0.len() >= MOST_FINDINGS
    }

    fn error(self, more: bool) -> ImportError {
        ImportError::Findings {
            findings: self.0,
            more,
        }
    }
}

/// Rows of lines, sorted, ready to be given to a store.
pub(crate) struct Import {
    sorted: Sorted,
    scratch: PathBuf,
    names: BTreeMap<FunctionTypeId, String>,
    former: BTreeSet<((FunctionTypeId, u32), u32)>,
}

impl Import {
    /// Reads and checks lines. What was put aside in files is in `scratch`.
    ///
    /// # Errors
    /// When lines are wrong; all findings are there, up to a bound.
    pub(crate) fn read(
        input: &mut dyn BufRead,
        registry: &Registry,
        now: Timestamp,
        disk: Arc<dyn Disk>,
        scratch: PathBuf,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ImportError> {
        let mut lines = Lines::new(registry, now);
        let mut sorter = Sorter::new(disk, scratch.clone(), SORT_BYTES);
        let failed = |source| ImportError::Scratch {
            directory: scratch.clone(),
            source,
        };
        let mut findings = Findings::default();
        let mut text = Vec::new();
        let mut number = 0;
        loop {
            text.clear();
            let read = (&mut *input)
                .take(LINE_BYTES)
                .read_until(b'\n', &mut text)
                .map_err(ImportError::Read)?;
            let ends = read == 0;
            number += 1;
            let rows = if ends {
                Ok(vec![lines.finish_address()])
            } else if read as u64 == LINE_BYTES && !text.ends_with(b"\n") {
                findings.add(number, format_args!("it is longer than {LINE_BYTES} bytes"));
                return Err(findings.error(true));
            } else if text.trim_ascii().is_empty() {
                continue;
            } else {
                lines.line(number, &text)
            };
            match rows {
                // Once something is wrong, nothing will be written.
                Ok(rows) if findings.0.is_empty() => {
                    for (line, rows) in rows {
                        for (key, value) in rows {
                            sorter.push(&key, &value, line).map_err(failed)?;
                        }
                    }
                }
                Ok(_) => {}
                Err(misfit) => {
                    if findings.add(number, misfit) {
                        return Err(findings.error(true));
                    }
                }
            }
            if ends {
                break;
            }
            if number.is_multiple_of(PROGRESS_LINES) {
                progress(number);
            }
        }
        if !findings.0.is_empty() {
            return Err(findings.error(false));
        }
        let sorted = sorter.finish().map_err(failed)?;
        let names = registry.functions().iter().map(|function| {
            let name = function.typename;
            (name.function_type_id(), name.as_str().to_owned())
        });
        Ok(Self {
            sorted,
            scratch,
            names: names.collect(),
            former: lines.former,
        })
    }

    /// Notes in a catalog which earlier versions there will be rows of. True when it was changed.
    pub(crate) fn note_versions(&self, catalog: &mut Catalog) -> bool {
        let mut changed = false;
        for ((function, state), version) in &self.former {
            changed |= catalog.note_former(*function, *state, *version);
        }
        changed
    }

    /// Whether the rows can go into what `existing` has; what that comes to.
    ///
    /// # Errors
    /// When lines say something of the same place, or addresses have state that is not to be replaced.
    pub(crate) fn check(
        &self,
        existing: &dyn StateReader,
        replace: bool,
    ) -> Result<Imported, ImportError> {
        let mut imported = Imported {
            rows: self.sorted.rows,
            bytes: self.sorted.bytes,
            ..Imported::default()
        };
        let state = vec![Space::State as u8];
        let is_empty = existing.scan(&state, &prefix_end(&state), 1)?.is_empty();
        let mut findings = Findings::default();
        let mut merge = self.rows()?;
        let mut last: Option<(Vec<u8>, u64)> = None;
        let mut address: Option<Vec<u8>> = None;
        let mut told = None;
        while let Some(row) = merge.next().map_err(|source| self.failed(source))? {
            let named = || self.named(&row.key);
            if let Some((key, line)) = &last
                && *key == row.key
                // Two lines that agree in much are one finding.
                && told != Some((*line, row.line))
            {
                told = Some((*line, row.line));
                let problem = if *line == row.line {
                    format!("{} has the same entry twice", named())
                } else {
                    format!("line {line} sets the same of {}", named())
                };
                if findings.add(row.line, problem) {
                    return Err(findings.error(true));
                }
            }
            let prefix = address_of(&row.key);
            if address.as_deref() != Some(prefix) {
                imported.addresses += 1;
                let has_state =
                    !is_empty && !existing.scan(prefix, &prefix_end(prefix), 1)?.is_empty();
                imported.replaced += u64::from(has_state);
                if has_state && !replace {
                    let problem = format!("{} has state already", named());
                    if findings.add(row.line, problem) {
                        return Err(findings.error(true));
                    }
                }
                address = Some(prefix.to_vec());
            }
            last = Some((row.key, row.line));
        }
        if findings.0.is_empty() {
            Ok(imported)
        } else {
            Err(findings.error(false))
        }
    }

    /// Gives the rows to a store, all together, and takes what their addresses had before. The store's marker is `epoch` then.
    pub(crate) fn apply(&self, store: &FjallStore, epoch: u64) -> Result<(), ImportError> {
        let mut replacing = Replacing {
            merge: self.rows()?,
            next: None,
            store,
            older: None,
            address: Vec::new(),
            started: false,
        };
        let mut broken = None;
        let applied = store.ingest(epoch, |put| {
            loop {
                match replacing.next() {
                    Ok(Some((key, value))) => put((&key, value.as_deref()))?,
                    Ok(None) => return Ok(()),
                    Err(Failed::State(error)) => return Err(error),
                    Err(Failed::Scratch(source)) => {
                        let error = StateError::Store(source.to_string());
                        broken = Some(source);
                        return Err(error);
                    }
                }
            }
        });
        match (applied, broken) {
            (Err(_), Some(source)) => Err(self.failed(source)),
            (Err(error), None) => Err(error.into()),
            (Ok(()), _) => Ok(()),
        }
    }

    /// The address of a row, for messages.
    fn named(&self, key: &[u8]) -> String {
        match parse_address_key(key) {
            Some(key) => match self.names.get(&key.function) {
                Some(function) => format!("{function} {}", key.id),
                None => key.id,
            },
            None => "an address".to_owned(),
        }
    }

    fn rows(&self) -> Result<Merge<'_>, ImportError> {
        self.sorted.rows().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ImportError {
        ImportError::Scratch {
            directory: self.scratch.clone(),
            source,
        }
    }
}

/// The part of a key that all rows of its address begin with.
fn address_of(key: &[u8]) -> &[u8] {
    let rest = parse_address_key(key).map_or(0, |parsed| parsed.rest.len());
    key.get(..key.len() - rest).unwrap_or_default()
}

enum Failed {
    State(StateError),
    Scratch(io::Error),
}

/// New rows, and between them the deletes of what their addresses had.
struct Replacing<'s> {
    merge: Merge<'s>,
    next: Option<SortedRow>,
    store: &'s FjallStore,
    /// What the address at hand has.
    older: Option<(Cursor<'s>, Option<Vec<u8>>)>,
    address: Vec<u8>,
    started: bool,
}

impl Replacing<'_> {
    fn next(&mut self) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, Failed> {
        if !std::mem::replace(&mut self.started, true) {
            self.next = self.merge.next().map_err(Failed::Scratch)?;
        }
        loop {
            let newer = self
                .next
                .as_ref()
                .filter(|row| !self.address.is_empty() && row.key.starts_with(&self.address));
            // All of an address goes before the next one's rows.
            if let Some((cursor, older)) = &mut self.older {
                if older.is_none() {
                    *older = cursor.next().map_err(Failed::State)?.map(|(key, _)| key);
                }
                match (older.take(), newer) {
                    (None, _) => self.older = None,
                    (Some(key), Some(row)) if key == row.key => return self.take(),
                    (Some(key), Some(row)) if key > row.key => {
                        *older = Some(key);
                        return self.take();
                    }
                    (Some(key), _) => return Ok(Some((key, None))),
                }
            } else if newer.is_some() {
                return self.take();
            } else if let Some(row) = &self.next {
                self.address = address_of(&row.key).to_vec();
                let end = prefix_end(&self.address);
                let cursor = Cursor::new(self.store, self.address.clone(), end);
                self.older = Some((cursor, None));
            } else {
                return Ok(None);
            }
        }
    }

    /// The new row, which comes next.
    fn take(&mut self) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, Failed> {
        let following = self.merge.next().map_err(Failed::Scratch)?;
        let row = std::mem::replace(&mut self.next, following);
        Ok(row.map(|row| (row.key, Some(row.value))))
    }
}
