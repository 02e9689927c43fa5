//! The built-in message types of StateFun (package `io.statefun.sdk.types`): protobuf messages with one field, `value = 1`.

use crate::id::MessageTypeId;
use crate::module::description::MessageFormat;
use crate::sdk::message::{CodecError, Message, TypedValue};
use crate::shape::Shape;

macro_rules! builtin {
    ($($type:ty, $name:literal, $shape:expr, $prost:ident;)*) => {
        $(const _: () = {
            #[derive(Clone, PartialEq, prost::Message)]
            struct Wrapper {
                #[prost($prost, tag = "1")]
                value: $type,
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
    }
}
