//! Traces that outlive a process.

use crate::collector::{Collector, the};
use crate::support::{App, header, ids};

/// What waits when the process is killed is still of its trace.
#[test]
fn a_trace_goes_on_after_kill_9() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "1");
    let mut running = app.start();
    let answer = running.place("o", "", r#", "after_ms": 4000"#, "");
    let (trace, _) = ids(header(&answer, "traceparent").unwrap());
    let before = collector.wait_for(&trace, &[("trace/order", 1), ("trace/lines", 3)]);
    running.kill();
    let placed = the(&before, "trace/order", "o").clone();

    let running = app.start();
    let lines = app.lines("o", 4);
    assert_eq!(lines[3]["what"], "asked after");
    assert_eq!(lines[3]["trace_id"], trace);
    let spans = collector.wait_for(&trace, &[("trace/order", 2), ("trace/lines", 4)]);
    let mut later = spans
        .iter()
        .filter(|span| span.attribute("statefun.message") == "trace/AskAfter");
    let later = later.next().unwrap();
    assert_eq!((&later.name, &later.parent), (&placed.name, &placed.id));
    let (_, record) = ids(lines[3]["traceparent"].as_str().unwrap());
    let record = spans.iter().find(|span| span.id == record).unwrap();
    assert_eq!(record.parent, later.id);
    running.stop();
}

/// A process that does not trace handles what one that did has left, and the other way round.
#[test]
fn tracing_is_turned_off_and_on() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "1");
    let mut running = app.start();
    let answer = running.place("o", "", r#", "after_ms": 4000"#, "");
    let (trace, _) = ids(header(&answer, "traceparent").unwrap());
    collector.wait_for(&trace, &[("trace/order", 1), ("trace/lines", 3)]);
    running.kill();

    let environment = std::mem::take(&mut app.environment);
    let mut running = app.start();
    let lines = app.lines("o", 4);
    assert_eq!(lines[3].get("traceparent"), None);
    let answer = running.place("p", "", r#", "after_ms": 4000"#, "");
    assert_eq!(header(&answer, "traceparent"), None);
    app.lines("p", 3);
    running.kill();
    assert_eq!(
        collector
            .wait_for(&trace, &[])
            .iter()
            .filter(|span| span.name == "trace/order")
            .count(),
        1
    );

    app.environment = environment;
    let mut running = app.start();
    let lines = app.lines("p", 4);
    assert!(lines[3]["trace_id"].is_null());
    let answer = running.place("q", "", "", "");
    let (trace, _) = ids(header(&answer, "traceparent").unwrap());
    collector.wait_for(&trace, &[("trace/order", 1), ("trace/lines", 3)]);
    running.stop();
}
