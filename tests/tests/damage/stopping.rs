//! A stop that is asked for as early as can be.

use std::fs::File;
use std::process::Command;

use crate::support::{App, assert_says, puts_and_lines};

#[test]
fn whoever_hears_that_it_is_ready_may_stop_it_at_once() {
    let mut app = App::new("load", &puts_and_lines());
    // A file whose writer waits for a reader: it holds the process where tools are told that it is ready.
    let ready = app.path().join("ready");
    let made = Command::new("mkfifo").arg(&ready).status().unwrap();
    assert!(made.success());
    app.environment = vec![("STATEFUN_READY_FILE", ready.display().to_string())];
    let mut running = app.start();
    running.process.ask_to_stop();
    // For writing as well, since that does not wait where the process has died of the signal.
    let reader = File::options().read(true).write(true).open(&ready).unwrap();
    let status = running.process.wait();
    let said = running.process.said();
    assert_eq!(status.code(), Some(0), "{status}\n{said}");
    assert_says(&said, &["statefun: stopping"]);
    drop(reader);
}
