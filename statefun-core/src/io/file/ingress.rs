//! The file ingress: reads records, and goes on when the file grows, is rotated or begun again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::feed;
use super::follower::{Follower, Next};
use super::mark::{Position, Seen};
use super::records::Format;
use super::rotation::{self, Opened};
use crate::disk::Disk;
use crate::io::ingress::{Ingress, IngressContext, IngressError, Partition};
use crate::module::model::{FileIngress as Spec, StartupPosition};

/// The longest line or row, in bytes, where nothing else is said.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// `io.statefun.file.v1/ingress`: reads the records of a file, and goes on when it grows.
///
/// # Where it goes on
///
/// The position of a record says which file it is in (device, inode and hashes of its first bytes and of those before the position), and where
/// it ends. A start goes on right behind the last record that was admitted:
///
/// - in the file at the path, when it is the same;
/// - in a file of the same directory that has its inode, when it was renamed meanwhile; then in those that followed it;
/// - in the file at the path, when its content is the same as far as the hashes tell (a copy, an editor's new file);
/// - in a rotated file of the same directory with that content (all of them were copied to another machine); then in those that
///   followed it;
/// - at the beginning of the file at the path otherwise, and the log says that it is another file.
///
/// `startupPosition: latest` counts only while there is no position: at the very first start, and at later ones as long as no record has
/// come.
///
/// # Rotation
///
/// A file that is renamed and created anew is read to its end; what follows is read once there is something in it, so that
/// a writer that still has the old one open loses nothing. A file that is cut and written again from its start (`copytruncate`) is
/// read from its start; records that were written and cut off between two looks (at most 64 ms) are lost, as for
/// any reader.
///
/// # Records
///
/// `json`: a JSON value per line. `csv`: a row (RFC 4180) per record, whose cells become the fields of an object: as the
/// record's type has them where Rust code declares it, else as they look (`true`, `1.5`; texts otherwise). Empty
/// lines are skipped, so are a byte order mark and `\r` before a line end. While following, a line is a record only with
/// its line end. A line or row longer than 16 MiB is a bad record. So is a row with a quote that does not
/// end; reading goes on with the line after the one that the row begins with.
pub struct FileIngress {
    spec: Spec,
    disk: Arc<dyn Disk>,
    most_bytes: usize,
}

impl fmt::Debug for FileIngress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileIngress")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl FileIngress {
    /// An ingress as module.yaml describes it.
    pub fn new(spec: Spec, disk: Arc<dyn Disk>) -> Self {
        Self {
            spec,
            disk,
            most_bytes: MOST_BYTES,
        }
    }

    /// With another bound for the length of a line or row, in bytes.
    #[must_use]
    pub fn with_longest_record(mut self, bytes: usize) -> Self {
        self.most_bytes = bytes.max(1);
        self
    }
}

impl FileIngress {
    /// Finds where to go on, and what reads from there. Its partition has the path as its name.
    pub(crate) fn follower(&self, context: &IngressContext) -> Result<Follower, IngressError> {
        let spec = &self.spec;
        let name = spec.path.display().to_string();
        let format =
            Format::new(spec, &context.decoder).map_err(|problem| context.error(problem))?;
        let position = match context.positions.get(&name) {
            None => None,
            Some(bytes) => Some(serde_json::from_slice::<Position>(bytes).map_err(|error| {
                context.error(format_args!(
                    "its position in the log cannot be read ({error}); was it written by another version, or another kind of ingress?"
                ))
            })?),
        };
        let failed = |error| context.error(read_error(&spec.path, &error));
        let mut start =
            locate(&*self.disk, &context.id, &spec.path, position.as_ref()).map_err(failed)?;
        if let Some(start) = &mut start
            && position.is_none()
            && spec.startup_position == StartupPosition::Latest
        {
            start.unwanted = start.opened.file.len().map_err(failed)?;
        }
        if start.is_none() {
            if !spec.follow {
                return Err(context.error(format_args!(
                    "{name} is missing; create it, correct `path`, or write `follow: true` to wait for it"
                )));
            }
            tracing::info!(
                ingress = context.id,
                path = name,
                "the file is not there yet; waiting for it"
            );
        }
        let mut follower = Follower::new(
            context.id.clone(),
            spec.path.clone(),
            self.disk.clone(),
            Arc::new(format),
        );
        follower.follow = spec.follow;
        follower.most_bytes = self.most_bytes;
        follower.start = start;
        Ok(follower)
    }
}

impl Ingress for FileIngress {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        let mut follower = self.follower(context)?;
        let path = &self.spec.path;
        let thread = format!("file {}", path.file_name().unwrap_or_default().display());
        let name = path.display().to_string();
        let behind = follower.behind.clone();
        let lag = Box::new(move |taken: Option<&[u8]>| behind.lag(taken));
        let partition = feed::spawn(context, thread, Some(name), lag, move |feed| {
            loop {
                match follower.next()? {
                    Next::Record(record) => feed.send(*record)?,
                    Next::Soon => feed.go_on()?,
                    Next::After(pause) => {
                        feed.pause(pause)?;
                        feed.go_on()?;
                    }
                    Next::Never => return Ok(()),
                }
            }
        })?;
        Ok(vec![partition])
    }
}

/// A place in a file.
pub(super) struct Start {
    pub(super) opened: Opened,
    pub(super) offset: u64,
    pub(super) line: u64,
    /// What was found before the place.
    pub(super) seen: Seen,
    /// Records that end before were there at the first start, and are not wanted.
    pub(super) unwanted: u64,
}

impl Start {
    pub(super) fn beginning(opened: Opened) -> Self {
        Self {
            opened,
            offset: 0,
            line: 1,
            seen: Seen::default(),
            unwanted: 0,
        }
    }

    fn behind(opened: Opened, position: &Position, seen: Seen) -> Self {
        Self {
            opened,
            offset: position.offset,
            line: position.line,
            seen,
            unwanted: 0,
        }
    }
}

/// Finds where to go on; none while the file is missing.
fn locate(
    disk: &dyn Disk,
    ingress: &str,
    path: &Path,
    position: Option<&Position>,
) -> io::Result<Option<Start>> {
    let current = rotation::open_regular(disk, path)?;
    let Some(position) = position else {
        return Ok(current.map(Start::beginning));
    };
    let name = path.display();
    let Some(current) = current else {
        let found = moved(disk, path, position)?;
        if found.is_none() {
            tracing::warn!(ingress, path = %name, "the file that was being read is not there any more");
        }
        return Ok(found);
    };
    let same_inode = current.found.inode == position.inode;
    let seen = position.found_in(&*current.file)?;
    if same_inode && let Some(seen) = seen {
        return Ok(Some(Start::behind(current, position, seen)));
    }
    if let Some(found) = renamed(disk, path, position)? {
        tracing::info!(ingress, path = %found.opened.path.display(), "the file was renamed; finishing it first");
        return Ok(Some(found));
    }
    if let Some(seen) = seen {
        tracing::info!(ingress, path = %name, "the file is another one of the same content; going on in it");
        return Ok(Some(Start::behind(current, position, seen)));
    }
    if let Some(found) = copied(disk, path, position)? {
        tracing::info!(ingress, path = %found.opened.path.display(), "a rotated file has the same content; finishing it first");
        return Ok(Some(found));
    }
    let what = if same_inode {
        "the file was cut or written anew"
    } else {
        "the file that was being read is not there any more, and its name is another file's"
    };
    tracing::warn!(ingress, path = %name, read_bytes = position.offset, "{what}; reading from its beginning");
    Ok(Some(Start::beginning(current)))
}

/// What was being read, wherever it is, while nothing is at the path.
fn moved(disk: &dyn Disk, path: &Path, position: &Position) -> io::Result<Option<Start>> {
    let found = renamed(disk, path, position)?;
    found.map_or_else(|| copied(disk, path, position), |found| Ok(Some(found)))
}

/// The file that was being read, under another name.
fn renamed(disk: &dyn Disk, path: &Path, position: &Position) -> io::Result<Option<Start>> {
    of_content(
        disk,
        rotation::with_inode(disk, path, position.inode)?,
        position,
    )
}

/// A rotated file with the content of the one that was being read: all files were copied to another machine, or the file was copied and
/// then cut.
fn copied(disk: &dyn Disk, path: &Path, position: &Position) -> io::Result<Option<Start>> {
    of_content(
        disk,
        rotation::rotated(disk, path, position.offset)?,
        position,
    )
}

fn of_content(
    disk: &dyn Disk,
    candidates: Vec<PathBuf>,
    position: &Position,
) -> io::Result<Option<Start>> {
    for candidate in candidates {
        if let Some(opened) = Opened::open(disk, &candidate)?
            && let Some(seen) = position.found_in(&*opened.file)?
        {
            return Ok(Some(Start::behind(opened, position, seen)));
        }
    }
    Ok(None)
}

pub(super) fn read_error(path: &Path, error: &io::Error) -> String {
    let help = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give the user that runs the application the right to read it"
        }
        io::ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    };
    format!("cannot read {}: {error}{help}", path.display())
}
