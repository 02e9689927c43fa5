//! The built-in message types of StateFun (package `io.statefun.sdk.types`): protobuf messages with one field, `value = 1`.

use bytes::{Buf, BufMut};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};

use crate::id::MessageTypeId;
use crate::module::description::MessageFormat;
use crate::sdk::message::{CodecError, Message, TypedValue};
use crate::shape::Shape;

macro_rules! builtin {
    ($($type:ty, $name:literal, $shape:expr, $prost:ident;)*) => {
        $(const _: () = {
            #[derive(Debug, Default)]
            struct Wrapper {
                value: $type,
            }

            // What prost's derive would write: without it, applications compile four crates less.
            #[allow(clippy::float_cmp, reason = "exactly the default is left out")]
            impl prost::Message for Wrapper {
                fn encode_raw(&self, out: &mut impl BufMut) {
                    if self.value != <$type>::default() {
                        encoding::$prost::encode(1, &self.value, out);
                    }
                }

                fn merge_field(
                    &mut self,
                    tag: u32,
                    wire_type: WireType,
                    bytes: &mut impl Buf,
                    context: DecodeContext,
                ) -> Result<(), DecodeError> {
                    match tag {
                        1 => encoding::$prost::merge(wire_type, &mut self.value, bytes, context),
                        _ => encoding::skip_field(wire_type, tag, bytes, context),
                    }
                }

                fn encoded_len(&self) -> usize {
                    if self.value == <$type>::default() {
                        0
                    } else {
                        encoding::$prost::encoded_len(1, &self.value)
                    }
                }

                fn clear(&mut self) {
                    self.value = <$type>::default();
                }
            }

            impl Message for $type {
                const TYPE_ID: MessageTypeId = MessageTypeId::of($name);
                const FORMAT: MessageFormat = MessageFormat::Protobuf;

                fn type_name() -> &'static str {
                    $name
                }

                fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
                    prost::Message::encode(&Wrapper { value: self.clone() }, out)
                        .map_err(|error| CodecError::new($name, error))
                }

                fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
                    let wrapper: Wrapper =
                        prost::Message::decode(bytes).map_err(|error| CodecError::new($name, error))?;
                    Ok(wrapper.value)
                }

                fn shape() -> Shape {
                    $shape
                }
            }
        };)*
    };
}

builtin! {
    bool, "io.statefun.types/bool", Shape::Bool, bool;
    i32, "io.statefun.types/int", Shape::Int(32), sfixed32;
    i64, "io.statefun.types/long", Shape::Int(64), sfixed64;
    f32, "io.statefun.types/float", Shape::Float(32), float;
    f64, "io.statefun.types/double", Shape::Float(64), double;
    String, "io.statefun.types/string", Shape::String, string;
}

const TYPED_VALUE: &str = "io.statefun.types/any";

impl Message for TypedValue {
    const TYPE_ID: MessageTypeId = MessageTypeId::of(TYPED_VALUE);
    const FORMAT: MessageFormat = MessageFormat::Msgpack;

    fn type_name() -> &'static str {
        TYPED_VALUE
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        crate::sdk::message::serde_codec::encode_msgpack(TYPED_VALUE, self, out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        crate::sdk::message::serde_codec::decode_msgpack(TYPED_VALUE, bytes)
    }

    fn shape() -> Shape {
        Shape::Opaque(TYPED_VALUE.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_statefun() {
        let mut bytes = Vec::new();
        7i32.encode(&mut bytes).unwrap();
        assert_eq!(bytes, [0x0d, 7, 0, 0, 0]);
        assert_eq!(i32::decode(&bytes).unwrap(), 7);
        bytes.clear();
        "hi".to_owned().encode(&mut bytes).unwrap();
        assert_eq!(bytes, [0x0a, 2, b'h', b'i']);
        assert!(String::decode(&[0x0a, 9]).is_err());
        bytes.clear();
        0i64.encode(&mut bytes).unwrap();
        assert!(bytes.is_empty(), "the default takes no bytes");
        assert_eq!(i64::decode(&bytes).unwrap(), 0);
        assert_eq!(
            i64::decode(&[0x10, 5, 0x09, 7, 0, 0, 0, 0, 0, 0, 0]).unwrap(),
            7,
            "unknown fields are passed over"
        );
        assert!(bool::decode(&[0x0a, 1, 1]).is_err(), "another wire type");
    }
}
