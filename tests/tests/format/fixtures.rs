//! What earlier versions have written, in `tests/format/fixtures/`.
//!
//! **The files of a version must never change**: they are what is in the buckets and on the disks of those who run that version, and all
//! later versions must read them. A format that changes gets a folder of its own (`v2`), and `v1` stays. Only before the first
//! release, and never to make a test pass, they are made anew:
//!
//! ```text
//! STATEFUN_BLESS=1 cargo test -p statefun-tests --test format
//! ```
//!
//! The examples of `statefun-core/FORMAT.md` are bytes of these files, and have to be mended then.
//!
//! Times, lineages and tokens differ from one time to the next, rows and their number do not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use statefun_core::checkpoint::manifest::{Entry, Manifest};
use statefun_core::checkpoint::operate;
use tokio::runtime::Runtime;
use xxhash_rust::xxh3::xxh3_64;

use crate::world::{
    Rows, World, all_rows, bucket, copy_tree, epochs, go_on, hex, restore, stored_rows,
};

/// What is to be read from the files of a version.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Expected {
    checkpoints: Vec<Checkpoint>,
    log: Log,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    /// By what it is asked for.
    wanted: String,
    epoch: u64,
    replayed_epochs: u64,
    /// Whether messages were under way.
    carries: bool,
    /// What a start that goes on from it lets out.
    says: Vec<String>,
    /// Keys and values, in hexadecimal digits.
    rows: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Log {
    lineage: String,
    epochs: Vec<Logged>,
    /// What a start makes of the log alone.
    rows: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Logged {
    epoch: u64,
    bytes: usize,
    xxh3: String,
}

fn in_digits(rows: &Rows) -> BTreeMap<String, String> {
    rows.iter()
        .map(|(key, value)| (hex(key), hex(value)))
        .collect()
}

/// The files of a version: those of the repository, or those just made.
fn fixtures() -> &'static Path {
    static FIXTURES: OnceLock<PathBuf> = OnceLock::new();
    FIXTURES.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("format/fixtures/v1");
        if std::env::var_os("STATEFUN_BLESS").is_some() {
            bless(&path);
        }
        path
    })
}

fn bless(path: &Path) {
    let world = World::new();
    world.live();
    // Taken over, and the chain sealed, as when another machine has restored it.
    let elsewhere = tempfile::tempdir().unwrap();
    restore(
        &world.runtime,
        &world.left_bucket(),
        elsewhere.path(),
        "latest",
        true,
    );
    std::fs::remove_file(world.left_bucket().join("manifest.json#lock")).unwrap();
    let log = world.left_data().join("log");
    std::fs::remove_file(log.join("lock")).unwrap();
    for segment in std::fs::read_dir(&log).unwrap() {
        trim(&segment.unwrap().path());
    }
    if path.exists() {
        std::fs::remove_dir_all(path).unwrap();
    }
    copy_tree(&world.left_bucket(), &path.join("bucket"));
    copy_tree(&world.left_data(), &path.join("data"));
    let json = serde_json::to_string_pretty(&found(&world.runtime, path)).unwrap();
    std::fs::write(path.join("expected.json"), json + "\n").unwrap();
}

/// Takes zeros from the end of a segment: what is behind the last record has no meaning. Some room stays for the next attempt.
fn trim(segment: &Path) {
    let bytes = std::fs::read(segment).unwrap();
    match bytes.iter().rposition(|byte| *byte != 0) {
        Some(last) => {
            let end = (last / 512 + 9) * 512;
            std::fs::write(segment, &bytes[..end.min(bytes.len())]).unwrap();
        }
        None => std::fs::remove_file(segment).unwrap(),
    }
}

fn manifest(runtime: &Runtime, path: &Path) -> Manifest {
    let bucket = bucket(&path.join("bucket"));
    runtime
        .block_on(operate::manifest(&bucket))
        .unwrap()
        .unwrap()
}

/// Reads the files as this version does. They are copied first, since reading a log means to start.
fn found(runtime: &Runtime, path: &Path) -> Expected {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(path, copy.path());
    let wanted = |entry: &Entry| entry.name.clone().unwrap_or_else(|| entry.id.clone());
    let entries = manifest(runtime, copy.path()).checkpoints;
    let mut checkpoints: Vec<Checkpoint> = entries
        .iter()
        .map(|entry| read(runtime, copy.path(), &wanted(entry)))
        .collect();
    checkpoints.push(read(runtime, copy.path(), "latest"));
    let data = copy.path().join("data");
    let text = std::fs::read(data.join("catalog.json")).unwrap();
    let catalog: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let lineage = catalog["lineage"].as_u64().unwrap();
    go_on(&data);
    let rows = in_digits(&stored_rows(&data));
    let again = tempfile::tempdir().unwrap();
    copy_tree(&path.join("data"), again.path());
    let epochs = epochs(again.path(), lineage, 0);
    let logged = |(epoch, body): (u64, Vec<u8>)| Logged {
        epoch,
        bytes: body.len(),
        xxh3: format!("{:016x}", xxh3_64(&body)),
    };
    Expected {
        checkpoints,
        log: Log {
            lineage: format!("{lineage:016x}"),
            epochs: epochs.into_iter().map(logged).collect(),
            rows,
        },
    }
}

fn read(runtime: &Runtime, path: &Path, wanted: &str) -> Checkpoint {
    let bucket = path.join("bucket");
    let directory = tempfile::tempdir().unwrap();
    let restored = restore(runtime, &bucket, directory.path(), wanted, false);
    // Another one goes on, since to look into the log is a start.
    let other = tempfile::tempdir().unwrap();
    restore(runtime, &bucket, other.path(), wanted, false);
    let (_, says) = go_on(other.path());
    let (rows, carried) = all_rows(directory.path(), restored.lineage);
    Checkpoint {
        wanted: wanted.to_owned(),
        epoch: restored.checkpoint.epoch,
        replayed_epochs: restored.replayed_epochs,
        carries: !carried.is_empty(),
        says,
        rows: in_digits(&rows),
    }
}

#[test]
fn what_version_1_wrote_is_found_in_order() {
    let runtime = Runtime::new().unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&fixtures().join("bucket"), copy.path());
    let bucket = bucket(copy.path());
    let verified = runtime.block_on(operate::verify(&bucket, None, |_| ()));
    let verified = verified.unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    assert!(verified.objects > 5 && verified.rows > 50, "{verified:?}");
}

#[test]
fn what_version_1_wrote_is_read() {
    let runtime = Runtime::new().unwrap();
    let text = std::fs::read(fixtures().join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&text).unwrap();
    let found = found(&runtime, fixtures());
    assert_eq!(found.checkpoints.len(), expected.checkpoints.len());
    for (found, expected) in found.checkpoints.iter().zip(&expected.checkpoints) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.log, expected.log);
    let latest = found.checkpoints.last().unwrap();
    assert!(latest.replayed_epochs > 0, "epochs behind the checkpoint");
    assert_eq!(latest.rows, found.log.rows);
    assert!(
        found
            .checkpoints
            .iter()
            .any(|checkpoint| checkpoint.carries)
    );
    let says = |text: &str| {
        let mut all = found
            .checkpoints
            .iter()
            .flat_map(|checkpoint| &checkpoint.says);
        all.any(|said| said == text)
    };
    assert!(says("refused as well") && says("behind the last checkpoint"));
}

/// Hexadecimal digits that a line of an example begins with; a word may stand before them.
fn digits(line: &str) -> Vec<u8> {
    let words = line.split_whitespace();
    let words = words.skip_while(|word| word.len() > 2);
    let byte = |word: &str| {
        let digits = word.len() == 2 && word.bytes().all(|digit| digit.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(word, 16).unwrap())
    };
    words.map_while(byte).collect()
}

#[test]
fn the_page_shows_bytes_of_version_1() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../statefun-core/FORMAT.md");
    let page = std::fs::read_to_string(page).unwrap();
    let log = fixtures().join("data/log/00000000000000000001.log");
    let mut there = vec![std::fs::read(log).unwrap()];
    let manifest = manifest(&Runtime::new().unwrap(), fixtures());
    let lineage = manifest.latest().unwrap().lineage;
    let chain = format!("bucket/epochs/{lineage:016x}/00000000000000000001");
    there.push(std::fs::read(fixtures().join(chain)).unwrap());
    let mut seen = 0;
    for line in page.split("```text").skip(1).flat_map(|text| {
        let example = text.split("```").next().unwrap();
        example.lines()
    }) {
        let bytes = digits(line);
        if bytes.len() < 8 {
            continue;
        }
        // Behind the lengths of a row in a block, there is what the log has as well.
        let is_there = [0, 3, 4].into_iter().any(|skipped| {
            let shown = &bytes[skipped..];
            let mut windows = there.iter().flat_map(|file| file.windows(shown.len()));
            windows.any(|window| window == shown)
        });
        assert!(is_there, "{line}");
        seen += 1;
    }
    assert!(seen > 15, "{seen} lines with bytes");
}
