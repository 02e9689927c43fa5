//! What the workers know of the application: functions, messages, routers, egresses, by the numbers that messages carry.

mod build;
mod route;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::catalog::Catalog;
use crate::engine::request::RequestFunction;
use crate::id::{Address, FunctionTypeId, KeyGroups, MessageTypeId, TypeName};
use crate::io::ingress::{Decoder, MessageLimits};
use crate::sdk::context::SendError;
use crate::sdk::function::{Factory, FunctionDefinition, StatefulFunction};
use crate::sdk::message::{AnyMessage, Message, MessageDefinition, TypedValue};
use crate::sdk::router::RouterDefinition;

pub use build::{Parts, RegistryError};

/// What happens to a record that an ingress or router cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnError {
    /// The process stops; the record is not acknowledged.
    #[default]
    Fail,
    /// The record is left out, and a warning is logged.
    Skip,
    /// The record's bytes go to this egress.
    DeadLetter(String),
}

/// Where the records of an ingress go.
#[derive(Debug, Clone, Default)]
pub struct IngressWiring {
    /// `namespace/name`.
    pub id: String,
    /// Functions that each get the record, at the address of its key.
    pub targets: Vec<TypeName>,
    /// Names of the routers that read it.
    pub routers: Vec<String>,
    /// What happens to what cannot be read or routed.
    pub on_error: OnError,
}

#[derive(Debug)]
struct Wiring {
    spec: IngressWiring,
    routers: Vec<RouterDefinition>,
}

/// See the module's page.
pub struct Registry {
    functions: Vec<FunctionDefinition>,
    factories: HashMap<TypeName, Factory>,
    by_ordinal: Vec<Option<u16>>,
    by_id: HashMap<FunctionTypeId, TypeName>,
    accepts: Vec<Vec<MessageTypeId>>,
    /// The largest message of each function, in bytes: those to it, and the records that it writes to egresses.
    message_bytes: Vec<usize>,
    /// The hashes of the egresses that each function may write to: those that it declares and that there are.
    writes: Vec<Vec<u64>>,
    messages: BTreeMap<MessageTypeId, MessageDefinition>,
    egresses: Vec<(u64, String)>,
    /// Names of the types that functions write to egresses.
    written: BTreeMap<MessageTypeId, &'static str>,
    ingresses: Vec<Wiring>,
    /// How addresses are spread.
    pub key_groups: KeyGroups,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("functions", &self.functions)
            .field("egresses", &self.egresses)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// All function types, sorted by name.
    pub fn functions(&self) -> &[FunctionDefinition] {
        &self.functions
    }

    /// Takes over which forms the rows of the data have.
    pub(crate) fn learn(&mut self, catalog: &Catalog) {
        for function in &mut self.functions {
            let Some(entry) = catalog.function_named(function.typename.as_str()) else {
                continue;
            };
            for state in &mut function.states {
                if let Some(entry) = entry.states.get(&state.description.name) {
                    state.learn(&entry.recorded());
                }
            }
        }
    }

    pub(crate) fn factory(&self, function: TypeName) -> Option<&Factory> {
        self.factories.get(&function)
    }

    /// The place of a function type in [`functions`](Self::functions).
    #[inline]
    pub(crate) fn function_index(&self, function: TypeName) -> Option<usize> {
        self.by_ordinal
            .get(function.ordinal())
            .copied()
            .flatten()
            .map(usize::from)
    }

    /// The name of a stored function type number.
    pub(crate) fn function_name(&self, id: FunctionTypeId) -> Option<TypeName> {
        self.by_id.get(&id).copied()
    }

    /// Whether a function may write to the egress of that id hash: it declares it, and there is one.
    #[inline]
    pub(crate) fn may_write(&self, function: TypeName, hash: u64) -> bool {
        self.function_index(function)
            .and_then(|index| self.writes.get(index))
            .is_some_and(|own| own.contains(&hash))
    }

    /// Whether a function may answer later who called it then: an outside client, itself, or a function that it says it sends to.
    pub(crate) fn may_reply(&self, function: TypeName, to: TypeName) -> bool {
        let definition = self
            .function_index(function)
            .and_then(|index| self.functions.get(index));
        to == RequestFunction::type_name()
            || to == function
            || definition.is_some_and(|definition| {
                definition.dynamic_sends || definition.sends.contains(&to)
            })
    }

    /// Whether there is an egress of that id hash.
    pub(crate) fn has_egress(&self, hash: u64) -> bool {
        self.egresses.iter().any(|(known, _)| *known == hash)
    }

    /// The ids of all egresses.
    pub(crate) fn egress_ids(&self) -> impl Iterator<Item = &str> {
        self.egresses.iter().map(|(_, id)| id.as_str())
    }

    /// The type of that number.
    pub(crate) fn message(&self, id: MessageTypeId) -> Option<&MessageDefinition> {
        self.messages.get(&id)
    }

    /// The name of a message type that is handled or written; empty when it is neither.
    pub(crate) fn type_name(&self, id: MessageTypeId) -> &'static str {
        match self.messages.get(&id) {
            Some(message) => (message.type_name)(),
            None => self.written.get(&id).copied().unwrap_or_default(),
        }
    }

    /// All message types.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &MessageDefinition> {
        self.messages.values()
    }

    /// Reads bytes as the message types of this application.
    pub fn decoder(&self) -> Decoder {
        Decoder::new(self.messages.values().copied())
    }

    /// The largest message of a function, in bytes.
    #[inline]
    pub(crate) fn message_limit(&self, function: TypeName) -> usize {
        self.function_index(function)
            .and_then(|index| self.message_bytes.get(index))
            .copied()
            .unwrap_or(usize::MAX)
    }

    /// Whether a function takes an encoded message of so many bytes.
    pub(crate) fn check_size(&self, function: TypeName, bytes: usize) -> Result<(), SendError> {
        check_size(function.as_str(), self.message_limit(function), bytes)
    }

    /// The limits of all functions.
    pub(crate) fn message_limits(&self) -> MessageLimits {
        let functions = self.functions.iter().map(|function| function.typename);
        functions
            .map(|name| (name, self.message_limit(name)))
            .collect()
    }

    /// The largest record of an ingress, in bytes: what all its targets take. Routers read records of any size.
    pub(crate) fn record_limit(&self, ingress: u16) -> usize {
        let targets = self
            .ingress(ingress)
            .map_or(&[][..], |wiring| &wiring.targets);
        targets
            .iter()
            .map(|target| self.message_limit(*target))
            .min()
            .unwrap_or(usize::MAX)
    }

    /// Whether a dynamic send can be delivered.
    pub(crate) fn check_accepts(
        &self,
        target: &Address,
        body: &dyn AnyMessage,
    ) -> Result<(), SendError> {
        let Some(accepts) = self
            .function_index(target.function())
            .and_then(|index| self.accepts.get(index))
        else {
            return Err(SendError::UnknownFunction(target.function().to_string()));
        };
        let typed_value = body.as_any().downcast_ref::<TypedValue>();
        let (id, name) = match typed_value {
            Some(value) => (value.type_id(), value.typename.as_str()),
            None => (body.message_type(), body.message_type_name()),
        };
        if accepts.contains(&id) || accepts.contains(&TypedValue::TYPE_ID) {
            return typed_value.map_or(Ok(()), |value| {
                self.check_size(target.function(), value.value.len())
            });
        }
        Err(SendError::NotAccepted {
            function: target.function().to_string(),
            message: name.to_owned(),
        })
    }

    /// The number of an ingress.
    pub(crate) fn ingress_index(&self, id: &str) -> Option<u16> {
        self.ingresses
            .iter()
            .position(|wiring| wiring.spec.id == id)
            .map(|index| index as u16)
    }

    /// The ids of all ingresses.
    pub(crate) fn ingress_ids(&self) -> impl Iterator<Item = &str> {
        self.ingresses.iter().map(|wiring| wiring.spec.id.as_str())
    }

    pub(crate) fn ingress(&self, index: u16) -> Option<&IngressWiring> {
        self.ingresses
            .get(usize::from(index))
            .map(|wiring| &wiring.spec)
    }
}

/// Whether a message of so many bytes is within a function's limit.
pub(crate) fn check_size(function: &str, limit: usize, bytes: usize) -> Result<(), SendError> {
    if bytes > limit {
        return Err(SendError::TooLarge {
            function: function.to_owned(),
            bytes,
            limit,
        });
    }
    Ok(())
}
