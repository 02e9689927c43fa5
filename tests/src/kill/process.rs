//! An application as a process of its own: started, killed, and asked how far it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use statefun_core::clock::Stopwatch;
use statefun_core::steps::Step;

/// Nothing that works takes as long as this, however busy the machine is.
const PATIENCE: Duration = Duration::from_mins(2);
/// No more than this counts of the time between two looks.
const MOMENT: Duration = Duration::from_secs(5);

/// How long a test goes on waiting for what is to happen. Time counts only while somebody looks: when the test and all that it
/// has started are stopped for a while, or the machine is, nothing could have happened.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    last: Stopwatch,
}

impl Default for Patience {
    fn default() -> Self {
        Self::times(1)
    }
}

impl Patience {
    /// So many times as much as usual.
    pub fn times(times: u32) -> Self {
        Self {
            left: times * PATIENCE,
            last: Stopwatch::start(),
        }
    }

    /// Whether it is over. To be asked again and again.
    pub fn is_over(&mut self) -> bool {
        let moment = std::mem::replace(&mut self.last, Stopwatch::start()).elapsed();
        self.left = self.left.saturating_sub(moment.min(MOMENT));
        self.left.is_zero()
    }
}

/// Looks until there is something, and panics with what `problem` says when there is not in time.
///
/// # Panics
/// When it is not there before [`Patience`] is over.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>, problem: impl FnOnce() -> String) -> T {
    let mut patience = Patience::default();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(!patience.is_over(), "waited in vain: {}", problem());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A running application.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stderr: PathBuf,
    steps: PathBuf,
}

/// How a process is to be started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// Its working directory, which holds module.yaml.
    pub directory: &'a Path,
    /// Tells its files from those of other processes.
    pub name: String,
    /// Its worker threads.
    pub workers: usize,
    /// Variables besides.
    pub environment: Vec<(&'static str, String)>,
}

impl Start<'_> {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(self) -> Process {
        self.spawn_with(&[])
    }

    /// Starts it with arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn_with(self, arguments: &[&str]) -> Process {
        let stderr = self.directory.join(format!("{}.stderr", self.name));
        let steps = self.directory.join(format!("{}.steps", self.name));
        let child = Command::new(self.binary)
            .args(arguments)
            .current_dir(self.directory)
            .env("STATEFUN_WORKERS", self.workers.to_string())
            // Short lives are to reach the store too.
            .env("STATEFUN_STATE_APPLY_AFTER", "1s")
            .env("STATEFUN_TEST_PHASES", &steps)
            .env("NO_COLOR", "1")
            .env("STATEFUN_LOG_FORMAT", "human")
            // Some handlers panic on purpose, and printing where takes long in a debug build.
            .env("RUST_BACKTRACE", "0")
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                File::create(&stderr)
                    .unwrap_or_else(|error| panic!("{}: {error}", stderr.display())),
            )
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.binary.display()));
        Process {
            child,
            stderr,
            steps,
        }
    }
}

impl Process {
    /// Its number for the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// The end of what it said, for messages.
    pub fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let from = lines.len().saturating_sub(60);
        format!(
            "{}:\n{}",
            self.stderr.display(),
            lines.get(from..).unwrap_or_default().join("\n")
        )
    }

    /// Where its ingresses listen, by their ids, once it is ready; none when it has ended instead.
    ///
    /// # Panics
    /// When it gets neither ready nor ends.
    pub fn ready(&mut self) -> Option<Addresses> {
        let mut patience = Patience::default();
        while self.ended().is_none() {
            let said = self.said();
            if said.contains("ready; Ctrl-C") {
                return Some(said.lines().filter_map(listens_at).collect());
            }
            assert!(
                !patience.is_over(),
                "it does not get ready\n{}",
                self.last_words()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .unwrap_or_else(|error| panic!("the process cannot be asked: {error}"))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        let (stderr, child) = (self.stderr.clone(), &mut self.child);
        wait_for(
            || child.try_wait().ok().flatten(),
            || format!("it does not end; see {}", stderr.display()),
        )
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub fn kill(&mut self) {
        // Fails when it has ended already, which the status tells better.
        let _ = self.child.kill();
        let status = self.wait();
        assert_eq!(
            status.signal(),
            Some(libc::SIGKILL),
            "it ended by itself: {status}\n{}",
            self.last_words()
        );
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait()
    }

    /// Asks it to stop.
    #[expect(unsafe_code, reason = "std sends no other signal than SIGKILL")]
    pub fn ask_to_stop(&self) {
        // SAFETY: takes and returns plain numbers; the child has not been waited for, so the number is still its own.
        unsafe {
            libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM);
        }
    }

    /// Stops it without ending it.
    pub fn suspend(&self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::CONT);
    }

    /// How far it has come.
    pub fn steps(&self) -> Steps {
        let bytes = std::fs::read(&self.steps).unwrap_or_default();
        let numbers: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| u64::from_le_bytes(<[u8; 8]>::try_from(chunk).unwrap_or_default()))
            .collect();
        let count = |step: Step| numbers.get(1 + step as usize).copied().unwrap_or(0);
        let last = numbers
            .first()
            .and_then(|last| Step::ALL.get(*last as usize))
            .copied();
        Steps {
            last: last.filter(|_| numbers.len() > 1),
            counts: Step::ALL.map(count),
        }
    }

    /// What it occupies in memory, in bytes: its resident set.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It must not outlive a test that fails, not even when it was suspended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where ingresses listen, by their ids.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// `  kill/ops: POST http://127.0.0.1:4711/ops`
fn listens_at(line: &str) -> Option<(String, SocketAddr)> {
    let (id, rest) = line.trim().split_once(": POST http://")?;
    Some((id.to_owned(), rest.split('/').next()?.parse().ok()?))
}

/// The steps that a process has noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The last one.
    pub last: Option<Step>,
    counts: [u64; Step::ALL.len()],
}

impl Steps {
    /// How often it reached a step.
    pub fn count(&self, step: Step) -> u64 {
        self.counts.get(step as usize).copied().unwrap_or(0)
    }
}
