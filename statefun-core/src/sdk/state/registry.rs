//! `PersistedRegistry`: states whose names are known only at run time.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::module::description::{Expiration, StateKind};
use crate::sdk::state::versions::choose;
use crate::sdk::state::{
    Flush, Forms, PersistedState, PersistedValue, RowBytes, RowContent, RowValue, StateSite,
    StateValue, TableKey, Unwritten, may_be_unwritable, push_row_header, schema_id,
};
use crate::shape::{FIRST_VERSION, Shape, Shaped};
use crate::state::StateError;

/// States of one address that are registered at run time, by name: values, tables and buffers.
///
/// A registered state is remembered with its shape and version. Registering the same name with another shape is an error that
/// names both, unless the type reads the rows of before: see [how to change a state type](crate::sdk::state#changing-a-state-type).
///
/// ```
/// # use statefun_core::prelude::*;
/// # use statefun_core::testing::Harness;
/// #[stateful_function(typename = "example/sensor", accepts(String))]
/// struct Sensor {
///     #[persisted]
///     readings: PersistedRegistry,
/// }
///
/// impl Handle<String> for Sensor {
///     fn handle(&mut self, kind: String, _: &mut Context<'_, Self>) -> HandlerResult {
///         **self.readings.value::<u32>(&kind)? += 1;
///         let days = self.readings.state::<PersistedTable<u64, u32>>("days", Expiration::None)?;
///         days.update(7, |count| *count += 1)?;
///         Ok(())
///     }
/// }
///
/// let mut app = Harness::builder().function::<Sensor>().build()?;
/// app.send(Sensor::at("attic"), "heat".to_owned()).send(Sensor::at("attic"), "noise".to_owned()).run_until_idle();
/// let names = app.state(Sensor::at("attic"), |sensor| sensor.readings.names()).unwrap();
/// assert_eq!(names, ["days", "heat", "noise"]);
/// # Ok::<(), statefun_core::testing::HarnessError>(())
/// ```
#[derive(Debug, Default)]
pub struct PersistedRegistry {
    states: BTreeMap<String, Box<dyn Registered>>,
    /// Registered by the running invocation; forgotten when it fails.
    new: Vec<String>,
    site: Option<StateSite>,
    now: Timestamp,
}

trait Registered: std::fmt::Debug {
    fn as_any(&mut self) -> &mut dyn Any;
    fn expire(&mut self, now: Timestamp) -> bool;
    fn check(&self) -> Result<(), String>;
    fn commit(&mut self, now: Timestamp) -> bool;
    fn rollback(&mut self);
    fn flush(&mut self) -> Result<(), Unwritten>;
    fn value_bytes(&self) -> usize;
    fn heap_bytes(&self) -> usize;
}

#[derive(Debug)]
struct Slot<S> {
    state: S,
    site: StateSite,
    /// Whether its changes are to be checked.
    checked: bool,
    dirty: bool,
    /// The row that remembers the registration, until it is written.
    name_row: Option<(Vec<u8>, Vec<u8>)>,
}

impl<S: PersistedState + std::fmt::Debug> Registered for Slot<S> {
    fn as_any(&mut self) -> &mut dyn Any {
        &mut self.state
    }
    fn expire(&mut self, now: Timestamp) -> bool {
        let gone = self.state.expire(now);
        self.dirty |= gone;
        gone
    }
    fn check(&self) -> Result<(), String> {
        if self.checked {
            let checked = self.state.check();
            return checked.map_err(|problem| format!("`{}`: {problem}", self.site.name));
        }
        Ok(())
    }
    fn commit(&mut self, now: Timestamp) -> bool {
        self.dirty |= self.state.commit(now, self.site.expiration);
        self.dirty
    }
    fn rollback(&mut self) {
        self.state.rollback();
    }
    fn flush(&mut self) -> Result<(), Unwritten> {
        if !self.dirty {
            return Ok(());
        }
        if let Some((key, row)) = self.name_row.take() {
            self.site.rows.borrow_mut().put(key, row);
        }
        let mut section = Vec::new();
        let mut flush = Flush {
            section: &mut section,
            prefix: &Vec::new(),
            state_id: 0,
            schema: self.site.forms.schema,
            rows: 0,
        };
        let flushed = self.state.flush(&mut flush);
        self.dirty = flushed.is_err();
        // The state writes its own row as if it were a declared one; here that row's key is the registered name's.
        for row in crate::engine::rows::framing::iter(&section) {
            let (_, value) =
                row.ok_or_else(|| "a row of its own section is malformed".to_owned())?;
            let mut rows = self.site.rows.borrow_mut();
            match value {
                Some(value) => rows.put(self.site.key.clone(), value.to_vec()),
                None => rows.delete(self.site.key.clone()),
            }
        }
        flushed.map_err(|unwritten| match unwritten {
            Unwritten::Value(problem) => format!("`{}`: {problem}", self.site.name).into(),
            store @ Unwritten::Store(_) => store,
        })
    }
    fn value_bytes(&self) -> usize {
        self.state.value_bytes()
    }
    fn heap_bytes(&self) -> usize {
        self.state.heap_bytes() + size_of::<S>()
    }
}

/// Behind the registry's key: the names with their shapes, and the rows of the states.
pub(crate) const NAMES: u8 = 0;
pub(crate) const STATES: u8 = 1;

impl PersistedRegistry {
    /// The value of that name, registered at first use.
    pub fn value<T: StateValue + Shaped + std::fmt::Debug>(
        &mut self,
        name: &str,
    ) -> Result<&mut PersistedValue<T>, StateError> {
        self.state::<PersistedValue<T>>(name, Expiration::None)
    }

    /// A state of any kind of that name, registered at first use:
    /// `registry.state::<PersistedTable<String, u32>>("visits", Expiration::None)`.
    pub fn state<S>(&mut self, name: &str, expiration: Expiration) -> Result<&mut S, StateError>
    where
        S: PersistedState + std::fmt::Debug,
        S::Value: Shaped,
    {
        let Some(site) = &self.site else {
            return Err(StateError::Store(
                "a registry is used outside of an invocation".to_owned(),
            ));
        };
        if !self.states.contains_key(name) {
            let slot = register::<S>(site, name, expiration, self.now)?;
            self.states.insert(name.to_owned(), Box::new(slot));
            self.new.push(name.to_owned());
        }
        let site = site.clone();
        let state = self
            .states
            .get_mut(name)
            .and_then(|state| state.as_any().downcast_mut::<S>());
        state.ok_or_else(|| {
            site.decode_error(format_args!(
                "`{name}` is registered as another type than {}",
                std::any::type_name::<S>()
            ))
        })
    }

    /// The names registered at this address, in order.
    pub fn names(&self) -> Result<Vec<String>, StateError> {
        let Some(site) = &self.site else {
            return Ok(Vec::new());
        };
        let start = site.entry_key(|out| out.push(NAMES));
        let end = site.entry_key(|out| out.push(STATES));
        let rows = site.rows.borrow().scan(&start, &end, usize::MAX)?;
        // A name has no row before the cut that follows its registration.
        let mut names: BTreeSet<String> = self.states.keys().cloned().collect();
        for (key, _) in rows {
            let name = key
                .get(start.len()..)
                .and_then(|mut rest| String::decode_key(&mut rest));
            names.insert(name.ok_or_else(|| site.decode_error("a registered name is malformed"))?);
        }
        Ok(names.into_iter().collect())
    }
}

/// What the row of a registered name holds: the kind, and the forms that the state has had, with their versions.
#[derive(Debug, Default)]
struct Remembered {
    kind: Option<StateKind>,
    /// Oldest first.
    forms: Vec<(u32, Shape)>,
}

/// As JSON: kind and shape, and behind them the version and the earlier forms, where there are such.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NameRow {
    Evolved(StateKind, Shape, u32, Vec<(u32, Shape)>),
    First(StateKind, Shape),
}

/// What the row of a registered name says: the kind, and the versions and shapes that the state has had, oldest first.
pub(crate) fn parse_registered(payload: &[u8]) -> Option<(StateKind, Vec<(u32, Shape)>)> {
    let (kind, shape, version, mut forms) = match serde_json::from_slice(payload).ok()? {
        NameRow::Evolved(kind, shape, version, earlier) => (kind, shape, version, earlier),
        NameRow::First(kind, shape) => (kind, shape, FIRST_VERSION, Vec::new()),
    };
    forms.push((version, shape));
    Some((kind, forms))
}

/// What the row of a registered name says, as it is written: the current form stands last among the forms.
pub(crate) fn write_registered(
    kind: StateKind,
    mut forms: Vec<(u32, Shape)>,
) -> Result<Vec<u8>, serde_json::Error> {
    let (version, shape) = forms.pop().unwrap_or_default();
    serde_json::to_vec(&NameRow::of(kind, version, shape, forms))
}

impl NameRow {
    fn of(kind: StateKind, version: u32, shape: Shape, earlier: Vec<(u32, Shape)>) -> Self {
        if earlier.is_empty() && version == FIRST_VERSION {
            Self::First(kind, shape)
        } else {
            Self::Evolved(kind, shape, version, earlier)
        }
    }
}

impl Remembered {
    fn parse(row: RowValue<'_>) -> Option<Self> {
        let (kind, forms) = parse_registered(row.payload)?;
        Some(Self {
            kind: Some(kind),
            forms,
        })
    }

    /// What to remember from now on; none when it is that already.
    fn extended(mut self, kind: StateKind, version: u32, shape: &Shape) -> Option<NameRow> {
        let now = (version, shape.clone());
        if self.forms.last() == Some(&now) {
            return None;
        }
        self.forms.retain(|form| *form != now);
        let (version, shape) = now;
        Some(NameRow::of(kind, version, shape, self.forms))
    }
}

fn kind_name(kind: StateKind) -> String {
    format!("{kind:?}").to_lowercase()
}

fn register<S>(
    site: &StateSite,
    name: &str,
    expiration: Expiration,
    now: Timestamp,
) -> Result<Slot<S>, StateError>
where
    S: PersistedState + std::fmt::Debug,
    S::Value: Shaped,
{
    let shape = S::Value::shape();
    let mut forms = Forms::of(shape.clone(), S::Value::versions());
    let schema = forms.schema;
    let name_key = site.entry_key(|out| {
        out.push(NAMES);
        name.to_owned().encode_key(out);
    });
    let known = site.rows.borrow().get(&name_key)?;
    let is_new = known.is_none();
    let remembered = match known.as_deref().map(RowValue::parse) {
        Some(Some(row)) => Remembered::parse(row)
            .ok_or_else(|| site.decode_error("a registered name is malformed"))?,
        Some(None) => return Err(site.decode_error("a registered name is malformed")),
        None => Remembered::default(),
    };
    for (version, old) in &remembered.forms {
        let unread = match choose(forms.list(), *version, old) {
            _ if remembered.kind != Some(S::KIND) => String::new(),
            Err(unread) => format!(": {unread}"),
            Ok(_) => continue,
        };
        return Err(site.decode_error(format_args!(
            "`{name}` was registered as {} {old} (version {version}), and is now asked for as {} {shape} (version {}){unread}",
            kind_name(remembered.kind.unwrap_or(S::KIND)),
            kind_name(S::KIND),
            forms.version(),
        )));
    }
    let recorded = remembered.forms.iter();
    forms.learn(recorded.map(|(version, shape)| (schema_id(shape, *version), *version, shape)));
    let name_row = remembered
        .extended(S::KIND, forms.version(), &shape)
        .map(|form| {
            let payload = serde_json::to_vec(&form).map_err(|error| site.encode_error(error))?;
            let mut row = Vec::new();
            push_row_header(&mut row, schema, 0);
            row.extend_from_slice(&payload);
            Ok::<_, StateError>((name_key, row))
        })
        .transpose()?;
    let key = site.entry_key(|out| {
        out.push(STATES);
        name.to_owned().encode_key(out);
    });
    let own = StateSite {
        rows: site.rows.clone(),
        key,
        forms: forms.into(),
        expiration,
        name: name.into(),
        address: site.address.clone(),
    };
    let row = if S::HAS_ROW {
        site.rows.borrow().get(&own.key)?
    } else {
        None
    };
    let row = match row.as_deref().map(RowValue::parse) {
        Some(None) => return Err(own.decode_error("the row is too short")),
        Some(Some(row)) => Some(RowBytes(row, &own.forms)),
        None => None,
    };
    let mut state = S::absent();
    state
        .load(row, Some(own.clone()))
        .map_err(|problem| own.decode_error(problem))?;
    state.expire(now);
    // That the form has changed is written with the first value of the new one.
    let dirty = is_new;
    Ok(Slot {
        state,
        site: own,
        checked: may_be_unwritable(&shape),
        dirty,
        name_row,
    })
}

impl PersistedState for PersistedRegistry {
    type Value = ();
    type Key = ();
    const KIND: StateKind = StateKind::Registry;
    const HAS_ROW: bool = false;
    const NEEDS_SITE: bool = true;

    fn absent() -> Self {
        Self::default()
    }

    fn load(&mut self, _row: Option<RowBytes<'_>>, site: Option<StateSite>) -> Result<(), String> {
        self.site = site;
        Ok(())
    }

    /// What is registered is known only while the application runs.
    fn check_row(_row: RowBytes<'_>, _rest: &[u8]) -> Result<RowContent, String> {
        Ok(RowContent::Other)
    }

    fn expire(&mut self, now: Timestamp) -> bool {
        self.now = now;
        self.states
            .values_mut()
            .fold(false, |gone, state| state.expire(now) | gone)
    }

    fn check(&self) -> Result<(), String> {
        self.states.values().try_for_each(|state| state.check())
    }

    fn commit(&mut self, now: Timestamp, _expiration: Expiration) -> bool {
        self.new.clear();
        self.states
            .values_mut()
            .fold(false, |dirty, state| state.commit(now) | dirty)
    }

    fn rollback(&mut self) {
        for name in self.new.drain(..) {
            self.states.remove(&name);
        }
        for state in self.states.values_mut() {
            state.rollback();
        }
    }

    fn flush(&mut self, _flush: &mut Flush<'_>) -> Result<(), Unwritten> {
        let mut result = Ok(());
        for state in self.states.values_mut() {
            // All of them are written, whichever cannot be.
            let flushed = state.flush();
            result = result.and(flushed);
        }
        result
    }

    fn value_bytes(&self) -> usize {
        self.states.values().map(|state| state.value_bytes()).sum()
    }

    fn heap_bytes(&self) -> usize {
        self.states
            .iter()
            .map(|(name, state)| name.len() + state.heap_bytes() + 64)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use crate::prelude::*;
    use crate::testing::Harness;

    #[stateful_function(typename = "example/gauges", accepts(String))]
    struct Gauges {
        #[persisted]
        gauges: PersistedRegistry,
    }

    impl Handle<String> for Gauges {
        fn handle(&mut self, name: String, _: &mut Context<'_, Self>) -> HandlerResult {
            **self.gauges.value::<u32>(&name)? += 1;
            if name == "wrong" {
                Err(HandlerError::permanent("wrong"))
            } else {
                Ok(())
            }
        }
    }

    #[test]
    fn names_are_those_that_are_registered_by_now() {
        let mut app = Harness::builder().function::<Gauges>().build().unwrap();
        let at = || Gauges::at("one");
        let names = |app: &mut Harness| app.state(at(), |gauges| gauges.gauges.names()).unwrap();
        app.send(at(), "b".to_owned()).run_until_idle();
        assert_eq!(names(&mut app), ["b"]);
        // In an epoch that has not ended.
        app.send(at(), "a".to_owned()).run(1);
        assert_eq!(names(&mut app), ["a", "b"]);
        app.restart();
        assert_eq!(names(&mut app), ["a", "b"]);
        let twice = app.state(at(), |gauges| {
            gauges.gauges.value::<u32>("c").unwrap();
            gauges.gauges.names()
        });
        assert_eq!(twice.unwrap(), ["a", "b", "c"]);
        assert_eq!(
            names(&mut app),
            ["a", "b"],
            "what was only looked at is taken back"
        );
        app.send(at(), "wrong".to_owned()).run_until_idle();
        assert_eq!(names(&mut app), ["a", "b"]);
    }
}
