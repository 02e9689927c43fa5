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
/// | argument | meaning |
/// |---|---|
/// | `version = 2` | the number of this version of the type; without it, 1 |
/// | `migrate_from = ProfileV1` | the type of the version before, whose rows it reads; needs `version` |
/// | `without(Default, Clone, …)` | leaves out what the author implements by hand |
/// | `crate = path` | where the core crate is, if not among the dependencies |
///
/// What `#[derive(…)]` below it names is not derived again; stand above the derives, or it cannot see them. An enum gets
/// `Default` where a variant is marked `#[default]`.
///
/// # Versions
///
/// A field that is an `Option` or has `#[serde(default)]` may be added at any time. For any other change, keep the type as it
/// was under another name, give the new one the next version, and say how the one becomes the other: with `From`, or with
/// `TryFrom` where it may fail.
///
/// ```ignore
/// #[persisted]
/// struct CartV1 {
///     items: Vec<String>,
/// }
///
/// #[persisted(version = 2, migrate_from = CartV1)]
/// struct Cart {
///     lines: Vec<Line>,
/// }
///
/// impl TryFrom<CartV1> for Cart {
///     type Error = ParseLineError; // anything that is `Display`
///
///     fn try_from(old: CartV1) -> Result<Self, ParseLineError> {
///         let lines = old.items.iter().map(|item| item.parse()).collect::<Result<_, _>>()?;
///         Ok(Self { lines })
///     }
/// }
/// ```
///
/// Version 3 then names version 2, and reads rows of both: `CartV1` → `CartV2` → `Cart`. A value is converted when it is
/// read, and written in the new version when it changes next. The page of the states (`statefun_core::sdk::state`) tells
/// more: what a start refuses, how to test a migration, and the dry run. A type with `migrate_from` cannot be generic.
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
