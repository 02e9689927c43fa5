//! What the catalog records of functions and states, by the numbers in row keys.

use std::collections::BTreeMap;

use crate::catalog::Catalog;
use crate::id::{FunctionTypeId, KeyGroups};
use crate::module::description::StateKind;
use crate::shape::Shape;

/// A state of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateSchema {
    pub(crate) name: String,
    pub(crate) kind: StateKind,
    pub(crate) shape: Shape,
    pub(crate) key_shape: Option<Shape>,
}

/// A function type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FunctionSchema {
    pub(crate) name: String,
    pub(crate) states: BTreeMap<u32, StateSchema>,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) key_groups: KeyGroups,
    functions: BTreeMap<u32, FunctionSchema>,
}

impl Schema {
    pub(crate) fn of(catalog: &Catalog) -> Self {
        let functions = catalog.functions().map(|(name, number, states)| {
            let states = states.map(|(name, state)| {
                let schema = StateSchema {
                    name: name.to_owned(),
                    kind: state.kind,
                    shape: state.shape.clone(),
                    key_shape: state.key_shape.clone(),
                };
                (state.number, schema)
            });
            let schema = FunctionSchema {
                name: name.to_owned(),
                states: states.collect(),
            };
            (number, schema)
        });
        Self {
            key_groups: catalog.key_groups,
            functions: functions.collect(),
        }
    }

    pub(crate) fn function(&self, number: FunctionTypeId) -> Option<&FunctionSchema> {
        self.functions.get(&number.0)
    }

    /// The name of a function type; its number where the catalog does not know it.
    pub(crate) fn name(&self, number: FunctionTypeId) -> String {
        match self.function(number) {
            Some(function) => function.name.clone(),
            None => format!("#{:08x}", number.0),
        }
    }

    /// The number of a function type by its name, or by what stands in place of one.
    pub(crate) fn number(&self, name: &str) -> Option<FunctionTypeId> {
        let known = self
            .functions
            .iter()
            .find(|(_, function)| function.name == name)
            .map(|(number, _)| *number);
        let numbered = || u32::from_str_radix(name.strip_prefix('#')?, 16).ok();
        known.or_else(numbered).map(FunctionTypeId)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.functions
            .values()
            .map(|function| function.name.as_str())
    }
}
