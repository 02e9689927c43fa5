//! `statefun parked`, against an application that is made up behind a real socket.

use std::path::Path;
use std::sync::Arc;

use statefun_core::admin::{
    AdminServer, Command, CommandError, CommandResult, ListeningPlace, Live, QueuedMessage,
    Results, SettledState, Status, WaitKind, WaitingAddress, socket_path,
};
use statefun_core::clock::{Timestamp, WallClock};
use statefun_core::id::{Address, TypeName};
use statefun_core::metrics::Snapshot;
use statefun_core::state::StateError;
use tokio::runtime::Runtime;

use crate::support::{Files, statefun_reading};

/// An application with addresses that wait.
struct Fake(Vec<WaitingAddress>);

impl Live for Fake {
    fn status(&self) -> Status {
        Status {
            functions: vec!["shop/order".to_owned()],
            listening: vec![ListeningPlace {
                component: "shop/orders".to_owned(),
                address: "127.0.0.1:9".to_owned(),
                method: "POST".to_owned(),
                path: "/orders".to_owned(),
            }],
            ..Status::default()
        }
    }

    fn metrics(&self) -> Snapshot {
        Snapshot::default()
    }

    fn address(&self, function: &str, id: &str) -> Option<Address> {
        (function == "shop/order").then(|| Address::new(TypeName::parse(function).unwrap(), id))
    }

    fn command(&self, command: Command) -> Results {
        let find = |address: &Address| {
            let found = self
                .0
                .iter()
                .find(|known| known.id == address.id())
                .cloned();
            found.ok_or_else(|| CommandError::NotWaiting(address.to_string()))
        };
        let result = match command {
            Command::List { limit } => Ok(CommandResult::Waiting(
                self.0.iter().take(limit).cloned().collect(),
            )),
            Command::Show { address, messages } => find(&address).map(|waiting| {
                let message = |number: u64| QueuedMessage {
                    typename: "shop/Order".to_owned(),
                    from: (number == 1).then(|| "shop/cart/c-1".to_owned()),
                    value: format!("{{\n  \"number\": {number}\n}}"),
                };
                let shown = (0..waiting.queued).take(messages).map(message).collect();
                CommandResult::Shown(waiting, shown)
            }),
            Command::Retry(address) | Command::Drop(address) | Command::DropPart(address) => {
                find(&address).map(|waiting| CommandResult::Done {
                    messages: waiting.queued,
                })
            }
            Command::Skip(address) => find(&address).map(|_| CommandResult::Done { messages: 1 }),
        };
        Box::pin(async move { vec![result] })
    }

    fn state(&self) -> SettledState {
        Box::pin(async { Err(StateError::Store("it has none".to_owned())) })
    }
}

fn waiting(id: &str, queued: u64, problem: &str) -> WaitingAddress {
    let minutes = 150 * 60_000;
    WaitingAddress {
        function: "shop/order".to_owned(),
        id: id.to_owned(),
        kind: if queued > 1 {
            WaitKind::Parked
        } else {
            WaitKind::Retrying
        },
        queued,
        attempts: 5,
        since: Timestamp(WallClock::default().now().as_ms() - minutes),
        problem: problem.to_owned(),
    }
}

struct Running {
    _server: AdminServer,
    _runtime: Runtime,
}

fn start(data_dir: &Path, addresses: Vec<WaitingAddress>) -> Running {
    std::fs::create_dir_all(data_dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = AdminServer::start(
        &socket_path(data_dir),
        Arc::new(Fake(addresses)),
        runtime.handle(),
    )
    .unwrap();
    Running {
        _server: server,
        _runtime: runtime,
    }
}

fn usual() -> Vec<WaitingAddress> {
    let long = "x".repeat(100);
    vec![
        waiting("17", 3, "no warehouse `north`"),
        waiting(&long, 1, &format!("a problem\nof two lines: {long}")),
        waiting("evil\u{1b}[2J", 12_345, "\u{7}"),
    ]
}

#[test]
fn tables_fit_into_eighty_columns() {
    let files = Files::new();
    let _running = start(&files.path().join(".statefun/data"), usual());
    let listed = files.shown(&["parked", "ls"]);
    insta::assert_snapshot!("ls", listed);
    for line in listed.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.contains(['\u{1b}', '\u{7}']), "{line:?}");
    }
    insta::assert_snapshot!(
        "ls_truncated",
        files.shown(&["parked", "ls", "--limit", "1"])
    );
    let shown = files.shown(&["parked", "show", "shop/order", "17", "--messages", "2"]);
    let without_time: Vec<&str> = shown
        .lines()
        .map(|line| line.split("  20").next().unwrap())
        .collect();
    insta::assert_snapshot!("show", without_time.join("\n"));
}

#[test]
fn json_is_what_the_application_answers() {
    let files = Files::new();
    let _running = start(&files.path().join(".statefun/data"), usual());
    let output = files
        .statefun(&["parked", "ls", "--format", "json"])
        .ends(0);
    let list: statefun_core::admin::ParkedList = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((list.addresses.len(), list.truncated), (3, false));
    let output = files
        .statefun(&["parked", "retry", "shop/order", "17", "--format", "json"])
        .ends(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("{\"messages\":3}\n", "")
    );
}

#[test]
fn orders_say_what_they_did() {
    let files = Files::new();
    let _running = start(&files.path().join(".statefun/data"), usual());
    for (order, said) in [
        ("retry", "goes on with its 3 messages"),
        ("skip", "dropped 1 message, and goes on"),
    ] {
        let output = files
            .statefun(&["parked", order, "shop/order", "17"])
            .ends(0);
        assert_eq!(
            (output.stdout.as_str(), output.stderr),
            ("", format!("shop/order/17 {said}\n"))
        );
    }
    let output =
        statefun_reading(files.path(), &["parked", "drop", "shop/order", "17"], "y\n").ends(2);
    assert!(
        output.stderr.contains("--yes"),
        "a script has to say it: {}",
        output.stderr
    );
    let output = files
        .statefun(&["parked", "drop", "shop/order", "17", "--yes"])
        .ends(0);
    assert_eq!(output.stderr, "shop/order/17 dropped 3 messages\n");
}

#[test]
fn what_does_not_wait_or_does_not_exist() {
    let files = Files::new();
    let _running = start(&files.path().join(".statefun/data"), Vec::new());
    let output = files.statefun(&["parked", "ls"]).ends(0);
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("", "nothing is parked\n")
    );
    let output = files
        .statefun(&["parked", "retry", "shop/order", "17"])
        .ends(1);
    assert!(
        output.stderr.contains("nothing waits at shop/order/17"),
        "{}",
        output.stderr
    );
    let output = files
        .statefun(&["parked", "ls", "--function", "shop/ordr"])
        .ends(1);
    assert!(
        output.stderr.contains("did you mean `shop/order`?"),
        "{}",
        output.stderr
    );
}

#[test]
fn the_data_directory_is_found() {
    let files = Files::new()
        .with("statefun.yaml", "dataDir: there\n")
        .with("module.yaml", "");
    let _running = start(&files.path().join("there"), usual());
    files.statefun(&["parked", "ls"]).ends(0);
    let below = files.path().join("src");
    std::fs::create_dir(&below).unwrap();
    statefun_reading(&below, &["parked", "ls"], "").ends(0);
    let output = files
        .statefun(&["parked", "ls", "--data-dir", "elsewhere"])
        .ends(2);
    assert!(
        output
            .stderr
            .contains("no application runs on the data directory elsewhere"),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("statefun run"), "{}", output.stderr);
    files.write("statefun.yaml", "dataDri: there\n");
    let output = files.statefun(&["parked", "ls"]).ends(1);
    assert!(output.stderr.contains("dataDri"), "{}", output.stderr);
}

#[test]
fn a_port_that_the_system_chose_is_asked_for() {
    let ingress = "kind: io.statefun.http.v1/ingress\nspec:\n  id: shop/orders\n  address: 127.0.0.1:0\n  path: /orders\n  \
                   valueType: shop/Order\n";
    let files = Files::new().with("module.yaml", ingress);
    let output = files.statefun(&["send", "orders", "{}"]).ends(2);
    assert!(
        output.stderr.contains("no application runs"),
        "{}",
        output.stderr
    );
    let _running = start(&files.path().join(".statefun/data"), Vec::new());
    let output = files.statefun(&["send", "orders", "{}"]).ends(2);
    assert!(
        output.stderr.contains("nothing listens on 127.0.0.1:9"),
        "{}",
        output.stderr
    );
}
