//! Segment files: their names, how they are filled with zeros, and reading records from them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::record::{Defect, HEADER_BYTES, MAGIC, SECTOR, Sealed};
use crate::disk::DiskFile;

/// What epochs leave free at the end of a segment, in bytes: room for the records of some attempts, so that a process can
/// start, and have old segments released, although the disk is full.
pub(super) const RESERVE: u64 = 4_096;
/// What files in the making end with; found at opening, they are left-overs.
pub(super) const UNFINISHED: &str = ".tmp";
/// What the names of spare segments end with; found at opening, they are removed.
pub(super) const SPARE: &str = "spare";
/// The file that is locked as long as the log is open.
pub(super) const LOCK: &str = "lock";
/// How much is read ahead when records are read one after the other, in bytes.
const READ_AHEAD: usize = 256 << 10;
/// How much is written and synced at once when a segment is prepared, in bytes: epochs have to wait for as long as the device
/// takes for it.
const PIECE_BYTES: usize = 1 << 20;

/// A segment's file. Whoever uses it from outside the lock holds a reference, and as long as there is one the file is
/// not recycled.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// How much it holds, in bytes; a multiple of [`SECTOR`].
    pub(super) bytes: u64,
}

impl Segment {
    pub(super) fn new(dir: &Path, number: u64, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            number,
            path: path(dir, number),
            bytes,
        })
    }
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

/// The number of the segment with this file name, if it is one.
pub(super) fn number(name: &str) -> Option<u64> {
    numbered(name.strip_suffix(".log")?)
}

/// Whether a file with this name is of no use after a start: unfinished, or a spare.
pub(super) fn is_left_over(name: &str) -> bool {
    let stem = name
        .strip_suffix(SPARE)
        .and_then(|name| name.strip_suffix('.'));
    name.ends_with(UNFINISHED) || stem.and_then(numbered).is_some()
}

fn numbered(digits: &str) -> Option<u64> {
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Half of all numbers is more than will ever be used, and the next one always exists.
    digits
        .parse()
        .ok()
        .filter(|number| (1..=u64::MAX / 2).contains(number))
}

/// `bytes`, made up to whole sectors.
pub(super) fn whole_sectors(bytes: u64) -> u64 {
    bytes.saturating_add(SECTOR - 1) & !(SECTOR - 1)
}

/// Fills a file with zeros, on the medium too. Before each piece it is asked, with how far it is, whether it `goes_on`; gives
/// `false` when it does not.
pub(super) fn fill(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<bool> {
    let zeros = vec![0; PIECE_BYTES.min(to.saturating_sub(from) as usize)];
    let mut at = from;
    while at < to {
        if !goes_on(at) {
            return Ok(false);
        }
        let count = zeros.len().min((to - at) as usize);
        file.write_at(&zeros[..count], at)?;
        at += count as u64;
        if at < to {
            file.sync_data()?;
        }
    }
    file.sync_all()?;
    Ok(true)
}

/// Reads the records of a segment, in memory for one record or the read-ahead, whichever is more.
pub(super) struct Cursor {
    file: Arc<dyn DiskFile>,
    number: u64,
    bytes: u64,
    window: Vec<u8>,
    window_start: u64,
    hasher: Xxh3,
}

impl Cursor {
    pub(super) fn new(file: Arc<dyn DiskFile>, number: u64, bytes: u64) -> Self {
        Self {
            file,
            number,
            bytes,
            window: Vec::new(),
            window_start: 0,
            hasher: Xxh3::new(),
        }
    }

    /// Bytes of the segment; `count` must be within it.
    fn fetch(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = offset + count as u64;
        if offset < self.window_start || end > self.window_start + self.window.len() as u64 {
            let ahead = count
                .max(READ_AHEAD)
                .min(self.bytes.saturating_sub(offset) as usize);
            self.window.resize(ahead.max(count), 0);
            self.window_start = offset;
            if let Err(error) = self.file.read_exact_at(&mut self.window, offset) {
                self.window.clear();
                return Err(error);
            }
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..start + count])
    }

    /// The record that begins at `offset` and its body, or why there is none.
    pub(super) fn record(&mut self, offset: u64) -> io::Result<Result<(Sealed, &[u8]), Defect>> {
        let sealed = match self.head(offset)? {
            Ok(sealed) => sealed,
            Err(defect) => return Ok(Err(defect)),
        };
        let body_offset = offset + HEADER_BYTES as u64;
        let mut hasher = std::mem::take(&mut self.hasher);
        let body = self.fetch(body_offset, sealed.body_bytes() as usize)?;
        let verdict = sealed.verify(&mut hasher, |hasher| hasher.update(body));
        self.hasher = hasher;
        if let Err(defect) = verdict {
            return Ok(Err(defect));
        }
        let body = self.fetch(body_offset, sealed.body_bytes() as usize)?;
        Ok(Ok((sealed, body)))
    }

    fn head(&mut self, offset: u64) -> io::Result<Result<Sealed, Defect>> {
        if offset + HEADER_BYTES as u64 > self.bytes {
            return Ok(Err(Defect::End));
        }
        let (number, bytes) = (self.number, self.bytes);
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(self.fetch(offset, HEADER_BYTES)?);
        Ok(Sealed::read(&head, number, offset, bytes))
    }

    /// The first whole record at or behind `offset`, wherever it may begin.
    pub(super) fn search(&mut self, mut offset: u64) -> io::Result<Option<(u64, Sealed)>> {
        while let Some(candidate) = self.beginning(offset)? {
            if self.head(candidate)?.is_ok()
                && let Ok((sealed, _)) = self.record(candidate)?
            {
                return Ok(Some((candidate, sealed)));
            }
            offset = candidate + SECTOR;
        }
        Ok(None)
    }

    /// The first sector at or behind `offset` that begins as a record does. Most of a segment may be zeros, and every start
    /// looks through them, so this is a plain scan.
    fn beginning(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        while offset + HEADER_BYTES as u64 <= self.bytes {
            let count = (READ_AHEAD as u64).min(self.bytes - offset);
            let sectors = self.fetch(offset, count as usize)?.chunks(SECTOR as usize);
            let found = sectors
                .map(|sector| sector.first_chunk())
                .position(|first| first == Some(&MAGIC));
            if let Some(sector) = found {
                return Ok(Some(offset + sector as u64 * SECTOR));
            }
            offset += count;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Crash, Disk, OpenMode, SimDisk};
    use crate::log::record::{Header, Kind, next_offset};

    #[test]
    fn only_our_names_are_segments() {
        assert_eq!(
            path(Path::new("d"), 7),
            Path::new("d/00000000000000000007.log")
        );
        assert_eq!(number("00000000000000000007.log"), Some(7));
        assert_eq!(number("09223372036854775807.log"), Some(u64::MAX / 2));
        for strange in [
            "7.log",
            "00000000000000000000.log",
            "00000000000000000007.log.tmp",
            "00000000000000000007",
            "+0000000000000000007.log",
            "99999999999999999999.log",
            "18446744073709551615.log",
            "lock",
        ] {
            assert_eq!(number(strange), None, "{strange}");
        }
    }

    #[test]
    fn zeros_are_durable_once_filled() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            assert!(fill(&*file, 0, 4_096, &mut |_| true).unwrap());
            assert!(fill(&*file, 4_096, 5_120, &mut |_| true).unwrap());
            assert!(!fill(&*file, 0, 4_096, &mut |_| false).unwrap());
            let after = disk.crash(Crash::Power);
            assert_eq!(after.content(Path::new("/f")), Some(vec![0; 5_120]));
        }
    }

    #[test]
    fn records_larger_than_the_read_ahead_are_read_and_found() {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/f"), OpenMode::Create).unwrap();
        let (mut offset, mut places) = (0, Vec::new());
        let bytes = 2 << 20;
        for (epoch, size) in [
            (1, 10),
            (2, READ_AHEAD + 100),
            (3, 0),
            (4, READ_AHEAD - 72),
            (5, 5),
        ] {
            let header = Header {
                kind: Kind::Epoch,
                body_bytes: size as u64,
                segment: 9,
                offset,
                lineage: 1,
                attempt: 1,
                epoch,
                previous: 0,
            };
            let body = vec![epoch as u8; size];
            let (head, _) = header.seal(&mut Xxh3::new(), &[&body]);
            file.write_at(&head, offset).unwrap();
            file.write_at(&body, offset + HEADER_BYTES as u64).unwrap();
            places.push((header, body));
            offset = next_offset(offset, size as u64);
        }
        file.set_len(bytes).unwrap();
        let mut cursor = Cursor::new(file, 9, bytes);
        for (header, body) in &places {
            let (sealed, found) = cursor.record(header.offset).unwrap().unwrap();
            assert_eq!(sealed.header(), Ok(*header));
            assert!(found == body);
        }
        assert_eq!(cursor.record(offset).unwrap().unwrap_err(), Defect::Zeros);
        assert_eq!(cursor.record(bytes).unwrap().unwrap_err(), Defect::End);
        assert_eq!(cursor.search(0).unwrap().unwrap().0, 0);
        assert_eq!(cursor.search(512).unwrap().unwrap().0, places[1].0.offset);
        assert_eq!(
            cursor.search(places[1].0.offset + 512).unwrap().unwrap().0,
            places[2].0.offset
        );
        assert!(cursor.search(offset).unwrap().is_none());
    }
}
