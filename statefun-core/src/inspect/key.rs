//! Keys of table entries, by their shape: bytes whose order is the keys' order, to JSON and back.

use super::decode::int;
use super::encode::Misfit;
use super::json::{Json, from_base64};
use crate::sdk::state::TableKey;
use crate::shape::Shape;

/// The key that `bytes` hold; the bytes themselves where they are not one of that shape.
pub(crate) fn decode(bytes: &[u8], shape: Option<&Shape>) -> Json {
    let known = shape.and_then(|shape| {
        let mut rest = bytes;
        let key = take(&mut rest, shape).filter(|_| rest.is_empty())?;
        // One that another value shares would come back as another.
        let mut again = Vec::new();
        encode(&key, Some(shape), &mut again).ok()?;
        (again == bytes).then_some(key)
    });
    known.unwrap_or_else(|| Json::bytes("$key", bytes))
}

fn take(bytes: &mut &[u8], shape: &Shape) -> Option<Json> {
    Some(match shape {
        Shape::Bool => Json::Bool(bool::decode_key(bytes)?),
        Shape::Int(8) => int(i8::decode_key(bytes)?.into()),
        Shape::Int(16) => int(i16::decode_key(bytes)?.into()),
        Shape::Int(32) => int(i32::decode_key(bytes)?.into()),
        Shape::Int(64) => int(i64::decode_key(bytes)?.into()),
        Shape::Int(128) => int(i128::decode_key(bytes)?),
        Shape::Uint(8) => int(u8::decode_key(bytes)?.into()),
        Shape::Uint(16) => int(u16::decode_key(bytes)?.into()),
        Shape::Uint(32) => int(u32::decode_key(bytes)?.into()),
        Shape::Uint(64) => int(u64::decode_key(bytes)?.into()),
        Shape::Uint(128) => {
            let number = u128::decode_key(bytes)?;
            match i128::try_from(number) {
                Ok(number) => int(number),
                Err(_) => Json::tagged("$int", Json::String(number.to_string())),
            }
        }
        Shape::String => Json::String(String::decode_key(bytes)?),
        // `Vec<u8>`.
        Shape::Seq(element) if **element == Shape::Uint(8) => {
            Json::bytes("$bytes", &Vec::<u8>::decode_key(bytes)?)
        }
        Shape::Tuple(elements) => {
            let keys: Option<Vec<Json>> = elements.iter().map(|shape| take(bytes, shape)).collect();
            Json::Array(keys?)
        }
        _ => return None,
    })
}

fn push<K: TableKey>(key: Option<K>, out: &mut Vec<u8>) -> Option<()> {
    key?.encode_key(out);
    Some(())
}

/// Appends a key.
///
/// # Errors
/// When it is not of that shape.
pub(crate) fn encode(key: &Json, shape: Option<&Shape>, out: &mut Vec<u8>) -> Result<(), Misfit> {
    if let Some(("$key", Json::String(text))) = key.as_tagged() {
        out.extend_from_slice(&from_base64(text).map_err(Misfit::new)?);
        return Ok(());
    }
    let Some(shape) = shape else {
        return Err(Misfit::new(
            "the type of such keys is not recorded: write {\"$key\": \"base64\"}",
        ));
    };
    let number = || -> Option<(Option<i128>, Option<u128>)> {
        match key {
            Json::Int(number) => Some((Some(*number), u128::try_from(*number).ok())),
            _ => match key.as_tagged()? {
                ("$int", Json::String(text)) => Some((text.parse().ok(), text.parse().ok())),
                _ => None,
            },
        }
    };
    let signed = || number()?.0;
    let unsigned = || number()?.1;
    macro_rules! put {
        ($number:expr, $type:ty) => {
            push(
                $number.and_then(|number| <$type>::try_from(number).ok()),
                out,
            )
        };
    }
    let put = match shape {
        Shape::Bool => match key {
            Json::Bool(value) => push(Some(*value), out),
            _ => None,
        },
        Shape::Int(8) => put!(signed(), i8),
        Shape::Int(16) => put!(signed(), i16),
        Shape::Int(32) => put!(signed(), i32),
        Shape::Int(64) => put!(signed(), i64),
        Shape::Int(128) => put!(signed(), i128),
        Shape::Uint(8) => put!(unsigned(), u8),
        Shape::Uint(16) => put!(unsigned(), u16),
        Shape::Uint(32) => put!(unsigned(), u32),
        Shape::Uint(64) => put!(unsigned(), u64),
        Shape::Uint(128) => put!(unsigned(), u128),
        Shape::String => match key {
            Json::String(text) => push(Some(text.clone()), out),
            _ => None,
        },
        Shape::Seq(element) if **element == Shape::Uint(8) => match key.as_tagged() {
            Some(("$bytes", Json::String(text))) => {
                push(Some(from_base64(text).map_err(Misfit::new)?), out)
            }
            _ => None,
        },
        Shape::Tuple(elements) => match key {
            Json::Array(keys) if keys.len() == elements.len() => {
                for (index, (key, shape)) in keys.iter().zip(elements).enumerate() {
                    encode(key, Some(shape), out).map_err(|error| error.at(index))?;
                }
                Some(())
            }
            _ => None,
        },
        other => {
            return Err(Misfit::new(format_args!(
                "keys of type {other} cannot be written in JSON: write {{\"$key\": \"base64\"}}"
            )));
        }
    };
    put.ok_or_else(|| {
        Misfit::new(format_args!(
            "expected {shape} as a key, found {}",
            key.described()
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn comes_back<K: TableKey>(key: &K, shape: &Shape) -> Result<(), TestCaseError> {
        let mut bytes = Vec::new();
        key.encode_key(&mut bytes);
        let json = decode(&bytes, Some(shape));
        prop_assert!(
            json.as_tagged().is_none_or(|(tag, _)| tag != "$key"),
            "{}",
            json
        );
        let text = json.to_string();
        let mut again = Vec::new();
        encode(
            &serde_json::from_str(&text).unwrap(),
            Some(shape),
            &mut again,
        )
        .unwrap();
        prop_assert_eq!(again, bytes);
        Ok(())
    }

    proptest! {
        #[test]
        fn keys_come_back(
            a: (i64, String), b: (u8, bool, Vec<u8>), c: i128, d: u128, e: u64, f: (i8, i16, i32, u16), g: u32,
        ) {
            let bytes = Shape::Seq(Box::new(Shape::Uint(8)));
            comes_back(&a, &Shape::Tuple(vec![Shape::Int(64), Shape::String]))?;
            comes_back(&b, &Shape::Tuple(vec![Shape::Uint(8), Shape::Bool, bytes]))?;
            comes_back(&c, &Shape::Int(128))?;
            comes_back(&d, &Shape::Uint(128))?;
            comes_back(&e, &Shape::Uint(64))?;
            comes_back(&f, &Shape::Tuple(vec![Shape::Int(8), Shape::Int(16), Shape::Int(32), Shape::Uint(16)]))?;
            comes_back(&g, &Shape::Uint(32))?;
        }

        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>, tuple: bool) {
            let shape = if tuple {
                Shape::Tuple(vec![Shape::String, Shape::Bool])
            } else {
                Shape::String
            };
            let json = decode(&bytes, Some(&shape));
            let mut again = Vec::new();
            encode(&json, Some(&shape), &mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn wrong_keys_are_refused() {
        let mut out = Vec::new();
        for (key, shape) in [
            (Json::Int(256), Shape::Uint(8)),
            (Json::Int(-1), Shape::Uint(64)),
            (Json::String("1".to_owned()), Shape::Int(32)),
            (Json::Array(vec![]), Shape::Tuple(vec![Shape::Bool])),
            (Json::Null, Shape::Opaque("Custom".to_owned())),
        ] {
            assert!(encode(&key, Some(&shape), &mut out).is_err(), "{key}");
        }
    }
}
