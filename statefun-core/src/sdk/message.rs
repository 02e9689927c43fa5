//! Messages: typed values that functions send each other, and their dynamic form.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::MessageTypeId;
use crate::module::description::{MessageDescription, MessageFormat};
use crate::sdk::caught::caught;
use crate::shape::Shape;
use crate::trace::TraceContext;

/// Bytes that are not what their type says, or a value that its format cannot hold.
#[derive(Debug, Error)]
#[error("{type_name}: {problem}")]
pub struct CodecError {
    type_name: CompactString,
    problem: String,
}

impl CodecError {
    /// An error of the type of that name.
    pub fn new(type_name: &str, problem: impl fmt::Display) -> Self {
        Self {
            type_name: type_name.into(),
            problem: problem.to_string(),
        }
    }

    /// What is wrong, without the type's name.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// A value that can be sent to a function. Derive it: `#[derive(Message)] #[message(typename = "example/GreetRequest")]`.
///
/// Between functions of one process a message moves as it is. It is encoded when a cut captures it in flight, when it
/// waits on disk, and where it leaves the process. A copy is kept during each invocation, so that a failed one can be tried
/// again: a clone, or the encoded value where that costs less.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "not a message",
    note = "derive it: `#[derive(Clone, Serialize, Deserialize, Message)] #[message(typename = \"namespace/Name\")]`"
)]
pub trait Message: Clone + Send + 'static {
    /// The hash of the type name.
    const TYPE_ID: MessageTypeId;
    /// How its bytes are laid out.
    const FORMAT: MessageFormat;

    /// `namespace/Name`.
    fn type_name() -> &'static str;

    /// Appends the encoded value.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads an encoded value.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;

    /// The structure of its bytes.
    fn shape() -> Shape;

    /// Asks the processor for the text that the value points to: a hint, given a while before the value is handled.
    #[doc(hidden)]
    fn fetch(&self) {}
}

/// Encodes a value in one of the formats; what `#[derive(Message)]` calls.
#[doc(hidden)]
pub mod serde_codec {
    use super::{CodecError, DeserializeOwned, Serialize};

    pub fn encode_json<T: Serialize>(
        name: &str,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|error| CodecError::new(name, error))
    }

    pub fn decode_json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError::new(name, error))
    }

    pub fn encode_msgpack<T: Serialize>(
        name: &str,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        value
            .serialize(&mut serializer)
            .map_err(|error| CodecError::new(name, error))
    }

    pub fn decode_msgpack<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, CodecError> {
        rmp_serde::from_slice(bytes).map_err(|error| CodecError::new(name, error))
    }

    pub fn encode_protobuf<T: prost::Message>(
        name: &str,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        value
            .encode(out)
            .map_err(|error| CodecError::new(name, error))
    }

    pub fn decode_protobuf<T: prost::Message + Default>(
        name: &str,
        bytes: &[u8],
    ) -> Result<T, CodecError> {
        T::decode(bytes).map_err(|error| CodecError::new(name, error))
    }
}

/// A value with the name of its type: the form that messages have where their Rust type is not known.
///
/// A function that accepts `TypedValue` is given every message whose type it does not accept by itself; see
/// [`Context::send_to`](crate::sdk::context::Context::send_to) for one.
///
/// ```
/// # use statefun_core::prelude::*;
/// let value = TypedValue::from_message(&7i64)?;
/// assert_eq!(value.typename, "io.statefun.types/long");
/// assert!(value.is::<i64>() && !value.is::<String>());
/// assert_eq!(value.to_message::<i64>()?, 7);
/// assert!(value.to_message::<String>().is_err());
/// # Ok::<(), statefun_core::sdk::message::CodecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypedValue {
    /// The type's name, `namespace/Name`.
    pub typename: CompactString,
    /// The value, encoded in its type's format.
    pub value: Bytes,
}

impl TypedValue {
    /// The dynamic form of a message.
    pub fn from_message<M: Message>(message: &M) -> Result<Self, CodecError> {
        let mut value = Vec::new();
        message.encode(&mut value)?;
        Ok(Self {
            typename: M::type_name().into(),
            value: value.into(),
        })
    }

    /// Whether it is an `M`.
    pub fn is<M: Message>(&self) -> bool {
        self.typename == M::type_name()
    }

    /// Reads it as an `M`.
    pub fn to_message<M: Message>(&self) -> Result<M, CodecError> {
        if self.is::<M>() {
            M::decode(&self.value)
        } else {
            Err(CodecError::new(
                M::type_name(),
                format_args!("the value is a `{}`", self.typename),
            ))
        }
    }

    /// The hash of its type's name.
    pub(crate) fn type_id(&self) -> MessageTypeId {
        MessageTypeId::of_name(&self.typename)
    }
}

/// What the engine needs of a message whose Rust type it does not know.
#[doc(hidden)]
pub trait AnyMessage: Send {
    fn message_type(&self) -> MessageTypeId;
    fn message_type_name(&self) -> &'static str;
    fn encode_any(&self, out: &mut Vec<u8>) -> Result<(), CodecError>;
    fn clone_any(&self) -> Box<dyn AnyMessage>;
    fn fetch_any(&self) {}
    /// The span that it comes from, where its trace is recorded.
    fn trace(&self) -> Option<&TraceContext> {
        None
    }
    /// The message alone.
    fn without_trace(self: Box<Self>) -> Box<dyn AnyMessage>;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<M: Message> AnyMessage for M {
    fn message_type(&self) -> MessageTypeId {
        M::TYPE_ID
    }
    fn message_type_name(&self) -> &'static str {
        M::type_name()
    }
    fn encode_any(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.encode(out)
    }
    fn clone_any(&self) -> Box<dyn AnyMessage> {
        Box::new(self.clone())
    }
    fn fetch_any(&self) {
        self.fetch();
    }
    fn without_trace(self: Box<Self>) -> Box<dyn AnyMessage> {
        self
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A message of any type.
pub(crate) type Body = Box<dyn AnyMessage>;

/// What stands in a message's place while a handler has it.
pub(crate) struct Taken;

impl AnyMessage for Taken {
    fn message_type(&self) -> MessageTypeId {
        MessageTypeId::of_name("")
    }
    fn message_type_name(&self) -> &'static str {
        ""
    }
    fn encode_any(&self, _out: &mut Vec<u8>) -> Result<(), CodecError> {
        Err(CodecError::new("", "a handler has the message"))
    }
    fn clone_any(&self) -> Body {
        Box::new(Self)
    }
    fn without_trace(self: Box<Self>) -> Body {
        self
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What is kept of a message while a handler has it, to be tried again.
///
/// A clone of a message with text in it costs an allocation for each text, in memory that has to be fetched first. `MessagePack` is
/// written faster than that, into memory that is used again each time.
#[derive(Default)]
#[doc(hidden)]
pub struct Kept {
    encoded: Vec<u8>,
    taken: Option<&'static str>,
}

impl Kept {
    /// Takes the message out for a handler, as an `M`; none when it is none.
    #[inline]
    pub(crate) fn pass<M: Message>(&mut self, body: &mut Body) -> Option<M> {
        self.taken = None;
        let message = body.as_any().downcast_ref::<M>()?;
        if !std::mem::needs_drop::<M>() || M::FORMAT != MessageFormat::Msgpack {
            return Some(message.clone());
        }
        self.encoded.clear();
        let encoded = caught("its serializer", || message.encode(&mut self.encoded));
        if !matches!(encoded, Ok(Ok(()))) {
            return Some(message.clone());
        }
        let body = std::mem::replace(body, Box::new(Taken));
        self.taken = Some(M::type_name());
        Some(*body.into_any().downcast::<M>().ok()?)
    }

    /// The handler has failed: the message is there again.
    pub(crate) fn give_back(&mut self, body: &mut Body) {
        if let Some(typename) = self.taken.take() {
            *body = Box::new(TypedValue {
                typename: typename.into(),
                value: Bytes::copy_from_slice(&self.encoded),
            });
        }
    }
}

/// A message type as a function's or router's table holds it.
#[derive(Clone, Copy)]
pub struct MessageDefinition {
    /// The hash of its name.
    pub type_id: MessageTypeId,
    /// `namespace/Name`.
    pub type_name: fn() -> &'static str,
    /// Its encoding.
    pub format: MessageFormat,
    /// Its shape.
    pub shape: fn() -> Shape,
    pub(crate) decode: fn(&[u8]) -> Result<Box<dyn AnyMessage>, CodecError>,
}

impl fmt::Debug for MessageDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageDefinition")
            .field(&(self.type_name)())
            .finish()
    }
}

impl MessageDefinition {
    /// The definition of `M`.
    pub fn of<M: Message>() -> Self {
        Self {
            type_id: M::TYPE_ID,
            type_name: M::type_name,
            format: M::FORMAT,
            shape: M::shape,
            decode: |bytes| {
                let decoded = caught("its deserializer", || M::decode(bytes))
                    .unwrap_or_else(|problem| Err(CodecError::new(M::type_name(), problem)));
                Ok(Box::new(decoded?))
            },
        }
    }

    /// What `describe` says of it.
    pub fn describe(&self) -> MessageDescription {
        MessageDescription {
            typename: (self.type_name)().to_owned(),
            format: self.format,
            shape: (self.shape)(),
        }
    }
}
