//! `tests/format/read_checkpoint.py` and the engine read the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use statefun_core::checkpoint::manifest::Manifest;
use statefun_core::checkpoint::operate;
use statefun_core::sdk::state::TableKey as _;
use statefun_core::state::keys::parse_address_key;
use xxhash_rust::xxh3::xxh3_64;

use crate::world::{World, all_rows, bucket, epochs, hex, restore};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format")
}

/// Python with the packages that the reader needs; they are installed when they are not there.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let installed = Command::new(here().join("install")).output().unwrap();
        let said = String::from_utf8_lossy(&installed.stderr);
        assert!(installed.status.success(), "tests/format/install: {said}");
        let cache = std::env::var_os("SERVERS_CACHE").map_or_else(
            || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/statefun-servers"),
            PathBuf::from,
        );
        cache.join("format-venv/bin/python")
    })
}

/// What the reader says: a value for each line, or its complaint.
fn read(arguments: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new(python())
        .arg(here().join("read_checkpoint.py"))
        .args(arguments)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect())
}

fn manifest(world: &World) -> Manifest {
    let bucket = bucket(&world.left_bucket());
    world
        .runtime
        .block_on(operate::manifest(&bucket))
        .unwrap()
        .unwrap()
}

/// Compares what the reader says of a checkpoint with what a restore makes of it. Gives the reader's lines.
fn compare(world: &World, wanted: &str) -> Vec<Value> {
    let from = world.left_bucket();
    let into = tempfile::tempdir().unwrap();
    let restored = restore(&world.runtime, &from, into.path(), wanted, false);
    let (rows, carried) = all_rows(into.path(), restored.lineage);
    let mut arguments = vec!["checkpoint", from.to_str().unwrap(), wanted];
    // Also when it is asked for by its id.
    if manifest(world).latest() == Some(&restored.checkpoint) {
        arguments.push("--behind");
    }
    let lines = read(&arguments).unwrap();
    let (summary, found) = lines.split_last().unwrap();
    let theirs: Vec<(&str, &str)> = found
        .iter()
        .map(|line| (line["key"].as_str().unwrap(), line["raw"].as_str().unwrap()))
        .collect();
    let ours: Vec<(String, String)> = rows
        .iter()
        .map(|(key, value)| (hex(key), hex(value)))
        .collect();
    assert_eq!(theirs.len(), ours.len(), "{wanted}");
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(*theirs, (ours.0.as_str(), ours.1.as_str()), "{wanted}");
    }
    for ((key, value), line) in rows.iter().zip(found) {
        compare_decoded(key, value, line);
    }
    let summary = &summary["summary"];
    let epoch = restored.checkpoint.epoch + restored.replayed_epochs;
    assert_eq!(summary["epoch"], json!(epoch));
    assert_eq!(
        summary["lineage"],
        json!(format!("{:016x}", restored.checkpoint.lineage))
    );
    assert_eq!(
        summary["carried"] == json!(0),
        carried.is_empty(),
        "{summary}"
    );
    lines
}

/// Compares what the reader has decoded of a state row with what the engine's own decoders make of it.
fn compare_decoded(key: &[u8], value: &[u8], line: &Value) {
    if line["space"] != "state" {
        return;
    }
    let address = parse_address_key(key).unwrap();
    assert_eq!(line["id"], json!(address.id));
    assert_eq!(line["group"], json!(address.group));
    let rest = &address.rest[4..];
    let payload = &value[12..];
    match line["kind"].as_str().unwrap() {
        "table" => {
            let mut rest = rest;
            let (text, number) = <(String, i64)>::decode_key(&mut rest).unwrap();
            assert_eq!(line["subKey"], json!([text, number]));
        }
        "buffer" if !rest.is_empty() => {
            let number = u64::decode_key(&mut &rest[..]).unwrap();
            assert_eq!(line["subKey"], json!(number));
        }
        "registry" if rest[0] == 0 => {
            let name: Value = serde_json::from_slice(payload).unwrap();
            assert_eq!(line["value"], name);
            return;
        }
        "registry" => {}
        _ => assert_eq!(line["subKey"], Value::Null),
    }
    let decoded: Value = rmp_serde::from_slice(payload).unwrap();
    assert_eq!(line["value"], decoded, "{line}");
}

/// The value of a state in the reader's lines.
fn value<'a>(lines: &'a [Value], id: &str, state: &str, sub_key: &Value) -> &'a Value {
    let found = lines
        .iter()
        .find(|line| line["id"] == id && line["state"] == state && line["subKey"] == *sub_key);
    &found.unwrap_or_else(|| panic!("no {state} {sub_key} of {id:?}"))["value"]
}

#[test]
fn a_reader_in_another_language_reads_the_same() {
    let world = World::new();
    world.live();
    for entry in manifest(&world).checkpoints {
        compare(&world, entry.name.as_ref().unwrap_or(&entry.id));
    }
    let lines = compare(&world, "latest");
    let profile = value(&lines, "zero\0inside", "profile", &Value::Null);
    assert_eq!(
        *profile,
        json!({
            "name": "grüße", "changes": 1, "balance": -300, "ratio": 0.25, "tags": ["grüße"], "nick": "grü",
            "moods": {"calm": "Calm", "busy": {"Busy": 70_000}, "torn": {"Torn": [200, -100]}, "odd": {"Odd": {"why": "grüße"}}},
            "nothing": null, "small": -1.5,
        })
    );
    value(&lines, "", "profile", &Value::Null);
    assert_eq!(
        *value(&lines, "table", "entries", &json!(["behind", 5])),
        json!(6)
    );
    let last = json!(["right\0", i64::MAX]);
    assert_eq!(*value(&lines, "table", "entries", &last), json!(u32::MAX));
    assert_eq!(
        *value(&lines, "buffer", "elements", &json!(4)),
        json!("fifth")
    );
    assert_eq!(
        *value(&lines, "buffer", "elements", &Value::Null),
        json!([0, 5])
    );
    let noise = json!({"registered": "noise"});
    assert_eq!(*value(&lines, "registry", "registered", &noise), json!(300));
    for space in [
        "state",
        "timer",
        "token",
        "waiting",
        "queue",
        "source",
        "deadLetter",
    ] {
        assert!(lines.iter().any(|line| line["space"] == space), "{space}");
    }

    let tail = compare(&world, "with a tail");
    assert!(tail.iter().any(|line| line["space"] == "operation"));
    let summary = &tail.last().unwrap()["summary"];
    assert_eq!(summary["carried"], json!(1), "{summary}");
    let carried = &summary["carriedMessages"][0];
    assert_eq!(carried["body"]["what"], json!("Spin"));
    assert_eq!(carried["from"], carried["to"]);
    let said: Vec<&Value> = summary["egress"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["payload"]["text"])
        .collect();
    assert_eq!(said, ["refused", "refused as well"]);
}

#[test]
fn a_reader_in_another_language_reads_traces() {
    let world = World::traced();
    world.live();
    let lines = compare(&world, "with a tail");
    let is_trace = |trace: &Value| {
        let parent = trace["traceparent"].as_str().unwrap_or_default();
        parent.len() == 55 && parent.ends_with("-03") && trace["tracestate"] == ""
    };
    let summary = &lines.last().unwrap()["summary"];
    assert!(
        is_trace(&summary["carriedMessages"][0]["trace"]),
        "{summary}"
    );
    let records = summary["egress"].as_array().unwrap();
    assert!(!records.is_empty());
    for record in records {
        assert!(is_trace(&record["trace"]), "{record}");
        assert_eq!(record["trace"]["parent"].as_str().map(str::len), Some(16));
    }
    for space in ["timer", "queue", "operation", "deadLetter"] {
        let mut rows = lines.iter().filter(|line| line["space"] == space);
        assert!(
            rows.any(|line| is_trace(&line["message"]["trace"])),
            "{space}"
        );
    }
}

#[test]
fn a_reader_in_another_language_reads_the_log() {
    let world = World::new();
    world.live();
    let data = world.left_data();
    let (log, catalog) = (data.join("log"), data.join("catalog.json"));
    let arguments = ["log", log.to_str().unwrap(), catalog.to_str().unwrap()];
    let lines = read(&arguments).unwrap();
    let (summary, records) = lines.split_last().unwrap();
    assert_eq!(summary["summary"]["attempts"], json!(3));
    let lineage = u64::from_str_radix(summary["summary"]["lineage"].as_str().unwrap(), 16).unwrap();
    let theirs: Vec<&Value> = records
        .iter()
        .filter(|record| record["kind"] == "epoch")
        .collect();
    let ours = epochs(&data, lineage, 0);
    assert_eq!(theirs.len(), ours.len());
    for (theirs, (epoch, body)) in theirs.into_iter().zip(ours) {
        assert_eq!(theirs["epoch"], json!(epoch));
        assert_eq!(theirs["bytes"], json!(body.len()));
        assert_eq!(
            theirs["checksum"],
            json!(format!("{:016x}", xxh3_64(&body)))
        );
        let parsed = crate::world::parse_body(&body);
        let rows = theirs["rows"].as_array().unwrap();
        assert_eq!(rows.len(), parsed.rows.len());
        for (theirs, (key, value)) in rows.iter().zip(parsed.rows) {
            assert_eq!(theirs["key"], json!(hex(&key)));
            assert_eq!(theirs["raw"], json!(value.as_deref().map(hex)));
        }
    }
}

#[test]
fn a_reader_in_another_language_reads_bases_of_some_key_groups() {
    let world = World::new();
    world.live_large();
    for entry in manifest(&world).checkpoints {
        compare(&world, &entry.id);
    }
    let bucket = bucket(&world.left_bucket());
    let latest = operate::describe(&bucket, "latest");
    let (_, latest) = world.runtime.block_on(latest).unwrap();
    assert!(latest.bases.len() > 1, "{:?}", latest.bases);
    assert!(!latest.deltas.is_empty());
    let covers_fewer = |base: &statefun_core::checkpoint::manifest::Base| {
        base.last_group - base.first_group + 1 < base.written_groups
    };
    assert!(latest.bases.iter().any(covers_fewer), "{:?}", latest.bases);
}

#[test]
fn a_reader_in_another_language_sees_damage() {
    let world = World::new();
    world.live();
    let from = world.left_bucket();
    let read = |wanted: &str| read(&["checkpoint", from.to_str().unwrap(), wanted]);
    assert!(read("with a tail").is_ok());
    let bucket = bucket(&from);
    let found = operate::describe(&bucket, "with a tail");
    let (entry, descriptor) = world.runtime.block_on(found).unwrap();
    let objects = descriptor.objects().map(|(name, _)| name.to_owned());
    for object in objects.chain([entry.object]) {
        let path = from.join(&object);
        let good = std::fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, bad).unwrap();
            assert!(read("with a tail").is_err(), "byte {at} of {object}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert!(read("with a tail").is_ok());
}
