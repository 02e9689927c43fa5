//! The ingress on files that are renamed, cut, replaced and removed, while it runs and while it does not.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::input::spec;
use super::{Case, Reader, breathe, seeds};
use crate::disk::RealDisk;
use crate::io::file::FileIngress;
use crate::rand::Random;

fn open(path: &Path, follow: bool, position: Option<Bytes>) -> Reader {
    let name = path.display().to_string();
    let mut ingress = FileIngress::new(spec(path, "x/y", follow, |_| ()), Arc::new(RealDisk));
    Reader::open(
        &mut ingress,
        position.map(|position| (name.as_str(), position)),
    )
    .unwrap()
}

fn values(reader: &mut Reader, count: usize) -> Vec<String> {
    reader
        .take(count)
        .into_iter()
        .map(|(_, value)| value.unwrap())
        .collect()
}

/// A program that writes a log, and one that rotates it.
struct Log {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    csv: bool,
    /// Values that are in the log and were not read yet.
    unread: VecDeque<String>,
}

impl Log {
    fn new(path: PathBuf, csv: bool) -> Self {
        Self {
            path,
            file: None,
            written: 0,
            csv,
            unread: VecDeque::new(),
        }
    }

    fn raw(&mut self, text: &str) {
        let csv = self.csv;
        let path = &self.path;
        let file = self.file.get_or_insert_with(|| {
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(path)
                .unwrap();
            if csv && file.metadata().unwrap().len() == 0 {
                file.write_all(b"n,text\n").unwrap();
            }
            file
        });
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Writes records, in pieces that are no lines.
    fn write(&mut self, count: u64, random: &mut Random) {
        for _ in 0..count {
            self.written += 1;
            let n = self.written;
            // Of very different lengths, so that files are sometimes within their fingerprint.
            let text = "x".repeat(if random.below(4) == 0 {
                random.below(3_000) as usize
            } else {
                3
            });
            let (line, value) = if self.csv {
                (
                    format!("{n},\"{text}\n\"\r\n"),
                    format!("{{\"n\":{n},\"text\":\"{text}\\u000a\"}}"),
                )
            } else {
                (format!("[{n},\"{text}\"]\n"), format!("[{n},\"{text}\"]"))
            };
            let (first, second) = line.split_at(random.below(line.len() as u64) as usize);
            self.raw(first);
            if random.below(3) == 0 {
                breathe(random.below(3));
            }
            self.raw(second);
            self.unread.push_back(value);
        }
    }

    fn rotated(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}.{number}", self.path.display()))
    }

    /// Shifts the names, as logrotate does. The writer may write on to what was renamed.
    fn rename(&self) {
        if !self.path.exists() {
            return;
        }
        for number in (1..20).rev() {
            if self.rotated(number).exists() {
                fs::rename(self.rotated(number), self.rotated(number + 1)).unwrap();
            }
        }
        fs::rename(&self.path, self.rotated(1)).unwrap();
    }

    /// Has the reader read all, at a moment when nothing may be lost.
    fn read_all(&mut self, reader: &mut Reader) {
        self.read(reader, self.unread.len());
    }

    fn read(&mut self, reader: &mut Reader, count: usize) {
        for _ in 0..count.min(self.unread.len()) {
            let value = values(reader, 1).remove(0);
            assert_eq!(Some(value), self.unread.pop_front());
        }
    }
}

#[test]
fn nothing_is_lost_or_read_twice_whatever_happens_to_the_file() {
    for seed in seeds(40) {
        for csv in [false, true] {
            let _case = Case(format!("seed {seed}, csv {csv}"));
            let mut random = Random::seeded(seed);
            let dir = tempfile::tempdir().unwrap();
            let mut log = Log::new(
                dir.path().join(if csv { "log.csv" } else { "log.jsonl" }),
                csv,
            );
            // Before the first record there is no position, and only the file at the path counts.
            log.write(1, &mut random);
            let mut first = open(&log.path, true, None);
            log.read_all(&mut first);
            let mut position = first.position.clone();
            let mut reader = Some(first);
            for _ in 0..25 {
                match random.below(12) {
                    0..=3 => {
                        let count = random.below(6);
                        log.write(count, &mut random);
                    }
                    // Rotated; the writer opens the new file when it writes again.
                    4 => {
                        log.rename();
                        log.file = None;
                    }
                    // Rotated, but the writer still writes to the old file, even when the new one is there already.
                    5 => {
                        log.rename();
                        if random.below(2) == 0 && log.file.is_some() {
                            File::create(&log.path).unwrap();
                        }
                        if log.file.is_some() {
                            log.write(2, &mut random);
                        }
                        log.file = None;
                    }
                    // Cut, when everything was read: what was not is lost for any reader.
                    6 if reader.is_some() && log.path.exists() => {
                        let reader = reader.as_mut().unwrap();
                        log.read_all(reader);
                        position.clone_from(&reader.position);
                        if random.below(2) == 0 {
                            log.file = Some(File::options().append(true).open(&log.path).unwrap());
                            log.file.as_ref().unwrap().set_len(0).unwrap();
                            if csv {
                                log.raw("n,text\n");
                            }
                        } else {
                            // Removed and created again, perhaps with the same inode.
                            fs::remove_file(&log.path).unwrap();
                            log.file = None;
                        }
                        let count = 1 + random.below(4);
                        log.write(count, &mut random);
                        // Until it was looked at, nothing leads to it once it gets another name.
                        log.read(reader, 1);
                        position.clone_from(&reader.position);
                    }
                    // The application stops somewhere, and all of this may happen while it is down.
                    7 | 8 => {
                        if let Some(mut stopped) = reader.take() {
                            let stopped: &mut Reader = &mut stopped;
                            log.read(stopped, random.below(5) as usize);
                            if stopped.position.is_some() {
                                position.clone_from(&stopped.position);
                            }
                        }
                    }
                    _ => {
                        let reader =
                            reader.get_or_insert_with(|| open(&log.path, true, position.clone()));
                        log.read(reader, random.below(8) as usize);
                        if reader.position.is_some() {
                            position.clone_from(&reader.position);
                        }
                    }
                }
            }
            log.write(1, &mut random);
            let mut reader = reader.unwrap_or_else(|| open(&log.path, true, position));
            log.read_all(&mut reader);
            reader.stop();
            assert!(reader.rest().is_empty(), "something came twice");
        }
    }
}

#[test]
fn files_between_are_read_when_it_was_rotated_more_than_once_while_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "1\n2\n").unwrap();
    let mut reader = open(&path, true, None);
    assert_eq!(values(&mut reader, 1), ["1"]);
    let position = reader.position.clone();
    drop(reader);
    for (rotated, next) in [
        ("in.jsonl-20240101", "3\n4"),
        ("in.jsonl-20240102", "5\n"),
        ("in.jsonl-20240103", "6\n"),
    ] {
        fs::rename(&path, dir.path().join(rotated)).unwrap();
        fs::write(&path, next).unwrap();
    }
    let mut reader = open(&path, false, position);
    let all: Vec<String> = reader
        .rest()
        .into_iter()
        .map(|(_, value)| value.unwrap())
        .collect();
    assert_eq!(all, ["2", "3", "4", "5", "6"]);
}

#[test]
fn a_file_that_is_gone_is_waited_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "1\n").unwrap();
    let mut reader = open(&path, true, None);
    assert_eq!(values(&mut reader, 1), ["1"]);
    let position = reader.position.clone();
    fs::remove_file(&path).unwrap();
    breathe(5);
    fs::write(&path, "2\n").unwrap();
    assert_eq!(values(&mut reader, 1), ["2"]);
    drop(reader);
    // While down, too.
    fs::remove_file(&path).unwrap();
    let mut reader = open(&path, true, position);
    breathe(5);
    fs::write(&path, "3\n").unwrap();
    assert_eq!(values(&mut reader, 1), ["3"]);
}

#[test]
fn a_copy_in_place_of_the_file_is_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "1\n2\n3\n").unwrap();
    let mut reader = open(&path, false, None);
    assert_eq!(values(&mut reader, 2), ["1", "2"]);
    let position = reader.position.clone();
    // As an editor saves it.
    let copy = dir.path().join(".in.jsonl.new");
    fs::write(&copy, "1\n2\n3\n4\n").unwrap();
    fs::rename(&copy, &path).unwrap();
    let mut reader = open(&path, false, position.clone());
    assert_eq!(values(&mut reader, 2), ["3", "4"]);
    // Another content is another file.
    for other in ["1\n3\n2\n4\n", "0\n2\n3\n", "1\n", ""] {
        fs::write(&path, other).unwrap();
        let mut reader = open(&path, false, position.clone());
        let all: Vec<String> = reader
            .rest()
            .into_iter()
            .map(|(_, value)| value.unwrap())
            .collect();
        assert_eq!(
            all,
            other.lines().collect::<Vec<_>>(),
            "read from its beginning"
        );
    }
}

#[test]
fn a_file_that_is_cut_and_grows_beyond_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    for other in ["20\n21\n22\n23\n", "20\n", "1\n20\n21\n"] {
        fs::write(&path, "1\n2\n").unwrap();
        let mut reader = open(&path, true, None);
        assert_eq!(values(&mut reader, 2), ["1", "2"]);
        // It is the same inode.
        fs::write(&path, other).unwrap();
        let expected: Vec<&str> = other.lines().collect();
        assert_eq!(values(&mut reader, expected.len()), expected);
        assert!(reader.position.is_some());
    }
}
