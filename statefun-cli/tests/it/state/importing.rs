//! Lines that become the state of an application.

use super::app::{Running, called, data_dir, export, fill, process, shop};
use crate::support::{Files, statefun_reading};

/// A package whose program is this one, so that nothing has to be built.
fn with_package(files: Files) -> Files {
    let program = std::env::current_exe().unwrap();
    let program = program.to_str().unwrap();
    let main = format!(
        r#"use std::os::unix::process::CommandExt as _;
fn main() {{
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let error = std::process::Command::new({program:?})
        .args(["state::app::application", "--exact", "--ignored", "--nocapture", "--quiet"])
        .env("STATE_TEST_ARGUMENTS", arguments.join("\u{{1f}}"))
        .exec();
    panic!("{{error}}");
}}
"#
    );
    files
        .with(
            "Cargo.toml",
            "[package]\nname = \"shop\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
        )
        .with("src/main.rs", &main)
}

#[test]
fn what_is_imported_is_what_was_exported_and_functions_see_it() {
    let files = with_package(shop());
    let running = Running::start(&files);
    fill(&running);
    let exported = export(&files, &data_dir(&files));
    running.stop();
    files.write("state.jsonl", &exported);
    let output = files
        .statefun(&["state", "import", "state.jsonl", "--data-dir", "fresh"])
        .ends(0);
    assert!(
        output.stderr.contains("imported: 4 addresses with"),
        "{}",
        output.stderr
    );
    assert_eq!(export(&files, &files.path().join("fresh")), exported);

    // In place of what was there, for an application that runs again.
    std::fs::remove_dir_all(data_dir(&files)).unwrap();
    let output = statefun_reading(files.path(), &["state", "import", "-"], &exported).ends(0);
    assert!(output.stderr.contains("imported: 4"), "{}", output.stderr);
    let running = Running::start(&files);
    assert_eq!(export(&files, &data_dir(&files)), exported);
    running.put("carts", "c-2", "fig", 1);
    let shown = files
        .statefun(&["state", "get", "shop/cart", "c-2", "--format", "json"])
        .ends(0);
    assert!(
        shown.stdout.contains(r#""log":["put apple","put fig"]"#)
            && shown.stdout.contains(r#""total":4"#),
        "{}",
        shown.stdout
    );
    running.kill();
    let output = files.statefun(&["state", "import", "state.jsonl"]).ends(1);
    assert!(
        output.stderr.contains("nothing was imported")
            && output.stderr.contains("has state already"),
        "{}",
        output.stderr
    );
    files
        .statefun(&["state", "import", "state.jsonl", "--replace"])
        .ends(0);
    assert_eq!(export(&files, &data_dir(&files)), exported);
    let running = Running::start(&files);
    assert_eq!(export(&files, &data_dir(&files)), exported);
    running.stop();
}

const LINE: &str = r#"{"function":"shop/counter","id":"n","states":{"count":7}}"#;

#[test]
fn wrong_lines_leave_nothing_behind() {
    let files = shop().with(
        "wrong.jsonl",
        &format!("{LINE}\n{}\nnonsense\n", LINE.replace('7', "-7")),
    );
    let output = called(files.path(), &["import", "wrong.jsonl"]).ends(1);
    for expected in [
        "nothing was imported: wrong.jsonl is wrong",
        "line 2: `states.count`: expected u64, found -7",
        "line 3: it is not JSON",
    ] {
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
    assert!(!data_dir(&files).exists());
    called(files.path(), &["import", "nowhere.jsonl"]).ends(1);
    called(files.path(), &["import"]).ends(2);
}

#[test]
fn a_dry_run_writes_nothing() {
    let files = shop().with("state.jsonl", LINE);
    let output = called(files.path(), &["import", "state.jsonl", "--dry-run"]).ends(0);
    assert!(
        output
            .stderr
            .contains("they would give 1 address with 1 rows"),
        "{}",
        output.stderr
    );
    assert!(!data_dir(&files).exists());
    called(files.path(), &["import", "state.jsonl"]).ends(0);
    called(files.path(), &["import", "state.jsonl", "--dry-run"]).ends(1);
    let output = called(
        files.path(),
        &["import", "state.jsonl", "--dry-run", "--replace"],
    )
    .ends(0);
    assert!(
        output.stderr.contains("1 of which had state before"),
        "{}",
        output.stderr
    );
}

#[test]
fn nothing_is_restored_before_an_import() {
    let files = shop()
        .with("statefun.yaml", "checkpoint:\n  url: kept\n")
        .with("state.jsonl", LINE);
    let running = Running::start(&files);
    running.put("counts", "m", "x", 1);
    files.statefun(&["checkpoint", "create", "monday"]).ends(0);
    running.put("counts", "m", "x", 2);
    running.stop();
    let mut import = process(files.path(), &["import", "state.jsonl", "--replace"]);
    import.env("STATEFUN_RESTORE", "monday");
    let output = import.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let exported = export(&files, &data_dir(&files));
    let mut lines: Vec<&str> = exported.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            LINE.replace("\"n\"", "\"m\"").replace('7', "2"),
            LINE.to_owned()
        ]
    );
    // The next checkpoint has what was imported, too.
    let running = Running::start(&files);
    files.statefun(&["checkpoint", "create", "tuesday"]).ends(0);
    running.stop();
    let kept = ["state", "export", "--checkpoint", "tuesday"];
    assert_eq!(files.statefun(&kept).ends(0).stdout, exported);
}

#[test]
fn an_application_that_runs_is_not_given_state() {
    let files = shop().with("state.jsonl", LINE);
    let running = Running::start(&files);
    let output = called(files.path(), &["import", "state.jsonl"]).ends(1);
    assert!(output.stderr.contains("is in use by"), "{}", output.stderr);
    called(files.path(), &["import", "state.jsonl", "--dry-run"]).ends(2);
    running.stop();
}
