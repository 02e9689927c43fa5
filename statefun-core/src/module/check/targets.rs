//! Each name in the wiring exists: targets, routers, egresses, and the ingresses that routers say they read.

use super::{Checker, function, router};
use crate::module::application::served_by;
use crate::module::codes;
use crate::module::description::Description;
use crate::module::finding::Finding;
use crate::module::model::Family;
use crate::module::schema::Role;
use crate::module::source::Span;
use crate::module::suggest::{did_you_mean, list, nearest};

pub(super) fn check(checker: &mut Checker<'_>, description: &Description) {
    functions(checker, description);
    routers(checker, description);
    egresses(checker, description);
    ingresses(checker, description);
}

fn functions(checker: &mut Checker<'_>, description: &Description) {
    let mut findings = Vec::new();
    let names = || {
        description
            .functions
            .iter()
            .map(|function| function.typename.as_str())
    };
    for component in checker.application.components() {
        for fact in component.facts(Role::Function) {
            if function(description, &fact.name).is_some()
                || served_by(&checker.application.opaque.endpoints, &fact.name)
            {
                continue;
            }
            let help = did_you_mean(&fact.name, names()).unwrap_or_else(|| {
                if description.functions.is_empty() {
                    "the application has no functions".to_owned()
                } else {
                    format!("the application has {}", list(names()))
                }
            });
            findings.push(
                Finding::new(
                    codes::UNSERVED_TARGET,
                    format!("no function serves `{}`", fact.shown),
                )
                .at(fact.span, "not a function of this application")
                .help(help),
            );
        }
    }
    checker.findings.extend(findings);
}

fn routers(checker: &mut Checker<'_>, description: &Description) {
    let mut findings = Vec::new();
    let names = || {
        description
            .routers
            .iter()
            .map(|router| router.name.as_str())
    };
    for component in checker.application.components() {
        for fact in component.facts(Role::Router) {
            let Some(router) = router(description, &fact.name) else {
                let help = did_you_mean(&fact.name, names()).unwrap_or_else(|| {
                    if description.routers.is_empty() {
                        "the application has no routers; one is a function with `#[router(…)]`"
                            .to_owned()
                    } else {
                        format!("the application has {}", list(names()))
                    }
                });
                findings.push(
                    Finding::new(
                        codes::UNKNOWN_ROUTER,
                        format!("there is no router `{}`", fact.shown),
                    )
                    .at(fact.span, "not a router of this application")
                    .help(help),
                );
                continue;
            };
            let reads = router.ingress.as_deref();
            if let (Some(reads), Some((id, id_span))) = (reads, component.id())
                && reads != id
            {
                findings.push(
                    Finding::new(
                        codes::ROUTER_OF_OTHER_INGRESS,
                        format!("router `{}` says in code that it reads `{reads}`", fact.shown),
                    )
                    .at(fact.span, "listed here")
                    .related(id_span, "another ingress")
                    .help("remove `ingress = …` from its `#[router(…)]`, or list it with that ingress"),
                );
            }
        }
    }
    checker.findings.extend(findings);
}

fn egresses(checker: &mut Checker<'_>, description: &Description) {
    let opaque = &checker.application.opaque;
    if opaque.anything || opaque.some_egress {
        return;
    }
    let declared: Vec<&str> = checker
        .application
        .family(Family::Egress)
        .filter_map(|component| component.id().map(|(id, _)| id))
        .chain(description.egresses.iter().map(String::as_str))
        .collect();
    let exists = |id: &str| declared.contains(&id) || opaque.mentions.contains(id);
    let help = |id: &str| {
        did_you_mean(id, declared.iter().copied()).unwrap_or_else(|| {
            if declared.is_empty() {
                "the application has no egress yet".to_owned()
            } else {
                format!("the application has {}", list(declared.iter().copied()))
            }
        })
    };
    let mut findings = Vec::new();
    for component in checker.application.components() {
        for fact in component.facts(Role::Egress) {
            if !exists(&fact.name) {
                findings.push(
                    Finding::new(
                        codes::UNKNOWN_EGRESS,
                        format!("there is no egress `{}`", fact.shown),
                    )
                    .at(fact.span, "not declared")
                    .help(help(&fact.name)),
                );
            }
        }
    }
    // Several functions may write to one egress: a missing one is one mistake.
    let mut missing: Vec<(&str, Vec<&str>)> = Vec::new();
    for function in &description.functions {
        for used in &function.egress {
            if exists(&used.id) {
                continue;
            }
            match missing.iter_mut().find(|(id, _)| *id == used.id) {
                Some((_, by)) => by.push(&function.typename),
                None => missing.push((&used.id, vec![&function.typename])),
            }
        }
    }
    for (id, by) in missing {
        let by = list(by);
        let finding = Finding::new(
            codes::UNKNOWN_EGRESS,
            format!("there is no egress `{id}`, to which {by} writes"),
        )
        .help(help(id));
        findings.push(match misspelt(checker, description, id) {
            Some((span, declared)) => finding.at(span, "is this the one?").help(format!(
                "rename one of them: the code writes to `{id}`, and this one is `{declared}`"
            )),
            None => finding,
        });
    }
    checker.findings.extend(findings);
}

/// A declared egress that nothing writes to and that is called almost the same: there the typo is.
fn misspelt<'a>(
    checker: &Checker<'a>,
    description: &Description,
    id: &str,
) -> Option<(Span, &'a str)> {
    let unused: Vec<(&str, Span, &str)> = checker
        .application
        .family(Family::Egress)
        .filter_map(|component| {
            let (declared, span) = component.id()?;
            let used = description
                .functions
                .iter()
                .any(|function| function.egress.iter().any(|used| used.id == declared));
            (!used).then_some((declared, span, component.shown_id()))
        })
        .collect();
    let near = nearest(id, unused.iter().map(|(declared, _, _)| *declared))?;
    unused
        .iter()
        .find(|(declared, _, _)| *declared == near)
        .map(|&(_, span, shown)| (span, shown))
}

fn ingresses(checker: &mut Checker<'_>, description: &Description) {
    let opaque = &checker.application.opaque;
    if opaque.anything || opaque.some_ingress {
        return;
    }
    let declared: Vec<&str> = checker
        .application
        .family(Family::Ingress)
        .filter_map(|component| component.id().map(|(id, _)| id))
        .chain(description.ingresses.iter().map(String::as_str))
        .collect();
    let mut findings = Vec::new();
    for router in &description.routers {
        let Some(reads) = router.ingress.as_deref() else {
            continue;
        };
        if declared.contains(&reads) || opaque.mentions.contains(reads) {
            continue;
        }
        // Where an ingress lists it, that says the same.
        let listed = checker
            .application
            .components()
            .iter()
            .flat_map(|component| component.facts(Role::Router))
            .any(|fact| fact.name == router.name);
        if listed {
            continue;
        }
        findings.push(
            Finding::new(
                codes::UNKNOWN_INGRESS,
                format!(
                    "router `{}` reads the ingress `{reads}`, which is not declared",
                    router.name
                ),
            )
            .maybe_help(did_you_mean(reads, declared.iter().copied())),
        );
    }
    checker.findings.extend(findings);
}
