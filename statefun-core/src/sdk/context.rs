//! `Context`: what a handler may do beside changing its state.

mod dynamic;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use compact_str::CompactString;

use crate::clock::Timestamp;
use crate::engine::cut::egress_framing;
use crate::engine::envelope::Envelope;
use crate::engine::instances::EarlyRows;
use crate::engine::registry::Registry;
use crate::engine::request::ClientResponse;
use crate::id::{Address, TypeName};
use crate::metrics::own::Recorder;
use crate::rand::Random;
use crate::sdk::async_result::{AsyncOutcome, AsyncResult};
use crate::sdk::egress::EgressId;
use crate::sdk::error::HandlerError;
use crate::sdk::function::{AcceptedBy, OutputFor, StatefulFunction, Target, TargetOf};
use crate::sdk::message::{AnyMessage, Message, TypedValue};

pub use dynamic::SendError;

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
    pub(crate) first_send: usize,
    pub(crate) delayed: Vec<Delayed>,
    pub(crate) cancelled: Vec<CompactString>,
    /// Records, framed by [`egress_framing`], behind those of earlier invocations of the epoch.
    pub(crate) egress: Vec<u8>,
    pub(crate) first_egress_byte: usize,
    pub(crate) egress_records: u32,
    pub(crate) spawns: Vec<Spawn>,
    /// What outside clients are to be told.
    pub(crate) responses: Vec<ClientResponse>,
    /// What the code measures.
    pub(crate) own: Recorder,
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
        self.messages() + self.delayed.len() + self.egress_records as usize
    }

    /// How many messages the invocation wants sent at once.
    #[inline]
    pub(crate) fn messages(&self) -> usize {
        self.sends.len() - self.first_send
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
        self.own.forget();
        self.problem = None;
    }

    pub(crate) fn fail(&mut self, problem: impl fmt::Display) {
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

    /// The id of the trace that this invocation is part of, as W3C trace context writes it: for logs, or to be passed on. None where
    /// the trace is not recorded, as most are not.
    pub fn trace_id(&self) -> Option<String> {
        crate::trace::current().map(|trace| trace.to_string())
    }

    /// The W3C `traceparent` of this invocation, for requests that the function makes by itself, as in [`spawn`](Self::spawn). None
    /// where the trace is not recorded.
    pub fn traceparent(&self) -> Option<String> {
        crate::trace::current::span().map(crate::trace::current::CurrentSpan::traceparent)
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

    /// Sends a message after a delay (in processing time; it survives restarts). With a token it can be taken back.
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// # #[stateful_function(typename = "example/order", accepts(String, bool, i64))]
    /// # struct Order { #[persisted] state: PersistedValue<String> }
    /// /// Placed: it is to be paid within a quarter of an hour.
    /// impl Handle<String> for Order {
    ///     fn handle(&mut self, _: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         ctx.send_after(Duration::from_mins(15), Order::at(ctx.id()), false).with_token("unpaid");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// /// Paid.
    /// impl Handle<i64> for Order {
    ///     fn handle(&mut self, _: i64, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         self.state.set("paid".to_owned());
    ///         ctx.cancel("unpaid");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// /// Not paid in time.
    /// impl Handle<bool> for Order {
    ///     fn handle(&mut self, _: bool, _: &mut Context<'_, Self>) -> HandlerResult {
    ///         self.state.set("given up".to_owned());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<Order>().build()?;
    /// app.send(Order::at("1"), "tea".to_owned()).send(Order::at("2"), "milk".to_owned());
    /// app.advance(Duration::from_mins(10)).send(Order::at("2"), 30).advance(Duration::from_mins(10));
    /// assert_eq!(app.state(Order::at("1"), |order| order.state.clone()), "given up");
    /// assert_eq!(app.state(Order::at("2"), |order| order.state.clone()), "paid");
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
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
                if bytes > record_limit(self.scope.registry, own) {
                    self.refuse_record(egress, bytes);
                }
            }
            Err(error) => self.scope.effects.fail(error),
        }
    }

    #[cold]
    fn refuse_record<M: Message>(&mut self, egress: EgressId<M>, bytes: usize) {
        let limit = record_limit(self.scope.registry, self.scope.address.function());
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
    ///
    /// ```
    /// # use statefun_core::prelude::*;
    /// # use statefun_core::testing::Harness;
    /// # async fn price_of(product: String) -> Result<i64, String> {
    /// #     product.parse().map_err(|_| format!("{product} is sold out"))
    /// # }
    /// #[stateful_function(typename = "example/shopper", accepts(String, AsyncResult<String, i64>))]
    /// struct Shopper {
    ///     #[persisted]
    ///     notes: PersistedValue<Vec<String>>,
    /// }
    ///
    /// impl Handle<String> for Shopper {
    ///     fn handle(&mut self, product: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         ctx.spawn(product.clone(), price_of(product)); // the first comes back with the result
    ///         Ok(())
    ///     }
    /// }
    ///
    /// impl Handle<AsyncResult<String, i64>> for Shopper {
    ///     fn handle(&mut self, asked: AsyncResult<String, i64>, ctx: &mut Context<'_, Self>) -> HandlerResult {
    ///         let product = asked.metadata;
    ///         match asked.outcome {
    ///             AsyncOutcome::Success(price) => self.notes.push(format!("{product}: {price}")),
    ///             AsyncOutcome::Failure(problem) => self.notes.push(problem),
    ///             AsyncOutcome::Unknown => ctx.spawn(product.clone(), price_of(product)), // asking twice does no harm
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Harness::builder().function::<Shopper>().build()?;
    /// app.send(Shopper::at("ada"), "12".to_owned()).run_until_idle();
    /// app.send(Shopper::at("ada"), "tea".to_owned()).run_until_idle();
    /// assert_eq!(app.state(Shopper::at("ada"), |shopper| shopper.notes.clone()), ["12: 12", "tea is sold out"]);
    /// # Ok::<(), statefun_core::testing::HarnessError>(())
    /// ```
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

/// The largest record that a function may write to an egress, in bytes.
fn record_limit(registry: &Registry, function: TypeName) -> usize {
    registry
        .message_limit(function)
        .min(egress_framing::MOST_BYTES)
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
