//! The tables of a view.

use std::cmp::Ordering;

use super::draw::Page;
use super::lines::{Column, Line, Piece, Row, Style, table};
use super::view::{Egress, Function, Ingress, View};
use super::words::{bytes_rate, counted, ms, plain, rate};
use crate::args::TopSort;
use crate::figures::{amount, percent, time};
use crate::table::{printable, size};

/// Columns between two tables beside each other.
const BETWEEN: usize = 3;

/// A heading and what stands below it.
pub(super) struct Section {
    pub(super) heading: Line,
    pub(super) lines: Vec<Line>,
    /// How much of spare room it gets when not all fits.
    pub(super) weight: usize,
}

impl Section {
    /// Lines below which it shows too little.
    pub(super) fn least(&self) -> usize {
        1 + self.lines.len().min(2)
    }
}

const fn column(head: &'static str, width: usize) -> Column {
    Column { head, width }
}

/// A number that is bad when it is not zero.
fn alarming(text: String, is_there: bool, style: Style) -> Piece {
    (if is_there { style } else { Style::Plain }, text)
}

pub(super) fn functions(view: &View, page: &Page) -> Option<Section> {
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

pub(super) fn ingresses(ingresses: &[Ingress], columns: usize) -> Option<Section> {
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

pub(super) fn egresses(egresses: &[Egress], columns: usize) -> Option<Section> {
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
pub(super) fn hottest(view: &View, columns: usize) -> Option<Section> {
    let hottest = &view.hottest;
    if hottest.by_time.is_empty() && hottest.by_bytes.is_empty() {
        return None;
    }
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
