//! CSV as text: where a row ends, and which cells it has.

use std::borrow::Cow;

/// Finds the end of a row: a line end that is not within quotes (RFC 4180).
///
/// A quote begins a quoted cell only as its first character; anywhere else it stands for itself.
#[derive(Debug, Clone)]
pub(crate) struct RowEnd {
    delimiter: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    CellStart,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the other half of a quote that stands for itself, or the end.
    Quote,
}

impl State {
    fn next(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) => Self::Quoted,
            (Self::Quote | Self::CellStart, b'"') => Self::Quoted,
            _ if byte == delimiter => Self::CellStart,
            _ => Self::Plain,
        }
    }
}

impl RowEnd {
    pub(crate) fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            state: State::CellStart,
        }
    }

    /// How many of the bytes that follow belong to the row, its line end included; none when it does not end there.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' && self.state != State::Quoted {
                self.restart();
                return Some(at + 1);
            }
            self.state = self.state.next(*byte, self.delimiter);
        }
        None
    }

    pub(crate) fn is_within_quotes(&self) -> bool {
        self.state == State::Quoted
    }

    /// A row begins.
    pub(crate) fn restart(&mut self) {
        self.state = State::CellStart;
    }
}

/// A row that cannot be read: what is wrong, and with which column (counted from 0), if with one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowFault {
    pub(crate) problem: String,
    pub(crate) column: Option<usize>,
}

/// The cells of a row without its line end.
pub(crate) fn cells(row: &[u8], delimiter: u8) -> Result<Vec<Cow<'_, str>>, RowFault> {
    let mut cells = Vec::new();
    let mut begin = 0;
    let mut state = State::CellStart;
    let fault = |problem: &str, column| RowFault {
        problem: problem.to_owned(),
        column: Some(column),
    };
    for at in 0..=row.len() {
        let byte = row.get(at).copied();
        let ends = byte.is_none_or(|byte| byte == delimiter) && state != State::Quoted;
        if ends {
            let text = std::str::from_utf8(&row[begin..at])
                .map_err(|_| fault("not UTF-8", cells.len()))?;
            cells.push(
                match text.strip_prefix('"').filter(|_| state == State::Quote) {
                    Some(quoted) => {
                        let inner = quoted.strip_suffix('"').unwrap_or(quoted);
                        if inner.contains('"') {
                            Cow::Owned(inner.replace("\"\"", "\""))
                        } else {
                            Cow::Borrowed(inner)
                        }
                    }
                    None => Cow::Borrowed(text),
                },
            );
            begin = at + 1;
            state = State::CellStart;
        } else if let Some(byte) = byte {
            if state == State::Quote && byte != b'"' {
                return Err(fault(
                    "something stands behind the closing quote",
                    cells.len(),
                ));
            }
            state = state.next(byte, delimiter);
        }
    }
    if state == State::Quoted {
        return Err(fault("the quote does not end", cells.len()));
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(row: &str) -> Result<Vec<String>, RowFault> {
        Ok(cells(row.as_bytes(), b',')?
            .into_iter()
            .map(Cow::into_owned)
            .collect())
    }

    #[test]
    fn cells_of_a_row() {
        for (row, expected) in [
            ("", &[""][..]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            (",", &["", ""]),
            ("\"a,b\",\"\"", &["a,b", ""]),
            ("\"say \"\"hi\"\"\",x", &["say \"hi\"", "x"]),
            ("\"\"\"\",\"\"\"\"\"\"", &["\"", "\"\""]),
            ("\"a\nb\r\",c", &["a\nb\r", "c"]),
            ("5\" pipe,3\"", &["5\" pipe", "3\""]),
            (" \"a\" ,é", &[" \"a\" ", "é"]),
        ] {
            assert_eq!(text(row).unwrap(), expected, "{row:?}");
        }
        for (row, column) in [("a,\"b\"c", 1), ("\"a\" ,b", 0), ("a,b,\"c", 2)] {
            assert_eq!(text(row).unwrap_err().column, Some(column), "{row:?}");
        }
        assert_eq!(cells(b"a,\xff,c", b',').unwrap_err().column, Some(1));
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(texts in proptest::collection::vec("[a\",\r\n é]{0,6}", 1..4)) {
            let row: Vec<String> = texts.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
            let row = row.join(",");
            prop_assert_eq!(text(&row).unwrap(), texts);
            // Whatever the pieces in which it arrives, it ends where it ends.
            let whole = format!("{row}\nnext");
            for cut in 0..whole.len() {
                let mut end = RowEnd::new(b',');
                let (first, second) = whole.as_bytes().split_at(cut);
                let found = end.find(first).or_else(|| end.find(second).map(|count| cut + count));
                prop_assert_eq!(found, Some(row.len() + 1));
            }
        }
    }
}
