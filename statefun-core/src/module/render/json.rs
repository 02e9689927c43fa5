//! Findings for programs.

use serde::Serialize;

use crate::module::finding::{Findings, Label};
use crate::module::source::Sources;

/// Version of the layout.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Output<'a> {
    version: u32,
    errors: usize,
    warnings: usize,
    findings: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    code: &'a str,
    severity: &'a str,
    title: &'a str,
    message: &'a str,
    help: Option<&'a str>,
    place: Option<Place<'a>>,
    related: Vec<Place<'a>>,
}

/// Lines and columns count from 1, columns in characters; the end is exclusive. Offsets are bytes from 0.
#[derive(Serialize)]
struct Place<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    start_offset: usize,
    end_offset: usize,
    label: &'a str,
}

pub(super) fn render(findings: &Findings, sources: &Sources) -> String {
    let output = Output {
        version: VERSION,
        errors: findings.errors(),
        warnings: findings.warnings(),
        findings: findings
            .iter()
            .map(|finding| One {
                code: finding.code.id,
                severity: finding.severity().as_str(),
                title: finding.code.title,
                message: &finding.message,
                help: finding.help.as_deref(),
                place: finding
                    .primary
                    .as_ref()
                    .and_then(|label| place(label, sources)),
                related: finding
                    .related
                    .iter()
                    .filter_map(|label| place(label, sources))
                    .collect(),
            })
            .collect(),
    };
    // Texts and numbers always serialize.
    let mut text = serde_json::to_string_pretty(&output).unwrap_or_default();
    text.push('\n');
    text
}

fn place<'a>(label: &'a Label, sources: &'a Sources) -> Option<Place<'a>> {
    let file = sources.get(label.span.file)?;
    let start = file.position(label.span.start);
    let end = file.position(label.span.end);
    Some(Place {
        file: file.name(),
        line: start.line,
        column: start.column,
        end_line: end.line,
        end_column: end.column,
        start_offset: label.span.start,
        end_offset: label.span.end,
        label: &label.text,
    })
}
