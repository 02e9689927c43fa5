//! Requests against an application that is made up, and sockets against what the file system may hold.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::clock::Timestamp;
use crate::id::{Address, TypeName};
use crate::metrics::Snapshot;
use crate::state::StateError;

/// Two workers, on which addresses wait.
#[derive(Default)]
struct Fake {
    workers: Vec<Vec<WaitingAddress>>,
    commands: Mutex<Vec<Command>>,
    stopped: bool,
}

fn waiting(function: &str, id: &str) -> WaitingAddress {
    WaitingAddress {
        function: function.to_owned(),
        id: id.to_owned(),
        kind: WaitKind::Parked,
        queued: 3,
        attempts: 5,
        since: Timestamp(1_700_000_000_000),
        problem: "no such template".to_owned(),
    }
}

impl Fake {
    fn with(workers: &[&[(&str, &str)]]) -> Self {
        let of = |worker: &&[(&str, &str)]| {
            worker
                .iter()
                .map(|(function, id)| waiting(function, id))
                .collect()
        };
        Self {
            workers: workers.iter().map(of).collect(),
            ..Self::default()
        }
    }

    fn commands(&self) -> Vec<Command> {
        self.commands.lock().unwrap().clone()
    }

    fn of_address(&self, address: &Address) -> Result<WaitingAddress, CommandError> {
        let known = self.workers.iter().flatten().find(|known| {
            known.function == address.function().as_str() && known.id == address.id()
        });
        known
            .cloned()
            .ok_or_else(|| CommandError::NotWaiting(address.to_string()))
    }
}

impl Live for Fake {
    fn status(&self) -> Status {
        Status {
            functions: vec!["shop/cart".to_owned(), "shop/order".to_owned()],
            invocations: 7,
            ..Status::default()
        }
    }

    fn metrics(&self) -> Snapshot {
        Snapshot {
            taken_ms: 5,
            ..Snapshot::default()
        }
    }

    fn address(&self, function: &str, id: &str) -> Option<Address> {
        let known = self
            .status()
            .functions
            .iter()
            .any(|known| known == function);
        known.then(|| Address::new(TypeName::parse(function).unwrap(), id))
    }

    fn command(&self, command: Command) -> Results {
        self.commands.lock().unwrap().push(command.clone());
        let results = match &command {
            _ if self.stopped => Vec::new(),
            Command::List { limit } => {
                let of = |worker: &Vec<WaitingAddress>| {
                    Ok(CommandResult::Waiting(
                        worker.iter().take(*limit).cloned().collect(),
                    ))
                };
                self.workers.iter().map(of).collect()
            }
            Command::Show { address, messages } => {
                let message = QueuedMessage {
                    typename: "a/b".to_owned(),
                    from: None,
                    value: "{}".to_owned(),
                };
                let shown = |waiting| CommandResult::Shown(waiting, vec![message; *messages]);
                vec![self.of_address(address).map(shown)]
            }
            Command::Retry(address)
            | Command::Skip(address)
            | Command::Drop(address)
            | Command::DropPart(address) => {
                vec![self.of_address(address).map(|waiting| CommandResult::Done {
                    messages: waiting.queued,
                })]
            }
        };
        Box::pin(async move { results })
    }

    fn state(&self) -> SettledState {
        Box::pin(async { Err(StateError::Store("it is busy".to_owned())) })
    }
}

async fn ask(live: &Fake, method: Method, uri: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(uri).body(()).unwrap();
    let reply = answer(live, &request).await;
    let status = reply.status();
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get<T: DeserializeOwned>(live: &Fake, uri: &str) -> T {
    let (status, body) = ask(live, Method::GET, uri).await;
    assert_eq!(status, StatusCode::OK, "{uri}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn refused(live: &Fake, method: Method, uri: &str, expected: StatusCode, because: &str) {
    let (status, body) = ask(live, method, uri).await;
    let problem: Problem = serde_json::from_str(&body).unwrap();
    assert_eq!(status, expected, "{uri}: {}", problem.error);
    assert!(problem.error.contains(because), "{uri}: {}", problem.error);
}

fn ids(list: &ParkedList) -> Vec<&str> {
    list.addresses
        .iter()
        .map(|address| address.id.as_str())
        .collect()
}

#[tokio::test]
async fn the_lists_of_all_workers_are_one() {
    let live = Fake::with(&[
        &[("shop/order", "b"), ("shop/cart", "z")],
        &[("shop/order", "a")],
    ]);
    let list: ParkedList = get(&live, "/v1/parked").await;
    assert_eq!((ids(&list), list.truncated), (vec!["z", "a", "b"], false));
    assert_eq!(list.addresses[1], waiting("shop/order", "a"));
    let of_one: ParkedList = get(&live, "/v1/parked?function=shop%2Forder").await;
    assert_eq!(ids(&of_one), ["a", "b"]);
    for (limit, truncated) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        let list: ParkedList = get(&live, &format!("/v1/parked?limit={limit}")).await;
        assert_eq!(
            (list.addresses.len(), list.truncated),
            (limit.min(3), truncated),
            "{limit}"
        );
    }
    let one: ParkedList = get(&live, "/v1/parked?limit=1&function=shop/order").await;
    assert_eq!((ids(&one), one.truncated), (vec!["a"], true));
    let none: ParkedList = get(&Fake::with(&[&[], &[]]), "/v1/parked").await;
    assert_eq!(none, ParkedList::default());
}

#[tokio::test]
async fn an_address_is_shown_with_its_messages() {
    let live = Fake::with(&[&[("shop/order", "a b/ü")]]);
    let shown: ParkedShown = get(
        &live,
        "/v1/parked/show?function=shop/order&id=a+b%2F%C3%BC&messages=2",
    )
    .await;
    assert_eq!(
        (shown.address.id.as_str(), shown.messages.len()),
        ("a b/ü", 2)
    );
    let usual: ParkedShown =
        get(&live, "/v1/parked/show?function=shop/order&id=a%20b/%C3%BC").await;
    assert_eq!(usual.messages.len(), 10);
}

#[tokio::test]
async fn an_order_reaches_the_address_that_it_names() {
    let live = Fake::with(&[&[("shop/order", "17")]]);
    for order in ["retry", "skip", "drop"] {
        let (status, body) = ask(
            &live,
            Method::POST,
            &format!("/v1/parked/{order}?function=shop/order&id=17"),
        )
        .await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::OK, "{\"messages\":3}\n")
        );
    }
    let address = live.address("shop/order", "17").unwrap();
    let expected = [
        Command::Retry(address.clone()),
        Command::Skip(address.clone()),
        Command::Drop(address),
    ];
    assert_eq!(live.commands(), expected);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_does_nothing() {
    let live = Fake::with(&[&[("shop/order", "17")]]);
    let bad = StatusCode::BAD_REQUEST;
    for (method, uri, status, because) in [
        (Method::GET, "/v1/parked?limit=-1", bad, "`limit`"),
        (Method::GET, "/v1/parked?limit=100001", bad, "100000"),
        (Method::GET, "/v1/parked?limit=1&limit=2", bad, "twice"),
        (Method::GET, "/v1/parked?limit=%zz", bad, "malformed"),
        (
            Method::GET,
            "/v1/parked?functoin=shop/order",
            bad,
            "`functoin`",
        ),
        (
            Method::GET,
            "/v1/parked?function=shop/ordre",
            StatusCode::NOT_FOUND,
            "did you mean `shop/order`?",
        ),
        (
            Method::GET,
            "/v1/parked/show?function=shop/order",
            bad,
            "`id` is missing",
        ),
        (
            Method::GET,
            "/v1/parked/show?id=17",
            bad,
            "`function` is missing",
        ),
        (Method::GET, "/v1/status?x=1", bad, "`x`"),
        (Method::GET, "/v2/parked", StatusCode::NOT_FOUND, "versions"),
        (Method::GET, "/", StatusCode::NOT_FOUND, "`/`"),
        (Method::POST, "/v1/parked/drop", bad, "is missing"),
        (
            Method::POST,
            "/v1/parked/drop?function=shop/order&id=17&id=18",
            bad,
            "twice",
        ),
        (
            Method::POST,
            "/v1/parked/drop?function=shop/order&id=17&all",
            bad,
            "`all`",
        ),
        (
            Method::GET,
            "/v1/parked/drop?function=shop/order&id=17",
            StatusCode::METHOD_NOT_ALLOWED,
            "POST",
        ),
        (
            Method::POST,
            "/v1/parked",
            StatusCode::METHOD_NOT_ALLOWED,
            "GET",
        ),
        (
            Method::DELETE,
            "/v1/status",
            StatusCode::METHOD_NOT_ALLOWED,
            "GET",
        ),
    ] {
        refused(&live, method, uri, status, because).await;
    }
    assert_eq!(live.commands(), []);
    let nothing_waits = "/v1/parked/retry?function=shop/order&id=18";
    refused(
        &live,
        Method::POST,
        nothing_waits,
        StatusCode::NOT_FOUND,
        "nothing waits",
    )
    .await;
}

#[tokio::test]
async fn an_application_that_stops_says_so() {
    let live = Fake {
        stopped: true,
        ..Fake::with(&[&[("shop/order", "17")]])
    };
    let gone = StatusCode::SERVICE_UNAVAILABLE;
    refused(&live, Method::GET, "/v1/parked", gone, "stopping").await;
    refused(
        &live,
        Method::POST,
        "/v1/parked/skip?function=shop/order&id=17",
        gone,
        "stopping",
    )
    .await;
}

#[test]
fn a_status_of_another_version_is_read() {
    let text = r#"{"core_version": "9.0.0", "new": [1], "epochs": {"durable": 5, "other": null}}"#;
    let status: Status = serde_json::from_str(text).unwrap();
    assert_eq!(
        (status.core_version.as_str(), status.epochs.durable),
        ("9.0.0", 5)
    );
}

fn start(path: &Path) -> Result<AdminServer, AdminError> {
    AdminServer::start(
        path,
        Arc::new(Fake::with(&[&[("shop/order", "17")]])),
        &tokio::runtime::Handle::current(),
    )
}

async fn over_socket(path: &Path, request: &str) -> String {
    let mut stream = connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

const STATUS: &str = "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

async fn answers(path: &Path) {
    let text = over_socket(path, STATUS).await;
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("\"invocations\":7"),
        "{text}"
    );
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_goes_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_path(directory.path());
    let server = start(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    answers(&path).await;
    assert_eq!(
        std::fs::read_dir(&directory).unwrap().count(),
        1,
        "nothing else is left"
    );
    drop(server);
    assert_eq!(
        connect(&path).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn what_a_dead_process_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_path(directory.path());
    // Dropping the listener closes it and leaves the file, as a killed process does; the other one was half made.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(std::os::unix::net::UnixListener::bind(path.with_file_name("admin.sock.new")).unwrap());
    assert_eq!(
        connect(&path).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    let _server = start(&path).unwrap();
    answers(&path).await;
}

#[tokio::test]
async fn what_is_in_use_or_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_path(directory.path());
    let _server = start(&path).unwrap();
    assert!(matches!(start(&path), Err(AdminError::InUse(_))));
    answers(&path).await;

    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(start(&file), Err(AdminError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let nowhere = directory.path().join("missing/admin.sock");
    assert!(matches!(start(&nowhere), Err(AdminError::Io { .. })));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_data_directory_may_lie_deep() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    let path = socket_path(&deep);
    let _server = start(&path).unwrap();
    answers(&path).await;
}

#[tokio::test]
async fn clients_that_speak_nonsense_or_nothing_hold_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_path(directory.path());
    let _server = start(&path).unwrap();
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(connect(&path).await.unwrap());
    }
    let text = over_socket(&path, "\u{1}\u{2} nonsense\r\n\r\n").await;
    assert!(!text.contains("200"), "{text}");
    let body = "POST /v1/parked/skip?function=shop/order&id=17 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    assert!(over_socket(&path, body).await.contains("{\"messages\":3}"));
    answers(&path).await;
}
