//! Each template, as `new` makes it: it compiles without a warning, its wiring is right, its commands are those of its README.

use std::process::Command;

use crate::support::{Files, checkout, statefun, target_directory};

fn cargo(directory: &std::path::Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(directory)
        .env("CARGO_TARGET_DIR", target_directory())
        .env("CARGO_TERM_COLOR", "never")
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "cargo {}: {stderr}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout)
    );
    stderr
}

fn check(template: &str) {
    let files = Files::new();
    let name = format!("my-{template}");
    files
        .statefun(&["new", &name, "--template", template])
        .ends(0);
    let directory = files.path().join(&name);
    // The versions that were built for this test already.
    std::fs::copy(checkout().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    cargo(&directory, &["fmt", "--check"]);
    let said = cargo(&directory, &["check", "--tests", "--offline"]);
    assert!(!said.contains("--> src/"), "warnings of its own:\n{said}");

    let output = statefun(
        &directory,
        &[
            "validate",
            "--manifest-path",
            "Cargo.toml",
            "--format",
            "json",
            "--no-build",
        ],
    );
    assert_eq!(output.code, 2, "it was never built:\n{}", output.stderr);
    let module = directory.join("module.yaml");
    let output = statefun(
        files.path(),
        &["validate", "--module", module.to_str().unwrap()],
    )
    .ends(0);
    assert_eq!(output.stdout, "", "findings");

    // What the README tells to send can be sent: with nobody there, the only mistake is that.
    let readme = files.read(&format!("{name}/README.md"));
    for line in readme
        .lines()
        .filter_map(|line| line.trim().strip_prefix("statefun "))
    {
        if !line.starts_with("send") && !line.starts_with("call") {
            continue;
        }
        let sent = format!(
            "'{}' {line} --url http://127.0.0.1:9",
            env!("CARGO_BIN_EXE_statefun")
        );
        let output = Command::new("sh")
            .args(["-c", &sent])
            .current_dir(&directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains("nothing listens on 127.0.0.1:9"),
            "{line}: {said}"
        );
    }
}

#[test]
fn minimal() {
    check("minimal");
}

#[test]
fn greeter() {
    check("greeter");
}

#[test]
fn ride_sharing() {
    check("ride-sharing");
}
