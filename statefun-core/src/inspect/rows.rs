//! The rows of states as they are, for who compares them with others.

use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::walk::{Met, Scope, walk};
use super::{End, Event, InspectError, StateView, list};
use crate::catalog::Catalog;

/// What the rows mean, and then each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawLine {
    /// The first line.
    Catalog(Box<Catalog>),
    /// Key and value of a row.
    Row(RawBytes, RawBytes),
}

/// Bytes, in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBytes(pub Vec<u8>);

impl Serialize for RawBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// Tells the catalog and the rows of a function's addresses whose ids begin with `prefix`, or of all, in the order of their
/// keys.
///
/// # Errors
/// As [`run`](super::run).
pub fn rows(
    view: &StateView,
    function: Option<&str>,
    prefix: &str,
    tell: &mut dyn FnMut(Event<RawLine>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let scope = match function {
        Some(function) => Scope::Function(list::find(view.schema(), function)?, prefix.to_owned()),
        None => Scope::Everything,
    };
    if tell(Event::Item(RawLine::Catalog(Box::new(
        view.catalog.clone(),
    ))))
    .is_break()
    {
        return Err(InspectError::Stopped);
    }
    walk(view, view.schema(), &scope, |met| match met {
        Met::Address(..) => ControlFlow::Continue(()),
        Met::Row(key, _, value) => {
            let row = RawLine::Row(RawBytes(key.to_vec()), RawBytes(value.to_vec()));
            tell(Event::Item(row))
        }
        Met::Progress(progress) => tell(Event::Progress(progress)),
    })
}
