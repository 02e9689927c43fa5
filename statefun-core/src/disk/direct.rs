//! Files that bypass the page cache (`O_DIRECT`): what is written once and seldom read again, as the epoch log is.
//!
//! A write through the page cache costs a copy into pages that have to be found first, and a sync has to find them again:
//! for megabytes at a time that takes most of the processor time of a write. A direct one is carried to the device from
//! a buffer that is used over and over.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::real::{RealFile, options};
use super::{DiskFile, OpenMode};

/// Offsets and lengths of direct operations are multiples of this, in bytes: a device's sector. Where a device or file system
/// wants more, it refuses the operation, which then takes the ordinary way.
const SECTOR: u64 = 512;
/// The alignment of the buffer in memory, in bytes: enough for every device.
const ALIGN: usize = 4096;
/// Bytes carried at a time.
const BUFFER_BYTES: usize = 2 << 20;

/// A buffer whose beginning is aligned. Made at the first use: not every file is written or read.
#[derive(Debug, Default)]
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn get(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = vec![0; BUFFER_BYTES + ALIGN];
            self.start = self.bytes.as_ptr().align_offset(ALIGN);
        }
        &mut self.bytes[self.start..self.start + BUFFER_BYTES]
    }
}

/// A file open twice: directly for whole sectors, and in the ordinary way for the rest. The kernel keeps both views the same.
#[derive(Debug)]
pub(super) struct DirectFile {
    direct: File,
    ordinary: RealFile,
    buffer: Mutex<Aligned>,
    /// The device or the file system has refused.
    refused: AtomicBool,
}

impl DirectFile {
    /// Opens a file directly; none when the file system knows no such way.
    pub(super) fn open(path: &Path, mode: OpenMode) -> io::Result<Option<Self>> {
        let ordinary = options(mode).open(path)?;
        // It exists now, whatever the mode says.
        let again = match mode {
            OpenMode::Read => OpenMode::Read,
            _ => OpenMode::ReadWrite,
        };
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let Ok(direct) = options(again).custom_flags(flags).open(path) else {
            return Ok(None);
        };
        Ok(Some(Self {
            direct,
            ordinary: RealFile::new(ordinary),
            buffer: Mutex::default(),
            refused: AtomicBool::new(false),
        }))
    }

    fn is_possible(&self, offset: u64, len: u64) -> bool {
        offset % SECTOR == 0 && len % SECTOR == 0 && !self.refused.load(Ordering::Relaxed)
    }

    /// The result of a direct operation; none when it was refused, and is to be done in the ordinary way.
    fn accepted<T>(&self, result: io::Result<T>) -> Option<io::Result<T>> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                None
            }
            result => Some(result),
        }
    }

    /// Carries the slices, whose length is a multiple of a sector, one buffer at a time.
    fn write_direct(&self, slices: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffer.get();
        let mut filled = 0;
        for slice in slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                let count = rest.len().min(buffer.len() - filled);
                let (now, later) = rest.split_at(count);
                buffer[filled..filled + count].copy_from_slice(now);
                filled += count;
                rest = later;
                if filled == buffer.len() {
                    self.direct.write_all_at(buffer, offset)?;
                    offset += filled as u64;
                    filled = 0;
                }
            }
        }
        self.direct.write_all_at(&buffer[..filled], offset)
    }

    /// Reads the sectors around what is asked for, one buffer at a time.
    fn read_direct(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffer.get();
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let lead = (at % SECTOR) as usize;
            let wanted = (lead + out.len() - done).next_multiple_of(SECTOR as usize);
            let wanted = wanted.min(buffer.len());
            let found = match self.direct.read_at(&mut buffer[..wanted], at - lead as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                found => found?,
            };
            let useful = found.saturating_sub(lead).min(out.len() - done);
            out[done..done + useful].copy_from_slice(&buffer[lead..lead + useful]);
            done += useful;
            if found < wanted {
                break;
            }
        }
        Ok(done)
    }
}

impl DiskFile for DirectFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.refused.load(Ordering::Relaxed)
            && let Some(read) = self.accepted(self.read_direct(buffer, offset))
        {
            return read;
        }
        self.ordinary.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is_possible(offset, bytes.len() as u64)
            && let Some(written) = self.accepted(self.write_direct(&[IoSlice::new(bytes)], offset))
        {
            return written;
        }
        self.ordinary.write_at(bytes, offset)
    }

    fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.is_possible(offset, len as u64)
            && let Some(written) = self.accepted(self.write_direct(slices, offset))
        {
            return written;
        }
        self.ordinary.write_vectored_at(slices, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.ordinary.len()
    }

    fn metadata(&self) -> io::Result<super::Metadata> {
        self.ordinary.metadata()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.ordinary.set_len(bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.ordinary.reserve(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ordinary.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.ordinary.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(dir: &Path, mode: OpenMode) -> DirectFile {
        // Where the file system has no direct way, there is nothing to be tested.
        DirectFile::open(&dir.join("f"), mode).unwrap().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever is written in whatever pieces, it is what an ordinary file would hold, seen through either door.
        #[test]
        fn it_holds_what_was_written(
            writes in prop::collection::vec((0u64..40, any::<bool>(), prop::collection::vec(0usize..3_000, 1..4), any::<u8>()), 1..12),
            reads in prop::collection::vec((0usize..20_000, 0usize..9_000), 1..8),
        ) {
            let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
            let file = open(dir.path(), OpenMode::CreateNew);
            let mut model: Vec<u8> = Vec::new();
            for (sector, whole, lengths, byte) in writes {
                let mut parts: Vec<Vec<u8>> = lengths.iter().map(|len| vec![byte; *len]).collect();
                if whole {
                    let len: usize = lengths.iter().sum();
                    parts.push(vec![0; len.next_multiple_of(SECTOR as usize) - len]);
                }
                let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
                let offset = sector * SECTOR;
                file.write_vectored_at(&mut slices, offset).unwrap();
                let bytes = parts.concat();
                let end = offset as usize + bytes.len();
                if !bytes.is_empty() {
                    model.resize(model.len().max(end), 0);
                    model[offset as usize..end].copy_from_slice(&bytes);
                }
            }
            file.sync_data().unwrap();
            prop_assert_eq!(file.len().unwrap(), model.len() as u64);
            prop_assert_eq!(&std::fs::read(dir.path().join("f")).unwrap(), &model);
            for (offset, len) in reads {
                let mut found = vec![0; len];
                let count = file.read_at(&mut found, offset as u64).unwrap();
                let offset = offset.min(model.len());
                prop_assert_eq!(&found[..count], &model[offset..(offset + len).min(model.len())]);
            }
        }
    }

    #[test]
    fn more_than_a_buffer_is_carried_in_pieces() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let file = open(dir.path(), OpenMode::Create);
        let bytes: Vec<u8> = (0..2 * BUFFER_BYTES + 3 * SECTOR as usize)
            .map(|at| (at / 7) as u8)
            .collect();
        file.write_at(&bytes, SECTOR).unwrap();
        assert!(!file.refused.load(Ordering::Relaxed));
        let mut found = vec![0; bytes.len() - 1];
        file.read_exact_at(&mut found, SECTOR + 1).unwrap();
        assert!(found == bytes[1..]);
        let missing = DirectFile::open(&dir.path().join("g"), OpenMode::ReadWrite).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
