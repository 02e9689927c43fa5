//! The playground's connectors.

use std::sync::Arc;

use super::app::{App, specs};
use super::client::{post, send};
use crate::io::egress::{Egress, EgressContext, EgressRecord};
use crate::io::http::HttpServers;
use crate::io::playground::PlaygroundEgress;
use crate::module::Spec;
use crate::module::model::PLAYGROUND_INGRESS;

#[test]
fn a_put_reaches_the_function_that_the_path_names() {
    let app = App::start("kind: io.statefun.playground.v1/ingress\nspec: {port: 0}\n");
    let address = app.servers.bound(PLAYGROUND_INGRESS).unwrap();
    let greet = r#"{"who":"x","times":2}"#;
    let put = |path: &str, content_type: &str, body: &[u8]| {
        let response = send(
            address,
            "PUT",
            path,
            &[&format!("Content-Type: {content_type}")],
            body,
        );
        (response.status, response.text().to_owned())
    };
    let json = "application/vnd.example/Greet";
    assert_eq!(
        put("/example/greeter/a", json, greet.as_bytes()),
        (200, String::new())
    );
    assert_eq!(
        put(
            "/example/silent/b%2Fc",
            &format!("{json}; charset=utf-8"),
            greet.as_bytes()
        )
        .0,
        200
    );
    assert_eq!(
        put("/example/greeter/d", "text/plain", b"\x0a\x02hi").0,
        200,
        "a string, as in StateFun"
    );
    assert_eq!(
        app.log(),
        [
            "example/greeter/a x×2",
            "example/greeter/d text hi",
            "example/silent/b/c x"
        ]
    );

    let large = format!("{greet}{}", " ".repeat(1_000));
    let (status, text) = put("/example/silent/a", json, large.as_bytes());
    assert_eq!(status, 413);
    assert!(text.contains("`max_message_bytes`"), "{text}");

    let (status, text) = put(
        "/example/greeter/a",
        "application/x-www-form-urlencoded",
        greet.as_bytes(),
    );
    assert_eq!(status, 400);
    assert!(text.contains("application/vnd."), "{text}");
    assert_eq!(put("/example/greeter/a", json, b"{").0, 400);
    assert_eq!(put("/example/nobody/a", json, greet.as_bytes()).0, 404);
    assert_eq!(put("/example/greeter", json, greet.as_bytes()).0, 404);
    assert_eq!(put("/example/greeter/", json, greet.as_bytes()).0, 404);
    assert_eq!(
        put("/io.statefun/request/a", json, greet.as_bytes()).0,
        404,
        "the engine's own"
    );
    assert_eq!(
        put(
            "/example/silent/a",
            "application/vnd.io.statefun.types/string",
            b"\x0a\x02hi"
        )
        .0,
        422
    );
    assert_eq!(
        put("/example/greeter/a", "application/vnd.other/Type", b"?").0,
        422
    );
    assert_eq!(
        send(address, "DELETE", "/example/greeter/a", &[], "").status,
        405
    );
    assert_eq!(app.log().len(), 3);
}

fn egress(topics: &str) -> (PlaygroundEgress, Arc<HttpServers>, tokio::runtime::Runtime) {
    let yaml =
        format!("kind: io.statefun.playground.v1/egress\nspec: {{port: 0, topics: {topics}}}\n");
    let Some(Spec::PlaygroundEgress(spec)) = specs(&yaml).into_iter().next() else {
        panic!("no egress")
    };
    let servers = HttpServers::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (stopping, receiver) = tokio::sync::watch::channel(false);
    // The process never stops in these tests.
    std::mem::forget(stopping);
    let mut egress = PlaygroundEgress::new(spec, servers.clone());
    egress
        .open(&EgressContext {
            id: "io.statefun.playground/egress".to_owned(),
            position: None,
            lineage: 1,
            restored: false,
            runtime: runtime.handle().clone(),
            stopping: receiver,
        })
        .unwrap();
    servers.start();
    (egress, servers, runtime)
}

fn record(payload: impl Into<String>) -> EgressRecord {
    EgressRecord {
        trace: None,
        worker: 0,
        sequence: 0,
        typename: "io.statefun.playground/EgressRecord",
        payload: payload.into().into(),
    }
}

#[test]
fn a_get_takes_the_next_record() {
    let (mut egress, servers, _runtime) = egress("[greetings, a/b]");
    let address = servers.bound("io.statefun.playground/egress").unwrap();
    let get = |path: &str| {
        let response = send(address, "GET", path, &[], "");
        (response.status, response.text().to_owned())
    };
    assert_eq!(get("/greetings").0, 404);
    let records = [
        r#"{"topic":"greetings","payload":"Hello \"Ada\""}"#,
        r#"{"topic":"nowhere","payload":"x"}"#,
        "no JSON",
        r#"{"topic":"greetings"}"#,
        r#"{"topic":"greetings","payload":{"n":1}}"#,
        r#"{"topic":"a/b","payload":""}"#,
    ];
    egress.deliver(1, &records.map(record)).unwrap();
    egress.flush().unwrap();
    assert_eq!(get("/greetings"), (200, "Hello \"Ada\"".to_owned()));
    assert_eq!(get("/greetings"), (200, r#"{"n":1}"#.to_owned()));
    assert_eq!(get("/greetings").0, 404);
    assert_eq!(get("/a/b"), (200, String::new()));
    assert_eq!(get("/a%2Fb").0, 404);
    assert_eq!(get("/nowhere").0, 405);
    assert_eq!(get("/").0, 405);
    assert_eq!(post(address, "/greetings", "").status, 405);
    let example = servers.listening()[0].example.clone().unwrap();
    assert_eq!(
        example,
        format!("curl http://127.0.0.1:{}/greetings", address.port())
    );
}

#[test]
fn a_full_topic_takes_no_more_until_there_is_room() {
    let (mut egress, servers, _runtime) = egress("[t]");
    let address = servers.bound("io.statefun.playground/egress").unwrap();
    let large = |n: usize| {
        record(format!(
            r#"{{"topic":"t","payload":"{n}{}"}}"#,
            "x".repeat(10 << 20)
        ))
    };
    for n in 0..8 {
        egress.deliver(1, &[large(n)]).unwrap();
    }
    let get = || send(address, "GET", "/t", &[], "");
    assert_eq!(get().body.first(), Some(&b'0'));
    egress.deliver(1, &[large(8)]).unwrap();
    let firsts: Vec<u8> = (0..6)
        .map(|_| get().body.first().copied().unwrap())
        .collect();
    assert_eq!(firsts, *b"123458");
    assert_eq!(get().status, 404);
}
