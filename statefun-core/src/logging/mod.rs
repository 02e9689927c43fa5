//! What an application says on its standard error: log lines for people on a terminal, for programs otherwise.
//!
//! # Writing log lines
//!
//! Handlers, routers and operations use the macros of [`tracing`], which the prelude brings along:
//!
//! ```
//! # use statefun_core::prelude::*;
//! # #[stateful_function(typename = "example/orders", accepts(String))]
//! # struct Orders {}
//! impl Handle<String> for Orders {
//!     fn handle(&mut self, product: String, ctx: &mut Context<'_, Self>) -> HandlerResult {
//!         tracing::info!(product, "ordered");
//!         Ok(())
//!     }
//! }
//! ```
//!
//! A line from within a handler, or an operation that it has spawned, says by itself which instance it is about; it costs
//! nothing but to write it. A line from within a router says of which ingress the record is. What is not visible at the level
//! that is set costs a comparison. Threads and tasks that an author starts by himself are not known to belong to anybody.
//!
//! # Settings
//!
//! | variable | values | default |
//! |---|---|---|
//! | `STATEFUN_LOG` | `error`, `warn`, `info`, `debug`, `trace` or `off`; for the modules of one crate as `my_app=debug`; several with commas: `warn,my_app=debug` | `info` |
//! | `STATEFUN_LOG_FORMAT` | `human`, `json`, or `auto`: human when standard error is a terminal | `auto` |
//! | `NO_COLOR` | anything: no colours on a terminal | |
//!
//! `describe`, `import` and `migrate --dry-run`, which a person runs, are human where nothing else is said.
//!
//! # JSON
//!
//! Every line is one object. What the line is about stands at its top; what its author gives it stands under `fields`, so that no
//! name is taken.
//!
//! ```json
//! {"timestamp":"2026-11-26T17:00:00.123Z","level":"INFO","target":"shop::orders","message":"ordered",
//!  "function":"example/orders","id":"ada","epoch":812,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",
//!  "span_id":"00f067aa0ba902b7","fields":{"product":"tea"}}
//! ```
//!
//! | key | there |
//! |---|---|
//! | `timestamp` | always: UTC, RFC 3339, to the millisecond |
//! | `level` | always: `ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE` |
//! | `target` | always: the module of the code that says it; `statefun` for what an application says when it starts and stops |
//! | `message` | always; it may be empty |
//! | `function`, `id` | in a handler, or in an operation that it has spawned |
//! | `epoch` | in a handler: the epoch that the invocation belongs to |
//! | `ingress` | in a router |
//! | `trace_id`, `span_id` | in a handler whose message is traced: hexadecimal, as in `traceparent` |
//! | `fields` | where there are any. Numbers and truth values are such; numbers that JSON does not have are strings |
//! | `spans` | in spans of `tracing`, outermost first: `{"name": …, "fields": …}` each |
//!
//! At its start an application says `ready`, with `data_dir`, `workers` and where it listens under `fields`; a finding of
//! module.yaml is an event of its own with `code`, `file`, `line`, `column` and `help`; an error that ends the process is the
//! last event, of the level `ERROR`; a panic of a handler is one of that level, with its `location`. These are written whatever
//! `STATEFUN_LOG` says. What is no JSON is what neither this nor the application writes: the last words of the language's runtime
//! when a stack overflows, say.
//!
//! In human lines control characters are shown as `\n` or `\u{1b}`, so that what comes from outside can neither forge a line
//! nor change the terminal. Panics are shown as Rust shows them.

mod filter;
mod human;
mod json;
mod panics;
mod say;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use filter::levels;
use human::{HumanEvents, HumanFields};
use json::{JsonEvents, JsonFields};
pub(crate) use say::{Said, say, say_error, say_fields, say_findings};

/// Which levels are written.
const LEVELS: &str = "STATEFUN_LOG";
/// How they are written.
const FORMAT: &str = "STATEFUN_LOG_FORMAT";

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

static CHOSEN: OnceLock<LogFormat> = OnceLock::new();

fn asked(otherwise: LogFormat) -> Result<LogFormat, String> {
    asked_for(&std::env::var(FORMAT).unwrap_or_default(), otherwise)
}

fn asked_for(text: &str, otherwise: LogFormat) -> Result<LogFormat, String> {
    match text {
        "" | "auto" => Ok(otherwise),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        other => Err(format!(
            "{FORMAT}: `{other}` is no format of log lines: say `human`, `json` or `auto`"
        )),
    }
}

fn by_terminal() -> LogFormat {
    if std::io::stderr().is_terminal() {
        LogFormat::Human
    } else {
        LogFormat::Json
    }
}

/// How lines are written; what a wrong setting asks for is left to [`begin`] to say.
pub(crate) fn format() -> LogFormat {
    *CHOSEN.get_or_init(|| asked(by_terminal()).unwrap_or_else(|_| by_terminal()))
}

/// Has a command that a person runs speak to people, unless the settings say otherwise.
pub(crate) fn speak_to_people() {
    CHOSEN.get_or_init(|| asked(LogFormat::Human).unwrap_or(LogFormat::Human));
}

/// Whether a person looks at standard error while it is written.
pub(crate) fn is_watched() -> bool {
    format() == LogFormat::Human && std::io::stderr().is_terminal()
}

/// Whether lines for people have colours.
pub(crate) fn has_colours() -> bool {
    is_watched() && std::env::var_os("NO_COLOR").is_none()
}

/// Sets up log lines.
///
/// # Errors
/// When a setting is wrong.
pub(crate) fn begin() -> Result<(), String> {
    asked(LogFormat::Human)?;
    let text = std::env::var(LEVELS).unwrap_or_default();
    let levels = levels(&text).map_err(|problem| format!("{LEVELS}: {problem}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let everything = tracing_subscriber::registry().with(levels);
    // Where the program has set up log lines by itself, they and panics stay as they are.
    match format() {
        LogFormat::Human => {
            let lines = lines
                .with_ansi(has_colours())
                .fmt_fields(HumanFields)
                .event_format(HumanEvents);
            let _ = everything.with(lines).try_init();
        }
        LogFormat::Json => {
            let lines = lines.fmt_fields(JsonFields).event_format(JsonEvents);
            if everything.with(lines).try_init().is_ok() {
                panics::become_events();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_asked_for_by_name() {
        let json = |text| asked_for(text, LogFormat::Json);
        assert_eq!(json("human"), Ok(LogFormat::Human));
        assert_eq!(asked_for("json", LogFormat::Human), Ok(LogFormat::Json));
        assert_eq!(
            (json(""), json("auto")),
            (Ok(LogFormat::Json), Ok(LogFormat::Json))
        );
        assert!(
            json("xml")
                .unwrap_err()
                .contains("`human`, `json` or `auto`")
        );
    }
}
