//! JSON texts as records: their value, their key, and where they are wrong.

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::encode::Text;
use crate::io::ingress::{Decoder, RecordValue};
use crate::module::description::MessageFormat;
use crate::module::model::JsonPointer;
use crate::sdk::message::{MessageDefinition, TypedValue};
use crate::shape::Shape;

/// What is wrong with a JSON text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JsonFault {
    /// What.
    pub(crate) problem: String,
    /// How many of its bytes lead up to the fault, the one at fault included; none where the text as a whole is.
    pub(crate) bytes: Option<usize>,
}

impl JsonFault {
    fn whole(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            bytes: None,
        }
    }

    /// Takes the place out of a message of serde_json, which has it in words at its end.
    pub(crate) fn of_message(message: &str) -> Self {
        let place = message
            .rsplit_once(" at line ")
            .and_then(|(problem, place)| {
                let (line, column) = place.split_once(" column ")?;
                let (line, column): (u64, usize) = (line.parse().ok()?, column.parse().ok()?);
                Some((problem, (line == 1 && column > 0).then_some(column)))
            });
        match place {
            Some((problem, bytes)) => Self {
                problem: problem.to_owned(),
                bytes,
            },
            None => Self::whole(message),
        }
    }
}

/// Where a record's key stands in its value.
#[derive(Debug, Clone)]
pub(crate) struct KeyPointer {
    written: String,
    steps: Vec<String>,
}

impl KeyPointer {
    pub(crate) fn new(pointer: &JsonPointer) -> Self {
        Self {
            written: pointer.as_str().to_owned(),
            steps: pointer.steps().collect(),
        }
    }

    fn find(&self, json: &str) -> Result<CompactString, JsonFault> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let found = Step(&self.steps)
            .deserialize(&mut deserializer)
            .map_err(|error| JsonFault::of_message(&error.to_string()))?;
        let Some(value) = found else {
            return Err(JsonFault::whole(format!(
                "nothing stands at `{}`, where `idFrom` expects the id",
                self.written
            )));
        };
        let json = value.get();
        match json.as_bytes().first() {
            Some(b'"') => {
                let text: Text<'_> = serde_json::from_str(json)
                    .map_err(|error| JsonFault::whole(error.to_string()))?;
                if text.0.is_empty() {
                    return Err(JsonFault::whole(format!(
                        "the id at `{}` is empty",
                        self.written
                    )));
                }
                Ok(text.0.as_ref().into())
            }
            Some(b'{' | b'[' | b'n') => Err(JsonFault::whole(format!(
                "the value at `{}` is no id: it is not a text, a number or a boolean",
                self.written
            ))),
            _ => Ok(json.into()),
        }
    }
}

/// The text that a field of an object is; none when it is none.
pub(super) fn text_at(json: &str, field: &str) -> Option<String> {
    let steps = [field.to_owned()];
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = Step(&steps).deserialize(&mut deserializer).ok()??;
    let text: Text<'_> = serde_json::from_str(found.get()).ok()?;
    Some(text.0.into_owned())
}

/// Goes down a pointer, reading over everything else.
struct Step<'s>(&'s [String]);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            <&RawValue>::deserialize(deserializer).map(Some)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match self.0 {
                // Of a name that stands there twice the last counts, as for most readers.
                [first, rest @ ..] if *first == name.0 => {
                    found = map.next_value_seed(Step(rest))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (wanted, rest) = match self.0 {
            [first, rest @ ..] => (index(first), rest),
            [] => (None, self.0),
        };
        let mut found = None;
        for at in 0.. {
            if wanted == Some(at) {
                match seq.next_element_seed(Step(rest))? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A step as an index into an array (RFC 6901: no leading zeros).
fn index(step: &str) -> Option<usize> {
    let plain =
        step == "0" || (!step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit()));
    plain.then(|| step.parse().ok()).flatten()
}

/// Reads JSON texts as values of one type.
#[derive(Debug, Clone)]
pub(crate) struct JsonValues {
    typename: CompactString,
    definition: Option<MessageDefinition>,
    decoder: Decoder,
}

impl JsonValues {
    /// Values of the type of that name; an error when the application lays it out in another format.
    pub(crate) fn new(decoder: &Decoder, typename: &str) -> Result<Self, String> {
        let definition = decoder.definition(typename).copied();
        if let Some(definition) = &definition
            && definition.format != MessageFormat::Json
        {
            return Err(format!(
                "values of `{typename}` are not JSON in this application; declare it with `format = \"json\"`, or name another `valueType`"
            ));
        }
        Ok(Self {
            typename: typename.into(),
            definition,
            decoder: decoder.clone(),
        })
    }

    /// The type's structure, if Rust code declares it.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.definition.map(|definition| (definition.shape)())
    }

    /// Reads a value, and its key when there is a pointer to it.
    pub(crate) fn read(
        &self,
        json: &[u8],
        key: Option<&KeyPointer>,
    ) -> Result<(RecordValue, Option<CompactString>), JsonFault> {
        if let Some(problem) = self.decoder.refuses(json.len()) {
            return Err(JsonFault {
                problem,
                bytes: None,
            });
        }
        let text = std::str::from_utf8(json).map_err(|error| JsonFault {
            problem: "not UTF-8".to_owned(),
            bytes: Some(error.valid_up_to() + 1),
        })?;
        let value = if let Some(definition) = &self.definition {
            let value = (definition.decode)(json)
                .map_err(|error| JsonFault::of_message(error.problem()))?;
            RecordValue(value)
        } else {
            let _: IgnoredAny = serde_json::from_str(text)
                .map_err(|error| JsonFault::of_message(&error.to_string()))?;
            let value = TypedValue {
                typename: self.typename.clone(),
                value: Bytes::copy_from_slice(json),
            };
            RecordValue(Box::new(value))
        };
        let key = key.map(|key| key.find(text)).transpose()?;
        Ok((value, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pointer: &str, json: &str) -> Result<String, String> {
        let pointer: JsonPointer = serde_json::from_value(pointer.into()).unwrap();
        KeyPointer::new(&pointer)
            .find(json)
            .map(Into::into)
            .map_err(|fault| fault.problem)
    }

    #[test]
    fn keys() {
        for (pointer, json, expected) in [
            ("/id", r#"{"id":"a","x":{"id":"b"}}"#, "a"),
            ("/x/id", r#"{"id":"a","x":{"id":"b"}}"#, "b"),
            ("/id", r#"{"id":1.10}"#, "1.10"),
            (
                "/id",
                r#"{"id": 123456789012345678901234567890 }"#,
                "123456789012345678901234567890",
            ),
            ("/id", r#"{"id":true}"#, "true"),
            ("/\u{e9}~1~0", r#"{"\u00e9/~":"\u00e9\n"}"#, "é\n"),
            ("", "17", "17"),
            ("", "\"x\"", "x"),
            ("/1/0", "[[0],[\"x\",2],3]", "x"),
            ("/a", r#"{"a":1,"a":2}"#, "2"),
            ("/a/b", r#"{"a":{"b":1},"a":{"b":2}}"#, "2"),
        ] {
            assert_eq!(
                key(pointer, json).as_deref(),
                Ok(expected),
                "{pointer} in {json}"
            );
        }
        for (pointer, json) in [
            ("/id", "{}"),
            ("/id", "[1]"),
            ("/id", "7"),
            ("/id", "null"),
            ("/id/x", r#"{"id":"a"}"#),
            ("/2", "[1,2]"),
            ("/01", "[1,2]"),
            ("/-", "[1,2]"),
            ("/99999999999999999999999", "[1]"),
            ("/a/b", r#"{"a":{"b":1},"a":{}}"#),
        ] {
            assert!(
                key(pointer, json)
                    .unwrap_err()
                    .contains("nothing stands at"),
                "{pointer} in {json}"
            );
        }
        for bad in ["null", "{}", "[]", "\"\""] {
            assert!(key("/id", &format!("{{\"id\":{bad}}}")).is_err());
        }
    }

    #[test]
    fn places() {
        for (message, bytes) in [
            ("expected value at line 1 column 5", Some(5)),
            ("custom at line 1 column 0", None),
            ("custom at line 2 column 3", None),
        ] {
            let fault = JsonFault::of_message(message);
            assert_eq!(fault.bytes, bytes);
            assert!(!fault.problem.contains("line"), "{fault:?}");
        }
        for plain in ["nothing of that", "look at line five", "x at line 1 column"] {
            assert_eq!(JsonFault::of_message(plain), JsonFault::whole(plain));
        }
    }
}
