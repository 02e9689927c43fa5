//! `statefun top`: watches a running application.

mod draw;
mod head;
mod help;
mod lines;
mod sample;
mod screen;
mod sections;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::fmt::Write as _;
use std::pin::pin;

use crossterm::event::EventStream;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::args::{Top, TopFormat, TopSort};
use crate::client::block_on;
use crate::live::Live;
use crate::status::{Failure, Outcome, Status};
use crate::table::is_obeyed;
use crate::terminal::Terminal;

use draw::{Page, draw};
use help::help;
use lines::{Line, Look, Style};
use sample::Sample;
use screen::{Screen, Wish, wish};
use view::View;

pub(crate) fn run(args: &Top, terminal: &Terminal) -> Outcome {
    let live = Live::find(&args.live)?;
    let is_live = !args.once && terminal.is_screen();
    block_on(async {
        match args.format {
            TopFormat::Human if is_live => watch(args, &live, terminal).await,
            TopFormat::Json if !args.once => follow(args, &live, terminal).await,
            format => once(args, &live, format, terminal).await,
        }
    })?
}

/// A sample at once, and one after each interval.
fn samples(args: &Top, live: &Live) -> impl Stream<Item = Result<Sample, Failure>> {
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(ticks, async |mut ticks| {
        ticks.tick().await;
        Some((Sample::take(live).await, ticks))
    })
}

/// Makes views of samples.
#[derive(Debug, Default)]
struct History {
    last: Option<Sample>,
}

impl History {
    fn view(&mut self, sample: Sample) -> View {
        let view = View::between(self.last.as_ref(), &sample);
        self.last = Some(sample);
        view
    }
}

/// One view, of one interval.
async fn once(args: &Top, live: &Live, format: TopFormat, terminal: &Terminal) -> Outcome {
    /// An application may be started anew meanwhile, and then has to be looked at for another interval.
    const MOST: usize = 5;
    let mut samples = pin!(samples(args, live).take(MOST));
    let mut history = History::default();
    while let Some(sample) = samples.next().await {
        let sample = match sample {
            Err(failure) if history.last.is_some() => {
                return Err(Failure::input(format_args!(
                    "the application went away: {}",
                    failure.message
                )));
            }
            sample => sample?,
        };
        let view = history.view(sample);
        if view.interval_ms.is_none() {
            continue;
        }
        let text = match format {
            TopFormat::Json => json(&view)?,
            TopFormat::Human => {
                let page = Page {
                    columns: terminal.width(),
                    rows: None,
                    sort: args.sort,
                    source: live.place(),
                    trouble: None,
                };
                let mut text = String::new();
                for line in draw(&view, &page) {
                    let line = line.written(page.columns, look(terminal));
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{line}");
                }
                text
            }
        };
        terminal.data(text)?;
        return Ok(Status::Fine);
    }
    Err(Failure::input(
        "the application is started again and again: there was no interval in which it ran",
    ))
}

/// A line for each interval, until nobody reads.
async fn follow(args: &Top, live: &Live, terminal: &Terminal) -> Outcome {
    let mut samples = pin!(samples(args, live));
    let mut history = History::default();
    let mut is_gone = false;
    while let Some(sample) = samples.next().await {
        match sample {
            Ok(sample) => {
                is_gone = false;
                let view = history.view(sample);
                if view.interval_ms.is_some() {
                    terminal.data(json(&view)?)?;
                }
            }
            Err(failure) if history.last.is_none() => return Err(failure),
            Err(failure) => {
                if !is_gone {
                    terminal.warning(format_args!("{}; trying again", failure.message));
                }
                is_gone = true;
            }
        }
    }
    Ok(Status::Fine)
}

/// What is on the screen.
struct Watched {
    view: View,
    trouble: Option<String>,
    sort: TopSort,
    shows_help: bool,
    source: String,
}

/// Renews the view until somebody quits.
async fn watch(args: &Top, live: &Live, terminal: &Terminal) -> Outcome {
    let cannot = |error| Failure::usage(format_args!("cannot wait for signals: {error}"));
    let mut samples = pin!(samples(args, live));
    let mut history = History::default();
    // A terminal that is taken over only to say that nothing runs would be in the way.
    let Some(first) = samples.next().await else {
        return Ok(Status::Fine);
    };
    let mut watched = Watched {
        view: history.view(first?),
        trouble: None,
        sort: args.sort,
        shows_help: false,
        source: live.place(),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let screen = Screen::enter(terminal)?;
    let mut events = EventStream::new();
    let mut has_keys = true;
    loop {
        let (columns, rows) = Screen::size();
        screen.show(&watched.lines(columns, rows), columns, look(terminal))?;
        let wish = tokio::select! {
            sample = samples.next() => {
                match sample {
                    Some(Ok(sample)) => {
                        watched.trouble = None;
                        watched.view = history.view(sample);
                    }
                    Some(Err(failure)) => {
                        watched.trouble = Some(format!("{}; trying again", failure.message));
                    }
                    None => return Ok(Status::Fine),
                }
                None
            }
            event = events.next(), if has_keys => {
                // Without a keyboard the view goes on.
                has_keys = matches!(event, Some(Ok(_)));
                event.and_then(Result::ok).as_ref().and_then(wish)
            }
            _ = terminate.recv() => Some(Wish::Quit),
            _ = hang_up.recv() => Some(Wish::Quit),
            _ = interrupt.recv() => Some(Wish::Quit),
        };
        match wish {
            Some(Wish::Quit) => return Ok(Status::Fine),
            Some(Wish::Sort) => watched.sort = next(watched.sort),
            Some(Wish::Help) => watched.shows_help = !watched.shows_help,
            Some(Wish::Back) => watched.shows_help = false,
            Some(Wish::Redraw) | None => {}
        }
    }
}

impl Watched {
    fn lines(&self, columns: usize, rows: usize) -> Vec<Line> {
        let room = rows.saturating_sub(1);
        let mut lines = if self.shows_help {
            help(columns)
        } else {
            let page = Page {
                columns,
                rows: Some(room),
                sort: self.sort,
                source: self.source.clone(),
                trouble: self.trouble.clone(),
            };
            draw(&self.view, &page)
        };
        lines.resize(room, Line::default());
        let sorted = sort_name(self.sort);
        lines.push(Line::of(
            Style::Faint,
            format!("q quit   s sort (now {sorted})   ? help"),
        ));
        lines
    }
}

fn next(sort: TopSort) -> TopSort {
    match sort {
        TopSort::In => TopSort::Errors,
        TopSort::Errors => TopSort::P99,
        TopSort::P99 => TopSort::Queue,
        TopSort::Queue => TopSort::Name,
        TopSort::Name => TopSort::In,
    }
}

fn sort_name(sort: TopSort) -> &'static str {
    match sort {
        TopSort::In => "by IN/S",
        TopSort::Errors => "by ERR/S",
        TopSort::P99 => "by P99",
        TopSort::Queue => "by QUEUE",
        TopSort::Name => "by name",
    }
}

fn look(terminal: &Terminal) -> Look {
    let options = terminal.report_options();
    Look {
        color: options.color,
        unicode: options.unicode,
    }
}

/// As a line. What a terminal would obey is escaped, also where JSON does not ask for it.
fn json(view: &View) -> Result<String, Failure> {
    let written = serde_json::to_string(view)
        .map_err(|error| Failure::usage(format_args!("the view cannot be written: {error}")))?;
    let mut line = String::with_capacity(written.len() + 1);
    for c in written.chars() {
        if is_obeyed(c) {
            // Writing to a String cannot fail.
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    Ok(line)
}
