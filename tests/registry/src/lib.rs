//! A real registry of images, Debian's `docker-registry`, as a process of its own on 127.0.0.1; and a way to it that breaks.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// Whom a registry that asks for a password lets in.
pub const USER: &str = "gardener";
/// With this password.
pub const PASSWORD: &str = "sesame";
/// Both, with the password as bcrypt has it.
const HTPASSWD: &str = "gardener:$2y$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW\n";

/// How it is asked whether something has happened that takes a moment.
const POLL: Duration = Duration::from_millis(10);
/// How often, which is longer than anything here takes.
const POLLS: u32 = 3000;

/// What a registry asks of those who come.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// [`USER`] and [`PASSWORD`].
    pub with_password: bool,
    /// TLS: the certificate and its key, as PEM.
    pub tls: Option<(String, String)>,
}

/// A running registry. It ends with this value.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    child: Option<Child>,
    directory: TempDir,
}

impl Registry {
    /// Starts an empty one on a free port. Where Debian's package is not there, it says so, and there is none.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(options: &Options) -> Option<Self> {
        if !is_there("docker-registry") {
            skipped("there is no `docker-registry` here");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory for a registry");
        let mut registry = Self {
            port: 0,
            child: None,
            directory,
        };
        // Another process may take the port before the registry does.
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            registry.port = listener.local_addr().expect("a port").port();
            drop(listener);
            registry.configure(options);
            if registry.launch() {
                return Some(registry);
            }
        }
        panic!("docker-registry does not start: {}", registry.said());
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait().expect("a registry that was killed ends");
    }

    /// Starts it again on the same port, with what is on its disk.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        // Connections of before may hold the port for a moment.
        let is_up = (0..10).any(|_| self.launch());
        assert!(
            is_up,
            "docker-registry does not start again: {}",
            self.said()
        );
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, options: &Options) {
        let write = |name: &str, text: &str| {
            std::fs::write(self.file(name), text).expect("a file for a registry");
        };
        let place = |name: &str| self.file(name).display().to_string();
        let mut text = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage:\n  filesystem: {{rootdirectory: {}}}\n\
             http:\n  addr: {}\n  secret: the same after a restart\n",
            place("data"),
            self.address()
        );
        if let Some((certificate, key)) = &options.tls {
            write("certificate.pem", certificate);
            write("key.pem", key);
            text += &format!(
                "  tls: {{certificate: {}, key: {}}}\n",
                place("certificate.pem"),
                place("key.pem")
            );
        }
        if options.with_password {
            write("htpasswd", HTPASSWD);
            text += &format!(
                "auth:\n  htpasswd: {{realm: tests, path: {}}}\n",
                place("htpasswd")
            );
        }
        write("config.yml", &text);
    }

    /// Whether it runs and listens.
    fn launch(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file("log"))
            .expect("a file for what a registry says");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(self.file("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file for what a registry says"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("docker-registry");
        let child = self.child.insert(child);
        for _ in 0..POLLS {
            if child.try_wait().expect("a child").is_some() {
                self.child = None;
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        panic!("docker-registry does not listen: {}", self.said());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A way to a registry that breaks: it carries bytes to a port of this machine, and cuts connections.
pub struct BreakingWay {
    port: u16,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

struct State {
    to: u16,
    on_cut: Box<dyn Fn() + Send + Sync>,
    /// After how many bytes that clients have sent a connection is cut, for each cut to come.
    cuts: Mutex<Vec<u64>>,
    has_ended: AtomicBool,
}

impl BreakingWay {
    /// One that cuts a connection after so many bytes that were sent, then another one after so many bytes more, and so on.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn to(port: u16, cuts: Vec<u64>) -> Self {
        Self::with(port, cuts, || {})
    }

    /// As [`BreakingWay::to`], and does something more with each cut, before it comes.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn with(port: u16, mut cuts: Vec<u64>, on_cut: impl Fn() + Send + Sync + 'static) -> Self {
        cuts.reverse();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let state = Arc::new(State {
            to: port,
            on_cut: Box::new(on_cut),
            cuts: Mutex::new(cuts),
            has_ended: AtomicBool::new(false),
        });
        let port = listener.local_addr().expect("a port").port();
        let shared = state.clone();
        let acceptor = std::thread::Builder::new()
            .name("breaking way".to_owned())
            .spawn(move || {
                for client in listener.incoming() {
                    if shared.has_ended.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(client) = client {
                        let _ = shared.clone().carry(client);
                    }
                }
            })
            .expect("a thread");
        Self {
            port,
            state,
            acceptor: Some(acceptor),
        }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Cuts that have not come.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn cuts_left(&self) -> usize {
        self.state.cuts.lock().expect("cuts").len()
    }
}

impl State {
    fn carry(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.to))?;
        let (mut back_from, mut back_to) = (server.try_clone()?, client.try_clone()?);
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name("breaking way".to_owned())
                .spawn(work)
        };
        spawn(Box::new(move || {
            let _ = io::copy(&mut back_from, &mut back_to);
            let _ = back_to.shutdown(Shutdown::Both);
        }))?;
        spawn(Box::new(move || {
            let _ = self.forth(&client, &server);
            let _ = server.shutdown(Shutdown::Both);
            let _ = client.shutdown(Shutdown::Both);
        }))?;
        Ok(())
    }

    fn forth(&self, mut client: &TcpStream, mut server: &TcpStream) -> io::Result<()> {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let read = client.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            {
                let mut cuts = self.cuts.lock().expect("cuts");
                if let Some(left) = cuts.last_mut() {
                    *left = left.saturating_sub(read as u64);
                    if *left == 0 {
                        (self.on_cut)();
                        cuts.pop();
                        return Ok(());
                    }
                }
            }
            server.write_all(&piece[..read])?;
        }
    }
}

impl Drop for BreakingWay {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::Relaxed);
        // The acceptor sees it with the next connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Whether PATH has such a program.
pub fn is_there(program: &str) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places).any(|place| place.join(program).is_file())
}

/// Says that a test does nothing here, why, and how it would.
#[expect(
    clippy::print_stderr,
    reason = "it is for whoever reads what tests say"
)]
pub fn skipped(why: &str) {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("servers");
    eprintln!(
        "SKIPPED: {why}; `{}/install containers` installs it",
        install.display()
    );
}
