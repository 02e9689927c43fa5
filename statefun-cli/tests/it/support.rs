//! Calling the command, and applications that are made up for it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use statefun_core::module::description::{
    DESCRIPTION_VERSION, Description, EgressUse, FunctionDescription, MessageDescription,
    MessageFormat, RouterDescription,
};
use statefun_core::shape::Shape;
use tempfile::TempDir;

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// The command, ready to be called in a directory.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statefun"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("COLUMNS", "80")
        .env("LC_ALL", "C.UTF-8");
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("STATEFUN_")) {
        command.env_remove(name);
    }
    for name in [
        "NO_COLOR",
        "CARGO_TARGET_DIR",
        "CARGO_TERM_COLOR",
        "RUSTFLAGS",
        "SOURCE_DATE_EPOCH",
    ] {
        command.env_remove(name);
    }
    command
}

/// Calls the command with a text on standard input.
pub(crate) fn statefun_reading(directory: &Path, arguments: &[&str], input: &str) -> Output {
    called(command(directory, arguments), input)
}

fn called(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who does not read it may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Calls the command.
pub(crate) fn statefun(directory: &Path, arguments: &[&str]) -> Output {
    statefun_reading(directory, arguments, "")
}

/// A directory with files.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn with(self, file: &str, text: &str) -> Self {
        self.write(file, text);
        self
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path().join(file)).unwrap_or_default()
    }

    /// Calls the command in it.
    pub(crate) fn statefun(&self, arguments: &[&str]) -> Output {
        statefun(self.path(), arguments)
    }

    /// Calls the command in it, with these variables.
    pub(crate) fn statefun_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut command = command(self.path(), arguments);
        command.envs(environment.iter().copied());
        called(command, "")
    }

    /// A call as a snapshot has it: without what differs between machines and runs.
    pub(crate) fn shown(&self, arguments: &[&str]) -> String {
        let output = self.statefun(arguments);
        let mut text = String::new();
        let _ = writeln!(text, "$ statefun {}", arguments.join(" "));
        let _ = writeln!(text, "exit {}", output.code);
        for (name, stream) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let lines: Vec<&str> = stream.lines().filter(|line| !is_of_cargo(line)).collect();
            if !lines.is_empty() {
                let _ = writeln!(text, "--- {name}\n{}", lines.join("\n"));
            }
        }
        self.generalized(&text)
    }

    /// Without the directory's name.
    pub(crate) fn generalized(&self, text: &str) -> String {
        let canonical = self.path().canonicalize().unwrap();
        text.replace(canonical.to_str().unwrap(), "[DIR]")
            .replace(self.path().to_str().unwrap(), "[DIR]")
    }
}

/// Progress of cargo, which depends on what was built before.
fn is_of_cargo(line: &str) -> bool {
    [
        "Compiling ",
        "Finished ",
        "Blocking ",
        "Updating ",
        "Locking ",
    ]
    .iter()
    .any(|word| line.trim_start().starts_with(word))
}

/// A program that behaves like an application, without the engine, so that it builds in no time.
const FAKE: &str = r#"
use std::io::Write as _;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("describe") => println!("{}", include_str!("../description.json")),
        Some("run") => run(&arguments[1..]),
        other => panic!("{other:?}"),
    }
}

fn run(arguments: &[String]) {
    let mut log = std::fs::File::options().create(true).append(true).open("runs.log").unwrap();
    writeln!(log, "VERSION-1 {arguments:?} in {}", std::env::current_dir().unwrap().display()).unwrap();
    println!("running");
    if let Some(at) = arguments.iter().position(|argument| argument == "--exit") {
        std::process::exit(arguments[at + 1].parse().unwrap());
    }
    loop {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
"#;

/// The directory of an application that says that of itself.
pub(crate) fn application(description: &str) -> Files {
    Files::new()
        .with("Cargo.toml", "[package]\nname = \"fake-app\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n")
        .with("src/main.rs", FAKE)
        .with("description.json", description)
}

/// What the code of a small application declares: a router and two functions.
pub(crate) fn greeter() -> Description {
    let message = |name: &str| MessageDescription {
        typename: name.to_owned(),
        format: MessageFormat::Json,
        shape: Shape::String,
    };
    let function =
        |name: &str, accepts: &str, sends: &[&str], egress: Vec<EgressUse>| FunctionDescription {
            typename: name.to_owned(),
            accepts: vec![accepts.to_owned()],
            sends: sends.iter().map(|name| (*name).to_owned()).collect(),
            egress,
            states: Vec::new(),
            dynamic_sends: false,
        };
    let emails = EgressUse {
        id: "example/emails".to_owned(),
        message: "example/Email".to_owned(),
        format: MessageFormat::Json,
    };
    Description {
        version: DESCRIPTION_VERSION,
        core_version: env!("CARGO_PKG_VERSION").to_owned(),
        functions: vec![
            function("example/email-sender", "example/Email", &[], vec![emails]),
            function(
                "example/greeter",
                "example/Greet",
                &["example/email-sender"],
                Vec::new(),
            ),
        ],
        routers: vec![RouterDescription {
            name: "greets".to_owned(),
            ingress: None,
            message: "example/Greet".to_owned(),
            to: vec!["example/greeter".to_owned()],
        }],
        messages: vec![message("example/Email"), message("example/Greet")],
        ..Description::default()
    }
}

pub(crate) fn json(description: &Description) -> String {
    serde_json::to_string_pretty(description).unwrap()
}

/// The wiring that fits [`greeter`].
pub(crate) const WIRING: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: example/greets
  path: /greets
  valueType: example/Greet
  routers: [greets]
---
kind: io.statefun.file.v1/egress
spec:
  id: example/emails
  path: emails.jsonl
";

/// Waits until something holds; fails the test when it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: it did not come to that within two minutes");
}

/// Where cargo built the command, so that scaffolded applications need not be built from nothing.
pub(crate) fn target_directory() -> PathBuf {
    let executable = Path::new(env!("CARGO_BIN_EXE_statefun"));
    executable
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .to_path_buf()
}

/// The checkout that is tested.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}
