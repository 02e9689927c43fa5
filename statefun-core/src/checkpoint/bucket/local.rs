//! A directory as a store: an object is a file.
//!
//! A file gets its name when it is complete and durable, so that a reader sees an object as a whole or not at all. What is
//! being written stands beside it under a name that no object can have. Such drafts stay after a crash: listing removes
//! them when nobody can be writing them any more.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::ObjectInfo;
use super::objects::{Answer, Cause, Condition, Failure, Objects, Opened, Version};
use crate::clock::{Timestamp, WallClock};
use crate::disk::{Disk as _, RealDisk};
use crate::rand::Random;

/// Stands in no name of an object, and so in those of files that are none.
const NO_OBJECT: char = '#';

/// What the name of a draft goes on with.
const DRAFT: &str = "draft-";

/// How old a draft is that nobody can be writing any more.
const ABANDONED_AFTER: Duration = Duration::from_hours(24);

/// A directory.
#[derive(Debug, Clone)]
pub(super) struct Local {
    root: PathBuf,
}

impl Local {
    /// Opens a directory, creating it where it is missing.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        RealDisk.create_dir_all(&root)?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, bytes: &Bytes, condition: &Condition) -> Result<Version, Failure> {
        let path = self.path(name);
        let dir = path.parent().unwrap_or(&self.root);
        RealDisk
            .create_dir_all(dir)
            .map_err(|error| failure(&path, error))?;
        // Everyone who replaces the object under a condition comes by here. `Absent` needs no lock: a link is never
        // made over a file.
        let lock = match condition {
            Condition::Is(expected) => Some((lock(&path)?, expected)),
            _ => None,
        };
        if let Some((_, expected)) = &lock {
            let there = match fs::read(&path) {
                Ok(bytes) => Some(version(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(failure(&path, error)),
            };
            if !there.is_some_and(|there| there.is_same(expected)) {
                return Err(Failure::new(Cause::Condition, "it is another one"));
            }
        }
        let draft = Draft::write(&path, bytes).map_err(|error| failure(&path, error))?;
        let named = match condition {
            Condition::Absent => fs::hard_link(&draft.path, &path),
            _ => fs::rename(&draft.path, &path),
        };
        match named {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && matches!(condition, Condition::Absent) =>
            {
                return Err(Failure::new(Cause::Condition, "it exists"));
            }
            other => other.map_err(|error| failure(&path, error))?,
        }
        drop(draft);
        RealDisk
            .sync_dir(dir)
            .map_err(|error| failure(&path, error))?;
        Ok(version(bytes))
    }

    fn read(&self, name: &str, range: Option<Range<u64>>) -> Result<(Bytes, Version), Failure> {
        let path = self.path(name);
        let failed = |error| failure(&path, error);
        let Some(range) = range else {
            let bytes = fs::read(&path).map_err(failed)?;
            let version = version(&bytes);
            return Ok((Bytes::from(bytes), version));
        };
        let file = File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let end = range.end.min(length);
        if range.start >= end {
            return Err(Failure::new(
                Cause::Permanent,
                format!("it has {length} bytes: none from {} on", range.start),
            ));
        }
        let mut bytes = vec![0; (end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)
            .map_err(failed)?;
        let version = Version {
            tag: None,
            generation: None,
        };
        Ok((Bytes::from(bytes), version))
    }

    fn walk(&self, folder: &str) -> Result<Vec<ObjectInfo>, Failure> {
        let now = WallClock::default().now();
        let mut found = Vec::new();
        let mut folders = vec![self.path(folder)];
        while let Some(folder) = folders.pop() {
            let failed = |error| failure(&folder, error);
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                // Of a link itself: what it leads to may lead back.
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    // Deleted meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(error)),
                };
                if metadata.is_dir() {
                    folders.push(path);
                    continue;
                }
                if !metadata.is_file() {
                    continue;
                }
                let modified = metadata.modified().ok();
                let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let modified_ms = since.map_or(0, |since| since.as_millis() as u64);
                let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
                match name.map(|name| (name, name.split_once(NO_OBJECT))) {
                    Some((name, None)) => found.push(ObjectInfo {
                        name: name.to_owned(),
                        bytes: metadata.len(),
                        modified_ms,
                    }),
                    Some((_, Some((_, what))))
                        if what.starts_with(DRAFT)
                            && now.since(Timestamp(modified_ms)) > ABANDONED_AFTER =>
                    {
                        // It only takes up space.
                        let _ = fs::remove_file(&path);
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|error| failure(&path, error))?;
        let dir = path.parent().unwrap_or(&self.root);
        RealDisk.sync_dir(dir).map_err(|error| failure(dir, error))
    }

    /// Works where waiting for a disk holds nobody else.
    fn blocking<'a, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<'a, T> {
        let store = self.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || work(&store))
                .await
                .unwrap_or_else(|error| Err(Failure::new(Cause::Doubtful, error.to_string())))
        })
    }
}

impl Objects for Local {
    fn put<'a>(&'a self, name: &'a str, bytes: Bytes, condition: Condition) -> Answer<'a, Version> {
        let name = name.to_owned();
        self.blocking(move |store| {
            let written = store.write(&name, &bytes, &condition);
            // What a write misses is the directory.
            written.map_err(|failure| match failure.cause {
                Cause::Missing => Failure::new(Cause::NoBucket, failure.problem),
                _ => failure,
            })
        })
    }

    fn get<'a>(&'a self, name: &'a str, range: Option<Range<u64>>) -> Answer<'a, Opened<'a>> {
        let name = name.to_owned();
        let read = self.blocking(move |store| store.read(&name, range));
        Box::pin(async move {
            let (bytes, version) = read.await?;
            Ok(Opened {
                bytes: bytes.len() as u64,
                version,
                body: Box::pin(std::future::ready(Ok(bytes))),
            })
        })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ObjectInfo>> {
        let folder = folder.to_owned();
        self.blocking(move |store| store.walk(&folder))
    }

    fn delete<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let name = name.to_owned();
        self.blocking(move |store| store.remove(&name))
    }
}

/// The version of a file is that of its content: times of files are too coarse, and numbers of files come again.
fn version(bytes: &[u8]) -> Version {
    Version {
        tag: Some(format!("{:032x}", xxh3_128(bytes))),
        generation: None,
    }
}

/// A complete and durable file that has no name of an object yet. Its own name goes with it.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(target: &Path, bytes: &[u8]) -> io::Result<Self> {
        // Several machines may share the directory: process numbers would come twice.
        let number = Random::from_system().next_u64();
        let path = beside(target, &format!("{DRAFT}{number:016x}"));
        let mut file = File::create_new(&path)?;
        let draft = Self { path };
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was renamed. Otherwise it only takes up space.
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits for the right to replace an object: across processes, and threads.
fn lock(path: &Path) -> Result<File, Failure> {
    let lock = beside(path, "lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock)
        .map_err(|error| failure(&lock, error))?;
    file.lock().map_err(|error| failure(&lock, error))?;
    Ok(file)
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{NO_OBJECT}{what}"));
    PathBuf::from(name)
}

fn failure(path: &Path, error: io::Error) -> Failure {
    let cause = match error.kind() {
        io::ErrorKind::NotFound => Cause::Missing,
        io::ErrorKind::PermissionDenied => Cause::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Cause::NotBegun,
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::InvalidFilename => Cause::Permanent,
        _ => Cause::Doubtful,
    };
    Failure::new(cause, format!("{}: {error}", path.display()))
}
