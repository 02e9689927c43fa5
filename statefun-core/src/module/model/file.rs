//! `io.statefun.file.v1`: records out of and into files, a record per line.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::names::{ComponentId, FieldName, FunctionType, JsonPointer, RouterName, ValueType};
use super::parts::OnError;
use crate::module::codes;
use crate::module::schema::{Check, FieldType, Type, record};

record! {
    /// Reads the records of a file, and goes on when the file grows. Positions are part of the checkpoint: exactly once.
    pub struct FileIngress {
        /// Identifier of the ingress, `namespace/name`.
        pub id: ComponentId => "id",
        /// The file, relative to where the application runs.
        pub path: PathBuf => "path",
        /// `json` (a JSON value per line) or `csv` (a row per record, which becomes a JSON object).
        /// Without it the extension decides: `.json`, `.jsonl` and `.ndjson`, or `.csv`.
        pub format: Option<FileFormat> => "format",
        /// Type of every record.
        pub value_type: ValueType => "valueType",
        /// Where the id of the target stands: `{pointer: /json/pointer}` or `{column: NAME}`. Needed with `targets`.
        pub id_from: Option<RecordKey> => "idFrom",
        /// Field (of a CSV file: column) that holds the W3C `traceparent` of the span that a record comes from. Where tracing is on,
        /// the record is part of that trace; what is no `traceparent` is ignored.
        pub traceparent: Option<FieldName> => "traceparent",
        /// Whether to wait for more at the end of the file.
        pub follow: bool => "follow" = "true",
        /// Where to begin at the first start: `earliest` or `latest`. Later starts go on where the last one was.
        pub startup_position: StartupPosition => "startupPosition" = "earliest",
        /// Layout of a CSV file.
        pub csv: Csv => "csv",
        /// Function types that each get every record; the address is the type and the id that `idFrom` finds.
        pub targets: Vec<FunctionType> => "targets",
        /// Names of the routers that see every record and decide where it goes.
        pub routers: Vec<RouterName> => "routers",
        /// What becomes of a record that cannot be decoded or routed: `fail`, `skip`, or `deadLetter: <egress id>`.
        pub on_error: OnError => "onError" = "fail",
    }
}

impl FileIngress {
    /// The format, by the extension where the field is absent; None when that says nothing.
    pub fn format(&self) -> Option<FileFormat> {
        self.format.or_else(|| FileFormat::of(&self.path))
    }
}

record! {
    /// Appends each record to a file as one line. Exactly once: after a crash what is there is compared and completed.
    pub struct FileEgress {
        /// Identifier of the egress, `namespace/name`.
        pub id: ComponentId => "id",
        /// The file, relative to where the application runs.
        pub path: PathBuf => "path",
        /// `json` or `csv`. Without it the extension decides: `.json`, `.jsonl` and `.ndjson`, or `.csv`.
        pub format: Option<FileFormat> => "format",
        /// Layout of a CSV file; `columns` are needed there.
        pub csv: Csv => "csv",
        /// Field (of a CSV file: one of `columns`) that the W3C `traceparent` of a record is written to. Records whose trace is not
        /// recorded do not have it, and what a record has there itself stays.
        pub traceparent: Option<FieldName> => "traceparent",
    }
}

impl FileEgress {
    /// The format, by the extension where the field is absent; None when that says nothing.
    pub fn format(&self) -> Option<FileFormat> {
        self.format.or_else(|| FileFormat::of(&self.path))
    }
}

record! {
    /// Layout of a CSV file.
    pub struct Csv {
        /// What separates the columns: one character.
        pub delimiter: Delimiter => "delimiter" = ",",
        /// Whether the first line names the columns. Without it: yes, unless an ingress is given `columns`.
        pub header: Option<bool> => "header",
        /// Names of the columns, in order: of a file without a header that is read, or of a file that is written.
        pub columns: Vec<String> => "columns",
    }
}

/// Layout of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileFormat {
    /// One JSON value per line.
    Json,
    /// Comma-separated values (RFC 4180).
    Csv,
}

impl FileFormat {
    /// The format that an extension stands for.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "json" | "jsonl" | "ndjson" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

impl FieldType for FileFormat {
    const TYPE: Type = Type::Choice {
        words: &["json", "csv"],
    };
}

/// Where to begin with a file that has not been read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StartupPosition {
    /// At its first record.
    Earliest,
    /// Behind what it holds now.
    Latest,
}

impl FieldType for StartupPosition {
    const TYPE: Type = Type::Choice {
        words: &["earliest", "latest"],
    };
}

/// Where in a record its key stands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordKey {
    /// A place in the JSON value.
    Pointer(JsonPointer),
    /// A column of the CSV file.
    Column(String),
}

impl FieldType for RecordKey {
    const TYPE: Type = Type::Either {
        words: &[],
        keyed: &[("pointer", JsonPointer::TYPE), ("column", Type::Text)],
    };
}

/// What separates the columns of a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Delimiter(pub char);

impl FieldType for Delimiter {
    const TYPE: Type = Type::Checked(&Check {
        what: "delimiter",
        code: codes::BAD_TEXT,
        check: check_delimiter,
        help: "write one character in quotes, as in `\";\"` or `\"\\t\"`",
    });
}

fn check_delimiter(text: &str) -> Result<(), String> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some('"' | '\n' | '\r'), None) => {
            Err("quotes and line ends have a meaning of their own in CSV".to_owned())
        }
        (Some(one), None) if one.is_ascii() => Ok(()),
        _ => Err("it is not one ASCII character".to_owned()),
    }
}
