//! A view as lines, in the room that there is.

use std::cmp::Ordering;
use std::time::Duration;

use super::lines::{Column, Line, Piece, Row, Style, facts, table};
use super::view::{Checkpoints, Egress, Function, Ingress, View};
use crate::args::TopSort;
use crate::figures::{age, amount, percent, time};
use crate::table::{padded, printable, shortened_inside, size};

/// What a view is drawn for.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) columns: usize,
    /// None where there is no end.
    pub(super) rows: Option<usize>,
    pub(super) sort: TopSort,
    /// Where the application was found.
    pub(super) source: String,
    /// Why there is no newer view.
    pub(super) trouble: Option<String>,
}

/// A heading and what stands below it.
struct Section {
    heading: Line,
    lines: Vec<Line>,
    /// How much of spare room it gets when not all fits.
    weight: usize,
}

impl Section {
    /// Lines below which it shows too little.
    fn least(&self) -> usize {
        1 + self.lines.len().min(2)
    }
}

/// The lines of a view.
pub(super) fn draw(view: &View, page: &Page) -> Vec<Line> {
    let mut lines = head(view, page);
    let mut sections: Vec<Section> = [
        functions(view, page),
        ingresses(&view.ingresses, page.columns),
        egresses(&view.egresses, page.columns),
        hottest(view, page.columns),
    ]
    .into_iter()
    .flatten()
    .collect();
    let room = page.rows.map(|rows| rows.saturating_sub(lines.len()));
    if let Some(room) = room {
        // A heading of which nothing but "more" is shown takes the room of others.
        while sections.len() > 1 && room < sections.iter().map(Section::least).sum() {
            sections.pop();
        }
    }
    let headings = sections.len();
    let wanted: Vec<usize> = sections.iter().map(|section| section.lines.len()).collect();
    // Blank lines are the first thing to go.
    let blanks = room.is_none_or(|room| room >= wanted.iter().sum::<usize>() + 2 * headings);
    let weights: Vec<usize> = sections.iter().map(|section| section.weight).collect();
    let given = match room {
        Some(room) if !blanks => shared_out(room.saturating_sub(headings), &wanted, &weights),
        _ => wanted,
    };
    for (section, given) in sections.into_iter().zip(given) {
        if blanks {
            lines.push(Line::default());
        }
        lines.push(section.heading);
        let all = section.lines.len();
        if given >= all {
            lines.extend(section.lines);
        } else if given > 0 {
            lines.extend(section.lines.into_iter().take(given - 1));
            let hidden = all - (given - 1);
            lines.push(Line::of(Style::Faint, format!("… {hidden} more")));
        }
    }
    if let Some(rows) = page.rows {
        lines.truncate(rows);
    }
    lines
}

/// Gives everyone what they want, or a part of it that goes by their weight.
fn shared_out(room: usize, wanted: &[usize], weights: &[usize]) -> Vec<usize> {
    let mut given = vec![0; wanted.len()];
    let mut left = room;
    while left > 0 {
        // The next line goes to who has the least for their weight.
        let next = (0..wanted.len())
            .filter(|index| given[*index] < wanted[*index])
            .min_by(|one, other| {
                (given[*one] * weights[*other]).cmp(&(given[*other] * weights[*one]))
            });
        let Some(next) = next else { break };
        given[next] += 1;
        left -= 1;
    }
    given
}

fn plain(text: impl Into<String>) -> Piece {
    (Style::Plain, text.into())
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "–".to_owned(), amount)
}

fn ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| time(ms / 1000.0))
}

fn age_of(ms: u64) -> String {
    age(Duration::from_millis(ms))
}

/// Bytes a second, which need not be whole.
fn bytes_rate(bytes: f64) -> String {
    format!("{}/s", size(bytes.max(0.0).round() as u64))
}

fn counted(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", amount(number as f64)),
    }
}

/// What there is to say of the whole application.
fn head(view: &View, page: &Page) -> Vec<Line> {
    let columns = page.columns;
    let mut lines = Vec::new();
    let mut add = |label: &str, pieces: &[Piece]| lines.extend(facts(label, pieces, columns));

    let source = shortened_inside(&printable(&page.source), columns.saturating_sub(60).max(12));
    let mut application = vec![
        plain(source),
        plain(format!("pid {}", view.application.pid)),
        plain(format!("up {}", uptime(view.application.uptime_ms))),
    ];
    if let Some(cores) = view.process.cpu_cores {
        application.push(plain(format!("{} cpu", percent(cores))));
    }
    application.push(plain(format!("rss {}", size(view.process.resident_bytes))));
    if view.application.stopping {
        application.push((Style::Warning, "stopping".to_owned()));
    }
    add("application", &application);
    let alarms = page
        .trouble
        .iter()
        .map(|text| ("not reached", printable(text)));
    let holds = view.epochs.holds.iter().map(|hold| ("held", held(hold)));
    for (label, text) in alarms.chain(holds) {
        let room = columns.saturating_sub(13).max(20);
        for (number, text) in wrapped(&text, room).into_iter().enumerate() {
            let label = if number == 0 { label } else { "" };
            add(label, &[(Style::Bad, text)]);
        }
    }
    add("workers", &workers(view));
    add("epochs", &epochs(view));
    add("log", &log(view));
    if let Some(checkpoints) = &view.checkpoints {
        add("checkpoints", &checkpoints_made(checkpoints));
        if let Some(problem) = &checkpoints.problem {
            let text = format!(
                "failing for {}: {}",
                age_of(problem.age_ms),
                printable(&problem.error)
            );
            let room = columns.saturating_sub(13).max(20);
            add("", &[(Style::Bad, shortened_inside(&text, room))]);
        }
    }
    if let Some(waiting) = waiting(view) {
        add("waiting", &waiting);
    }
    lines
}

fn uptime(ms: u64) -> String {
    let minutes = ms / 60_000;
    let (days, hours) = (minutes / 1_440, minutes / 60 % 24);
    match (days, hours, minutes % 60) {
        (0, 0, 0) => format!("{} s", ms / 1_000),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Why nothing is taken in.
fn held(reason: &str) -> String {
    let why = match reason {
        "disk_full" => ": the disk of the epoch log is full",
        "store_full" => ": the disk of the state store is full",
        "log_full" => ": the log is full; store or egress is behind",
        "store_behind" => " until the state store has caught up",
        "blob_store" => ": the blob store takes no epochs",
        other => return format!("nothing is taken in: {}", printable(other)),
    };
    format!("nothing is taken in{why}")
}

/// Broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if crate::table::width(line) + 1 + crate::table::width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn workers(view: &View) -> Vec<Piece> {
    let workers = &view.workers;
    let mut pieces = vec![plain(workers.count.to_string())];
    pieces.push(plain(format!("{} queued", amount(workers.queue as f64))));
    if let Some(timers) = workers.timers {
        pieces.push(plain(counted(timers, "timer", "timers")));
    }
    if let Some(share) = workers.cache_hit_share {
        pieces.push(plain(format!("cache {}", percent(share))));
    }
    if workers.blocked_per_second.is_some_and(|rate| rate > 0.0) {
        let text = format!("{}/s long handlers", rate(workers.blocked_per_second));
        pieces.push((Style::Warning, text));
    }
    if workers.dead_letters > 0 {
        let text = counted(workers.dead_letters, "dead letter", "dead letters");
        pieces.push((Style::Warning, text));
    }
    // Nobody can connect any more when they are used up.
    if view.process.max_fds > 0 && view.process.open_fds * 10 >= view.process.max_fds * 9 {
        let text = format!(
            "{} of {} files open",
            view.process.open_fds, view.process.max_fds
        );
        pieces.push((Style::Bad, text));
    }
    pieces
}

fn epochs(view: &View) -> Vec<Piece> {
    let epochs = &view.epochs;
    vec![
        plain(format!("{}/s", rate(epochs.per_second))),
        plain(format!("p50 {}", ms(epochs.p50_ms))),
        plain(format!("p99 {}", ms(epochs.p99_ms))),
        plain(format!(
            "fsync p50 {}, p99 {}",
            ms(epochs.fsync_p50_ms),
            ms(epochs.fsync_p99_ms)
        )),
    ]
}

fn log(view: &View) -> Vec<Piece> {
    let log = &view.log;
    let mut pieces = vec![plain(size(log.bytes))];
    if let Some(written) = log.written_bytes_per_second {
        pieces.push(plain(bytes_rate(written)));
    }
    pieces.push(plain(if log.flush_lag_epochs == 0 {
        "all of it in the state store".to_owned()
    } else {
        format!(
            "state store {} behind, {}",
            time(log.flush_lag_ms as f64 / 1000.0),
            counted(log.flush_lag_epochs, "epoch", "epochs")
        )
    }));
    pieces
}

fn checkpoints_made(checkpoints: &Checkpoints) -> Vec<Piece> {
    let mut pieces = vec![plain(match checkpoints.age_ms {
        Some(age) => format!("{} ago", age_of(age)),
        None => "none yet".to_owned(),
    })];
    if let Some((bytes, uploaded)) = checkpoints.bytes.zip(checkpoints.uploaded_bytes) {
        let took = checkpoints
            .took_ms
            .map(|ms| format!(" in {}", time(ms as f64 / 1000.0)));
        pieces.push(plain(format!(
            "{} ({} new){}",
            size(bytes),
            size(uploaded),
            took.unwrap_or_default()
        )));
    }
    pieces.push(plain(format!("every {}", age_of(checkpoints.every_ms))));
    if let Some(ms) = checkpoints.under_way_ms {
        pieces.push(plain(format!("one under way for {}", age_of(ms))));
    }
    if checkpoints.failed > 0 {
        let style = if checkpoints.problem.is_some() {
            Style::Bad
        } else {
            Style::Warning
        };
        pieces.push((style, format!("{} failed", checkpoints.failed)));
    }
    pieces
}

/// What is said when an address does not get on.
fn waiting(view: &View) -> Option<Vec<Piece>> {
    let sum = |part: fn(&Function) -> u64| view.functions.iter().map(part).sum::<u64>();
    let (parked, retrying) = (sum(|one| one.parked), sum(|one| one.retrying));
    let mut pieces = Vec::new();
    if parked > 0 {
        let text = format!("{} parked", amount(parked as f64));
        pieces.push((Style::Bad, text));
    }
    if retrying > 0 {
        let text = format!("{} tried again", amount(retrying as f64));
        pieces.push((Style::Warning, text));
    }
    if pieces.is_empty() {
        return None;
    }
    pieces.push(plain("`statefun parked ls` shows them"));
    Some(pieces)
}

const fn column(head: &'static str, width: usize) -> Column {
    Column { head, width }
}

/// A number that is bad when it is not zero.
fn alarming(text: String, is_there: bool, style: Style) -> Piece {
    (if is_there { style } else { Style::Plain }, text)
}

fn functions(view: &View, page: &Page) -> Option<Section> {
    if view.functions.is_empty() {
        return None;
    }
    let mut sorted: Vec<&Function> = view.functions.iter().collect();
    sorted.sort_by(|one, other| by(page.sort, one, other));
    // What is left out where there is no room stands above, for all functions together.
    let is_wide = page.columns >= 100;
    let mut columns = vec![
        column("IN/S", 5),
        column("LOCAL", 5),
        column("REMOTE", 6),
        column("EGRESS", 6),
        column("ERR/S", 5),
        column("P50", 6),
        column("P99", 6),
        column("QUEUE", 5),
        column("PARKED", 6),
    ];
    if is_wide {
        columns.extend([column("RETRIED", 7), column("ASYNC", 5)]);
    }
    let rows: Vec<Row> = sorted
        .iter()
        .map(|function| {
            let mut cells = vec![
                plain(rate(function.in_per_second)),
                plain(rate(function.out_local_per_second)),
                plain(rate(function.out_remote_per_second)),
                plain(rate(function.out_egress_per_second)),
                alarming(
                    rate(function.errors_per_second),
                    function.errors_per_second.is_some_and(|rate| rate > 0.0),
                    Style::Warning,
                ),
                plain(ms(function.handler_p50_ms)),
                plain(ms(function.handler_p99_ms)),
                plain(amount(function.backlog as f64)),
                alarming(
                    amount(function.parked as f64),
                    function.parked > 0,
                    Style::Bad,
                ),
            ];
            if is_wide {
                cells.push(alarming(
                    amount(function.retrying as f64),
                    function.retrying > 0,
                    Style::Warning,
                ));
                cells.push(plain(amount(function.inflight_async as f64)));
            }
            Row {
                name: printable(&function.function),
                cells,
            }
        })
        .collect();
    let (heading, lines) = table("FUNCTION", &columns, &rows, page.columns);
    Some(Section {
        heading,
        lines,
        weight: 3,
    })
}

/// The largest first; where they are alike, by name.
fn by(sort: TopSort, one: &Function, other: &Function) -> Ordering {
    let descending = |part: fn(&Function) -> Option<f64>| {
        let (one, other) = (part(one).unwrap_or(-1.0), part(other).unwrap_or(-1.0));
        other.total_cmp(&one)
    };
    let first = match sort {
        TopSort::In => descending(|function| function.in_per_second),
        TopSort::Errors => descending(|function| function.errors_per_second),
        TopSort::P99 => descending(|function| function.handler_p99_ms),
        TopSort::Queue => other.backlog.cmp(&one.backlog),
        TopSort::Name => Ordering::Equal,
    };
    first.then_with(|| one.function.cmp(&other.function))
}

fn ingresses(ingresses: &[Ingress], columns: usize) -> Option<Section> {
    if ingresses.is_empty() {
        return None;
    }
    let rows: Vec<Row> = ingresses
        .iter()
        .map(|ingress| {
            let lag = match (ingress.lag_records, ingress.lag_bytes) {
                (Some(records), _) => counted(records, "record", "records"),
                (None, Some(bytes)) => size(bytes),
                (None, None) => "–".to_owned(),
            };
            Row {
                name: printable(&ingress.ingress),
                cells: vec![
                    plain(rate(ingress.records_per_second)),
                    alarming(
                        rate(ingress.refused_per_second),
                        ingress.refused_per_second.is_some_and(|rate| rate > 0.0),
                        Style::Warning,
                    ),
                    plain(lag),
                ],
            }
        })
        .collect();
    let heads = [
        column("RECORDS/S", 9),
        column("REFUSED/S", 9),
        column("LAG", 13),
    ];
    let (heading, lines) = table("INGRESS", &heads, &rows, columns);
    Some(Section {
        heading,
        lines,
        weight: 2,
    })
}

fn egresses(egresses: &[Egress], columns: usize) -> Option<Section> {
    if egresses.is_empty() {
        return None;
    }
    let rows: Vec<Row> = egresses
        .iter()
        .map(|egress| Row {
            name: printable(&egress.egress),
            cells: vec![
                plain(rate(egress.records_per_second)),
                alarming(
                    rate(egress.failures_per_second),
                    egress.failures_per_second.is_some_and(|rate| rate > 0.0),
                    Style::Warning,
                ),
                plain(time(egress.outbox_age_ms as f64 / 1000.0)),
                plain(counted(egress.outbox_epochs, "epoch", "epochs")),
            ],
        })
        .collect();
    let heads = [
        column("RECORDS/S", 9),
        column("FAILURES/S", 10),
        column("WAITS", 6),
        column("OUTBOX", 12),
    ];
    let (heading, lines) = table("EGRESS", &heads, &rows, columns);
    Some(Section {
        heading,
        lines,
        weight: 2,
    })
}

/// Both lists beside each other.
fn hottest(view: &View, columns: usize) -> Option<Section> {
    let hottest = &view.hottest;
    if hottest.by_time.is_empty() && hottest.by_bytes.is_empty() {
        return None;
    }
    const BETWEEN: usize = 3;
    let half = columns.saturating_sub(BETWEEN) / 2;
    let address = |function: &str, id: &str| printable(&format!("{function}/{id}"));
    let by_time: Vec<Row> = hottest
        .by_time
        .iter()
        .map(|hot| Row {
            name: address(&hot.function, &hot.id),
            cells: vec![
                plain(percent(hot.share)),
                plain(format!("{}/s", time(hot.handler_ms_per_second / 1000.0))),
            ],
        })
        .collect();
    let by_bytes: Vec<Row> = hottest
        .by_bytes
        .iter()
        .map(|hot| Row {
            name: address(&hot.function, &hot.id),
            cells: vec![
                plain(percent(hot.share)),
                plain(bytes_rate(hot.bytes_per_second)),
            ],
        })
        .collect();
    let share = column("SHARE", 6);
    let (left, left_lines) = table(
        "HOTTEST BY TIME",
        &[share, column("TIME", 8)],
        &by_time,
        half,
    );
    let (right, right_lines) = table(
        "HOTTEST BY BYTES",
        &[share, column("WRITTEN", 10)],
        &by_bytes,
        half,
    );
    let beside = |left: Line, right: Line| {
        let mut line = left.padded(half + BETWEEN);
        line.append(right);
        line
    };
    let count = left_lines.len().max(right_lines.len());
    let mut left_lines = left_lines.into_iter();
    let mut right_lines = right_lines.into_iter();
    let lines = (0..count).map(|_| {
        let left = left_lines.next().unwrap_or_default();
        beside(left, right_lines.next().unwrap_or_default())
    });
    Some(Section {
        heading: beside(left, right),
        lines: lines.collect(),
        weight: 2,
    })
}

/// What the columns mean.
pub(super) fn help(columns: usize) -> Vec<Line> {
    const TEXT: [(&str, &str); 14] = [
        ("q", "quits, and so does Ctrl-C"),
        (
            "s",
            "sorts the functions by what comes in, errors, p99, queue, name",
        ),
        ("?", "shows this, or the view again"),
        ("", ""),
        (
            "IN/S",
            "messages that the function was invoked with, each second",
        ),
        (
            "LOCAL, REMOTE",
            "messages that it sent to the same worker, and to others",
        ),
        ("EGRESS", "records that it wrote to egresses"),
        ("ERR/S", "invocations that failed; they are tried again"),
        (
            "P50, P99",
            "time that half of its invocations, and 99 of 100, did not exceed",
        ),
        ("QUEUE", "messages that wait at its addresses"),
        (
            "PARKED",
            "addresses that wait for somebody: `statefun parked ls`",
        ),
        (
            "LAG",
            "what the source has and the application has not taken in",
        ),
        (
            "WAITS, OUTBOX",
            "output that is durable and that the receiver has not taken",
        ),
        (
            "HOTTEST",
            "addresses by time of their handlers, by bytes of state written",
        ),
    ];
    TEXT.iter()
        .map(|(what, meaning)| {
            let mut line = Line::of(Style::Heading, padded(what, 15));
            line.push(
                Style::Plain,
                shortened_inside(meaning, columns.saturating_sub(15)),
            );
            line
        })
        .collect()
}
