//! The file system of the operating system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::direct::DirectFile;
use super::{Disk, DiskFile, DiskLock, FileKind, Metadata, OpenMode};

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile::new(options(mode).open(path)?)))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match DirectFile::open(path, mode)? {
            Some(file) => Ok(Arc::new(file)),
            // It exists now, whatever the mode says.
            None if mode == OpenMode::CreateNew => self.open(path, OpenMode::ReadWrite),
            None => self.open(path, mode),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // From the outside in, so that a directory is durable before anything durable is put into it.
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
            .collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => {
                    return Err(error);
                }
                _ => {}
            }
            if let Some(parent) = dir.parent() {
                self.sync_dir(parent)?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Names that are not UTF-8 are never ours.
            if !entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<(String, Metadata)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // Names change while they are looked at, and those that are not UTF-8 are never ours.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if !found.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                entries.push((name, metadata(&found)));
            }
        }
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(metadata(&fs::metadata(path)?))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let here = Path::new(".");
        File::open(if dir.as_os_str().is_empty() {
            here
        } else {
            dir
        })?
        .sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // For whoever is refused. The lock holds without it, also on a full disk.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.write_all_at(std::process::id().to_string().as_bytes(), 0));
                Ok(Box::new(RealLock { _file: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(path).unwrap_or_default();
                Err(match holder.parse::<u32>() {
                    Ok(holder) => {
                        io::Error::new(io::ErrorKind::WouldBlock, format!("process {holder}"))
                    }
                    Err(_) => io::ErrorKind::WouldBlock.into(),
                })
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// What the operating system says of a file.
fn metadata(found: &fs::Metadata) -> Metadata {
    let kind = match found {
        found if found.is_file() => FileKind::File,
        found if found.is_dir() => FileKind::Directory,
        _ => FileKind::Other,
    };
    Metadata {
        kind,
        device: found.dev(),
        inode: found.ino(),
        bytes: found.len(),
    }
}

/// How `mode` is said to the operating system.
pub(super) fn options(mode: OpenMode) -> OpenOptions {
    let mut options = File::options();
    options.read(true);
    match mode {
        OpenMode::Read => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
    }
    options
}

#[derive(Debug)]
pub(super) struct RealFile {
    file: File,
    /// Held while the handle's cursor is used. Std has no vectored write at an offset; seeking first costs a system call of
    /// some 100 ns beside a sync of 100 µs and more, which is cheaper than a second unsafe door to the kernel.
    cursor: Mutex<()>,
}

impl RealFile {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            cursor: Mutex::new(()),
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_vectored_at(&self, mut slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let _cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        // Empty slices at the front would make a write of nothing look like a full device.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match file.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn metadata(&self) -> io::Result<Metadata> {
        Ok(metadata(&self.file.metadata()?))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::empty();
        Ok(rustix::fs::fallocate(&self.file, flags, 0, bytes)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The lock belongs to the open file and goes with it.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectored_writes_are_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk
            .open(&dir.path().join("f"), OpenMode::CreateNew)
            .unwrap();
        // More slices than the kernel takes at once (IOV_MAX is 1,024), empty ones among them.
        let parts: Vec<Vec<u8>> = (0..3_000_usize).map(|i| vec![i as u8; i % 7]).collect();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_vectored_at(&mut slices, 100).unwrap();
        let expected = parts.concat();
        let mut found = vec![0; expected.len()];
        file.read_exact_at(&mut found, 100).unwrap();
        assert_eq!(found, expected);
        assert_eq!(file.len().unwrap(), 100 + expected.len() as u64);

        let mut nothing = [IoSlice::new(&[]), IoSlice::new(&[])];
        file.write_vectored_at(&mut nothing, 0).unwrap();
        file.sync_data().unwrap();
        file.set_len(4).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.read_at(&mut [0; 10], 1).unwrap(), 3);
        let error = file.read_exact_at(&mut [0; 10], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn names_and_modes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b/c");
        RealDisk.create_dir_all(&dir).unwrap();
        RealDisk.create_dir_all(&dir).unwrap();
        let (a, b) = (dir.join("a"), dir.join("b"));
        let missing = RealDisk.open(&a, OpenMode::ReadWrite).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        RealDisk
            .open(&a, OpenMode::Create)
            .unwrap()
            .write_at(b"x", 0)
            .unwrap();
        let taken = RealDisk.open(&a, OpenMode::CreateNew).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert!(
            RealDisk
                .open(&a, OpenMode::Read)
                .unwrap()
                .write_at(b"y", 0)
                .is_err()
        );
        assert!(
            !RealDisk
                .open(&a, OpenMode::Create)
                .unwrap()
                .is_empty()
                .unwrap()
        );
        RealDisk.rename(&a, &b).unwrap();
        RealDisk.sync_dir(&dir).unwrap();
        assert_eq!(RealDisk.list(&dir).unwrap(), ["b"]);
        assert_eq!(RealDisk.list(&root.path().join("a")).unwrap(), [""; 0]);
        RealDisk.remove(&b).unwrap();
        assert!(!RealDisk.exists(&b).unwrap());
        // A file where a directory should be is an error, not a loop.
        RealDisk.open(&a, OpenMode::Create).unwrap();
        assert!(RealDisk.create_dir_all(&a.join("d")).is_err());
    }

    #[test]
    fn a_file_is_known_under_each_name() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, link) = (
            root.path().join("a"),
            root.path().join("b"),
            root.path().join("link"),
        );
        let file = RealDisk.open(&a, OpenMode::Create).unwrap();
        file.write_at(b"xyz", 0).unwrap();
        RealDisk.rename(&a, &b).unwrap();
        std::os::unix::fs::symlink(&b, &link).unwrap();
        fs::create_dir(&a).unwrap();
        let known = file.metadata().unwrap();
        assert_eq!((known.kind, known.bytes), (FileKind::File, 3));
        assert!(known.is_same(&RealDisk.metadata(&b).unwrap()));
        // A path leads through a link, a listing shows it.
        assert!(known.is_same(&RealDisk.metadata(&link).unwrap()));
        assert_eq!(RealDisk.metadata(&a).unwrap().kind, FileKind::Directory);
        let missing = RealDisk.metadata(&root.path().join("c")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let mut entries = RealDisk.entries(root.path()).unwrap();
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        assert_eq!(entries[0], ("b".to_owned(), known));
        assert_eq!(
            (entries.len(), entries[1].0.as_str(), entries[1].1.kind),
            (2, "link", FileKind::Other)
        );
    }

    #[test]
    fn a_lock_excludes_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        let refused = RealDisk.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(
            refused.to_string(),
            format!("process {}", std::process::id())
        );
        drop(held);
        RealDisk.lock(&path).unwrap();
    }
}
