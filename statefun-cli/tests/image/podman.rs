//! podman with a storage of its own, and containers of the greeter in it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use statefun_tests_registry::{is_there, skipped};
use tempfile::TempDir;

use crate::made::{NAME, made};

/// Nothing that works takes as long, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(5);

/// Looks until there is something; `problem` says why there is nothing.
pub(crate) fn wait_for<T>(
    what: &str,
    problem: impl Fn() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let watch = statefun_core::clock::Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            watch.elapsed() < PATIENCE,
            "waited in vain: {what}; {}",
            problem()
        );
        std::thread::sleep(POLL);
    }
}

/// A storage of podman's with the image in it. Its containers and volumes go with it.
pub(crate) struct Podman {
    folder: TempDir,
}

impl Podman {
    /// None, and it is said why, where containers cannot run.
    pub(crate) fn with_image() -> Option<Self> {
        static CANNOT: OnceLock<Option<String>> = OnceLock::new();
        if let Some(missing) = ["podman", "runc"].into_iter().find(|tool| !is_there(tool)) {
            skipped(&format!("there is no `{missing}` here"));
            return None;
        }
        let podman = Self::empty();
        podman.ok(&["load", "--input", made().archive.to_str().unwrap()]);
        let why = CANNOT.get_or_init(|| {
            let tried = podman.run(&["--rm"], &["describe"]);
            // 125 is podman's own; what the container ends with is the image's.
            (tried.status.code() == Some(125)).then(|| said(&tried))
        });
        if let Some(why) = why {
            skipped(&format!("podman cannot run containers here: {why}"));
            return None;
        }
        Some(podman)
    }

    /// Without an image.
    pub(crate) fn empty() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("podman-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        // Locks in files of its own, not in memory that all podmans of the machine share.
        let config = "[engine]\nlock_type = \"file\"\n";
        std::fs::write(folder.path().join("containers.conf"), config).unwrap();
        Self { folder }
    }

    fn command(&self) -> Command {
        let place = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", place("containers.conf"));
        for (flag, name) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(flag).arg(place(name));
        }
        command.args(["--runtime", "runc", "--cgroup-manager=cgroupfs"]);
        command
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// What it prints.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(
            output.status.success(),
            "podman {arguments:?}: {}",
            said(&output)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `podman run` with more options, and arguments for the greeter.
    pub(crate) fn run(&self, options: &[&str], arguments: &[&str]) -> Output {
        self.run_image(NAME, options, arguments)
    }

    pub(crate) fn run_image(&self, image: &str, options: &[&str], arguments: &[&str]) -> Output {
        let limits = [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1000:1000",
        ];
        let network = [
            "--network",
            "host",
            "--read-only",
            "-e",
            "STATEFUN_OPERATIONS_LISTEN=127.0.0.1:0",
        ];
        let parts: [&[&str]; 6] = [&["run"], &limits, &network, options, &[image], arguments];
        self.call(&parts.concat())
    }

    /// Starts the greeter on a volume.
    pub(crate) fn start(&self, volume: &str) -> Container<'_> {
        self.start_image(NAME, volume)
    }

    pub(crate) fn start_image(&self, image: &str, volume: &str) -> Container<'_> {
        let mount = format!("{volume}:/data");
        let run = self.run_image(image, &["-d", "-e", "GREETER_PORT=0", "-v", &mount], &[]);
        assert!(run.status.success(), "{}", said(&run));
        let id = String::from_utf8(run.stdout).unwrap().trim().to_owned();
        let mut container = Container {
            podman: self,
            id,
            port: 0,
        };
        container.port = wait_for("the port", || container.logs(), || container.listening());
        container
    }

    /// A file of a volume.
    pub(crate) fn file(&self, volume: &str, name: &str) -> PathBuf {
        let place = self.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", volume]);
        Path::new(&place).join(name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.call(&["rm", "--all", "--force", "--time", "0"]);
        let _ = self.call(&["volume", "rm", "--all", "--force"]);
        let _ = self.call(&["rmi", "--all", "--force"]);
        // podman may have mounted it onto itself.
        let _ = Command::new("umount")
            .arg(self.folder.path().join("root/overlay"))
            .output();
    }
}

/// A container of the greeter that was started.
pub(crate) struct Container<'a> {
    podman: &'a Podman,
    pub(crate) id: String,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Container<'_> {
    /// The port that the system chose, when it says it.
    fn listening(&self) -> Option<u16> {
        let logs = self.logs();
        // As JSON, since nobody sits in front of it.
        let (_, rest) = logs.split_once("\"http://0.0.0.0:")?;
        rest.split_once("/greet\"")?.0.parse().ok()
    }

    pub(crate) fn inspect(&self, format: &str) -> String {
        self.podman.ok(&["inspect", "--format", format, &self.id])
    }

    /// The process, as the machine knows it.
    pub(crate) fn process(&self) -> u32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }

    /// What it has said.
    pub(crate) fn logs(&self) -> String {
        said(&self.podman.call(&["logs", &self.id]))
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.podman.ok(&["kill", "--signal", signal, &self.id]);
    }

    /// Its exit code, when it has ended.
    pub(crate) fn ended(&self) -> i32 {
        self.podman.ok(&["wait", &self.id]).parse().unwrap()
    }
}

/// A port of 127.0.0.1 that nobody has now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .concat()
}
