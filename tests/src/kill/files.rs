//! The files of an application that is killed: what it has put out, and the wiring that has it do so.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::naive_bytecount,
    reason = "a test that cannot go on has failed, and says what it saw"
)]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::model::Handled;
use super::process::{Process, wait_for};

/// The module.yaml of the application: operations by HTTP and from a file, records to a file.
pub const MODULE: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: kill/ops
  address: 127.0.0.1:0
  path: /ops
  valueType: kill/Op
  routers: [ops]
---
kind: io.statefun.http.v1/ingress
spec:
  id: kill/queries
  address: 127.0.0.1:0
  path: /query/{id}
  valueType: kill/Query
  targets: [kill/node]
---
kind: io.statefun.file.v1/ingress
spec:
  id: kill/lines
  path: lines.jsonl
  valueType: kill/Op
  routers: [lines]
---
kind: io.statefun.file.v1/egress
spec:
  id: kill/handled
  path: handled.jsonl
";

/// A directory that stays when the test fails.
#[derive(Debug)]
pub struct Kept(Option<tempfile::TempDir>);

impl Kept {
    /// A new one.
    ///
    /// # Panics
    /// When there can be none.
    pub fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    /// Where it is.
    ///
    /// # Panics
    /// Never.
    pub fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.0.take()
        {
            println!("everything is still in {}", directory.keep().display());
        }
    }
}

/// Some problems, one a line.
pub fn listed(problems: &[String]) -> String {
    problems
        .iter()
        .take(30)
        .map(|problem| format!("  {problem}\n"))
        .collect()
}

/// A number in the environment.
pub fn number_of(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Reads records of the egress.
///
/// # Panics
/// When one is malformed.
pub fn parse(lines: &[u8]) -> Vec<Handled> {
    let text = std::str::from_utf8(lines).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

/// What a file holds from an offset on; nothing while there is no file.
///
/// # Panics
/// When it cannot be read.
pub fn read_from(path: &Path, offset: u64) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(mut file) = File::open(path) {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.read_to_end(&mut content).unwrap();
    }
    content
}

/// How many lines a file has; none while there is no file.
pub fn count_lines(path: &Path) -> usize {
    std::fs::read(path)
        .unwrap_or_default()
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Waits until so many records are in a file.
///
/// # Panics
/// When they do not come.
pub fn wait_for_records(output: &Path, count: usize, process: &Process) {
    wait_for(
        || (count_lines(output) >= count).then_some(()),
        || {
            format!(
                "{} of {count} records are there\n{}",
                count_lines(output),
                process.last_words()
            )
        },
    );
}
