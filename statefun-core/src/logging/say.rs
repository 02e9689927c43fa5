//! What an application says to whoever has started it, whatever the level of log lines: text for people, events for programs.

use std::io::Write;

use tracing::Level;

use super::human::visible_lines;
use super::json::{Members, head};
use super::{LogFormat, format, has_colours};
use crate::module::finding::{Findings, Severity};
use crate::module::render::{Format, HumanOptions, render};
use crate::module::source::Sources;

/// The target of these events.
pub(super) const TARGET: &str = "statefun";

/// Writes a line at once, so that others cannot come in between.
pub(super) fn write_line(line: &str) {
    // Without a place to say it there is nobody to tell.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn write_event(level: Level, message: &str, fields: &Members) {
    let mut line = head(level, TARGET, message, None);
    if !fields.is_empty() {
        line.raw("fields", format_args!("{fields}"));
    }
    write_line(&line.to_string());
}

/// Something to be said in both ways.
pub(crate) struct Said<'a> {
    /// For people, of any number of lines.
    pub(crate) text: String,
    /// For programs.
    pub(crate) message: &'a str,
    /// What programs want to know beside it.
    pub(crate) fields: serde_json::Value,
}

/// Says something that is more to programs than its text.
pub(crate) fn say_fields(said: &Said<'_>) {
    match format() {
        LogFormat::Human => write_line(&visible_lines(&said.text)),
        LogFormat::Json => {
            let mut line = head(Level::INFO, TARGET, said.message, None);
            line.raw("fields", format_args!("{}", said.fields));
            write_line(&line.to_string());
        }
    }
}

/// Says something.
pub(crate) fn say(text: &str) {
    match format() {
        LogFormat::Human => write_line(&visible_lines(text)),
        LogFormat::Json => {
            let message = text.trim();
            let message = message.strip_prefix("statefun: ").unwrap_or(message);
            write_event(Level::INFO, message, &Members::default());
        }
    }
}

/// Says why it ends. What helps is for people: `--help` has it for everybody else.
pub(crate) fn say_error(problem: &str, help: Option<&str>) {
    match format() {
        LogFormat::Human => {
            let help = help.map(|help| format!("\n\n{help}")).unwrap_or_default();
            write_line(&visible_lines(&format!("error: {problem}{help}")));
        }
        LogFormat::Json => write_event(Level::ERROR, problem, &Members::default()),
    }
}

/// Says what is wrong with the wiring.
pub(crate) fn say_findings(findings: &Findings, sources: &Sources) {
    if findings.is_empty() {
        return;
    }
    match format() {
        LogFormat::Human => {
            let options = if has_colours() {
                HumanOptions::default()
            } else {
                HumanOptions::plain()
            };
            write_line(&render(findings, sources, Format::Human(options)));
        }
        LogFormat::Json => {
            for finding in findings {
                let level = match finding.severity() {
                    Severity::Error => Level::ERROR,
                    Severity::Warning => Level::WARN,
                };
                let mut fields = Members::default();
                fields.text("code", finding.code.id);
                if let Some(label) = &finding.primary
                    && let Some(file) = sources.get(label.span.file)
                {
                    let start = file.position(label.span.start);
                    fields
                        .text("file", file.name())
                        .number("line", start.line as u64)
                        .number("column", start.column as u64);
                }
                if let Some(help) = &finding.help {
                    fields.text("help", help);
                }
                write_event(level, &finding.message, &fields);
            }
        }
    }
}
