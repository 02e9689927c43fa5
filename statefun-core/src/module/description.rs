//! What an application says of itself: the answer of `describe`, as versioned JSON.
//!
//! The macros fill it at compile time and link time; `validate` and `graph` read it beside module.yaml.

use serde::{Deserialize, Serialize};

use crate::shape::{FIRST_VERSION, Shape};

/// Version of the JSON layout of [`Description`]. A reader refuses another one and says which side to upgrade.
pub const DESCRIPTION_VERSION: u32 = 1;

/// All that the code of an application declares about its wiring.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Description {
    /// [`DESCRIPTION_VERSION`] of the writer.
    pub version: u32,
    /// The version of statefun-core that the application was built with.
    pub core_version: String,
    /// The cargo features of statefun-core compiled into the application (`kafka`, `tls`, …).
    pub features: Vec<String>,
    /// Stateful functions, sorted by type name.
    pub functions: Vec<FunctionDescription>,
    /// Routers, sorted by name.
    pub routers: Vec<RouterDescription>,
    /// Messages, sorted by type name: every type that a function accepts or a router reads.
    pub messages: Vec<MessageDescription>,
    /// Identifiers of ingresses that code binds by hand (`Binder::ingress`).
    pub ingresses: Vec<String>,
    /// Identifiers of egresses that code binds by hand (`Binder::egress`).
    pub egresses: Vec<String>,
}

/// One stateful function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDescription {
    /// `namespace/name`.
    pub typename: String,
    /// Type names of the messages that it handles.
    pub accepts: Vec<String>,
    /// Type names of the functions that it says it sends to, itself included.
    pub sends: Vec<String>,
    /// Egresses that it says it writes to.
    pub egress: Vec<EgressUse>,
    /// Persisted states, in the order of their declaration.
    pub states: Vec<StateDescription>,
    /// Whether it sends to addresses that are only known at run time; its targets are then unknown, not absent.
    pub dynamic_sends: bool,
}

/// An egress as the code names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressUse {
    /// `namespace/name` of the egress.
    pub id: String,
    /// Type name of the records written to it.
    pub message: String,
    /// Encoding of those records.
    pub format: MessageFormat,
}

/// One persisted state of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDescription {
    /// Its name, unique in the function.
    pub name: String,
    /// What kind of state.
    pub kind: StateKind,
    /// The version of the value's type: 1 where none is declared.
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub version: u32,
    /// Shape of the value (of the element, for a buffer).
    pub shape: Shape,
    /// Shape of the key, for tables.
    pub key_shape: Option<Shape>,
    /// When it expires.
    pub expiration: Expiration,
}

pub(crate) fn first_version() -> u32 {
    FIRST_VERSION
}

pub(crate) fn is_first_version(version: &u32) -> bool {
    *version == FIRST_VERSION
}

/// The kinds of persisted state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// `PersistedValue`.
    Value,
    /// `PersistedTable`.
    Table,
    /// `PersistedBuffer`.
    Buffer,
    /// `PersistedRegistry`.
    Registry,
}

/// When a state is deleted by itself. Fields under `#[persisted]` say it in their attribute; states of a registry are given it.
///
/// It goes by entry in a table and by element in a buffer. Access times are coarse: a read that comes within a sixteenth of
/// the time to live after the last one may not count.
///
/// ```
/// # use statefun_core::prelude::*;
/// # use statefun_core::testing::Harness;
/// #[stateful_function(typename = "example/session", accepts(bool, String))]
/// struct Session {
///     #[persisted(expire_after_write = "1h")]
///     token: PersistedValue<String>,
///     #[persisted(expire_after_access = "1h")]
///     basket: PersistedValue<Vec<String>>,
/// }
///
/// impl Handle<String> for Session {
///     fn handle(&mut self, item: String, _: &mut Context<'_, Self>) -> HandlerResult {
///         self.token.set("secret".to_owned());
///         self.basket.push(item);
///         Ok(())
///     }
/// }
///
/// /// A look at both.
/// impl Handle<bool> for Session {
///     fn handle(&mut self, _: bool, ctx: &mut Context<'_, Self>) -> HandlerResult {
///         Ok(ctx.reply(format!("{:?}, {}", self.token.get(), self.basket.len()))?)
///     }
/// }
///
/// let mut app = Harness::builder().function::<Session>().build()?;
/// app.send(Session::at("ada"), "tea".to_owned()).run_until_idle();
/// let look = |app: &mut Harness| -> String { app.call(Session::at("ada"), true) };
/// app.advance(Duration::from_mins(40));
/// assert_eq!(look(&mut app), r#"Some("secret"), 1"#);
/// app.advance(Duration::from_mins(40)); // the look was an access, but no write
/// assert_eq!(look(&mut app), "None, 1");
/// app.advance(Duration::from_mins(60));
/// assert_eq!(look(&mut app), "None, 0");
/// # Ok::<(), statefun_core::testing::HarnessError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Expiration {
    /// Never.
    #[default]
    None,
    /// So long after the last write.
    AfterWrite {
        /// Milliseconds.
        after_ms: u64,
    },
    /// So long after the last read or write.
    AfterAccess {
        /// Milliseconds.
        after_ms: u64,
    },
}

/// One router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterDescription {
    /// Its name: the function's name in code, which module.yaml may list under `routers`.
    pub name: String,
    /// The ingress that it says it reads, if it says so.
    pub ingress: Option<String>,
    /// Type name of the message that it reads.
    pub message: String,
    /// Type names of the functions that it says it forwards to.
    pub to: Vec<String>,
}

/// One message type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDescription {
    /// `namespace/name`.
    pub typename: String,
    /// Its encoding.
    pub format: MessageFormat,
    /// Its shape.
    pub shape: Shape,
}

/// How the bytes of a message are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageFormat {
    /// JSON text.
    Json,
    /// MessagePack with field names.
    Msgpack,
    /// Protocol Buffers.
    Protobuf,
}
