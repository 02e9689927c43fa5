//! What a dry run found: as JSON for programs, as text for people.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Failing addresses that are named, per state.
const NAMED: usize = 10;
/// Different reasons that are counted apart, per state; the rest is counted together.
const REASONS: usize = 50;
const OTHER_REASONS: &str = "other reasons";

/// What a dry run found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationReport {
    /// Addresses that have state.
    pub addresses: u64,
    /// Those of them that would be parked with the next message to them.
    pub failing_addresses: u64,
    /// Function types that have state, sorted by name.
    pub functions: Vec<FunctionReport>,
    /// Messages that are under way, waiting or delayed.
    pub messages: MessageReport,
    /// What a start would refuse, in the words that it would use.
    pub refused: Vec<String>,
}

/// What a dry run found of one function type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionReport {
    /// Its name.
    pub name: String,
    /// Addresses that have state.
    pub addresses: u64,
    /// Those of them of which some state would not be read.
    pub failing_addresses: u64,
    /// States that have rows, sorted by name.
    pub states: Vec<StateReport>,
}

/// What a dry run found of one state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// Its name.
    pub name: String,
    /// The version of its type in the code; none where the code has no such state.
    pub version: Option<u32>,
    /// All of its rows.
    pub rows: u64,
    /// Rows that would be read, by the version that they were written in.
    pub rows_by_version: BTreeMap<u32, u64>,
    /// Rows of the current form.
    pub current: u64,
    /// Rows of another form that the current type reads as it is.
    pub compatible: u64,
    /// Rows that a migration would convert.
    pub migrated: u64,
    /// Rows that would not be read.
    pub failing: u64,
    /// Rows that are not for the state's type to read: what a buffer keeps of itself, states of a registry, states that are gone,
    /// and what would not be read but has expired.
    pub unchecked: u64,
    /// Addresses of which some row would not be read.
    pub failing_addresses: u64,
    /// The first ones of them.
    pub failures: Vec<Failure>,
    /// Why rows would not be read, and how many.
    pub reasons: BTreeMap<String, u64>,
}

/// An address that would be parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its id.
    pub id: String,
    /// Why its first row would not be read.
    pub reason: String,
}

/// What a dry run found of stored messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageReport {
    /// Messages that were read.
    pub checked: u64,
    /// Those that their functions would not take.
    pub failing: u64,
    /// By message type and reason.
    pub failures: Vec<MessageFailure>,
}

/// Messages that would not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageFailure {
    /// Their type's name.
    pub message: String,
    /// Why.
    pub reason: String,
    /// How many.
    pub count: u64,
}

impl StateReport {
    pub(super) fn fail(&mut self, id: &str, reason: String, is_new_address: bool) {
        self.failing += 1;
        if is_new_address {
            self.failing_addresses += 1;
            if self.failures.len() < NAMED {
                self.failures.push(Failure {
                    id: id.to_owned(),
                    reason: reason.clone(),
                });
            }
        }
        let is_known = self.reasons.len() < REASONS || self.reasons.contains_key(&reason);
        let reason = if is_known {
            reason
        } else {
            OTHER_REASONS.to_owned()
        };
        *self.reasons.entry(reason).or_default() += 1;
    }
}

impl MessageReport {
    pub(super) fn fail(&mut self, message: &str, reason: String) {
        self.failing += 1;
        let known = self
            .failures
            .iter_mut()
            .find(|known| known.message == message && known.reason == reason);
        if let Some(known) = known {
            known.count += 1;
            return;
        }
        let is_room = self.failures.len() < REASONS;
        let (message, reason) = if is_room {
            (message, reason)
        } else {
            ("…", OTHER_REASONS.to_owned())
        };
        match self.failures.last_mut().filter(|_| !is_room) {
            Some(last) if last.reason == OTHER_REASONS => last.count += 1,
            _ => self.failures.push(MessageFailure {
                message: message.to_owned(),
                reason,
                count: 1,
            }),
        }
    }
}

impl MigrationReport {
    /// Whether the application would start, and every address and message would be read.
    pub fn is_clean(&self) -> bool {
        self.failing_addresses == 0 && self.messages.failing == 0 && self.refused.is_empty()
    }
}

const HEAD: [&str; 7] = [
    "function",
    "state",
    "rows",
    "current",
    "compatible",
    "migrate",
    "fail",
];

impl fmt::Display for MigrationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = vec![HEAD.map(str::to_owned).to_vec()];
        for function in &self.functions {
            for state in &function.states {
                let counts = [
                    state.rows,
                    state.current,
                    state.compatible,
                    state.migrated,
                    state.failing,
                ];
                let mut line = vec![function.name.clone(), state.name.clone()];
                line.extend(counts.map(|count| count.to_string()));
                line.push(versions(state));
                table.push(line);
            }
        }
        write_table(f, &table)?;
        for function in &self.functions {
            for state in &function.states {
                if state.failing > 0 {
                    write_failures(f, function, state)?;
                }
            }
        }
        for failure in &self.messages.failures {
            writeln!(
                f,
                "\nmessage `{}`: {} stored ones would not be read: {}",
                failure.message,
                failure.count,
                one_line(&failure.reason)
            )?;
        }
        if !self.refused.is_empty() {
            writeln!(f, "\nthe application would refuse to start:")?;
            for refused in &self.refused {
                writeln!(f, "  - {refused}")?;
            }
        }
        write!(
            f,
            "\n{} of {} addresses would fail, and {} of {} stored messages",
            self.failing_addresses, self.addresses, self.messages.failing, self.messages.checked
        )
    }
}

/// `version 1: 20, version 2 (the code's): 3`
fn versions(state: &StateReport) -> String {
    let Some(current) = state.version else {
        return "not in the code".to_owned();
    };
    let all = state.rows_by_version.iter().map(|(version, rows)| {
        let whose = if *version == current { " (now)" } else { "" };
        format!("v{version}{whose}: {rows}")
    });
    all.collect::<Vec<_>>().join(", ")
}

/// What a panic says may have several lines.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write_table(f: &mut fmt::Formatter<'_>, table: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for line in table {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            // Names to the left, numbers to the right.
            let padded = if (2..HEAD.len()).contains(&column) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
            text.push_str(&padded);
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

fn write_failures(
    f: &mut fmt::Formatter<'_>,
    function: &FunctionReport,
    state: &StateReport,
) -> fmt::Result {
    writeln!(
        f,
        "\n{}, state `{}`: {} addresses would fail",
        function.name, state.name, state.failing_addresses
    )?;
    for (reason, rows) in &state.reasons {
        writeln!(f, "  {rows} rows: {}", one_line(reason))?;
    }
    for failure in &state.failures {
        let reason = one_line(&failure.reason);
        writeln!(f, "  {}/{}: {reason}", function.name, failure.id)?;
    }
    let named = state.failures.len() as u64;
    if state.failing_addresses > named {
        writeln!(f, "  … and {} more", state.failing_addresses - named)?;
    }
    Ok(())
}
