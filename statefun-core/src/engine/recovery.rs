//! Recovery: what a data directory holds becomes what an engine goes on with.
//!
//! The tail of the log is settled, everything in it is applied to the state store, and the catalog is compared with the
//! application; only then does anything start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::catalog::{Catalog, CatalogError, StoredData};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::changes::ChangeLog;
use crate::checkpoint::checkpointer::CheckpointsFrom;
use crate::checkpoint::local::Local;
use crate::checkpoint::manifest::Writer;
use crate::checkpoint::restore::UNFINISHED;
use crate::checkpoint::tail::read_cut;
use crate::clock::{Stopwatch, Timestamp};
use crate::disk::DiskLock;
use crate::engine::apply::catch_up;
use crate::engine::cut::{EpochBody, EpochPart, SinkPosition, body_slices, encode_head};
use crate::engine::envelope::{Envelope, EnvelopeError};
use crate::engine::registry::Registry;
use crate::engine::start::{EngineSetup, StartError};
use crate::engine::starting::{StartListener, StartStep};
use crate::engine::stored::{each_row, orphans, undelivered};
use crate::log::{EpochLog, OpenOptions};
use crate::rand::Random;
use crate::state::fjall::FjallStore;
use crate::state::keys::{Space, parse_address_key};
use crate::state::{StateError, StateStore};

/// What recovery found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The last complete epoch.
    pub epoch: u64,
    /// How often the data directory has been started, this time included.
    pub attempt: u64,
    /// Epochs that had to be applied to the state store first.
    pub replayed_epochs: u64,
    /// Messages that were under way.
    pub carried_messages: usize,
    /// What it all took.
    pub duration: Duration,
}

/// The data of a directory, ready to go on with.
pub(crate) struct Recovered {
    pub(crate) lock: Box<dyn DiskLock>,
    pub(crate) log: EpochLog,
    pub(crate) store: Arc<FjallStore>,
    /// As it is on disk now.
    pub(crate) catalog: Catalog,
    pub(crate) lineage: u64,
    pub(crate) time: Timestamp,
    pub(crate) sinks: Vec<SinkPosition>,
    pub(crate) carried: Vec<Envelope>,
    pub(crate) summary: Recovery,
    /// Through which epoch each egress had accepted when the directory was restored from a checkpoint.
    pub(crate) restored: Option<BTreeMap<String, u64>>,
    /// What checkpoints go on from, when they are made.
    pub(crate) checkpoints: Option<CheckpointsFrom>,
}

/// Recovers a data directory. Nobody else may use it while the lock in the result lives.
pub(crate) fn recover(setup: &mut EngineSetup) -> Result<Recovered, StartError> {
    let watch = Stopwatch::start();
    let directory = &setup.directory;
    let disk = &directory.disk;
    disk.create_dir_all(&directory.root)
        .map_err(|source| CatalogError::Io {
            operation: "create",
            path: directory.root.clone(),
            source,
        })?;
    let lock = disk
        .lock(&directory.lock())
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => StartError::InUse {
                directory: directory.root.clone(),
                holder: source
                    .get_ref()
                    .map_or_else(|| "another process".to_owned(), ToString::to_string),
            },
            _ => CatalogError::Io {
                operation: "lock",
                path: directory.lock(),
                source,
            }
            .into(),
        })?;
    let unfinished = disk.exists(&directory.root.join(UNFINISHED));
    if unfinished.is_ok_and(|unfinished| unfinished) {
        return Err(StartError::Unfinished(directory.root.clone()));
    }
    let catalog = Catalog::read(&**disk, &directory.root)?;
    let lineage = catalog.as_ref().map_or_else(
        || Random::from_system().next_u64(),
        |catalog| catalog.lineage,
    );
    if let Some(catalog) = &catalog {
        setup.registry.key_groups = catalog.key_groups;
    }
    let now = Catalog::of(&setup.registry, lineage);
    if catalog.is_none() {
        // Before the log and the store, which are nothing without it.
        now.write(&**disk, &directory.root)?;
    }
    let mut last = Vec::new();
    setup.listener.tell(StartStep::Store);
    let mut store = FjallStore::open(&directory.state(), STORE_CACHE_BYTES)?;
    let changes = change_log(setup)?;
    if let Some(changes) = &changes {
        store = store.with_changes(changes.clone());
    }
    let store = Arc::new(store);
    let mut options = OpenOptions::new(lineage);
    options.fit(setup.settings.max_log_bytes);
    await_merging(&*store, &setup.listener);
    options.applied_epoch = store.applied_epoch()?;
    setup.listener.tell(StartStep::Log);
    let opened = open_log(setup, &options, &mut last)?;
    let tell = |epoch| {
        let last = opened.last_epoch;
        setup.listener.tell(StartStep::Applying { epoch, last });
    };
    let applied = catch_up(
        &*store,
        &opened.log.reader(),
        options.applied_epoch,
        setup.settings.apply_bytes,
        tell,
    )?;
    let mut sinks = if last.is_empty() {
        Vec::new()
    } else {
        let body = EpochBody::parse(&last).ok_or(StartError::Record(opened.last_epoch))?;
        body.sinks
    };
    let mut current = now.clone();
    if let Some(catalog) = &catalog {
        let dropped = &setup.drop_data;
        let undelivered = undelivered(&opened.log.reader(), &sinks, &catalog.egresses_gone(&now))?;
        let data = StoredData {
            store: &*store,
            last_record: &last,
            undelivered: &undelivered,
        };
        let next = catalog.succeed(&now, &data, &directory.root, dropped)?;
        for (egress, records) in undelivered.iter().filter(|(_, records)| **records > 0) {
            tracing::info!(
                egress,
                records,
                "undelivered records of a removed egress are dropped"
            );
            pass_over(&mut sinks, egress, opened.last_epoch);
        }
        if !dropped.is_empty() {
            drop_rows(catalog, &setup.registry, &*store, dropped, applied)?;
        }
        if next != *catalog {
            next.write(&**disk, &directory.root)?;
        }
        setup.registry.learn(&next);
        current = next;
    }
    let mut local = Local::read(&**disk, &directory.root)?;
    let restored = local.origin.as_ref().map(|origin| origin.accepted.clone());
    let checkpoints = match changes {
        Some(changes) => {
            let writer = Writer::new(lineage, opened.attempt, setup.clock.now());
            local.begin(writer.token);
            local.write(&**disk, &directory.root)?;
            Some(CheckpointsFrom {
                changes,
                catalog: current.clone(),
                local,
                writer,
                directory: directory.root.clone(),
            })
        }
        None => None,
    };
    let mut recovered = Recovered {
        checkpoints,
        restored,
        lock,
        store,
        catalog: current,
        lineage,
        time: Timestamp::default(),
        sinks,
        carried: Vec::new(),
        summary: Recovery {
            epoch: opened.last_epoch,
            attempt: opened.attempt,
            replayed_epochs: applied - options.applied_epoch.min(applied),
            carried_messages: 0,
            duration: Duration::ZERO,
        },
        log: opened.log,
    };
    if !last.is_empty() {
        let body = EpochBody::parse(&last).ok_or(StartError::Record(opened.last_epoch))?;
        recovered.time = body.time;
        for section in &body.sections {
            let mut bytes = Bytes::copy_from_slice(section.carried);
            while !bytes.is_empty() {
                match Envelope::decode(&mut bytes, &setup.registry) {
                    Ok(envelope) => recovered.carried.push(envelope),
                    // The catalog has let it pass: its data was to be dropped.
                    Err(EnvelopeError::UnknownFunction(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    recovered.summary.carried_messages = recovered.carried.len();
    recovered.summary.duration = watch.elapsed();
    Ok(recovered)
}

/// The files that tell what has changed since the last checkpoint. Where none are made nothing is noted; what was noted before would
/// pass for all of it later, and is removed.
fn change_log(setup: &EngineSetup) -> Result<Option<Arc<ChangeLog>>, CheckpointError> {
    let (disk, path) = (&setup.directory.disk, setup.directory.changes());
    let is_there = disk.exists(&path).unwrap_or(true);
    if setup.checkpoints.is_none() && !is_there {
        return Ok(None);
    }
    let changes = ChangeLog::open(disk.clone(), &path)?;
    if setup.checkpoints.is_none() {
        changes.remove(&changes.files())?;
        return Ok(None);
    }
    Ok(Some(Arc::new(changes)))
}

impl Recovered {
    /// Adds an epoch in which nothing happened: what is under way stays so. For rows that go into the store by themselves,
    /// which belong to an epoch of their own then. Returns it.
    pub(crate) fn add_epoch(&mut self, now: Timestamp) -> Result<u64, StartError> {
        let last = self.summary.epoch;
        let mut part = EpochPart::default();
        if self.log.retention().first_epoch().is_some() {
            part.carried = read_cut(&self.log.reader(), last)?.carried;
        }
        let (mut head, parts) = (Vec::new(), [part]);
        encode_head(&mut head, self.time.max(now), &self.sinks, &parts);
        self.log.append(last + 1, &body_slices(&head, &parts))?;
        self.summary.epoch = last + 1;
        Ok(last + 1)
    }
}

/// A process that is killed soon after each start would give the store more with every start than it comes to merge, until
/// reading takes all its time: so merging comes first. A store that cannot merge says so elsewhere.
fn await_merging(store: &dyn StateStore, listener: &StartListener) {
    let watch = Stopwatch::start();
    if store.is_crowded() {
        listener.tell(StartStep::Merging);
    }
    while store.is_crowded() && store.check().is_ok() && watch.elapsed() < MERGE_FOR {
        crate::clock::pause(Duration::from_millis(2));
    }
    if watch.elapsed() > MERGE_FOR / 30 {
        tracing::info!(took = ?watch.elapsed(), "the state store had much to merge");
    }
}

/// How long recovery lets the store merge, at most.
const MERGE_FOR: Duration = Duration::from_secs(30);

/// What fjall may use for the blocks of its tables, in bytes.
const STORE_CACHE_BYTES: u64 = 64 << 20;

fn open_log(
    setup: &EngineSetup,
    options: &OpenOptions,
    last: &mut Vec<u8>,
) -> Result<crate::log::Recovered, StartError> {
    let mut keep = |record: crate::log::RecordView<'_>| -> Result<(), std::convert::Infallible> {
        last.clear();
        last.extend_from_slice(record.body);
        Ok(())
    };
    Ok(EpochLog::open(
        setup.directory.disk.clone(),
        setup.directory.log(),
        options,
        &mut keep,
    )?)
}

/// Should the egress come back, what was dropped does not leave after all.
fn pass_over(sinks: &mut Vec<SinkPosition>, egress: &str, through_epoch: u64) {
    match sinks.iter_mut().find(|known| known.egress == egress) {
        Some(known) => known.through_epoch = known.through_epoch.max(through_epoch),
        None => sinks.push(SinkPosition {
            egress: egress.to_owned(),
            through_epoch,
            position: Bytes::new(),
        }),
    }
}

/// Deletes the rows of functions and states that the operator has given up.
fn drop_rows(
    catalog: &Catalog,
    registry: &Registry,
    store: &dyn StateStore,
    dropped: &[String],
    applied: u64,
) -> Result<(), StateError> {
    let mut keys = orphans(store, registry)?;
    let numbers = catalog.dropped_numbers(dropped);
    for space in Space::OWNED {
        each_row(store, space, |key, _| {
            let Some(parsed) = parse_address_key(&key) else {
                return;
            };
            let given_up = numbers.iter().any(|(function, state)| {
                parsed.function.0 == *function
                    && match state {
                        None => !matches!(space, Space::Timer | Space::DeadLetter),
                        Some(state) => {
                            space == Space::State && parsed.rest.starts_with(&state.to_be_bytes())
                        }
                    }
            });
            if given_up {
                keys.push(key);
            }
        })?;
    }
    keys.sort_unstable();
    keys.dedup();
    tracing::info!(
        rows = keys.len(),
        ?dropped,
        "data of removed functions and states is deleted"
    );
    store.apply(applied, &mut keys.iter().map(|key| (&key[..], None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, RealDisk};
    use crate::engine::registry::Parts;

    #[test]
    fn an_added_epoch_carries_on_what_the_last_one_left() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let disk = Arc::new(RealDisk);
        let open = || {
            let mut last = Vec::new();
            let mut keep = |record: crate::log::RecordView<'_>| {
                last = record.body.to_vec();
                Ok::<(), std::convert::Infallible>(())
            };
            let options = OpenOptions::new(7);
            let opened =
                EpochLog::open(disk.clone(), root.join("log"), &options, &mut keep).unwrap();
            (opened, last)
        };
        let sinks = vec![SinkPosition {
            egress: "a/b".to_owned(),
            through_epoch: 1,
            position: Bytes::from_static(b"here"),
        }];
        let recovered = |opened: crate::log::Recovered, time: u64| Recovered {
            lock: disk.lock(&root.join("lock")).unwrap(),
            store: Arc::new(FjallStore::open(&root.join("state"), 1 << 20).unwrap()),
            catalog: Catalog::of(&Registry::new(Parts::default()).unwrap(), 7),
            lineage: 7,
            time: Timestamp(time),
            sinks: sinks.clone(),
            carried: Vec::new(),
            summary: Recovery {
                epoch: opened.last_epoch,
                attempt: opened.attempt,
                replayed_epochs: 0,
                carried_messages: 0,
                duration: Duration::ZERO,
            },
            restored: None,
            checkpoints: None,
            log: opened.log,
        };
        // Of a new directory there is nothing to carry on.
        let (opened, _) = open();
        let mut first = recovered(opened, 5);
        assert_eq!(first.add_epoch(Timestamp(9)).unwrap(), 1);
        let mut head = Vec::new();
        let part = |worker: u32, carried: &[u8]| EpochPart {
            worker,
            carried: carried.to_vec(),
            rows: vec![1],
            egress: vec![2],
            ..EpochPart::default()
        };
        let parts = [part(0, b"one"), part(1, b"two")];
        encode_head(&mut head, Timestamp(20), &sinks, &parts);
        first.log.append(2, &body_slices(&head, &parts)).unwrap();
        drop(first);
        let (opened, _) = open();
        let mut second = recovered(opened, 20);
        assert_eq!(second.add_epoch(Timestamp(9)).unwrap(), 3);
        drop(second);
        let (_, last) = open();
        let body = EpochBody::parse(&last).unwrap();
        assert_eq!((body.time, &body.sinks), (Timestamp(20), &sinks));
        let [section] = &body.sections[..] else {
            panic!("{body:?}");
        };
        assert_eq!(
            (section.rows, section.carried, section.egress),
            (&b""[..], &b"onetwo"[..], &b""[..])
        );
    }
}
