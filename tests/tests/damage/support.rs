//! An application in a directory of its own, started again and again.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use statefun_core::rand::Random;
use statefun_tests::kill::client::{Answer, Client};
use statefun_tests::kill::process::{Addresses, Patience, Process, Start};

/// Of a module.yaml: messages come in over HTTP.
pub(crate) fn http_ingress(id: &str, path: &str, types: &[&str], target: &str) -> String {
    let types = types.join(", ");
    format!(
        "---\nkind: io.statefun.http.v1/ingress\nspec:\n  id: {id}\n  address: 127.0.0.1:0\n  path: {path}\n  \
         valueTypes: [{types}]\n  targets: [{target}]\n"
    )
}

/// Of a module.yaml: records go to a file.
pub(crate) fn file_egress(id: &str, path: &str) -> String {
    format!("---\nkind: io.statefun.file.v1/egress\nspec:\n  id: {id}\n  path: {path}\n")
}

/// The wiring of the application `load`: numbers come in, and lines go out.
pub(crate) fn puts_and_lines() -> String {
    http_ingress("load/puts", "/put/{id}", &["load/Put"], "load/counter")
        + &file_egress("load/lines", "lines.jsonl")
}

/// Longer than anything takes that is not waited for by looking.
const ADMIN_PATIENCE: Duration = Duration::from_mins(1);

/// An application and all that it leaves behind. It stays when the test fails.
pub(crate) struct App {
    directory: Option<tempfile::TempDir>,
    data: PathBuf,
    starts: u32,
    pub(crate) app: String,
    pub(crate) workers: usize,
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl App {
    /// The application `app` of the binary `damage-app`, with that module.yaml.
    pub(crate) fn new(app: &str, module: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let new = Self {
            data: directory.path().join("data"),
            directory: Some(directory),
            starts: 0,
            app: app.to_owned(),
            workers: 2,
            environment: Vec::new(),
        };
        new.module(module);
        new
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Has its data elsewhere.
    pub(crate) fn set_data(&mut self, data: PathBuf) {
        self.data = data;
    }

    /// Replaces module.yaml.
    pub(crate) fn module(&self, text: &str) {
        std::fs::write(self.path().join("module.yaml"), text).unwrap();
    }

    fn spawn(&mut self, arguments: &[&str]) -> Process {
        self.starts += 1;
        let mut environment = vec![
            ("DAMAGE_APP", self.app.clone()),
            ("STATEFUN_DATA_DIR", self.data.display().to_string()),
        ];
        environment.extend(self.environment.iter().cloned());
        let start = Start {
            binary: Path::new(env!("CARGO_BIN_EXE_damage-app")),
            directory: self.path(),
            name: format!("life-{}", self.starts),
            workers: self.workers,
            environment,
        };
        start.spawn_with(arguments)
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self) -> Running {
        self.start_with(&[])
    }

    /// Starts it with arguments, and waits until it is ready.
    pub(crate) fn start_with(&mut self, arguments: &[&str]) -> Running {
        let mut process = self.spawn(arguments);
        let addresses = process
            .ready()
            .unwrap_or_else(|| panic!("it ended instead of starting\n{}", process.last_words()));
        Running {
            process,
            addresses,
            client: Client::default(),
            socket: self.data.join("admin.sock"),
        }
    }

    /// Starts it, to end by itself.
    pub(crate) fn run(&mut self) -> Process {
        self.spawn(&[])
    }

    /// A start that is refused before anything is ready: its exit code and what it said.
    pub(crate) fn refused(&mut self, arguments: &[&str]) -> (i32, String) {
        let mut process = self.spawn(arguments);
        let status = process.wait();
        let said = process.said();
        assert!(!said.contains("ready; Ctrl-C"), "it was ready\n{said}");
        let code = status
            .code()
            .unwrap_or_else(|| panic!("it was killed: {status}\n{said}"));
        // As a person reads it, wherever lines are broken.
        let said: Vec<&str> = said
            .split_whitespace()
            .filter(|word| !matches!(*word, "│" | "|"))
            .collect();
        (code, said.join(" "))
    }

    /// The records in one of its files.
    pub(crate) fn records<T: DeserializeOwned>(&self, file: &str) -> Vec<T> {
        let text = std::fs::read_to_string(self.path().join(file)).unwrap_or_default();
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
            })
            .collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            println!("everything is still in {}", directory.keep().display());
        }
    }
}

/// A process that is ready.
pub(crate) struct Running {
    pub(crate) process: Process,
    addresses: Addresses,
    client: Client,
    socket: PathBuf,
}

impl Running {
    pub(crate) fn address(&self, ingress: &str) -> SocketAddr {
        let known = self.addresses.get(ingress).copied();
        known.unwrap_or_else(|| panic!("{ingress} does not listen\n{}", self.process.last_words()))
    }

    /// Sends a request once.
    pub(crate) fn post(
        &mut self,
        ingress: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> std::io::Result<Answer> {
        let to = self.address(ingress);
        self.client.post(to, path, key, body.as_bytes())
    }

    /// Sends a message that is to be durable.
    pub(crate) fn send(&mut self, ingress: &str, path: &str, body: &str) {
        let answer = self.insist(ingress, path, &new_key(), body);
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// Sends a message and waits for the reply.
    pub(crate) fn call<T: DeserializeOwned>(&mut self, ingress: &str, path: &str, body: &str) -> T {
        let answer = self.insist(ingress, &format!("{path}?wait"), &new_key(), body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("{error} in {}", answer.text()))
    }

    /// Asks once, of an address that may be waiting for something else: none when it does not answer soon.
    pub(crate) fn ask<T: DeserializeOwned>(
        &mut self,
        ingress: &str,
        path: &str,
        body: &str,
    ) -> Option<T> {
        let path = format!("{path}?wait=2s");
        let answer = self.post(ingress, &path, None, body).ok()?;
        if matches!(answer.status, 429 | 503 | 504) {
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        let read = serde_json::from_slice(&answer.body);
        Some(read.unwrap_or_else(|error| panic!("{error} in {}", answer.text())))
    }

    /// Sends a message again and again under its key, while there is too much under way or the machine too busy.
    pub(crate) fn insist(&mut self, ingress: &str, path: &str, key: &str, body: &str) -> Answer {
        let mut patience = Patience::default();
        loop {
            match self.post(ingress, path, Some(key), body) {
                Ok(answer) if !matches!(answer.status, 429 | 504) || patience.is_over() => {
                    return answer;
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(20)),
                // While everything stood still, the one or the other has given the connection up.
                Err(error) if has_been_given_up(&error) && self.process.ended().is_none() => {
                    assert!(!patience.is_over(), "{path}: {error}");
                }
                Err(error) => panic!("{path}: {error}\n{}", self.process.last_words()),
            }
        }
    }

    /// Whether it is ready, as a probe sees it, and what is missing.
    pub(crate) fn health(&self) -> (u16, String) {
        let (_, status) = self.admin("GET", "/v1/status");
        let listening = status["listening"].as_array().unwrap();
        let operations = listening
            .iter()
            .find(|place| place["component"] == "operations");
        let address = operations.unwrap()["address"].as_str().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(ADMIN_PATIENCE)).unwrap();
        let (status, health) = ask(stream, "GET", "/health/ready");
        (status, health["missing"].to_string())
    }

    /// Asks by the admin socket.
    pub(crate) fn admin(&self, method: &str, path: &str) -> (u16, Value) {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(ADMIN_PATIENCE)).unwrap();
        ask(stream, method, path)
    }

    /// Asks it to stop; it must do so cleanly.
    pub(crate) fn stop(mut self) {
        let status = self.process.terminate();
        assert!(status.success(), "{status}\n{}", self.process.last_words());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str) -> (u16, Value) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error} in {answer}"));
    (status, body)
}

pub(crate) fn new_key() -> String {
    format!("{:016x}", Random::from_system().next_u64())
}

/// Whether a connection has ended as idle ones do. What was sent last may be sent again, where it has a key.
fn has_been_given_up(error: &std::io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof, WouldBlock};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionReset | UnexpectedEof | WouldBlock
    )
}

/// Asserts that a text has all of these.
pub(crate) fn assert_says(said: &str, all: &[&str]) {
    for part in all {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
}
