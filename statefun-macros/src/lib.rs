//! The attributes and derives of statefun. Applications use them through the prelude of `statefun-core`.
//!
//! Each macro has a file: it is parsed into a model, all mistakes gathered on the way, and the model is expanded.
//! What is wrong is reported with the offending token and a help line, and the item stays, so that nothing else fails
//! for the lack of it.

use proc_macro::TokenStream;
use syn::{DeriveInput, Item, parse_macro_input};

mod args;
mod ctxt;
mod function;
mod function_expand;
mod function_fields;
mod item_kind;
mod krate;
mod literals;
mod message;
mod persisted;
mod problems;
mod protobuf;
mod router;
mod serde_attrs;
mod shape;
mod suggest;
mod tokens;
mod version;

/// Makes a struct a stateful function type.
///
/// ```ignore
/// #[stateful_function(typename = "example/greeter", accepts(GreetRequest), sends(EmailSender), egress(GREETINGS))]
/// struct Greeter {
///     #[persisted(name = "seen-count", expire_after_write = "30d")]
///     seen_count: PersistedValue<u32>,
///     templates: Arc<Templates>,
/// }
/// ```
///
/// | argument | meaning |
/// |---|---|
/// | `typename = "namespace/name"` | its name; needed |
/// | `accepts(A, B)` | the messages it handles, each with an `impl Handle<…>`; needed |
/// | `sends(F, G)` | the functions it sends to; itself it may send to without saying so |
/// | `egress(E)` | the constants of the egresses it writes to |
/// | `dynamic_sends` | it sends to addresses known only at run time |
/// | `retry(max_attempts = 5, initial_delay = "100ms", max_delay = "10s")` | what happens when a handler fails |
/// | `max_queue`, `max_fan_out`, `max_message_bytes`, `max_state_bytes` | its limits, whole numbers from 1 on; see `FunctionLimits` |
/// | `crate = path` | where the core crate is, if not among the dependencies |
///
/// Fields under `#[persisted]` are state: `name` (the field's by default), and `expire_after_write` or
/// `expire_after_access` with a duration (`ms`, `s`, `m` or `min`, `h`, `d`). The other fields start from their `Default`,
/// or from a factory that a module binds. Factories use `with_fields`, which is generated: it takes those other fields, in
/// their order, and leaves the state absent, so that a state can be added without a change of the factory.
///
/// ```ignore
/// binder.function(move || Greeter::with_fields(templates.clone()));
/// ```
#[proc_macro_attribute]
pub fn stateful_function(args: TokenStream, item: TokenStream) -> TokenStream {
    function::attribute(args.into(), parse_macro_input!(item as Item)).into()
}

/// Makes a struct or enum a type that state can hold: serialization, `Clone`, `Default` and its shape.
///
/// ```ignore
/// #[persisted]
/// #[derive(Debug)]
/// struct Profile {
///     visits: u32,
///     last_seen: Option<Timestamp>,
/// }
/// ```
///
/// What `#[derive(…)]` below it names is not derived again; stand above the derives, or it cannot see them.
/// `without(Default, Clone, …)` leaves out what the author implements by hand. An enum gets `Default` where a variant is
/// marked `#[default]`.
///
/// On a field of a `#[stateful_function]` it declares state; see there.
#[proc_macro_attribute]
pub fn persisted(args: TokenStream, item: TokenStream) -> TokenStream {
    persisted::attribute(args.into(), parse_macro_input!(item as Item)).into()
}

/// Registers a function that takes the records of an ingress to the functions they are for.
///
/// ```ignore
/// #[router(ingress = "example/greets", to(Greeter))]
/// fn greets(request: GreetRequest, out: &mut Downstream<'_>) -> RouterResult {
///     out.forward(Greeter::at(&request.user_id), request);
///     Ok(())
/// }
/// ```
///
/// Without `ingress`, module.yaml names the router under `routers`. `to` lists the functions it forwards to.
#[proc_macro_attribute]
pub fn router(args: TokenStream, item: TokenStream) -> TokenStream {
    router::attribute(args.into(), parse_macro_input!(item as Item)).into()
}

/// Makes a struct or enum a message.
///
/// ```ignore
/// #[derive(Clone, Serialize, Deserialize, Message)]
/// #[message(typename = "example/GreetRequest")] // JSON; or format = "msgpack", or "protobuf" beside `prost::Message`
/// struct GreetRequest {
///     user_id: String,
/// }
/// ```
#[proc_macro_derive(Message, attributes(message, shaped))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    message::derive(parse_macro_input!(input as DeriveInput)).into()
}

/// Tells the structure of a type that messages or states hold. `Message` and `#[persisted]` do so by themselves.
///
/// A type without it is opaque: a change of its structure is then only noticed when it does not decode.
#[proc_macro_derive(Shaped, attributes(shaped))]
pub fn derive_shaped(input: TokenStream) -> TokenStream {
    shape::derive(parse_macro_input!(input as DeriveInput)).into()
}
