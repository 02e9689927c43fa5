//! Stateful functions: the traits that `#[stateful_function]` implements, and the table it generates.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::instances::{FunctionTable, InstanceTable, TableSite};
use crate::id::{Address, TypeName};
use crate::module::description::{EgressUse, FunctionDescription};
use crate::sdk::async_result::AsyncResult;
use crate::sdk::context::Context;
use crate::sdk::error::HandlerResult;
use crate::sdk::message::{Body, Kept, Message, MessageDefinition};
use crate::sdk::state::{StateDefinition, StateVisitor};

/// A stateful function type. Implemented by `#[stateful_function]`, not by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stateful function",
    label = "not a stateful function",
    note = "annotate the struct: `#[stateful_function(typename = \"namespace/name\", accepts(…))]`"
)]
pub trait StatefulFunction: Sized + 'static {
    /// `namespace/name`.
    const TYPENAME: &'static str;

    /// The interned name.
    fn type_name() -> TypeName;

    /// The instance with that id, as a target of typed sends.
    fn at(id: impl AsRef<str>) -> Target<Self> {
        Target {
            address: Address::new(Self::type_name(), id.as_ref()),
            function: PhantomData,
        }
    }

    /// Everything that the attribute and the fields declare.
    #[doc(hidden)]
    fn definition() -> FunctionDefinition;

    /// One entry per accepted message.
    #[doc(hidden)]
    fn handlers() -> Vec<Handler<Self>>;

    /// Shows each persisted field to the visitor, in the order of declaration.
    #[doc(hidden)]
    fn visit_states<V: StateVisitor>(&mut self, visitor: &mut V);

    /// Exchanges the persisted fields with those of another instance.
    #[doc(hidden)]
    fn swap_states(&mut self, other: &mut Self);

    /// A fresh instance from `Default`s; none when a plain field has no `Default` and so needs a factory.
    #[doc(hidden)]
    fn create() -> Option<Self>;

    /// The first plain field without a `Default`, for the error that asks for a factory.
    #[doc(hidden)]
    fn field_without_default() -> Option<&'static str>;
}

/// Handles the messages of one type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` accepts `{M}`, but does not handle it",
    label = "there is no `impl Handle<{M}> for {Self}`",
    note = "write `impl Handle<{M}> for {Self} {{ fn handle(&mut self, message: {M}, ctx: &mut Context<'_, Self>) -> HandlerResult {{ … }} }}`"
)]
pub trait Handle<M: Message>: StatefulFunction {
    /// Handles one message. One thread at a time does so for an address; state changes and sends take effect together
    /// when it returns `Ok`, and none does otherwise.
    fn handle(&mut self, message: M, ctx: &mut Context<'_, Self>) -> HandlerResult;
}

/// A function that lists `M` under `accepts(…)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not accept `{M}`",
    label = "`{Self}` does not accept this message",
    note = "list it: `#[stateful_function(…, accepts({M}))]` on `{Self}`, and implement `Handle<{M}>` for it"
)]
pub trait Accepts<M: Message>: Handle<M> {}

/// A message that the function `F` accepts: [`Accepts`], seen from the message.
///
/// Sends are bounded by this side of it, since the compiler infers nothing from a bound on a type that it does not know yet.
/// From the other side it would take the only message that a function accepts for the one meant, and then complain of a
/// mismatch instead of saying that the message is not accepted.
#[doc(hidden)]
pub trait AcceptedBy<F: StatefulFunction>: Message {}
impl<F: Accepts<M>, M: Message> AcceptedBy<F> for M {}

/// The output of an operation with metadata `M` whose result the function `F` accepts; the other way round for the same reason.
#[doc(hidden)]
pub trait OutputFor<F: StatefulFunction, M: Message>: Message {}
impl<F: Accepts<AsyncResult<M, O>>, M: Message, O: Message> OutputFor<F, M> for O {}

/// A function that `F` says it sends to: [`SendsTo`], the other way round for the same reason.
#[doc(hidden)]
pub trait TargetOf<F: StatefulFunction>: StatefulFunction {}
impl<F: SendsTo<T>, T: StatefulFunction> TargetOf<F> for T {}

/// A function that lists `T` under `sends(…)`; each function may send to itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say that it sends to `{T}`",
    label = "`{T}` is not among the targets of `{Self}`",
    note = "list it: `#[stateful_function(…, sends({T}))]` on `{Self}`, so that `statefun graph` and `validate` know the edge"
)]
pub trait SendsTo<T: StatefulFunction>: StatefulFunction {}

/// A function that says `dynamic_sends`: it may send to addresses that are only known at run time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say that it sends to addresses known only at run time",
    label = "`{Self}` has no `dynamic_sends`",
    note = "add `dynamic_sends` to its `#[stateful_function(…)]`; `statefun graph` then shows its targets as unknown"
)]
pub trait SendsDynamically: StatefulFunction {}

/// The address of an instance whose function type the compiler knows.
pub struct Target<F> {
    address: Address,
    function: PhantomData<fn(F)>,
}

impl<F> Target<F> {
    /// The plain address.
    pub fn into_address(self) -> Address {
        self.address
    }

    /// The plain address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}
impl<F> From<Target<F>> for Address {
    fn from(target: Target<F>) -> Self {
        target.address
    }
}
impl<F> From<&Target<F>> for Address {
    fn from(target: &Target<F>) -> Self {
        target.address.clone()
    }
}
impl<F> Clone for Target<F> {
    fn clone(&self) -> Self {
        Self {
            address: self.address.clone(),
            function: PhantomData,
        }
    }
}
impl<F> std::fmt::Debug for Target<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// How one accepted message reaches its `Handle` implementation.
#[doc(hidden)]
pub struct Handler<F: StatefulFunction> {
    pub(crate) message: MessageDefinition,
    pub(crate) invoke:
        fn(&mut F, &mut Body, &mut Kept, &mut Context<'_, F>) -> Option<HandlerResult>,
}

impl<F: StatefulFunction> Handler<F> {
    /// The entry of `M`.
    pub fn of<M: Message>() -> Self
    where
        F: Accepts<M>,
    {
        Self {
            message: MessageDefinition::of::<M>(),
            invoke: |function, body, kept, ctx| {
                let message = kept.pass::<M>(body)?;
                Some(function.handle(message, ctx))
            },
        }
    }
}

/// What a function does when a handler fails: `retry(…)` of `#[stateful_function]`. See [`HandlerError`] for an example.
///
/// [`HandlerError`]: crate::sdk::error::HandlerError
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often it is tried in all before the address is parked; at least 1.
    pub max_attempts: u32,
    /// The pause before the second attempt, in milliseconds; it doubles with each further one.
    pub initial_delay_ms: u64,
    /// The longest pause, in milliseconds.
    pub max_delay_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_delay_ms: 100,
            max_delay_ms: 10_000,
        }
    }
}

impl RetryPolicy {
    /// The pause after the attempt of that number (1 = the first).
    pub(crate) fn delay_after(&self, attempt: u32) -> Duration {
        let factor = 1u64
            .checked_shl(attempt.saturating_sub(1))
            .unwrap_or(u64::MAX);
        Duration::from_millis(
            self.initial_delay_ms
                .saturating_mul(factor)
                .min(self.max_delay_ms),
        )
    }
}

/// The declared limits of a function, enforced at run time.
///
/// Between functions of one process messages move as typed values, which have no size. `max_message_bytes` is enforced
/// wherever one becomes bytes, or comes as bytes:
///
/// | where | what happens above the limit |
/// |---|---|
/// | a record of an ingress that names the function under `targets` | 413 over HTTP, elsewhere the ingress' `onError` |
/// | a message to a function through the playground | 413 |
/// | `ctx.send_to`, and `ctx.reply` with a dynamic value | an error of the call, for the handler to deal with |
/// | a router's `forward_to` | the router fails, so the ingress' `onError` |
/// | `ctx.send_after`, `ctx.egress`, the metadata of `ctx.spawn` | the invocation fails for good, and its address is parked |
/// | a message that a cut finds under way, or that waits in a row: for a retry, a parked address, a long queue | a dead letter |
/// | a typed message to a function that accepts `TypedValue` | a dead letter |
///
/// The limit that counts is that of the function that receives the message; of egress records and of `ctx.spawn`, that
/// of the function that writes them. The [harness](crate::testing::Harness) measures every message, also those that would
/// never become bytes in production.
///
/// `max_state_bytes` counts what all `PersistedValue`s of an instance take in its rows together; those of a registry as far as
/// they were asked for since the instance came into memory. Entries of tables and elements of buffers do not count: they are
/// read and written one by one. The size is known when the rows are written, so the invocation that makes a state too large
/// still takes effect; the next one fails for good, and the address is parked until the limit is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionLimits {
    /// Messages that may wait at one address that is retrying or parked.
    pub queue_len: u64,
    /// Messages that one invocation may send.
    pub fan_out: u32,
    /// Bytes of one encoded message to the function, and of one record that it writes to an egress.
    pub message_bytes: u32,
    /// Bytes of the encoded values of one instance, all together.
    pub state_bytes: u32,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            queue_len: 10_000_000,
            fan_out: 100_000,
            message_bytes: 16 << 20,
            state_bytes: 16 << 20,
        }
    }
}

/// All that is known of a function type without its Rust type.
#[derive(Clone)]
pub struct FunctionDefinition {
    /// Its name.
    pub typename: TypeName,
    /// The messages that it accepts.
    pub accepts: Vec<MessageDefinition>,
    /// The functions that it lists as those it sends to. Each may send to itself as well.
    pub sends: Vec<TypeName>,
    /// The egresses that it writes to.
    pub egress: Vec<EgressUse>,
    /// Its persisted states.
    pub states: Vec<StateDefinition>,
    /// Whether it sends to addresses known only at run time.
    pub dynamic_sends: bool,
    /// What happens when a handler fails.
    pub retry: RetryPolicy,
    /// Its limits.
    pub limits: FunctionLimits,
    #[doc(hidden)]
    pub make_table: MakeTable,
}

/// Builds the instance table of a function type, one per worker; fails when a factory is missing or of another type.
#[doc(hidden)]
pub type MakeTable = fn(
    &FunctionDefinition,
    Option<&Factory>,
    TableSite,
) -> Result<Box<dyn FunctionTable>, MissingFactory>;

/// A function that cannot be instantiated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{function}: the field `{field}` has no `Default`, and no module binds a factory: \
     call `binder.function(|| F::with_fields(…))` in a `Module`, or implement `Default` for the field's type"
)]
pub struct MissingFactory {
    /// The function.
    pub function: TypeName,
    /// Its first plain field that needs a factory.
    pub field: &'static str,
}

impl FunctionDefinition {
    /// What the macro builds on: name and handlers of `F`, nothing else declared.
    #[doc(hidden)]
    pub fn of<F: StatefulFunction>() -> Self {
        Self {
            typename: F::type_name(),
            accepts: F::handlers()
                .iter()
                .map(|handler| handler.message)
                .collect(),
            sends: Vec::new(),
            egress: Vec::new(),
            states: Vec::new(),
            dynamic_sends: false,
            retry: RetryPolicy::default(),
            limits: FunctionLimits::default(),
            make_table: InstanceTable::<F>::make,
        }
    }

    /// What `describe` says of it.
    pub fn describe(&self) -> FunctionDescription {
        FunctionDescription {
            typename: self.typename.as_str().to_owned(),
            accepts: self
                .accepts
                .iter()
                .map(|message| (message.type_name)().to_owned())
                .collect(),
            sends: self
                .sends
                .iter()
                .map(|name| name.as_str().to_owned())
                .collect(),
            egress: self.egress.clone(),
            states: self
                .states
                .iter()
                .map(|state| state.description.clone())
                .collect(),
            dynamic_sends: self.dynamic_sends,
        }
    }
}

impl std::fmt::Debug for FunctionDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FunctionDefinition")
            .field(&self.typename)
            .finish()
    }
}

/// Makes the instances of a function type whose plain fields cannot be defaulted.
#[doc(hidden)]
#[derive(Clone)]
pub struct Factory(Arc<dyn Any + Send + Sync>);

pub(crate) type Make<F> = Box<dyn Fn() -> F + Send + Sync>;

impl Factory {
    /// A factory of `F`.
    pub(crate) fn of<F: StatefulFunction>(make: impl Fn() -> F + Send + Sync + 'static) -> Self {
        let make: Make<F> = Box::new(make);
        Self(Arc::new(make))
    }

    /// Makes one instance; none when it is the factory of another type.
    pub(crate) fn make<F: StatefulFunction>(&self) -> Option<F> {
        self.0.downcast_ref::<Make<F>>().map(|make| make())
    }
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Factory")
    }
}
