//! An application as a process of its own: start it, talk to it over HTTP, kill it. The examples' tests share this file.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// After this something is broken, and not slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// The application, over all its processes: one after the other works on the same data directory.
pub(crate) struct Application {
    directory: TempDir,
    port: u16,
    command: Box<dyn Fn(&Path, u16) -> Command>,
    process: Option<Child>,
}

impl Application {
    /// Starts it in an empty directory. The command is made up from that directory and a free port.
    pub(crate) fn start(command: impl Fn(&Path, u16) -> Command + 'static) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut app = Self {
            directory: TempDir::new().unwrap(),
            port: free.local_addr().unwrap().port(),
            command: Box::new(command),
            process: None,
        };
        drop(free);
        app.start_again();
        app
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
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
        let mut command = (self.command)(self.directory.path(), self.port);
        command
            .env("STATEFUN_DATA_DIR", self.path("data"))
            .env("STATEFUN_READY_FILE", &ready);
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

    /// `kill -9`, and another process.
    pub(crate) fn kill_and_start_again(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
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
}

impl Drop for Application {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Sends a message over a connection of its own, and returns the status and the body of the answer.
pub(crate) fn post(
    port: u16,
    path: &str,
    key: Option<&str>,
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let key = key
        .map(|key| format!("Idempotency-Key: {key}\r\n"))
        .unwrap_or_default();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: example\r\nConnection: close\r\n{key}Content-Length: {}\r\n\r\n",
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
