//! Real object stores, each a process of its own on 127.0.0.1: started, killed, stopped for a while, started again.
//!
//! They are what `tests/servers/install` puts into the cache; it is called when something is missing, which takes minutes the
//! first time.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process_group};
use statefun_core::checkpoint::bucket::{
    AzureOptions, Bucket, BucketOptions, Environment, GcsOptions, Retries, S3Options,
};
use statefun_core::checkpoint::location::Location;
use tempfile::TempDir;

use crate::kill::process::wait_for;

/// The bucket, or container, that each store has from the start.
pub const BUCKET: &str = "bucket";

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// versitygw, which speaks the protocol of S3 and keeps objects as files. What it has acknowledged outlives `kill -9`.
    S3,
    /// azurite. Keeps everything in memory.
    Azure,
    /// fake-gcs-server behind the program in `tests/servers/gcs`. Keeps everything in memory.
    Gcs,
}

impl Store {
    /// As `tests/servers/install` calls it.
    fn server(self) -> &'static str {
        match self {
            Self::S3 => "versitygw",
            Self::Azure => "azurite",
            Self::Gcs => "gcs",
        }
    }
}

/// Whether a store can be started without installing it first.
pub fn is_installed(store: Store) -> bool {
    match store {
        Store::S3 => cache().join("bin/versitygw").exists(),
        Store::Azure => cache().join("azurite/node_modules").exists(),
        Store::Gcs => cache().join("bin/gcs-server").exists(),
    }
}

/// A running store. It ends with this value.
#[derive(Debug)]
pub struct Server {
    store: Store,
    port: u16,
    child: Option<Child>,
    directory: TempDir,
}

impl Server {
    /// Starts one on a free port and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be installed or started.
    pub fn start(store: Store) -> Self {
        install(store);
        let directory = tempfile::tempdir().expect("a directory for a server");
        if store == Store::S3 {
            let bucket = directory.path().join("data").join(BUCKET);
            std::fs::create_dir_all(bucket).expect("a bucket");
        }
        let mut server = Self {
            store,
            port: 0,
            child: None,
            directory,
        };
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            server.port = listener.local_addr().expect("a port").port();
            drop(listener);
            if server.launch() {
                return server;
            }
        }
        panic!("{} does not start: {}", store.server(), server.said());
    }

    /// `kill -9`. Connections are refused from then on.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // The whole group: whatever it has started ends with it.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.wait().expect("a server that was killed ends");
    }

    /// Starts it again on the same port, on what is on its disk.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let name = self.store.server();
        wait_for(
            // Connections of before may hold the port for a moment.
            || self.launch().then_some(()),
            || format!("a restarted {name}"),
        );
    }

    /// Stops it without ending it: requests wait for their answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on; requests that have waited are carried out.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process_group(Pid::from_child(child), signal);
        }
    }

    /// Its address; of azurite with the account.
    pub fn endpoint(&self) -> String {
        let address = format!("http://127.0.0.1:{}", self.port);
        match self.store {
            Store::Azure => format!("{address}/devstoreaccount1"),
            Store::S3 | Store::Gcs => address,
        }
    }

    /// Where something below its bucket is.
    pub fn url(&self, prefix: &str) -> String {
        let scheme = match self.store {
            Store::S3 => "s3",
            Store::Azure => "az",
            Store::Gcs => "gs",
        };
        format!("{scheme}://{BUCKET}/{prefix}")
    }

    /// Variables with which an application keeps its checkpoints there.
    pub fn variables(&self, prefix: &str) -> Vec<(&'static str, String)> {
        let mut variables = vec![("STATEFUN_CHECKPOINT_URL", self.url(prefix))];
        variables.push(match self.store {
            Store::S3 => ("STATEFUN_CHECKPOINT_S3_ENDPOINT", self.endpoint()),
            Store::Azure => ("STATEFUN_CHECKPOINT_AZURE_ENDPOINT", self.endpoint()),
            Store::Gcs => ("STATEFUN_CHECKPOINT_GCS_ENDPOINT", self.endpoint()),
        });
        variables.extend(CREDENTIALS.map(|(name, value)| (name, value.to_owned())));
        variables
    }

    /// How a bucket there is opened.
    pub fn options(&self, retries: Retries) -> BucketOptions {
        let endpoint = |store| (self.store == store).then(|| self.endpoint());
        BucketOptions {
            s3: S3Options {
                endpoint: endpoint(Store::S3),
                ..S3Options::default()
            },
            gcs: GcsOptions {
                endpoint: endpoint(Store::Gcs),
            },
            azure: AzureOptions {
                endpoint: endpoint(Store::Azure),
                account: None,
            },
            retries,
            environment: Environment::of(CREDENTIALS),
            ..BucketOptions::default()
        }
    }

    /// Opens a part of its bucket.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(&self, prefix: &str, retries: Retries) -> Bucket {
        let location = Location::parse(&self.url(prefix)).expect("a URL");
        Bucket::open(&location, &self.options(retries)).expect("a bucket")
    }

    /// Whether it runs and answers.
    fn launch(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("a file for what a server says");
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file for what a server says"))
            .stderr(log)
            .process_group(0);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let child = self.child.insert(child);
        let (port, name) = (self.port, self.store.server());
        let answers = wait_for(
            || {
                let ended = child.try_wait().expect("a child").is_some();
                let answers = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
                // Whoever answers when it has ended is another one.
                (ended || answers).then_some(!ended)
            },
            || format!("a connection to {name}"),
        );
        if !answers {
            self.child = None;
            return false;
        }
        if self.store == Store::Azure {
            self.create_container();
        }
        true
    }

    fn command(&self) -> Command {
        let address = format!("127.0.0.1:{}", self.port);
        let data = self.directory.path().join("data");
        match self.store {
            Store::S3 => {
                let mut command = Command::new(cache().join("bin/versitygw"));
                command.args(["--access", CREDENTIALS[0].1, "--secret", CREDENTIALS[1].1]);
                command.args(["--port", &address, "--quiet", "posix"]);
                command.arg(data);
                command
            }
            Store::Azure => {
                let mut command =
                    Command::new(cache().join("azurite/node_modules/.bin/azurite-blob"));
                command.args(["--inMemoryPersistence", "--skipApiVersionCheck"]);
                command.args(["--disableTelemetry", "--silent"]);
                command.args(["--blobHost", "127.0.0.1", "--blobPort"]);
                command.arg(self.port.to_string());
                command.current_dir(self.directory.path());
                command
            }
            Store::Gcs => {
                let mut command = Command::new(cache().join("bin/gcs-server"));
                command.args([&address, BUCKET]);
                command
            }
        }
    }

    fn create_container(&self) {
        let script = servers().join("azure-container.mjs");
        let made = Command::new("node")
            .arg(script)
            .args([&self.endpoint(), BUCKET])
            .output()
            .expect("node");
        let problem = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "no container: {problem}");
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What versitygw is started with. The other two ask for none.
const CREDENTIALS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "testtest"),
    ("AWS_REGION", "us-east-1"),
];

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
}

/// Where servers are installed, as `tests/servers/install` has it.
fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("SERVERS_CACHE") {
        return PathBuf::from(cache);
    }
    let home = std::env::var_os("HOME").expect("HOME, below which servers are installed");
    Path::new(&home).join(".cache/statefun-servers")
}

/// Installs what is missing, once in a process.
fn install(store: Store) {
    static INSTALLED: [OnceLock<()>; 3] = [const { OnceLock::new() }; 3];
    INSTALLED[store as usize].get_or_init(|| {
        let script = servers().join("install");
        let run = Command::new(&script)
            .arg(store.server())
            .stdin(Stdio::null())
            .output();
        let problem = match run {
            Ok(run) if run.status.success() => return,
            Ok(run) => String::from_utf8_lossy(&run.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        panic!(
            "the server {} is needed and cannot be installed; run this, and see why:\n    {} {}\n{problem}",
            store.server(),
            script.display(),
            store.server()
        );
    });
}
