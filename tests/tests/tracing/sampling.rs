//! Which traces are recorded.

use crate::collector::Collector;
use crate::support::{App, header, ids};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[test]
fn nothing_is_carried_of_what_is_not_sampled() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "0");
    let mut running = app.start();
    for headers in ["", "traceparent: 00-1-2-01\r\n"] {
        let answer = running.place("o", "?wait", "", headers);
        assert_eq!(header(&answer, "traceparent"), None);
    }
    for line in app.lines("o", 6) {
        assert_eq!(line.get("traceparent"), None);
        assert!(line["trace_id"].is_null() && line["span"].is_null());
    }
    // What is sampled shows that spans would have come by then.
    let headers = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n");
    running.place("p", "", "", &headers);
    collector.wait_for(TRACE, &[("trace/lines", 3)]);
    assert!(collector.spans().iter().all(|span| span.trace == TRACE));
    running.stop();
}

#[test]
fn all_is_recorded_but_what_its_sender_does_not_record() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "1");
    let mut running = app.start();
    let headers = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n");
    let answer = running.place("o", "", "", &headers);
    assert_eq!(header(&answer, "traceparent"), None);
    app.lines("o", 3);
    let traces: Vec<String> = ["p", "q"]
        .map(|order| {
            let answer = running.place(order, "", "", "");
            ids(header(&answer, "traceparent").unwrap()).0
        })
        .into();
    assert_ne!(traces[0], traces[1]);
    for trace in &traces {
        let spans = collector.wait_for(trace, &[("trace/lines", 3), ("trace/orders", 1)]);
        let root = spans.iter().find(|span| span.name == "trace/orders");
        assert_eq!(root.unwrap().parent, "");
    }
    assert!(collector.spans().iter().all(|span| span.trace != TRACE));
    running.stop();
}

/// Half of them, roughly: with this many it is out of the question that it is all or none.
#[test]
fn some_are_recorded() {
    let (_collector, address) = Collector::start();
    let mut app = App::traced(address, "0.5");
    let mut running = app.start();
    let sampled = (0..64)
        .filter(|n| {
            let answer = running.place(&format!("o{n}"), "", "", "");
            header(&answer, "traceparent").is_some()
        })
        .count();
    assert!((1..64).contains(&sampled), "{sampled}");
    running.stop();
}
