//! Findings as text: for people, for programs, and for GitHub's checks. Nothing here prints; each returns the text.

mod github;
mod human;
mod json;

pub use human::HumanOptions;

use super::finding::Findings;
use super::source::Sources;

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With the lines that they are about.
    Human(HumanOptions),
    /// One JSON object, for programs. Its layout has a version.
    Json,
    /// Workflow commands, which GitHub shows beside the lines of a pull request.
    Github,
}

/// Writes findings in a format. The text ends with a line end unless it is empty.
pub fn render(findings: &Findings, sources: &Sources, format: Format) -> String {
    match format {
        Format::Human(options) => human::render(findings, sources, options),
        Format::Json => json::render(findings, sources),
        Format::Github => github::render(findings, sources),
    }
}

/// `2 errors, 1 warning`; empty when there is nothing.
pub fn summary(findings: &Findings) -> String {
    let count = |number: usize, what: &str| match number {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{number} {what}s")),
    };
    [
        count(findings.errors(), "error"),
        count(findings.warnings(), "warning"),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join(", ")
}
