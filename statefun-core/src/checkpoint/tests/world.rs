//! An application's log, store and changes with a model of them, and whoever makes checkpoints of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::super::bucket::Bucket;
use super::super::changes::ChangeLog;
use super::super::error::CheckpointError;
use super::super::ledger::Ledger;
use super::super::make::Site;
use super::super::manifest::{Descriptor, Entry, Writer};
use super::super::plan::Credit;
use super::super::restore::{Restore, Restored};
use super::super::uploads::Waiting;
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

pub(super) const GROUPS: u16 = 16;
pub(super) const SINKS: [&str; 2] = ["test/one", "test/other"];
pub(super) const LINEAGE: u64 = 0x1111_2222_3333_4444;

pub(super) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
/// Egress, epoch, payload.
pub(super) type Output = Vec<(u64, u64, Vec<u8>)>;

/// What an application leaves behind: a log, a store, the files of what has changed; and what all of it should be.
pub(super) struct World {
    pub(super) _directory: tempfile::TempDir,
    pub(super) log: EpochLog,
    pub(super) store: MemoryStore,
    pub(super) changes: ChangeLog,
    pub(super) catalog: Catalog,
    pub(super) random: Random,
    pub(super) rows: Rows,
    /// Keys changed since the last apply.
    pub(super) unapplied: Rows,
    pub(super) deleted: Vec<Vec<u8>>,
    pub(super) applied: u64,
    pub(super) output: Output,
    pub(super) through: [u64; 2],
    pub(super) carried: Vec<u8>,
    /// As of the applied epoch.
    pub(super) at_apply: Expected,
}

/// What a restore must give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) epoch: u64,
    pub(super) rows: Rows,
    /// What had not been accepted.
    pub(super) output: Output,
    pub(super) carried: Vec<u8>,
    pub(super) positions: Vec<(String, Vec<u8>)>,
}

pub(super) fn key(space: Space, group: u16, name: u64) -> Vec<u8> {
    let mut key = vec![space as u8];
    key.extend_from_slice(&group.to_be_bytes());
    key.extend_from_slice(format!("key-{name}").as_bytes());
    key
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
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
    pub(super) fn epoch(&mut self) {
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
    pub(super) fn apply(&mut self) {
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
pub(super) struct Keeper {
    pub(super) runtime: Runtime,
    pub(super) bucket: Bucket,
    pub(super) ledger: Option<Ledger>,
    pub(super) previous: Option<Descriptor>,
    pub(super) credit: Credit,
    pub(super) number: u64,
    pub(super) writer: Writer,
}

impl Keeper {
    pub(super) fn new(bucket: &Bucket) -> Self {
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

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            runtime: self.runtime.handle().clone(),
            stopping: watch::channel(false).1,
        }
    }

    pub(super) fn make(&mut self, world: &World) -> Result<Option<Entry>, CheckpointError> {
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
            super::super::checkpointer::retire(manifest, 3);
            Ok(())
        }))?;
        ledger.know(&made.entry, &made.descriptor);
        waiting.on(ledger.remove_dropped(&before))?;
        waiting.on(ledger.remove(made.superfluous.iter()))?;
        world.changes.remove(&made.contained)?;
        self.previous = Some(made.descriptor);
        Ok(Some(made.entry))
    }

    pub(super) fn restore(&self, wanted: &str) -> Result<(Restored, Expected), CheckpointError> {
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
pub(super) fn found_in(data: &DataDirectory) -> Expected {
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
pub(super) fn without_epochs(mut expected: Expected) -> Expected {
    for (_, epoch, _) in &mut expected.output {
        *epoch = 0;
    }
    expected
}
