//! The egress on files that are not as it has left them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::output::{Format, Model, Op, PATH, context, disk_with_directory, egress, record, run};
use crate::disk::{Disk, OpenMode, SimDisk};
use crate::io::egress::{Egress, EgressRecord};
use crate::io::file::FileEgress;

/// A file with one epoch logged and one that is not, and the engine's model of it.
fn stopped(format: Format) -> (SimDisk, Model) {
    let disk = disk_with_directory(5);
    let mut model = Model::new(format);
    let release = Op::Release(3, 100);
    run(&disk, &[release, Op::Flush, Op::Log, release], &mut model).unwrap();
    (disk, model)
}

fn write(disk: &SimDisk, offset: u64, bytes: &[u8]) {
    disk.open(Path::new(PATH), OpenMode::Create)
        .unwrap()
        .write_at(bytes, offset)
        .unwrap();
}

fn set_len(disk: &SimDisk, bytes: u64) {
    disk.open(Path::new(PATH), OpenMode::ReadWrite)
        .unwrap()
        .set_len(bytes)
        .unwrap();
}

fn refused(disk: &SimDisk, model: &Model, parts: &[&str]) {
    let before = disk.content(Path::new(PATH));
    let error = model.start(disk).unwrap_err();
    assert!(!error.transient);
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
    assert_eq!(
        disk.content(Path::new(PATH)),
        before,
        "what is not understood is left as it is"
    );
}

#[test]
fn what_nobody_can_have_written_is_an_error_and_stays() {
    let (disk, model) = stopped(Format::Json);
    let end = model.lines.len() as u64;

    // Behind the end.
    let foreign = disk.fork();
    write(&foreign, end, b"{}\n");
    let cut = format!("truncate -s {end} {PATH}");
    refused(
        &foreign,
        &model,
        &[
            PATH,
            &format!("3 bytes from offset {end} on"),
            "nobody else may write",
            &cut,
        ],
    );
    // The error says how to go on.
    set_len(&foreign, end);
    model.start(&foreign).unwrap();

    // Among what comes again, although followed by it.
    let foreign = disk.fork();
    write(&foreign, end - 20, b"?");
    refused(
        &foreign,
        &model,
        &[&format!("20 bytes from offset {} on", end - 20)],
    );
    set_len(&foreign, end - 20);
    model.start(&foreign).unwrap();

    // Zeros are what a crash leaves of a write, but not behind all that was written.
    let torn = disk.fork();
    write(&torn, end - 20, &[0; 20]);
    model.start(&torn).unwrap();
    let foreign = disk.fork();
    write(&foreign, end, &[0; 20]);
    refused(&foreign, &model, &["20 bytes from offset"]);
}

#[test]
fn a_file_that_is_not_the_one_written_before_is_an_error() {
    for format in [Format::Json, Format::Csv] {
        let (disk, model) = stopped(format);
        let position: serde_json::Value =
            serde_json::from_slice(model.logged.0.as_ref().unwrap()).unwrap();
        let offset = position["offset"].as_u64().unwrap();

        let missing = disk.fork();
        missing.remove(Path::new(PATH)).unwrap();
        refused(
            &missing,
            &model,
            &[
                "is missing",
                &format!("{offset} bytes"),
                "put it back",
                "another `path`",
            ],
        );
        assert!(
            !missing.exists(Path::new(PATH)).unwrap(),
            "no empty file in its place"
        );

        let shorter = disk.fork();
        set_len(&shorter, offset - 1);
        refused(
            &shorter,
            &model,
            &[&format!("has {} bytes, although {offset}", offset - 1)],
        );

        let other = disk.fork();
        other.flip(Path::new(PATH), offset - 5, 1);
        refused(
            &other,
            &model,
            &["another file", &format!("before offset {offset}")],
        );
    }
    let (disk, mut model) = stopped(Format::Csv);
    model.logged.0 = Some(Bytes::from_static(b"\x01\x02"));
    // The position of another kind of egress that had the id before: this file is none of its.
    refused(&disk, &model, &["has not written", "Move it away"]);
}

#[test]
fn a_first_start_refuses_a_file_with_content() {
    let disk = disk_with_directory(5);
    disk.create_dir_all(Path::new("/out")).unwrap();
    write(&disk, 0, b"{\"of\":\"someone\"}\n");
    let mut model = Model::new(Format::Json);
    refused(
        &disk,
        &model,
        &["17 bytes from offset 0 on", "Move it away"],
    );
    model.release(1, 5);
    refused(&disk, &model, &["from offset 2 on", "Move it away"]);
    // A file that is there but empty is no obstacle.
    set_len(&disk, 0);
    model.start(&disk).unwrap();
}

#[test]
fn others_who_write_are_noticed_while_it_runs() {
    let (disk, mut model) = stopped(Format::Json);
    let mut egress = model.start(&disk).unwrap();
    model.release(1, 5);
    let end = disk.content(Path::new(PATH)).unwrap().len() as u64;
    write(&disk, end, b"x");
    let error = egress.deliver(2, &model.epochs[2]).unwrap_err();
    assert!(
        !error.transient && error.to_string().contains("nobody else"),
        "{error}"
    );
    set_len(&disk, end);
    egress.deliver(2, &model.epochs[2]).unwrap();
    disk.rename(Path::new(PATH), Path::new("/out/elsewhere"))
        .unwrap();
    let error = egress.flush().unwrap_err();
    assert!(error.to_string().contains("renamed or removed"), "{error}");
}

#[test]
fn another_path_begins_a_new_file() {
    let (disk, model) = stopped(Format::Csv);
    let mut egress = egress(&disk, "./out/second", Format::Csv);
    disk.create_dir_all(Path::new("out")).unwrap();
    egress.open(&context(model.logged.0.clone())).unwrap();
    egress.replayed().unwrap();
    egress
        .deliver(2, &[record("{\"id\":1,\"text\":\"a\"}".to_owned())])
        .unwrap();
    let position = egress.flush().unwrap();
    assert_eq!(
        disk.content(Path::new("out/second")).unwrap(),
        b"id,text\n1,a\n"
    );
    // The same path, written in another way, is the same file.
    let mut egress = super::output::egress(&disk, "out/second", Format::Csv);
    egress.open(&context(Some(position))).unwrap();
    egress.replayed().unwrap();
    model.check(&disk);
}

#[test]
fn other_columns_need_another_file() {
    let (disk, model) = stopped(Format::Csv);
    let spec = json!({
        "id": "example/orders", "path": PATH, "format": "csv",
        "csv": {"delimiter": ",", "header": true, "columns": ["id", "amount"]},
    });
    let mut egress = FileEgress::new(
        serde_json::from_value(spec).unwrap(),
        Arc::new(disk.clone()),
    );
    let error = egress.open(&context(model.logged.0.clone())).unwrap_err();
    assert!(
        error.to_string().contains("other columns than `id,amount`"),
        "{error}"
    );
}

#[test]
fn a_payload_that_is_no_line_names_its_record() {
    let (disk, model) = stopped(Format::Json);
    let mut egress = model.start(&disk).unwrap();
    let good = record("{}".to_owned());
    let bad = EgressRecord {
        trace: None,
        worker: 3,
        sequence: 7,
        ..record("not JSON".to_owned())
    };
    let error = egress.deliver(9, &[good, bad]).unwrap_err();
    assert!(!error.transient);
    assert!(
        error
            .to_string()
            .contains("record 7 of worker 3 in epoch 9 (`example/Order`)"),
        "{error}"
    );
    assert!(FileEgress::new(serde_json::from_value(json!({
        "id": "a/b", "path": "x", "format": "json", "csv": {"delimiter": ",", "header": null, "columns": []},
    })).unwrap(), Arc::new(disk)).flush().is_err(), "it was not opened");
}

#[test]
fn nothing_to_do_touches_nothing() {
    let (disk, model) = stopped(Format::Json);
    let mut egress = model.start(&disk).unwrap();
    let first = egress.flush().unwrap();
    let steps = disk.steps();
    egress.deliver(5, &[]).unwrap();
    assert_eq!(egress.flush().unwrap(), first);
    assert_eq!(disk.steps(), steps);
}
