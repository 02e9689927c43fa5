//! Files that change their names: which one is being read, where it went, and which one follows it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, FileKind, Metadata, OpenMode};

/// A file that is open for reading.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<dyn DiskFile>,
    /// Under which name it was opened.
    pub(super) path: PathBuf,
    /// What it was when it was opened.
    pub(super) found: Metadata,
}

impl Opened {
    /// Opens a file; none when there is none.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        let file = match disk.open(path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a file that can be read again"));
        }
        Ok(Some(Self {
            file,
            path: path.to_owned(),
            found,
        }))
    }

    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        self.found.is_same(metadata)
    }
}

/// What a path leads to; none when there is nothing.
pub(super) fn metadata(disk: &dyn Disk, path: &Path) -> io::Result<Option<Metadata>> {
    match disk.metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// The file of that inode in the directory of `path`, under whatever name.
pub(super) fn with_inode(disk: &dyn Disk, path: &Path, inode: u64) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = siblings(disk, path)?
        .into_iter()
        .filter(|(_, metadata)| metadata.is_file() && metadata.inode == inode)
        .map(|(name, _)| path.with_file_name(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The files that were rotated away from `path` and have at least so many bytes.
pub(super) fn rotated(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Vec<PathBuf>> {
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    let is_rotated = |name: &str| {
        name.strip_prefix(&*base)
            .is_some_and(|suffix| rotation_number(suffix).is_some() || is_rotation_date(suffix))
    };
    let mut found: Vec<PathBuf> = siblings(disk, path)?
        .into_iter()
        .filter(|(_, metadata)| metadata.is_file() && metadata.bytes >= bytes)
        .filter(|(name, _)| is_rotated(name))
        .map(|(name, _)| path.with_file_name(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// The file that was begun after the one of that device and inode was given another name.
///
/// Rotated logs are named `log.1`, `log.2`, … (the higher the older), or `log-20240131`, `log.2024-01-31T12` and the like
/// (the later the newer). Where nothing like that stands between, it is the file at `path` itself. Those without content are
/// passed over.
pub(super) fn successor(disk: &dyn Disk, path: &Path, of: &Opened) -> io::Result<Option<Opened>> {
    // Names may change while they are looked at.
    for _ in 0..10 {
        let Some(next) = successor_name(disk, path, of)? else {
            return Ok(None);
        };
        let Some(opened) = open_regular(disk, &next)? else {
            continue;
        };
        if successor_name(disk, path, of)?.as_ref() == Some(&next)
            && metadata(disk, &next)?.is_some_and(|metadata| opened.is(&metadata))
        {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}

/// Opens a file, unless opening alone might wait.
pub(super) fn open_regular(disk: &dyn Disk, path: &Path) -> io::Result<Option<Opened>> {
    let Some(found) = metadata(disk, path)? else {
        return Ok(None);
    };
    match found.kind {
        FileKind::File => Opened::open(disk, path),
        FileKind::Directory => Err(io::ErrorKind::IsADirectory.into()),
        FileKind::Other => Err(io::Error::other(
            "it is not a file that can be read again; use `io.statefun.stdio.v1/ingress` for a pipe",
        )),
    }
}

fn successor_name(disk: &dyn Disk, path: &Path, of: &Opened) -> io::Result<Option<PathBuf>> {
    let base = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut ours = None;
    let mut suffixes = Vec::new();
    for (name, metadata) in siblings(disk, path)? {
        let Some(suffix) = name.strip_prefix(&base).filter(|suffix| !suffix.is_empty()) else {
            continue;
        };
        if of.is(&metadata) {
            ours = Some(suffix.to_owned());
        } else if metadata.is_file() && metadata.bytes > 0 {
            suffixes.push(suffix.to_owned());
        }
    }
    let between = ours.and_then(|ours| {
        if let Some(number) = rotation_number(&ours) {
            // The next newer one that is there.
            let newer = suffixes
                .into_iter()
                .filter_map(|suffix| Some((rotation_number(&suffix)?, suffix)));
            newer
                .filter(|(other, _)| *other < number)
                .max()
                .map(|(_, suffix)| suffix)
        } else if is_rotation_date(&ours) {
            let same_kind = |other: &String| other.len() == ours.len() && is_rotation_date(other);
            suffixes
                .into_iter()
                .filter(|other| same_kind(other) && *other > ours)
                .min()
        } else {
            None
        }
    });
    match between {
        Some(suffix) => Ok(Some(path.with_file_name(format!("{base}{suffix}")))),
        None => Ok(metadata(disk, path)?
            .filter(|metadata| !of.is(metadata))
            .map(|_| path.to_owned())),
    }
}

fn siblings(disk: &dyn Disk, path: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    match disk.entries(dir.unwrap_or(Path::new("."))) {
        // No directory, no file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries,
    }
}

/// `.1`, `.2`, …
fn rotation_number(suffix: &str) -> Option<u32> {
    let digits = suffix.strip_prefix('.')?;
    let plain = digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// `-20240131`, `.2024-01-31T12:00:00Z`, …: digits and what stands between them.
fn is_rotation_date(suffix: &str) -> bool {
    let digits = suffix.bytes().filter(u8::is_ascii_digit).count();
    let plain = suffix.bytes().all(|byte| {
        byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'T' | b'Z' | b'+')
    });
    plain && digits >= 6
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    /// Creates the files, the one that is read first; gives the name of its successor.
    fn next(names: &[&str]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(
                dir.path().join(name),
                if name.ends_with('5') { "" } else { "1" },
            )
            .unwrap();
        }
        let of = Opened::open(&RealDisk, &dir.path().join(names[0]));
        let of = of.unwrap().unwrap();
        let path = dir.path().join("log");
        let found = successor(&RealDisk, &path, &of).unwrap()?;
        Some(found.path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn successors() {
        for (names, expected) in [
            (&["log"][..], None),
            (&["log.1"], None),
            (&["log.1", "log"], Some("log")),
            (&["log.2", "log.1", "log"], Some("log.1")),
            (&["log.2", "log.1"], Some("log.1")),
            (
                &["log.10", "log.9", "log.1", "log.11", "log"],
                Some("log.9"),
            ),
            (&["log.3", "log.1", "log.2.gz", "log"], Some("log.1")),
            (
                &["log-20240131", "log-20240201", "log-20240202", "log"],
                Some("log-20240201"),
            ),
            (
                &["log-20240131", "log-20240130", "log-20240201.gz", "log"],
                Some("log"),
            ),
            (
                &["log.2024-01-31T12", "log.2024-01-31T13", "log"],
                Some("log.2024-01-31T13"),
            ),
            (&["log.6", "log.5", "log.4", "log"], Some("log.4")),
            (&["log.old", "log.1", "log.older", "log"], Some("log")),
            (&["elsewhere", "log.1", "log"], Some("log")),
        ] {
            assert_eq!(next(names).as_deref(), expected, "{names:?}");
        }
    }
}
