//! Handlers that do everything and then fail, several times within an epoch, in a process that is killed: nothing of what failed
//! remains, nor is anything missing of what did not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use serde::Deserialize;
use statefun_core::clock::Stopwatch;
use statefun_core::rand::Random;
use statefun_core::state::StateReader as _;
use statefun_core::state::fjall::FjallStore;
use statefun_core::state::keys::Space;
use statefun_core::steps::Step;
use statefun_tests::everything::Dump;
use statefun_tests::kill::process::Patience;

use crate::support::{App, Running};

const MODULE: &str = "\
kind: io.statefun.file.v1/ingress
spec:
  id: all/changes
  path: changes.jsonl
  valueType: all/Change
  idFrom: {pointer: /id}
  targets: [all/all]
---
kind: io.statefun.http.v1/ingress
spec:
  id: all/dumps
  address: 127.0.0.1:0
  path: /all/{id}
  valueType: all/Query
  targets: [all/all]
---
kind: io.statefun.http.v1/ingress
spec:
  id: all/witnesses
  address: 127.0.0.1:0
  path: /witness/{id}
  valueType: all/Query
  targets: [all/witness]
---
kind: io.statefun.file.v1/egress
spec:
  id: all/lines
  path: lines.jsonl
";

const ADDRESSES: u64 = 30;
const CHANGES: u64 = 24;

#[derive(Debug, Deserialize)]
struct Seen {
    seen: Vec<u64>,
}

/// What changes lead to, one after the other.
fn model(changes: &[u64]) -> Dump {
    let mut dump = Dump::default();
    let (mut table, mut marks) = (BTreeMap::new(), BTreeMap::new());
    let mut names: Vec<String> = ["total", "marks", "steps"].map(str::to_owned).to_vec();
    for n in changes.iter().copied() {
        dump.value.push(n);
        dump.cleared = n.is_multiple_of(2).then_some(n);
        table.insert(n, n * 2);
        *table.entry(0).or_insert(0) += n;
        if n > 2 {
            table.remove(&(n - 2));
        }
        if n.is_multiple_of(7) {
            dump.buffer.clear();
        }
        dump.buffer.extend([n, n * 10]);
        *dump.total.get_or_insert(0) += n;
        names.push(format!("of-{}", n % 3));
        marks.insert(n % 5, n);
        dump.steps.push(n);
        dump.ended.push(n);
    }
    names.sort();
    names.dedup();
    dump.names = names;
    dump.table = table.into_iter().collect();
    dump.marks = marks.into_iter().collect();
    dump
}

/// The addresses that are parked, and only those: whatever retries comes to an end.
fn parked(running: &Running) -> Vec<String> {
    let (status, list) = running.admin("GET", "/v1/parked?limit=1000");
    assert_eq!(status, 200, "{list}");
    list["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|address| address["kind"] == "parked")
        .map(|address| address["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Skips what is parked, until all addresses have come to rest as the model says.
fn settle(running: &mut Running, expected: &BTreeMap<String, Vec<u64>>) {
    let mut patience = Patience::default();
    for (id, changes) in expected {
        loop {
            for parked in parked(running) {
                let (status, answer) = running.admin(
                    "POST",
                    &format!("/v1/parked/skip?function=all/all&id={parked}"),
                );
                assert_eq!(status, 200, "{answer}");
            }
            // It may be parked meanwhile, and does not answer then until what is at its head is skipped.
            let dump: Option<Dump> = running.ask("all/dumps", &format!("/all/{id}"), "{}");
            let seen: Option<Seen> = running.ask("all/witnesses", &format!("/witness/{id}"), "{}");
            if dump.as_ref() == Some(&model(changes))
                && seen.as_ref().is_some_and(|seen| seen.seen == *changes)
            {
                break;
            }
            assert!(
                !patience.is_over(),
                "{id} is {dump:#?} and {seen:?}, and should be {:#?}\n{}",
                model(changes),
                running.process.last_words()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_failed_leaves_nothing_behind() {
    let mut random = Random::from_system();
    let mut app = App::new("everything", MODULE);
    // Sometimes so little memory that instances go and come back between two attempts.
    app.environment = vec![("STATEFUN_STATE_CACHE_BYTES", "64KiB".to_owned())];
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut parts, mut failures) = (vec![String::new(); 3], 0);
    for n in 1..=CHANGES {
        for address in 0..ADDRESSES {
            let id = format!("a{address}");
            // A message fails up to three times before it succeeds; one in thirty never does.
            let times = random.below(8).saturating_sub(4);
            let for_good = random.below(30) == 0;
            failures += times + u64::from(for_good);
            writeln!(
                parts[(n * 3 / (CHANGES + 1)) as usize],
                r#"{{"id":"{id}","n":{n},"failures":{times},"for_good":{for_good}}}"#
            )
            .unwrap();
            if !for_good {
                expected.entry(id).or_default().push(n);
            }
        }
    }
    // Killed on its way a few times, at moments that differ.
    let path = app.path().join("changes.jsonl");
    for part in parts {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(part.as_bytes()).unwrap();
        let running = app.start();
        let (epochs, watch) = (1 + random.below(12), Stopwatch::start());
        // All may be done earlier.
        while running.process.steps().count(Step::Synced) < epochs
            && watch.elapsed() < Duration::from_secs(3)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.kill();
    }
    let mut running = app.start();
    settle(&mut running, &expected);
    let epochs = running.process.steps().count(Step::Synced);
    println!("{failures} failures planned; {epochs} epochs in the last life");
    // What is in memory is also what is stored.
    running.kill();
    let mut running = app.start();
    settle(&mut running, &expected);
    assert_eq!(parked(&running), [""; 0]);
    running.stop();

    let mut lines: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in app.records::<serde_json::Value>("lines.jsonl") {
        let id = line["id"].as_str().unwrap().to_owned();
        lines
            .entry(id)
            .or_default()
            .push(line["n"].as_u64().unwrap());
    }
    assert_eq!(lines, expected);

    // One timer is left of each address, the last one's. A start applies all that the log holds to the state store.
    app.start().stop();
    let store = FjallStore::open(&app.data().join("state"), 1 << 20).unwrap();
    for (space, count) in [
        (Space::Timer, ADDRESSES),
        (Space::Token, ADDRESSES),
        (Space::Waiting, 0),
        (Space::Queue, 0),
        (Space::Operation, 0),
        (Space::DeadLetter, 0),
    ] {
        let rows = store
            .scan(&[space as u8], &[space as u8 + 1], 1000)
            .unwrap();
        assert_eq!(rows.len() as u64, count, "{space:?}");
    }
}
