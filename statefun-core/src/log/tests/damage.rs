//! Damage that a crash does not explain, and ends that it does.

use std::path::PathBuf;

use super::{Epochs, LINEAGE, append_all, dir, open, options, segment_path};
use crate::disk::{Crash, Disk, OpenMode, SimDisk};
use crate::log::record::HEADER_BYTES;
use crate::log::{LogError, OpenOptions, Position};

/// A log over three segments, its epochs and where they are.
fn written() -> (SimDisk, Epochs, Vec<Position>) {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    let (mut all, mut places) = (Vec::new(), Vec::new());
    for (epoch, size) in [700, 3, 2_000, 500, 3_000, 1_000, 100]
        .into_iter()
        .enumerate()
    {
        let body = super::body(epoch as u64 + 1, 1, size);
        places.push(log.append(epoch as u64 + 1, &[&body]).unwrap());
        all.push((epoch as u64 + 1, body));
    }
    assert_eq!(places.last().unwrap().segment, 3);
    (disk, all, places)
}

fn path_of(place: &Position) -> PathBuf {
    segment_path(place.segment)
}

#[test]
fn a_changed_byte_in_the_middle_names_its_place() {
    let (disk, all, places) = written();
    for place in &places[..all.len() - 1] {
        for byte in (0..place.bytes).step_by(7).chain([place.bytes - 1]) {
            let disk = disk.fork();
            disk.flip(&path_of(place), place.offset + byte, 0x10);
            let error = open(&disk, &options()).unwrap_err();
            match &error {
                LogError::Corrupt { path, offset, .. } => {
                    assert_eq!(
                        (path, *offset),
                        (&path_of(place), place.offset),
                        "byte {byte}"
                    );
                }
                other => panic!("byte {byte} at {place:?}: {other}"),
            }
            let text = error.to_string();
            assert!(
                text.contains("a whole record of attempt 1, epoch"),
                "{text}"
            );
            assert!(text.contains("restore from a checkpoint"), "{text}");
        }
        // What is between records has no meaning.
        let gap = place.offset + place.bytes;
        if !gap.is_multiple_of(512) {
            let disk = disk.fork();
            disk.flip(&path_of(place), gap, 0xff);
            assert!(open(&disk, &options()).unwrap().1 == all);
        }
    }
    // Nothing was changed by the failing starts: the first record of all as well.
    let disk = disk.fork();
    disk.flip(&segment_path(1), 3, 1);
    let before = disk.content(&segment_path(1));
    let error = open(&disk, &options()).unwrap_err();
    assert!(
        matches!(error, LogError::Corrupt { offset: 0, .. }),
        "{error}"
    );
    assert_eq!(disk.content(&segment_path(1)), before);
}

#[test]
fn a_torn_end_is_given_up_unless_the_state_has_it() {
    let (disk, all, places) = written();
    let (last, kept) = (places.last().unwrap(), &all[..all.len() - 1]);
    for byte in 0..last.bytes {
        let disk = disk.fork();
        disk.flip(&path_of(last), last.offset + byte, 1);
        let marked = OpenOptions {
            applied_epoch: all.len() as u64,
            ..options()
        };
        let error = open(&disk, &marked).unwrap_err();
        match &error {
            LogError::MarkerAhead {
                path,
                offset,
                last_epoch: 6,
                applied_epoch: 7,
            } => {
                assert!(
                    (path.clone(), *offset) == (path_of(last), last.offset) || last.offset == 0,
                    "{error}"
                );
            }
            other => panic!("{other}"),
        }
        let (recovered, found) = open(&disk, &options()).unwrap();
        assert!(found == kept);
        if byte >= HEADER_BYTES as u64 {
            let torn = recovered.torn.unwrap();
            assert_eq!((torn.segment, torn.offset), (last.segment, last.offset));
        }
        let mut log = recovered.log;
        let more = append_all(&mut log, &[60]);
        drop(log);
        let found = open(&disk, &options()).unwrap().1;
        assert!(found == [kept, &more].concat());
    }
}

#[test]
fn a_marker_beyond_the_log_is_an_error() {
    let (disk, ..) = written();
    for (applied_epoch, fits) in [(6, true), (7, true), (8, false), (u64::MAX, false)] {
        let outcome = open(
            &disk,
            &OpenOptions {
                applied_epoch,
                ..options()
            },
        );
        match outcome {
            Ok(_) => assert!(fits),
            Err(error) => assert!(
                !fits && matches!(error, LogError::MarkerAhead { .. }),
                "{error}"
            ),
        }
    }
    let empty = SimDisk::new(0);
    let lost = OpenOptions {
        applied_epoch: 1,
        ..options()
    };
    assert!(matches!(
        open(&empty, &lost),
        Err(LogError::MarkerAhead { .. })
    ));
    assert!(matches!(
        open(
            &empty,
            &OpenOptions {
                applied_epoch: u64::MAX,
                ..options()
            }
        ),
        Err(LogError::MarkerAhead { .. })
    ));
}

#[test]
fn missing_segments_are_noticed() {
    let (disk, all, _) = written();
    let without = |number| {
        let disk = disk.fork();
        disk.remove(&segment_path(number)).unwrap();
        disk
    };
    let error = open(&without(2), &options()).unwrap_err();
    assert!(
        matches!(&error, LogError::MissingSegment { path } if *path == segment_path(2)),
        "{error}"
    );
    let error = open(&without(1), &options()).unwrap_err();
    assert!(
        matches!(&error, LogError::MissingEpochs { path, first_epoch: 3, applied_epoch: 0 } if *path == segment_path(2)),
        "{error}"
    );
    // The state has what the log lacks.
    let (recovered, found) = open(
        &without(1),
        &OpenOptions {
            applied_epoch: 2,
            ..options()
        },
    )
    .unwrap();
    assert!(found == all[2..]);
    assert_eq!(recovered.first_epoch, Some(3));
    // Only empty segments are left.
    let disk = without(1);
    disk.remove(&segment_path(2)).unwrap();
    disk.remove(&segment_path(3)).unwrap();
    let error = open(&disk, &options()).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
}

#[test]
fn exchanged_and_shortened_segments_are_noticed() {
    let (disk, ..) = written();
    let exchanged = disk.fork();
    let aside = dir().join("aside");
    exchanged.rename(&segment_path(2), &aside).unwrap();
    exchanged
        .rename(&segment_path(3), &segment_path(2))
        .unwrap();
    exchanged.rename(&aside, &segment_path(3)).unwrap();
    // Neither is where it was written, so that there is no more than an end that is lost; the marker tells.
    let marked = OpenOptions {
        applied_epoch: 7,
        ..options()
    };
    assert!(matches!(
        open(&exchanged, &marked),
        Err(LogError::MarkerAhead { .. })
    ));

    let shortened = disk.fork();
    let file = shortened
        .open(&segment_path(2), OpenMode::ReadWrite)
        .unwrap();
    file.set_len(1_000).unwrap();
    let error = open(&shortened, &options()).unwrap_err();
    assert!(
        matches!(&error, LogError::Corrupt { path, offset: 0, .. } if *path == segment_path(2))
            || matches!(&error, LogError::Corrupt { path, .. } if *path == segment_path(1)),
        "{error}"
    );
}

#[test]
fn another_lineage_is_named() {
    let (disk, ..) = written();
    let other = OpenOptions {
        lineage: 0xabc,
        ..options()
    };
    let error = open(&disk, &other).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Lineage {
                expected: 0xabc,
                found: LINEAGE,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("0000000000000abc"), "{error}");
    assert!(error.to_string().contains("00000000feedbeef"), "{error}");
    assert_eq!(open(&disk, &options()).unwrap().1.len(), 7);
}

#[test]
fn an_unreadable_file_is_an_error_not_an_end() {
    let (disk, ..) = written();
    for number in 1..=3 {
        disk.set_readable(&segment_path(number), false);
        let error = open(&disk, &options()).unwrap_err();
        assert!(
            matches!(&error, LogError::Io { operation: "read", path, .. } if *path == segment_path(number)),
            "{error}"
        );
        disk.set_readable(&segment_path(number), true);
    }
    assert_eq!(open(&disk, &options()).unwrap().1.len(), 7);
}

#[test]
fn a_body_that_looks_like_records_is_only_a_body() {
    let disk = SimDisk::new(0);
    let mut log = open(&disk, &options()).unwrap().0.log;
    append_all(&mut log, &[100, 200]);
    // A copy of the log itself, so that sectors of the body look like records, those of recycled segments included.
    let copy = disk.content(&segment_path(1)).unwrap();
    let shifted = [&[0; 512 - HEADER_BYTES], copy.as_slice()].concat();
    let place = log.append(3, &[&shifted]).unwrap();
    drop(log);
    for byte in [0, 600, place.bytes - 1] {
        let disk = disk.fork();
        disk.flip(&path_of(&place), place.offset + byte, 1);
        let (recovered, found) = open(&disk.crash(Crash::Power), &options()).unwrap();
        assert_eq!((found.len(), recovered.last_epoch), (2, 2));
    }
    assert_eq!(open(&disk, &options()).unwrap().1[2].1, shifted);
}

#[test]
fn a_newer_version_is_named() {
    let (disk, _, places) = written();
    let place = &places[4];
    let content = disk.content(&path_of(place)).unwrap();
    let mut record = content[place.offset as usize..][..place.bytes as usize].to_vec();
    record[4] = 9;
    let hashed = [&record[..64], &record[HEADER_BYTES..]].concat();
    let checksum = xxhash_rust::xxh3::xxh3_64(&hashed);
    record[64..72].copy_from_slice(&checksum.to_le_bytes());
    let file = disk.open(&path_of(place), OpenMode::ReadWrite).unwrap();
    file.write_at(&record, place.offset).unwrap();
    let error = open(&disk, &options()).unwrap_err();
    assert!(
        matches!(&error, LogError::Version { offset, found: 9, supported: 1, .. } if *offset == place.offset),
        "{error}"
    );
}

#[test]
fn any_bytes_in_the_directory_are_survived() {
    for seed in super::seeds(200) {
        let _case = super::Case(format!("seed {seed}"));
        let mut random = super::Random(seed);
        let (disk, all, _) = written();
        for _ in 0..=random.below(3) {
            let number = 1 + random.below(4);
            let file = disk.open(&segment_path(number), OpenMode::Create).unwrap();
            let bytes: Vec<u8> = (0..random.below(2_000))
                .map(|_| random.below(256) as u8)
                .collect();
            match random.below(3) {
                0 => file.set_len(random.below(9_000)).unwrap(),
                1 => file.write_at(&bytes, random.below(8_000)).unwrap(),
                _ => file
                    .write_at(&vec![0; bytes.len()], random.below(8_000))
                    .unwrap(),
            }
        }
        // An error, or a beginning of the truth.
        if let Ok((_, found)) = open(&disk, &options()) {
            assert!(all.starts_with(&found));
        }
    }
}
