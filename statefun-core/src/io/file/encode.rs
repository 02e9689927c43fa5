//! Payloads as lines: a JSON value per line, or a row of CSV.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::traced;
use crate::engine::worker::BAD_RECORD;
use crate::io::egress::EgressRecord;
use crate::module::model::{Csv, FileFormat};

/// What a payload is turned into.
#[derive(Debug, Clone)]
pub(crate) enum LineEncoder {
    /// A line of JSON.
    Json,
    /// A row of CSV.
    Csv(RowEncoder),
}

/// The layout of the rows of a CSV file.
#[derive(Debug, Clone)]
pub(crate) struct RowEncoder {
    delimiter: u8,
    header: bool,
    columns: Vec<String>,
}

impl LineEncoder {
    pub(super) fn new(format: FileFormat, csv: &Csv) -> Self {
        match format {
            FileFormat::Json => Self::Json,
            FileFormat::Csv => Self::Csv(RowEncoder {
                // The spec has checked that it is one ASCII character.
                delimiter: csv.delimiter.0 as u8,
                header: csv.header.unwrap_or(true),
                columns: csv.columns.clone(),
            }),
        }
    }

    /// The first line of a new file; empty when it has none.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut line = Vec::new();
        if let Self::Csv(layout) = self
            && layout.header
        {
            let names = layout
                .columns
                .iter()
                .map(|name| Some(Cow::Borrowed(name.as_str())));
            append_row(layout.delimiter, names, &mut line);
        }
        line
    }

    /// Appends the line of a record, its line end included. Nothing is appended when it fails.
    ///
    /// What an ingress could not read may be anything, and must not stop the egress that it was left to: where it is no value
    /// of this format it becomes a JSON string, or a row's first cell.
    /// A record of a trace gets its `traceparent` under the name `traceparent`, if there is one.
    pub(crate) fn append_record(
        &self,
        record: &EgressRecord,
        traceparent: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self.append(&traced::payload(record, traceparent), out) {
            Err(_) if record.typename == BAD_RECORD => {
                let text = String::from_utf8_lossy(&record.payload);
                match self {
                    Self::Json => {
                        out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
                        out.push(b'\n');
                    }
                    Self::Csv(layout) => {
                        let mut cells = vec![None; layout.columns.len().max(1)];
                        if let Some(first) = cells.first_mut() {
                            *first = Some(text);
                        }
                        append_row(layout.delimiter, cells.into_iter(), out);
                    }
                }
                Ok(())
            }
            appended => appended,
        }
    }

    /// Appends the line of a payload, its line end included. Nothing is appended when it fails.
    ///
    /// The same payload always gives the same bytes: after a crash a file is compared with them.
    pub(crate) fn append(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let text = std::str::from_utf8(payload).map_err(|error| format!("not JSON: {error}"))?;
        match self {
            Self::Json => {
                let _: IgnoredAny =
                    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
                append_on_one_line(text, out);
            }
            Self::Csv(layout) => {
                let fields = Fields::of(text, &layout.columns)?;
                append_row(layout.delimiter, fields.0.into_iter(), out);
                return Ok(());
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

/// Appends a JSON value without line ends: as it is, or without the blanks between its tokens when it has line ends.
fn append_on_one_line(json: &str, out: &mut Vec<u8>) {
    let json = json.trim_ascii();
    // Within a string a line end is escaped, so those that stand there raw are between tokens.
    if !json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(json.as_bytes());
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                in_string = false;
            }
        } else if byte == b'"' {
            in_string = true;
        } else if byte.is_ascii_whitespace() {
            continue;
        }
        out.push(byte);
    }
}

/// The texts of the columns of one row; none for a column that the object does not have, or has as `null`.
struct Fields<'a>(Vec<Option<Cow<'a, str>>>);

impl<'a> Fields<'a> {
    fn of(json: &'a str, columns: &[String]) -> Result<Self, String> {
        struct Object<'c>(&'c [String]);

        impl<'de> Visitor<'de> for Object<'_> {
            type Value = Vec<Option<&'de RawValue>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, whose fields become the columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = vec![None; self.0.len()];
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match self.0.iter().position(|column| *column == name.0) {
                        Some(column) => found[column] = Some(map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(found)
            }
        }

        let mut deserializer = serde_json::Deserializer::from_str(json);
        let read = serde::Deserializer::deserialize_map(&mut deserializer, Object(columns))
            .and_then(|found| deserializer.end().map(|()| found))
            .map_err(|error| format!("not a row: {error}"))?;
        read.into_iter()
            .map(|value| value.map_or(Ok(None), cell))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Text that is borrowed where nothing in it is escaped.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// What a cell shows of a value: a text as it is, nested values as JSON.
fn cell(value: &RawValue) -> Result<Option<Cow<'_, str>>, String> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            let text: Text<'_> =
                serde_json::from_str(json).map_err(|error| format!("not a text: {error}"))?;
            Ok(Some(text.0))
        }
        Some(b'{' | b'[') => {
            let mut line = Vec::new();
            append_on_one_line(json, &mut line);
            Ok(Some(Cow::Owned(
                String::from_utf8_lossy(&line).into_owned(),
            )))
        }
        _ => Ok(Some(Cow::Borrowed(json))),
    }
}

/// Appends a row (RFC 4180, but with `\n` at its end).
fn append_row<'a>(
    delimiter: u8,
    fields: impl ExactSizeIterator<Item = Option<Cow<'a, str>>>,
    out: &mut Vec<u8>,
) {
    // A row that is one empty cell would be an empty line, which readers skip.
    let single = fields.len() == 1;
    for (column, field) in fields.enumerate() {
        if column > 0 {
            out.push(delimiter);
        }
        let field = field.unwrap_or_default();
        let special = |byte: u8| byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r');
        if field.bytes().any(special) || (single && field.is_empty()) {
            out.push(b'"');
            for byte in field.bytes() {
                if byte == b'"' {
                    out.push(b'"');
                }
                out.push(byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(field.as_bytes());
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(encoder: &LineEncoder, payload: &str) -> Result<String, String> {
        let mut out = b"before|".to_vec();
        let outcome = encoder.append(payload.as_bytes(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_prefix("before|").unwrap().to_owned();
        if outcome.is_err() {
            assert_eq!(line, "", "a failed payload leaves nothing");
        }
        outcome.map(|()| line)
    }

    fn rows(columns: &[&str]) -> LineEncoder {
        LineEncoder::Csv(RowEncoder {
            delimiter: b';',
            header: true,
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    #[test]
    fn json_stays_as_it_is_on_one_line() {
        let json = LineEncoder::Json;
        for same in [
            "{}",
            "null",
            r#"{"a": 1.10, "b":"x \\\" y"}"#,
            "123456789012345678901234567890",
            "\"a b\"",
        ] {
            assert_eq!(line(&json, same).unwrap(), format!("{same}\n"));
        }
        assert_eq!(line(&json, " [1]\n").unwrap(), "[1]\n");
        assert_eq!(
            line(
                &json,
                "{\r\n  \"b\" : 1.10,\n\t\"a \\\" \\\\\": [ \"x  y\", {} ]\n}"
            )
            .unwrap(),
            "{\"b\":1.10,\"a \\\" \\\\\":[\"x  y\",{}]}\n"
        );
        for bad in ["", "{", "{} {}", "{}\n{}", "x", "\"a\nb\""] {
            assert!(
                line(&json, bad).unwrap_err().starts_with("not JSON"),
                "{bad:?}"
            );
        }
        assert!(json.append(&[b'"', 0xff, b'"'], &mut Vec::new()).is_err());
    }

    /// A bad record is what is least likely to be a value of the format.
    #[test]
    fn what_an_ingress_could_not_read_has_a_line_of_its_own() {
        let record = |payload: &'static [u8], typename| EgressRecord {
            worker: 0,
            sequence: 0,
            typename,
            payload: payload.into(),
            trace: None,
        };
        for (payload, json, row) in [
            (
                &b"{\"id\": 1"[..],
                &b"\"{\\\"id\\\": 1\"\n"[..],
                &b"\"{\"\"id\"\": 1\";;\n"[..],
            ),
            (
                b"a;b\n\xff",
                "\"a;b\\n\u{fffd}\"\n".as_bytes(),
                "\"a;b\n\u{fffd}\";;\n".as_bytes(),
            ),
            (b"", b"\"\"\n", b";;\n"),
            (b"{\"id\": 1}", b"{\"id\": 1}\n", b"1;;\n"),
        ] {
            for (encoder, expected) in [(LineEncoder::Json, json), (rows(&["id", "b", "c"]), row)] {
                let mut out = Vec::new();
                encoder
                    .append_record(&record(payload, BAD_RECORD), None, &mut out)
                    .unwrap();
                assert_eq!(out, expected, "{payload:?}");
            }
        }
        let other = record(b"{", "example/Other");
        assert!(
            LineEncoder::Json
                .append_record(&other, None, &mut Vec::new())
                .is_err()
        );
    }

    #[test]
    fn rows_follow_the_columns() {
        let encoder = rows(&["id", "amount", "note"]);
        assert_eq!(encoder.header(), b"id;amount;note\n");
        for (payload, expected) in [
            (
                r#"{"note":"x","id":"a","amount":1.10,"more":[1]}"#,
                "a;1.10;x",
            ),
            (
                r#"{"id":null,"amount":12345678901234567890123}"#,
                ";12345678901234567890123;",
            ),
            (
                r#"{"id":"a;b","amount":true,"note":"say \"hi\"\n"}"#,
                "\"a;b\";true;\"say \"\"hi\"\"\n\"",
            ),
            (
                r#"{"id":{ "x" : [1, "b  c"] },"note":"\r"}"#,
                "\"{ \"\"x\"\" : [1, \"\"b  c\"\"] }\";;\"\r\"",
            ),
            (r#"{"\u0069d":"esc\u0061ped"}"#, "escaped;;"),
            (r#"{"id":1,"id":2}"#, "2;;"),
        ] {
            assert_eq!(line(&encoder, payload).unwrap(), format!("{expected}\n"));
        }
        for bad in ["", "[1]", "1", "{\"id\":}", "{} x", r#"{"id":"\ud800"}"#] {
            assert!(line(&encoder, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_row_of_one_empty_cell_is_not_an_empty_line() {
        assert_eq!(line(&rows(&["id"]), "{}").unwrap(), "\"\"\n");
        assert_eq!(line(&rows(&["id"]), r#"{"id":"x"}"#).unwrap(), "x\n");
    }
}
