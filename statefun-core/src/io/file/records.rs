//! Lines and rows as records.

use std::sync::Arc;

use bytes::Bytes;

use super::csv::RowFault;
use super::frames::{Flaw, Frame};
use super::json::{JsonValues, KeyPointer};
use super::rows::Columns;
use super::traced;
use crate::io::ingress::{BadRecord, Decoder, Record};
use crate::module::model::{FieldName, FileFormat, FileIngress as Spec, JsonPointer, RecordKey};
use crate::shape::Shape;

/// How the records of a source are read.
#[derive(Debug)]
pub(crate) struct Format {
    values: JsonValues,
    pointer: Option<KeyPointer>,
    /// The field or column that holds a `traceparent`.
    traceparent: Option<FieldName>,
    rows: Option<RowFormat>,
}

#[derive(Debug)]
struct RowFormat {
    delimiter: u8,
    /// Where the file's first row does not name them.
    table: Option<Table>,
    /// The column of the key.
    key: Option<String>,
    shape: Option<Shape>,
}

impl Format {
    /// JSON lines.
    pub(crate) fn json(
        decoder: &Decoder,
        value_type: &str,
        key: Option<&JsonPointer>,
    ) -> Result<Self, String> {
        let values = JsonValues::new(decoder, value_type)?;
        Ok(Self {
            values,
            pointer: key.map(KeyPointer::new),
            traceparent: None,
            rows: None,
        })
    }

    /// With a field or column that holds a `traceparent`.
    pub(crate) fn with_traceparent(mut self, field: Option<&FieldName>) -> Self {
        self.traceparent = field.cloned();
        self
    }

    /// As a file's spec says.
    pub(super) fn new(spec: &Spec, decoder: &Decoder) -> Result<Self, String> {
        let format = spec.format().ok_or_else(|| {
            format!(
                "the name of {} does not say which format it has; add `format: json` or `format: csv`",
                spec.path.display()
            )
        })?;
        let (pointer, column) = match &spec.id_from {
            Some(RecordKey::Pointer(pointer)) => (Some(pointer), None),
            Some(RecordKey::Column(column)) => (None, Some(column.clone())),
            None => (None, None),
        };
        let mut read = Self::json(decoder, spec.value_type.as_str(), pointer)?
            .with_traceparent(spec.traceparent.as_ref());
        match format {
            FileFormat::Json if column.is_some() => {
                return Err(
                    "a JSON file has no columns; write `idFrom: {pointer: /name}`".to_owned(),
                );
            }
            FileFormat::Json => {}
            FileFormat::Csv => {
                let shape = read.values.shape();
                // The spec has checked that it is one ASCII character.
                let delimiter = spec.csv.delimiter.0 as u8;
                let header = spec.csv.header.unwrap_or(spec.csv.columns.is_empty());
                let table = if header {
                    None
                } else if spec.csv.columns.is_empty() {
                    return Err("nothing names the columns; list them, as in `csv: {columns: [id, amount]}`".to_owned());
                } else {
                    let columns =
                        Columns::new(spec.csv.columns.clone(), delimiter, shape.as_ref())?;
                    Some(Table::new(columns, column.as_deref())?)
                };
                read.rows = Some(RowFormat {
                    delimiter,
                    table,
                    key: column,
                    shape,
                });
            }
        }
        Ok(read)
    }

    /// What separates the cells of a row; none for lines.
    pub(super) fn delimiter(&self) -> Option<u8> {
        self.rows.as_ref().map(|rows| rows.delimiter)
    }
}

/// Reads the records of one file or stream.
#[derive(Debug)]
pub(crate) struct Records {
    format: Arc<Format>,
    /// The name of the file or stream, for messages.
    name: String,
    table: Option<Table>,
}

/// The columns of a file.
#[derive(Debug, Clone)]
struct Table {
    columns: Columns,
    key: Option<usize>,
}

impl Table {
    fn new(columns: Columns, key: Option<&str>) -> Result<Self, String> {
        let key = key.map(|name| {
            let known = columns.names();
            columns.index(name).ok_or_else(|| {
                format!("`idFrom` names the column `{name}`, which is not among {known}")
            })
        });
        Ok(Self {
            key: key.transpose()?,
            columns,
        })
    }
}

impl Records {
    pub(crate) fn new(format: Arc<Format>, name: String) -> Self {
        let table = format.rows.as_ref().and_then(|rows| rows.table.clone());
        Self {
            format,
            name,
            table,
        }
    }

    /// Whether the first row names the columns, and was not read yet.
    pub(super) fn needs_header(&self) -> bool {
        self.table.is_none() && self.format.rows.is_some()
    }

    /// Reads the header, if this is it.
    pub(super) fn take_header(&mut self, frame: &Frame<'_>) -> Result<bool, String> {
        let Some(rows) = self.format.rows.as_ref().filter(|_| self.table.is_none()) else {
            return Ok(false);
        };
        let table = match frame.flaw {
            Some(_) => Err("it is too long, or a quote in it does not end".to_owned()),
            None => Columns::of_header(frame.bytes, rows.delimiter, rows.shape.as_ref())
                .and_then(|columns| Table::new(columns, rows.key.as_deref())),
        };
        let table = table
            .map_err(|problem| format!("{}:{}: the header: {problem}", self.name, frame.line))?;
        self.table = Some(table);
        Ok(true)
    }

    /// Reads a line or row.
    pub(crate) fn read(&self, frame: &Frame<'_>) -> Record {
        match (frame.flaw, &self.table) {
            (Some(flaw), _) => self.bad(frame, describe(flaw).to_owned()),
            (None, None) => self.read_line(frame),
            (None, Some(table)) => self.read_row(table, frame),
        }
    }

    fn read_line(&self, frame: &Frame<'_>) -> Record {
        match self
            .format
            .values
            .read(frame.bytes, self.format.pointer.as_ref())
        {
            Ok((value, key)) => {
                let mut record = Record::of(Ok(value));
                record.key = key;
                self.traced(record, frame.bytes)
            }
            Err(fault) => match fault.bytes {
                Some(bytes) => {
                    // The column as an editor shows it: in characters.
                    let before = &frame.bytes[..bytes.min(frame.bytes.len())];
                    let column = before
                        .iter()
                        .filter(|byte| (**byte as i8) >= -0x40)
                        .count()
                        .max(1);
                    self.bad(frame, format!("{column}: {}", fault.problem))
                }
                None => self.bad(frame, format!(" {}", fault.problem)),
            },
        }
    }

    fn read_row(&self, table: &Table, frame: &Frame<'_>) -> Record {
        let outcome = table
            .columns
            .object(frame.bytes, table.key)
            .and_then(|object| {
                let (value, key) = self
                    .format
                    .values
                    .read(&object.json, self.format.pointer.as_ref())
                    .map_err(|fault| object.fault(fault))?;
                let mut record = Record::of(Ok(value));
                record.key = object.key.or(key);
                Ok(self.traced(record, &object.json))
            });
        outcome.unwrap_or_else(|RowFault { problem, column }| match column {
            Some(column) => {
                let name = table.columns.name(column);
                self.bad(frame, format!(" column `{name}`: {problem}"))
            }
            None => self.bad(frame, format!(" {problem}")),
        })
    }

    /// A record with the span that it comes from, where its value says so.
    fn traced(&self, record: Record, json: &[u8]) -> Record {
        let field = self.format.traceparent.as_ref();
        match field.and_then(|field| traced::parent_of(json, field.as_str())) {
            Some(parent) => record.with_trace(parent),
            None => record,
        }
    }

    fn bad(&self, frame: &Frame<'_>, problem: String) -> Record {
        let problem = format!("{}:{}:{problem}", self.name, frame.line);
        Record::of(Err(BadRecord {
            bytes: Bytes::copy_from_slice(frame.bytes),
            problem,
        }))
    }
}

fn describe(flaw: Flaw) -> &'static str {
    match flaw {
        Flaw::LineTooLong => " the line is too long; its beginning is kept",
        Flaw::RowTooLong => " the row that begins here is too long; a quote in it does not end",
        Flaw::OpenQuote => " a quote in the row that begins here does not end before the file does",
    }
}
