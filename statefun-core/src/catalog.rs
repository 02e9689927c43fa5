//! The catalog of a data directory: what belongs to its rows and messages, so that a change of the code is seen before it
//! hurts. `catalog.json`, replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::disk::{Disk, OpenMode};
use crate::engine::registry::Registry;
use crate::engine::stored::StoredMessages;
use crate::id::{FunctionTypeId, KeyGroups};
use crate::module::description::StateKind;
use crate::shape::Shape;
use crate::shape::compat::{Incompatible, reads};
use crate::state::keys::{Space, group_key, parse_address_key, prefix_end};
use crate::state::{StateError, StateReader};

/// Version of the file's layout.
const VERSION: u32 = 1;
const FILE: &str = "catalog.json";

/// What `catalog.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    version: u32,
    /// Which history the directory belongs to.
    pub lineage: u64,
    /// How addresses are spread; never changes.
    pub key_groups: KeyGroups,
    /// Function types, by name.
    functions: BTreeMap<String, FunctionEntry>,
    /// Message types that functions accept, by name.
    messages: BTreeMap<String, Shape>,
    /// The ids of the egresses.
    #[serde(default)]
    egresses: BTreeSet<String>,
}

/// What a data directory holds that an application may not fit.
pub struct StoredData<'a> {
    /// The rows, up to the last epoch.
    pub store: &'a dyn StateReader,
    /// The body of the log's last record; empty when there is none.
    pub last_record: &'a [u8],
    /// Records that have not left, of egresses that there are not any more.
    pub undelivered: &'a BTreeMap<String, u64>,
}

impl fmt::Debug for StoredData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredData").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FunctionEntry {
    number: u32,
    states: BTreeMap<String, StateEntry>,
}

/// What is recorded of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateEntry {
    pub(crate) number: u32,
    pub(crate) kind: StateKind,
    pub(crate) shape: Shape,
    pub(crate) key_shape: Option<Shape>,
}

/// A catalog that cannot be read, or that the application does not fit.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The file cannot be read or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a catalog of this version.
    #[error("{} is not a catalog that this version reads: {problem}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The application does not fit the data.
    #[error("the application no longer fits the data in {}:\n{}", path.display(), list(changes))]
    Changed {
        /// Which file tells.
        path: PathBuf,
        /// All that does not fit.
        changes: Vec<Change>,
    },
    /// The state store failed while rows were counted.
    #[error(transparent)]
    State(#[from] StateError),
}

fn list(changes: &[Change]) -> String {
    let lines: Vec<String> = changes
        .iter()
        .map(|change| format!("  - {change}"))
        .collect();
    lines.join("\n")
}

/// Something that the data has and the code no longer has, or has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Change {
    /// A function with data is gone.
    #[error(
        "function `{function}` is gone, but {rows} of its rows and {messages} messages for it are stored: bring it back, \
         or say `--drop-data {function}` to delete them"
    )]
    FunctionGone {
        /// Its name.
        function: String,
        /// Rows counted, up to a bound.
        rows: String,
        /// Messages that are in flight, waiting or delayed.
        messages: u64,
    },
    /// A state with data is gone.
    #[error(
        "state `{state}` of `{function}` is gone (it was a {old}), but {rows} of its rows are there: bring it back, \
         or say `--drop-data {function}:{state}` to delete them"
    )]
    StateGone {
        /// The function.
        function: String,
        /// The state.
        state: String,
        /// What it was.
        old: String,
        /// Rows counted, up to a bound.
        rows: String,
    },
    /// A state has another shape, and the old rows do not read as the new.
    #[error(
        "state `{state}` of `{function}` has changed: {problem}\n      was {old}\n      is  {new}\n    restore the old shape \
         (a new field needs `#[serde(default)]`), or say `--drop-data {function}:{state}` to delete its rows"
    )]
    StateChanged {
        /// The function.
        function: String,
        /// The state.
        state: String,
        /// Where the shapes differ.
        problem: String,
        /// The stored shape.
        old: String,
        /// The code's shape.
        new: String,
    },
    /// A message type has another shape, and messages of the old one may be stored.
    #[error(
        "message `{message}` has changed: {problem}\n      was {old}\n      is  {new}\n    {count} stored messages of it would not be read: \
         restore the old shape (a new field needs `#[serde(default)]`), or give the new one another type name"
    )]
    MessageChanged {
        /// The message.
        message: String,
        /// How many are in flight, waiting or delayed.
        count: u64,
        /// Where the shapes differ.
        problem: String,
        /// The stored shape.
        old: String,
        /// The code's shape.
        new: String,
    },
    /// An egress is gone, and some of its output has not left yet.
    #[error(
        "egress `{egress}` is gone, but {records} records for it have not left yet: bring it back until they have, \
         or say `--drop-data egress:{egress}` to drop them"
    )]
    EgressGone {
        /// Its id.
        egress: String,
        /// How many records.
        records: u64,
    },
}

impl Catalog {
    /// The catalog of an application in a new directory.
    pub fn of(registry: &Registry, lineage: u64) -> Self {
        let functions = registry
            .functions()
            .iter()
            .map(|function| {
                let states = function.states.iter().map(|state| {
                    let entry = StateEntry {
                        number: crate::sdk::state::state_id(&state.name),
                        kind: state.kind,
                        shape: state.shape.clone(),
                        key_shape: state.key_shape.clone(),
                    };
                    (state.name.clone(), entry)
                });
                let number = function.typename.function_type_id().0;
                (
                    function.typename.as_str().to_owned(),
                    FunctionEntry {
                        number,
                        states: states.collect(),
                    },
                )
            })
            .collect();
        let messages = registry
            .messages()
            .map(|message| ((message.type_name)().to_owned(), (message.shape)()))
            .collect();
        Self {
            version: VERSION,
            lineage,
            key_groups: registry.key_groups,
            functions,
            messages,
            egresses: registry.egress_ids().map(str::to_owned).collect(),
        }
    }

    /// Name and number of each function, with the names of its states and what is recorded of them.
    pub(crate) fn functions(
        &self,
    ) -> impl Iterator<Item = (&str, u32, impl Iterator<Item = (&str, &StateEntry)>)> {
        self.functions.iter().map(|(name, function)| {
            let states = function.states.iter();
            let states = states.map(|(name, state)| (name.as_str(), state));
            (name.as_str(), function.number, states)
        })
    }

    /// The egresses that `new` no longer has.
    pub(crate) fn egresses_gone(&self, new: &Self) -> Vec<String> {
        self.egresses.difference(&new.egresses).cloned().collect()
    }

    /// Reads the catalog of a data directory; none when the directory is new.
    pub fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, CatalogError> {
        let path = directory.join(FILE);
        let io = |operation| {
            let path = path.clone();
            move |source| CatalogError::Io {
                operation,
                path,
                source,
            }
        };
        if !disk.exists(&path).map_err(io("look for"))? {
            return Ok(None);
        }
        let file = disk.open(&path, OpenMode::Read).map_err(io("open"))?;
        let mut bytes = vec![0; file.len().map_err(io("read"))? as usize];
        file.read_exact_at(&mut bytes, 0).map_err(io("read"))?;
        let malformed = |problem: String| CatalogError::Malformed {
            path: path.clone(),
            problem,
        };
        let catalog: Self =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if catalog.version != VERSION {
            return Err(malformed(format!(
                "it has version {}, and this program reads {VERSION}: use the version that wrote it",
                catalog.version
            )));
        }
        Ok(Some(catalog))
    }

    /// Writes the catalog; it is durable when this returns.
    pub fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), CatalogError> {
        let (path, temporary) = (directory.join(FILE), directory.join("catalog.json.tmp"));
        let io = |operation| {
            let path = path.clone();
            move |source| CatalogError::Io {
                operation,
                path,
                source,
            }
        };
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| CatalogError::Malformed {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        let file = disk
            .open(&temporary, OpenMode::Create)
            .map_err(io("create"))?;
        file.set_len(0).map_err(io("write"))?;
        file.write_at(&bytes, 0).map_err(io("write"))?;
        file.sync_all().map_err(io("write"))?;
        disk.rename(&temporary, &path).map_err(io("replace"))?;
        disk.sync_dir(directory).map_err(io("replace"))
    }

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
                                old: describe(was),
                                rows,
                            });
                        }
                    }
                    Some(is) => {
                        if let Err(problem) = same_state(was, is)
                            && self.count(store, old.number, Some(was.number))? != "0"
                        {
                            changes.push(Change::StateChanged {
                                function: name.clone(),
                                state: state.clone(),
                                problem: problem.to_string(),
                                old: describe(was),
                                new: describe(is),
                            });
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
            return Ok(result);
        }
        Err(CatalogError::Changed {
            path: directory.join(FILE),
            changes,
        })
    }

    /// The numbers of the functions, and of the states with their functions, that `dropped` names.
    pub(crate) fn dropped_numbers(&self, dropped: &[String]) -> Vec<(u32, Option<u32>)> {
        dropped
            .iter()
            .filter_map(|name| match name.rsplit_once(':') {
                Some((function, state)) => {
                    let function = self.functions.get(function)?;
                    Some((function.number, Some(function.states.get(state)?.number)))
                }
                None => Some((self.functions.get(name)?.number, None)),
            })
            .collect()
    }

    /// Rows of a function, or of one of its states; counted up to a bound, as text.
    fn count(
        &self,
        store: &dyn StateReader,
        function: u32,
        state: Option<u32>,
    ) -> Result<String, StateError> {
        const BOUND: usize = 100_000;
        const CHUNK_ROWS: usize = 1024;
        let function = FunctionTypeId(function);
        let spaces: &[Space] = if state.is_some() {
            &[Space::State]
        } else {
            &[Space::State, Space::Queue, Space::Token, Space::Operation]
        };
        let mut count = 0;
        for space in spaces {
            for group in 0..self.key_groups.count() {
                let mut start = group_key(*space, group);
                start.extend_from_slice(&function.0.to_be_bytes());
                let end = prefix_end(&start);
                loop {
                    let chunk = store.scan(&start, &end, CHUNK_ROWS)?;
                    let Some((last, _)) = chunk.last() else {
                        break;
                    };
                    start.clone_from(last);
                    start.push(0);
                    let of_state = |key: &[u8], wanted: u32| {
                        parse_address_key(key)
                            .is_some_and(|key| key.rest.starts_with(&wanted.to_be_bytes()))
                    };
                    count += chunk
                        .iter()
                        .filter(|(key, _)| state.is_none_or(|wanted| of_state(key, wanted)))
                        .count();
                    if count > BOUND {
                        return Ok(format!("more than {BOUND}"));
                    }
                }
            }
        }
        Ok(count.to_string())
    }
}

fn same_state(was: &StateEntry, is: &StateEntry) -> Result<(), Incompatible> {
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
    reads(&was.shape, &is.shape)
}

fn describe(state: &StateEntry) -> String {
    let kind = match state.kind {
        StateKind::Value => "value",
        StateKind::Table => "table",
        StateKind::Buffer => "buffer",
        StateKind::Registry => "registry",
    };
    match &state.key_shape {
        Some(key) => format!("{kind} of {key} to {}", state.shape),
        None => format!("{kind} of {}", state.shape),
    }
}

/// Where everything of an application lies in its data directory.
#[derive(Debug, Clone)]
pub struct DataDirectory {
    /// The directory itself.
    pub root: PathBuf,
    /// The disk it is on.
    pub disk: Arc<dyn Disk>,
}

impl DataDirectory {
    /// What a process holds while it uses the directory.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Where the epoch log lies.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Where the state store lies.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The socket for live commands.
    pub fn socket(&self) -> PathBuf {
        crate::admin::socket_path(&self.root)
    }
}
