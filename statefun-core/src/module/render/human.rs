//! The reports for people: drawn as the compiler draws its own, with the lines that a finding is about.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::module::finding::{Finding, Findings, Label, Severity};
use crate::module::source::{FileId, SourceFile, Sources};

/// How reports for people look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HumanOptions {
    /// Whether to colour them.
    pub color: bool,
    /// Whether to draw lines with characters beyond ASCII.
    pub unicode: bool,
    /// Columns at which messages are wrapped. Longer lines of the file are shown in part.
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
    let width = options.width.max(40);
    let renderer = if options.color {
        Renderer::styled().hyperlink(false)
    } else {
        Renderer::plain()
    };
    let renderer = renderer.term_width(width).decor_style(if options.unicode {
        DecorStyle::Unicode
    } else {
        DecorStyle::Ascii
    });
    let texts: Vec<(&str, String)> = sources
        .iter()
        .map(|(_, file)| (file.name(), visible(file)))
        .collect();
    let mut out = String::new();
    for finding in findings {
        out.push_str(&renderer.render(&[group(finding, &texts, width)]));
        out.push_str("\n\n");
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

/// Messages quote the file, which may hold anything.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}

/// Breaks lines at blanks only. Indented lines are to be copied, and stay whole.
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

/// A finding as it is drawn: its message, the places in each file that it is about, and the help.
fn group<'a>(finding: &Finding, texts: &'a [(&'a str, String)], width: usize) -> Group<'a> {
    let level = match finding.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let indent = format!("{}[{}]: ", finding.severity(), finding.code.id).len();
    let message = wrap(&clean(&finding.message), width.saturating_sub(indent));
    let mut group = Group::with_title(level.primary_title(message).id(finding.code.id));
    let primary = finding.primary.iter().map(|label| (label, true));
    let related = finding.related.iter().map(|label| (label, false));
    let labels: Vec<(&Label, bool)> = primary.chain(related).collect();
    let mut files: Vec<FileId> = Vec::new();
    for (label, _) in &labels {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    for file in files {
        let Some((name, text)) = texts.get(file.0) else {
            continue;
        };
        let here = labels.iter().filter(|(label, _)| label.span.file == file);
        let annotations = here.map(|(label, primary)| annotation(label, *primary, text));
        group = group.element(
            Snippet::source(text.as_str())
                .path(*name)
                .annotations(annotations),
        );
    }
    match &finding.help {
        Some(help) => group.element(Level::HELP.message(wrap(&clean(help), width - 12))),
        None => group,
    }
}

fn annotation<'a>(label: &Label, primary: bool, text: &str) -> Annotation<'a> {
    let start = label.span.start.min(text.len());
    let end = label.span.end.clamp(start, text.len());
    // A value of many lines is marked at its first: the rest is beside the point.
    let end = text
        .get(start..end)
        .and_then(|slice| slice.find(['\n', '\r']))
        .map_or(end, |line| start + line);
    let kind = if primary {
        AnnotationKind::Primary
    } else {
        AnnotationKind::Context
    };
    let words = (!label.text.is_empty()).then(|| clean(&label.text));
    kind.span(start..end).label(words)
}
