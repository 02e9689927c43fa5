//! What a log does when nothing goes wrong, on the real disk too.

use std::convert::Infallible;
use std::sync::Arc;

use super::{append_all, body, dir, open, open_any, options, segment_path};
use crate::disk::{Disk, RealDisk, SimDisk};
use crate::log::record::HEADER_BYTES;
use crate::log::{EpochLog, LogError, OpenOptions};

#[test]
fn what_is_appended_is_found_in_order() {
    let disk = SimDisk::new(0);
    let (recovered, found) = open(&disk, &options()).unwrap();
    assert!(found.is_empty());
    assert_eq!(
        (
            recovered.first_epoch,
            recovered.last_epoch,
            recovered.attempt
        ),
        (None, 0, 1)
    );
    let mut log = recovered.log;
    let mut all = append_all(&mut log, &[10, 0, 440, 441, 5_000, 1, 30_000, 7]);
    assert_eq!(log.last_epoch(), 8);
    drop(log);
    for attempt in 2..5 {
        let (recovered, found) = open(&disk, &options()).unwrap();
        assert_eq!(found, all);
        assert_eq!(recovered.attempt, attempt);
        assert_eq!(recovered.last_epoch, all.len() as u64);
        assert_eq!(recovered.first_epoch, Some(1));
        assert_eq!(recovered.torn, None);
        let mut log = recovered.log;
        all.extend(append_all(&mut log, &[1_000, 2_000]));
    }
}

#[test]
fn a_record_fills_a_segment_exactly_or_gets_one_of_its_length() {
    for size in [1_464, 1_463, 1_465, 8_120, 8_121, 100_000] {
        let disk = SimDisk::new(0);
        let mut log = open(&disk, &options()).unwrap().0.log;
        // The attempt's record takes 512 of the 2,048 bytes that are not kept free, so that 1,464 bytes and a header fit into the rest.
        let position = log.append(1, &[&body(1, 1, size)]).unwrap();
        assert_eq!(
            position.segment,
            if size <= 1_464 { 1 } else { 2 },
            "{size}"
        );
        assert_eq!(position.bytes, (size + HEADER_BYTES) as u64);
        assert_eq!(position.offset % 512, 0);
        append_all(&mut log, &[size, size]);
        drop(log);
        let (_, found) = open(&disk, &options()).unwrap();
        assert_eq!(found.len(), 3);
        assert!(
            found
                .iter()
                .all(|(epoch, found)| *found == body(*epoch, 1, size))
        );
    }
}

#[test]
fn segments_grow_to_the_wanted_length() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    append_all(&mut log, &[400; 60]);
    let bytes: Vec<usize> = (1..=4)
        .map(|number| disk.content(&segment_path(number)).unwrap().len())
        .collect();
    assert_eq!(bytes, [6_144, 12_288, 12_288, 12_288]);
}

#[test]
fn epochs_come_one_by_one() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    log.append(1, &[]).unwrap();
    let steps = disk.steps();
    for wrong in [0, 1, 3, u64::MAX] {
        let error = log.append(wrong, &[b"x"]).unwrap_err();
        assert!(matches!(error, LogError::WrongEpoch { expected: 2, found } if found == wrong));
    }
    assert_eq!(disk.steps(), steps);
    log.append(2, &[]).unwrap();
}

#[test]
fn a_restored_lineage_begins_after_its_checkpoint() {
    let disk = SimDisk::new(0);
    let restored = OpenOptions {
        base_epoch: 100,
        applied_epoch: 100,
        ..options()
    };
    let (recovered, _) = open(&disk, &restored).unwrap();
    assert_eq!(recovered.last_epoch, 100);
    let mut log = recovered.log;
    assert!(matches!(
        log.append(1, &[]),
        Err(LogError::WrongEpoch { expected: 101, .. })
    ));
    assert!(matches!(
        log.reader().read_from(100, 1),
        Err(LogError::Released {
            epoch: 100,
            first: None
        })
    ));
    assert_eq!(log.reader().read_from(101, 1).unwrap(), []);
    drop(log);
    // Before the first epoch the log itself tells where it begins.
    let later = OpenOptions {
        applied_epoch: 100,
        ..options()
    };
    let mut log = open(&disk, &later).unwrap().0.log;
    log.append(101, &[b"x"]).unwrap();
    drop(log);
    let (recovered, found) = open(&disk, &later).unwrap();
    assert_eq!(found, [(101, b"x".to_vec())]);
    assert_eq!(recovered.attempt, 3);
    drop(recovered);
    let error = open(&disk, &options()).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::MissingEpochs {
                first_epoch: 101,
                applied_epoch: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_directory_is_open_once() {
    let disk = SimDisk::new(0);
    let (recovered, _) = open(&disk, &options()).unwrap();
    let error = open(&disk, &options()).unwrap_err();
    assert!(matches!(error, LogError::Locked { .. }), "{error}");
    drop(recovered);
    open(&disk, &options()).unwrap();
}

#[test]
fn a_visitor_can_refuse() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    append_all(&mut log, &[1, 2, 3]);
    drop(log);
    let mut seen = 0;
    let error = EpochLog::open(Arc::new(disk.clone()), dir(), &options(), &mut |record| {
        seen += 1;
        if record.epoch == 2 {
            Err("too old")
        } else {
            Ok(())
        }
    })
    .unwrap_err();
    assert_eq!(seen, 2);
    assert_eq!(
        error.to_string(),
        "epoch 2 of the log cannot be used: too old"
    );
    // And the directory is free again.
    assert_eq!(open(&disk, &options()).unwrap().1.len(), 3);
}

#[test]
fn options_are_checked() {
    let disk = SimDisk::new(0);
    for (segment_bytes, first_segment_bytes) in [(0, 512), (512, 0), (1_000, 512), (1_024, 700)] {
        let wrong = OpenOptions {
            segment_bytes,
            first_segment_bytes,
            ..options()
        };
        assert!(matches!(open(&disk, &wrong), Err(LogError::Options { .. })));
    }
    // A first segment longer than the others is one like the others.
    let odd = OpenOptions {
        segment_bytes: 512,
        first_segment_bytes: 4_096,
        ..options()
    };
    let mut log = open(&disk, &odd).unwrap().0.log;
    append_all(&mut log, &[1, 2_000, 3]);
}

#[test]
fn other_files_are_left_alone_and_left_overs_removed() {
    let disk = SimDisk::new(0);
    drop(open(&disk, &options()).unwrap());
    let left_alone = ["note.txt", "my.spare", "9.spare"].map(|name| dir().join(name));
    let left_over =
        ["00000000000000000009.log.tmp", "00000000000000000001.spare"].map(|name| dir().join(name));
    for path in left_alone.iter().chain(&left_over) {
        disk.open(path, crate::disk::OpenMode::Create)
            .unwrap()
            .write_at(b"hello", 0)
            .unwrap();
    }
    drop(open(&disk, &options()).unwrap());
    assert!(left_alone.iter().all(|path| disk.exists(path).unwrap()));
    assert!(!left_over.iter().any(|path| disk.exists(path).unwrap()));
}

#[test]
fn a_real_disk_keeps_it_all() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a/log");
    let options = OpenOptions {
        segment_bytes: 64 << 10,
        first_segment_bytes: 4 << 10,
        ..OpenOptions::new(5)
    };
    let mut all = Vec::new();
    for round in 0..4 {
        let (recovered, found) = open_any(Arc::new(RealDisk), &dir, &options).unwrap();
        assert!(found == all, "round {round}");
        let mut log = recovered.log;
        let second = EpochLog::open(Arc::new(RealDisk), &dir, &options, &mut |_| {
            Ok::<(), Infallible>(())
        });
        assert!(matches!(second, Err(LogError::Locked { .. })));
        all.extend(append_all(
            &mut log,
            &[3_000, 0, 20_000, 100_000, 500, 7_000],
        ));
        let read = log.reader().read_from(1, usize::MAX).unwrap();
        assert_eq!(read.len(), all.len());
        assert!(
            read.iter()
                .zip(&all)
                .all(|(read, (epoch, body))| read.epoch == *epoch && read.body == *body)
        );
    }
}
