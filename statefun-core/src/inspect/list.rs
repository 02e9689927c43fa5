//! What there is: functions, addresses, and the largest of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::address::is_live;
use super::schema::Schema;
use super::walk::{Met, Scope, walk};
use super::{End, Event, InspectError, StateView};
use crate::clock::Timestamp;
use crate::id::FunctionTypeId;

/// What a function's state amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FunctionSize {
    /// Its type.
    pub function: String,
    /// Addresses with state.
    pub addresses: u64,
    /// Rows: a value, an entry of a table, an element of a buffer are one each.
    pub rows: u64,
    /// Bytes of these rows with their keys, before the store compresses them.
    pub bytes: u64,
}

/// What an address' state amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AddressSize {
    /// The function type.
    pub function: String,
    /// The id.
    pub id: String,
    /// As in [`FunctionSize`].
    pub rows: u64,
    /// As in [`FunctionSize`].
    pub bytes: u64,
}

/// What the largest addresses are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// By bytes.
    Bytes,
    /// By rows.
    Rows,
}

/// Counts all functions; those of the catalog that have no state are there, too.
pub(crate) fn functions(
    view: &StateView,
    now: Timestamp,
    tell: &mut dyn FnMut(Event<FunctionSize>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let schema = view.schema();
    let mut sizes: BTreeMap<String, FunctionSize> = schema
        .names()
        .map(|name| (name.to_owned(), FunctionSize::default()))
        .collect();
    let mut current: Option<(FunctionTypeId, FunctionSize)> = None;
    let mut counted = false;
    let mut add = |current: Option<(FunctionTypeId, FunctionSize)>| {
        if let Some((number, size)) = current {
            let known = sizes.entry(schema.name(number)).or_default();
            known.addresses += size.addresses;
            known.rows += size.rows;
            known.bytes += size.bytes;
        }
    };
    let end = walk(view, schema, &Scope::Everything, |met| {
        match met {
            Met::Address(function, _) => {
                if current.as_ref().is_none_or(|(known, _)| *known != function) {
                    add(current.replace((function, FunctionSize::default())));
                }
                counted = false;
            }
            Met::Row(key, _, value) => {
                if let Some((_, size)) = current.as_mut().filter(|_| is_live(value, now)) {
                    size.addresses += u64::from(!std::mem::replace(&mut counted, true));
                    size.rows += 1;
                    size.bytes += (key.len() + value.len()) as u64;
                }
            }
            Met::Progress(progress) => return tell(Event::Progress(progress)),
        }
        ControlFlow::Continue(())
    })?;
    add(current);
    // The engine's own functions mean nothing to whoever has not met them.
    sizes.retain(|function, size| size.rows > 0 || !function.starts_with("io.statefun/"));
    for (function, size) in sizes {
        let size = FunctionSize { function, ..size };
        if tell(Event::Item(size)).is_break() {
            return Err(InspectError::Stopped);
        }
    }
    Ok(end)
}

/// Sizes up one address after the other.
fn each_address(
    view: &StateView,
    scope: &Scope,
    now: Timestamp,
    progress: &mut dyn FnMut(super::Progress) -> ControlFlow<()>,
    mut visit: impl FnMut(FunctionTypeId, &str, u64, u64) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let mut current: Option<(FunctionTypeId, String, u64, u64)> = None;
    let mut done = |current: Option<(FunctionTypeId, String, u64, u64)>| match current {
        Some((function, id, rows, bytes)) if rows > 0 => visit(function, &id, rows, bytes),
        _ => ControlFlow::Continue(()),
    };
    let end = walk(view, view.schema(), scope, |met| match met {
        Met::Address(function, id) => done(current.replace((function, id, 0, 0))),
        Met::Row(key, _, value) => {
            if let Some((_, _, rows, bytes)) = current.as_mut().filter(|_| is_live(value, now)) {
                *rows += 1;
                *bytes += (key.len() + value.len()) as u64;
            }
            ControlFlow::Continue(())
        }
        Met::Progress(found) => progress(found),
    })?;
    if done(current).is_break() {
        return Err(InspectError::Stopped);
    }
    Ok(end)
}

/// The addresses of a function whose ids begin with `prefix`, the first `limit` by id.
pub(crate) fn addresses(
    view: &StateView,
    function: FunctionTypeId,
    prefix: &str,
    limit: usize,
    now: Timestamp,
    tell: &mut dyn FnMut(Event<AddressSize>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    // Ids are in order within a key group only.
    let mut first: BTreeSet<(String, u64, u64)> = BTreeSet::new();
    let mut truncated = false;
    let scope = Scope::Function(function, prefix.to_owned());
    let mut end = each_address(
        view,
        &scope,
        now,
        &mut |progress| tell(Event::Progress(progress)),
        |_, id, rows, bytes| {
            if first.len() == limit && first.last().is_none_or(|(last, _, _)| last.as_str() <= id) {
                truncated = true;
            } else {
                first.insert((id.to_owned(), rows, bytes));
                if first.len() > limit {
                    first.pop_last();
                    truncated = true;
                }
            }
            ControlFlow::Continue(())
        },
    )?;
    end.truncated = truncated;
    for (id, rows, bytes) in first {
        let size = AddressSize {
            function: view.schema().name(function),
            id,
            rows,
            bytes,
        };
        if tell(Event::Item(size)).is_break() {
            return Err(InspectError::Stopped);
        }
    }
    Ok(end)
}

/// The largest addresses, the largest one first.
pub(crate) fn top(
    view: &StateView,
    function: Option<FunctionTypeId>,
    measure: Measure,
    limit: usize,
    now: Timestamp,
    tell: &mut dyn FnMut(Event<AddressSize>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let scope = function.map_or(Scope::Everything, |function| {
        Scope::Function(function, String::new())
    });
    let mut largest: BinaryHeap<Reverse<((u64, u64), Reverse<(u32, String)>)>> = BinaryHeap::new();
    let end = each_address(
        view,
        &scope,
        now,
        &mut |progress| tell(Event::Progress(progress)),
        |function, id, rows, bytes| {
            let size = match measure {
                Measure::Bytes => (bytes, rows),
                Measure::Rows => (rows, bytes),
            };
            // Most are not among the largest, and need no name.
            let is_large = largest.len() < limit
                || largest
                    .peek()
                    .is_some_and(|Reverse((least, _))| size > *least);
            if is_large && limit > 0 {
                largest.push(Reverse((size, Reverse((function.0, id.to_owned())))));
                if largest.len() > limit {
                    largest.pop();
                }
            }
            ControlFlow::Continue(())
        },
    )?;
    let mut sorted = largest.into_vec();
    sorted.sort_unstable();
    for Reverse((size, Reverse((function, id)))) in sorted {
        let (bytes, rows) = match measure {
            Measure::Bytes => size,
            Measure::Rows => (size.1, size.0),
        };
        let size = AddressSize {
            function: view.schema().name(FunctionTypeId(function)),
            id,
            rows,
            bytes,
        };
        if tell(Event::Item(size)).is_break() {
            return Err(InspectError::Stopped);
        }
    }
    Ok(end)
}

/// Which of the catalog's functions a name means.
pub(crate) fn find(schema: &Schema, name: &str) -> Result<FunctionTypeId, InspectError> {
    schema
        .number(name)
        .ok_or_else(|| InspectError::UnknownFunction {
            function: name.to_owned(),
            known: schema.names().map(str::to_owned).collect(),
        })
}
