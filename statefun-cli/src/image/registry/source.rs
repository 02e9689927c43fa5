//! What is pushed: the image of an OCI layout on disk, read and checked as a whole before anything is sent.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

/// The longest index or manifest that is read: registries take no longer ones.
const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;
/// What is read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// What manifests are without a type of their own.
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Lists of images, one for each platform.
const LIST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// An image on disk.
#[derive(Debug)]
pub(super) struct Source {
    /// The manifest as it is pushed: its bytes are what the digest is of.
    pub(super) manifest: Vec<u8>,
    /// What the manifest says it is.
    pub(super) media_type: String,
    /// The digest of the image.
    pub(super) digest: String,
    /// Layers and configuration, each once, layers first.
    pub(super) blobs: Vec<Blob>,
}

/// A file below `blobs/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) bytes: u64,
    pub(super) path: PathBuf,
}

/// Why an OCI layout cannot be pushed.
#[derive(Debug, Error)]
pub(crate) enum LayoutError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// A file is not what it should be.
    #[error("{} is not as an OCI layout has it: {problem}", path.display())]
    Malformed { path: PathBuf, problem: String },
    /// A file's contents are not those of its name.
    #[error("{} is damaged: it should have {expected}, and has {found}", path.display())]
    Damaged {
        path: PathBuf,
        expected: String,
        found: String,
    },
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
}

impl Source {
    /// Reads an image of a layout, and all of its blobs: what is damaged is found here.
    pub(super) async fn read(layout: &Path, digest: &str) -> Result<Self, LayoutError> {
        let index_path = layout.join("index.json");
        let index = read_document(&index_path).await?;
        let index: Index = parse(&index_path, &index)?;
        let mut images = index.manifests.iter();
        let Some(descriptor) = images.find(|descriptor| descriptor.digest == digest) else {
            return Err(LayoutError::Malformed {
                path: index_path,
                problem: format!("it has no image with the digest {digest}"),
            });
        };
        if LIST_TYPES.contains(&descriptor.media_type.as_str()) {
            return Err(LayoutError::Malformed {
                path: index_path,
                problem: "it has a list of images, and one image is pushed".to_owned(),
            });
        }
        let of_manifest = blob(layout, &index_path, descriptor)?;
        let manifest = read_document(&of_manifest.path).await?;
        let found = named(&Sha256::digest(&manifest));
        compare(&of_manifest, found, manifest.len() as u64)?;
        let parsed: Manifest = parse(&of_manifest.path, &manifest)?;

        let mut blobs: Vec<Blob> = Vec::new();
        for descriptor in parsed.layers.iter().chain([&parsed.config]) {
            let blob = blob(layout, &of_manifest.path, descriptor)?;
            if !blobs.contains(&blob) {
                blobs.push(blob);
            }
        }
        for blob in &blobs {
            check(blob).await?;
        }
        let named = [parsed.media_type, Some(descriptor.media_type.clone())];
        let media_type = named.into_iter().flatten().find(|name| !name.is_empty());
        Ok(Self {
            manifest,
            media_type: media_type.unwrap_or_else(|| MANIFEST_TYPE.to_owned()),
            digest: of_manifest.digest,
            blobs,
        })
    }
}

/// The file that a descriptor means. Only SHA-256: nothing else is in use.
fn blob(layout: &Path, named_in: &Path, descriptor: &Descriptor) -> Result<Blob, LayoutError> {
    let digest = &descriptor.digest;
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(is_lower_hex));
    // Also what keeps a path from leading out of the layout.
    let Some(hex) = hex else {
        return Err(LayoutError::Malformed {
            path: named_in.to_owned(),
            problem: format!("`{digest}` is no SHA-256 digest"),
        });
    };
    Ok(Blob {
        digest: digest.clone(),
        bytes: descriptor.size,
        path: layout.join("blobs/sha256").join(hex),
    })
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, text: &'a [u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(text).map_err(|error| LayoutError::Malformed {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

async fn read_document(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let unreadable = |source| unreadable(path, source);
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut text = Vec::new();
    let mut limited = file.take(MAX_DOCUMENT_BYTES + 1);
    limited.read_to_end(&mut text).await.map_err(unreadable)?;
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(LayoutError::Malformed {
            path: path.to_owned(),
            problem: format!("it is longer than {MAX_DOCUMENT_BYTES} bytes"),
        });
    }
    Ok(text)
}

async fn check(blob: &Blob) -> Result<(), LayoutError> {
    let unreadable = |source| unreadable(&blob.path, source);
    let mut file = tokio::fs::File::open(&blob.path)
        .await
        .map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece).await.map_err(unreadable)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        bytes += read as u64;
    }
    compare(blob, named(&hash.finalize()), bytes)
}

fn named(hash: &[u8]) -> String {
    format!("sha256:{:x}", Bytes::copy_from_slice(hash))
}

fn compare(blob: &Blob, digest: String, bytes: u64) -> Result<(), LayoutError> {
    let damaged = |expected, found| {
        Err(LayoutError::Damaged {
            path: blob.path.clone(),
            expected,
            found,
        })
    };
    if bytes != blob.bytes {
        return damaged(format!("{} bytes", blob.bytes), format!("{bytes}"));
    }
    if digest != blob.digest {
        return damaged(format!("the digest {}", blob.digest), digest);
    }
    Ok(())
}

fn unreadable(path: &Path, source: io::Error) -> LayoutError {
    LayoutError::Unreadable {
        path: path.to_owned(),
        source,
    }
}
