//! Whether a file of events tells of each ride what can happen to one: every step once, in order.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::messages::{RideEvent, RideStep};

/// What a file of events amounts to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rides that were asked for.
    pub requested: u64,
    /// Of these, those that ended well.
    pub ended: u64,
    /// And those that came to nothing.
    pub failed: u64,
    /// What those that ended cost together, in cents.
    pub revenue_cents: u64,
}

impl Summary {
    /// Rides that are neither ended nor failed.
    pub fn under_way(&self) -> u64 {
        self.requested - self.ended - self.failed
    }
}

/// A line that does not fit what stands before it: something was lost, doubled, or reordered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct AuditError {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// Reads all lines, and sums up the rides of passengers whose names begin so.
pub fn audit(text: &str, passengers: &str) -> Result<Summary, AuditError> {
    let mut summary = Summary::default();
    let mut last: BTreeMap<String, (u32, RideStep)> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |problem: String| AuditError {
            line: index + 1,
            problem,
        };
        let event: RideEvent =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let before = last.get(&event.ride).copied();
        let follows = matches!(
            (before.map(|(_, step)| step), event.event),
            (None, RideStep::Requested)
                | (Some(RideStep::Requested), RideStep::Matched)
                | (Some(RideStep::Matched), RideStep::Started)
                | (Some(RideStep::Started), RideStep::Ended)
                | (
                    Some(RideStep::Requested | RideStep::Matched | RideStep::Started),
                    RideStep::Failed
                )
        );
        if !follows || event.number != before.map_or(0, |(number, _)| number) + 1 {
            return Err(wrong(format!(
                "ride {}: {:?} as event {} behind {before:?}",
                event.ride, event.event, event.number
            )));
        }
        let before = (event.number, event.event);
        if !event.passenger.starts_with(passengers) {
            last.insert(event.ride, before);
            continue;
        }
        match event.event {
            RideStep::Requested => summary.requested += 1,
            RideStep::Failed => summary.failed += 1,
            RideStep::Ended => {
                summary.ended += 1;
                summary.revenue_cents += event.price_cents.unwrap_or_default();
            }
            RideStep::Matched | RideStep::Started => {}
        }
        last.insert(event.ride, before);
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(steps: &[(&str, u32, &str)]) -> String {
        let line = |(ride, number, event): &(&str, u32, &str)| {
            format!(
                r#"{{"ride":"{ride}","number":{number},"event":"{event}","passenger":"p","price_cents":10,"at_ms":0}}"#
            )
        };
        steps.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn rides_may_be_mixed() {
        let text = lines(&[
            ("a", 1, "requested"),
            ("b", 1, "requested"),
            ("a", 2, "matched"),
            ("b", 2, "failed"),
            ("a", 3, "started"),
            ("c", 1, "requested"),
            ("a", 4, "ended"),
        ]);
        let summary = audit(&text, "").unwrap();
        assert_eq!(
            summary,
            Summary {
                requested: 3,
                ended: 1,
                failed: 1,
                revenue_cents: 10
            }
        );
        assert_eq!(summary.under_way(), 1);
        assert_eq!(audit(&text, "q").unwrap(), Summary::default());
        assert_eq!(audit("", "").unwrap(), Summary::default());
    }

    #[test]
    fn what_is_lost_doubled_or_reordered_is_found() {
        let well = [
            ("a", 1, "requested"),
            ("a", 2, "matched"),
            ("a", 3, "started"),
            ("a", 4, "ended"),
        ];
        for lost in 0..3 {
            let mut steps = well.to_vec();
            steps.remove(lost);
            assert!(audit(&lines(&steps), "").is_err(), "without {lost}");
        }
        for index in 0..4 {
            let mut steps = well.to_vec();
            steps.insert(index, well[index]);
            assert_eq!(
                audit(&lines(&steps), "").unwrap_err().line,
                index + 2,
                "twice {index}"
            );
        }
        let mut steps = well.to_vec();
        steps.swap(1, 2);
        assert_eq!(audit(&lines(&steps), "").unwrap_err().line, 2);
        assert!(audit("{}", "").is_err());
    }
}
