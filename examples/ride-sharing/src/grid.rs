//! The city as a grid of cells.

use std::fmt;

use statefun::prelude::*;

/// A cell of the grid. Its text, `x:y`, is the id of the cell's function.
#[persisted]
#[derive(Debug, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId {
    /// From west to east.
    pub x: u16,
    /// From south to north.
    pub y: u16,
}

impl CellId {
    /// The cell there.
    pub const fn new(x: u16, y: u16) -> Self {
        Self { x, y }
    }

    /// The cell that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        let (x, y) = text.split_once(':')?;
        Some(Self {
            x: x.parse().ok()?,
            y: y.parse().ok()?,
        })
    }

    /// How many cells one drives from here to there: along the grid.
    pub fn distance(self, to: Self) -> u32 {
        u32::from(self.x.abs_diff(to.x)) + u32::from(self.y.abs_diff(to.y))
    }

    /// The next cell on the way to `goal`; `self` when it is reached.
    #[must_use]
    pub fn step_towards(self, goal: Self) -> Self {
        let step = |from: u16, to: u16| match from.cmp(&to) {
            std::cmp::Ordering::Less => from + 1,
            std::cmp::Ordering::Equal => from,
            std::cmp::Ordering::Greater => from - 1,
        };
        if self.x == goal.x {
            Self {
                y: step(self.y, goal.y),
                ..self
            }
        } else {
            Self {
                x: step(self.x, goal.x),
                ..self
            }
        }
    }

    /// This cell and those at most `radius` away, the nearest first; always in the same order.
    pub fn nearby(self, radius: u16) -> Vec<Self> {
        let range = |center: u16| center.saturating_sub(radius)..=center.saturating_add(radius);
        let mut cells: Vec<Self> = range(self.x)
            .flat_map(|x| range(self.y).map(move |y| Self { x, y }))
            .filter(|cell| self.distance(*cell) <= u32::from(radius))
            .collect();
        cells.sort_by_key(|cell| (self.distance(*cell), *cell));
        cells
    }
}

impl fmt::Display for CellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.x, self.y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_as_long_as_its_distance() {
        for (from, to) in [
            ((0, 0), (3, 4)),
            ((9, 1), (2, 8)),
            ((5, 5), (5, 5)),
            ((u16::MAX, 0), (u16::MAX - 3, 0)),
        ] {
            let (mut at, goal) = (CellId::new(from.0, from.1), CellId::new(to.0, to.1));
            for left in (0..at.distance(goal)).rev() {
                at = at.step_towards(goal);
                assert_eq!(at.distance(goal), left);
            }
            assert_eq!(at.step_towards(goal), goal);
        }
    }

    #[test]
    fn nearby_cells_come_by_distance_and_end_at_the_edge() {
        let inside = CellId::new(5, 5).nearby(2);
        assert_eq!(inside.len(), 1 + 4 + 8);
        assert_eq!(inside[0], CellId::new(5, 5));
        assert!(inside.is_sorted_by_key(|cell| cell.distance(CellId::new(5, 5))));
        assert_eq!(
            CellId::new(0, 0).nearby(1),
            [(0, 0), (0, 1), (1, 0)].map(|(x, y)| CellId::new(x, y))
        );
        assert_eq!(CellId::new(u16::MAX, u16::MAX).nearby(1).len(), 3);
        assert_eq!(CellId::new(7, 7).nearby(0), [CellId::new(7, 7)]);
    }
}
