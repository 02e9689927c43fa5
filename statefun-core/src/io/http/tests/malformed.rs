//! Bytes that are no requests, or only half of one. Whatever comes, the server answers 4xx or closes, and goes on.

use proptest::prelude::*;

use super::app::App;
use super::client::{Connection, post, raw, request};

const GREETS: &str = "
kind: io.statefun.http.v1/ingress
spec: {id: example/greets, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/greeter]}
";
const GREET: &str = r#"{"who":"x","times":1}"#;

#[test]
fn no_bytes_harm_the_server() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let head = "POST /greets/a HTTP/1.1\r\nhost: x\r\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no HTTP", b"hello\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(8),
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (
            "another version",
            b"POST /greets/a HTTP/9.9\r\n\r\n".to_vec(),
        ),
        (
            "bytes in the path",
            b"POST /greets/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ),
        (
            "a blank in the path",
            b"POST /greets/a b HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ),
        (
            "a zero in a header",
            format!("{head}x-a: \0\r\n\r\n").into_bytes(),
        ),
        (
            "a header without colon",
            format!("{head}x-a\r\n\r\n").into_bytes(),
        ),
        (
            "a negative length",
            format!("{head}content-length: -1\r\n\r\n").into_bytes(),
        ),
        (
            "a huge length",
            format!("{head}content-length: 99999999999999999999\r\n\r\n").into_bytes(),
        ),
        (
            "two lengths",
            format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nab").into_bytes(),
        ),
        (
            "a chunk size of letters",
            format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        ),
        (
            "a huge chunk size",
            format!("{head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n").into_bytes(),
        ),
        (
            "a chunk without end",
            format!("{head}transfer-encoding: chunked\r\n\r\n1\r\nabcd\r\n").into_bytes(),
        ),
        (
            "an unknown encoding",
            format!("{head}transfer-encoding: nonsense\r\n\r\n").into_bytes(),
        ),
        (
            "a huge path",
            format!("POST /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 17)).into_bytes(),
        ),
        (
            "a huge header",
            format!("{head}x-a: {}\r\n\r\n", "x".repeat(1 << 17)).into_bytes(),
        ),
        (
            "many headers",
            format!("{head}{}\r\n", "x-a: b\r\n".repeat(1000)).into_bytes(),
        ),
        (
            "CONNECT",
            b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ),
        (
            "the asterisk",
            b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        let mut connection = Connection::open(address);
        connection.write(&bytes);
        connection.close_sending();
        if let Some(response) = connection.read() {
            assert!(
                (400..500).contains(&response.status),
                "{name}: {response:?}"
            );
        }
    }
    assert_eq!(app.log(), Vec::<String>::new());
    assert_eq!(post(address, "/greets/a", GREET).status, 202);
}

#[test]
fn half_requests_take_no_effect_and_slow_ones_do() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let whole = request("POST", "/greets/a", &[], GREET);
    for len in 0..whole.len() {
        let mut connection = Connection::open(address);
        connection.write(&whole[..len]);
        connection.close_sending();
        if let Some(response) = connection.read() {
            assert_eq!(response.status, 400, "{len}");
        }
    }
    assert_eq!(app.log(), Vec::<String>::new());
    let mut connection = Connection::open(address);
    for byte in &whole {
        connection.write([*byte]);
        std::thread::yield_now();
    }
    assert_eq!(connection.read().unwrap().status, 202);
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let mut bytes = request("POST", "/greets/a", &[], GREET);
    bytes.extend(request("POST", "/nothing", &["connection: close"], ""));
    let mut connection = Connection::open(address);
    connection.write(bytes);
    let mut answers = Vec::new();
    connection.read_to_end(&mut answers);
    let text = String::from_utf8(answers).unwrap();
    let statuses: Vec<&str> = text
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["202", "404"]);
}

#[test]
fn an_absolute_url_is_a_path() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let request = request(
        "POST",
        &format!("http://{address}/greets/a?x=y"),
        &[],
        GREET,
    );
    assert_eq!(raw(address, request).unwrap().status, 202);
}

#[test]
fn random_requests() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    let line = (
        "[A-Z]{0,8}|POST",
        "(/greets/)?[/%a-zA-Z0-9?=&.~\\PC]{0,30}",
        "HTTP/1.[01]|[a-zA-Z/.0-9]{0,10}",
    );
    let header = (
        "[a-zA-Z-]{1,12}|content-length|transfer-encoding|idempotency-key|expect",
        "[ -~]{0,20}|chunked|0|5",
    );
    let input = (line, prop::collection::vec(header, 0..5), any::<Vec<u8>>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let result = runner.run(&input, |((method, path, version), headers, body)| {
        let mut bytes = format!("{method} {path} {version}\r\nhost: x\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        let mut connection = Connection::open(address);
        connection.write(&bytes);
        connection.close_sending();
        let mut answers = Vec::new();
        connection.read_to_end(&mut answers);
        let text = String::from_utf8_lossy(&answers);
        for answer in text.split("HTTP/1.").skip(1) {
            let status = answer.get(2..5).unwrap_or_default();
            prop_assert!(status.starts_with('4') || status == "100", "{answer}");
        }
        Ok(())
    });
    result.unwrap();
    assert_eq!(app.log(), Vec::<String>::new());
    assert_eq!(post(address, "/greets/a", GREET).status, 202);
}
