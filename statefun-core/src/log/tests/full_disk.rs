//! A full disk stops the log cleanly, and it goes on when there is space.

use super::{Case, append_all, body, open, options, seeds};
use crate::disk::{Crash, Fault, SimDisk};
use crate::log::{EpochLog, LogError, OpenOptions};

fn append_until_full(log: &mut EpochLog) -> Vec<(u64, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let epoch = log.last_epoch() + 1;
        let body = body(epoch, 1, 700);
        match log.append(epoch, &[&body]) {
            Ok(_) => all.push((epoch, body)),
            Err(LogError::NoSpace { .. }) => return all,
            Err(error) => panic!("{error}"),
        }
        assert!(all.len() < 1_000, "never full");
    }
}

#[test]
fn it_goes_on_when_there_is_space_again() {
    goes_on(false);
    goes_on(true);
}

fn goes_on(background: bool) {
    let options = || OpenOptions {
        background,
        ..options()
    };
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    disk.set_capacity(Some(60_000));
    let mut all = append_until_full(&mut log);
    assert!(all.len() > 20, "prepared segments are used to their end");
    for _ in 0..3 {
        let error = log.append(log.last_epoch() + 1, &[&[1; 700]]).unwrap_err();
        assert!(matches!(&error, LogError::NoSpace { .. }));
        assert!(error.to_string().contains("no space is left"), "{error}");
    }
    // What is durable can be read meanwhile, and found after a crash.
    assert_eq!(
        log.reader().read_from(1, usize::MAX).unwrap().len(),
        all.len()
    );
    // Also again and again, each time with the record of an attempt.
    let mut after = disk.fork();
    for _ in 0..5 {
        after = after.crash(Crash::Power);
        assert!(open(&after, &options()).unwrap().1 == all);
    }
    disk.set_capacity(None);
    all.extend(append_all(&mut log, &[700, 10_000, 3]));
    drop(log);
    assert!(open(&disk.crash(Crash::Power), &options()).unwrap().1 == all);
}

#[test]
fn releasing_gives_the_space_that_is_needed() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    disk.set_capacity(Some(60_000));
    let mut all = append_until_full(&mut log);
    for _ in 0..5 {
        let released = log.last_epoch();
        log.retention().release_through(released);
        let more = append_until_full(&mut log);
        assert!(!more.is_empty());
        all.extend(more);
        assert!(disk.used_bytes() <= 60_000);
    }
    let applied_epoch = log.last_epoch();
    drop(log);
    let (_, found) = open(
        &disk.crash(Crash::Power),
        &OpenOptions {
            applied_epoch,
            ..options()
        },
    )
    .unwrap();
    assert!(!found.is_empty() && all.ends_with(&found));
}

#[test]
fn a_start_on_a_full_disk_says_so_and_can_be_repeated() {
    let disk = SimDisk::new(0);
    disk.set_capacity(Some(1_024));
    for _ in 0..3 {
        let error = open(&disk, &options()).unwrap_err();
        assert!(matches!(error, LogError::NoSpace { .. }), "{error}");
    }
    disk.set_capacity(Some(6_144));
    open(&disk, &options()).unwrap();
}

#[test]
fn a_write_that_meets_a_full_disk_does_not_count() {
    // The write is refused within the prepared segment, as file systems that copy on write do; the retry is longer,
    // so that it may have to go into the next segment, and shorter in turn.
    for seed in seeds(100) {
        for size in [0, 100, 700, 1_400] {
            for retry in [Some(10), Some(700), Some(5_000), None] {
                let _case = Case(format!("seed {seed}, size {size}, retry {retry:?}"));
                let disk = SimDisk::new(seed);
                let mut log = open(&disk, &options()).unwrap().0.log;
                let step = disk.steps();
                disk.fail_at(step, Fault::NoSpace);
                let refused = body(1, 1, size);
                let error = log.append(1, &[&refused]).unwrap_err();
                assert!(matches!(error, LogError::NoSpace { .. }), "{error}");
                let Some(retry) = retry else {
                    drop(log);
                    assert!(open(&disk, &options()).unwrap().1.is_empty());
                    continue;
                };
                let accepted = body(1, 2, retry);
                log.append(1, &[&accepted]).unwrap();
                log.append(2, &[]).unwrap();
                drop(log);
                let (_, found) = open(&disk.crash(Crash::Power), &options()).unwrap();
                assert!(found == [(1, accepted), (2, Vec::new())]);
            }
        }
    }
}

#[test]
fn a_refused_write_that_cannot_be_cleared_at_once_is_cleared_later() {
    for seed in seeds(100) {
        let _case = Case(format!("seed {seed}"));
        let disk = SimDisk::new(seed);
        let mut log = open(&disk, &options()).unwrap().0.log;
        let step = disk.steps();
        disk.fail_at(step, Fault::NoSpace);
        disk.fail_at(step + 1, Fault::NoSpace);
        // All zeros, as the segment was before: even the part that was not written looks written.
        assert!(matches!(
            log.append(1, &[&[0; 1_000]]),
            Err(LogError::NoSpace { .. })
        ));
        log.append(1, &[&[5; 5_000]]).unwrap();
        log.append(2, &[b"next"]).unwrap();
        drop(log);
        let (_, found) = open(&disk.crash(Crash::Power), &options()).unwrap();
        assert!(found == [(1, vec![5; 5_000]), (2, b"next".to_vec())]);
    }
}
