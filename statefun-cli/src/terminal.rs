//! The only door to standard output and standard error: data goes to the one, all else to the other.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use statefun_core::module::render::HumanOptions;

use crate::status::{Failure, Status};

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Columns that are assumed where there is no terminal.
const WIDTH: usize = 80;
/// Text is harder to read in longer lines.
const MAX_WIDTH: usize = 120;

/// Where the command writes to.
#[derive(Debug)]
pub(crate) struct Terminal {
    out: io::Stdout,
    err: io::Stderr,
    out_color: bool,
    err_color: bool,
    unicode: bool,
    width: usize,
}

impl Terminal {
    pub(crate) fn new(color: Color) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let wanted = |is_terminal: bool| match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !refused,
        };
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            out_color: wanted(out.is_terminal()),
            err_color: wanted(err.is_terminal()),
            out,
            err,
            unicode: speaks_unicode(),
            width: columns().unwrap_or(WIDTH).min(MAX_WIDTH),
        }
    }

    /// How reports on standard output look.
    pub(crate) fn report_options(&self) -> HumanOptions {
        HumanOptions {
            color: self.out_color,
            unicode: self.unicode,
            width: self.width,
        }
    }

    /// How reports on standard error look.
    pub(crate) fn note_options(&self) -> HumanOptions {
        HumanOptions {
            color: self.err_color,
            ..self.report_options()
        }
    }

    /// Whether standard error is coloured.
    pub(crate) fn is_coloured(&self) -> bool {
        self.err_color
    }

    /// Columns of the terminal.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether a person reads standard output.
    pub(crate) fn is_read_by_person(&self) -> bool {
        self.out.is_terminal()
    }

    /// Whether standard output can be drawn on.
    pub(crate) fn is_screen(&self) -> bool {
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        self.is_read_by_person() && !is_dumb
    }

    /// Writes data, as it is.
    pub(crate) fn data(&self, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut out = self.out.lock();
        out.write_all(bytes.as_ref())
            .and_then(|()| out.flush())
            .map_err(Failure::output)
    }

    /// Writes a line for people.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        // Nobody can be told that nobody listens.
        let _ = writeln!(self.err.lock(), "{text}");
    }

    /// Writes text for people as it is.
    pub(crate) fn note_text(&self, text: &str) {
        let _ = self.err.lock().write_all(text.as_bytes());
    }

    /// Whether a person sees standard error while a command runs.
    pub(crate) fn is_watched(&self) -> bool {
        self.err.is_terminal()
    }

    /// Shows how far a command is, in place of what was shown before; nothing to end that.
    pub(crate) fn progress(&self, text: &str) {
        if self.is_watched() {
            self.note_text(&format!("\r\u{1b}[K{text}"));
        }
    }

    /// Says that something may be wrong.
    pub(crate) fn warning(&self, text: impl fmt::Display) {
        self.note(format_args!("{}: {text}", self.paint("33;1", "warning")));
    }

    /// Says why the command failed, and returns its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> Status {
        if failure.broken_pipe {
            return Status::Fine;
        }
        self.note(format_args!(
            "{}: {}",
            self.paint("31;1", "error"),
            failure.message
        ));
        if let Some(help) = &failure.help {
            self.note(format_args!("  {}: {help}", self.paint("36", "help")));
        }
        failure.status
    }

    /// A heading or name that stands out, for standard error.
    pub(crate) fn strong(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A heading that stands out, for standard output.
    pub(crate) fn heading(&self, text: &str) -> String {
        if self.out_color {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.err_color {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn columns() -> Option<usize> {
    let written = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(io::stdout())
            .or_else(|_| rustix::termios::tcgetwinsize(io::stderr()));
        size.ok().map(|size| usize::from(size.ws_col))
    };
    written.or_else(asked).filter(|columns| *columns > 0)
}

/// Whether the locale's encoding has characters beyond ASCII. The first variable that is set decides.
fn speaks_unicode() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .is_none_or(|value| {
            let value = value.to_ascii_lowercase();
            // `C` alone is what minimal containers have, and their logs are read as UTF-8 all the same.
            value == "c" || value == "posix" || value.contains("utf-8") || value.contains("utf8")
        })
}
