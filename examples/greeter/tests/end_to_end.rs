//! The application as it runs: a process, HTTP, a file, `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// After this something is broken, and not slow.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(20);

struct Process(Child);

impl Process {
    /// Starts the application on what the last process left, and waits until it is ready.
    fn start(directory: &Path, port: u16) -> Self {
        let ready = directory.join("ready");
        let _ = fs::remove_file(&ready);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_greeter"));
        // There is module.yaml.
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("GREETER_ADDRESS", format!("127.0.0.1:{port}"));
        command.env("GREETER_EMAILS", directory.join("emails.jsonl"));
        command
            .env("STATEFUN_DATA_DIR", directory.join("data"))
            .env("STATEFUN_READY_FILE", &ready);
        let mut process = Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if ready.exists() {
                return process;
            }
            if let Some(status) = process.0.try_wait().unwrap() {
                panic!(
                    "it ended: {status}\n{}",
                    fs::read_to_string(directory.join("log")).unwrap()
                );
            }
            std::thread::sleep(PAUSE);
        }
        panic!("it is never ready");
    }

    /// `kill -9`.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As an operator stops it.
    fn stop(&mut self) {
        let asked = Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(asked.success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request, and returns status and body of the answer.
fn greet(port: u16, query: &str, key: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST /greet{query} HTTP/1.1\r\nHost: greeter\r\nConnection: close\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

/// As [`greet`], until it is answered: the process may be dead at the moment.
fn greet_for_sure(port: u16, key: &str, body: &str) {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        match greet(port, "", key, body) {
            Ok((202, _)) => return,
            Ok((429 | 503, _)) | Err(_) => std::thread::sleep(PAUSE),
            Ok(other) => panic!("{other:?}"),
        }
    }
    panic!("{key} is never answered");
}

#[test]
fn every_greeting_is_written_exactly_once() {
    const USERS: u32 = 4;
    const VISITS: u32 = 60;
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let emails = directory.join("emails.jsonl");
    let lines = || fs::read_to_string(&emails).map_or(0, |text| text.lines().count());

    let mut process = Process::start(directory, port);
    std::thread::scope(|scope| {
        for user in 0..USERS {
            scope.spawn(move || {
                for visit in 0..VISITS {
                    let body = format!(r#"{{"user_id":"user-{user}","first_name":"U"}}"#);
                    greet_for_sure(port, &format!("{user}-{visit}"), &body);
                }
            });
        }
        for enough in [30, 120] {
            let mut looks = PATIENCE.as_millis() / PAUSE.as_millis();
            while lines() < enough {
                looks = looks.checked_sub(1).expect("lines never come");
                std::thread::sleep(PAUSE);
            }
            process.kill();
            process = Process::start(directory, port);
        }
    });
    // One more visit of each is answered by what was counted.
    for user in 0..USERS {
        let body = format!(r#"{{"user_id":"user-{user}","first_name":"U"}}"#);
        let (status, answer) = greet(port, "?wait", &format!("{user}-last"), &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer.contains(&format!(r#""seen":{}"#, VISITS + 1)),
            "{answer}"
        );
    }
    // What cannot be read is refused, and changes nothing.
    let (status, answer) = greet(port, "", "bad", r#"{"user":1}"#).unwrap();
    assert_eq!(status, 400, "{answer}");
    process.stop();

    let text = fs::read_to_string(&emails).unwrap();
    for user in 0..USERS {
        let own = format!(r#""to":"user-{user}""#);
        let numbers: Vec<String> = text
            .lines()
            .filter(|line| line.contains(&own))
            .map(|line| {
                line.split(r#""number":"#)
                    .nth(1)
                    .unwrap()
                    .split(',')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let expected: Vec<String> = (1..=VISITS + 1).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected, "user {user}");
    }
    assert_eq!(text.lines().count() as u32, USERS * (VISITS + 1));
}
