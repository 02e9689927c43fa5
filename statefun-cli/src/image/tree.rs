//! Files as a layer has them: sorted, owned, without times, and written as a tar archive that is the same each time.

use std::collections::BTreeMap;
use std::io;

use tar::{Builder, EntryType, Header};

/// What lies in a layer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// None is a directory.
    content: Option<Vec<u8>>,
    mode: u32,
    owner: u32,
}

const ROOT: u32 = 0;
const READABLE: u32 = 0o644;
const EXECUTABLE: u32 = 0o755;

impl Tree {
    /// Adds a file of root's that everybody reads. `path` begins with `/`.
    pub(crate) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.add(path, Some(content.into()), READABLE, ROOT);
    }

    /// Adds a program, or a library.
    pub(crate) fn program(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, Some(content), EXECUTABLE, ROOT);
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: u32) {
        self.add(path, None, mode, owner);
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let sizes = self.0.values().flat_map(|entry| &entry.content);
        sizes.map(|content| content.len() as u64).sum()
    }

    fn add(&mut self, path: &str, content: Option<Vec<u8>>, mode: u32, owner: u32) {
        let path = path.trim_matches('/');
        // Directories above that nobody has said anything about are root's.
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Entry {
                content: None,
                mode: EXECUTABLE,
                owner: ROOT,
            });
        }
        let entry = Entry {
            content,
            mode,
            owner,
        };
        self.0.insert(path.to_owned(), entry);
    }

    /// The archive. Times are the beginning of time: a layer is the same as long as its files are.
    pub(crate) fn tar(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let mut header = Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.owner.into());
            header.set_gid(entry.owner.into());
            header.set_mtime(0);
            let (kind, content) = match &entry.content {
                Some(content) => (EntryType::Regular, content.as_slice()),
                None => (EntryType::Directory, &[][..]),
            };
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            let name = match kind {
                EntryType::Directory => format!("{path}/"),
                _ => path.clone(),
            };
            archive.append_data(&mut header, name, content)?;
        }
        archive.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn listed(tree: &Tree) -> Vec<(String, u32, u64, u64, u64, String)> {
        let bytes = tree.tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let header = entry.header();
            (
                entry.path().unwrap().display().to_string(),
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                header.mtime().unwrap(),
                text,
            )
        });
        entries.collect()
    }

    #[test]
    fn entries_are_sorted_with_the_directories_above_them() {
        let mut tree = Tree::default();
        tree.program("/b/c/run", b"run".to_vec());
        tree.file("/a", "a");
        tree.directory("/data", 0o755, 65_532);
        let entry = |name: &str, mode, owner, text: &str| {
            (name.to_owned(), mode, owner, owner, 0, text.to_owned())
        };
        assert_eq!(
            listed(&tree),
            [
                entry("a", 0o644, 0, "a"),
                entry("b/", 0o755, 0, ""),
                entry("b/c/", 0o755, 0, ""),
                entry("b/c/run", 0o755, 0, "run"),
                entry("data/", 0o755, 65_532, ""),
            ]
        );
        assert_eq!(tree.bytes(), 4);
    }

    #[test]
    fn what_is_said_of_a_directory_stays_when_files_come() {
        let mut tree = Tree::default();
        tree.directory("/data", 0o700, 7);
        tree.file("/data/x", "");
        assert_eq!(
            listed(&tree)[0],
            ("data/".to_owned(), 0o700, 7, 7, 0, String::new())
        );
    }

    #[test]
    fn long_names_are_kept() {
        let mut tree = Tree::default();
        let long = format!("/{}/{}", "d".repeat(120), "f".repeat(150));
        tree.file(&long, "x");
        assert_eq!(listed(&tree)[1].0, long[1..]);
    }
}
