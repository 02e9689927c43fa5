//! Each name in the wiring exists: targets, routers, egresses, and the ingresses that routers say they read.

use std::collections::BTreeMap;

use super::{Checker, function, router};
use crate::module::application::{Component, served_by};
use crate::module::codes;
use crate::module::description::Description;
use crate::module::finding::Finding;
use crate::module::lower::Fact;
use crate::module::model::Family;
use crate::module::schema::Role;
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

/// Where an egress that is missing is named: in module.yaml and in code.
#[derive(Default)]
struct References<'a> {
    facts: Vec<&'a Fact>,
    functions: Vec<&'a str>,
}

/// Each egress that something writes to exists. All that name a missing one are one finding: the mistake is one.
fn egresses(checker: &mut Checker<'_>, description: &Description) {
    let opaque = &checker.application.opaque;
    if opaque.anything || opaque.some_egress {
        return;
    }
    let mut references: BTreeMap<&str, References<'_>> = BTreeMap::new();
    for component in checker.application.components() {
        for fact in component.facts(Role::Egress) {
            references.entry(&fact.name).or_default().facts.push(fact);
        }
    }
    for function in &description.functions {
        for used in &function.egress {
            let entry = references.entry(&used.id).or_default();
            entry.functions.push(&function.typename);
        }
    }
    let declared = declared(checker, Family::Egress, &description.egresses);
    let mut findings = Vec::new();
    for (id, by) in &references {
        if declared.contains(id) || opaque.mentions.contains(*id) {
            continue;
        }
        // A declared egress that nothing names and that is called almost the same: there the typo may be.
        let unused = checker
            .application
            .family(Family::Egress)
            .filter(|component| {
                component
                    .id()
                    .is_some_and(|(id, _)| !references.contains_key(id))
            });
        findings.push(missing_egress(id, by, &declared, near(id, unused)));
    }
    checker.findings.extend(findings);
}

fn missing_egress(
    id: &str,
    by: &References<'_>,
    declared: &[&str],
    misspelt: Option<&Component>,
) -> Finding {
    let shown = by.facts.first().map_or(id, |fact| fact.shown.as_str());
    let message = if by.functions.is_empty() {
        format!("there is no egress `{shown}`")
    } else {
        let writers = list(by.functions.iter().copied());
        format!("there is no egress `{shown}` (written to by {writers})")
    };
    let help = did_you_mean(id, declared.iter().copied()).unwrap_or_else(|| {
        if declared.is_empty() {
            "the application has no egress yet".to_owned()
        } else {
            format!("the application has {}", list(declared.iter().copied()))
        }
    });
    let mut finding = Finding::new(codes::UNKNOWN_EGRESS, message).help(help);
    let mut places = by.facts.iter();
    let lone_reference = by.facts.len() == 1 && by.functions.is_empty();
    if let Some((component, (_, span))) =
        misspelt.and_then(|component| Some((component, component.id()?)))
        && !lone_reference
    {
        finding = finding.at(span, "is this the one?").help(format!(
            "rename one of them: `{shown}` is written to, and this one is `{}`",
            component.shown_id()
        ));
    } else if let Some(first) = places.next() {
        finding = finding.at(first.span, "not declared");
    }
    for fact in places {
        finding = finding.related(fact.span, "written to here");
    }
    finding
}

/// The ids of one family, in module.yaml and in code.
fn declared<'a>(checker: &Checker<'a>, family: Family, in_code: &'a [String]) -> Vec<&'a str> {
    checker
        .application
        .family(family)
        .filter_map(|component| component.id().map(|(id, _)| id))
        .chain(in_code.iter().map(String::as_str))
        .collect()
}

/// The component whose id is nearest, if one is near.
fn near<'a>(id: &str, components: impl Iterator<Item = &'a Component>) -> Option<&'a Component> {
    let components: Vec<(&str, &Component)> = components
        .filter_map(|component| Some((component.id()?.0, component)))
        .collect();
    let nearest = nearest(id, components.iter().map(|(id, _)| *id))?;
    components
        .into_iter()
        .find(|(id, _)| *id == nearest)
        .map(|(_, component)| component)
}

/// The ingress of module.yaml that a router most likely means by a name which is not declared.
pub(super) fn misspelt_ingress<'a>(
    checker: &Checker<'a>,
    description: &Description,
    reads: &str,
) -> Option<&'a str> {
    if declared_ingress(checker, description, reads) {
        return None;
    }
    let ingresses = checker.application.family(Family::Ingress);
    near(reads, ingresses)?.id().map(|(id, _)| id)
}

fn declared_ingress(checker: &Checker<'_>, description: &Description, id: &str) -> bool {
    checker.application.opaque.mentions.contains(id)
        || description.ingresses.iter().any(|known| known == id)
        || checker
            .application
            .family(Family::Ingress)
            .any(|component| component.id().is_some_and(|(known, _)| known == id))
}

/// Each ingress that a router says it reads exists.
fn ingresses(checker: &mut Checker<'_>, description: &Description) {
    let opaque = &checker.application.opaque;
    if opaque.anything || opaque.some_ingress {
        return;
    }
    let mut findings = Vec::new();
    for router in &description.routers {
        let Some(reads) = router.ingress.as_deref() else {
            continue;
        };
        if declared_ingress(checker, description, reads) {
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
        let finding = Finding::new(
            codes::UNKNOWN_INGRESS,
            format!(
                "router `{}` reads the ingress `{reads}`, which is not declared",
                router.name
            ),
        );
        let misspelt = near(reads, checker.application.family(Family::Ingress));
        findings.push(
            match misspelt.and_then(|component| Some((component, component.id()?.1))) {
                Some((component, span)) => finding
                    .at(span, "is this the one?")
                    .help(format!("did you mean `{}`?", component.shown_id())),
                None => finding.help("declare it in module.yaml, or bind it in a `Module`"),
            },
        );
    }
    checker.findings.extend(findings);
}
