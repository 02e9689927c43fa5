//! The Unix socket as a file: where it is, who may use it, what a dead process left.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixStream;

/// Why live commands cannot be offered.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Another process answers there.
    #[error("{} is in use: another process answers there. Stop that one, or give this one a data directory of its own", .0.display())]
    InUse(PathBuf),
    /// Something else has its name.
    #[error("{} is no socket: move it away, so that live commands can be offered there", .0.display())]
    NotASocket(PathBuf),
    /// The file system or the network.
    #[error("cannot {operation} the socket {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Where the socket of a data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// The longest path that every system takes for a socket, in bytes.
const PATH_BYTES: usize = 100;

/// A path by which the system takes a socket. It is good as long as this lives.
struct Reachable {
    path: PathBuf,
    _directory: Option<File>,
}

/// Data directories may lie deep; the system's addresses have room for about a hundred bytes. An open directory is a
/// short way to the same place.
fn reachable(path: &Path) -> io::Result<Reachable> {
    if path.as_os_str().as_bytes().len() <= PATH_BYTES {
        return Ok(Reachable {
            path: path.to_path_buf(),
            _directory: None,
        });
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(parent)?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    if !own.exists() {
        let problem = format!("its path is longer than {PATH_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, problem));
    }
    Ok(Reachable {
        path: own.join(name),
        _directory: Some(directory),
    })
}

/// A socket that listens, and the user that it belongs to.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listener: StdListener,
    pub(super) owner: u32,
}

/// Makes the socket, for its owner only; one that a dead process left is replaced. Nobody ever sees it with other
/// permissions, since it gets its name last.
pub(super) fn bind(path: &Path) -> Result<Bound, AdminError> {
    let failed = |operation| {
        move |source| AdminError::Io {
            operation,
            path: path.to_path_buf(),
            source,
        }
    };
    refuse_occupied(path)?;
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    let unnamed = path.with_file_name(name);
    match std::fs::remove_file(&unnamed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace")(error));
        }
        _ => {}
    }
    let way = reachable(&unnamed).map_err(failed("make"))?;
    let listener = StdListener::bind(&way.path).map_err(failed("make"))?;
    std::fs::set_permissions(&unnamed, Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    let owner = std::fs::symlink_metadata(&unnamed)
        .map_err(failed("protect"))?
        .uid();
    std::fs::rename(&unnamed, path).map_err(failed("name"))?;
    listener
        .set_nonblocking(true)
        .map_err(failed("listen on"))?;
    Ok(Bound { listener, owner })
}

fn refuse_occupied(path: &Path) -> Result<(), AdminError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(AdminError::NotASocket(path.to_path_buf()));
    }
    let alive = reachable(path)
        .and_then(|way| StdStream::connect(&way.path))
        .is_ok();
    if alive {
        Err(AdminError::InUse(path.to_path_buf()))
    } else {
        Ok(())
    }
}

/// Connects to the socket of a running application.
///
/// # Errors
/// Of kind `NotFound` or `ConnectionRefused` when no application runs there.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let way = reachable(path)?;
    UnixStream::connect(&way.path).await
}
