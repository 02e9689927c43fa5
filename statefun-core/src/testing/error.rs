//! What can go wrong in a test, in the words of its author.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::engine::registry::RegistryError;
use crate::engine::shared::EngineError;
use crate::engine::worker::{CommandError, WorkerError};
use crate::id::{Address, InvalidTypeName, TypeName};
use crate::sdk::context::SendError;
use crate::sdk::function::MissingFactory;
use crate::sdk::message::CodecError;

/// A harness that cannot be built, or something that it cannot do.
///
/// The plain methods of [`Harness`](super::Harness) panic with it; those that begin with `try_` return it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The parts of the application do not fit together, as they would not at the start of the real one.
    #[error(transparent)]
    Application(#[from] RegistryError),
    /// Another version of the code does not read what is stored.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
    /// A module refuses the configuration.
    #[error("a module refuses the configuration: {0}")]
    RefusedConfiguration(String),
    /// A function needs a factory.
    #[error("{0}; in a harness, `.factory(|| …)` binds one as well")]
    MissingFactory(MissingFactory),
    /// A name that is not `namespace/name`.
    #[error(transparent)]
    Name(#[from] InvalidTypeName),
    /// A router that is not linked in.
    #[error("no router `{name}` is linked into this test{}", known_are(known))]
    UnknownRouter {
        /// What was asked for.
        name: String,
        /// The routers that are linked in.
        known: Vec<String>,
    },
    /// A function type that the harness was not given.
    #[error(
        "no function `{name}` in this harness: add it with `.function::<…>()`, `.linked()` or `.stub(\"{name}\")`{}",
        known_are(known)
    )]
    UnknownFunction {
        /// What was asked for.
        name: TypeName,
        /// The functions that there are.
        known: Vec<String>,
    },
    /// An ingress that no router reads and that has no targets.
    #[error(
        "no ingress `{id}` in this harness: no router declares it; name its functions with `.targets(\"{id}\", …)`, \
         or its routers with `.routers(\"{id}\", …)`{}",
        known_are(known)
    )]
    UnknownIngress {
        /// What was asked for.
        id: String,
        /// The ingresses that there are.
        known: Vec<String>,
    },
    /// An egress that no function declares.
    #[error(
        "no egress `{id}` in this harness: no function lists it under `egress(…)`; `.egress(\"{id}\")` adds it{}",
        known_are(known)
    )]
    UnknownEgress {
        /// What was asked for.
        id: String,
        /// The egresses that there are.
        known: Vec<String>,
    },
    /// A message that its target does not take.
    #[error("the message for {to} cannot be sent: {problem}")]
    Send {
        /// The target.
        to: Address,
        /// Why not.
        problem: SendError,
    },
    /// Bytes that are not what their type says.
    #[error("the value for {to} is not what its type says: {problem}")]
    Undecodable {
        /// The target.
        to: Address,
        /// What does not fit.
        problem: CodecError,
    },
    /// A message that cannot be written, or that does not decode from what was written.
    #[error("the message for {to} cannot be written and read back: {problem}")]
    Unencodable {
        /// The target.
        to: Address,
        /// What its format cannot hold, or what does not come back.
        problem: CodecError,
    },
    /// No router or target took the record; in production the ingress' `onError` decides.
    #[error("ingress `{ingress}` refused the record: {problem}")]
    Refused {
        /// The ingress.
        ingress: String,
        /// Why.
        problem: String,
    },
    /// Messages go on for ever, as far as one can tell.
    #[error(
        "still not idle after {limit} messages: is this a cycle that never ends? The last ones went to {}\n\
         (`.message_limit(…)` raises the limit, `.run(n)` handles only so many)",
        Busy(addresses)
    )]
    Endless {
        /// How many messages were handled.
        limit: usize,
        /// Who was busy at the end, and with how many of the last messages; the busiest first.
        addresses: Vec<(Address, usize)>,
    },
    /// Operations that `ctx.spawn` started do not end.
    #[error(
        "operations of {} have not ended after {waited:?} (of real time): `hold_operations` and `complete` end them by hand, \
         `.operation_timeout(…)` waits longer",
        List(addresses)
    )]
    OperationsPending {
        /// Whose.
        addresses: Vec<Address>,
        /// How long they were waited for.
        waited: Duration,
    },
    /// There is no operation to complete.
    #[error(
        "no operation of {to} is held that was spawned with this metadata and output type{}",
        held_are(held)
    )]
    NoOperation {
        /// Whose was asked for.
        to: Address,
        /// Whose are held.
        held: Vec<Address>,
    },
    /// Nothing waits at an address.
    #[error("nothing waits at {to}{}", waiting_are(waiting))]
    NotWaiting {
        /// Which.
        to: Address,
        /// Where something waits.
        waiting: Vec<String>,
    },
    /// The state of an address cannot be shown.
    #[error("the state of {to} cannot be read: {problem}")]
    State {
        /// Whose.
        to: Address,
        /// Why not.
        problem: String,
    },
    /// The function has not replied.
    #[error("{to} has not replied{}", each_line(failures))]
    NoReply {
        /// Who was asked.
        to: Address,
        /// Handlers that failed so far.
        failures: Vec<String>,
    },
    /// A record or reply is of another type than the test asks for.
    #[error("{place}: {problem}")]
    OtherType {
        /// Where it came from.
        place: String,
        /// What does not fit.
        problem: String,
    },
    /// Handlers failed that should not have.
    #[error("handlers failed:{}", each_line(failures))]
    Failures {
        /// Each failure.
        failures: Vec<String>,
    },
    /// What would end the process in production.
    #[error("the application would stop here: {0}")]
    Stopped(#[from] EngineError),
}

impl From<WorkerError> for HarnessError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Factory(missing) => Self::MissingFactory(missing),
            error => Self::Stopped(error.into()),
        }
    }
}

impl HarnessError {
    pub(super) fn not_waiting(to: &Address, error: CommandError, waiting: Vec<String>) -> Self {
        match error {
            CommandError::NotWaiting(_) => Self::NotWaiting {
                to: to.clone(),
                waiting,
            },
        }
    }
}

fn known_are(known: &[String]) -> String {
    if known.is_empty() {
        " (there is none)".to_owned()
    } else {
        format!(" (there are {})", known.join(", "))
    }
}

fn held_are(held: &[Address]) -> String {
    if held.is_empty() {
        ": none is held at all; call `hold_operations` before they are started".to_owned()
    } else {
        format!("; held are operations of {}", List(held))
    }
}

fn waiting_are(waiting: &[String]) -> String {
    if waiting.is_empty() {
        ", nor anywhere else".to_owned()
    } else {
        format!("; messages wait at {}", waiting.join(", "))
    }
}

fn each_line(failures: &[String]) -> String {
    failures
        .iter()
        .fold(String::new(), |text, failure| text + "\n  " + failure)
}

struct Busy<'a>(&'a [(Address, usize)]);
impl fmt::Display for Busy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, count)) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{address} ({count})")?;
        }
        Ok(())
    }
}

struct List<'a>(&'a [Address]);
impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{address}")?;
        }
        Ok(())
    }
}
