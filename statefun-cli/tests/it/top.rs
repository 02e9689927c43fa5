//! `statefun top`, against an application that is made up behind a real socket, on a terminal that is one, and against a real one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;
use statefun_core::admin::{
    AdminServer, Command, Live, Results, SettledState, Status, socket_path,
};
use statefun_core::id::Address;
use statefun_core::metrics::{FunctionMetrics, Snapshot};
use statefun_core::state::StateError;
use tokio::runtime::Runtime;

use crate::state::app;
use crate::support::{Files, command, eventually};

/// An application that is a second older each time it is asked, and handles 500 messages a second.
struct Fake {
    pid: u32,
    asked: AtomicU64,
}

impl Live for Fake {
    fn status(&self) -> Status {
        Status {
            pid: self.pid,
            workers: 2,
            ..Status::default()
        }
    }

    fn metrics(&self) -> Snapshot {
        let seconds = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        Snapshot {
            taken_ms: seconds * 1_000,
            uptime_ms: seconds * 1_000,
            functions: vec![FunctionMetrics {
                function: "shop/cart".to_owned(),
                invocations: 500 * seconds,
                ..FunctionMetrics::default()
            }],
            ..Snapshot::default()
        }
    }

    fn address(&self, _: &str, _: &str) -> Option<Address> {
        None
    }

    fn command(&self, _: Command) -> Results {
        Box::pin(async { Vec::new() })
    }

    fn state(&self) -> SettledState {
        Box::pin(async { Err(StateError::Store("it has none".to_owned())) })
    }
}

struct Running {
    _server: AdminServer,
    _runtime: Runtime,
}

fn start(files: &Files, pid: u32) -> Running {
    let data_dir = files.path().join(".statefun/data");
    std::fs::create_dir_all(&data_dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = Fake {
        pid,
        asked: AtomicU64::new(0),
    };
    let server =
        AdminServer::start(&socket_path(&data_dir), Arc::new(fake), runtime.handle()).unwrap();
    Running {
        _server: server,
        _runtime: runtime,
    }
}

#[test]
fn once_is_one_view_of_one_interval() {
    let files = Files::new();
    let _running = start(&files, 7);
    let output = files
        .statefun(&["top", "--once", "--interval", "100ms", "--format", "json"])
        .ends(0);
    assert_eq!(output.stderr, "");
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.stdout);
    let view: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(view["interval_ms"], 1_000);
    assert_eq!(view["application"]["pid"], 7);
    assert_eq!(view["functions"][0]["function"], "shop/cart");
    assert_eq!(view["functions"][0]["in_per_second"], 500.0);

    let output = files
        .statefun(&["top", "--once", "--interval", "100ms"])
        .ends(0);
    let cart = output
        .stdout
        .lines()
        .find(|line| line.starts_with("shop/cart"));
    assert_eq!(
        cart.unwrap().split_whitespace().nth(1),
        Some("500"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains('\u{1b}'), "{}", output.stdout);
    let output = files
        .statefun(&["top", "--interval", "100ms", "--color", "always"])
        .ends(0);
    assert!(
        output.stdout.contains("\u{1b}[1mFUNCTION"),
        "where there is no terminal, one view is printed: {}",
        output.stdout
    );
}

#[test]
fn nobody_there_or_gone_meanwhile() {
    let files = Files::new();
    for arguments in [
        &["top", "--once"][..],
        &["top"],
        &["top", "--format", "json"],
    ] {
        let output = files.statefun(arguments).ends(2);
        assert!(
            output.stderr.contains("no application runs"),
            "{}",
            output.stderr
        );
    }
    // One that answers the first look, and is gone at the second.
    let data_dir = files.path().join(".statefun/data");
    std::fs::create_dir_all(&data_dir).unwrap();
    let listener = UnixListener::bind(socket_path(&data_dir)).unwrap();
    let child = Top::start(files.path(), &["top", "--once", "--interval", "100ms"]);
    for _ in ["/v1/status", "/v1/metrics"] {
        let (mut stream, _) = listener.accept().unwrap();
        let request = BufReader::new(stream.try_clone().unwrap()).lines();
        let rest = request.skip_while(|line| !line.as_ref().unwrap().is_empty());
        assert_eq!(rest.take(1).count(), 1);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).unwrap();
    }
    drop(listener);
    let (code, stdout, stderr) = child.ended();
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("the application went away"), "{stderr}");
}

#[test]
fn a_line_for_each_interval_also_after_a_restart() {
    let files = Files::new();
    let running = start(&files, 7);
    let mut child = Top::start(
        files.path(),
        &["top", "--interval", "100ms", "--format", "json"],
    );
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut view = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    for _ in 0..3 {
        let view = view();
        assert_eq!(view["functions"][0]["in_per_second"], 500.0);
    }
    drop(running);
    let mut said = String::new();
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("trying again"), "{said}");
    // Its counts begin anew.
    let _running = start(&files, 8);
    loop {
        let view = view();
        assert_eq!(view["functions"][0]["in_per_second"], 500.0);
        assert_eq!(view["interval_ms"], 1_000);
        if view["application"]["pid"] == 8 {
            break;
        }
    }
    // When nobody reads any more, it ends in peace.
    drop(lines);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_intervals_are_refused() {
    for interval in ["0s", "99ms", "5", "soon"] {
        let output = Files::new()
            .statefun(&["top", "--interval", interval])
            .ends(2);
        assert!(output.stderr.contains("--interval"), "{}", output.stderr);
    }
}

/// The command while it runs; killed at the end.
struct Top(Child);

impl Top {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::of(
            command(directory, arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )
    }

    fn of(command: &mut Process) -> Self {
        Self(command.spawn().unwrap())
    }

    fn ended(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut piped = self.0.stdout.take().unwrap();
        piped.read_to_string(&mut stdout).unwrap();
        let mut piped = self.0.stderr.take().unwrap();
        piped.read_to_string(&mut stderr).unwrap();
        (self.0.wait().unwrap().code(), stdout, stderr)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A terminal, seen from behind: what is typed, and what is drawn.
struct Pty {
    behind: std::fs::File,
    front: std::fs::File,
    drawn: Arc<std::sync::Mutex<String>>,
}

impl Pty {
    fn new() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        let behind = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&behind).unwrap();
        unlockpt(&behind).unwrap();
        let name = ptsname(&behind, Vec::new()).unwrap();
        let front = std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let pty = Self {
            behind: behind.into(),
            front,
            drawn: Arc::default(),
        };
        pty.resize(80, 24);
        let mut behind = pty.behind.try_clone().unwrap();
        let drawn = pty.drawn.clone();
        let reader = move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = behind.read(&mut piece) {
                let piece = String::from_utf8_lossy(&piece[..read]).into_owned();
                drawn.lock().unwrap().push_str(&piece);
            }
        };
        std::thread::Builder::new()
            .name("pty".to_owned())
            .spawn(reader)
            .unwrap();
        pty
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.behind, size).unwrap();
    }

    fn start(&self, files: &Files, arguments: &[&str]) -> Top {
        let end = || Stdio::from(self.front.try_clone().unwrap());
        Top::of(
            command(files.path(), arguments)
                .env("TERM", "xterm-256color")
                .env_remove("COLUMNS")
                .stdin(end())
                .stdout(end())
                .stderr(end()),
        )
    }

    fn type_in(&mut self, keys: &str) {
        self.behind.write_all(keys.as_bytes()).unwrap();
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.front).unwrap()
    }

    /// Waits until that is drawn, and forgets what was drawn up to then.
    #[track_caller]
    fn shows(&self, what: &str) {
        eventually(what, || {
            let mut drawn = self.drawn.lock().unwrap();
            let Some(at) = drawn.find(what) else {
                return false;
            };
            drawn.drain(..at + what.len());
            true
        });
    }
}

const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

#[test]
fn the_terminal_is_taken_over_and_given_back() {
    let files = Files::new();
    let _running = start(&files, 7);
    let mut pty = Pty::new();
    let before = pty.modes();
    for end in ["q", "\u{3}", "TERM", "HUP", "INT"] {
        let mut top = pty.start(&files, &["top", "--interval", "100ms"]);
        pty.shows(ENTERED);
        pty.shows("pid 7");
        pty.shows("shop/cart");
        pty.shows("s sort (now by IN/S)");
        let during = pty.modes();
        assert_ne!(during.local_modes, before.local_modes, "{end}");
        match end {
            "TERM" => top.signal(Signal::TERM),
            "HUP" => top.signal(Signal::HUP),
            "INT" => top.signal(Signal::INT),
            keys => pty.type_in(keys),
        }
        pty.shows(LEFT);
        assert_eq!(top.0.wait().unwrap().code(), Some(0), "{end}");
        let after = pty.modes();
        assert_eq!(after.local_modes, before.local_modes, "{end}");
        assert_eq!(after.input_modes, before.input_modes, "{end}");
        assert_eq!(after.output_modes, before.output_modes, "{end}");
    }
}

#[test]
fn keys_and_sizes_change_what_is_drawn() {
    let files = Files::new();
    let running = start(&files, 7);
    let mut pty = Pty::new();
    let mut top = pty.start(&files, &["top", "--interval", "100ms"]);
    pty.shows("now by IN/S");
    pty.type_in("s");
    pty.shows("now by ERR/S");
    pty.type_in("?");
    pty.shows("LOCAL, REMOTE");
    pty.type_in("?");
    pty.shows("FUNCTION");
    // A wide terminal has more columns.
    pty.resize(120, 24);
    top.signal(Signal::WINCH);
    pty.shows("RETRIED");
    drop(running);
    pty.shows("not reached");
    let _running = start(&files, 8);
    pty.shows("pid 8");
    pty.type_in("q");
    pty.shows(LEFT);
    assert_eq!(top.0.wait().unwrap().code(), Some(0));
}

#[test]
fn without_colours_there_are_none() {
    let files = Files::new();
    let _running = start(&files, 7);
    let mut pty = Pty::new();
    let mut top = pty.start(&files, &["top", "--interval", "100ms", "--color", "never"]);
    pty.shows("now by IN/S");
    pty.type_in("q");
    top.0.wait().unwrap();
    assert!(!pty.drawn.lock().unwrap().contains("\u{1b}[1m"));
}

/// Calls a function until this was looked at.
fn under_load<T>(running: &app::Running<'_>, look: impl FnOnce() -> T) -> T {
    /// Also when the look fails.
    struct Stop<'s>(&'s AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                running.put("carts", "c-1", "apple", 1);
            }
        });
        let _stop = Stop(&is_over);
        look()
    })
}

/// What a view of the shop under load has to show and does not.
fn lacking(view: &Value) -> Vec<&'static str> {
    let first = |list: &str, name: &str, value: &str| -> Value {
        let list = view[list].as_array().unwrap();
        let found = list.iter().find(|one| one[name] == value);
        found.unwrap_or_else(|| panic!("{value}: {view}")).clone()
    };
    let cart = first("functions", "function", "shop/cart");
    let carts = first("ingresses", "ingress", "shop/carts");
    let hottest = &view["hottest"]["by_time"][0];
    let positive = [
        ("in", &cart["in_per_second"]),
        ("handler", &cart["handler_p99_ms"]),
        ("records", &carts["records_per_second"]),
        ("epochs", &view["epochs"]["per_second"]),
        ("epoch", &view["epochs"]["p99_ms"]),
        ("fsync", &view["epochs"]["fsync_p99_ms"]),
        ("log", &view["log"]["bytes"]),
        ("written", &view["log"]["written_bytes_per_second"]),
        ("memory", &view["process"]["resident_bytes"]),
        ("processor", &view["process"]["cpu_cores"]),
        ("files", &view["process"]["open_fds"]),
    ];
    let positive = positive
        .into_iter()
        .map(|(what, value)| (what, value.as_f64().is_some_and(|number| number > 0.0)));
    let others = [
        (
            "hottest",
            hottest["function"] == "shop/cart" && hottest["id"] == "c-1",
        ),
        ("workers", view["workers"]["count"] == 2),
        ("parked", cart["parked"] == 0),
    ];
    let all = positive.chain(others);
    all.filter(|(_, is_there)| !is_there)
        .map(|(what, _)| what)
        .collect()
}

#[test]
fn a_real_application_under_load() {
    let files = app::shop();
    let running = app::Running::start(&files);
    let mut view = Value::Null;
    under_load(&running, || {
        eventually("all of it is shown", || {
            let output = files
                .statefun(&["top", "--once", "--format", "json"])
                .ends(0);
            view = serde_json::from_str(&output.stdout).unwrap();
            let lacking = lacking(&view);
            if !lacking.is_empty() {
                eprintln!("not shown yet: {lacking:?}: {view}");
            }
            lacking.is_empty()
        });
    });
    let functions = view["functions"].as_array().unwrap();
    let idle = functions
        .iter()
        .find(|one| one["function"] == "shop/counter");
    assert_eq!(idle.unwrap()["in_per_second"], 0.0, "{view}");
    running.stop();
}
