//! Frames and records from bytes alone: whatever they are, and in whatever pieces they come.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::{ORDER, Read, decoder, shown};
use crate::io::file::csv::RowEnd;
use crate::io::file::frames::{Flaw, Frames, Layout};
use crate::io::file::records::{Format, Records};
use crate::module::model::FileIngress as Spec;

fn spec(format: &str, value_type: &str, id_from: serde_json::Value, columns: &[&str]) -> Spec {
    serde_json::from_value(json!({
        "id": "example/orders", "path": "in", "format": format, "valueType": value_type, "idFrom": id_from,
        "follow": false, "startupPosition": "earliest",
        "csv": {"delimiter": ",", "header": null, "columns": columns},
        "targets": [], "routers": [], "onError": "skip",
    }))
    .unwrap()
}

fn layout(format: &str) -> Layout {
    if format == "csv" {
        Layout::Rows(RowEnd::new(b','))
    } else {
        Layout::Lines
    }
}

/// An offset and the number of the line there.
type Place = (u64, u64);

/// Everything in `bytes` from a place on, and the place behind each; `pieces` is how much is read at a time.
fn read(
    format: &Arc<Format>,
    layout: Layout,
    bytes: &[u8],
    (offset, line): Place,
    most_bytes: usize,
    pieces: &[usize],
) -> Result<Vec<(Read, Place)>, String> {
    let mut records = Records::new(format.clone(), "in".to_owned());
    let mut all = Vec::new();
    if records.needs_header() && offset > 0 {
        let mut header = Frames::new(layout.clone(), most_bytes, 0, 1);
        header
            .fill(|buffer| copy(bytes, buffer, usize::MAX))
            .unwrap();
        records.take_header(&header.next(true).unwrap())?;
    }
    let mut frames = Frames::new(layout, most_bytes, offset, line);
    let mut pieces = pieces.iter().copied().cycle();
    loop {
        let from = usize::try_from(frames.read_offset()).unwrap();
        let count = frames
            .fill(|buffer| copy(&bytes[from..], buffer, pieces.next().unwrap_or(usize::MAX)))
            .unwrap();
        assert!(bytes[..from + count].ends_with(frames.recent()));
        while let Some(frame) = frames.next(count == 0) {
            assert!(frame.bytes.len() <= most_bytes);
            assert!(bytes[..usize::try_from(frame.end).unwrap()].ends_with(frame.raw));
            if !records.take_header(&frame)? {
                all.push((shown(&records.read(&frame)), (frame.end, frame.next_line)));
            }
        }
        if count == 0 {
            return Ok(all);
        }
    }
}

fn copy(from: &[u8], to: &mut [u8], most: usize) -> Result<usize, ()> {
    let count = from.len().min(to.len()).min(most.max(1));
    to[..count].copy_from_slice(&from[..count]);
    Ok(count)
}

/// Bytes of the kind that matter, and some of any kind.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => proptest::sample::select(vec![
            "\n", "\r\n", "\r", "\"", ",", "a", "1", "true", "{\"id\":\"x\",\"amount\":1}", "{\"id\":\"", "}", "{",
            "é", "\u{feff}", " ", "id,amount\n", "x,5\n", "\"x\ny\",7\n", "\0",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_pieces_from_any_record_on(
        bytes in input(),
        csv: bool,
        named: bool,
        typed: bool,
        most_bytes in prop_oneof![Just(1_000), 1..20_usize],
        pieces in proptest::collection::vec(1..9_usize, 1..10),
    ) {
        let kind = if csv { "csv" } else { "json" };
        let id_from = if csv { json!({"column": "id"}) } else { json!({"pointer": "/id"}) };
        let columns: &[&str] = if csv && named { &["id", "amount"] } else { &[] };
        let spec = spec(kind, if typed { ORDER } else { "example/Other" }, id_from, columns);
        let format = Arc::new(Format::new(&spec, &decoder()).unwrap());
        let whole = read(&format, layout(kind), &bytes, (0, 1), most_bytes, &[usize::MAX]);
        prop_assert_eq!(&read(&format, layout(kind), &bytes, (0, 1), most_bytes, &pieces), &whole);
        let Ok(whole) = whole else { return Ok(()) };
        for (at, (_, place)) in whole.iter().enumerate() {
            let rest = read(&format, layout(kind), &bytes, *place, most_bytes, &pieces).unwrap();
            prop_assert_eq!(&rest[..], &whole[at + 1..], "from {:?}", place);
            // The line is the one an editor shows.
            let before = &bytes[..usize::try_from(place.0).unwrap()];
            let lines = before.split(|byte| *byte == b'\n').count() as u64 - 1;
            let unended = u64::from(!csv && !before.ends_with(b"\n"));
            prop_assert_eq!(place.1, 1 + lines + unended);
        }
    }

    /// Whatever is put into a valid line where it cannot be: the message names that place.
    #[test]
    fn the_line_and_column_of_an_error(
        names in proptest::collection::vec("[a-zé€😀]{1,5}", 1..8),
        bad_line: prop::sample::Index,
        crlf: bool,
    ) {
        let bad_line = bad_line.index(names.len());
        let mut bytes = String::new();
        for (at, name) in names.iter().enumerate() {
            let fault = if at == bad_line { "#" } else { "" };
            write!(bytes, "{{\"id\":\"{name}\",{fault}\"amount\":7}}{}", if crlf { "\r\n" } else { "\n" }).unwrap();
        }
        let column = 10 + names[bad_line].chars().count();
        for value_type in [ORDER, "example/Other"] {
            let format = Arc::new(Format::new(&spec("json", value_type, json!({"pointer": "/id"}), &[]), &decoder()).unwrap());
            let found = read(&format, Layout::Lines, bytes.as_bytes(), (0, 1), 1_000, &[3]).unwrap();
            prop_assert_eq!(found.len(), names.len());
            for (at, ((key, value), _)) in found.iter().enumerate() {
                if at == bad_line {
                    let place = format!("in:{}:{column}: ", at + 1);
                    let problem = value.as_ref().unwrap_err();
                    prop_assert!(problem.starts_with(&place), "{} is not at {}", problem, place);
                } else {
                    prop_assert!(value.is_ok());
                    prop_assert_eq!(key.as_ref(), Some(&names[at]));
                }
            }
        }
    }
}

/// What comes out of a whole file: values, or problems.
fn check(
    format: &str,
    value_type: &str,
    id_from: serde_json::Value,
    bytes: &[u8],
    expected: &[Result<&str, &str>],
) {
    let format_of =
        Arc::new(Format::new(&spec(format, value_type, id_from, &[]), &decoder()).unwrap());
    let found = read(
        &format_of,
        layout(format),
        bytes,
        (0, 1),
        1_000,
        &[usize::MAX],
    )
    .unwrap();
    let found: Vec<Result<&str, &str>> = found
        .iter()
        .map(|((_, value), _)| value.as_deref().map_err(String::as_str))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn lines() {
    check(
        "json",
        "example/Other",
        json!(null),
        b"\xEF\xBB\xBF{\"a\":1}\r\n\n  \n\t[2]\n{\"a\": \"\xff\"}\n{]\n\xEF\xBB\xBF3\n \"last\"",
        &[
            Ok("{\"a\":1}"),
            Ok("\t[2]"),
            Err("in:5:8: not UTF-8"),
            Err("in:6:2: key must be a string"),
            Err("in:7:1: expected value"),
            Ok(" \"last\""),
        ],
    );
    check(
        "json",
        ORDER,
        json!({"pointer": "/id"}),
        br#"{"id":"a","amount":1,"more":{}}
{"id":"a","amount":"1"}
{"id":"a"}
{"amount":1}
{"id":"","amount":1}
{"id":"a","amount":1} x
"#,
        &[
            Ok(r#"{"id":"a","amount":1,"note":null}"#),
            Err("in:2:22: invalid type: string \"1\", expected u64"),
            Err("in:3:10: missing field `amount`"),
            Err("in:4:12: missing field `id`"),
            Err("in:5: the id at `/id` is empty"),
            Err("in:6:23: trailing characters"),
        ],
    );
}

#[test]
fn rows() {
    check(
        "csv",
        ORDER,
        json!({"column": "id"}),
        b"id,amount,note\r\na,1,\r\n\n\"b\nb\",2,\"x\"\"y\"\n3,x,\n4\n5,5,\"a\"b\n,6,\n7,\xff,\n8,-1,\n9,1.5,\na,1,\"\n,",
        &[
            Ok(r#"{"id":"a","amount":1,"note":null}"#),
            Ok(r#"{"id":"b\nb","amount":2,"note":"x\"y"}"#),
            Err("in:6: column `amount`: invalid type: string \"x\", expected u64"),
            Err("in:7: the row has 1 column, not 3 (id, amount, note)"),
            Err("in:8: column `note`: something stands behind the closing quote"),
            Err("in:9: column `id`: the id is empty"),
            Err("in:10: column `amount`: not UTF-8"),
            Err("in:11: column `amount`: invalid value: integer `-1`, expected u64"),
            Err("in:12: column `amount`: invalid type: floating point `1.5`, expected u64"),
            Err("in:13: a quote in the row that begins here does not end before the file does"),
            Err("in:14: the row has 2 columns, not 3 (id, amount, note)"),
        ],
    );
    check(
        "csv",
        ORDER,
        json!({"pointer": "/id"}),
        b"id,note\na,b\n",
        &[Err("in:2: missing field `amount`")],
    );
    check(
        "csv",
        "example/Other",
        json!({"pointer": "/n"}),
        b"n,s\n7,x\n\"\",y\n",
        &[
            Ok(r#"{"n":7,"s":"x"}"#),
            Err("in:3: the id at `/n` is empty"),
        ],
    );
}

#[test]
fn headers_that_name_no_columns_are_errors() {
    for (bytes, problem) in [
        (
            &b"id,id\n"[..],
            "in:1: the header: two columns have the name `id`",
        ),
        (
            b"\n\na,b\n",
            "in:3: the header: `idFrom` names the column `id`, which is not among a, b",
        ),
        (
            b"id,\"",
            "in:1: the header: it is too long, or a quote in it does not end",
        ),
    ] {
        let format = Arc::new(
            Format::new(
                &spec("csv", ORDER, json!({"column": "id"}), &[]),
                &decoder(),
            )
            .unwrap(),
        );
        let found = read(&format, layout("csv"), bytes, (0, 1), 1_000, &[1]);
        assert_eq!(found.unwrap_err(), problem);
    }
    for (format, id_from, columns) in [
        ("csv", json!({"column": "x"}), &["id"][..]),
        ("csv", json!(null), &["id", "id"]),
        ("json", json!({"column": "x"}), &[]),
    ] {
        assert!(Format::new(&spec(format, ORDER, id_from, columns), &decoder()).is_err());
    }
}

#[test]
fn what_is_too_long_is_bounded_and_passed() {
    let collect = |layout: Layout, bytes: &[u8], pieces: usize| {
        let mut frames = Frames::new(layout, 10, 0, 1);
        let mut all = Vec::new();
        loop {
            let from = usize::try_from(frames.read_offset()).unwrap();
            let count = frames
                .fill(|buffer| copy(&bytes[from..], buffer, pieces))
                .unwrap();
            while let Some(frame) = frames.next(count == 0) {
                all.push((
                    String::from_utf8(frame.bytes.to_vec()).unwrap(),
                    frame.line,
                    frame.flaw,
                ));
            }
            if count == 0 {
                return all;
            }
        }
    };
    let long = "x".repeat(40_000);
    let text = format!("1234567890\r\n12345678901\n{long}\nok\n{long}");
    let rows = format!("a,\"b\n{}\nc,d\n", "e\n".repeat(10));
    for pieces in [1, 7, usize::MAX] {
        assert_eq!(
            collect(Layout::Lines, text.as_bytes(), pieces),
            [
                ("1234567890".to_owned(), 1, None),
                ("1234567890".to_owned(), 2, Some(Flaw::LineTooLong)),
                ("xxxxxxxxxx".to_owned(), 3, Some(Flaw::LineTooLong)),
                ("ok".to_owned(), 4, None),
                ("xxxxxxxxxx".to_owned(), 5, Some(Flaw::LineTooLong)),
            ]
        );
        let found = collect(layout("csv"), rows.as_bytes(), pieces);
        assert_eq!(found[0], ("a,\"b".to_owned(), 1, Some(Flaw::RowTooLong)));
        assert_eq!(found[1], ("e".to_owned(), 2, None));
        assert_eq!(found.last().unwrap(), &("c,d".to_owned(), 13, None));
        assert_eq!(found.len(), 12);
    }
}
