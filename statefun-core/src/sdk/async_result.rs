//! What becomes of an operation that `Context::spawn` started.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::id::{ASYNC_RESULT, MessageTypeId};
use crate::module::description::MessageFormat;
use crate::sdk::message::{CodecError, Message, serde_codec};
use crate::shape::{Field, Shape, Variant};

/// The message that a function receives when an operation it spawned has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncResult<M, O> {
    /// What the function gave to `Context::spawn`.
    pub metadata: M,
    /// How it ended.
    pub outcome: AsyncOutcome<O>,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsyncOutcome<O> {
    /// It completed with this value.
    Success(O),
    /// It failed, with this description.
    Failure(String),
    /// The process restarted before its end was known: it may or may not have taken effect.
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct Form<'a>(
    u8,
    #[serde(borrow, with = "bytes_form")] std::borrow::Cow<'a, [u8]>,
    #[serde(borrow, with = "bytes_form")] std::borrow::Cow<'a, [u8]>,
);

mod bytes_form {
    use std::borrow::Cow;
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ptr_arg, reason = "the signature that serde's `with` asks for")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Cow<'_, [u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'de, [u8]>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Cow<'de, [u8]>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(bytes))
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Cow::Owned(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const UNKNOWN: u8 = 2;

impl<M: Message, O: Message> Message for AsyncResult<M, O> {
    const TYPE_ID: MessageTypeId = MessageTypeId::of(ASYNC_RESULT)
        .combine(M::TYPE_ID)
        .combine(O::TYPE_ID);
    const FORMAT: MessageFormat = MessageFormat::Msgpack;

    fn type_name() -> &'static str {
        static NAMES: OnceLock<Mutex<HashMap<MessageTypeId, &'static str>>> = OnceLock::new();
        let names = || {
            NAMES
                .get_or_init(Mutex::default)
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(name) = names().get(&Self::TYPE_ID) {
            return name;
        }
        // Not under the lock: an argument may be such a message itself.
        let name = format!("{ASYNC_RESULT}<{},{}>", M::type_name(), O::type_name());
        names().entry(Self::TYPE_ID).or_insert_with(|| name.leak())
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut metadata = Vec::new();
        self.metadata.encode(&mut metadata)?;
        let mut body = Vec::new();
        let tag = match &self.outcome {
            AsyncOutcome::Success(output) => {
                output.encode(&mut body)?;
                SUCCESS
            }
            AsyncOutcome::Failure(problem) => {
                body.extend_from_slice(problem.as_bytes());
                FAILURE
            }
            AsyncOutcome::Unknown => UNKNOWN,
        };
        serde_codec::encode_msgpack(
            Self::type_name(),
            &Form(tag, metadata.into(), body.into()),
            out,
        )
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let Form(tag, metadata, body) = rmp_serde::from_slice(bytes)
            .map_err(|error| CodecError::new(Self::type_name(), error))?;
        let outcome = match tag {
            SUCCESS => AsyncOutcome::Success(O::decode(&body)?),
            FAILURE => AsyncOutcome::Failure(String::from_utf8_lossy(&body).into_owned()),
            UNKNOWN => AsyncOutcome::Unknown,
            other => {
                return Err(CodecError::new(
                    Self::type_name(),
                    format_args!("outcome {other} is not known"),
                ));
            }
        };
        Ok(Self {
            metadata: M::decode(&metadata)?,
            outcome,
        })
    }

    fn shape() -> Shape {
        let variant = |name: &str, shape| Variant {
            name: name.to_owned(),
            shape,
        };
        Shape::Struct {
            name: "AsyncResult".to_owned(),
            fields: vec![
                Field {
                    name: "metadata".to_owned(),
                    shape: M::shape(),
                    optional: false,
                },
                Field {
                    name: "outcome".to_owned(),
                    optional: false,
                    shape: Shape::Enum {
                        name: "AsyncOutcome".to_owned(),
                        variants: vec![
                            variant("Success", O::shape()),
                            variant("Failure", Shape::String),
                            variant("Unknown", Shape::Unit),
                        ],
                    },
                },
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_survives_its_encoding() {
        for outcome in [
            AsyncOutcome::Success(3i64),
            AsyncOutcome::Failure("no route".to_owned()),
            AsyncOutcome::Unknown,
        ] {
            let result = AsyncResult {
                metadata: "order-7".to_owned(),
                outcome,
            };
            let mut bytes = Vec::new();
            result.encode(&mut bytes).unwrap();
            assert_eq!(AsyncResult::decode(&bytes).unwrap(), result);
        }
        assert!(AsyncResult::<String, i64>::decode(b"junk").is_err());
    }

    #[test]
    fn its_number_follows_from_its_name() {
        type Inner = AsyncResult<String, i64>;
        type Outer = AsyncResult<Inner, Inner>;
        assert_eq!(MessageTypeId::of_name(Inner::type_name()), Inner::TYPE_ID);
        assert_eq!(MessageTypeId::of_name(Outer::type_name()), Outer::TYPE_ID);
        assert_eq!(
            MessageTypeId::of_name("example/A<b,c>"),
            MessageTypeId::of("example/A<b,c>")
        );
    }
}
