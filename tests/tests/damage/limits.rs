//! More addresses than memory holds, and more messages at one address than memory holds.

use std::time::Duration;

use statefun_core::clock::Stopwatch;
use statefun_tests::kill::process::{Patience, Process, wait_for};

use crate::support::{App, Running};

/// As large as the limits are meant, or as large as a test of every day may be.
fn number(full: u64, daily: u64) -> u64 {
    if std::env::var_os("STATEFUN_LIMITS").is_some() {
        full
    } else {
        daily
    }
}

const LINES: &str = "\
kind: io.statefun.file.v1/egress
spec:
  id: load/lines
  path: lines.jsonl
";

const MIB: u64 = 1 << 20;

/// Follows what a process occupies.
#[derive(Default)]
struct Memory {
    most: u64,
}

impl Memory {
    fn look(&mut self, process: &Process) {
        self.most = self.most.max(process.resident_bytes());
    }

    fn assert_below(&self, mib: u64, what: &str) {
        println!("{what}: {} MiB at most", self.most / MIB);
        assert!(self.most > 0, "its memory cannot be seen");
        assert!(
            self.most < mib * MIB,
            "{what}: {} MiB, more than {mib}",
            self.most / MIB
        );
    }
}

/// Waits until a process has read and handled all, and follows its memory.
fn run_to_the_end(app: &mut App, memory: &mut Memory) {
    let mut patience = Patience::times(20);
    let mut process = app.run();
    let status = loop {
        if let Some(status) = process.ended() {
            break status;
        }
        memory.look(&process);
        std::thread::sleep(Duration::from_millis(20));
        assert!(
            !patience.is_over(),
            "it does not end\n{}",
            process.last_words()
        );
    };
    assert!(status.success(), "{status}\n{}", process.last_words());
}

#[test]
fn state_many_times_larger_than_the_cache() {
    let count = number(3_000_000, 200_000);
    let mut app = App::new("load", LINES);
    app.environment = vec![
        ("STATEFUN_STATE_CACHE_BYTES", "2MiB".to_owned()),
        ("DAMAGE_NUMBERS", format!("fill:{count}")),
    ];
    let (mut memory, watch) = (Memory::default(), Stopwatch::start());
    // Killed on the way.
    let mut process = app.run();
    let applied = || app.data().join("state");
    wait_for(
        || {
            memory.look(&process);
            let far = process.steps().count(statefun_core::steps::Step::Applied) > 2;
            (far || process.ended().is_some()).then_some(())
        },
        || format!("nothing is applied in {}", applied().display()),
    );
    assert!(
        process.ended().is_none(),
        "too few addresses: it was not under way any more\n{}",
        process.last_words()
    );
    process.kill();
    drop(process);
    run_to_the_end(&mut app, &mut memory);
    println!("{count} addresses filled in {:?}", watch.elapsed());

    // Each is read once more, by a process that has none of them in memory, and with other workers.
    let watch = Stopwatch::start();
    app.workers = 3;
    app.environment[1].1 = format!("verify:{count}");
    run_to_the_end(&mut app, &mut memory);
    println!("{count} addresses read in {:?}", watch.elapsed());
    memory.assert_below(400, "small cache");
    let lines: Vec<serde_json::Value> = app.records("lines.jsonl");
    let wrong: Vec<_> = lines.iter().filter(|line| line["count"] == 0).collect();
    assert!(
        wrong.is_empty(),
        "{} cells are wrong, such as {:?}",
        wrong.len(),
        wrong.first()
    );
    assert_eq!(lines.len() as u64, count / 256);
}

const PUTS: &str = "\
---
kind: io.statefun.http.v1/ingress
spec:
  id: load/puts
  address: 127.0.0.1:0
  path: /put/{id}
  valueType: load/Put
  targets: [load/counter]
---
kind: io.statefun.http.v1/ingress
spec:
  id: load/gated
  address: 127.0.0.1:0
  path: /gated/{id}
  valueType: load/Put
  targets: [load/gate]
";

const GATE: &str = "function=load/gate&id=shut";

/// How many messages wait at the gate.
fn queued(running: &Running) -> u64 {
    let (status, shown) = running.admin("GET", &format!("/v1/parked/show?{GATE}&messages=1"));
    match status {
        200 => shown["address"]["queued"].as_u64().unwrap(),
        404 => 0,
        _ => panic!("{status}: {shown}"),
    }
}

/// An application at whose gate so many messages wait, while another address was served all the time.
fn parked(count: u64, memory: &mut Memory) -> (App, Running) {
    let mut app = App::new("load", &format!("{LINES}{PUTS}"));
    app.environment = vec![
        ("STATEFUN_STATE_CACHE_BYTES", "4MiB".to_owned()),
        ("DAMAGE_NUMBERS", format!("park:{count}")),
    ];
    let mut running = app.start();
    let (watch, mut patience) = (Stopwatch::start(), Patience::times(20));
    let mut others = 0;
    while queued(&running) < count {
        memory.look(&running.process);
        others += 1;
        let seen: serde_json::Value = running.call("load/puts", "/put/other", r#"{"n":1}"#);
        assert_eq!(seen["count"], others);
        assert!(!patience.is_over(), "{} wait", queued(&running));
    }
    println!(
        "{count} messages parked in {:?}, {others} others handled meanwhile",
        watch.elapsed()
    );
    assert!(others > 3);
    (app, running)
}

#[test]
fn very_many_messages_to_a_parked_address_are_retried_in_order() {
    let count = number(1_000_000, 100_000);
    let mut memory = Memory::default();
    let (mut app, running) = parked(count, &mut memory);
    // Also across a kill.
    running.kill();
    let mut running = app.start();
    // What was seen to be parked may not have been durable: its source gives it again.
    wait_for(
        || (queued(&running) >= count).then_some(()),
        || format!("{} wait", queued(&running)),
    );
    assert_eq!(queued(&running), count);
    memory.look(&running.process);
    std::fs::write(app.path().join("open"), "").unwrap();
    let (watch, mut patience) = (Stopwatch::start(), Patience::times(20));
    let (status, answer) = running.admin("POST", &format!("/v1/parked/retry?{GATE}"));
    assert_eq!((status, answer["messages"].as_u64()), (200, Some(count)));
    let mut others = 0;
    let lines = || app.records::<serde_json::Value>("lines.jsonl");
    let passed = || {
        let last = lines().into_iter().rfind(|line| line["id"] == "shut");
        last.map_or(0, |line| line["count"].as_u64().unwrap())
    };
    while passed() < count / 1000 * 1000 {
        memory.look(&running.process);
        others += 1;
        let _: serde_json::Value = running.call("load/puts", "/put/else", r#"{"n":1}"#);
        assert!(!patience.is_over(), "{} passed", passed());
    }
    println!(
        "handled in {:?}, {others} others meanwhile",
        watch.elapsed()
    );
    memory.assert_below(500, "parked and retried");
    running.stop();
    // A line for every thousandth, and for each that was out of order.
    let passed: Vec<(u64, u64)> = lines()
        .iter()
        .filter(|line| line["id"] == "shut")
        .map(|line| (line["n"].as_u64().unwrap(), line["count"].as_u64().unwrap()))
        .collect();
    let expected: Vec<(u64, u64)> = (1..=count / 1000).map(|n| (n * 1000, n * 1000)).collect();
    assert_eq!(passed, expected);
}

#[test]
fn very_many_messages_to_a_parked_address_are_dropped() {
    let count = number(1_000_000, 120_000);
    let mut memory = Memory::default();
    let (app, mut running) = parked(count, &mut memory);
    let watch = Stopwatch::start();
    let (status, answer) = running.admin("POST", &format!("/v1/parked/drop?{GATE}"));
    assert_eq!((status, answer["messages"].as_u64()), (200, Some(count)));
    println!("{count} messages dropped in {:?}", watch.elapsed());
    memory.look(&running.process);
    // It is an address like any other again, and none of the messages comes back.
    std::fs::write(app.path().join("open"), "").unwrap();
    running.send("load/gated", "/gated/shut", r#"{"n":7000}"#);
    let lines = || -> Vec<serde_json::Value> {
        let all: Vec<serde_json::Value> = app.records("lines.jsonl");
        all.into_iter()
            .filter(|line| line["id"] == "shut")
            .collect()
    };
    wait_for(
        || (!lines().is_empty()).then_some(()),
        || running.process.last_words(),
    );
    assert_eq!(queued(&running), 0);
    memory.assert_below(500, "parked and dropped");
    running.stop();
    let lines = lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["n"], &lines[0]["count"]),
        (&7000.into(), &1.into())
    );
}
