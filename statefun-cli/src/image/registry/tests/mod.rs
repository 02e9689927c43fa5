//! What pushing does: with a real registry, and with one that behaves as a test wants it.

mod auth;
mod credentials;
mod fake;
mod layouts;
mod real;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{Amount, Patience, Progress, PushError, Pushed, push_with};
use crate::client::block_on;
use crate::image::reference::Reference;
use crate::status::Failure;

/// An image on disk.
struct Layout {
    folder: TempDir,
    digest: String,
}

/// Says of a byte string what its digest is.
fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("sha256:{:x}", bytes::Bytes::copy_from_slice(&hash))
}

impl Layout {
    /// Of an image with these layers.
    fn of(layers: &[&[u8]]) -> Self {
        let mut layout = Self {
            folder: tempfile::tempdir().unwrap(),
            digest: String::new(),
        };
        std::fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        let named: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": named},
        });
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| layout.blob("application/vnd.oci.image.layer.v1.tar", layer))
            .collect();
        let config = layout.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let manifest = layout.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        );
        manifest["digest"]
            .as_str()
            .unwrap()
            .clone_into(&mut layout.digest);
        layout.write_index(&[manifest]);
        layout
    }

    fn write_index(&self, manifests: &[serde_json::Value]) {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        self.write("index.json", index.to_string().as_bytes());
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(name), bytes).unwrap();
    }

    /// Writes a blob, and describes it.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        std::fs::write(self.file(&digest(bytes)), bytes).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.path()
            .join("blobs/sha256")
            .join(&digest["sha256:".len()..])
    }

    fn digest(&self) -> String {
        self.digest.clone()
    }
}

/// Many bytes that do not repeat.
fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(4))
        .flat_map(|_| next())
        .take(bytes)
        .collect()
}

/// Who pushes: the environment, and how patient.
struct Pusher {
    home: TempDir,
    variables: BTreeMap<String, PathBuf>,
    patience: Patience,
    told: RefCell<Vec<String>>,
}

impl Pusher {
    /// Someone without credentials.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self {
            variables: BTreeMap::from([("HOME".to_owned(), home.path().to_owned())]),
            home,
            patience: Patience {
                attempts: 6,
                first_delay: Duration::from_millis(20),
                stalled: Duration::from_secs(30),
            },
            told: RefCell::new(Vec::new()),
        }
    }

    /// Puts a file below the home directory.
    fn with_file(self, name: &str, text: &str) -> Self {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// As `docker login` leaves it.
    fn logged_in(self, registry: &str, user: &str, password: &str) -> Self {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let config = serde_json::json!({"auths": {registry: {"auth": auth}}});
        self.with_file(".docker/config.json", &config.to_string())
    }

    fn push(&self, layout: &Layout, reference: &str) -> Result<Pushed, PushError> {
        self.push_watched(layout, reference, &|_| {})
    }

    fn push_watched(
        &self,
        layout: &Layout,
        reference: &str,
        watch: &dyn Fn(&Progress<'_>),
    ) -> Result<Pushed, PushError> {
        let reference: Reference = reference.parse().unwrap();
        let progress = |progress: Progress<'_>| {
            watch(&progress);
            let told = match progress {
                Progress::Uploading { .. } => return,
                Progress::Checking => "checking".to_owned(),
                Progress::Present { .. } => "present".to_owned(),
                Progress::Uploaded { .. } => "uploaded".to_owned(),
                Progress::Retrying { problem, .. } => format!("retrying: {problem}"),
            };
            self.told.borrow_mut().push(told);
        };
        let variables = |name: &str| self.variables.get(name).cloned();
        let digest = layout.digest();
        let pushing = push_with(
            layout.path(),
            &digest,
            &reference,
            &progress,
            &variables,
            &self.patience,
        );
        block_on(pushing).unwrap()
    }

    fn told(&self) -> Vec<String> {
        self.told.take()
    }
}

/// What a person reads.
fn shown(error: PushError) -> String {
    let failure = Failure::from(error);
    match failure.help {
        Some(help) => format!("{}\nhelp: {help}", failure.message),
        None => failure.message,
    }
}

fn amount(blobs: usize, bytes: usize) -> Amount {
    Amount {
        blobs,
        bytes: bytes as u64,
    }
}
