//! Readers, release and recycling beside the writer.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{append_all, body, dir, open, open_any, options, segment_path};
use crate::disk::{Crash, Disk, OpenMode, RealDisk, SimDisk};
use crate::log::record::{HEADER_BYTES, Sealed};
use crate::log::{LogError, OpenOptions};

fn segments(disk: &SimDisk) -> Vec<u64> {
    let names = disk.list(&dir()).unwrap();
    names
        .iter()
        .filter_map(|name| crate::log::segment::number(name))
        .collect()
}

#[test]
fn chunks_hold_what_was_asked_for() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    let sizes: Vec<usize> = (0..400)
        .map(|at| at * 37 % 1_500 + if at % 90 == 5 { 90_000 } else { 0 })
        .collect();
    let all = append_all(&mut log, &sizes);
    let reader = log.reader();
    for max_bytes in [0, 1, 1_000, 10_000, 200_000, usize::MAX] {
        let (mut next, mut chunks) = (1, 0);
        while next <= 400 {
            let read = reader.read_from(next, max_bytes).unwrap();
            let bytes: usize = read
                .iter()
                .map(|logged| logged.body.len() + HEADER_BYTES)
                .sum();
            assert!(
                read.len() == 1 || bytes <= max_bytes,
                "{bytes} of {max_bytes}"
            );
            for logged in read {
                assert_eq!(logged.epoch, next);
                assert!(logged.body == all[next as usize - 1].1);
                next += 1;
            }
            chunks += 1;
        }
        assert!(max_bytes < usize::MAX || chunks == 1);
        assert!(max_bytes > 1 || chunks == 400);
    }
    // From any epoch on, whatever the index remembers.
    for epoch in 1..=400 {
        assert!(reader.read_from(epoch, 0).unwrap()[0].body == all[epoch as usize - 1].1);
    }
    assert_eq!(reader.read_from(401, 1_000).unwrap(), []);
    drop(log);
    // The index is made again at the start.
    let log = open(&disk, &options()).unwrap().0.log;
    for epoch in 1..=400 {
        assert!(log.reader().read_from(epoch, 0).unwrap()[0].body == all[epoch as usize - 1].1);
    }
}

#[test]
fn released_epochs_are_named_and_the_newest_segment_stays() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    append_all(&mut log, &[900; 60]);
    let (reader, retention) = (log.reader(), log.retention());
    let count = retention.segment_count();
    assert!(count > 6);
    retention.release_through(0);
    assert_eq!(
        (retention.segment_count(), retention.first_epoch()),
        (count, Some(1))
    );
    retention.release_through(30);
    let first = retention.first_epoch().unwrap();
    assert!(first > 2 && first <= 31);
    assert!(retention.segment_count() < count);
    assert!(retention.retained_bytes() <= retention.segment_count() as u64 * 12_288);
    let error = reader.read_from(first - 1, 10).unwrap_err();
    assert!(
        matches!(error, LogError::Released { first: Some(named), .. } if named == first),
        "{error}"
    );
    assert_eq!(reader.read_from(first, 0).unwrap()[0].epoch, first);
    // More than there is: the newest record stays.
    retention.release_through(u64::MAX);
    assert_eq!((retention.segment_count(), retention.last_epoch()), (1, 60));
    assert_eq!(reader.read_from(60, 0).unwrap()[0].body, body(60, 1, 900));
    assert!(segments(&disk).len() <= 3, "{:?}", segments(&disk));
    append_all(&mut log, &[900]);
    drop(log);
    let marked = OpenOptions {
        applied_epoch: 60,
        ..options()
    };
    assert_eq!(open(&disk, &marked).unwrap().0.last_epoch, 61);
}

#[test]
fn segments_are_recycled_and_their_old_records_never_return() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    let mut stale = BTreeSet::new();
    let mut files = BTreeSet::new();
    let mut released = 0;
    for round in 0..40 {
        // Always the same size: an old record begins wherever a new one would.
        append_all(&mut log, &[900; 5]);
        released = log.last_epoch() - 2;
        log.retention().release_through(released);
        for number in segments(&disk) {
            let content = disk.content(&segment_path(number)).unwrap();
            for (sector, bytes) in content.chunks_exact(512).enumerate() {
                let head = bytes[..HEADER_BYTES].try_into().unwrap();
                let here = Sealed::read(&head, number, sector as u64 * 512, 12_288);
                if let Err(crate::log::record::Defect::Place { segment, .. }) = here {
                    assert!(segment < number);
                    stale.insert((number, segment));
                }
            }
            files.insert(number);
        }
        assert!(segments(&disk).len() <= 5, "{:?}", segments(&disk));
        // The end is found among them, at each length of the chain.
        for kind in [Crash::Process, Crash::Power] {
            let marked = OpenOptions {
                applied_epoch: released,
                ..options()
            };
            let (recovered, found) = open(&disk.fork().crash(kind), &marked).unwrap();
            assert_eq!(recovered.last_epoch, log.last_epoch(), "round {round}");
            assert!(
                found
                    .iter()
                    .all(|(epoch, found)| *found == body(*epoch, 1, 900))
            );
        }
    }
    assert!(released > 150);
    assert!(
        stale.len() * 2 > files.len(),
        "only {} of {} recycled",
        stale.len(),
        files.len()
    );
}

fn spares(disk: &SimDisk) -> usize {
    let names = disk.list(&dir()).unwrap();
    names.iter().filter(|name| name.contains(".spare")).count()
}

#[test]
fn as_many_are_laid_aside_as_were_taken_and_the_next_ones_are_made_of_them() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    append_all(&mut log, &[900; 60]);
    let count = log.retention().segment_count();
    log.retention().release_through(u64::MAX);
    // The newest is still there, and the smaller ones of the beginning are of no use.
    let laid_aside = spares(&disk);
    assert!(laid_aside >= count - 3, "{laid_aside} of {count}");

    // As much again needs no space.
    let used = disk.used_bytes();
    disk.set_capacity(Some(used));
    append_all(&mut log, &[900; 60]);
    assert!(spares(&disk) <= 2);
    log.retention().release_through(u64::MAX);
    assert!(spares(&disk) >= count - 3, "{} of {count}", spares(&disk));
    disk.set_capacity(None);

    // A release that comes in two steps is no reason to give them up; a lack of space is.
    append_all(&mut log, &[900; 8]);
    log.retention().release_through(u64::MAX);
    assert!(spares(&disk) >= count - 3, "{} of {count}", spares(&disk));
    log.retention().give_up_spares();
    assert_eq!(spares(&disk), 0);
    let last_epoch = log.last_epoch();
    let marked = OpenOptions {
        applied_epoch: last_epoch,
        ..options()
    };
    drop(log);
    assert_eq!(open(&disk, &marked).unwrap().0.last_epoch, last_epoch);
}

#[test]
fn what_a_reader_is_at_is_not_overwritten() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    append_all(&mut log, &[900; 20]);
    let held = log.shared().locate(5).unwrap().unwrap();
    let file = disk.open(&held.segment.path, OpenMode::Read).unwrap();
    let before = disk.content(&held.segment.path).unwrap();
    for _ in 0..20 {
        // One at a time, and then a segment's worth of epochs: each is recycled that may be.
        let first = log.retention().first_epoch().unwrap();
        log.retention()
            .release_through(if first == 1 { 1 } else { first + 7 });
        append_all(&mut log, &[900; 8]);
    }
    let mut after = vec![0; before.len()];
    file.read_exact_at(&mut after, 0).unwrap();
    assert!(after == before);
    assert!(
        !disk.exists(&held.segment.path).unwrap(),
        "its name is gone all the same"
    );
}

#[test]
fn readers_and_release_go_on_beside_the_writer() {
    const EPOCHS: u64 = 1_500;
    let root = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        segment_bytes: 16 << 10,
        first_segment_bytes: 1 << 10,
        ..OpenOptions::new(1)
    };
    let mut log = open_any(Arc::new(RealDisk), root.path(), &options)
        .unwrap()
        .0
        .log;
    let size = |epoch: u64| (epoch * 97 % 1_900) as usize;
    let released = std::thread::scope(|scope| {
        let follower = log.reader();
        let retention = log.retention();
        let applier = scope.spawn(move || {
            let mut next = 1;
            while next <= EPOCHS {
                for logged in follower.read_from(next, 20_000).unwrap() {
                    assert_eq!(logged.epoch, next);
                    assert!(logged.body == body(next, 1, size(next)));
                    next += 1;
                }
                retention.release_through(next.saturating_sub(20));
            }
        });
        let late = log.reader();
        let looker = scope.spawn(move || {
            let mut released = 0;
            while late.durable_epoch() < EPOCHS {
                let mut from = late.durable_epoch().saturating_sub(200).max(1);
                loop {
                    match late.read_from(from, 5_000) {
                        Ok(read) if read.is_empty() => break,
                        Ok(read) => {
                            for logged in read {
                                assert_eq!(logged.epoch, from);
                                assert!(logged.body == body(from, 1, size(from)));
                                from += 1;
                            }
                        }
                        Err(LogError::Released { first, .. }) => {
                            released += 1;
                            from = first.unwrap_or(from + 1).max(from + 1);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            released
        });
        for epoch in 1..=EPOCHS {
            log.append(epoch, &[&body(epoch, 1, size(epoch))]).unwrap();
        }
        applier.join().unwrap();
        looker.join().unwrap()
    });
    tracing::debug!(released, "looks that came too late");
    drop(log);
    let marked = OpenOptions {
        applied_epoch: EPOCHS,
        ..options
    };
    let (recovered, found) = open_any(Arc::new(RealDisk), root.path(), &marked).unwrap();
    assert_eq!(recovered.last_epoch, EPOCHS);
    assert!(
        found
            .iter()
            .all(|(epoch, found)| *found == body(*epoch, 1, size(*epoch)))
    );
    assert!(
        found.len() < 200,
        "{} epochs were never let go",
        found.len()
    );
}

#[test]
fn crashes_while_the_thread_works() {
    // Which step comes when is the scheduler's; what must be found is not.
    for seed in super::seeds(40) {
        let _case = super::Case(format!("seed {seed} (with a thread: may not replay)"));
        let mut random = super::Random(seed);
        let mut disk = SimDisk::new(seed);
        let mut acknowledged = 0;
        let mut released = 0;
        for _ in 0..8 {
            let options = OpenOptions {
                applied_epoch: released,
                background: true,
                ..options()
            };
            let (recovered, found) = open(&disk, &options).unwrap();
            assert!(
                recovered.last_epoch == acknowledged || recovered.last_epoch == acknowledged + 1
            );
            assert!(
                found
                    .first()
                    .is_none_or(|(first, _)| *first <= released + 1)
            );
            for (at, (epoch, bytes)) in found.iter().enumerate() {
                assert_eq!(*epoch, found[0].0 + at as u64);
                assert!(*bytes == body(*epoch, 0, 900));
            }
            acknowledged = recovered.last_epoch;
            let mut log = recovered.log;
            disk.crash_at(disk.steps() + random.below(150));
            while log
                .append(acknowledged + 1, &[&body(acknowledged + 1, 0, 900)])
                .is_ok()
            {
                acknowledged += 1;
                if random.below(6) == 0 {
                    released = released.max(acknowledged - random.below(4).min(acknowledged));
                    log.retention().release_through(released);
                }
            }
            disk = disk.crash(if random.below(2) == 0 {
                Crash::Power
            } else {
                Crash::Process
            });
        }
        assert!(acknowledged > 50);
    }
}

/// Whoever recovers needs the last epoch's body, also when only attempts have followed it, a segment's end full of them.
#[test]
fn the_last_epoch_is_never_let_go() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    let all = append_all(&mut log, &[900, 900, 900]);
    log.retention().release_through(3);
    drop(log);
    let applied = OpenOptions {
        applied_epoch: 3,
        ..options()
    };
    for attempt in 2..40 {
        let (recovered, found) = open(&disk, &applied).unwrap();
        assert_eq!(recovered.attempt, attempt);
        assert_eq!(recovered.last_epoch, 3);
        assert!(
            found.last() == all.last(),
            "attempt {attempt} found {} epochs",
            found.len()
        );
        recovered.log.retention().release_through(3);
        assert!(recovered.log.reader().read_from(3, 0).unwrap()[0].body == all[2].1);
    }
}
