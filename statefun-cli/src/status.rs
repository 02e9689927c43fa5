//! How a command ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// 0: it did what it was asked for.
    Fine,
    /// 1: what it was given is wrong: module.yaml, the code, a message.
    WrongInput,
    /// 2: it was called wrongly, or something that it needs failed.
    Usage,
    /// The code of the application that it ran.
    Application(u8),
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Fine => 0,
            Status::WrongInput => 1,
            Status::Usage => 2,
            Status::Application(code) => code,
        })
    }
}

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened, and where.
    pub(crate) message: String,
    /// How to mend it.
    pub(crate) help: Option<String>,
    /// The exit code.
    pub(crate) status: Status,
    /// Whether the reader of standard output went away, which is no failure.
    pub(crate) broken_pipe: bool,
}

impl Failure {
    /// It was called wrongly, or something that it needs failed.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            help: None,
            status: Status::Usage,
            broken_pipe: false,
        }
    }

    /// What it was given is wrong.
    pub(crate) fn input(message: impl fmt::Display) -> Self {
        Self {
            status: Status::WrongInput,
            ..Self::usage(message)
        }
    }

    /// Says how to mend it.
    pub(crate) fn help(self, help: impl fmt::Display) -> Self {
        Self {
            help: Some(help.to_string()),
            ..self
        }
    }

    /// Standard output cannot be written.
    pub(crate) fn output(error: io::Error) -> Self {
        Self {
            broken_pipe: error.kind() == io::ErrorKind::BrokenPipe,
            ..Self::usage(format_args!("cannot write to standard output: {error}"))
        }
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<Status, Failure>;
