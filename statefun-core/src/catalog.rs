//! The catalog of a data directory: what belongs to its rows and messages, so that a change of the code is seen before it
//! hurts. `catalog.json`, replaced as a whole.

mod changes;
mod lookup;
mod succeed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::disk::{Disk, whole};
use crate::engine::registry::Registry;
use crate::id::KeyGroups;
use crate::module::description::{StateKind, first_version, is_first_version};
use crate::sdk::state::versions::Form;
use crate::shape::{FIRST_VERSION, Shape};
use crate::state::StateReader;

pub use changes::{CatalogError, Change};

/// The latest version of the file's layout that is read: in the second, states have versions. A catalog without such states is
/// still written in the first, which earlier programs read; of the second they would misread the rows.
const VERSION: u32 = 2;
const WITHOUT_VERSIONS: u32 = 1;
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

/// A function type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionEntry {
    /// Its stable number.
    pub number: u32,
    /// Its states, by name.
    pub states: BTreeMap<String, StateEntry>,
}

/// A state of a function type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntry {
    /// Its stable number within the function.
    pub number: u32,
    /// What kind of state.
    pub kind: StateKind,
    /// The version of the value's type; 1 where none is declared, and in catalogs of before there were any.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Shape of the value (of the element, for a buffer).
    pub shape: Shape,
    /// Shape of the key, for tables.
    pub key_shape: Option<Shape>,
    /// Other forms that rows may still have, oldest first: a row is written in the current one when it changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerShape>,
    /// The versions that the code has, the current one first. Only in the catalog of an application, and never stored.
    #[serde(skip)]
    pub(crate) forms: Vec<Form>,
}

/// A form that a state had, of which rows may be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerShape {
    /// The schema id that its rows begin with.
    pub schema: u32,
    /// The version of the value's type, then.
    pub version: u32,
    /// Its shape.
    pub shape: Shape,
    /// The type that the code reads its rows as, where that is not the current one: what must not be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_as: Option<String>,
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
                        number: state.number(),
                        kind: state.kind,
                        version: state.version,
                        shape: state.shape.clone(),
                        key_shape: state.key_shape.clone(),
                        former: Vec::new(),
                        forms: state.forms.list().to_vec(),
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
        let mut catalog = Self {
            version: VERSION,
            lineage,
            key_groups: registry.key_groups,
            functions,
            messages,
            egresses: registry.egress_ids().map(str::to_owned).collect(),
        };
        catalog.choose_layout();
        catalog
    }

    /// The first layout that holds it.
    fn choose_layout(&mut self) {
        let has_versions = |state: &StateEntry| {
            let former = state.former.iter().map(|former| former.version);
            former.chain([state.version]).any(|it| it > FIRST_VERSION)
        };
        let mut functions = self.functions.values();
        self.version = if functions.any(|function| function.states.values().any(has_versions)) {
            VERSION
        } else {
            WITHOUT_VERSIONS
        };
    }

    /// The egresses that `new` no longer has.
    pub(crate) fn egresses_gone(&self, new: &Self) -> Vec<String> {
        self.egresses.difference(&new.egresses).cloned().collect()
    }

    /// Reads the catalog of a data directory; none when the directory is new.
    pub fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, CatalogError> {
        let path = directory.join(FILE);
        let read = whole::read(disk, &path).map_err(|source| CatalogError::Io {
            operation: "read",
            path: path.clone(),
            source,
        })?;
        read.map(|bytes| Self::parse(&bytes, &path)).transpose()
    }

    /// Reads a catalog from its text, wherever that comes from; `path` is what errors call it.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, CatalogError> {
        let malformed = |problem: String| CatalogError::Malformed {
            path: path.to_owned(),
            problem,
        };
        let catalog: Self =
            serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        if !(WITHOUT_VERSIONS..=VERSION).contains(&catalog.version) {
            return Err(malformed(format!(
                "it has version {}, and this program reads {VERSION} at most: use the version that wrote it",
                catalog.version
            )));
        }
        Ok(catalog)
    }

    /// Writes the catalog; it is durable when this returns.
    pub fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), CatalogError> {
        let path = directory.join(FILE);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| CatalogError::Malformed {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        whole::replace(disk, directory, FILE, &bytes).map_err(|source| CatalogError::Io {
            operation: "write",
            path,
            source,
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

    /// Where the files lie that tell what has changed since the last checkpoint.
    pub fn changes(&self) -> PathBuf {
        self.root.join("changes")
    }

    /// The socket for live commands.
    pub fn socket(&self) -> PathBuf {
        crate::admin::socket_path(&self.root)
    }
}
