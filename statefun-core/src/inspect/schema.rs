//! What the catalog records of functions and states, by the numbers in row keys.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, StateEntry};
use crate::id::{FunctionTypeId, KeyGroups};
use crate::module::description::StateKind;
use crate::sdk::state::schema_id;
use crate::shape::Shape;

/// The forms that rows of a state may have: that of today, and earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forms {
    /// The version of the value's type.
    pub(crate) version: u32,
    pub(crate) shape: Shape,
    /// Schema id, version and shape, oldest first.
    former: Vec<(u32, u32, Shape)>,
}

impl Forms {
    fn of(state: &StateEntry) -> Self {
        let former = state.former.iter();
        Self {
            version: state.version,
            shape: state.shape.clone(),
            former: former
                .map(|former| (former.schema, former.version, former.shape.clone()))
                .collect(),
        }
    }

    /// Of the versions and shapes that a registered state has had, oldest first.
    pub(crate) fn registered(mut forms: Vec<(u32, Shape)>) -> Option<Self> {
        let (version, shape) = forms.pop()?;
        let former = forms
            .into_iter()
            .map(|(version, shape)| (schema_id(&shape, version), version, shape));
        Some(Self {
            version,
            shape,
            former: former.collect(),
        })
    }

    /// Versions and shapes, oldest first.
    pub(crate) fn all(&self) -> Vec<(u32, Shape)> {
        let former = self.former.iter();
        let mut all: Vec<_> = former
            .map(|(_, version, shape)| (*version, shape.clone()))
            .collect();
        all.push((self.version, self.shape.clone()));
        all
    }

    /// The version and the shape of the rows that begin with that number. What is not recorded is older than all that is.
    pub(crate) fn of_row(&self, schema: u32) -> (u32, &Shape) {
        if let Some((_, version, shape)) = self.former.iter().find(|(id, ..)| *id == schema) {
            return (*version, shape);
        }
        if self.former.is_empty() || schema == schema_id(&self.shape, self.version) {
            return (self.version, &self.shape);
        }
        self.former
            .iter()
            .map(|(_, version, shape)| (*version, shape))
            .min_by_key(|(version, _)| *version)
            .unwrap_or((self.version, &self.shape))
    }
}

/// A state of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateSchema {
    pub(crate) name: String,
    pub(crate) kind: StateKind,
    pub(crate) forms: Forms,
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
        let functions = catalog.functions().map(|(name, function)| {
            let states = function.states.iter().map(|(name, state)| {
                let schema = StateSchema {
                    name: name.clone(),
                    kind: state.kind,
                    forms: Forms::of(state),
                    key_shape: state.key_shape.clone(),
                };
                (state.number, schema)
            });
            let schema = FunctionSchema {
                name: name.to_owned(),
                states: states.collect(),
            };
            (function.number, schema)
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
