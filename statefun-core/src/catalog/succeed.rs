//! Whether an application reads what is stored.

use std::collections::BTreeMap;
use std::path::Path;

use crate::catalog::{Catalog, CatalogError, Change, FILE, FormerShape, StateEntry, StoredData};
use crate::engine::stored::StoredMessages;
use crate::id::FunctionTypeId;
use crate::module::description::StateKind;
use crate::sdk::state::versions::{Form, Unread, choose};
use crate::shape::Shape;
use crate::shape::compat::{Incompatible, reads};
use crate::state::keys::{Space, group_key, parse_address_key, prefix_end};
use crate::state::{StateError, StateReader};

/// Rows are counted up to so many.
const BOUND: u64 = 100_000;
const CHUNK_ROWS: usize = 1024;

impl Catalog {
    /// Checks that the rows and messages of this catalog can be read by the application of `new`, and returns what to store
    /// from now on. `dropped` names functions (`ns/name`), states (`ns/name:state`) and egresses (`egress:ns/name`) whose data
    /// may be lost.
    pub fn succeed(
        &self,
        new: &Self,
        data: &StoredData<'_>,
        directory: &Path,
        dropped: &[String],
    ) -> Result<Self, CatalogError> {
        let store = data.store;
        // Stored messages are counted when something they might be of has changed, not before.
        let mut stored: Option<StoredMessages> = None;
        let mut stored = || -> Result<StoredMessages, StateError> {
            if stored.is_none() {
                stored = Some(StoredMessages::count(store, data.last_record)?);
            }
            Ok(stored.clone().unwrap_or_default())
        };
        let mut changes = Vec::new();
        let mut result = new.clone();
        result.lineage = self.lineage;
        result.key_groups = self.key_groups;
        for (name, old) in &self.functions {
            let Some(now) = new.functions.get(name) else {
                let rows = self.count(store, old.number, None)?;
                let messages = stored()?.by_function.get(&old.number).copied().unwrap_or(0);
                if (rows != "0" || messages > 0) && !dropped.contains(name) {
                    changes.push(Change::FunctionGone {
                        function: name.clone(),
                        rows,
                        messages,
                    });
                }
                continue;
            };
            for (state, was) in &old.states {
                let full = format!("{name}:{state}");
                if dropped.contains(&full) || dropped.contains(name) {
                    continue;
                }
                match now.states.get(state) {
                    None => {
                        let rows = self.count(store, old.number, Some(was.number))?;
                        if rows != "0" {
                            changes.push(Change::StateGone {
                                function: name.clone(),
                                state: state.clone(),
                                old: describe(was, &was.shape),
                                rows,
                            });
                        }
                    }
                    Some(is) => {
                        let place = StatePlace {
                            function: name,
                            number: old.number,
                            state,
                            was,
                            is,
                        };
                        let former = self.check_state(store, &place, &mut changes)?;
                        if let Some(function) = result.functions.get_mut(name)
                            && let Some(entry) = function.states.get_mut(state)
                        {
                            entry.former = former;
                        }
                    }
                }
            }
        }
        for (message, was) in &self.messages {
            if let Some(is) = new.messages.get(message)
                && let Err(problem) = reads(was, is)
                && let Some(count) = stored()?.by_type.get(message)
            {
                changes.push(Change::MessageChanged {
                    message: message.clone(),
                    count: *count,
                    problem: problem.to_string(),
                    old: was.to_string(),
                    new: is.to_string(),
                });
            }
        }
        for (egress, records) in data.undelivered {
            if *records > 0 && !dropped.contains(&format!("egress:{egress}")) {
                changes.push(Change::EgressGone {
                    egress: egress.clone(),
                    records: *records,
                });
            }
        }
        if changes.is_empty() {
            for function in result.functions.values_mut() {
                for state in function.states.values_mut() {
                    state.forms.clear();
                }
            }
            result.choose_layout();
            return Ok(result);
        }
        Err(CatalogError::Changed {
            path: directory.join(FILE),
            changes,
        })
    }

    /// Checks that the code reads all forms that rows of a state have, and returns those that are not its current one. Rows are
    /// looked at only when there is a form that it does not read.
    fn check_state(
        &self,
        store: &dyn StateReader,
        place: &StatePlace<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Vec<FormerShape>, StateError> {
        let StatePlace { was, is, .. } = *place;
        if let Err(problem) = same_kind(was, is) {
            if self.count(store, place.number, Some(was.number))? != "0" {
                changes.push(place.changed(&problem, &was.shape));
            }
            return Ok(Vec::new());
        }
        let forms = place.forms();
        let mut recorded = was.recorded();
        let mut unread: BTreeMap<u32, Unread> = BTreeMap::new();
        for form in &mut recorded {
            match choose(&forms, form.version, &form.shape) {
                Ok(0) => form.read_as = None,
                Ok(by) => form.read_as = forms.get(by).map(|form| form.name.clone()),
                Err(why) => {
                    unread.insert(form.schema, why);
                }
            }
        }
        if !unread.is_empty() {
            let counts = self.count_forms(store, place.number, was, &unread)?;
            let rows = |form: &FormerShape| counts.get(&form.schema).copied().unwrap_or(0);
            // One refusal for a version, however many forms it had: with the newest of them.
            let mut refused: BTreeMap<u32, (u64, &FormerShape, &Unread)> = BTreeMap::new();
            for form in &recorded {
                if let Some(why) = unread.get(&form.schema)
                    && rows(form) > 0
                {
                    let before = refused.get(&form.version).map_or(0, |(rows, ..)| *rows);
                    refused.insert(form.version, (before + rows(form), form, why));
                }
            }
            for (rows, form, why) in refused.into_values() {
                changes.push(place.unread(form, why, up_to_bound(rows)));
            }
            recorded.retain(|form| rows(form) > 0);
        }
        let current = is.schema();
        recorded.retain(|form| form.schema != current);
        Ok(recorded)
    }

    /// How many rows of a state have each of the recorded forms; up to a bound of those that the code does not read. Rows of a
    /// form that is not recorded count as those of the oldest.
    fn count_forms(
        &self,
        store: &dyn StateReader,
        function: u32,
        state: &StateEntry,
        unread: &BTreeMap<u32, Unread>,
    ) -> Result<BTreeMap<u32, u64>, StateError> {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        let (version, shape) = state.oldest();
        let oldest = crate::sdk::state::schema_id(shape, version);
        let mut bad = 0;
        self.scan(store, Space::State, function, &mut |key, value| {
            let Some(own) = parse_address_key(key).and_then(|key| {
                key.rest
                    .strip_prefix(&state.number.to_be_bytes())
                    .map(<[u8]>::len)
            }) else {
                return true;
            };
            // The row that says which elements there are is of no form.
            if state.kind == StateKind::Buffer && own == 0 {
                return true;
            }
            let schema = value
                .first_chunk::<4>()
                .map_or(oldest, |schema| u32::from_le_bytes(*schema));
            let schema = if state.shape_of(schema).is_some() {
                schema
            } else {
                oldest
            };
            *counts.entry(schema).or_default() += 1;
            bad += u64::from(unread.contains_key(&schema));
            bad <= BOUND
        })?;
        Ok(counts)
    }

    /// Rows of a function, or of one of its states; counted up to a bound, as text.
    fn count(
        &self,
        store: &dyn StateReader,
        function: u32,
        state: Option<u32>,
    ) -> Result<String, StateError> {
        let spaces: &[Space] = if state.is_some() {
            &[Space::State]
        } else {
            &[Space::State, Space::Queue, Space::Token, Space::Operation]
        };
        let mut count = 0;
        for space in spaces {
            self.scan(store, *space, function, &mut |key, _| {
                let counts = state.is_none_or(|wanted| {
                    parse_address_key(key)
                        .is_some_and(|key| key.rest.starts_with(&wanted.to_be_bytes()))
                });
                count += u64::from(counts);
                count <= BOUND
            })?;
        }
        Ok(up_to_bound(count))
    }

    /// Shows all rows that a function has in a space, until `visit` says that it has seen enough.
    fn scan(
        &self,
        store: &dyn StateReader,
        space: Space,
        function: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StateError> {
        let function = FunctionTypeId(function);
        for group in 0..self.key_groups.count() {
            let mut start = group_key(space, group);
            start.extend_from_slice(&function.0.to_be_bytes());
            let end = prefix_end(&start);
            loop {
                let chunk = store.scan(&start, &end, CHUNK_ROWS)?;
                let Some((last, _)) = chunk.last() else {
                    break;
                };
                start.clone_from(last);
                start.push(0);
                if !chunk.iter().all(|(key, value)| visit(key, value)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn up_to_bound(count: u64) -> String {
    if count > BOUND {
        format!("more than {BOUND}")
    } else {
        count.to_string()
    }
}

/// A state that the data and the code both have.
struct StatePlace<'a> {
    function: &'a str,
    number: u32,
    state: &'a str,
    was: &'a StateEntry,
    is: &'a StateEntry,
}

impl StatePlace<'_> {
    /// The versions that the code has.
    fn forms(&self) -> Vec<Form> {
        if self.is.forms.is_empty() {
            return vec![Form {
                version: self.is.version,
                name: "the type".to_owned(),
                shape: self.is.shape.clone(),
            }];
        }
        self.is.forms.clone()
    }

    fn changed(&self, problem: &Incompatible, old: &Shape) -> Change {
        Change::StateChanged {
            function: self.function.to_owned(),
            state: self.state.to_owned(),
            problem: problem.to_string(),
            old: describe(self.was, old),
            new: describe(self.is, &self.is.shape),
        }
    }

    /// What is refused of a form that rows have and the code does not read.
    fn unread(&self, form: &FormerShape, why: &Unread, rows: String) -> Change {
        let help = match why {
            Unread::Changed { problem, .. } if form.version == self.is.version => {
                return self.changed(problem, &form.shape);
            }
            Unread::Changed { name, problem } => {
                format!("`{name}` no longer reads them ({problem}), so restore it as it was")
            }
            Unread::Later { latest } => format!(
                "start the code that wrote them, since this one has version {latest} at most"
            ),
            Unread::Gone => match &form.read_as {
                Some(name) => format!("keep `{name}` and its migration"),
                None => format!(
                    "keep the type of that version beside the new one, and write a migration \
                     (`#[persisted(version = {}, migrate_from = …)]`)",
                    self.is.version
                ),
            },
        };
        Change::VersionUnread {
            function: self.function.to_owned(),
            state: self.state.to_owned(),
            version: form.version,
            rows,
            help,
            old: describe(self.was, &form.shape),
        }
    }
}

fn same_kind(was: &StateEntry, is: &StateEntry) -> Result<(), Incompatible> {
    if was.kind != is.kind {
        return Err(Incompatible::new(
            "",
            format!("it was a {:?}, and is a {:?}", was.kind, is.kind).to_lowercase(),
        ));
    }
    if was.key_shape != is.key_shape {
        return Err(Incompatible::new(
            "",
            "the keys of its entries have another type".to_owned(),
        ));
    }
    Ok(())
}

/// What a state was, in words: with that shape.
fn describe(state: &StateEntry, shape: &Shape) -> String {
    let kind = match state.kind {
        StateKind::Value => "value",
        StateKind::Table => "table",
        StateKind::Buffer => "buffer",
        StateKind::Registry => "registry",
    };
    match &state.key_shape {
        Some(key) => format!("{kind} of {key} to {shape}"),
        None => format!("{kind} of {shape}"),
    }
}
