//! The reference of a kind, as Markdown: what the checks know, so that it cannot go stale.

use std::fmt::Write as _;

use super::lower::expected;
use super::model::{Availability, KindInfo};
use super::schema::{Absent, Field, Record, Type};

/// Documents a kind: what it is, and each of its fields with type, default and meaning.
pub fn reference(kind: &KindInfo) -> String {
    let mut out = format!("## `{}`\n\n", kind.name);
    match &kind.availability {
        Availability::NotYet { instead } => {
            // Writing to a String cannot fail; neither can the other writes here.
            let _ = writeln!(
                out,
                "A known kind, for which this version has no connector yet: {instead}."
            );
        }
        Availability::Ready {
            record, feature, ..
        } => {
            let _ = writeln!(out, "{}\n", paragraph(record.doc));
            if let Some(id) = kind.fixed_id {
                let _ = writeln!(out, "Its id is always `{id}`.\n");
            }
            if let Some(feature) = feature {
                let _ = writeln!(out, "Needs the feature `{feature}`.\n");
            }
            fields(&mut out, record, "");
        }
    }
    out
}

fn fields(out: &mut String, record: &Record, prefix: &str) {
    for field in record.fields {
        let _ = writeln!(
            out,
            "- `{prefix}{}` ({}): {}",
            field.name,
            terms(field),
            paragraph(field.doc)
        );
        if let Some(inner) = inner(field.kind) {
            fields(out, inner, &format!("{prefix}{}.", field.name));
        }
    }
}

/// What it takes, and what holds without it.
fn terms(field: &Field) -> String {
    let takes = match field.kind {
        Type::List { item } => format!("a list; each item {}", expected(item)),
        kind => expected(kind),
    };
    match field.absent {
        Absent::Refused => format!("{takes}; required"),
        Absent::Default(text) => format!("{takes}; default `{text}`"),
        Absent::Nothing | Absent::EmptyList | Absent::EmptyMap => takes,
    }
}

fn inner(kind: &Type) -> Option<&'static Record> {
    match kind {
        Type::Record(record) => Some(record),
        Type::List {
            item: Type::Record(record),
        } => Some(record),
        _ => None,
    }
}

/// Doc comments are wrapped in the source.
fn paragraph(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
