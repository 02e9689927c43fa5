//! The application, and how tests start, ask and kill it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use statefun_core::App;
use statefun_core::prelude::*;

use crate::support::{Files, Output, eventually, statefun};

const ARGUMENTS: &str = "STATE_TEST_ARGUMENTS";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Color {
    #[default]
    Red,
    Mixed {
        parts: Vec<f32>,
    },
}

#[persisted]
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Item {
    count: u64,
    price: f64,
    #[serde(default)]
    note: Option<String>,
}

/// Put something in.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
#[message(typename = "shop/Put")]
struct Put {
    item: String,
    count: u64,
}

/// With states of every kind.
#[stateful_function(typename = "shop/cart", accepts(Put))]
#[derive(Default)]
struct Cart {
    #[persisted]
    total: PersistedValue<u64>,
    #[persisted]
    items: PersistedTable<String, Item>,
    #[persisted]
    places: PersistedTable<(i32, bool), Vec<u8>>,
    #[persisted]
    log: PersistedBuffer<String>,
    #[persisted(expire_after_write = "365d")]
    session: PersistedValue<Option<Color>>,
    #[persisted]
    extras: PersistedRegistry,
}

impl Handle<Put> for Cart {
    fn handle(&mut self, put: Put, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.total += put.count;
        let note = (put.count > 1).then(|| "several".to_owned());
        let item = Item {
            count: put.count,
            price: 0.1 * put.count as f64,
            note,
        };
        self.items.set(put.item.clone(), item);
        self.places
            .set((-(put.count as i32), true), put.item.clone().into_bytes());
        self.log.append(format!("put {}", put.item));
        if self.log.len() > 3 {
            self.log.clear();
            self.log.append("again".to_owned());
        }
        self.session.set(Some(Color::Mixed {
            parts: vec![0.1, put.count as f32],
        }));
        **self.extras.value::<u64>("limit")? = u64::MAX;
        let days = self
            .extras
            .state::<PersistedTable<u64, bool>>("days", Expiration::None)?;
        days.set(put.count, true);
        self.extras
            .state::<PersistedBuffer<u8>>("bytes", Expiration::None)?
            .append(7);
        Ok(ctx.reply(true)?)
    }
}

/// Counts, and does not forget.
#[stateful_function(typename = "shop/counter", accepts(Put))]
#[derive(Default)]
struct Counter {
    #[persisted]
    count: PersistedValue<u64>,
}

impl Handle<Put> for Counter {
    fn handle(&mut self, put: Put, ctx: &mut Context<'_, Self>) -> HandlerResult {
        *self.count = put.count;
        Ok(ctx.reply(true)?)
    }
}

struct Shop;

impl Module for Shop {
    fn configure(&self, _: &GlobalConfiguration, binder: &mut Binder) {
        binder
            .function::<Cart>(Cart::default)
            .function::<Counter>(Counter::default);
    }
}

const MODULE: &str = "\
kind: io.statefun.http.v1/ingress
spec:
  id: shop/carts
  address: 127.0.0.1:0
  path: /carts/{id}
  valueType: shop/Put
  targets: [shop/cart]
---
kind: io.statefun.http.v1/ingress
spec:
  id: shop/counts
  address: 127.0.0.1:0
  path: /counts/{id}
  valueType: shop/Put
  targets: [shop/counter]
";

/// What runs in the process that plays the application.
#[test]
#[ignore = "it is started by the other tests"]
#[expect(clippy::exit, reason = "the code is the application's")]
fn application() {
    let arguments = std::env::var(ARGUMENTS).unwrap();
    let arguments = arguments.split('\u{1f}').filter(|text| !text.is_empty());
    let exit = App::unlinked()
        .module(Shop)
        .main_with(arguments.map(str::to_owned).collect());
    // The harness' own exit code says nothing of the application.
    let code = if format!("{exit:?}") == format!("{:?}", std::process::ExitCode::SUCCESS) {
        0
    } else if format!("{exit:?}") == format!("{:?}", std::process::ExitCode::from(1)) {
        1
    } else {
        2
    };
    std::process::exit(code);
}

/// A directory for the application.
pub(crate) fn shop() -> Files {
    Files::new().with("module.yaml", MODULE)
}

pub(super) fn data_dir(files: &Files) -> PathBuf {
    files.path().join(".statefun/data")
}

pub(super) fn process(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "state::app::application",
            "--exact",
            "--ignored",
            "--nocapture",
            "--quiet",
        ])
        .current_dir(directory)
        .env(ARGUMENTS, arguments.join("\u{1f}"))
        .env("STATEFUN_READY_FILE", directory.join("ready"))
        .env("STATEFUN_LOG_FORMAT", "human")
        .env("STATEFUN_WORKERS", "2")
        .stdin(Stdio::null());
    command
}

/// The application as it runs; killed at the end.
pub(crate) struct Running<'f> {
    child: Child,
    files: &'f Files,
}

impl<'f> Running<'f> {
    pub(crate) fn start(files: &'f Files) -> Self {
        let ready = files.path().join("ready");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::create(files.path().join("log")).unwrap();
        let child = process(files.path(), &["run"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self { child, files };
        eventually("the application starts", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", files.read("log"));
            ready.exists()
        });
        running
    }

    /// Puts something in. When this returns, the function has answered, so that what it has written is durable.
    pub(crate) fn put(&self, ingress: &str, id: &str, item: &str, count: u64) {
        let message = format!(r#"{{"item":"{item}","count":{count}}}"#);
        self.files
            .statefun(&["call", ingress, "--id", id, &message])
            .ends(0);
    }

    /// At any point.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// In order.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}", self.files.read("log"));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Carts of several sizes and a counter.
pub(super) fn fill(running: &Running<'_>) {
    for (id, item, count) in [
        ("c-1", "apple", 1),
        ("c-1", "pear", 2),
        ("c-2", "apple", 3),
        ("c-1", "fig", 4),
        ("c-1", "apple", 5),
        ("odd id \u{e9}", "$kiwi", 6),
    ] {
        running.put("carts", id, item, count);
    }
    running.put("counts", "n", "x", 9);
}

/// The application's binary, called for something else than running.
pub(super) fn called(directory: &Path, arguments: &[&str]) -> Output {
    let output = process(directory, arguments).output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What the command exports of a directory.
pub(super) fn export(files: &Files, data_dir: &Path) -> String {
    let arguments = ["state", "export", "--data-dir", data_dir.to_str().unwrap()];
    statefun(files.path(), &arguments).ends(0).stdout
}
