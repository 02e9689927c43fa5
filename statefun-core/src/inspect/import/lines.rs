//! The rows that lines make.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::engine::registry::Registry;
use crate::id::{Address, FunctionTypeId, KeyGroups};
use crate::inspect::address::{AddressStates, content_name};
use crate::inspect::encode::{self, Misfit};
use crate::inspect::json::Json;
use crate::inspect::key;
use crate::inspect::scope::UNKNOWN;
use crate::module::description::{Expiration, StateKind};
use crate::module::suggest::nearest;
use crate::sdk::function::FunctionDefinition;
use crate::sdk::state::{
    REGISTERED_NAMES, REGISTERED_STATES, StateDefinition, TableKey as _, encode_row, expiry_from,
    push_row_header, schema_id, write_registered,
};
use crate::shape::{FIRST_VERSION, Shape};
use crate::state::keys::{Space, address_key};

/// Where a buffer of the address at hand is.
#[derive(Debug, Clone, Copy)]
struct BufferEnds {
    next: u64,
    expires_at_ms: u64,
    schema: u32,
}

/// The address whose lines are being read.
#[derive(Debug, Default)]
struct Current {
    function: String,
    id: String,
    part: u64,
    /// The last of its lines.
    line: u64,
    /// By the key of their own row.
    buffers: BTreeMap<Vec<u8>, BufferEnds>,
    /// The keys of the rows that name registered states.
    registered: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A row that a line makes.
pub(super) type NewRow = (Vec<u8>, Vec<u8>);

/// Rows, and the line that makes them.
pub(super) type OfLine = (u64, Vec<NewRow>);

/// Reads one line after the other.
pub(super) struct Lines<'r> {
    functions: BTreeMap<&'r str, &'r FunctionDefinition>,
    groups: KeyGroups,
    now: Timestamp,
    current: Current,
    /// Earlier versions of declared states that rows were written in, by function and state.
    pub(super) former: BTreeSet<((FunctionTypeId, u32), u32)>,
}

/// How a state is written.
struct Site<'a> {
    /// The numbers of the function and of the state, where that is declared: what is registered tells by itself of which
    /// versions its rows are.
    state: Option<(FunctionTypeId, u32)>,
    key: Vec<u8>,
    kind: StateKind,
    /// Version and shape, the current one first.
    forms: Vec<(u32, &'a Shape)>,
    key_shape: Option<&'a Shape>,
    expiration: Expiration,
}

impl<'r> Lines<'r> {
    /// Of an application. What does not say when it expires does so as if it were written `now`.
    pub(super) fn new(registry: &'r Registry, now: Timestamp) -> Self {
        let functions = registry.functions().iter();
        Self {
            functions: functions
                .map(|function| (function.typename.as_str(), function))
                .collect(),
            groups: registry.key_groups,
            now,
            current: Current::default(),
            former: BTreeSet::new(),
        }
    }

    /// The rows of a line, and those that end the address before it.
    pub(super) fn line(&mut self, number: u64, text: &[u8]) -> Result<Vec<OfLine>, Misfit> {
        let json: Json = serde_json::from_slice(text)
            .map_err(|error| Misfit::new(format_args!("it is not JSON: {error}")))?;
        let states = AddressStates::from_json(json)?;
        let mut all = Vec::new();
        let goes_on = states.part > 1;
        if goes_on {
            let current = &self.current;
            let before = (current.function == states.function && current.id == states.id)
                .then_some(current.part);
            if before != Some(states.part - 1) {
                return Err(Misfit::new(format_args!(
                    "part {} of `{}` does not follow its part {}",
                    states.part,
                    states.id,
                    states.part - 1
                )));
            }
            self.current.part = states.part;
            self.current.line = number;
        } else {
            all.push(self.finish_address());
            self.current = Current {
                line: number,
                function: states.function.clone(),
                id: states.id.clone(),
                part: 1,
                ..Current::default()
            };
        }
        let function = self.functions.get(&*states.function).copied();
        let function = function.ok_or_else(|| {
            let known = || self.functions.keys().copied();
            Misfit::new(match nearest(&states.function, known()) {
                Some(nearest) => format!(
                    "the application has no function `{}`; did you mean `{nearest}`?",
                    states.function
                ),
                None => format!("the application has no function `{}`", states.function),
            })
        })?;
        encode::once(&states.states).map_err(|error| error.within("states"))?;
        encode::once(&states.expires_at_ms).map_err(|error| error.within("expires_at_ms"))?;
        if let Some((name, _)) = states
            .expires_at_ms
            .iter()
            .find(|(name, _)| !states.states.iter().any(|(state, _)| state == name))
        {
            return Err(Misfit::new("there is no such state in `states`")
                .within(name)
                .within("expires_at_ms"));
        }
        let address = Address::new(function.typename, states.id.as_str());
        let prefix = address_key(Space::State, self.groups, &address);
        let mut rows = Vec::new();
        for (name, json) in &states.states {
            let expiry = states
                .expires_at_ms
                .iter()
                .find(|(expiring, _)| expiring == name)
                .map(|(_, expiry)| expiry);
            let state = state_of(function, name).map_err(|error| error.within("states"))?;
            let number = function.typename.function_type_id();
            self.state(number, &prefix, state, json, expiry, &mut rows)
                .map_err(|error| error.within(name).within("states"))?;
        }
        all.push((number, rows));
        Ok(all)
    }

    fn state(
        &mut self,
        function: FunctionTypeId,
        prefix: &[u8],
        state: &StateDefinition,
        json: &Json,
        expiry: Option<&Json>,
        rows: &mut Vec<NewRow>,
    ) -> Result<(), Misfit> {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&state.number().to_be_bytes());
        if state.kind == StateKind::Registry {
            return self.registry(&key, json, rows);
        }
        let site = Site {
            key,
            kind: state.kind,
            forms: forms_of(state),
            key_shape: state.key_shape.as_ref(),
            expiration: state.expiration,
            state: Some((function, state.number())),
        };
        self.content(&site, json, expiry, rows)
    }

    fn content(
        &mut self,
        site: &Site<'_>,
        json: &Json,
        expiry: Option<&Json>,
        rows: &mut Vec<NewRow>,
    ) -> Result<(), Misfit> {
        readable(json)?;
        // What does not say when it expires does so as if it were written now.
        let usual = expiry_from(site.expiration, self.now);
        match site.kind {
            StateKind::Value => {
                let at = expiry.map_or(Ok(usual), expiry_of)?;
                rows.push((site.key.clone(), self.row(json, site, at)?));
            }
            StateKind::Table => {
                let key_shape = site.key_shape.unwrap_or(UNKNOWN);
                let expiries = expiry
                    .map(|expiry| self.expiries(expiry, site, key_shape))
                    .transpose()
                    .map_err(|error| error.within("expires_at_ms"))?;
                for (entry, value) in encode::entries(json, key_shape)? {
                    let step = match &entry {
                        Json::String(text) => text.clone(),
                        other => other.described(),
                    };
                    let made = entry_key(site, &entry).and_then(|key| {
                        readable(value)?;
                        let at = match &expiries {
                            Some(expiries) => expiries.get(&key).copied().unwrap_or(0),
                            None => usual,
                        };
                        Ok((key, self.row(value, site, at)?))
                    });
                    rows.push(made.map_err(|error| error.within(step))?);
                }
            }
            StateKind::Buffer => {
                let Json::Array(elements) = json else {
                    return Err(Misfit::new(format_args!(
                        "expected a list, found {}",
                        json.described()
                    )));
                };
                let expiries = match expiry {
                    Some(Json::Array(expiries)) if expiries.len() == elements.len() => {
                        Some(expiries)
                    }
                    Some(other) => {
                        return Err(Misfit::new(format_args!(
                            "expected a list of {} times, found {}",
                            elements.len(),
                            other.described()
                        ))
                        .within("expires_at_ms"));
                    }
                    None => None,
                };
                let schema = site.schema();
                let mut ends = self
                    .current
                    .buffers
                    .get(&site.key)
                    .copied()
                    .unwrap_or(BufferEnds {
                        next: 0,
                        expires_at_ms: 0,
                        schema,
                    });
                for (index, element) in elements.iter().enumerate() {
                    let made = readable(element).and_then(|()| {
                        let at = match expiries.and_then(|expiries| expiries.get(index)) {
                            Some(expiry) => expiry_of(expiry)?,
                            None => usual,
                        };
                        ends.expires_at_ms = at;
                        self.row(element, site, at)
                    });
                    let mut key = site.key.clone();
                    key.extend_from_slice(&ends.next.to_be_bytes());
                    rows.push((key, made.map_err(|error| error.at(index))?));
                    ends.next += 1;
                }
                if ends.next > 0 {
                    self.current.buffers.insert(site.key.clone(), ends);
                }
            }
            StateKind::Registry => {
                return Err(Misfit::new(
                    "a registry within a registry cannot be imported",
                ));
            }
        }
        Ok(())
    }

    /// The row of a value, in the form of the version that it says, or of the current one.
    fn row(&mut self, json: &Json, site: &Site<'_>, expires_at_ms: u64) -> Result<Vec<u8>, Misfit> {
        let (mut version, mut shape) = site.form();
        let mut json = json;
        if let Some(("$version", versioned)) = json.as_tagged() {
            let parts = match versioned {
                Json::Array(parts) => match &parts[..] {
                    [Json::Int(version), json] => Some((u32::try_from(*version), json)),
                    _ => None,
                },
                _ => None,
            };
            let Some((Ok(wanted), inner)) = parts else {
                return Err(Misfit::new("expected `[number, value]` under `$version`"));
            };
            let form = site.forms.iter().find(|(version, _)| *version == wanted);
            (version, shape) = *form.ok_or_else(|| {
                let versions = site.forms.iter().map(|(version, _)| version.to_string());
                let versions: Vec<String> = versions.collect();
                Misfit::new(format_args!(
                    "the code has no version {wanted} of it, but {}",
                    versions.join(", ")
                ))
            })?;
            json = inner;
            if let Some(state) = site.state.filter(|_| version != site.form().0) {
                self.former.insert((state, version));
            }
        }
        let mut row = Vec::new();
        push_row_header(&mut row, schema_id(shape, version), expires_at_ms);
        encode::value(json, shape, &mut row)?;
        Ok(row)
    }

    /// When the entries of a table expire, by their keys.
    fn expiries(
        &self,
        expiry: &Json,
        site: &Site<'_>,
        key_shape: &Shape,
    ) -> Result<BTreeMap<Vec<u8>, u64>, Misfit> {
        encode::entries(expiry, key_shape)?
            .into_iter()
            .map(|(entry, at)| Ok((entry_key(site, &entry)?, expiry_of(at)?)))
            .collect()
    }

    fn registry(&mut self, key: &[u8], json: &Json, rows: &mut Vec<NewRow>) -> Result<(), Misfit> {
        readable(json)?;
        let Json::Object(registered) = json else {
            return Err(Misfit::new(format_args!(
                "expected an object of registered states, found {}",
                json.described()
            )));
        };
        encode::once(registered)?;
        for (name, state) in registered {
            self.registered(key, name, state, rows)
                .map_err(|error| error.within(name))?;
        }
        Ok(())
    }

    fn registered(
        &mut self,
        key: &[u8],
        name: &str,
        state: &Json,
        rows: &mut Vec<NewRow>,
    ) -> Result<(), Misfit> {
        let part = |name: &str| {
            let part = state.field(name);
            part.ok_or_else(|| Misfit::new(format_args!("`{name}` is missing")))
        };
        let (kind, shape) = (part("kind")?, part("shape")?);
        let kind: StateKind = serde_json::from_str(&kind.to_string())
            .map_err(|error| Misfit::new(error).within("kind"))?;
        let shape: Shape = serde_json::from_str(&shape.to_string())
            .map_err(|error| Misfit::new(error).within("shape"))?;
        let version = match state.field("version") {
            None => FIRST_VERSION,
            Some(version) => serde_json::from_str(&version.to_string())
                .map_err(|error| Misfit::new(error).within("version"))?,
        };
        let mut all: Vec<(u32, Shape)> = match state.field("former") {
            None => Vec::new(),
            Some(former) => serde_json::from_str(&former.to_string())
                .map_err(|error| Misfit::new(error).within("former"))?,
        };
        all.push((version, shape));
        if let Json::Object(fields) = state {
            encode::once(fields)?;
            let known = [
                "kind",
                "shape",
                "version",
                "former",
                "expires_at_ms",
                content_name(kind),
            ];
            if let Some((name, _)) = fields.iter().find(|(name, _)| !known.contains(&&**name)) {
                return Err(Misfit::new(format_args!(
                    "a registered state with `{}` has no such field",
                    content_name(kind)
                ))
                .within(name));
            }
        }
        let form = write_registered(kind, all.clone()).map_err(Misfit::new)?;
        let forms: Vec<(u32, &Shape)> = all
            .iter()
            .rev()
            .map(|(version, shape)| (*version, shape))
            .collect();
        let sub = |first: u8| {
            let mut key = key.to_vec();
            key.push(first);
            name.to_owned().encode_key(&mut key);
            key
        };
        let name_key = sub(REGISTERED_NAMES);
        match self.current.registered.get(&name_key) {
            Some(known) if *known == form => {}
            Some(_) => return Err(Misfit::new("an earlier part registers it otherwise")),
            None => {
                let mut row = Vec::new();
                let schema = forms
                    .first()
                    .map_or(0, |(version, shape)| schema_id(shape, *version));
                push_row_header(&mut row, schema, 0);
                row.extend_from_slice(&form);
                rows.push((name_key.clone(), row));
                self.current.registered.insert(name_key, form);
            }
        }
        let Some(content) = state.field(content_name(kind)) else {
            return Ok(());
        };
        let site = Site {
            key: sub(REGISTERED_STATES),
            kind,
            forms,
            key_shape: None,
            expiration: Expiration::None,
            state: None,
        };
        self.content(&site, content, state.field("expires_at_ms"), rows)
            .map_err(|error| error.within(content_name(kind)))
    }

    /// The rows that say where the buffers of the address at hand begin and end.
    pub(super) fn finish_address(&mut self) -> OfLine {
        let buffers = std::mem::take(&mut self.current.buffers);
        let rows = buffers.into_iter().filter_map(|(key, ends)| {
            let row = encode_row(&(0_u64, ends.next), ends.schema, ends.expires_at_ms);
            Some((key, row.ok()?))
        });
        (self.current.line, rows.collect())
    }
}

fn state_of<'f>(
    function: &'f FunctionDefinition,
    name: &str,
) -> Result<&'f StateDefinition, Misfit> {
    let found = function.states.iter().find(|state| state.name == name);
    found.ok_or_else(|| {
        let known = function.states.iter().map(|state| state.name.as_str());
        Misfit::new(match nearest(name, known) {
            Some(nearest) => format!("there is no such state; did you mean `{nearest}`?"),
            None => format!("`{}` has no such state", function.typename.as_str()),
        })
        .within(name)
    })
}

fn entry_key(site: &Site<'_>, entry: &Json) -> Result<Vec<u8>, Misfit> {
    let mut row_key = site.key.clone();
    key::encode(entry, site.key_shape, &mut row_key)?;
    Ok(row_key)
}

impl Site<'_> {
    /// The number of the current form.
    fn schema(&self) -> u32 {
        let (version, shape) = self.form();
        schema_id(shape, version)
    }

    fn form(&self) -> (u32, &Shape) {
        let form = self.forms.first();
        form.copied().unwrap_or((FIRST_VERSION, UNKNOWN))
    }
}

/// The versions of a state that the code has.
fn forms_of(state: &StateDefinition) -> Vec<(u32, &Shape)> {
    let forms = state.forms.list().iter();
    forms.map(|form| (form.version, &form.shape)).collect()
}

fn expiry_of(json: &Json) -> Result<u64, Misfit> {
    match json {
        Json::Int(at) => u64::try_from(*at).ok(),
        _ => match json.as_tagged() {
            Some(("$int", Json::String(text))) => text.parse().ok(),
            _ => None,
        },
    }
    .ok_or_else(|| {
        Misfit::new(format_args!(
            "expected Unix milliseconds, found {}",
            json.described()
        ))
        .within("expires_at_ms")
    })
}

/// What could not be read when it was exported cannot be written either.
fn readable(json: &Json) -> Result<(), Misfit> {
    let unread = ["$row", "$rows"];
    if unread.iter().any(|name| json.field(name).is_some()) {
        let problem = match json.field("problem") {
            Some(Json::String(problem)) => format!(": {problem}"),
            _ => String::new(),
        };
        return Err(Misfit::new(format_args!(
            "it could not be read when it was exported{problem}: mend it, or leave it out"
        )));
    }
    Ok(())
}
