//! What a harness has seen: messages sent, and their deliveries.

use std::any::Any;
use std::fmt;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::engine::request::RequestFunction;
use crate::engine::worker::{TraceEvent, TraceOutcome};
use crate::id::Address;
use crate::sdk::function::StatefulFunction;
use crate::sdk::message::{AnyMessage, Message, TypedValue};

/// A message that was sent, by whom and to whom. It is there once, however often its handling was tried.
#[derive(Debug, Clone)]
pub struct Sent {
    /// When, in virtual time; for a delayed message, when its time had come.
    pub at: Timestamp,
    /// The function that sent it; none for ingresses, timers' own wake-ups, ends of operations and the test itself.
    pub from: Option<Address>,
    /// Whom it is for.
    pub to: Address,
    /// What it says.
    pub message: SentValue,
}

/// One attempt to handle a message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// When, in virtual time.
    pub at: Timestamp,
    /// The function that sent the message, if one did.
    pub from: Option<Address>,
    /// Who handled it.
    pub to: Address,
    /// What it says.
    pub message: SentValue,
    /// How it ended.
    pub outcome: DeliveryOutcome,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The handler returned `Ok`.
    Handled,
    /// The handler returned an error or panicked; nothing of the invocation remains.
    Failed {
        /// The error.
        problem: String,
        /// Whether the address is parked at once, without further attempts.
        permanent: bool,
    },
    /// There is no handler, or no room, for it: it went to the dead letters.
    Undeliverable {
        /// Why.
        problem: String,
    },
}

impl Delivery {
    /// Why it failed; none when it did not.
    pub fn problem(&self) -> Option<&str> {
        match &self.outcome {
            DeliveryOutcome::Handled => None,
            DeliveryOutcome::Failed { problem, .. }
            | DeliveryOutcome::Undeliverable { problem } => Some(problem),
        }
    }
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.message.type_name(), self.to)?;
        match self.problem() {
            Some(problem) => write!(f, ": {problem}"),
            None => Ok(()),
        }
    }
}

/// The value of a message, whatever its type.
pub struct SentValue(Box<dyn AnyMessage>);

impl SentValue {
    /// `namespace/Name` of its type.
    pub fn type_name(&self) -> &str {
        match self.0.as_any().downcast_ref::<TypedValue>() {
            Some(value) => &value.typename,
            None => self.0.message_type_name(),
        }
    }

    /// The value as an `M`; none when it is of another type. As a [`TypedValue`], any value.
    pub fn get<M: Message>(&self) -> Option<M> {
        if let Some(value) = self.0.as_any().downcast_ref::<M>() {
            return Some(value.clone());
        }
        if let Some(value) = self.0.as_any().downcast_ref::<TypedValue>() {
            return value.to_message::<M>().ok();
        }
        let dynamic = self.dynamic()?;
        (&dynamic as &dyn Any).downcast_ref::<M>().cloned()
    }

    fn dynamic(&self) -> Option<TypedValue> {
        if let Some(value) = self.0.as_any().downcast_ref::<TypedValue>() {
            return Some(value.clone());
        }
        let mut value = Vec::new();
        self.0.encode_any(&mut value).ok()?;
        Some(TypedValue {
            typename: self.0.message_type_name().into(),
            value: Bytes::from(value),
        })
    }
}

impl Clone for SentValue {
    fn clone(&self) -> Self {
        Self(self.0.clone_any())
    }
}

impl fmt::Debug for SentValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.type_name())?;
        let dynamic = self.dynamic();
        let text = dynamic
            .as_ref()
            .and_then(|value| std::str::from_utf8(&value.value).ok());
        match text.filter(|text| !text.contains(char::is_control)) {
            Some(text) => write!(f, " {text}"),
            None => Ok(()),
        }
    }
}

/// All that was seen so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) sent: Vec<Sent>,
    pub(super) deliveries: Vec<Delivery>,
}

impl Trace {
    pub(super) fn note(&mut self, at: Timestamp, event: TraceEvent) {
        // Who waits for a reply is a function of the engine's own.
        let own = RequestFunction::type_name();
        match event {
            TraceEvent::Sent(envelope) if envelope.to.function() != own => {
                let from = envelope.from.filter(|from| from.function() != own);
                self.sent.push(Sent {
                    at,
                    from,
                    to: envelope.to,
                    message: SentValue(envelope.body),
                });
            }
            TraceEvent::Delivered(envelope, outcome) if envelope.to.function() != own => {
                let outcome = match outcome {
                    TraceOutcome::Handled => DeliveryOutcome::Handled,
                    TraceOutcome::Failed { problem, permanent } => {
                        DeliveryOutcome::Failed { problem, permanent }
                    }
                    TraceOutcome::Undeliverable { problem } => {
                        DeliveryOutcome::Undeliverable { problem }
                    }
                };
                let from = envelope.from.filter(|from| from.function() != own);
                let message = SentValue(envelope.body);
                self.deliveries.push(Delivery {
                    at,
                    from,
                    to: envelope.to,
                    message,
                    outcome,
                });
            }
            TraceEvent::Sent(_) | TraceEvent::Delivered(..) => {}
        }
    }
}
