//! An image as a directory of the OCI image layout: `oci-layout`, `index.json`, `blobs/sha256/…`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use oci_spec::image::{ANNOTATION_REF_NAME, MediaType};
use serde_json::{Value, json};

use super::package::Image;
use crate::status::Failure;

const MARKER: &str = "oci-layout";
const INDEX: &str = "index.json";
/// The name that Docker's image store reads.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The content of `oci-layout`.
pub(super) fn marker() -> Vec<u8> {
    json!({"imageLayoutVersion": "1.0.0"})
        .to_string()
        .into_bytes()
}

/// The entry of an image in `index.json`.
fn entry(image: &Image) -> Result<Value, Failure> {
    let mut descriptor = image.manifest.descriptor(MediaType::ImageManifest)?;
    descriptor.set_annotations(Some(
        [
            (ANNOTATION_REF_NAME.to_owned(), image.tag.clone()),
            (
                CONTAINERD_NAME.to_owned(),
                format!("docker.io/library/{}", image.tagged()),
            ),
        ]
        .into(),
    ));
    serde_json::to_value(&descriptor)
        .map_err(|error| Failure::usage(format_args!("the image cannot be described: {error}")))
}

/// The content of `index.json` with this image and others.
pub(super) fn index(image: &Image, others: Vec<Value>) -> Result<Vec<u8>, Failure> {
    let mut manifests = others;
    manifests.push(entry(image)?);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex.to_string(),
        "manifests": manifests,
    });
    Ok(index.to_string().into_bytes())
}

/// Writes the layout. In one that is there the image takes the place of the one with its tag, and others stay.
pub(crate) fn write(image: &Image, directory: &Path) -> Result<(), Failure> {
    let others: Vec<Value> = existing(directory)?
        .into_iter()
        .filter(|entry| entry["annotations"][ANNOTATION_REF_NAME] != image.tag.as_str())
        .collect();
    let failed = |error: std::io::Error| {
        Failure::usage(format_args!(
            "cannot write to {}: {error}",
            directory.display()
        ))
    };
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed)?;
    for blob in image.blobs() {
        let path = blobs.join(blob.digest.hex());
        // Named by its content, so what is there is right if it is whole.
        if fs::metadata(&path).is_ok_and(|found| found.len() == blob.bytes.len() as u64) {
            continue;
        }
        replace(&path, &blob.bytes).map_err(failed)?;
    }
    fs::write(directory.join(MARKER), marker()).map_err(failed)?;
    let index = index(image, others.clone())?;
    // Last, so that it names nothing that is not there.
    replace(&directory.join(INDEX), &index).map_err(failed)?;
    remove_unused(&blobs, image, &others);
    Ok(())
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, path)
}

/// The entries of a layout that is there already. What else may be there is refused.
pub(crate) fn existing(directory: &Path) -> Result<Vec<Value>, Failure> {
    let unusable = |problem: &str| {
        Failure::input(format_args!("{} {problem}", directory.display()))
            .help("name another directory, or remove this one")
    };
    let Ok(mut listed) = fs::read_dir(directory) else {
        return if directory.exists() {
            Err(unusable("is no directory"))
        } else {
            Ok(Vec::new())
        };
    };
    if listed.next().is_none() {
        return Ok(Vec::new());
    }
    if !directory.join(MARKER).is_file() {
        return Err(unusable("has files in it, and is no OCI image layout"));
    }
    let Ok(text) = fs::read(directory.join(INDEX)) else {
        return Ok(Vec::new());
    };
    let index: Value = serde_json::from_slice(&text)
        .map_err(|error| unusable(&format!("is a damaged OCI image layout: {INDEX}: {error}")))?;
    Ok(index["manifests"].as_array().cloned().unwrap_or_default())
}

/// Removes what only the replaced image needed. What cannot be understood keeps everything.
fn remove_unused(blobs: &Path, image: &Image, others: &[Value]) {
    let mut used: BTreeSet<String> = image
        .blobs()
        .map(|blob| blob.digest.hex().to_owned())
        .collect();
    let mut left: Vec<Value> = others.to_vec();
    while let Some(descriptor) = left.pop() {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let Some(hex) = digest.strip_prefix("sha256:") else {
            return;
        };
        if !used.insert(hex.to_owned()) {
            continue;
        }
        let kind = descriptor["mediaType"].as_str().unwrap_or_default();
        if !(kind.contains("manifest") || kind.contains("index")) {
            continue;
        }
        let read = fs::read(blobs.join(hex)).ok();
        let Some(found) = read.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
            return;
        };
        left.extend(found.get("config").cloned());
        for list in ["layers", "manifests"] {
            left.extend(found[list].as_array().into_iter().flatten().cloned());
        }
    }
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        if !used.contains(&*entry.file_name().to_string_lossy()) {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}
