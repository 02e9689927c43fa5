//! A collector of spans: OTLP over HTTP, decoded by structures of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use prost::Message as _;
use statefun_tests::kill::process::wait_for;
use statefun_tests::kill::world::lock;
use statefun_tests::receiver::{self, Received};

/// What opentelemetry-proto says, as far as it is used.
mod otlp {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Request {
        #[prost(message, repeated, tag = "1")]
        pub(super) resource_spans: Vec<ResourceSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub(super) scope_spans: Vec<ScopeSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub(super) attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ScopeSpans {
        #[prost(message, optional, tag = "1")]
        pub(super) scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        pub(super) spans: Vec<Span>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Scope {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) span_id: Vec<u8>,
        #[prost(string, tag = "3")]
        pub(super) trace_state: String,
        #[prost(bytes = "vec", tag = "4")]
        pub(super) parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub(super) name: String,
        #[prost(int32, tag = "6")]
        pub(super) kind: i32,
        #[prost(fixed64, tag = "7")]
        pub(super) start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")]
        pub(super) end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")]
        pub(super) attributes: Vec<KeyValue>,
        #[prost(message, repeated, tag = "11")]
        pub(super) events: Vec<Event>,
        #[prost(message, optional, tag = "15")]
        pub(super) status: Option<Status>,
        #[prost(fixed32, tag = "16")]
        pub(super) flags: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(fixed64, tag = "1")]
        pub(super) time_unix_nano: u64,
        #[prost(string, tag = "2")]
        pub(super) name: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(int32, tag = "3")]
        pub(super) code: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(string, tag = "1")]
        pub(super) key: String,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<AnyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct AnyValue {
        #[prost(oneof = "Value", tags = "1, 3")]
        pub(super) value: Option<Value>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Value {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(int64, tag = "3")]
        Number(i64),
    }
}

/// What a span is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Internal = 1,
    Server = 2,
    Producer = 4,
    Consumer = 5,
}

/// A span that was received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for none.
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: i32,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) events: Vec<String>,
    /// Empty for none.
    pub(crate) error: String,
}

impl Span {
    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as i32
    }

    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// The spans so far, and the requests that they came in.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    pub(crate) requests: Arc<Mutex<Vec<Received>>>,
}

fn hex(bytes: &[u8]) -> String {
    let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
    bytes.iter().fold(String::new(), digits)
}

fn attributes(pairs: Vec<otlp::KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Some(otlp::Value::Text(text)) => text,
        Some(otlp::Value::Number(number)) => number.to_string(),
        None => "?".to_owned(),
    };
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| (pair.key, text(pair.value.and_then(|value| value.value))))
        .collect()
}

fn spans(body: &[u8]) -> Vec<Span> {
    let request = otlp::Request::decode(body).unwrap();
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let service = attributes(resource.resource.unwrap().attributes);
        for scope in resource.scope_spans {
            assert_eq!(scope.scope.unwrap().name, "statefun");
            for span in scope.spans {
                assert!(span.start_time_unix_nano > 1_700_000_000_000_000_000);
                assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
                assert_eq!(span.flags & 1, 1);
                assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
                let error = span.status.unwrap_or_default();
                assert_eq!(error.code == 2, !error.message.is_empty());
                spans.push(Span {
                    service: service["service.name"].clone(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state,
                    name: span.name,
                    kind: span.kind,
                    attributes: attributes(span.attributes),
                    events: span.events.into_iter().map(|event| event.name).collect(),
                    error: error.message,
                });
            }
        }
    }
    spans
}

impl Collector {
    /// One, and where it listens.
    pub(crate) fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let own = collector.clone();
        let address = receiver::start(move |request| {
            lock(&own.spans).extend(spans(&request.body));
            lock(&own.requests).push(request);
            200
        });
        (collector, address.unwrap())
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        lock(&self.spans).clone()
    }

    /// Waits until a trace has so many spans with these names, and returns them all.
    pub(crate) fn wait_for(&self, trace: &str, names: &[(&str, usize)]) -> Vec<Span> {
        let of_trace = || {
            let mut spans = self.spans();
            spans.retain(|span| span.trace == trace);
            spans
        };
        let complete = |spans: &[Span]| {
            names.iter().all(|(name, count)| {
                spans.iter().filter(|span| span.name == *name).count() >= *count
            })
        };
        wait_for(
            || Some(of_trace()).filter(|spans| complete(spans)),
            || format!("{names:?}, there are {:#?}", self.spans()),
        )
    }
}

/// The only span of a name, and of an id.
pub(crate) fn the<'s>(spans: &'s [Span], name: &str, id: &str) -> &'s Span {
    let mut found = spans
        .iter()
        .filter(|span| span.name == name && span.attribute("statefun.id") == id);
    let one = found.next();
    let one = one.unwrap_or_else(|| panic!("no {name} {id} in {spans:#?}"));
    assert_eq!(found.next(), None);
    one
}
