//! What holds for connectors of every kind: somewhere to go, a key for the target, the feature they need, and dead letters
//! that end somewhere.

use std::collections::BTreeMap;

use super::Checker;
use super::targets::misspelt_ingress;
use crate::module::application::Component;
use crate::module::codes;
use crate::module::finding::Finding;
use crate::module::model::{Availability, Family, Spec};
use crate::module::source::Span;

pub(super) fn check(checker: &mut Checker<'_>) {
    for component in checker.application.components() {
        features(checker, component);
        destination(checker, component);
        key(checker, component);
    }
    standard_input(checker);
    dead_letter_loops(checker);
}

fn features(checker: &mut Checker<'_>, component: &Component) {
    if let Availability::Ready {
        feature: Some(feature),
        ..
    } = component.kind.availability
    {
        need(checker, feature, component.kind_span, component.kind.name);
    }
    let (field, what) = match &component.spec {
        Some(Spec::HttpIngress(spec)) if spec.tls.is_some() => (component.key_span("tls"), "`tls`"),
        Some(Spec::HttpEgress(spec)) if spec.is_https() => {
            (component.span_of("url"), "an `https` URL")
        }
        _ => return,
    };
    need(checker, "tls", field.unwrap_or(component.kind_span), what);
}

fn need(checker: &mut Checker<'_>, feature: &str, place: Span, what: &str) {
    if checker.features.has(feature) {
        return;
    }
    checker.report(
        Finding::new(
            codes::MISSING_FEATURE,
            format!("{what} needs the feature `{feature}`, which is not compiled in"),
        )
        .at(place, format!("needs `{feature}`"))
        .help(format!(
            "build with it: in Cargo.toml, the line of `statefun` gets `features`, as in\n    statefun = {{ package = \"statefun-core\", version = \"{}\", features = [\"{feature}\"] }}",
            env!("CARGO_PKG_VERSION")
        )),
    );
}

/// An ingress has targets or routers. Routers can also name their ingress in code, so without the code nothing is said.
fn destination(checker: &mut Checker<'_>, component: &Component) {
    let Some(description) = checker.description else {
        return;
    };
    if component.kind.family != Family::Ingress || component.kind.fixed_id.is_some() {
        return;
    }
    let lists_something = ["targets", "routers"].iter().any(|field| {
        let node = component.tree.get(field);
        component.unclear(field) || node.is_some_and(|node| !node.items().is_empty())
    });
    let id = component.id().map(|(id, _)| id);
    let code_reads_it = description.routers.iter().any(|router| {
        match (router.ingress.as_deref(), id) {
            // A name that is almost this one and no other's has its finding.
            (Some(reads), Some(id)) => {
                reads == id || misspelt_ingress(checker, description, reads) == Some(id)
            }
            // It may be this one.
            (Some(_), None) => true,
            (None, _) => false,
        }
    });
    if lists_something || code_reads_it {
        return;
    }
    let place = component
        .key_span("targets")
        .or_else(|| component.key_span("routers"))
        .or_else(|| component.id().map(|(_, span)| span))
        .unwrap_or(component.kind_span);
    checker.report(
        Finding::new(
            codes::NOWHERE_TO_GO,
            format!("{} has neither targets nor routers", component.title()),
        )
        .at(place, "its messages go nowhere")
        .help("list function types under `targets`, or routers under `routers`"),
    );
}

/// A target's address needs an id.
fn key(checker: &mut Checker<'_>, component: &Component) {
    let (Some(Spec::FileIngress(_) | Spec::StdioIngress(_)), false) =
        (&component.spec, component.has("idFrom"))
    else {
        return;
    };
    let Some(targets) = component.key_span("targets") else {
        return;
    };
    if component
        .tree
        .at("targets")
        .is_none_or(|node| node.items().is_empty())
    {
        return;
    }
    let example = match &component.spec {
        Some(Spec::FileIngress(spec))
            if spec.format() == Some(crate::module::model::FileFormat::Csv) =>
        {
            "{column: user_id}"
        }
        _ => "{pointer: /user_id}",
    };
    checker.report(
        Finding::new(
            codes::INCOMPLETE,
            format!(
                "{} has targets, and nothing says which id a message is for",
                component.title()
            ),
        )
        .at(targets, "which instance of them?")
        .help(format!(
            "say where the id stands, as in `idFrom: {example}`"
        )),
    );
}

fn standard_input(checker: &mut Checker<'_>) {
    let mut readers = checker
        .application
        .components()
        .iter()
        .filter(|component| component.kind.name == "io.statefun.stdio.v1/ingress");
    let Some(first) = readers.next() else { return };
    let findings: Vec<Finding> = readers
        .map(|component| {
            Finding::new(codes::STDIN_TWICE, "two ingresses read standard input")
                .at(component.kind_span, "the second one")
                .related(first.kind_span, "the first one")
                .help("keep one of them, and let routers or targets share its records")
        })
        .collect();
    checker.findings.extend(findings);
}

/// Dead letters that cannot be delivered either must not come round again.
fn dead_letter_loops(checker: &mut Checker<'_>) {
    let mut next: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
    for component in checker.application.family(Family::Egress) {
        if let (Some((id, _)), Some(spec)) = (component.id(), &component.spec)
            && let Some(to) = spec.dead_letter()
        {
            let place = component
                .span_of("deadLetter")
                .unwrap_or(component.kind_span);
            next.entry(id).or_insert((to.as_str(), place));
        }
    }
    let mut done: Vec<&str> = Vec::new();
    let mut findings = Vec::new();
    for &start in next.keys() {
        let mut path: Vec<&str> = Vec::new();
        let mut at = start;
        while let Some(&(to, _)) = next.get(at) {
            if done.contains(&at) {
                break;
            }
            done.push(at);
            path.push(at);
            at = to;
        }
        let Some(begin) = path.iter().position(|&id| id == at) else {
            continue;
        };
        let members = &path[begin..];
        // The finding stands at the last of them in the file; the others are shown beside it.
        let mut places: Vec<Span> = members
            .iter()
            .filter_map(|id| next.get(id))
            .map(|(_, span)| *span)
            .collect();
        places.sort();
        if let Some((&last, others)) = places.split_last() {
            let mut finding = Finding::new(
                codes::DEAD_LETTER_LOOP,
                if members.len() == 1 {
                    "this egress sends its dead letters to itself".to_owned()
                } else {
                    "the dead letters of these egresses go in a circle".to_owned()
                },
            )
            .at(last, "leads back to where they come from")
            .help("let dead letters end in an egress that cannot refuse them, such as a file");
            for &other in others {
                finding = finding.related(other, "and on from here");
            }
            findings.push(finding);
        }
    }
    checker.findings.extend(findings);
}
