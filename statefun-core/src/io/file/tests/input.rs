//! The ingress on files that stay where they are.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::{ORDER, Read, Reader, breathe};
use crate::disk::RealDisk;
use crate::io::file::FileIngress;
use crate::module::model::FileIngress as Spec;

pub(super) fn spec(
    path: &Path,
    value_type: &str,
    follow: bool,
    change: impl FnOnce(&mut serde_json::Value),
) -> Spec {
    let mut spec = json!({
        "id": "example/orders", "path": path, "format": null, "valueType": value_type, "idFrom": null,
        "follow": follow, "startupPosition": "earliest",
        "csv": {"delimiter": ",", "header": null, "columns": []},
        "targets": [], "routers": [], "onError": "skip",
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn open(spec: &Spec, position: Option<Bytes>) -> Reader {
    try_open(spec, position).unwrap()
}

fn try_open(spec: &Spec, position: Option<Bytes>) -> Result<Reader, String> {
    let name = spec.path.display().to_string();
    let reader = Reader::open(
        &mut FileIngress::new(spec.clone(), Arc::new(RealDisk)).with_longest_record(1_000),
        position.map(|position| (name.as_str(), position)),
    );
    let reader = reader.map_err(|error| error.to_string())?;
    assert_eq!(reader.name.as_deref(), Some(name.as_str()));
    Ok(reader)
}

/// All that is read, and the position behind each.
fn read_all(spec: &Spec, position: Option<Bytes>) -> Vec<(Read, Bytes)> {
    let mut reader = open(spec, position);
    let mut all = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        all.push((super::shown(&record), record.position.clone().unwrap()));
    }
    all
}

#[test]
fn it_goes_on_behind_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("in.jsonl");
    let mut text = "\u{feff}{\"id\":\"first\",\"amount\":0}\r\n\n".to_owned();
    for at in 0..60 {
        write!(
            text,
            "{{\"id\":\"é{at}\",\"amount\":{}}}\r\n\n",
            if at % 7 == 3 { "x" } else { "1" }
        )
        .unwrap();
    }
    write!(
        text,
        "{}\n{{\"id\":\"last\",\"amount\":1}}",
        "too long".repeat(200)
    )
    .unwrap();
    fs::write(&json, &text).unwrap();

    let csv = dir.path().join("in.csv");
    let mut text = "\u{feff}\"id\",note,amount\r\n".to_owned();
    for at in 0..60 {
        write!(
            text,
            "{at},\"two\nlines, \"\"and\"\" more\",{}\n\n",
            if at % 7 == 3 { "x" } else { "1" }
        )
        .unwrap();
    }
    text.push_str("last,x,1");
    fs::write(&csv, &text).unwrap();

    for (path, count) in [(json, 63), (csv, 61)] {
        let spec = spec(&path, ORDER, false, |_| ());
        let whole = read_all(&spec, None);
        assert_eq!(whole.len(), count);
        assert!(whole.iter().any(|((_, value), _)| value.is_err()));
        for (at, (_, position)) in whole.iter().enumerate() {
            assert_eq!(
                read_all(&spec, Some(position.clone())),
                whole[at + 1..],
                "behind record {at}"
            );
        }
    }
}

#[test]
fn columns_and_delimiter_are_as_the_spec_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.txt");
    fs::write(&path, "a;1;x\nb;2;\n").unwrap();
    let spec = spec(&path, ORDER, false, |spec| {
        spec["format"] = json!("csv");
        spec["idFrom"] = json!({"column": "id"});
        spec["csv"] =
            json!({"delimiter": ";", "header": null, "columns": ["id", "amount", "note"]});
    });
    let all = read_all(&spec, None);
    let expected = [
        ("a", r#"{"id":"a","amount":1,"note":"x"}"#),
        ("b", r#"{"id":"b","amount":2,"note":null}"#),
    ];
    for (((key, value), _), (id, json)) in all.iter().zip(expected) {
        assert_eq!((key.as_deref(), value.as_deref()), (Some(id), Ok(json)));
    }
    assert_eq!(read_all(&spec, Some(all[0].1.clone())), all[1..]);
}

fn append(path: &Path, text: &str) {
    use std::io::Write;
    fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

#[test]
fn a_line_that_comes_in_pieces_is_one_record() {
    let dir = tempfile::tempdir().unwrap();
    for (name, header, pieces) in [
        (
            "in.jsonl",
            "",
            &["{\"id\":\"a\"", ",\"amount\":", "1", "2}", "\r", "\n"][..],
        ),
        (
            "in.csv",
            "id,note,amount\n",
            &["a,\"x", "\n", "\"", "\"y\"", ",1", "2", "\n"],
        ),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, header).unwrap();
        let mut reader = open(&spec(&path, ORDER, true, |_| ()), None);
        for piece in pieces {
            append(&path, piece);
            breathe(3);
        }
        let (_, value) = reader.take(1).remove(0);
        assert!(value.unwrap().contains("\"amount\":12"));
        // The next one is read from its beginning by whoever comes behind this one.
        append(&path, pieces[0]);
        breathe(3);
        let position = reader.position.clone();
        reader.stop();
        assert!(
            reader.rest().is_empty(),
            "a line without an end is no record"
        );
        let mut reader = open(&spec(&path, ORDER, true, |_| ()), position);
        for piece in &pieces[1..] {
            append(&path, piece);
        }
        assert!(
            reader
                .take(1)
                .remove(0)
                .1
                .unwrap()
                .contains("\"amount\":12")
        );
    }
}

#[test]
fn a_missing_file_is_waited_for_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later").join("in.jsonl");
    let error = try_open(&spec(&path, "x/y", false, |_| ()), None)
        .err()
        .unwrap();
    assert!(
        error.contains("is missing") && error.contains("follow: true"),
        "{error}"
    );
    for start in ["earliest", "latest"] {
        let mut reader = open(
            &spec(&path, "x/y", true, |spec| {
                spec["startupPosition"] = json!(start);
            }),
            None,
        );
        breathe(3);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        append(&path, "1\n");
        assert_eq!(reader.take(1)[0].1.as_deref(), Ok("1"), "{start}");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        reader.stop();
        assert!(reader.rest().is_empty());
    }
}

#[test]
fn what_is_no_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::create_dir(&path).unwrap();
    let error = try_open(&spec(&path, "x/y", true, |_| ()), None)
        .err()
        .unwrap();
    assert!(
        error.contains("cannot read") && error.contains("name a file in it"),
        "{error}"
    );
    // Opening a pipe would wait for its writer.
    let pipe = dir.path().join("pipe.jsonl");
    if std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .is_ok_and(|status| status.success())
    {
        let error = try_open(&spec(&pipe, "x/y", true, |_| ()), None)
            .err()
            .unwrap();
        assert!(error.contains("stdio"), "{error}");
    }
    let unnamed = spec(&dir.path().join("in.txt"), "x/y", true, |_| ());
    assert!(
        try_open(&unnamed, None)
            .err()
            .unwrap()
            .contains("format: json")
    );
    fs::write(dir.path().join("good.jsonl"), "1\n").unwrap();
    let good = spec(&dir.path().join("good.jsonl"), "x/y", true, |_| ());
    let error = try_open(&good, Some(Bytes::from_static(b"{}")))
        .err()
        .unwrap();
    assert!(error.contains("position"), "{error}");
}

#[test]
fn values_that_are_not_json_are_refused_at_once() {
    use crate::io::file::records::Format;
    use crate::io::ingress::Decoder;
    use crate::sdk::message::MessageDefinition;
    let decoder = Decoder::new([MessageDefinition::of::<String>()]);
    let error = Format::json(&decoder, "io.statefun.types/string", None).unwrap_err();
    assert!(error.contains("are not JSON"), "{error}");
    assert!(Format::json(&super::decoder(), "io.statefun.types/string", None).is_ok());
}

#[test]
fn latest_begins_behind_what_is_there_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    for (name, before, more, values) in [
        ("in.jsonl", "1\n2\n3", "3\n4\n", &["33", "4"][..]),
        (
            "in.csv",
            "a\n1\n\"2\n3",
            "\"\n4\n",
            &["{\"a\":\"2\\u000a3\"}", "{\"a\":4}"],
        ),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, before).unwrap();
        let spec = spec(&path, "x/y", true, |spec| {
            spec["startupPosition"] = json!("latest");
        });
        let mut reader = open(&spec, None);
        append(&path, more);
        let found: Vec<String> = reader
            .take(2)
            .into_iter()
            .map(|(_, value)| value.unwrap())
            .collect();
        assert_eq!(found, values);
        let position = reader.position.clone();
        append(&path, "5\n");
        let mut reader = open(&spec, position);
        assert!(reader.take(1)[0].1.as_ref().unwrap().contains('5'));
    }
}

#[test]
fn errors_of_records_that_come_later_have_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "1\n\n2\n").unwrap();
    let spec = spec(&path, "x/y", true, |spec| {
        spec["startupPosition"] = json!("latest");
    });
    let mut reader = open(&spec, None);
    append(&path, "3\n]\n");
    let problem = reader.take(2).remove(1).1.unwrap_err();
    assert_eq!(problem, format!("{}:5:1: expected value", path.display()));
}

#[test]
fn a_finished_file_stays_finished_and_goes_on_when_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    fs::write(&path, "1\n2").unwrap();
    let spec = spec(&path, "x/y", false, |_| ());
    let all = read_all(&spec, None);
    assert_eq!(all.len(), 2);
    let last = all[1].1.clone();
    assert!(read_all(&spec, Some(last.clone())).is_empty());
    append(&path, "\n3\n");
    let more = read_all(&spec, Some(last));
    assert_eq!(more.len(), 1);
    assert_eq!(more[0].0.1.as_deref(), Ok("3"));
}
