//! Lines of a view: pieces of text, each in a style, as wide as a terminal draws them.

use crate::table::{aligned_right, padded, shortened, shortened_inside, width};

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// What matters less.
    Faint,
    /// What a section begins with.
    Heading,
    /// What somebody should look at.
    Warning,
    /// What somebody has to mend.
    Bad,
}

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Faint => Some("2"),
            Self::Heading => Some("1"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31;1"),
        }
    }
}

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) color: bool,
    pub(super) unicode: bool,
}

/// A piece of a line.
pub(super) type Piece = (Style, String);

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<Piece>);

impl Line {
    pub(super) fn of(style: Style, text: impl Into<String>) -> Self {
        Self(vec![(style, text.into())])
    }

    pub(super) fn push(&mut self, style: Style, text: impl Into<String>) {
        self.0.push((style, text.into()));
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| width(text)).sum()
    }

    /// Filled up with blanks.
    pub(super) fn padded(mut self, columns: usize) -> Self {
        let missing = columns.saturating_sub(self.width());
        self.push(Style::Plain, " ".repeat(missing));
        self
    }

    /// As it is written into a terminal of that width.
    pub(super) fn written(&self, columns: usize, look: Look) -> String {
        let mut out = String::new();
        let mut room = columns;
        for (style, text) in &self.0 {
            if room == 0 {
                break;
            }
            let text = shortened(text, room);
            room = room.saturating_sub(width(&text));
            let text = if look.unicode { text } else { ascii(&text) };
            match style.code().filter(|_| look.color) {
                Some(code) if !text.is_empty() => {
                    out.push_str(&format!("\u{1b}[{code}m{text}\u{1b}[0m"));
                }
                _ => out.push_str(&text),
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out
    }
}

/// As near as it comes, a column for a column.
fn ascii(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            'µ' => out.push('u'),
            '…' => out.push('~'),
            '·' => out.push(','),
            '–' => out.push('-'),
            other => out.push_str(&"?".repeat(width(other.encode_utf8(&mut [0; 4])))),
        }
    }
    out
}

/// Facts behind a label, on as many lines as they need.
pub(super) fn facts(label: &str, facts: &[Piece], columns: usize) -> Vec<Line> {
    const LABEL: usize = 13;
    const BETWEEN: &str = " · ";
    let begin = |text: &str| Line::of(Style::Heading, padded(text, LABEL));
    let mut lines = vec![begin(label)];
    let mut is_first = true;
    for (style, text) in facts {
        let Some(line) = lines.last_mut() else { break };
        let needed = width(text) + if is_first { 0 } else { width(BETWEEN) };
        if is_first {
            line.push(*style, text);
        } else if line.width() + needed <= columns {
            line.push(Style::Faint, BETWEEN);
            line.push(*style, text);
        } else {
            let mut next = begin("");
            next.push(*style, text);
            lines.push(next);
        }
        is_first = false;
    }
    lines
}

/// A column of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) width: usize,
}

/// A name and its numbers.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<Piece>,
}

/// A table: its heading, and a line for each row. Names get what the numbers leave, and are shortened in their middle.
pub(super) fn table(
    head: &str,
    columns: &[Column],
    rows: &[Row],
    width_of_all: usize,
) -> (Line, Vec<Line>) {
    let tight: usize = columns.iter().map(|column| column.width + 1).sum();
    let names = rows.iter().map(|row| width(&row.name));
    let longest = names.chain([width(head)]).max().unwrap_or(0);
    // Where there is room, numbers stand further apart.
    let gap = if tight + columns.len() + longest <= width_of_all {
        2
    } else {
        1
    };
    let numbers: usize = columns.iter().map(|column| column.width + gap).sum();
    let name = longest.min(width_of_all.saturating_sub(numbers)).max(8);
    let line = |first: &str, style: Style, cells: &mut dyn Iterator<Item = Piece>| {
        let mut line = Line::of(style, padded(&shortened_inside(first, name), name));
        for (column, (style, text)) in columns.iter().zip(cells) {
            line.push(Style::Plain, " ".repeat(gap));
            line.push(style, aligned_right(&text, column.width));
        }
        line
    };
    let heads = columns.iter().map(|column| column.head.to_owned());
    let heading = line(
        head,
        Style::Heading,
        &mut heads.map(|head| (Style::Heading, head)),
    );
    let lines = rows
        .iter()
        .map(|row| line(&row.name, Style::Plain, &mut row.cells.iter().cloned()))
        .collect();
    (heading, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look {
        color: false,
        unicode: true,
    };

    #[test]
    fn a_line_is_no_wider_than_the_terminal() {
        let mut line = Line::of(Style::Heading, "日本語");
        line.push(Style::Bad, "abc");
        line.push(Style::Plain, "  ");
        for (columns, expected) in [
            (20, "日本語abc"),
            (9, "日本語abc"),
            (8, "日本語a…"),
            (7, "日本語…"),
            (6, "日本語"),
            (5, "日本…"),
            (0, ""),
        ] {
            let written = line.written(columns, PLAIN);
            assert_eq!(written, expected, "{columns}");
        }
    }

    #[test]
    fn styles_are_written_only_where_colours_are_wanted() {
        let mut line = Line::of(Style::Plain, "a ");
        line.push(Style::Bad, "b");
        let look = Look {
            color: true,
            ..PLAIN
        };
        assert_eq!(line.written(9, look), "a \u{1b}[31;1mb\u{1b}[0m");
        assert_eq!(line.written(9, PLAIN), "a b");
    }

    #[test]
    fn without_unicode_each_column_stays() {
        let look = Look {
            unicode: false,
            ..PLAIN
        };
        let line = Line::of(Style::Plain, "1.2 µs · a…b – 日");
        assert_eq!(line.written(40, look), "1.2 us , a~b - ??");
    }

    #[test]
    fn facts_go_on_below() {
        let given = ["one", "two", "three"].map(|text| (Style::Plain, text.to_owned()));
        let lines = facts("label", &given, 23);
        let written: Vec<String> = lines.iter().map(|line| line.written(23, PLAIN)).collect();
        assert_eq!(written, ["label        one · two", "             three"]);
    }
}
