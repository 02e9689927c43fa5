//! Ids are unique among ingresses and among egresses; lists name nothing twice.

use std::collections::BTreeMap;

use super::Checker;
use crate::module::codes;
use crate::module::finding::Finding;
use crate::module::model::Family;
use crate::module::schema::Role;
use crate::module::source::Span;

pub(super) fn check(checker: &mut Checker<'_>) {
    for family in [Family::Ingress, Family::Egress] {
        unique(checker, family);
    }
    repeated(checker);
}

fn unique(checker: &mut Checker<'_>, family: Family) {
    let what = if family == Family::Ingress {
        "ingress"
    } else {
        "egress"
    };
    let in_code: &[String] = match (checker.description, family) {
        (None, _) => &[],
        (Some(description), Family::Ingress) => &description.ingresses,
        (Some(description), _) => &description.egresses,
    };
    let mut first: BTreeMap<&str, Span> = BTreeMap::new();
    let mut findings = Vec::new();
    for component in checker.application.family(family) {
        let Some((id, span)) = component.id() else {
            continue;
        };
        if let Some(&earlier) = first.get(id) {
            let help = if component.kind.fixed_id.is_some() {
                format!("an application has one {what} of this kind")
            } else {
                "give one of them another id".to_owned()
            };
            findings.push(
                Finding::new(
                    codes::DUPLICATE_ID,
                    format!("two {what}es have the id `{}`", component.shown_id()),
                )
                .at(span, "again here")
                .related(earlier, "first here")
                .help(help),
            );
            continue;
        }
        first.insert(id, span);
        if in_code.iter().any(|known| known == id) {
            findings.push(
                Finding::new(
                    codes::DUPLICATE_ID,
                    format!("{} is also bound by code", component.title()),
                )
                .at(span, "declared here as well")
                .help("give one of them another id, or remove one"),
            );
        }
    }
    checker.findings.extend(findings);
}

/// Targets, routers and value types that stand twice in one list.
fn repeated(checker: &mut Checker<'_>) {
    let mut findings = Vec::new();
    for component in checker.application.components() {
        let mut seen: BTreeMap<(Role, &str, &str), Span> = BTreeMap::new();
        for fact in &component.facts {
            let Some((list, _)) = fact.path.rsplit_once('[') else {
                continue;
            };
            let earlier = seen.insert((fact.role, list, &fact.name), fact.span);
            if let Some(earlier) = earlier {
                findings.push(
                    Finding::new(
                        codes::REPEATED,
                        format!("`{list}` lists {} `{}` twice", fact.role.what(), fact.shown),
                    )
                    .at(fact.span, "again here")
                    .related(earlier, "first here")
                    .help("remove one of them"),
                );
            }
        }
    }
    checker.findings.extend(findings);
}
