//! What nothing leads to: functions, routers and egresses that could as well be absent. Warnings, and only when the wiring
//! is otherwise whole: a misspelt target makes its function unreachable, and that is one mistake.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, function};
use crate::module::codes;
use crate::module::description::Description;
use crate::module::finding::Finding;
use crate::module::model::{Family, Spec};
use crate::module::schema::Role;
use crate::module::suggest::list;

pub(super) fn check(checker: &mut Checker<'_>, description: &Description) {
    let uncertain = checker.application.opaque.uncertain
        || checker
            .findings
            .iter()
            .any(|finding| finding.code.hides_wiring);
    if uncertain {
        return;
    }
    // Remote functions may send and write to anything.
    if checker.application.opaque.endpoints.is_empty() {
        egresses(checker, description);
        functions(checker, description);
    }
    routers(checker, description);
}

fn egresses(checker: &mut Checker<'_>, description: &Description) {
    let used: BTreeSet<&str> = description
        .functions
        .iter()
        .flat_map(|function| function.egress.iter().map(|used| used.id.as_str()))
        .chain(
            checker
                .application
                .components()
                .iter()
                .flat_map(|component| component.facts(Role::Egress))
                .map(|fact| fact.name.as_str()),
        )
        .collect();
    let mut findings = Vec::new();
    for component in checker.application.family(Family::Egress) {
        let Some((id, span)) = component.id() else {
            continue;
        };
        if !used.contains(id) && !checker.may_be_hidden(id) {
            findings.push(
                Finding::new(
                    codes::UNUSED_EGRESS,
                    format!("nothing writes to {}", component.title()),
                )
                .at(span, "never written to")
                .help("remove it, or name it in a function's `egress(…)`"),
            );
        }
    }
    checker.findings.extend(findings);
}

/// Routers that some ingress runs.
fn running<'a>(
    checker: &Checker<'_>,
    description: &'a Description,
) -> Vec<&'a crate::module::description::RouterDescription> {
    let listed: BTreeSet<&str> = checker
        .application
        .components()
        .iter()
        .flat_map(|component| component.facts(Role::Router))
        .map(|fact| fact.name.as_str())
        .collect();
    description
        .routers
        .iter()
        .filter(|router| {
            router.ingress.is_some()
                || listed.contains(router.name.as_str())
                || checker.may_be_hidden(&router.name)
        })
        .collect()
}

fn routers(checker: &mut Checker<'_>, description: &Description) {
    let running: BTreeSet<&str> = running(checker, description)
        .iter()
        .map(|router| router.name.as_str())
        .collect();
    for router in &description.routers {
        if !running.contains(router.name.as_str()) {
            checker.report(
                Finding::new(
                    codes::UNUSED_ROUTER,
                    format!("no ingress runs the router `{}`", router.name),
                )
                .help("list it under an ingress's `routers`, or remove it"),
            );
        }
    }
}

fn functions(checker: &mut Checker<'_>, description: &Description) {
    let playground = checker
        .application
        .specs()
        .any(|spec| matches!(spec, Spec::PlaygroundIngress(_)));
    if playground {
        // Whoever sends there names the target.
        return;
    }
    let roots: Vec<&str> = description
        .functions
        .iter()
        .map(|function| function.typename.as_str())
        .filter(|typename| checker.may_be_hidden(typename))
        .chain(
            checker
                .application
                .components()
                .iter()
                .flat_map(|component| component.facts(Role::Function))
                .map(|fact| fact.name.as_str()),
        )
        .chain(
            running(checker, description)
                .iter()
                .flat_map(|router| router.to.iter().map(String::as_str)),
        )
        .collect();
    let reached = closure(description, roots);
    let dynamic =
        |typename: &&str| function(description, typename).is_some_and(|f| f.dynamic_sends);
    if reached.iter().any(dynamic) {
        return;
    }
    let unreached: Vec<&str> = description
        .functions
        .iter()
        .map(|function| function.typename.as_str())
        .filter(|typename| !reached.contains(typename))
        .collect();
    for (head, followers) in heads(description, &unreached) {
        let message = if followers.is_empty() {
            format!("nothing sends to function `{head}`")
        } else {
            format!(
                "nothing sends to function `{head}`, and so nothing to {}",
                list(followers)
            )
        };
        checker.report(
            Finding::new(codes::UNREACHABLE_FUNCTION, message)
                .help("make it a target, or let a router or a function send to it and say so in `to(…)` or `sends(…)`"),
        );
    }
}

/// All that is reached from these, themselves included.
fn closure<'a>(description: &'a Description, from: Vec<&'a str>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = from;
    while let Some(typename) = next.pop() {
        if let Some(function) = function(description, typename)
            && reached.insert(function.typename.as_str())
        {
            next.extend(function.sends.iter().map(String::as_str));
        }
    }
    reached
}

/// The functions that would have to be reached for all of these to be, each with those that it would bring along.
fn heads<'a>(
    description: &'a Description,
    unreached: &[&'a str],
) -> BTreeMap<&'a str, Vec<&'a str>> {
    let sent_to = |typename: &str| {
        unreached.iter().any(|from| {
            *from != typename
                && function(description, from)
                    .is_some_and(|f| f.sends.iter().any(|to| to == typename))
        })
    };
    let (first, rest): (Vec<&str>, Vec<&str>) =
        unreached.iter().partition(|typename| !sent_to(typename));
    let mut covered: BTreeSet<&str> = BTreeSet::new();
    let mut heads = BTreeMap::new();
    for head in first.into_iter().chain(rest) {
        if covered.contains(head) {
            continue;
        }
        let along = closure(description, vec![head]);
        let followers = along
            .iter()
            .copied()
            .filter(|typename| {
                *typename != head && unreached.contains(typename) && !covered.contains(typename)
            })
            .collect();
        covered.extend(along);
        heads.insert(head, followers);
    }
    heads
}
