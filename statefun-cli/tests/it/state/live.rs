//! Asking the application that runs.

use super::app::{Running, fill, shop};
use serde_json::{Value, json};

#[test]
fn what_there_is_is_listed_and_shown() {
    let files = shop();
    let running = Running::start(&files);
    fill(&running);
    let listed = files.statefun(&["state", "ls"]).ends(0);
    assert_eq!(listed.stdout, "");
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
    }
}
