//! Tests of the store on a real file system.

use super::*;
use crate::checkpoint::run::Rows;
use crate::disk::{Disk, RealDisk, SimDisk};
use crate::state::RowCursor;

#[test]
fn a_store_that_is_given_time_when_it_is_crowded_never_has_many_tables() {
    let directory = tempfile::tempdir().unwrap();
    let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
    let tables = || {
        store
            .with(|opened| Ok(opened.keyspace.l0_table_count()))
            .unwrap()
    };
    let watch = Stopwatch::start();
    for epoch in 1..=3 * CROWD as u64 {
        while store.is_crowded() {
            assert!(watch.elapsed() < Duration::from_mins(2), "it never merges");
            crate::clock::pause(Duration::from_millis(1));
        }
        let key = [Space::State as u8, (epoch % 7) as u8];
        let value = epoch.to_be_bytes();
        store
            .apply(epoch, &mut [(&key[..], Some(&value[..]))].into_iter())
            .unwrap();
        assert!(tables() <= CROWD);
    }
    assert_eq!(store.applied_epoch().unwrap(), 3 * CROWD as u64);
    assert_eq!(store.scan(&[Space::State as u8], &[], 99).unwrap().len(), 7);
}

#[test]
fn opened_again_it_has_what_was_applied_and_nothing_besides() {
    let directory = tempfile::tempdir().unwrap();
    let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
    let key = |n: u8| vec![Space::State as u8, n];
    store
        .apply(3, &mut [(&key(1)[..], Some(&[1][..]))].into_iter())
        .unwrap();
    store.check().unwrap();
    {
        // As an ingestion that has failed leaves it.
        let opened = store.opened.read().unwrap();
        let mut ingestion = opened.as_ref().unwrap().keyspace.start_ingestion().unwrap();
        ingestion.write(key(2), [2]).unwrap();
    }
    let tables = || {
        let tables = store.with(|opened| Ok(opened.keyspace.path().join("tables")));
        std::fs::read_dir(tables.unwrap()).unwrap().count()
    };
    assert_eq!(tables(), 2);
    store.reopen().unwrap();
    assert_eq!(tables(), 1);
    assert_eq!(store.applied_epoch().unwrap(), 3);
    assert_eq!(store.get(&key(1)).unwrap(), Some(vec![1]));
    assert_eq!(store.get(&key(2)).unwrap(), None);
    store
        .apply(4, &mut [(&key(2)[..], Some(&[2][..]))].into_iter())
        .unwrap();
    assert_eq!(store.scan(&key(0), &[], 9).unwrap().len(), 2);
}

#[test]
fn a_store_tells_when_it_has_merged_what_it_was_opened_with() {
    let directory = tempfile::tempdir().unwrap();
    let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
    assert!(store.has_merged());
    for epoch in 1..=9u64 {
        let key = [Space::State as u8, epoch as u8];
        store
            .apply(epoch, &mut [(&key[..], Some(&key[..]))].into_iter())
            .unwrap();
    }
    store.reopen().unwrap();
    let watch = Stopwatch::start();
    while !store.has_merged() {
        assert!(watch.elapsed() < Duration::from_mins(1), "it never merges");
        crate::clock::pause(Duration::from_millis(1));
    }
    store.check().unwrap();
    let tables = store.with(|opened| Ok(opened.keyspace.l0_table_count()));
    assert!(tables.unwrap() < 9);
}

#[test]
fn applied_rows_and_the_marker_are_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let key = |n: u8| vec![Space::State as u8, n];
    {
        let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
        assert_eq!(store.applied_epoch().unwrap(), 0);
        let rows: Vec<Row> = (0..9).map(|n| (key(n), vec![n])).collect();
        store
            .apply(
                3,
                &mut rows.iter().map(|(key, value)| (&key[..], Some(&value[..]))),
            )
            .unwrap();
        store
            .apply(
                7,
                &mut [(&key(1)[..], None), (&key(2)[..], Some(&[22u8][..]))].into_iter(),
            )
            .unwrap();
    }
    let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(store.applied_epoch().unwrap(), 7);
    assert_eq!(store.get(&key(1)).unwrap(), None);
    assert_eq!(store.get(&key(2)).unwrap(), Some(vec![22]));
    let rows = store.scan(&key(0), &key(5), 3).unwrap();
    assert_eq!(
        rows,
        [(key(0), vec![0]), (key(2), vec![22]), (key(3), vec![3])]
    );
    assert_eq!(store.scan(&key(5), &[], usize::MAX).unwrap().len(), 4);
}

fn key(n: u8) -> Vec<u8> {
    vec![Space::State as u8, n]
}

/// A store with the rows 0 to 8, of epoch 3.
fn filled(directory: &Path) -> FjallStore {
    let store = FjallStore::open(directory, 1 << 20).unwrap();
    let rows: Vec<Row> = (0..9).map(|n| (key(n), vec![n])).collect();
    let mut rows = rows.iter().map(|(key, value)| (&key[..], Some(&value[..])));
    store.apply(3, &mut rows).unwrap();
    store
}

fn rest(cursor: &mut dyn RowCursor) -> Result<Vec<Row>, StateError> {
    let mut rows = Vec::new();
    while let Some((key, value)) = cursor.next_row()? {
        rows.push((key.to_vec(), value.to_vec()));
    }
    Ok(rows)
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path());
    let snapshot = store.snapshot().unwrap();
    let mut cursor = snapshot.rows(&key(1), &key(4)).unwrap();
    // Merged away meanwhile.
    for epoch in 4..4 + 2 * CROWD as u64 {
        let changes = [(&key(1)[..], None), (&key(2)[..], Some(&[22u8][..]))];
        store.apply(epoch, &mut changes.into_iter()).unwrap();
    }
    store
        .with(|opened| opened.keyspace.major_compact())
        .unwrap();
    assert_eq!(snapshot.applied_epoch().unwrap(), 3);
    assert_eq!(snapshot.get(&key(1)).unwrap(), Some(vec![1]));
    let expected: Vec<Row> = (1..4).map(|n| (key(n), vec![n])).collect();
    assert_eq!(snapshot.scan(&key(1), &key(4), 99).unwrap(), expected);
    assert_eq!(rest(&mut *cursor).unwrap(), expected);
    let mut later = snapshot.rows(&key(1), &key(4)).unwrap();
    assert_eq!(rest(&mut *later).unwrap(), expected);
    // The marker's row is the tenth.
    let mut all = snapshot.rows(&[], &[]).unwrap();
    assert_eq!(rest(&mut *all).unwrap().len(), 10);
    let mut none = snapshot.rows(&key(4), &key(4)).unwrap();
    assert_eq!(rest(&mut *none).unwrap(), []);
    assert_eq!(snapshot.scan(&key(4), &key(1), 9).unwrap(), []);
    assert_eq!(store.get(&key(1)).unwrap(), None);
}

#[test]
fn a_store_with_snapshots_in_use_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path());
    let snapshot = store.snapshot().unwrap();
    let mut cursor = snapshot.rows(&key(0), &[]).unwrap();
    assert!(cursor.next_row().unwrap().is_some());
    // Of a snapshot that is no longer held.
    let mut alone = store.snapshot().unwrap().rows(&key(0), &[]).unwrap();
    assert!(alone.next_row().unwrap().is_some());
    store.reopen().unwrap();
    let gone = |error: StateError| matches!(error, StateError::SnapshotGone);
    assert!(snapshot.get(&key(1)).is_err_and(gone));
    assert!(snapshot.scan(&key(0), &[], 9).is_err_and(gone));
    assert!(snapshot.applied_epoch().is_err_and(gone));
    assert!(snapshot.rows(&[], &[]).is_err_and(gone));
    assert!(rest(&mut *cursor).is_err_and(gone));
    assert!(rest(&mut *alone).is_err_and(gone));
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.get(&key(1)).unwrap(), Some(vec![1]));
    // Another store gets the directory when the first is gone, whatever is left of it.
    drop(store);
    assert!(snapshot.get(&key(1)).is_err_and(gone));
    let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
    assert_eq!(store.applied_epoch().unwrap(), 3);
}

#[test]
fn snapshots_that_are_dropped_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path());
    let first = store.snapshot().unwrap();
    let second = store.snapshot().unwrap();
    let mut cursor = second.rows(&key(0), &[]).unwrap();
    assert_eq!(store.snapshots.count(), 3);
    drop((first, second));
    assert_eq!(store.snapshots.count(), 1);
    assert_eq!(rest(&mut *cursor).unwrap().len(), 9);
    drop(cursor);
    assert_eq!(store.snapshots.count(), 0);
}

fn noting(directory: &Path, disk: impl Disk + 'static) -> (FjallStore, Arc<ChangeLog>) {
    let changes = ChangeLog::open(Arc::new(disk), &directory.join("changes")).unwrap();
    let changes = Arc::new(changes);
    let store = FjallStore::open(&directory.join("state"), 1 << 20).unwrap();
    (store.with_changes(Arc::clone(&changes)), changes)
}

fn noted(changes: &ChangeLog) -> Vec<Vec<u8>> {
    let mut keys = changes.keys(&changes.files()).unwrap();
    let mut all = Vec::new();
    while keys.advance().unwrap() {
        all.push(keys.key().to_vec());
    }
    all
}

#[test]
fn the_keys_of_applied_rows_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (store, _) = noting(directory.path(), RealDisk);
        let (one, two) = (key(1), key(2));
        let changes = [(&one[..], Some(&[1u8][..])), (&two[..], None)];
        store.apply(3, &mut changes.into_iter()).unwrap();
        store
            .apply(7, &mut [(&two[..], Some(&[2u8][..]))].into_iter())
            .unwrap();
        store.apply(9, &mut std::iter::empty()).unwrap();
        // Rows are dropped between epochs.
        store
            .apply(9, &mut [(&key(5)[..], None)].into_iter())
            .unwrap();
    }
    let (store, changes) = noting(directory.path(), RealDisk);
    assert_eq!(store.applied_epoch().unwrap(), 9);
    let intervals: Vec<_> = changes
        .files()
        .iter()
        .map(|file| (file.from, file.to))
        .collect();
    assert_eq!(intervals, [(0, 3), (3, 7), (7, 9), (9, 10)]);
    assert_eq!(noted(&changes), [key(1), key(2), key(5)]);
}

#[test]
fn without_space_to_note_keys_nothing_is_applied() {
    let directory = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let (store, changes) = noting(directory.path(), disk.clone());
    let one = key(1);
    let apply = || store.apply(3, &mut [(&one[..], Some(&[1u8][..]))].into_iter());
    disk.set_capacity(Some(0));
    for _ in 0..2 {
        let full = apply().unwrap_err();
        assert!(
            matches!(&full, StateError::NoSpace { directory, .. } if directory.ends_with("changes")),
            "{full}"
        );
        assert_eq!(store.get(&one).unwrap(), None);
        assert!(!changes.covers(0, 1));
    }
    disk.set_capacity(None);
    store.reopen().unwrap();
    apply().unwrap();
    assert_eq!(store.get(&one).unwrap(), Some(vec![1]));
    assert!(changes.covers(0, 3));
    assert_eq!(noted(&changes), [one]);
}

#[test]
fn what_is_applied_was_noted_before() {
    use crate::disk::Fault;

    for step in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let (store, changes) = noting(directory.path(), disk.clone());
        disk.fail_at(disk.steps() + step, Fault::Io);
        for epoch in 1..=3u64 {
            let row = key(epoch as u8);
            let outcome = store.apply(epoch, &mut [(&row[..], Some(&row[..]))].into_iter());
            assert!(changes.covers(0, store.applied_epoch().unwrap()));
            let is_noted = noted(&changes).contains(&row);
            assert_eq!(
                outcome.is_ok(),
                is_noted && store.get(&row).unwrap().is_some()
            );
            if outcome.is_err() {
                break;
            }
        }
    }
}

#[test]
fn a_snapshot_taken_while_rows_are_applied_is_of_one_epoch() {
    const LAST: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let store = FjallStore::open(directory.path(), 1 << 20).unwrap();
    let keys: Vec<_> = (0..20).map(key).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for epoch in 1..=LAST {
                let value = epoch.to_be_bytes();
                let mut rows = keys.iter().map(|key| (&key[..], Some(&value[..])));
                store.apply(epoch, &mut rows).unwrap();
            }
        });
        let mut seen = 0;
        while seen < LAST {
            let snapshot = store.snapshot().unwrap();
            let epoch = snapshot.applied_epoch().unwrap();
            assert!(seen <= epoch);
            seen = epoch;
            let mut cursor = snapshot.rows(&key(0), &[]).unwrap();
            let rows = rest(&mut *cursor).unwrap();
            assert_eq!(rows.len(), if epoch == 0 { 0 } else { keys.len() });
            assert!(rows.iter().all(|(_, value)| *value == epoch.to_be_bytes()));
        }
    });
}
