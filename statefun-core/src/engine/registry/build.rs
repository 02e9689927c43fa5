//! Putting a registry together, and what can be wrong with an application then.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use super::{IngressWiring, Registry, Wiring};
use crate::engine::request::RequestFunction;
use crate::id::{FunctionTypeId, KeyGroups, MessageTypeId, TypeName};
use crate::sdk::egress::egress_hash;
use crate::sdk::function::{Factory, FunctionDefinition, StatefulFunction};
use crate::sdk::message::MessageDefinition;
use crate::sdk::router::RouterDefinition;

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
