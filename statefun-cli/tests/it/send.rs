//! `statefun send` and `statefun call`, against a server that is made up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use crate::support::{Files, Output, statefun_reading};

/// Answers one request.
pub(crate) struct Server {
    pub(crate) port: u16,
    request: JoinHandle<String>,
}

/// Reads a request, and writes the answer; what was asked.
fn serve(mut stream: impl Read + Write, answer: &str) -> std::io::Result<String> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(head, body)| {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ")
                    .and_then(|length| length.parse::<usize>().ok())
            });
            body.len() >= length.unwrap_or(0)
        });
        if body == Some(true) || read == 0 {
            stream.write_all(answer.as_bytes())?;
            return Ok(text);
        }
    }
}

impl Server {
    fn answering(answer: &str) -> Self {
        Self::on(answer, |stream, answer| serve(stream, answer).unwrap())
    }

    /// With a certificate; a client that ends the handshake has asked for nothing.
    #[cfg(feature = "tls")]
    pub(crate) fn encrypted(answer: &str, config: std::sync::Arc<rustls::ServerConfig>) -> Self {
        Self::on(answer, |stream, answer| {
            let connection = rustls::ServerConnection::new(config).unwrap();
            serve(rustls::StreamOwned::new(connection, stream), answer).unwrap_or_default()
        })
    }

    /// Speaks first.
    #[cfg(feature = "tls")]
    pub(crate) fn saying(answer: &str) -> Self {
        Self::on(answer, |mut stream, answer| {
            stream.write_all(answer.as_bytes()).unwrap();
            String::new()
        })
    }

    fn on(answer: &str, serve: impl FnOnce(TcpStream, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_owned();
        let request = std::thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || serve(listener.accept().unwrap().0, &answer))
            .unwrap();
        Self { port, request }
    }

    fn json(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::answering(&format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn request(self) -> String {
        self.request.join().unwrap().to_lowercase()
    }
}

fn wiring(port: u16) -> Files {
    Files::new().with(
        "module.yaml",
        &format!(
            "kind: io.statefun.http.v1/ingress\nspec:\n  id: example/greets\n  address: 127.0.0.1:{port}\n  \
             valueType: example/Greet\n  targets: [example/greeter]\n"
        ),
    )
}

#[test]
fn a_message_goes_to_the_ingress_of_module_yaml() {
    let server = Server::json("202 Accepted", "{}");
    let files = wiring(server.port);
    let output = files
        .statefun(&[
            "send",
            "example/greets",
            "--id",
            "bob b",
            "{\"a\": 1}",
            "--idempotency-key",
            "k-1",
        ])
        .ends(0);
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr, "example/greets: the message is durable\n");
    let request = server.request();
    assert!(
        request.starts_with("post /greets/bob%20b http/1.1\r\n"),
        "{request}"
    );
    for expected in [
        "idempotency-key: k-1\r\n",
        "content-type: application/json\r\n",
        "\r\n\r\n{\"a\": 1}",
    ] {
        assert!(request.contains(expected), "{expected}: {request}");
    }
}

#[test]
fn a_reply_is_printed() {
    for (arguments, path) in [(&["--wait", "2s"][..], "?wait=2000ms"), (&[], "?wait")] {
        let server = Server::json("200 OK", "{\"text\":\"Hi\"}");
        let files = wiring(server.port);
        let call = ["call", "greets", "--id", "bob", "{}"];
        let output = files.statefun(&[&call[..], arguments].concat()).ends(0);
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("{\"text\":\"Hi\"}\n", "")
        );
        assert!(
            server
                .request()
                .starts_with(&format!("post /greets/bob{path} "))
        );
    }
}

#[test]
fn bytes_of_a_reply_are_left_alone() {
    let server = Server::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 3\r\n\r\n\u{8}\u{1}x",
    );
    let output = Files::new().statefun(&["call", &server.url(), "x"]).ends(0);
    assert_eq!(output.stdout, "\u{8}\u{1}x");
    assert!(
        server
            .request()
            .contains("content-type: application/octet-stream")
    );
}

#[test]
fn messages_come_from_files_and_standard_input() {
    let send = |files: &Files, message: &str, input: &str| -> (Output, String) {
        let server = Server::json("202 Accepted", "{}");
        let url = format!("{}/x?y=1", server.url());
        let output = statefun_reading(files.path(), &["send", &url, message], input);
        (output, server.request())
    };
    let files = Files::new().with("order.json", "{\"n\": 7}\n");
    let (output, request) = send(&files, "@order.json", "");
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        request.starts_with("post /x?y=1 ") && request.ends_with("{\"n\": 7}\n"),
        "{request}"
    );
    let (_, request) = send(&files, "-", "{\"n\": 8}");
    assert!(request.ends_with("{\"n\": 8}"), "{request}");
    let output = files
        .statefun(&["send", "http://127.0.0.1:9/", "@missing.json"])
        .ends(1);
    assert!(output.stderr.contains("missing.json"), "{}", output.stderr);
}

#[test]
fn what_the_application_refuses_is_told() {
    for (status, body, code, expected) in [
        (
            "400 Bad Request",
            "{\"error\":\"no such field\"}",
            1,
            "answered 400: no such field",
        ),
        ("404 Not Found", "", 1, "answered 404: Not Found"),
        (
            "422 Unprocessable Content",
            "{\"error\":\"another message\"}",
            1,
            "another message",
        ),
        (
            "429 Too Many Requests",
            "{\"error\":\"try again\"}",
            2,
            "try again",
        ),
        (
            "503 Service Unavailable",
            "{\"error\":\"stopping\"}",
            2,
            "stopping",
        ),
        (
            "504 Gateway Timeout",
            "{\"error\":\"no reply within 5s\"}",
            2,
            "no reply within 5s",
        ),
    ] {
        for command in ["send", "call"] {
            let server = Server::json(status, body);
            let output = Files::new()
                .statefun(&[command, &server.url(), "{}"])
                .ends(code);
            assert!(
                output.stdout.is_empty() && output.stderr.contains(expected),
                "{output:?}"
            );
            server.request();
        }
    }
}

#[test]
fn an_application_that_is_not_there() {
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let output = wiring(free)
        .statefun(&["send", "greets", "--id", "bob", "{}"])
        .ends(2);
    assert!(
        output.stderr.contains("nothing listens") && output.stderr.contains("statefun run"),
        "{}",
        output.stderr
    );
    // Something else listens there.
    let server = Server::answering("SSH-2.0-OpenSSH\r\n");
    let output = Files::new()
        .statefun(&["send", &server.url(), "{}"])
        .ends(2);
    assert!(
        output.stderr.contains("the connection broke"),
        "{}",
        output.stderr
    );
    server.request();
}

#[test]
fn wrong_calls() {
    let files = wiring(9);
    for (arguments, expected) in [
        (&["send", "greetz", "{}"][..], "did you mean `greets`?"),
        (&["send", "greets", "{}"], "--id"),
        (
            &[
                "send",
                "greets",
                "{}",
                "--id",
                "x",
                "--type",
                "example/Great",
            ],
            "it takes `example/Greet`",
        ),
        (&["send", "http://h/x", "{}", "--id", "x"], "a whole URL"),
        (
            &["send", "greets", "{}", "--id", "x", "--url", "h:1"],
            "http://",
        ),
        (
            &[
                "send",
                "greets",
                "{}",
                "--id",
                "x",
                "--idempotency-key",
                "a\nb",
            ],
            "cannot be made",
        ),
    ] {
        let output = files.statefun(arguments).ends(2);
        assert!(
            output.stderr.contains(expected),
            "{arguments:?}: {}",
            output.stderr
        );
    }
    let output = Files::new().statefun(&["send", "greets", "{}"]).ends(2);
    assert!(
        output.stderr.contains("no module.yaml here or above"),
        "{}",
        output.stderr
    );
    let broken = Files::new().with("module.yaml", "kind: nonsense\nspec: {}\n");
    let output = broken.statefun(&["send", "greets", "{}"]).ends(2);
    assert!(
        output.stderr.contains("statefun validate"),
        "{}",
        output.stderr
    );
}
