//! From JSON to the bytes of a value, by its shape: the way back of [`decode`](super::decode).

use std::fmt;

use rmp::encode as pack;

use super::decode::{signed, unsigned, variant};
use super::json::{Json, from_base64};
use super::pack::Reader;
use super::scope::{Scope, UNKNOWN};
use crate::module::suggest::nearest;
use crate::shape::{Field, Shape, Variant};

/// JSON that does not fit where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Misfit {
    /// The steps that lead to it, the last one first.
    path: Vec<String>,
    problem: String,
}

impl Misfit {
    pub(crate) fn new(problem: impl fmt::Display) -> Self {
        Self {
            path: Vec::new(),
            problem: problem.to_string(),
        }
    }

    fn expected(expected: impl fmt::Display, found: &Json) -> Self {
        Self::new(format_args!(
            "expected {expected}, found {}",
            found.described()
        ))
    }

    /// It lies within a field or entry of that name.
    pub(crate) fn within(mut self, step: impl fmt::Display) -> Self {
        self.path.push(format!(".{step}"));
        self
    }

    /// It lies within that element of a list.
    pub(crate) fn at(mut self, index: usize) -> Self {
        self.path.push(format!("[{index}]"));
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        match path.strip_prefix('.').unwrap_or(&path) {
            "" => f.write_str(&self.problem),
            path => write!(f, "`{path}`: {}", self.problem),
        }
    }
}

/// Appends the value in MessagePack.
///
/// # Errors
/// When it does not fit the shape. What was appended then is of no use.
pub(crate) fn value(json: &Json, shape: &Shape, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut encoder = Encoder {
        out,
        scope: Scope::default(),
    };
    encoder.shaped(json, shape)
}

/// The key that a text stands for in an object.
pub(crate) fn key_of_text(text: &str, shape: &Shape) -> Result<Json, Misfit> {
    let wrong = || Misfit::new(format_args!("expected {shape} as a key, found `{text}`"));
    match shape {
        Shape::Int(_) | Shape::Uint(_) => {
            let number: i128 = text.parse().map_err(|_| wrong())?;
            // Written in one way only, so that no two keys are one.
            if number.to_string() == text {
                Ok(Json::Int(number))
            } else {
                Err(wrong())
            }
        }
        Shape::Bool => match text {
            "true" => Ok(Json::Bool(true)),
            "false" => Ok(Json::Bool(false)),
            _ => Err(wrong()),
        },
        _ => Ok(Json::String(text.to_owned())),
    }
}

/// The entries of an object or of pairs under `$map`.
pub(crate) fn entries<'j>(
    json: &'j Json,
    key_shape: &Shape,
) -> Result<Vec<(Json, &'j Json)>, Misfit> {
    if let Some(("$map", pairs)) = json.as_tagged() {
        let wrong = |found| Misfit::expected("a list of pairs `[key, value]` under `$map`", found);
        let Json::Array(pairs) = pairs else {
            return Err(wrong(pairs));
        };
        return pairs
            .iter()
            .enumerate()
            .map(|(index, pair)| match pair {
                Json::Array(parts) => match &parts[..] {
                    [key, value] => Ok((key.clone(), value)),
                    _ => Err(wrong(pair).at(index)),
                },
                other => Err(wrong(other).at(index)),
            })
            .collect();
    }
    let Json::Object(fields) = json else {
        return Err(Misfit::expected("an object", json));
    };
    no_tags(fields)?;
    once(fields)?;
    fields
        .iter()
        .map(|(name, value)| Ok((key_of_text(name, key_shape)?, value)))
        .collect()
}

/// Names that begin with `$` have a meaning, and never mean themselves.
fn no_tags(fields: &[(String, Json)]) -> Result<(), Misfit> {
    match fields.iter().find(|(name, _)| name.starts_with('$')) {
        Some((name, _)) => Err(Misfit::new(format_args!(
            "`{name}` is not understood here; for a key of that name write {{\"$map\": [[\"{name}\", value]]}}"
        ))),
        None => Ok(()),
    }
}

pub(crate) fn once(fields: &[(String, Json)]) -> Result<(), Misfit> {
    let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Misfit::new("it is given twice").within(pair[0])),
        None => Ok(()),
    }
}

struct Encoder<'o, 's> {
    out: &'o mut Vec<u8>,
    scope: Scope<'s>,
}

impl<'s> Encoder<'_, 's> {
    fn shaped(&mut self, json: &Json, shape: &'s Shape) -> Result<(), Misfit> {
        let shape = self.scope.resolve(shape);
        match json.as_tagged() {
            Some(("$any", inner)) => return self.shaped(inner, UNKNOWN),
            Some(("$msgpack", inner)) => return self.raw(inner),
            _ => {}
        }
        let expected = || Misfit::expected(shape, json);
        match shape {
            Shape::Opaque(_) | Shape::Recursive(_) => return self.unshaped(json),
            Shape::Unit => match json {
                Json::Null => self.nil(),
                Json::Array(items) if items.is_empty() => self.array(0)?,
                _ => return Err(expected()),
            },
            Shape::Bool => match json {
                Json::Bool(value) => self.out.push(if *value { 0xc3 } else { 0xc2 }),
                _ => return Err(expected()),
            },
            Shape::Int(128) => {
                let value: i128 = parse_int(json).ok_or_else(expected)?;
                self.bytes(&value.to_be_bytes())?;
            }
            Shape::Uint(128) => {
                let value: u128 = parse_int(json).ok_or_else(expected)?;
                self.bytes(&value.to_be_bytes())?;
            }
            Shape::Int(bits) => match parse_int(json) {
                Some(value) if signed(*bits, value) => self.int(value)?,
                _ => return Err(expected()),
            },
            Shape::Uint(bits) => match parse_int(json) {
                Some(value) if unsigned(*bits, value) => self.int(value)?,
                _ => return Err(expected()),
            },
            Shape::Float(32) => self.single(json).ok_or_else(expected)?,
            Shape::Float(_) => self.double(json).ok_or_else(expected)?,
            Shape::Char => match json {
                Json::String(text) if text.chars().count() == 1 => self.text(text)?,
                _ => return Err(expected()),
            },
            Shape::String => match json {
                Json::String(text) => self.text(text)?,
                _ => return Err(expected()),
            },
            Shape::Bytes => match json.as_tagged() {
                Some(("$bytes", Json::String(text))) => {
                    self.bytes(&from_base64(text).map_err(Misfit::new)?)?;
                }
                _ => {
                    return Err(Misfit::expected("bytes, as {\"$bytes\": \"base64\"}", json));
                }
            },
            Shape::Option(inner) => match json {
                Json::Null => self.nil(),
                json => self.shaped(json, inner)?,
            },
            Shape::Seq(element) => {
                let Json::Array(items) = json else {
                    return Err(expected());
                };
                self.array(items.len())?;
                for (index, item) in items.iter().enumerate() {
                    self.shaped(item, element)
                        .map_err(|error| error.at(index))?;
                }
            }
            Shape::Tuple(elements) => {
                let Json::Array(items) = json else {
                    return Err(expected());
                };
                if items.len() != elements.len() {
                    return Err(expected());
                }
                self.array(items.len())?;
                for (index, (item, element)) in items.iter().zip(elements).enumerate() {
                    self.shaped(item, element)
                        .map_err(|error| error.at(index))?;
                }
            }
            Shape::Map(key_shape, value_shape) => {
                let pairs = entries(json, self.scope.resolve(key_shape))?;
                self.map(pairs.len())?;
                for (key, value) in pairs {
                    let step = step_of(&key);
                    self.shaped(&key, key_shape)
                        .and_then(|()| self.shaped(value, value_shape))
                        .map_err(|error| error.within(step))?;
                }
            }
            Shape::Struct { name, fields } => self.fields(json, shape, name, fields)?,
            Shape::Enum { name, variants } => self.variant(json, shape, name, variants)?,
        }
        Ok(())
    }

    fn fields(
        &mut self,
        json: &Json,
        shape: &'s Shape,
        name: &str,
        fields: &'s [Field],
    ) -> Result<(), Misfit> {
        let Json::Object(given) = json else {
            return Err(Misfit::expected(
                format_args!("an object with the fields of {name}"),
                json,
            ));
        };
        no_tags(given)?;
        once(given)?;
        let missing = fields
            .iter()
            .find(|field| !field.optional && !given.iter().any(|(name, _)| *name == field.name));
        if let Some(field) = missing {
            return Err(Misfit::new(format_args!(
                "the field is missing; {name} needs it, a {}",
                field.shape
            ))
            .within(&field.name));
        }
        self.map(given.len())?;
        let entered = self.scope.enter(shape);
        for (given_name, value) in given {
            let field = fields.iter().find(|field| field.name == *given_name);
            self.text(given_name)?;
            match (field, value.as_tagged()) {
                (Some(field), _) => self.shaped(value, &field.shape),
                (None, Some(("$any", inner))) => self.shaped(inner, UNKNOWN),
                (None, _) => {
                    let known = fields.iter().map(|field| field.name.as_str());
                    Err(Misfit::new(match nearest(given_name, known) {
                        Some(nearest) => {
                            format!("{name} has no such field; did you mean `{nearest}`?")
                        }
                        None => format!("{name} has no such field"),
                    }))
                }
            }
            .map_err(|error| error.within(given_name))?;
        }
        if entered {
            self.scope.leave();
        }
        Ok(())
    }

    fn variant(
        &mut self,
        json: &Json,
        shape: &'s Shape,
        name: &str,
        variants: &'s [Variant],
    ) -> Result<(), Misfit> {
        let unknown = |given: &str| {
            let known = variants.iter().map(|variant| variant.name.as_str());
            Misfit::new(match nearest(given, known) {
                Some(nearest) => {
                    format!("{name} has no variant `{given}`; did you mean `{nearest}`?")
                }
                None => format!("{name} has no variant `{given}`"),
            })
        };
        match json {
            Json::String(given) => match variant(variants, given) {
                Some(Variant {
                    shape: Shape::Unit, ..
                }) => self.text(given),
                Some(other) => Err(Misfit::new(format_args!(
                    "expected {{\"{given}\": {}}}, found `{given}` alone",
                    other.shape
                ))),
                None => Err(unknown(given)),
            },
            Json::Object(fields) => match &fields[..] {
                [(given, payload)] => {
                    let variant = variant(variants, given).ok_or_else(|| unknown(given))?;
                    self.map(1)?;
                    self.text(given)?;
                    let entered = self.scope.enter(shape);
                    self.shaped(payload, &variant.shape)
                        .map_err(|error| error.within(given))?;
                    if entered {
                        self.scope.leave();
                    }
                    Ok(())
                }
                _ => Err(Misfit::expected(shape, json)),
            },
            _ => Err(Misfit::expected(shape, json)),
        }
    }

    fn unshaped(&mut self, json: &Json) -> Result<(), Misfit> {
        match json {
            Json::Null => self.nil(),
            Json::Bool(value) => self.out.push(if *value { 0xc3 } else { 0xc2 }),
            Json::Int(value) => self.int(*value)?,
            Json::Float(value) => self.f64(*value),
            Json::String(text) => self.text(text)?,
            Json::Array(items) => {
                self.array(items.len())?;
                for (index, item) in items.iter().enumerate() {
                    self.shaped(item, UNKNOWN)
                        .map_err(|error| error.at(index))?;
                }
            }
            Json::Object(_) => match json.as_tagged() {
                None | Some(("$map", _)) => {
                    let pairs = entries(json, UNKNOWN)?;
                    self.map(pairs.len())?;
                    for (key, value) in pairs {
                        let step = step_of(&key);
                        self.shaped(&key, UNKNOWN)
                            .and_then(|()| self.shaped(value, UNKNOWN))
                            .map_err(|error| error.within(step))?;
                    }
                }
                Some((tag, inner)) => self.tagged(tag, inner, json)?,
            },
        }
        Ok(())
    }

    fn tagged(&mut self, tag: &str, inner: &Json, json: &Json) -> Result<(), Misfit> {
        let wrong = |what: &str| Misfit::expected(format_args!("{what} under `{tag}`"), inner);
        let decoded = || match inner {
            Json::String(text) => from_base64(text).map_err(Misfit::new),
            _ => Err(wrong("base64")),
        };
        match tag {
            "$int" => {
                let value = parse_int(json).ok_or_else(|| wrong("a whole number as text"))?;
                self.int(value)
            }
            "$float" => self
                .double(json)
                .ok_or_else(|| wrong("`NaN` or `Infinity`")),
            "$f32" => self.single(json).ok_or_else(|| wrong("a number")),
            "$bytes" => self.bytes(&decoded()?),
            "$str" => {
                let bytes = decoded()?;
                pack::write_str_len(self.out, len(bytes.len())?).map_err(Misfit::new)?;
                self.out.extend_from_slice(&bytes);
                Ok(())
            }
            "$ext" => match inner {
                Json::Array(parts) => match &parts[..] {
                    [Json::Int(kind), Json::String(text)] => {
                        let kind =
                            i8::try_from(*kind).map_err(|_| wrong("a type from -128 to 127"))?;
                        let bytes = from_base64(text).map_err(Misfit::new)?;
                        pack::write_ext_meta(self.out, len(bytes.len())?, kind)
                            .map_err(Misfit::new)?;
                        self.out.extend_from_slice(&bytes);
                        Ok(())
                    }
                    _ => Err(wrong("`[type, base64]`")),
                },
                _ => Err(wrong("`[type, base64]`")),
            },
            _ => Err(Misfit::new(format_args!(
                "`{tag}` is not understood here; for a key of that name write {{\"$map\": [[\"{tag}\", value]]}}"
            ))),
        }
    }

    /// Bytes that are MessagePack themselves.
    fn raw(&mut self, inner: &Json) -> Result<(), Misfit> {
        let Json::String(text) = inner else {
            return Err(Misfit::expected("base64 under `$msgpack`", inner));
        };
        let bytes = from_base64(text).map_err(Misfit::new)?;
        match Reader::new(&bytes).value() {
            Ok(whole) if whole.len() == bytes.len() => {
                self.out.extend_from_slice(&bytes);
                Ok(())
            }
            Ok(_) => Err(Misfit::new("more than one value stands under `$msgpack`")),
            Err(problem) => Err(Misfit::new(problem)),
        }
    }

    fn single(&mut self, json: &Json) -> Option<()> {
        let value = match json {
            Json::Float(value) => *value as f32,
            Json::Int(value) => *value as f32,
            _ => match json.as_tagged()? {
                ("$f32", Json::Float(value)) => *value as f32,
                ("$f32" | "$float", Json::String(text)) => match special(text)? {
                    Special::Value(value) => value as f32,
                    Special::Bits(bits) => f32::from_bits(u32::try_from(bits).ok()?),
                },
                _ => return None,
            },
        };
        self.out.push(0xca);
        self.out.extend_from_slice(&value.to_be_bytes());
        Some(())
    }

    fn double(&mut self, json: &Json) -> Option<()> {
        let value = match json {
            Json::Float(value) => *value,
            Json::Int(value) => *value as f64,
            _ => match json.as_tagged()? {
                ("$float", Json::String(text)) => match special(text)? {
                    Special::Value(value) => value,
                    Special::Bits(bits) => f64::from_bits(bits),
                },
                _ => return None,
            },
        };
        self.f64(value);
        Some(())
    }

    fn f64(&mut self, value: f64) {
        self.out.push(0xcb);
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn nil(&mut self) {
        self.out.push(0xc0);
    }

    fn int(&mut self, value: i128) -> Result<(), Misfit> {
        if let Ok(value) = u64::try_from(value) {
            pack::write_uint(self.out, value).map_err(Misfit::new)?;
        } else if let Ok(value) = i64::try_from(value) {
            pack::write_sint(self.out, value).map_err(Misfit::new)?;
        } else {
            return Err(Misfit::new(format_args!("{value} has more than 64 bits")));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Misfit> {
        pack::write_str(self.out, text).map_err(Misfit::new)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Misfit> {
        len(bytes.len())?;
        pack::write_bin(self.out, bytes).map_err(Misfit::new)
    }

    fn array(&mut self, items: usize) -> Result<(), Misfit> {
        pack::write_array_len(self.out, len(items)?).map_err(Misfit::new)?;
        Ok(())
    }

    fn map(&mut self, pairs: usize) -> Result<(), Misfit> {
        pack::write_map_len(self.out, len(pairs)?).map_err(Misfit::new)?;
        Ok(())
    }
}

fn len(len: usize) -> Result<u32, Misfit> {
    u32::try_from(len).map_err(|_| Misfit::new("it is longer than 4 GiB"))
}

/// A key, as a step on the way to a place.
fn step_of(key: &Json) -> String {
    match key {
        Json::String(text) => text.clone(),
        other => other.described(),
    }
}

/// A whole number, as it is or as text under `$int`.
fn parse_int<T: TryFrom<i128> + std::str::FromStr>(json: &Json) -> Option<T> {
    match json {
        Json::Int(value) => T::try_from(*value).ok(),
        _ => match json.as_tagged()? {
            ("$int", Json::String(text)) => text.parse().ok(),
            _ => None,
        },
    }
}

enum Special {
    Value(f64),
    Bits(u64),
}

fn special(text: &str) -> Option<Special> {
    Some(match text {
        "NaN" => Special::Value(f64::NAN),
        "Infinity" => Special::Value(f64::INFINITY),
        "-Infinity" => Special::Value(f64::NEG_INFINITY),
        other => {
            let bits = other.strip_prefix("NaN:")?;
            Special::Bits(u64::from_str_radix(bits, 16).ok()?)
        }
    })
}
