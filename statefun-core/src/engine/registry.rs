//! What the workers know of the application: functions, messages, routers, egresses, by the numbers that messages carry.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use thiserror::Error;

use crate::engine::envelope::Envelope;
use crate::engine::request::RequestFunction;
use crate::id::{Address, FunctionTypeId, KeyGroups, MessageTypeId, TypeName};
use crate::io::ingress::{Decoder, MessageLimits};
use crate::sdk::caught::caught;
use crate::sdk::context::SendError;
use crate::sdk::egress::egress_hash;
use crate::sdk::function::{Factory, FunctionDefinition, StatefulFunction};
use crate::sdk::message::{AnyMessage, Message, MessageDefinition, TypedValue};
use crate::sdk::router::{Downstream, RecordInfo, RouterDefinition};

/// An application that cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// Two function types of one name.
    #[error("the function `{0}` is defined twice: give one of them another type name")]
    DuplicateFunction(TypeName),
    /// Two function types whose stable numbers collide.
    #[error("the type names `{0}` and `{1}` have the same stable number: rename one of them")]
    FunctionCollision(TypeName, TypeName),
    /// Two messages of one name with different encodings or shapes.
    #[error("two message types are named `{0}`: give one of them another type name")]
    DuplicateMessage(String),
    /// Two routers of one name.
    #[error("the router `{0}` is defined twice: rename one of them")]
    DuplicateRouter(&'static str),
    /// Two states of one function whose names collide.
    #[error(
        "`{function}`: the states `{first}` and `{second}` have the same name or stable number: rename one of them"
    )]
    DuplicateState {
        /// The function.
        function: TypeName,
        /// A state.
        first: String,
        /// Another.
        second: String,
    },
    /// An ingress names a function that there is not.
    #[error("the ingress `{ingress}` targets `{target}`, which no function of this application is")]
    UnknownTarget {
        /// The ingress.
        ingress: String,
        /// What it names.
        target: String,
    },
    /// An ingress names a router that there is not.
    #[error(
        "the ingress `{ingress}` names the router `{router}`, which this application does not have"
    )]
    UnknownRouter {
        /// The ingress.
        ingress: String,
        /// What it names.
        router: String,
    },
}

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

/// What a registry is made of.
#[derive(Debug, Default)]
pub struct Parts {
    /// Function types.
    pub functions: Vec<FunctionDefinition>,
    /// Factories of their instances.
    pub factories: Vec<(TypeName, Factory)>,
    /// Routers.
    pub routers: Vec<RouterDefinition>,
    /// Ids of all egresses.
    pub egresses: Vec<String>,
    /// All ingresses.
    pub ingresses: Vec<IngressWiring>,
    /// How addresses are spread.
    pub key_groups: KeyGroups,
}

impl Registry {
    /// Puts an application together.
    pub fn new(parts: Parts) -> Result<Self, RegistryError> {
        let mut functions = parts.functions;
        if !functions
            .iter()
            .any(|function| function.typename == RequestFunction::type_name())
        {
            functions.push(RequestFunction::definition());
        }
        functions.sort_by_key(|function| function.typename);
        let mut by_ordinal = Vec::new();
        let mut by_id: HashMap<FunctionTypeId, TypeName> = HashMap::new();
        for (index, function) in functions.iter().enumerate() {
            let name = function.typename;
            match by_id.insert(name.function_type_id(), name) {
                Some(other) if other == name => return Err(RegistryError::DuplicateFunction(name)),
                Some(other) => return Err(RegistryError::FunctionCollision(other, name)),
                None => {}
            }
            if by_ordinal.len() <= name.ordinal() {
                by_ordinal.resize(name.ordinal() + 1, None);
            }
            if let Some(entry) = by_ordinal.get_mut(name.ordinal()) {
                *entry = Some(index as u16);
            }
            check_states(function)?;
        }
        let messages = collect_messages(&functions, &parts.routers)?;
        let ingresses = wire(parts.ingresses, &parts.routers, &by_id)?;
        let egresses: Vec<(u64, String)> = parts
            .egresses
            .into_iter()
            .map(|id| (egress_hash(&id), id))
            .collect();
        let writes = |function: &FunctionDefinition| {
            let declared = function
                .egress
                .iter()
                .map(|declared| egress_hash(&declared.id));
            declared
                .filter(|hash| egresses.iter().any(|(known, _)| known == hash))
                .collect()
        };
        Ok(Self {
            writes: functions.iter().map(writes).collect(),
            accepts: functions
                .iter()
                .map(|function| {
                    function
                        .accepts
                        .iter()
                        .map(|message| message.type_id)
                        .collect()
                })
                .collect(),
            message_bytes: functions
                .iter()
                .map(|function| function.limits.message_bytes as usize)
                .collect(),
            written: written_types(&functions),
            functions,
            factories: parts.factories.into_iter().collect(),
            by_ordinal,
            by_id,
            messages,
            egresses,
            ingresses,
            key_groups: parts.key_groups,
        })
    }

    /// All function types, sorted by name.
    pub fn functions(&self) -> &[FunctionDefinition] {
        &self.functions
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

    /// Takes a record to its targets and through its routers. The value is taken; when it fails, it is given
    /// back where the ingress keeps such records.
    pub(crate) fn route(
        &self,
        ingress: u16,
        record: RecordInfo<'_>,
        target: Option<Address>,
        value: &mut Option<Box<dyn AnyMessage>>,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        let Some(body) = value.take() else {
            return Err("the record has no value".to_owned());
        };
        if let Some(to) = target {
            if let Err(error) = self.check_accepts(&to, &*body) {
                *value = Some(body);
                return Err(error.to_string());
            }
            out.push(Envelope {
                to,
                from: None,
                body,
            });
            return Ok(());
        }
        let Some(wiring) = self.ingresses.get(usize::from(ingress)) else {
            return Err(format!("there is no ingress number {ingress}"));
        };
        if matches!(wiring.spec.on_error, OnError::DeadLetter(_)) {
            *value = Some(body.clone_any());
        }
        let first = out.len();
        let routed = self.route_by_wiring(wiring, record, body, out);
        if routed.is_err() {
            out.truncate(first);
        }
        routed
    }

    fn route_by_wiring(
        &self,
        wiring: &Wiring,
        record: RecordInfo<'_>,
        value: Box<dyn AnyMessage>,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        // Each takes a value of its own, the last one the record's.
        let mut value = Some(self.typed(value)?);
        let mut left = wiring.routers.len() + wiring.spec.targets.len();
        let mut take = || {
            left -= 1;
            if left == 0 {
                value.take()
            } else {
                value.as_ref().map(|value| value.clone_any())
            }
        };
        for router in &wiring.routers {
            let from = out.len();
            let mut downstream = Downstream {
                record,
                out: &mut *out,
            };
            let Some(value) = take() else { break };
            let routed = caught("it", || (router.route)(value, &mut downstream))
                .and_then(|routed| routed.map_err(|error| error.to_string()));
            let routed = routed.and_then(|()| {
                out.iter()
                    .skip(from)
                    .try_for_each(|forward| self.check_forward(router, forward))
            });
            routed.map_err(|problem| format!("router `{}`: {problem}", router.name))?;
        }
        for target in &wiring.spec.targets {
            let Some(key) = record.key else {
                return Err(format!(
                    "the record has no key, and `{target}` needs one as its id"
                ));
            };
            let to = Address::new(*target, key);
            let Some(body) = take() else { break };
            self.check_accepts(&to, &*body)
                .map_err(|error| error.to_string())?;
            out.push(Envelope {
                to,
                from: None,
                body,
            });
        }
        Ok(())
    }

    /// Whether a router may forward that: the target is one that it declares, and takes the value.
    fn check_forward(&self, router: &RouterDefinition, forward: &Envelope) -> Result<(), String> {
        let function = forward.to.function();
        if !router.to.contains(&function) {
            return Err(if self.function_index(function).is_some() {
                format!(
                    "it forwards to `{function}`, which is not under its `to(…)`: list the function there, \
                     so that `statefun graph` and `validate` know the edge"
                )
            } else {
                SendError::UnknownFunction(function.to_string()).to_string()
            });
        }
        // What has a Rust type was checked by the compiler.
        if self.function_index(function).is_some()
            && forward.body.message_type() != TypedValue::TYPE_ID
        {
            return Ok(());
        }
        self.check_accepts(&forward.to, &*forward.body)
            .map_err(|error| error.to_string())
    }

    /// A dynamic value in its Rust type, where the application has one for it.
    fn typed(&self, value: Box<dyn AnyMessage>) -> Result<Box<dyn AnyMessage>, String> {
        if let Some(dynamic) = value.as_any().downcast_ref::<TypedValue>()
            && let Some(message) = self.messages.get(&dynamic.type_id())
        {
            return (message.decode)(&dynamic.value).map_err(|error| error.to_string());
        }
        Ok(value)
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

/// The types of egress records by number. A name is kept for the life of the process, as type names are.
fn written_types(functions: &[FunctionDefinition]) -> BTreeMap<MessageTypeId, &'static str> {
    let uses = functions.iter().flat_map(|function| &function.egress);
    uses.map(|used| used.message.as_str())
        .chain([crate::engine::worker::BAD_RECORD])
        .filter_map(|name| {
            Some((
                MessageTypeId::of_name(name),
                TypeName::parse(name).ok()?.as_str(),
            ))
        })
        .collect()
}

fn check_states(function: &FunctionDefinition) -> Result<(), RegistryError> {
    for (index, state) in function.states.iter().enumerate() {
        let id = crate::sdk::state::state_id(&state.name);
        let clash = function
            .states
            .iter()
            .skip(index + 1)
            .find(|other| crate::sdk::state::state_id(&other.name) == id);
        if let Some(other) = clash {
            return Err(RegistryError::DuplicateState {
                function: function.typename,
                first: state.name.clone(),
                second: other.name.clone(),
            });
        }
    }
    Ok(())
}

fn collect_messages(
    functions: &[FunctionDefinition],
    routers: &[RouterDefinition],
) -> Result<BTreeMap<MessageTypeId, MessageDefinition>, RegistryError> {
    let mut messages: BTreeMap<MessageTypeId, MessageDefinition> = BTreeMap::new();
    let accepted = functions.iter().flat_map(|function| &function.accepts);
    for message in accepted.chain(routers.iter().map(|router| &router.message)) {
        if let Some(known) = messages.insert(message.type_id, *message) {
            let same = (known.type_name)() == (message.type_name)()
                && known.format == message.format
                && (known.shape)() == (message.shape)();
            if !same {
                return Err(RegistryError::DuplicateMessage(
                    (message.type_name)().to_owned(),
                ));
            }
        }
    }
    Ok(messages)
}

fn wire(
    ingresses: Vec<IngressWiring>,
    routers: &[RouterDefinition],
    functions: &HashMap<FunctionTypeId, TypeName>,
) -> Result<Vec<Wiring>, RegistryError> {
    for (index, router) in routers.iter().enumerate() {
        if routers
            .iter()
            .skip(index + 1)
            .any(|other| other.name == router.name)
        {
            return Err(RegistryError::DuplicateRouter(router.name));
        }
    }
    ingresses
        .into_iter()
        .map(|spec| {
            if let Some(target) = spec
                .targets
                .iter()
                .find(|target| !functions.contains_key(&target.function_type_id()))
            {
                return Err(RegistryError::UnknownTarget {
                    ingress: spec.id.clone(),
                    target: target.to_string(),
                });
            }
            let mut own: Vec<RouterDefinition> = Vec::new();
            for name in &spec.routers {
                let router = routers.iter().find(|router| router.name == name);
                own.push(
                    router
                        .cloned()
                        .ok_or_else(|| RegistryError::UnknownRouter {
                            ingress: spec.id.clone(),
                            router: name.clone(),
                        })?,
                );
            }
            // A router that names its ingress needs no mention in module.yaml.
            for router in routers {
                if router.ingress == Some(spec.id.as_str())
                    && !own.iter().any(|known| known.name == router.name)
                {
                    own.push(router.clone());
                }
            }
            Ok(Wiring { spec, routers: own })
        })
        .collect()
}
