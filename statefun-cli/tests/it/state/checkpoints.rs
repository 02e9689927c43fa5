//! `statefun checkpoint`, and `migrate` of the application's binary.

use super::app::{Running, called, data_dir, export, fill, shop};
use crate::support::Files;

fn json(files: &Files, arguments: &[&str]) -> serde_json::Value {
    let output = files
        .statefun(&[arguments, &["--format", "json"]].concat())
        .ends(0);
    serde_json::from_str(&output.stdout).unwrap()
}

fn names(files: &Files) -> Vec<String> {
    let listed = json(files, &["checkpoint", "ls"]);
    let entries = listed["checkpoints"].as_array().unwrap();
    let name = |entry: &serde_json::Value| entry["name"].as_str().unwrap_or("").to_owned();
    entries.iter().map(name).collect()
}

#[test]
fn checkpoints_are_made_listed_checked_copied_and_removed() {
    let files = shop().with("statefun.yaml", "checkpoint:\n  url: kept\n");
    let none = files.statefun(&["checkpoint", "ls"]).ends(0);
    assert!(
        none.stderr.contains("there are no checkpoints"),
        "{}",
        none.stderr
    );
    let absent = files.statefun(&["checkpoint", "create", "x"]).ends(2);
    assert!(
        absent.stderr.contains("no application runs"),
        "{}",
        absent.stderr
    );

    let running = Running::start(&files);
    fill(&running);
    let then = export(&files, &data_dir(&files));
    let made = files.statefun(&["checkpoint", "create", "monday"]).ends(0);
    assert_eq!(made.stdout, "monday\n");
    let taken = files.statefun(&["checkpoint", "create", "monday"]).ends(1);
    assert!(
        taken.stderr.contains("statefun checkpoint rm monday"),
        "{}",
        taken.stderr
    );
    running.put("counts", "n", "x", 10);
    files.statefun(&["checkpoint", "create"]).ends(0);
    assert_eq!(names(&files), ["monday", ""]);
    let shown = files.statefun(&["checkpoint", "ls"]).ends(0).stdout;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("CHECKPOINT"), "{shown}");
    assert!(lines[1].ends_with("newest"), "{shown}");
    assert!(
        lines[2].starts_with("monday (") && lines[2].ends_with("until removed"),
        "{shown}"
    );
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{shown}"
    );

    let fine = files.statefun(&["checkpoint", "verify"]).ends(0);
    assert!(fine.stderr.contains("all is well"), "{}", fine.stderr);

    // A copy has the state of then, and does not make the application stop.
    files
        .statefun(&["checkpoint", "restore", "monday", "--data-dir", "copy"])
        .ends(0);
    let copy = files.path().join("copy");
    assert_eq!(export(&files, &copy), then);
    let again = ["checkpoint", "restore", "monday", "--data-dir", "copy"];
    let refused = files.statefun(&again).ends(1);
    assert!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    files
        .statefun(&[&again[..], &["--replace"]].concat())
        .ends(0);
    let started = called(files.path(), &["run", "--data-dir", "copy"]).ends(1);
    assert!(
        started.stderr.contains("is a copy of checkpoint"),
        "{}",
        started.stderr
    );
    running.put("counts", "n", "x", 11);

    files.statefun(&["checkpoint", "rm", "monday"]).ends(0);
    assert_eq!(names(&files), [""]);
    let newest = json(&files, &["checkpoint", "ls"])["checkpoints"][0]["id"].clone();
    let kept = files
        .statefun(&["checkpoint", "rm", newest.as_str().unwrap()])
        .ends(1);
    assert!(kept.stderr.contains("newest"), "{}", kept.stderr);
    let unknown = files.statefun(&["checkpoint", "rm", "sunday"]).ends(1);
    assert!(
        unknown.stderr.contains("there is no checkpoint `sunday`"),
        "{}",
        unknown.stderr
    );
    running.stop();

    // What is damaged is named.
    let runs = files.path().join("kept/runs");
    let run = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(run.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(run.path(), bytes).unwrap();
    let damaged = files.statefun(&["checkpoint", "verify"]).ends(1);
    let name = run.file_name().into_string().unwrap();
    assert!(damaged.stdout.contains(&name), "{}", damaged.stdout);
    let not_restored = files
        .statefun(&["checkpoint", "restore", "latest", "--data-dir", "other"])
        .ends(1);
    assert!(
        not_restored.stderr.contains(&name),
        "{}",
        not_restored.stderr
    );
    // A directory that was not made completely is none.
    let unfinished = called(files.path(), &["run", "--data-dir", "other"]).ends(1);
    assert!(
        unfinished.stderr.contains("--restore"),
        "{}",
        unfinished.stderr
    );
}

#[test]
fn a_dry_run_reads_the_newest_checkpoint_or_the_directory() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    let busy = called(files.path(), &["migrate", "--dry-run"]).ends(1);
    assert!(busy.stderr.contains("in use"), "{}", busy.stderr);
    running.stop();
    let read = called(files.path(), &["migrate", "--dry-run"]).ends(0);
    assert!(
        read.stdout.contains("0 of 4 addresses would fail"),
        "{}",
        read.stdout
    );

    files.write("statefun.yaml", "checkpoint:\n  url: kept\n");
    let none = called(files.path(), &["migrate", "--dry-run"]).ends(1);
    assert!(
        none.stderr.contains("there is no checkpoint"),
        "{}",
        none.stderr
    );
    let running = Running::start(&files);
    files.statefun(&["checkpoint", "create", "monday"]).ends(0);
    let report = called(
        files.path(),
        &["migrate", "--dry-run", "--json", "--checkpoint", "monday"],
    )
    .ends(0);
    let start = report.stdout.find('{').unwrap();
    let report: serde_json::Value = serde_json::from_str(&report.stdout[start..]).unwrap();
    assert_eq!(report["addresses"], 4);
    assert_eq!(report["failingAddresses"], 0);
    running.stop();
    let needed = called(files.path(), &["migrate"]).ends(2);
    assert!(needed.stderr.contains("--dry-run"), "{}", needed.stderr);
}
