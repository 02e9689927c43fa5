//! An image in memory: layers, configuration, manifest, each under its digest.

use std::fmt;
use std::io::{self, Write as _};

use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageManifestBuilder, MediaType, SCHEMA_VERSION, Sha256Digest,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::labels::Labels;
use super::tree::Tree;
use crate::status::Failure;

/// The SHA-256 of a blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest(String);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        use fmt::Write as _;

        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// Its 64 characters.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// Bytes under their digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    /// JSON with the keys of its maps in order: those of `oci_spec` have none.
    fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let ordered = serde_json::to_value(value).and_then(|value| serde_json::to_vec(&value));
        ordered.map(Self::new).map_err(unwritable)
    }

    pub(crate) fn descriptor(&self, media_type: MediaType) -> Result<Descriptor, Failure> {
        let digest: Sha256Digest = self.digest.hex().parse().map_err(unwritable)?;
        Ok(Descriptor::new(media_type, self.bytes.len() as u64, digest))
    }
}

fn unwritable(error: impl fmt::Display) -> Failure {
    Failure::usage(format_args!("the image cannot be described: {error}"))
}

/// A part of the file system, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// What is in it, in a few words.
    pub(crate) what: &'static str,
    /// As it is stored and sent.
    pub(crate) blob: Blob,
    /// The digest before it was compressed.
    pub(crate) diff_id: Digest,
    /// Bytes of its files.
    pub(crate) unpacked_bytes: u64,
}

impl Layer {
    pub(crate) fn new(what: &'static str, tree: &Tree) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::usage(format_args!(
                "the layer with {what} cannot be made: {error}"
            ))
        };
        let tar = tree.tar().map_err(failed)?;
        Ok(Self {
            what,
            diff_id: Digest::of(&tar),
            blob: Blob::new(gzip(&tar).map_err(failed)?),
            unpacked_bytes: tree.bytes(),
        })
    }
}

/// Gzip with a header that says nothing of time, name or system.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    /// "Unknown", in RFC 1952.
    const SYSTEM: u8 = 255;
    let mut writer = GzBuilder::new()
        .mtime(0)
        .operating_system(SYSTEM)
        .write(Vec::new(), Compression::default());
    writer.write_all(bytes)?;
    writer.finish()
}

/// A complete image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What it is called, without a registry.
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: Blob,
    pub(crate) manifest: Blob,
}

impl Image {
    /// Puts layers, configuration and manifest together.
    pub(crate) fn new(
        name: String,
        tag: String,
        layers: Vec<Layer>,
        configuration: &ImageConfiguration,
        labels: &Labels,
    ) -> Result<Self, Failure> {
        let config = Blob::json(configuration)?;
        let described: Result<Vec<Descriptor>, Failure> = layers
            .iter()
            .map(|layer| layer.blob.descriptor(MediaType::ImageLayerGzip))
            .collect();
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config.descriptor(MediaType::ImageConfig)?)
            .layers(described?)
            .annotations(labels.to_map())
            .build()
            .map_err(unwritable)?;
        Ok(Self {
            name,
            tag,
            layers,
            config,
            manifest: Blob::json(&manifest)?,
        })
    }

    /// All that is stored: layers, configuration, manifest.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        let layers = self.layers.iter().map(|layer| &layer.blob);
        layers.chain([&self.config, &self.manifest])
    }

    /// Bytes to send or store.
    pub(crate) fn compressed_bytes(&self) -> u64 {
        self.blobs().map(|blob| blob.bytes.len() as u64).sum()
    }

    /// Bytes of the files in it.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.unpacked_bytes).sum()
    }

    /// `name:tag`.
    pub(crate) fn tagged(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }

    /// The name that stays with this content: `name@sha256:…`.
    pub(crate) fn digest_reference(&self) -> String {
        format!("{}@{}", self.name, self.manifest.digest)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn digests_are_those_of_sha256() {
        assert_eq!(
            Digest::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_layer_is_the_same_each_time_and_comes_back() {
        let mut tree = Tree::default();
        tree.file("/app/module.yaml", "kind: x\n".repeat(100));
        let layer = Layer::new("the wiring", &tree).unwrap();
        assert_eq!(layer, Layer::new("the wiring", &tree).unwrap());
        assert_eq!(
            &layer.blob.bytes[..10],
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]
        );
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(layer.blob.bytes.as_slice())
            .read_to_end(&mut tar)
            .unwrap();
        assert_eq!(Digest::of(&tar), layer.diff_id);
        tree.file("/app/module.yaml", "kind: y\n");
        assert_ne!(
            layer.diff_id,
            Layer::new("the wiring", &tree).unwrap().diff_id
        );
    }

    #[test]
    fn maps_are_written_in_order() {
        let map: std::collections::HashMap<String, u32> = (0..100)
            .map(|number| (format!("{number:03}"), number))
            .collect();
        let text = String::from_utf8(Blob::json(&map).unwrap().bytes).unwrap();
        assert!(text.starts_with(r#"{"000":0,"001":1,"#), "{text}");
    }
}
