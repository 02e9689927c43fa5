//! `statefun parked`: addresses whose messages fail.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use http::Method;
use statefun_core::admin::{ParkedDone, ParkedList, ParkedShown, WaitKind, WaitingAddress};
use statefun_core::clock::WallClock;

use crate::args::{AddressArgs, ListFormat, Parked, ParkedCommand};
use crate::client::{Answer, block_on, percent_encode};
use crate::figures::age;
use crate::live::{Live, read};
use crate::status::{Failure, Outcome, Status};
use crate::table::{printable, shortened, width};
use crate::terminal::Terminal;

pub(crate) fn run(args: &Parked, terminal: &Terminal) -> Outcome {
    let live = Live::find(&args.live)?;
    let ask = |method, uri: String| block_on(async { live.ask(method, &uri).await })?;
    let as_json = args.format == ListFormat::Json;
    match &args.command {
        ParkedCommand::Ls { function, limit } => {
            let filter = function
                .as_ref()
                .map(|name| format!("&function={}", percent_encode(name)));
            let answer = ask(
                Method::GET,
                format!("/v1/parked?limit={limit}{}", filter.unwrap_or_default()),
            )?;
            if as_json {
                return raw(&answer, terminal);
            }
            list(&read(&answer)?, terminal)?;
        }
        ParkedCommand::Show { address, messages } => {
            let uri = format!("/v1/parked/show?{}&messages={messages}", query(address));
            let answer = ask(Method::GET, uri)?;
            if as_json {
                return raw(&answer, terminal);
            }
            show(&read(&answer)?, terminal)?;
        }
        ParkedCommand::Retry(address) => {
            let answer = ask(Method::POST, format!("/v1/parked/retry?{}", query(address)))?;
            return done(&answer, as_json, terminal, |messages| {
                format!("{} goes on with its {}", named(address), counted(messages))
            });
        }
        ParkedCommand::Skip(address) => {
            let answer = ask(Method::POST, format!("/v1/parked/skip?{}", query(address)))?;
            return done(&answer, as_json, terminal, |messages| {
                format!(
                    "{} dropped {}, and goes on",
                    named(address),
                    counted(messages)
                )
            });
        }
        ParkedCommand::Drop { address, yes } => {
            if !yes && !agreed(address, terminal)? {
                terminal.note("nothing was dropped");
                return Ok(Status::Fine);
            }
            let answer = ask(Method::POST, format!("/v1/parked/drop?{}", query(address)))?;
            return done(&answer, as_json, terminal, |messages| {
                format!("{} dropped {}", named(address), counted(messages))
            });
        }
    }
    Ok(Status::Fine)
}

fn query(address: &AddressArgs) -> String {
    format!(
        "function={}&id={}",
        percent_encode(&address.function),
        percent_encode(&address.id)
    )
}

fn named(address: &AddressArgs) -> String {
    format!("{}/{}", address.function, printable(&address.id))
}

fn counted(messages: u64) -> String {
    match messages {
        1 => "1 message".to_owned(),
        _ => format!("{messages} messages"),
    }
}

fn raw(answer: &Answer, terminal: &Terminal) -> Outcome {
    terminal.data(&answer.body)?;
    Ok(Status::Fine)
}

fn done(
    answer: &Answer,
    as_json: bool,
    terminal: &Terminal,
    words: impl Fn(u64) -> String,
) -> Outcome {
    let done: ParkedDone = read(answer)?;
    if as_json {
        return raw(answer, terminal);
    }
    terminal.note(words(done.messages));
    Ok(Status::Fine)
}

/// What is dropped is gone, so a person is asked, and a script has to say it.
fn agreed(address: &AddressArgs, terminal: &Terminal) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("dropping messages cannot be undone")
            .help("say `--yes` if that is meant"));
    }
    terminal.note_text(&format!(
        "Drop all messages that wait at {}? They are lost. [y/N] ",
        named(address)
    ));
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::usage(format_args!("cannot read the answer: {error}")))?;
    Ok(matches!(
        line.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

fn list(list: &ParkedList, terminal: &Terminal) -> Result<(), Failure> {
    if list.addresses.is_empty() {
        terminal.note("nothing is parked");
        return Ok(());
    }
    let now = WallClock::default().now();
    let rows: Vec<[String; 5]> = list
        .addresses
        .iter()
        .map(|address| {
            [
                printable(&format!("{} {}", address.function, address.id)),
                state(address.kind).to_owned(),
                address.queued.to_string(),
                address.attempts.to_string(),
                ago(now.since(address.since)),
            ]
        })
        .collect();
    let heads = ["FUNCTION AND ID", "STATE", "QUEUED", "TRIES", "SINCE"];
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            rows.iter()
                .map(|row| width(&row[column]))
                .chain([heads[column].len()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    // The first column gives way; what does not fit is in `show` and in the JSON.
    let others: usize = widths[1..].iter().map(|width| width + 2).sum();
    let first = widths[0].min(terminal.width().saturating_sub(others).max(20));
    let line = |cells: [&str; 5]| {
        format!(
            "{:<first$}  {:<w1$}  {:>w2$}  {:>w3$}  {}",
            shortened(cells[0], first),
            cells[1],
            cells[2],
            cells[3],
            cells[4],
            w1 = widths[1],
            w2 = widths[2],
            w3 = widths[3],
        )
    };
    let mut out = terminal.heading(&line(heads));
    out.push('\n');
    for (row, address) in rows.iter().zip(&list.addresses) {
        out.push_str(&line([&row[0], &row[1], &row[2], &row[3], &row[4]]));
        out.push('\n');
        let problem = printable(address.problem.lines().next().unwrap_or_default());
        if !problem.is_empty() {
            let _ = writeln!(
                out,
                "  {}",
                shortened(&problem, terminal.width().saturating_sub(2))
            );
        }
    }
    terminal.data(out)?;
    if list.truncated {
        terminal.note(format_args!(
            "there are more: `--limit {}` shows them",
            list.addresses.len().saturating_mul(10)
        ));
    }
    Ok(())
}

fn show(shown: &ParkedShown, terminal: &Terminal) -> Result<(), Failure> {
    let WaitingAddress {
        function,
        id,
        kind,
        queued,
        attempts,
        since,
        problem,
    } = &shown.address;
    let mut out = terminal.heading(&printable(&format!("{function} {id}")));
    let _ = writeln!(out, "\n  state    {}", state(*kind));
    let _ = writeln!(
        out,
        "  since    {} ({})",
        since,
        ago(WallClock::default().now().since(*since))
    );
    let _ = writeln!(out, "  tries    {attempts}");
    let _ = writeln!(out, "  problem  {}", indented(problem, 11));
    let _ = writeln!(out, "  queued   {}", counted(*queued));
    for (number, message) in shown.messages.iter().enumerate() {
        let from = message
            .from
            .as_ref()
            .map(|from| format!(" from {}", printable(from)));
        let head = format!(
            "{}. {}{}",
            number + 1,
            printable(&message.typename),
            from.unwrap_or_default()
        );
        let _ = writeln!(out, "\n  {}", terminal.heading(&head));
        let _ = writeln!(out, "     {}", indented(&message.value, 5));
    }
    terminal.data(out)?;
    let hidden = queued.saturating_sub(shown.messages.len() as u64);
    if hidden > 0 {
        terminal.note(format_args!(
            "{} more: `--messages {queued}` shows all",
            counted(hidden)
        ));
    }
    Ok(())
}

fn state(kind: WaitKind) -> &'static str {
    match kind {
        WaitKind::Loading => "loading",
        WaitKind::Draining => "going on",
        WaitKind::Retrying => "retrying",
        WaitKind::Parked => "parked",
    }
}

fn ago(duration: Duration) -> String {
    format!("{} ago", age(duration))
}

fn indented(text: &str, columns: usize) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join(&format!("\n{:columns$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_id() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(indented("a\n\u{7}b", 2), "a\n  \u{fffd}b");
    }
}
