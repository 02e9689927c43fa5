//! Requests whose clients wait for the reply, or that take effect once.

use std::sync::atomic::Ordering;

use super::app::App;
use super::client::{Connection, post, request, send};

const BOTH: &str = "
kind: io.statefun.http.v1/ingress
spec: {id: example/greets, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/greeter], maxWait: 20s}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/silence, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/silent], maxWait: 100ms}
";

fn greet(who: &str) -> String {
    format!(r#"{{"who":"{who}","times":1}}"#)
}

#[test]
fn the_reply_is_the_answer() {
    let app = App::start(BOTH);
    let address = app.servers.bound("example/greets").unwrap();
    for wait in ["wait", "wait=5s", "wait=5", "wait=1%20min"] {
        let response = post(address, &format!("/greets/ada?{wait}"), greet("Ada"));
        assert_eq!(
            (response.status, response.text()),
            (200, r#"{"text":"Hello Ada at ada"}"#),
            "{wait}"
        );
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("x-statefun-type"), Some("example/Greeting"));
    }
    assert_eq!(
        post(address, "/greets/ada?wait=soon", greet("Ada")).status,
        400
    );
    assert_eq!(app.log().len(), 4);
}

#[test]
fn replies_of_other_formats_keep_their_bytes() {
    let app = App::start(
        "
kind: io.statefun.http.v1/ingress
spec:
  id: example/typed
  address: 127.0.0.1:0
  path: /{type}/{id}
  valueTypes: [example/Packed, io.statefun.types/string]
  targets: [example/greeter]
",
    );
    let address = app.servers.bound("example/typed").unwrap();
    let packed = post(address, "/Packed/a?wait", b"\x81\xa3who\xa1y");
    assert_eq!(
        (packed.status, &packed.body[..]),
        (200, &b"\x81\xa3who\xa1y"[..])
    );
    assert_eq!(packed.header("content-type"), Some("application/msgpack"));
    let text = post(address, "/string/a?wait", b"\x0a\x02hi");
    assert_eq!((text.status, &text.body[..]), (200, &b"\x0a\x02hi"[..]));
    assert_eq!(
        text.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(
        text.header("x-statefun-type"),
        Some("io.statefun.types/string")
    );
}

#[test]
fn no_reply_in_time_says_that_the_message_is_durable() {
    let app = App::start(BOTH);
    let address = app.servers.bound("example/silence").unwrap();
    let response = post(address, "/silence/ada?wait=10s", greet("x"));
    assert_eq!(
        (response.status, response.json()["durable"].as_bool()),
        (504, Some(true)),
        "capped by maxWait"
    );
    assert!(response.text().contains("100ms"), "{}", response.text());
    let response = send(
        address,
        "POST",
        "/silence/ada?wait",
        &["idempotency-key: k"],
        greet("x"),
    );
    assert_eq!(response.status, 504);
    assert!(
        response.text().contains("same `Idempotency-Key` is safe"),
        "{}",
        response.text()
    );
    app.controls.stall.store(true, Ordering::SeqCst);
    let response = post(address, "/silence/ada?wait=1ms", greet("x"));
    assert_eq!(
        (response.status, response.json()["durable"].as_bool()),
        (504, None)
    );
    assert!(
        response.text().contains("may still take effect"),
        "{}",
        response.text()
    );
}

#[test]
fn a_key_takes_effect_once_and_is_answered_with_the_first_reply() {
    let app = App::start(BOTH);
    let address = app.servers.bound("example/greets").unwrap();
    let key = ["Idempotency-Key: first key, with ä"];
    for _ in 0..3 {
        let response = send(address, "POST", "/greets/ada?wait", &key, greet("Ada"));
        assert_eq!(
            (response.status, response.text()),
            (200, r#"{"text":"Hello Ada at ada"}"#)
        );
        assert_eq!(
            send(address, "POST", "/greets/ada", &key, greet("Ada")).status,
            202
        );
    }
    assert_eq!(app.log(), ["example/greeter/ada Ada×1"]);
    let other = send(address, "POST", "/greets/ada?wait", &key, greet("Eve"));
    assert_eq!(
        (other.status, other.json()["durable"].as_bool()),
        (422, Some(false))
    );
    assert_eq!(
        send(address, "POST", "/greets/ada", &key, greet("Eve")).status,
        422
    );
    assert_eq!(
        send(address, "POST", "/greets/grace?wait", &key, greet("Ada")).status,
        200,
        "another target"
    );
    assert_eq!(
        app.log(),
        ["example/greeter/ada Ada×1", "example/greeter/grace Ada×1"]
    );
    for bad in [
        "Idempotency-Key: ",
        &format!("Idempotency-Key: {}", "x".repeat(257)),
    ] {
        assert_eq!(
            send(address, "POST", "/greets/ada", &[bad], greet("Ada")).status,
            400,
            "{bad}"
        );
    }
}

#[test]
fn many_at_once_with_one_key_are_one_message() {
    let app = App::start(BOTH);
    let address = app.servers.bound("example/greets").unwrap();
    app.controls.hold.store(true, Ordering::SeqCst);
    let mut connections: Vec<(u8, Connection)> = (0..24)
        .map(|n| (n % 3, Connection::open(address)))
        .collect();
    for (kind, connection) in &mut connections {
        let (path, who) = match kind {
            0 => ("/greets/ada?wait", "Ada"),
            1 => ("/greets/ada", "Ada"),
            _ => ("/greets/ada?wait", "Eve"),
        };
        connection.write(request("POST", path, &["idempotency-key: k"], greet(who)));
    }
    app.controls.hold.store(false, Ordering::SeqCst);
    let statuses: Vec<(u8, u16, String)> = connections
        .iter_mut()
        .map(|(kind, connection)| {
            let response = connection.read().unwrap();
            (*kind, response.status, response.text().to_owned())
        })
        .collect();
    // Which of the two messages came first is open; the other one never sees its reply.
    let log = app.log();
    assert_eq!(log.len(), 1, "{log:?}");
    let first_is_ada = log[0].contains("Ada");
    for (kind, status, text) in statuses {
        let expected = match (kind, first_is_ada) {
            (0, true) | (2, false) => 200,
            (1, true) => 202,
            _ => 422,
        };
        assert_eq!(status, expected, "{kind} {text}");
    }
}

#[test]
fn a_client_that_goes_away_is_forgotten_and_its_message_is_not() {
    let app = App::start(BOTH);
    let address = app.servers.bound("example/silence").unwrap();
    let greets = app.servers.bound("example/greets").unwrap();
    app.controls.stall.store(true, Ordering::SeqCst);
    let mut connection = Connection::open(greets);
    connection.write(request("POST", "/greets/ada?wait", &[], greet("Ada")));
    while app.clients.waiting_for_test() == 0 {
        std::thread::yield_now();
    }
    drop(connection);
    while app.clients.waiting_for_test() > 0 {
        std::thread::yield_now();
    }
    app.controls.stall.store(false, Ordering::SeqCst);
    while app.log().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(post(address, "/silence/x?wait", greet("x")).status, 504);
    while app.clients.waiting_for_test() > 0 {
        std::thread::yield_now();
    }
}
