//! Restore: a checkpoint becomes a data directory, which goes on as a history of its own.
//!
//! The rows come as one sorted stream and go into a new state store as one ingestion: memory stays bounded, and there is nothing
//! to merge afterwards. The catalog comes last: a directory without one is not a data directory yet, and a file named
//! [`UNFINISHED`] says why.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::catalog::{Catalog, DataDirectory};
use crate::checkpoint::bucket::Bucket;
use crate::checkpoint::chain::{self, Found, Kind, Link};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::local::{Local, Origin};
use crate::checkpoint::manifest::{Descriptor, Entry, Writer};
use crate::checkpoint::read::{self, Remote};
use crate::checkpoint::run::{Rows, RunError};
use crate::checkpoint::tail::FirstRecords;
use crate::checkpoint::uploads::Waiting;
use crate::clock::{Stopwatch, Timestamp, WallClock};
use crate::disk::OpenMode;
use crate::engine::cut::{EpochBody, SinkPosition};
use crate::log::{EpochLog, OpenOptions};
use crate::rand::Random;
use crate::state::fjall::FjallStore;

/// The file that tells that a restore has begun and not ended.
pub const UNFINISHED: &str = "restoring";
/// What the store may use for the blocks of its tables meanwhile, in bytes.
const STORE_CACHE_BYTES: u64 = 16 << 20;
/// Objects with epochs that are read at a time.
const OBJECTS_AHEAD: usize = 16;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Rows between two looks at the clock.
const LOOK_EVERY: u64 = 4096;

/// What is restored, and where.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Where the checkpoints are.
    pub bucket: &'a Bucket,
    /// The data directory to be.
    pub directory: &'a DataDirectory,
    /// An id, a name, or `latest`.
    pub wanted: &'a str,
    /// Whether what is in the directory may be replaced.
    pub replace: bool,
    /// Whether the directory goes on in place of the process that writes there now, which is made to stop. Without, it is a copy, which
    /// needs a place of its own for its checkpoints.
    pub take_over: bool,
    /// What waits for the blob store.
    pub runtime: &'a Handle,
    /// Turns true when it is to be given up.
    pub stopping: watch::Receiver<bool>,
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows so far.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Since it began.
    pub elapsed: Duration,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let megabytes = self.bytes as f64 / 1e6;
        write!(
            f,
            "{} rows, {megabytes:.1} MB in {seconds:.1} s ({:.1} MB/s)",
            self.rows,
            megabytes / seconds.max(1e-3)
        )
    }
}

impl std::fmt::Display for Restored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            checkpoint,
            replayed_epochs,
            progress,
            ..
        } = self;
        write!(f, "restored checkpoint {}", checkpoint.id)?;
        if let Some(name) = &checkpoint.name {
            write!(f, " `{name}`")?;
        }
        if *replayed_epochs > 0 {
            write!(f, " and {replayed_epochs} epochs behind it")?;
        }
        write!(f, ": {progress}")
    }
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The checkpoint.
    pub checkpoint: Entry,
    /// Complete epochs behind it, which were restored as well (`durability: blob`).
    pub replayed_epochs: u64,
    /// The history that the directory begins.
    pub lineage: u64,
    /// The last epoch of the directory, from which the next start goes on.
    pub epoch: u64,
    /// How much it was.
    pub progress: Progress,
}

impl Restore<'_> {
    /// Restores. `tell` hears how far it is.
    ///
    /// # Errors
    /// When there is no such checkpoint, one of its objects is missing or damaged, or the directory holds state that may not be replaced.
    /// After an error the directory is not a data directory: the same can be tried again.
    pub fn run(&self, mut tell: impl FnMut(Progress)) -> Result<Restored, CheckpointError> {
        let watch = Stopwatch::start();
        let root = &self.directory.root;
        let disk = &self.directory.disk;
        let io = |operation| in_file(operation, root);
        disk.create_dir_all(root).map_err(io("create"))?;
        let _lock = disk.lock(&self.directory.lock()).map_err(io("lock"))?;
        let unfinished = root.join(UNFINISHED);
        if !self.replace && holds_state(self.directory)? {
            return Err(CheckpointError::Occupied {
                directory: root.clone(),
                mend: "say `--replace` to delete what is there",
            });
        }
        let waiting = Waiting {
            runtime: self.runtime.clone(),
            stopping: self.stopping.clone(),
        };
        let lineage = Random::from_system().next_u64();
        let Chosen {
            entry,
            descriptor,
            epochs,
        } = self.choose(&waiting, lineage)?;
        let file = disk
            .open(&unfinished, OpenMode::Create)
            .map_err(io("write into"))?;
        file.sync_all().map_err(io("write into"))?;
        disk.sync_dir(root).map_err(io("write into"))?;
        clear(self.directory)?;

        let source = Remote::source(self.bucket, self.runtime);
        let mut rows = Told {
            rows: read::rows(&source, &descriptor, (&[], &[]))?,
            progress: Progress {
                rows: 0,
                bytes: 0,
                elapsed: Duration::ZERO,
            },
            watch,
            told: Stopwatch::start(),
            tell: &mut tell,
            stopping: &self.stopping,
        };
        let store = FjallStore::open(&self.directory.state(), STORE_CACHE_BYTES)?;
        store.ingest(descriptor.epoch, |put| {
            while let Some(row) = rows.next_row()? {
                put(row)?;
            }
            Ok::<_, CheckpointError>(())
        })?;
        let progress = rows.end();
        drop(store);
        let (epoch, accepted) = self.write_log(&waiting, &descriptor, &epochs, lineage)?;
        let origin = Origin {
            url: self.bucket.url().to_owned(),
            checkpoint: entry.id.clone(),
            object: entry.object.clone(),
            lineage: descriptor.lineage,
            epoch: descriptor.epoch,
            accepted,
            copy: !self.take_over,
        };
        Local::restored(origin).write(&**disk, root)?;
        let origin_epoch = descriptor.epoch;
        let mut catalog = descriptor.catalog;
        catalog.lineage = lineage;
        catalog.write(&**disk, root)?;
        disk.remove(&unfinished).map_err(io("write into"))?;
        disk.sync_dir(root).map_err(io("write into"))?;
        tell(progress);
        Ok(Restored {
            checkpoint: entry,
            replayed_epochs: epochs.last().map_or(0, |last| last.epoch - origin_epoch),
            epoch,
            lineage,
            progress,
        })
    }

    /// Finds the checkpoint, and the epochs behind it; from then on, when the manifest was taken over, nobody removes any of it,
    /// nor completes another epoch.
    fn choose(&self, waiting: &Waiting, lineage: u64) -> Result<Chosen, CheckpointError> {
        let unknown = || CheckpointError::Unknown {
            url: self.bucket.url().to_owned(),
            wanted: self.wanted.to_owned(),
            known: Vec::new(),
        };
        let ledger = waiting.on(Ledger::read(self.bucket))?.ok_or_else(unknown)?;
        // Before anybody is made to stop.
        ledger.find(self.wanted)?;
        let before = ledger.manifest().writer.lineage;
        let writer = Writer::new(lineage, 0, WallClock::default().now());
        let ledger = if self.take_over {
            let taken = waiting.on(Ledger::take_over(self.bucket, &writer, async |_| Ok(())))?;
            self.chain_of(waiting, before, Some(&writer))?;
            taken
        } else {
            ledger
        };
        let entry = ledger.find(self.wanted)?.clone();
        let descriptor = waiting.on(ledger.descriptor(&entry))?;
        let is_latest = ledger
            .manifest()
            .latest()
            .is_some_and(|latest| latest.object == entry.object);
        let mut epochs = Vec::new();
        if is_latest {
            let seal = self.take_over.then_some(&writer);
            let chain = self.chain_of(waiting, entry.lineage, seal)?;
            epochs.extend(
                chain
                    .epochs
                    .into_iter()
                    .filter(|link| link.epoch > descriptor.epoch),
            );
        }
        let mut last = descriptor.epoch;
        for link in &epochs {
            if link.after_epoch > last {
                return Err(CheckpointError::Damaged {
                    object: chain::name(link.lineage, link.sequence),
                    problem: format!(
                        "it begins behind epoch {}, and the epochs from {} on are missing",
                        link.after_epoch,
                        last + 1
                    ),
                });
            }
            last = link.epoch;
        }
        Ok(Chosen {
            entry,
            descriptor,
            epochs,
        })
    }

    /// The chain of a history's epochs; sealed, when there is one and somebody is to seal it.
    fn chain_of(
        &self,
        waiting: &Waiting,
        lineage: u64,
        seal: Option<&Writer>,
    ) -> Result<Found, CheckpointError> {
        loop {
            let found = waiting.on(Found::read(self.bucket, lineage))?;
            let (Some(last), Some(by)) = (found.last, seal) else {
                return Ok(found);
            };
            let seal = Link {
                kind: Kind::Seal,
                lineage,
                sequence: found.next(),
                attempt: last.attempt,
                token: by.token,
                after_epoch: last.epoch,
                epoch: last.epoch,
            };
            if last.kind == Kind::Seal || waiting.on(chain::create(self.bucket, &seal, &[]))? {
                return Ok(found);
            }
        }
    }

    /// The log of the new history: it begins with what of the checkpoint is not in rows, and with the epochs behind it. Returns
    /// the last epoch, and how far each egress has accepted.
    fn write_log(
        &self,
        waiting: &Waiting,
        descriptor: &Descriptor,
        epochs: &[Link],
        lineage: u64,
    ) -> Result<(u64, BTreeMap<String, u64>), CheckpointError> {
        let mut options = OpenOptions::new(lineage);
        options.base_epoch = descriptor.epoch;
        options.applied_epoch = descriptor.epoch;
        let mut see = |_: crate::log::RecordView<'_>| Ok::<(), std::convert::Infallible>(());
        let mut log = EpochLog::open(
            self.directory.disk.clone(),
            self.directory.log(),
            &options,
            &mut see,
        )?
        .log;
        let sinks = descriptor.tail.sinks.iter().map(|sink| SinkPosition {
            egress: sink.egress.clone(),
            through_epoch: sink.through_epoch,
            position: sink.position.clone().into(),
        });
        let mut sinks: Vec<SinkPosition> = sinks.collect();
        if let Some(last) = epochs.last() {
            let name = chain::name(last.lineage, last.sequence);
            let (name, records) = records_of(last, waiting.on(self.bucket.get(&name))?)?;
            let last = chain::records(&records).last().flatten();
            sinks = last
                .and_then(EpochBody::parse)
                .ok_or_else(|| malformed(&name))?
                .sinks;
        }
        let mut first = FirstRecords {
            log: &mut log,
            time: Timestamp(descriptor.time_ms),
            sinks,
            checkpoint_epoch: descriptor.epoch,
            accepted: BTreeMap::new(),
        };
        for egress in &descriptor.tail.egress {
            let object = read::tail_object(self.bucket, descriptor, &egress.object);
            let bytes = waiting.on(object)?;
            first.output(&egress.object.object, &bytes)?;
        }
        if epochs.is_empty() {
            first.carried(waiting.on(read::carried(self.bucket, descriptor))?)?;
        }
        let shift = first.log.last_epoch() - descriptor.epoch;
        let mut ahead = VecDeque::new();
        let mut rest = epochs.iter();
        loop {
            while ahead.len() < OBJECTS_AHEAD
                && let Some(link) = rest.next()
            {
                let (bucket, name) = (
                    self.bucket.clone(),
                    chain::name(link.lineage, link.sequence),
                );
                let read = self.runtime.spawn(async move { bucket.get(&name).await });
                ahead.push_back((link, read));
            }
            let Some((link, read)) = ahead.pop_front() else {
                break;
            };
            let read = async {
                read.await
                    .map_err(|error| CheckpointError::Upload(error.to_string()))
            };
            let (name, records) = records_of(link, waiting.on(read)??)?;
            for (epoch, record) in (link.after_epoch + 1..).zip(chain::records(&records)) {
                let record = record.ok_or_else(|| malformed(&name))?;
                if epoch > descriptor.epoch {
                    first.replay(&name, record, shift)?;
                }
            }
        }
        Ok((first.log.last_epoch(), first.accepted))
    }
}

/// The records of an object of the chain as it was read, and its name.
fn records_of(link: &Link, read: Option<Bytes>) -> Result<(String, Vec<u8>), CheckpointError> {
    let name = chain::name(link.lineage, link.sequence);
    let bytes = read.ok_or_else(|| CheckpointError::Missing {
        object: name.clone(),
        checkpoint: "of the newest epochs".to_owned(),
    })?;
    let (_, records) = Link::decode(&name, &bytes)?;
    Ok((name, records))
}

fn malformed(object: &str) -> CheckpointError {
    CheckpointError::Damaged {
        object: object.to_owned(),
        problem: "the records of its epochs are malformed".to_owned(),
    }
}

/// What is restored.
struct Chosen {
    entry: Entry,
    descriptor: Descriptor,
    /// The objects with the epochs behind it, oldest first.
    epochs: Vec<Link>,
}

/// Whether a directory holds the data of an application: one in which a restore has begun does not, until that has ended.
pub fn holds_state(directory: &DataDirectory) -> Result<bool, CheckpointError> {
    let unfinished = directory.disk.exists(&directory.root.join(UNFINISHED));
    if unfinished.map_err(in_file("look into", &directory.root))? {
        return Ok(false);
    }
    Ok(Catalog::read(&*directory.disk, &directory.root)?.is_some())
}

/// Removes what an application has in a data directory, its catalog first: without it the rest is nothing.
fn clear(directory: &DataDirectory) -> Result<(), CheckpointError> {
    let root = &directory.root;
    for name in ["catalog.json", "checkpoints.json"] {
        let path = root.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(in_file("remove", &path)(error));
            }
            _ => directory
                .disk
                .sync_dir(root)
                .map_err(in_file("write into", root))?,
        }
    }
    for path in [directory.state(), directory.log(), directory.changes()] {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(in_file("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn in_file(
    operation: &'static str,
    path: &Path,
) -> impl Fn(std::io::Error) -> CheckpointError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| CheckpointError::Io {
        operation,
        path: path.clone(),
        source,
    }
}

/// Rows that are counted on their way.
struct Told<'a, R, F: FnMut(Progress)> {
    rows: R,
    progress: Progress,
    watch: Stopwatch,
    told: Stopwatch,
    tell: &'a mut F,
    stopping: &'a watch::Receiver<bool>,
}

impl<R: Rows, F: FnMut(Progress)> Told<'_, R, F> {
    fn end(mut self) -> Progress {
        self.progress.elapsed = self.watch.elapsed();
        self.progress
    }
}

impl<R: Rows, F: FnMut(Progress)> Rows for Told<'_, R, F> {
    fn advance(&mut self) -> Result<bool, RunError> {
        if !self.rows.advance()? {
            return Ok(false);
        }
        self.progress.rows += 1;
        self.progress.bytes +=
            (self.rows.key().len() + self.rows.value().map_or(0, <[u8]>::len)) as u64;
        if self.progress.rows.is_multiple_of(LOOK_EVERY) {
            if *self.stopping.borrow() {
                return Err(RunError::Read {
                    name: "the checkpoint".to_owned(),
                    offset: 0,
                    bytes: 0,
                    source: "the restore was given up".into(),
                });
            }
            if self.told.elapsed() >= TELL_EVERY {
                self.told = Stopwatch::start();
                self.progress.elapsed = self.watch.elapsed();
                (self.tell)(self.progress);
            }
        }
        Ok(true)
    }

    fn key(&self) -> &[u8] {
        self.rows.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.rows.value()
    }
}
