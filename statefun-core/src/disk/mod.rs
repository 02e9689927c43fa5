//! The only door to files for the epoch log, the catalog, file ingress and file egress.
//!
//! Everything above it names files through [`Disk`] and [`DiskFile`], so that the same code runs on a real file system
//! ([`RealDisk`]) and on the simulated one that loses unsynced writes and tears sectors
//! (`SimDisk`, with the feature `simulation`).
//!
//! # What may be relied upon
//!
//! - Bytes written are durable after [`DiskFile::sync_data`] (with the length needed to read them) or
//!   [`DiskFile::sync_all`] returned `Ok`. Before that a power cut keeps or loses each sector on its own.
//! - A created, renamed or removed name is durable after [`Disk::sync_dir`] of its directory returned `Ok`.
//! - After a *failed* sync nothing is known, and a later successful one proves nothing about the same bytes: the kernel
//!   may have marked them clean. Write them again before trusting them.
//! - A process that dies loses nothing that was written; only the machine's death does.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

mod direct;
mod real;
#[cfg(any(test, feature = "simulation"))]
mod sim;
pub(crate) mod whole;

pub use real::RealDisk;
#[cfg(any(test, feature = "simulation"))]
pub use sim::{Crash, Fault, SimDisk};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// For reading and writing; created empty when it does not exist.
    Create,
    /// For reading and writing; an error of kind `AlreadyExists` when it exists.
    CreateNew,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// The device that it is on; the number may be another one after a restart of the machine.
    pub device: u64,
    /// Its number there, which stays when it gets another name. Another file may get it when it is gone.
    pub inode: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Metadata {
    /// Whether both are of the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }

    /// Whether it is an ordinary file, which can be read again.
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }
}

/// What a name can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A pipe, a device, or in a listing a link.
    Other,
}

/// A file system, or what plays its part.
///
/// Errors are those of the operating system; they do not name the path, callers add it.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// As [`Disk::open`], for a file that is mostly written in whole sectors and seldom read again: it may bypass the cache of
    /// the operating system. What can be relied upon is the same.
    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, mode)
    }

    /// Creates a directory and its missing ancestors; all of them are durable when it returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Renames a file within its directory, replacing a file of the new name. Atomic; durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Open handles keep its content. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted; directories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// As [`Disk::list`], with what is known of each file: of a link, not of what it leads to. In no order.
    fn entries(&self, dir: &Path) -> io::Result<Vec<(String, Metadata)>>;

    /// What a path leads to, found without opening it, since that alone might wait for the writer of a pipe.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Makes created, renamed and removed names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file, created when missing, until the guard is dropped or the process ends.
    ///
    /// Never waits: when someone else holds the lock, the error's kind is `WouldBlock`, and its text says who, where that is
    /// known.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. All offsets are absolute; there is no cursor, so that one handle serves any number of threads.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads into `buffer` and returns how many bytes were read; fewer than asked for only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`. After an error any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes all slices, one after the other, without copying them together. The slices are consumed: their content
    /// is unspecified afterwards. After an error any part of them may have been written.
    fn write_vectored_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// What is known of the file.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Cuts the file, or extends it with zeros that take no space yet.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes an empty file so long, reading as zeros, with space set aside for all of it. Durable after
    /// [`DiskFile::sync_all`].
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Makes the content durable, and the length as far as it is needed to read it (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and metadata durable (`fsync`).
    fn sync_all(&self) -> io::Result<()>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer`; an error of kind `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(buffer, offset)? == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Holds a lock taken by [`Disk::lock`] until it is dropped.
pub trait DiskLock: Send + Sync + fmt::Debug {}
