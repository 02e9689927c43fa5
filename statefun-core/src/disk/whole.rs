//! Small files that are read and replaced as a whole.

use std::io;
use std::path::Path;

use super::{Disk, OpenMode};

/// The content of a file; none when there is none of that name.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    if !disk.exists(path)? {
        return Ok(None);
    }
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Gives a file of a directory another content. Whatever happens, it is the old or the new one; when this returns, the new one.
pub(crate) fn replace(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.tmp"));
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_at(bytes, 0)?;
    file.sync_all()?;
    disk.rename(&temporary, &directory.join(name))?;
    disk.sync_dir(directory)
}
