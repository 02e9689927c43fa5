//! Applications with an operations endpoint, and what it answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use statefun_tests::kill::process::{Addresses, Process, Start};

/// What whoever asks has to show.
pub(crate) const TOKEN: &str = "a-secret";

/// Starts an application whose operations endpoint is at a port that the system chooses.
pub(crate) fn start(
    binary: &str,
    directory: &Path,
    environment: Vec<(&'static str, String)>,
) -> (Process, Addresses, SocketAddr) {
    let mut variables = vec![
        ("STATEFUN_OPERATIONS_LISTEN", "127.0.0.1:0".to_owned()),
        ("STATEFUN_OPERATIONS_TOKEN", TOKEN.to_owned()),
    ];
    variables.extend(environment);
    let mut process = Start {
        binary: Path::new(binary),
        directory,
        name: "observed".to_owned(),
        workers: 2,
        environment: variables,
    }
    .spawn();
    let addresses = process.ready();
    let addresses = addresses.unwrap_or_else(|| panic!("{}", process.last_words()));
    let said = process.said();
    let endpoint = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("operations: http://"));
    let endpoint = endpoint.unwrap_or_else(|| panic!("{}", process.last_words()));
    (process, addresses, endpoint.parse().unwrap())
}

/// What the endpoint answers: status, head and body.
pub(crate) fn get(from: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(from).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {from}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// What `/metrics` shows.
pub(crate) fn metrics(from: SocketAddr) -> String {
    let (status, head, body) = get(from, "/metrics");
    assert_eq!(status, 200, "{body}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    body
}

/// Whether a program is there; says so when it is not.
pub(crate) fn is_there(program: &str, test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|place| place.join(program).is_file());
    if !is_there {
        // Not captured, as what macros print is.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: there is no `{program}`; `tests/servers/install prometheus` installs it"
        );
    }
    is_there
}
