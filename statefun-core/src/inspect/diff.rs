//! What differs between two states: a merge of their sorted rows, one of each in memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize, Serializer};

use super::address::{
    RegistryRow, form_fields, is_ends, is_live, registered_form, registry_row, row_value, split,
    unknown_name,
};
use super::cursor::RangeCursor;
use super::json::Json;
use super::schema::{Forms, Schema};
use super::walk::{Scope, percent};
use super::{Event, InspectError, Progress, StateView, decode, key, list};
use crate::catalog::Catalog;
use crate::clock::Timestamp;
use crate::id::FunctionTypeId;
use crate::module::description::StateKind;
use crate::shape::Shape;
use crate::state::keys::parse_address_key;
use crate::state::{Row, StateError};

/// Rows of states in the order of their keys.
pub trait StateRows {
    /// The next one.
    ///
    /// # Errors
    /// When it cannot be read.
    fn next_row(&mut self) -> Result<Option<Row>, StateError>;
}

impl StateRows for RangeCursor<'_> {
    fn next_row(&mut self) -> Result<Option<Row>, StateError> {
        self.next()
    }
}

impl StateView {
    /// The rows of a function's addresses whose ids begin with `prefix`, or of all.
    ///
    /// # Errors
    /// When there is no such function.
    pub fn state_rows<'v>(
        &'v self,
        function: Option<&str>,
        prefix: &str,
    ) -> Result<impl StateRows + use<'v>, InspectError> {
        let scope = match function {
            Some(function) => {
                Scope::Function(list::find(self.schema(), function)?, prefix.to_owned())
            }
            None => Scope::Everything,
        };
        Ok(self.cursor(&scope))
    }

    /// What the rows hold.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

/// What happened to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is there, and was not.
    Added,
    /// It was there, and is not.
    Removed,
    /// It is another.
    Changed,
}

/// A value, an entry of a table or an element of a buffer that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChange {
    /// The function type.
    pub function: String,
    /// The id.
    pub id: String,
    /// The state.
    pub state: String,
    /// Which part of it: the key of the entry, the number of the element; for registries, the registered name before that.
    pub at: Option<Json>,
    /// What happened.
    pub change: ChangeKind,
    /// What was there, and when it would have expired in Unix milliseconds; 0 for never.
    pub before: Option<(Json, u64)>,
    /// What is there.
    pub after: Option<(Json, u64)>,
}

impl Serialize for StateChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("function", &self.function)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("state", &self.state)?;
        if let Some(at) = &self.at {
            map.serialize_entry("at", at)?;
        }
        map.serialize_entry("change", &self.change)?;
        for (name, expiry, side) in [
            ("before", "before_expires_at_ms", &self.before),
            ("after", "after_expires_at_ms", &self.after),
        ] {
            if let Some((value, expires_at_ms)) = side {
                map.serialize_entry(name, value)?;
                if *expires_at_ms > 0 {
                    map.serialize_entry(expiry, expires_at_ms)?;
                }
            }
        }
        map.end()
    }
}

/// How many were added, removed and changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// There now.
    pub added: u64,
    /// There before.
    pub removed: u64,
    /// There before and now, and different.
    pub changed: u64,
}

impl Counts {
    fn add(&mut self, change: ChangeKind) {
        match change {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Removed => self.removed += 1,
            ChangeKind::Changed => self.changed += 1,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// What differs in the state of a function.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FunctionDiff {
    /// Its type.
    pub function: String,
    /// Addresses with state; changed are those of which something differs.
    pub addresses: Counts,
    /// Values, entries and elements.
    pub rows: Counts,
}

/// One of two states.
struct Side<'a> {
    schema: Schema,
    rows: &'a mut dyn StateRows,
    next: Option<Row>,
    now: Timestamp,
    /// The registered states of the address at hand.
    registered: BTreeMap<(u32, String), (StateKind, Forms)>,
    address: (FunctionTypeId, String),
}

/// What a row is about.
struct Told {
    state: String,
    at: Option<Json>,
    value: (Json, u64),
}

impl Side<'_> {
    /// Goes to the next row that is still there.
    fn advance(&mut self) -> Result<Option<Row>, StateError> {
        let next = loop {
            match self.rows.next_row()? {
                Some((_, value)) if !is_live(&value, self.now) => {}
                next => break next,
            }
        };
        Ok(std::mem::replace(&mut self.next, next))
    }

    /// What a row is about; none when it only says where a buffer begins and ends.
    fn told(
        &mut self,
        function: FunctionTypeId,
        id: &str,
        rest: &[u8],
        value: &[u8],
    ) -> Option<Told> {
        if self.address.0 != function || self.address.1 != id {
            self.address = (function, id.to_owned());
            self.registered.clear();
        }
        let (number, sub) = split(rest);
        let unknown = || Told {
            state: unknown_name(number),
            at: Some(Json::bytes("$key", sub)),
            value: (Json::bytes("$row", value), 0),
        };
        let schema = self
            .schema
            .function(function)
            .and_then(|function| function.states.get(&number));
        let Some(schema) = schema else {
            return Some(unknown());
        };
        let told = |at, value| Told {
            state: schema.name.clone(),
            at,
            value,
        };
        let part = |kind, key_shape: Option<&Shape>, sub: &[u8]| match kind {
            StateKind::Value if sub.is_empty() => Some(None),
            StateKind::Table => Some(Some(key::decode(sub, key_shape))),
            StateKind::Buffer => {
                let number = u64::from_be_bytes(sub.try_into().ok()?);
                Some(Some(decode::int(number.into())))
            }
            _ => None,
        };
        if is_ends(schema.kind, sub) {
            return None;
        }
        if schema.kind != StateKind::Registry {
            return Some(match part(schema.kind, schema.key_shape.as_ref(), sub) {
                Some(at) => told(at, row_value(value, &schema.forms)),
                None => unknown(),
            });
        }
        match registry_row(sub) {
            Some(RegistryRow::Name(name)) => {
                let Some((kind, forms)) = registered_form(value) else {
                    return Some(unknown());
                };
                let form = Json::Object(form_fields(kind, &forms));
                self.registered
                    .insert((number, name.clone()), (kind, forms));
                Some(told(Some(Json::String(name)), (form, 0)))
            }
            Some(RegistryRow::State(name, sub)) => {
                let Some((kind, forms)) = self.registered.get(&(number, name.clone())) else {
                    return Some(unknown());
                };
                if is_ends(*kind, sub) {
                    return None;
                }
                let Some(at) = part(*kind, None, sub) else {
                    return Some(unknown());
                };
                let mut path = vec![Json::String(name)];
                // So that a value does not stand where its registration does.
                path.push(at.unwrap_or(Json::Null));
                Some(told(Some(Json::Array(path)), row_value(value, forms)))
            }
            None => Some(unknown()),
        }
    }
}

/// What is known of the address at hand.
#[derive(Default)]
struct AddressSeen {
    before: bool,
    after: bool,
    differs: bool,
}

impl AddressSeen {
    fn change(&self) -> Option<ChangeKind> {
        match (self.before, self.after) {
            (false, true) => Some(ChangeKind::Added),
            (true, false) => Some(ChangeKind::Removed),
            _ => self.differs.then_some(ChangeKind::Changed),
        }
    }
}

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 32_768;

/// Tells what differs, in the order of the rows' keys, and returns what that amounts to by function; those without a difference
/// are left out. What has expired `now` is not there.
///
/// # Errors
/// When rows cannot be read, the states are spread over different numbers of key groups, or `tell` breaks.
pub fn diff<'a>(
    before: (&Catalog, &'a mut dyn StateRows),
    after: (&Catalog, &'a mut dyn StateRows),
    now: Timestamp,
    tell: &mut dyn FnMut(Event<StateChange>) -> ControlFlow<()>,
) -> Result<Vec<FunctionDiff>, InspectError> {
    let side = |(catalog, rows): (&Catalog, &'a mut dyn StateRows)| Side {
        schema: Schema::of(catalog),
        rows,
        next: None,
        now,
        registered: BTreeMap::new(),
        address: (FunctionTypeId(0), String::new()),
    };
    let groups = (before.0.key_groups.count(), after.0.key_groups.count());
    if groups.0 != groups.1 {
        return Err(InspectError::KeyGroups {
            before: groups.0,
            after: groups.1,
        });
    }
    let (mut before, mut after) = (side(before), side(after));
    before.advance()?;
    after.advance()?;
    let mut functions: BTreeMap<String, FunctionDiff> = BTreeMap::new();
    let mut current: Option<(FunctionTypeId, String)> = None;
    let mut seen = AddressSeen::default();
    let mut rows = 0_u64;
    loop {
        let order = match (&before.next, &after.next) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let old = if order.is_le() {
            before.advance()?
        } else {
            None
        };
        let new = if order.is_ge() {
            after.advance()?
        } else {
            None
        };
        let Some((key, _)) = old.as_ref().or(new.as_ref()) else {
            break;
        };
        let Some(parsed) = parse_address_key(key) else {
            continue;
        };
        rows += 1;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            let progress = Progress {
                rows,
                percent: percent(parsed.group, &after.schema),
            };
            if tell(Event::Progress(progress)).is_break() {
                return Err(InspectError::Stopped);
            }
        }
        let is_same = current
            .as_ref()
            .is_some_and(|(function, id)| *function == parsed.function && *id == parsed.id);
        if !is_same {
            let name = |number| name_of(number, &before.schema, &after.schema);
            settle(current.take(), &mut seen, &mut functions, &name);
            current = Some((parsed.function, parsed.id.clone()));
        }
        let (function, id, rest) = (parsed.function, &parsed.id, parsed.rest);
        let told = |side: &mut Side<'_>, row: &Option<Row>| {
            let (_, value) = row.as_ref()?;
            side.told(function, id, rest, value)
        };
        let (was, is) = (told(&mut before, &old), told(&mut after, &new));
        seen.before |= was.is_some();
        seen.after |= is.is_some();
        if old.is_some() && old == new {
            continue;
        }
        let change = match (&was, &is) {
            (None, None) => continue,
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(was), Some(is)) if was.value == is.value => continue,
            (Some(_), Some(_)) => ChangeKind::Changed,
        };
        seen.differs = true;
        let name = name_of(function, &before.schema, &after.schema);
        functions.entry(name.clone()).or_default().rows.add(change);
        let (was_value, is_value) = (
            was.as_ref().map(|told| told.value.clone()),
            is.as_ref().map(|told| told.value.clone()),
        );
        let Some(told) = is.or(was) else {
            continue;
        };
        let change = StateChange {
            function: name,
            id: id.clone(),
            state: told.state,
            at: told.at,
            change,
            before: was_value,
            after: is_value,
        };
        if tell(Event::Item(change)).is_break() {
            return Err(InspectError::Stopped);
        }
    }
    let name = |number| name_of(number, &before.schema, &after.schema);
    settle(current, &mut seen, &mut functions, &name);
    let named = functions
        .into_iter()
        .map(|(function, diff)| FunctionDiff { function, ..diff });
    Ok(named.collect())
}

fn name_of(number: FunctionTypeId, before: &Schema, after: &Schema) -> String {
    match after.function(number) {
        Some(function) => function.name.clone(),
        None => before.name(number),
    }
}

/// Counts the address that is done.
fn settle(
    address: Option<(FunctionTypeId, String)>,
    seen: &mut AddressSeen,
    functions: &mut BTreeMap<String, FunctionDiff>,
    name: &dyn Fn(FunctionTypeId) -> String,
) {
    let change = std::mem::take(seen).change();
    if let (Some((function, _)), Some(change)) = (address, change) {
        let diff = functions.entry(name(function)).or_default();
        diff.addresses.add(change);
    }
}
