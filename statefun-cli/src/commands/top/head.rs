//! What there is to say of the whole application.

use super::draw::Page;
use super::lines::{Line, Piece, Style, facts};
use super::view::{Checkpoints, Function, View};
use super::words::{age_of, bytes_rate, counted, ms, plain, rate};
use crate::figures::{amount, percent, time};
use crate::table::{printable, shortened_inside, size};

/// Its lines.
pub(super) fn head(view: &View, page: &Page) -> Vec<Line> {
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
