//! Messages in: where they go, and what their senders are told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::app::App;
use super::client::{Connection, post, raw, request, send};

const GREETS: &str = "
kind: io.statefun.http.v1/ingress
spec:
  id: example/greets
  address: 127.0.0.1:0
  valueType: example/Greet
  targets: [example/greeter]
";

fn greet(who: &str) -> String {
    format!(r#"{{"who":"{who}","times":1}}"#)
}

#[test]
fn a_message_is_accepted_when_it_is_durable() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let mut connection = Connection::open(address);
    for id in ["ada", "grace", "a%2Fb%20c", "%C3%A4"] {
        connection.write(request("POST", &format!("/greets/{id}"), &[], greet(id)));
        let response = connection.read().unwrap();
        assert_eq!((response.status, response.text()), (202, "{}"));
    }
    let ids = app.log().join("\n");
    for id in [
        "greeter/ada ",
        "greeter/grace ",
        "greeter/a/b c ",
        "greeter/ä ",
    ] {
        assert!(ids.contains(id), "{ids}");
    }
}

#[test]
fn nothing_is_accepted_before_it_is_durable() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    app.controls.stall.store(true, Ordering::SeqCst);
    let mut connection = Connection::open(address);
    connection.write(request("POST", "/greets/ada", &[], greet("ada")));
    while app.log().is_empty() {
        std::thread::yield_now();
    }
    let waiting = super::thread(move || connection.read().unwrap());
    assert!(!waiting.is_finished());
    app.controls.stall.store(false, Ordering::SeqCst);
    assert_eq!(waiting.join().unwrap().status, 202);
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let response = post(
        address,
        "/greets/ada",
        "{\"who\": \"x\",\n  \"times\": \"many\"}",
    );
    assert_eq!(response.status, 400);
    let problem = response.json();
    assert_eq!(
        (problem["line"].as_u64(), problem["column"].as_u64()),
        (Some(2), Some(17)),
        "{problem}"
    );
    assert!(
        problem["error"].as_str().unwrap().contains("example/Greet"),
        "{problem}"
    );
    for body in ["", "{", "null", "{\"who\":\"x\"}", "\u{0}", "[1,2"] {
        assert_eq!(post(address, "/greets/ada", body).status, 400, "{body:?}");
    }
    assert_eq!(
        post(address, "/greets/ada", b"{\"who\":\"\xff\",\"times\":1}").status,
        400
    );
    assert_eq!(
        post(address, "/greets/ada?wait=1s", "{").status,
        400,
        "with ?wait as well"
    );
    assert_eq!(app.log(), Vec::<String>::new());
}

#[test]
fn other_paths_and_methods_are_told_what_there_is() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    for path in [
        "/",
        "/greets",
        "/greets/",
        "/greets/a/b",
        "/Greets/a",
        "/greets/a/",
    ] {
        let response = post(address, path, greet("x"));
        assert_eq!(response.status, 404, "{path}");
        assert!(
            response.text().contains("POST /greets/{id}"),
            "{}",
            response.text()
        );
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let response = send(address, method, "/greets/ada", &[], "");
        assert_eq!(
            (response.status, response.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    assert_eq!(post(address, "/greets/%zz", greet("x")).status, 400);
    assert_eq!(post(address, "/greets/%ff", greet("x")).status, 400);
    assert_eq!(app.log(), Vec::<String>::new());
}

#[test]
fn a_token_is_asked_for_before_the_body_is_read() {
    let yaml = format!("{GREETS}  auth: {{bearer: open-sesame}}\n  maxBodyBytes: 100b\n");
    let app = App::start(&yaml);
    let address = app.servers.bound("example/greets").unwrap();
    for headers in [
        &[][..],
        &["authorization: Bearer open"],
        &["authorization: Basic open-sesame"],
    ] {
        let response = send(address, "POST", "/greets/ada", headers, "x".repeat(200));
        assert_eq!(
            (response.status, response.header("www-authenticate")),
            (401, Some("Bearer")),
            "{headers:?}"
        );
        assert!(!response.text().contains("sesame"));
    }
    let given = ["authorization: Bearer open-sesame"];
    assert_eq!(
        send(address, "POST", "/greets/ada", &given, greet("ada")).status,
        202
    );
    assert_eq!(app.log().len(), 1);
}

#[test]
fn bodies_have_a_limit() {
    let app = App::start(&format!("{GREETS}  maxBodyBytes: 100kb\n"));
    let address = app.servers.bound("example/greets").unwrap();
    let large = |len: usize| {
        let body = greet("");
        format!("{}{}", body, " ".repeat(len - body.len()))
    };
    let limit = 100 << 10;
    assert_eq!(post(address, "/greets/ada", large(limit)).status, 202);
    assert_eq!(post(address, "/greets/ada", large(limit + 1)).status, 413);
    assert_eq!(post(address, "/greets/ada", large(8 * limit)).status, 413);
    let chunked = |body: &str| {
        let mut bytes =
            b"POST /greets/ada HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in body.as_bytes().chunks(1000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        raw(address, bytes).unwrap().status
    };
    assert_eq!(chunked(&large(limit)), 202);
    assert_eq!(chunked(&large(limit + 1)), 413);
    // A client that asks first is told before it sends a body.
    let mut connection = Connection::open(address);
    connection.write("POST /greets/ada HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 999999\r\n\r\n");
    assert_eq!(connection.read().unwrap().status, 413);
}

#[test]
fn a_body_that_a_target_does_not_take_is_refused() {
    let yaml = GREETS.replace(
        "targets: [example/greeter]",
        "targets: [example/greeter, example/silent]",
    );
    let app = App::start(&yaml);
    let address = app.servers.bound("example/greets").unwrap();
    let large = |len: usize| format!("{}{}", greet("x"), " ".repeat(len - greet("x").len()));
    let key = ["idempotency-key: k"];
    assert_eq!(post(address, "/greets/a", large(1_000)).status, 202);
    assert_eq!(
        send(address, "POST", "/greets/b", &key, large(1_000)).status,
        202
    );
    for (path, headers) in [
        ("/greets/c", &[][..]),
        ("/greets/c", &key),
        ("/greets/c?wait=1s", &[]),
    ] {
        let refused = send(address, "POST", path, headers, large(1_001));
        assert_eq!(refused.status, 413, "{path}");
        assert!(
            refused.text().contains("takes 1000 at most"),
            "{}",
            refused.text()
        );
    }
    assert!(
        !app.log().iter().any(|seen| seen.contains("/c")),
        "{:?}",
        app.log()
    );
}

#[test]
fn the_id_stands_in_the_path_a_header_or_the_body() {
    let app = App::start(
        "
kind: io.statefun.http.v1/ingress
spec: {id: example/by-header, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/greeter], idFrom: {header: X-Id}}
---
kind: io.statefun.http.v1/ingress
spec: {id: example/by-body, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/greeter], idFrom: {pointer: /who}}
",
    );
    let header = app.servers.bound("example/by-header").unwrap();
    let body = app.servers.bound("example/by-body").unwrap();
    assert_ne!(header, body, "each port 0 is another port");
    assert_eq!(
        send(header, "POST", "/by-header", &["x-id: ada"], greet("x")).status,
        202
    );
    assert_eq!(
        send(header, "POST", "/by-header", &["x-id: "], greet("x")).status,
        400
    );
    let missing = post(header, "/by-header", greet("x"));
    assert_eq!(missing.status, 400);
    assert!(missing.text().contains("x-id"), "{}", missing.text());
    assert_eq!(post(body, "/by-body", greet("grace")).status, 202);
    assert_eq!(post(body, "/by-body", r#"{"times":1}"#).status, 400);
    assert_eq!(post(body, "/by-body", greet("")).status, 400, "an empty id");
    assert_eq!(
        app.log(),
        ["example/greeter/ada x×1", "example/greeter/grace grace×1"]
    );
}

#[test]
fn the_type_stands_in_the_path_a_header_or_the_body() {
    let app = App::start(
        "
kind: io.statefun.http.v1/ingress
spec:
  id: example/typed
  address: 127.0.0.1:0
  path: /{type}/{id}
  valueTypes: [example/Greet, example/Packed, io.statefun.types/string, other.example/Packed]
  targets: [example/greeter]
---
kind: io.statefun.http.v1/ingress
spec:
  id: example/headed
  address: 127.0.0.1:0
  typeFrom: {header: X-Type}
  valueTypes: [example/Greet, io.statefun.types/string]
  targets: [example/greeter]
",
    );
    let path = app.servers.bound("example/typed").unwrap();
    assert_eq!(post(path, "/Greet/a", greet("x")).status, 202);
    assert_eq!(post(path, "/example%2FGreet/b", greet("x")).status, 202);
    assert_eq!(post(path, "/string/c", b"\x0a\x02hi").status, 202);
    assert_eq!(
        post(path, "/example%2FPacked/d", b"\x81\xa3who\xa1y").status,
        202
    );
    assert_eq!(
        post(path, "/example%2FPacked/d", greet("x")).status,
        400,
        "the bytes of another type"
    );
    for (ambiguous, hint) in [
        ("/Packed/e", "other.example/Packed"),
        ("/Nothing/e", "example/Greet"),
    ] {
        let response = post(path, ambiguous, greet("x"));
        assert_eq!(response.status, 400, "{ambiguous}");
        assert!(response.text().contains(hint), "{}", response.text());
    }
    let headed = app.servers.bound("example/headed").unwrap();
    assert_eq!(
        send(
            headed,
            "POST",
            "/headed/f",
            &["x-type: example/Greet"],
            greet("x")
        )
        .status,
        202
    );
    assert_eq!(post(headed, "/headed/f", greet("x")).status, 400);
    let log = app.log();
    let expected = ["a x×1", "b x×1", "c text hi", "d packed y", "f x×1"]
        .map(|end| format!("example/greeter/{end}"));
    assert_eq!(log, expected);
}

#[test]
fn routers_see_headers_and_their_refusal_is_told() {
    let app = App::start(
        "
kind: io.statefun.http.v1/ingress
spec: {id: example/routed, address: '127.0.0.1:0', path: /, valueType: example/Greet, routers: [by_name]}
",
    );
    let address = app.servers.bound("example/routed").unwrap();
    assert_eq!(post(address, "/", greet("ada")).status, 202);
    assert_eq!(
        send(address, "POST", "/", &["X-Who: grace"], greet("x")).status,
        202
    );
    let refused = post(address, "/", greet("nobody"));
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("nobody is greeted"),
        "{}",
        refused.text()
    );
    let refused = post(address, "/?wait=5s", greet("nobody"));
    assert_eq!(
        (refused.status, refused.json()["durable"].as_bool()),
        (422, Some(false))
    );
    assert_eq!(
        app.log(),
        ["example/greeter/ada ada×1", "example/greeter/grace x×1"]
    );
}

#[test]
fn a_target_that_does_not_take_the_type_refuses_it() {
    let app = App::start(
        "
kind: io.statefun.http.v1/ingress
spec: {id: example/x, address: '127.0.0.1:0', valueType: io.statefun.types/string, targets: [example/silent]}
",
    );
    let address = app.servers.bound("example/x").unwrap();
    assert_eq!(post(address, "/x/a", b"\x0a\x02hi").status, 422);
    assert_eq!(
        send(
            address,
            "POST",
            "/x/a",
            &["idempotency-key: k"],
            b"\x0a\x02hi"
        )
        .status,
        422
    );
}

#[test]
fn a_full_application_asks_to_come_again() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    app.controls.hold.store(true, Ordering::SeqCst);
    // Clients that go away leave their records behind, so that few connections fill the channel.
    let last = loop {
        let mut connections: Vec<Connection> = (0..64).map(|_| Connection::open(address)).collect();
        for connection in &mut connections {
            connection.write(request("POST", "/greets/ada", &[], greet("x")));
        }
        std::thread::sleep(Duration::from_millis(10));
        let answers: Vec<_> = connections
            .into_iter()
            .filter_map(Connection::read_now)
            .collect();
        if let Some(first) = answers.into_iter().next() {
            break first;
        }
    };
    assert_eq!((last.status, last.header("retry-after")), (429, Some("1")));
    app.controls.hold.store(false, Ordering::SeqCst);
    let recovered = (0..10_000).any(|_| post(address, "/greets/ada", greet("y")).status == 202);
    assert!(recovered);
}

#[test]
fn dead_letters_and_failing_ingresses_are_given_what_cannot_be_read() {
    let app = App::start(&format!("{GREETS}  onError: {{deadLetter: example/bad}}\n"));
    let address = app.servers.bound("example/greets").unwrap();
    assert_eq!(post(address, "/greets/ada", "{").status, 400);
    while app.controls.bad.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert!(app.controls.bad.lock().unwrap()[0].contains("EOF"));
}

fn sharing(port: u16) -> String {
    format!(
        "
kind: io.statefun.http.v1/ingress
spec: {{id: example/any, address: '127.0.0.1:{port}', path: '/{{type}}/{{id}}', valueTypes: [example/Greet], targets: [example/greeter]}}
---
kind: io.statefun.http.v1/ingress
spec: {{id: example/one, address: 'localhost:{port}', path: '/one/{{id}}', valueType: example/Greet, targets: [example/silent]}}
"
    )
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let Err(error) = App::try_start(&sharing(port)) else {
        panic!("the port is taken")
    };
    let message = error.to_string();
    for part in [
        &format!("127.0.0.1:{port}"),
        "example/any",
        "is another process using it?",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn ingresses_share_an_address_and_the_most_exact_path_wins() {
    // A port that was free a moment ago may be taken by another test by now.
    let app = (0..100).find_map(|_| {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        App::try_start(&sharing(free.port())).ok()
    });
    let app = app.unwrap();
    app.servers.start();
    let address = app.servers.bound("example/any").unwrap();
    assert_eq!(app.servers.bound("example/one"), Some(address));
    assert_eq!(post(address, "/one/a", greet("x")).status, 202);
    assert_eq!(post(address, "/Greet/b", greet("x")).status, 202);
    assert_eq!(app.log(), ["example/greeter/b x×1", "example/silent/a x"]);
    let not_found = post(address, "/", "");
    assert!(
        not_found
            .text()
            .contains("POST /one/{id}, POST /{type}/{id}"),
        "{}",
        not_found.text()
    );
}
