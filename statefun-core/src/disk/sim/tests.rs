//! The simulated disk against what it promises: were it too kind, the tests above it would prove nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Crash, Fault, SimDisk};
use crate::disk::{Disk, DiskFile, FileKind, OpenMode};

fn root() -> &'static Path {
    Path::new("/")
}

fn at(name: &str) -> std::path::PathBuf {
    root().join(name)
}

/// A file with 8 durable sectors of ones.
fn with_file(seed: u64) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(seed);
    let file = disk.open(&at("f"), OpenMode::CreateNew).unwrap();
    file.write_at(&[1; 4_096], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(root()).unwrap();
    (disk, file)
}

#[test]
fn what_is_synced_survives_and_what_is_not_is_torn_by_sectors() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..300 {
        let (disk, file) = with_file(seed);
        file.write_at(&[2; 2_048], 1_000).unwrap();
        let content = disk.crash(Crash::Power).content(&at("f")).unwrap();
        assert_eq!(content.len(), 4_096);
        let mut kept = Vec::new();
        for (sector, bytes) in content.chunks(512).enumerate() {
            let start = sector * 512;
            let new: Vec<u8> = (start..start + 512)
                .map(|byte| if (1_000..3_048).contains(&byte) { 2 } else { 1 })
                .collect();
            assert!(bytes == new || bytes == [1; 512], "a sector is whole");
            kept.push(bytes == new);
        }
        outcomes.insert(kept[1..6].to_vec());
    }
    // All combinations of five sectors, none and all among them.
    assert_eq!(outcomes.len(), 32);
}

#[test]
fn the_death_of_the_process_loses_nothing_and_makes_nothing_durable() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, file) = with_file(seed);
        file.write_at(&[2; 512], 0).unwrap();
        disk.open(&at("g"), OpenMode::Create).unwrap();
        let disk = disk.crash(Crash::Process);
        assert_eq!(disk.content(&at("f")).unwrap()[..512], [2; 512]);
        assert!(disk.exists(&at("g")).unwrap());
        let later = disk.crash(Crash::Power);
        lost += usize::from(later.content(&at("f")).unwrap()[0] == 1);
        lost += usize::from(!later.exists(&at("g")).unwrap());
    }
    assert!(lost > 20);
}

#[test]
fn names_need_their_directory_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (disk, _) = with_file(seed);
        disk.open(&at("g"), OpenMode::Create).unwrap();
        disk.rename(&at("f"), &at("h")).unwrap();
        assert_eq!(disk.list(root()).unwrap(), ["g", "h"]);
        let names = disk.crash(Crash::Power).list(root()).unwrap();
        // Renamed or not, the file is never gone and never doubled.
        assert_eq!(names.iter().filter(|name| *name != "g").count(), 1);
        outcomes.insert(names);

        let (disk, _) = with_file(seed);
        disk.rename(&at("f"), &at("h")).unwrap();
        disk.open(&at("g"), OpenMode::Create).unwrap();
        disk.sync_dir(root()).unwrap();
        disk.remove(&at("h")).unwrap();
        let names = disk.crash(Crash::Power).list(root()).unwrap();
        assert_eq!(names[0], "g");
        outcomes.insert(names);
    }
    let expected = [
        vec!["f"],
        vec!["f", "g"],
        vec!["g"],
        vec!["g", "h"],
        vec!["h"],
    ];
    assert_eq!(Vec::from_iter(outcomes), expected);
}

#[test]
fn a_length_needs_its_file_synced() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let (disk, file) = with_file(seed);
        file.write_at(&[3; 512], 8_192).unwrap();
        let content = disk.crash(Crash::Power).content(&at("f")).unwrap();
        assert_eq!(content[..4_096], [1; 4_096]);
        lengths.insert((content.len(), content.last().copied()));
        let (disk, file) = with_file(seed);
        file.set_len(700).unwrap();
        file.sync_data().unwrap();
        file.set_len(1_000).unwrap();
        file.sync_all().unwrap();
        let content = disk.crash(Crash::Power).content(&at("f")).unwrap();
        assert_eq!(content, [vec![1; 700], vec![0; 300]].concat());
    }
    let expected = [(4_096, Some(1)), (8_704, Some(0)), (8_704, Some(3))];
    assert_eq!(Vec::from_iter(lengths), expected);
}

#[test]
fn a_failed_sync_marks_clean_what_it_lost() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, file) = with_file(seed);
        disk.fail_at(disk.steps() + 1, Fault::Io);
        file.write_at(&[2; 512], 0).unwrap();
        let error = file.sync_data().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        // The reader sees it, the next sync succeeds, and yet it may not be there.
        let mut seen = [0; 1];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [2]);
        file.sync_data().unwrap();
        lost += usize::from(disk.fork().crash(Crash::Power).content(&at("f")).unwrap()[0] == 1);
        // Written again it is.
        file.write_at(&[2; 512], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(disk.crash(Crash::Power).content(&at("f")).unwrap()[0], 2);
    }
    assert!(lost > 10);
}

#[test]
fn a_crash_comes_in_the_middle_of_its_step_and_nothing_after_it() {
    let mut written = BTreeSet::new();
    for seed in 0..50 {
        let (disk, file) = with_file(seed);
        let step = disk.steps();
        disk.crash_at(step + 1);
        file.write_at(&[2; 10], 0).unwrap();
        assert!(!disk.is_down());
        assert!(file.write_at(&[3; 4_096], 0).is_err());
        assert!(disk.is_down());
        assert!(file.read_at(&mut [0], 0).is_err());
        assert!(file.write_at(&[4], 0).is_err());
        assert!(file.sync_data().is_err());
        assert!(file.len().is_err());
        assert!(file.set_len(0).is_err());
        assert!(disk.list(root()).is_err());
        assert!(disk.sync_dir(root()).is_err());
        assert!(disk.rename(&at("f"), &at("g")).is_err());
        assert!(disk.remove(&at("f")).is_err());
        assert!(disk.lock(&at("l")).is_err());
        assert_eq!(disk.steps(), step + 2);
        let after = disk.crash(Crash::Process);
        let content = after.content(&at("f")).unwrap();
        written.insert(content.partition_point(|byte| *byte == 3));
        after
            .open(&at("f"), OpenMode::ReadWrite)
            .unwrap()
            .sync_all()
            .unwrap();
    }
    assert!(written.len() > 20 && written.iter().all(|count| *count <= 4_096));
}

#[test]
fn space_is_limited_and_rewriting_takes_none() {
    let (disk, file) = with_file(0);
    assert_eq!(disk.used_bytes(), 4_096);
    disk.set_capacity(Some(5_000));
    file.write_at(&[2; 4_096], 0).unwrap();
    // One sector more fits, and a second one not: the write is done in part.
    let error = file.write_at(&[3; 2_000], 4_096).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 4_608);
    file.set_len(100_000).unwrap();
    assert_eq!(disk.used_bytes(), 4_608);
    assert!(file.write_at(&[1], 50_000).is_err());
    file.set_len(1_024).unwrap();
    file.write_at(&[1], 2_000).unwrap();
    disk.remove(&at("f")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
    // Who has it open still reads it.
    let mut seen = [0; 1];
    file.read_exact_at(&mut seen, 2_000).unwrap();
    assert_eq!(seen, [1]);
}

#[test]
fn faults_locks_and_modes() {
    let (disk, file) = with_file(0);
    disk.fail_at(disk.steps(), Fault::NoSpace);
    assert_eq!(
        disk.rename(&at("f"), &at("g")).unwrap_err().raw_os_error(),
        Some(libc::ENOSPC)
    );
    assert!(disk.exists(&at("f")).unwrap());
    disk.set_readable(&at("f"), false);
    assert!(file.read_at(&mut [0], 0).is_err());
    disk.set_readable(&at("f"), true);
    disk.flip(&at("f"), 3, 0xf0);
    let mut seen = [0; 2];
    file.read_exact_at(&mut seen, 3).unwrap();
    assert_eq!(seen, [0xf1, 1]);

    let lock = disk.lock(&at("l")).unwrap();
    assert_eq!(
        disk.clone().lock(&at("l")).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let after = disk.fork().crash(Crash::Process);
    let _own = after.lock(&at("l")).unwrap();
    drop(lock);
    disk.lock(&at("l")).unwrap();

    assert_eq!(
        disk.open(&at("x"), OpenMode::Read).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        disk.open(&at("a/x"), OpenMode::Create).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        disk.open(&at("f"), OpenMode::CreateNew).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    assert!(
        disk.open(&at("f"), OpenMode::Read)
            .unwrap()
            .write_at(&[1], 0)
            .is_err()
    );
    disk.create_dir_all(&at("a/b")).unwrap();
    disk.open(&at("a/x"), OpenMode::Create).unwrap();
    assert_eq!(disk.list(&at("a")).unwrap(), ["x"]);
    assert!(disk.create_dir_all(&at("f/g")).is_err());
}

#[test]
fn space_set_aside_reads_as_zeros_and_takes_room_and_its_length_is_lost_unless_synced() {
    let mut lengths = BTreeSet::new();
    for seed in 0..60 {
        let (disk, _) = with_file(seed);
        let file = disk.open(&at("g"), OpenMode::CreateNew).unwrap();
        disk.sync_dir(root()).unwrap();
        file.reserve(2_048).unwrap();
        assert_eq!(disk.content(&at("g")), Some(vec![0; 2_048]));
        assert_eq!(disk.used_bytes(), 4_096 + 2_048);
        file.write_at(&[3; 512], 512).unwrap();
        let found = disk.fork().crash(Crash::Power).content(&at("g")).unwrap();
        assert!(found.iter().all(|byte| *byte == 0) || found[512..1_024] == [3; 512]);
        lengths.insert(found.len());
        file.sync_all().unwrap();
        // Writing into it needs no room.
        disk.set_capacity(Some(disk.used_bytes()));
        file.write_at(&[4; 512], 1_024).unwrap();
        let full = disk.open(&at("h"), OpenMode::CreateNew).unwrap();
        let refused = full.reserve(512).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        let found = disk.crash(Crash::Power).content(&at("g")).unwrap();
        assert_eq!((found.len(), &found[512..1_024]), (2_048, &[3; 512][..]));
        assert!([[0; 512], [4; 512]].contains(found[1_024..1_536].try_into().unwrap()));
    }
    assert!(
        lengths.contains(&0) && lengths.contains(&2_048),
        "{lengths:?}"
    );
}

#[test]
fn a_file_keeps_its_number_and_no_other_gets_it() {
    let disk = SimDisk::new(1);
    let create = |name| disk.open(&at(name), OpenMode::Create).unwrap();
    let file = create("a");
    file.write_at(b"xyz", 0).unwrap();
    let known = file.metadata().unwrap();
    assert_eq!((known.kind, known.bytes), (FileKind::File, 3));
    disk.rename(&at("a"), &at("b")).unwrap();
    assert!(known.is_same(&disk.metadata(&at("b")).unwrap()));
    assert!(disk.metadata(&at("a")).is_err());
    let other = create("a").metadata().unwrap();
    assert!(!known.is_same(&other));
    assert_eq!(
        disk.entries(root()).unwrap(),
        [("a".to_owned(), other), ("b".to_owned(), known)]
    );
    disk.remove(&at("b")).unwrap();
    assert!(!known.is_same(&create("b").metadata().unwrap()));
    assert!(known.is_same(&file.metadata().unwrap()));
    let dir = disk.metadata(root()).unwrap();
    assert_eq!(dir.kind, FileKind::Directory);
}
