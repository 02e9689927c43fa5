//! From the bytes of a value to JSON, by its shape. The form is on the page of [`inspect`](super).

use super::json::Json;
use super::pack::{Malformed, Reader, Token};
use super::scope::Scope;
use crate::shape::{Field, Shape, Variant};

/// How deep JSON is nested at most. What lies deeper is shown as bytes; readers of JSON commonly take 128 levels.
const DEEPEST: usize = 100;
/// Whole numbers that every reader of JSON takes as they are lie between this and its negative.
pub(crate) const EXACT: i128 = (1 << 53) - 1;

/// The value in MessagePack that `bytes` holds, all of them.
///
/// # Errors
/// When they are not MessagePack. What does not fit its shape is shown all the same, under `$any`.
pub(crate) fn value(bytes: &[u8], shape: &Shape) -> Result<Json, Malformed> {
    let mut decoder = Decoder {
        input: Reader::new(bytes),
        scope: Scope::default(),
    };
    // So that no error is met in the middle, where shown and not shown would mix.
    let whole = decoder.input.clone().value()?;
    if whole.len() < bytes.len() {
        return Err(format!(
            "{} bytes follow its end",
            bytes.len() - whole.len()
        ));
    }
    decoder.shaped(shape, 0)
}

struct Decoder<'a, 's> {
    input: Reader<'a>,
    scope: Scope<'s>,
}

/// A number that is whole.
pub(crate) fn int(value: i128) -> Json {
    if (-EXACT..=EXACT).contains(&value) {
        Json::Int(value)
    } else {
        Json::tagged("$int", Json::String(value.to_string()))
    }
}

fn float(tag: &str, value: f64, quiet_bits: u64, bits: u64) -> Json {
    let text = if value.is_finite() {
        return Json::Float(value);
    } else if value.is_nan() && bits == quiet_bits {
        "NaN".to_owned()
    } else if value.is_nan() {
        format!("NaN:{bits:x}")
    } else if value > 0.0 {
        "Infinity".to_owned()
    } else {
        "-Infinity".to_owned()
    };
    Json::tagged(tag, Json::String(text))
}

fn double(value: f64) -> Json {
    float("$float", value, f64::NAN.to_bits(), value.to_bits())
}

/// The shortest decimal that reads as the same number of 32 bits.
fn single(tag: &str, value: f32) -> Json {
    let short = value.to_string().parse::<f64>();
    let wide = match short {
        Ok(short) if (short as f32).to_bits() == value.to_bits() => short,
        _ => f64::from(value),
    };
    let (quiet_bits, bits) = (f32::NAN.to_bits().into(), value.to_bits().into());
    float(tag, wide, quiet_bits, bits)
}

/// The text by which a key stands in an object, where it can.
pub(crate) fn key_text(key: &Json, shape: &Shape) -> Option<String> {
    match (key, shape) {
        (Json::String(text), _) if !text.starts_with('$') => Some(text.clone()),
        (Json::Int(number), Shape::Int(_) | Shape::Uint(_)) => Some(number.to_string()),
        (Json::Bool(value), Shape::Bool) => Some(value.to_string()),
        _ => None,
    }
}

/// Entries as an object where their keys allow that, else as pairs.
pub(crate) fn entries<T>(
    entries: Vec<(Json, T)>,
    key_shape: &Shape,
    mut show: impl FnMut(T) -> Json,
) -> Json {
    let texts: Option<Vec<String>> = entries
        .iter()
        .map(|(key, _)| key_text(key, key_shape))
        .collect();
    let distinct = |texts: &Vec<String>| {
        let mut sorted: Vec<&String> = texts.iter().collect();
        sorted.sort_unstable();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    };
    if let Some(texts) = texts.filter(distinct) {
        let values = entries.into_iter().map(|(_, value)| show(value));
        return Json::Object(texts.into_iter().zip(values).collect());
    }
    let pairs = entries
        .into_iter()
        .map(|(key, value)| Json::Array(vec![key, show(value)]));
    Json::tagged("$map", Json::Array(pairs.collect()))
}

impl<'a, 's> Decoder<'a, 's> {
    fn shaped(&mut self, shape: &'s Shape, depth: usize) -> Result<Json, Malformed> {
        let shape = self.scope.resolve(shape);
        if matches!(shape, Shape::Opaque(_) | Shape::Recursive(_)) {
            return self.unshaped(depth);
        }
        let begin = self.input.clone();
        if let Some(shown) = self.fitting(shape, depth)? {
            return Ok(shown);
        }
        self.input = begin;
        Ok(Json::tagged("$any", self.unshaped(depth + 1)?))
    }

    /// The value in the form of its shape; none when it does not fit.
    fn fitting(&mut self, shape: &'s Shape, depth: usize) -> Result<Option<Json>, Malformed> {
        let begin = self.input.clone();
        let token = self.input.token()?;
        let deep = matches!(token, Token::Array(1..) | Token::Map(1..)) && depth >= DEEPEST;
        if deep && !matches!(shape, Shape::Option(_)) {
            self.input = begin;
            return Ok(Some(Json::bytes("$msgpack", self.input.value()?)));
        }
        Ok(Some(match (shape, token) {
            (Shape::Unit, Token::Nil) => Json::Null,
            (Shape::Unit, Token::Array(0)) => Json::Array(Vec::new()),
            (Shape::Bool, Token::Bool(value)) => Json::Bool(value),
            (Shape::Int(128), Token::Bytes(bytes)) => match bytes.try_into() {
                Ok(bytes) => int(i128::from_be_bytes(bytes)),
                Err(_) => return Ok(None),
            },
            (Shape::Uint(128), Token::Bytes(bytes)) => {
                match bytes.try_into().map(u128::from_be_bytes) {
                    Ok(value) => match i128::try_from(value) {
                        Ok(value) => int(value),
                        Err(_) => Json::tagged("$int", Json::String(value.to_string())),
                    },
                    Err(_) => return Ok(None),
                }
            }
            (Shape::Int(bits), Token::Int(value)) if *bits < 128 && signed(*bits, value) => {
                int(value)
            }
            (Shape::Uint(bits), Token::Int(value)) if *bits < 128 && unsigned(*bits, value) => {
                int(value)
            }
            (Shape::Float(32), Token::F32(value)) => single("$float", value),
            (Shape::Float(64), Token::F64(value)) => double(value),
            (Shape::Char, Token::Text(text)) => match std::str::from_utf8(text) {
                Ok(text) if text.chars().count() == 1 => Json::String(text.to_owned()),
                _ => return Ok(None),
            },
            (Shape::String, Token::Text(text)) => match std::str::from_utf8(text) {
                Ok(text) => Json::String(text.to_owned()),
                Err(_) => return Ok(None),
            },
            (Shape::Bytes, Token::Bytes(bytes)) => Json::bytes("$bytes", bytes),
            (Shape::Option(_), Token::Nil) => Json::Null,
            (Shape::Option(inner), _) => {
                self.input = begin;
                self.shaped(inner, depth)?
            }
            (Shape::Seq(element), Token::Array(len)) => {
                let mut items = Vec::new();
                for _ in 0..len {
                    items.push(self.shaped(element, depth + 1)?);
                }
                Json::Array(items)
            }
            (Shape::Tuple(elements), Token::Array(len)) if len == elements.len() => {
                let mut items = Vec::new();
                for element in elements {
                    items.push(self.shaped(element, depth + 1)?);
                }
                Json::Array(items)
            }
            (Shape::Map(key, value), Token::Map(len)) => {
                let mut pairs = Vec::new();
                for _ in 0..len {
                    pairs.push((self.shaped(key, depth + 3)?, self.shaped(value, depth + 3)?));
                }
                // Most maps have no order, so that two that are equal shall look so.
                pairs.sort_by(|(one, _), (other, _)| one.order(other));
                entries(pairs, self.scope.resolve(key), |value| value)
            }
            (Shape::Struct { fields, .. }, Token::Map(len)) => {
                return self.fields(shape, fields, len, depth);
            }
            (Shape::Enum { variants, .. }, Token::Text(name)) => {
                let name = std::str::from_utf8(name).unwrap_or_default();
                match variant(variants, name) {
                    Some(Variant {
                        shape: Shape::Unit, ..
                    }) => Json::String(name.to_owned()),
                    _ => return Ok(None),
                }
            }
            (Shape::Enum { variants, .. }, Token::Map(1)) => {
                let name = self.text()?.unwrap_or_default();
                let Some(variant) = variant(variants, name).filter(|_| !name.starts_with('$'))
                else {
                    return Ok(None);
                };
                let entered = self.scope.enter(shape);
                let payload = self.shaped(&variant.shape, depth + 1)?;
                if entered {
                    self.scope.leave();
                }
                Json::tagged(name, payload)
            }
            _ => return Ok(None),
        }))
    }

    /// A struct, when it has all the fields that it needs, each once.
    fn fields(
        &mut self,
        shape: &'s Shape,
        fields: &'s [Field],
        len: usize,
        depth: usize,
    ) -> Result<Option<Json>, Malformed> {
        let mut look = self.input.clone();
        let mut names: Vec<&[u8]> = Vec::new();
        for _ in 0..len {
            match look.token()? {
                Token::Text(name) if std::str::from_utf8(name).is_ok() => names.push(name),
                _ => return Ok(None),
            }
            look.value()?;
        }
        let has = |field: &Field| names.contains(&field.name.as_bytes());
        let complete = fields.iter().all(|field| field.optional || has(field));
        if !complete || names.iter().any(|name| name.starts_with(b"$")) || !distinct(&mut names) {
            return Ok(None);
        }
        let entered = self.scope.enter(shape);
        let mut shown = Vec::new();
        for _ in 0..len {
            let name = self.text()?.unwrap_or_default();
            let value = match fields.iter().find(|field| field.name == name) {
                Some(field) => self.shaped(&field.shape, depth + 1)?,
                None => Json::tagged("$any", self.unshaped(depth + 2)?),
            };
            shown.push((name.to_owned(), value));
        }
        if entered {
            self.scope.leave();
        }
        Ok(Some(Json::Object(shown)))
    }

    fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        Ok(match self.input.token()? {
            Token::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        })
    }

    /// A value of which nothing is known but what its bytes tell.
    fn unshaped(&mut self, depth: usize) -> Result<Json, Malformed> {
        let begin = self.input.clone();
        let token = self.input.token()?;
        if matches!(token, Token::Array(1..) | Token::Map(1..)) && depth >= DEEPEST {
            self.input = begin;
            return Ok(Json::bytes("$msgpack", self.input.value()?));
        }
        Ok(match token {
            Token::Nil => Json::Null,
            Token::Bool(value) => Json::Bool(value),
            Token::Int(value) => int(value),
            Token::F32(value) => match single("$f32", value) {
                finite @ Json::Float(_) => Json::tagged("$f32", finite),
                other => other,
            },
            Token::F64(value) => double(value),
            Token::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Json::String(text.to_owned()),
                Err(_) => Json::bytes("$str", text),
            },
            Token::Bytes(bytes) => Json::bytes("$bytes", bytes),
            Token::Ext(kind, bytes) => {
                let Json::Object(fields) = Json::bytes("$", bytes) else {
                    return Ok(Json::Null);
                };
                let bytes = fields.into_iter().map(|(_, bytes)| bytes);
                let parts = std::iter::once(Json::Int(kind.into())).chain(bytes);
                Json::tagged("$ext", Json::Array(parts.collect()))
            }
            Token::Array(len) => {
                let mut items = Vec::new();
                for _ in 0..len {
                    items.push(self.unshaped(depth + 1)?);
                }
                Json::Array(items)
            }
            Token::Map(len) => {
                let mut pairs = Vec::new();
                for _ in 0..len {
                    pairs.push((self.unshaped(depth + 3)?, self.unshaped(depth + 3)?));
                }
                entries(pairs, super::scope::UNKNOWN, |value| value)
            }
        })
    }
}

fn distinct(names: &mut [&[u8]]) -> bool {
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

pub(crate) fn variant<'s>(variants: &'s [Variant], name: &str) -> Option<&'s Variant> {
    variants.iter().find(|variant| variant.name == name)
}

pub(crate) fn signed(bits: u16, value: i128) -> bool {
    let most = (1_i128 << (bits.clamp(1, 64) - 1)) - 1;
    (-most - 1..=most).contains(&value)
}

pub(crate) fn unsigned(bits: u16, value: i128) -> bool {
    (0..1_i128 << bits.min(64)).contains(&value)
}
