//! `statefun state get`: all states of an address.

use std::fmt::Write as _;

use statefun_core::clock::Timestamp;
use statefun_core::inspect::{AddressStates, Json, Query};

use super::source::{Source, told};
use crate::args::{AddressArgs, RowFormat};
use crate::status::{Failure, Outcome, Status};
use crate::table::{printable, width};
use crate::terminal::Terminal;

pub(super) fn run(
    source: &Source,
    address: &AddressArgs,
    format: RowFormat,
    terminal: &Terminal,
) -> Outcome {
    let query = Query::Get {
        function: address.function.clone(),
        id: address.id.clone(),
    };
    let as_json = format == RowFormat::Json;
    let answered = source.lines(&query, terminal, &mut |line| {
        if as_json {
            return terminal.data([line, b"\n"].concat());
        }
        let states: AddressStates = told(line)?;
        terminal.data(shown(&states, terminal)?)
    })?;
    if answered.end.addresses == 0 {
        return Err(Failure::input(format_args!(
            "there is no state at {} {} (epoch {})",
            address.function,
            printable(&address.id),
            answered.end.epoch
        ))
        .help(format_args!(
            "`statefun state ls {}` lists the addresses that have some",
            address.function
        )));
    }
    if !as_json {
        Source::tell_end(&answered, terminal);
    }
    Ok(Status::Fine)
}

fn shown(states: &AddressStates, terminal: &Terminal) -> Result<String, Failure> {
    let mut out = String::new();
    if states.part == 1 {
        out = terminal.heading(&printable(&format!("{} {}", states.function, states.id)));
        out.push('\n');
    }
    let names = states.states.iter().map(|(name, _)| width(name));
    let column = names.max().unwrap_or(0);
    let room = terminal.width().saturating_sub(column + 4);
    for (name, value) in &states.states {
        let _ = writeln!(
            out,
            "  {:<column$}  {}",
            printable(name),
            indented(value, column + 4, room)?
        );
        let expiry = states
            .expires_at_ms
            .iter()
            .find(|(expiring, _)| expiring == name);
        if let Some((_, expiry)) = expiry {
            let at = indented(&dated(expiry), column + 4, room)?;
            let _ = writeln!(out, "  {:<column$}  expires {}", "", at.trim_matches('"'));
        }
    }
    Ok(out)
}

/// As much on each line as it has room for, from `column` on.
fn indented(value: &Json, column: usize, room: usize) -> Result<String, Failure> {
    let mut out = String::new();
    lay(value, column, room, &mut out)
        .map_err(|error| Failure::usage(format_args!("a value cannot be written: {error}")))?;
    Ok(out)
}

fn lay(
    value: &Json,
    column: usize,
    room: usize,
    out: &mut String,
) -> Result<(), serde_json::Error> {
    let text = serde_json::to_string(value)?;
    let parts: Vec<(String, &Json)> = match value {
        Json::Array(items) => items.iter().map(|item| (String::new(), item)).collect(),
        Json::Object(fields) => fields
            .iter()
            .map(|(name, value)| Ok((format!("{}: ", serde_json::to_string(name)?), value)))
            .collect::<Result<_, serde_json::Error>>()?,
        _ => Vec::new(),
    };
    if parts.is_empty() || width(&text) <= room {
        out.push_str(&printable(&text));
        return Ok(());
    }
    let (open, close) = match value {
        Json::Array(_) => ('[', ']'),
        _ => ('{', '}'),
    };
    out.push(open);
    let count = parts.len();
    for (index, (name, part)) in parts.into_iter().enumerate() {
        let comma = usize::from(index + 1 < count);
        let _ = write!(out, "\n{:1$}", "", column + 2);
        out.push_str(&printable(&name));
        let left = room.saturating_sub(2 + width(&name) + comma);
        lay(part, column + 2, left, out)?;
        if comma > 0 {
            out.push(',');
        }
    }
    let _ = write!(out, "\n{:1$}{close}", "", column);
    Ok(())
}

/// With dates in place of milliseconds.
fn dated(expiry: &Json) -> Json {
    match expiry {
        Json::Int(0) => Json::Null,
        Json::Int(at) => Json::String(Timestamp(u64::try_from(*at).unwrap_or(0)).to_string()),
        Json::Array(items) => Json::Array(items.iter().map(dated).collect()),
        Json::Object(fields) => {
            let fields = fields.iter();
            Json::Object(fields.map(|(key, at)| (key.clone(), dated(at))).collect())
        }
        other => other.clone(),
    }
}
