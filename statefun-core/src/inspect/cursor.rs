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
}
