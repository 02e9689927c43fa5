//! The application as a process of its own: start it, talk to it over HTTP, kill it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// After this something is broken, and not slow.
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(20);

/// The application, over all its processes: one after the other works on the same data directory.
pub(crate) struct Application {
    directory: TempDir,
    port: u16,
    environment: Vec<(&'static str, String)>,
    process: Option<Child>,
}

impl Application {
    /// Starts it on a free port, in an empty directory, with these variables in its environment.
    pub(crate) fn start(environment: &[(&'static str, &str)]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut app = Self {
            directory: TempDir::new().unwrap(),
            port: free.local_addr().unwrap().port(),
            environment: environment
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            process: None,
        };
        drop(free);
        app.start_again();
        app
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.path("ride-events.jsonl")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts a process on what the last one left, and waits until it is ready.
    pub(crate) fn start_again(&mut self) {
        assert!(self.process.is_none());
        let ready = self.path("ready");
        let _ = fs::remove_file(&ready);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ride-sharing"));
        // There is module.yaml.
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("RIDES_ADDRESS", format!("127.0.0.1:{}", self.port));
        command
            .env("RIDE_EVENTS", self.events())
            .env("BOARD_FILE", self.path("board.json"));
        command
            .env("STATEFUN_DATA_DIR", self.path("data"))
            .env("STATEFUN_READY_FILE", &ready);
        command.envs(self.environment.iter().cloned());
        self.process = Some(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        );
        self.until("it is ready", |_| ready.exists().then_some(()));
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub(crate) fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Asks it to stop, as an operator would; it must do so in peace.
    pub(crate) fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let asked = Command::new("kill")
            .args(["-TERM", &process.id().to_string()])
            .status()
            .unwrap();
        assert!(asked.success());
        let status = process.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Looks again and again until there is something to be seen.
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if let Some(seen) = look(self) {
                return seen;
            }
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait().unwrap()
            {
                panic!("waiting until {what}, it ended: {status}\n{}", self.log());
            }
            std::thread::sleep(PAUSE);
        }
        panic!("it never was so that {what}\n{}", self.log());
    }

    /// Sends a message, and returns the status and the body of the answer.
    pub(crate) fn post(
        &self,
        path: &str,
        key: Option<&str>,
        message: &impl Serialize,
    ) -> (u16, String) {
        let body = serde_json::to_string(message).unwrap();
        let key = key
            .map(|key| format!("Idempotency-Key: {key}\r\n"))
            .unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: rides\r\nConnection: close\r\n{key}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    /// Sends a message that must be replied to.
    pub(crate) fn ask<R: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        message: &impl Serialize,
    ) -> R {
        let (status, body) = self.post(&format!("{path}?wait"), key, message);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// What a file of JSON lines holds; none while the last line is being written.
    pub(crate) fn lines<T: DeserializeOwned>(file: &Path) -> Option<Vec<T>> {
        let mut text = String::new();
        File::open(file).ok()?.read_to_string(&mut text).ok()?;
        if !text.is_empty() && !text.ends_with('\n') {
            return None;
        }
        Some(
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
        )
    }

    pub(crate) fn board<T: DeserializeOwned>(&self) -> Option<T> {
        Self::lines(&self.path("board.json"))?.pop()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
