//! An image as one file that `podman load`, `docker load` and skopeo's `docker-archive:` read: what `docker save` writes, which
//! is an OCI image layout as well, so that the digest stays.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::layout;
use super::package::Image;
use crate::status::Failure;

/// Refuses a file that could not be written.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let directory = path
        .parent()
        .map_or(Path::new("."), crate::project::directory);
    if directory.is_dir() && !path.is_dir() {
        return Ok(());
    }
    let problem = if path.is_dir() {
        format!("{} is a directory", path.display())
    } else {
        format!("there is no directory {}", directory.display())
    };
    Err(Failure::usage(problem)
        .help("give `docker-archive:` the name of a file, in a directory that is there"))
}

/// Writes the file, in place of one that is there.
pub(crate) fn write(image: &Image, path: &Path) -> Result<(), Failure> {
    let index = layout::index(image, Vec::new())?;
    let failed =
        |error: io::Error| Failure::usage(format_args!("cannot write {}: {error}", path.display()));
    // Beside it, so that half a file never has its name.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}.tmp", std::process::id()));
    let written =
        write_to(image, &index, Path::new(&fresh)).and_then(|()| std::fs::rename(&fresh, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written.map_err(failed)
}

fn write_to(image: &Image, index: &[u8], path: &Path) -> io::Result<()> {
    let mut archive = Builder::new(BufWriter::new(File::create(path)?));
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut archive, directory, &[])?;
    }
    let mut blobs: Vec<_> = image.blobs().collect();
    blobs.sort_by_key(|blob| &blob.digest);
    blobs.dedup_by_key(|blob| &blob.digest);
    for blob in blobs {
        append(&mut archive, &place(blob.digest.hex()), &blob.bytes)?;
    }
    append(&mut archive, "index.json", index)?;
    append(&mut archive, "manifest.json", &manifest(image))?;
    append(&mut archive, "oci-layout", &layout::marker())?;
    archive.into_inner()?.flush()
}

fn place(hex: &str) -> String {
    format!("blobs/sha256/{hex}")
}

/// Docker's own list of what is in the file.
fn manifest(image: &Image) -> Vec<u8> {
    let layers: Vec<String> = image
        .layers
        .iter()
        .map(|layer| place(layer.blob.digest.hex()))
        .collect();
    json!([{
        "Config": place(image.config.digest.hex()),
        "RepoTags": [image.tagged()],
        "Layers": layers,
    }])
    .to_string()
    .into_bytes()
}

fn append(archive: &mut Builder<impl io::Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    let (kind, mode) = if name.ends_with('/') {
        (EntryType::Directory, 0o755)
    } else {
        (EntryType::Regular, 0o644)
    };
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}
