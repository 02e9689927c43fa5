//! Collectors that are away, and streams.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use statefun_tests::kill::process::wait_for;

use crate::collector::{Collector, Kind, the};
use crate::support::{App, ids};

const WARNING: &str = "the collector does not take traces";

#[test]
fn a_collector_that_is_away_disturbs_nobody() {
    // Bound and let go: nobody listens there.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let mut app = App::traced(nobody, "1");
    let mut running = app.start();
    for n in 0..20 {
        let answer = running.place(&format!("o{n}"), "?wait", "", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    wait_for(
        || running.process.said().contains(WARNING).then_some(()),
        || running.process.last_words(),
    );
    for n in 0..20 {
        app.lines(&format!("o{n}"), 3);
    }
    let said = running.stop();
    assert_eq!(said.matches(WARNING).count(), 1, "{said}");
    assert!(said.contains(&nobody.to_string()), "{said}");
}

const STREAMS: &str = "\
kind: io.statefun.stdio.v1/ingress
spec:
  id: trace/input
  valueType: trace/Place
  traceparent: from
  routers: [input]
---
kind: io.statefun.stdio.v1/egress
spec: {id: trace/lines, traceparent: from}
---
kind: io.statefun.file.v1/egress
spec: {id: trace/hooks, path: hooks.csv, csv: {columns: [order, from]}, traceparent: from}
";

#[test]
fn streams_have_it_in_a_field() {
    let (collector, address) = Collector::start();
    let app = App::new();
    app.module(STREAMS);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut process = Command::new(Path::new(env!("CARGO_BIN_EXE_trace-app")))
        .current_dir(app.path())
        .env("STATEFUN_WORKERS", "2")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}/"))
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1")
        .env("OTEL_SERVICE_NAME", "streams")
        .env("STATEFUN_TRACING_SAMPLE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = format!(
        "{{\"id\":\"o\",\"from\":\"00-{trace}-00f067aa0ba902b7-01\"}}\n{{\"id\":\"p\"}}\n{{\"id\":\"q\",\"from\":\"x\"}}\n"
    );
    process
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // The end sends what there is, so all spans are there.
    let spans = collector.wait_for(
        trace,
        &[("trace/input", 1), ("trace/lines", 3), ("trace/hooks", 1)],
    );
    assert!(collector.spans().iter().all(|span| span.trace == trace));
    let input = the(&spans, "trace/input", "");
    assert!(input.is(Kind::Consumer));
    assert_eq!(
        (input.parent.as_str(), input.service.as_str()),
        ("00f067aa0ba902b7", "streams")
    );
    assert_eq!(the(&spans, "trace/order", "o").parent, input.id);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 9);
    for line in lines {
        if line["order"] == "o" {
            let (of, span) = ids(line["from"].as_str().unwrap());
            assert_eq!(of, trace);
            assert!(
                spans
                    .iter()
                    .any(|known| known.id == span && known.name == "trace/lines")
            );
        } else {
            assert_eq!(line.get("from"), None);
        }
    }
    let rows = std::fs::read_to_string(app.path().join("hooks.csv")).unwrap();
    let sent = the(&spans, "trace/hooks", "");
    assert!(
        rows.contains(&format!("o,00-{trace}-{}-01\n", sent.id)),
        "{rows}"
    );
    assert!(rows.contains("p,\n") && rows.contains("q,\n"), "{rows}");
}
