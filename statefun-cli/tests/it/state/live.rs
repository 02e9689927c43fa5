//! Asking the application that runs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::{Value, json};

use super::app::{Running, data_dir, export, fill, shop};
use crate::support::{command, statefun};

/// Without what differs between runs.
fn steady(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    // Epochs, and the time of an expiry.
    let next = |rest: &str| {
        let places = ["epoch ", "expires 20"].map(|word| rest.find(word));
        places.into_iter().flatten().min()
    };
    while let Some(at) = next(rest) {
        let word = rest[at..].find(' ').unwrap() + at + 1;
        let end = rest[word..]
            .find([',', ')', '\n'])
            .map_or(rest.len(), |end| end + word);
        out.push_str(&rest[..word]);
        out.push_str("[…]");
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[test]
fn what_there_is_is_listed_and_shown() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    for (name, arguments) in [
        ("ls", &["state", "ls"][..]),
        ("ls_addresses", &["state", "ls", "shop/cart"]),
        (
            "ls_prefix",
            &["state", "ls", "shop/cart", "c-", "--limit", "1"],
        ),
        ("top", &["state", "top", "--by", "rows", "--limit", "2"]),
        ("get", &["state", "get", "shop/cart", "c-1"]),
        ("get_absent", &["state", "get", "shop/cart", "c-9"]),
        ("get_unknown", &["state", "get", "shop/crat", "c-1"]),
    ] {
        let shown = files.shown(arguments);
        insta::assert_snapshot!(name, steady(&shown));
        for line in shown.lines().filter(|line| !line.contains("epoch")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    running.stop();
}

#[test]
fn what_was_acknowledged_is_in_the_next_answer() {
    let files = shop();
    let running = Running::start(&files);
    for count in 1..=40 {
        running.put("counts", "n", "x", count);
        let output = files
            .statefun(&["state", "get", "shop/counter", "n", "--format", "json"])
            .ends(0);
        let line: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(
            line,
            json!({"function": "shop/counter", "id": "n", "states": {"count": count}})
        );
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn lists_for_programs_are_lines_of_json() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let output = files.statefun(arguments).ends(0);
        let lines = output.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let functions = lines(&["state", "ls", "--format", "json"]);
    assert_eq!(functions[0]["function"], "shop/cart");
    assert_eq!(functions[0]["addresses"], 3);
    let addresses = lines(&["state", "ls", "shop/cart", "--format", "json"]);
    let ids: Vec<&Value> = addresses.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, ["c-1", "c-2", "odd id \u{e9}"]);
    let top = lines(&["state", "top", "shop/cart", "--format", "json"]);
    assert_eq!(top[0]["id"], "c-1");
    assert!(top.iter().all(|line| line["bytes"].as_u64() > Some(100)));
}

#[test]
fn an_export_into_a_file_is_whole_or_not_there() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    let printed = export(&files, &data_dir(&files));
    assert_eq!(printed.lines().count(), 4);
    let output = files
        .statefun(&["state", "export", "-o", "out.jsonl"])
        .ends(0);
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.contains("exported 4 addresses"),
        "{}",
        output.stderr
    );
    assert_eq!(files.read("out.jsonl"), printed);
    let one = files.statefun(&["state", "export", "shop/counter"]).ends(0);
    assert_eq!(one.stdout.lines().count(), 1);
    files
        .statefun(&["state", "export", "shop/none", "-o", "none.jsonl"])
        .ends(1);
    let names: Vec<String> = std::fs::read_dir(files.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("jsonl"))
        .collect();
    assert_eq!(names, ["out.jsonl"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let files = shop();
    let running = Running::start(&files);
    for number in 0..40 {
        running.put("carts", &format!("c-{number}"), &"x".repeat(4_000), 1);
    }
    let mut child = command(files.path(), &["state", "export"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    {
        let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
    }
    assert!(line.starts_with("{\"function\":"), "{line}");
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn an_answer_that_is_cut_off_is_an_error() {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    let files = shop();
    let directory = data_dir(&files);
    std::fs::create_dir_all(&directory).unwrap();
    let listener = UnixListener::bind(directory.join("admin.sock")).unwrap();
    let line = r#"{"function":"shop/counter","id":"n","states":{"count":1}}"#;
    for (answer, expected) in [
        (format!("{line}\n"), "cut off"),
        (
            format!("{line}\n{{\"failed\":{{\"error\":\"disk\"}}}}\n"),
            "disk",
        ),
        // Not all of the last line.
        (format!("{line}\n{{\"end\":{{\"epoch\":1"), "cut off"),
    ] {
        let listener = listener.try_clone().unwrap();
        let server = std::thread::Builder::new()
            .spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 1024];
                let _ = std::io::Read::read(&mut stream, &mut head).unwrap();
                let chunk = format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{answer}\r\n0\r\n\r\n",
                    answer.len()
                );
                stream.write_all(chunk.as_bytes()).unwrap();
            })
            .unwrap();
        let output = statefun(files.path(), &["state", "export"]).ends(2);
        server.join().unwrap();
        assert_eq!(output.stdout, format!("{line}\n"));
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
}

#[test]
fn an_export_is_of_one_moment_while_the_application_goes_on() {
    let files = shop();
    let running = Running::start(&files);
    let done = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for cart in ["a", "b"] {
            let (running, done) = (&running, &done);
            scope.spawn(move || {
                for number in 0..60 {
                    running.put("carts", cart, &format!("item {number}"), 1);
                }
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        let mut last = 0;
        while done.load(std::sync::atomic::Ordering::SeqCst) < 2 {
            let mut all = 0;
            for line in export(&files, &data_dir(&files)).lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                let states = &line["states"];
                let total = states["total"].as_u64().unwrap();
                // Each message writes both.
                assert_eq!(states["items"].as_object().unwrap().len() as u64, total);
                all += total;
            }
            assert!(all >= last, "what was there is there");
            last = all;
        }
    });
}
