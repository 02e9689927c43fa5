//! Numbers as people read them: in the largest unit that fits, with as many digits as tell something.

use std::time::Duration;

/// A number of things, or of things a second, in at most five columns.
pub(crate) fn amount(number: f64) -> String {
    const UNITS: [&str; 5] = ["k", "M", "G", "T", "P"];
    if !number.is_finite() {
        return "–".to_owned();
    }
    if number <= 0.0 {
        return "0".to_owned();
    }
    if number < 0.05 {
        return "<0.1".to_owned();
    }
    if number < 9.95 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let mut number = number;
    let mut unit = "";
    for larger in UNITS {
        if number < 999.5 {
            break;
        }
        number /= 1000.0;
        unit = larger;
    }
    let digits = if unit.is_empty() { 0 } else { decimals(number) };
    format!("{number:.digits$}{unit}")
}

/// A time that something took, in at most six columns while it is below a day.
pub(crate) fn time(seconds: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1e9), ("µs", 1e6), ("ms", 1e3), ("s", 1.0)];
    if !seconds.is_finite() {
        return "–".to_owned();
    }
    if seconds < 0.5e-9 {
        return "0 s".to_owned();
    }
    if seconds >= 59.95 {
        return age(Duration::from_secs_f64(seconds.min(1e15)));
    }
    let fitting = UNITS.iter().find(|(_, scale)| seconds * scale < 999.5);
    let (unit, scale) = fitting.copied().unwrap_or(("s", 1.0));
    let number = seconds * scale;
    // A terminal's table has no room for three digits and a point.
    let digits = usize::from(number < 9.95 && unit != "ns");
    format!("{number:.digits$} {unit}")
}

/// How long ago something was, or for how long it has been so.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{number} {unit}")
}

/// A part of a whole.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        "–".to_owned()
    } else if percent <= 0.0 {
        "0 %".to_owned()
    } else if percent < 0.05 {
        "<0.1 %".to_owned()
    } else if percent < 9.95 {
        format!("{percent:.1} %")
    } else if share < 1.0 && percent > 99.0 {
        // 99.97 % is not all.
        format!("{:.1} %", percent.min(99.9))
    } else {
        format!("{percent:.0} %")
    }
}

/// Digits behind the point that make three in all.
fn decimals(number: f64) -> usize {
    if number < 9.995 {
        2
    } else {
        usize::from(number < 99.95)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts() {
        for (number, expected) in [
            (0.0, "0"),
            (-1.0, "0"),
            (0.01, "<0.1"),
            (0.05, "0.1"),
            (1.0, "1"),
            (1.24, "1.2"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1_234.0, "1.23k"),
            (99_949.0, "99.9k"),
            (99_951.0, "100k"),
            (2_345_678.0, "2.35M"),
            (7e9, "7.00G"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(amount(number), expected, "{number}");
        }
    }

    #[test]
    fn times() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.000_000_087, "87 ns"),
            (0.000_001_23, "1.2 µs"),
            (0.000_999_4, "999 µs"),
            (0.000_999_6, "1.0 ms"),
            (0.0123, "12 ms"),
            (1.26, "1.3 s"),
            (59.0, "59 s"),
            (60.0, "1 min"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(time(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn ages_are_in_the_largest_unit() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (86_400, "1 d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn parts_of_a_whole() {
        for (share, expected) in [
            (0.0, "0 %"),
            (0.0001, "<0.1 %"),
            (0.031, "3.1 %"),
            (0.5, "50 %"),
            (0.99, "99 %"),
            (0.9997, "99.9 %"),
            (1.0, "100 %"),
            (1.43, "143 %"),
        ] {
            assert_eq!(percent(share), expected, "{share}");
        }
    }

    proptest! {
        #[test]
        fn they_fit_into_their_columns(mantissa in 1.0f64..10.0, amounts in -12i32..18, times in -12i32..5) {
            let written = amount(mantissa * 10f64.powi(amounts));
            prop_assert!(written.chars().count() <= 5, "{}", written);
            let written = time(mantissa * 10f64.powi(times).min(8_000.0));
            prop_assert!(written.chars().count() <= 6, "{}", written);
        }
    }
}
