//! What is asked on the command line.

use std::path::PathBuf;

pub(crate) const HELP: &str = "\
Measures what checkpoints cost, and how quickly they are restored.

usage: checkpoint-bench [PART]... [--json] [--dir DIR] [--addresses N] [--checkpoints N]
                        [--pairs N] [--seconds N] [--interval SECONDS]

The parts; all of them when none is named:
  overhead  what checkpoints take of the throughput at full load: runs with and without them by turns,
            on the 1.1 million addresses of greeter-bench
  cost      what is uploaded when 1 % of the addresses change from one checkpoint to the next
  hot       what is uploaded when 1,000 persons change all the time
  restore   how quickly the state comes back, beside how quickly its objects can be read at all, and how much
            memory that takes; the state is what `cost` has left, or is made
  blob      throughput and latency of `durability: blob` beside `durability: local`: to a directory, and to a
            server that speaks S3 (versitygw, if tests/servers/install has installed it), as it is and 20 ms away

Figures:
  --addresses N     for cost and restore: how many there are (5,000,000; ten persons share a greeter)
  --checkpoints N   for cost: how many are made (60)
  --pairs N         for overhead: how many runs with, and as many without (3)
  --seconds N       for overhead and blob: how long each is measured (20 and 8)
  --interval N      for overhead: the seconds between checkpoints (5; applications have 60 unless told otherwise)

Data lies below DIR (target/checkpoint-bench), which is removed before and afterwards: some 4 GB for 5 million
addresses. The other figures of a machine are those of greeter-bench: run it on the same machine.
";

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Overhead,
    Cost,
    Hot,
    Restore,
    Blob,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::Overhead,
        Self::Cost,
        Self::Hot,
        Self::Restore,
        Self::Blob,
    ];

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "overhead" => Self::Overhead,
            "cost" => Self::Cost,
            "hot" => Self::Hot,
            "restore" => Self::Restore,
            "blob" => Self::Blob,
            _ => return None,
        })
    }
}

/// How it is measured.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) parts: Vec<Part>,
    pub(crate) json: bool,
    pub(crate) directory: PathBuf,
    pub(crate) addresses: u64,
    pub(crate) checkpoints: u64,
    pub(crate) pairs: u64,
    pub(crate) seconds: Option<u64>,
    pub(crate) interval: u64,
}

/// What is wanted.
#[derive(Debug)]
pub(crate) enum Asked {
    Measure(Options),
    Help,
    /// Asked of itself: a restore in a process of its own, whose memory is nothing else's.
    RestoreHere {
        from: PathBuf,
        to: PathBuf,
    },
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut options = Options {
        parts: Vec::new(),
        json: false,
        directory: PathBuf::from("target/checkpoint-bench"),
        addresses: 5_000_000,
        checkpoints: 60,
        pairs: 3,
        seconds: None,
        interval: 5,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} wants a value"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--json" => options.json = true,
            "--dir" => options.directory = value()?.into(),
            "--addresses" => options.addresses = count(&argument, &value()?)?,
            "--checkpoints" => options.checkpoints = count(&argument, &value()?)?,
            "--pairs" => options.pairs = count(&argument, &value()?)?,
            "--seconds" => options.seconds = Some(count(&argument, &value()?)?),
            "--interval" => options.interval = count(&argument, &value()?)?,
            "--restore-here" => {
                return Ok(Asked::RestoreHere {
                    from: value()?.into(),
                    to: value()?.into(),
                });
            }
            part => options
                .parts
                .push(Part::parse(part).ok_or_else(|| format!("there is no `{part}`"))?),
        }
    }
    if options.parts.is_empty() {
        options.parts = Part::ALL.to_vec();
    }
    Ok(Asked::Measure(options))
}

fn count(argument: &str, value: &str) -> Result<u64, String> {
    let number = value.replace(['_', ','], "").parse().ok();
    let number = number.filter(|number| *number > 0);
    number.ok_or_else(|| format!("{argument} wants a number from 1 on, not `{value}`"))
}
