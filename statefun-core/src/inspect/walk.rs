//! Walking over the state rows of a source, address by address.

use std::ops::ControlFlow;

use super::schema::Schema;
use super::{End, InspectError, Progress, StateView};
use crate::id::{Address, FunctionTypeId, KeyGroup, TypeName};
use crate::state::keys::{Space, address_key, parse_address_key, prefix_end, push_escaped};

/// Which rows are walked over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All.
    Everything,
    /// Those of a function's addresses whose ids begin with a text.
    Function(FunctionTypeId, String),
    /// Those of one address.
    Address(TypeName, String),
}

impl Scope {
    /// The ranges of keys, in order.
    pub(crate) fn ranges(&self, schema: &Schema) -> Vec<(Vec<u8>, Vec<u8>)> {
        let range = |start: Vec<u8>| {
            let end = prefix_end(&start);
            (start, end)
        };
        match self {
            Self::Everything => vec![range(vec![Space::State as u8])],
            Self::Address(function, id) => {
                let address = Address::new(*function, id.as_str());
                vec![range(address_key(
                    Space::State,
                    schema.key_groups,
                    &address,
                ))]
            }
            Self::Function(function, prefix) => {
                let mut escaped = Vec::new();
                push_escaped(&mut escaped, prefix.as_bytes());
                // Without the mark of its end.
                escaped.truncate(escaped.len().saturating_sub(2));
                (0..schema.key_groups.count())
                    .map(|group: KeyGroup| {
                        let mut start = vec![Space::State as u8];
                        start.extend_from_slice(&group.to_be_bytes());
                        start.extend_from_slice(&function.0.to_be_bytes());
                        start.extend_from_slice(&escaped);
                        range(start)
                    })
                    .collect()
            }
        }
    }
}

/// What a walk meets.
pub(crate) enum Met<'r> {
    /// The first row of an address comes next.
    Address(FunctionTypeId, String),
    /// A row of it: its key, what follows the id in the key, and its value.
    Row(&'r [u8], &'r [u8], &'r [u8]),
    /// A while has passed.
    Progress(Progress),
}

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 32_768;
const PROGRESS_BYTES: u64 = 16 << 20;

/// Walks over rows until `visit` breaks.
pub(crate) fn walk(
    view: &StateView,
    schema: &Schema,
    scope: &Scope,
    mut visit: impl FnMut(Met<'_>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let mut end = End {
        epoch: view.epoch(),
        ..End::default()
    };
    let (mut told_rows, mut told_bytes, mut bytes) = (0, 0, 0);
    let mut last: Option<(FunctionTypeId, String)> = None;
    let mut cursor = view.cursor(scope);
    while let Some((key, value)) = cursor.next()? {
        let Some(parsed) = parse_address_key(&key) else {
            end.malformed += 1;
            continue;
        };
        end.rows += 1;
        bytes += (key.len() + value.len()) as u64;
        let mut met = |met| {
            if visit(met).is_break() {
                Err(InspectError::Stopped)
            } else {
                Ok(())
            }
        };
        let is_new = last
            .as_ref()
            .is_none_or(|(function, id)| *function != parsed.function || *id != parsed.id);
        if is_new {
            last = Some((parsed.function, parsed.id.clone()));
            met(Met::Address(parsed.function, parsed.id))?;
        }
        met(Met::Row(&key, parsed.rest, &value))?;
        if end.rows - told_rows >= PROGRESS_ROWS || bytes - told_bytes >= PROGRESS_BYTES {
            (told_rows, told_bytes) = (end.rows, bytes);
            met(Met::Progress(Progress {
                rows: end.rows,
                percent: percent(parsed.group, schema),
            }))?;
        }
    }
    Ok(end)
}

/// How far a walk in the order of keys is.
pub(crate) fn percent(group: KeyGroup, schema: &Schema) -> u8 {
    (u64::from(group) * 100 / u64::from(schema.key_groups.count())) as u8
}
