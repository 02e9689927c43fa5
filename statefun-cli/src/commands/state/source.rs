//! Where state is read: from the application that runs, or from its data directory when none does.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use statefun_core::catalog::DataDirectory;
use statefun_core::checkpoint::bucket::Bucket;
use statefun_core::checkpoint::view::CheckpointView;
use statefun_core::clock::{Timestamp, WallClock};
use statefun_core::disk::RealDisk;
use statefun_core::inspect::{
    End, Event, InspectError, Measure, OfflineError, Progress, Query, StateView, open_directory,
    run,
};

use tokio::runtime::Runtime;

use crate::args::LiveArgs;
use crate::client::{block_on, percent_encode};
use crate::commands::checkpoint::{self, find_bucket};
use crate::live::{Live, Reader};
use crate::status::Failure;
use crate::table::grouped;
use crate::terminal::Terminal;

/// A place that has state.
pub(super) enum Source {
    /// An application that runs; or a data directory, whether one runs on it or not.
    Application(Live),
    /// A checkpoint, where it is.
    Checkpoint(Kept),
}

/// A checkpoint.
pub(super) struct Kept {
    bucket: Bucket,
    wanted: String,
    /// What reading it goes through.
    runtime: Runtime,
}

/// State that can be read here, and the time.
pub(super) struct View {
    pub(super) view: StateView,
    pub(super) now: Timestamp,
    /// Where it comes from, for people.
    pub(super) place: String,
}

/// What is known when all of an answer is there.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) end: End,
    /// Where it comes from, for people.
    place: String,
}

/// Shows progress, and passes lines on.
struct Passing<'a> {
    terminal: &'a Terminal,
    /// Whether progress stands on the terminal.
    shown: bool,
    each: &'a mut dyn FnMut(&[u8]) -> Result<(), Failure>,
}

impl Reader for Passing<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        // They may go to the same terminal.
        if std::mem::take(&mut self.shown) {
            self.terminal.progress("");
        }
        (self.each)(line)
    }

    fn progress(&mut self, progress: Progress) {
        self.shown = true;
        self.terminal.progress(&format!(
            "{} rows, {} %",
            grouped(progress.rows),
            progress.percent
        ));
    }
}

impl Source {
    /// The application's, or a checkpoint.
    pub(super) fn find(
        args: &LiveArgs,
        checkpoint: Option<&str>,
        url: Option<&str>,
    ) -> Result<Self, Failure> {
        match checkpoint {
            Some(_) if args.data_dir.is_some() || args.url.is_some() => Err(Failure::usage(
                "`--checkpoint` reads no application: leave out `--data-dir` and `--url`",
            )
            .help("where checkpoints are is said with `--checkpoint-url`")),
            Some(wanted) => Self::checkpoint(wanted, url),
            None => Ok(Self::Application(Live::find(args)?)),
        }
    }

    /// A data directory, or `checkpoint:` and which.
    pub(super) fn named(name: &str, url: Option<&str>) -> Result<Self, Failure> {
        match name.strip_prefix("checkpoint:") {
            Some(wanted) => Self::checkpoint(wanted, url),
            None => Ok(Self::Application(Live::of_directory(Some(Path::new(
                name,
            )))?)),
        }
    }

    fn checkpoint(wanted: &str, url: Option<&str>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Failure::usage(format_args!("cannot use the network: {error}")))?;
        Ok(Self::Checkpoint(Kept {
            bucket: find_bucket(url)?,
            wanted: wanted.to_owned(),
            runtime,
        }))
    }

    /// Asks, and gives each line of the answer to `each`. Returns when all of them are there.
    pub(super) fn lines(
        &self,
        query: &Query,
        terminal: &Terminal,
        each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Answered, Failure> {
        let mut passing = Passing {
            terminal,
            shown: false,
            each,
        };
        let answered = self.answer(query, &mut passing);
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

    fn answer(&self, query: &Query, passing: &mut Passing<'_>) -> Result<Answered, Failure> {
        if let Self::Application(live) = self {
            let asked = block_on(live.lines(&uri(query), passing))?;
            if let Some(end) = asked? {
                let place = format!("from {live}");
                return Ok(Answered { end, place });
            }
        }
        let opened = self.open()?;
        let end = read(&opened, query, passing)?;
        Ok(Answered {
            end,
            place: opened.place,
        })
    }

    /// Opens what is read here.
    pub(super) fn open(&self) -> Result<View, Failure> {
        match self {
            Self::Application(live) => {
                let data_dir = live
                    .data_dir()
                    .ok_or_else(|| Failure::usage(format_args!("{live} does not answer")))?;
                let (view, now) = open_offline(data_dir)?;
                let data_dir = data_dir.display();
                Ok(View {
                    view,
                    now,
                    place: format!("from {data_dir}, on which no application runs"),
                })
            }
            Self::Checkpoint(kept) => {
                let handle = kept.runtime.handle();
                let opened = CheckpointView::open(&kept.bucket, handle, &kept.wanted);
                let opened = opened.map_err(checkpoint::failed)?;
                let place = format!(
                    "from checkpoint {} in {}",
                    opened.entry().id,
                    kept.bucket.url()
                );
                let catalog = opened.catalog().clone();
                Ok(View {
                    view: StateView::new(opened.epoch(), &catalog, Box::new(opened)).far(),
                    now: WallClock::default().now(),
                    place,
                })
            }
        }
    }

    /// Its data directory, where it has one.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        match self {
            Self::Application(live) => live.data_dir(),
            Self::Checkpoint(_) => None,
        }
    }

    /// Says of when the answer is, and where it comes from.
    pub(super) fn tell_end(answered: &Answered, terminal: &Terminal) {
        terminal.note(format_args!(
            "epoch {}, {}",
            answered.end.epoch, answered.place
        ));
    }
}

/// Answers a query here.
fn read(opened: &View, query: &Query, passing: &mut Passing<'_>) -> Result<End, Failure> {
    let mut failure = None;
    let end = run(&opened.view, query, opened.now, &mut |event| {
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

/// The state of a directory on which no application runs.
fn open_offline(data_dir: &Path) -> Result<(StateView, Timestamp), Failure> {
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
