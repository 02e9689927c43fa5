//! An application whose start and whose handlers take as long as a test wants, in a process of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use statefun_core::App as Application;
use statefun_core::io::ingress::{Ingress, IngressContext, IngressError, Partition, channel};
use statefun_core::prelude::*;

use crate::support::{Files, Output, eventually};

pub(super) const MODULE: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: gate/in
  address: 127.0.0.1:0
  path: /in/{id}
  valueType: gate/Wait
  targets: [gate/waiter]
";

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Wait until there is that file.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "gate/Wait")]
struct Wait {
    file: String,
}

#[stateful_function(typename = "gate/waiter", accepts(Wait))]
#[derive(Default)]
struct Waiter {
    #[persisted]
    count: PersistedValue<u64>,
}

impl Handle<Wait> for Waiter {
    fn handle(&mut self, wait: Wait, ctx: &mut Context<'_, Self>) -> HandlerResult {
        if wait.file == "fail" {
            return Err(HandlerError::permanent("as it was told"));
        }
        *self.count += 1;
        std::fs::write(format!("{}.begun", wait.file), ctx.id())?;
        while Path::new("slow").exists() && !Path::new(&wait.file).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// An ingress that has nothing, and takes its time to open where there is a file `slow`.
struct Slow;

impl Ingress for Slow {
    fn open(&mut self, context: &IngressContext) -> Result<Vec<Partition>, IngressError> {
        while Path::new("slow").exists() && !Path::new("open").exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (sender, source) = channel(1, context.waker(0));
        // It stays open.
        std::mem::forget(sender);
        Ok(vec![Partition {
            name: None,
            worker: 0,
            source: Box::new(source),
        }])
    }
}

struct Gate;

impl Module for Gate {
    fn configure(&self, _: &GlobalConfiguration, binder: &mut Binder) {
        binder
            .function::<Waiter>(Waiter::default)
            .ingress("gate/slow", Slow);
    }
}

/// What runs in the process that plays the application.
#[test]
#[ignore = "it is started by the other tests"]
#[expect(clippy::exit, reason = "the code is the application's")]
fn application() {
    let exit = Application::unlinked()
        .module(Gate)
        .main_with(vec!["run".to_owned()]);
    // The harness' own exit code says nothing of the application.
    let is = |code: u8| format!("{exit:?}") == format!("{:?}", std::process::ExitCode::from(code));
    std::process::exit(
        [0, 1]
            .into_iter()
            .find(|code| is(*code))
            .unwrap_or(2)
            .into(),
    );
}

/// A directory for the application.
pub(super) struct App(Files);

impl Deref for App {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.0
    }
}

impl App {
    pub(super) fn new() -> Self {
        Self(Files::new().with("module.yaml", MODULE))
    }

    pub(super) fn with(self, file: &str, text: &str) -> Self {
        Self(self.0.with(file, text))
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.path().join(".statefun/data")
    }

    pub(super) fn log(&self) -> String {
        self.read("log")
    }

    fn command(&self, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "operations::app::application",
                "--exact",
                "--ignored",
                "--nocapture",
                "--quiet",
            ])
            .current_dir(self.path())
            .env("STATEFUN_WORKERS", "2")
            .env("NO_COLOR", "1")
            .env("STATEFUN_LOG_FORMAT", "human")
            .envs(environment.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Starts it. It need not be ready.
    pub(super) fn start(&self, environment: &[(&str, &str)]) -> Running<'_> {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let child = self
            .command(environment)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Running {
            child: Some(child).into(),
            app: self,
        }
    }

    /// Runs it to its end, which it comes to by itself.
    pub(super) fn run(&self, environment: &[(&str, &str)]) -> Output {
        let output = self.command(environment).output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The application as it runs; killed at the end.
pub(super) struct Running<'a> {
    child: std::cell::RefCell<Option<Child>>,
    app: &'a App,
}

impl Running<'_> {
    /// Where its operations endpoint is, as this machine reaches it.
    pub(super) fn operations(&self) -> SocketAddr {
        let found = |log: &str| {
            let after = |word: &str| Some(log.split_once(word)?.1.to_owned());
            let text =
                after("endpoint listens address=").or_else(|| after("operations: http://"))?;
            let text = text.split([' ', '\n']).next()?.to_owned();
            let address: SocketAddr = text.parse().ok()?;
            Some(SocketAddr::from(([127, 0, 0, 1], address.port())))
        };
        let mut address = None;
        eventually("the endpoint is said", || {
            self.is_running();
            address = found(&self.app.log());
            address.is_some()
        });
        address.unwrap()
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.operations())
    }

    /// Where it takes messages in.
    pub(super) fn ingress(&self) -> SocketAddr {
        let log = self.app.log();
        let (_, rest) = log.split_once("gate/in: POST http://").unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }

    /// Sends a message. When this returns it is durable.
    pub(super) fn send(&self, id: &str, file: &str) -> std::io::Result<()> {
        post(self.ingress(), id, file)
    }

    /// Sends a message, and does not wait.
    pub(super) fn send_in_background(
        &self,
        id: &str,
        file: &str,
    ) -> JoinHandle<std::io::Result<()>> {
        let (to, id, file) = (self.ingress(), id.to_owned(), file.to_owned());
        let thread = std::thread::Builder::new();
        thread.spawn(move || post(to, &id, &file)).unwrap()
    }

    fn is_running(&self) {
        let mut child = self.child.borrow_mut();
        let ended = child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", self.app.log());
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) {
        let child = self.child.borrow();
        let pid = rustix::process::Pid::from_raw(child.as_ref().unwrap().id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(super) fn ends(self, code: i32) {
        let mut status = None;
        eventually("it ends", || {
            let mut child = self.child.borrow_mut();
            status = child.as_mut().unwrap().try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        assert_eq!(status.code(), Some(code), "{}", self.app.log());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.borrow_mut().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn post(to: SocketAddr, id: &str, file: &str) -> std::io::Result<()> {
    let body = format!(r#"{{"file":"{file}"}}"#);
    let head = format!(
        "POST /in/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (status, answer) = exchange(to, &(head + &body))?;
    match status {
        202 => Ok(()),
        _ => Err(std::io::Error::other(answer)),
    }
}

/// Asks as a probe does.
pub(super) fn get(from: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    exchange(from, &request).unwrap()
}

fn exchange(with: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(with)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(answer.clone()))?;
    Ok((status, body.to_owned()))
}

/// A port that nobody had a moment ago.
pub(super) fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
