//! Durations and sizes as StateFun users write them: everything that Apache Flink's readers accept.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// Units of duration with all their labels, as in Flink's configuration. Labels are matched without regard to case.
const DURATION_UNITS: &[(&[&str], u64)] = &[
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
    (
        // Three ways to type the micro sign: the sign, the Greek letter, and `u`.
        &[
            "µs",
            "μs",
            "us",
            "micro",
            "micros",
            "microsecond",
            "microseconds",
        ],
        1_000,
    ),
    (
        &["ms", "milli", "millis", "millisecond", "milliseconds"],
        1_000_000,
    ),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["min", "m", "minute", "minutes"], 60_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
];

/// Units of size with all their labels: Flink's, and the binary prefixes in full.
const SIZE_UNITS: &[(&[&str], u64)] = &[
    (&["b", "byte", "bytes"], 1),
    (&["k", "kb", "kib", "kibibyte", "kibibytes"], 1 << 10),
    (&["m", "mb", "mib", "mebibyte", "mebibytes"], 1 << 20),
    (&["g", "gb", "gib", "gibibyte", "gibibytes"], 1 << 30),
    (&["t", "tb", "tib", "tebibyte", "tebibytes"], 1 << 40),
];

/// Why a duration or a size cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not begin with a digit.
    #[error("it does not begin with a whole number")]
    NoNumber,
    /// There is a number without a unit.
    #[error("it has no unit")]
    NoUnit {
        /// The number.
        number: u64,
    },
    /// The unit is not one of those known.
    #[error("its unit is not known")]
    UnknownUnit {
        /// The nearest unit, if one is near.
        nearest: Option<&'static str>,
    },
    /// The number has a fraction.
    #[error("it is not a whole number")]
    Fraction,
    /// It is larger than the type can hold.
    #[error("it is too large")]
    TooLarge,
}

/// Reads a duration such as `30s`, `1 min`, `15minutes` or `100 ms`.
///
/// Whole numbers only, as in Flink. A number without a unit is an error here; Flink takes it for milliseconds, and who
/// needs that reads the number out of [`UnitError::NoUnit`].
///
/// # Errors
/// Says which part of the text is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Err(UnitError::NoUnit { number });
    }
    let nanos = u128::from(number) * u128::from(find(&unit, DURATION_UNITS)?);
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| UnitError::TooLarge)?;
    // Flink's own limit is that of a signed 64-bit number of milliseconds in most places; a thousand years are enough.
    if seconds > 1_000 * 366 * 86_400 {
        return Err(UnitError::TooLarge);
    }
    Ok(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// Reads a size such as `64mb`, `1 GiB` or `4096`: a number without a unit is a number of bytes, as in Flink.
/// `k`, `kb` and `kib` are all 1,024 bytes, and so on.
///
/// # Errors
/// Says which part of the text is wrong.
pub fn parse_size(text: &str) -> Result<ByteSize, UnitError> {
    let (number, unit) = split(text)?;
    let factor = if unit.is_empty() {
        1
    } else {
        find(&unit, SIZE_UNITS)?
    };
    number
        .checked_mul(factor)
        .filter(|&bytes| i64::try_from(bytes).is_ok())
        .map(ByteSize)
        .ok_or(UnitError::TooLarge)
}

fn split(text: &str) -> Result<(u64, String), UnitError> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber);
    }
    if unit.starts_with(['.', ',']) {
        return Err(UnitError::Fraction);
    }
    let number = number.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, unit.trim().to_lowercase()))
}

fn find(unit: &str, units: &'static [(&'static [&'static str], u64)]) -> Result<u64, UnitError> {
    for (labels, factor) in units {
        if labels.contains(&unit) {
            return Ok(*factor);
        }
    }
    Err(UnitError::UnknownUnit {
        nearest: super::suggest::nearest(
            unit,
            units.iter().flat_map(|(labels, _)| labels.iter().copied()),
        ),
    })
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{name}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_flink_reads_them() {
        for (text, nanos) in [
            ("30s", 30_000_000_000_u128),
            (" 1 min ", 60_000_000_000),
            ("15minutes", 900_000_000_000),
            ("100 ms", 100_000_000),
            ("2M", 120_000_000_000),
            ("1DAY", 86_400_000_000_000),
            ("3 h", 10_800_000_000_000),
            ("7µs", 7_000),
            ("7 us", 7_000),
            ("9nanos", 9),
            ("10second", 10_000_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_nanos(), nanos, "{text}");
        }
    }

    #[test]
    fn durations_that_are_none() {
        assert_eq!(parse_duration("30"), Err(UnitError::NoUnit { number: 30 }));
        assert_eq!(parse_duration(""), Err(UnitError::NoNumber));
        assert_eq!(parse_duration("-1s"), Err(UnitError::NoNumber));
        assert_eq!(parse_duration("s"), Err(UnitError::NoNumber));
        assert_eq!(parse_duration("1.5s"), Err(UnitError::Fraction));
        assert_eq!(
            parse_duration("1 light-year"),
            Err(UnitError::UnknownUnit { nearest: None })
        );
        assert_eq!(
            parse_duration("5 secnds"),
            Err(UnitError::UnknownUnit {
                nearest: Some("seconds")
            })
        );
        assert_eq!(
            parse_duration("99999999999999999999s"),
            Err(UnitError::TooLarge)
        );
        assert_eq!(
            parse_duration("18446744073709551615 days"),
            Err(UnitError::TooLarge)
        );
    }

    #[test]
    fn sizes_as_flink_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12b", 12),
            ("12 bytes", 12),
            ("1k", 1024),
            ("1kb", 1024),
            ("1KiB", 1024),
            ("3 mebibytes", 3 << 20),
            ("1MiB", 1 << 20),
            ("2g", 2 << 30),
            ("1tb", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!(
            parse_size("9223372036854775807").map(ByteSize::bytes),
            Ok(i64::MAX as u64)
        );
        assert_eq!(parse_size("9223372036854775808"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("8388608tb"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("mb"), Err(UnitError::NoNumber));
    }

    proptest! {
        #[test]
        fn every_label_reads_back(number in 0_u64..100_000, unit in 0..DURATION_UNITS.len(), blanks in " {0,3}", upper: bool) {
            let (labels, factor) = DURATION_UNITS[unit];
            for label in labels {
                let label = if upper { label.to_uppercase() } else { (*label).to_owned() };
                let read = parse_duration(&format!("{blanks}{number}{blanks}{label}{blanks}"));
                prop_assert_eq!(read.map(|d| d.as_nanos()), Ok(u128::from(number) * u128::from(factor)));
            }
        }

        #[test]
        fn a_printed_size_reads_back(bytes in 0..=i64::MAX as u64, shift in 0_u32..50) {
            let size = ByteSize((bytes >> shift) << shift.min(40));
            if i64::try_from(size.0).is_ok() {
                prop_assert_eq!(parse_size(&size.to_string()), Ok(size));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }

        #[test]
        fn what_begins_well_and_ends_badly_is_refused(number: u64, unit in "[a-zµ]{1,12}") {
            let known = |units: &[(&[&str], u64)]| units.iter().any(|(labels, _)| labels.contains(&unit.as_str()));
            let text = format!("{number}{unit}");
            if !known(DURATION_UNITS) {
                let refused = matches!(parse_duration(&text), Err(UnitError::UnknownUnit { .. }));
                prop_assert!(refused);
            }
            if !known(SIZE_UNITS) {
                let refused = matches!(parse_size(&text), Err(UnitError::UnknownUnit { .. }));
                prop_assert!(refused);
            }
        }
    }
}
