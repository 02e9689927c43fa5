//! An ingress of the application's own: a metronome.

use std::time::Duration;

use bytes::Bytes;
use statefun::clock::Stopwatch;
use statefun::io::ingress::{
    Ingress, IngressContext, IngressError, Partition, Record, Source, SourceStatus,
};

use crate::messages::Tick;

/// Ticks at a fixed period, numbered from 1 on.
///
/// The position of a tick is its number. It is part of the same cut as what the tick changes: after a restart, also after
/// a crash, the number behind the last tick that took effect comes next. No tick is made up for the time in between.
#[derive(Debug)]
pub struct Metronome {
    period: Duration,
}

/// The name of its one partition.
const PARTITION: &str = "ticks";

impl Metronome {
    /// A metronome of that period.
    pub fn new(period: Duration) -> Self {
        Self { period }
    }
}

impl Ingress for Metronome {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let last = match context.positions.get(PARTITION) {
            None => 0,
            Some(position) => position
                .first_chunk()
                .map(|number| u64::from_be_bytes(*number))
                .ok_or_else(|| context.error("the position of the last tick is no number"))?,
        };
        Ok(vec![Partition {
            name: Some(PARTITION.to_owned()),
            worker: context.owner(PARTITION),
            source: Box::new(Ticks {
                period: self.period,
                last,
                since_last: Stopwatch::start(),
            }),
        }])
    }
}

/// The ticks to come.
#[derive(Debug)]
struct Ticks {
    period: Duration,
    last: u64,
    since_last: Stopwatch,
}

impl Source for Ticks {
    fn poll(
        &mut self,
        limit: usize,
        batch: &mut Vec<Record>,
    ) -> Result<SourceStatus, IngressError> {
        if let Some(rest) = self
            .period
            .checked_sub(self.since_last.elapsed())
            .filter(|rest| !rest.is_zero())
        {
            return Ok(SourceStatus::After(rest));
        }
        if limit == 0 {
            return Ok(SourceStatus::Ready);
        }
        self.last += 1;
        self.since_last = Stopwatch::start();
        let position = Bytes::copy_from_slice(&self.last.to_be_bytes());
        batch.push(Record::new(Tick { number: self.last }).with_position(position));
        Ok(SourceStatus::After(self.period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_numbered_and_carry_their_position() {
        let mut ticks = Ticks {
            period: Duration::ZERO,
            last: 6,
            since_last: Stopwatch::start(),
        };
        let mut batch = Vec::new();
        ticks.poll(0, &mut batch).unwrap();
        assert!(batch.is_empty());
        ticks.poll(10, &mut batch).unwrap();
        ticks.poll(10, &mut batch).unwrap();
        let positions: Vec<_> = batch
            .iter()
            .filter_map(|record| record.position.as_deref())
            .collect();
        assert_eq!(positions, [7u64.to_be_bytes(), 8u64.to_be_bytes()]);
    }

    #[test]
    fn between_ticks_there_is_nothing() {
        let period = Duration::from_hours(1);
        let mut ticks = Ticks {
            period,
            last: 0,
            since_last: Stopwatch::start(),
        };
        let mut batch = Vec::new();
        let status = ticks.poll(10, &mut batch).unwrap();
        assert!(
            matches!(status, SourceStatus::After(rest) if rest <= period),
            "{status:?}"
        );
        assert!(batch.is_empty());
    }
}
