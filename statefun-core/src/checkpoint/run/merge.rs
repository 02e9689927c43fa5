//! Many runs as one: of each key the newest row.

use super::error::RunError;
use super::rows::Rows;

/// Whether a row of a stream counts, by its key.
pub type KeyFilter = Box<dyn Fn(&[u8]) -> bool + Send>;

/// One of the streams that are merged.
struct Input<R> {
    rows: R,
    filter: Option<KeyFilter>,
    /// The beginning of its key, so that most comparisons need not look at the key itself.
    prefix: u128,
    /// Whether it has a row.
    live: bool,
}

impl<R: Rows> Input<R> {
    fn advance(&mut self) -> Result<(), RunError> {
        loop {
            self.live = self.rows.advance()?;
            if !self.live {
                return Ok(());
            }
            let key = self.rows.key();
            if self.filter.as_ref().is_none_or(|counts| counts(key)) {
                self.prefix = prefix(key);
                return Ok(());
            }
        }
    }
}

/// The first 16 bytes of a key, zeros behind a shorter one: in the order of the keys, where they differ.
fn prefix(key: &[u8]) -> u128 {
    if let Some(first) = key.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    let mut bytes = [0; 16];
    bytes[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(bytes)
}

/// Rows of many streams in the order of their keys: where several have a row of the same key, that of the stream listed
/// first, which is the newest.
pub struct Merge<R> {
    inputs: Vec<Input<R>>,
    /// A tree of losers: at each node the stream that has lost there, at 0 the winner of all. The streams are its leaves, so
    /// that going on costs one comparison on each level.
    tree: Vec<usize>,
    key: Vec<u8>,
    key_prefix: u128,
    without_deletes: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// The winner's row is the one that was given.
    Going,
    Done,
    Failed,
}

impl<R> std::fmt::Debug for Merge<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge")
            .field("streams", &self.inputs.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<R: Rows> Default for Merge<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Rows> Merge<R> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            inputs: Vec::new(),
            tree: Vec::new(),
            key: Vec::new(),
            key_prefix: 0,
            without_deletes: false,
            state: State::New,
        }
    }

    /// Adds a stream that is older than those before. Only before the first row was asked for.
    #[must_use]
    pub fn with(self, rows: R) -> Self {
        self.add(rows, None)
    }

    /// As [`Merge::with`], for a stream of which only rows count whose keys the filter says yes to. The others are passed over
    /// as if they were not there, so that an older stream's row of that key counts.
    #[must_use]
    pub fn with_filtered(self, rows: R, filter: KeyFilter) -> Self {
        self.add(rows, Some(filter))
    }

    fn add(mut self, rows: R, filter: Option<KeyFilter>) -> Self {
        self.inputs.push(Input {
            rows,
            filter,
            prefix: 0,
            live: false,
        });
        self
    }

    /// Passes over keys whose newest row is a delete.
    #[must_use]
    pub fn without_deletes(mut self) -> Self {
        self.without_deletes = true;
        self
    }

    /// Which stream the row comes from, counted from 0, the newest.
    pub fn stream(&self) -> usize {
        self.tree.first().copied().unwrap_or_default()
    }

    /// Whether the row of stream `a` comes before that of `b`.
    #[inline]
    fn is_before(&self, a: usize, b: usize) -> bool {
        let (Some(x), Some(y)) = (self.inputs.get(a), self.inputs.get(b)) else {
            return a < b;
        };
        if !x.live || !y.live {
            return x.live;
        }
        if x.prefix != y.prefix {
            return x.prefix < y.prefix;
        }
        match x.rows.key().cmp(y.rows.key()) {
            std::cmp::Ordering::Equal => a < b,
            order => order.is_lt(),
        }
    }

    /// Every stream goes to its first row, and the tree is built from the leaves on.
    fn begin(&mut self) -> Result<(), RunError> {
        for input in &mut self.inputs {
            input.advance()?;
        }
        let count = self.inputs.len();
        self.tree = vec![0; count];
        // Node `n` has the children `2n` and `2n + 1`; from `count` on they are leaves.
        let mut winners = vec![0; count];
        winners.extend(0..count);
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if self.is_before(left, right) {
                (left, right)
            } else {
                (right, left)
            };
            winners[node] = winner;
            self.tree[node] = loser;
        }
        if count > 0 {
            self.tree[0] = winners[1];
        }
        Ok(())
    }

    /// The winner goes to its next row and plays again, from its leaf up.
    fn replay(&mut self) -> Result<(), RunError> {
        let mut winner = self.stream();
        if let Some(input) = self.inputs.get_mut(winner) {
            input.advance()?;
        }
        let mut node = usize::midpoint(winner, self.inputs.len());
        while node > 0 {
            let loser = self.tree[node];
            if self.is_before(loser, winner) {
                self.tree[node] = winner;
                winner = loser;
            }
            node /= 2;
        }
        self.tree[0] = winner;
        Ok(())
    }

    /// The stream that has the next row; none when no one has.
    fn winner(&self) -> Option<&Input<R>> {
        self.inputs.get(self.stream()).filter(|input| input.live)
    }

    fn step(&mut self) -> Result<bool, RunError> {
        match self.state {
            State::Done => return Ok(false),
            State::Failed => {
                return Err(RunError::Broken {
                    name: "a merge of runs".to_owned(),
                });
            }
            State::New => {
                self.state = State::Failed;
                self.begin()?;
            }
            State::Going => {
                self.state = State::Failed;
                // Past the row that was given, and older ones of the same key.
                loop {
                    self.replay()?;
                    let is_older = self.winner().is_some_and(|winner| {
                        winner.prefix == self.key_prefix && winner.rows.key() == self.key
                    });
                    if !is_older {
                        break;
                    }
                }
            }
        }
        let winner = self.stream();
        let Some(input) = self.inputs.get(winner).filter(|input| input.live) else {
            self.state = State::Done;
            return Ok(false);
        };
        self.key.clear();
        self.key.extend_from_slice(input.rows.key());
        self.key_prefix = input.prefix;
        self.state = State::Going;
        Ok(true)
    }
}

impl<R: Rows> Rows for Merge<R> {
    fn advance(&mut self) -> Result<bool, RunError> {
        while self.step()? {
            if !self.without_deletes || self.value().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> Option<&[u8]> {
        self.winner()?.rows.value()
    }
}
