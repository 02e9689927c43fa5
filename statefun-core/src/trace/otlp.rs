//! Spans as OTLP has them: `ExportTraceServiceRequest` of opentelemetry-proto 1, in Protobuf.
//!
//! It is only written, and little of it; so a few lines do what OpenTelemetry's SDK would bring two dozen crates for.

use crate::trace::span::{Span, SpanKind, SpanName};

/// A request with these spans.
pub(super) fn request(service: &str, spans: &[Span]) -> Vec<u8> {
    let mut out = Vec::with_capacity(spans.len() * 320 + 128);
    message(&mut out, 1, |out| {
        message(out, 1, |out| text(out, 1, "service.name", service));
        message(out, 2, |out| {
            message(out, 1, |out| {
                bytes(out, 1, b"statefun");
                bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for one in spans {
                message(out, 2, |out| span(out, one));
            }
        });
    });
    out
}

fn span(out: &mut Vec<u8>, span: &Span) {
    bytes(out, 1, &span.context.trace.0.to_be_bytes());
    bytes(out, 2, &span.context.span.0.to_be_bytes());
    if let Some(state) = span.context.tracestate() {
        bytes(out, 3, state.as_bytes());
    }
    if let Some(parent) = span.parent {
        bytes(out, 4, &parent.0.to_be_bytes());
    }
    let (attribute, name) = match &span.name {
        SpanName::Function(name) => ("statefun.function", name.as_str()),
        SpanName::Ingress(id) => ("statefun.ingress", id.as_str()),
        SpanName::Egress(id) => ("statefun.egress", id.as_str()),
    };
    bytes(out, 5, name.as_bytes());
    let kind = match span.kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    number(out, 6, kind);
    fixed64(out, 7, span.start_ns);
    fixed64(out, 8, span.end_ns);
    text(out, 9, attribute, name);
    let about = &span.about;
    if let Some(id) = &about.id {
        text(out, 9, "statefun.id", id);
    }
    if let Some(message) = &about.message {
        text(out, 9, "statefun.message", message);
    }
    let attempt = (about.attempt > 1).then_some(u64::from(about.attempt));
    for (name, value) in [
        ("statefun.epoch", about.epoch),
        ("statefun.worker", about.worker.map(u64::from)),
        ("statefun.attempt", attempt),
        (
            "http.response.status_code",
            about.http_status.map(u64::from),
        ),
    ] {
        if let Some(value) = value {
            attribute_of(out, 9, name, |out| number(out, 3, value));
        }
    }
    if let Some((method, route)) = &about.request {
        text(out, 9, "http.request.method", method);
        text(out, 9, "http.route", route);
    }
    for event in &span.events {
        message(out, 11, |out| {
            fixed64(out, 1, event.at_ns);
            bytes(out, 2, event.name.as_bytes());
            text(out, 3, "statefun.problem", &event.problem);
        });
    }
    if let Some(error) = &span.error {
        message(out, 15, |out| {
            bytes(out, 2, error.as_bytes());
            number(out, 3, 2);
        });
    }
    // Field 16, fixed32.
    varint(out, 16 << 3 | 5);
    out.extend_from_slice(&u32::from(span.context.flags).to_le_bytes());
}

fn text(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    attribute_of(out, field, name, |out| bytes(out, 1, value.as_bytes()));
}

/// A `KeyValue`.
fn attribute_of(out: &mut Vec<u8>, field: u32, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, field, |out| {
        bytes(out, 1, name.as_bytes());
        message(out, 2, value);
    });
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    // Its length stands before it, and takes as much room as the length needs.
    let content = out.split_off(start);
    bytes(out, field, &content);
}
