//! Findings: what is wrong with the wiring, where, and how to mend it.

use std::fmt;

use super::codes::Code;
use super::source::Span;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The application starts all the same.
    Warning,
    /// The application does not start.
    Error,
}

impl Severity {
    /// `warning` or `error`, as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place with a few words on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What to say there; may be empty.
    pub text: String,
}

/// One mistake. It never holds a value that came from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which kind of mistake; stable across versions.
    pub code: &'static Code,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// Where. None when the mistake is in the code of the application, whose places are not known here.
    pub primary: Option<Label>,
    /// Other places that have to do with it.
    pub related: Vec<Label>,
}

impl Finding {
    /// A finding that has no place yet.
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: None,
            primary: None,
            related: Vec::new(),
        }
    }

    /// Puts it at a place, with a few words on it.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.primary = Some(Label {
            span,
            text: label.into(),
        });
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says how to mend it, if that is known.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push(Label {
            span,
            text: label.into(),
        });
        self
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        self.code.severity
    }
}

/// All findings of one look at an application, by file and place; those without a place come last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    sorted: Vec<Finding>,
}

impl Findings {
    /// Sorts them and drops repetitions.
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| order(a).cmp(&order(b)));
        findings.dedup();
        Self { sorted: findings }
    }

    /// Both together, sorted again.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut all = self.sorted;
        all.extend(other.sorted);
        Self::new(all)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether the application cannot start.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many are errors.
    pub fn errors(&self) -> usize {
        self.iter()
            .filter(|finding| finding.severity() == Severity::Error)
            .count()
    }

    /// How many are warnings.
    pub fn warnings(&self) -> usize {
        self.len() - self.errors()
    }

    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.sorted.iter()
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.sorted.into_iter()
    }
}

fn order(finding: &Finding) -> (bool, Option<Span>, &'static str, &str) {
    let span = finding.primary.as_ref().map(|label| label.span);
    (span.is_none(), span, finding.code.id, &finding.message)
}
