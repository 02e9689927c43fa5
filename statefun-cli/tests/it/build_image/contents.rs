//! Looking into an image that was written as a file.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

/// A file or directory of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: u32,
    pub(super) owner: u64,
    pub(super) content: Vec<u8>,
}

/// An image, read back.
#[derive(Debug)]
pub(super) struct Contents {
    /// What docker's list says of it.
    pub(super) listed: Value,
    pub(super) config: Value,
    pub(super) manifest: Value,
    /// What the layers have, the lowest first.
    pub(super) layers: Vec<BTreeMap<String, Entry>>,
}

impl Contents {
    pub(super) fn of_archive(path: &Path) -> Self {
        let files = entries(&std::fs::read(path).unwrap());
        let file = |name: &str| &files[name].content;
        let json = |name: &str| -> Value { serde_json::from_slice(file(name)).unwrap() };
        let listed = json("manifest.json")[0].clone();
        let index = json("index.json");
        let blob = |digest: &Value| {
            let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            format!("blobs/sha256/{hex}")
        };
        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        assert_eq!(blob(&manifest["config"]["digest"]), listed["Config"]);
        let layers = listed["Layers"].as_array().unwrap();
        let described = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), described.len());
        let layers = layers.iter().zip(described).map(|(name, described)| {
            assert_eq!(&blob(&described["digest"]), name);
            let packed = file(name.as_str().unwrap());
            assert_eq!(described["size"], packed.len());
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(packed.as_slice())
                .read_to_end(&mut tar)
                .unwrap();
            entries(&tar)
        });
        Self {
            layers: layers.collect(),
            config: json(listed["Config"].as_str().unwrap()),
            listed,
            manifest,
        }
    }

    /// A file, from whichever layer.
    #[track_caller]
    pub(super) fn file(&self, path: &str) -> &Entry {
        self.layers
            .iter()
            .find_map(|layer| layer.get(path))
            .unwrap_or_else(|| panic!("{path}: {:?}", self.paths()))
    }

    pub(super) fn text(&self, path: &str) -> String {
        String::from_utf8(self.file(path).content.clone()).unwrap()
    }

    /// All paths of a layer, or of all.
    pub(super) fn paths(&self) -> Vec<&str> {
        self.layers
            .iter()
            .flat_map(|layer| layer.keys().map(String::as_str))
            .collect()
    }

    /// The digests of the layers.
    pub(super) fn digests(&self) -> Vec<String> {
        let layers = self.manifest["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Writes all files below a directory.
    pub(super) fn unpack(&self, directory: &Path) {
        use std::os::unix::fs::PermissionsExt as _;

        for (path, entry) in self.layers.iter().flatten() {
            let place = directory.join(path);
            if path.ends_with('/') {
                std::fs::create_dir_all(place).unwrap();
            } else {
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                std::fs::write(&place, &entry.content).unwrap();
                let mode = std::fs::Permissions::from_mode(entry.mode);
                std::fs::set_permissions(&place, mode).unwrap();
            }
        }
    }
}

fn entries(tar: &[u8]) -> BTreeMap<String, Entry> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        assert_eq!(entry.header().mtime().unwrap(), 0, "{path}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let found = Entry {
            mode: header.mode().unwrap(),
            owner: header.uid().unwrap(),
            content,
        };
        assert_eq!(header.gid().unwrap(), found.owner, "{path}");
        (path, found)
    });
    entries.collect()
}
