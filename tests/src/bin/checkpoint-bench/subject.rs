//! What all parts need: an application with checkpoints and a state, and figures of many measurements.

use std::path::{Path, PathBuf};
use std::time::Duration;

use statefun_core::checkpoint::Checkpoints;
use statefun_core::checkpoint::bucket::{Bucket, BucketOptions};
use statefun_core::checkpoint::location::Location;
use statefun_core::checkpoint::manifest::{Delta, Descriptor, Entry};
use statefun_core::checkpoint::operate;
use statefun_core::clock::Stopwatch;
use statefun_core::settings::Durability;
use statefun_tests::bench::{Aim, persons_among};
use statefun_tests::yardstick::{Failure, Report, Running, fresh, start};
use tokio::runtime::Runtime;

use crate::options::Options;

/// How many checkpoints are kept, as by default.
const RETAIN: usize = 3;
/// An interval in which none is made but those that are asked for.
pub(crate) const NEVER: Duration = Duration::from_hours(24);

/// The benchmark.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) options: Options,
    pub(crate) report: Report,
    /// The checkpoints that `cost` has left, and how many addresses they have.
    pub(crate) left: Option<PathBuf>,
}

impl Bench {
    /// A directory below that of the benchmark, which is removed if it is there.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf, Failure> {
        let directory = self.options.directory.join(name);
        fresh(&directory)?;
        Ok(directory)
    }

    /// A directory for checkpoints, empty.
    pub(crate) fn fresh_bucket(&self) -> Result<Bucket, Failure> {
        open(&self.fresh("checkpoints")?)
    }

    /// Starts the application on an empty data directory.
    pub(crate) fn start(&self, checkpoints: Option<Checkpoints>) -> Result<Running, Failure> {
        start(&self.fresh("data")?, 2, checkpoints, &self.runtime)
    }

    /// Starts the application with checkpoints on demand, and a state of so many addresses of which there is one.
    pub(crate) fn filled(&self, bucket: &Bucket, addresses: u64) -> Result<Running, Failure> {
        let running = self.start(Some(into(bucket, NEVER, Durability::Local)))?;
        running.load.set_aim(Aim {
            persons: persons_among(addresses),
            in_turn: true,
            varied: true,
        });
        running.load.send(persons_among(addresses));
        Ok(running)
    }

    /// Makes a checkpoint, and looks at it.
    pub(crate) fn checkpoint(&self, running: &Running, bucket: &Bucket) -> Result<Made, Failure> {
        let watch = Stopwatch::start();
        let making = running.engine.handle().make_checkpoint(None);
        let made = self.runtime.block_on(making);
        let entry = made.ok_or("no checkpoints are made")??;
        let took = watch.elapsed();
        let describing = operate::describe(bucket, &entry.id);
        let (_, descriptor) = self.runtime.block_on(describing)?;
        Ok(Made {
            entry,
            descriptor,
            took,
        })
    }
}

/// A checkpoint.
pub(crate) struct Made {
    pub(crate) entry: Entry,
    pub(crate) descriptor: Descriptor,
    pub(crate) took: Duration,
}

impl Made {
    /// What has changed since the checkpoint before, if it is told apart from what changed earlier.
    pub(crate) fn delta(&self, before: u64) -> Option<&Delta> {
        let last = self.descriptor.deltas.last();
        last.filter(|delta| delta.after_epoch == before)
    }
}

/// Rows of a delta, and their bytes before compression.
pub(crate) fn rows_of(delta: &Delta) -> (u64, u64) {
    let summaries = delta.parts.iter().map(|part| &part.summary);
    summaries.fold((0, 0), |(rows, raw), summary| {
        (rows + summary.rows, raw + summary.raw_bytes)
    })
}

/// Opens a directory for checkpoints.
pub(crate) fn open(directory: &Path) -> Result<Bucket, Failure> {
    std::fs::create_dir_all(directory)?;
    let path = directory.canonicalize()?;
    let location = Location::parse(&format!("file://{}", path.display()))?;
    Ok(Bucket::open(&location, &BucketOptions::default())?)
}

/// Checkpoints that go into a bucket.
pub(crate) fn into(bucket: &Bucket, interval: Duration, durability: Durability) -> Checkpoints {
    Checkpoints {
        bucket: bucket.clone(),
        interval,
        retain: RETAIN,
        durability,
    }
}

pub(crate) fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
