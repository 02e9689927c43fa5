//! A real application, built from two copies of its source.

use std::path::Path;
use std::process::Command;

use crate::support::{Files, checkout, statefun};

/// Everything is compiled twice: some minutes.
#[test]
#[ignore = "compiles everything twice; see README.md, \"Longer tests\""]
fn two_clones_give_one_digest() {
    let files = Files::new();
    let digest = |from: &Path, name: &str| {
        let clone = files.path().join(name);
        let done = Command::new("git")
            .args(["clone", "-q", "--no-hardlinks"])
            .arg(from)
            .arg(&clone)
            .status();
        assert!(done.unwrap().success());
        let greeter = clone.join("examples/greeter");
        let output = statefun(&greeter, &["build-image", "--output", "oci:image"]).ends(0);
        assert!(
            is_free_of(&greeter.join("image"), &clone),
            "a path of this machine is in it"
        );
        output.stdout
    };
    // The second is a clone of the first: work may go on in the checkout meanwhile.
    let one = digest(&checkout(), "one");
    let other = digest(&files.path().join("one"), "another/and-a-longer-one");
    assert_eq!(one, other);
}

/// Whether no file of a layout has the path in it, unpacked.
fn is_free_of(layout: &Path, path: &Path) -> bool {
    use std::io::Read as _;

    let needle = path.to_str().unwrap().as_bytes();
    let blobs = layout.join("blobs/sha256").read_dir().unwrap();
    blobs
        .map(|blob| std::fs::read(blob.unwrap().path()).unwrap())
        .all(|bytes| {
            let mut unpacked = Vec::new();
            if flate2::read::GzDecoder::new(bytes.as_slice())
                .read_to_end(&mut unpacked)
                .is_err()
            {
                unpacked = bytes;
            }
            !unpacked
                .windows(needle.len())
                .any(|window| window == needle)
        })
}
