//! What a real process says on its standard error: one JSON object a line for programs, text for people.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use serde_json::{Value, json};
use statefun_tests::kill::process::{Process, Start, wait_for};
use tempfile::TempDir;

const WIRING: &str = "\
kind: io.statefun.file.v1/ingress
spec:
  id: logs/orders
  path: orders.jsonl
  valueType: logs/Order
  onError: skip
  routers: [orders]
";

/// The last line is one that cannot be read.
const ORDERS: &str = r#"
{"id": "ada", "what": "tea"}
{"id": "odd \"id\"\u001b[31m\nforged", "what": "tea"}
{"id": "grace", "what": "panic"}
{"id": "bob", "what": "fail"}
{"id": "eve", "what": "ask"}
{"id": 7, "what": "no text"}
"#;

fn directory(wiring: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("module.yaml"), wiring).unwrap();
    std::fs::write(directory.path().join("orders.jsonl"), ORDERS.trim_start()).unwrap();
    directory
}

fn start(
    directory: &Path,
    name: &str,
    arguments: &[&str],
    environment: &[(&'static str, &str)],
) -> Process {
    let all = environment
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let start = Start {
        binary: Path::new(env!("CARGO_BIN_EXE_log-app")),
        directory,
        name: name.to_owned(),
        workers: 2,
        environment: all.collect(),
    };
    start.spawn_with(arguments)
}

const JSON: (&str, &str) = ("STATEFUN_LOG_FORMAT", "json");
/// Standard error is a file here, so that this is JSON, too.
const AUTO: (&str, &str) = ("STATEFUN_LOG_FORMAT", "auto");
const HUMAN: (&str, &str) = ("STATEFUN_LOG_FORMAT", "human");

/// All events; a line that is none is a failure.
fn events(said: &str) -> Vec<Value> {
    let event = |line: &str| -> Value {
        let event: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(event[key].is_string(), "{key}: {line}");
        }
        event
    };
    said.lines().map(event).collect()
}

/// The event of which all of this is true.
fn find<'a>(events: &'a [Value], what: &Value) -> &'a Value {
    let fits = |event: &&Value| is_part_of(what, event);
    let found = events.iter().find(fits);
    found.unwrap_or_else(|| panic!("there is no {what} in {events:#?}"))
}

fn is_part_of(part: &Value, whole: &Value) -> bool {
    match part {
        Value::Object(members) => members
            .iter()
            .all(|(name, value)| is_part_of(value, &whole[name])),
        value => value == whole,
    }
}

/// Waits until it has said all of these.
fn wait_until_said(process: &Process, parts: &[&str]) {
    wait_for(
        || {
            let said = process.said();
            parts.iter().all(|part| said.contains(part)).then_some(())
        },
        || format!("{parts:?}\n{}", process.last_words()),
    );
}

#[test]
fn all_that_is_said_in_a_life_is_events() {
    for (name, format) in [("json", JSON), ("auto", AUTO)] {
        let directory = directory(WIRING);
        let mut process = start(
            directory.path(),
            name,
            &[],
            &[format, ("STATEFUN_LOG", "debug")],
        );
        wait_until_said(
            &process,
            &[
                "the address is parked",
                "\"asked\"",
                "is left out",
                "panicked",
                "forged",
            ],
        );
        process.ask_to_stop();
        assert_eq!(process.wait().code(), Some(0), "{}", process.last_words());
        let events = events(&process.said());
        let ready = find(
            &events,
            &json!({"level": "INFO", "target": "statefun", "message": "ready"}),
        );
        assert_eq!(ready["fields"]["workers"], 2);
        let of_author = json!({
            "level": "INFO", "target": "log_app", "message": "an order\nof two lines",
            "function": "logs/orders", "id": "ada", "fields": {"what": "tea", "so_far": 1}
        });
        assert!(find(&events, &of_author)["epoch"].as_u64().unwrap() > 0);
        find(
            &events,
            &json!({"function": "logs/orders", "id": "odd \"id\"\u{1b}[31m\nforged"}),
        );
        find(
            &events,
            &json!({"message": "routed", "ingress": "logs/orders", "fields": {"id": "ada"}}),
        );
        let asking = find(
            &events,
            &json!({"message": "asking", "function": "logs/orders", "id": "eve"}),
        );
        assert_eq!(asking["epoch"], Value::Null);
        let panicked = json!({
            "level": "ERROR", "message": "panicked: it could\nnot be helped", "function": "logs/orders", "id": "grace"
        });
        let location = &find(&events, &panicked)["fields"]["location"];
        assert!(
            location.as_str().unwrap().contains("log-app.rs"),
            "{location}"
        );
        find(
            &events,
            &json!({"level": "WARN", "fields": {"address": "logs/orders/bob"}}),
        );
        find(
            &events,
            &json!({"level": "WARN", "message": "a record is left out"}),
        );
        find(&events, &json!({"message": "stopping"}));
    }
}

#[test]
fn a_start_that_is_refused_says_so_in_events() {
    let misspelt = WIRING.replace("routers: [orders]", "routers: [order]");
    let directory = directory(&misspelt);
    let mut process = start(directory.path(), "findings", &[], &[JSON]);
    assert_eq!(process.wait().code(), Some(1));
    let events = events(&process.said());
    let finding = find(
        &events,
        &json!({"level": "ERROR", "fields": {"file": "module.yaml", "line": 7}}),
    );
    assert!(
        finding["fields"]["code"]
            .as_str()
            .unwrap()
            .starts_with("SF"),
        "{finding}"
    );
    assert!(
        finding["fields"]["help"]
            .as_str()
            .unwrap()
            .contains("`orders`"),
        "{finding}"
    );
    let last = events.last().unwrap();
    assert_eq!(last["level"], "ERROR");
    assert!(
        last["message"].as_str().unwrap().contains(" error"),
        "{last}"
    );
}

#[test]
fn an_error_at_the_end_is_an_event() {
    let directory = directory(WIRING);
    let mut first = start(directory.path(), "first", &[], &[JSON]);
    wait_until_said(&first, &["\"ready\""]);
    for (name, arguments, environment, code, problem) in [
        ("second", &[][..], vec![JSON], 1, "is in use by"),
        (
            "usage",
            &["--wrong"][..],
            vec![JSON],
            2,
            "`--wrong` is not understood",
        ),
        (
            "level",
            &[][..],
            vec![JSON, ("STATEFUN_LOG", "loud")],
            1,
            "STATEFUN_LOG: `loud` is no level",
        ),
        (
            "format",
            &[][..],
            vec![("STATEFUN_LOG_FORMAT", "xml")],
            1,
            "`xml` is no format",
        ),
        (
            "silent",
            &[][..],
            vec![JSON, ("STATEFUN_LOG", "off")],
            1,
            "is in use by",
        ),
    ] {
        let mut process = start(directory.path(), name, arguments, &environment);
        assert_eq!(
            process.wait().code(),
            Some(code),
            "{name}: {}",
            process.last_words()
        );
        let events = events(&process.said());
        let last = events.last().unwrap();
        assert_eq!(last["level"], "ERROR", "{name}");
        assert!(
            last["message"].as_str().unwrap().contains(problem),
            "{name}: {last}"
        );
    }
    first.ask_to_stop();
    assert_eq!(first.wait().code(), Some(0));
}

#[test]
fn people_read_text_that_nobody_can_forge() {
    let directory = directory(WIRING);
    let mut process = start(
        directory.path(),
        "human",
        &[],
        &[HUMAN, ("STATEFUN_LOG", "warn,log_app=info")],
    );
    assert!(process.ready().is_some());
    wait_until_said(
        &process,
        &[
            "the address is parked",
            " asked outcome=",
            "is left out",
            "forged",
        ],
    );
    process.ask_to_stop();
    assert_eq!(process.wait().code(), Some(0), "{}", process.last_words());
    let said = process.said();
    for line in [
        " INFO logs/orders/ada: an order\\nof two lines what=\"tea\" so_far=1",
        " INFO logs/orders/odd \"id\"\\u{1b}[31m\\nforged: an order\\nof two lines what=\"tea\" so_far=1",
        " INFO logs/orders: routed id=\"ada\"",
        " INFO logs/orders/eve: asking",
        " WARN a record is left out ingress=\"logs/orders\"",
    ] {
        assert!(
            said.lines().any(|said| said.contains(line)),
            "{line}\n{said}"
        );
    }
    assert!(!said.contains('\u{1b}'), "{said}");
    assert!(
        said.contains("\n  ready; Ctrl-C stops it\n") && said.contains("statefun: stopping\n"),
        "{said}"
    );
}
