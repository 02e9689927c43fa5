//! The rehearsal of a deploy: whether an application reads all that is stored, address by address, before it runs.
//!
//! Nothing is written. Rows are read by the application's own code as a start would read them, and converted where they are of
//! an earlier version; so what a migration says of real data is known before it matters.

mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::catalog::{Catalog, CatalogError, FunctionEntry, StateEntry, StoredData};
use crate::clock::Timestamp;
use crate::engine::cut::EpochBody;
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::registry::Registry;
use crate::engine::stored::{each_envelope, each_row};
use crate::id::FunctionTypeId;
use crate::sdk::caught::caught;
use crate::sdk::message::TypedValue;
use crate::sdk::state::{Outcome, RowValue, StateDefinition};
use crate::state::StateError;
use crate::state::keys::{Space, parse_address_key};

pub use report::{
    Failure, FunctionReport, MessageFailure, MessageReport, MigrationReport, StateReport,
};

/// How far a dry run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows of states that have been read.
    pub rows: u64,
    /// Key groups that they were of.
    pub key_groups: u32,
    /// Key groups that there are.
    pub of_key_groups: u32,
}

/// Rows between two calls of the progress function.
const PROGRESS_ROWS: u64 = 4096;

/// Reads all that is stored as the application would, and reports what would fail.
///
/// `catalog` is the one that was written with the data. Memory does not grow with the data: failing addresses are named up to
/// a number per state, and all counted.
///
/// # Errors
/// When the rows themselves cannot be read. What the application does not read is in the report.
pub fn dry_run(
    registry: &Registry,
    catalog: &Catalog,
    data: &StoredData<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<MigrationReport, StateError> {
    let mut code = Catalog::of(registry, catalog.lineage);
    code.key_groups = catalog.key_groups;
    let refused = match catalog.succeed(&code, data, std::path::Path::new(""), &[]) {
        Ok(_) => Vec::new(),
        Err(CatalogError::Changed { changes, .. }) => {
            changes.iter().map(ToString::to_string).collect()
        }
        Err(CatalogError::State(error)) => return Err(error),
        Err(other) => vec![other.to_string()],
    };
    let now = EpochBody::parse(data.last_record).map_or(Timestamp::default(), |body| body.time);
    let mut run = Run::new(registry, catalog, now);
    let mut rows = 0;
    let mut of_group = 0;
    let of_key_groups = u32::from(catalog.key_groups.count());
    each_row(data.store, Space::State, |key, value| {
        run.row(&key, &value);
        rows += 1;
        if let Some(group) = key.get(1..).and_then(<[u8]>::first_chunk::<2>) {
            of_group = u32::from(u16::from_be_bytes(*group)) + 1;
        }
        if rows % PROGRESS_ROWS == 0 {
            progress(Progress {
                rows,
                key_groups: of_group.min(of_key_groups),
                of_key_groups,
            });
        }
    })?;
    progress(Progress {
        rows,
        key_groups: of_key_groups,
        of_key_groups,
    });
    let messages = messages(registry, data)?;
    Ok(run.finish(refused, messages))
}

/// A state as the code and the catalog know it.
struct KnownState<'a> {
    report: StateReport,
    definition: Option<StateDefinition>,
    entry: Option<&'a StateEntry>,
    /// The address whose rows failed last.
    failing: Option<u64>,
}

struct KnownFunction<'a> {
    report: FunctionReport,
    states: BTreeMap<u32, KnownState<'a>>,
}

struct Run<'a> {
    functions: BTreeMap<u32, KnownFunction<'a>>,
    /// The prefix of the address whose rows come now, its number, and whether a row of it has failed.
    address: Vec<u8>,
    addresses: u64,
    has_failed: bool,
    malformed: u64,
    /// The time of the data.
    now: Timestamp,
}

impl<'a> Run<'a> {
    fn new(registry: &Registry, catalog: &'a Catalog, now: Timestamp) -> Self {
        let mut functions = BTreeMap::new();
        for (name, entry) in catalog.functions() {
            functions.insert(entry.number, KnownFunction::of(name, entry));
        }
        for definition in registry.functions() {
            let name = definition.typename;
            let function = functions
                .entry(name.function_type_id().0)
                .or_insert_with(|| KnownFunction::named(name.as_str().to_owned()));
            for state in &definition.states {
                let mut definition = state.clone();
                let known = function.state(state.number(), || state.description.name.clone());
                if let Some(entry) = known.entry {
                    definition.learn(&entry.recorded());
                }
                known.report.version = Some(definition.description.version);
                known.definition = Some(definition);
            }
        }
        Self {
            functions,
            address: Vec::new(),
            addresses: 0,
            has_failed: false,
            malformed: 0,
            now,
        }
    }

    fn row(&mut self, key: &[u8], value: &[u8]) {
        let Some((parsed, number, rest)) = parse_address_key(key).and_then(|parsed| {
            let (number, rest) = parsed.rest.split_first_chunk::<4>()?;
            Some((parsed.clone(), u32::from_be_bytes(*number), rest))
        }) else {
            self.malformed += 1;
            return;
        };
        let FunctionTypeId(id) = parsed.function;
        let function = self
            .functions
            .entry(id)
            .or_insert_with(|| KnownFunction::named(format!("function number {id:#010x}")));
        let prefix = key.get(..key.len() - 4 - rest.len()).unwrap_or_default();
        if self.address != prefix {
            self.address.clear();
            self.address.extend_from_slice(prefix);
            self.addresses += 1;
            self.has_failed = false;
            function.report.addresses += 1;
        }
        let state = function.state(number, || format!("state number {number:#010x}"));
        if let Err(problem) = state.row(rest, value, self.now) {
            let is_new = state.failing.replace(self.addresses) != Some(self.addresses);
            state.report.fail(&parsed.id, problem, is_new);
            if !std::mem::replace(&mut self.has_failed, true) {
                function.report.failing_addresses += 1;
            }
        }
    }

    fn finish(self, mut refused: Vec<String>, messages: MessageReport) -> MigrationReport {
        if self.malformed > 0 {
            refused.push(format!("{} rows have malformed keys", self.malformed));
        }
        let mut functions: Vec<FunctionReport> = self
            .functions
            .into_values()
            .filter(|function| function.report.addresses > 0)
            .map(KnownFunction::finish)
            .collect();
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        let sum = |of: fn(&FunctionReport) -> u64| functions.iter().map(of).sum();
        MigrationReport {
            addresses: sum(|function| function.addresses),
            failing_addresses: sum(|function| function.failing_addresses),
            functions,
            messages,
            refused,
        }
    }
}

impl<'a> KnownFunction<'a> {
    fn named(name: String) -> Self {
        Self {
            report: FunctionReport {
                name,
                ..FunctionReport::default()
            },
            states: BTreeMap::new(),
        }
    }

    fn of(name: &str, entry: &'a FunctionEntry) -> Self {
        let mut function = Self::named(name.to_owned());
        for (name, entry) in &entry.states {
            let state = function.state(entry.number, || name.clone());
            state.entry = Some(entry);
        }
        function
    }

    fn state(&mut self, number: u32, name: impl FnOnce() -> String) -> &mut KnownState<'a> {
        self.states.entry(number).or_insert_with(|| KnownState {
            report: StateReport {
                name: name(),
                ..StateReport::default()
            },
            definition: None,
            entry: None,
            failing: None,
        })
    }

    fn finish(self) -> FunctionReport {
        let mut report = self.report;
        let states = self.states.into_values().map(|state| state.report);
        report.states = states.filter(|state| state.rows > 0).collect();
        report.states.sort_by(|a, b| a.name.cmp(&b.name));
        report
    }
}

impl KnownState<'_> {
    /// Reads a row and counts what it is.
    fn row(&mut self, rest: &[u8], value: &[u8], now: Timestamp) -> Result<(), String> {
        self.report.rows += 1;
        let Some(definition) = &self.definition else {
            // The state is gone; the catalog refuses that.
            self.report.unchecked += 1;
            return Ok(());
        };
        let outcome = match definition.check_row(rest, value) {
            Ok(Some(outcome)) => outcome,
            Err(problem) if !has_expired(value, now) => return Err(problem),
            Ok(None) | Err(_) => {
                self.report.unchecked += 1;
                return Ok(());
            }
        };
        match outcome {
            Outcome::Current => self.report.current += 1,
            Outcome::Compatible => self.report.compatible += 1,
            Outcome::Migrated { .. } => self.report.migrated += 1,
        }
        self.count_version(value, outcome);
        Ok(())
    }

    fn count_version(&mut self, value: &[u8], outcome: Outcome) {
        let recorded = self.entry.zip(RowValue::parse(value)).map(|(entry, row)| {
            let known = entry.shape_of(row.schema).map(|(version, _)| version);
            known.unwrap_or_else(|| entry.oldest().0)
        });
        let version = match outcome {
            Outcome::Migrated { from } => from,
            _ => recorded.or(self.report.version).unwrap_or(0),
        };
        *self.report.rows_by_version.entry(version).or_default() += 1;
    }
}

/// Nobody sees such a row any more.
fn has_expired(value: &[u8], now: Timestamp) -> bool {
    RowValue::parse(value).is_some_and(|row| row.expired(now))
}

/// Stored messages whose types do not read them any more.
fn messages(registry: &Registry, data: &StoredData<'_>) -> Result<MessageReport, StateError> {
    let mut report = MessageReport::default();
    each_envelope(data.store, data.last_record, |mut bytes: Bytes| {
        let envelope = match Envelope::decode(&mut bytes, registry) {
            Ok(envelope) => envelope,
            // The catalog refuses that, or what becomes of it was decided before.
            Err(EnvelopeError::UnknownFunction(_)) => return,
            Err(error) => {
                report.checked += 1;
                report.fail("?", error.to_string());
                return;
            }
        };
        let Some(value) = envelope.body.as_any().downcast_ref::<TypedValue>() else {
            return;
        };
        report.checked += 1;
        let read = registry
            .check_accepts(&envelope.to, &*envelope.body)
            .map_err(|error| error.to_string())
            .and_then(|()| match registry.message(value.type_id()) {
                Some(message) => caught("its decoder", || (message.decode)(&value.value))?
                    .map(drop)
                    .map_err(|error| error.to_string()),
                None => Ok(()),
            });
        if let Err(problem) = read {
            report.fail(&value.typename, problem);
        }
    })?;
    Ok(report)
}
