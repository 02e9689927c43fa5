//! What keys do, and what columns mean.

use super::lines::{Line, Style};
use crate::table::{padded, shortened_inside};

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
