//! From a request through every function to file and webhook.

use statefun_tests::kill::world::lock;

use crate::collector::{Collector, Kind, the};
use crate::support::{App, header, ids};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

#[test]
fn one_trace_from_a_request_to_file_and_webhook() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "0");
    app.environment
        .push(("STATEFUN_TRACING_SERVICE_NAME", "shop".to_owned()));
    app.environment
        .push(("STATEFUN_TRACING_HEADERS", "x-key=a%20b".to_owned()));
    let mut running = app.start();
    let headers = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1\r\n");
    let more = r#", "after_ms": 1, "operation": true"#;
    let answer = running.place("o", "?wait", more, &headers);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (trace, request) = ids(header(&answer, "traceparent").unwrap());
    assert_eq!(trace, TRACE);
    assert_eq!(header(&answer, "tracestate"), Some("vendor=1"));

    let spans = collector.wait_for(
        TRACE,
        &[
            ("trace/orders", 1),
            ("trace/order", 3),
            ("trace/shelf", 3),
            ("trace/lines", 5),
            ("trace/hooks", 1),
        ],
    );
    assert_eq!(spans.len(), 13, "nothing else: {spans:#?}");
    for span in &spans {
        assert_eq!(
            (span.service.as_str(), span.state.as_str()),
            ("shop", "vendor=1"),
            "{span:#?}"
        );
        assert_eq!((span.error.as_str(), span.events.len()), ("", 0));
    }
    let root = the(&spans, "trace/orders", "");
    assert!(root.is(Kind::Server));
    assert_eq!(
        (root.id.as_str(), root.parent.as_str()),
        (request.as_str(), PARENT)
    );
    assert_eq!(root.attribute("http.response.status_code"), "200");
    assert_eq!(root.attribute("http.request.method"), "POST");
    assert_eq!(root.attribute("http.route"), "/order/{id}");
    let order = |message: &str| {
        let mut found = spans.iter().filter(|span| {
            span.name == "trace/order" && span.attribute("statefun.message") == message
        });
        found.next().unwrap()
    };
    let placed = order("trace/Place");
    assert!(placed.is(Kind::Internal));
    assert_eq!(placed.parent, root.id);
    assert_eq!(placed.attribute("statefun.function"), "trace/order");
    assert_eq!(placed.attribute("statefun.id"), "o");
    assert_eq!(placed.attribute("statefun.attempt"), "");
    assert!(placed.attribute("statefun.epoch").parse::<u64>().unwrap() > 0);
    let later = order("trace/AskAfter");
    let operation = order("io.statefun/AsyncResult<trace/Pack,trace/Pack>");
    assert_eq!((&later.parent, &operation.parent), (&placed.id, &placed.id));
    let shelves = ["a", "b", "c"].map(|id| the(&spans, "trace/shelf", id));
    assert!(shelves.iter().all(|shelf| shelf.parent == placed.id));
    let workers: std::collections::BTreeSet<&str> = spans
        .iter()
        .map(|span| span.attribute("statefun.worker"))
        .collect();
    assert!(
        workers.contains("0") && workers.contains("1"),
        "{workers:?}"
    );

    // What has left says which span it comes from, and that span, which function wrote it.
    let writer = |what: &str| match what {
        "asked after" => later,
        "operation" => operation,
        shelf => the(&spans, "trace/shelf", shelf),
    };
    for line in app.lines("o", 5) {
        let (trace, span) = ids(line["traceparent"].as_str().unwrap());
        assert_eq!(trace, TRACE);
        let span = spans.iter().find(|known| known.id == span).unwrap();
        assert!(span.is(Kind::Producer));
        let writer = writer(line["what"].as_str().unwrap());
        assert_eq!(
            (span.name.as_str(), &span.parent),
            ("trace/lines", &writer.id)
        );
        assert_eq!(line["trace_id"], TRACE);
        assert_eq!(ids(line["span"].as_str().unwrap()).1, writer.id);
    }
    let hook = lock(&app.hooks).pop().unwrap();
    let (trace, span) = ids(hook.header("traceparent").unwrap());
    assert_eq!(
        (trace.as_str(), hook.header("tracestate")),
        (TRACE, Some("vendor=1"))
    );
    let sent = the(&spans, "trace/hooks", "");
    assert_eq!((&sent.id, &sent.parent), (&span, &shelves[0].id));

    let request = lock(&collector.requests).pop().unwrap();
    assert!(
        request.line.starts_with("POST /v1/traces "),
        "{}",
        request.line
    );
    assert_eq!(
        request.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(request.header("x-key"), Some("a b"));
    running.stop();
}

#[test]
fn attempts_are_spans_and_what_is_parked_says_so() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "1");
    app.environment
        .push(("STATEFUN_TRACING_IDS", "false".to_owned()));
    let mut running = app.start();
    let answer = running.place("o", "", r#", "failures": 2"#, "");
    let (trace, request) = ids(header(&answer, "traceparent").unwrap());
    let spans = collector.wait_for(&trace, &[("trace/order", 3), ("trace/lines", 3)]);
    let mut attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "trace/order")
        .collect();
    attempts.sort_by_key(|span| span.attribute("statefun.attempt").to_owned());
    let told: Vec<_> = attempts
        .iter()
        .map(|span| (span.attribute("statefun.attempt"), span.error.as_str()))
        .collect();
    assert_eq!(told, [("", "failure 1"), ("2", "failure 2"), ("3", "")]);
    assert!(
        attempts
            .iter()
            .all(|span| span.parent == request && span.events.is_empty())
    );
    assert!(
        spans
            .iter()
            .all(|span| span.attribute("statefun.id").is_empty())
    );
    let last = &attempts[2].id;
    let shelves = spans.iter().filter(|span| span.name == "trace/shelf");
    assert!(shelves.clone().all(|span| span.parent == *last));
    assert_eq!(shelves.count(), 3);

    let answer = running.place("p", "", r#", "failures": 9"#, "");
    let (trace, _) = ids(header(&answer, "traceparent").unwrap());
    let spans = collector.wait_for(&trace, &[("trace/order", 3)]);
    let parked: Vec<_> = spans
        .iter()
        .filter(|span| span.events == ["parked"])
        .collect();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].error, "failure 3");
    running.stop();
}

#[test]
fn what_cannot_be_read_is_a_request_and_nothing_else() {
    let (collector, address) = Collector::start();
    let mut app = App::traced(address, "1");
    let mut running = app.start();
    let answer = running.place("o", "", ", x", "");
    assert_eq!(answer.status, 400);
    let (trace, request) = ids(header(&answer, "traceparent").unwrap());
    let spans = collector.wait_for(&trace, &[("trace/orders", 1)]);
    assert_eq!(the(&spans, "trace/orders", "").id, request);
    assert_eq!(spans[0].attribute("http.response.status_code"), "400");
    // Whatever else there were of it would have come before those of another order.
    let answer = running.place("p", "", "", "");
    let (other, _) = ids(header(&answer, "traceparent").unwrap());
    collector.wait_for(&other, &[("trace/lines", 3)]);
    let mut others = collector.spans();
    others.retain(|span| span.trace != other);
    assert_eq!(others, spans);
    running.stop();
}
