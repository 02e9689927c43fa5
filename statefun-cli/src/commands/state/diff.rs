//! `statefun state diff`: what differs between two states.

use std::ops::ControlFlow;
use std::sync::mpsc;

use statefun_core::catalog::Catalog;
use statefun_core::clock::{Timestamp, WallClock};
use statefun_core::inspect::{
    ChangeKind, End, Event, FunctionDiff, InspectError, Json, Progress, RawBytes, RawLine,
    StateChange, StateRows, diff,
};
use statefun_core::state::{Row, StateError};

use super::source::{Source, View, scope};
use crate::args::RowFormat;
use crate::client::block_on;
use crate::live::{Live, Reader};
use crate::status::{Failure, Outcome, Status};
use crate::table::{grouped, printable, shortened, table};
use crate::terminal::Terminal;

/// Rows of the application that are on their way.
const AHEAD: usize = 4_096;

pub(super) struct Options<'a> {
    pub(super) function: Option<&'a str>,
    pub(super) prefix: &'a str,
    pub(super) limit: usize,
    pub(super) format: RowFormat,
}

/// A state whose rows can be read.
enum Opened {
    Live(Box<Stream>),
    View(Box<View>),
}

pub(super) fn run(
    before: &Source,
    after: &Source,
    options: &Options<'_>,
    terminal: &Terminal,
) -> Outcome {
    let path = |source: &Source| source.data_dir()?.canonicalize().ok();
    if let (Some(one), Some(other)) = (path(before), path(after))
        && one == other
    {
        return Err(Failure::input(format_args!(
            "both are {}: there is nothing to compare",
            other.display()
        )));
    }
    let (mut old, mut new) = (open(before, options)?, open(after, options)?);
    let mut now = WallClock::default().now();
    for opened in [&old, &new] {
        if let Opened::View(view) = opened {
            now = now.max(view.now);
        }
    }
    let (old_catalog, new_catalog) = (old.catalog().clone(), new.catalog().clone());
    let mut shown = Shown {
        options,
        terminal,
        lines: 0,
        progress: false,
        failure: None,
    };
    let compared = {
        let (mut old_rows, mut new_rows) = (old.rows(options)?, new.rows(options)?);
        diff(
            (&old_catalog, &mut *old_rows),
            (&new_catalog, &mut *new_rows),
            now,
            &mut |event| shown.tell(event),
        )
    };
    terminal.progress("");
    let failure = shown.failure.take();
    if let Some(failure) = failure.or_else(|| old.failure()).or_else(|| new.failure()) {
        return Err(failure);
    }
    let functions = compared.map_err(wrong)?;
    summary(&functions, options, terminal)?;
    if shown.lines as usize > options.limit && options.format == RowFormat::Human {
        terminal.note(format_args!(
            "{} more changes: `--limit {}` shows them, `--format json` all of them",
            grouped(shown.lines - options.limit as u64),
            options.limit.saturating_mul(10).max(10)
        ));
    }
    for (name, opened) in [("before:", &old), ("after: ", &new)] {
        terminal.note(format_args!(
            "{name} epoch {}, {}",
            opened.epoch(),
            opened.place()
        ));
    }
    Ok(Status::Fine)
}

fn summary(
    functions: &[FunctionDiff],
    options: &Options<'_>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    if options.format == RowFormat::Json {
        return Ok(());
    }
    if functions.is_empty() {
        terminal.note("nothing differs");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = functions
        .iter()
        .flat_map(|diff| {
            [
                (printable(&diff.function), diff.addresses),
                ("  values, entries, elements".to_owned(), diff.rows),
            ]
        })
        .map(|(name, counts)| {
            vec![
                name,
                grouped(counts.added),
                grouped(counts.removed),
                grouped(counts.changed),
            ]
        })
        .collect();
    terminal.data(format!(
        "\n{}",
        table(
            &["FUNCTION, ADDRESSES", "ADDED", "REMOVED", "CHANGED"],
            &rows,
            terminal
        )
    ))
}

/// Shows changes as they come.
struct Shown<'a> {
    options: &'a Options<'a>,
    terminal: &'a Terminal,
    lines: u64,
    /// Whether progress stands on the terminal.
    progress: bool,
    failure: Option<Failure>,
}

impl Shown<'_> {
    fn tell(&mut self, event: Event<StateChange>) -> ControlFlow<()> {
        let told = match event {
            Event::Item(change) => {
                self.lines += 1;
                // They may go to the same terminal.
                if std::mem::take(&mut self.progress) {
                    self.terminal.progress("");
                }
                self.change(&change)
            }
            Event::Progress(progress) => {
                self.progress = true;
                self.terminal.progress(&format!(
                    "{} rows, {} %",
                    grouped(progress.rows),
                    progress.percent
                ));
                Ok(())
            }
        };
        match told {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failure = Some(failure);
                ControlFlow::Break(())
            }
        }
    }

    fn change(&self, change: &StateChange) -> Result<(), Failure> {
        if self.options.format == RowFormat::Json {
            let mut line = serde_json::to_vec(change)
                .map_err(|error| Failure::usage(format_args!("cannot write it: {error}")))?;
            line.push(b'\n');
            return self.terminal.data(line);
        }
        if self.lines as usize > self.options.limit {
            return Ok(());
        }
        let line = shortened(&printable(&in_words(change)), self.terminal.width());
        self.terminal.data(format!("{line}\n"))
    }
}

/// A change in a line for people.
fn in_words(change: &StateChange) -> String {
    let mark = match change.change {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed => '~',
    };
    let at = match &change.at {
        None => String::new(),
        Some(Json::String(text)) => format!("[{text}]"),
        Some(Json::Array(path)) => {
            let path = path.iter().filter(|part| **part != Json::Null);
            path.map(|part| match part {
                Json::String(text) => format!("[{text}]"),
                other => format!("[{other}]"),
            })
            .collect()
        }
        Some(other) => format!("[{other}]"),
    };
    let value = |side: &Option<(Json, u64)>| {
        side.as_ref()
            .map_or_else(String::new, |(json, _)| json.to_string())
    };
    let values = match (&change.before, &change.after) {
        (Some((before, was)), Some((after, is))) if before == after => {
            let at = |at: u64| match at {
                0 => "never".to_owned(),
                at => Timestamp(at).to_string(),
            };
            format!("expires {} → {}", at(*was), at(*is))
        }
        (Some(_), Some(_)) => format!("{} → {}", value(&change.before), value(&change.after)),
        (before, after) => value(if after.is_some() { after } else { before }),
    };
    format!(
        "{mark} {} {} {}{at}: {values}",
        change.function, change.id, change.state
    )
}

fn open(source: &Source, options: &Options<'_>) -> Result<Opened, Failure> {
    if let Source::Application(live) = source
        && let Some(stream) = Stream::open(live, options)?
    {
        return Ok(Opened::Live(Box::new(stream)));
    }
    Ok(Opened::View(Box::new(source.open()?)))
}

fn wrong(error: InspectError) -> Failure {
    match error {
        InspectError::UnknownFunction { .. } | InspectError::KeyGroups { .. } => {
            Failure::input(error)
        }
        error => Failure::usage(error),
    }
}

impl Opened {
    fn catalog(&self) -> &Catalog {
        match self {
            Self::Live(stream) => &stream.catalog,
            Self::View(view) => view.view.catalog(),
        }
    }

    fn rows<'a>(&'a mut self, options: &Options<'_>) -> Result<Box<dyn StateRows + 'a>, Failure> {
        match self {
            Self::Live(stream) => Ok(Box::new(&mut **stream)),
            Self::View(view) => {
                let rows = view.view.state_rows(options.function, options.prefix);
                Ok(Box::new(rows.map_err(wrong)?))
            }
        }
    }

    /// Known when all rows have been read.
    fn epoch(&self) -> u64 {
        match self {
            Self::Live(stream) => stream.end.epoch,
            Self::View(view) => view.view.epoch(),
        }
    }

    fn place(&self) -> &str {
        match self {
            Self::Live(stream) => &stream.place,
            Self::View(view) => &view.place,
        }
    }

    fn failure(&mut self) -> Option<Failure> {
        match self {
            Self::Live(stream) => stream.failure.take(),
            Self::View(_) => None,
        }
    }
}

/// The rows of an application that runs, as they come.
struct Stream {
    catalog: Catalog,
    /// Where they come from, for people.
    place: String,
    sent: mpsc::Receiver<Sent>,
    end: End,
    failure: Option<Failure>,
}

enum Sent {
    Catalog(Box<Catalog>),
    Row(Row),
    /// None when no application runs.
    End(Result<Option<End>, Failure>),
}

impl Stream {
    /// None when no application runs there.
    fn open(live: &Live, options: &Options<'_>) -> Result<Option<Self>, Failure> {
        let place = format!("from {live}");
        let live = live.clone();
        let uri = format!("/v1/state/rows?{}", scope(options.function, options.prefix));
        let (sender, sent) = mpsc::sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("state-rows".to_owned())
            .spawn(move || {
                let mut sending = Sending(&sender);
                let end = block_on(live.lines(&uri, &mut sending)).and_then(|end| end);
                // Who compares may have given up.
                let _ = sender.send(Sent::End(end));
            })
            .map_err(|error| Failure::usage(format_args!("cannot start a thread: {error}")))?;
        match sent.recv() {
            Ok(Sent::Catalog(catalog)) => Ok(Some(Self {
                catalog: *catalog,
                place,
                sent,
                end: End::default(),
                failure: None,
            })),
            Ok(Sent::End(Ok(None))) => Ok(None),
            Ok(Sent::End(Err(failure))) => Err(failure),
            Ok(Sent::Row(_) | Sent::End(Ok(Some(_)))) | Err(_) => Err(Failure::usage(
                "the application does not say what its rows hold",
            )
            .help("are `statefun` and the application's statefun-core of the same version?")),
        }
    }
}

impl StateRows for &mut Stream {
    fn next_row(&mut self) -> Result<Option<Row>, StateError> {
        let failure = match self.sent.recv() {
            Ok(Sent::Row(row)) => return Ok(Some(row)),
            Ok(Sent::End(Ok(Some(end)))) => {
                self.end = end;
                return Ok(None);
            }
            Ok(Sent::End(Err(failure))) => failure,
            Ok(Sent::Catalog(_) | Sent::End(Ok(None))) | Err(_) => {
                Failure::usage("the application stopped while it answered")
            }
        };
        let error = StateError::Store(failure.message.clone());
        self.failure = Some(failure);
        Err(error)
    }
}

struct Sending<'s>(&'s mpsc::SyncSender<Sent>);

impl Reader for Sending<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let sent = match super::source::told(line)? {
            RawLine::Catalog(catalog) => Sent::Catalog(catalog),
            RawLine::Row(RawBytes(key), RawBytes(value)) => Sent::Row((key, value)),
        };
        self.0
            .send(sent)
            .map_err(|_| Failure::usage("nobody reads the rows any more"))
    }

    fn progress(&mut self, _: Progress) {}
}
