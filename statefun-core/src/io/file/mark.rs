//! Where reading goes on: which file, and where in it.

use std::io::{self, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::{DiskFile, Metadata};

/// How many of a file's first bytes tell it from others.
pub(super) const HEAD_BYTES: usize = 1 << 10;
/// How many of the last bytes read do.
const TAIL_BYTES: usize = 1 << 8;

/// The position behind a record. It is JSON, so that it can be read where positions are shown.
///
/// Neither the inode nor the content alone says which file it is: a log's successor may get its inode,
/// a copy has its content. The device is only told to whoever reads it: its number may be another after a restart of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Position {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// The first bytes of the file, as far as they are read, and their hash.
    head_bytes: u64,
    head: String,
    /// The last bytes of the record, and their hash.
    tail_bytes: u64,
    tail: String,
    /// Bytes of the file up to the end of the record.
    pub(super) offset: u64,
    /// The number of the line that follows.
    pub(super) line: u64,
}

impl Position {
    /// What tells that a file's content is the one that was read up to here; none when it is not.
    pub(super) fn found_in(&self, file: &dyn DiskFile) -> io::Result<Option<Seen>> {
        if self.head_bytes.max(self.tail_bytes) > self.offset || file.len()? < self.offset {
            return Ok(None);
        }
        let head = read_up_to(file, 0, self.head_bytes)?;
        let tail = read_up_to(file, self.offset - self.tail_bytes, self.tail_bytes)?;
        Ok((hash(&head) == self.head && hash(&tail) == self.tail).then_some(Seen { head, tail }))
    }
}

/// Bytes of a file that tell it from others.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Its first ones.
    pub(super) head: Vec<u8>,
    /// The last ones before a position.
    pub(super) tail: Vec<u8>,
}

/// Makes the positions in one file.
#[derive(Debug)]
pub(super) struct Marker {
    device: u64,
    inode: u64,
    /// The file's first bytes, as far as they were read.
    head: Vec<u8>,
    /// How many of them `beginning` tells of.
    told: usize,
    /// What all positions begin with.
    beginning: Vec<u8>,
}

impl Marker {
    pub(super) fn new(file: &Metadata, head: Vec<u8>) -> Self {
        Self {
            device: file.device,
            inode: file.inode,
            head,
            told: usize::MAX,
            beginning: Vec::new(),
        }
    }

    /// Reads as much of the file's head as is known to belong to it.
    pub(super) fn read_head(&mut self, file: &dyn DiskFile, read_bytes: u64) -> io::Result<()> {
        let known = read_bytes.min(HEAD_BYTES as u64);
        if self.head.len() < known as usize {
            self.head = read_up_to(file, 0, known)?;
        }
        Ok(())
    }

    /// Whether the file still begins with what was read.
    pub(super) fn is_head_of(&self, file: &dyn DiskFile) -> io::Result<bool> {
        Ok(read_up_to(file, 0, self.head.len() as u64)? == self.head)
    }

    /// The position behind a record whose bytes end with `raw`.
    pub(super) fn position(&mut self, raw: &[u8], offset: u64, line: u64) -> Bytes {
        let head_bytes = self
            .head
            .len()
            .min(usize::try_from(offset).unwrap_or(usize::MAX));
        if self.told != head_bytes {
            self.told = head_bytes;
            self.beginning.clear();
            let head = hash(&self.head[..head_bytes]);
            // A vector takes whatever is written.
            let _ = write!(
                self.beginning,
                r#"{{"device":{},"inode":{},"headBytes":{head_bytes},"head":"{head}""#,
                self.device, self.inode
            );
        }
        let tail = &raw[raw.len().saturating_sub(TAIL_BYTES)..];
        let mut position = Vec::with_capacity(self.beginning.len() + 96);
        position.extend_from_slice(&self.beginning);
        let _ = write!(
            position,
            r#","tailBytes":{},"tail":"{:016x}","offset":{offset},"line":{line}}}"#,
            tail.len(),
            xxh3_64(tail)
        );
        position.into()
    }
}

/// Reads so many bytes, or as many as there are.
pub(super) fn read_up_to(file: &dyn DiskFile, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut found = vec![0; bytes as usize];
    let filled = file.read_at(&mut found, offset)?;
    found.truncate(filled);
    Ok(found)
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, FileKind, OpenMode, SimDisk};

    #[test]
    fn positions_are_json_and_know_their_file() {
        let disk = SimDisk::new(1);
        let create = |name| disk.open(Path::new(name), OpenMode::Create).unwrap();
        let file = create("/file");
        file.write_at(&[b'x'; 3_000], 0).unwrap();
        let (file, shorter) = (&*file, &*create("/shorter"));
        let found = Metadata {
            kind: FileKind::File,
            device: 7,
            inode: 8,
            bytes: 3_000,
        };
        let mut marker = Marker::new(&found, Vec::new());
        for offset in [1, 5, 900, 1_024, 1_025, 3_000] {
            marker.read_head(file, 2_000).unwrap();
            let raw = vec![b'x'; (offset as usize).min(300)];
            let bytes = marker.position(&raw, offset, 3);
            let position: Position = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(
                (
                    position.device,
                    position.inode,
                    position.offset,
                    position.line
                ),
                (7, 8, offset, 3)
            );
            assert_eq!(
                serde_json::to_string(&position).unwrap().as_bytes(),
                bytes,
                "written as serde would"
            );
            assert!(position.found_in(file).unwrap().is_some());
            for changed in [0, offset - 1] {
                file.write_at(b"y", changed).unwrap();
                assert!(
                    position.found_in(file).unwrap().is_none(),
                    "{offset} {changed}"
                );
                file.write_at(b"x", changed).unwrap();
            }
            shorter.set_len(0).unwrap();
            shorter
                .write_at(&vec![b'x'; offset as usize - 1], 0)
                .unwrap();
            assert!(position.found_in(shorter).unwrap().is_none());
        }
        let nonsense = Position {
            head_bytes: u64::MAX,
            ..serde_json::from_slice(&marker.position(b"x", 5, 1)).unwrap()
        };
        assert!(nonsense.found_in(file).unwrap().is_none());
    }
}
