//! Figures in a view, those that are not known included.

use std::time::Duration;

use super::lines::{Piece, Style};
use crate::figures::{age, amount, time};
use crate::table::size;

pub(super) fn plain(text: impl Into<String>) -> Piece {
    (Style::Plain, text.into())
}

pub(super) fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "–".to_owned(), amount)
}

pub(super) fn ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| time(ms / 1000.0))
}

pub(super) fn age_of(ms: u64) -> String {
    age(Duration::from_millis(ms))
}

/// Bytes a second, which need not be whole.
pub(super) fn bytes_rate(bytes: f64) -> String {
    format!("{}/s", size(bytes.max(0.0).round() as u64))
}

pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{} {many}", amount(number as f64)),
    }
}
