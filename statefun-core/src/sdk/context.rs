//! `Context`: what a handler may do beside changing its state.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use compact_str::CompactString;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::engine::cut::egress_framing;
use crate::engine::envelope::Envelope;
use crate::engine::instances::EarlyRows;
use crate::engine::registry::Registry;
use crate::engine::request::ClientResponse;
use crate::id::Address;
use crate::rand::Random;
use crate::sdk::async_result::{AsyncOutcome, AsyncResult};
use crate::sdk::egress::EgressId;
use crate::sdk::error::HandlerError;
use crate::sdk::function::{
    AcceptedBy, OutputFor, SendsDynamically, StatefulFunction, Target, TargetOf,
};
use crate::sdk::message::{AnyMessage, Message, TypedValue};

/// A dynamic send that cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// No function of the application has that type.
    #[error("no function `{0}` in this application: check the type name of the address")]
    UnknownFunction(String),
    /// The function does not accept the type of the value.
    #[error(
        "`{function}` does not accept `{message}`: list it under its `accepts(…)`, or send another type"
    )]
    NotAccepted {
        /// The target's function type.
        function: String,
        /// The type of the value.
        message: String,
    },
    /// The function does not say that it sends there.
    #[error(
        "`{function}` does not say that it sends to `{target}`: list it under `sends(…)`, or add `dynamic_sends`"
    )]
    NotDeclared {
        /// The sending function's type.
        function: String,
        /// The target's function type.
        target: String,
    },
    /// The value is larger than what the function takes.
    #[error(
        "the message has {bytes} bytes, and `{function}` takes {limit} at most: send less, or raise its `max_message_bytes`"
    )]
    TooLarge {
        /// The target's function type.
        function: String,
        /// The size of the encoded value.
        bytes: usize,
        /// The target's limit.
        limit: usize,
    },
    /// There is nobody to reply to: the message came from an ingress that takes no replies, or from a timer.
    #[error("there is nobody to reply to: the message came from an ingress that takes no replies")]
    NoCaller,
}

/// An operation's future, yielding the message that reports its end.
pub(crate) type Operation = Pin<Box<dyn Future<Output = Box<dyn AnyMessage>> + Send>>;

/// A message to be sent later.
pub(crate) struct Delayed {
    pub(crate) due: Timestamp,
    pub(crate) to: Address,
    pub(crate) body: Box<dyn AnyMessage>,
    pub(crate) token: Option<CompactString>,
}

/// An operation to be started when its invocation has succeeded.
pub(crate) struct Spawn {
    pub(crate) operation: Operation,
    /// The message to be delivered should the process restart meanwhile.
    pub(crate) unknown: Box<dyn AnyMessage>,
}

/// What an invocation wants done, held back until it has succeeded.
#[derive(Default)]
pub(crate) struct InvocationEffects {
    /// Messages of this invocation behind those of earlier ones that are still to be sent on their way.
    pub(crate) sends: Vec<Envelope>,
    first_send: usize,
    pub(crate) delayed: Vec<Delayed>,
    pub(crate) cancelled: Vec<CompactString>,
    /// Records, framed by [`egress_framing`], behind those of earlier invocations of the epoch.
    pub(crate) egress: Vec<u8>,
    first_egress_byte: usize,
    pub(crate) egress_records: u32,
    pub(crate) spawns: Vec<Spawn>,
    /// What outside clients are to be told.
    pub(crate) responses: Vec<ClientResponse>,
    /// What a method without a result could not do; it fails the invocation.
    pub(crate) problem: Option<HandlerError>,
}

impl InvocationEffects {
    /// An invocation begins.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.first_send = self.sends.len();
        self.first_egress_byte = self.egress.len();
        self.egress_records = 0;
    }

    /// How many messages and records the invocation wants sent.
    #[inline]
    pub(crate) fn sent(&self) -> usize {
        self.sends.len() - self.first_send + self.delayed.len() + self.egress_records as usize
    }

    /// Nothing remains of what the invocation wanted.
    pub(crate) fn undo(&mut self) {
        self.sends.truncate(self.first_send);
        self.delayed.clear();
        self.cancelled.clear();
        self.egress.truncate(self.first_egress_byte);
        self.egress_records = 0;
        self.spawns.clear();
        self.responses.clear();
        self.problem = None;
    }

    fn fail(&mut self, problem: impl fmt::Display) {
        if self.problem.is_none() {
            self.problem = Some(HandlerError::permanent(problem));
        }
    }
}

/// What is the same for all function types in an invocation.
#[doc(hidden)]
pub struct InvocationScope<'a> {
    pub(crate) address: &'a Address,
    pub(crate) caller: Option<&'a Address>,
    pub(crate) now: Timestamp,
    pub(crate) random: &'a mut Random,
    pub(crate) registry: &'a Registry,
    pub(crate) effects: &'a mut InvocationEffects,
    pub(crate) early: &'a mut EarlyRows,
}

/// The surroundings of one invocation: who is called by whom, and what the handler may do. Sends, egress records and
/// operations take effect together with the state changes, when the handler returns `Ok`.
pub struct Context<'a, F> {
    scope: &'a mut InvocationScope<'a>,
    function: PhantomData<fn(F)>,
}

impl<F> fmt::Debug for Context<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("address", self.scope.address)
            .field("caller", &self.scope.caller)
            .finish()
    }
}

impl<'a, F: StatefulFunction> Context<'a, F> {
    pub(crate) fn new(scope: &'a mut InvocationScope<'a>) -> Self {
        Self {
            scope,
            function: PhantomData,
        }
    }

    /// The id of the instance that is invoked.
    pub fn id(&self) -> &'a str {
        self.scope.address.id()
    }

    /// The address of the instance that is invoked.
    pub fn address(&self) -> &'a Address {
        self.scope.address
    }

    /// The sender of the message: a function, or an outside client that waits for a reply.
    /// None for records of other ingresses.
    pub fn caller(&self) -> Option<&'a Address> {
        self.scope.caller
    }

    /// The time of the invocation. Use this, not the system's clock: replay and simulation are exact then.
    pub fn now(&self) -> Timestamp {
        self.scope.now
    }

    /// Random numbers. Use these, not another source: simulation is exact then. Not for secrets.
    pub fn random(&mut self) -> &mut Random {
        self.scope.random
    }

    /// Sends a message. Messages from one address to another arrive in the order sent.
    pub fn send<T, M>(&mut self, target: Target<T>, message: M)
    where
        T: TargetOf<F>,
        M: AcceptedBy<T>,
    {
        self.put(target.into_address(), Box::new(message));
    }

    #[inline]
    fn put(&mut self, to: Address, body: Box<dyn AnyMessage>) {
        self.scope.effects.sends.push(Envelope {
            to,
            from: Some(self.scope.address.clone()),
            body,
        });
    }

    /// Sends a message after a delay (in processing time; it survives restarts).
    pub fn send_after<T, M>(
        &mut self,
        delay: Duration,
        target: Target<T>,
        message: M,
    ) -> DelayedSend<'_>
    where
        T: TargetOf<F>,
        M: AcceptedBy<T>,
    {
        self.delay(delay, target.into_address(), Box::new(message))
    }

    fn delay(
        &mut self,
        delay: Duration,
        to: Address,
        body: Box<dyn AnyMessage>,
    ) -> DelayedSend<'_> {
        let due = self.scope.now.after(delay);
        match self.kept(&to, body) {
            Ok(body) => self.scope.effects.delayed.push(Delayed {
                due,
                to,
                body,
                token: None,
            }),
            Err(problem) => self.scope.effects.fail(problem),
        }
        DelayedSend {
            effects: self.scope.effects,
        }
    }

    /// A message in the form in which it waits in a row. What cannot be written, or is larger than its target takes, is to
    /// fail the invocation that asks for it.
    fn kept(&self, to: &Address, body: Box<dyn AnyMessage>) -> Result<Box<dyn AnyMessage>, String> {
        let value = if let Some(value) = body.as_any().downcast_ref::<TypedValue>() {
            value.clone()
        } else {
            let mut value = Vec::new();
            body.encode_any(&mut value)
                .map_err(|error| error.to_string())?;
            TypedValue {
                typename: body.message_type_name().into(),
                value: value.into(),
            }
        };
        let fits = self
            .scope
            .registry
            .check_size(to.function(), value.value.len());
        fits.map_err(|error| error.to_string())?;
        Ok(Box::new(value))
    }

    /// Takes back the delayed message of this address that was sent with that token, if it has not been sent yet.
    pub fn cancel(&mut self, token: &str) {
        self.scope.effects.cancelled.push(token.into());
        // One that this very invocation has asked for is not there to be found later.
        self.scope
            .effects
            .delayed
            .retain(|delayed| delayed.token.as_deref() != Some(token));
    }

    /// Sends a dynamic value to an address known only at run time.
    ///
    /// # Errors
    /// When no function of the application has that type, or it does not accept the value, or not one of that size.
    pub fn send_to(&mut self, target: Address, value: TypedValue) -> Result<(), SendError>
    where
        F: SendsDynamically,
    {
        self.dynamic(target, Box::new(value))
    }

    /// Sends a message to whoever is at an address known only at run time, such as a caller kept from an earlier message.
    ///
    /// # Errors
    /// When no function of the application has that type, or it does not accept the message.
    pub fn send_message_to<M: Message>(
        &mut self,
        target: Address,
        message: M,
    ) -> Result<(), SendError>
    where
        F: SendsDynamically,
    {
        self.dynamic(target, Box::new(message))
    }

    /// As [`send_to`](Self::send_to), after a delay.
    ///
    /// # Errors
    /// When no function of the application has that type, or it does not accept the value.
    pub fn send_to_after(
        &mut self,
        delay: Duration,
        target: Address,
        value: TypedValue,
    ) -> Result<DelayedSend<'_>, SendError>
    where
        F: SendsDynamically,
    {
        let body: Box<dyn AnyMessage> = Box::new(value);
        self.scope.registry.check_accepts(&target, &*body)?;
        Ok(self.delay(delay, target, body))
    }

    /// Answers the caller: the function that sent the message, or an outside client that waits.
    ///
    /// Where messages also come from ingresses that take no replies, ask for the [`caller`](Self::caller) first, or the
    /// error fails the invocation:
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # #[stateful_function(typename = "example/prices", accepts(String))]
    /// # struct Prices {}
    /// impl Handle<String> for Prices {
    ///     fn handle(&mut self, product: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         if ctx.caller().is_some() {
    ///             ctx.reply(format!("{product}: 12 CHF"))?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// When there is no caller, or the calling function does not accept the message.
    pub fn reply<M: Message>(&mut self, message: M) -> Result<(), SendError> {
        let caller = self.scope.caller.ok_or(SendError::NoCaller)?.clone();
        self.dynamic(caller, Box::new(message))
    }

    /// Answers a caller of an earlier message, whose address the function has kept in its state. An outside client may
    /// always be answered; a function only if it is under `sends(…)`, or with `dynamic_sends`.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// #[stateful_function(typename = "example/kitchen", accepts(String, bool))]
    /// struct Kitchen {
    ///     #[persisted]
    ///     guest: PersistedValue<Option<Address>>,
    /// }
    ///
    /// impl Handle<String> for Kitchen {
    ///     fn handle(&mut self, _order: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         self.guest.set(ctx.caller().cloned());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Handle<bool> for Kitchen {
    ///     fn handle(&mut self, _ready: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         if let Some(guest) = self.guest.take() {
    ///             ctx.reply_to(guest, "bon appétit".to_owned())?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<Kitchen>().build()?;
    /// let order = app.request(Kitchen::at("k"), "soup".to_owned());
    /// app.run_until_idle();
    /// assert_eq!(app.reply::<String>(&order), None);
    /// app.send(Kitchen::at("k"), true).run_until_idle();
    /// assert_eq!(app.reply::<String>(&order).as_deref(), Some("bon appétit"));
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
    ///
    /// # Errors
    /// When the function does not say that it sends there, or the other one does not accept the message.
    pub fn reply_to<M: Message>(&mut self, caller: Address, message: M) -> Result<(), SendError> {
        let own = self.scope.address.function();
        if !self.scope.registry.may_reply(own, caller.function()) {
            return Err(SendError::NotDeclared {
                function: own.to_string(),
                target: caller.function().to_string(),
            });
        }
        self.dynamic(caller, Box::new(message))
    }

    fn dynamic(&mut self, target: Address, body: Box<dyn AnyMessage>) -> Result<(), SendError> {
        self.scope.registry.check_accepts(&target, &*body)?;
        self.put(target, body);
        Ok(())
    }

    /// Writes a record to an egress. It leaves only when the invocation's epoch is durable.
    ///
    /// A value that its format cannot hold fails the invocation, and so do one above the function's `max_message_bytes`
    /// and an egress that the function does not list under `egress(…)`.
    pub fn egress<M: Message>(&mut self, egress: EgressId<M>, message: &M) {
        if !self
            .scope
            .registry
            .may_write(self.scope.address.function(), egress.hash())
        {
            self.refuse_egress(egress);
            return;
        }
        let out = &mut self.scope.effects.egress;
        let start = out.len();
        match egress_framing::push(out, egress.hash(), M::TYPE_ID, |out| message.encode(out)) {
            Ok(()) => {
                let bytes = out.len() - start - egress_framing::HEADER_BYTES;
                self.scope.effects.egress_records += 1;
                let own = self.scope.address.function();
                if bytes > self.scope.registry.message_limit(own) {
                    self.refuse_record(egress, bytes);
                }
            }
            Err(error) => self.scope.effects.fail(error),
        }
    }

    #[cold]
    fn refuse_record<M: Message>(&mut self, egress: EgressId<M>, bytes: usize) {
        let limit = self
            .scope
            .registry
            .message_limit(self.scope.address.function());
        self.scope.effects.fail(format_args!(
            "a record for the egress `{}` has {bytes} bytes, and `{}` writes {limit} at most: write less, or raise its \
             `max_message_bytes`",
            egress.name(),
            F::TYPENAME
        ));
    }

    #[cold]
    fn refuse_egress<M: Message>(&mut self, egress: EgressId<M>) {
        let name = egress.name();
        if self.scope.registry.has_egress(egress.hash()) {
            self.scope.effects.fail(format_args!(
                "`{}` writes to the egress `{name}`, which is not under its `egress(…)`: \
                 list the constant there, so that `statefun graph` and `validate` know the edge",
                F::TYPENAME
            ));
        } else {
            self.scope.effects.fail(format_args!(
                "no egress `{name}` in this application: declare it in module.yaml, or bind it in a module"
            ));
        }
    }

    /// Starts an operation, such as a request to another system, once this invocation has succeeded. Its end comes back
    /// as an [`AsyncResult`] message to this address; when it panics, or the process restarts before its end, as
    /// `AsyncOutcome::Unknown`.
    pub fn spawn<M, O, E>(
        &mut self,
        metadata: M,
        operation: impl Future<Output = Result<O, E>> + Send + 'static,
    ) where
        M: Message + Sync,
        O: OutputFor<F, M>,
        E: fmt::Display,
    {
        let unknown = AsyncResult::<M, O> {
            metadata: metadata.clone(),
            outcome: AsyncOutcome::Unknown,
        };
        let unknown = match TypedValue::from_message(&unknown) {
            Ok(unknown) => unknown,
            Err(error) => return self.scope.effects.fail(error),
        };
        let own = self.scope.address.function();
        if let Err(error) = self.scope.registry.check_size(own, unknown.value.len()) {
            return self.scope.effects.fail(error);
        }
        let operation: Operation = Box::pin(async move {
            let outcome = match operation.await {
                Ok(output) => AsyncOutcome::Success(output),
                Err(error) => AsyncOutcome::Failure(error.to_string()),
            };
            Box::new(AsyncResult { metadata, outcome }) as Box<dyn AnyMessage>
        });
        self.scope.effects.spawns.push(Spawn {
            operation,
            unknown: Box::new(unknown),
        });
    }

    pub(crate) fn scope(&mut self) -> &mut InvocationScope<'a> {
        self.scope
    }
}

/// A delayed message that was just asked for.
pub struct DelayedSend<'a> {
    effects: &'a mut InvocationEffects,
}

impl fmt::Debug for DelayedSend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelayedSend")
    }
}

impl DelayedSend<'_> {
    /// Gives it a token with which this address can take it back. A token that is in use already is taken over: the
    /// earlier message stays, and is no longer cancellable.
    pub fn with_token(self, token: &str) {
        if let Some(delayed) = self.effects.delayed.last_mut() {
            delayed.token = Some(token.into());
        }
    }
}
