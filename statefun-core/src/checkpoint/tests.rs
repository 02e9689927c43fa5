//! Checkpoints made and restored against a model: rows, output that was not accepted, and what was under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::bucket::{Bucket, Faults};
use super::changes::ChangeLog;
use super::error::CheckpointError;
use super::ledger::Ledger;
use super::make::Site;
use super::manifest::{Descriptor, Entry, Writer};
use super::operate;
use super::plan::Credit;
use super::restore::{Restore, Restored};
use super::uploads::Waiting;
use super::view::CheckpointView;
use crate::catalog::{Catalog, DataDirectory};
use crate::clock::Timestamp;
use crate::disk::{Disk, RealDisk};
use crate::engine::cut::{
    EpochBody, EpochPart, SinkPosition, body_slices, egress_framing, encode_head,
};
use crate::engine::registry::{Parts, Registry};
use crate::id::{KeyGroups, MessageTypeId};
use crate::log::{EpochLog, OpenOptions};
use crate::rand::Random;
use crate::sdk::egress::egress_hash;
use crate::state::fjall::FjallStore;
use crate::state::keys::Space;
use crate::state::memory::MemoryStore;
use crate::state::{StateReader as _, StateStore as _};

const GROUPS: u16 = 16;
const SINKS: [&str; 2] = ["test/one", "test/other"];
const LINEAGE: u64 = 0x1111_2222_3333_4444;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
/// Egress, epoch, payload.
type Output = Vec<(u64, u64, Vec<u8>)>;

/// What an application leaves behind: a log, a store, the files of what has changed; and what all of it should be.
struct World {
    _directory: tempfile::TempDir,
    log: EpochLog,
    store: MemoryStore,
    changes: ChangeLog,
    catalog: Catalog,
    random: Random,
    rows: Rows,
    /// Keys changed since the last apply.
    unapplied: Rows,
    deleted: Vec<Vec<u8>>,
    applied: u64,
    output: Output,
    through: [u64; 2],
    carried: Vec<u8>,
    /// As of the applied epoch.
    at_apply: Expected,
}

/// What a restore must give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Expected {
    epoch: u64,
    rows: Rows,
    /// What had not been accepted.
    output: Output,
    carried: Vec<u8>,
    positions: Vec<(String, Vec<u8>)>,
}

fn key(space: Space, group: u16, name: u64) -> Vec<u8> {
    let mut key = vec![space as u8];
    key.extend_from_slice(&group.to_be_bytes());
    key.extend_from_slice(format!("key-{name}").as_bytes());
    key
}

impl World {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut see = |_: crate::log::RecordView<'_>| Ok::<(), std::convert::Infallible>(());
        let options = OpenOptions::new(LINEAGE);
        let log = EpochLog::open(
            disk.clone(),
            directory.path().join("log"),
            &options,
            &mut see,
        )
        .unwrap()
        .log;
        let changes = ChangeLog::open(disk, &directory.path().join("changes")).unwrap();
        let registry = Registry::new(Parts {
            key_groups: KeyGroups::new(GROUPS),
            ..Parts::default()
        });
        Self {
            _directory: directory,
            log,
            store: MemoryStore::default(),
            changes,
            catalog: Catalog::of(&registry.unwrap(), LINEAGE),
            random: Random::seeded(seed),
            rows: Rows::new(),
            unapplied: Rows::new(),
            deleted: vec![],
            applied: 0,
            output: vec![],
            through: [0, 0],
            carried: vec![],
            at_apply: Expected::default(),
        }
    }

    /// One epoch.
    fn epoch(&mut self) {
        let epoch = self.log.last_epoch() + 1;
        for (index, through) in self.through.iter_mut().enumerate() {
            // One of them lags far behind.
            if self.random.below(if index == 0 { 2 } else { 10 }) == 0 {
                *through = epoch - 1 - self.random.below(2.min(epoch - *through));
            }
        }
        let sinks: Vec<SinkPosition> = SINKS
            .iter()
            .zip(self.through)
            .map(|(sink, through_epoch)| SinkPosition {
                egress: (*sink).to_owned(),
                through_epoch,
                position: Bytes::from(format!("{{\"at\":{through_epoch}}}")),
            })
            .collect();
        let mut part = EpochPart {
            epoch,
            ..EpochPart::default()
        };
        for _ in 0..self.random.below(20) {
            let space = [
                Space::State,
                Space::State,
                Space::State,
                Space::Timer,
                Space::DeadLetter,
            ][self.random.below(5) as usize];
            let key = key(
                space,
                self.random.below(u64::from(GROUPS)) as u16,
                self.random.below(60),
            );
            if self.random.below(4) == 0 {
                self.rows.remove(&key);
                self.unapplied.remove(&key);
                self.deleted.push(key);
            } else {
                let value = vec![epoch as u8; self.random.below(300) as usize];
                self.deleted.retain(|deleted| *deleted != key);
                self.rows.insert(key.clone(), value.clone());
                self.unapplied.insert(key, value);
            }
        }
        for number in 0..self.random.below(4) {
            let sink = egress_hash(SINKS[self.random.below(2) as usize]);
            let payload = format!("{epoch}-{number}").into_bytes();
            egress_framing::push(&mut part.egress, sink, MessageTypeId(7), |out| {
                out.extend_from_slice(&payload);
                Ok::<(), std::convert::Infallible>(())
            })
            .unwrap();
            self.output.push((sink, epoch, payload));
        }
        self.carried = vec![epoch as u8; self.random.below(9) as usize];
        part.carried.clone_from(&self.carried);
        let (mut head, parts) = (vec![], [part]);
        encode_head(&mut head, Timestamp(epoch * 1000), &sinks, &parts);
        self.log.append(epoch, &body_slices(&head, &parts)).unwrap();
    }

    /// The store gets everything.
    fn apply(&mut self) {
        let (from, to) = (self.applied, self.log.last_epoch());
        if from == to {
            return;
        }
        let mut changed: BTreeMap<Vec<u8>, Option<Vec<u8>>> = std::mem::take(&mut self.deleted)
            .into_iter()
            .map(|key| (key, None))
            .collect();
        changed.extend(
            std::mem::take(&mut self.unapplied)
                .into_iter()
                .map(|(key, value)| (key, Some(value))),
        );
        let mut writer = self.changes.begin(from, to).unwrap();
        for key in changed.keys() {
            writer.push(key).unwrap();
        }
        writer.finish().unwrap();
        self.store
            .apply(
                to,
                &mut changed
                    .iter()
                    .map(|(key, value)| (&key[..], value.as_deref())),
            )
            .unwrap();
        self.applied = to;
        let through = |sink: u64| {
            let index = usize::from(sink != egress_hash(SINKS[0]));
            self.through[index]
        };
        self.at_apply = Expected {
            epoch: to,
            rows: self.rows.clone(),
            output: self
                .output
                .iter()
                .filter(|(sink, epoch, _)| *epoch > through(*sink))
                .cloned()
                .collect(),
            carried: self.carried.clone(),
            positions: SINKS
                .iter()
                .zip(self.through)
                .map(|(sink, through)| {
                    (
                        (*sink).to_owned(),
                        format!("{{\"at\":{through}}}").into_bytes(),
                    )
                })
                .collect(),
        };
        let accepted = self.through.iter().min().copied().unwrap_or(0);
        self.log.retention().release_through(accepted.min(to - 1));
    }
}

/// The side of the checkpoints: a bucket, and what is known from one to the next.
struct Keeper {
    runtime: Runtime,
    bucket: Bucket,
    ledger: Option<Ledger>,
    previous: Option<Descriptor>,
    credit: Credit,
    number: u64,
    writer: Writer,
}

impl Keeper {
    fn new(bucket: &Bucket) -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            bucket: bucket.clone(),
            ledger: None,
            previous: None,
            credit: Credit::default(),
            number: 0,
            writer: Writer::new(LINEAGE, 1, Timestamp(0)),
        }
    }

    fn waiting(&self) -> Waiting {
        Waiting {
            runtime: self.runtime.handle().clone(),
            stopping: watch::channel(false).1,
        }
    }

    fn make(&mut self, world: &World) -> Result<Option<Entry>, CheckpointError> {
        let waiting = self.waiting();
        if self.ledger.is_none() {
            self.ledger = Some(waiting.on(Ledger::take_over(
                &self.bucket,
                &self.writer,
                async |_| Ok(()),
            ))?);
        }
        let reader = world.log.reader();
        let retention = world.log.retention();
        let mut site = Site {
            bucket: &self.bucket,
            waiting: &waiting,
            store: &world.store,
            log: &reader,
            retention: &retention,
            changes: &world.changes,
            catalog: &world.catalog,
            prefix: format!("{:x}", self.writer.token),
            number: self.number,
            lineage: LINEAGE,
            attempt: 1,
            start: self.writer.token,
            superfluous: vec![],
        };
        let made = site.make(
            self.previous.as_ref(),
            false,
            &mut self.credit,
            Timestamp(1),
        );
        self.number = site.number;
        let Some(made) = made? else {
            return Ok(None);
        };
        let ledger = self.ledger.as_mut().unwrap();
        let before = ledger.manifest().clone();
        let new = made.entry.clone();
        waiting.on(ledger.replace(|manifest| {
            if !manifest.checkpoints.contains(&new) {
                manifest.checkpoints.push(new.clone());
            }
            super::checkpointer::retire(manifest, 3);
            Ok(())
        }))?;
        ledger.know(&made.entry, &made.descriptor);
        waiting.on(ledger.remove_dropped(&before))?;
        waiting.on(ledger.remove(made.superfluous.iter()))?;
        world.changes.remove(&made.contained)?;
        self.previous = Some(made.descriptor);
        Ok(Some(made.entry))
    }

    fn restore(&self, wanted: &str) -> Result<(Restored, Expected), CheckpointError> {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory {
            root: directory.path().join("data"),
            disk: Arc::new(RealDisk),
        };
        let restore = Restore {
            bucket: &self.bucket,
            directory: &data,
            wanted,
            replace: false,
            take_over: false,
            runtime: self.runtime.handle(),
            stopping: watch::channel(false).1,
        };
        let restored = restore.run(|_| {})?;
        Ok((restored, found_in(&data)))
    }
}

/// What a restored directory holds.
fn found_in(data: &DataDirectory) -> Expected {
    let catalog = Catalog::read(&*data.disk, &data.root).unwrap().unwrap();
    assert_ne!(catalog.lineage, LINEAGE);
    let store = FjallStore::open(&data.state(), 1 << 20).unwrap();
    let epoch = store.applied_epoch().unwrap();
    let mut records = vec![];
    let mut see = |record: crate::log::RecordView<'_>| {
        records.push((record.epoch, record.body.to_vec()));
        Ok::<(), std::convert::Infallible>(())
    };
    let mut options = OpenOptions::new(catalog.lineage);
    options.applied_epoch = epoch;
    EpochLog::open(data.disk.clone(), data.log(), &options, &mut see).unwrap();
    let mut found = Expected {
        epoch,
        rows: store
            .scan(&[Space::State as u8], &[], usize::MAX)
            .unwrap()
            .into_iter()
            .collect(),
        ..Expected::default()
    };
    for (next, (number, body)) in (epoch + 1..).zip(&records) {
        assert_eq!(*number, next);
        let body = EpochBody::parse(body).unwrap();
        assert_eq!(body.time, Timestamp(epoch * 1000));
        assert!(body.sinks.iter().all(|sink| sink.through_epoch == epoch));
        found.positions = body
            .sinks
            .iter()
            .map(|sink| (sink.egress.clone(), sink.position.to_vec()))
            .collect();
        for section in &body.sections {
            assert!(section.rows.is_empty());
            found.carried = section.carried.to_vec();
            for record in egress_framing::iter(section.egress) {
                let record = record.unwrap();
                found
                    .output
                    .push((record.egress, 0, record.payload.to_vec()));
            }
        }
    }
    found
}

/// Without the epochs of output, which a restore does not keep.
fn without_epochs(mut expected: Expected) -> Expected {
    for (_, epoch, _) in &mut expected.output {
        *epoch = 0;
    }
    expected
}

#[test]
fn what_is_restored_is_what_was_there() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        let bucket = Bucket::in_memory();
        let mut keeper = Keeper::new(&bucket);
        let mut kept: Vec<(Entry, Expected)> = vec![];
        for _ in 0..40 {
            for _ in 0..world.random.below(6) {
                world.epoch();
            }
            if world.random.below(3) > 0 {
                world.apply();
            }
            if world.random.below(2) == 0
                && let Some(entry) = keeper.make(&world).unwrap()
            {
                assert_eq!(entry.epoch, world.at_apply.epoch);
                kept.push((entry, world.at_apply.clone()));
            }
        }
        let gone = kept.len().saturating_sub(3);
        for (entry, _) in &kept[..gone] {
            assert!(matches!(
                keeper.restore(&entry.id),
                Err(CheckpointError::Unknown { .. })
            ));
        }
        for (entry, expected) in &kept[gone..] {
            let (_, found) = keeper.restore(&entry.id).unwrap();
            assert!(found == without_epochs(expected.clone()), "seed {seed}");
        }
        // Looked at where it is, in pieces of any size, it is the same.
        for (entry, expected) in &kept[gone..] {
            let view = CheckpointView::open(&bucket, keeper.runtime.handle(), &entry.id).unwrap();
            assert_eq!(view.epoch(), expected.epoch);
            let (mut start, mut seen) = (vec![Space::State as u8], Rows::new());
            loop {
                let limit = 1 + world.random.below(50) as usize;
                let some = view.scan(&start, &[], limit).unwrap();
                let Some((last, _)) = some.last() else {
                    break;
                };
                start = [last, &[0][..]].concat();
                if world.random.below(4) == 0 {
                    let key = key(Space::State, 3, world.random.below(60));
                    assert_eq!(view.get(&key).unwrap(), expected.rows.get(&key).cloned());
                    // Another scan in between.
                    view.scan(&key, &[], 1).unwrap();
                }
                seen.extend(some);
            }
            assert!(seen == expected.rows, "seed {seed}");
        }
        let verified = keeper
            .runtime
            .block_on(operate::verify(&bucket, None, |_| {}))
            .unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
        // Nothing is left of those that were dropped.
        let mut live = keeper.ledger.take().unwrap();
        assert_eq!(keeper.runtime.block_on(live.sweep()).unwrap(), 0);
    }
}

#[test]
fn every_damaged_or_missing_object_is_found_and_named() {
    let mut world = World::new(7);
    let bucket = Bucket::in_memory();
    let mut keeper = Keeper::new(&bucket);
    for epochs in [90, 3, 3] {
        for _ in 0..epochs {
            world.epoch();
        }
        world.apply();
        keeper.make(&world).unwrap().unwrap();
    }
    let expected = without_epochs(world.at_apply.clone());
    let (entry, descriptor) = keeper
        .runtime
        .block_on(operate::describe(&bucket, "latest"))
        .unwrap();
    let mut names: Vec<String> = descriptor
        .objects()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(names.len() > 3, "{names:?}");
    names.push(entry.object.clone());
    for name in names {
        let good = keeper.runtime.block_on(bucket.get(&name)).unwrap().unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            keeper
                .runtime
                .block_on(bucket.put(&name, bad.into()))
                .unwrap();
            let verified = keeper
                .runtime
                .block_on(operate::verify(&bucket, Some("latest"), |_| {}))
                .unwrap();
            assert_eq!(
                verified.problems.len(),
                1,
                "{name} at {at}: {:?}",
                verified.problems
            );
            assert!(
                verified.problems[0].1.to_string().contains(&name),
                "{:?}",
                verified.problems
            );
            match keeper.restore("latest") {
                Err(error) => assert!(error.to_string().contains(&name), "{name} at {at}: {error}"),
                // Headers and indexes that it can do without are not read.
                Ok((_, found)) => {
                    assert!(at != good.len() / 2 && found == expected, "{name} at {at}");
                }
            }
        }
        keeper.runtime.block_on(bucket.delete(&name)).unwrap();
        let verified = keeper
            .runtime
            .block_on(operate::verify(&bucket, Some("latest"), |_| {}))
            .unwrap();
        assert!(
            verified
                .problems
                .iter()
                .any(|(_, error)| error.to_string().contains(&name)),
            "{:?}",
            verified.problems
        );
        let error = keeper.restore("latest").map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(&name), "{name}: {error}");
        keeper.runtime.block_on(bucket.put(&name, good)).unwrap();
    }
    keeper.restore("latest").unwrap();
}

#[test]
fn of_two_writers_one_goes_on_and_the_other_is_told_who() {
    let mut world = World::new(3);
    let bucket = Bucket::in_memory();
    let (mut first, mut second) = (Keeper::new(&bucket), Keeper::new(&bucket));
    world.epoch();
    world.apply();
    first.make(&world).unwrap().unwrap();
    second.make(&world).unwrap().unwrap();
    world.epoch();
    world.apply();
    let error = first.make(&world).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Fenced { writer, .. } if writer.token == second.writer.token),
        "{error}"
    );
    // It has removed nothing that the other one needs.
    second.restore("latest").unwrap();
    second.make(&world).unwrap().unwrap();
    assert!(matches!(
        first.make(&world),
        Err(CheckpointError::Fenced { .. })
    ));
    let mut ledger = first.ledger.take().unwrap();
    assert!(matches!(
        first.runtime.block_on(ledger.sweep()),
        Err(CheckpointError::Fenced { .. })
    ));
    let verified = second
        .runtime
        .block_on(operate::verify(&bucket, None, |_| {}))
        .unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
}

#[test]
fn whatever_requests_fail_nothing_that_is_kept_is_lost() {
    for seed in 0..8 {
        let mut world = World::new(seed);
        let bucket = Bucket::in_memory();
        let faults = Faults::seeded(seed, 400);
        let retries = super::bucket::Retries {
            give_up_after: std::time::Duration::from_millis(4),
            first_pause: std::time::Duration::from_millis(1),
            longest_pause: std::time::Duration::from_millis(1),
            request_timeout: std::time::Duration::from_millis(20),
            ..super::bucket::Retries::default()
        };
        let mut keeper = Keeper::new(&bucket.with_faults(&faults).with_retries(retries));
        let (mut made, mut failed) = (0, 0);
        let mut expected = Expected::default();
        for _ in 0..40 {
            for _ in 0..world.random.below(6) {
                world.epoch();
            }
            world.apply();
            match keeper.make(&world) {
                Ok(Some(_)) => {
                    made += 1;
                    expected = world.at_apply.clone();
                }
                Ok(None) => {}
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    failed += 1;
                }
            }
            let clean = Keeper::new(&bucket);
            let manifest = clean.runtime.block_on(operate::manifest(&bucket)).unwrap();
            if let Some(latest) = manifest.as_ref().and_then(|manifest| manifest.latest()) {
                // One whose last answer was lost may be there all the same.
                assert!(latest.epoch >= expected.epoch);
                let verified = clean
                    .runtime
                    .block_on(operate::verify(&bucket, None, |_| {}))
                    .unwrap();
                assert!(
                    verified.problems.is_empty(),
                    "seed {seed}: {:?}",
                    verified.problems
                );
            }
        }
        assert!(made > 3 && failed > 0, "{made} made, {failed} failed");
        let clean = Keeper::new(&bucket);
        let (restored, found) = clean.restore("latest").unwrap();
        if restored.checkpoint.epoch == expected.epoch {
            assert!(found == without_epochs(expected), "seed {seed}");
        }
    }
}
