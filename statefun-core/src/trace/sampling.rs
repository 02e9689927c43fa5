//! How many of the traces that begin here are recorded.

use std::fmt;
use std::str::FromStr;

use crate::rand::Random;

/// A share of traces, from 0 (none) to 1 (all).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample(u64);

/// The share of all.
const ALL: u64 = 1 << 53;

impl Sample {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(ALL);

    /// That share; none for what is no number from 0 to 1.
    pub fn of(share: f64) -> Option<Self> {
        (0.0..=1.0)
            .contains(&share)
            .then_some(Self((share * ALL as f64) as u64))
    }

    /// Whether a trace that begins now is recorded.
    pub(crate) fn draw(self, random: &mut Random) -> bool {
        random.next_u64() >> 11 < self.0
    }
}

impl Default for Sample {
    /// One in a hundred.
    fn default() -> Self {
        Self(ALL / 100)
    }
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = text.trim().parse().ok().and_then(Self::of);
        share.ok_or_else(|| {
            format!("`{text}` is no share of traces: give a number from 0 (none) to 1 (all), such as 0.01")
        })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f64 / ALL as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for bad in ["", "-0.1", "1.01", "NaN", "5%", "inf", "some"] {
            assert!(bad.parse::<Sample>().is_err(), "{bad}");
        }
        for (text, shown) in [("0", "0"), ("1", "1"), (" 0.25 ", "0.25")] {
            assert_eq!(text.parse::<Sample>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn the_share_is_what_is_drawn() {
        let mut random = Random::seeded(1);
        let mut drawn = |share: &str| {
            let sample: Sample = share.parse().unwrap();
            (0..10_000).filter(|_| sample.draw(&mut random)).count()
        };
        assert_eq!((drawn("0"), drawn("1")), (0, 10_000));
        let some = drawn("0.1");
        assert!((900..1100).contains(&some), "{some}");
    }
}
