//! Reading the directory of an application that does not run.

use super::app::{Running, called, data_dir, export, fill, shop};
use crate::support::Files;

#[test]
fn what_is_exported_is_the_same_whether_it_runs_or_not() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    let live = export(&files, &data_dir(&files));
    running.stop();
    let offline = export(&files, &data_dir(&files));
    assert_eq!(offline, live);
    let output = files.statefun(&["state", "ls"]).ends(0);
    assert!(
        output.stderr.contains("on which no application runs"),
        "{}",
        output.stderr
    );
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there() {
    let files = shop();
    let mut count = 0;
    for round in 0..6 {
        let running = Running::start(&files);
        for _ in 0..=round {
            count += 1;
            running.put("counts", "n", "x", count);
        }
        running.kill();
        let expected = format!(
            "{{\"function\":\"shop/counter\",\"id\":\"n\",\"states\":{{\"count\":{count}}}}}\n"
        );
        for _ in 0..2 {
            let output = files
                .statefun(&["state", "get", "shop/counter", "n", "--format", "json"])
                .ends(0);
            assert_eq!(output.stdout, expected);
        }
    }
    // Reading was no start, and the application goes on from there.
    let running = Running::start(&files);
    let status = files
        .statefun(&["state", "get", "shop/counter", "n"])
        .ends(0);
    assert!(status.stdout.contains(&count.to_string()));
    assert_eq!(attempts(&files), 7);
    running.stop();
}

/// How often the directory has been started, as the application says.
fn attempts(files: &Files) -> u64 {
    use std::io::{Read as _, Write as _};
    let mut stream =
        std::os::unix::net::UnixStream::connect(data_dir(files).join("admin.sock")).unwrap();
    stream
        .write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let body = text.split("\r\n\r\n").nth(1).unwrap();
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    status["attempt"].as_u64().unwrap()
}

#[test]
fn a_directory_without_data_is_named_and_stays_as_it_is() {
    let files = shop();
    let output = files.statefun(&["state", "ls"]).ends(1);
    assert!(
        output
            .stderr
            .contains("is no data directory of an application")
            && output.stderr.contains("statefun run"),
        "{}",
        output.stderr
    );
    assert!(!data_dir(&files).exists());
    std::fs::create_dir_all(data_dir(&files)).unwrap();
    files.statefun(&["state", "export"]).ends(1);
    assert_eq!(std::fs::read_dir(data_dir(&files)).unwrap().count(), 0);
}

#[test]
fn a_directory_in_use_that_does_not_answer_is_left_alone() {
    let files = shop();
    let running = Running::start(&files);
    running.put("counts", "n", "x", 1);
    std::fs::remove_file(data_dir(&files).join("admin.sock")).unwrap();
    let output = files.statefun(&["state", "ls"]).ends(2);
    assert!(output.stderr.contains("is in use by"), "{}", output.stderr);
    running.stop();
}

#[test]
fn two_directories_are_compared() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    running.stop();
    let backup = files.path().join("backup");
    copy(&data_dir(&files), &backup);
    let output = files.statefun(&["state", "diff", "backup"]).ends(0);
    assert!(
        output.stdout.is_empty() && output.stderr.contains("nothing differs"),
        "{}{}",
        output.stdout,
        output.stderr
    );
    let running = Running::start(&files);
    running.put("counts", "n", "x", 10);
    running.put("counts", "m", "x", 1);
    // One of them runs, and the other does not.
    let human = files.statefun(&["state", "diff", "backup"]).ends(0);
    insta::assert_snapshot!("diff", human.stdout);
    assert!(
        human.stderr.contains("after:  epoch") && human.stderr.contains("application that runs"),
        "{}",
        human.stderr
    );
    let json = ["state", "diff", "backup", "--format", "json"];
    let live = files.statefun(&json).ends(0).stdout;
    running.stop();
    assert_eq!(files.statefun(&json).ends(0).stdout, live);
    let mut lines: Vec<&str> = live.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"{"function":"shop/counter","id":"m","state":"count","change":"added","after":1}"#,
            r#"{"function":"shop/counter","id":"n","state":"count","change":"changed","before":9,"after":10}"#,
        ]
    );
    let back = [
        "state",
        "diff",
        ".statefun/data",
        "backup",
        "--function",
        "shop/counter",
        "--prefix",
        "m",
        "--format",
        "json",
    ];
    assert_eq!(
        files.statefun(&back).ends(0).stdout,
        "{\"function\":\"shop/counter\",\"id\":\"m\",\"state\":\"count\",\"change\":\"removed\",\"before\":1}\n"
    );
    let same = files.statefun(&["state", "diff", ".statefun/data"]).ends(1);
    assert!(
        same.stderr.contains("nothing to compare"),
        "{}",
        same.stderr
    );
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_application_itself_explains_its_import() {
    let files = shop();
    let help = called(files.path(), &["--help"]);
    assert!(help.stdout.contains("APP import FILE"), "{}", help.stdout);
}

#[test]
fn a_restore_that_did_not_end_has_no_state_to_show() {
    let files = shop();
    let running = Running::start(&files);
    running.put("counts", "n", "x", 1);
    running.stop();
    std::fs::write(data_dir(&files).join("restoring"), "").unwrap();
    let output = files.statefun(&["state", "ls"]).ends(2);
    assert!(
        output.stderr.contains("a restore that did not end"),
        "{}",
        output.stderr
    );
}
