//! What a new user waits for: `cargo run --release -p statefun-tests --bin first-run [-- --json] [--cached] [--dir DIR]`.
//!
//! Scaffolds an application from this checkout with `statefun new`, into an empty directory with an empty target directory
//! and, unless `--cached`, an empty cargo home; runs `statefun run --watch` there and calls the application with the `curl`
//! that it prints. Then changes one line of a function, again and again, and waits for an answer of the new code. What is
//! measured is what a person sees: from a command, or from saving a file, to an answer. The command line itself is built
//! before, and not counted.

use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};
use statefun_core::clock::Stopwatch;
use statefun_tests::process::{children_cpu_time, load};

type Failure = Box<dyn std::error::Error>;

/// What is aimed at, from `statefun new` to the first reply.
const AIM_FIRST: Duration = Duration::from_secs(90);
/// What is aimed at, from a changed line to a reply of the new code.
const AIM_CHANGE: Duration = Duration::from_secs(5);
/// How often a line is changed.
const CHANGES: usize = 5;
/// Longest time for anything.
const PATIENCE: Duration = Duration::from_mins(20);

/// The line that is changed, and where.
const FILE: &str = "src/functions.rs";
const LINE: &str = "0 | 1 =>";

struct Options {
    json: bool,
    /// Whether crates that were downloaded before are used.
    cached: bool,
    directory: Option<PathBuf>,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        json: false,
        cached: false,
        directory: None,
    };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--json" => options.json = true,
            "--cached" => options.cached = true,
            "--dir" => {
                options.directory = Some(rest.next().ok_or("--dir needs a directory")?.into());
            }
            other => {
                return Err(format!(
                    "`{other}` is not understood: first-run [--json] [--cached] [--dir DIR]"
                )
                .into());
            }
        }
    }
    Ok(options)
}

fn checkout() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the command line, and says where it is.
fn command_line() -> Result<PathBuf, Failure> {
    let mut command = cargo();
    command.args([
        "build",
        "--quiet",
        "--package",
        "statefun-cli",
        "--message-format",
        "json",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command
        .current_dir(checkout())
        .stderr(Stdio::inherit())
        .output()?;
    let program = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .find(|path| path.ends_with("statefun"));
    Ok(program.ok_or("the command line could not be built")?)
}

/// The environment of somebody who has just installed Rust: nothing that this process was started with changes the build.
fn clean(command: &mut Command, cargo_home: Option<&Path>) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let is_cargos = name.starts_with("CARGO") && name != "CARGO_HOME";
        if is_cargos
            || name.starts_with("STATEFUN_")
            || name.starts_with("RUSTFLAGS")
            || name == "RUSTC_WRAPPER"
        {
            command.env_remove(&*name);
        }
    }
    if let Some(home) = cargo_home {
        command.env("CARGO_HOME", home);
    }
}

/// An empty cargo home, but for the settings that lead to the registry.
fn cargo_home(directory: &Path) -> Result<PathBuf, Failure> {
    let fresh = directory.join("cargo-home");
    std::fs::create_dir_all(&fresh)?;
    let known = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    for name in ["config.toml", "config"] {
        if let Some(file) = known
            .as_ref()
            .map(|known| known.join(name))
            .filter(|file| file.is_file())
        {
            std::fs::copy(file, fresh.join(name))?;
        }
    }
    Ok(fresh)
}

/// The running `statefun run --watch`; it ends with this value.
struct Run {
    child: Child,
    lines: Receiver<String>,
    /// What was said so far, for when it fails.
    said: Vec<String>,
}

impl Run {
    fn start(mut command: Command) -> Result<Self, Failure> {
        let mut child = command
            // What a person sees is what it waits for.
            .env("STATEFUN_LOG_FORMAT", "human")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let (tell, lines) = channel();
        std::thread::Builder::new().spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            child,
            lines,
            said: Vec::new(),
        })
    }

    /// The next line that the application or cargo says.
    fn line(&mut self) -> Result<String, Failure> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.said.push(line.clone());
                Ok(line)
            }
            Err(RecvTimeoutError::Timeout) => Err(self.failed("nothing was said for a long time")),
            Err(RecvTimeoutError::Disconnected) => Err(self.failed("it ended")),
        }
    }

    fn failed(&self, what: &str) -> Failure {
        format!("`statefun run --watch`: {what}\n{}", self.said.join("\n")).into()
    }

    /// Processor time of all that it ran and that has ended: the builds.
    fn builds_cpu_time(&self) -> Duration {
        children_cpu_time(self.child.id())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        // It passes the signal on to the application, and ends with it.
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Runs a command of a shell as it is printed; none when it fails.
fn shell(command: &str) -> Option<String> {
    let output = Command::new("sh").args(["-c", command]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// What was measured until the first reply.
struct First {
    new: Duration,
    downloads: Duration,
    downloaded: usize,
    compiled: usize,
    ready: Duration,
    reply: Duration,
    cpu: Duration,
}

fn measure(
    options: &Options,
    statefun: &Path,
    directory: &Path,
) -> Result<(First, Vec<Duration>), Failure> {
    let home = (!options.cached)
        .then(|| cargo_home(directory))
        .transpose()?;
    let app = directory.join("hello");
    let watch = Stopwatch::start();
    let mut new = Command::new(statefun);
    new.arg("new")
        .arg(&app)
        .arg("--path-to-statefun")
        .arg(checkout());
    clean(&mut new, home.as_deref());
    let output = new.output()?;
    if !output.status.success() {
        return Err(format!(
            "`statefun new` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    let new = watch.elapsed();
    use_a_free_port(&app)?;
    let mut command = Command::new(statefun);
    command.args(["run", "--watch"]).current_dir(&app);
    clean(&mut command, home.as_deref());
    let mut run = Run::start(command)?;
    let (mut downloads, mut downloaded, mut compiled) = (watch.elapsed(), 0, 0);
    let mut curl = None;
    loop {
        let line = run.line()?;
        let text = line.trim_start();
        if text.starts_with("Compiling ") {
            compiled += 1;
            if compiled == 1 {
                downloads = watch.elapsed().saturating_sub(downloads);
            }
        } else if text.starts_with("Downloaded ") && text.contains(" v") {
            downloaded += 1;
        } else if let Some(command) = text.strip_prefix("try: ") {
            curl = Some(command.to_owned());
        } else if text.starts_with("ready") {
            break;
        } else if text.contains("waiting for a change") {
            return Err(run.failed("the application was not built"));
        }
    }
    let ready = watch.elapsed();
    let curl = curl.ok_or_else(|| run.failed("no example was printed"))?;
    shell(&curl).ok_or_else(|| run.failed(&format!("`{curl}` got no reply")))?;
    let first = First {
        new,
        downloads,
        downloaded,
        compiled,
        ready,
        reply: watch.elapsed(),
        cpu: run.builds_cpu_time(),
    };
    let mut changes = Vec::new();
    for number in 1..=CHANGES {
        changes.push(change(&app, &curl, number)?);
    }
    Ok((first, changes))
}

/// The port of the template may be taken on this machine.
fn use_a_free_port(app: &Path) -> Result<(), Failure> {
    let file = app.join("module.yaml");
    let text = std::fs::read_to_string(&file)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    Ok(std::fs::write(
        file,
        text.replace(":8080", &format!(":{port}")),
    )?)
}

/// From saving a line to a reply that shows it.
fn change(app: &Path, curl: &str, number: usize) -> Result<Duration, Failure> {
    let file = app.join(FILE);
    let text = std::fs::read_to_string(&file)?;
    let greeting = format!("Welcome number {number}");
    let new = format!("        0 | 1 => format!(\"{greeting}, {{name}}!\"),");
    let lines = text.lines().map(|line| {
        let is_it = line.trim_start().starts_with(LINE);
        if is_it { new.as_str() } else { line }
    });
    let changed = lines.collect::<Vec<_>>().join("\n") + "\n";
    if changed == text {
        return Err(format!("{FILE} of the template has no line `{LINE}`").into());
    }
    // Somebody new each time, who waits for the reply.
    let command = curl.replacen("/greets", "/greets?wait=5s", 1).replacen(
        "\"user_id\":\"",
        &format!("\"user_id\":\"{number}-"),
        1,
    );
    let watch = Stopwatch::start();
    std::fs::write(&file, changed)?;
    let mut asked = 0;
    while watch.elapsed() < PATIENCE {
        asked += 1;
        // While it restarts nothing listens. Each asks for a greeting of its own, since it is the first that is changed.
        let one = command.replacen(&format!("{number}-"), &format!("{number}-{asked}-"), 1);
        if shell(&one).is_some_and(|reply| reply.contains(&greeting)) {
            return Ok(watch.elapsed());
        }
    }
    Err(format!("the changed line was not seen; asked with `{command}`").into())
}

fn print(
    options: &Options,
    loads: (f64, f64),
    first: &First,
    changes: &[Duration],
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let cores = std::thread::available_parallelism()?.get();
    let mut sorted = changes.to_vec();
    sorted.sort();
    let (median, longest) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    let seconds = |duration: &Duration| (duration.as_secs_f64() * 1_000.0).round() / 1_000.0;
    if options.json {
        let all = json!({
            "cores": cores,
            "load_before": loads.0,
            "load_after": loads.1,
            "registry_cached": options.cached,
            "crates_downloaded": first.downloaded,
            "crates_compiled": first.compiled,
            "new_s": seconds(&first.new),
            "index_and_downloads_s": seconds(&first.downloads),
            "ready_s": seconds(&first.ready),
            "new_to_first_reply_s": seconds(&first.reply),
            "build_cpu_s": seconds(&first.cpu),
            "change_to_reply_s": {"median": seconds(&median), "longest": seconds(&longest), "all": changes.iter().map(seconds).collect::<Vec<_>>()},
            "aims": {"new_to_first_reply_s": AIM_FIRST.as_secs(), "change_to_reply_s": AIM_CHANGE.as_secs()},
        });
        return Ok(writeln!(out, "{all:#}")?);
    }
    let met = |measured: Duration, aim: Duration| {
        let word = if measured < aim { "met" } else { "missed" };
        format!("aim < {} s: {word}", aim.as_secs())
    };
    let downloads = if options.cached {
        "none: --cached".to_owned()
    } else {
        format!(
            "{} in {:.1} s, with the index",
            first.downloaded,
            first.downloads.as_secs_f64()
        )
    };
    writeln!(
        out,
        "first run: {cores} cores, load {:.2} before and {:.2} after",
        loads.0, loads.1
    )?;
    writeln!(out, "  crates downloaded            {downloads}")?;
    writeln!(
        out,
        "  crates compiled              {}, in {:.1} s of processor time",
        first.compiled,
        first.cpu.as_secs_f64()
    )?;
    writeln!(
        out,
        "  statefun new to first reply  {:.1} s ({})",
        first.reply.as_secs_f64(),
        met(first.reply, AIM_FIRST)
    )?;
    writeln!(
        out,
        "  a changed line to its reply  {:.2} s, median of {}; longest {:.2} s ({})",
        median.as_secs_f64(),
        changes.len(),
        longest.as_secs_f64(),
        met(longest, AIM_CHANGE)
    )?;
    Ok(())
}

fn run() -> Result<(), Failure> {
    let options = options()?;
    let statefun = command_line()?;
    let directory = match &options.directory {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let before = load();
    let (first, changes) = measure(&options, &statefun, directory.path())?;
    print(&options, (before, load()), &first, &changes)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "first-run: {failure}");
            ExitCode::FAILURE
        }
    }
}
