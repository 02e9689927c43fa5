//! `io.statefun.module.v1`: the map that modules read when they bind functions and connectors.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::module::schema::{Absent, FieldType, Type, record};

record! {
    /// Adds to the configuration that all modules of the application read. It creates nothing by itself.
    pub struct Configuration {
        /// Keys and values; numbers and booleans become text as they are written.
        pub global_configuration: GlobalConfiguration => "globalConfiguration",
    }
}

/// Keys and values for the modules of an application. The values may be secrets, so only the keys are ever printed.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct GlobalConfiguration(BTreeMap<String, String>);

impl GlobalConfiguration {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets a key; the value that it had stays when there was one.
    pub(crate) fn add(&mut self, key: &str, value: &str) {
        self.0
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    }
}

impl fmt::Debug for GlobalConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GlobalConfiguration")?;
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FieldType for GlobalConfiguration {
    const TYPE: Type = Type::Map {
        key: None,
        value: &Type::Text,
    };
    const ABSENT: Absent = Absent::Refused;
}
