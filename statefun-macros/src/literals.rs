//! Texts whose form the macros check at compile time: type names and durations.

/// Whether a text is `namespace/name`, by the same rule as `TypeName::parse` of the core crate.
pub(crate) fn is_typename(text: &str) -> bool {
    let slash = text.rfind('/').filter(|at| *at > 0 && at + 1 < text.len());
    slash.is_some() && !text.contains(char::is_whitespace)
}

/// The units of durations, and their milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurationProblem {
    /// It is not a number followed by a unit.
    Form,
    /// The number has no unit behind it.
    NoUnit,
    /// The unit is none of ours.
    Unit,
    /// It is longer than 64 bits of milliseconds.
    TooLong,
}

/// The milliseconds of a duration such as `100ms`, `30 s` or `7d`.
pub(crate) fn parse_duration_ms(text: &str) -> Result<u64, DurationProblem> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationProblem::Form);
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(DurationProblem::NoUnit);
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.starts_with(char::is_alphabetic) {
            DurationProblem::Unit
        } else {
            DurationProblem::Form
        });
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or(DurationProblem::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_follow_the_rule_of_the_core() {
        for right in ["a/b", "io.statefun/a/b", "a//b", "/a/b"] {
            assert!(is_typename(right), "{right:?}");
        }
        for wrong in ["", "a", "/", "/a", "a/", "a b/c", "a/b\n"] {
            assert!(!is_typename(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, ms) in [
            ("0ms", 0),
            ("100ms", 100),
            ("2s", 2_000),
            (" 10 m ", 600_000),
            ("10min", 600_000),
            ("3h", 10_800_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text:?}");
        }
        for (text, problem) in [
            ("", DurationProblem::Form),
            ("d", DurationProblem::Form),
            ("-1s", DurationProblem::Form),
            ("1.5h", DurationProblem::Form),
            ("10", DurationProblem::NoUnit),
            ("10 days", DurationProblem::Unit),
            ("1h30m", DurationProblem::Unit),
            ("10S", DurationProblem::Unit),
            ("18446744073709551615s", DurationProblem::TooLong),
            ("99999999999999999999ms", DurationProblem::TooLong),
        ] {
            assert_eq!(parse_duration_ms(text), Err(problem), "{text:?}");
        }
    }
}
