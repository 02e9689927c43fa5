//! Where state is read: from the application that runs, or from its data directory when none does.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use statefun_core::catalog::DataDirectory;
use statefun_core::clock::Timestamp;
use statefun_core::disk::RealDisk;
use statefun_core::inspect::{
    End, Event, InspectError, Measure, OfflineError, Progress, Query, StateView, open_directory,
    run,
};

use crate::client::{block_on, percent_encode};
use crate::live::{Live, Reader};
use crate::status::Failure;
use crate::table::grouped;
use crate::terminal::Terminal;

/// A data directory, whether an application runs on it or not.
#[derive(Debug)]
pub(super) struct Source {
    live: Live,
}

/// What is known when all of an answer is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    pub(super) end: End,
    pub(super) is_live: bool,
}

/// Shows progress, and passes lines on.
struct Passing<'a> {
    terminal: &'a Terminal,
    each: &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>,
}

impl Reader for Passing<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        (self.each)(line)
    }

    fn progress(&mut self, progress: Progress) {
        self.terminal.progress(&format!(
            "{} rows, {} %",
            grouped(progress.rows),
            progress.percent
        ));
    }
}

impl Source {
    pub(super) fn find(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let live = Live::find(data_dir)?;
        Ok(Self { live })
    }

    /// Asks, and gives each line of the answer to `each`. Returns when all of them are there.
    pub(super) fn lines(
        &self,
        query: &Query,
        terminal: &Terminal,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Answered, Failure> {
        let mut passing = Passing { terminal, each };
        let live = block_on(self.live.lines(&uri(query), &mut passing))?;
        let answered = match live {
            Ok(Some(end)) => Ok(Answered { end, is_live: true }),
            Ok(None) => self.read(query, &mut passing).map(|end| Answered {
                end,
                is_live: false,
            }),
            Err(failure) => Err(failure),
        };
        terminal.progress("");
        let answered = answered?;
        if answered.end.malformed > 0 {
            terminal.warning(format_args!(
                "{} rows were passed over, since their keys cannot be read",
                grouped(answered.end.malformed)
            ));
        }
        Ok(answered)
    }

    /// Reads the directory itself.
    fn read(&self, query: &Query, passing: &mut Passing<'_>) -> Result<End, Failure> {
        let (view, now) = open_offline(self.live.data_dir())?;
        let mut failure = None;
        let end = run(&view, query, now, &mut |event| {
            let told = match event {
                Event::Item(item) => serde_json::to_vec(&item)
                    .map_err(|error| Failure::usage(format_args!("cannot write it: {error}")))
                    .and_then(|line| passing.line(&line)),
                Event::Progress(progress) => {
                    passing.progress(progress);
                    Ok(())
                }
            };
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match (end, failure) {
            (Ok(end), _) => Ok(end),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error @ InspectError::UnknownFunction { .. }), _) => Err(Failure::input(error)),
            (Err(error), _) => Err(Failure::usage(error)),
        }
    }

    /// Where it lies.
    pub(super) fn data_dir(&self) -> &Path {
        self.live.data_dir()
    }

    /// Says of when the answer is, and where it comes from.
    pub(super) fn tell_end(&self, answered: &Answered, terminal: &Terminal) {
        let place = Place {
            data_dir: self.live.data_dir(),
            is_live: answered.is_live,
        };
        terminal.note(format_args!("epoch {}, {place}", answered.end.epoch));
    }
}

/// Where something was read.
pub(super) struct Place<'a> {
    pub(super) data_dir: &'a Path,
    pub(super) is_live: bool,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_dir = self.data_dir.display();
        if self.is_live {
            write!(f, "from the application that runs on {data_dir}")
        } else {
            write!(f, "from {data_dir}, on which no application runs")
        }
    }
}

/// The state of a directory on which no application runs.
pub(super) fn open_offline(data_dir: &Path) -> Result<(StateView, Timestamp), Failure> {
    let directory = DataDirectory {
        root: data_dir.to_path_buf(),
        disk: Arc::new(RealDisk),
    };
    open_directory(&directory).map_err(|error| match &error {
        OfflineError::NoData(_) => Failure::input(error).help(
            "start the application with `statefun run`, or name its directory with `--data-dir`",
        ),
        _ => Failure::usage(error),
    })
}

/// What a line tells.
pub(super) fn told<T: DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(line).map_err(|error| {
        Failure::usage(format_args!(
            "a line of the answer is not understood: {error}"
        ))
        .help("are `statefun` and the application's statefun-core of the same version?")
    })
}

pub(super) fn scope(function: Option<&str>, prefix: &str) -> String {
    match function {
        Some(function) => format!(
            "function={}&prefix={}",
            percent_encode(function),
            percent_encode(prefix)
        ),
        None => String::new(),
    }
}

fn uri(query: &Query) -> String {
    match query {
        Query::Functions => "/v1/state".to_owned(),
        Query::Addresses {
            function,
            prefix,
            limit,
        } => format!(
            "/v1/state/addresses?{}&limit={limit}",
            scope(Some(function), prefix)
        ),
        Query::Get { function, id } => format!(
            "/v1/state/get?function={}&id={}",
            percent_encode(function),
            percent_encode(id)
        ),
        Query::Export { function, prefix } => {
            format!("/v1/state/export?{}", scope(function.as_deref(), prefix))
        }
        Query::Top {
            function,
            by,
            limit,
        } => {
            let function = function
                .as_ref()
                .map(|function| format!("&function={}", percent_encode(function)));
            let by = match by {
                Measure::Bytes => "bytes",
                Measure::Rows => "rows",
            };
            format!(
                "/v1/state/top?by={by}&limit={limit}{}",
                function.unwrap_or_default()
            )
        }
    }
}
