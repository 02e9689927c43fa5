//! The operations endpoint of a real application, asked by probes, scrapers and the command line.

mod app;

use app::{App, Running, get};

use crate::support::eventually;

/// What the application says of being ready.
fn ready(running: &Running<'_>) -> (u16, serde_json::Value) {
    let (status, body) = get(running.operations(), "/health/ready");
    (status, serde_json::from_str(&body).unwrap())
}

fn live(running: &Running<'_>) -> u16 {
    get(running.operations(), "/health/live").0
}

fn missing(health: &serde_json::Value) -> String {
    health["missing"].to_string()
}

#[test]
fn probes_see_the_start_the_work_and_the_end() {
    let app = App::new().with("slow", "");
    let running = app.start(&[("STATEFUN_OPERATIONS_LISTEN", "127.0.0.1:0")]);
    let url = running.url();
    eventually("the ingress is being opened", || {
        let (status, health) = ready(&running);
        assert_eq!((status, &health["ready"]), (503, &false.into()));
        missing(&health).contains("ingress gate/slow")
    });
    assert_eq!(live(&running), 200);
    let early = app.statefun(&["parked", "ls", "--url", &url]).ends(2);
    assert!(early.stderr.contains("is starting"), "{}", early.stderr);

    app.write("open", "");
    eventually("it is ready", || ready(&running).0 == 200);
    let (_, health) = ready(&running);
    assert_eq!(
        health,
        serde_json::json!({"ready": true, "missing": []}),
        "nothing is missing, and nothing noted"
    );
    let (status, numbers) = get(running.operations(), "/metrics");
    assert_eq!(status, 200);
    assert!(numbers.contains("statefun_"), "{numbers}");
    let log = app.log();
    assert!(log.contains(&format!("operations: {url}")), "{log}");
    assert!(
        log.find("ready; Ctrl-C") > log.find("operations: "),
        "{log}"
    );

    // A stop that takes as long as a handler does.
    let body = running.send_in_background("w-1", "go");
    eventually("the handler runs", || app.read("go.begun") == "w-1");
    running.terminate();
    eventually("nobody is sent here any more", || {
        let (status, health) = ready(&running);
        status == 503 && missing(&health).contains("stopping")
    });
    assert_eq!(live(&running), 200);
    app.write("go", "");
    running.ends(0);
    // Either it was answered, or it is there at the next start.
    drop(body.join());
}

/// A blob store that takes connections, and does not answer.
#[cfg(feature = "clouds")]
#[test]
fn a_restore_is_live_and_not_ready_however_long_it_takes() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let app = App::new();
    let running = app.start(&[
        ("STATEFUN_OPERATIONS_LISTEN", "127.0.0.1:0"),
        ("STATEFUN_RESTORE", "latest"),
        ("STATEFUN_CHECKPOINT_URL", "s3://bucket/shop"),
        ("STATEFUN_CHECKPOINT_S3_ENDPOINT", &endpoint),
        ("AWS_ACCESS_KEY_ID", "none"),
        ("AWS_SECRET_ACCESS_KEY", "none"),
    ]);
    eventually("it restores", || {
        let (status, health) = ready(&running);
        assert_eq!((status, live(&running)), (503, 200));
        missing(&health).contains("restore: from s3://bucket/shop")
    });
}

#[test]
fn the_command_line_asks_over_the_network() {
    let app = App::new().with("statefun.yaml", "checkpoint:\n  url: kept\n");
    let running = app.start(&[("STATEFUN_OPERATIONS_LISTEN", "localhost:0")]);
    eventually("it is ready", || ready(&running).0 == 200);
    running.send("w-1", "go").unwrap();
    running.send("w-2", "fail").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let url = running.url();
    let asked = |arguments: &[&str]| {
        crate::support::statefun(elsewhere.path(), &[arguments, &["--url", &url]].concat())
    };
    let states = asked(&["state", "get", "gate/waiter", "w-1"]).ends(0);
    assert!(states.stdout.contains("count"), "{}", states.stdout);
    let from = format!("from the application at {url}");
    assert!(states.stderr.contains(&from), "{}", states.stderr);
    let here = app.statefun(&["state", "export"]).ends(0);
    assert_eq!(asked(&["state", "export"]).ends(0).stdout, here.stdout);
    assert!(here.stdout.contains("\"w-1\""), "{}", here.stdout);
    // The other side is the same application, by its directory.
    let directory = app.data_dir();
    let directory = directory.to_str().unwrap();
    let same = asked(&["state", "diff", directory, "--format", "json"]).ends(0);
    assert_eq!(same.stdout, "");

    eventually("the failing one is listed", || {
        let listed = asked(&["parked", "ls"]).ends(0);
        listed.stdout.contains("gate/waiter w-2")
    });
    asked(&["parked", "drop", "gate/waiter", "w-2", "--yes"]).ends(0);
    let made = asked(&["checkpoint", "create", "monday"]).ends(0);
    assert_eq!(made.stdout, "monday\n");
    // That lists what is in a directory; the application is asked for problems only.
    let listed = ["checkpoint", "ls", "--url"];
    let fine = app.statefun(&[&listed[..], &[&url]].concat()).ends(0);
    assert!(fine.stdout.contains("monday") && fine.stderr.is_empty());
    let warned = app.statefun(&[&listed[..], &["http://127.0.0.1:1"]].concat());
    let warned = warned.ends(0);
    assert!(warned.stdout.contains("monday"), "{}", warned.stdout);
    assert!(
        warned.stderr.contains("nothing listens at"),
        "{}",
        warned.stderr
    );
    // The variable says the same, and an argument counts more.
    let variable = [("STATEFUN_OPERATIONS_URL", url.as_str())];
    app.statefun_with(&variable, &["parked", "ls"]).ends(0);
    let nowhere = [("STATEFUN_OPERATIONS_URL", "http://127.0.0.1:1")];
    let absent = app.statefun_with(&nowhere, &["parked", "ls"]).ends(2);
    assert!(
        absent.stderr.contains("nothing listens at"),
        "{}",
        absent.stderr
    );
    app.statefun_with(&nowhere, &["parked", "ls", "--data-dir", directory])
        .ends(0);
    let both = ["parked", "--data-dir", directory, "ls", "--url", &url];
    let both = app.statefun(&both).ends(2);
    assert!(both.stderr.contains("--data-dir"), "{}", both.stderr);
    // The ingress is something else.
    let wrong = format!("http://{}", running.ingress());
    let wrong = app.statefun(&["parked", "ls", "--url", &wrong]).ends(1);
    assert!(wrong.stderr.contains("/v1/parked"), "{}", wrong.stderr);
    running.terminate();
    running.ends(0);
}

#[test]
fn a_token_opens_what_is_closed() {
    let app = App::new()
        .with(
            "statefun.yaml",
            "operations:\n  listen: 127.0.0.1:0\n  token: s3cret-of-the-file\n",
        )
        .with("right", "s3cret\n")
        .with("wrong", "s3cre\n");
    let running = app.start(&[("STATEFUN_OPERATIONS_TOKEN", "s3cret")]);
    eventually("it is ready", || ready(&running).0 == 200);
    running.send("w-1", "go").unwrap();
    let url = running.url();
    let asked = |more: &[&str]| {
        let arguments = ["state", "ls", "--url", &url];
        app.statefun(&[&arguments, more].concat())
    };
    let without = asked(&[]).ends(2);
    assert!(
        without.stderr.contains("STATEFUN_OPERATIONS_TOKEN")
            && without.stderr.contains("--token-file"),
        "{}",
        without.stderr
    );
    let wrong = asked(&["--token-file", "wrong"]).ends(2);
    assert!(
        wrong.stderr.contains("does not take the token"),
        "{}",
        wrong.stderr
    );
    let right = asked(&["--token-file", "right"]).ends(0);
    assert!(right.stdout.contains("gate/waiter"), "{}", right.stdout);
    let variable = [("STATEFUN_OPERATIONS_TOKEN", "s3cret")];
    let right = app.statefun_with(&variable, &["state", "ls", "--url", &url]);
    right.ends(0);
    assert_eq!(get(running.operations(), "/metrics").0, 401);
    assert_eq!(live(&running), 200);
    // The socket in the data directory has its own protection.
    app.statefun(&["parked", "ls"]).ends(0);
    running.terminate();
    running.ends(0);
    assert!(!app.log().contains("s3cret"), "{}", app.log());
}

#[test]
fn other_machines_get_no_state_without_a_token() {
    let app = App::new();
    let running = app.start(&[("STATEFUN_OPERATIONS_LISTEN", "0.0.0.0:0")]);
    eventually("it is ready", || ready(&running).0 == 200);
    let log = app.log();
    assert!(log.contains("health and metrics only"), "{log}");
    let url = running.url();
    let refused = app.statefun(&["state", "ls", "--url", &url]).ends(2);
    assert!(
        refused.stderr.contains("operations: {token: …}"),
        "{}",
        refused.stderr
    );
    assert_eq!(get(running.operations(), "/metrics").0, 200);
}

#[test]
fn ports_are_given_way_to_or_asked_for() {
    let (one, other) = (App::new(), App::new());
    let (first, second) = (one.start(&[]), other.start(&[]));
    for running in [&first, &second] {
        eventually("it is ready", || ready(running).0 == 200);
    }
    assert_ne!(first.operations(), second.operations());
    // At most one of them has the usual port; the other one says why it has not.
    let said = one.log() + &other.log();
    assert!(said.contains("since 9464 is taken"), "{said}");

    let taken = first.operations().to_string();
    let third = App::new();
    let refused = third.run(&[("STATEFUN_OPERATIONS_LISTEN", &taken)]).ends(1);
    for word in [&taken, "operations.listen", "another process"] {
        assert!(refused.stderr.contains(word), "{}", refused.stderr);
    }
    let ingress = App::new();
    let port = app::free_port();
    ingress.write(
        "module.yaml",
        &app::MODULE.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
    );
    let settings = format!("operations:\n  listen: 127.0.0.1:{port}\n");
    ingress.write("statefun.yaml", &settings);
    let refused = ingress.run(&[]).ends(1);
    let expected = format!("port {port} is the operations endpoint's");
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    // So it is said before anything is built, too.
    let found = ingress.statefun(&["validate"]).ends(1);
    assert!(found.stdout.contains(&expected), "{}", found.stdout);

    let off = App::new();
    let running = off.start(&[("STATEFUN_OPERATIONS_LISTEN", "off")]);
    eventually("it is ready", || off.log().contains("ready; Ctrl-C"));
    assert!(!off.log().contains("operations"), "{}", off.log());
    running.terminate();
    running.ends(0);
}
