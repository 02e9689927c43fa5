//! Requests of outside clients, as a stateful function of the engine's own: who waits for a reply is an address like any other.
//!
//! The id is `<ingress>\u{1f}<target>\u{1f}<idempotency key>`, or a random one where the client gave no key. With a key, the
//! request and its reply are state that expires so long after the request as its ingress says: until then a retry, also after a
//! crash, is answered with the first one's reply.

use std::collections::BTreeMap;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{Address, LazyTypeName, MessageTypeId, TypeName};
use crate::module::description::{Expiration, MessageFormat, StateKind};
use crate::sdk::context::Context;
use crate::sdk::error::HandlerResult;
use crate::sdk::function::{Accepts, FunctionDefinition, Handle, Handler, StatefulFunction};
use crate::sdk::message::{CodecError, Message, TypedValue, serde_codec};
use crate::sdk::router::RecordInfo;
use crate::sdk::state::{
    Flush, PersistedState, PersistedValue, RowBytes, RowContent, StateDefinition, StateSite,
    StateVisitor, Unwritten, Versions,
};
use crate::shape::Shape;

/// The function's type.
pub(crate) const TYPENAME: &str = "io.statefun/request";
const MESSAGE: &str = "io.statefun/Request";

/// A request as it comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The id of the ingress.
    pub(crate) ingress: String,
    /// The one connection that this is; others may wait for the same request.
    pub(crate) connection: u64,
    /// Whether the client waits for the function's reply, or only until the request is durable.
    pub(crate) wait: bool,
    /// How long the request is remembered, in milliseconds; 0 when it has no idempotency key.
    pub(crate) retention_ms: u64,
    /// Of the body and all that decides where it goes.
    pub(crate) fingerprint: u64,
    pub(crate) key: Option<CompactString>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) timestamp: Timestamp,
    pub(crate) target: Option<Address>,
    pub(crate) typename: CompactString,
    pub(crate) value: Bytes,
}

impl Message for Request {
    const TYPE_ID: MessageTypeId = MessageTypeId::of(MESSAGE);
    const FORMAT: MessageFormat = MessageFormat::Msgpack;

    fn type_name() -> &'static str {
        MESSAGE
    }
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_codec::encode_msgpack(MESSAGE, self, out)
    }
    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        serde_codec::decode_msgpack(MESSAGE, bytes)
    }
    fn shape() -> Shape {
        Shape::Opaque(MESSAGE.to_owned())
    }
}

/// What a client is to be told once the epoch is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientResponse {
    /// The request's id.
    pub(crate) request: CompactString,
    pub(crate) to: Recipients,
    pub(crate) answer: Answer,
}

/// Which of the connections that wait for a request are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipients {
    /// The one of that number.
    Connection(u64),
    /// All that made the same request. Another one with the same idempotency key is not to see this one's reply: it is
    /// answered with [`Answer::KeyReused`].
    Waiting {
        /// The request's; none when it has no key.
        fingerprint: Option<u64>,
    },
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is durable.
    Accepted,
    /// The function's reply.
    Reply(TypedValue),
    /// Another request used the same idempotency key.
    KeyReused,
    /// No router or target took it.
    Refused(String),
}

/// What is remembered of a request with an idempotency key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    fingerprint: u64,
    expires_at_ms: u64,
    reply: Option<TypedValue>,
}

/// A [`PersistedValue`] that expires when the request says so, and not so long after its last change: a reply that comes
/// late does not make it last longer.
#[derive(Debug, Default)]
struct Memory(PersistedValue<Remembered>);

impl PersistedState for Memory {
    type Value = Remembered;
    type Key = ();
    const KIND: StateKind = StateKind::Value;
    const HAS_ROW: bool = true;
    const NEEDS_SITE: bool = false;

    fn absent() -> Self {
        Self::default()
    }
    fn load(&mut self, row: Option<RowBytes<'_>>, site: Option<StateSite>) -> Result<(), String> {
        self.0.load(row, site)
    }
    fn check_row(row: RowBytes<'_>, rest: &[u8]) -> Result<RowContent, String> {
        PersistedValue::<Remembered>::check_row(row, rest)
    }
    fn expire(&mut self, now: Timestamp) -> bool {
        self.0.expire(now)
    }
    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
    fn commit(&mut self, now: Timestamp, _: Expiration) -> bool {
        let after_ms = self.0.expires_at_ms.saturating_sub(now.as_ms());
        self.0.commit(now, Expiration::AfterWrite { after_ms })
    }
    fn rollback(&mut self) {
        self.0.rollback();
    }
    fn flush(&mut self, flush: &mut Flush<'_>) -> Result<(), Unwritten> {
        self.0.flush(flush)
    }
    fn value_bytes(&self) -> usize {
        self.0.value_bytes()
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct RequestFunction {
    remembered: Memory,
}

/// How long requests are remembered if nothing else is said. What is declared of the state: how often rows are looked through
/// for those that have expired follows from it. How long each request is remembered, it says itself.
const USUAL_RETENTION_MS: u64 = 24 * 3_600_000;

/// The address of a request.
pub(crate) fn request_address(id: &str) -> Address {
    Address::new(RequestFunction::type_name(), id)
}

impl StatefulFunction for RequestFunction {
    const TYPENAME: &'static str = TYPENAME;

    fn type_name() -> TypeName {
        static NAME: LazyTypeName = LazyTypeName::new(TYPENAME);
        NAME.get()
    }

    fn definition() -> FunctionDefinition {
        let mut definition = FunctionDefinition::of::<Self>();
        definition.states.push(StateDefinition::of(
            "remembered",
            StateKind::Value,
            Shape::Opaque("io.statefun/Remembered.1".to_owned()),
            Shape::Unit,
            Expiration::AfterWrite {
                after_ms: USUAL_RETENTION_MS,
            },
            Versions::<Remembered>::undeclared(),
            Memory::check_row,
        ));
        definition.dynamic_sends = true;
        // A message on its way to a function of the application, whose limit it is that counts.
        definition.limits.message_bytes = u32::MAX;
        definition.limits.state_bytes = u32::MAX;
        definition
    }

    fn handlers() -> Vec<Handler<Self>> {
        vec![Handler::of::<Request>(), Handler::of::<TypedValue>()]
    }

    fn visit_states<V: StateVisitor>(&mut self, visitor: &mut V) {
        visitor.visit(0, &mut self.remembered);
    }

    fn swap_states(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.remembered, &mut other.remembered);
    }

    fn create() -> Option<Self> {
        Some(Self::default())
    }

    fn field_without_default() -> Option<&'static str> {
        None
    }
}

impl Accepts<Request> for RequestFunction {}
impl Accepts<TypedValue> for RequestFunction {}

impl Handle<Request> for RequestFunction {
    fn handle(&mut self, request: Request, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let now = ctx.now();
        let id = CompactString::from(ctx.id());
        let own = ctx.address().clone();
        let scope = ctx.scope();
        let mut respond = |to, answer| {
            scope.effects.responses.push(ClientResponse {
                request: id.clone(),
                to,
                answer,
            });
        };
        let connection = Recipients::Connection(request.connection);
        if let Some(known) = self.remembered.0.get() {
            match &known.reply {
                _ if known.fingerprint != request.fingerprint => {
                    respond(connection, Answer::KeyReused);
                }
                _ if !request.wait => respond(connection, Answer::Accepted),
                Some(reply) => respond(connection, Answer::Reply(reply.clone())),
                // The reply will come, and answers all connections that wait for it.
                None => {}
            }
            return Ok(());
        }
        let record = RecordInfo {
            key: request.key.as_deref(),
            headers: &request.headers,
            timestamp: request.timestamp,
        };
        let value = TypedValue {
            typename: request.typename,
            value: request.value,
        };
        let mut forwards = Vec::new();
        let routed = match scope.registry.ingress_index(&request.ingress) {
            Some(ingress) => scope.registry.route(
                ingress,
                record,
                request.target,
                &mut Some(Box::new(value)),
                &mut forwards,
            ),
            None => Err(format!(
                "there is no ingress `{}` any more",
                request.ingress
            )),
        };
        if let Err(problem) = routed {
            respond(connection, Answer::Refused(problem));
            return Ok(());
        }
        if !request.wait {
            respond(connection, Answer::Accepted);
        }
        for mut forward in forwards {
            // To itself a request would reply forever.
            if forward.to != own {
                forward.from = Some(own.clone());
                scope.effects.sends.push(forward);
            }
        }
        if request.retention_ms > 0 {
            self.remembered.0.set(Remembered {
                fingerprint: request.fingerprint,
                expires_at_ms: now.as_ms().saturating_add(request.retention_ms),
                reply: None,
            });
        }
        Ok(())
    }
}

impl Handle<TypedValue> for RequestFunction {
    fn handle(&mut self, reply: TypedValue, ctx: &mut Context<'_, Self>) -> HandlerResult {
        let mut fingerprint = None;
        if let Some(known) = self.remembered.0.get() {
            if known.reply.is_some() {
                return Ok(());
            }
            fingerprint = Some(known.fingerprint);
            self.remembered
                .0
                .update(|known| known.reply = Some(reply.clone()));
        }
        let request = CompactString::from(ctx.id());
        let to = Recipients::Waiting { fingerprint };
        ctx.scope().effects.responses.push(ClientResponse {
            request,
            to,
            answer: Answer::Reply(reply),
        });
        Ok(())
    }
}
