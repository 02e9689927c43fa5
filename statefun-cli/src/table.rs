//! Tables for people, and what terminals may be given.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal::Terminal;

/// Ids, problems and values hold anything; a terminal must not obey them.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_obeyed(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Control characters, and those that turn the direction of what is written around them.
pub(crate) fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that a terminal needs for it.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Without its end where it is too long.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}…", begin(text, columns.saturating_sub(1)))
}

/// Without its middle where it is too long: beginnings are often alike, and so are ends.
pub(crate) fn shortened_inside(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let head = begin(text, kept.div_ceil(2));
    let mut room = kept - width(head);
    let tail = text.char_indices().rev().take_while(|(_, c)| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= room;
        room = room.saturating_sub(columns);
        fits
    });
    let from = tail.last().map_or(text.len(), |(index, _)| index);
    format!("{head}…{}", &text[from..])
}

/// As much of the beginning as fits.
fn begin(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > columns
    });
    end.map_or(text, |(index, _)| &text[..index])
}

/// Filled up with blanks at its end.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{:missing$}", "")
}

/// Filled up with blanks in front.
pub(crate) fn aligned_right(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{:missing$}{text}", "")
}

/// With separators between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// In the largest unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut number = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if number < 1023.5 {
            break;
        }
        number /= 1024.0;
        unit = larger;
    }
    if unit == "B" || number >= 99.95 {
        format!("{number:.0} {unit}")
    } else {
        format!("{number:.1} {unit}")
    }
}

/// Rows under headings. The first column is text and gives way where the terminal is narrow; the others are numbers.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>], terminal: &Terminal) -> String {
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| width(cell)).max().unwrap_or(0);
            widest.max(width(head))
        })
        .collect();
    let others: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    let first = widths.first().copied().unwrap_or(0);
    let first = first.min(terminal.width().saturating_sub(others).max(20));
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            if column == 0 {
                line.push_str(&padded(&shortened(cell, first), first));
            } else {
                line.push_str("  ");
                line.push_str(&aligned_right(cell, *width));
            }
        }
        line.truncate(line.trim_end().len());
        line
    };
    let mut out = terminal.heading(&line(&mut heads.iter().copied()));
    out.push('\n');
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (200 << 10, "200 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn what_is_too_long_says_so() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äbcd", 3), "äb…");
        assert_eq!(shortened("abc", 0), "…");
        for (text, columns, expected) in [
            ("shop/cart", 9, "shop/cart"),
            ("shop/cart", 8, "shop…art"),
            ("shop/cart", 7, "sho…art"),
            ("shop/cart", 1, "…"),
            ("日本語の名前", 12, "日本語の名前"),
            ("日本語の名前", 11, "日本…の名前"),
            ("日本語の名前", 10, "日本…名前"),
            ("日本語の名前", 7, "日…名前"),
            ("日本語の名前", 6, "日…前"),
            ("a\u{301}bcd", 3, "a\u{301}…d"),
        ] {
            let short = shortened_inside(text, columns);
            assert_eq!(short, expected, "{text} in {columns}");
            assert!(width(&short) <= columns, "{text} in {columns}");
        }
    }

    #[test]
    fn cells_are_as_wide_as_terminals_draw_them() {
        assert_eq!(padded("日本", 6), "日本  ");
        assert_eq!(aligned_right("日本", 6), "  日本");
        assert_eq!(padded("abc", 2), "abc");
    }

    #[test]
    fn a_terminal_obeys_nothing() {
        assert_eq!(
            printable("a\u{1b}[2J\u{202e}b\u{85}c\r"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}"
        );
    }
}
