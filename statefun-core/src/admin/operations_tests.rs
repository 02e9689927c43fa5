//! The operations endpoint: who may ask what, and what health says in which state.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{ALLOW, AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::operations::Operations;
use super::*;
use crate::checkpoint::CheckpointStatus;
use crate::checkpoint::status::CheckpointProblem;
use crate::engine::starting::StartStep;
use crate::id::Address;
use crate::metrics::{EgressMetrics, FunctionMetrics, Snapshot};
use crate::module::model::{ListenAddress, Secret};
use crate::settings::{DEFAULT_LISTEN, Listen, OperationsSettings};
use crate::state::StateError;

/// An application that is as a test wants it.
#[derive(Default)]
struct Fake {
    condition: Mutex<Condition>,
    measured: Mutex<Snapshot>,
}

impl Fake {
    fn is(&self, condition: Condition) {
        *self.condition.lock().unwrap() = condition;
    }
}

impl Live for Fake {
    fn status(&self) -> Status {
        Status {
            invocations: 7,
            ..Status::default()
        }
    }

    fn condition(&self) -> Condition {
        self.condition.lock().unwrap().clone()
    }

    fn metrics(&self) -> Snapshot {
        self.measured.lock().unwrap().clone()
    }

    fn address(&self, _: &str, _: &str) -> Option<Address> {
        None
    }

    fn command(&self, _: Command) -> Results {
        Box::pin(async { Vec::new() })
    }

    fn state(&self) -> SettledState {
        Box::pin(async { Err(StateError::Store("it has none".to_owned())) })
    }
}

fn running(live: Arc<Fake>) -> Arc<Stage> {
    let stage = Arc::new(Stage::default());
    stage.running(live);
    stage
}

fn endpoint(stage: &Arc<Stage>, address: &str, token: Option<&str>) -> Operations {
    let address: SocketAddr = address.parse().unwrap();
    let token = token.map(Secret::new);
    Operations::new(stage.clone(), address, token.as_ref())
}

const LOOPBACK: &str = "127.0.0.1:9464";
const ANYWHERE: &str = "0.0.0.0:9464";

async fn asked(
    endpoint: &Operations,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, String, http::HeaderMap) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = endpoint.answer(&request.body(()).unwrap()).await;
    let (status, headers) = (reply.status(), reply.headers().clone());
    let body = reply.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap(), headers)
}

async fn get(endpoint: &Operations, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let (status, body, _) = asked(endpoint, Method::GET, path, headers).await;
    (status.as_u16(), body)
}

async fn ready(stage: &Arc<Stage>) -> (u16, Health) {
    let endpoint = endpoint(stage, ANYWHERE, None);
    let (status, body) = get(&endpoint, "/health/ready", &[]).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn live(stage: &Arc<Stage>) -> (u16, Liveness) {
    let endpoint = endpoint(stage, ANYWHERE, None);
    let (status, body) = get(&endpoint, "/health/live", &[]).await;
    (status, serde_json::from_str(&body).unwrap())
}

const HERE: (&str, &str) = ("host", "localhost:9464");

#[tokio::test]
async fn web_pages_reach_no_command_of_this_machine() {
    let endpoint = endpoint(&running(Arc::default()), LOOPBACK, None);
    for host in [
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1:9464",
        "127.8.8.8",
        "[::1]:9464",
        "[::1]",
        "[::ffff:127.0.0.1]:1",
    ] {
        let (status, body) = get(&endpoint, "/v1/status", &[("host", host)]).await;
        assert_eq!(status, 200, "{host}: {body}");
    }
    for host in [
        "",
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.7:9464",
        "0.0.0.0:9464",
        "[::1]evil.example",
        "[::1",
        "localhost:evil",
        "localhost@evil.example",
        "ü",
    ] {
        let (status, body) = get(&endpoint, "/v1/status", &[("host", host)]).await;
        assert_eq!(status, 403, "{host}: {body}");
        assert!(body.contains("`Host`"), "{body}");
    }
    let pages: [&[(&str, &str)]; 5] = [
        &[],
        &[HERE, HERE],
        &[HERE, ("origin", "http://localhost:9464")],
        &[HERE, ("origin", "null")],
        &[HERE, ("sec-fetch-site", "cross-site")],
    ];
    for headers in pages {
        for (method, path) in [
            (Method::GET, "/v1/state"),
            (Method::POST, "/v1/parked/drop?function=a/b&id=c"),
        ] {
            let (status, body, _) = asked(&endpoint, method, path, headers).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?}");
            assert!(body.contains("operations.token"), "{body}");
        }
    }
    // A person who types it in is no page, and numbers are no secret here.
    let typed = [HERE, ("sec-fetch-site", "none")];
    assert_eq!(get(&endpoint, "/v1/status", &typed).await.0, 200);
    for path in ["/", "/metrics", "/health/ready"] {
        let page = [("origin", "http://evil.example")];
        assert_eq!(get(&endpoint, path, &page).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn other_machines_get_health_and_numbers_only_while_there_is_no_token() {
    for address in [ANYWHERE, "10.0.0.7:1", "[::]:1", "[fe80::1]:1"] {
        let endpoint = endpoint(&running(Arc::default()), address, None);
        for path in ["/health/live", "/health/ready", "/metrics", "/"] {
            assert_eq!(get(&endpoint, path, &[]).await.0, 200, "{path}");
        }
        for headers in [&[][..], &[HERE], &[("authorization", "Bearer x")]] {
            let (status, body) = get(&endpoint, "/v1/status", headers).await;
            assert_eq!(status, 403, "{address}");
            assert!(body.contains("set `operations.token`"), "{body}");
        }
    }
}

#[tokio::test]
async fn a_token_is_needed_for_all_but_health() {
    for address in [LOOPBACK, ANYWHERE] {
        let endpoint = endpoint(&running(Arc::default()), address, Some("hush"));
        for path in ["/health/live", "/health/ready"] {
            assert_eq!(get(&endpoint, path, &[]).await.0, 200, "{path}");
        }
        for path in ["/", "/metrics", "/v1/status", "/nothing"] {
            for wrong in [
                &[][..],
                &[HERE],
                &[("authorization", "hush")],
                &[("authorization", "Bearer hus")],
                &[("authorization", "Bearer hushh")],
                &[("authorization", "Basic hush")],
                &[
                    ("authorization", "Bearer hush"),
                    ("authorization", "Bearer hush"),
                ],
            ] {
                let (status, body, headers) = asked(&endpoint, Method::GET, path, wrong).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {wrong:?}");
                assert_eq!(headers[WWW_AUTHENTICATE], "Bearer");
                assert!(body.contains("Authorization: Bearer"), "{body}");
                assert!(!body.contains("hush"), "{body}");
            }
        }
        // Who has it may be a page, too: it was given to it.
        let right = [
            (AUTHORIZATION.as_str(), "Bearer hush"),
            (ORIGIN.as_str(), "https://console.example"),
            (HOST.as_str(), "ops.example"),
        ];
        for path in ["/", "/metrics", "/v1/status"] {
            assert_eq!(get(&endpoint, path, &right).await.0, 200, "{path}");
        }
        assert!(!format!("{endpoint:?}").contains("hush"));
    }
}

#[tokio::test]
async fn what_there_is_and_what_is_not() {
    let endpoint = endpoint(&running(Arc::default()), LOOPBACK, None);
    let (_, contents) = get(&endpoint, "/", &[]).await;
    for path in ["/health/live", "/health/ready", "/metrics", "/v1/"] {
        assert!(contents.contains(path), "{contents}");
    }
    for path in ["/", "/health/live", "/health/ready", "/metrics"] {
        let (status, _, _) = asked(&endpoint, Method::HEAD, path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let (status, _, headers) = asked(&endpoint, Method::POST, path, &[]).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(headers[ALLOW], "GET, HEAD");
    }
    for path in [
        "/health",
        "/healthz",
        "/v2/status",
        "/V1/status",
        "//v1/status",
    ] {
        assert_eq!(get(&endpoint, path, &[HERE]).await.0, 404, "{path}");
    }
    let (status, body) = get(&endpoint, "/v1/status", &[HERE]).await;
    assert_eq!(status, 200);
    assert!(body.contains("\"invocations\":7"), "{body}");
}

#[tokio::test]
async fn a_start_is_live_and_not_ready_and_says_how_far_it_is() {
    let stage = Arc::new(Stage::default());
    let step = StartStep::Applying {
        epoch: 30,
        last: 400,
    };
    for (tell, expected) in [
        ("restore: 5 rows".to_owned(), "restore: 5 rows"),
        (
            step.to_string(),
            "recovery: epochs of the log are applied to the state store, 30 of 400",
        ),
        (
            StartStep::Ingress("shop/orders").to_string(),
            "ingress shop/orders: it is being opened",
        ),
    ] {
        stage.starting(tell);
        let (status, health) = ready(&stage).await;
        assert_eq!((status, health.ready), (503, false));
        assert_eq!(health.missing, [expected]);
        assert_eq!(live(&stage).await.0, 200);
        let endpoint = endpoint(&stage, LOOPBACK, None);
        for path in ["/v1/status", "/metrics"] {
            let (status, body) = get(&endpoint, path, &[HERE]).await;
            assert_eq!(status, 503, "{path}");
            assert!(body.contains(expected), "{body}");
        }
    }
    stage.running(Arc::<Fake>::default());
    let endpoint = endpoint(&stage, LOOPBACK, None);
    let (status, body) = get(&endpoint, "/health/ready", &[]).await;
    assert_eq!(
        (status, body.as_str()),
        (200, "{\"ready\":true,\"missing\":[]}\n")
    );
}

#[tokio::test]
async fn nothing_is_ready_while_nothing_is_taken_in() {
    let fake = Arc::new(Fake::default());
    let stage = running(fake.clone());
    let (now, lasting) = (Duration::ZERO, Duration::from_secs(11));
    for (hold, lasted, expected) in [
        (Hold::NoSpace, now, Some("free some space")),
        (Hold::StoreNoSpace, now, Some("free some space")),
        (Hold::NoBlobStore, now, Some("blob store")),
        // What load does by itself counts when it does not pass.
        (Hold::LogFull, now, None),
        (Hold::GathererBehind, now, None),
        (Hold::LogFull, lasting, Some("log.maxBytes")),
        (Hold::GathererBehind, lasting, Some("state store")),
    ] {
        fake.is(Condition {
            held: vec![(hold, lasted)],
            ..Condition::default()
        });
        let (status, health) = ready(&stage).await;
        match expected {
            Some(word) => {
                assert_eq!((status, health.missing.len()), (503, 1), "{hold:?}");
                assert!(health.missing[0].contains(word), "{:?}", health.missing);
            }
            None => assert_eq!((status, health.missing.len()), (200, 0), "{hold:?}"),
        }
        assert_eq!(
            live(&stage).await.0,
            200,
            "{hold:?}: another process finds the same"
        );
    }
    fake.is(Condition::default());
    assert_eq!(ready(&stage).await.0, 200);
}

#[tokio::test]
async fn a_handler_that_blocks_its_worker_is_named() {
    let fake = Arc::new(Fake::default());
    let stage = running(fake.clone());
    for (seconds, is_ready, is_live) in [(5, 200, 200), (60, 503, 200), (3_600, 503, 503)] {
        fake.is(Condition {
            blocked: vec![Blocked {
                worker: 1,
                function: "shop/cart".to_owned(),
                running_for: Duration::from_secs(seconds),
            }],
            ..Condition::default()
        });
        let (status, health) = ready(&stage).await;
        assert_eq!(status, is_ready, "{seconds}");
        let named = |text: &str| text.contains("worker 1") && text.contains("shop/cart");
        assert_eq!(health.missing.iter().any(|text| named(text)), status == 503);
        let (status, liveness) = live(&stage).await;
        assert_eq!(
            (status, liveness.live),
            (is_live, is_live == 200),
            "{seconds}"
        );
        assert_eq!(
            liveness.problem.is_some_and(|text| named(&text)),
            is_live == 503
        );
    }
}

#[tokio::test]
async fn who_stops_is_live_and_who_has_failed_is_not() {
    let fake = Arc::new(Fake::default());
    let stage = running(fake.clone());
    fake.is(Condition {
        stopping: true,
        ..Condition::default()
    });
    let (status, health) = ready(&stage).await;
    assert_eq!((status, health.missing.len()), (503, 1));
    assert!(health.missing[0].starts_with("stopping"));
    assert_eq!(live(&stage).await.0, 200);
    fake.is(Condition {
        stopping: true,
        failed: Some("the disk is broken".to_owned()),
        ..Condition::default()
    });
    let (status, health) = ready(&stage).await;
    assert_eq!(status, 503);
    assert!(health.missing[0].contains("the disk is broken"));
    let (status, liveness) = live(&stage).await;
    assert_eq!((status, liveness.live), (503, false));
    assert!(liveness.problem.unwrap().contains("the disk is broken"));

    // From the signal on, while everything still runs.
    fake.is(Condition::default());
    assert_eq!(ready(&stage).await.0, 200);
    stage.stopping();
    let (status, health) = ready(&stage).await;
    assert_eq!((status, health.missing.len()), (503, 1));
    assert!(health.missing[0].starts_with("stopping"));
    assert_eq!(live(&stage).await.0, 200);
}

#[tokio::test]
async fn what_holds_nothing_up_is_noted() {
    let fake = Arc::new(Fake::default());
    let stage = running(fake.clone());
    let egress = |name: &str, outbox_age_ms| EgressMetrics {
        egress: name.to_owned(),
        outbox_age_ms,
        ..EgressMetrics::default()
    };
    *fake.measured.lock().unwrap() = Snapshot {
        egresses: vec![egress("shop/calm", 900), egress("shop/hook", 61_000)],
        functions: vec![FunctionMetrics {
            parked: 2,
            ..FunctionMetrics::default()
        }],
        checkpoints: Some(CheckpointStatus {
            problem: Some(CheckpointProblem {
                since_ms: 1,
                error: "no such bucket".to_owned(),
            }),
            ..CheckpointStatus::default()
        }),
        ..Snapshot::default()
    };
    let (status, health) = ready(&stage).await;
    assert_eq!((status, health.missing.len()), (200, 0));
    let [egress, parked, checkpoints] = &health.notes[..] else {
        panic!("{:?}", health.notes);
    };
    assert!(
        egress.contains("shop/hook") && egress.contains("61 s"),
        "{egress}"
    );
    assert!(parked.contains("2 addresses"), "{parked}");
    assert!(checkpoints.contains("no such bucket"), "{checkpoints}");
}

fn start(
    settings: &OperationsSettings,
    needed: &[u16],
) -> Result<Option<OperationsServer>, String> {
    let stage = running(Arc::default());
    OperationsServer::start(settings, needed, stage, &Handle::current())
        .map_err(|error| error.to_string())
}

fn at(address: &str) -> OperationsSettings {
    OperationsSettings {
        listen: Listen::At(ListenAddress::parse(address).unwrap()),
        token: None,
    }
}

async fn over_tcp(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_port_that_nobody_asked_for_gives_way() {
    let usual = OperationsSettings::default();
    // Whether the usual port is free on this machine or not.
    let first = start(&usual, &[]).unwrap().unwrap();
    let second = start(&usual, &[]).unwrap().unwrap();
    assert_ne!(first.address(), second.address());
    assert_ne!(second.address(), DEFAULT_LISTEN);
    assert_eq!(second.instead_of(), Some(DEFAULT_LISTEN));
    assert_eq!(
        first.instead_of().is_some(),
        first.address() != DEFAULT_LISTEN
    );
    for server in [&first, &second] {
        assert!(server.address().ip().is_loopback() && !server.is_restricted());
        let text = over_tcp(
            server.address(),
            "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    drop(first);
    // A connector needs it, free or not.
    let third = start(&usual, &[DEFAULT_LISTEN.port()]).unwrap().unwrap();
    assert_eq!(third.instead_of(), Some(DEFAULT_LISTEN));
    let off = OperationsSettings {
        listen: Listen::Off,
        token: None,
    };
    assert!(start(&off, &[]).unwrap().is_none());
}

#[tokio::test]
async fn a_port_that_was_asked_for_is_had_or_an_error() {
    let first = start(&at("localhost:0"), &[]).unwrap().unwrap();
    let taken = first.address().to_string();
    let error = start(&at(&taken), &[]).unwrap_err();
    for word in [taken.as_str(), "operations.listen", "another process"] {
        assert!(error.contains(word), "{error}");
    }
    // From documentation's range: of no machine.
    let error = start(&at("192.0.2.1:0"), &[]).unwrap_err();
    assert!(error.contains("no such address"), "{error}");
    let error = start(&at("no-such-host.invalid:1"), &[]).unwrap_err();
    assert!(error.contains("no-such-host.invalid:1"), "{error}");
    let everywhere = start(&at("0.0.0.0:0"), &[]).unwrap().unwrap();
    assert!(everywhere.is_restricted());
}

#[tokio::test]
async fn a_head_has_no_body_and_nonsense_holds_up_nobody() {
    let server = start(&at("127.0.0.1:0"), &[]).unwrap().unwrap();
    let address = server.address();
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let nonsense = over_tcp(address, "\u{1}\u{2} nonsense\r\n\r\n").await;
    assert!(!nonsense.contains("200"), "{nonsense}");
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Not all of it is read, so that the answer may be lost.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut refused = String::new();
    let _ = stream.read_to_string(&mut refused).await;
    assert!(!refused.contains("200"), "{refused}");
    for path in ["/", "/health/ready", "/metrics"] {
        let request = |method: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        };
        let whole = over_tcp(address, &request("GET")).await;
        let head = over_tcp(address, &request("HEAD")).await;
        let (of_whole, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(
            of_whole.starts_with("HTTP/1.1 200") && !body.is_empty(),
            "{whole}"
        );
        let length = format!("content-length: {}\r\n", body.len());
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        assert!(head.to_ascii_lowercase().contains(&length), "{head}");
    }
    drop(server);
    // The task ends soon, and the port is free.
    for _ in 0..1_000 {
        if TcpStream::connect(address).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it still listens");
}
