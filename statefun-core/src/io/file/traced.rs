//! The field of a record that holds a W3C `traceparent`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::encode::Text;
use super::json::text_at;
use crate::io::egress::EgressRecord;
use crate::trace::TraceContext;

/// The span that a record comes from; none where its field says nothing, or nothing legal.
pub(super) fn parent_of(json: &[u8], field: &str) -> Option<TraceContext> {
    let json = std::str::from_utf8(json).ok()?;
    TraceContext::parse(&text_at(json, field)?, None)
}

/// A record's payload, with its `traceparent` where it is part of a trace that is recorded. A field that it has already stays, and
/// what is no object stays as it is.
pub(super) fn payload<'a>(record: &'a EgressRecord, field: Option<&str>) -> Cow<'a, [u8]> {
    let payload: &[u8] = &record.payload;
    let (Some(field), Some(context)) = (field, &record.trace) else {
        return payload.into();
    };
    with_field(payload, field, &context.traceparent()).map_or(payload.into(), Cow::Owned)
}

fn with_field(json: &[u8], name: &str, text: &str) -> Option<Vec<u8>> {
    let json = std::str::from_utf8(json).ok()?.trim_ascii();
    let mut reader = serde_json::Deserializer::from_str(json);
    let fields = reader.deserialize_map(FieldsBeside(name)).ok()??;
    reader.end().ok()?;
    let mut out = json.strip_suffix('}')?.trim_ascii_end().to_owned();
    if fields > 0 {
        out.push(',');
    }
    out.push_str(&serde_json::Value::from(name).to_string());
    out.push(':');
    out.push_str(&serde_json::Value::from(text).to_string());
    out.push('}');
    Some(out.into_bytes())
}

/// Counts the fields of an object; none when it has the one of that name.
struct FieldsBeside<'n>(&'n str);

impl<'de> Visitor<'de> for FieldsBeside<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Some(0);
        while let Some((name, IgnoredAny)) = map.next_entry::<Text<'de>, IgnoredAny>()? {
            fields = fields.filter(|_| name.0 != self.0).map(|count| count + 1);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read() {
        for (json, expected) in [
            ("{}", r#"{"t":"P"}"#),
            (" { } ", r#"{"t":"P"}"#),
            (r#"{"a":{"t":1}}"#, r#"{"a":{"t":1},"t":"P"}"#),
            ("{\"a\": \"}\"\n}", r#"{"a": "}","t":"P"}"#),
        ] {
            let written = with_field(json.as_bytes(), "t", PARENT).unwrap();
            let text = String::from_utf8(written.clone()).unwrap();
            assert_eq!(text.replace(PARENT, "P"), expected);
            assert_eq!(parent_of(&written, "t").unwrap().traceparent(), PARENT);
        }
        for same in [
            "[]",
            "7",
            "",
            "{",
            "{} {}",
            r#"{"t":7}"#,
            r#"{"\u0074":""}"#,
        ] {
            assert_eq!(with_field(same.as_bytes(), "t", PARENT), None, "{same}");
        }
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for none in [
            "{}",
            r#"{"t":7}"#,
            r#"{"t":"00-1-2-3"}"#,
            r#"{"t":null}"#,
            "[]",
            "{",
            "\u{1}",
        ] {
            assert_eq!(parent_of(none.as_bytes(), "t"), None, "{none}");
        }
        assert_eq!(parent_of(b"\xff", "t"), None);
    }
}
