//! Help that teaches, wrong calls, completions.

use crate::support::Files;

#[test]
fn every_command_explains_itself() {
    let files = Files::new();
    let calls: &[&[&str]] = &[
        &["--help"],
        &["new", "--help"],
        &["validate", "--help"],
        &["run", "--help"],
        &["graph", "--help"],
        &["build-image", "--help"],
        &["send", "--help"],
        &["call", "--help"],
        &["top", "--help"],
        &["parked", "--help"],
        &["parked", "ls", "--help"],
        &["parked", "drop", "--help"],
        &["state", "--help"],
        &["state", "ls", "--help"],
        &["state", "get", "--help"],
        &["state", "top", "--help"],
        &["state", "export", "--help"],
        &["state", "diff", "--help"],
        &["state", "import", "--help"],
        &["state", "migrate", "--help"],
        &["checkpoint", "--help"],
        &["checkpoint", "create", "--help"],
        &["checkpoint", "ls", "--help"],
        &["checkpoint", "verify", "--help"],
        &["checkpoint", "restore", "--help"],
        &["checkpoint", "rm", "--help"],
        &["completions", "--help"],
    ];
    for call in calls {
        let name = format!("help {}", call.join(" ").replace("--help", ""))
            .trim()
            .replace(' ', "_");
        insta::assert_snapshot!(name, files.shown(call));
    }
}

#[test]
fn wrong_calls_are_usage_errors() {
    let files = Files::new();
    let calls: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["new"],
        &["validate", "--format", "xml"],
        &["call", "x", "{}", "--wait", "5"],
        &["parked"],
        &["parked", "retry", "example/greeter"],
        &["state"],
        &["state", "get", "example/greeter"],
        &["state", "top", "--by", "age"],
        &["state", "diff", "a", "--prefix", "x"],
        &["state", "diff", "a", "b", "--data-dir", "c"],
        &["state", "diff", "a", "b", "--url", "http://127.0.0.1:9"],
        &["state", "import", "a", "--url", "http://127.0.0.1:9"],
        &["parked", "ls", "--url", "127.0.0.1:9464"],
        &["parked", "ls", "--url", "http://h:1", "--data-dir", "d"],
        &["parked", "--data-dir", "d", "ls", "--url", "http://h:1"],
        &["checkpoint", "rm", "a", "--url", "s3://bucket/shop"],
        &["checkpoint", "create", "--url", "s3://bucket/shop"],
        &["state", "import"],
        &["state", "migrate"],
        &["checkpoint"],
        &["checkpoint", "restore"],
        &["checkpoint", "rm"],
        &["build-image"],
        &["build-image", "--output", "hello.tar"],
        &["build-image", "--output", "zip:hello"],
        &["run", "--replace"],
        &["run", "--watch", "--restore", "latest"],
        &["completions", "tcsh"],
        &["--color", "maybe", "graph"],
    ];
    for call in calls {
        let output = files.statefun(call).ends(2);
        assert_eq!(output.stdout, "", "{call:?}");
        assert!(
            output.stderr.contains("Usage") || output.stderr.contains("error"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn the_version_is_printed() {
    let output = Files::new().statefun(&["--version"]).ends(0);
    assert_eq!(
        output.stdout,
        format!("statefun {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_know_the_commands() {
    let files = Files::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = files.statefun(&["completions", shell]).ends(0);
        for word in ["validate", "parked", "idempotency-key"] {
            assert!(output.stdout.contains(word), "{shell}: {word}");
        }
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    use std::io::Read as _;
    use std::process::Stdio;

    let files = Files::new();
    let mut child = crate::support::command(files.path(), &["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(
        (child.wait().unwrap().code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn colours_only_where_they_are_wanted() {
    let files = Files::new().with("module.yaml", "kind: nonsense\n");
    let stdout = |arguments: &[&str]| files.statefun(arguments).ends(1).stdout;
    assert!(!stdout(&["validate"]).contains('\u{1b}'));
    assert!(stdout(&["validate", "--color", "always"]).contains('\u{1b}'));
}
