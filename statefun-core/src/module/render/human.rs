//! The reports for people: miette's, with the lines that a finding is about.

use std::fmt;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use crate::module::finding::{Finding, Findings, Label, Severity};
use crate::module::source::{FileId, SourceFile, Sources};

/// How reports for people look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanOptions {
    /// Whether to colour them.
    pub color: bool,
    /// Whether to draw lines with characters beyond ASCII.
    pub unicode: bool,
    /// Columns at which messages are wrapped. Lines of the file are not.
    pub width: usize,
}

impl HumanOptions {
    /// For files and pipes: no colour, 80 columns.
    pub fn plain() -> Self {
        Self {
            color: false,
            unicode: true,
            width: 80,
        }
    }
}

impl Default for HumanOptions {
    fn default() -> Self {
        Self::plain()
    }
}

pub(super) fn render(findings: &Findings, sources: &Sources, options: HumanOptions) -> String {
    let theme = match (options.unicode, options.color) {
        (true, true) => GraphicalTheme::unicode(),
        (true, false) => GraphicalTheme::unicode_nocolor(),
        (false, true) => GraphicalTheme::ascii(),
        (false, false) => GraphicalTheme::none(),
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(options.width.max(40))
        .with_links(false)
        .with_wrap_lines(false)
        .with_context_lines(1);
    let texts: Vec<Arc<NamedSource<String>>> = sources
        .iter()
        .map(|(_, file)| Arc::new(NamedSource::new(file.name(), visible(file))))
        .collect();
    let mut out = String::new();
    for finding in findings {
        let report = Report::of(finding, &texts, options.width.max(40));
        let before = out.len();
        if handler.render_report(&mut out, &report).is_err() {
            out.truncate(before);
            out.push_str(&bare(finding, sources));
        }
        out.push('\n');
    }
    out
}

/// The text without secrets, and without control characters that a terminal would obey.
fn visible(file: &SourceFile) -> String {
    let masked = file.masked_text();
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if !masked.contains(obeyed) {
        return masked;
    }
    let mut text = String::with_capacity(masked.len());
    for c in masked.chars() {
        if obeyed(c) {
            // Byte for byte, so that offsets hold.
            text.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            text.push(c);
        }
    }
    text
}

/// One line, for the case that the report cannot be drawn.
fn bare(finding: &Finding, sources: &Sources) -> String {
    let place = finding
        .primary
        .as_ref()
        .and_then(|label| {
            let file = sources.get(label.span.file)?;
            let at = file.position(label.span.start);
            Some(format!("{}:{}:{}: ", file.name(), at.line, at.column))
        })
        .unwrap_or_default();
    let help = finding
        .help
        .as_ref()
        .map(|help| format!(" ({help})"))
        .unwrap_or_default();
    format!(
        "{place}{} {}: {}{help}\n",
        finding.severity(),
        finding.code.id,
        clean(&finding.message)
    )
}

/// Messages quote the file, which may hold anything.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}

/// Breaks lines at blanks only: miette's own way also breaks names in two at `/` and `-`. Indented lines are to be copied,
/// and stay whole.
fn wrap(text: &str, width: usize) -> String {
    text.split('\n')
        .map(|line| {
            if line.starts_with(' ') {
                line.to_owned()
            } else {
                wrap_line(line, width)
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        } else if !out.is_empty() {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// A finding as miette wants it: all labels of one report are in one file, so those in others become reports of their own.
struct Report {
    message: String,
    code: Option<&'static str>,
    severity: Severity,
    help: Option<String>,
    source: Option<Arc<NamedSource<String>>>,
    labels: Vec<LabeledSpan>,
    others: Vec<Self>,
}

impl Report {
    fn of(finding: &Finding, texts: &[Arc<NamedSource<String>>], width: usize) -> Self {
        let file = finding.primary.as_ref().map(|label| label.span.file);
        let mut labels: Vec<LabeledSpan> = Vec::new();
        if let Some(label) = &finding.primary {
            labels.push(labeled(label, true, texts));
        }
        let mut others = Vec::new();
        for label in &finding.related {
            if Some(label.span.file) == file {
                labels.push(labeled(label, false, texts));
            } else {
                others.push(Self {
                    message: clean(&label.text),
                    code: None,
                    severity: finding.severity(),
                    help: None,
                    source: text(texts, label.span.file),
                    labels: vec![labeled(
                        &Label {
                            span: label.span,
                            text: String::new(),
                        },
                        true,
                        texts,
                    )],
                    others: Vec::new(),
                });
            }
        }
        Self {
            message: wrap(&clean(&finding.message), width - 4),
            code: Some(finding.code.id),
            severity: finding.severity(),
            help: finding
                .help
                .as_deref()
                .map(|help| wrap(&clean(help), width - 8)),
            source: file.and_then(|file| text(texts, file)),
            labels,
            others,
        }
    }
}

fn text(texts: &[Arc<NamedSource<String>>], file: FileId) -> Option<Arc<NamedSource<String>>> {
    texts.get(file.0).cloned()
}

fn labeled(label: &Label, primary: bool, texts: &[Arc<NamedSource<String>>]) -> LabeledSpan {
    let length = texts
        .get(label.span.file.0)
        .map_or(0, |text| text.inner().len());
    let start = label.span.start.min(length);
    let end = label.span.end.clamp(start, length);
    // A value of many lines is marked at its first: the rest is beside the point.
    let end = texts
        .get(label.span.file.0)
        .and_then(|text| text.inner().get(start..end))
        .and_then(|slice| slice.find(['\n', '\r']))
        .map_or(end, |line| start + line);
    let words = (!label.text.is_empty()).then(|| clean(&label.text));
    let range = start..end;
    if primary {
        LabeledSpan::new_primary_with_span(words, range)
    } else {
        LabeledSpan::new_with_span(words, range)
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report {}

impl Diagnostic for Report {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code
            .map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match (self.code, self.severity) {
            (None, _) => miette::Severity::Advice,
            (_, Severity::Error) => miette::Severity::Error,
            (_, Severity::Warning) => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source
            .as_deref()
            .map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.labels.is_empty() {
            None
        } else {
            Some(Box::new(self.labels.iter().cloned()))
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        if self.others.is_empty() {
            None
        } else {
            Some(Box::new(
                self.others.iter().map(|other| other as &dyn Diagnostic),
            ))
        }
    }
}
