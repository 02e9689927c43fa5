//! JSON whose fields keep their order, and whose numbers are whole or not.

use std::cmp::Ordering;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a point or exponent.
    Int(i128),
    /// Any other number; always finite.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    Array(Vec<Self>),
    /// Fields, as they stand; names may repeat.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// An object with one field, as all that JSON has no words for is written.
    pub(crate) fn tagged(tag: &str, value: Self) -> Self {
        Self::Object(vec![(tag.to_owned(), value)])
    }

    /// Bytes under a tag.
    pub(crate) fn bytes(tag: &str, bytes: &[u8]) -> Self {
        Self::tagged(tag, Self::String(STANDARD.encode(bytes)))
    }

    /// The tag and what stands under it, when there is one.
    pub(crate) fn as_tagged(&self) -> Option<(&str, &Self)> {
        match self {
            Self::Object(fields) => match &fields[..] {
                [(tag, value)] if tag.starts_with('$') => Some((tag, value)),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// What it is, in a few words, for messages.
    pub(crate) fn described(&self) -> String {
        const SHOWN: usize = 40;
        match self {
            Self::Array(items) => format!("a list of {}", items.len()),
            Self::Object(fields) => match fields.first() {
                Some((name, _)) => format!("an object with `{name}`"),
                None => "an empty object".to_owned(),
            },
            scalar => {
                let text = scalar.to_string();
                if text.chars().count() <= SHOWN {
                    return text;
                }
                let start: String = text.chars().take(SHOWN).collect();
                format!("{start}…")
            }
        }
    }

    /// An order in which numbers and texts stand as one expects.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(one), Self::Int(other)) => one.cmp(other),
            (Self::String(one), Self::String(other)) => one.cmp(other),
            _ => self.to_string().cmp(&other.to_string()),
        }
    }
}

/// The bytes that a text in base64 stands for.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("it is not base64: {error}"))
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_u64(value),
                (_, Ok(value)) => serializer.serialize_i64(value),
                _ => serializer.serialize_i128(*value),
            },
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_it_was() {
        for text in [
            r#"{"b":1,"a":[null,true,-7,1.0,-0.0,1e+300,0.1,18446744073709551615],"b":"é\n"}"#,
            "5.000000000000001",
            "[]",
            "{}",
        ] {
            let json: Json = serde_json::from_str(text).unwrap();
            assert_eq!(json.to_string(), text);
        }
    }

    #[test]
    fn what_is_shown_in_messages_is_short() {
        let long = Json::String("x".repeat(100));
        assert!(long.described().chars().count() < 50);
        assert_eq!(Json::Array(vec![Json::Null]).described(), "a list of 1");
    }
}
