//! How containers end, and go on where they were.

use std::sync::atomic::Ordering;

use crate::load::{Abandon, Load, greeted, numbers};
use crate::podman::{Container, Podman};

const USERS: [&str; 3] = ["ada", "bob", "eve"];
/// Greetings between two ends.
const GREETINGS: u64 = 150;

/// Ends containers amid greetings, again and again on one volume; all greetings count once, and all e-mails are there once.
fn nothing_is_lost(end: impl Fn(&Podman, &Container<'_>)) {
    let Some(podman) = Podman::with_image() else {
        return;
    };
    let load = Load::default();
    let counts = std::thread::scope(|scope| {
        let _abandon = Abandon(&load);
        let clients = USERS.map(|user| load.client(scope, user));
        for life in 1..=3 {
            let greeter = podman.start("data");
            load.port.store(greeter.port, Ordering::Relaxed);
            load.wait_for(life * GREETINGS);
            end(&podman, &greeter);
        }
        let greeter = podman.start("data");
        load.port.store(greeter.port, Ordering::Relaxed);
        load.end();
        clients.map(|client| client.join().unwrap())
    });
    println!("greetings: {counts:?}");
    let last = podman.ok(&["ps", "--quiet", "--no-trunc"]);
    podman.ok(&["stop", "--time", "60", &last]);
    assert_eq!(
        podman.ok(&["inspect", "--format", "{{.State.ExitCode}}", &last]),
        "0"
    );
    let emails = podman.file("data", "emails.jsonl");
    for (user, count) in USERS.into_iter().zip(counts) {
        assert_eq!(
            numbers(&emails, user),
            (1..=count).collect::<Vec<_>>(),
            "{user}"
        );
    }
    // States are as they were acknowledged.
    let greeter = podman.start("data");
    let told = greeted(greeter.port, "ada", "at last");
    assert_eq!(told["seen"], counts[0] + 1);
}

#[test]
fn kill_9_loses_nothing() {
    nothing_is_lost(|_, greeter| {
        greeter.signal("KILL");
        assert_eq!(greeter.ended(), 137);
    });
}

#[test]
fn sigterm_ends_it_with_0_and_nothing_is_lost() {
    nothing_is_lost(|_, greeter| {
        greeter.signal("TERM");
        assert_eq!(greeter.ended(), 0, "{}", greeter.logs());
    });
}

#[test]
fn podman_stop_ends_it_with_0_and_nothing_is_lost() {
    nothing_is_lost(|podman, greeter| {
        podman.ok(&["stop", "--time", "60", &greeter.id]);
        assert_eq!(greeter.ended(), 0, "{}", greeter.logs());
    });
}
