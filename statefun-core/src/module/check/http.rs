//! The fields of HTTP ingresses and egresses fit each other.

use super::Checker;
use crate::module::application::Component;
use crate::module::codes;
use crate::module::finding::Finding;
use crate::module::model::{HttpEgress, HttpIngress, PathSegment, RequestPart, Spec};

/// Headers that the connector sets itself.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "idempotency-key",
    "transfer-encoding",
];

pub(super) fn check(checker: &mut Checker<'_>) {
    for component in checker.application.components() {
        match &component.spec {
            Some(Spec::HttpIngress(spec)) => {
                value_types(checker, component, spec);
                parts(checker, component, spec);
                if spec.max_body_bytes.bytes() == 0 {
                    zero(checker, component, "maxBodyBytes");
                }
                if spec.idempotency.retention.as_millis() == 0 {
                    zero(checker, component, "idempotency.retention");
                }
            }
            Some(Spec::HttpEgress(spec)) => egress(checker, component, spec),
            _ => {}
        }
    }
}

fn zero(checker: &mut Checker<'_>, component: &Component, field: &str) {
    let place = component.span_of(field).unwrap_or(component.kind_span);
    checker.report(
        Finding::new(codes::OUT_OF_RANGE, format!("`{field}` cannot be zero"))
            .at(place, "zero")
            .help("leave the field out for its default"),
    );
}

fn value_types(checker: &mut Checker<'_>, component: &Component, spec: &HttpIngress) {
    match (component.key_span("valueType"), component.key_span("valueTypes")) {
        (Some(one), Some(many)) => checker.report(
            Finding::new(codes::CONTRADICTION, "`valueType` and `valueTypes` exclude each other")
                .at(many, "several types")
                .related(one, "one type")
                .help("keep `valueTypes` and `typeFrom` when messages have several types, else `valueType`"),
        ),
        (None, many) => {
            let none = spec.value_types.is_empty() && !component.unclear("valueTypes");
            if none && !component.has("valueType") {
                checker.report(
                    Finding::new(
                        codes::MISSING_FIELD,
                        format!("{} does not say which type its messages have", component.title()),
                    )
                    .at(many.unwrap_or(component.kind_span), "no value type")
                    .help("write `valueType: namespace/Name`"),
                );
            }
            if spec.value_types.len() > 1 && spec.type_source().is_none() && !component.has("typeFrom") {
                checker.report(
                    Finding::new(codes::INCOMPLETE, "nothing says which of its types a message has")
                        .at(many.unwrap_or(component.kind_span), "which of them?")
                        .help("add `typeFrom: {header: X-Type}`, or `{type}` to `path`"),
                );
            }
        }
        (Some(one), None) => {
            if spec.type_from.is_some() {
                checker.report(
                    Finding::new(codes::CONTRADICTION, "`typeFrom` has nothing to choose from")
                        .at(component.field_span("typeFrom"), "where the type stands")
                        .related(one, "the only type")
                        .help("remove it, or list the types under `valueTypes`"),
                );
            }
        }
    }
}

fn parts(checker: &mut Checker<'_>, component: &Component, spec: &HttpIngress) {
    // A bad path counts as absent, and its default says nothing of what was meant.
    if component.has("path") && spec.path.is_none() {
        return;
    }
    let segments = spec.path_template().segments();
    for (field, from, placeholder, segment) in [
        ("idFrom", &spec.id_from, "{id}", PathSegment::Id),
        ("typeFrom", &spec.type_from, "{type}", PathSegment::Type),
    ] {
        let in_path = segments.contains(&segment);
        match from {
            Some(RequestPart::Path) if !in_path => {
                let place = component.field_span(field);
                let mut finding = Finding::new(
                    codes::CONTRADICTION,
                    format!("`{field}` says path, and the path has no `{placeholder}`"),
                )
                .at(place, format!("looks for `{placeholder}`"))
                .help(format!("add a segment `{placeholder}` to `path`"));
                if let Some(path) = component.span_of("path") {
                    finding = finding.related(path, "the path");
                }
                checker.report(finding);
            }
            Some(RequestPart::Header(_) | RequestPart::Pointer(_)) if in_path => {
                let place = component.field_span(field);
                checker.report(
                    Finding::new(
                        codes::CONTRADICTION,
                        format!("the path has `{placeholder}`, and `{field}` says another place"),
                    )
                    .at(place, "another place")
                    .related(component.field_span("path"), format!("has `{placeholder}`"))
                    .help(format!(
                        "keep one of them: `{field}`, or `{placeholder}` in the path"
                    )),
                );
            }
            _ => {}
        }
    }
    let targets = component.key_span("targets");
    if let Some(targets) = targets.filter(|_| {
        !spec.targets.is_empty() && spec.id_source().is_none() && !component.has("idFrom")
    }) {
        let mut finding = Finding::new(
            codes::INCOMPLETE,
            format!("{} has targets, and nothing says which id a message is for", component.title()),
        )
        .at(targets, "which instance of them?")
        .help("add a segment `{id}` to `path`, or `idFrom: {header: X-Id}` or `idFrom: {pointer: /id}`");
        if let Some(path) = component.span_of("path") {
            finding = finding.related(path, "has no `{id}`");
        }
        checker.report(finding);
    }
}

fn egress(checker: &mut Checker<'_>, component: &Component, spec: &HttpEgress) {
    if spec.timeout.is_zero() {
        zero(checker, component, "timeout");
    }
    if spec.max_outbox_bytes.bytes() == 0 {
        zero(checker, component, "maxOutboxBytes");
    }
    if spec.retry.initial_delay > spec.retry.max_delay {
        let place = component
            .span_of("retry.initialDelay")
            .or_else(|| component.span_of("retry.maxDelay"))
            .unwrap_or(component.kind_span);
        checker.report(
            Finding::new(
                codes::CONTRADICTION,
                "the first delay is longer than the longest one",
            )
            .at(place, "the delays grow from `initialDelay` to `maxDelay`")
            .help("their defaults are 100ms and 1min"),
        );
    }
    if let (Some(tls), false) = (component.key_span("tls"), spec.is_https()) {
        let mut finding = Finding::new(
            codes::CONTRADICTION,
            "`tls` says whom to trust, and the URL is not `https`",
        )
        .at(tls, "nobody proves anything without HTTPS")
        .help("write `https://` in the URL, or leave `tls` out");
        if let Some(url) = component.span_of("url") {
            finding = finding.related(url, "the URL");
        }
        checker.report(finding);
    }
    let Some(headers) = component.tree.get("headers") else {
        return;
    };
    let mut seen: Vec<(String, crate::module::source::Span)> = Vec::new();
    for entry in headers.entries() {
        let name = entry.key.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&name.as_str()) {
            checker.report(
                Finding::new(
                    codes::BAD_HEADER,
                    format!("the header `{}` is set by the connector", entry.key),
                )
                .at(entry.key_span, "set with each request")
                .help("remove it"),
            );
        }
        if let Some((_, earlier)) = seen.iter().find(|(known, _)| *known == name) {
            checker.report(
                Finding::new(
                    codes::REPEATED,
                    format!(
                        "the header `{}` is given twice; case makes no difference",
                        entry.key
                    ),
                )
                .at(entry.key_span, "again here")
                .related(*earlier, "first here")
                .help("remove one of them"),
            );
        }
        seen.push((name, entry.key_span));
        let legal = spec
            .headers
            .0
            .get(&entry.key)
            .is_none_or(|value| http::HeaderValue::from_str(value.reveal()).is_ok());
        if !legal {
            checker.report(
                Finding::new(
                    codes::BAD_HEADER,
                    format!(
                        "the value of the header `{}` has characters that headers cannot have",
                        entry.key
                    ),
                )
                .at(entry.value.span, "not the value of a header")
                .help("it is visible ASCII, on one line"),
            );
        }
    }
}
