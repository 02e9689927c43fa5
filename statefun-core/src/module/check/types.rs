//! Types and encodings agree: from an ingress to what reads it, and from functions to the egresses that they write to.

use super::{Checker, function, router};
use crate::module::application::Component;
use crate::module::codes;
use crate::module::description::{Description, MessageFormat};
use crate::module::finding::Finding;
use crate::module::lower::Fact;
use crate::module::model::{
    Family, PLAYGROUND_EGRESS, PLAYGROUND_EGRESS_RECORD, RequestPart, Spec,
};
use crate::module::schema::Role;
use crate::module::suggest::{did_you_mean, list};

pub(super) fn check(checker: &mut Checker<'_>, description: &Description) {
    for component in checker.application.family(Family::Ingress) {
        let refused = accepted(checker, component, description);
        formats_in(checker, component, description, &refused);
    }
    out(checker, description);
}

/// What reads the messages of an ingress, as far as it is known.
enum Reader<'a> {
    Target(&'a Fact, &'a [String]),
    Router(&'a Fact, &'a String),
}

impl Reader<'_> {
    fn takes(&self, typename: &str) -> bool {
        match self {
            Self::Target(_, accepts) => accepts.iter().any(|accepted| accepted == typename),
            Self::Router(_, reads) => *reads == typename,
        }
    }
}

/// Returns the value types that have a finding.
fn accepted(
    checker: &mut Checker<'_>,
    component: &Component,
    description: &Description,
) -> Vec<String> {
    let mut readers: Vec<Reader<'_>> = Vec::new();
    let mut unknown_readers = component.unclear("targets") || component.unclear("routers");
    for fact in component.facts(Role::Function) {
        match function(description, &fact.name) {
            Some(function) => readers.push(Reader::Target(fact, &function.accepts)),
            None => unknown_readers = true,
        }
    }
    for fact in component.facts(Role::Router) {
        match router(description, &fact.name) {
            Some(router) => readers.push(Reader::Router(fact, &router.message)),
            None => unknown_readers = true,
        }
    }
    // Routers that name the ingress in code read it too; they are not listed, so they have no place.
    let in_code: Vec<&String> = component.id().map_or(Vec::new(), |(id, _)| {
        description
            .routers
            .iter()
            .filter(|router| router.ingress.as_deref() == Some(id))
            .filter(|router| {
                !component
                    .facts(Role::Router)
                    .any(|fact| fact.name == router.name)
            })
            .map(|router| &router.message)
            .collect()
    });
    if readers.is_empty() && in_code.is_empty() {
        return Vec::new();
    }
    let mut refused = Vec::new();
    let types: Vec<&Fact> = component.facts(Role::ValueType).collect();
    for value_type in &types {
        let someone = readers.iter().any(|reader| reader.takes(&value_type.name))
            || in_code.iter().any(|reads| **reads == value_type.name);
        if !someone && !unknown_readers {
            nobody(checker, value_type, &readers, &in_code);
            refused.push(value_type.name.clone());
            continue;
        }
        for reader in &readers {
            if let Reader::Target(target, accepts) = reader
                && someone
                && !reader.takes(&value_type.name)
            {
                checker.report(
                    Finding::new(
                        codes::TYPE_NOT_ACCEPTED,
                        format!("function `{}` does not accept `{}`", target.shown, value_type.shown),
                    )
                    .at(target.span, format!("accepts {}", list(accepts.iter().map(String::as_str))))
                    .related(value_type.span, "what it would get")
                    .help("implement `Handle` for that type and list it in `accepts(…)`, or remove the target"),
                );
            }
        }
    }
    // A router reads one of the types; with every type refused it has been said already.
    if refused.len() < types.len() {
        for reader in &readers {
            if let Reader::Router(fact, reads) = reader
                && !types.iter().any(|value_type| value_type.name == **reads)
            {
                let mut finding = Finding::new(
                    codes::TYPE_NOT_ACCEPTED,
                    format!(
                        "router `{}` reads `{reads}`, which does not come in here",
                        fact.shown
                    ),
                )
                .at(fact.span, format!("reads `{reads}`"))
                .help("list a router that reads this type, or change the value type");
                for value_type in &types {
                    finding = finding.related(value_type.span, "what comes in");
                }
                checker.report(finding);
            }
        }
    }
    refused
}

/// A type that none of the readers takes: most likely the type is wrong, not all of them.
fn nobody(
    checker: &mut Checker<'_>,
    value_type: &Fact,
    readers: &[Reader<'_>],
    in_code: &[&String],
) {
    let mut wanted: Vec<&str> = Vec::new();
    for reader in readers {
        match reader {
            Reader::Target(_, accepts) => wanted.extend(accepts.iter().map(String::as_str)),
            Reader::Router(_, reads) => wanted.push(reads),
        }
    }
    wanted.extend(in_code.iter().map(|reads| reads.as_str()));
    wanted.sort_unstable();
    wanted.dedup();
    let what = match readers {
        [Reader::Target(target, _)] if in_code.is_empty() => {
            format!("function `{}` does not accept", target.shown)
        }
        [Reader::Router(router, _)] if in_code.is_empty() => {
            format!("router `{}` does not read", router.shown)
        }
        _ => "none of what the ingress leads to accepts".to_owned(),
    };
    let mut finding = Finding::new(
        codes::TYPE_NOT_ACCEPTED,
        format!("{what} `{}`", value_type.shown),
    )
    .at(value_type.span, "not accepted")
    .help(
        did_you_mean(&value_type.name, wanted.iter().copied())
            .unwrap_or_else(|| format!("accepted here: {}", list(wanted.iter().copied()))),
    );
    for reader in readers {
        let (Reader::Target(fact, _) | Reader::Router(fact, _)) = reader;
        finding = finding.related(fact.span, "would get it");
    }
    checker.report(finding);
}

/// Connectors that look into their messages need JSON.
fn formats_in(
    checker: &mut Checker<'_>,
    component: &Component,
    description: &Description,
    refused: &[String],
) {
    let why = match &component.spec {
        Some(Spec::FileIngress(_) | Spec::StdioIngress(_)) => "this ingress reads JSON",
        Some(Spec::HttpIngress(spec)) => {
            let looks = |part: &Option<RequestPart>| matches!(part, Some(RequestPart::Pointer(_)));
            if looks(&spec.id_from) || looks(&spec.type_from) {
                "this ingress looks into the body with a JSON pointer"
            } else {
                return;
            }
        }
        _ => return,
    };
    let mut findings = Vec::new();
    for value_type in component.facts(Role::ValueType) {
        let format = description
            .messages
            .iter()
            .find(|message| message.typename == value_type.name)
            .map(|message| message.format);
        let Some(format) = format else { continue };
        if format == MessageFormat::Json || refused.contains(&value_type.name) {
            continue;
        }
        findings.push(
            Finding::new(
                codes::WRONG_FORMAT,
                format!("`{}` is encoded as {}, and {why}", value_type.shown, name(format)),
            )
            .at(value_type.span, format!("encoded as {}", name(format)))
            .help("derive the message without `format = …` for JSON, or take it in by another connector"),
        );
    }
    checker.findings.extend(findings);
}

/// Records that functions write suit the egress.
fn out(checker: &mut Checker<'_>, description: &Description) {
    let mut findings = Vec::new();
    for component in checker.application.family(Family::Egress) {
        let Some((id, span)) = component.id() else {
            continue;
        };
        let why = match &component.spec {
            Some(Spec::FileEgress(_)) => "the file's records are made of JSON",
            Some(Spec::StdioEgress(_)) => "standard output gets lines of JSON",
            Some(Spec::HttpEgress(spec)) if spec.key_from.is_some() => {
                "`keyFrom` looks into the record with a JSON pointer"
            }
            Some(Spec::PlaygroundEgress(_)) => "the playground's records are JSON",
            _ => continue,
        };
        for function in &description.functions {
            for used in function.egress.iter().filter(|used| used.id == id) {
                if id == PLAYGROUND_EGRESS && used.message != PLAYGROUND_EGRESS_RECORD {
                    findings.push(
                        Finding::new(
                            codes::TYPE_NOT_ACCEPTED,
                            format!(
                                "function `{}` writes `{}` to the playground's egress",
                                function.typename, used.message
                            ),
                        )
                        .at(span, format!("takes `{PLAYGROUND_EGRESS_RECORD}`"))
                        .help("write that type, with the fields `topic` and `payload`"),
                    );
                } else if used.format != MessageFormat::Json {
                    findings.push(
                        Finding::new(
                            codes::WRONG_FORMAT,
                            format!(
                                "function `{}` writes `{}` as {}, and {why}",
                                function.typename,
                                used.message,
                                name(used.format)
                            ),
                        )
                        .at(span, "needs JSON")
                        .help("derive the message without `format = …` for JSON, or write it to another egress"),
                    );
                }
            }
        }
    }
    checker.findings.extend(findings);
}

fn name(format: MessageFormat) -> &'static str {
    match format {
        MessageFormat::Json => "JSON",
        MessageFormat::Msgpack => "MessagePack",
        MessageFormat::Protobuf => "Protobuf",
    }
}
