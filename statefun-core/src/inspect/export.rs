//! States as lines of JSON, an address each.

use std::ops::ControlFlow;

use super::address::{AddressBuilder, AddressStates};
use super::walk::{Met, Scope, walk};
use super::{End, Event, InspectError, StateView};
use crate::clock::Timestamp;

/// Rows of one address that stand in one line, in bytes: more of them go on in the next.
pub(crate) const LINE_BYTES: usize = 1 << 20;

struct Current<'s> {
    function: String,
    id: String,
    part: u64,
    builder: AddressBuilder<'s>,
}

impl Current<'_> {
    /// The line of what was gathered.
    fn line(&mut self) -> Option<AddressStates> {
        let (states, expires_at_ms) = self.builder.take()?;
        self.part += 1;
        Some(AddressStates {
            function: self.function.clone(),
            id: self.id.clone(),
            part: self.part,
            states,
            expires_at_ms,
        })
    }
}

/// Tells the states of all addresses in a scope, in the order of their keys.
pub(crate) fn export(
    view: &StateView,
    scope: &Scope,
    now: Timestamp,
    line_bytes: usize,
    tell: &mut dyn FnMut(Event<AddressStates>) -> ControlFlow<()>,
) -> Result<End, InspectError> {
    let schema = view.schema();
    let mut current: Option<Current<'_>> = None;
    let mut addresses = 0;
    let mut say =
        |current: &mut Option<Current<'_>>,
         tell: &mut dyn FnMut(Event<AddressStates>) -> ControlFlow<()>| {
            match current.as_mut().and_then(Current::line) {
                Some(line) => {
                    addresses += u64::from(line.part == 1);
                    tell(Event::Item(line))
                }
                None => ControlFlow::Continue(()),
            }
        };
    let mut end = walk(view, schema, scope, |met| match met {
        Met::Address(function, id) => {
            let said = say(&mut current, tell);
            current = Some(Current {
                function: schema.name(function),
                id,
                part: 0,
                builder: AddressBuilder::new(schema.function(function), now),
            });
            said
        }
        Met::Row(_, rest, value) => {
            let is_full = current.as_ref().is_some_and(|current| {
                let (held, more) = (current.builder.bytes(), current.builder.weight(rest, value));
                held > 0 && more > 0 && held + more > line_bytes
            });
            let said = if is_full {
                say(&mut current, tell)
            } else {
                ControlFlow::Continue(())
            };
            if let Some(current) = &mut current {
                current.builder.add(rest, value);
            }
            said
        }
        Met::Progress(progress) => tell(Event::Progress(progress)),
    })?;
    if say(&mut current, tell).is_break() {
        return Err(InspectError::Stopped);
    }
    end.addresses = addresses;
    Ok(end)
}
