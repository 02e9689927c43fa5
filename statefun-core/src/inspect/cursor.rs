//! Long scans: rows of a range in order, a piece in memory at a time.

use std::collections::VecDeque;

use crate::state::{Row, StateError, StateReader};

/// About how much is read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Rows that are read at first; then it goes by how large they are.
const FIRST_ROWS: usize = 64;
const MOST_ROWS: usize = 16_384;

/// Reads the rows of a range.
pub(crate) struct Cursor<'r> {
    reader: &'r dyn StateReader,
    start: Vec<u8>,
    end: Vec<u8>,
    limit: usize,
    piece: VecDeque<Row>,
    is_last: bool,
}

impl<'r> Cursor<'r> {
    /// From `start` on and before `end`; no end when it is empty.
    pub(crate) fn new(reader: &'r dyn StateReader, start: Vec<u8>, end: Vec<u8>) -> Self {
        Self {
            reader,
            start,
            end,
            limit: FIRST_ROWS,
            piece: VecDeque::new(),
            is_last: false,
        }
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, StateError> {
        if self.piece.is_empty() && !self.is_last {
            let piece = self.reader.scan(&self.start, &self.end, self.limit)?;
            self.is_last = piece.len() < self.limit;
            if let Some((last, _)) = piece.last() {
                self.start.clone_from(last);
                self.start.push(0);
                let bytes: usize = piece
                    .iter()
                    .map(|(key, value)| key.len() + value.len())
                    .sum();
                // No more than twice as many: those that come may be larger.
                let most = (2 * self.limit).min(MOST_ROWS);
                self.limit = (PIECE_BYTES / (bytes / piece.len()).max(1)).clamp(1, most);
            }
            self.piece = piece.into();
        }
        Ok(self.piece.pop_front())
    }
}

/// Rows that are passed over before it is worth to begin anew behind them, in bytes, where that is dear.
const PASS_BYTES: usize = 4 << 20;

/// Reads the rows of several ranges, which come in order.
pub(crate) struct RangeCursor<'r> {
    reader: &'r dyn StateReader,
    ranges: Vec<(Vec<u8>, Vec<u8>)>,
    /// The range at hand.
    at: usize,
    cursor: Option<Cursor<'r>>,
    /// Beginning anew is dear, so that what lies between two ranges is read, too, unless it is much.
    is_far: bool,
    passed: usize,
}

impl<'r> RangeCursor<'r> {
    pub(crate) fn new(
        reader: &'r dyn StateReader,
        ranges: Vec<(Vec<u8>, Vec<u8>)>,
        is_far: bool,
    ) -> Self {
        Self {
            reader,
            ranges,
            at: 0,
            cursor: None,
            is_far,
            passed: 0,
        }
    }

    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<Row>, StateError> {
        if self.is_far {
            self.next_far()
        } else {
            self.next_near()
        }
    }

    fn next_near(&mut self) -> Result<Option<Row>, StateError> {
        loop {
            if let Some(cursor) = &mut self.cursor
                && let Some(row) = cursor.next()?
            {
                return Ok(Some(row));
            }
            let Some((start, end)) = self.ranges.get(self.at) else {
                return Ok(None);
            };
            self.at += 1;
            self.cursor = Some(Cursor::new(self.reader, start.clone(), end.clone()));
        }
    }

    fn next_far(&mut self) -> Result<Option<Row>, StateError> {
        let Some((_, last)) = self.ranges.last() else {
            return Ok(None);
        };
        loop {
            let Some((start, _)) = self.ranges.get(self.at) else {
                return Ok(None);
            };
            let cursor = self
                .cursor
                .get_or_insert_with(|| Cursor::new(self.reader, start.clone(), last.clone()));
            let Some((key, value)) = cursor.next()? else {
                return Ok(None);
            };
            while self.ranges.get(self.at).is_some_and(|(_, end)| key >= *end) {
                self.at += 1;
            }
            match self.ranges.get(self.at) {
                Some((start, _)) if key >= *start => {
                    self.passed = 0;
                    return Ok(Some((key, value)));
                }
                Some(_) => self.passed += key.len() + value.len(),
                None => return Ok(None),
            }
            if self.passed > PASS_BYTES {
                (self.cursor, self.passed) = (None, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StateStore as _;
    use crate::state::memory::MemoryStore;

    fn store(rows: u16) -> MemoryStore {
        let store = MemoryStore::default();
        let rows: Vec<Row> = (0..rows)
            .map(|n| (n.to_be_bytes().to_vec(), vec![0; usize::from(n) * 100]))
            .collect();
        let mut changes = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
        store.apply(1, &mut changes).unwrap();
        store
    }

    #[test]
    fn all_rows_come_once_and_in_order_however_large_they_are() {
        let store = store(1_000);
        let mut cursor = Cursor::new(&store, vec![0, 3], vec![3]);
        let mut expected = 3_u16;
        while let Some((key, value)) = cursor.next().unwrap() {
            assert_eq!(key, expected.to_be_bytes());
            assert_eq!(value.len(), usize::from(expected) * 100);
            let held: usize = cursor.piece.iter().map(|(_, value)| value.len()).sum();
            assert!(held < 3 * PIECE_BYTES, "{held} bytes are held");
            expected += 1;
        }
        assert_eq!(expected, 0x300);
    }

    #[test]
    fn ranges_are_the_same_near_and_far() {
        let store = store(1_000);
        let range = |from: u16, to: u16| (from.to_be_bytes().to_vec(), to.to_be_bytes().to_vec());
        // Between the last two there is more than is passed over.
        let ranges = vec![
            range(0, 3),
            range(5, 5),
            range(7, 90),
            range(100, 101),
            range(990, 1_200),
        ];
        let keys = |is_far| {
            let mut cursor = RangeCursor::new(&store, ranges.clone(), is_far);
            let mut keys = Vec::new();
            while let Some((key, _)) = cursor.next().unwrap() {
                keys.push(u16::from_be_bytes(key[..].try_into().unwrap()));
            }
            assert_eq!(cursor.next().unwrap(), None);
            keys
        };
        let expected: Vec<u16> = (0..3).chain(7..90).chain([100]).chain(990..1_000).collect();
        assert_eq!(keys(false), expected);
        assert_eq!(keys(true), expected);
        let mut none = RangeCursor::new(&store, Vec::new(), true);
        assert_eq!(none.next().unwrap(), None);
    }
}
