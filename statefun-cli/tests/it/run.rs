//! `statefun run`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use crate::support::{Files, WIRING, application, command, eventually, greeter, json, statefun};

fn runnable() -> Files {
    application(&json(&greeter())).with("module.yaml", WIRING)
}

/// The command while it runs; it ends with the test.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("TERM");
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(files: &Files, arguments: &[&str]) -> Self {
        let mut command = command(files.path(), arguments);
        let stderr = std::fs::File::create(files.path().join("stderr.log")).unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Waits for the application's next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let _ = std::process::Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .stderr(Stdio::null())
            .status();
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn the_exit_code_is_the_applications() {
    let files = runnable();
    for code in ["0", "1", "7"] {
        let output = files.statefun(&["run", "--", "--exit", code]);
        assert_eq!(
            (output.code.to_string().as_str(), output.stdout.as_str()),
            (code, "running\n"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn an_application_that_was_killed_is_told_of() {
    let files = runnable();
    let mut running = Running::start(&files, &["run"]);
    assert_eq!(running.line(), "running\n");
    let id = running.child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-KILL", children.trim()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(running.code(), Some(137));
    let said = files.read("stderr.log");
    assert!(said.contains("signal 9 ended the application"), "{said}");
}

#[test]
fn flags_reach_the_application_which_runs_in_its_directory() {
    let files = runnable().with("other.yaml", WIRING);
    let root = files.path().canonicalize().unwrap().display().to_string();
    let below = files.path().join("src");
    let last = || files.read("runs.log").lines().last().unwrap().to_owned();
    let flags = [
        "run",
        "--workers",
        "3",
        "--data-dir",
        "data",
        "--",
        "--exit",
        "5",
    ];
    files.statefun(&flags).ends(5);
    let expected = r#"["--data-dir", "data", "--workers", "3", "--exit", "5"]"#;
    assert_eq!(last(), format!("VERSION-1 {expected} in {root}"));
    // From elsewhere, paths still mean what they meant there.
    statefun(&below, &flags).ends(5);
    let expected = format!(r#"["--data-dir", "{root}/src/data", "--workers", "3", "--exit", "5"]"#);
    assert_eq!(last(), format!("VERSION-1 {expected} in {root}"));
    statefun(
        &below,
        &["run", "--module", "../other.yaml", "--", "--exit", "0"],
    )
    .ends(0);
    assert!(last().contains("/other.yaml"), "{}", last());
}

#[test]
fn wrong_wiring_and_broken_code_do_not_start() {
    let files = runnable().with("module.yaml", "kind: nonsense\nspec: {}\n");
    let output = files.statefun(&["run"]).ends(1);
    assert!(
        output.stdout.is_empty() && output.stderr.contains("SF0202"),
        "{}",
        output.stderr
    );
    assert!(
        !files.path().join("target").exists(),
        "nothing is built for wrong wiring"
    );
    files.write("module.yaml", WIRING);
    files.write("src/main.rs", "fn main( {");
    let output = files.statefun(&["run"]).ends(1);
    assert!(
        output.stdout.is_empty() && output.stderr.contains("could not compile"),
        "{}",
        output.stderr
    );
    assert_eq!(files.read("runs.log"), "");
    let output = Files::new()
        .with("module.yaml", WIRING)
        .statefun(&["run"])
        .ends(2);
    assert!(output.stderr.contains("statefun new"), "{}", output.stderr);
}

#[test]
fn signals_reach_the_application() {
    let files = runnable();
    let mut running = Running::start(&files, &["run", "--workers", "2"]);
    assert_eq!(running.line(), "running\n");
    assert!(files.read("runs.log").contains("[\"--workers\", \"2\"]"));
    running.signal("TERM");
    assert_eq!(running.code(), Some(128 + 15));
}

#[test]
fn watching_restarts_on_changes_and_keeps_what_runs_when_they_are_wrong() {
    let files = runnable();
    let source = files.read("src/main.rs");
    let mut running = Running::start(&files, &["run", "--watch"]);
    assert_eq!(running.line(), "running\n");
    let said = |text: &str, times: usize| {
        eventually(&format!("{text} × {times}"), || {
            files.read("stderr.log").matches(text).count() == times
        });
    };

    files.write("src/main.rs", &source.replace("VERSION-1", "VERSION-22"));
    assert_eq!(running.line(), "running\n");
    assert!(
        files
            .read("runs.log")
            .lines()
            .last()
            .unwrap()
            .starts_with("VERSION-22")
    );

    files.write("src/main.rs", "fn main( {");
    said("what ran before goes on", 1);
    files.write("module.yaml", "kind: nonsense\nspec: {}\n");
    said("what ran before goes on", 2);
    assert!(files.read("stderr.log").contains("SF0202"));
    files.write("module.yaml", WIRING);
    said("what ran before goes on", 3);

    // Back to what runs: nothing is restarted for that, or what is built is the same again.
    files.write("src/main.rs", &source.replace("VERSION-1", "VERSION-333"));
    assert_eq!(running.line(), "running\n");
    assert!(
        files
            .read("runs.log")
            .lines()
            .last()
            .unwrap()
            .starts_with("VERSION-333")
    );

    // What it reads at its start restarts it as well; a file that nobody reads does not.
    let starts = files.read("runs.log").lines().count();
    files.write("src/notes.txt", "no code");
    said("no difference", 1);
    assert_eq!(files.read("runs.log").lines().count(), starts);
    files.write("statefun.yaml", "workers: 1\n");
    assert_eq!(running.line(), "running\n");
    assert_eq!(files.read("runs.log").lines().count(), starts + 1);

    running.signal("TERM");
    assert_eq!(running.code(), Some(128 + 15));
}

#[test]
fn watching_survives_an_application_that_ends() {
    let files = runnable();
    let mut running = Running::start(&files, &["run", "--watch", "--", "--exit", "4"]);
    assert_eq!(running.line(), "running\n");
    eventually("the end is said", || {
        files
            .read("stderr.log")
            .contains("ended with code 4; waiting for a change")
    });
    files.write("statefun.yaml", "workers: 1\n");
    assert_eq!(running.line(), "running\n");
    eventually("the second end is said", || {
        files
            .read("stderr.log")
            .matches("ended with code 4")
            .count()
            == 2
    });
    running.signal("TERM");
    assert_eq!(running.code(), Some(0));
}
