//! The states of one address: from its rows to a line of JSON.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::encode::Misfit;
use super::json::Json;
use super::schema::{Forms, FunctionSchema, StateSchema};
use super::{decode, encode, key};
use crate::clock::Timestamp;
use crate::module::description::StateKind;
use crate::sdk::state::{
    REGISTERED_NAMES, REGISTERED_STATES, RowValue, TableKey as _, parse_registered,
};
use crate::shape::{FIRST_VERSION, Shape};

/// The states of an address; of a large one, some of them.
#[derive(Debug, Clone, PartialEq)]
pub struct AddressStates {
    /// The function type.
    pub function: String,
    /// The id.
    pub id: String,
    /// Where it is too large for one line: which of its lines this is, from 1.
    pub part: u64,
    /// The states by name.
    pub states: Vec<(String, Json)>,
    /// When they expire, in Unix milliseconds; those that never do are left out.
    pub expires_at_ms: Vec<(String, Json)>,
}

struct Fields<'a>(&'a [(String, Json)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for AddressStates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl AddressStates {
    /// Reads a line.
    pub(crate) fn from_json(json: Json) -> Result<Self, Misfit> {
        let Json::Object(fields) = json else {
            return Err(Misfit::new(format_args!(
                "expected an object with `function`, `id` and `states`, found {}",
                json.described()
            )));
        };
        encode::once(&fields)?;
        let mut line = Self {
            function: String::new(),
            id: String::new(),
            part: 1,
            states: Vec::new(),
            expires_at_ms: Vec::new(),
        };
        let mut missing = vec!["function", "id", "states"];
        for (name, value) in fields {
            missing.retain(|needed| *needed != name);
            match (&*name, value) {
                ("function", Json::String(text)) => line.function = text,
                ("id", Json::String(text)) => line.id = text,
                ("part", Json::Int(part)) if (1..=i128::from(u64::MAX)).contains(&part) => {
                    line.part = part as u64;
                }
                ("states", Json::Object(states)) => line.states = states,
                ("expires_at_ms", Json::Object(expires)) => line.expires_at_ms = expires,
                ("function" | "id", other) => {
                    return Err(wrong("text", &other).within(name));
                }
                ("part", other) => return Err(wrong("a number from 1", &other).within(name)),
                ("states" | "expires_at_ms", other) => {
                    return Err(wrong("an object", &other).within(name));
                }
                (_, _) => {
                    return Err(Misfit::new(
                        "expected `function`, `id`, `states` and perhaps `expires_at_ms`, no other field",
                    )
                    .within(name));
                }
            }
        }
        match missing.first() {
            Some(name) => Err(Misfit::new(format_args!("`{name}` is missing"))),
            None => Ok(line),
        }
    }
}

fn wrong(expected: &str, found: &Json) -> Misfit {
    Misfit::new(format_args!(
        "expected {expected}, found {}",
        found.described()
    ))
}

impl Serialize for AddressStates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("function", &self.function)?;
        map.serialize_entry("id", &self.id)?;
        if self.part > 1 {
            map.serialize_entry("part", &self.part)?;
        }
        map.serialize_entry("states", &Fields(&self.states))?;
        if !self.expires_at_ms.is_empty() {
            map.serialize_entry("expires_at_ms", &Fields(&self.expires_at_ms))?;
        }
        map.end()
    }
}

/// Gathers the rows of an address.
pub(crate) struct AddressBuilder<'s> {
    function: Option<&'s FunctionSchema>,
    now: Timestamp,
    states: BTreeMap<String, Gathered<'s>>,
    /// The states of registries, by the registry's number and their names. They are known before their rows come.
    registered: BTreeMap<(u32, String), (StateKind, Forms)>,
    /// Bytes of the rows gathered.
    bytes: usize,
}

/// The rows of a state.
enum Gathered<'s> {
    Declared(&'s StateSchema, Content),
    /// A registry, with what is registered in it.
    Registry(BTreeMap<String, Content>, u32),
    /// The catalog does not know it.
    Unknown(Content),
}

/// What rows hold, by the kind of the state.
#[derive(Default)]
struct Content {
    value: Option<(Json, u64)>,
    entries: Vec<(Json, Json, u64)>,
    elements: Vec<(Json, u64)>,
    /// Rows that do not belong there: what follows the state in their keys, and their values.
    strange: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The number of the state, and what follows it in the key.
pub(crate) fn split(rest: &[u8]) -> (u32, &[u8]) {
    match rest.split_first_chunk::<4>() {
        Some((number, sub)) => (u32::from_be_bytes(*number), sub),
        None => (0, rest),
    }
}

/// Whether the row's state is still there.
pub(crate) fn is_live(value: &[u8], now: Timestamp) -> bool {
    // What cannot be read has not expired.
    RowValue::parse(value).is_none_or(|row| !row.expired(now))
}

/// Whether the row only says where a buffer begins and ends.
pub(crate) fn is_ends(kind: StateKind, sub: &[u8]) -> bool {
    kind == StateKind::Buffer && sub.is_empty()
}

/// The value in a row, or the row where it has none.
pub(crate) fn row_value(value: &[u8], forms: &Forms) -> (Json, u64) {
    let problem = match RowValue::parse(value) {
        Some(row) => {
            let (version, shape) = forms.of_row(row.schema);
            match decode::value(row.payload, shape) {
                Ok(json) if version == forms.version => return (json, row.expires_at_ms),
                Ok(json) => {
                    let versioned = Json::Array(vec![Json::Int(version.into()), json]);
                    return (Json::tagged("$version", versioned), row.expires_at_ms);
                }
                Err(problem) => problem,
            }
        }
        None => "it is too short for a row".to_owned(),
    };
    let Json::Object(mut fields) = Json::bytes("$row", value) else {
        return (Json::Null, 0);
    };
    fields.push(("problem".to_owned(), Json::String(problem)));
    (Json::Object(fields), 0)
}

/// What the key of a registry's row says behind the registry's number: a name with what it is, or a row of it.
pub(crate) enum RegistryRow<'k> {
    Name(String),
    State(String, &'k [u8]),
}

pub(crate) fn registry_row(sub: &[u8]) -> Option<RegistryRow<'_>> {
    let (first, mut rest) = sub.split_first()?;
    let name = String::decode_key(&mut rest)?;
    match *first {
        REGISTERED_NAMES if rest.is_empty() => Some(RegistryRow::Name(name)),
        REGISTERED_STATES => Some(RegistryRow::State(name, rest)),
        _ => None,
    }
}

/// What a name's row in a registry says of it.
pub(crate) fn registered_form(value: &[u8]) -> Option<(StateKind, Forms)> {
    let (kind, forms) = parse_registered(RowValue::parse(value)?.payload)?;
    Some((kind, Forms::registered(forms)?))
}

/// The name of a state that the catalog does not know.
pub(crate) fn unknown_name(number: u32) -> String {
    format!("#{number:08x}")
}

impl Content {
    /// Takes a row in; true when it belongs to what is shown.
    fn add(
        &mut self,
        kind: StateKind,
        forms: &Forms,
        key_shape: Option<&Shape>,
        sub: &[u8],
        value: &[u8],
    ) -> bool {
        match kind {
            StateKind::Value if sub.is_empty() => self.value = Some(row_value(value, forms)),
            StateKind::Table if !sub.is_empty() => {
                let (json, expires_at_ms) = row_value(value, forms);
                self.entries
                    .push((key::decode(sub, key_shape), json, expires_at_ms));
            }
            // Elements come in their order; where the first and the last stand follows from them.
            StateKind::Buffer if sub.is_empty() => return false,
            StateKind::Buffer if sub.len() == 8 => self.elements.push(row_value(value, forms)),
            _ => self.strange.push((sub.to_vec(), value.to_vec())),
        }
        true
    }

    fn is_empty(&self) -> bool {
        self.value.is_none()
            && self.entries.is_empty()
            && self.elements.is_empty()
            && self.strange.is_empty()
    }

    /// The content and its expiry, where it has one.
    fn show(self, key_shape: Option<&Shape>) -> (Json, Option<Json>) {
        if !self.strange.is_empty() {
            let rows = self.strange.iter().map(|(sub, value)| {
                Json::Array(vec![Json::bytes("$key", sub), Json::bytes("$row", value)])
            });
            return (Json::tagged("$rows", Json::Array(rows.collect())), None);
        }
        if let Some((json, expires_at_ms)) = self.value {
            let expiry = (expires_at_ms > 0).then(|| decode::int(expires_at_ms.into()));
            return (json, expiry);
        }
        if !self.elements.is_empty() {
            let expires = self.elements.iter().any(|(_, at)| *at > 0);
            let (elements, expiries): (Vec<Json>, Vec<Json>) = self
                .elements
                .into_iter()
                .map(|(json, at)| (json, decode::int(at.into())))
                .unzip();
            return (
                Json::Array(elements),
                expires.then_some(Json::Array(expiries)),
            );
        }
        let key_shape = key_shape.unwrap_or(super::scope::UNKNOWN);
        let expiries: Vec<(Json, u64)> = self
            .entries
            .iter()
            .filter(|(_, _, at)| *at > 0)
            .map(|(key, _, at)| (key.clone(), *at))
            .collect();
        let expiry = (!expiries.is_empty())
            .then(|| decode::entries(expiries, key_shape, |at| decode::int(at.into())));
        let entries = self.entries.into_iter();
        let entries = entries.map(|(key, value, _)| (key, value)).collect();
        (decode::entries(entries, key_shape, |value| value), expiry)
    }
}

/// The name under which the content of a registered state stands.
pub(crate) fn content_name(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Value => "value",
        StateKind::Table => "entries",
        StateKind::Buffer => "elements",
        StateKind::Registry => "rows",
    }
}

impl<'s> AddressBuilder<'s> {
    pub(crate) fn new(function: Option<&'s FunctionSchema>, now: Timestamp) -> Self {
        Self {
            function,
            now,
            states: BTreeMap::new(),
            registered: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Bytes of what is gathered, and not taken yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a row adds to [`bytes`](Self::bytes): nothing when it is not shown.
    pub(crate) fn weight(&self, rest: &[u8], value: &[u8]) -> usize {
        let (number, sub) = split(rest);
        let schema = self
            .function
            .and_then(|function| function.states.get(&number));
        let is_hidden = schema.is_some_and(|schema| is_ends(schema.kind, sub));
        if is_hidden || !is_live(value, self.now) {
            0
        } else {
            rest.len() + value.len()
        }
    }

    /// Takes a row in, in the order of their keys. `rest` is what follows the id in its key.
    pub(crate) fn add(&mut self, rest: &[u8], value: &[u8]) {
        if !is_live(value, self.now) {
            return;
        }
        let (number, sub) = split(rest);
        let schema = self
            .function
            .and_then(|function| function.states.get(&number));
        let shown = match schema {
            None => self.unknown(number, sub, value),
            Some(schema) if schema.kind == StateKind::Registry => {
                self.registry(schema, number, sub, value)
            }
            Some(schema) => {
                if is_ends(schema.kind, sub) {
                    return;
                }
                let gathered = self
                    .states
                    .entry(schema.name.clone())
                    .or_insert_with(|| Gathered::Declared(schema, Content::default()));
                match gathered {
                    Gathered::Declared(schema, content) => content.add(
                        schema.kind,
                        &schema.forms,
                        schema.key_shape.as_ref(),
                        sub,
                        value,
                    ),
                    _ => false,
                }
            }
        };
        if shown {
            self.bytes += rest.len() + value.len();
        }
    }

    fn unknown(&mut self, number: u32, sub: &[u8], value: &[u8]) -> bool {
        let gathered = self
            .states
            .entry(unknown_name(number))
            .or_insert_with(|| Gathered::Unknown(Content::default()));
        if let Gathered::Unknown(content) = gathered {
            content.strange.push((sub.to_vec(), value.to_vec()));
        }
        true
    }

    fn registry(&mut self, schema: &StateSchema, number: u32, sub: &[u8], value: &[u8]) -> bool {
        let row = registry_row(sub);
        let form = match &row {
            Some(RegistryRow::Name(_)) => registered_form(value),
            Some(RegistryRow::State(name, _)) => {
                self.registered.get(&(number, name.clone())).cloned()
            }
            None => None,
        };
        let (Some(row), Some((kind, forms))) = (row, form) else {
            return self.unknown(number, sub, value);
        };
        let gathered = self
            .states
            .entry(schema.name.clone())
            .or_insert_with(|| Gathered::Registry(BTreeMap::new(), number));
        let Gathered::Registry(states, _) = gathered else {
            return false;
        };
        match row {
            RegistryRow::Name(name) => {
                self.registered
                    .insert((number, name.clone()), (kind, forms));
                states.entry(name).or_default();
                true
            }
            RegistryRow::State(name, sub) => {
                let content = states.entry(name).or_default();
                content.add(kind, &forms, None, sub, value)
            }
        }
    }

    /// What was gathered since it was last taken, by name; with expiries. None when that is nothing.
    pub(crate) fn take(&mut self) -> Option<(Vec<(String, Json)>, Vec<(String, Json)>)> {
        self.bytes = 0;
        let (mut states, mut expires) = (Vec::new(), Vec::new());
        for (name, gathered) in std::mem::take(&mut self.states) {
            let (json, expiry) = match gathered {
                Gathered::Declared(_, content) if content.is_empty() => continue,
                Gathered::Declared(schema, content) => content.show(schema.key_shape.as_ref()),
                Gathered::Unknown(content) => content.show(None),
                Gathered::Registry(registered, number) => {
                    let shown = registered.into_iter().filter_map(|(name, content)| {
                        let (kind, forms) = self.registered.get(&(number, name.clone()))?;
                        Some((name, registered_state(*kind, forms, content)))
                    });
                    (Json::Object(shown.collect()), None)
                }
            };
            if let Some(expiry) = expiry {
                expires.push((name.clone(), expiry));
            }
            states.push((name, json));
        }
        (!states.is_empty()).then_some((states, expires))
    }
}

/// What a registered state is.
pub(crate) fn form_fields(kind: StateKind, forms: &Forms) -> Vec<(String, Json)> {
    let json = |value: serde_json::Result<String>| {
        let text = value.unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Json::Null)
    };
    let mut fields = vec![
        ("kind".to_owned(), json(serde_json::to_string(&kind))),
        (
            "shape".to_owned(),
            json(serde_json::to_string(&forms.shape)),
        ),
    ];
    if forms.version > FIRST_VERSION {
        fields.push(("version".to_owned(), Json::Int(forms.version.into())));
    }
    let mut former = forms.all();
    former.pop();
    if !former.is_empty() {
        fields.push(("former".to_owned(), json(serde_json::to_string(&former))));
    }
    fields
}

/// A registered state: what it is, and what it holds.
fn registered_state(kind: StateKind, forms: &Forms, content: Content) -> Json {
    let mut fields = form_fields(kind, forms);
    if !content.is_empty() {
        let (value, expiry) = content.show(None);
        fields.push((content_name(kind).to_owned(), value));
        if let Some(expiry) = expiry {
            fields.push(("expires_at_ms".to_owned(), expiry));
        }
    }
    Json::Object(fields)
}
