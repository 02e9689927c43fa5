//! What the code declares fits together: versions, names, states, and what functions and routers say they send to.

use std::collections::BTreeSet;

use super::{Checker, function, router};
use crate::module::application::served_by;
use crate::module::codes;
use crate::module::description::{DESCRIPTION_VERSION, Description};
use crate::module::finding::Finding;
use crate::module::suggest::did_you_mean;

/// Whether the description can be read at all.
pub(super) fn version(checker: &mut Checker<'_>, description: &Description) -> bool {
    if description.version == DESCRIPTION_VERSION {
        return true;
    }
    let ours = env!("CARGO_PKG_VERSION");
    let help = if description.version > DESCRIPTION_VERSION {
        format!(
            "upgrade the command line: the application was built with statefun-core {}, these tools are {ours}",
            description.core_version
        )
    } else {
        format!(
            "upgrade statefun-core in the application: it was built with {}, these tools are {ours}",
            description.core_version
        )
    };
    checker.report(
        Finding::new(
            codes::DESCRIPTION_VERSION,
            format!(
                "the application describes itself in layout {}, and layout {DESCRIPTION_VERSION} is read here",
                description.version
            ),
        )
        .help(help),
    );
    false
}

pub(super) fn check(checker: &mut Checker<'_>, description: &Description) {
    duplicates(checker, description);
    states(checker, description);
    sends(checker, description);
}

fn duplicates(checker: &mut Checker<'_>, description: &Description) {
    let mut seen = BTreeSet::new();
    for function in &description.functions {
        if !seen.insert(&function.typename) {
            checker.report(
                Finding::new(
                    codes::DUPLICATE_FUNCTION,
                    format!("two functions have the type name `{}`", function.typename),
                )
                .help("give one of them another `typename` in `#[stateful_function(…)]`"),
            );
        }
    }
    let mut seen = BTreeSet::new();
    for router in &description.routers {
        if !seen.insert(&router.name) {
            checker.report(
                Finding::new(
                    codes::DUPLICATE_FUNCTION,
                    format!("two routers have the name `{}`", router.name),
                )
                .help("rename one of the Rust functions"),
            );
        }
    }
}

fn states(checker: &mut Checker<'_>, description: &Description) {
    for function in &description.functions {
        let mut seen = BTreeSet::new();
        for state in &function.states {
            if !seen.insert(&state.name) {
                checker.report(
                    Finding::new(
                        codes::DUPLICATE_STATE,
                        format!(
                            "function `{}` has two states `{}`",
                            function.typename, state.name
                        ),
                    )
                    .help("give one of them another name: `#[persisted(name = \"…\")]`"),
                );
            }
        }
    }
}

fn sends(checker: &mut Checker<'_>, description: &Description) {
    let endpoints = &checker.application.opaque.endpoints;
    let known = |typename: &str| {
        function(description, typename).is_some() || served_by(endpoints, typename)
    };
    let names = || {
        description
            .functions
            .iter()
            .map(|function| function.typename.as_str())
    };
    let mut findings = Vec::new();
    for from in &description.functions {
        for to in from.sends.iter().filter(|to| !known(to)) {
            findings.push(
                Finding::new(
                    codes::UNSERVED_TARGET,
                    format!(
                        "function `{}` says that it sends to `{to}`, which no function serves",
                        from.typename
                    ),
                )
                .maybe_help(did_you_mean(to, names())),
            );
        }
    }
    for from in &description.routers {
        for to in from.to.iter().filter(|to| !known(to)) {
            findings.push(
                Finding::new(
                    codes::UNSERVED_TARGET,
                    format!(
                        "router `{}` says that it forwards to `{to}`, which no function serves",
                        from.name
                    ),
                )
                .maybe_help(did_you_mean(to, names())),
            );
        }
    }
    findings.retain(|_| !checker.application.opaque.anything);
    debug_assert!(router(description, "").is_none());
    checker.findings.extend(findings);
}
