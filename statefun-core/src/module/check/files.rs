//! Files: formats are known, their settings fit, and no file has two writers.

use std::path::{Component as Part, Path, PathBuf};

use super::Checker;
use crate::module::application::Component;
use crate::module::codes;
use crate::module::finding::Finding;
use crate::module::model::{Csv, FieldName, FileFormat, RecordKey, Spec};
use crate::module::source::{Node, Scalar, Span};

pub(super) fn check(checker: &mut Checker<'_>) {
    for component in checker.application.components() {
        match &component.spec {
            Some(Spec::FileIngress(spec)) => {
                let format = format(checker, component, spec.format(), &spec.path);
                ingress(checker, component, format, spec.id_from.as_ref(), &spec.csv);
                trace_column(
                    checker,
                    component,
                    format,
                    spec.traceparent.as_ref(),
                    &spec.csv,
                );
            }
            Some(Spec::FileEgress(spec)) => {
                let format = format(checker, component, spec.format(), &spec.path);
                trace_column(
                    checker,
                    component,
                    format,
                    spec.traceparent.as_ref(),
                    &spec.csv,
                );
                if format == Some(FileFormat::Csv)
                    && !component.has("csv.columns")
                    && !may_have_csv(component)
                {
                    checker.report(
                        Finding::new(
                            codes::INCOMPLETE,
                            format!("{} does not say which columns it writes", component.title()),
                        )
                        .at(component.field_span("path"), "a CSV file")
                        .help(
                            "list the fields of the records, as in `csv: {columns: [id, amount]}`",
                        ),
                    );
                }
            }
            _ => {}
        }
        columns_twice(checker, component);
    }
    same_file(checker);
}

fn format(
    checker: &mut Checker<'_>,
    component: &Component,
    format: Option<FileFormat>,
    path: &Path,
) -> Option<FileFormat> {
    if path.as_os_str().is_empty() {
        checker.report(
            Finding::new(codes::BAD_TEXT, "the path is empty")
                .at(component.field_span("path"), "names no file")
                .help("name a file, as in `path: data/orders.jsonl`"),
        );
        return None;
    }
    if component.has("format") {
        return format;
    }
    if format.is_none() {
        checker.report(
            Finding::new(
                codes::INCOMPLETE,
                "the extension does not say which format the file has",
            )
            .at(
                component.field_span("path"),
                "neither JSON nor CSV by its name",
            )
            .help("add `format: json` or `format: csv`"),
        );
    }
    format
}

fn ingress(
    checker: &mut Checker<'_>,
    component: &Component,
    format: Option<FileFormat>,
    id_from: Option<&RecordKey>,
    csv: &Csv,
) {
    match format {
        Some(FileFormat::Json) => {
            if let Some(RecordKey::Column(_)) = id_from {
                checker.report(
                    Finding::new(codes::CONTRADICTION, "a JSON file has no columns")
                        .at(component.field_span("idFrom"), "a column")
                        .help("write `idFrom: {pointer: /name}`"),
                );
            }
        }
        Some(FileFormat::Csv) => csv_input(checker, component, id_from, csv),
        None => {}
    }
}

fn csv_input(
    checker: &mut Checker<'_>,
    component: &Component,
    id_from: Option<&RecordKey>,
    csv: &Csv,
) {
    let columns = component.span_of("csv.columns");
    let header = component.span_of("csv.header");
    match (csv.header, columns, header) {
        (Some(true), Some(columns), Some(header)) => checker.report(
            Finding::new(
                codes::CONTRADICTION,
                "the columns are named by the first line and by `columns`",
            )
            .at(columns, "named here")
            .related(header, "and by the file")
            .help("leave `columns` out, or write `header: false` when the file has no such line"),
        ),
        (Some(false), None, Some(header)) if !component.has("csv.columns") => checker.report(
            Finding::new(codes::INCOMPLETE, "nothing names the columns")
                .at(header, "no header")
                .help("list them, as in `columns: [id, amount]`"),
        ),
        _ => {}
    }
    if let Some(RecordKey::Column(name)) = id_from {
        known_column(checker, component, name, "idFrom.column", csv);
    }
}

/// The `traceparent` of a record in a CSV file is in one of its columns.
fn trace_column(
    checker: &mut Checker<'_>,
    component: &Component,
    format: Option<FileFormat>,
    field: Option<&FieldName>,
    csv: &Csv,
) {
    if let (Some(FileFormat::Csv), Some(name)) = (format, field) {
        known_column(checker, component, name.as_str(), "traceparent", csv);
    }
}

fn known_column(
    checker: &mut Checker<'_>,
    component: &Component,
    name: &str,
    field: &str,
    csv: &Csv,
) {
    if csv.columns.is_empty() || csv.columns.iter().any(|column| column == name) {
        return;
    }
    let shown = component
        .tree
        .at(field)
        .and_then(Node::scalar)
        .map_or_else(|| "…".into(), Scalar::shown);
    checker.report(
        Finding::new(
            codes::UNKNOWN_VALUE,
            format!("there is no column `{shown}`"),
        )
        .at(
            component.span_of(field).unwrap_or(component.kind_span),
            "not among `columns`",
        )
        .maybe_help(crate::module::suggest::did_you_mean(
            name,
            csv.columns.iter().map(String::as_str),
        )),
    );
}

/// `csv` says nothing of a JSON file; and no column has two places.
fn columns_twice(checker: &mut Checker<'_>, component: &Component) {
    let json = match &component.spec {
        Some(Spec::FileIngress(spec)) => spec.format() == Some(FileFormat::Json),
        Some(Spec::FileEgress(spec)) => spec.format() == Some(FileFormat::Json),
        _ => return,
    };
    if json && let Some(csv) = component.key_span("csv") {
        checker.report(
            Finding::new(codes::CONTRADICTION, "`csv` says nothing about a JSON file")
                .at(csv, "settings for CSV")
                .help("remove it, or write `format: csv`"),
        );
        return;
    }
    let Some(columns) = component.tree.at("csv.columns") else {
        return;
    };
    let mut seen: Vec<(&str, Span)> = Vec::new();
    for item in columns.items() {
        let Some(scalar) = item.scalar() else {
            continue;
        };
        if let Some((_, earlier)) = seen.iter().find(|(name, _)| *name == scalar.text) {
            checker.report(
                Finding::new(
                    codes::REPEATED,
                    format!("the column `{}` is listed twice", scalar.shown()),
                )
                .at(item.span, "again here")
                .related(*earlier, "first here")
                .help("remove one of them"),
            );
        }
        seen.push((&scalar.text, item.span));
    }
}

/// Whether `csv` may stand there under a name that is not known.
fn may_have_csv(component: &Component) -> bool {
    component.has("csv") && component.tree.at("csv").is_none()
}

/// A file has one writer, and its writer is not also read.
fn same_file(checker: &mut Checker<'_>) {
    let mut writers: Vec<(PathBuf, &Component)> = Vec::new();
    let mut findings = Vec::new();
    for component in checker.application.components() {
        let Some(Spec::FileEgress(spec)) = &component.spec else {
            continue;
        };
        let path = plain(&spec.path);
        if let Some((_, first)) = writers.iter().find(|(known, _)| *known == path) {
            findings.push(
                Finding::new(
                    codes::SAME_FILE,
                    format!(
                        "{} writes the same file as {}",
                        component.title(),
                        first.title()
                    ),
                )
                .at(component.field_span("path"), "written here as well")
                .related(first.field_span("path"), "written here")
                .help("give each its own file, or let the functions write to one egress"),
            );
        } else {
            writers.push((path, component));
        }
    }
    for component in checker.application.components() {
        let Some(Spec::FileIngress(spec)) = &component.spec else {
            continue;
        };
        let path = plain(&spec.path);
        if let Some((_, writer)) = writers.iter().find(|(known, _)| *known == path) {
            findings.push(
                Finding::new(
                    codes::SAME_FILE,
                    format!(
                        "{} reads the file that {} writes",
                        component.title(),
                        writer.title()
                    ),
                )
                .at(component.field_span("path"), "read here")
                .related(writer.field_span("path"), "written here")
                .help("functions send to each other directly; a file in between is not needed"),
            );
        }
    }
    checker.findings.extend(findings);
}

/// The path without `.` and `..`, as far as the text alone shows.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Part::CurDir => {}
            Part::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
