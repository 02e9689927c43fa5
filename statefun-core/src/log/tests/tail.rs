//! Reading a log that nobody has open, without changing it.

use super::*;
use crate::log::read_tail;

fn read(disk: &SimDisk, options: &OpenOptions) -> Result<(u64, Epochs), LogError> {
    let mut found = Vec::new();
    let last = read_tail(disk, &dir(), options, &mut |record| {
        found.push((record.epoch, record.body.to_vec()));
        Ok::<(), Infallible>(())
    })?;
    Ok((last, found))
}

/// The names and bytes of all files.
fn content(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(&dir()).unwrap();
    let read = |name: String| {
        let file = disk
            .open(&dir().join(&name), crate::disk::OpenMode::Read)
            .unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

#[test]
fn it_shows_what_the_next_start_finds_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let mut written = Vec::new();
    for sizes in [&[10, 3_000, 700][..], &[5_000, 1], &[]] {
        let (mut recovered, found) = open(&disk, &options()).unwrap();
        assert_eq!(found, written);
        written.extend(append_all(&mut recovered.log, sizes));
        drop(recovered);
        let before = content(&disk);
        for _ in 0..2 {
            let (last, found) = read(&disk, &options()).unwrap();
            assert_eq!((last, &found), (written.len() as u64, &written));
        }
        assert_eq!(content(&disk), before);
    }
    let (recovered, _) = open(&disk, &options()).unwrap();
    assert_eq!(recovered.attempt, 4, "reading is no start");
    assert!(matches!(
        read(&disk, &options()),
        Err(LogError::Locked { .. })
    ));
}

#[test]
fn a_torn_end_is_not_shown_and_stays() {
    let disk = SimDisk::new(2);
    let (mut recovered, _) = open(&disk, &options()).unwrap();
    let written = append_all(&mut recovered.log, &[100, 200, 300]);
    drop(recovered);
    // Within the body of the last record.
    let file = disk
        .open(&segment_path(1), crate::disk::OpenMode::ReadWrite)
        .unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    file.write_at(&[bytes[last as usize] ^ 1], last).unwrap();
    drop(file);
    let before = content(&disk);
    let (last, found) = read(&disk, &options()).unwrap();
    assert_eq!((last, &found[..]), (2, &written[..2]));
    assert_eq!(content(&disk), before);
    let (_, found) = open(&disk, &options()).unwrap();
    assert_eq!(found, &written[..2]);
}

#[test]
fn damage_is_an_error_here_too() {
    let disk = SimDisk::new(3);
    let (mut recovered, _) = open(&disk, &options()).unwrap();
    append_all(&mut recovered.log, &[100, 200, 300]);
    drop(recovered);
    let file = disk
        .open(&segment_path(1), crate::disk::OpenMode::ReadWrite)
        .unwrap();
    // The record of epoch 1 stands behind that of the attempt.
    file.write_at(&[0xff; 8], 512 + 80).unwrap();
    assert!(matches!(
        read(&disk, &options()),
        Err(LogError::Corrupt { .. })
    ));
}

#[test]
fn without_a_log_there_is_no_epoch() {
    let disk = SimDisk::new(4);
    assert_eq!(read(&disk, &options()).unwrap(), (0, Vec::new()));
    assert!(!disk.exists(&dir()).unwrap());
}
