//! The ride-sharing application as a process of its own.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::process::{Application, post};

/// Starts it on a free port, in an empty directory, with these variables in its environment.
pub(crate) fn start(environment: &[(&'static str, &'static str)]) -> Application {
    let environment = environment.to_vec();
    Application::start(move |directory, port| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ride-sharing"));
        // There is module.yaml.
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("RIDES_PORT", port.to_string())
            .env("RIDE_EVENTS", directory.join("ride-events.jsonl"))
            .env("BOARD_FILE", directory.join("board.json"))
            .envs(environment.iter().copied());
        command
    })
}

/// What the tests do with it.
pub(crate) trait Rides {
    /// Where its events are written.
    fn events(&self) -> PathBuf;
    /// Where it listens.
    fn url(&self) -> String;
    /// Sends a message, and returns the status of the answer.
    fn send(&self, path: &str, key: Option<&str>, message: &impl Serialize) -> u16;
    /// Sends a message that must be replied to.
    fn ask<R: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        message: &impl Serialize,
    ) -> R;
    /// The last report on the board.
    fn board<T: DeserializeOwned>(&self) -> Option<T>;
}

impl Rides for Application {
    fn events(&self) -> PathBuf {
        self.path("ride-events.jsonl")
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    fn send(&self, path: &str, key: Option<&str>, message: &impl Serialize) -> u16 {
        let body = serde_json::to_string(message).unwrap();
        post(self.port(), path, key, &body).unwrap().0
    }

    fn ask<R: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        message: &impl Serialize,
    ) -> R {
        let body = serde_json::to_string(message).unwrap();
        let (status, body) = post(self.port(), &format!("{path}?wait"), key, &body).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn board<T: DeserializeOwned>(&self) -> Option<T> {
        lines(&self.path("board.json"))?.pop()
    }
}

/// What a file of JSON lines holds; none while the last line is being written.
pub(crate) fn lines<T: DeserializeOwned>(file: &Path) -> Option<Vec<T>> {
    let mut text = String::new();
    File::open(file).ok()?.read_to_string(&mut text).ok()?;
    if !text.is_empty() && !text.ends_with('\n') {
        return None;
    }
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}
