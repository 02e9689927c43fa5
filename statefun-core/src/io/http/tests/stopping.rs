//! Starting and stopping.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::app::App;
use super::client::{Connection, request};

const GREETS: &str = "
kind: io.statefun.http.v1/ingress
spec: {id: example/greets, address: '127.0.0.1:0', valueType: example/Greet, targets: [example/greeter]}
";
const GREET: &str = r#"{"who":"x","times":1}"#;

#[test]
fn connections_wait_until_the_servers_start() {
    let app = App::try_start(GREETS).unwrap();
    let address = app.servers.bound("example/greets").unwrap();
    let mut connection = Connection::open(address);
    connection.write(request("POST", "/greets/a", &[], GREET));
    assert_eq!(app.log(), Vec::<String>::new());
    app.servers.start();
    app.servers.start();
    assert_eq!(connection.read().unwrap().status, 202);
}

#[test]
fn what_is_under_way_is_answered_and_what_comes_later_is_not_taken() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    app.controls.stall.store(true, Ordering::SeqCst);
    let mut idle = Connection::open(address);
    idle.write(request("POST", "/nothing", &[], ""));
    assert_eq!(idle.read().unwrap().status, 404);
    let mut early = Connection::open(address);
    early.write(request("POST", "/greets/a", &[], GREET));
    while app.log().is_empty() {
        std::thread::yield_now();
    }
    app.stop();
    let mut late = Connection::open(address);
    // Long enough for the server to take the connection before there is a request.
    std::thread::sleep(Duration::from_millis(20));
    late.write(request("POST", "/greets/b", &[], GREET));
    let late = late.read().unwrap();
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    assert_eq!(late.header("connection"), Some("close"));
    assert_eq!(idle.read(), None, "an idle connection is closed");
    let finishing = app.runtime.spawn({
        let servers = app.servers.clone();
        async move { servers.finish(Duration::from_secs(20)).await }
    });
    app.controls.stall.store(false, Ordering::SeqCst);
    assert_eq!(early.read().unwrap().status, 202);
    assert_eq!(early.read(), None);
    app.runtime.block_on(finishing).unwrap();
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nothing listens any more"
    );
    assert_eq!(app.log().len(), 1);
}

#[test]
fn who_is_never_told_learns_that_it_is_open() {
    let mut app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    app.controls.stall.store(true, Ordering::SeqCst);
    let mut connections: Vec<Connection> = Vec::new();
    for path in ["/greets/a", "/greets/b?wait=20s"] {
        let mut connection = Connection::open(address);
        connection.write(request("POST", path, &[], GREET));
        connections.push(connection);
    }
    while app.log().len() < 2 {
        std::thread::yield_now();
    }
    app.stop();
    app.end_workers();
    for connection in &mut connections {
        let response = connection.read().unwrap();
        assert_eq!(response.status, 503);
        assert!(
            response.text().contains("may still take effect"),
            "{}",
            response.text()
        );
    }
}

#[test]
fn the_grace_ends() {
    let app = App::start(GREETS);
    let address = app.servers.bound("example/greets").unwrap();
    app.controls.stall.store(true, Ordering::SeqCst);
    let mut connection = Connection::open(address);
    connection.write(request("POST", "/greets/a", &[], GREET));
    while app.log().is_empty() {
        std::thread::yield_now();
    }
    app.stop();
    app.runtime
        .block_on(app.servers.finish(Duration::from_millis(10)));
    assert_eq!(connection.read(), None);
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nothing listens any more"
    );
}
