//! Rows of CSV as JSON objects.

use std::borrow::Cow;
use std::ops::Range;

use compact_str::CompactString;

use super::csv::{RowFault, cells};
use super::json::JsonFault;
use crate::shape::{Field, Shape};

/// What a column's cells become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Bool,
    Number,
    /// A list, map or nested struct: written as JSON.
    Json,
    /// Nothing is known: what the cell looks like.
    Guess,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: Kind,
    /// An empty cell is `null`.
    nullable: bool,
    /// An empty cell is left out.
    defaulted: bool,
}

/// The columns of a file, and how their cells become the fields of an object.
///
/// Where Rust code declares the record's type, its fields decide: a number or boolean is taken as such, a text stays
/// a text whatever it looks like, a list, map or struct is read as JSON; an empty cell is `null` for an `Option`, and left out where
/// the field has a default and is no text. Elsewhere the cell decides: `true` and `false` are booleans, whole numbers and decimals up to 15
/// digits are numbers, everything else is a text; so are numbers with leading zeros or more digits, which are
/// rather names (of an article, of a phone) and would lose something.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    delimiter: u8,
    columns: Vec<Column>,
}

/// A row as a JSON object, with the place of each column in it.
#[derive(Debug)]
pub(crate) struct RowObject {
    pub(crate) json: Vec<u8>,
    pub(crate) key: Option<CompactString>,
    places: Vec<Range<usize>>,
}

impl Columns {
    /// Columns of these names, for records of that shape, if it is known.
    pub(crate) fn new(
        names: Vec<String>,
        delimiter: u8,
        shape: Option<&Shape>,
    ) -> Result<Self, String> {
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(format!("column {} has no name", at + 1));
            }
            if names[..at].contains(name) {
                return Err(format!("two columns have the name `{name}`"));
            }
        }
        let columns = names
            .into_iter()
            .map(|name| Column::new(name, shape))
            .collect();
        Ok(Self { delimiter, columns })
    }

    /// Columns whose names stand in the file's first row.
    pub(crate) fn of_header(
        row: &[u8],
        delimiter: u8,
        shape: Option<&Shape>,
    ) -> Result<Self, String> {
        let names = cells(row, delimiter).map_err(|fault| match fault.column {
            Some(column) => format!("the name of column {}: {}", column + 1, fault.problem),
            None => fault.problem,
        })?;
        Self::new(
            names.into_iter().map(Cow::into_owned).collect(),
            delimiter,
            shape,
        )
    }

    /// The number of a column, counted from 0.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The name of a column, counted from 0; its number when there is no such column.
    pub(crate) fn name(&self, column: usize) -> String {
        self.columns
            .get(column)
            .map_or_else(|| (column + 1).to_string(), |column| column.name.clone())
    }

    /// The names, for messages.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        names.join(", ")
    }

    /// A row without its line end as a JSON object. Its key is the text of the column `key`.
    pub(crate) fn object(&self, row: &[u8], key: Option<usize>) -> Result<RowObject, RowFault> {
        let cells = cells(row, self.delimiter)?;
        if cells.len() != self.columns.len() {
            let (found, known) = (cells.len(), self.columns.len());
            let problem = format!(
                "the row has {}, not {known} ({})",
                counted(found),
                self.names()
            );
            return Err(RowFault {
                problem,
                column: None,
            });
        }
        let mut json = Vec::with_capacity(row.len() * 2);
        let mut places = Vec::with_capacity(cells.len());
        json.push(b'{');
        for (column, cell) in self.columns.iter().zip(&cells) {
            let begin = json.len();
            if !(cell.is_empty() && column.defaulted) {
                if begin > 1 {
                    json.push(b',');
                }
                append_text(&column.name, &mut json);
                json.push(b':');
                column.append(cell, &mut json);
            }
            places.push(begin..json.len());
        }
        json.push(b'}');
        let key = match key.and_then(|column| Some((column, cells.get(column)?))) {
            Some((column, cell)) if cell.is_empty() => {
                return Err(RowFault {
                    problem: "the id is empty".to_owned(),
                    column: Some(column),
                });
            }
            key => key.map(|(_, cell)| cell.as_ref().into()),
        };
        Ok(RowObject { json, key, places })
    }
}

impl RowObject {
    /// What is wrong with the row, when this is wrong with its object.
    pub(crate) fn fault(&self, fault: JsonFault) -> RowFault {
        let column = fault.bytes.and_then(|bytes| {
            self.places
                .iter()
                .position(|place| place.contains(&(bytes - 1)))
        });
        RowFault {
            problem: fault.problem,
            column,
        }
    }
}

impl Column {
    fn new(name: String, shape: Option<&Shape>) -> Self {
        let guess = |name| Self {
            name,
            kind: Kind::Guess,
            nullable: false,
            defaulted: false,
        };
        match shape {
            Some(Shape::Struct { fields, .. }) => {
                match fields.iter().find(|field| field.name == name) {
                    Some(field) => Self::of_field(name, field),
                    None => guess(name),
                }
            }
            Some(Shape::Map(_, value)) => {
                let (kind, nullable) = kind(value);
                Self {
                    name,
                    kind,
                    nullable,
                    defaulted: false,
                }
            }
            _ => guess(name),
        }
    }

    fn of_field(name: String, field: &Field) -> Self {
        let (kind, nullable) = kind(&field.shape);
        // An empty text is a text; an empty number is none.
        let defaulted = field.optional && !nullable && kind != Kind::Text;
        Self {
            name,
            kind,
            nullable,
            defaulted,
        }
    }

    fn append(&self, cell: &str, out: &mut Vec<u8>) {
        if cell.is_empty() && self.nullable {
            out.extend_from_slice(b"null");
            return;
        }
        let plain: Option<Cow<'_, str>> = match self.kind {
            Kind::Text => None,
            Kind::Bool => boolean(cell.trim()).map(Cow::Borrowed),
            Kind::Number => number(cell.trim()),
            Kind::Json => is_json(cell).then_some(Cow::Borrowed(cell)),
            Kind::Guess => guess(cell).then_some(Cow::Borrowed(cell)),
        };
        match plain {
            Some(plain) => out.extend_from_slice(plain.as_bytes()),
            None => append_text(cell, out),
        }
    }
}

/// The kind of a shape's cells, and whether an empty one is `null`.
fn kind(shape: &Shape) -> (Kind, bool) {
    let kind = match shape {
        Shape::Option(inner) => return (kind(inner).0, true),
        Shape::Unit => return (Kind::Guess, true),
        Shape::Bool => Kind::Bool,
        Shape::Int(_) | Shape::Uint(_) | Shape::Float(_) => Kind::Number,
        Shape::Char | Shape::String => Kind::Text,
        // Bytes are a list in JSON.
        Shape::Bytes | Shape::Seq(_) | Shape::Map(..) | Shape::Tuple(_) | Shape::Struct { .. } => {
            Kind::Json
        }
        Shape::Recursive(_) => Kind::Json,
        // A variant is its name, or an object of its name when it carries something.
        Shape::Enum { .. } => Kind::Json,
        Shape::Opaque(_) => Kind::Guess,
    };
    (kind, false)
}

fn boolean(cell: &str) -> Option<&'static str> {
    if cell.eq_ignore_ascii_case("true") {
        Some("true")
    } else if cell.eq_ignore_ascii_case("false") {
        Some("false")
    } else {
        None
    }
}

/// A number as JSON writes it.
fn number(cell: &str) -> Option<Cow<'_, str>> {
    if is_json_number(cell) {
        return Some(Cow::Borrowed(cell));
    }
    // As other programs write them: `+5`, `007`, `.5`, `1.`.
    let (sign, digits) = match cell.as_bytes().first() {
        Some(b'-') => ("-", &cell[1..]),
        Some(b'+') => ("", &cell[1..]),
        _ => ("", cell),
    };
    let (whole, rest) = digits.split_at(
        digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len()),
    );
    let fraction = rest.strip_prefix('.');
    if whole.is_empty()
        && !fraction.is_some_and(|fraction| fraction.starts_with(|c: char| c.is_ascii_digit()))
    {
        return None;
    }
    let rest = if fraction == Some("") { "" } else { rest };
    let significant = whole.trim_start_matches('0');
    let written = format!(
        "{sign}{}{rest}",
        if significant.is_empty() {
            "0"
        } else {
            significant
        }
    );
    is_json_number(&written).then_some(Cow::Owned(written))
}

fn is_json_number(text: &str) -> bool {
    let number = text
        .as_bytes()
        .first()
        .is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    let ends = text.as_bytes().last().is_some_and(u8::is_ascii_digit);
    number && ends && is_valid(text)
}

/// A list, object or quoted text.
fn is_json(cell: &str) -> bool {
    matches!(cell.trim_start().as_bytes().first(), Some(b'[' | b'{')) && is_valid(cell)
}

fn is_valid(json: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok()
}

/// Whether a cell of which nothing is known is taken as a number or boolean.
fn guess(cell: &str) -> bool {
    if matches!(cell, "true" | "false") {
        return true;
    }
    let digits = cell.bytes().filter(u8::is_ascii_digit).count();
    let plain = cell
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    plain && digits <= 15 && is_json_number(cell)
}

fn append_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0..0x20 => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn counted(cells: usize) -> String {
    if cells == 1 {
        "1 column".to_owned()
    } else {
        format!("{cells} columns")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(columns: &Columns, row: &str) -> Result<String, RowFault> {
        columns
            .object(row.as_bytes(), None)
            .map(|object| String::from_utf8(object.json).unwrap())
    }

    #[test]
    fn cells_of_unknown_types_are_what_they_look_like() {
        let columns = Columns::of_header(b"a", b';', None).unwrap();
        for plain in ["0", "-1", "1.50", "123456789012345", "true", "false"] {
            assert_eq!(
                object(&columns, plain).unwrap(),
                format!("{{\"a\":{plain}}}")
            );
        }
        for quoted in [
            "",
            "x",
            "007",
            "1e5",
            "12E4",
            "1234567890123456",
            "-",
            "1.",
            ".5",
            "+1",
            "TRUE",
            "null",
            "[1]",
            "NaN",
            " 1",
            "1-2",
            "2024-01-01",
            "1.2.3",
        ] {
            assert_eq!(
                object(&columns, quoted).unwrap(),
                format!("{{\"a\":\"{quoted}\"}}")
            );
        }
        assert_eq!(
            object(&columns, "\"a\\\"\"\u{1}\t\"").unwrap(),
            "{\"a\":\"a\\\\\\\"\\u0001\\u0009\"}"
        );
    }

    #[test]
    fn cells_of_known_types_are_what_the_type_says() {
        let field = |name: &str, shape, optional| Field {
            name: name.to_owned(),
            shape,
            optional,
        };
        let option = |shape| Shape::Option(Box::new(shape));
        let shape = Shape::Struct {
            name: "Order".to_owned(),
            fields: vec![
                field("text", Shape::String, false),
                field("number", Shape::Uint(64), false),
                field("flag", Shape::Bool, false),
                field("maybe", option(Shape::Float(64)), true),
                field("defaulted", Shape::Int(8), true),
                field("word", Shape::String, true),
                field("list", Shape::Seq(Box::new(Shape::String)), false),
            ],
        };
        let header = b"text,number,flag,maybe,defaulted,word,list,other";
        let columns = Columns::of_header(header, b',', Some(&shape)).unwrap();
        for (row, expected) in [
            (
                "1,2,TRUE,,,,\"[\"\"a\"\"]\",3",
                r#"{"text":"1","number":2,"flag":true,"maybe":null,"word":"","list":["a"],"other":3}"#,
            ),
            (
                "true,007, false ,+.5,-012,1,a,x",
                r#"{"text":"true","number":7,"flag":false,"maybe":0.5,"defaulted":-12,"word":"1","list":"a","other":"x"}"#,
            ),
            (
                ",x,1,1e5,1.,,[,",
                r#"{"text":"","number":"x","flag":"1","maybe":1e5,"defaulted":1,"word":"","list":"[","other":""}"#,
            ),
            (
                ",12345678901234567890,,-,.,,{},",
                r#"{"text":"","number":12345678901234567890,"flag":"","maybe":"-","defaulted":".","word":"","list":{},"other":""}"#,
            ),
        ] {
            assert_eq!(object(&columns, row).unwrap(), expected, "{row:?}");
        }
        let fault = object(&columns, "1,2").unwrap_err();
        assert!(
            fault
                .problem
                .starts_with("the row has 2 columns, not 8 (text, "),
            "{fault:?}"
        );
    }

    #[test]
    fn headers() {
        for bad in ["a,a", "", "a,", ",a", "a,\"b", "\"a\"b"] {
            assert!(
                Columns::of_header(bad.as_bytes(), b',', None).is_err(),
                "{bad:?}"
            );
        }
        let columns = Columns::of_header("id,\"a \"\"b\"\"\",é".as_bytes(), b',', None).unwrap();
        assert_eq!((columns.index("é"), columns.index("x")), (Some(2), None));
        assert_eq!(columns.names(), "id, a \"b\", é");
        assert_eq!(
            columns.object(b"7,x,y", Some(0)).unwrap().key.as_deref(),
            Some("7")
        );
        assert_eq!(
            columns.object(b",x,y", Some(0)).unwrap_err().column,
            Some(0)
        );
    }

    proptest! {
        #[test]
        fn any_row_is_a_json_object_or_a_fault(row: Vec<u8>, typed: bool) {
            let number = Shape::Map(Box::new(Shape::String), Box::new(Shape::Float(64)));
            let columns = Columns::of_header(b"a,b", b',', typed.then_some(&number)).unwrap();
            if let Ok(object) = columns.object(&row, Some(0)) {
                let value: serde_json::Value = serde_json::from_slice(&object.json).unwrap();
                prop_assert_eq!(value.as_object().unwrap().len(), 2);
            }
        }

        #[test]
        fn a_number_is_a_json_number(text in "[-+.0-9eE]{0,8}") {
            if let Some(written) = number(&text) {
                prop_assert!(is_json_number(&written));
                prop_assert_eq!(written.parse::<f64>().map(f64::to_bits), text.parse::<f64>().map(f64::to_bits));
            } else {
                prop_assert!(serde_json::from_str::<f64>(&text).is_err(), "{}", text);
            }
        }
    }
}
