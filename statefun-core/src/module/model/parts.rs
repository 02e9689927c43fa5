//! What several kinds of components have in common.

use std::fmt;

use serde::Deserialize;

use super::names::{EgressId, JsonPointer};
use crate::module::schema::{FieldType, Type, record};

/// What becomes of a record that cannot be decoded or routed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnError {
    /// The application stops with the cause.
    Fail,
    /// The record is dropped, counted and logged.
    Skip,
    /// The record goes to an egress, with the cause.
    DeadLetter(EgressId),
}

impl OnError {
    /// The egress that takes such records, if one does.
    pub fn dead_letter(&self) -> Option<&EgressId> {
        match self {
            Self::DeadLetter(egress) => Some(egress),
            Self::Fail | Self::Skip => None,
        }
    }
}

impl FieldType for OnError {
    const TYPE: Type = Type::Either {
        words: &["fail", "skip"],
        keyed: &[("deadLetter", EgressId::TYPE)],
    };
}

record! {
    /// Where in a JSON value the key stands.
    pub struct PointerKey {
        /// JSON pointer to a text, a number or a boolean in the value, as in `/order/id`.
        pub pointer: JsonPointer => "pointer",
    }
}

/// The encodings of streams that only know JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JsonFormat {
    /// One JSON value per line.
    Json,
}

impl FieldType for JsonFormat {
    const TYPE: Type = Type::Choice { words: &["json"] };
}

/// Text that is never printed: passwords, tokens, and what may hold them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FieldType for Secret {
    const TYPE: Type = Type::Secret;
}
