//! What a catalog tells those who look at rows from outside of the application.

use crate::catalog::{Catalog, FormerShape, FunctionEntry, StateEntry};
use crate::id::FunctionTypeId;
use crate::sdk::state::schema_id;
use crate::shape::Shape;

impl Catalog {
    /// The function type of that number, as it stands in the keys of rows.
    pub fn function(&self, number: FunctionTypeId) -> Option<(&str, &FunctionEntry)> {
        self.functions().find(|(_, entry)| entry.number == number.0)
    }

    /// The function type of that name.
    pub fn function_named(&self, name: &str) -> Option<&FunctionEntry> {
        self.functions.get(name)
    }

    /// All function types, sorted by name.
    pub fn functions(&self) -> impl Iterator<Item = (&str, &FunctionEntry)> {
        self.functions
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The message types that functions accept, sorted by name.
    pub fn messages(&self) -> impl Iterator<Item = (&str, &Shape)> {
        self.messages
            .iter()
            .map(|(name, shape)| (name.as_str(), shape))
    }

    /// Records that there may be rows of an earlier version of a state that the code has. True when that was not known.
    pub(crate) fn note_former(
        &mut self,
        function: FunctionTypeId,
        state: u32,
        version: u32,
    ) -> bool {
        let entries = self.functions.values_mut();
        let mut states = entries
            .filter(|entry| entry.number == function.0)
            .flat_map(|entry| entry.states.values_mut());
        let Some(state) = states.find(|entry| entry.number == state) else {
            return false;
        };
        let Some(form) = state.forms.iter().find(|form| form.version == version) else {
            return false;
        };
        let schema = schema_id(&form.shape, version);
        if state.shape_of(schema).is_some() {
            return false;
        }
        state.former.push(FormerShape {
            schema,
            version,
            shape: form.shape.clone(),
            read_as: Some(form.name.clone()),
        });
        state.former.sort_by_key(|former| former.version);
        true
    }

    /// The form with that schema id, of whichever state: for rows whose state nobody asks for.
    pub fn shape(&self, schema: u32) -> Option<&Shape> {
        let states = self
            .functions
            .values()
            .flat_map(|entry| entry.states.values());
        states
            .filter_map(|state| state.shape_of(schema))
            .map(|(_, shape)| shape)
            .next()
    }
}

impl FunctionEntry {
    /// The state of that number, as it stands in the keys of rows behind the address.
    pub fn state(&self, number: u32) -> Option<(&str, &StateEntry)> {
        self.states
            .iter()
            .find(|(_, entry)| entry.number == number)
            .map(|(name, entry)| (name.as_str(), entry))
    }
}

impl StateEntry {
    /// The schema id that rows of the current form begin with (`u32`, little-endian).
    pub fn schema(&self) -> u32 {
        schema_id(&self.shape, self.version)
    }

    /// The version and the shape of the rows that begin with that schema id. None where it is not recorded: such rows are
    /// older than all that is, and read as the [`oldest`](Self::oldest) shape.
    pub fn shape_of(&self, schema: u32) -> Option<(u32, &Shape)> {
        if schema == self.schema() {
            return Some((self.version, &self.shape));
        }
        self.former
            .iter()
            .find(|former| former.schema == schema)
            .map(|former| (former.version, &former.shape))
    }

    /// The oldest recorded version and shape.
    pub fn oldest(&self) -> (u32, &Shape) {
        let recorded = self
            .former
            .iter()
            .map(|former| (former.version, &former.shape))
            .chain([(self.version, &self.shape)]);
        // The first of the lowest version.
        recorded
            .min_by_key(|(version, _)| *version)
            .unwrap_or((self.version, &self.shape))
    }

    /// All recorded forms, oldest first: schema id, version, shape.
    pub(crate) fn recorded(&self) -> Vec<FormerShape> {
        let mut recorded = self.former.clone();
        recorded.push(FormerShape {
            schema: self.schema(),
            version: self.version,
            shape: self.shape.clone(),
            read_as: None,
        });
        recorded
    }
}
