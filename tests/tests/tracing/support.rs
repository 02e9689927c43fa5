//! The application of `trace-app`, in a directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use statefun_tests::kill::client::{Answer, Client};
use statefun_tests::kill::process::{Addresses, Process, Start, wait_for};
use statefun_tests::kill::world::lock;
use statefun_tests::receiver::{self, Received};

const MODULE: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: trace/orders
  address: 127.0.0.1:0
  path: /order/{id}
  valueType: trace/Place
  targets: [trace/order]
---
kind: io.statefun.file.v1/egress
spec:
  id: trace/lines
  path: lines.jsonl
  traceparent: traceparent
---
kind: io.statefun.http.v1/egress
spec:
  id: trace/hooks
  url: http://HOOKS/hook
";

/// An application and all that it leaves behind.
pub(crate) struct App {
    directory: tempfile::TempDir,
    starts: u32,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) hooks: Arc<Mutex<Vec<Received>>>,
}

impl App {
    pub(crate) fn new() -> Self {
        let hooks = Arc::<Mutex<Vec<Received>>>::default();
        let received = hooks.clone();
        let address = receiver::start(move |hook| {
            lock(&received).push(hook);
            200
        });
        let app = Self {
            directory: tempfile::tempdir().unwrap(),
            starts: 0,
            environment: Vec::new(),
            hooks,
        };
        app.module(&MODULE.replace("HOOKS", &address.unwrap().to_string()));
        app
    }

    /// With traces to a collector.
    pub(crate) fn traced(collector: SocketAddr, sample: &str) -> Self {
        let mut app = Self::new();
        let endpoint = format!("http://{collector}");
        app.environment = vec![
            ("STATEFUN_TRACING_ENDPOINT", endpoint),
            ("STATEFUN_TRACING_SAMPLE", sample.to_owned()),
        ];
        app
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn module(&self, text: &str) {
        std::fs::write(self.path().join("module.yaml"), text).unwrap();
    }

    /// How it is started.
    pub(crate) fn spawn(&mut self) -> Process {
        self.starts += 1;
        let mut environment = vec![("STATEFUN_DATA_DIR", "data".to_owned())];
        environment.extend(self.environment.iter().cloned());
        let start = Start {
            binary: Path::new(env!("CARGO_BIN_EXE_trace-app")),
            directory: self.directory.path(),
            name: format!("life-{}", self.starts),
            workers: 2,
            environment,
        };
        start.spawn()
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self) -> Running {
        let mut process = self.spawn();
        let addresses = process
            .ready()
            .unwrap_or_else(|| panic!("it ended instead of starting\n{}", process.last_words()));
        Running {
            process,
            addresses,
            client: Client::default(),
        }
    }

    /// Waits until there are so many lines of an order.
    pub(crate) fn lines(&self, order: &str, count: usize) -> Vec<Value> {
        let path: PathBuf = self.path().join("lines.jsonl");
        let read = || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines
                .filter(|line| line["order"] == order)
                .collect::<Vec<_>>()
        };
        wait_for(
            || Some(read()).filter(|lines| lines.len() >= count),
            || format!("{count} lines of {order}, there are {:?}", read()),
        )
    }
}

/// A process that is ready.
pub(crate) struct Running {
    pub(crate) process: Process,
    addresses: Addresses,
    client: Client,
}

impl Running {
    /// Places an order, with more fields, and header lines.
    pub(crate) fn place(&mut self, id: &str, query: &str, more: &str, headers: &str) -> Answer {
        let to = self.addresses["trace/orders"];
        let body = format!("{{\"id\": \"{id}\"{more}}}");
        let path = format!("/order/{id}{query}");
        let answer = self.client.post_with(to, &path, headers, body.as_bytes());
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.process.last_words()))
    }

    /// Asks it to stop; it must do so cleanly. What it said.
    pub(crate) fn stop(mut self) -> String {
        let status = self.process.terminate();
        assert!(status.success(), "{status}\n{}", self.process.last_words());
        self.process.said()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }
}

/// A header of an answer.
pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

/// Trace id and span id of a `traceparent`.
pub(crate) fn ids(traceparent: &str) -> (String, String) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{traceparent}");
    (parts[1].to_owned(), parts[2].to_owned())
}
